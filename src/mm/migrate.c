/* SPDX-License-Identifier: MIT */
/*
 * migrate_pages(): lists of isolated pages, several passes, a reason for every page that stays.
 *
 *   errno     of a page means                                                        tried again
 *   EAGAIN    the program was changing its mappings, or the area's attributes         yes
 *   EBUSY     pinned by a device or the kernel, by gw_pin(), shared since a fork,     yes
 *             or the area belongs to another userfaultfd
 *   ENOENT    it left its address meanwhile: nothing to move, no failure              no
 *   ENOMEM    the node is full, or no frames: through a far node, if asked for         no
 *   ENOSPC    so is the far node                                                      no
 *   ESTALE    it came to another node meanwhile: no failure                          no
 *   EACCES    opted out                                                               no
 *   EINVAL    the kernel refuses this kind of area, or it has just changed            yes
 */
#include "mm/mm.h"

#include <errno.h>

#define PASSES 10U
#define SHARED_PASSES 3U		/* with pages that another process shares */
#define PASS_PAUSE_NS 1000000ULL
#define YIELD_NS 20000ULL
#define BATCH_SMALL 64U		/* beyond it a page costs no less */

void request_begin(struct request *rq)
{
	uint32_t most = rq->batch ? (uint32_t)min_u64(rq->batch, BATCH_MAX) : BATCH_SMALL;

	steer_init(&rq->steer, rq->bound_ns, most, rq->form, rq->keep_batch);
	steer_init(&rq->steer_huge, rq->bound_ns, 1, rq->form, true);
	rq->started = clock_ns();
}

bool request_cancelled(const struct request *rq)
{
	return rq->cancel && __atomic_load_n(rq->cancel, __ATOMIC_RELAXED);
}

/* ---- what becomes of a page ---- */

static void page_failed(struct mm *mm, struct page *page, int err, struct request *rq)
{
	uint32_t nr = page_nr(page), e = (uint32_t)-err < ERRNO_MAX_ ? (uint32_t)-err : 0;

	page->err = (uint8_t)e;
	rq->progress->failed[e] += nr;
	rq->progress->failed_pages += nr;
	rq->progress->done += nr;
	mm->stats.failed[e] += nr;
	putback_lru_page(mm, page);
}

static void page_vanished(struct mm *mm, struct page *page, struct request *rq)
{
	rq->progress->gone += page_nr(page);
	rq->progress->done += page_nr(page);
	page_gone(mm, page);
	putback_lru_page(mm, page);
}

static void count_way(struct mm *mm, int from, int to, uint32_t nr)
{
	mm->stats.moved[from][to] += nr;
	mm->nodes->node[from].out += nr;
	mm->nodes->node[to].in += nr;
}

/* It is not where the request found it, and none of its business any more. */
static void page_elsewhere(struct mm *mm, struct page *page, struct request *rq)
{
	rq->progress->gone += page_nr(page);
	rq->progress->done += page_nr(page);
	page->err = page->want = 0;
	putback_lru_page(mm, page);
}

static void count_moved(struct mm *mm, int from, int to, uint32_t nr, struct request *rq)
{
	rq->progress->moved += nr;
	rq->progress->done += nr;
	rq->progress->huge += nr == LEAF_PAGES ? nr : 0;
	mm->stats.by_reason[rq->reason] += nr;
	count_way(mm, from, to, nr);
}

/* move_mapping: the page is charged to its new node from here on. */
static void page_moved(struct mm *mm, struct page *page, int to, struct request *rq)
{
	int from = page->node;

	node_uncharge(mm->nodes, from, page_nr(page));
	page->node = (uint8_t)to;
	page->err = 0;
	page->want = 0;
	count_moved(mm, from, to, page_nr(page), rq);
	putback_lru_page(mm, page);
}

/* ---- choosing a batch ---- */

int may_move(struct mm *mm, const struct page *page)
{
	uint64_t addr = page_addr(&mm->pt, page);

	if (!(page->flags & (PG_PRESENT | PG_AWAY)))
		return -ENOENT;
	if (page->flags & PG_AWAY)
		return 0; /* only an event can have a claim on it */
	if (!(page->flags & PG_FRESH) && discarded_at(mm, addr, addr + page_bytes(page)))
		return -EAGAIN;
	return excluded_at(mm, addr, addr + page_bytes(page));
}

/* May this page share the batch's slots and window? */
static bool fits_batch(const struct mm *mm, const struct batch *b, const struct page *page, const struct span *span)
{
	uint64_t addr = page_addr(&mm->pt, page);

	if (addr < span->start || addr + page_bytes(page) > span->end || page->flags & PG_AWAY)
		return false;
	return !b->want ||
	       (page_bytes(page) == PAGE_SIZE_ && b->unit == PAGE_SIZE_ &&
		node_same_frames(mm->nodes, page->node, b->source));
}

/* 0, or -E2BIG: not with the pages chosen so far. Any other error is the page's own. */
static int batch_take(struct mm *mm, struct page *page, const struct span *window, new_page_t *get_new_page,
		      void *private)
{
	struct batch *b = &mm->batch;
	int dest, err;

	if (!fits_batch(mm, b, page, window))
		return -E2BIG;
	err = may_move(mm, page);
	if (err)
		return err;
	dest = get_new_page(mm, page, private);
	if (dest < 0)
		return dest;
	/* what goes far goes another way, once it is the first of the list */
	if (node_far(mm->nodes, dest) || (b->want && !node_same_frames(mm->nodes, dest, b->dest[0]))) {
		node_uncharge(mm->nodes, dest, page_nr(page));
		return -E2BIG;
	}
	if (!b->want) {
		b->unit = page_bytes(page);
		b->source = page->node;
	}
	b->page[b->want] = page;
	b->addr[b->want] = page_addr(&mm->pt, page);
	b->dest[b->want] = (uint8_t)dest;
	b->want++;
	return 0;
}

/* Put a page back at the head: it belongs to the next batch. */
static void list_push(struct pgtable *pt, struct page_list *list, struct page *page)
{
	page->prev = 0;
	page->next = list->head;
	if (list->head)
		page_by_id(pt, list->head)->prev = page_id(pt, page);
	else
		list->tail = page_id(pt, page);
	list->head = page_id(pt, page);
	list->nr += page_nr(page);
}

static bool again(int err)
{
	return err == -EAGAIN || err == -EBUSY || err == -EINVAL;
}

static void page_refused(struct mm *mm, struct page *page, int err, struct page_list *later, struct request *rq)
{
	if (err == -ENOENT) {
		page_vanished(mm, page, rq);
	} else if (err == -ESTALE) {
		page_elsewhere(mm, page, rq);
	} else if (again(err)) {
		page->err = (uint8_t)-err;
		list_add_tail(&mm->pt, later, page);
	} else if (!fallback_take(mm, page, err, rq)) {
		/* what may not go far either stays for the reason that it had before */
		page_failed(mm, page, rq->falling && err == -EACCES ? -ENOMEM : err, rq);
	}
}

struct pass {
	struct page_list *list, later;
	new_page_t *get_new_page;
	void *private;
	struct request *rq;
};

/* Open a window where the first page lies. Pages of an area that has none are refused. */
static int pass_window(struct mm *mm, struct page *first, struct span *window)
{
	uint64_t addr = page_addr(&mm->pt, first);
	struct span *span = span_find(mm, addr);
	int err;

	if (!span || span->kind != AREA_MANAGED || addr + page_bytes(first) > span->end)
		return -EAGAIN;
	err = window_open(mm, span, addr);
	*window = mm->window;
	window->class = span->class;
	return err;
}

/* No huge frame is to be had: its 512 pages go on by themselves, and the kernel takes the THP apart. */
static void settle_as_small(struct mm *mm, struct pass *pass, struct page *head)
{
	uint64_t addr = page_addr(&mm->pt, head);
	uint8_t want = head->want;

	putback_lru_page(mm, head);
	page_split(mm, head);
	for (uint64_t at = addr; at < addr + HUGE_SIZE_; at += PAGE_SIZE_) {
		struct page *page = page_find(&mm->pt, at);

		if (!page || isolate_lru_page(mm, page, &pass->later))
			continue;
		page->want = want;
		page->err = EAGAIN;
	}
}

static void batch_choose(struct mm *mm, struct pass *pass, const struct span *window, uint32_t most)
{
	struct page *page;
	uint32_t seen;

	lock_acquire(&mm->lock);
	mm->batch.want = 0;
	for (seen = 0; mm->batch.want < most && (page = list_pop(&mm->pt, pass->list)); seen++) {
		int err = batch_take(mm, page, window, pass->get_new_page, pass->private);

		if (err == -E2BIG && (mm->batch.want || seen)) {
			list_push(&mm->pt, pass->list, page);
			break;
		}
		if (err == -E2BIG && page->flags & PG_HUGE && page->flags & PG_PRESENT) {
			settle_as_small(mm, pass, page); /* the mapping ends inside it */
			continue;
		}
		if (err == -E2BIG)
			err = page->flags & (PG_PRESENT | PG_AWAY) ? -EAGAIN : -ENOENT;
		if (err)
			page_refused(mm, page, err, &pass->later, pass->rq);
	}
	lock_release(&mm->lock);
}

/* ---- what came of it ---- */

/* Taken apart or carried off in flight: where it is now it is new to the books. */
static void settle_stray(struct mm *mm, struct pass *pass, struct batch *b, uint32_t i)
{
	uint32_t nr = (uint32_t)(b->unit / PAGE_SIZE_);
	struct page *there = page_find(&mm->pt, b->addr[i]);

	if (b->state[i] == SLOT_STAYS) {
		uint32_t e = b->err[i] ? (uint32_t)-b->err[i] : EAGAIN;

		pass->rq->progress->failed[e] += nr;
		pass->rq->progress->failed_pages += nr;
		mm->stats.failed[e] += nr;
	}
	if (b->state[i] != SLOT_IN) {
		pass->rq->progress->done += nr;
		return;
	}
	if (nr == 1 && (!there || !there->refs))
		page_enter(mm, b->addr[i], b->dest[i], 0);
	count_moved(mm, b->source, b->dest[i], nr, pass->rq);
}

static void settle_page(struct mm *mm, struct pass *pass, struct batch *b, uint32_t i)
{
	struct page *page = b->page[i];
	uint32_t nr = (uint32_t)(b->unit / PAGE_SIZE_);

	if (!page) {
		settle_stray(mm, pass, b, i);
		return;
	}
	if (b->state[i] == SLOT_IN && page->flags & PG_PRESENT && b->host[i] != HOST_UNKNOWN) {
		node_uncharge(mm->nodes, b->dest[i], nr);
		page_seen(mm, page, b->host[i]);
		page_refused(mm, page, -ENOMEM, &pass->later, pass->rq);
		return;
	}
	if (b->state[i] == SLOT_IN && page->flags & PG_PRESENT) {
		page_moved(mm, page, b->dest[i], pass->rq);
		if (b->copied)
			page_seen(mm, page, host_of_page(mm, b->addr[i]));
		return;
	}
	node_uncharge(mm->nodes, b->dest[i], nr);
	if (b->unit == HUGE_SIZE_ && b->state[i] == SLOT_STAYS && b->err[i] == -ENOMEM && page->flags & PG_PRESENT) {
		settle_as_small(mm, pass, page);
		return;
	}
	page_refused(mm, page, b->state[i] == SLOT_STAYS ? b->err[i] : -ENOENT, &pass->later, pass->rq);
}

/* All refused as of another kind: an mlocked area goes by an arena of its own. True: try the batch again. */
static bool other_class(const struct batch *b, struct span *span)
{
	if (!span || span->class == ARENA_LOCKED || !b->nr)
		return false;
	for (uint32_t i = 0; i < b->nr; i++)
		if (b->state[i] != SLOT_STAYS || b->err[i] != -EINVAL)
			return false;
	span->class = ARENA_LOCKED;
	return true;
}

static void batch_results(struct mm *mm, struct pass *pass)
{
	struct batch *b = &mm->batch;

	lock_acquire(&mm->lock);
	for (uint32_t i = 0; i < (b->nr ? b->nr : b->want); i++)
		settle_page(mm, pass, b, i);
	b->nr = b->want = 0;
	stranded_retry(mm);
	lock_release(&mm->lock);
}

static void learn(struct mm *mm, struct request *rq, enum form form, bool huge, uint64_t window)
{
	struct batch *b = &mm->batch;
	struct progress *p = rq->progress;

	steer_learn(huge ? &rq->steer_huge : &rq->steer, form, b->want, window, b->spent);
	hist_add(huge ? &p->window_huge : &p->window, window);
	hist_add(huge ? &mm->stats.window_huge : &mm->stats.window, window);
	p->batches++;
	p->batch_last = b->want;
	p->form_last = form;
}

/* ---- pages that are away ---- */

/* False: not with those chosen so far. */
static bool fetch_take(struct mm *mm, struct pass *pass, struct fetch *f, struct page *page)
{
	bool cached = !node_far(mm->nodes, page->node);
	int dest = f->nr && (page->node != f->source || cached != f->cached) ? -E2BIG : may_move(mm, page);

	if (!dest)
		dest = pass->get_new_page(mm, page, pass->private);
	if (dest >= 0 && f->nr && (node_far(mm->nodes, dest) || f->to_far) && dest != f->dest[0]) {
		node_uncharge(mm->nodes, dest, 1);
		dest = -E2BIG;
	}
	if (dest == -E2BIG) {
		list_push(&mm->pt, pass->list, page);
		return false;
	}
	if (dest < 0) {
		page_refused(mm, page, dest, &pass->later, pass->rq);
		return true;
	}
	page->flags |= PG_LOCKED;
	f->source = page->node;
	f->to_far = node_far(mm->nodes, dest);
	f->cached = cached;
	f->page[f->nr] = page;
	f->home[f->nr] = page->home;
	f->new_home[f->nr] = 0;
	f->err[f->nr] = 0;
	f->dest[f->nr++] = (uint8_t)dest;
	return true;
}

/* What became of one: moved, or refused with the node uncharged that it was to go to. */
static void fetch_result(struct mm *mm, struct pass *pass, struct fetch *f, uint32_t i)
{
	int err = fetch_settle(mm, f, i);
	struct page *page = f->page[i];

	if (err) {
		node_uncharge(mm->nodes, f->dest[i], 1);
		page_refused(mm, page, fallback_refused(pass->rq, f->dest[i], err), &pass->later, pass->rq);
		return;
	}
	if (f->to_far) /* else it was counted when it arrived */
		count_way(mm, f->source, f->dest[i], 1);
	if (pass->rq->falling) {
		page_fallen(mm, page, pass->rq);
		return;
	}
	page->flags &= (uint16_t)~PG_LAZY; /* it is where it was asked to be */
	page->err = page->want = 0;
	pass->rq->progress->moved++;
	pass->rq->progress->done++;
	mm->stats.by_reason[pass->rq->reason]++;
	putback_lru_page(mm, page);
}

/* A run of pages that are away: no window, nobody but who touches one just now has to wait. */
static void pass_fetch(struct mm *mm, struct pass *pass)
{
	struct fetch *f = &mm->fetch;
	struct page *page;

	f->nr = 0;
	lock_acquire(&mm->lock);
	while (f->nr < FAR_BATCH && (page = page_by_id(&mm->pt, pass->list->head)) && page->flags & PG_AWAY) {
		list_del(&mm->pt, pass->list, page);
		if (!fetch_take(mm, pass, f, page))
			break;
	}
	lock_release(&mm->lock);
	if (!f->nr)
		return;
	fetch_contents(mm, f);
	if (pass->rq->verify)
		pass->rq->progress->verify_errors += fetch_verify(mm, f);
	if (!f->to_far)
		host_near(mm, f->dest[0]);
	lock_acquire(&mm->lock);
	for (uint32_t i = 0; i < f->nr; i++)
		fetch_result(mm, pass, f, i);
	f->nr = 0;
	stranded_retry(mm);
	lock_release(&mm->lock);
	if (mm->cache.nr_stale >= STALE_MOST)
		cache_drop_stale(mm);
}

/* ---- by way of the cache ---- */

static int cache_window(struct mm *mm, struct page *first, struct span *window)
{
	int err = cache_ready(mm);

	if (!err)
		err = pass_window(mm, first, window);
	if (!err && window->class != ARENA_RW)
		err = -EACCES; /* locked memory is to stay in memory, and code that is written to where it can run */
	return err ? err : window_keep(mm, page_addr(&mm->pt, first));
}

/*
 * A run at the head of the list leaves its place, and stays on the list: it goes on from the cache, to a far node or
 * when it is touched. Who touches it before has it back at once, so there is no window that anybody waits for.
 */
static void pass_unmap(struct mm *mm, struct pass *pass)
{
	struct page *first = page_by_id(&mm->pt, pass->list->head);
	struct span window = { 0 };
	int err = cache_window(mm, first, &window);

	lock_acquire(&mm->lock);
	if (!err)
		err = unmap_head(mm, pass->list, &window);
	if (err == -EAGAIN)
		mm_drain_events_locked(mm);
	if (err == -E2BIG)
		settle_as_small(mm, pass, list_pop(&mm->pt, pass->list));
	else if (err)
		page_refused(mm, list_pop(&mm->pt, pass->list), err, &pass->later, pass->rq);
	lock_release(&mm->lock);
}

/* Where the first page would go by now, without being charged for it. */
static int head_node(struct mm *mm, struct pass *pass)
{
	struct page *page = page_by_id(&mm->pt, pass->list->head);
	int node;

	lock_acquire(&mm->lock);
	node = pass->get_new_page(mm, page, pass->private);
	if (node >= 0)
		node_uncharge(mm->nodes, node, page_nr(page));
	lock_release(&mm->lock);
	return node;
}

/* It stays where it is until it is touched, so its node to come is charged only then. */
static void pass_lazy(struct mm *mm, struct pass *pass)
{
	int node = head_node(mm, pass);
	struct page *page;

	lock_acquire(&mm->lock);
	page = list_pop(&mm->pt, pass->list);
	if (node < 0 || !(page->flags & PG_AWAY)) {
		page_refused(mm, page, node < 0 ? node : -EAGAIN, &pass->later, pass->rq);
	} else {
		page->flags |= PG_LAZY;
		page->want = pass->rq->lazy == LAZY_TOUCHER ? WANT_TOUCHER : (uint8_t)node;
		page->age = page->err = 0;
		pass->rq->progress->lazy++;
		pass->rq->progress->done++;
		putback_lru_page(mm, page);
	}
	lock_release(&mm->lock);
}

/* One batch off the list. migrate lock held. */
static void pass_batch(struct mm *mm, struct pass *pass)
{
	struct page *first = page_by_id(&mm->pt, pass->list->head);
	bool huge = first->flags & PG_HUGE;
	struct request *rq = pass->rq;
	uint64_t window_ns;
	struct span window = { 0 };
	uint32_t most;
	enum form form = steer_next(huge ? &rq->steer_huge : &rq->steer, &most);
	int err = pass_window(mm, first, &window);

	if (err) {
		lock_acquire(&mm->lock);
		page_refused(mm, list_pop(&mm->pt, pass->list), err, &pass->later, rq);
		lock_release(&mm->lock);
		return;
	}
	batch_choose(mm, pass, &window, most);
	if (!mm->batch.want)
		return;
	huge = mm->batch.unit == HUGE_SIZE_;
	window_ns = batch_move(mm, rq, form, window.class);
	if (other_class(&mm->batch, span_find(mm, mm->batch.addr[0])))
		window_ns = batch_move(mm, rq, form, ARENA_LOCKED);
	if (window_ns)
		learn(mm, rq, form, huge, window_ns);
	batch_results(mm, pass);
}

/* What the first page of the list asks for. */
static void pass_one(struct mm *mm, struct pass *pass)
{
	uint16_t flags = page_by_id(&mm->pt, pass->list->head)->flags;
	int node = head_node(mm, pass);
	/* nothing is ever touched on a far node: what is to go there goes at once */
	bool lazy = pass->rq->lazy == LAZY_TOUCHER ||
		    (pass->rq->lazy == LAZY_TO && !(node >= 0 && node_far(mm->nodes, node)));

	if (flags & PG_AWAY) {
		(lazy ? pass_lazy : pass_fetch)(mm, pass);
		return;
	}
	if (flags & PG_PRESENT && (lazy || (node >= 0 && node_far(mm->nodes, node))))
		pass_unmap(mm, pass);
	else
		pass_batch(mm, pass);
}

/* Keep to the rate asked for. */
static void pace(struct request *rq)
{
	uint64_t now = clock_ns() - rq->started, due;

	if (!rq->rate)
		return;
	due = (uint64_t)((double)((rq->progress->moved + rq->progress->fallen) * PAGE_SIZE_) * 1e9 / (double)rq->rate);
	while (due > now + 1000000 && !request_cancelled(rq)) {
		sleep_ns(min_u64(due - now, 100000000));
		now = clock_ns() - rq->started;
	}
}

/* A fork, a pin, a new thread may be waiting: they go before the next batch. */
void books_yield(struct mm *mm)
{
	if (lock_release(&mm->migrate))
		sleep_ns(YIELD_NS);
}

void books_acquire(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	lock_acquire(&mm->lock);
	departures_take(mm);
}

void books_release(struct mm *mm)
{
	lock_release(&mm->lock);
	books_yield(mm);
}

uint64_t program_acquire(struct mm *mm)
{
	uint64_t signals = signals_block();

	books_acquire(mm);
	return signals;
}

void program_release(struct mm *mm, uint64_t signals)
{
	books_release(mm);
	signals_restore(signals);
}

void list_splice(struct mm *mm, struct page_list *to, struct page_list *from)
{
	books_acquire(mm);
	while (from->head)
		list_add_tail(&mm->pt, to, list_pop(&mm->pt, from));
	books_release(mm);
}

#define HOLD_LOOK_NS 50000ULL

/* mm->migrate, at a time when nobody has batches held off. */
void batch_turn(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	while (__atomic_load_n(&mm->holds, __ATOMIC_SEQ_CST)) {
		lock_release(&mm->migrate);
		sleep_ns(HOLD_LOOK_NS);
		lock_acquire(&mm->migrate);
	}
}

uint64_t migrate_pages(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private,
		       struct request *rq)
{
	struct pass pass = { .list = list, .get_new_page = get_new_page, .private = private, .rq = rq };

	while (list->head && !request_cancelled(rq)) {
		batch_turn(mm);
		if (list->head)
			pass_one(mm, &pass);
		books_yield(mm);
		pace(rq);
	}
	rq->progress->passes++;
	list_splice(mm, &pass.later, list);
	*list = pass.later;
	return list->nr;
}

/* ---- trying again ---- */

/*
 * A page that a fork left shared: a write fault makes it the program's own. That is free when the other
 * side is gone, and a copy when it lives: then only if asked for. False: the other side lives.
 */
static bool unshare_page(struct mm *mm, struct page *page, struct request *rq)
{
	uint64_t addr = page_addr(&mm->pt, page);
	struct span *span = span_find(mm, addr);
	int shared;

	if (page->err != EBUSY || !(page->flags & PG_PRESENT) || !span || span->kind != AREA_MANAGED)
		return true;
	shared = mm->mmu->ops->shared(mm->mmu, addr, page_bytes(page));
	if (shared == 1 && !rq->unshare_all)
		return false;
	/* a hole must stay one; and where another's window is a write could wait for the program */
	if (shared < 0 || __atomic_load_n(&mm->serves_faults, __ATOMIC_RELAXED) || window_open(mm, span, addr))
		return true;
	if (!mm->mmu->ops->unshare(mm->mmu, addr, page_bytes(page)))
		mm->stats.unshared += page_nr(page);
	return true;
}

/* For a few passes the other side may be about to exec or end; after that the page stays. */
static void unshare_busy(struct mm *mm, struct page_list *list, uint32_t pass, struct request *rq)
{
	struct page *page, *next;

	for (page = page_by_id(&mm->pt, list->head); page; page = next) {
		next = page_by_id(&mm->pt, page->next);
		if (unshare_page(mm, page, rq) || (pass < SHARED_PASSES && !rq->private_only))
			continue;
		lock_acquire(&mm->lock);
		list_del(&mm->pt, list, page);
		page_failed(mm, page, rq->private_only ? -EACCES : -EBUSY, rq);
		lock_release(&mm->lock);
	}
}

/* The areas may have changed, and what a fork left shared may be free to move now. */
static void look_again(struct mm *mm, struct page_list *list, uint32_t pass, struct request *rq)
{
	lock_acquire(&mm->migrate);
	mm_drain_events(mm);
	spans_load(mm);
	observe(mm);
	if (rq->mode == MIGRATE_SYNC)
		unshare_busy(mm, list, pass, rq);
	lock_release(&mm->migrate);
}

void migrate_rest(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private,
			 struct request *rq)
{
	struct page *page;

	for (uint32_t pass = 1; pass < PASSES && list->head && rq->mode != MIGRATE_ASYNC && !request_cancelled(rq);
	     pass++) {
		look_again(mm, list, pass, rq);
		rq->progress->retries += list->nr;
		mm->stats.retries += list->nr;
		migrate_pages(mm, list, get_new_page, private, rq);
		if (list->head)
			sleep_ns(pass * PASS_PAUSE_NS);
	}
	books_acquire(mm);
	while ((page = list_pop(&mm->pt, list)))
		if (!(page->flags & (PG_PRESENT | PG_AWAY)))
			page_vanished(mm, page, rq);
		else if (request_cancelled(rq) && !page->err)
			putback_lru_page(mm, page);
		else
			page_failed(mm, page, page->err ? -page->err : -EAGAIN, rq);
	books_release(mm);
}

void migrate_over(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	cache_drop_stale(mm);
	kept_trim(mm);
	node_rest(mm->nodes);
	lock_release(&mm->migrate);
}

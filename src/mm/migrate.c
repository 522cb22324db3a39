/* SPDX-License-Identifier: MIT */
/*
 * migrate_pages(): lists of isolated pages, several passes, a reason for every page that stays.
 *
 *   errno     of a page means                                                        tried again
 *   EAGAIN    the program was changing its mappings, or the area's attributes         yes
 *   EBUSY     pinned by a device or the kernel, by gw_pin(), shared since a fork,     yes
 *             or the area belongs to another userfaultfd
 *   ENOENT    it left its address meanwhile: nothing to move, no failure              no
 *   ENOMEM    the node is full, or no frames                                          no
 *   EACCES    opted out                                                               no
 *   EINVAL    the kernel refuses this kind of area                                    no
 */
#include "mm/mm.h"

#include <errno.h>

#define PASSES 10U
#define PASS_PAUSE_NS 1000000ULL
#define BATCH_SMALL 64U		/* beyond it a page costs no less */
#define ISOLATE_AT_ONCE 4096U

void request_begin(struct request *rq)
{
	uint32_t most = rq->batch ? (uint32_t)min_u64(rq->batch, BATCH_MAX) : BATCH_SMALL;

	steer_init(&rq->steer, rq->bound_ns, most, rq->form, rq->keep_batch);
	steer_init(&rq->steer_huge, rq->bound_ns, 1, rq->form, true);
	rq->started = clock_ns();
}

static bool cancelled(const struct request *rq)
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

static void count_moved(struct mm *mm, int from, int to, uint32_t nr, struct request *rq)
{
	rq->progress->moved += nr;
	rq->progress->done += nr;
	rq->progress->huge += nr == LEAF_PAGES ? nr : 0;
	mm->stats.moved[from][to] += nr;
	__atomic_add_fetch(&mm->nodes->node[from].out, nr, __ATOMIC_RELAXED);
	__atomic_add_fetch(&mm->nodes->node[to].in, nr, __ATOMIC_RELAXED);
}

/* move_mapping: the page is charged to its new node from here on. */
static void page_moved(struct mm *mm, struct page *page, int to, struct request *rq)
{
	int from = page->node;

	node_uncharge(mm->nodes, from, page_nr(page));
	page->node = (uint8_t)to;
	page->err = 0;
	count_moved(mm, from, to, page_nr(page), rq);
	putback_lru_page(mm, page);
}

/* ---- choosing a batch ---- */

static int may_move(struct mm *mm, const struct page *page)
{
	uint64_t addr = page_addr(&mm->pt, page);

	if (!(page->flags & PG_PRESENT))
		return -ENOENT;
	if (!(page->flags & PG_FRESH) && discarded_at(mm, addr, addr + page_bytes(page)))
		return -EAGAIN;
	return excluded_at(mm, addr, addr + page_bytes(page));
}

static bool same_frames(const struct mm *mm, int a, int b)
{
	return mm->nodes->node[a].spec.host == mm->nodes->node[b].spec.host;
}

/* May this page share the batch's slots and window? */
static bool fits_batch(const struct mm *mm, const struct batch *b, const struct page *page, const struct span *span)
{
	uint64_t addr = page_addr(&mm->pt, page);

	if (addr < span->start || addr + page_bytes(page) > span->end)
		return false;
	return !b->want ||
	       (page_bytes(page) == PAGE_SIZE_ && b->unit == PAGE_SIZE_ && same_frames(mm, page->node, b->source));
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
	if (b->want && !same_frames(mm, dest, b->dest[0])) {
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
	return err == -EAGAIN || err == -EBUSY;
}

static void page_refused(struct mm *mm, struct page *page, int err, struct page_list *later, struct request *rq)
{
	if (err == -ENOENT) {
		page_vanished(mm, page, rq);
	} else if (again(err)) {
		page->err = (uint8_t)-err;
		list_add_tail(&mm->pt, later, page);
	} else {
		page_failed(mm, page, err, rq);
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

static void batch_choose(struct mm *mm, struct pass *pass, const struct span *window, uint32_t most)
{
	struct page *page;

	lock_acquire(&mm->lock);
	mm->batch.want = 0;
	while (mm->batch.want < most && (page = list_pop(&mm->pt, pass->list))) {
		int err = batch_take(mm, page, window, pass->get_new_page, pass->private);

		if (err == -E2BIG) {
			list_push(&mm->pt, pass->list, page);
			break;
		}
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

	if (b->state[i] != SLOT_IN) {
		pass->rq->progress->done += nr;
		return;
	}
	if (nr == 1 && (!there || !there->refs))
		page_enter(mm, b->addr[i], b->dest[i], 0);
	count_moved(mm, b->source, b->dest[i], nr, pass->rq);
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

static void settle_page(struct mm *mm, struct pass *pass, struct batch *b, uint32_t i)
{
	struct page *page = b->page[i];
	uint32_t nr = (uint32_t)(b->unit / PAGE_SIZE_);

	if (!page) {
		settle_stray(mm, pass, b, i);
		return;
	}
	if (b->state[i] == SLOT_IN && page->flags & PG_PRESENT) {
		page_moved(mm, page, b->dest[i], pass->rq);
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
	lock_release(&mm->lock);
}

static void learn(struct mm *mm, struct request *rq, enum form form, bool huge, uint64_t window, uint64_t all)
{
	struct batch *b = &mm->batch;
	struct progress *p = rq->progress;

	steer_learn(huge ? &rq->steer_huge : &rq->steer, form, b->want, window, all);
	hist_add(huge ? &p->window_huge : &p->window, window);
	hist_add(huge ? &mm->stats.window_huge : &mm->stats.window, window);
	p->batches++;
	p->batch_last = b->want;
	p->form_last = form;
}

/* One batch off the list. migrate lock held. */
static void pass_batch(struct mm *mm, struct pass *pass)
{
	struct page *first = page_by_id(&mm->pt, pass->list->head);
	bool huge = first->flags & PG_HUGE;
	struct request *rq = pass->rq;
	uint64_t begin = clock_ns(), window_ns;
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
		learn(mm, rq, form, huge, window_ns, clock_ns() - begin);
	batch_results(mm, pass);
}

/* Keep to the rate asked for. */
static void pace(struct request *rq)
{
	uint64_t now = clock_ns() - rq->started, due;

	if (!rq->rate)
		return;
	due = (uint64_t)((double)(rq->progress->moved * PAGE_SIZE_) * 1e9 / (double)rq->rate);
	while (due > now + 1000000 && !cancelled(rq)) {
		sleep_ns(min_u64(due - now, 100000000));
		now = clock_ns() - rq->started;
	}
}

uint64_t migrate_pages(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private,
		       struct request *rq)
{
	struct pass pass = { .list = list, .get_new_page = get_new_page, .private = private, .rq = rq };

	while (list->head && !cancelled(rq)) {
		lock_acquire(&mm->migrate);
		if (list->head)
			pass_batch(mm, &pass);
		lock_release(&mm->migrate);
		pace(rq);
	}
	rq->progress->passes++;
	lock_acquire(&mm->lock);
	while (list->head)
		list_add_tail(&mm->pt, &pass.later, list_pop(&mm->pt, list));
	lock_release(&mm->lock);
	*list = pass.later;
	return list->nr;
}

/* ---- trying again ---- */

/*
 * Pages that a fork left shared: a write fault makes them the program's own. That is free when the
 * other side is gone, and a copy when it lives: then only if asked for.
 */
static void unshare_busy(struct mm *mm, struct page_list *list, struct request *rq)
{
	for (uint32_t id = list->head; id; id = page_by_id(&mm->pt, id)->next) {
		struct page *page = page_by_id(&mm->pt, id);
		uint64_t addr = page_addr(&mm->pt, page);

		if (page->err != EBUSY || !(page->flags & PG_PRESENT))
			continue;
		if (!rq->unshare_all && mm->mmu->ops->shared(mm->mmu, addr) != 0)
			continue;
		if (!mm->mmu->ops->unshare(mm->mmu, addr, page_bytes(page)))
			mm->stats.unshared += page_nr(page);
	}
}

/* The areas may have changed, and what a fork left shared may be free to move now. */
static void look_again(struct mm *mm, struct page_list *list, struct request *rq)
{
	lock_acquire(&mm->migrate);
	spans_load(mm);
	if (rq->mode == MIGRATE_SYNC)
		unshare_busy(mm, list, rq);
	lock_release(&mm->migrate);
}

static void migrate_rest(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private,
			 struct request *rq)
{
	struct page *page;

	for (uint32_t pass = 1; pass < PASSES && list->head && rq->mode != MIGRATE_ASYNC && !cancelled(rq); pass++) {
		look_again(mm, list, rq);
		rq->progress->retries += list->nr;
		mm->stats.retries += list->nr;
		migrate_pages(mm, list, get_new_page, private, rq);
		if (list->head)
			sleep_ns(pass * PASS_PAUSE_NS);
	}
	lock_acquire(&mm->lock);
	while ((page = list_pop(&mm->pt, list)))
		if (!(page->flags & PG_PRESENT))
			page_vanished(mm, page, rq);
		else if (cancelled(rq) && !page->err)
			putback_lru_page(mm, page);
		else
			page_failed(mm, page, page->err ? -page->err : -EAGAIN, rq);
	lock_release(&mm->lock);
}

static void migration_over(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	window_close(mm);
	lock_release(&mm->migrate);
}

/* ---- node to node ---- */

/* Where the pages of each node go; -1: they stay. */
struct relative {
	int to[NODE_MAX];
};

static struct relative relative_of(uint64_t from, uint64_t to)
{
	struct relative r;

	for (int n = 0; n < NODE_MAX; n++)
		r.to[n] = nodes_relative(from, to, n);
	return r;
}

static int new_page_relative(struct mm *mm, struct page *page, void *private)
{
	struct relative *r = private;
	int to = r->to[page->node];

	if (to < 0)
		return -EAGAIN; /* it moved elsewhere meanwhile */
	return node_charge(mm->nodes, to, page_nr(page)) ? to : -ENOMEM;
}

/* A page that the request is about: on the wrong node, and not opted out. */
static bool misplaced(struct mm *mm, const struct relative *r, const struct page *page)
{
	int to = r->to[page->node];

	return to >= 0 && to != page->node && may_move(mm, page) != -EACCES;
}

static void for_leaf(struct mm *mm, struct page *leaf, void (*fn)(struct mm *mm, struct page *page, void *arg),
		     void *arg)
{
	if (leaf->flags & PG_HUGE) {
		fn(mm, leaf, arg);
		return;
	}
	for (uint32_t i = 0; i < LEAF_PAGES; i++)
		if (leaf[i].flags & PG_LRU)
			fn(mm, &leaf[i], arg);
}

struct isolate {
	const struct relative *relative;
	struct page_list *list;
};

static void isolate_one(struct mm *mm, struct page *page, void *arg)
{
	struct isolate *iso = arg;

	if (misplaced(mm, iso->relative, page))
		isolate_lru_page(mm, page, iso->list);
}

/* In address order, so that batches are runs. Returns false at the end of the books. */
static bool isolate_some(struct mm *mm, const struct relative *r, uint64_t *at, struct page_list *list)
{
	struct isolate iso = { r, list };
	struct page *leaf = NULL;

	lock_acquire(&mm->lock);
	while (list->nr < ISOLATE_AT_ONCE && (leaf = leaf_next(&mm->pt, at, UINT64_MAX - HUGE_SIZE_))) {
		for_leaf(mm, leaf, isolate_one, &iso);
		*at += HUGE_SIZE_;
	}
	lock_release(&mm->lock);
	return leaf != NULL;
}

struct count {
	const struct relative *relative;
	struct progress *progress;
	uint64_t room[NODE_MAX];
};

/* What a dry run says of one page, and how full the nodes would be by then. */
static void count_one(struct mm *mm, struct page *page, void *arg)
{
	struct count *c = arg;
	uint32_t nr = page_nr(page);
	int to = c->relative->to[page->node], err;

	if (!misplaced(mm, c->relative, page))
		return;
	err = may_move(mm, page);
	if (!err && c->room[to] < nr)
		err = -ENOMEM;
	if (err) {
		c->progress->failed[-err] += nr;
		c->progress->failed_pages += nr;
		return;
	}
	c->room[to] -= nr;
	c->room[page->node] += c->room[page->node] == UINT64_MAX ? 0 : nr;
	if (page->flags & PG_HUGE)
		c->progress->would_huge += nr;
	else if (page->flags & PG_SWAPPED)
		c->progress->would_swapped += nr;
	else
		c->progress->would_small += nr;
}

static void room_left(struct mm *mm, struct count *c)
{
	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		uint64_t most = mm->nodes->node[n].spec.bytes / PAGE_SIZE_, now = mm->nodes->node[n].pages;

		c->room[n] = !most ? UINT64_MAX : most > now ? most - now : 0;
	}
}

static void total_one(struct mm *mm, struct page *page, void *arg)
{
	struct count *c = arg;

	if (misplaced(mm, c->relative, page))
		c->progress->total += page_nr(page);
}

static void for_books(struct mm *mm, void (*fn)(struct mm *mm, struct page *page, void *arg), void *arg)
{
	uint64_t at = 0;
	struct page *leaf;

	lock_acquire(&mm->lock);
	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		for_leaf(mm, leaf, fn, arg);
		at += HUGE_SIZE_;
	}
	lock_release(&mm->lock);
}

/* Pages that were counted at the beginning and had left before their turn came. */
static void count_vanished(struct request *rq)
{
	struct progress *p = rq->progress;
	uint64_t known = p->moved + p->failed_pages + p->gone;

	if (!cancelled(rq) && known < p->total)
		p->gone += p->total - known;
	p->done = p->moved + p->failed_pages + p->gone;
}

int do_migrate_pages(struct mm *mm, uint64_t from, uint64_t to, struct request *rq)
{
	struct relative r = relative_of(from, to);
	struct count count = { .relative = &r, .progress = rq->progress };
	struct page_list list = { 0 }, rest = { 0 };
	uint64_t at = 0;
	bool more = true;
	int err;

	request_begin(rq);
	lock_acquire(&mm->migrate);
	err = adopt_all(mm, rq->progress->unmanaged);
	lock_release(&mm->migrate);
	if (err)
		return err;
	for_books(mm, total_one, &count);
	if (rq->dry_run) {
		room_left(mm, &count);
		for_books(mm, count_one, &count);
		return 0;
	}
	while (more && !cancelled(rq)) {
		more = isolate_some(mm, &r, &at, &list);
		migrate_pages(mm, &list, new_page_relative, &r, rq);
		lock_acquire(&mm->lock);
		while (list.head)
			list_add_tail(&mm->pt, &rest, list_pop(&mm->pt, &list));
		lock_release(&mm->lock);
	}
	migrate_rest(mm, &rest, new_page_relative, &r, rq);
	migration_over(mm);
	count_vanished(rq);
	return 0;
}

/* ---- page by page ---- */

static int new_page_wanted(struct mm *mm, struct page *page, void *private)
{
	(void)private;
	return node_charge(mm->nodes, page->want, page_nr(page)) ? page->want : -ENOMEM;
}

static int page_status(struct mm *mm, uint64_t addr)
{
	struct span *span = span_find(mm, addr);
	struct page *page;
	int ret = -ENOENT;

	if (!span || span->kind == AREA_OWN)
		return -EFAULT;
	if (span->kind != AREA_MANAGED)
		return -EACCES;
	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (page && page->flags & PG_PRESENT)
		ret = page->node;
	lock_release(&mm->lock);
	return ret;
}

static int want_page(struct mm *mm, uint64_t addr, int node, struct page_list *list)
{
	struct page *page;
	int ret = 0;

	if (node < 0 || (uint32_t)node >= mm->nodes->nr)
		return -ENODEV;
	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (!page || !(page->flags & PG_PRESENT)) {
		ret = -ENOENT;
	} else if (page->node == node) {
		ret = node;
	} else if (page->flags & PG_LRU) {
		page->want = (uint8_t)node;
		page->err = 0;
		isolate_lru_page(mm, page, list);
	}
	lock_release(&mm->lock);
	return ret;
}

/* The surroundings of an address as they are now; the same as last time are not looked at twice. */
static int adopt_around(struct mm *mm, uint64_t addr, uint64_t *last)
{
	struct span *span = span_find(mm, addr);
	uint64_t start = ALIGN_DOWN(addr, HUGE_SIZE_);

	if (!span || span->kind != AREA_MANAGED || *last == start)
		return 0;
	*last = start;
	return adopt_range(mm, max_u64(start, span->start), min_u64(start + HUGE_SIZE_, span->end));
}

static int move_look(struct mm *mm, uint64_t count, void *const *pages, const int *nodes, int *status,
		     struct page_list *list)
{
	uint64_t last = 1;
	int err = spans_load(mm);

	exclude_refresh(mm);
	for (uint64_t i = 0; i < count && !err; i++) {
		uint64_t addr = ALIGN_DOWN((uint64_t)pages[i], PAGE_SIZE_);

		err = adopt_around(mm, addr, &last);
		status[i] = page_status(mm, addr);
		if (nodes && status[i] >= 0)
			status[i] = want_page(mm, addr, nodes[i], list);
	}
	return err;
}

static int final_status(struct mm *mm, uint64_t addr, int node)
{
	struct page *page;
	int ret;

	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (!page || !(page->flags & PG_PRESENT))
		ret = -ENOENT;
	else if (page->node == node || !page->err)
		ret = page->node;
	else
		ret = -page->err;
	lock_release(&mm->lock);
	return ret;
}

int do_move_pages(struct mm *mm, uint64_t count, void *const *pages, const int *nodes, int *status,
		  struct request *rq)
{
	struct page_list list = { 0 };
	int err;

	request_begin(rq);
	lock_acquire(&mm->migrate);
	err = move_look(mm, count, pages, nodes, status, &list);
	lock_release(&mm->migrate);
	if (nodes) {
		rq->progress->total = list.nr;
		migrate_pages(mm, &list, new_page_wanted, NULL, rq);
		migrate_rest(mm, &list, new_page_wanted, NULL, rq);
		migration_over(mm);
	}
	for (uint64_t i = 0; nodes && i < count && !err; i++)
		if (status[i] >= 0)
			status[i] = final_status(mm, ALIGN_DOWN((uint64_t)pages[i], PAGE_SIZE_), nodes[i]);
	return err;
}

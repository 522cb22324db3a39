/* SPDX-License-Identifier: MIT */
/*
 * Policies of ranges and threads: do_mbind() and its neighbours, with the order of checks of mm/mempolicy.c, so that
 * errors are the kernel's. All on engine threads, with nothing held.
 */
#include "mm/mm.h"

#include <errno.h>

/* ---- first touches ---- */

static bool departed(const struct placement *p, const struct touch *t)
{
	for (uint32_t i = 0; i < p->nr_departures; i++)
		if (t->addr >= p->departure[i].start && t->addr < p->departure[i].end && t->time < p->departure[i].time)
			return true;
	return false;
}

static void huge_touched(struct mm *mm, struct page *head, const struct touch *t)
{
	struct toucher who = toucher_of(mm, t->tid, (int)t->cpu);
	uint64_t addr = page_addr(&mm->pt, head);
	int node = place_interleaved(mm, addr) ? head->node
					     : place_page(mm, addr, LEAF_PAGES, &who, host_of_page(mm, addr));

	lru_del(mm, head);
	node_uncharge(mm->nodes, head->node, LEAF_PAGES);
	head->node = (uint8_t)node;
	head->want = 0;
	node_charge_force(mm->nodes, node, LEAF_PAGES);
	lru_add(mm, head);
}

/* A page that is in the books for sure was touched before. */
static void on_touch(void *arg, const struct touch *t)
{
	struct mm *mm = arg;
	uint64_t addr = ALIGN_DOWN(t->addr, PAGE_SIZE_);
	const struct span *span;
	struct page *page, *head;
	struct toucher who;

	if (t->type != TOUCH_PAGE)
		return;
	span = span_find(mm, addr);
	page = page_find(&mm->pt, addr);
	/* without a span: mapped since the mappings were looked at; the next look finds out whether it is ours */
	if ((span && span->kind != AREA_MANAGED && span->kind != AREA_READONLY) || departed(&mm->place, t))
		return;
	head = page_find(&mm->pt, ALIGN_DOWN(addr, HUGE_SIZE_));
	if (head && head->flags & PG_HUGE) {
		if (head->flags & PG_LRU && want_unsure(head->want))
			huge_touched(mm, head, t);
		return;
	}
	if (page && page->flags & PG_LRU && want_unsure(page->want)) {
		page_gone(mm, page);
		page = page_find(&mm->pt, addr);
	}
	if (page && page->refs)
		return;
	who = toucher_of(mm, t->tid, (int)t->cpu);
	page = page_enter(mm, addr, place_page(mm, addr, 1, &who, host_of_page(mm, addr)), 0);
	if (page)
		page->want = WANT_UNSURE;
}

void observe_locked(struct mm *mm)
{
	struct placement *p = &mm->place;
	uint64_t now = clock_ns();

	p->lost += touch_drain(mm->touches, on_touch, mm);
	for (uint32_t i = 0; i < p->nr_departures;)
		if (p->departure[i].time < now)
			p->departure[i] = p->departure[--p->nr_departures];
		else
			i++;
}

void observe(struct mm *mm)
{
	lock_acquire(&mm->lock);
	departures_take(mm);
	if (mm->observed)
		observe_locked(mm);
	lock_release(&mm->lock);
}

void do_observe(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	if (!spans_load(mm))
		observe(mm);
	lock_release(&mm->migrate);
}

/*
 * Pages that are there already were touched under the policies of before: enter them, so that a policy may change.
 * Only what the program could have touched counts, which is managed memory. migrate lock held.
 */
static int settle(struct mm *mm, uint64_t start, uint64_t end)
{
	int err = spans_load(mm);

	if (err)
		return err;
	gaps_gone(mm, start, end);
	observe(mm);
	for (uint32_t i = 0; i < mm->spans.nr && !err; i++)
		err = adopt_part(mm, &mm->spans.span[i], start, end);
	observe(mm); /* what was found has been touched before now */
	return err;
}

/* No hole in it. migrate lock held, spans loaded. */
static bool mapped_whole(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t from, to;

	while (start < end) {
		const struct span *s;
		int err = mm->mmu->ops->area(mm->mmu, start, &from, &to);

		if (err == -ENOTTY && (s = span_find(mm, start))) {
			to = s->end;
			err = 0;
		}
		if (err)
			return false;
		start = to;
	}
	return true;
}

static bool mapped_at_all(struct mm *mm, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < mm->spans.nr; i++)
		if (mm->spans.span[i].start < end && mm->spans.span[i].end > start)
			return true;
	return false;
}

/* ---- which pages are where they should not be ---- */

struct misplaced {
	const struct mbind *ask;
	struct page_list *list;	/* NULL: only count */
	uint64_t nr;		/* 4 KiB pages */
};

static bool misplaced(const struct misplaced *m, const struct page *page)
{
	return page->flags & PG_PRESENT && !(m->ask->nodes >> page->node & 1);
}

/* Counted are those that are not on the list afterwards: another request has them. */
static void queue_page(struct mm *mm, struct misplaced *m, struct page *page)
{
	if (misplaced(m, page) && (!m->list || isolate_lru_page(mm, page, m->list)))
		m->nr += page_nr(page);
}

static void queue_leaf(struct mm *mm, struct misplaced *m, struct page *leaf, uint64_t first, uint64_t last)
{
	if (leaf->flags & PG_HUGE) {
		queue_page(mm, m, leaf);
		return;
	}
	for (uint64_t a = first; a < last; a += PAGE_SIZE_)
		queue_page(mm, m, &leaf[a / PAGE_SIZE_ % LEAF_PAGES]);
}

static uint64_t unmanaged_misplaced(struct mm *mm, const struct mbind *ask)
{
	struct unmanaged u = { 0 };
	uint64_t nr = 0;

	if (ask->nodes & 1 && !node_all_host(mm->nodes))
		return 0;
	for (uint32_t i = 0; i < mm->spans.nr; i++) {
		const struct span *s = &mm->spans.span[i];

		if (s->kind != AREA_MANAGED && s->kind != AREA_READONLY && s->kind != AREA_OWN && s->start < ask->end &&
		    s->end > ask->start)
			count_unmanaged(mm, max_u64(s->start, ask->start), min_u64(s->end, ask->end), &u);
	}
	for (uint32_t n = 0; n < NODE_MAX; n++)
		nr += ask->nodes >> n & 1 ? 0 : u.pages[n];
	return nr;
}

/* migrate lock held. */
static uint64_t queue_pages_range(struct mm *mm, const struct mbind *ask, struct page_list *list)
{
	struct misplaced m = { .ask = ask, .list = list };
	uint64_t at = ask->start;
	struct page *leaf;

	lock_acquire(&mm->lock);
	while ((leaf = leaf_next(&mm->pt, &at, ask->end))) {
		queue_leaf(mm, &m, leaf, max_u64(at, ask->start), min_u64(at + HUGE_SIZE_, ask->end));
		at += HUGE_SIZE_;
	}
	lock_release(&mm->lock);
	return m.nr + unmanaged_misplaced(mm, ask);
}

static int new_page_by_policy(struct mm *mm, struct page *page, void *private)
{
	const struct mbind *ask = private;
	struct toucher who = toucher_of(mm, ask->tid, ask->cpu);
	int node = place_again(mm, page_addr(&mm->pt, page), page_nr(page), &who);

	return node >= 0 && node_charge(mm->nodes, node, page_nr(page)) ? node : -ENOMEM;
}

/* ---- mbind ---- */

/* The policy is in place when this returns 0; what is to move is on the list, the number that cannot in *stay. */
static int mbind_range(struct mm *mm, const struct mbind *ask, struct page_list *list, uint64_t *stay)
{
	bool move = ask->flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL);
	int err = settle(mm, ask->start, ask->end);

	if (!err)
		err = exclude_refresh(mm);
	if (err)
		return err;
	/* holes are no error to the default policy, but something must be there */
	if (!(ask->pol.mode == MPOL_DEFAULT ? mapped_at_all : mapped_whole)(mm, ask->start, ask->end))
		return -EFAULT;
	if (ask->flags & MPOL_MF_STRICT && !move && queue_pages_range(mm, ask, NULL))
		return -EIO;
	err = host_range(mm, ask->start, ask->end, &ask->pol);
	if (err)
		return err;
	lock_acquire(&mm->lock);
	err = range_set(mm, ask->start, ask->end, &ask->pol);
	lock_release(&mm->lock);
	if (err)
		return err;
	if (move)
		*stay = queue_pages_range(mm, ask, list);
	return 0;
}

int do_mbind(struct mm *mm, const struct mbind *ask, struct request *rq)
{
	struct page_list list = { 0 };
	uint64_t stay = 0;
	int err;

	request_begin(rq);
	lock_acquire(&mm->migrate);
	err = mbind_range(mm, ask, &list, &stay);
	lock_release(&mm->migrate);
	if (err)
		return err;
	if (list.head) {
		rq->progress->total = list.nr;
		migrate_pages(mm, &list, new_page_by_policy, (void *)ask, rq);
		migrate_rest(mm, &list, new_page_by_policy, (void *)ask, rq);
		migrate_over(mm);
	}
	stay += rq->progress->failed_pages - rq->progress->failed[EACCES];
	return ask->flags & MPOL_MF_STRICT && stay ? -EIO : 0;
}

int do_home_node(struct mm *mm, uint64_t start, uint64_t end, int home)
{
	int err;

	lock_acquire(&mm->migrate);
	err = settle(mm, start, end);
	if (err)
		goto out;
	err = -ENOENT;
	lock_acquire(&mm->lock);
	ranges_check(mm, start, end);
	for (uint64_t at = start, next; at < end; at = next) {
		struct range_policy *r;
		struct mempolicy pol;

		next = end;
		r = range_at(mm, at, &next);
		if (!r)
			continue;
		pol = r->pol;
		if (pol.mode != MPOL_BIND && pol.mode != MPOL_PREFERRED_MANY) {
			err = -EOPNOTSUPP;
			break;
		}
		pol.home = (int8_t)home;
		err = host_range(mm, at, next, &pol);
		if (!err)
			err = range_set(mm, at, next, &pol);
		if (err)
			break;
	}
	lock_release(&mm->lock);
out:
	lock_release(&mm->migrate);
	return err;
}

/* ---- what the program does with its mappings ---- */

bool mm_knows_nothing(const struct mm *mm)
{
	return !__atomic_load_n(&mm->pt.present, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&mm->pt.away, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&mm->nr_discards, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&mm->observed, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&mm->place.nr_ranges, __ATOMIC_RELAXED);
}

static void depart(struct mm *mm, const struct departure *d)
{
	struct placement *p = &mm->place;

	if (d->unmapped)
		range_left(mm, d->start, d->end, d->time);
	else
		discard_done(mm, d->start, d->end);
	range_gone(mm, d->start, d->end);
	if (mm->observed && p->nr_departures < DEPARTURES_MAX)
		p->departure[p->nr_departures++] = *d;
}

void departures_take(struct mm *mm)
{
	struct departures *q = &mm->place.departures;

	while (__atomic_load_n(&q->slot[q->head % DEPARTURES_MAX].ready, __ATOMIC_ACQUIRE) == q->head + 1) {
		struct departure d = q->slot[q->head % DEPARTURES_MAX].what;

		__atomic_store_n(&q->head, q->head + 1, __ATOMIC_RELEASE);
		depart(mm, &d);
	}
}

bool mm_discard(struct mm *mm, const struct departure *d)
{
	struct departures *q = &mm->place.departures;
	uint64_t at = __atomic_load_n(&q->tail, __ATOMIC_RELAXED);

	do {
		if (at - __atomic_load_n(&q->head, __ATOMIC_ACQUIRE) >= DEPARTURES_MAX) {
			uint64_t signals;

			if (__atomic_load_n(&mm->forking, __ATOMIC_RELAXED))
				return false; /* a fork has the lock, and may be this thread's; the next look finds out */
			signals = program_acquire(mm);
			departures_take(mm);
			depart(mm, d);
			program_release(mm, signals);
			return true;
		}
	} while (!__atomic_compare_exchange_n(&q->tail, &at, at + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	q->slot[at % DEPARTURES_MAX].what = *d;
	__atomic_store_n(&q->slot[at % DEPARTURES_MAX].ready, at + 1, __ATOMIC_RELEASE);
	return at % (DEPARTURES_MAX / 2) == DEPARTURES_MAX / 2 - 1;
}

#define DONTUNMAP 4 /* MREMAP_DONTUNMAP: the old mapping stays, empty */

/* Books and policies after mremap() has gone well. An old length of 0 makes another mapping of shared memory: nothing moves. */
static void follow_remap(struct mm *mm, uint64_t to, const long call[6])
{
	uint64_t from = (uint64_t)call[1], new_len = ALIGN_UP((uint64_t)call[3], PAGE_SIZE_),
		 len = min_u64(ALIGN_UP((uint64_t)call[2], PAGE_SIZE_), new_len);
	struct range_policy *r = len ? range_at(mm, from + len - PAGE_SIZE_, NULL) : NULL;
	struct mempolicy last = r ? r->pol : (struct mempolicy){ .home = -1 };

	if (to != from) {
		range_gone(mm, to, to + new_len);
		range_clear(mm, to, to + new_len);
		books_follow(mm, from, from + len, to);
		range_move(mm, from, to, len, call[4] & DONTUNMAP);
	}
	if (r && new_len > len) /* what has grown is the same mapping */
		range_set(mm, to + len, to + new_len, &last);
}

struct alike {
	uint64_t start, end;
};

static int track_alike(struct mm *mm, const struct area *a, void *arg)
{
	struct alike *t = arg;
	uint64_t start = max_u64(a->start, t->start), end = min_u64(a->end, t->end);

	if (start < end && !mm->mmu->ops->track(mm->mmu, start, end - start))
		kept_add(mm, start, end);
	return a->start >= t->end;
}

/*
 * Where pages are away a mapping is tracked, and what comes to lie beside it is not: to the kernel they are two, and an
 * mremap() over both fails, or stops half way. Tracked alike they are one, if they are one without us.
 */
static void remap_alike(struct mm *mm, uint64_t start, uint64_t end)
{
	struct alike t = { start, end };

	lock_acquire(&mm->lock);
	if (start < end && kept_overlaps(mm, start, end) && kept_end(mm, start, end) != end)
		area_walk(mm, track_alike, &t);
	lock_release(&mm->lock);
}

/* mremap(): the books and the policies of what has moved go along; with nothing tracked and nothing in flight. */
long mm_remap(struct mm *mm, const long call[6])
{
	uint64_t from = (uint64_t)call[1], end = from + ALIGN_UP((uint64_t)call[2], PAGE_SIZE_);
	bool known = !mm_knows_nothing(mm) || mm->place.nr_changes;
	long ret;

	lock_acquire(&mm->migrate);
	window_close(mm);
	if (known)
		settle(mm, from, end);
	remap_alike(mm, from, end);
	ret = sys5(call[0], call[1], call[2], call[3], call[4], call[5]);
	if (known && (ret >= 0 || ret < -4095)) {
		lock_acquire(&mm->lock);
		follow_remap(mm, (uint64_t)ret, call);
		lock_release(&mm->lock);
	}
	lock_release(&mm->migrate);
	return ret;
}

/* ---- threads' policies, and the nodes that are allowed ---- */

static int settle_all(struct mm *mm)
{
	int err;

	if (mm->nodes->nr < 2)
		return 0;
	if (mm->observed && mm->place.complete && !mm->place.lost) {
		err = spans_load(mm);
		if (!err)
			gaps_gone(mm, 0, UINT64_MAX);
		observe(mm);
		return err;
	}
	err = settle(mm, 0, UINT64_MAX);
	mm->place.complete = mm->observed && !err;
	return err;
}

int do_set_policy(struct mm *mm, uint32_t tid, const struct mempolicy *pol)
{
	int err;

	lock_acquire(&mm->migrate);
	err = settle_all(mm);
	lock_acquire(&mm->lock);
	if (!err)
		err = task_set_policy(mm, tid, pol);
	lock_release(&mm->lock);
	lock_release(&mm->migrate);
	return err;
}

int do_set_home(struct mm *mm, uint32_t tid, int home)
{
	int err;

	lock_acquire(&mm->migrate);
	err = settle_all(mm);
	lock_acquire(&mm->lock);
	if (!err)
		err = task_set_home(mm, tid, home);
	lock_release(&mm->lock);
	lock_release(&mm->migrate);
	return err;
}

/* The same nodes again: pages that stayed behind the last time, if any, are where they may not be. */
int do_allow_nodes(struct mm *mm, uint64_t allowed, bool follow, struct request *rq)
{
	uint64_t before, from;
	int err;

	lock_acquire(&mm->migrate);
	err = settle_all(mm);
	lock_acquire(&mm->lock);
	before = place_allowed(mm);
	if (!err)
		place_rebind(mm, allowed);
	lock_release(&mm->lock);
	lock_release(&mm->migrate);
	from = before == allowed ? nodes_direct(mm->nodes) & ~allowed : before;
	return err || !follow || !from ? err : do_migrate_pages(mm, from, allowed, rq);
}

/* SPDX-License-Identifier: MIT */
/*
 * A touch of a page that is away: where it comes to, how it gets there, what comes along.
 *
 * Who goes through memory page by page is brought more each time, in one copy. A store that waits for a device is not
 * waited for here: its pages are locked and handed to other threads (slow_run), and touches of other pages go on.
 */
#include "mm/mm.h"

#include <errno.h>

#define FORK_LOOK_NS 50000ULL

static bool room_at(struct mm *mm, int node, uint32_t nr)
{
	bool room = node_charge(mm->nodes, node, nr);

	if (room)
		node_uncharge(mm->nodes, node, nr);
	return room;
}

/* Is it to move by the touch? No touch brings a page to a far node, whatever was asked for since. */
static bool is_lazy(const struct mm *mm, const struct page *page)
{
	return page->flags & PG_LAZY && !(page->want < NODE_MAX && node_far(mm->nodes, page->want));
}

/*
 * Where a touched page comes to: to where it is wanted, the toucher's node if that was said, where there is room; else
 * from the cache back to its own, and from a far node to where policy has it.
 */
static int away_node(struct mm *mm, const struct page *page, const struct mmu_event *ev)
{
	bool lazy = is_lazy(mm, page), cached = is_cached(mm, page);
	struct toucher who;

	if (mm->forking)
		return cached ? page->node : 0;
	if (lazy && page->want < NODE_MAX && room_at(mm, page->want, 1))
		return page->want;
	if (cached && (!lazy || page->want < NODE_MAX))
		return page->node;
	who = toucher_of(mm, ev->tid, ev->tid && nodes_direct(mm->nodes) != 1 ? thread_cpu(ev->tid) : -1);
	if (lazy && page->want == WANT_TOUCHER && room_at(mm, who.local, 1))
		return who.local;
	return cached ? page->node : place_page(mm, ev->addr, 1, &who, HOST_UNKNOWN);
}

/*
 * To its address: the frame itself where it may stay the same, else a copy. 0, or why not. *moved: nothing is left
 * where it was.
 */
int away_arrive(struct mm *mm, const struct page *page, uint64_t addr, int node, const void *from, bool *moved)
{
	int err = -EBUSY;

	*moved = false;
	if (is_cached(mm, page) && page->flags & PG_LAZY && !mm->forking && !(page->flags & PG_LOCKED) &&
	    !cache_huge(mm, page->home) && node_same_frames(mm->nodes, page->node, node)) {
		err = mm->mmu->ops->move(mm->mmu, addr, (uint64_t)from, PAGE_SIZE_, true).err;
		*moved = !err;
	}
	/* shared since a fork; its mapping has changed its attributes; a move finds no memory, as a copy may */
	if (err == -EBUSY || err == -EINVAL || err == -ENOMEM) {
		host_near(mm, node);
		err = mm->mmu->ops->copy_in(mm->mmu, addr, (uint64_t)from);
	}
	if (err != -EEXIST)
		return err;
	mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_); /* whoever put it there may not have done so */
	return 0;
}

static void count_arrival(struct mm *mm, const struct page *page, int node)
{
	mm->stats.faults_fetched++;
	if (!is_cached(mm, page))
		mm->stats.promoted++;
	else if (!(page->flags & PG_LAZY))
		mm->stats.rescued++;
	if (page->flags & PG_LAZY && node != page->node && (page->want == node || page->want == WANT_TOUCHER))
		mm->stats.lazy_moved++;
}

/* It is at its address; the books follow, if they may. */
static void arrived(struct mm *mm, struct page *page, int node, bool moved, bool touched)
{
	uint32_t home = page->home;
	int from = page->node;

	count_arrival(mm, page, node);
	if (mm->forking)
		return;
	if (!is_cached(mm, page))
		workingset_refault(mm, page, touched);
	else if (!(page->flags & PG_LAZY))
		workingset_activation(page);
	page_arrived(mm, page, node);
	if (!(page->flags & PG_LOCKED)) /* else who has it locked drops it */
		away_release(mm, from, home, !moved);
}

static void bring(struct mm *mm, struct page *page, const struct mmu_event *ev, const void *what)
{
	int node = away_node(mm, page, ev);
	bool moved;

	/* an event is unread, or there is no memory just now: let it fault again */
	if (away_arrive(mm, page, ev->addr, node, what, &moved))
		mm->mmu->ops->wake(mm->mmu, ev->addr, PAGE_SIZE_);
	else
		arrived(mm, page, node, moved, true);
}

/* ---- what comes along ---- */

/* How many pages behind addr are likely to be wanted next: those who came in order so far get twice as many. */
static uint32_t ahead_of(struct mm *mm, uint64_t addr)
{
	struct stream *s = mm->stream, *free = &mm->stream[mm->next_stream];

	for (uint32_t i = 0; i < STREAMS; i++) {
		if (s[i].next != addr)
			continue;
		mm->stats.prefetch_hits += s[i].ahead;
		s[i].ahead = (uint32_t)min_u64(s[i].ahead ? s[i].ahead * 2 : 1, AHEAD_MOST);
		s[i].next = addr + (1 + s[i].ahead) * PAGE_SIZE_;
		return s[i].ahead;
	}
	*free = (struct stream){ .next = addr + PAGE_SIZE_ };
	mm->next_stream = (mm->next_stream + 1) % STREAMS;
	return 0;
}

/* What waits to be moved by a touch comes along with what is wanted on the same node. */
static bool goes_along(const struct page *first, const struct page *page)
{
	uint16_t differs = first->flags ^ page->flags;

	return !(page->flags & (PG_LOCKED | PG_ISOLATED)) && page->node == first->node && !(differs & PG_LAZY) &&
	       (!(page->flags & PG_LAZY) || page->want == first->want);
}

/* The page and those behind it that are away at the same place. */
static uint32_t run_of(struct mm *mm, struct page *first, uint64_t addr, uint32_t most, uint32_t *home)
{
	uint32_t n = 1;

	home[0] = first->home;
	for (; n < most; n++) {
		struct page *page = away_at(mm, addr + n * PAGE_SIZE_);

		if (!page || !goes_along(first, page))
			break;
		home[n] = page->home;
	}
	return n;
}

/*
 * The i-th page that was read, if it is still what is away at its address: who reads from a device does so without the
 * lock, and the program may have discarded it meanwhile, or carried another one there. NULL: it is not.
 */
static struct page *still_away(struct mm *mm, const struct slow_fetch *s, uint32_t i)
{
	struct page *page = away_at(mm, s->addr + i * PAGE_SIZE_);

	return page && page->node == s->node && page->home == s->home[i] ? page : NULL;
}

/* In one copy; where that does not go the first of them, whom somebody waits for. */
static void bring_run(struct mm *mm, const struct slow_fetch *s, const uint8_t *what, const int *err)
{
	struct mmu_event ev = { .addr = s->addr, .tid = s->tid };
	struct page *page = still_away(mm, s, 0);
	uint32_t good = 0;
	int node;

	while (good < s->nr && !err[good] && still_away(mm, s, good))
		good++;
	if (!page)
		return;
	if (err[0]) {
		away_lost(mm, page, err[0]);
		return;
	}
	node = away_node(mm, page, &ev);
	host_near(mm, node);
	if (good > 1 && !mm->forking && page->flags & PG_LAZY && !room_at(mm, node, good))
		good = 1; /* no more than the node may have: the others when they are touched */
	if (good < 2 || mm->forking || mm->mmu->ops->fill(mm->mmu, s->addr, (uint64_t)what, good * PAGE_SIZE_)) {
		bring(mm, page, &ev, what);
		if (good > 1) /* some may be there all the same */
			mm->mmu->ops->wake(mm->mmu, s->addr + PAGE_SIZE_, (good - 1) * PAGE_SIZE_);
		return;
	}
	mm->mmu->ops->wake(mm->mmu, s->addr, good * PAGE_SIZE_);
	for (uint32_t i = 0; i < good; i++) {
		page = still_away(mm, s, i);
		BUG_ON(!page);
		arrived(mm, page, node, false, !i);
	}
	mm->stats.prefetched += good - 1;
}

/* ---- stores that wait for a device ---- */

static bool slow_push(struct mm *mm, const struct slow_fetch *what)
{
	struct slow *q = &mm->slow;

	if (!q->threads || q->nr == SLOW_MOST)
		return false;
	q->fetch[(q->first + q->nr++) % SLOW_MOST] = *what;
	__atomic_add_fetch(&q->pushed, 1, __ATOMIC_RELEASE);
	return true;
}

void slow_wake(struct mm *mm)
{
	const struct slow *q = &mm->slow;

	for (uint32_t i = 0; i < q->nr && !BUG_BACK(BUG_FAR_FORK); i++) {
		const struct slow_fetch *s = &q->fetch[(q->first + i) % SLOW_MOST];

		mm->mmu->ops->wake(mm->mmu, s->addr, s->nr * PAGE_SIZE_);
	}
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		mm->mmu->ops->wake(mm->mmu, mm->stranded[i].addr, PAGE_SIZE_);
}

/* Off their lists and locked; those behind the first are on theirs. */
static void lock_run(struct mm *mm, const struct slow_fetch *s)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		struct page *page = page_find(&mm->pt, s->addr + i * PAGE_SIZE_);
		struct page_list none = { 0 };

		isolate_lru_page(mm, page, &none);
		page->flags |= PG_LOCKED;
	}
}

/* What has left its address meanwhile is dropped by who had it locked. */
static void unlock_run(struct mm *mm, const struct slow_fetch *s)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		struct page *page = page_find(&mm->pt, s->addr + i * PAGE_SIZE_);

		page->flags &= (uint16_t)~PG_LOCKED;
		if (!(page->flags & PG_AWAY))
			away_let_go(mm, s->node, s->home[i], true);
		putback_lru_page(mm, page);
	}
}

static bool slow_pop(struct mm *mm, struct slow_fetch *out)
{
	struct slow *q = &mm->slow;
	bool any;

	lock_acquire(&mm->lock);
	any = q->nr > 0;
	if (any) {
		*out = q->fetch[q->first];
		q->first = (q->first + 1) % SLOW_MOST;
		q->busy++;
		__atomic_store_n(&q->nr, q->nr - 1, __ATOMIC_RELEASE); /* in this order, for the child of a fork */
	}
	lock_release(&mm->lock);
	return any;
}

/* The books are a fork's: until it is over. */
static void books_at_rest(struct mm *mm)
{
	lock_acquire(&mm->lock);
	while (mm->forking) {
		lock_release(&mm->lock);
		sleep_ns(FORK_LOOK_NS);
		lock_acquire(&mm->lock);
	}
}

/*
 * In the middle of a fork: a copy, and the books later, as with any touch then. Who waits may hold a lock of the
 * allocator's, say, that the fork waits for. Those behind the first are served when they ask again.
 */
static void slow_bring(struct mm *mm, const struct slow_fetch *s, const uint8_t *pages, const int *err)
{
	bring_run(mm, s, pages, err);
	mm->mmu->ops->wake(mm->mmu, s->addr, s->nr * PAGE_SIZE_);
}

bool slow_run(struct mm *mm, uint8_t *pages)
{
	struct slow_fetch s;
	int err[AHEAD_MOST + 1];
	bool forking;

	if (!slow_pop(mm, &s))
		return false;
	far_get_many(mm->far[s.node], s.home, s.nr, pages, err);
	lock_acquire(&mm->lock);
	forking = mm->forking && !BUG_BACK(BUG_FAR_FORK);
	if (mm->forking) {
		if (forking)
			slow_bring(mm, &s, pages, err);
		lock_release(&mm->lock);
		books_at_rest(mm);
	}
	unlock_run(mm, &s);
	if (!forking)
		bring_run(mm, &s, pages, err);
	stranded_retry(mm); /* not before: what has come to the address of one is not what was read */
	mm->mmu->ops->wake(mm->mmu, s.addr, s.nr * PAGE_SIZE_);
	mm->slow.busy--;
	lock_release(&mm->lock);
	return true;
}

/* ---- the touch ---- */

void stranded_fault(struct mm *mm, uint64_t addr)
{
	struct page page = { .flags = PG_AWAY };
	const void *what;
	int err = 0;

	if (!mm->forking) { /* its entry is another's until the batch is over */
		mm->stats.faults_waited++;
		return;
	}
	/* during a fork as a copy, as others: what it waits for may wait for the fork */
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		if (mm->stranded[i].addr == addr) {
			page.node = (uint8_t)mm->stranded[i].node;
			page.home = mm->stranded[i].home;
		}
	what = away_content(mm, &page, mm->fault_page, &err);
	if (what)
		err = mm->mmu->ops->copy_in(mm->mmu, addr, (uint64_t)what);
	else if (!mm->mmu->ops->poison(mm->mmu, addr))
		mm->stats.poisoned++;
	if (err)
		mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_);
}

void away_fault(struct mm *mm, struct page *page, const struct mmu_event *ev)
{
	struct slow_fetch s = { .addr = ev->addr, .node = page->node, .tid = ev->tid };
	int err[AHEAD_MOST + 1];

	/*
	 * A request has it in its hands, and wakes; what is in the cache is there all the same. During a fork it is who
	 * waits for a device, and then for the end of the fork: which may be for this very touch.
	 */
	if (page->flags & PG_LOCKED && !is_cached(mm, page) && (!mm->forking || BUG_BACK(BUG_FAR_FORK))) {
		mm->stats.faults_waited++;
		return;
	}
	if (is_cached(mm, page)) {
		bring(mm, page, ev, (const void *)cache_slot(mm, page->home));
		return;
	}
	s.nr = mm->forking ? 1 : run_of(mm, page, ev->addr, 1 + ahead_of(mm, ev->addr), s.home);
	s.home[0] = page->home;
	if (far_slow(mm->far[s.node]) && !mm->forking && page->flags & PG_LRU && slow_push(mm, &s)) {
		lock_run(mm, &s);
		futex_wake(&mm->slow.pushed);
		return;
	}
	far_get_many(mm->far[s.node], s.home, s.nr, mm->fault_page, err);
	reclaim_exchange(mm);
	bring_run(mm, &s, mm->fault_page, err);
}

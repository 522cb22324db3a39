/* SPDX-License-Identifier: MIT */
/*
 * Reclaim: a node of memory that has a limit sends what is cold to the far node behind it.
 *
 *   lru of the node        oldest first; a page with rounds left (.age) goes to the end again
 *     | shrink_active      unmapped, into the migration cache: who uses it says so by a touch, and has it back
 *   languishing            oldest first
 *     | shrink_cached      stored on the far node, its frame dropped
 *   far
 *     | shrink_far         full: the oldest on to the next far node, by distance
 *
 * The reclaimer is a thread of its own that looks how much memory there is, more often the nearer the limit. Where the
 * limit is reached who touches something pays for it (reclaim_direct).
 */
#include "mm/mm.h"

#include <errno.h>

#define SCAN_MOST 1024U /* pages looked at for one batch */
#define CLUSTER 16U	/* neighbours that leave together */
#define ROUNDS_MOST 4096U
#define BACKOFF_NS 1000000000ULL /* after the far nodes were full */
#define ON_MOST 1024U		 /* pages that go on to the next far node for one batch */
#define STEP 1U			 /* pages between two looks for somebody who waits */
#define SCAN_FEW 32U		 /* pages looked at while somebody does */
#define LOOK_PART 16U		/* looking takes at most one part of so many of the time */
#define CALM_MS 10U
#define KEEP_UP 64U    /* most that leave before the next touches are answered */
#define LOOK_EVERY 16U /* pages that have come, between two looks how much memory there is */

bool node_limited(const struct mm *mm, uint32_t node)
{
	return !node_far(mm->nodes, (int)node) && mm->nodes->node[node].spec.bytes &&
	       node_behind(mm->nodes, (int)node) >= 0;
}

bool reclaim_needed(const struct mm *mm)
{
	for (uint32_t n = 0; n < mm->nodes->nr; n++)
		if (node_limited(mm, n))
			return true;
	return false;
}

/* ---- how much ---- */

/* Anonymous memory of the process without what its pages take on far nodes: the engine's own counts. */
static uint64_t memory_used(struct mm *mm)
{
	uint64_t used = mm->mmu->ops->resident(mm->mmu), pool = 0;

	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		struct far_stats s;

		if (!mm->far[n] || far_kind(mm->far[n]) != FAR_ZRAM)
			continue;
		far_stats(mm->far[n], &s);
		pool += s.used_bytes / PAGE_SIZE_;
	}
	return used > pool ? used - pool : 0;
}

/* What the books do not know is node 0's. */
static uint64_t node_used(const struct mm *mm, uint32_t node, uint64_t used)
{
	uint64_t known = 0;

	for (uint32_t n = 0; n < mm->nodes->nr; n++)
		known += node_far(mm->nodes, (int)n) ? 0 : mm->nodes->node[n].pages;
	return mm->nodes->node[node].pages + (node || used < known ? 0 : used - known) -
	       (!node && used < known ? min_u64(known - used, mm->nodes->node[node].pages) : 0);
}

uint64_t node_in_use(struct mm *mm, uint32_t node)
{
	return node_used(mm, node, memory_used(mm));
}

/* ---- from the cache to a far node ---- */

/* The oldest of a list, locked, on their way to a far node. mm->lock held. */
static void take_oldest(struct mm *mm, struct page_list *list, uint32_t nr, int to)
{
	struct page_list leaving = { 0 };
	struct fetch *f = &mm->fetch;
	struct page *page;

	f->nr = 0;
	f->to_far = true;
	while (f->nr < nr && (page = page_by_id(&mm->pt, list->head))) {
		bool cached = is_cached(mm, page);

		if (f->nr && (page->node != f->source || cached != f->cached))
			break;
		isolate_lru_page(mm, page, &leaving);
		list_del(&mm->pt, &leaving, page);
		page->flags |= PG_LOCKED;
		f->source = page->node;
		f->cached = cached;
		f->page[f->nr] = page;
		f->home[f->nr] = page->home;
		f->new_home[f->nr] = 0;
		f->err[f->nr] = 0;
		f->dest[f->nr++] = (uint8_t)to;
		node_charge(mm->nodes, to, 1); /* of a far node: it always has room in the books */
	}
}

/* Returns how many went; *err: why not all. migrate lock held. */
static uint32_t send(struct mm *mm, struct page_list *list, uint32_t nr, int to, int *err)
{
	struct fetch *f = &mm->fetch;
	uint32_t went = 0;

	lock_acquire(&mm->lock);
	take_oldest(mm, list, nr, to);
	lock_release(&mm->lock);
	if (!f->nr)
		return 0;
	fetch_contents(mm, f);
	lock_acquire(&mm->lock);
	for (uint32_t i = 0; i < f->nr; i++) {
		int from = f->source, failed = fetch_settle(mm, f, i);
		struct page *page = f->page[i];

		if (failed) {
			node_uncharge(mm->nodes, to, 1);
			/* what was touched meanwhile, or is gone, says nothing of the far node */
			*err = failed == -ENOENT || failed == -EAGAIN ? *err : failed;
		} else {
			mm->stats.moved[from][to]++;
			mm->stats.by_reason[MR_DEMOTION]++;
			mm->nodes->node[from].out++;
			mm->nodes->node[to].in++;
			went++;
		}
		putback_lru_page(mm, page);
	}
	f->nr = 0;
	stranded_retry(mm);
	lock_release(&mm->lock);
	return went;
}

/* A far node is full: the oldest on it go on to the next. */
static uint32_t shrink_far(struct mm *mm, int node)
{
	int to = node_behind(mm->nodes, node), err = 0;

	return to < 0 ? 0 : send(mm, &mm->lru[node], FAR_BATCH, to, &err);
}

/* Nobody has room: nothing can leave until something has come back. */
static void far_is_full(struct mm *mm)
{
	if (!mm->reclaim.told)
		base_log("the far nodes are full: the program takes more memory than its node has", "");
	mm->reclaim.told = true;
	mm->reclaim.full = true;
	mm->reclaim.again = clock_ns() + BACKOFF_NS;
}

/* What leaves a pool leaves holes: some more have to leave it before there is room. */
static uint32_t shrink_cached(struct mm *mm, int node, uint32_t most)
{
	int to = node_behind(mm->nodes, node), err = 0;
	uint32_t went = send(mm, &mm->languish, most, to, &err), on = 0, more = 1;

	while (!went && err == -ENOSPC && on < ON_MOST && (more = shrink_far(mm, to))) {
		on += more;
		err = 0;
		went = send(mm, &mm->languish, most, to, &err);
	}
	if (!went && err && !on)
		far_is_full(mm);
	else if (went)
		mm->reclaim.full = false;
	if (mm->cache.nr_stale >= (__atomic_load_n(&mm->throttle.nr, __ATOMIC_RELAXED) ? FAR_BATCH : STALE_MOST))
		cache_drop_stale(mm);
	return went + on;
}

/* ---- from memory into the cache ---- */

static bool may_leave(struct mm *mm, const struct page *page, int node)
{
	return page->flags & PG_PRESENT && page->flags & PG_LRU && !(page->flags & PG_HUGE) && page->node == node &&
	       !page->age && !may_move(mm, page);
}

/* Neighbours that came after one another, and are kept together: they are as cold. mm->lock held. */
static uint32_t cluster(struct mm *mm, struct page *first, struct page **page)
{
	uint64_t addr = page_addr(&mm->pt, first), leaf_end = ALIGN_DOWN(addr, HUGE_SIZE_) + HUGE_SIZE_;
	uint32_t n = 0;

	leaf_end = kept_end(mm, addr, leaf_end);
	for (uint64_t at = addr; n < CLUSTER && at < leaf_end; at += PAGE_SIZE_, n++) {
		page[n] = first + n;
		if (n && (page[n - 1]->next != page_id(&mm->pt, page[n]) || !may_leave(mm, page[n], first->node)))
			break;
	}
	return n;
}

static void rotate(struct mm *mm, struct page *page)
{
	lru_del(mm, page);
	lru_add(mm, page);
}

/* mm->lock held. Returns how many went; *err: why none, -EAGAIN: an event is unread. */
static uint32_t unmap_cluster(struct mm *mm, struct page *first, int *err)
{
	struct page *page[CLUSTER];
	uint32_t went = cache_run(mm, page, cluster(mm, first, page), err);

	if (went || *err == -EAGAIN)
		return went;
	if (*err == -ENOENT) {
		page_gone(mm, first);
	} else { /* pinned, shared, or of a kind that does not move: not again soon */
		first->age = AGE_MOST;
		rotate(mm, first);
	}
	return 0;
}

/* The mapping of a page is tracked from here on. migrate lock held, mm->lock not. */
static int keep_mapping(struct mm *mm, uint64_t addr)
{
	struct span *span;
	int err;

	if (kept_overlaps(mm, addr, addr + PAGE_SIZE_))
		return 0;
	span = span_find(mm, addr);
	if (!span || span->kind != AREA_MANAGED || span->class != ARENA_RW)
		return -EAGAIN;
	err = window_open(mm, span, addr);
	return err ? err : window_keep(mm, addr);
}

/* The oldest that is cold; NULL: none among so many. mm->lock held. */
static struct page *first_cold(struct mm *mm, int node, uint32_t *scan)
{
	struct page *page;

	while (*scan && (page = page_by_id(&mm->pt, mm->lru[node].head))) {
		--*scan;
		if (page->flags & PG_HUGE) {
			page_split(mm, page);
		} else if (page->age || may_move(mm, page)) {
			page->age -= page->age > 0;
			rotate(mm, page);
		} else {
			return page;
		}
	}
	return NULL;
}

/* The same, with its mapping tracked. mm->lock held, let go and taken again. */
static struct page *next_cold(struct mm *mm, int node, uint32_t *scan)
{
	struct page *page;

	while ((page = first_cold(mm, node, scan))) {
		uint64_t addr = page_addr(&mm->pt, page);
		int err;

		if (kept_overlaps(mm, addr, addr + PAGE_SIZE_))
			return page;
		lock_release(&mm->lock);
		err = keep_mapping(mm, addr);
		lock_acquire(&mm->lock); /* look again whether it is still the first */
		page = page_find(&mm->pt, addr);
		if (err && page && page->flags & PG_LRU && page->flags & PG_PRESENT) {
			page->age = AGE_MOST;
			rotate(mm, page);
		}
	}
	return NULL;
}

static uint32_t shrink_active(struct mm *mm, int node, uint32_t most)
{
	uint32_t scan = SCAN_MOST, went = 0;
	struct page *cold;
	int err;

	lock_acquire(&mm->lock);
	while (went < most && (cold = next_cold(mm, node, &scan))) {
		went += unmap_cluster(mm, cold, &err);
		if (err == -EAGAIN)
			mm_drain_events_locked(mm);
		/* who waits for a page does so for one move, not for all of them */
		lock_release(&mm->lock);
		lock_acquire(&mm->lock);
	}
	lock_release(&mm->lock);
	return went;
}

/* ---- the reclaimer ---- */

/* Of whatever is next. False: nothing can leave. migrate lock held. */
static bool shrink(struct mm *mm, int node, uint64_t limit, uint32_t most)
{
	uint32_t went = 0;

	if (mm->languish.nr < cache_share(limit))
		went = shrink_active(mm, node, most);
	if (mm->languish.nr >= cache_share(limit) || !went)
		went += shrink_cached(mm, node, most);
	return went > 0;
}

/* What the program has touched since is not in the books. A look takes its time, so it is a small part of all. */
static int look(struct mm *mm)
{
	struct reclaim *r = &mm->reclaim;
	uint64_t began = clock_ns(), now;
	int err;

	if (began < r->look_due)
		return 0;
	lock_acquire(&mm->migrate);
	mm_drain_events(mm);
	err = adopt_all(mm, NULL);
	lock_release(&mm->migrate);
	now = clock_ns();
	r->look_due = now + LOOK_PART * (now - began);
	return err;
}

static void node_reclaim(struct mm *mm, uint32_t node, uint64_t used)
{
	uint64_t limit = mm->nodes->node[node].spec.bytes / PAGE_SIZE_;
	struct watermarks w;
	bool more;

	throttle_marks(mm, node, &w);
	mm->reclaim.over = node_used(mm, node, used) >= w.min;
	if (node_used(mm, node, used) <= w.low || (mm->reclaim.full && clock_ns() < mm->reclaim.again))
		return;
	if (cache_ready(mm) || look(mm))
		return;
	mm->stats.reclaims++;
	for (uint32_t i = 0; i < ROUNDS_MOST && !__atomic_load_n(&mm->reclaim.stop, __ATOMIC_RELAXED); i++) {
		uint64_t now = node_used(mm, node, memory_used(mm));

		mm->reclaim.over = now >= w.min;
		if (now <= w.high)
			break;
		batch_turn(mm);
		more = shrink(mm, (int)node, limit, FAR_BATCH);
		books_yield(mm);
		if (more)
			throttle_progress(mm);
		throttle_serve(mm);
		throttle_look(mm);
		throttle_marks(mm, node, &w);
		if (!more)
			break;
	}
	lock_acquire(&mm->migrate);
	window_close(mm);
	cache_drop_stale(mm);
	lock_release(&mm->migrate);
}

/* ---- while touches are answered, by who answers them ---- */

static uint64_t arrivals(const struct mm *mm)
{
	return mm->stats.faults_fetched + mm->stats.prefetched + mm->stats.faults_filled;
}

/* How much too much there is, or how far from it the node is that is nearest; what is stale is about to be dropped. */
static void look_again(struct mm *mm)
{
	struct reclaim *r = &mm->reclaim;
	uint64_t used = memory_used(mm);
	bool over = false, behind = false;

	r->looked = arrivals(mm);
	r->excess = INT64_MIN;
	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		struct watermarks w;
		int64_t excess;

		if (!node_limited(mm, n))
			continue;
		throttle_marks(mm, n, &w);
		excess = (int64_t)(node_used(mm, n, used) - w.high) - mm->cache.nr_stale;
		over = over || node_used(mm, n, used) >= w.min;
		if (excess > r->excess) {
			r->excess = excess;
			r->node = (int)n;
			r->share = cache_share(w.min);
			behind = node_used(mm, n, used) > w.low + mm->cache.nr_stale;
		}
	}
	r->over = over;
	if (behind)
		throttle_kick(mm);
}

/* The cache is filled by reclaim_exchange(), unless nobody touches what is far. Returns how many went. */
static uint32_t step(struct mm *mm, uint32_t most)
{
	struct reclaim *r = &mm->reclaim;
	uint32_t went = 0;

	if (!mm->cache.slots || r->full || __atomic_load_n(&mm->holds, __ATOMIC_SEQ_CST) || !lock_try(&mm->migrate))
		return 0;
	if (arrivals(mm) - r->looked >= LOOK_EVERY)
		look_again(mm);
	if (r->excess > 0) {
		if (mm->languish.nr < r->share / 2)
			went = shrink_active(mm, r->node, most);
		else
			went = shrink_cached(mm, r->node, most);
		r->excess -= went ? went : r->excess;
	}
	lock_release(&mm->migrate);
	return went;
}

bool reclaim_step(struct mm *mm)
{
	return step(mm, STEP) > 0;
}

bool reclaim_pressed(const struct mm *mm)
{
	const struct reclaim *r = &mm->reclaim;
	int behind = r->share && r->excess > (int64_t)r->share / 4 ? node_behind(mm->nodes, r->node) : -1;

	return behind >= 0 && !far_slow(mm->far[behind]);
}

void reclaim_keep_up(struct mm *mm)
{
	if (arrivals(mm) - mm->reclaim.looked >= LOOK_EVERY)
		reclaim_step(mm);
	for (uint32_t i = 0; i < KEEP_UP && reclaim_pressed(mm) && step(mm, KEEP_UP); i++)
		;
}

void reclaim_exchange(struct mm *mm)
{
	struct reclaim *r = &mm->reclaim;
	uint32_t scan = SCAN_FEW;
	struct page *cold;
	uint64_t addr;
	int err;

	if (r->excess < -(int64_t)r->share || mm->languish.nr >= r->share || !mm->cache.slots || r->full ||
	    mm->forking || __atomic_load_n(&mm->holds, __ATOMIC_SEQ_CST) ||
	    !lock_try(&mm->migrate)) /* who has it may have seen the page where it is, and not entered it yet */
		return;
	/* two, since some of them come back */
	for (uint32_t i = 0; i < 2 && mm->languish.nr < r->share && (cold = first_cold(mm, r->node, &scan)); i++) {
		addr = page_addr(&mm->pt, cold);
		if (!kept_overlaps(mm, addr, addr + PAGE_SIZE_) || !unmap_cluster(mm, cold, &err))
			break;
	}
	lock_release(&mm->migrate);
}

uint32_t reclaim_once(struct mm *mm)
{
	uint32_t wait = throttle_look(mm);
	uint64_t used = memory_used(mm), come = mm->stats.faults_fetched;
	bool kept_up = come - mm->reclaim.come >= 4 * LOOK_EVERY;

	mm->reclaim.come = come;

	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		struct watermarks w;

		if (!node_limited(mm, n))
			continue;
		node_reclaim(mm, n, used);
		throttle_marks(mm, n, &w);
		wait = (uint32_t)min_u64(wait, reclaim_wait_ms(&w, node_used(mm, n, used)));
	}
	/* the reader looks, and calls; a thread that wakes is in the way of who touches and who answers */
	return kept_up && wait < CALM_MS ? CALM_MS : wait;
}

/* ---- on a touch; mm->lock held ---- */

void reclaim_direct(struct mm *mm)
{
	for (uint32_t i = 0; i < 2 && mm->reclaim.over && !mm->forking; i++) {
		struct page *page = page_by_id(&mm->pt, mm->languish.head);
		uint32_t home, slot;
		int to, from, err;

		if (!page || page->flags & PG_LOCKED)
			return;
		from = page->node;
		to = node_behind(mm->nodes, from);
		if (to < 0 || far_slow(mm->far[to]))
			return;
		slot = page->home;
		if (far_put(mm->far[to], (const void *)cache_slot(mm, slot), 1, &home, &err) != 1)
			return;
		mm->stats.stalls_reclaim++;
		lru_del(mm, page);
		mm->pt.cached--;
		node_uncharge(mm->nodes, from, 1);
		node_charge_force(mm->nodes, to, 1);
		page->node = (uint8_t)to;
		page->home = home;
		workingset_eviction(mm, page);
		lru_add(mm, page);
		cache_give(mm, slot, true);
		mm->stats.demoted++;
		mm->stats.moved[from][to]++;
		mm->stats.by_reason[MR_DEMOTION]++;
	}
}

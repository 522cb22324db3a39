/* SPDX-License-Identifier: MIT */
/* The state of mm, and what fork() does to it. */
#include "mm/mm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

int mm_init(struct mm *mm, struct mmu *mmu, struct node_table *nodes, struct region *r)
{
	mm->mmu = mmu;
	mm->nodes = nodes;
	mm->region = r;
	mm->migrate = LOCK_INIT(RANK_MIGRATE);
	mm->lock = LOCK_INIT(RANK_MM);
	mm->recycle = true;
	mm->heir = -1;
	mm->excluded.clean_leaf = UINT64_MAX;
	mm->place.initial = (struct task){ .home = -1, .pol.home = -1 };
	mm->line = region_alloc(r, LINE_BUFFER);
	mm->excluded.range = region_alloc(r, EXCLUSIONS_MAX * sizeof(struct exclusion));
	if (!mm->line || !mm->excluded.range)
		return -ENOMEM;
	return pgtable_init(&mm->pt, r);
}

void mm_exit(struct mm *mm)
{
	lock_acquire(&mm->migrate);
	window_close(mm);
	lock_release(&mm->migrate);
}

static void stores_freeze(struct mm *mm)
{
	for (uint32_t i = 0; i < NODE_MAX; i++)
		if (mm->far[i])
			far_freeze(mm->far[i]);
}

void stores_thaw(struct mm *mm)
{
	for (uint32_t i = NODE_MAX; i-- > 0;)
		if (mm->far[i])
			far_thaw(mm->far[i]);
}

int mm_far_init(struct mm *mm)
{
	if (mm->kept)
		return 0;
	if (!mm->mmu->ops->sees_forks(mm->mmu))
		return -EPERM;
	mm->fault_page = region_alloc(mm->region, (AHEAD_MOST + 1 + FAR_BATCH + 1 + 1) * PAGE_SIZE_);
	mm->doorbell = (uint64_t)region_alloc(mm->region, PAGE_SIZE_);
	if (!mm->fault_page || !mm->doorbell || mm->mmu->ops->track(mm->mmu, mm->doorbell, PAGE_SIZE_))
		return -ENOMEM;
	mm->fetch_pages = mm->fault_page + (AHEAD_MOST + 1) * PAGE_SIZE_;
	mm->heir_page = mm->fetch_pages + (FAR_BATCH + 1) * PAGE_SIZE_;
	mm->notes = region_alloc(mm->region, FORK_NOTES * sizeof(struct fork_note));
	if (!mm->notes)
		return -ENOMEM;
	workingset_init(mm);
	mm->kept = region_alloc(mm->region, sizeof(*mm->kept));
	return mm->kept ? 0 : -ENOMEM;
}

/*
 * fork() copies the books page by page while other threads run: nothing may change them meanwhile.
 * Jobs change them under mm->migrate only. The reader goes on reading (a fork event is among what it
 * must read) but leaves the books alone.
 */
void mm_fork_prepare(struct mm *mm)
{
	uint64_t signals = signals_block(); /* until the fork is over: a handler may want the locks */

	lock_acquire(&mm->migrate);
	lock_acquire(&mm->lock);
	departures_take(mm); /* the child does not hear of them, nor of touches */
	if (mm->observed)
		observe_locked(mm);
	__atomic_store_n(&mm->forking, true, __ATOMIC_RELAXED);
	mm->heir_had = false;
	slow_wake(mm);
	mm->forker = (uint32_t)sys0(SYS_gettid);
	mm->pid_parent = mm->pid;
	mm->forker_signals = signals;
	lock_release(&mm->lock);
	stores_freeze(mm);
}

/* The kernel lets the forking thread go when the event is read; who reads it has the lock until it is seen to. */
void mm_fork_seen(struct mm *mm)
{
	if (BUG_BACK(BUG_FAR_SEEN))
		return;
	lock_acquire(&mm->lock);
	lock_release(&mm->lock);
}

void mm_fork_parent(struct mm *mm)
{
	uint64_t signals = mm->forker_signals;

	stores_thaw(mm);
	lock_acquire(&mm->lock);
	mm->forking = false;
	away_settle(mm);
	mm->stats.forks++;
	lock_release(&mm->lock);
	lock_release(&mm->migrate);
	signals_restore(signals);
}

/*
 * For a fork whose begin comes before the program's own handlers: those may wait for threads that want mm->migrate, so
 * it is not kept. No page is in flight until the release.
 */
void mm_hold(struct mm *mm)
{
	uint64_t signals = signals_block();

	__atomic_fetch_add(&mm->holds, 1, __ATOMIC_SEQ_CST);
	lock_acquire(&mm->migrate);
	lock_release(&mm->migrate);
	signals_restore(signals);
}

void mm_release(struct mm *mm)
{
	__atomic_fetch_sub(&mm->holds, 1, __ATOMIC_SEQ_CST);
}

/* The parent's requests have lists of isolated pages that nobody will put back here. */
static void putback_all(struct mm *mm)
{
	uint64_t at = 0;
	struct page *leaf;

	memset(mm->lru, 0, sizeof(mm->lru));
	mm->languish = (struct page_list){ 0 };
	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		uint32_t nr = leaf->flags & PG_HUGE ? 1 : LEAF_PAGES;

		at += HUGE_SIZE_;
		for (uint32_t i = 0; i < nr; i++) {
			struct page *page = &leaf[i];
			bool last = i == nr - 1;

			page->flags &= PG_PRESENT | PG_HUGE | PG_SWAPPED | PG_AWAY | PG_LEFT | PG_LAZY;
			if (page->flags & (PG_PRESENT | PG_AWAY)) {
				page->refs = 1;
				lru_add(mm, page);
			} else if (page->refs) {
				page->refs = 0;
				page->flags = 0;
				page_unuse(&mm->pt, page);
				if (!last && !page_find(&mm->pt, at - HUGE_SIZE_))
					break; /* the leaf went with its last page */
			}
		}
	}
}

/*
 * The stores came along. Until the child's own mmu tracks what is away the parent answers for it; so first all that can
 * fail, then the parent is told to let go (it sees the touch of the doorbell), then the tracking. An error before that
 * means that the parent fills everything; behind it there is no way back.
 */
static int away_inherit(struct mm *mm)
{
	int err;

	for (uint32_t i = 0; i < NODE_MAX; i++) {
		err = mm->far[i] ? far_fork_child(mm->far[i]) : 0;

		if (err)
			return err;
	}
	if (!mm->kept)
		return 0;
	err = mm->pt.away ? away_take_over(mm) : 0;
	stranded_retry(mm);
	sys3(SYS_madvise, mm->doorbell, PAGE_SIZE_, MADV_DONTNEED);
	if (err || kept_track_again(mm) || cache_track_again(mm)) {
		base_log("a forked child could not have back what is away: it ends", "");
		sys2(SYS_kill, sys0(SYS_getpid), SIGKILL);
	}
	return track_soon(mm, mm->doorbell, PAGE_SIZE_);
}

int mm_fork_child(struct mm *mm, struct mmu *mmu)
{
	mm->mmu = mmu;
	mm->migrate = LOCK_INIT(RANK_MIGRATE);
	mm->lock = LOCK_INIT(RANK_MM);
	mm->forking = false;
	memset(&mm->place.departures, 0, sizeof(mm->place.departures)); /* one may have been half told */
	mm->window = (struct span){ 0 };
	mm->window_torn = false;
	mm->nr_strays = 0;
	mm->batch.nr = mm->batch.want = 0;
	node_forget_arenas(mm->nodes);
	if (mm->users || mm->slow.nr || mm->slow.busy)
		putback_all(mm);
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		mm->stranded[i].busy = false; /* who reads it is the parent's */
	memset(&mm->slow, 0, sizeof(mm->slow));
	mm->users = 0;
	memset(&mm->stats, 0, sizeof(mm->stats));
	mm->heir = -1;
	mm->fetch.nr = 0;
	mm->reclaim = (struct reclaim){ .evicted = mm->reclaim.evicted };
	memset(&mm->throttle, 0, sizeof(mm->throttle)); /* who waits there is the parent's */
	return away_inherit(mm);
}

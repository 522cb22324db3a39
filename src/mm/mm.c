/* SPDX-License-Identifier: MIT */
/* The state of mm, and what fork() does to it. */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

int mm_init(struct mm *mm, struct mmu *mmu, struct node_table *nodes, struct region *r)
{
	mm->mmu = mmu;
	mm->nodes = nodes;
	mm->region = r;
	mm->migrate = LOCK_INIT(RANK_MIGRATE);
	mm->lock = LOCK_INIT(RANK_MM);
	mm->recycle = true;
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
	mm->forker = (uint32_t)sys0(SYS_gettid);
	mm->forker_signals = signals;
	lock_release(&mm->lock);
}

void mm_fork_parent(struct mm *mm)
{
	uint64_t signals = mm->forker_signals;

	lock_acquire(&mm->lock);
	mm->forking = false;
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
	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		uint32_t nr = leaf->flags & PG_HUGE ? 1 : LEAF_PAGES;

		at += HUGE_SIZE_;
		for (uint32_t i = 0; i < nr; i++) {
			struct page *page = &leaf[i];
			bool last = i == nr - 1;

			page->flags &= PG_PRESENT | PG_HUGE | PG_SWAPPED;
			if (page->flags & PG_PRESENT) {
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

void mm_fork_child(struct mm *mm, struct mmu *mmu)
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
	if (mm->users)
		putback_all(mm);
	mm->users = 0;
	memset(&mm->stats, 0, sizeof(mm->stats));
}

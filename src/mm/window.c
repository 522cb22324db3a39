/* SPDX-License-Identifier: MIT */
/*
 * The window: the part of managed memory that is tracked now. Only there do first touches trap and
 * munmap and its kin report, so it is kept small, moves along with the migration, and is closed when
 * nothing is under way: an idle engine costs nothing.
 */
#include "mm/mm.h"

#include <errno.h>

#define WINDOW (64UL << 20)	/* aligned, so that no THP is cut in two */

struct untrack {
	uint64_t start, end;
};

static int untrack_piece(struct mm *mm, const struct area *a, void *arg)
{
	struct untrack *u = arg;
	uint64_t start = max_u64(a->start, u->start), end = min_u64(a->end, u->end);

	if (start < end)
		mm->mmu->ops->untrack(mm->mmu, start, end - start);
	return a->start >= u->end;
}

/*
 * What was mapped over a part of the window since may be of a kind that refuses the whole call: then
 * mapping by mapping.
 */
void untrack_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct untrack u = { start, end };

	if (mm->mmu->ops->untrack(mm->mmu, start, end - start))
		area_walk(mm, untrack_piece, &u);
}

void window_close(struct mm *mm)
{
	struct span w;

	lock_acquire(&mm->lock);
	BUG_ON(mm->batch.nr);
	w = mm->window;
	mm->window = (struct span){ 0 };
	mm->window_torn = false;
	lock_release(&mm->lock);
	if (w.start < w.end)
		untrack_range(mm, w.start, w.end);
	window_strays(mm);
}

void window_strays(struct mm *mm)
{
	struct span stray[STRAYS];
	uint32_t nr;

	lock_acquire(&mm->lock);
	nr = mm->nr_strays;
	for (uint32_t i = 0; i < nr; i++)
		stray[i] = mm->stray[i];
	mm->nr_strays = 0;
	lock_release(&mm->lock);
	for (uint32_t i = 0; i < nr; i++)
		untrack_range(mm, stray[i].start, stray[i].end);
}

int window_open(struct mm *mm, const struct span *span, uint64_t addr)
{
	uint64_t start = max_u64(span->start, ALIGN_DOWN(addr, WINDOW));
	uint64_t end = min_u64(span->end, ALIGN_DOWN(addr, WINDOW) + WINDOW);
	int err;

	if (mm->window.start == start && mm->window.end == end && !mm->window_torn)
		return 0;
	window_close(mm);
	err = mm->mmu->ops->track(mm->mmu, start, end - start);
	if (err)
		return err == -EBUSY || err == -ENOMEM ? err : -EAGAIN;
	lock_acquire(&mm->lock);
	mm->window = (struct span){ .start = start, .end = end };
	lock_release(&mm->lock);
	return 0;
}

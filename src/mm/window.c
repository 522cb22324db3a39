/* SPDX-License-Identifier: MIT */
/*
 * The window: the mapping that is tracked now. Only there do first touches trap and munmap and its
 * kin report; it moves along with the migration and is closed when nothing is under way: an idle
 * engine costs nothing.
 *
 * Always a whole mapping: a part would split it, and an mremap() by the program across the two parts,
 * which realloc() does, would fail as it never does without us.
 */
#include "mm/mm.h"

#include <errno.h>

#define WHOLE_TRIES 4

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
 * mapping by mapping. Both locks held: no event may be read between what is known and what is done.
 */
void untrack_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct untrack u = { start, end };
	uint64_t from, to;

	/* a mapping that has grown took its tracking along; what pages are away from stays tracked */
	if (!mm->mmu->ops->area(mm->mmu, end - PAGE_SIZE_, &from, &to) && to > end)
		u.end = kept_next(mm, end, to);
	if (mm->mmu->ops->untrack(mm->mmu, u.start, u.end - u.start))
		area_walk(mm, untrack_piece, &u);
	/* or grew just now: what has grown is then a mapping of its own behind the end */
	if (!mm->mmu->ops->area(mm->mmu, u.end, &from, &to) && from == u.end && !kept_overlaps(mm, from, to))
		mm->mmu->ops->untrack(mm->mmu, from, to - from);
}

/*
 * Where pages are away the whole of it stays tracked. What of it is not among what is kept is no part of that mapping
 * any more, and what is mapped there by now is not tracked.
 */
static void untrack_unless_kept(struct mm *mm, uint64_t start, uint64_t end)
{
	lock_acquire(&mm->lock);
	if (!kept_overlaps(mm, start, end))
		untrack_range(mm, start, end);
	lock_release(&mm->lock);
}

static void strays_close(struct mm *mm)
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
		untrack_unless_kept(mm, stray[i].start, stray[i].end);
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
		untrack_unless_kept(mm, w.start, w.end);
	strays_close(mm);
}

/*
 * The program discards without pause, and moves in are refused as long as an event is under way. Only
 * tracked memory has events: leave nothing tracked but what lies between the pages that are out. Not if one of
 * them has followed its mapping out of the window: an mremap() whose event is not read yet may have carried it
 * back, or to anywhere between, and a page that is out where nothing is tracked is lost. For the same reason not where
 * others are away.
 */
void window_narrow(struct mm *mm)
{
	struct batch *b = &mm->batch;
	uint64_t first = mm->window.end, last = mm->window.start;

	for (uint32_t i = 0; i < b->nr; i++)
		if (b->state[i] == SLOT_OUT) {
			first = min_u64(first, b->addr[i]);
			last = max_u64(last, b->addr[i] + b->unit);
		}
	if (first < mm->window.start || last > mm->window.end || kept_overlaps(mm, mm->window.start, mm->window.end))
		return;
	if (first < last && first > mm->window.start)
		mm->mmu->ops->untrack(mm->mmu, mm->window.start, first - mm->window.start);
	if (first < last && last < mm->window.end)
		mm->mmu->ops->untrack(mm->mmu, last, mm->window.end - last);
	mm->window_torn = true;
}

/* The mapping as it is now; an older kernel cannot say, then as it was when last looked at. */
static int window_bounds(struct mm *mm, const struct span *span, uint64_t addr, struct span *w)
{
	int err = mm->mmu->ops->area(mm->mmu, addr, &w->start, &w->end);

	if (err == -ENOTTY) {
		w->start = span->start;
		w->end = span->end;
		return 0;
	}
	return err ? -EAGAIN : 0;
}

static bool area_holds(struct mm *mm, uint64_t addr)
{
	uint64_t start, end;

	return !mm->mmu->ops->area(mm->mmu, addr, &start, &end);
}

/* What is away there must not be without tracking for a moment. */
static bool kept_here(struct mm *mm, const struct span *w)
{
	bool kept;

	lock_acquire(&mm->lock);
	kept = kept_overlaps(mm, w->start, w->end);
	lock_release(&mm->lock);
	return kept;
}

/* Before it is tracked: an event of it tears it from its first moment on. */
static void window_set(struct mm *mm, const struct span *w)
{
	lock_acquire(&mm->lock);
	mm->window = *w;
	mm->window_torn = false;
	lock_release(&mm->lock);
}

/*
 * The mapping may have grown between the question and the answer's use: then only a part of it is
 * tracked, which must not be. Where a neighbour touches it, look again without tracking.
 */
static int track_whole(struct mm *mm, const struct span *span, uint64_t addr, struct span *w)
{
	struct span now;
	int err;

	for (int i = 0; i < WHOLE_TRIES; i++) {
		window_set(mm, w);
		err = mm->mmu->ops->track(mm->mmu, w->start, w->end - w->start);
		if (err || kept_here(mm, w) || !(area_holds(mm, w->end) || area_holds(mm, w->start - PAGE_SIZE_)))
			return err;
		mm->mmu->ops->untrack(mm->mmu, w->start, w->end - w->start);
		err = window_bounds(mm, span, addr, &now);
		if (err)
			return err;
		if (now.start == w->start && now.end == w->end)
			return mm->mmu->ops->track(mm->mmu, w->start, w->end - w->start);
		w->start = now.start;
		w->end = now.end;
	}
	return -EAGAIN;
}

int window_open(struct mm *mm, const struct span *span, uint64_t addr)
{
	struct span w = { .class = span->class };
	int err;

	if (addr >= mm->window.start && addr < mm->window.end && !mm->window_torn)
		return 0;
	window_close(mm);
	err = window_bounds(mm, span, addr, &w);
	if (!err)
		err = track_whole(mm, span, addr, &w);
	if (!err)
		return 0;
	window_set(mm, &(struct span){ 0 });
	return err == -EBUSY || err == -ENOMEM ? err : -EAGAIN;
}

int window_keep(struct mm *mm)
{
	int err;

	lock_acquire(&mm->lock);
	err = mm->window_torn ? -EAGAIN : kept_add(mm, mm->window.start, mm->window.end);
	lock_release(&mm->lock);
	return err;
}

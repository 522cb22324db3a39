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

void window_tear(struct mm *mm, uint64_t start, uint64_t end)
{
	if (start < mm->window.end && end > mm->window.start)
		mm->window_torn = true;
}

struct untrack {
	uint64_t start, end;
};

static int untrack_piece(struct mm *mm, const struct area *a, void *arg)
{
	struct untrack *u = arg;
	uint64_t start = max_u64(a->start, u->start), end = min_u64(a->end, u->end);

	if (start < end && a->kind != AREA_OWN)
		mm->mmu->ops->untrack(mm->mmu, start, end - start);
	return a->start >= u->end;
}

static int track_piece(struct mm *mm, const struct area *a, void *arg)
{
	struct untrack *u = arg;
	uint64_t start = max_u64(a->start, u->start), end = min_u64(a->end, u->end);

	if (start < end && a->kind != AREA_OWN && !mm->mmu->ops->track(mm->mmu, start, end - start))
		kept_add(mm, start, end);
	return a->start >= u->end;
}

/*
 * What was mapped over a part of the window since may be of a kind that refuses the whole call: then
 * mapping by mapping. Both locks held: no event may be read between what is known and what is done.
 *
 * An mremap() whose event is not read yet may have carried pages that are away to there: as long as a change is under
 * way it is tracked again, and kept; its thread goes on when the event is read. One that comes later brings its
 * tracking. Never what is the engine's own: that may lie by now where something was unmapped.
 */
void untrack_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct untrack u = { start, end };
	uint64_t from, to;

	/* a mapping that has grown took its tracking along; what pages are away from stays tracked */
	if (!mm->mmu->ops->area(mm->mmu, end - PAGE_SIZE_, &from, &to) && to > end &&
	    !region_owns(mm->region, from, to))
		u.end = kept_next(mm, end, to);
	if (region_owns(mm->region, u.start, u.end) || mm->mmu->ops->untrack(mm->mmu, u.start, u.end - u.start))
		area_walk(mm, untrack_piece, &u);
	/* or grew just now: what has grown is then a mapping of its own behind the end */
	if (!mm->mmu->ops->area(mm->mmu, u.end, &from, &to) && from == u.end && !kept_overlaps(mm, from, to) &&
	    !region_owns(mm->region, from, to)) {
		mm->mmu->ops->untrack(mm->mmu, from, to - from);
		u.end = to;
	}
	window_tear(mm, u.start, u.end); /* one that is open between two batches */
	if (!(mm->pt.away || mm->nr_stranded) || !mm->mmu->ops->changing(mm->mmu))
		return;
	if (area_walk(mm, track_piece, &u) < 0 && !region_owns(mm->region, u.start, u.end)) /* what is tracked and not known to be is no harm */
		mm->mmu->ops->track(mm->mmu, u.start, u.end - u.start);
}

/* What is one mapping with what is kept is tracked as that is, and kept with it. */
static void kept_widen(struct mm *mm, uint64_t addr)
{
	uint64_t from, to;

	if (kept_overlaps(mm, addr, addr + PAGE_SIZE_) && !mm->mmu->ops->area(mm->mmu, addr, &from, &to))
		kept_add(mm, from, to);
}

/*
 * Where pages are away a mapping stays tracked as a whole. In a range that has been torn what is not kept may be
 * another mapping by now, which is not tracked: nothing of it is kept for the sake of its neighbours.
 */
static void untrack_unless_kept(struct mm *mm, uint64_t start, uint64_t end, bool torn)
{
	uint64_t kept;

	lock_acquire(&mm->lock);
	if (BUG_BACK(BUG_FAR_UNTRACK)) {
		untrack_range(mm, start, end);
		start = end;
	}
	if ((!torn || BUG_BACK(BUG_FAR_KEPT)) && kept_overlaps(mm, start, end) && !kept_add(mm, start, end))
		start = end;
	for (uint64_t at = start; at < end; at = kept_end(mm, kept, end)) {
		kept = kept_next(mm, at, end);
		if (kept < end) {
			kept_widen(mm, kept);
			kept = kept_next(mm, at, end);
			kept_widen(mm, kept_end(mm, kept, end) - PAGE_SIZE_);
		}
		if (at < kept)
			untrack_range(mm, at, kept);
	}
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
		untrack_unless_kept(mm, stray[i].start, stray[i].end, true);
}

void window_close(struct mm *mm)
{
	struct span w;
	bool torn;

	lock_acquire(&mm->lock);
	BUG_ON(mm->batch.nr);
	w = mm->window;
	torn = mm->window_torn;
	mm->window = (struct span){ 0 };
	mm->window_torn = false;
	lock_release(&mm->lock);
	if (w.start < w.end)
		untrack_unless_kept(mm, w.start, w.end, torn);
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

int window_keep(struct mm *mm, uint64_t addr)
{
	int err = -EAGAIN;

	lock_acquire(&mm->lock);
	if (addr >= mm->window.start && addr < mm->window.end && !mm->window_torn)
		err = kept_add(mm, mm->window.start, mm->window.end);
	lock_release(&mm->lock);
	return err;
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

/*
 * The mapping may have grown between the question and the answer's use: then only a part of it is
 * tracked, which must not be. Where a neighbour touches it, look again without tracking.
 */
static int track_whole(struct mm *mm, const struct span *span, uint64_t addr, struct span *w)
{
	struct span now;
	int err;

	for (int i = 0; i < WHOLE_TRIES; i++) {
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
	lock_acquire(&mm->lock);
	mm->window = (struct span){ .end = UINT64_MAX }; /* an event that is read before it is known tears it all the same */
	lock_release(&mm->lock);
	err = window_bounds(mm, span, addr, &w);
	if (!err)
		err = track_whole(mm, span, addr, &w);
	lock_acquire(&mm->lock);
	mm->window = w;
	if (err) {
		mm->window = (struct span){ 0 };
		mm->window_torn = false;
	} else if (mm->window_torn) {
		err = -EAGAIN;
	}
	lock_release(&mm->lock);
	return !err || err == -EBUSY || err == -ENOMEM ? err : -EAGAIN;
}

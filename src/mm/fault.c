/* SPDX-License-Identifier: MIT */
/*
 * Faults and events: what the kernel reports of tracked memory.
 *
 * A touch of a page in flight needs no answer: the thread sleeps in the kernel until the page is moved
 * in, which wakes it, and it redoes its fault (do_swap_page() waiting on a migration entry). A touch
 * of a page that never was gets a page of zeroes.
 *
 *   program thread                      reader / migration (mm->lock held)
 *   ------------------------------      ----------------------------------------------
 *   munmap: mapping goes, waits         read event; page off the books, SLOT_GONE
 *   madvise: waits, then pages go       (a move meanwhile: refused, -EAGAIN)
 *   ... is scheduled again ...          moves are allowed again; nothing of the range comes back
 */
#include "mm/mm.h"

#include <errno.h>

#define DRAIN_MAX 256
#define DRAIN_FEW 4

static struct batch *in_flight(struct mm *mm)
{
	return mm->batch.nr ? &mm->batch : NULL;
}

static bool batch_holds(struct mm *mm, uint64_t addr)
{
	struct batch *b = in_flight(mm);

	for (uint32_t i = 0; b && i < b->nr; i++)
		if (b->state[i] == SLOT_OUT && addr >= b->addr[i] && addr < b->addr[i] + b->unit)
			return true;
	return false;
}

/* Where all nodes are bound a page of zeroes is to come from the node that its toucher would have had. */
static int fill_node(struct mm *mm, const struct mmu_event *ev)
{
	struct toucher who = toucher_of(mm, ev->tid, ev->tid ? thread_cpu(ev->tid) : -1);
	int node = place_page(mm, ev->addr, 1, &who, HOST_UNKNOWN);

	host_near(mm, node); /* a range's own policy is the kernel's to keep */
	return node;
}

static void on_fault(struct mm *mm, const struct mmu_event *ev)
{
	struct page *page = page_find(&mm->pt, ev->addr), *away;
	int err, node = NODE_BY_POLICY;

	if (batch_holds(mm, ev->addr)) {
		mm->stats.faults_waited++;
		return;
	}
	if (mm->reclaim.over)
		reclaim_direct(mm);
	if (mm->nr_stranded && stranded_at(mm, ev->addr)) {
		stranded_fault(mm, ev->addr);
		return;
	}
	away = mm->pt.away ? away_at(mm, ev->addr) : NULL;
	if (away) {
		away_fault(mm, away, ev);
		return;
	}
	if (throttle_hold(mm, ev))
		return;
	if (ev->write && node_all_host(mm->nodes))
		node = fill_node(mm, ev);
	err = (ev->write ? mm->mmu->ops->fill_zero : mm->mmu->ops->map_zero)(mm->mmu, ev->addr);
	if (err == -ENOMEM) {
		/* the kernel has means to find memory that we have not */
		mm->mmu->ops->untrack(mm->mmu, ev->addr, PAGE_SIZE_);
		kept_cut(mm, ev->addr, ev->addr + PAGE_SIZE_);
		mm->window_torn = true;
	}
	if (err) {
		/* somebody was faster, the mapping has gone, or an event is unread: let it fault again */
		mm->mmu->ops->wake(mm->mmu, ev->addr, PAGE_SIZE_);
		return;
	}
	mm->stats.faults_filled++;
	/* where it matters who touched it, the record of the touch enters it */
	if (mm->forking || !ev->write || __atomic_load_n(&mm->observed, __ATOMIC_RELAXED))
		return;
	if (region_owns(mm->region, ev->addr, ev->addr + 1) || (page && page->refs))
		return;
	page = page_enter(mm, ev->addr, node, PG_FRESH);
	if (page)
		page_seen(mm, page, host_of_page(mm, ev->addr));
}

/* What was there when it was held may have changed in every way since. */
void fault_again(struct mm *mm, const struct mmu_event *ev)
{
	on_fault(mm, ev);
}

/* A huge page in flight that is only partly meant is taken apart first. */
static void batch_part(struct mm *mm, uint64_t start, uint64_t end)
{
	struct batch *b = in_flight(mm);

	if (b && b->unit == HUGE_SIZE_ && b->state[0] == SLOT_OUT && start < b->addr[0] + b->unit && end > b->addr[0] &&
	    (start > b->addr[0] || end < b->addr[0] + b->unit))
		batch_explode(mm);
}

static void discards_expire(struct mm *mm)
{
	uint64_t now = clock_ns();

	for (uint32_t i = 0; i < mm->nr_discards;)
		if (mm->discard[i].until < now)
			mm->discard[i] = mm->discard[--mm->nr_discards];
		else
			i++;
}

/* The entry that a new range joins: one that it overlaps, else, if there is no room, the one that it widens least. */
static struct discard *discard_near(struct mm *mm, uint64_t start, uint64_t end)
{
	struct discard *near = NULL;
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < mm->nr_discards; i++) {
		struct discard *d = &mm->discard[i];
		uint64_t wider = max_u64(end, d->end) - min_u64(start, d->start) - (d->end - d->start);

		if (start < d->end && end > d->start)
			return d;
		if (mm->nr_discards == DISCARDS_MAX && wider < least) {
			least = wider;
			near = d;
		}
	}
	return near;
}

/* Ranges only grow together: more pages wait, none is forgotten. */
static void discard_note(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t until = clock_ns() + DISCARD_NS;
	struct discard *d;

	discards_expire(mm);
	d = discard_near(mm, start, end);
	if (d)
		*d = (struct discard){ min_u64(start, d->start), max_u64(end, d->end), until, d->nr + 1 };
	else
		mm->discard[mm->nr_discards++] = (struct discard){ start, end, until, 1 };
}

/* What stands for one event is over with its call; who waits behind others cannot be told from them. */
void discard_done(struct mm *mm, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < mm->nr_discards;)
		if (mm->discard[i].nr == 1 && start <= mm->discard[i].start && end >= mm->discard[i].end)
			mm->discard[i] = mm->discard[--mm->nr_discards];
		else
			i++;
}

bool discarded_at(struct mm *mm, uint64_t start, uint64_t end)
{
	if (!mm->nr_discards)
		return false;
	discards_expire(mm);
	for (uint32_t i = 0; i < mm->nr_discards; i++)
		if (start < mm->discard[i].end && end > mm->discard[i].start)
			return true;
	return false;
}

static void on_gone(struct mm *mm, const struct mmu_event *ev)
{
	struct batch *b;

	batch_part(mm, ev->addr, ev->end);
	b = in_flight(mm);
	if (ev->type == MMU_EV_REMOVE && BUG_BACK(BUG_STALE))
		b = NULL;
	for (uint32_t i = 0; b && i < b->nr; i++)
		if (b->state[i] == SLOT_OUT && b->addr[i] < ev->end && b->addr[i] + b->unit > ev->addr) {
			b->state[i] = SLOT_GONE;
			mm->mmu->ops->wake(mm->mmu, b->addr[i], b->unit);
		}
	stranded_gone(mm, ev->addr, ev->end);
	if (!mm->forking) /* else the next look finds out */
		range_lost(mm, ev->addr, ev->end);
	else
		away_leave(mm, ev->addr, ev->end);
	if (ev->type == MMU_EV_REMOVE) {
		discard_note(mm, ev->addr, ev->end);
	} else {
		window_tear(mm, ev->addr, ev->end); /* what is mapped there next is not tracked */
		kept_cut(mm, ev->addr, ev->end);
	}
}

/* Pages in flight follow to the new address; true: there were some. */
static bool batch_follow(struct mm *mm, const struct mmu_event *ev)
{
	struct batch *b;
	bool any = false;

	batch_part(mm, ev->addr, ev->end);
	b = in_flight(mm);
	for (uint32_t i = 0; b && i < b->nr; i++) {
		if (b->state[i] != SLOT_OUT || b->addr[i] < ev->addr || b->addr[i] >= ev->end)
			continue;
		if (b->page[i]) {
			/* the entry stays behind; the page is entered anew when it has arrived */
			page_gone(mm, b->page[i]);
			b->page[i]->flags &= (uint16_t) ~(PG_LOCKED | PG_ISOLATED | PG_HUGE);
			b->page[i]->refs = 0;
			page_unuse(&mm->pt, b->page[i]);
			b->page[i] = NULL;
			node_uncharge(mm->nodes, b->dest[i], b->unit / PAGE_SIZE_);
		}
		mm->mmu->ops->wake(mm->mmu, b->addr[i], b->unit);
		b->addr[i] += ev->to - ev->addr;
		any = true;
	}
	return any;
}

/* A huge page arrives in pieces in the books; the next look finds out whether it still is one. */
void books_follow(struct mm *mm, uint64_t start, uint64_t end, uint64_t dest)
{
	for (uint64_t addr = start; addr < end; addr += PAGE_SIZE_) {
		struct page *page = page_find(&mm->pt, addr), *to;
		int node;

		if (page && page->flags & PG_HUGE && page->flags & PG_LRU) {
			page_split(mm, page);
			page = page_find(&mm->pt, addr);
		}
		if (page && page->flags & PG_AWAY) {
			away_follow(mm, page, addr - start + dest);
			continue;
		}
		if (!page || !(page->flags & PG_PRESENT) || page->flags & PG_HUGE)
			continue;
		node = page->node;
		page_gone(mm, page);
		to = page_find(&mm->pt, addr - start + dest);
		if (!to || !(to->flags & (PG_PRESENT | PG_HUGE) || to->refs))
			page_enter(mm, addr - start + dest, node, 0);
	}
	range_gone(mm, start, end);
}

static void on_remap(struct mm *mm, const struct mmu_event *ev)
{
	uint64_t to_end = ev->to + (ev->end - ev->addr);
	bool flying = batch_follow(mm, ev);

	window_tear(mm, ev->addr, ev->end);
	window_tear(mm, ev->to, to_end);
	if (!mm->forking)
		books_follow(mm, ev->addr, ev->end, ev->to);
	else
		away_carry(mm, ev);
	stranded_follow(mm, ev->addr, ev->end, ev->to);
	if (kept_overlaps(mm, ev->addr, ev->end)) {
		kept_cut(mm, ev->addr, ev->end);
		/* the tracking came along, but what was there before may have been untracked just then */
		mm->mmu->ops->track(mm->mmu, ev->to, to_end - ev->to);
		kept_add(mm, ev->to, to_end);
		return;
	}
	/*
	 * The tracking went along. It stays until the window is closed: the program may bring the piece
	 * back, and it must then be one mapping with its neighbours again.
	 */
	if (mm->nr_strays < STRAYS) {
		mm->stray[mm->nr_strays++] = (struct span){ .start = ev->to, .end = to_end };
	} else if (mm->pt.away && !kept_add(mm, ev->to, to_end)) {
		return; /* others may have been carried to there since */
	} else if (!flying) {
		mm->mmu->ops->untrack(mm->mmu, ev->to, to_end - ev->to);
	} else {
		struct span *last = &mm->stray[STRAYS - 1];

		last->start = min_u64(last->start, ev->to);
		last->end = max_u64(last->end, to_end);
	}
}

/*
 * A fork. The child of one that did not pass through libc has no engine, and holes where pages are in flight: fill
 * them from the slots that the pages left into, and all that is away; then let the child go. That of one that did
 * builds an engine of its own, and is served here until that can take over.
 */
static void on_fork(struct mm *mm, const struct mmu_event *ev)
{
	struct batch *b = in_flight(mm);

	mm->stats.forks++;
	if (BUG_BACK(BUG_FAR_NOTES))
		mm->heirs.notes = mm->nr_notes;
	/* once a fork: when that one is served the books are about to change, and a raw clone() may come just then */
	if (mm->forking && mm->pt.away && (BUG_BACK(BUG_FAR_HEIRS) ? mm->heir < 0 : !mm->heir_had)) {
		mm->heir_had = true;
		legacy_begin(mm, &mm->heirs, ev->child, mm->heir_page);
		__atomic_store_n(&mm->heir, ev->child, __ATOMIC_RELEASE);
		return;
	}
	legacy_begin(mm, &mm->legacy, ev->child, mm->fault_page);
	for (uint32_t i = 0; b && i < b->nr && !BUG_BACK(BUG_FORK_ORPHAN); i++)
		for (uint64_t at = 0; b->state[i] == SLOT_OUT && at < b->unit; at += PAGE_SIZE_)
			legacy_give(mm, &mm->legacy, b->addr[i] + at, (const void *)(b->out + i * b->unit + at));
	away_bequeath(mm, &mm->legacy);
	mm->mmu->ops->close_child(mm->mmu, ev->child);
}

bool mm_drain_events_locked(struct mm *mm)
{
	static void (*const handler[])(struct mm *mm, const struct mmu_event *ev) = {
		[MMU_EV_FAULT] = on_fault, [MMU_EV_REMOVE] = on_gone, [MMU_EV_UNMAP] = on_gone,
		[MMU_EV_REMAP] = on_remap, [MMU_EV_FORK] = on_fork,
	};
	struct mmu_event ev;
	int i;

	if (!mm->forking)
		departures_take(mm); /* before what is touched there now is entered */
	/* what comes back has others leave, in between */
	for (i = 0; i < DRAIN_MAX && mm->mmu->ops->read_event(mm->mmu, &ev) > 0; i++) {
		mm->stats.events[ev.type]++;
		handler[ev.type](mm, &ev);
		if (i >= DRAIN_FEW && reclaim_pressed(mm))
			break;
	}
	return i > 0;
}

bool mm_drain_events(struct mm *mm)
{
	bool any;

	lock_acquire(&mm->lock);
	any = mm_drain_events_locked(mm);
	lock_release(&mm->lock);
	return any;
}

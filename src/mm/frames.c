/* SPDX-License-Identifier: MIT */
/*
 * The stock of free frames: what a migration vacates stays in its node's arena, for the next one that comes there, as
 * the kernel's own migration takes pages that have just become free. It is bounded by the arena; and when nothing has
 * been migrated for a while it goes back to the host (stock_return), so that a node which was emptied is empty.
 */
#include "mm/mm.h"

#include <errno.h>

#define ROOM_MOST 512U		/* slots made empty at once; the largest batch fits */
#define SEEN_MOST 512U	/* frames; not less than that batch */
#define SEEN_NS 20000000ULL
#define RETURN_BYTES (4UL << 20)	/* at once, with the books locked */

/* What cannot be dropped is not empty, though it counts so: slots_ready() sees to it before they are used. */
void slots_drop(struct mm *mm, struct half *h, uint64_t at, uint64_t len)
{
	if (mm->mmu->ops->drop(mm->mmu, at, len))
		h->spoiled = true;
}

static void frames_cut(struct mm *mm, struct arena *a, struct half *h, uint32_t full)
{
	uint32_t nr = h->full - full;

	slots_drop(mm, h, h->base + full * a->unit, nr * a->unit);
	mm->stats.dropped += nr * (a->unit / PAGE_SIZE_);
	h->full = full;
}

/*
 * They came from pages that lay there by the books of a node, and the kernel may have moved them since: it is asked
 * when they are to be used, for some batches at once.
 */
bool frames_there(struct mm *mm, struct arena *a, struct half *h, uint32_t nr)
{
	while (h->full >= nr && a->host >= 0) {
		uint32_t some = (uint32_t)min_u64(h->full, SEEN_MOST), first = h->full - some, good;

		if (h->full - nr >= h->seen && clock_ns() < h->seen_until)
			return true;
		good = host_frames(mm, a, h->base + first * a->unit, some);
		h->seen = first;
		h->seen_until = clock_ns() + SEEN_NS;
		if (good == some)
			return true;
		frames_cut(mm, a, h, first + good);
	}
	return h->full >= nr;
}

void frame_add(struct half *h)
{
	h->full++;
	h->seen = UINT32_MAX;
}

int frames_ready(struct mm *mm, struct arena *a, struct half *h, uint32_t nr)
{
	uint64_t from = h->base + h->full * a->unit, len = (nr - h->full) * a->unit, pos = from;
	struct mmu_run run;
	int err = mm->mmu->ops->populate(mm->mmu, from, len);

	if (err) {
		h->spoiled = true; /* some may be there */
		return -ENOMEM;
	}
	if (a->unit == HUGE_SIZE_ && (mm->mmu->ops->scan(mm->mmu, &pos, from + len, &run, 1) != 1 ||
				      !(run.bits & MMU_PG_HUGE) || run.end < from + len)) {
		slots_drop(mm, h, from, len);
		return -ENOMEM;
	}
	h->full = nr;
	h->seen = UINT32_MAX;
	return frames_there(mm, a, h, nr) ? 0 : -ENOMEM; /* the host node is full: some, or all, are another's */
}

int slots_ready(struct mm *mm, struct arena *a, struct half *h, uint32_t nr)
{
	uint32_t room = (uint32_t)min_u64(a->slots / 2, ROOM_MOST); /* for some batches at once */

	if (h->full > a->slots - nr)
		frames_cut(mm, a, h, (uint32_t)min_u64(a->slots - nr, a->slots - room));
	if (!h->spoiled)
		return 0;
	h->spoiled = false;
	slots_drop(mm, h, h->base + h->full * a->unit, (a->slots - h->full) * a->unit);
	return h->spoiled ? -ENOMEM : 0;
}

struct arena *arena_for(struct mm *mm, int node, enum arena_class class, bool huge)
{
	struct arena *a = node_arena(mm->nodes, node, class, huge);

	if (a && !a->tracked)
		a->tracked = !mm->mmu->ops->track(mm->mmu, arena_start(a), arena_bytes(a));
	return a && a->tracked ? a : NULL;
}

bool stock_return(struct mm *mm)
{
	for (uint32_t i = 0; i < mm->nodes->nr_arenas; i++)
		for (int k = 0; k < 2; k++) {
			struct arena *a = &mm->nodes->arena[i];
			struct half *h = &a->half[k];
			uint32_t nr = (uint32_t)min_u64(h->full, RETURN_BYTES / a->unit);

			if (!nr)
				continue;
			frames_cut(mm, a, h, h->full - nr);
			return true;
		}
	return false;
}

/* SPDX-License-Identifier: MIT */
/*
 * What belongs to the working set: each page has a level, how often it was found in use lately.
 *
 *   touched in the migration cache     in use while it was tested: a level up
 *   touched on a far node              a level up if it came back sooner than as many pages left as there are present
 *                                      (its refault distance, as in mm/workingset.c of the kernel): had the node been
 *                                      twice as large it would have stayed; two if after an eighth of that
 *   stored on a far node               not touched while it was tested: a level down
 *
 * A page goes around the list of its node by its level before it is tested again (.age). When it left is a count of
 * what has left, in eight bits, in the place of that. mm->lock held.
 */
#include "mm/mm.h"

#define SOON 8U

void workingset_init(struct mm *mm)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t n = 0; n < mm->nodes->nr; n++)
		if (!node_far(mm->nodes, (int)n) && mm->nodes->node[n].spec.bytes)
			least = min_u64(least, mm->nodes->node[n].spec.bytes / PAGE_SIZE_);
	mm->reclaim.step = stamp_step(least == UINT64_MAX ? 0 : least);
}

static uint8_t stamp(const struct mm *mm)
{
	return (uint8_t)(mm->reclaim.evicted / mm->reclaim.step);
}

void workingset_eviction(struct mm *mm, struct page *page)
{
	page->level = level_down(page->level);
	page->age = stamp(mm);
	mm->reclaim.evicted++;
}

void workingset_refault(struct mm *mm, struct page *page, bool touched)
{
	uint64_t distance = (uint8_t)(stamp(mm) - page->age) * mm->reclaim.step;

	if (touched && distance <= mm->pt.present) {
		page->level = level_up(page->level);
		if (distance <= mm->pt.present / SOON)
			page->level = level_up(page->level);
		mm->stats.refaults++;
	}
	page->age = level_rounds(page->level);
}

void workingset_activation(struct page *page)
{
	page->level = level_up(page->level);
	page->age = level_rounds(page->level);
}

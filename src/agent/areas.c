/* SPDX-License-Identifier: MIT */
/* Where every page is: the mappings of the process, with the engine's nodes. */
#include "agent/agent.h"

#include <errno.h>
#include <string.h>

static void count_managed(struct mm *mm, struct gw_area *out)
{
	uint64_t at = out->start;
	struct page *leaf;

	lock_acquire(&mm->lock);
	while ((leaf = leaf_next(&mm->pt, &at, out->end))) {
		uint64_t first = max_u64(at, out->start), last = min_u64(at + HUGE_SIZE_, out->end);

		at += HUGE_SIZE_;
		if (leaf->flags & PG_HUGE && leaf->flags & PG_PRESENT) {
			out->pages[leaf->node] += LEAF_PAGES;
			out->huge += LEAF_PAGES;
			continue;
		}
		for (uint64_t a = first; a < last; a += PAGE_SIZE_) {
			struct page *page = &leaf[a / PAGE_SIZE_ % LEAF_PAGES];

			if (!(page->flags & PG_PRESENT))
				continue;
			out->pages[page->node]++;
			out->swapped += !!(page->flags & PG_SWAPPED);
		}
	}
	lock_release(&mm->lock);
}

static void count_unmanaged(struct mm *mm, struct gw_area *out)
{
	struct mmu_run run[32];
	uint64_t pos = out->start;
	int n;

	while ((n = mm->mmu->ops->scan(mm->mmu, &pos, out->end, run, (int)ARRAY_SIZE(run))) > 0)
		for (int i = 0; i < n; i++) {
			uint64_t nr = (run[i].end - run[i].start) / PAGE_SIZE_;

			if (run[i].bits & MMU_PG_ZERO)
				continue;
			out->pages[0] += nr;
			out->huge += run[i].bits & MMU_PG_HUGE ? nr : 0;
			out->swapped += run[i].bits & MMU_PG_SWAPPED ? nr : 0;
		}
}

static int area_report(struct mm *mm, const struct area *area, void *arg)
{
	struct gw_job *job = arg;
	struct gw_area out = { .start = area->start, .end = area->end, .prot = area->prot, .offset = area->offset };
	int err = 0;

	if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED))
		return -ECANCELED;
	if (area->kind == AREA_OWN)
		return 0;
	str_cat(out.name, sizeof(out.name), area->name);
	str_cat(out.policy, sizeof(out.policy), "default");
	out.kind = area->kind == AREA_MANAGED ? 0 : 1 + (uint32_t)area->kind;
	if (area->kind == AREA_MANAGED)
		count_managed(mm, &out);
	else
		count_unmanaged(mm, &out);
	err = job->area_fn(&out, job->area_arg);
	return err;
}

int areas_run(struct gw_job *job)
{
	struct mm *mm = &job->e->mm;
	int err;

	lock_acquire(&mm->migrate);
	err = adopt_all(mm, NULL);
	if (!err)
		err = area_walk(mm, area_report, job);
	lock_release(&mm->migrate);
	job->left = err;
	return err;
}

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

			if (!(page->flags & (PG_PRESENT | PG_AWAY)))
				continue;
			out->pages[page->node]++;
			out->swapped += !!(page->flags & PG_SWAPPED);
		}
	}
	lock_release(&mm->lock);
}

static void count_others(struct mm *mm, struct gw_area *out)
{
	struct unmanaged u = { 0 };

	count_unmanaged(mm, out->start, out->end, &u);
	for (uint32_t n = 0; n < NODE_MAX; n++)
		out->pages[n] += u.pages[n];
	out->huge += u.huge;
	out->swapped += u.swapped;
}

/* The policy that holds at the start of a mapping's piece, whose end is brought down to where it changes. */
static void area_policy(struct mm *mm, struct gw_area *out)
{
	const struct range_policy *r;

	lock_acquire(&mm->lock);
	r = range_at(mm, out->start, &out->end);
	mpol_text(r ? &r->pol : &task_of(mm, mm->pid)->pol, out->policy, sizeof(out->policy));
	lock_release(&mm->lock);
}

static int piece_report(struct mm *mm, const struct area *area, struct gw_area *out, struct gw_job *job)
{
	if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED))
		return -ECANCELED;
	str_cat(out->name, sizeof(out->name), area->name);
	area_policy(mm, out);
	if (area->kind == AREA_MANAGED || area->kind == AREA_READONLY)
		count_managed(mm, out);
	else
		count_others(mm, out);
	return job->area_fn(out, job->area_arg);
}

static int area_report(struct mm *mm, const struct area *area, void *arg)
{
	int err = 0;

	if (area->kind == AREA_OWN)
		return 0;
	for (uint64_t at = area->start; at < area->end && !err;) {
		struct gw_area out = { .start = at,
				       .end = area->end,
				       .prot = area->prot,
				       .kind = area->kind == AREA_MANAGED ? 0 : 1 + (uint32_t)area->kind,
				       .offset = area->offset + (at - area->start) };

		err = piece_report(mm, area, &out, arg);
		at = out.end;
	}
	return err;
}

int areas_run(struct gw_job *job)
{
	struct mm *mm = &job->e->mm;
	int err;

	lock_acquire(&mm->migrate);
	err = adopt_all(mm, NULL);
	lock_acquire(&mm->lock);
	ranges_check(mm, 0, UINT64_MAX);
	lock_release(&mm->lock);
	if (!err)
		err = area_walk(mm, area_report, job);
	lock_release(&mm->migrate);
	job->left = err;
	return err;
}

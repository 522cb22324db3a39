/* SPDX-License-Identifier: MIT */
/* Page by page: do_move_pages(), with the statuses of move_pages(2). */
#include "mm/mm.h"

#include <errno.h>

static int new_page_wanted(struct mm *mm, struct page *page, void *private)
{
	(void)private;
	return node_charge(mm->nodes, page->want, page_nr(page)) ? page->want : -ENOMEM;
}

static bool zero_page_at(struct mm *mm, uint64_t addr)
{
	struct mmu_run run = { 0 };
	uint64_t pos = addr;

	return mm->mmu->ops->scan(mm->mmu, &pos, addr + PAGE_SIZE_, &run, 1) == 1 && run.bits & MMU_PG_ZERO;
}

static int page_status(struct mm *mm, uint64_t addr)
{
	struct span *span = span_find(mm, addr);
	struct page *page;
	bool unsure;
	int ret = -ENOENT;

	if (!span || span->kind == AREA_OWN)
		return -EFAULT;
	if (span->kind != AREA_MANAGED && span->kind != AREA_READONLY)
		return -EACCES;
	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (page && page->flags & (PG_PRESENT | PG_AWAY))
		ret = page->node;
	unsure = page && page->flags & PG_PRESENT && page->want >= WANT_LAST_LOOK;
	lock_release(&mm->lock);
	if (unsure && !count_present(mm, addr, addr + PAGE_SIZE_))
		ret = -ENOENT;
	return ret == -ENOENT && zero_page_at(mm, addr) ? -EFAULT : ret;
}

static int want_page(struct mm *mm, uint64_t addr, int node, struct page_list *list)
{
	const struct span *span = span_find(mm, addr);
	struct page *page;
	int ret = 0;

	if (node < 0 || (uint32_t)node >= mm->nodes->nr)
		return -ENODEV;
	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (!page || !(page->flags & (PG_PRESENT | PG_AWAY))) {
		ret = -ENOENT;
	} else if (page->node == node) {
		ret = node;
	} else if (span->kind == AREA_READONLY) {
		ret = -EACCES;
	} else if (page->flags & PG_LRU) {
		page->want = (uint8_t)node;
		page->err = 0;
		isolate_lru_page(mm, page, list);
	} else if (!(page->flags & PG_ISOLATED) || page->want != node) {
		ret = -EBUSY; /* another request has it */
	}
	lock_release(&mm->lock);
	return ret;
}

/* The surroundings of an address as they are now; the same as last time are not looked at twice. */
static int adopt_around(struct mm *mm, uint64_t addr, uint64_t *last)
{
	struct span *span = span_find(mm, addr);
	uint64_t start;

	if (!span)
		return 0;
	start = max_u64(ALIGN_DOWN(addr, HUGE_SIZE_), span->start);
	if (*last == start)
		return 0;
	*last = start;
	return adopt_part(mm, span, start, ALIGN_DOWN(addr, HUGE_SIZE_) + HUGE_SIZE_);
}

static int move_look(struct mm *mm, uint64_t count, void *const *pages, const int *nodes, int *status,
		     struct page_list *list)
{
	uint64_t last = 1;
	int err = spans_load(mm);

	node_rest(mm->nodes);
	if (!err)
		observe(mm);
	if (!err)
		err = exclude_refresh(mm);
	for (uint64_t i = 0; i < count && !err; i++)
		err = adopt_around(mm, ALIGN_DOWN((uint64_t)pages[i], PAGE_SIZE_), &last);
	observe(mm);
	for (uint64_t i = 0; i < count && !err; i++) {
		uint64_t addr = ALIGN_DOWN((uint64_t)pages[i], PAGE_SIZE_);

		status[i] = page_status(mm, addr);
		if (nodes && status[i] >= 0)
			status[i] = want_page(mm, addr, nodes[i], list);
	}
	return err;
}

static int final_status(struct mm *mm, uint64_t addr, int node)
{
	struct page *page;
	int ret;

	lock_acquire(&mm->lock);
	page = page_find(&mm->pt, addr);
	if (!page || !(page->flags & (PG_PRESENT | PG_AWAY)))
		ret = -ENOENT;
	else if (page->node == node || !page->err)
		ret = page->node;
	else
		ret = -page->err;
	lock_release(&mm->lock);
	return ret;
}

int do_move_pages(struct mm *mm, uint64_t count, void *const *pages, const int *nodes, int *status,
		  struct request *rq)
{
	struct page_list list = { 0 };
	int err;

	request_begin(rq);
	lock_acquire(&mm->migrate);
	err = move_look(mm, count, pages, nodes, status, &list);
	lock_release(&mm->migrate);
	if (nodes) {
		rq->progress->total = list.nr;
		migrate_pages(mm, &list, new_page_wanted, NULL, rq);
		migrate_rest(mm, &list, new_page_wanted, NULL, rq);
		fallback_run(mm, rq);
		migrate_over(mm);
	}
	for (uint64_t i = 0; nodes && i < count && !err; i++)
		if (status[i] >= 0)
			status[i] = final_status(mm, ALIGN_DOWN((uint64_t)pages[i], PAGE_SIZE_), nodes[i]);
	return err;
}

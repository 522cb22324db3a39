/* SPDX-License-Identifier: MIT */
/*
 * Out of their places into the migration cache, and nothing copied: what a page that goes far, and one that moves when
 * it is touched, have in common (try_to_unmap() with a migration cache; Schermerhorn's migrate-on-fault). mm->lock
 * held.
 */
#include "mm/mm.h"

#include <errno.h>

/* The run at the head of the list that one move can take: what follows each other below end. */
static uint32_t run_at_head(struct mm *mm, struct page_list *list, uint64_t end, struct page **page)
{
	struct page *next = page_by_id(&mm->pt, list->head);
	uint64_t addr = page_addr(&mm->pt, next);
	uint32_t n = 0;

	for (; n < FAR_BATCH && next; next = page_by_id(&mm->pt, next->next)) {
		if (page_addr(&mm->pt, next) != addr + n * PAGE_SIZE_ || addr + (n + 1) * PAGE_SIZE_ > end ||
		    !(next->flags & PG_PRESENT) || next->flags & PG_HUGE || may_move(mm, next))
			break;
		page[n++] = next;
	}
	return n;
}

uint32_t cache_run(struct mm *mm, struct page **page, uint32_t nr, int *err)
{
	uint64_t addr = page_addr(&mm->pt, page[0]);
	uint32_t first, n = cache_take(mm, nr, &first), went;
	struct mmu_moved mv;

	*err = -ENOMEM;
	if (!n)
		return 0;
	mv = mm->mmu->ops->move(mm->mmu, cache_slot(mm, first), addr, n * PAGE_SIZE_, false);
	went = (uint32_t)(mv.done / PAGE_SIZE_);
	*err = went ? 0 : mv.err;
	for (uint32_t i = 0; i < n; i++)
		if (i < went)
			page_cached(mm, page[i], first + i);
		else
			cache_give(mm, first + i, false);
	return went;
}

/* A THP leaves whole, and is 512 pages to the books from then on; who comes back comes as a copy. */
static int unmap_huge(struct mm *mm, struct page_list *list)
{
	struct page *head = page_by_id(&mm->pt, list->head);
	uint64_t addr = page_addr(&mm->pt, head);
	struct page_list rest = *list;
	uint32_t first, went;
	struct mmu_moved mv;
	uint8_t want = head->want;

	if (!cache_take_huge(mm, &first))
		return -E2BIG;
	mv = mm->mmu->ops->move(mm->mmu, cache_slot(mm, first), addr, HUGE_SIZE_, false);
	went = (uint32_t)(mv.done / PAGE_SIZE_);
	for (uint32_t i = went; i < LEAF_PAGES; i++)
		cache_give(mm, first + i, false);
	if (!went)
		return mv.err == -EAGAIN || mv.err == -EBUSY ? mv.err : -E2BIG;
	list_del(&mm->pt, &rest, head);
	putback_lru_page(mm, head);
	page_split(mm, head);
	*list = (struct page_list){ 0 };
	for (uint32_t i = 0; i < LEAF_PAGES; i++) {
		struct page *page = page_find(&mm->pt, addr + i * PAGE_SIZE_);

		isolate_lru_page(mm, page, list);
		page->want = want;
		if (i < went)
			page_cached(mm, page, first + i);
	}
	for (struct page *page; (page = list_pop(&mm->pt, &rest));)
		list_add_tail(&mm->pt, list, page);
	return 0;
}

int unmap_head(struct mm *mm, struct page_list *list, const struct span *window)
{
	struct page *page[FAR_BATCH], *head = page_by_id(&mm->pt, list->head);
	uint64_t addr = page_addr(&mm->pt, head), end = kept_end(mm, addr, window->end);
	int err = may_move(mm, head);
	uint32_t nr;

	if (err)
		return err;
	if (end == addr)
		return -EAGAIN; /* it is another mapping since */
	if (head->flags & PG_HUGE)
		return addr + HUGE_SIZE_ > end ? -E2BIG : unmap_huge(mm, list);
	nr = run_at_head(mm, list, end, page);
	if (nr)
		cache_run(mm, page, nr, &err);
	return nr ? err : -EAGAIN;
}

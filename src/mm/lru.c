/* SPDX-License-Identifier: MIT */
/* Lists of pages, and the list of each node's pages with isolation and putback. */
#include "mm/mm.h"

#include <errno.h>

void list_add_tail(struct pgtable *pt, struct page_list *list, struct page *page)
{
	uint32_t id = page_id(pt, page);

	page->next = 0;
	page->prev = list->tail;
	if (list->tail)
		page_by_id(pt, list->tail)->next = id;
	else
		list->head = id;
	list->tail = id;
	list->nr += page_nr(page);
}

void list_del(struct pgtable *pt, struct page_list *list, struct page *page)
{
	if (page->prev)
		page_by_id(pt, page->prev)->next = page->next;
	else
		list->head = page->next;
	if (page->next)
		page_by_id(pt, page->next)->prev = page->prev;
	else
		list->tail = page->prev;
	page->next = page->prev = 0;
	list->nr -= page_nr(page);
}

struct page *list_pop(struct pgtable *pt, struct page_list *list)
{
	struct page *page = page_by_id(pt, list->head);

	if (page)
		list_del(pt, list, page);
	return page;
}

/* Those in the migration cache have a list of their own. */
static struct page_list *lru_of(struct mm *mm, const struct page *page)
{
	return page->flags & PG_AWAY && !node_far(mm->nodes, page->node) ? &mm->languish : &mm->lru[page->node];
}

void lru_add(struct mm *mm, struct page *page)
{
	BUG_ON(page->flags & PG_LRU);
	page->flags |= PG_LRU;
	list_add_tail(&mm->pt, lru_of(mm, page), page);
}

void lru_del(struct mm *mm, struct page *page)
{
	BUG_ON(!(page->flags & PG_LRU));
	page->flags &= (uint16_t)~PG_LRU;
	list_del(&mm->pt, lru_of(mm, page), page);
}

int isolate_lru_page(struct mm *mm, struct page *page, struct page_list *list)
{
	if (!(page->flags & PG_LRU))
		return -EBUSY;
	lru_del(mm, page);
	page->flags |= PG_ISOLATED;
	page->refs++;
	list_add_tail(&mm->pt, list, page);
	return 0;
}

void putback_lru_page(struct mm *mm, struct page *page)
{
	BUG_ON(!(page->flags & PG_ISOLATED) || page->flags & (PG_LOCKED | PG_MIGRATION));
	page->flags &= (uint16_t)~PG_ISOLATED;
	page->refs--;
	if (page->flags & (PG_PRESENT | PG_AWAY))
		lru_add(mm, page);
	else
		page_unuse(&mm->pt, page);
}

void putback_lru_pages(struct mm *mm, struct page_list *list)
{
	struct page *page;

	while ((page = list_pop(&mm->pt, list)))
		putback_lru_page(mm, page);
}

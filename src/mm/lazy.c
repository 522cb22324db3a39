/* SPDX-License-Identifier: MIT */
/*
 * Lazy migration: pages are unmapped into the migration cache, nothing is copied, and each moves when it is next
 * touched (away_fault), to the node that it was meant for or to the toucher's; after Schermerhorn's migrate-on-fault.
 * What nobody touches is never copied.
 */
#include "mm/mm.h"

#include <errno.h>

/* It stays where it is until then, so its node to come is charged only then. */
static void mark(struct mm *mm, struct page *page, int node, struct request *rq)
{
	page->flags |= PG_LAZY;
	page->want = rq->lazy == LAZY_TOUCHER ? WANT_TOUCHER : (uint8_t)node;
	page->age = 0;
	page->err = 0;
	rq->progress->lazy++;
	rq->progress->done++;
	putback_lru_page(mm, page);
}

/* The run at the head of the list that one move can take: what follows each other in one window. */
static uint32_t lazy_run(struct mm *mm, struct page_list *list, const struct span *window, struct page **page)
{
	struct page *next = page_by_id(&mm->pt, list->head);
	uint64_t addr = page_addr(&mm->pt, next);
	uint32_t n = 0;

	for (; n < BATCH_MAX && next; next = page_by_id(&mm->pt, next->next)) {
		if (page_addr(&mm->pt, next) != addr + n * PAGE_SIZE_ || addr + (n + 1) * PAGE_SIZE_ > window->end ||
		    next->flags & (PG_AWAY | PG_HUGE) || may_move(mm, next))
			break;
		page[n++] = next;
	}
	return n;
}

/* Returns how many have left their places; *err: why the next has not. mm->lock held. */
static uint32_t unmap(struct mm *mm, struct page **page, uint32_t nr, int *err)
{
	uint64_t addr = page_addr(&mm->pt, page[0]);
	uint32_t first, n = cache_take(mm, nr, &first), went;
	struct mmu_moved mv;

	*err = n ? 0 : -ENOMEM;
	if (!n)
		return 0;
	mv = mm->mmu->ops->move(mm->mmu, cache_slot(mm, first), addr, n * PAGE_SIZE_, false);
	went = (uint32_t)(mv.done / PAGE_SIZE_);
	for (uint32_t i = 0; i < n; i++)
		if (i < went)
			page_cached(mm, page[i], first + i);
		else
			cache_give(mm, first + i, false);
	*err = went ? 0 : mv.err;
	return went;
}

/* Where it would go by now, without being charged for it. */
static int lazy_node(struct mm *mm, struct page *page, new_page_t *get_new_page, void *private)
{
	int node = get_new_page(mm, page, private);

	if (node >= 0)
		node_uncharge(mm->nodes, node, 1);
	return node;
}

int lazy_batch(struct mm *mm, struct page_list *list, const struct span *window, struct lazy_to to, struct request *rq)
{
	struct page *page[BATCH_MAX];
	uint32_t nr, went;
	int err = 0, node = 0;

	lock_acquire(&mm->lock);
	nr = lazy_run(mm, list, window, page);
	went = nr ? unmap(mm, page, nr, &err) : 0;
	for (uint32_t i = 0; i < went; i++) {
		list_del(&mm->pt, list, page[i]);
		node = lazy_node(mm, page[i], to.get_new_page, to.private);
		mark(mm, page[i], node < 0 ? page[i]->node : node, rq);
	}
	if (!went && err == -EAGAIN)
		mm_drain_events_locked(mm);
	lock_release(&mm->lock);
	return went ? 0 : err ? err : -EAGAIN;
}

bool lazy_mark(struct mm *mm, struct page *page, struct lazy_to to, struct request *rq)
{
	int node = lazy_node(mm, page, to.get_new_page, to.private);

	if (node < 0)
		return false;
	mark(mm, page, node, rq);
	return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * Through a far node: what a request cannot move directly is stored there, with the node remembered that it is wanted
 * on, and the next touch brings it to that one, if it has room by then, or to where policy has it. Page migration had
 * this until May 2006: what could not be moved was written to swap (swap_page()), and came back to where policy wanted
 * it.
 *
 * It is for want of room that a page takes this way (ENOMEM): the node is full, or the host has no frames. Any other
 * reason is the page's own (pinned, shared, locked, opted out), and keeps it from leaving for a far node as well.
 */
#include "mm/mm.h"

#include <errno.h>

/* The nearest behind a node that has not refused a page of the request; -1: none. */
static int far_behind(const struct mm *mm, const struct request *rq, int node)
{
	do
		node = node_behind(mm->nodes, node);
	while (node >= 0 && rq->far_full >> node & 1);
	return node;
}

bool fallback_may(const struct mm *mm, const struct request *rq, int node, int err)
{
	return rq->fallback && err == -ENOMEM && (node_far(mm->nodes, node) || far_behind(mm, rq, node) >= 0);
}

/* .want is the node that it is for. */
void page_fallen(struct mm *mm, struct page *page, struct request *rq)
{
	page->flags |= PG_LAZY;
	page->err = 0;
	rq->progress->fallen++;
	rq->progress->done++;
	mm->stats.fallen++;
	putback_lru_page(mm, page);
}

bool fallback_take(struct mm *mm, struct page *page, int err, struct request *rq)
{
	if (rq->falling || !fallback_may(mm, rq, page->node, err) || page->want >= mm->nodes->nr ||
	    node_far(mm->nodes, page->want))
		return false;
	if (page->flags & PG_AWAY && node_far(mm->nodes, page->node)) {
		page_fallen(mm, page, rq); /* it need not go anywhere */
		return true;
	}
	page->err = ENOMEM;
	list_add_tail(&mm->pt, &rq->full, page);
	return true;
}

int fallback_refused(struct request *rq, int node, int err)
{
	if (rq->falling && err == -ENOSPC) {
		rq->far_full |= 1ULL << node;
		return -EAGAIN; /* to the next one */
	}
	return err;
}

static int new_page_behind(struct mm *mm, struct page *page, void *private)
{
	struct request *rq = private;
	int node = far_behind(mm, rq, page->node);

	if (node < 0)
		return -ENOSPC;
	node_charge_force(mm->nodes, node, page_nr(page));
	return node;
}

void fallback_run(struct mm *mm, struct request *rq)
{
	if (!rq->full.head)
		return;
	rq->falling = true;
	migrate_pages(mm, &rq->full, new_page_behind, rq, rq);
	migrate_rest(mm, &rq->full, new_page_behind, rq, rq);
	rq->falling = false;
}

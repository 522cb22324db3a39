/* SPDX-License-Identifier: MIT */
/* Node to node: do_migrate_pages(), with the relative placement of migrate_pages(2). */
#include "mm/mm.h"

#include <errno.h>

#define ISOLATE_AT_ONCE 4096U
#define HELD_TRIES 50U		/* until pages that another request has are named as busy */
#define HELD_PAUSE_NS 5000000ULL

/* Where the pages of each node go; -1: they stay. */
struct relative {
	int to[NODE_MAX];
	bool remember;	/* the page says where it is to go */
	uint32_t lazy;	/* enum lazy: to the toucher all of them may go, back only those that languish for it */
};

static int new_page_relative(struct mm *mm, struct page *page, void *private)
{
	struct relative *r = private;
	int to = r->to[page->node];

	if (to < 0 || (to == page->node && !r->lazy))
		return -ESTALE; /* it moved elsewhere meanwhile: another request's doing, or a touch's */
	if (r->lazy == LAZY_BACK && page->flags & PG_AWAY && node_far(mm->nodes, page->node)) {
		page->flags &= (uint16_t)~PG_LAZY; /* it stays, and comes to where policy has it */
		return -ESTALE;
	}
	if (r->lazy == LAZY_BACK || r->lazy == LAZY_TOUCHER)
		to = page->node;
	if (r->lazy) { /* what is charged for it is given back, until it is touched */
		node_charge_force(mm->nodes, to, page_nr(page));
		return to;
	}
	if (r->remember)
		page->want = (uint8_t)to;
	return node_charge(mm->nodes, to, page_nr(page)) ? to : -ENOMEM;
}

/* A page that the request is about: on the wrong node, and not opted out. */
static bool misplaced(struct mm *mm, const struct relative *r, const struct page *page)
{
	int to = r->to[page->node];

	if (to < 0 || may_move(mm, page) == -EACCES)
		return false;
	if (r->lazy == LAZY_BACK)
		return page->flags & PG_LAZY;
	return to != page->node || r->lazy == LAZY_TOUCHER;
}

/* On another request's list: that one may end early, and leave it where it was. */
static bool held(const struct page *page)
{
	return page->flags & PG_ISOLATED && page->flags & (PG_PRESENT | PG_AWAY);
}

static void for_leaf(struct mm *mm, struct page *leaf, void (*fn)(struct mm *mm, struct page *page, void *arg),
		     void *arg)
{
	if (leaf->flags & PG_HUGE) {
		fn(mm, leaf, arg);
		return;
	}
	for (uint32_t i = 0; i < LEAF_PAGES; i++)
		if (leaf[i].flags & PG_LRU || held(&leaf[i]))
			fn(mm, &leaf[i], arg);
}

struct isolate {
	const struct relative *relative;
	struct page_list *list;
	struct progress *progress;
	uint64_t at;
	uint32_t tries;		/* left */
	bool held;		/* something of this leaf is */
};

static void isolate_one(struct mm *mm, struct page *page, void *arg)
{
	struct isolate *iso = arg;
	uint32_t nr = page_nr(page);

	if (!misplaced(mm, iso->relative, page) || !isolate_lru_page(mm, page, iso->list) || !held(page))
		return;
	iso->progress->failed[EBUSY] += nr;
	iso->progress->failed_pages += nr;
	mm->stats.failed[EBUSY] += nr;
}

static void held_one(struct mm *mm, struct page *page, void *arg)
{
	struct isolate *iso = arg;

	iso->held = iso->held || (held(page) && misplaced(mm, iso->relative, page));
}

/* Nothing of this leaf is on a list of ours yet: what is on one is another request's, if there is one. */
static bool leaf_held(struct mm *mm, struct page *leaf, struct isolate *iso)
{
	iso->held = false;
	if (iso->tries && __atomic_load_n(&mm->users, __ATOMIC_RELAXED) > 1)
		for_leaf(mm, leaf, held_one, iso);
	return iso->held;
}

/* In address order, so that batches are runs. Returns false at the end of the books. */
static bool isolate_some(struct mm *mm, struct isolate *iso)
{
	struct page *leaf = NULL;

	books_acquire(mm);
	while (iso->list->nr < ISOLATE_AT_ONCE && (leaf = leaf_next(&mm->pt, &iso->at, UINT64_MAX - HUGE_SIZE_))) {
		if (leaf_held(mm, leaf, iso))
			break;
		for_leaf(mm, leaf, isolate_one, iso);
		iso->at += HUGE_SIZE_;
	}
	books_release(mm);
	return leaf != NULL;
}

struct count {
	const struct relative *relative;
	struct progress *progress;
	const struct request *rq;
	uint64_t room[NODE_MAX];
};

/* What a dry run says of one page, and how full the nodes would be by then. */
static void count_one(struct mm *mm, struct page *page, void *arg)
{
	struct count *c = arg;
	uint32_t nr = page_nr(page);
	int to = c->relative->to[page->node], err;

	if (!misplaced(mm, c->relative, page))
		return;
	err = may_move(mm, page);
	if (!err && c->room[to] < nr)
		err = -ENOMEM;
	if (!node_far(mm->nodes, to) && fallback_may(mm, c->rq, page->node, err)) {
		c->progress->fallen += nr;
		c->room[page->node] += c->room[page->node] == UINT64_MAX ? 0 : nr;
		return;
	}
	if (err) {
		c->progress->failed[-err] += nr;
		c->progress->failed_pages += nr;
		return;
	}
	c->room[to] -= nr;
	c->room[page->node] += c->room[page->node] == UINT64_MAX ? 0 : nr;
	if (page->flags & PG_HUGE)
		c->progress->would_huge += nr;
	else if (page->flags & PG_SWAPPED)
		c->progress->would_swapped += nr;
	else
		c->progress->would_small += nr;
}

static void room_left(struct mm *mm, struct count *c)
{
	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		uint64_t most = mm->nodes->node[n].spec.bytes / PAGE_SIZE_, now = mm->nodes->node[n].pages;

		c->room[n] = !most ? UINT64_MAX : most > now ? most - now : 0;
	}
}

static void total_one(struct mm *mm, struct page *page, void *arg)
{
	struct count *c = arg;

	if (misplaced(mm, c->relative, page))
		c->progress->total += page_nr(page);
}

static void for_books(struct mm *mm, void (*fn)(struct mm *mm, struct page *page, void *arg), void *arg)
{
	uint64_t at = 0;
	struct page *leaf;

	lock_acquire(&mm->lock);
	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		for_leaf(mm, leaf, fn, arg);
		at += HUGE_SIZE_;
		/* let the reader have its turn */
		lock_release(&mm->lock);
		lock_acquire(&mm->lock);
	}
	lock_release(&mm->lock);
}

/* Pages that were counted at the beginning and had left before their turn came. */
static void count_vanished(struct request *rq)
{
	struct progress *p = rq->progress;
	uint64_t known = p->moved + p->lazy + p->fallen + p->failed_pages + p->gone;

	if (!request_cancelled(rq) && known < p->total)
		p->gone += p->total - known;
	p->done = p->moved + p->lazy + p->fallen + p->failed_pages + p->gone;
}

int do_migrate_pages(struct mm *mm, uint64_t from, uint64_t to, struct request *rq)
{
	struct relative r;
	struct count count = { .relative = &r, .progress = rq->progress, .rq = rq };
	struct page_list list = { 0 }, rest = { 0 };
	struct isolate iso = { .relative = &r, .list = &list, .progress = rq->progress, .tries = HELD_TRIES };
	bool more = true;
	int err;

	nodes_relative(from, to, r.to);
	r.lazy = rq->lazy;
	r.remember = rq->fallback;
	for (int n = 0; n < NODE_MAX && (r.lazy == LAZY_BACK || r.lazy == LAZY_TOUCHER); n++)
		r.to[n] = from >> n & 1 ? n : -1;
	request_begin(rq);
	lock_acquire(&mm->migrate);
	err = adopt_all(mm, rq->progress->unmanaged);
	lock_release(&mm->migrate);
	if (err)
		return err;
	for_books(mm, total_one, &count);
	if (rq->dry_run) {
		room_left(mm, &count);
		for_books(mm, count_one, &count);
		return 0;
	}
	while (more && !request_cancelled(rq)) {
		more = isolate_some(mm, &iso);
		if (more && !list.head) { /* the next are held */
			iso.tries--;
			sleep_ns(HELD_PAUSE_NS);
			continue;
		}
		migrate_pages(mm, &list, new_page_relative, &r, rq);
		list_splice(mm, &rest, &list);
	}
	migrate_rest(mm, &rest, new_page_relative, &r, rq);
	fallback_run(mm, rq);
	migrate_over(mm);
	count_vanished(rq);
	return 0;
}

/* ---- everything that is away ---- */

/* Full or not: there is nowhere else. */
static int new_page_home(struct mm *mm, struct page *page, void *private)
{
	int node = node_far(mm->nodes, page->node) ? 0 : page->node;

	(void)private;
	node_charge_force(mm->nodes, node, 1);
	return node;
}

static void isolate_list(struct mm *mm, struct page_list *from, struct page_list *to)
{
	struct page *page;

	books_acquire(mm);
	while ((page = page_by_id(&mm->pt, from->head)))
		isolate_lru_page(mm, page, to);
	books_release(mm);
}

int do_return(struct mm *mm, struct request *rq)
{
	struct page_list list = { 0 };

	request_begin(rq);
	isolate_list(mm, &mm->languish, &list);
	for (uint32_t n = 0; n < mm->nodes->nr; n++)
		if (node_far(mm->nodes, (int)n))
			isolate_list(mm, &mm->lru[n], &list);
	rq->progress->total = list.nr;
	migrate_pages(mm, &list, new_page_home, NULL, rq);
	migrate_rest(mm, &list, new_page_home, NULL, rq);
	migrate_over(mm);
	return mm->pt.away ? -ENOMEM : 0;
}

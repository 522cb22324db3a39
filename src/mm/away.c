/* SPDX-License-Identifier: MIT */
/*
 * Pages that are away: absent at their address, with their content in the store of a far node, until a touch or a
 * request brings them back. What a swap entry is to the kernel, .node and .home are here.
 *
 * Where a page is away its mapping stays tracked (kept.c), so that a touch is reported, and what the program does to
 * its mappings too. Only an event ends the life of such a page: what is known otherwise (a scan that finds nothing, a
 * call that was seen to return) is true of pages that are present.
 *
 * While fork() copies the books the reader must leave them and the stores as they are. So a touch is answered with a
 * copy, and the books are put right when they are next looked at (a page that is present has precedence over what
 * they say); a page that is discarded is marked (PG_LEFT), one that is carried off is noted (mm->carried).
 */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define INSTALL_TRIES 64U

void page_back(struct mm *mm, struct page *page, int node)
{
	uint32_t home = page->home;
	int from = page->node;
	bool listed = page->flags & PG_LRU;

	BUG_ON(!(page->flags & PG_AWAY));
	if (listed)
		lru_del(mm, page);
	page->flags = (uint16_t)((page->flags & ~(PG_AWAY | PG_LEFT)) | PG_PRESENT);
	page->home = 0;
	page->node = (uint8_t)node;
	mm->pt.away--;
	mm->pt.present++;
	node_uncharge(mm->nodes, from, 1);
	node_charge_force(mm->nodes, node, 1);
	if (listed)
		lru_add(mm, page);
	far_drop(mm->far[from], &home, 1);
}

void page_stored(struct mm *mm, struct page *page, int node, uint32_t home)
{
	BUG_ON(!(page->flags & PG_PRESENT) || page->flags & (PG_HUGE | PG_LRU | PG_AWAY));
	page->flags = (uint16_t)((page->flags & ~(PG_PRESENT | PG_SWAPPED | PG_FRESH)) | PG_AWAY);
	page->node = (uint8_t)node;
	page->home = home;
	mm->pt.present--;
	mm->pt.away++;
}

struct page *page_enter_away(struct mm *mm, uint64_t addr, int node, uint32_t home)
{
	struct page *page = page_enter(mm, addr, node, 0);

	if (!page)
		return NULL;
	lru_del(mm, page);
	page_stored(mm, page, node, home);
	lru_add(mm, page);
	return page;
}

/* What cannot be had back: its next touch is SIGBUS. */
static void away_lost(struct mm *mm, struct page *page, int err)
{
	uint64_t addr = page_addr(&mm->pt, page);

	mm->stats.poisoned++;
	if (mm->mmu->ops->poison(mm->mmu, addr))
		base_log("a page that could not be read back could not be poisoned", "");
	mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_);
	base_log("a page could not be read back: its next touch is SIGBUS",
		 err == -EBADMSG ? " (what came back is not what was kept)" : "");
	if (!mm->forking)
		page_gone(mm, page);
}

/* Where a touched page comes to. */
static int away_node(struct mm *mm, const struct mmu_event *ev)
{
	struct toucher who = toucher_of(mm, ev->tid, ev->tid && mm->nodes->nr > 2 ? thread_cpu(ev->tid) : -1);

	return place_page(mm, ev->addr, 1, &who, HOST_UNKNOWN);
}

struct page *away_at(struct mm *mm, uint64_t addr)
{
	struct page *page;

	for (uint32_t i = mm->nr_carried; i-- > 0;)
		if (addr >= mm->carried[i].to && addr < mm->carried[i].to + (mm->carried[i].end - mm->carried[i].start))
			addr = addr - mm->carried[i].to + mm->carried[i].start;
	page = page_find(&mm->pt, addr);
	return page && page->flags & PG_AWAY && !(page->flags & PG_LEFT) ? page : NULL;
}

void away_fault(struct mm *mm, struct page *page, const struct mmu_event *ev)
{
	int err, node;

	if (page->flags & PG_LOCKED) {
		mm->stats.faults_waited++; /* a request has it in its hands, and wakes */
		return;
	}
	err = far_get(mm->far[page->node], page->home, mm->fault_page);
	if (err) {
		away_lost(mm, page, err);
		return;
	}
	node = mm->forking ? 0 : away_node(mm, ev);
	host_near(mm, node);
	err = mm->mmu->ops->copy_in(mm->mmu, ev->addr, (uint64_t)mm->fault_page);
	if (err) {
		/* an event is unread, or there is no memory just now: let it fault again */
		mm->mmu->ops->wake(mm->mmu, ev->addr, PAGE_SIZE_);
		if (err != -EEXIST)
			return;
	}
	mm->stats.promoted++;
	mm->stats.faults_fetched++;
	if (!mm->forking)
		page_back(mm, page, node);
}

/* ---- by request ---- */

/* The content is in the caller's hands. 0, or why the page is not at its address. mm->lock held. */
static int install(struct mm *mm, struct page *page, const void *content)
{
	uint64_t addr = page_addr(&mm->pt, page);
	int err = -EAGAIN;

	for (uint32_t i = 0; i < INSTALL_TRIES && err == -EAGAIN && page->flags & PG_AWAY; i++) {
		err = mm->mmu->ops->copy_in(mm->mmu, addr, (uint64_t)content);
		if (err == -EAGAIN)
			mm_drain_events_locked(mm);
	}
	if (!(page->flags & PG_AWAY))
		return -ENOENT;
	/* the mapping is being changed, and its event comes */
	return err == -EEXIST ? 0 : err == -ENOENT || err == -EINVAL || err == -ESRCH ? -EAGAIN : err;
}

void fetch_contents(struct mm *mm, struct fetch *f)
{
	int err = 0;
	uint32_t kept = 0;

	far_get_many(mm->far[f->source], f->home, f->nr, mm->fetch_pages, f->err);
	if (!f->to_far)
		return;
	for (uint32_t at = 0; at < f->nr; at += kept + 1) {
		uint32_t n = 0;

		while (at + n < f->nr && !f->err[at + n])
			n++;
		kept = n ? far_put(mm->far[f->dest[at]], mm->fetch_pages + at * PAGE_SIZE_, n, &f->new_home[at], &err) : 0;
		if (kept < n)
			f->err[at + kept] = err;
	}
}

int fetch_settle(struct mm *mm, struct fetch *f, uint32_t i)
{
	struct page *page = f->page[i];
	uint64_t addr = page_addr(&mm->pt, page);
	int err = f->err[i];

	if (page->flags & PG_AWAY && !err && !f->to_far)
		err = install(mm, page, mm->fetch_pages + i * PAGE_SIZE_);
	page->flags &= (uint16_t) ~PG_LOCKED;
	if (!(page->flags & PG_AWAY)) { /* who holds the lock has to drop it */
		far_drop(mm->far[f->source], &f->home[i], 1);
		if (f->to_far && f->new_home[i])
			far_drop(mm->far[f->dest[i]], &f->new_home[i], 1);
		err = -ENOENT;
	} else if (!err && f->to_far) {
		far_drop(mm->far[f->source], &f->home[i], 1);
		page->home = f->new_home[i];
	} else if (!err) {
		page_back(mm, page, f->dest[i]);
		node_uncharge(mm->nodes, f->dest[i], 1); /* it was charged when it was chosen */
		mm->stats.promoted++;
	} else if (err == -EBADMSG || (err == -EIO && !f->to_far)) {
		away_lost(mm, page, err);
	}
	if (err || f->to_far)
		mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_);
	return err;
}

/* Of a page that has no entry in the books, or finds none free: then it is brought in at once. */
void page_keep(struct mm *mm, uint64_t addr, int node, uint32_t home)
{
	struct page *there = page_find(&mm->pt, addr);
	int err;

	if (!(there && there->refs) && page_enter_away(mm, addr, node, home))
		return;
	err = far_get(mm->far[node], home, mm->fault_page);
	if (!err)
		err = mm->mmu->ops->copy_in(mm->mmu, addr, (uint64_t)mm->fault_page);
	if (err && err != -EEXIST && !mm->mmu->ops->poison(mm->mmu, addr))
		mm->stats.poisoned++;
	far_drop(mm->far[node], &home, 1);
}

/* ---- with its mapping ---- */

/* One that a request has in its hands: that finds it gone, and drops what it was; so it gets a copy of its own. */
void away_follow(struct mm *mm, struct page *page, uint64_t to)
{
	uint32_t home = page->home, own;
	int node = page->node, err = 0;

	if (!(page->flags & PG_LOCKED)) {
		page_leave(mm, page);
		page_keep(mm, to, node, home);
		return;
	}
	err = far_get(mm->far[node], home, mm->fault_page);
	page_gone(mm, page);
	if (!err && far_put(mm->far[node], mm->fault_page, 1, &own, &err))
		page_keep(mm, to, node, own);
	else if (err && !mm->mmu->ops->poison(mm->mmu, to))
		mm->stats.poisoned++;
}

/* ---- around a fork ---- */

/* Every page that is away, until fn says otherwise. mm->lock held. */
static void for_away(struct mm *mm, uint64_t start, uint64_t end, bool (*fn)(struct mm *mm, struct page *page))
{
	uint64_t at = start;
	struct page *leaf;

	if (!mm->pt.away)
		return;
	while ((leaf = leaf_next(&mm->pt, &at, end))) {
		uint64_t first = max_u64(at, start), last = min_u64(at + HUGE_SIZE_, end);

		for (uint64_t a = first; a < last && !(leaf->flags & PG_HUGE); a += PAGE_SIZE_)
			if (leaf[a / PAGE_SIZE_ % LEAF_PAGES].flags & PG_AWAY &&
			    !fn(mm, &leaf[a / PAGE_SIZE_ % LEAF_PAGES]))
				break;
		at += HUGE_SIZE_;
	}
}

static bool leave_one(struct mm *mm, struct page *page)
{
	page->flags |= PG_LEFT;
	mm->any_left = true;
	return true;
}

void away_leave(struct mm *mm, uint64_t start, uint64_t end)
{
	for_away(mm, start, end, leave_one);
}

/* The leaf may go with its last page. */
static bool sweep_one(struct mm *mm, struct page *page)
{
	uint64_t leaf = ALIGN_DOWN(page_addr(&mm->pt, page), HUGE_SIZE_);

	if (page->flags & PG_LEFT)
		page_gone(mm, page);
	return page_find(&mm->pt, leaf) != NULL;
}

void away_carry(struct mm *mm, const struct mmu_event *ev)
{
	struct carried c = { ev->addr, ev->end, ev->to };

	if (mm->nr_carried < CARRIED_MAX) {
		mm->carried[mm->nr_carried++] = c;
		return;
	}
	/* more than any program does in the time of a fork: better SIGBUS than zeroes that nobody wrote */
	for (uint64_t at = ev->addr; at < ev->end; at += PAGE_SIZE_)
		if (away_at(mm, at) && !mm->mmu->ops->poison(mm->mmu, at - ev->addr + ev->to))
			mm->stats.poisoned++;
	away_leave(mm, ev->addr, ev->end);
}

void away_settle(struct mm *mm)
{
	for (uint32_t i = 0; i < mm->nr_carried; i++)
		books_follow(mm, mm->carried[i].start, mm->carried[i].end, mm->carried[i].to);
	mm->nr_carried = 0;
	if (mm->any_left)
		for_away(mm, 0, UINT64_MAX - HUGE_SIZE_, sweep_one);
	mm->any_left = false;
}

bool away_next(struct mm *mm, uint64_t *start, uint64_t end)
{
	uint64_t at = *start;
	struct page *leaf;

	while (mm->pt.away && *start < end && (leaf = leaf_next(&mm->pt, &at, end))) {
		uint64_t first = max_u64(at, *start), last = min_u64(at + HUGE_SIZE_, end);

		for (uint64_t a = first; a < last && !(leaf->flags & PG_HUGE); a += PAGE_SIZE_)
			if (leaf[a / PAGE_SIZE_ % LEAF_PAGES].flags & PG_AWAY) {
				*start = a;
				return true;
			}
		at += HUGE_SIZE_;
	}
	return false;
}

/* ---- forked children ---- */

/* The content that belongs to a child's address goes there; what is not away was never touched. */
static void heir_fill(struct mm *mm, int child, struct page *page, uint64_t addr)
{
	if (page && far_get(mm->far[page->node], page->home, mm->fault_page)) {
		mm->mmu->ops->poison_child(mm->mmu, child, addr);
		return;
	}
	if (!page)
		memset(mm->fault_page, 0, PAGE_SIZE_);
	mm->mmu->ops->copy_child(mm->mmu, child, addr, (uint64_t)mm->fault_page);
}

void away_bequeath(struct mm *mm, int child)
{
	uint64_t at = 0;
	struct page *leaf;

	while (mm->pt.away && (leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		for (uint64_t a = at; a < at + HUGE_SIZE_ && !(leaf->flags & PG_HUGE); a += PAGE_SIZE_) {
			struct page *page = away_at(mm, a);

			if (page)
				heir_fill(mm, child, page, a);
		}
		at += HUGE_SIZE_;
	}
}

bool heir_serve(struct mm *mm)
{
	struct mmu_event ev;

	while (mm->mmu->ops->read_child(mm->mmu, mm->heir, &ev) > 0) {
		if (ev.type != MMU_EV_FAULT)
			continue;
		if (ev.addr == mm->doorbell)
			return true;
		heir_fill(mm, mm->heir, away_at(mm, ev.addr), ev.addr);
	}
	return false;
}

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
 * they say); what is discarded or carried off is noted (mm->notes), for the end of it.
 */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define INSTALL_TRIES 64U

/* ---- one page ---- */

bool is_cached(const struct mm *mm, const struct page *page)
{
	return page->flags & PG_AWAY && !node_far(mm->nodes, page->node);
}

/* stale: what it was is still there, and nobody's. */
void away_release(struct mm *mm, int node, uint32_t home, bool stale)
{
	if (node_far(mm->nodes, node))
		far_drop(mm->far[node], &home, 1);
	else
		cache_give(mm, home, stale);
}

/* Where its content can be read: in its slot, or fetched to buf. NULL: *err says why it cannot be had. */
const void *away_content(struct mm *mm, const struct page *page, void *buf, int *err)
{
	if (is_cached(mm, page))
		return (const void *)cache_slot(mm, page->home);
	*err = far_get(mm->far[page->node], page->home, buf);
	return *err ? NULL : buf;
}

/* Books only: where it was before is for the caller to release. */
void page_arrived(struct mm *mm, struct page *page, int node)
{
	int from = page->node;
	bool listed = page->flags & PG_LRU;

	BUG_ON(!(page->flags & PG_AWAY));
	if (listed)
		lru_del(mm, page);
	mm->pt.cached -= is_cached(mm, page);
	mm->pt.away--;
	mm->pt.present++;
	page->flags = (uint16_t)((page->flags & ~(PG_AWAY | PG_LEFT | PG_LAZY)) | PG_PRESENT);
	page->home = 0;
	page->want = 0;
	page->node = (uint8_t)node;
	node_uncharge(mm->nodes, from, 1);
	node_charge_force(mm->nodes, node, 1);
	if (listed)
		lru_add(mm, page);
	if (from == node)
		return;
	mm->stats.moved[from][node]++;
	mm->nodes->node[from].out++;
	mm->nodes->node[node].in++;
}

void page_back(struct mm *mm, struct page *page, int node)
{
	uint32_t home = page->home;
	int from = page->node;

	page_arrived(mm, page, node);
	away_release(mm, from, home, true);
}

static void leave_address(struct mm *mm, struct page *page, int node, uint32_t home)
{
	bool listed = page->flags & PG_LRU;

	BUG_ON(!(page->flags & PG_PRESENT) || page->flags & (PG_HUGE | PG_AWAY));
	if (listed)
		lru_del(mm, page);
	page->flags = (uint16_t)((page->flags & ~(PG_PRESENT | PG_SWAPPED | PG_FRESH)) | PG_AWAY);
	page->node = (uint8_t)node;
	page->home = home;
	mm->pt.present--;
	mm->pt.away++;
	mm->leaves++;
	mm->pt.cached += is_cached(mm, page);
	if (listed)
		lru_add(mm, page);
}

void page_cached(struct mm *mm, struct page *page, uint32_t slot)
{
	leave_address(mm, page, page->node, slot);
}

struct page *page_enter_away(struct mm *mm, uint64_t addr, int node, uint32_t home)
{
	struct page *page = page_enter(mm, addr, node, 0);

	if (page)
		leave_address(mm, page, node, home);
	return page;
}

/* What cannot be had back: its next touch is SIGBUS. */
void away_lost(struct mm *mm, struct page *page, int err)
{
	uint64_t addr = page_addr(&mm->pt, page);
	int failed = mm->mmu->ops->poison(mm->mmu, addr);

	mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_);
	if (failed == -EAGAIN)
		return; /* an event is unread: whoever touches it asks again */
	if (failed == -EEXIST) { /* it was told before, or it is there: as the next look finds it */
		if (!mm->forking)
			page_gone(mm, page);
		return;
	}
	mm->stats.poisoned++;
	if (failed)
		base_log("a page that could not be read back could not be poisoned", "");
	if (!(mm->stats.poisoned & (mm->stats.poisoned - 1))) /* a device that is gone may take all of them */
		base_log(mm->stats.poisoned == 1 ? "a page could not be read back: its next touch is SIGBUS" :
						   "twice as many pages by now could not be read back",
			 err == -EBADMSG ? " (what came back is not what was kept)" : "");
	if (!mm->forking)
		page_gone(mm, page);
}

/* By the first nr notes. */
struct page *away_as_of(struct mm *mm, uint64_t addr, uint32_t nr)
{
	struct page *page;

	while (nr-- > 0) {
		const struct fork_note *n = &mm->notes[nr];

		if (n->to && addr >= n->to && addr < n->to + (n->end - n->start))
			addr = addr - n->to + n->start;
		else if (addr >= n->start && addr < n->end)
			return NULL; /* gone, or gone from here */
	}
	page = page_find(&mm->pt, addr);
	return page && page->flags & PG_AWAY ? page : NULL;
}

struct page *away_at(struct mm *mm, uint64_t addr)
{
	struct page *page = away_as_of(mm, addr, mm->nr_notes);

	return page && !(page->flags & PG_LEFT) ? page : NULL;
}

/* ---- by request ---- */

/* The content is in the caller's hands. 0, or why the page is not at its address. mm->lock held. */
static int install(struct mm *mm, struct fetch *f, uint32_t i, const void *what, bool *moved)
{
	int err = -EAGAIN;

	for (uint32_t tries = 0; tries < INSTALL_TRIES && err == -EAGAIN && f->page[i]->flags & PG_AWAY; tries++) {
		/* an event may have it follow its mapping */
		err = away_arrive(mm, f->page[i], page_addr(&mm->pt, f->page[i]), f->dest[i], what, moved);
		if (err == -EAGAIN)
			mm_drain_events_locked(mm);
	}
	if (!(f->page[i]->flags & PG_AWAY))
		return -ENOENT;
	/* the mapping is being changed, and its event comes */
	return err == -ENOENT || err == -EINVAL || err == -ESRCH ? -EAGAIN : err;
}

static const void *fetched(const struct mm *mm, const struct fetch *f, uint32_t i)
{
	return f->cached ? (const void *)cache_slot(mm, f->home[i]) : mm->fetch_pages + i * PAGE_SIZE_;
}

/* Pages that lie one after another and can be put in one go. */
static uint32_t run_to_put(const struct mm *mm, const struct fetch *f, uint32_t at)
{
	uint32_t n = 0;

	while (at + n < f->nr && !f->err[at + n] &&
	       (const uint8_t *)fetched(mm, f, at + n) == (const uint8_t *)fetched(mm, f, at) + n * PAGE_SIZE_)
		n++;
	return n;
}

void fetch_contents(struct mm *mm, struct fetch *f)
{
	int err = 0;

	if (!f->cached)
		far_get_many(mm->far[f->source], f->home, f->nr, mm->fetch_pages, f->err);
	for (uint32_t at = 0; f->to_far && at < f->nr;) {
		uint32_t n = run_to_put(mm, f, at),
			 kept = n ? far_put(mm->far[f->dest[at]], fetched(mm, f, at), n, &f->new_home[at], &err) : 0;

		if (kept < n)
			f->err[at + kept] = err;
		at += kept + (kept < n || !n);
	}
}

uint32_t fetch_verify(struct mm *mm, struct fetch *f)
{
	uint8_t *back = mm->fetch_pages + FAR_BATCH * PAGE_SIZE_;
	uint32_t wrong = 0;

	for (uint32_t i = 0; f->to_far && i < f->nr; i++) {
		if (f->err[i] || (!far_get(mm->far[f->dest[i]], f->new_home[i], back) &&
				  mm->mmu->ops->same(mm->mmu, (uint64_t)back, (uint64_t)fetched(mm, f, i), PAGE_SIZE_)))
			continue;
		far_drop(mm->far[f->dest[i]], &f->new_home[i], 1);
		f->new_home[i] = 0;
		f->err[i] = -EIO;
		wrong++;
	}
	return wrong;
}

int fetch_settle(struct mm *mm, struct fetch *f, uint32_t i)
{
	struct page *page = f->page[i];
	int err = f->err[i];
	bool moved = false;
	uint64_t addr;

	if (page->flags & PG_AWAY && !err && !f->to_far)
		err = install(mm, f, i, fetched(mm, f, i), &moved);
	page = f->page[i];
	addr = page_addr(&mm->pt, page);
	page->flags &= (uint16_t)~PG_LOCKED;
	if (!(page->flags & PG_AWAY)) { /* who holds the lock has to drop it */
		away_let_go(mm, f->source, f->home[i], !moved);
		if (f->to_far && f->new_home[i])
			far_drop(mm->far[f->dest[i]], &f->new_home[i], 1);
		err = page->flags & PG_PRESENT ? -EAGAIN : -ENOENT; /* it was touched, and came back */
	} else if (!err && f->to_far) {
		away_release(mm, f->source, f->home[i], true);
		mm->pt.cached -= f->cached;
		mm->stats.demoted += f->cached;
		page->home = f->new_home[i];
		page->node = f->dest[i];
		node_uncharge(mm->nodes, f->source, 1);
		if (f->cached)
			workingset_eviction(mm, page);
	} else if (!err) {
		mm->stats.promoted += !f->cached;
		node_uncharge(mm->nodes, f->dest[i], 1); /* it was charged when it was chosen */
		page_arrived(mm, page, f->dest[i]);
		away_release(mm, f->source, f->home[i], !moved);
	} else if (!f->cached && (err == -EBADMSG || (err == -EIO && !f->to_far))) {
		away_lost(mm, page, err);
	}
	if ((err || f->to_far) && !BUG_BACK(BUG_FAR_WAKE))
		mm->mmu->ops->wake(mm->mmu, addr, PAGE_SIZE_);
	return err;
}

/* ---- with its mapping ---- */

/*
 * An entry that is on a request's list and has lost its page takes another one over; one of the batch in flight cannot,
 * until that is over: the page is stranded meanwhile.
 */
static bool enter_over(struct mm *mm, struct page *there, int node, uint32_t home)
{
	if (!(there->flags & PG_ISOLATED) || there->flags & (PG_LOCKED | PG_PRESENT | PG_AWAY | PG_HUGE))
		return false;
	there->refs++;
	there->flags |= PG_PRESENT;
	there->node = (uint8_t)node;
	mm->pt.present++;
	node_charge_force(mm->nodes, node, 1);
	leave_address(mm, there, node, home);
	return true;
}

/* Where a page is away none is present: what the books have so is from before the mapping came there. */
static struct page *stale_out(struct mm *mm, uint64_t addr)
{
	struct page *there = page_find(&mm->pt, addr);

	if (!there || !(there->flags & PG_PRESENT) || there->flags & PG_LOCKED)
		return there;
	if (there->flags & PG_HUGE && there->flags & PG_ISOLATED)
		return there;
	if (there->flags & PG_HUGE)
		page_split(mm, there);
	there = page_find(&mm->pt, addr);
	if (there && there->flags & PG_PRESENT)
		page_gone(mm, there);
	return page_find(&mm->pt, addr);
}

static bool enter_at(struct mm *mm, uint64_t addr, int node, uint32_t home)
{
	struct page *there = stale_out(mm, addr);

	if (there && there->refs)
		return enter_over(mm, there, node, home);
	return page_enter_away(mm, addr, node, home) != NULL;
}

static bool strand(struct mm *mm, uint64_t addr, int node, uint32_t home, bool busy)
{
	if (mm->nr_stranded == STRANDED_MAX)
		return false;
	mm->stranded[mm->nr_stranded++] = (struct stranded){ addr, home, node, busy, false };
	return true;
}

void page_keep(struct mm *mm, uint64_t addr, int node, uint32_t home)
{
	if (enter_at(mm, addr, node, home) || strand(mm, addr, node, home, false))
		return;
	mm->stats.poisoned++;
	mm->mmu->ops->poison(mm->mmu, addr);
	away_release(mm, node, home, true);
}

static struct stranded stranded_remove(struct mm *mm, uint32_t i)
{
	struct stranded s = mm->stranded[i];

	mm->stranded[i] = mm->stranded[--mm->nr_stranded];
	return s;
}

void away_let_go(struct mm *mm, int node, uint32_t home, bool stale)
{
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		if (mm->stranded[i].busy && mm->stranded[i].node == node && mm->stranded[i].home == home) {
			mm->stranded[i].busy = false;
			return;
		}
	away_release(mm, node, home, stale);
}

void stranded_retry(struct mm *mm)
{
	for (uint32_t i = 0; i < mm->nr_stranded;)
		if (mm->stranded[i].gone) {
			struct stranded s = stranded_remove(mm, i);

			if (!s.busy)
				away_release(mm, s.node, s.home, true);
		} else if (!mm->stranded[i].busy &&
			   enter_at(mm, mm->stranded[i].addr, mm->stranded[i].node, mm->stranded[i].home)) {
			mm->mmu->ops->wake(mm->mmu, mm->stranded[i].addr, PAGE_SIZE_);
			stranded_remove(mm, i);
		} else {
			i++;
		}
}

bool stranded_in(const struct mm *mm, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		if (mm->stranded[i].addr >= start && mm->stranded[i].addr < end)
			return true;
	return false;
}

void stranded_gone(struct mm *mm, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < mm->nr_stranded;)
		if (mm->stranded[i].addr >= start && mm->stranded[i].addr < end && mm->forking) {
			mm->stranded[i].gone = true; /* the stores are a fork's */
			mm->stranded[i++].addr = 0;
		} else if (mm->stranded[i].addr >= start && mm->stranded[i].addr < end) {
			struct stranded s = stranded_remove(mm, i);

			if (!s.busy)
				away_release(mm, s.node, s.home, true);
		} else {
			i++;
		}
}

void stranded_follow(struct mm *mm, uint64_t start, uint64_t end, uint64_t to)
{
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		if (mm->stranded[i].addr >= start && mm->stranded[i].addr < end)
			mm->stranded[i].addr += to - start;
}

/* One that a request has in its hands goes along there too. False: it cannot. */
static bool fetch_follow(struct mm *mm, struct page *page, uint64_t to)
{
	struct fetch *f = &mm->fetch;
	struct page *there = stale_out(mm, to), *entry;
	uint32_t i = 0;

	while (i < f->nr && f->page[i] != page)
		i++;
	if (i == f->nr || (there && there->refs))
		return false;
	entry = page_enter_away(mm, to, page->node, page->home);
	if (!entry)
		return false;
	lru_del(mm, entry);
	entry->flags |= PG_ISOLATED | PG_LOCKED | (page->flags & PG_LAZY);
	entry->want = page->want;
	entry->refs++;
	f->page[i] = entry;
	page_leave(mm, page);
	page->flags &= (uint16_t) ~(PG_LOCKED | PG_ISOLATED);
	page->refs = 0;
	page_unuse(&mm->pt, page);
	return true;
}

void away_follow(struct mm *mm, struct page *page, uint64_t to)
{
	uint32_t home = page->home;
	int node = page->node;
	uint16_t lazy = page->flags & PG_LAZY;
	uint8_t want = page->want;

	if (page->flags & PG_LOCKED) {
		if (fetch_follow(mm, page, to))
			return;
		/* what keeps it is read just now, and its own as soon as that is over: who reads will find it gone */
		if (!strand(mm, to, node, home, true) && !mm->mmu->ops->poison(mm->mmu, to))
			mm->stats.poisoned++;
		page_gone(mm, page);
		return;
	}
	page_leave(mm, page);
	page_keep(mm, to, node, home);
	page = away_at(mm, to);
	if (!page)
		return;
	page->flags |= lazy;
	page->want = want;
}

/* ---- around a fork ---- */

/* One from before a child began is not widened: what is gone since then is the child's. */
static bool note(struct mm *mm, uint64_t start, uint64_t end, uint64_t to)
{
	struct fork_note *last = mm->nr_notes > mm->child_notes ? &mm->notes[mm->nr_notes - 1] : NULL;

	if (!mm->pt.away)
		return true;
	if (last && !to && !last->to && start <= last->end && end >= last->start) {
		last->start = min_u64(start, last->start);
		last->end = max_u64(end, last->end);
		return true;
	}
	if (mm->nr_notes == FORK_NOTES)
		return false;
	mm->notes[mm->nr_notes] = (struct fork_note){ start, end, to };
	__atomic_store_n(&mm->nr_notes, mm->nr_notes + 1, __ATOMIC_RELEASE);
	return true;
}

/* More than any program does in the time of a fork: page by page. */
void away_leave(struct mm *mm, uint64_t start, uint64_t end)
{
	if (note(mm, start, end, 0))
		return;
	for (uint64_t at = start; at < end; at += PAGE_SIZE_) {
		struct page *page = away_at(mm, at);

		if (page)
			page->flags |= PG_LEFT;
		mm->any_left = mm->any_left || page;
	}
}

/* ... or better SIGBUS than zeroes that nobody wrote. */
void away_carry(struct mm *mm, const struct mmu_event *ev)
{
	if (note(mm, ev->addr, ev->end, ev->to))
		return;
	for (uint64_t at = ev->addr; at < ev->end; at += PAGE_SIZE_)
		if (away_at(mm, at) && !mm->mmu->ops->poison(mm->mmu, at - ev->addr + ev->to))
			mm->stats.poisoned++;
	away_leave(mm, ev->addr, ev->end);
}

/* The leaf may go with its last page. */
static void sweep_leaf(struct mm *mm, uint64_t leaf)
{
	for (uint64_t at = leaf; at < leaf + HUGE_SIZE_ && page_find(&mm->pt, leaf); at += PAGE_SIZE_) {
		struct page *page = page_find(&mm->pt, at);

		if (page->flags & PG_LEFT)
			page_gone(mm, page);
	}
}

void away_settle(struct mm *mm)
{
	uint32_t nr = mm->nr_notes;
	uint64_t at = 0;

	mm->nr_notes = mm->child_notes = 0;
	for (; mm->any_left && leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_); at += HUGE_SIZE_)
		sweep_leaf(mm, at);
	mm->any_left = false;
	for (uint32_t i = 0; i < nr; i++)
		if (mm->notes[i].to)
			books_follow(mm, mm->notes[i].start, mm->notes[i].end, mm->notes[i].to);
		else
			range_lost(mm, mm->notes[i].start, mm->notes[i].end);
	stranded_retry(mm);
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

/* SPDX-License-Identifier: MIT */
/*
 * Adoption: the books are made to agree with what is present. Nothing of the program is intercepted;
 * between two requests it may free and touch what it likes, and the next look finds out.
 *
 * A look at a range and the entry of its outcome are one step under mm->migrate: a page in flight
 * would look absent.
 */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define CHUNK (64UL << 20)

struct page *page_enter(struct mm *mm, uint64_t addr, int node, uint16_t flags)
{
	struct page *page = page_make(&mm->pt, addr);

	if (!page)
		return NULL;
	BUG_ON(page->flags & PG_PRESENT || page->refs);
	page->refs = 1;
	page->err = 0;
	page->want = page->age = page->level = 0;
	page->flags = flags | PG_PRESENT;
	if (node == NODE_BY_POLICY)
		node = place_page(mm, addr, page_nr(page), NULL, HOST_UNKNOWN);
	page->node = (uint8_t)node;
	mm->pt.present += page_nr(page);
	node_charge_force(mm->nodes, node, page_nr(page));
	lru_add(mm, page);
	return page;
}

void page_leave(struct mm *mm, struct page *page)
{
	if (!(page->flags & (PG_PRESENT | PG_AWAY)))
		return;
	if (page->flags & PG_LRU)
		lru_del(mm, page);
	if (!(page->flags & PG_AWAY))
		mm->pt.present -= page_nr(page);
	else
		mm->pt.away--;
	mm->pt.cached -= page->flags & PG_AWAY && !node_far(mm->nodes, page->node);
	node_uncharge(mm->nodes, page->node, page_nr(page));
	page->flags &= (uint16_t) ~(PG_PRESENT | PG_MIGRATION | PG_SWAPPED | PG_AWAY | PG_LEFT | PG_LAZY);
	page->refs--;
	if (!(page->flags & PG_ISOLATED)) {
		page->flags &= (uint16_t)~PG_HUGE;
		page_unuse(&mm->pt, page);
	}
}

/* What is locked is dropped by who has it locked. */
void page_gone(struct mm *mm, struct page *page)
{
	if (page->flags & PG_AWAY && (!(page->flags & PG_LOCKED) || BUG_BACK(BUG_FAR_LOCKED)))
		away_release(mm, page->node, page->home, true);
	page_leave(mm, page);
}

/* One on a migration's list cannot change its size there. */
void page_split(struct mm *mm, struct page *page)
{
	uint64_t addr = page_addr(&mm->pt, page);
	bool listed = page->flags & PG_LRU;
	int node = page->node;

	BUG_ON(!(page->flags & PG_HUGE) || page->flags & (PG_ISOLATED | PG_LOCKED));
	page_gone(mm, page);
	for (uint32_t i = 0; i < LEAF_PAGES; i++) {
		page = page_enter(mm, addr + i * PAGE_SIZE_, node, 0);
		if (page && !listed)
			lru_del(mm, page);
	}
}

static void leaf_gone(struct mm *mm, uint64_t addr, uint64_t start, uint64_t end, uint16_t which)
{
	uint64_t first = max_u64(addr, start), last = min_u64(addr + HUGE_SIZE_, end);
	struct page *head = page_find(&mm->pt, addr);

	if (head && head->flags & PG_HUGE) {
		if (first > addr || last < addr + HUGE_SIZE_) {
			if (!(head->flags & (PG_ISOLATED | PG_LOCKED)))
				page_split(mm, head);
			else
				page_gone(mm, head);
		} else {
			page_gone(mm, head);
			return;
		}
	}
	for (uint64_t a = first; a < last; a += PAGE_SIZE_) {
		struct page *page = page_find(&mm->pt, a);

		if (!page)
			return;
		if (page->flags & which)
			page_gone(mm, page);
	}
}

static void for_gone(struct mm *mm, uint64_t start, uint64_t end, uint16_t which)
{
	uint64_t at = start;

	while (start < end && leaf_next(&mm->pt, &at, end)) {
		leaf_gone(mm, at, start, end, which);
		at += HUGE_SIZE_;
	}
}

void range_gone(struct mm *mm, uint64_t start, uint64_t end)
{
	for_gone(mm, start, end, BUG_BACK(BUG_FAR_SCAN) ? PG_PRESENT | PG_AWAY : PG_PRESENT);
}

void range_lost(struct mm *mm, uint64_t start, uint64_t end)
{
	for_gone(mm, start, end, PG_PRESENT | PG_AWAY);
}

/* Is it only a touch that tells of the page, and may it still come? */
static bool awaited(struct page *page)
{
	if (!(page->flags & PG_LRU) || page->flags & PG_HUGE || page->want <= WANT_LAST_LOOK)
		return false;
	page->want--;
	return true;
}

/* Nothing was found in [start, end). */
static void absent(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct page *leaf;

	if (!mm->observed) {
		range_gone(mm, start, end);
		return;
	}
	while (start < end && (leaf = leaf_next(&mm->pt, &at, end))) {
		uint64_t first = max_u64(at, start), last = min_u64(at + HUGE_SIZE_, end);

		if (leaf->flags & PG_HUGE) {
			leaf_gone(mm, at, start, end, PG_PRESENT);
			first = last;
		}
		for (uint64_t a = first; a < last; a += PAGE_SIZE_) {
			struct page *page = page_find(&mm->pt, a);

			if (!page)
				break;
			if (!(page->flags & PG_AWAY) && !awaited(page))
				page_gone(mm, page);
		}
		at += HUGE_SIZE_;
	}
}

/* ---- entering runs ---- */

/* Where the kernel has said where it is: by policy as far as that agrees. */
static int node_at(struct mm *mm, uint64_t addr, uint32_t nr, const int *where)
{
	return where ? place_page(mm, addr, nr, NULL, *where) : NODE_BY_POLICY;
}

static int node_at_all(struct mm *mm, uint64_t addr, const int *where)
{
	return place_page(mm, addr, 1, NULL, where ? *where : HOST_UNKNOWN);
}

/*
 * Is what was found where the books have a page away that very page, brought back while a fork had the books? Not if
 * one has come there since the look, with its mapping, nor while such a change is under way: what was found may be
 * what was there before, or is there in its place, and to take it for the page would drop the page's content. The next
 * look finds out.
 */
static bool look_holds(struct mm *mm)
{
	return BUG_BACK(BUG_FAR_LOOK) || (mm->leaves == mm->look && !mm->mmu->ops->changing(mm->mmu));
}

/* Off its list it stays in the books and is not moved; back on it, it may be. */
static void unshelve(struct mm *mm, struct page *page)
{
	if (!(page->flags & (PG_LRU | PG_ISOLATED | PG_LOCKED)))
		lru_add(mm, page);
}

static void shelve_range(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct page *leaf;

	while ((leaf = leaf_next(&mm->pt, &at, end))) {
		uint64_t first = max_u64(at, start), last = min_u64(at + HUGE_SIZE_, end);

		at += HUGE_SIZE_;
		if (leaf->flags & PG_HUGE) {
			if (leaf->flags & PG_LRU)
				lru_del(mm, leaf);
			continue;
		}
		for (uint64_t a = first; a < last; a += PAGE_SIZE_)
			if ((leaf[a / PAGE_SIZE_ % LEAF_PAGES].flags & (PG_LRU | PG_PRESENT)) == (PG_LRU | PG_PRESENT))
				lru_del(mm, &leaf[a / PAGE_SIZE_ % LEAF_PAGES]);
	}
}

static int enter_small(struct mm *mm, uint64_t addr, uint16_t flags, const int *where)
{
	struct page *page = page_find(&mm->pt, addr);

	if (page && page->flags & PG_HUGE) {
		if (page->flags & (PG_ISOLATED | PG_LOCKED) || !(page->flags & PG_PRESENT))
			return 0;
		page_split(mm, page);
		page = page_find(&mm->pt, addr);
	}
	if (page && page->flags & PG_PRESENT) {
		page->flags = (uint16_t)((page->flags & ~PG_SWAPPED) | flags);
		page->want = want_found(page->want);
		if (where)
			page_seen(mm, page, *where);
		unshelve(mm, page);
		return 0;
	}
	if (page && page->flags & PG_AWAY && !(page->flags & (PG_ISOLATED | PG_LOCKED)) && look_holds(mm))
		page_back(mm, page, node_at_all(mm, addr, where)); /* brought back while a fork had the books */
	if (page && page->refs)
		return 0; /* on a migration's list, and came back meanwhile: the next look enters it */
	page = page_enter(mm, addr, node_at(mm, addr, 1, where), flags);
	if (page && mm->observed) /* who touched it may be seen a moment later */
		page->want = WANT_UNSURE;
	return page ? 0 : -ENOMEM;
}

/* A THP takes the place of small pages: the node is that of the first that the books knew. */
static int enter_huge(struct mm *mm, uint64_t addr, const int *where)
{
	struct page *page = page_find(&mm->pt, addr);
	int node = NODE_BY_POLICY;

	if (page && page->flags & PG_HUGE) {
		if (page->flags & PG_PRESENT) {
			page->want = want_found(page->want);
			if (where)
				page_seen(mm, page, *where);
			unshelve(mm, page);
		}
		return 0;
	}
	for (uint32_t i = 0; page && i < LEAF_PAGES; i++)
		if (page[i].flags & (PG_ISOLATED | PG_LOCKED) || (page[i].flags & PG_AWAY && !look_holds(mm)))
			return 0;
	for (uint32_t i = 0; page && i < LEAF_PAGES && !place_interleaved(mm, addr); i++)
		if (page[i].flags & PG_PRESENT) {
			node = where ? node_true(mm->nodes, page[i].node, *where) : page[i].node;
			break;
		}
	if (node == NODE_BY_POLICY)
		node = node_at(mm, addr, LEAF_PAGES, where);
	range_lost(mm, addr, addr + HUGE_SIZE_);
	page = page_enter(mm, addr, node, PG_HUGE);
	if (page && mm->observed && node == NODE_BY_POLICY)
		page->want = WANT_UNSURE;
	return page ? 0 : -ENOMEM;
}

static int enter_run(struct mm *mm, const struct mmu_run *run, const int *where)
{
	uint16_t flags = run->bits & MMU_PG_SWAPPED ? PG_SWAPPED : 0;
	uint64_t addr = run->start;
	int err = 0;

	while (addr < run->end && !err) {
		const int *w = where ? &where[(addr - run->start) / PAGE_SIZE_] : NULL;

		if (run->bits & MMU_PG_HUGE && !(addr % HUGE_SIZE_) && addr + HUGE_SIZE_ <= run->end) {
			err = enter_huge(mm, addr, w);
			addr += HUGE_SIZE_;
		} else {
			err = enter_small(mm, addr, flags, w);
			addr += PAGE_SIZE_;
		}
	}
	return err;
}

/* Of a THP's pages the first is asked for only. */
static int run_where(struct mm *mm, const struct mmu_run *run, int nr, int *where)
{
	const struct span *s = span_find(mm, run->start);

	if (!s || s->host == HOST_UNKNOWN || run->bits & MMU_PG_SWAPPED)
		return host_where(mm, run->start, run->bits & MMU_PG_HUGE && nr == LEAF_PAGES ? 1 : nr, where);
	for (int i = 0; i < nr; i++)
		where[i] = s->host;
	return 0;
}

/* Pages on host nodes, in pieces that fit the stack. */
static int enter_bound(struct mm *mm, struct mmu_run run)
{
	int where[LEAF_PAGES], err = 0;
	uint64_t end = run.end;

	while (run.start < end && !err) {
		run.end = min_u64(end, ALIGN_DOWN(run.start, HUGE_SIZE_) + HUGE_SIZE_);
		err = run_where(mm, &run, (int)((run.end - run.start) / PAGE_SIZE_), where);
		if (!err) {
			lock_acquire(&mm->lock);
			err = enter_run(mm, &run, where);
			lock_release(&mm->lock);
		}
		run.start = run.end;
	}
	return err;
}

static int adopt_run(struct mm *mm, const struct mmu_run *run, uint64_t *seen)
{
	int err;

	lock_acquire(&mm->lock);
	absent(mm, *seen, run->start);
	*seen = run->end;
	if (run->bits & MMU_PG_ZERO)
		for_gone(mm, run->start, run->end, look_holds(mm) ? PG_PRESENT | PG_AWAY : PG_PRESENT);
	lock_release(&mm->lock);
	if (run->bits & MMU_PG_ZERO)
		return 0;
	if (node_any_host(mm->nodes))
		return enter_bound(mm, *run);
	lock_acquire(&mm->lock);
	err = enter_run(mm, run, NULL);
	lock_release(&mm->lock);
	return err;
}

static int look(struct mm *mm, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr)
{
	mm->look = __atomic_load_n(&mm->leaves, __ATOMIC_ACQUIRE);
	return mm->mmu->ops->scan(mm->mmu, pos, end, run, nr);
}

static int adopt_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct mmu_run run[16];
	uint64_t pos = start, seen = start;
	int n, err = 0;

	if (mm->place.nr_ranges) {
		lock_acquire(&mm->lock);
		ranges_check(mm, start, end);
		lock_release(&mm->lock);
	}
	while (!err && (n = look(mm, &pos, end, run, (int)ARRAY_SIZE(run))) > 0)
		for (int i = 0; i < n && !err; i++)
			err = adopt_run(mm, &run[i], &seen);
	if (err || n < 0)
		return err ? err : n;
	lock_acquire(&mm->lock);
	absent(mm, seen, end);
	lock_release(&mm->lock);
	return 0;
}

int adopt_part(struct mm *mm, const struct span *s, uint64_t start, uint64_t end)
{
	int err;

	start = max_u64(start, s->start);
	end = min_u64(end, s->end);
	if (start >= end || (s->kind != AREA_MANAGED && s->kind != AREA_READONLY))
		return 0;
	err = adopt_range(mm, start, end);
	if (err || s->kind == AREA_MANAGED)
		return err;
	lock_acquire(&mm->lock);
	shelve_range(mm, start, end);
	lock_release(&mm->lock);
	return 0;
}

/* ---- everything ---- */

uint64_t count_present(struct mm *mm, uint64_t start, uint64_t end)
{
	struct mmu_run run[32];
	uint64_t pos = start, nr = 0;
	int n;

	while ((n = mm->mmu->ops->scan(mm->mmu, &pos, end, run, (int)ARRAY_SIZE(run))) > 0)
		for (int i = 0; i < n; i++)
			if (!(run[i].bits & MMU_PG_ZERO))
				nr += (run[i].end - run[i].start) / PAGE_SIZE_;
	return nr;
}

static enum area_kind exclusion_kind(const struct exclusion *x)
{
	return x->tid == EXCLUDE_OPT_OUT ? AREA_EXCLUDED : AREA_STACK;
}

static void count_excluded(struct mm *mm, const struct span *s, uint64_t *unmanaged)
{
	for (uint32_t i = 0; i < mm->excluded.nr; i++) {
		struct exclusion x = mm->excluded.range[i];
		uint64_t start = max_u64(x.start, s->start), end = min_u64(x.end, s->end);

		if (start < end && x.tid != EXCLUDE_PIN)
			unmanaged[exclusion_kind(&x)] += count_present(mm, start, end);
	}
}

static int adopt_span(struct mm *mm, const struct span *s, uint64_t *unmanaged)
{
	int err = 0;

	if (unmanaged && s->kind != AREA_OWN && s->kind != AREA_MANAGED)
		unmanaged[s->kind] += count_present(mm, s->start, s->end);
	if (s->kind != AREA_MANAGED && s->kind != AREA_READONLY)
		return 0;
	for (uint64_t at = s->start; at < s->end && !err; at += CHUNK)
		err = adopt_part(mm, s, at, at + CHUNK);
	if (unmanaged && s->kind == AREA_MANAGED)
		count_excluded(mm, s, unmanaged);
	return err;
}

void gaps_gone(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t seen = start;

	for (uint32_t i = 0; i < mm->spans.nr; i++) {
		const struct span *s = &mm->spans.span[i];

		if (s->end <= seen || s->start >= end || (s->kind != AREA_MANAGED && s->kind != AREA_READONLY))
			continue;
		lock_acquire(&mm->lock);
		range_gone(mm, seen, s->start);
		lock_release(&mm->lock);
		seen = s->end;
	}
	lock_acquire(&mm->lock);
	range_gone(mm, seen, min_u64(end, UINT64_MAX - HUGE_SIZE_));
	lock_release(&mm->lock);
}

int adopt_all(struct mm *mm, uint64_t *unmanaged)
{
	int err = spans_load(mm);

	node_rest(mm->nodes);
	if (!err)
		err = exclude_refresh(mm);
	if (err)
		return err;
	gaps_gone(mm, 0, UINT64_MAX);
	observe(mm); /* after the gaps: what has been mapped since is known by its touches only */
	spans_hosts(mm);
	for (uint32_t i = 0; i < mm->spans.nr && !err; i++)
		err = adopt_span(mm, &mm->spans.span[i], unmanaged);
	observe(mm);
	return err;
}

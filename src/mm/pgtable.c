/* SPDX-License-Identifier: MIT */
/* The software page table: 47 bits of address in three levels, 20 bytes a page (0.5 %). */
#include "mm/page.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LEVEL 8192UL
#define LEAF_BYTES (LEAF_PAGES * sizeof(struct page))
#define READY_STEP 256U		/* leaves made accessible at a time: 2 MiB */

int pgtable_init(struct pgtable *pt, struct region *r)
{
	uint64_t most = (r->reserved - r->used) / 2 / LEAF_BYTES;

	*pt = (struct pgtable){ .region = r, .max_leaves = (uint32_t)most };
	pt->root = region_alloc(r, LEVEL * sizeof(*pt->root));
	pt->leaf_nr = region_alloc(r, most * sizeof(*pt->leaf_nr));
	pt->leaf_used = region_alloc(r, most * sizeof(*pt->leaf_used));
	pt->pages = region_take(r, most * LEAF_BYTES, PAGE_SIZE_);
	if (!pt->root || !pt->leaf_nr || !pt->leaf_used || !pt->pages)
		return -ENOMEM;
	pt->nr_leaves = 1;
	return 0;
}

uint64_t pgtable_bytes(const struct pgtable *pt)
{
	return pt->nr_leaves * (LEAF_BYTES + sizeof(*pt->leaf_nr) + sizeof(*pt->leaf_used));
}

static bool leaves_ready(struct pgtable *pt, uint32_t nr)
{
	char *at = (char *)pt->pages + pt->ready_leaves * LEAF_BYTES;
	uint64_t len = READY_STEP * LEAF_BYTES;

	if (nr < pt->ready_leaves)
		return true;
	if (pt->ready_leaves + READY_STEP > pt->max_leaves || sys3(SYS_mprotect, at, len, PROT_READ | PROT_WRITE) < 0)
		return false;
	sys3(SYS_madvise, at, len, MADV_NOHUGEPAGE);
	pt->ready_leaves += READY_STEP;
	return true;
}

static uint32_t leaf_alloc(struct pgtable *pt, uint64_t addr)
{
	uint32_t leaf = pt->free_leaf;

	if (leaf)
		pt->free_leaf = pt->leaf_nr[leaf];
	else if (leaves_ready(pt, pt->nr_leaves))
		leaf = pt->nr_leaves++;
	else
		return 0;
	pt->leaf_nr[leaf] = (uint32_t)(addr / HUGE_SIZE_);
	pt->leaf_used[leaf] = 0;
	return leaf;
}

static struct page **leaf_slot(struct pgtable *pt, uint64_t addr, bool make)
{
	uint64_t nr = addr / HUGE_SIZE_, top = nr / LEVEL;

	if (top >= LEVEL)
		return NULL;
	if (!pt->root[top] && make)
		pt->root[top] = region_alloc(pt->region, LEVEL * sizeof(struct page *));
	return pt->root[top] ? &pt->root[top][nr % LEVEL] : NULL;
}

struct page *page_find(struct pgtable *pt, uint64_t addr)
{
	struct page **slot = leaf_slot(pt, addr, false);

	if (!slot || !*slot)
		return NULL;
	if ((*slot)->flags & PG_HUGE)
		return *slot;
	return *slot + addr / PAGE_SIZE_ % LEAF_PAGES;
}

struct page *page_make(struct pgtable *pt, uint64_t addr)
{
	struct page **slot = leaf_slot(pt, addr, true);
	struct page *page;

	if (!slot)
		return NULL;
	if (!*slot) {
		uint32_t leaf = leaf_alloc(pt, addr);

		if (!leaf)
			return NULL;
		*slot = &pt->pages[leaf * LEAF_PAGES];
	}
	page = page_find(pt, addr);
	if (!page->refs)
		pt->leaf_used[page_id(pt, page) / LEAF_PAGES]++;
	return page;
}

void page_unuse(struct pgtable *pt, struct page *page)
{
	uint32_t leaf = page_id(pt, page) / LEAF_PAGES;

	if (page->refs)
		return;
	BUG_ON(page->flags & (PG_LRU | PG_LOCKED | PG_ISOLATED | PG_PRESENT | PG_AWAY));
	*page = (struct page){ 0 };
	BUG_ON(!pt->leaf_used[leaf]);
	if (--pt->leaf_used[leaf])
		return;
	*leaf_slot(pt, pt->leaf_nr[leaf] * HUGE_SIZE_, false) = NULL;
	pt->leaf_nr[leaf] = pt->free_leaf;
	pt->free_leaf = leaf;
}

struct page *leaf_next(struct pgtable *pt, uint64_t *addr, uint64_t end)
{
	uint64_t nr = *addr / HUGE_SIZE_, last = (end + HUGE_SIZE_ - 1) / HUGE_SIZE_;

	while (nr < last && nr < LEVEL * LEVEL) {
		struct page **mid = pt->root[nr / LEVEL];

		if (!mid) {
			nr = (nr / LEVEL + 1) * LEVEL;
			continue;
		}
		if (mid[nr % LEVEL]) {
			*addr = nr * HUGE_SIZE_;
			return mid[nr % LEVEL];
		}
		nr++;
	}
	return NULL;
}

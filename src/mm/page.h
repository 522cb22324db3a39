/* SPDX-License-Identifier: MIT */
/*
 * The books: one struct page for every page of managed memory that the engine knows of, found by
 * address through the software page table. A struct page is also its own page table entry: the page
 * is mapped at one address only (pages shared between processes are not moved), so there is no
 * reverse map to keep.
 *
 * A huge page is the first entry of its leaf with PG_HUGE; the other 511 are then unused. A page is either present, or
 * away: on a far node, 4 KiB by itself.
 */
#ifndef GODWIT_MM_PAGE_H
#define GODWIT_MM_PAGE_H

#include "base/base.h"

#define PAGE_SIZE_ 4096UL
#define HUGE_SIZE_ (2UL << 20)
#define LEAF_PAGES 512U

enum page_flags {
	PG_PRESENT = 1 << 0,	/* mapped, charged to .node */
	PG_HUGE = 1 << 1,	/* a THP: this entry stands for the whole leaf */
	PG_LRU = 1 << 2,	/* on the list of its node */
	PG_LOCKED = 1 << 3,	/* belongs to the batch in flight */
	PG_MIGRATION = 1 << 4,	/* the entry is a migration entry: the page is absent, a touch waits */
	PG_ISOLATED = 1 << 5,	/* on a list of a migration */
	PG_SWAPPED = 1 << 6,	/* was in swap when last seen */
	PG_FRESH = 1 << 7,	/* its first touch was answered by us: nothing that was discarded */
	PG_AWAY = 1 << 8,	/* charged to .node, absent: .home has its content, a touch brings it in */
	PG_LAZY = 1 << 10,	/* with PG_AWAY: it moves to .want when it is touched; WANT_TOUCHER: to the toucher */
	PG_LEFT = 1 << 9,	/* with PG_AWAY: discarded while a fork copied the books; it goes when that is over */
};

/*
 * Entered since a touch was seen, which may have been a read of the page of zeroes: the next touch may be the first.
 * And a touch is seen before it is answered: a page that is not there yet is looked for a few times before it is
 * dropped.
 */
#define WANT_UNSURE 0xff
#define WANT_LAST_LOOK 0xf0	/* not found so far, and not looked for any more */
#define WANT_TOUCHER 0xd0
#define WANT_SEEN 0xe0		/* found; whose touch it was may be told after that look */

static inline bool want_unsure(uint8_t want)
{
	return want >= WANT_SEEN;
}

/* It has been found. */
static inline uint8_t want_found(uint8_t want)
{
	return want >= WANT_LAST_LOOK ? WANT_SEEN : want == WANT_SEEN ? 0 : want;
}

/* All fields are protected by mm->lock. */
struct page {
	uint32_t next, prev;	/* ids, 0: none */
	uint32_t home;		/* PG_AWAY: its number in the store of .node, or its slot of the migration cache */
	uint16_t flags;		/* enum page_flags */
	uint8_t refs;		/* 1 for the mapping, 1 for isolation */
	uint8_t node;
	uint8_t err;		/* why the last try failed (an errno), 0: none */
	uint8_t want;		/* the node that move_pages() wants it on; or WANT_* */
	uint8_t age;		/* rounds that it stays when it is its turn to leave; on a far node: when it left */
	uint8_t level;		/* how often it was found in use: see workingset.c */
};

struct page_list {
	uint32_t head, tail;
	uint64_t nr;		/* 4 KiB pages: a huge one counts 512 */
};

struct pgtable {
	struct region *region;
	struct page ***root;	/* [8192] -> [8192] -> leaf of LEAF_PAGES */
	struct page *pages;	/* all leaves, one after another; leaf 0 is not used, so that id 0 is none */
	uint32_t *leaf_nr;	/* address of leaf i / 2 MiB */
	uint16_t *leaf_used;	/* entries of leaf i in use */
	uint32_t nr_leaves, max_leaves, ready_leaves;
	uint32_t free_leaf;	/* chain of free ones through leaf_nr; 0: none */
	uint64_t present, away;	/* 4 KiB pages */
	uint64_t cached;	/* of those that are away: in the migration cache */
};

/* ---- pgtable.c ---- */

int pgtable_init(struct pgtable *pt, struct region *r);
/* Bytes of the books that have been touched. */
uint64_t pgtable_bytes(const struct pgtable *pt);
/* The entry that stands for addr (of a huge page: its first), or NULL when the books have no leaf there. */
struct page *page_find(struct pgtable *pt, uint64_t addr);
/* The same, making the leaf; NULL: no memory. Counts as a use: page_unuse() when it is not taken. */
struct page *page_make(struct pgtable *pt, uint64_t addr);
/* Forget entries that nothing holds; the leaf goes with its last. */
void page_unuse(struct pgtable *pt, struct page *page);
/* The first leaf at or above *addr that the books have, as its entry 0; *addr becomes its address. NULL: none below end. */
struct page *leaf_next(struct pgtable *pt, uint64_t *addr, uint64_t end);
static inline uint32_t page_id(const struct pgtable *pt, const struct page *page)
{
	return (uint32_t)(page - pt->pages);
}

static inline uint64_t page_addr(const struct pgtable *pt, const struct page *page)
{
	uint32_t id = page_id(pt, page);

	return pt->leaf_nr[id / LEAF_PAGES] * HUGE_SIZE_ + id % LEAF_PAGES * PAGE_SIZE_;
}

static inline struct page *page_by_id(const struct pgtable *pt, uint32_t id)
{
	return id ? &pt->pages[id] : NULL;
}

static inline uint32_t page_nr(const struct page *page)
{
	return page->flags & PG_HUGE ? LEAF_PAGES : 1;
}

static inline uint64_t page_bytes(const struct page *page)
{
	return page_nr(page) * PAGE_SIZE_;
}

/* ---- lru.c ---- */

void list_add_tail(struct pgtable *pt, struct page_list *list, struct page *page);
void list_del(struct pgtable *pt, struct page_list *list, struct page *page);
struct page *list_pop(struct pgtable *pt, struct page_list *list);

#endif

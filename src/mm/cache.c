/* SPDX-License-Identifier: MIT */
/*
 * The migration cache: pages that were unmapped and not copied. Their frames stay, in slots of an arena of their own,
 * until a touch takes the page back, to where it is to be by then, or the reclaimer sends it on to a far node; after
 * Tosatti's and Schermerhorn's migration cache, in which pages languish between their mappings.
 *
 *   slot    empty            move out of the program's memory: a page languishes there
 *           languishing      moved back (empty again), or copied elsewhere (stale)
 *           stale            its frame is nobody's: dropped with its neighbours, then empty
 *
 * Slots are handed out in the order of addresses and around, so those that have waited longest are neighbours. mm->lock
 * held, but where said otherwise.
 */
#include "mm/mm.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef SLOTS_MOST
#define SLOTS_MOST (1U << 24) /* 64 GiB of addresses */
#define SLOTS_LEAST (1U << 15)
#endif
#define HUGE_TRIES 4096U
#define MADV_POPULATE_WRITE_ 23

static bool bit(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> i % 64 & 1;
}

uint64_t cache_slot(const struct mm *mm, uint32_t slot)
{
	return mm->cache.base + slot * PAGE_SIZE_;
}

/*
 * Inherited by children, whose books say that the pages are there. The page behind the slots is touched once: see
 * arena_map().
 */
static long cache_map(uint64_t at, uint64_t len)
{
	long ret = sys_mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
			    -1, 0);

	if (ret < 0)
		return ret;
	sys2(SYS_munlock, at, len);
	sys3(SYS_madvise, at, len, MADV_NOHUGEPAGE);
	return sys3(SYS_madvise, at + len - PAGE_SIZE_, PAGE_SIZE_, MADV_POPULATE_WRITE_);
}

int cache_ready(struct mm *mm)
{
	struct cache *c = &mm->cache;
	uint32_t slots = SLOTS_MOST;
	uint64_t at = 0, len = 0;

	if (c->slots)
		return 0;
	for (; !at && slots >= SLOTS_LEAST; slots = at ? slots : slots / 2) {
		len = (slots + 1) * PAGE_SIZE_;
		at = (uint64_t)region_part(mm->region, len);
	}
	if (!at)
		return -ENOMEM;
	c->used = region_alloc(mm->region, slots / 8);
	c->stale = region_alloc(mm->region, slots / 8);
	c->huge = region_alloc(mm->region, max_u64(slots / 8 / LEAF_PAGES, 8));
	if (!c->used || !c->stale || !c->huge || cache_map(at, len) < 0 ||
	    mm->mmu->ops->track(mm->mmu, at, len - PAGE_SIZE_)) {
		region_drop(mm->region, (void *)at);
		return -ENOMEM;
	}
	c->base = at;
	c->slots = slots;
	return 0;
}

int cache_track_again(struct mm *mm)
{
	return mm->cache.slots ? track_soon(mm, mm->cache.base, mm->cache.slots * PAGE_SIZE_) : 0;
}

/* The first empty slot from here on, or .slots. Words without one are passed over. */
static uint32_t next_empty(const struct cache *c, uint32_t from)
{
	for (uint32_t i = from; i < c->slots;) {
		if (!(i % 64) && !~(c->used[i / 64] | c->stale[i / 64])) {
			i += 64;
			continue;
		}
		if (!bit(c->used, i) && !bit(c->stale, i))
			return i;
		i++;
	}
	return c->slots;
}

static bool group_empty(const struct cache *c, uint32_t group)
{
	uint32_t word = group * LEAF_PAGES / 64, k = 0;

	while (k < LEAF_PAGES / 64 && !c->used[word + k] && !c->stale[word + k])
		k++;
	return k == LEAF_PAGES / 64;
}

uint32_t cache_take(struct mm *mm, uint32_t most, uint32_t *first)
{
	struct cache *c = &mm->cache;
	uint32_t at = next_empty(c, c->cursor), n = 0;

	if (at == c->slots)
		at = next_empty(c, 0);
	if (at < c->slots && group_empty(c, at / LEAF_PAGES))
		c->huge[at / LEAF_PAGES / 64] &= ~(1ULL << at / LEAF_PAGES % 64);
	while (n < most && at + n < c->slots && !bit(c->used, at + n) && !bit(c->stale, at + n) &&
	       (!n || (at + n) % LEAF_PAGES)) {
		c->used[(at + n) / 64] |= 1ULL << (at + n) % 64;
		n++;
	}
	*first = at;
	c->cursor = at + n < c->slots ? at + n : 0;
	c->nr += n;
	return n;
}

/* 2 MiB that are all empty. Behind the cursor nothing was used for the longest time. */
bool cache_take_huge(struct mm *mm, uint32_t *first)
{
	struct cache *c = &mm->cache;
	uint32_t groups = c->slots / LEAF_PAGES, from = c->cursor / LEAF_PAGES + 1;

	for (uint32_t i = 0; i < groups && i < HUGE_TRIES; i++) {
		uint32_t g = (from + i) % groups, word = g * LEAF_PAGES / 64;

		if (!group_empty(c, g))
			continue;
		*first = g * LEAF_PAGES;
		for (uint32_t k = 0; k < LEAF_PAGES / 64; k++)
			c->used[word + k] = ~0ULL;
		c->huge[g / 64] |= 1ULL << g % 64;
		c->nr += LEAF_PAGES;
		c->cursor = (g + 1) % groups * LEAF_PAGES;
		return true;
	}
	return false;
}

bool cache_huge(const struct mm *mm, uint32_t slot)
{
	return bit(mm->cache.huge, slot / LEAF_PAGES);
}

void cache_give(struct mm *mm, uint32_t slot, bool stale)
{
	struct cache *c = &mm->cache;

	BUG_ON(!bit(c->used, slot));
	c->used[slot / 64] &= ~(1ULL << slot % 64);
	c->nr--;
	if (!stale)
		return;
	c->stale[slot / 64] |= 1ULL << slot % 64;
	c->low = c->nr_stale ? (uint32_t)min_u64(c->low, slot) : slot;
	c->high = c->nr_stale ? (uint32_t)max_u64(c->high, slot) : slot;
	c->nr_stale++;
}

/* A range around the first stale slot, with nothing in use in it; its slots are taken meanwhile. */
static uint32_t stale_run(struct cache *c, uint32_t *first)
{
	uint32_t last = 0, n;

	while (c->low <= c->high && !bit(c->stale, c->low))
		c->low++;
	*first = c->low;
	for (n = 0; c->low + n <= c->high && !bit(c->used, c->low + n); n++)
		if (bit(c->stale, c->low + n))
			last = n + 1;
	for (uint32_t i = *first; i < *first + last; i++) {
		c->nr_stale -= bit(c->stale, i);
		c->stale[i / 64] |= 1ULL << i % 64;
	}
	c->low = *first + last;
	return last;
}

void cache_drop_stale(struct mm *mm)
{
	struct cache *c = &mm->cache;

	for (;;) {
		uint32_t first = 0, n, stale;
		int err;

		lock_acquire(&mm->lock);
		stale = c->nr_stale;
		n = stale ? stale_run(c, &first) : 0;
		stale -= c->nr_stale;
		lock_release(&mm->lock);
		if (!n)
			return;
		err = mm->mmu->ops->drop(mm->mmu, cache_slot(mm, first), n * PAGE_SIZE_);
		lock_acquire(&mm->lock);
		for (uint32_t i = first; i < first + n && !err; i++)
			c->stale[i / 64] &= ~(1ULL << i % 64);
		mm->stats.dropped += stale;
		lock_release(&mm->lock);
		if (err)
			return; /* those slots are not used any more */
	}
}

void cache_trim(struct mm *mm, bool all)
{
	uint32_t nr = __atomic_load_n(&mm->cache.nr_stale, __ATOMIC_RELAXED);

	if (!nr || (nr < STALE_MOST && !all) || !lock_try(&mm->migrate))
		return;
	cache_drop_stale(mm);
	if (all)
		kept_trim(mm);
	lock_release(&mm->migrate);
}

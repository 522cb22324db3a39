/* SPDX-License-Identifier: MIT */
/*
 * Where pages belong, by a profiler's facts: samples (a page, and the node that used it) or ranges (and how hot they
 * are). Pages are in a hash table and in the order of their last sample; ranges are in the order of their addresses.
 */
#include "policy/policy.h"

#include "base/base.h"

#include <errno.h>
#include <string.h>

/* ---------------------------------------------------------------- pages ---- */

static uint32_t buckets_for(uint32_t cap)
{
	uint32_t nr = 16;

	while (nr < cap && nr < 1U << 30)
		nr *= 2;
	return nr;
}

uint64_t profile_bytes(uint32_t cap)
{
	return ((uint64_t)cap + 1) * sizeof(struct profile_page) + (uint64_t)buckets_for(cap) * sizeof(uint32_t);
}

void profile_init(struct profile *p, void *mem, uint32_t cap, uint32_t history)
{
	*p = (struct profile){
		.page = mem,
		.bucket = (void *)((char *)mem + ((uint64_t)cap + 1) * sizeof(struct profile_page)),
		.cap = cap,
		.nr_buckets = buckets_for(cap),
		.round = 1,
		.history = history,
	};
}

static uint32_t *bucket_of(const struct profile *p, uint64_t addr)
{
	return &p->bucket[(addr >> 12) * 0x9e3779b97f4a7c15ULL >> 32 & (p->nr_buckets - 1)];
}

static uint32_t find(const struct profile *p, uint64_t addr)
{
	uint32_t i = *bucket_of(p, addr);

	while (i && p->page[i].addr != addr)
		i = p->page[i].chain;
	return i;
}

static void order_remove(struct profile *p, uint32_t i)
{
	struct profile_page *page = &p->page[i];

	if (page->newer)
		p->page[page->newer].older = page->older;
	else
		p->newest = page->older;
	if (page->older)
		p->page[page->older].newer = page->newer;
	else
		p->oldest = page->newer;
}

static void order_add(struct profile *p, uint32_t i)
{
	struct profile_page *page = &p->page[i];

	page->newer = 0;
	page->older = p->newest;
	if (p->newest)
		p->page[p->newest].newer = i;
	else
		p->oldest = i;
	p->newest = i;
}

/* The room of the page that was not used for longest. */
static uint32_t forget_oldest(struct profile *p)
{
	uint32_t i = p->oldest, *at = bucket_of(p, p->page[i].addr);

	while (*at != i)
		at = &p->page[*at].chain;
	*at = p->page[i].chain;
	order_remove(p, i);
	p->forgotten++;
	return i;
}

static uint32_t add(struct profile *p, uint64_t addr)
{
	uint32_t i = p->nr < p->cap ? ++p->nr : forget_oldest(p), *bucket = bucket_of(p, addr);

	p->page[i] = (struct profile_page){ .addr = addr, .chain = *bucket };
	*bucket = i;
	order_add(p, i);
	return i;
}

/* Never too many for a node: one that takes the place of another begins anew, and what that had counts for nobody. */
static void count_node(struct profile_page *page, int node)
{
	int least = 0;

	for (int i = 0; i < PROFILE_NODES; i++) {
		if (page->count[i] && page->node[i] == node) {
			page->count[i]++;
			return;
		}
		if (page->count[i] < page->count[least])
			least = i;
	}
	page->rest += page->count[least];
	page->node[least] = (uint8_t)node;
	page->count[least] = 1;
}

static uint64_t total(const struct profile_page *page)
{
	uint64_t sum = page->rest;

	for (int i = 0; i < PROFILE_NODES; i++)
		sum += page->count[i];
	return sum;
}

static void grow_old(struct profile_page *page)
{
	page->rest /= 2;
	for (int i = 0; i < PROFILE_NODES; i++)
		page->count[i] /= 2;
}

void profile_sample(struct profile *p, uint64_t addr, int node)
{
	uint32_t i = find(p, addr);
	struct profile_page *page;

	if (!i) {
		i = add(p, addr);
	} else if (p->newest != i) {
		order_remove(p, i);
		order_add(p, i);
	}
	page = &p->page[i];
	page->round = p->round;
	if (total(page) >= (p->history ? p->history : UINT32_MAX))
		grow_old(page);
	if (node < 0)
		page->rest++;
	else
		count_node(page, node);
}

const struct profile_page *profile_next(const struct profile *p, const struct profile_page *last)
{
	uint32_t i = last ? last->older : p->newest;

	return i && p->page[i].round == p->round ? &p->page[i] : NULL;
}

void profile_round(struct profile *p)
{
	p->round++;
}

/* ---------------------------------------------------------------- verdicts ---- */

enum profile_verdict heat_decide(uint32_t heat, const struct profile_rules *rules, int *node)
{
	*node = heat >= rules->least ? rules->hot : rules->cold;
	return *node >= 0 ? PROFILE_MOVE : PROFILE_KEPT;
}

enum profile_verdict profile_decide(const struct profile_page *page, const struct profile_rules *rules, int *node)
{
	uint64_t sum = total(page);
	int most = 0;

	if (rules->by_heat)
		return heat_decide((uint32_t)min_u64(sum, UINT32_MAX), rules, node);
	*node = -1;
	for (int i = 1; i < PROFILE_NODES; i++)
		if (page->count[i] > page->count[most])
			most = i;
	if (sum < rules->least)
		return PROFILE_FEW;
	if (!page->count[most] || page->count[most] * 100ULL < sum * rules->percent)
		return PROFILE_SPREAD;
	*node = page->node[most];
	return PROFILE_MOVE;
}

/* ---------------------------------------------------------------- ranges ---- */

/* The first range that ends behind addr. */
static uint32_t first_behind(const struct heat_map *map, uint64_t addr)
{
	uint32_t low = 0, high = map->nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (map->range[middle].end > addr)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Put nr ranges where the old ones from first to last (excluded) are. */
static int replace(struct heat_map *map, uint32_t first, uint32_t last, const struct heat_range *with, uint32_t nr)
{
	if (map->nr - (last - first) + nr > map->cap)
		return -ENOSPC;
	memmove(map->range + first + nr, map->range + last, (map->nr - last) * sizeof(*with));
	memcpy(map->range + first, with, nr * sizeof(*with));
	map->nr = map->nr - (last - first) + nr;
	return 0;
}

int heat_set(struct heat_map *map, uint64_t start, uint64_t end, uint32_t heat)
{
	uint32_t first = first_behind(map, start), last = first, nr = 0;
	struct heat_range with[3], new = { start, end, heat };

	while (last < map->nr && map->range[last].start < end)
		last++;
	/* neighbours of the same heat become one with it */
	if (first > 0 && map->range[first - 1].end == start && map->range[first - 1].heat == heat)
		new.start = map->range[--first].start;
	if (last < map->nr && map->range[last].start == end && map->range[last].heat == heat)
		new.end = map->range[last++].end;
	if (first < last && map->range[first].start < new.start) {
		if (map->range[first].heat == heat)
			new.start = map->range[first].start;
		else
			with[nr++] = (struct heat_range){ map->range[first].start, start, map->range[first].heat };
	}
	with[nr++] = new;
	if (first < last && map->range[last - 1].end > new.end) {
		if (map->range[last - 1].heat == heat)
			with[nr - 1].end = map->range[last - 1].end;
		else
			with[nr++] = (struct heat_range){ end, map->range[last - 1].end, map->range[last - 1].heat };
	}
	return replace(map, first, last, with, nr);
}

/* SPDX-License-Identifier: MIT */
/* Walks over an array: page after page, or 64-bit words at random (GUPS). */
#define _GNU_SOURCE 1
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

/* An operation is a page, whose sum is checked: LRU's worst case as soon as the array does not fit. */
int run_scan(const struct options *o)
{
	uint64_t *mem = map_memory(o->bytes), nr = o->bytes / PAGE;
	struct meter *m;
	bool on = true;

	for (uint64_t i = 0; i < nr; i++)
		fill_page(mem + i * PAGE_WORDS, i, o->random);
	m = meter_new(o);
	for (uint64_t i = 0; m && on; i = i + 1 < nr ? i + 1 : 0) {
		uint64_t begin = tick();

		if (!page_is_right(mem + i * PAGE_WORDS, i))
			wrong("scan", "page", i);
		on = meter_add(m, begin, tick());
	}
	if (!m)
		return 1;
	meter_report(m);
	free(m);
	return 0;
}

#define CELL 128UL /* words: some of them random numbers, the others zeroes */

/*
 * Each update adds to a word; the sum of all words, weighted by where they are, follows. Only words that are random
 * anyway are updated, so that pages go on to compress as they did.
 */
int run_gups(const struct options *o)
{
	uint64_t *mem = map_memory(o->bytes), nr = o->bytes / 8, live = CELL * o->random / 100;
	uint64_t sum = 0, now = 0, seed = o->seed;
	struct meter *m;
	bool on = true;

	if (!live)
		live = 1;
	for (uint64_t i = 0; i < nr; i++) {
		mem[i] = i % CELL < live ? mix(i) : 0;
		sum += mem[i] * mix(~i);
	}
	m = meter_new(o);
	while (m && on) {
		uint64_t random = next(&seed), add = mix(random), begin;
		uint64_t i = (random >> 8) % (nr / CELL) * CELL + (random & 255) % live;

		begin = tick();
		mem[i] += add;
		on = meter_add(m, begin, tick());
		sum += add * mix(~i);
	}
	if (!m)
		return 1;
	for (uint64_t i = 0; i < nr; i++)
		now += mem[i] * mix(~i);
	if (now != sum)
		wrong("gups", "sum", now);
	meter_report(m);
	free(m);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Shared by tests of far nodes: an engine with memory (node 0) and a compressed pool (1), and pages of every kind. */
#ifndef GODWIT_TESTS_FAR_H
#define GODWIT_TESTS_FAR_H

#include "live.h"

static inline struct gw_engine *engine_with_far(uint64_t bytes)
{
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_ZRAM, .host = -1, .bytes = bytes };
	struct gw_engine *e = engine_with_nodes(1, 0);
	int id = gw_node_add(e, &node);

	if (id != 1) {
		printf("Bail out! a compressed pool as node 1: %s\n", strerror(-id));
		exit(1);
	}
	return e;
}

static inline uint64_t pages_away(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	return gw_stats(e, &st) ? 0 : st.pages_away;
}

/* Send a range to a node; the pages that are there then. */
static inline size_t send_range(struct gw_engine *e, void *mem, size_t nr, int to)
{
	void **pages = malloc(nr * sizeof(*pages));
	int *nodes = malloc(nr * sizeof(*nodes)), *status = malloc(nr * sizeof(*status));
	size_t there = 0;

	for (size_t i = 0; i < nr; i++) {
		pages[i] = (char *)mem + i * GW_PAGE_SIZE;
		nodes[i] = to;
	}
	gw_move_pages(e, nr, pages, nodes, status, NULL);
	for (size_t i = 0; i < nr; i++)
		there += status[i] == to;
	free(pages);
	free(nodes);
	free(status);
	return there;
}

/* Kinds of content: zeroes, one word all over, few words, words of no order, bytes of no order, text. */
#define CONTENTS 6U

static inline uint64_t content_word(uint64_t page, uint64_t i)
{
	uint64_t x = page * WORDS + i + 1;

	switch (page % CONTENTS) {
	case 0:
		return 0;
	case 1:
		return page * 0x0101010101010101ULL;
	case 2:
		return i % 8 ? 0 : page << 32 | i;
	case 3:
		return pattern_word(i / 3, page);
	case 4:
		x ^= x >> 33;
		x *= 0xff51afd7ed558ccdULL;
		x ^= x >> 33;
		x *= 0xc4ceb9fe1a85ec53ULL;
		return x ^ x >> 29;
	default:
		return 0x20202064726f7720ULL ^ (i % 7) << 8;
	}
}

static inline void contents_fill(uint64_t *mem, uint64_t pages)
{
	for (uint64_t p = 0; p < pages; p++)
		for (uint64_t i = 0; i < WORDS; i++)
			mem[p * WORDS + i] = content_word(p, i);
}

/* The number of pages from first on that are wrong. */
static inline uint64_t contents_wrong(const uint64_t *mem, uint64_t first, uint64_t pages)
{
	uint64_t wrong = 0;

	for (uint64_t p = first; p < first + pages; p++)
		for (uint64_t i = 0; i < WORDS; i++)
			if (mem[p * WORDS + i] != content_word(p, i)) {
				wrong++;
				break;
			}
	return wrong;
}

#endif

/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mm/mm.h"
#include "policy/policy.h"

static void watermarks_leave_a_gap(void **state)
{
	struct watermarks w;

	(void)state;
	watermarks_of(64000, &w);
	assert_int_equal(w.min, 64000);
	assert_int_equal(w.low, 63000);
	assert_int_equal(w.high, 62000);
	watermarks_of(6400, &w); /* a hundred pages is the least */
	assert_int_equal(w.min - w.low, 100);
	watermarks_of(640, &w);
	assert_int_equal(w.min - w.low, 64);
	watermarks_of(10, &w);
	assert_int_equal(w.low + w.high, 0);
}

static void the_nearer_the_limit_the_sooner_it_looks(void **state)
{
	struct watermarks w;
	uint32_t last = 0;

	(void)state;
	watermarks_of(1 << 20, &w);
	for (uint64_t used = w.min; used > 0; used -= used < 4096 ? used : 4096) {
		uint32_t ms = reclaim_wait_ms(&w, used);

		assert_in_range(ms, 1, 100);
		assert_true(ms >= last);
		last = ms;
	}
	assert_int_equal(reclaim_wait_ms(&w, w.min), 1);
	assert_int_equal(last, 100);
}

static void what_is_used_more_often_stays_twice_as_long(void **state)
{
	uint8_t level = 0;

	(void)state;
	assert_int_equal(level_rounds(0), 0);
	for (uint32_t i = 1; i <= LEVEL_MOST; i++) {
		level = level_up(level);
		assert_int_equal(level_rounds(level), 2 * level_rounds(level - 1) + 1);
	}
	assert_int_equal(level_up(level), LEVEL_MOST);
	for (uint32_t i = 0; i < LEVEL_MOST; i++)
		level = level_down(level);
	assert_int_equal(level, 0);
	assert_int_equal(level_down(0), 0);
}

/* ---- a node and its pages, of which half have room ---- */

#define PAGES 8192U

enum place { ON_NODE, IN_CACHE, FAR };

struct world {
	struct mm mm;
	struct node_table nodes;
	struct page page[PAGES];
	enum place place[PAGES];
	uint32_t queue[2][PAGES], first[2], nr[2];
	uint32_t cached;
};

static void push(struct world *w, enum place to, uint32_t page)
{
	w->queue[to][(w->first[to] + w->nr[to]++) % PAGES] = page;
	w->place[page] = to;
}

/* What was taken out of the middle is passed over. */
static uint32_t pop(struct world *w, enum place from)
{
	uint32_t page;

	do {
		page = w->queue[from][w->first[from]];
		w->first[from] = (w->first[from] + 1) % PAGES;
		w->nr[from]--;
	} while (w->place[page] != from);
	return page;
}

static void world_new(struct world *w)
{
	w->mm.nodes = &w->nodes;
	workingset_init(&w->mm);
	w->mm.reclaim.step = stamp_step(PAGES / 2);
	w->mm.pt.present = PAGES / 2;
	for (uint32_t i = 0; i < PAGES; i++)
		if (i < PAGES / 2)
			push(w, ON_NODE, i);
		else
			w->place[i] = FAR;
}

static void make_room(struct world *w)
{
	uint32_t page;

	while (w->cached < cache_share(PAGES / 2)) {
		page = pop(w, ON_NODE);
		if (w->page[page].age) {
			w->page[page].age--;
			push(w, ON_NODE, page);
			continue;
		}
		push(w, IN_CACHE, page);
		w->cached++;
	}
	page = pop(w, IN_CACHE);
	w->cached--;
	w->place[page] = FAR;
	workingset_eviction(&w->mm, &w->page[page]);
}

/* Returns whether the page was on the far node. */
static bool touch(struct world *w, uint32_t page)
{
	enum place was = w->place[page];

	if (was == ON_NODE)
		return false;
	if (was == IN_CACHE) {
		workingset_activation(&w->page[page]);
		w->cached--;
	} else {
		workingset_refault(&w->mm, &w->page[page], true);
	}
	push(w, ON_NODE, page);
	if (was == FAR)
		make_room(w);
	return was == FAR;
}

static uint64_t seed;

static double draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (double)(seed >> 11) * 0x1p-53;
}

/* Four values a page, hot ones beside cold ones. Far touches in a thousand, of the second half of so many. */
static uint32_t zipfian(struct world *w, uint32_t touches)
{
	static double sum[4 * PAGES];
	uint32_t far = 0;

	for (uint32_t i = 0; i < 4 * PAGES; i++)
		sum[i] = (i ? sum[i - 1] : 0) + 1.0 / (i + 1);
	for (uint32_t i = 0; i < touches; i++) {
		double u = draw() * sum[4 * PAGES - 1];
		uint32_t low = 0, high = 4 * PAGES - 1;

		while (low < high) {
			uint32_t mid = (low + high) / 2;

			if (sum[mid] < u)
				low = mid + 1;
			else
				high = mid;
		}
		far += touch(w, (uint32_t)(low * 0x9e3779b1ULL % (4 * PAGES) / 4)) && i >= touches / 2;
	}
	return far * 2000U / touches;
}

static struct world world;

static void the_most_used_pages_stay(void **state)
{
	uint32_t far;

	(void)state;
	seed = 88172645463325252ULL;
	world_new(&world);
	far = zipfian(&world, 2000000);
	print_message("# %u of 1000 touches were of far pages\n", far);
	assert_in_range(far, 90, 150); /* 133; with one chance for each page 170 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watermarks_leave_a_gap),
		cmocka_unit_test(the_nearer_the_limit_the_sooner_it_looks),
		cmocka_unit_test(what_is_used_more_often_stays_twice_as_long),
		cmocka_unit_test(the_most_used_pages_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE(i) (0x7f0000000000ULL + ((uint64_t)(i) << 12))

static const struct profile_rules majority = { .least = 1, .percent = 67, .hot = -1, .cold = -1 };

static void begin(struct profile *p, uint32_t cap, uint32_t history)
{
	void *mem = calloc(1, profile_bytes(cap));

	assert_non_null(mem);
	profile_init(p, mem, cap, history);
}

static void sample(struct profile *p, uint64_t addr, int node, int times)
{
	for (int i = 0; i < times; i++)
		profile_sample(p, addr, node);
}

static const struct profile_page *page_at(const struct profile *p, uint64_t addr)
{
	const struct profile_page *page = NULL;

	while ((page = profile_next(p, page)) && page->addr != addr)
		;
	return page;
}

static enum profile_verdict decide(const struct profile *p, uint64_t addr, const struct profile_rules *rules, int *node)
{
	const struct profile_page *page = page_at(p, addr);

	assert_non_null(page);
	return profile_decide(page, rules, node);
}

static void the_node_with_the_majority_has_the_page(void **state)
{
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 0);
	sample(&p, PAGE(0), 1, 67);
	sample(&p, PAGE(0), 0, 33);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_MOVE);
	assert_int_equal(node, 1);
	sample(&p, PAGE(0), 0, 1);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_SPREAD);
	free(p.page);
}

static void a_page_that_is_used_from_everywhere_stays(void **state)
{
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 0);
	for (int i = 0; i < 64; i++)
		sample(&p, PAGE(0), i, 3);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_SPREAD);
	/* one that comes late, after more nodes than have a place, is found all the same */
	sample(&p, PAGE(0), 40, 800);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_MOVE);
	assert_int_equal(node, 40);
	free(p.page);
}

static void samples_from_nowhere_count_for_nobody(void **state)
{
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 0);
	sample(&p, PAGE(0), -1, 2);
	sample(&p, PAGE(0), 0, 2);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_SPREAD);
	free(p.page);
}

static void too_few_samples_move_nothing(void **state)
{
	const struct profile_rules rules = { .least = 3, .percent = 67, .hot = -1, .cold = -1 };
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 0);
	sample(&p, PAGE(0), 1, 2);
	assert_int_equal(decide(&p, PAGE(0), &rules, &node), PROFILE_FEW);
	sample(&p, PAGE(0), 1, 1);
	assert_int_equal(decide(&p, PAGE(0), &rules, &node), PROFILE_MOVE);
	free(p.page);
}

static void heat_knows_hot_and_cold_and_what_has_no_node_stays(void **state)
{
	struct profile_rules rules = { .least = 3, .by_heat = true, .hot = 1, .cold = -1 };
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 0);
	sample(&p, PAGE(0), -1, 3);
	sample(&p, PAGE(1), -1, 2);
	assert_int_equal(decide(&p, PAGE(0), &rules, &node), PROFILE_MOVE);
	assert_int_equal(node, 1);
	assert_int_equal(decide(&p, PAGE(1), &rules, &node), PROFILE_KEPT);
	rules.cold = 2;
	assert_int_equal(decide(&p, PAGE(1), &rules, &node), PROFILE_MOVE);
	assert_int_equal(node, 2);
	free(p.page);
}

static void the_page_used_longest_ago_is_forgotten(void **state)
{
	struct profile p;

	(void)state;
	begin(&p, 3, 0);
	for (int i = 0; i < 3; i++)
		sample(&p, PAGE(i), 0, 1);
	sample(&p, PAGE(0), 0, 1);
	sample(&p, PAGE(3), 0, 1);
	assert_int_equal(p.forgotten, 1);
	assert_null(page_at(&p, PAGE(1)));
	assert_non_null(page_at(&p, PAGE(0)));
	for (int i = 0; i < 1000; i++)
		sample(&p, PAGE(1000 + i), 0, 1);
	assert_int_equal(p.forgotten, 1001);
	assert_int_equal(p.nr, 3);
	assert_non_null(page_at(&p, PAGE(1999)));
	assert_null(page_at(&p, PAGE(1996)));
	free(p.page);
}

static void a_round_has_the_pages_of_its_own_samples(void **state)
{
	struct profile p;

	(void)state;
	begin(&p, 10, 0);
	sample(&p, PAGE(0), 0, 1);
	sample(&p, PAGE(1), 0, 1);
	profile_round(&p);
	assert_null(profile_next(&p, NULL));
	sample(&p, PAGE(0), 0, 1);
	assert_non_null(page_at(&p, PAGE(0)));
	assert_int_equal(page_at(&p, PAGE(0))->count[0], 2);
	assert_null(page_at(&p, PAGE(1)));
	free(p.page);
}

static void old_samples_fade(void **state)
{
	struct profile p;
	int node;

	(void)state;
	begin(&p, 10, 64);
	sample(&p, PAGE(0), 0, 1000000);
	sample(&p, PAGE(0), 1, 100);
	assert_int_equal(decide(&p, PAGE(0), &majority, &node), PROFILE_MOVE);
	assert_int_equal(node, 1);
	free(p.page);
}

/* ---- ranges ---- */

static void map_is(const struct heat_map *map, const struct heat_range *want, uint32_t nr)
{
	assert_int_equal(map->nr, nr);
	for (uint32_t i = 0; i < nr; i++) {
		assert_int_equal(map->range[i].start, want[i].start);
		assert_int_equal(map->range[i].end, want[i].end);
		assert_int_equal(map->range[i].heat, want[i].heat);
	}
}

static void the_last_word_on_a_range_counts(void **state)
{
	struct heat_range range[8];
	struct heat_map map = { .range = range, .cap = 8 };
	const struct heat_range cut[] = { { 0, 4, 1 }, { 4, 6, 2 }, { 6, 10, 1 } };
	const struct heat_range over[] = { { 0, 2, 1 }, { 2, 8, 3 }, { 8, 10, 1 } };
	const struct heat_range one[] = { { 0, 10, 1 } };

	(void)state;
	assert_int_equal(heat_set(&map, 0, 10, 1), 0);
	assert_int_equal(heat_set(&map, 4, 6, 2), 0);
	map_is(&map, cut, 3);
	assert_int_equal(heat_set(&map, 2, 8, 3), 0);
	map_is(&map, over, 3);
	/* of the same heat they become one */
	assert_int_equal(heat_set(&map, 2, 8, 1), 0);
	map_is(&map, one, 1);
}

static void ranges_without_room_change_nothing(void **state)
{
	struct heat_range range[2];
	struct heat_map map = { .range = range, .cap = 2 };
	const struct heat_range two[] = { { 0, 10, 1 }, { 20, 30, 1 } };

	(void)state;
	assert_int_equal(heat_set(&map, 20, 30, 1), 0);
	assert_int_equal(heat_set(&map, 0, 10, 1), 0);
	assert_int_equal(heat_set(&map, 12, 13, 1), -ENOSPC);
	assert_int_equal(heat_set(&map, 4, 6, 2), -ENOSPC);
	map_is(&map, two, 2);
}

/* Beside an array of units, as obvious as can be. */
static void random_ranges_are_as_painted_one_by_one(void **state)
{
	struct heat_range range[300];
	struct heat_map map = { .range = range, .cap = 300 };
	uint32_t unit[200], random = 1;
	bool known[200] = { false };

	(void)state;
	for (int turn = 0; turn < 20000; turn++) {
		uint32_t start, end, heat, at = 0;

		random = random * 1103515245 + 12345;
		start = random >> 8 & 127;
		end = start + 1 + (random >> 16 & 63);
		heat = random >> 24 & 3;
		assert_int_equal(heat_set(&map, start, end, heat), 0);
		for (uint32_t i = start; i < end; i++) {
			unit[i] = heat;
			known[i] = true;
		}
		for (uint32_t i = 0; i < map.nr; i++) {
			for (; at < map.range[i].start; at++)
				assert_false(known[at]);
			for (; at < map.range[i].end; at++)
				assert_true(known[at] && unit[at] == map.range[i].heat);
			if (i)
				assert_true(map.range[i].start > map.range[i - 1].end ||
					    map.range[i].heat != map.range[i - 1].heat);
		}
		for (; at < 200; at++)
			assert_false(known[at]);
		if (turn % 50 == 0) {
			map.nr = 0;
			memset(known, 0, sizeof(known));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_node_with_the_majority_has_the_page),
		cmocka_unit_test(a_page_that_is_used_from_everywhere_stays),
		cmocka_unit_test(samples_from_nowhere_count_for_nobody),
		cmocka_unit_test(too_few_samples_move_nothing),
		cmocka_unit_test(heat_knows_hot_and_cold_and_what_has_no_node_stays),
		cmocka_unit_test(the_page_used_longest_ago_is_forgotten),
		cmocka_unit_test(a_round_has_the_pages_of_its_own_samples),
		cmocka_unit_test(old_samples_fade),
		cmocka_unit_test(the_last_word_on_a_range_counts),
		cmocka_unit_test(ranges_without_room_change_nothing),
		cmocka_unit_test(random_ranges_are_as_painted_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

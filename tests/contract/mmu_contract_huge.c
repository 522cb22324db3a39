/* SPDX-License-Identifier: MIT */
/* mmu_contract_huge.c - huge pages: whole where they can be, split where they must. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

/* A tracked huge page with content; 0 when the machine has none to give. */
static uint64_t map_huge(struct mmu_world *w, uint64_t seed)
{
	uint64_t addr = w->ops->map(w, MMU_HUGE);

	if (w->ops->make_huge(w, addr))
		return 0;
	fill(w, addr, MMU_HUGE, seed);
	assert_int_equal(w->mmu->ops->track(w->mmu, addr, MMU_HUGE), 0);
	return addr;
}

static bool is_huge(struct mmu_world *w, uint64_t addr)
{
	uint32_t bits;

	assert_int_equal(count_present(w, addr, MMU_HUGE, &bits), MMU_HUGE / MMU_PAGE);
	return bits & MMU_PG_HUGE;
}

static void huge_page_moves_whole_and_back(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 1), arena = map_arena(w, MMU_HUGE);
	uint32_t bits;

	if (!addr)
		SKIP("no huge page to be had");
	assert_true(is_huge(w, addr));
	move_all(w, arena, addr, MMU_HUGE);
	assert_true(is_huge(w, arena));
	assert_int_equal(count_present(w, addr, MMU_HUGE, &bits), 0);
	check(w, arena, MMU_HUGE, 1, 0);
	move_all(w, addr, arena, MMU_HUGE);
	assert_true(is_huge(w, addr));
	check(w, addr, MMU_HUGE, 1, 0);
}

static void part_of_a_huge_page_moves_and_splits_it(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 2), arena = map_arena(w, PAGES(4));
	uint32_t bits;

	if (!addr)
		SKIP("no huge page to be had");
	move_all(w, arena, addr + PAGES(8), PAGES(4));
	check(w, arena, PAGES(4), 2, 8);
	assert_int_equal(count_present(w, addr, MMU_HUGE, &bits), MMU_HUGE / MMU_PAGE - 4);
	assert_false(bits & MMU_PG_HUGE);
	check(w, addr, PAGES(8), 2, 0);
	check(w, addr + PAGES(12), MMU_HUGE - PAGES(12), 2, 12);
}

static void huge_page_is_split_where_the_destination_is_not_aligned(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 3), arena = map_arena(w, 2 * MMU_HUGE);
	uint32_t bits;

	if (!addr)
		SKIP("no huge page to be had");
	move_all(w, arena + MMU_PAGE, addr, MMU_HUGE);
	assert_int_equal(count_present(w, arena + MMU_PAGE, MMU_HUGE, &bits), MMU_HUGE / MMU_PAGE);
	assert_false(bits & MMU_PG_HUGE);
	check(w, arena + MMU_PAGE, MMU_HUGE, 3, 0);
}

static void huge_page_does_not_replace_a_small_one(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 4), other = map_filled(w, MMU_PAGE, 5), arena = map_arena(w, MMU_HUGE);

	if (!addr)
		SKIP("no huge page to be had");
	move_all(w, arena, other, MMU_PAGE);
	move_stops(w, arena, addr, MMU_HUGE, 0, -EEXIST);
	check(w, arena, MMU_PAGE, 5, 0);
	check(w, addr, MMU_HUGE, 4, 0);
}

static void small_pages_do_not_replace_a_huge_one(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 6), other = map_filled(w, PAGES(4), 7);

	if (!addr)
		SKIP("no huge page to be had");
	move_stops(w, addr, other, PAGES(4), 0, -EEXIST);
	assert_true(is_huge(w, addr));
}

static void waiter_on_a_huge_page_is_woken_when_it_is_back(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 8), arena = map_arena(w, MMU_HUGE), at = addr + PAGES(300);

	if (!addr)
		SKIP("no huge page to be had");
	move_all(w, arena, addr, MMU_HUGE);
	w->ops->touch(w, 0, at, false, 0);
	expect_event(w, MMU_EV_FAULT, at, 0);
	move_all(w, addr, arena, MMU_HUGE);
	expect_through(w, 0, word_of(8, 300));
}

static void dropped_huge_slot_takes_a_huge_page_whole_again(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_huge(w, 9), arena = map_huge(w, 10);

	if (!addr || !arena)
		SKIP("no huge page to be had");
	act_quietly(w, ACT_DROP, arena, MMU_HUGE);
	move_all(w, arena, addr, MMU_HUGE);
	assert_true(is_huge(w, arena));
	check(w, arena, MMU_HUGE, 9, 0);
}

/* The slots of map_huge() may have huge pages. */
static void populate_makes_huge_pages_where_the_area_may_have_them(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_huge(w, 11), addr = map_arena(w, MMU_HUGE);

	if (!arena)
		SKIP("no huge page to be had");
	act_quietly(w, ACT_DROP, arena, MMU_HUGE);
	act_quietly(w, ACT_POPULATE, arena, MMU_HUGE);
	assert_true(is_huge(w, arena));
	expect_word(w, arena + PAGES(511), 0);
	move_all(w, addr, arena, MMU_HUGE);
	assert_true(is_huge(w, addr));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(huge_page_moves_whole_and_back),
	cmocka_unit_test(part_of_a_huge_page_moves_and_splits_it),
	cmocka_unit_test(huge_page_is_split_where_the_destination_is_not_aligned),
	cmocka_unit_test(huge_page_does_not_replace_a_small_one),
	cmocka_unit_test(small_pages_do_not_replace_a_huge_one),
	cmocka_unit_test(dropped_huge_slot_takes_a_huge_page_whole_again),
	cmocka_unit_test(populate_makes_huge_pages_where_the_area_may_have_them),
	cmocka_unit_test(waiter_on_a_huge_page_is_woken_when_it_is_back),
};

const struct mmu_contract_part mmu_contract_huge = { tests, ARRAY_SIZE(tests) };

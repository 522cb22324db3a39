/* SPDX-License-Identifier: MIT */
/* mmu_contract_move.c - the protocol of move, row by row. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

static void move_carries_the_content_exactly(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(16), 1), arena = map_arena(w, PAGES(16));

	move_all(w, arena, addr, PAGES(16));
	check(w, arena, PAGES(16), 1, 0);
	move_all(w, addr, arena, PAGES(16));
	check(w, addr, PAGES(16), 1, 0);
}

static void move_takes_the_frame_along_without_a_copy(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 2), arena = map_arena(w, PAGES(2)), value;

	assert_int_equal(w->ops->splice(w, addr), 0);
	move_all(w, arena, addr, PAGES(2));
	assert_int_equal(w->ops->store(w, arena, 4711), 0);
	assert_int_equal(w->ops->spliced(w, addr, &value), 0);
	assert_int_equal(value, 4711);
}

static void move_leaves_a_hole_and_moving_it_again_is_enoent(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 3), arena = map_arena(w, PAGES(8));
	uint32_t bits;

	move_all(w, arena, addr, PAGES(4));
	assert_int_equal(count_present(w, addr, PAGES(4), &bits), 0);
	move_stops(w, arena + PAGES(4), addr, PAGES(4), 0, -ENOENT);
}

static void pages_may_be_moved_one_by_one_in_any_order(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 4), arena = map_arena(w, PAGES(4));

	for (uint64_t i = 0; i < 4; i++)
		move_all(w, arena + PAGES(i), addr + PAGES(3 - i), MMU_PAGE);
	for (uint64_t i = 0; i < 4; i++)
		check(w, arena + PAGES(i), MMU_PAGE, 4, 3 - i);
}

static void move_of_nothing_or_of_a_part_of_a_page_is_invalid(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 5), arena = map_arena(w, PAGES(2));

	move_stops(w, arena, addr, 0, 0, -EINVAL);
	move_stops(w, arena, addr, 100, 0, -EINVAL);
	move_stops(w, arena + 8, addr, MMU_PAGE, 0, -EINVAL);
	move_stops(w, arena, addr + 8, MMU_PAGE, 0, -EINVAL);
	check(w, addr, PAGES(2), 5, 0);
}

static void move_from_a_page_that_was_never_touched_is_enoent(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(4)), arena = map_arena(w, PAGES(4));

	move_stops(w, arena, addr, PAGES(4), 0, -ENOENT);
}

static void move_onto_a_page_is_eexist_and_leaves_both(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 6), other = map_filled(w, PAGES(2), 7);

	move_stops(w, other, addr, PAGES(2), 0, -EEXIST);
	check(w, addr, PAGES(2), 6, 0);
	check(w, other, PAGES(2), 7, 0);
}

static void move_that_meets_a_hole_says_how_far_it_got(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 8), arena = map_arena(w, PAGES(9));

	move_all(w, arena + PAGES(8), addr + PAGES(3), MMU_PAGE);
	move_stops(w, arena, addr, PAGES(8), PAGES(3), -EAGAIN);
	check(w, arena, PAGES(3), 8, 0);
	move_stops(w, arena + PAGES(3), addr + PAGES(3), PAGES(5), 0, -ENOENT);
	move_all(w, arena + PAGES(4), addr + PAGES(4), PAGES(4));
	check(w, arena + PAGES(4), PAGES(4), 8, 4);
}

static void move_that_meets_an_occupied_page_says_how_far_it_got(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 9), other = map_filled(w, MMU_PAGE, 10);
	uint64_t arena = map_arena(w, PAGES(8));

	move_all(w, arena + PAGES(5), other, MMU_PAGE);
	move_stops(w, arena, addr, PAGES(8), PAGES(5), -EAGAIN);
	move_stops(w, arena + PAGES(5), addr + PAGES(5), PAGES(3), 0, -EEXIST);
	check(w, arena + PAGES(5), MMU_PAGE, 10, 0);
	check(w, addr + PAGES(5), PAGES(3), 9, 5);
}

/* Unpinning may take a moment. */
static void move_when_unpinned(struct mmu_world *w, uint64_t dst, uint64_t src)
{
	struct mmu_moved res;
	uint64_t until = clock_ns() + SOON_MS * 1000000UL;

	do {
		res = w->mmu->ops->move(w->mmu, dst, src, MMU_PAGE, true);
		if (res.err)
			sleep_ns(1000000);
	} while (res.err == -EBUSY && clock_ns() < until);
	assert_int_equal(res.err, 0);
	assert_int_equal(res.done, MMU_PAGE);
}

static void pinned_page_is_ebusy_until_it_is_unpinned(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 11), arena = map_arena(w, PAGES(8)), pinned = addr + PAGES(2);
	int err = w->ops->pin(w, pinned);

	if (err == -ENOTSUP)
		SKIP("no way to pin a page here");
	assert_int_equal(err, 0);
	move_stops(w, arena, addr, PAGES(8), PAGES(2), -EAGAIN);
	move_stops(w, arena + PAGES(2), pinned, PAGES(6), 0, -EBUSY);
	expect_word(w, pinned, word_of(11, 2));
	move_all(w, arena + PAGES(3), addr + PAGES(3), PAGES(5));
	w->ops->unpin(w, pinned);
	move_when_unpinned(w, arena + PAGES(2), pinned);
	check(w, arena, PAGES(8), 11, 0);
}

static void destination_must_be_tracked(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 12), arena = w->ops->map(w, PAGES(2));

	move_stops(w, arena, addr, PAGES(2), 0, -EINVAL);
	check(w, addr, PAGES(2), 12, 0);
}

static void source_need_not_be_tracked(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(2)), arena = map_arena(w, PAGES(2));

	fill(w, addr, PAGES(2), 13);
	move_all(w, arena, addr, PAGES(2));
	check(w, arena, PAGES(2), 13, 0);
}

static void read_only_areas_do_not_move_either_way(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 14), arena = map_arena(w, PAGES(4));

	assert_int_equal(w->ops->protect(w, addr, PAGES(2), false), 0);
	move_stops(w, arena, addr, PAGES(2), 0, -EINVAL);
	assert_int_equal(w->ops->protect(w, addr, PAGES(2), true), 0);
	move_all(w, arena, addr, PAGES(2));
	assert_int_equal(w->ops->protect(w, addr, PAGES(2), false), 0);
	move_stops(w, addr, arena, PAGES(2), 0, -EINVAL);
	check(w, arena, PAGES(2), 14, 0);
}

static void range_across_two_areas_is_einval_and_nothing_moves(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 15), arena = w->ops->map(w, PAGES(8));

	assert_int_equal(w->mmu->ops->track(w->mmu, arena, PAGES(4)), 0);
	move_stops(w, arena, addr, PAGES(8), 0, -EINVAL);
	assert_int_equal(w->mmu->ops->track(w->mmu, arena, PAGES(8)), 0);
	assert_int_equal(w->ops->protect(w, addr + PAGES(4), PAGES(4), false), 0);
	move_stops(w, arena, addr, PAGES(8), 0, -EINVAL);
	check(w, addr, PAGES(8), 15, 0);
	move_all(w, arena, addr, PAGES(4));
}

static void destination_that_is_not_mapped_is_enoent(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 16), arena = w->ops->map(w, PAGES(2));

	act_quietly(w, ACT_UNMAP, arena, PAGES(2));
	move_stops(w, arena, addr, PAGES(2), 0, -ENOENT);
	check(w, addr, PAGES(2), 16, 0);
}

static void zero_page_moves_and_stays_the_zero_page(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, MMU_PAGE), arena = map_arena(w, MMU_PAGE);
	uint32_t bits;

	expect_word(w, addr, 0);
	move_all(w, arena, addr, MMU_PAGE);
	assert_int_equal(count_present(w, arena, MMU_PAGE, &bits), 1);
	assert_true(bits & MMU_PG_ZERO);
	expect_word(w, arena, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(move_carries_the_content_exactly),
	cmocka_unit_test(move_takes_the_frame_along_without_a_copy),
	cmocka_unit_test(move_leaves_a_hole_and_moving_it_again_is_enoent),
	cmocka_unit_test(pages_may_be_moved_one_by_one_in_any_order),
	cmocka_unit_test(move_of_nothing_or_of_a_part_of_a_page_is_invalid),
	cmocka_unit_test(move_from_a_page_that_was_never_touched_is_enoent),
	cmocka_unit_test(move_onto_a_page_is_eexist_and_leaves_both),
	cmocka_unit_test(move_that_meets_a_hole_says_how_far_it_got),
	cmocka_unit_test(move_that_meets_an_occupied_page_says_how_far_it_got),
	cmocka_unit_test(pinned_page_is_ebusy_until_it_is_unpinned),
	cmocka_unit_test(destination_must_be_tracked),
	cmocka_unit_test(source_need_not_be_tracked),
	cmocka_unit_test(read_only_areas_do_not_move_either_way),
	cmocka_unit_test(range_across_two_areas_is_einval_and_nothing_moves),
	cmocka_unit_test(destination_that_is_not_mapped_is_enoent),
	cmocka_unit_test(zero_page_moves_and_stays_the_zero_page),
};

const struct mmu_contract_part mmu_contract_move = { tests, ARRAY_SIZE(tests) };

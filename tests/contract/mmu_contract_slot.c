/* SPDX-License-Identifier: MIT */
/* mmu_contract_slot.c - the engine's own slots, and its looks at the program's memory. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

/* Slots with frames, tracked. */
static uint64_t map_frames(struct mmu_world *w, uint64_t len)
{
	uint64_t arena = map_arena(w, len);

	act_quietly(w, ACT_POPULATE, arena, len);
	return arena;
}

static void copy_makes_the_same_of_any_length(void **state)
{
	static const uint64_t lengths[] = { PAGES(1), PAGES(3), PAGES(16), PAGES(64), PAGES(129) };
	struct mmu_world *w = *state;
	uint64_t src = map_filled(w, PAGES(160), 1), dst = map_frames(w, PAGES(160));
	const struct mmu_ops *ops = w->mmu->ops;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		uint64_t len = lengths[i];

		assert_false(ops->same(w->mmu, dst, src + PAGES(i), len));
		ops->copy(w->mmu, dst, src + PAGES(i), len);
		assert_true(ops->same(w->mmu, dst, src + PAGES(i), len));
		assert_int_equal(ops->sum(w->mmu, dst, len), ops->sum(w->mmu, src + PAGES(i), len));
		check(w, dst, len, 1, i);
	}
	check(w, src, PAGES(160), 1, 0);
}

static void copy_writes_nothing_beyond_its_length(void **state)
{
	struct mmu_world *w = *state;
	uint64_t src = map_filled(w, PAGES(40), 2), dst = map_filled(w, PAGES(40), 3);

	w->mmu->ops->copy(w->mmu, dst + PAGES(1), src, PAGES(32));
	check(w, dst, PAGES(1), 3, 0);
	check(w, dst + PAGES(1), PAGES(32), 2, 0);
	check(w, dst + PAGES(33), PAGES(7), 3, 33);
}

static void one_changed_word_is_not_the_same_and_not_the_same_sum(void **state)
{
	static const uint64_t at[] = { 0, 8, 2048, 4080, 4088, 5 * MMU_PAGE - 8 };
	struct mmu_world *w = *state;
	uint64_t a = map_filled(w, PAGES(5), 4), b = map_filled(w, PAGES(5), 4);
	const struct mmu_ops *ops = w->mmu->ops;
	uint64_t sum = ops->sum(w->mmu, a, PAGES(5)), old;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		assert_int_equal(w->ops->load(w, b + at[i], &old), 0);
		assert_int_equal(w->ops->store(w, b + at[i], old ^ 1UL << 63), 0);
		assert_false(ops->same(w->mmu, a, b, PAGES(5)));
		assert_int_not_equal(ops->sum(w->mmu, b, PAGES(5)), sum);
		assert_int_equal(w->ops->store(w, b + at[i], old), 0);
		assert_true(ops->same(w->mmu, a, b, PAGES(5)));
		assert_int_equal(ops->sum(w->mmu, b, PAGES(5)), sum);
	}
}

static void sum_depends_on_the_order_of_words_and_pages(void **state)
{
	struct mmu_world *w = *state;
	uint64_t a = map_frames(w, PAGES(2)), b = map_frames(w, PAGES(2));
	const struct mmu_ops *ops = w->mmu->ops;

	assert_int_equal(w->ops->store(w, a, 1), 0);
	assert_int_equal(w->ops->store(w, b + 16, 1), 0);
	assert_int_not_equal(ops->sum(w->mmu, a, PAGES(2)), ops->sum(w->mmu, b, PAGES(2)));
	assert_int_equal(w->ops->store(w, b + 16, 0), 0);
	assert_int_equal(w->ops->store(w, b + MMU_PAGE, 1), 0);
	assert_int_not_equal(ops->sum(w->mmu, a, PAGES(2)), ops->sum(w->mmu, b, PAGES(2)));
}

static void populated_slots_are_zero_and_can_be_moved_out(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_frames(w, PAGES(4)), addr = map_arena(w, PAGES(4));
	uint32_t bits;

	assert_int_equal(count_present(w, arena, PAGES(4), &bits), 4);
	assert_false(bits & MMU_PG_ZERO);
	expect_word(w, arena + PAGES(3) + 4088, 0);
	w->ops->touch(w, 0, addr + PAGES(1), true, 6);
	expect_event(w, MMU_EV_FAULT, addr + PAGES(1), 0);
	move_all(w, addr, arena, PAGES(4));
	expect_through(w, 0, 6);
	expect_word(w, addr + PAGES(1) + 8, 0);
}

static void populate_keeps_what_is_there(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_arena(w, PAGES(4)), addr = map_filled(w, PAGES(2), 5);

	move_all(w, arena + PAGES(1), addr, PAGES(2));
	act_quietly(w, ACT_POPULATE, arena, PAGES(4));
	expect_word(w, arena, 0);
	expect_word(w, arena + PAGES(3), 0);
	check(w, arena + PAGES(1), PAGES(2), 5, 0);
}

static void dropped_slots_are_empty_and_can_be_moved_into(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_filled(w, PAGES(4), 6), addr = map_filled(w, PAGES(4), 7);
	uint32_t bits;

	act_quietly(w, ACT_DROP, arena + PAGES(1), PAGES(2));
	assert_int_equal(count_present(w, arena, PAGES(4), &bits), 2);
	check(w, arena, PAGES(1), 6, 0);
	act_quietly(w, ACT_DROP, addr, PAGES(1));
	move_stops(w, addr, arena + PAGES(1), PAGES(1), 0, -ENOENT);
	move_all(w, arena + PAGES(1), addr + PAGES(1), PAGES(2));
	check(w, arena + PAGES(1), PAGES(2), 7, 1);
}

static void populate_and_drop_leave_the_slots_tracked(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_frames(w, PAGES(4));

	act_quietly(w, ACT_DROP, arena + PAGES(1), PAGES(1));
	w->ops->touch(w, 0, arena + PAGES(1), false, 0);
	expect_event(w, MMU_EV_FAULT, arena + PAGES(1), 0);
	expect_waiting(w, 0);
}

static void populate_and_drop_leave_the_slots_one_area(void **state)
{
	struct mmu_world *w = *state;
	uint64_t arena = map_arena(w, PAGES(16)), addr = map_arena(w, PAGES(16));

	act_quietly(w, ACT_POPULATE, arena + PAGES(8), PAGES(4));
	act_quietly(w, ACT_POPULATE, arena, PAGES(4));
	act_quietly(w, ACT_DROP, arena + PAGES(3), PAGES(6));
	act_quietly(w, ACT_POPULATE, arena + PAGES(3), PAGES(13));
	move_all(w, addr, arena, PAGES(16));
	move_all(w, arena, addr, PAGES(16));
}

static void peek_reads_what_the_program_has(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 8), slot = map_frames(w, PAGES(4));

	assert_int_equal(w->mmu->ops->peek(w->mmu, slot, addr, PAGES(4)), PAGES(4));
	check(w, slot, PAGES(4), 8, 0);
	assert_int_equal(w->ops->protect(w, addr, PAGES(4), false), 0);
	assert_int_equal(w->mmu->ops->peek(w->mmu, slot, addr + PAGES(2), PAGES(1)), PAGES(1));
	check(w, slot, PAGES(1), 8, 2);
}

static void peek_at_memory_that_is_gone_is_efault(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(4)), slot = map_frames(w, PAGES(4));
	int64_t got;

	fill(w, addr, PAGES(4), 9);
	act_quietly(w, ACT_UNMAP, addr + PAGES(2), PAGES(2));
	assert_int_equal(w->mmu->ops->peek(w->mmu, slot, addr + PAGES(2), PAGES(2)), -EFAULT);
	got = w->mmu->ops->peek(w->mmu, slot, addr, PAGES(4));
	if (got != -EFAULT)
		assert_int_equal(got, PAGES(2));
}

static void fill_makes_frames_with_the_content_of_a_source(void **state)
{
	struct mmu_world *w = *state;
	uint64_t src = map_filled(w, PAGES(8), 4), slot = map_arena(w, PAGES(16));

	assert_int_equal(w->mmu->ops->fill(w->mmu, slot + PAGES(2), src, PAGES(8)), 0);
	check(w, slot + PAGES(2), PAGES(8), 4, 0);
	check(w, src, PAGES(8), 4, 0);
}

static void fill_stops_at_a_slot_that_is_not_empty(void **state)
{
	struct mmu_world *w = *state;
	uint64_t src = map_filled(w, PAGES(8), 5), slot = map_arena(w, PAGES(8));

	act_quietly(w, ACT_POPULATE, slot + PAGES(3), PAGES(1));
	fill(w, slot + PAGES(3), PAGES(1), 6);
	assert_int_equal(w->mmu->ops->fill(w->mmu, slot, src, PAGES(8)), -EEXIST);
	check(w, slot, PAGES(3), 5, 0);
	check(w, slot + PAGES(3), PAGES(1), 6, 0);
}

static void scan_reports_runs_of_present_pages(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(8)), pos = addr;
	struct mmu_run run[4];

	fill(w, addr + PAGES(1), PAGES(2), 10);
	fill(w, addr + PAGES(5), PAGES(1), 11);
	assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(8), run, 4), 2);
	assert_int_equal(run[0].start, addr + PAGES(1));
	assert_int_equal(run[0].end, addr + PAGES(3));
	assert_int_equal(run[1].start, addr + PAGES(5));
	assert_int_equal(run[1].end, addr + PAGES(6));
	assert_int_equal(run[0].bits, MMU_PG_PRESENT);
	assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(8), run, 4), 0);
}

static void scan_goes_on_where_it_stopped(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(200)), pos = addr;
	struct mmu_run run[1];

	for (uint64_t i = 0; i < 100; i++)
		fill(w, addr + PAGES(2 * i + 1), PAGES(1), i);
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(200), run, 1), 1);
		assert_int_equal(run[0].start, addr + PAGES(2 * i + 1));
		assert_int_equal(run[0].end, addr + PAGES(2 * i + 2));
	}
	assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(200), run, 1), 0);
}

static void scan_fills_a_large_array_and_stays_in_its_range(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(200)), pos = addr + PAGES(1);
	struct mmu_run run[100];
	uint64_t runs = 0;
	int nr;

	for (uint64_t i = 0; i < 100; i++)
		fill(w, addr + PAGES(2 * i), PAGES(1), i);
	while ((nr = w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(196), run, 100)) > 0) {
		for (int i = 0; i < nr; i++)
			assert_int_equal(run[i].start, addr + PAGES(2 * (runs + (uint64_t)i + 1)));
		runs += (uint64_t)nr;
	}
	assert_int_equal(nr, 0);
	assert_int_equal(runs, 97);
}

static void scan_tells_the_zero_page_from_others(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(3)), pos = addr;
	struct mmu_run run[4];

	fill(w, addr, PAGES(1), 12);
	expect_word(w, addr + PAGES(1), 0);
	fill(w, addr + PAGES(2), PAGES(1), 12);
	assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + PAGES(3), run, 4), 3);
	assert_int_equal(run[1].start, addr + PAGES(1));
	assert_int_equal(run[1].bits, MMU_PG_PRESENT | MMU_PG_ZERO);
	assert_int_equal(run[2].bits, MMU_PG_PRESENT);
}

static void scan_tells_huge_pages_from_others(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, 2 * MMU_HUGE), pos = addr;
	struct mmu_run run[4];

	if (w->ops->make_huge(w, addr))
		SKIP("no huge page to be had");
	fill(w, addr + MMU_HUGE, PAGES(1), 13);
	assert_int_equal(w->mmu->ops->scan(w->mmu, &pos, addr + 2 * MMU_HUGE, run, 4), 2);
	assert_int_equal(run[0].start, addr);
	assert_int_equal(run[0].end, addr + MMU_HUGE);
	assert_int_equal(run[0].bits, MMU_PG_PRESENT | MMU_PG_HUGE);
	assert_int_equal(run[1].end, addr + MMU_HUGE + MMU_PAGE);
	assert_int_equal(run[1].bits, MMU_PG_PRESENT);
}

static void scan_of_unmapped_memory_finds_nothing(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(8));
	uint32_t bits;

	fill(w, addr, PAGES(8), 14);
	act_quietly(w, ACT_UNMAP, addr, PAGES(4));
	assert_int_equal(count_present(w, addr, PAGES(4), &bits), 0);
	assert_int_equal(count_present(w, addr, PAGES(8), &bits), 4);
}

static void where_names_a_node_for_each_page(void **state)
{
	enum { NR = 300 };
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(NR), 15);
	int node[NR + 1];

	node[NR] = 4711;
	assert_int_equal(w->mmu->ops->where(w->mmu, addr, NR, node), 0);
	for (int i = 0; i < NR; i++)
		assert_in_range(node[i], 0, 1023);
	assert_int_equal(node[NR], 4711);
}

static void placed_is_said_of_frames_that_are_all_there(void **state)
{
	enum { NR = 20 };
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(NR), 15);
	int node = -1, ret;

	w->mmu->ops->where(w->mmu, addr, 1, &node);
	ret = w->mmu->ops->placed(w->mmu, addr, PAGES(NR), node);
	if (ret == -ENOSYS || ret == -EPERM)
		skip(); /* a sandbox, or a kernel without NUMA */
	assert_int_equal(ret, 1);
	assert_int_not_equal(w->mmu->ops->placed(w->mmu, addr, PAGES(NR), node + 1), 1);
}

static void area_gives_the_bounds_of_the_mapping_around_an_address(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 16), start = 0, end = 0;

	assert_int_equal(w->mmu->ops->area(w->mmu, addr + PAGES(3), &start, &end), 0);
	assert_in_range(start, 1, addr);
	assert_in_range(end, addr + PAGES(8), UINT64_MAX);
	assert_int_equal(w->ops->protect(w, addr + PAGES(4), PAGES(4), false), 0);
	assert_int_equal(w->mmu->ops->area(w->mmu, addr + PAGES(3), &start, &end), 0);
	assert_int_equal(end, addr + PAGES(4));
	assert_int_equal(w->mmu->ops->area(w->mmu, addr + PAGES(4), &start, &end), 0);
	assert_int_equal(start, addr + PAGES(4));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(copy_makes_the_same_of_any_length),
	cmocka_unit_test(copy_writes_nothing_beyond_its_length),
	cmocka_unit_test(one_changed_word_is_not_the_same_and_not_the_same_sum),
	cmocka_unit_test(sum_depends_on_the_order_of_words_and_pages),
	cmocka_unit_test(populated_slots_are_zero_and_can_be_moved_out),
	cmocka_unit_test(populate_keeps_what_is_there),
	cmocka_unit_test(dropped_slots_are_empty_and_can_be_moved_into),
	cmocka_unit_test(populate_and_drop_leave_the_slots_tracked),
	cmocka_unit_test(populate_and_drop_leave_the_slots_one_area),
	cmocka_unit_test(peek_reads_what_the_program_has),
	cmocka_unit_test(peek_at_memory_that_is_gone_is_efault),
	cmocka_unit_test(fill_makes_frames_with_the_content_of_a_source),
	cmocka_unit_test(fill_stops_at_a_slot_that_is_not_empty),
	cmocka_unit_test(scan_reports_runs_of_present_pages),
	cmocka_unit_test(scan_goes_on_where_it_stopped),
	cmocka_unit_test(scan_fills_a_large_array_and_stays_in_its_range),
	cmocka_unit_test(scan_tells_the_zero_page_from_others),
	cmocka_unit_test(scan_tells_huge_pages_from_others),
	cmocka_unit_test(scan_of_unmapped_memory_finds_nothing),
	cmocka_unit_test(area_gives_the_bounds_of_the_mapping_around_an_address),
	cmocka_unit_test(placed_is_said_of_frames_that_are_all_there),
	cmocka_unit_test(where_names_a_node_for_each_page),
};

const struct mmu_contract_part mmu_contract_slot = { tests, ARRAY_SIZE(tests) };

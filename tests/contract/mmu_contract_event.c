/* SPDX-License-Identifier: MIT */
/* mmu_contract_event.c - what the program does to its mappings meanwhile. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

static void begin_unread(struct mmu_world *w, enum mmu_act act, uint64_t addr, uint64_t len, uint64_t to)
{
	w->ops->begin(w, act, addr, len, to);
	assert_true(w->ops->wait_event(w, SOON_MS));
}

static void munmap_raises_an_event_with_its_range(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 1), arena = map_arena(w, PAGES(8));

	begin_unread(w, ACT_UNMAP, addr + PAGES(2), PAGES(3), 0);
	expect_event(w, MMU_EV_UNMAP, addr + PAGES(2), addr + PAGES(5));
	assert_int_equal(w->ops->end(w), 0);
	expect_no_event(w);
	move_stops(w, arena, addr, PAGES(8), 0, -EINVAL);
	move_all(w, arena, addr, PAGES(2));
	move_all(w, arena + PAGES(5), addr + PAGES(5), PAGES(3));
	check(w, arena + PAGES(5), PAGES(3), 1, 5);
}

static void unmapped_memory_is_gone_before_its_event_is_read(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 2), value;

	begin_unread(w, ACT_UNMAP, addr, PAGES(2), 0);
	assert_int_equal(w->ops->load(w, addr, &value), -EACCES);
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(2));
	assert_int_equal(w->ops->end(w), 0);
}

static void nothing_moves_or_is_installed_while_an_event_is_unread(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 3), arena = map_arena(w, PAGES(4));
	uint64_t gone = map_filled(w, PAGES(1), 4);
	const struct mmu_ops *ops = w->mmu->ops;

	move_all(w, arena, addr, MMU_PAGE);
	begin_unread(w, ACT_UNMAP, gone, PAGES(1), 0);
	move_stops(w, arena + PAGES(1), addr + PAGES(1), PAGES(1), 0, -EAGAIN);
	move_stops(w, addr, arena, PAGES(1), 0, -EAGAIN);
	assert_int_equal(ops->copy_in(w->mmu, addr, arena), -EAGAIN);
	assert_int_equal(ops->fill_zero(w->mmu, addr), -EAGAIN);
	assert_int_not_equal(ops->poison(w->mmu, addr), 0);
	expect_event(w, MMU_EV_UNMAP, gone, gone + PAGES(1));
	assert_int_equal(w->ops->end(w), 0);
	move_all(w, addr, arena, PAGES(1));
	check(w, addr, PAGES(4), 3, 0);
}

static void waiters_can_be_woken_while_an_event_is_unread(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(1), 5), arena = map_arena(w, PAGES(1));
	uint64_t gone = map_filled(w, PAGES(1), 6);

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	assert_false(w->mmu->ops->move(w->mmu, addr, arena, MMU_PAGE, false).err);
	begin_unread(w, ACT_UNMAP, gone, PAGES(1), 0);
	assert_int_equal(w->mmu->ops->wake(w->mmu, addr, MMU_PAGE), 0);
	expect_through(w, 0, word_of(5, 0));
	expect_event(w, MMU_EV_UNMAP, gone, gone + PAGES(1));
	assert_int_equal(w->ops->end(w), 0);
}

static void page_whose_home_was_unmapped_stays_in_its_slot(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 7), arena = map_arena(w, PAGES(2));

	move_all(w, arena, addr, PAGES(2));
	begin_unread(w, ACT_UNMAP, addr, PAGES(2), 0);
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(2));
	assert_int_equal(w->ops->end(w), 0);
	move_stops(w, addr, arena, PAGES(2), 0, -ENOENT);
	check(w, arena, PAGES(2), 7, 0);
}

static void mapping_over_tracked_memory_raises_an_unmap(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 8), arena = map_arena(w, PAGES(4));

	move_all(w, arena, addr, PAGES(4));
	begin_unread(w, ACT_MAP_OVER, addr, PAGES(4), 0);
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(4));
	assert_int_equal(w->ops->end(w), 0);
	expect_word(w, addr, 0);
	move_stops(w, addr + MMU_PAGE, arena + MMU_PAGE, PAGES(3), 0, -EINVAL);
}

static void discard_raises_an_event_before_the_pages_go(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 9);
	uint32_t bits;

	begin_unread(w, ACT_DISCARD, addr + PAGES(1), PAGES(2), 0);
	check(w, addr, PAGES(4), 9, 0);
	expect_event(w, MMU_EV_REMOVE, addr + PAGES(1), addr + PAGES(3));
	assert_int_equal(w->ops->end(w), 0);
	assert_int_equal(count_present(w, addr, PAGES(4), &bits), 2);
	check(w, addr, PAGES(1), 9, 0);
	w->ops->touch(w, 0, addr + PAGES(1), false, 0);
	expect_event(w, MMU_EV_FAULT, addr + PAGES(1), 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, addr + PAGES(1)), 0);
	expect_through(w, 0, 0);
}

static void discard_across_areas_raises_an_event_for_each_tracked_one(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(8), 10), other = map_filled(w, PAGES(1), 11);
	uint64_t arena = map_arena(w, PAGES(1));
	uint32_t bits;

	assert_int_equal(w->mmu->ops->untrack(w->mmu, addr + PAGES(3), PAGES(2)), 0);
	begin_unread(w, ACT_DISCARD, addr, PAGES(8), 0);
	expect_event(w, MMU_EV_REMOVE, addr, addr + PAGES(3));
	assert_true(w->ops->wait_event(w, SOON_MS));
	move_stops(w, arena, other, MMU_PAGE, 0, -EAGAIN);
	check(w, addr + PAGES(5), PAGES(3), 10, 5);
	expect_event(w, MMU_EV_REMOVE, addr + PAGES(5), addr + PAGES(8));
	assert_int_equal(w->ops->end(w), 0);
	assert_int_equal(count_present(w, addr, PAGES(8), &bits), 0);
	move_all(w, arena, other, MMU_PAGE);
}

static void nothing_moves_while_a_discard_is_unread(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 12), arena = map_arena(w, PAGES(2));

	begin_unread(w, ACT_DISCARD, addr, PAGES(1), 0);
	move_stops(w, arena, addr, PAGES(2), 0, -EAGAIN);
	expect_event(w, MMU_EV_REMOVE, addr, addr + PAGES(1));
	assert_int_equal(w->ops->end(w), 0);
	move_stops(w, arena, addr, PAGES(1), 0, -ENOENT);
	move_all(w, arena + PAGES(1), addr + PAGES(1), PAGES(1));
}

static void mremap_says_where_the_memory_went_and_that_its_place_is_gone(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 13), to = w->ops->map(w, PAGES(4));
	uint64_t arena = map_arena(w, PAGES(4));
	struct mmu_event ev;

	begin_unread(w, ACT_REMAP, addr, PAGES(4), to);
	move_stops(w, arena, to, PAGES(4), 0, -EAGAIN);
	ev = next_event(w);
	assert_int_equal(ev.type, MMU_EV_REMAP);
	assert_int_equal(ev.addr, addr);
	assert_int_equal(ev.end, addr + PAGES(4));
	assert_int_equal(ev.to, to);
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(4));
	assert_int_equal(w->ops->end(w), 0);
	check(w, to, PAGES(4), 13, 0);
	move_all(w, arena, to, PAGES(4));
	move_stops(w, addr, arena, PAGES(4), 0, -ENOENT);
	move_all(w, to, arena, PAGES(4));
}

static void remapped_memory_is_still_tracked(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 14), to = w->ops->map(w, PAGES(2));
	uint64_t arena = map_arena(w, PAGES(2));

	move_all(w, arena, addr, PAGES(2));
	begin_unread(w, ACT_REMAP, addr, PAGES(2), to);
	expect_event(w, MMU_EV_REMAP, addr, addr + PAGES(2));
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(2));
	assert_int_equal(w->ops->end(w), 0);
	w->ops->touch(w, 0, to, false, 0);
	expect_event(w, MMU_EV_FAULT, to, 0);
	move_all(w, to, arena, PAGES(2));
	expect_through(w, 0, word_of(14, 0));
}

static void mremap_onto_tracked_memory_says_that_first(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 15), to = map_filled(w, PAGES(2), 16);

	begin_unread(w, ACT_REMAP, addr, PAGES(2), to);
	expect_event(w, MMU_EV_UNMAP, to, to + PAGES(2));
	expect_event(w, MMU_EV_REMAP, addr, addr + PAGES(2));
	expect_event(w, MMU_EV_UNMAP, addr, addr + PAGES(2));
	assert_int_equal(w->ops->end(w), 0);
	check(w, to, PAGES(2), 15, 0);
}

static void untracked_memory_raises_no_event(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 17), plain = w->ops->map(w, PAGES(4));

	fill(w, plain, PAGES(4), 18);
	act_quietly(w, ACT_DISCARD, plain, PAGES(1));
	expect_word(w, plain, 0);
	act_quietly(w, ACT_UNMAP, plain + PAGES(1), PAGES(1));
	act_quietly(w, ACT_MAP_OVER, plain + PAGES(2), PAGES(1));
	assert_int_equal(w->mmu->ops->untrack(w->mmu, addr, PAGES(4)), 0);
	act_quietly(w, ACT_DISCARD, addr, PAGES(2));
	act_quietly(w, ACT_UNMAP, addr, PAGES(4));
}

static void faults_are_read_before_events(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 19), hole = map_arena(w, PAGES(1));

	begin_unread(w, ACT_DISCARD, addr, PAGES(1), 0);
	w->ops->touch(w, 0, hole, false, 0);
	expect_waiting(w, 0);
	expect_event(w, MMU_EV_FAULT, hole, 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, hole), -EAGAIN);
	expect_event(w, MMU_EV_REMOVE, addr, addr + PAGES(1));
	assert_int_equal(w->ops->end(w), 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, hole), 0);
	expect_through(w, 0, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(munmap_raises_an_event_with_its_range),
	cmocka_unit_test(unmapped_memory_is_gone_before_its_event_is_read),
	cmocka_unit_test(nothing_moves_or_is_installed_while_an_event_is_unread),
	cmocka_unit_test(waiters_can_be_woken_while_an_event_is_unread),
	cmocka_unit_test(page_whose_home_was_unmapped_stays_in_its_slot),
	cmocka_unit_test(mapping_over_tracked_memory_raises_an_unmap),
	cmocka_unit_test(discard_raises_an_event_before_the_pages_go),
	cmocka_unit_test(discard_across_areas_raises_an_event_for_each_tracked_one),
	cmocka_unit_test(nothing_moves_while_a_discard_is_unread),
	cmocka_unit_test(mremap_says_where_the_memory_went_and_that_its_place_is_gone),
	cmocka_unit_test(remapped_memory_is_still_tracked),
	cmocka_unit_test(mremap_onto_tracked_memory_says_that_first),
	cmocka_unit_test(untracked_memory_raises_no_event),
	cmocka_unit_test(faults_are_read_before_events),
};

const struct mmu_contract_part mmu_contract_event = { tests, ARRAY_SIZE(tests) };

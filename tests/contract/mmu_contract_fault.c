/* SPDX-License-Identifier: MIT */
/* mmu_contract_fault.c - touches that wait, and their answers. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

static void load_of_a_moved_out_page_waits_and_says_where(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 1), arena = map_arena(w, PAGES(4));
	struct mmu_event ev;

	move_all(w, arena, addr, PAGES(4));
	w->ops->touch(w, 0, addr + PAGES(2) + 8, false, 0);
	ev = next_event(w);
	assert_int_equal(ev.type, MMU_EV_FAULT);
	assert_int_equal(ev.addr, addr + PAGES(2));
	assert_false(ev.write);
	expect_waiting(w, 0);
	expect_no_event(w);
}

static void store_to_a_moved_out_page_says_that_it_writes(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(1), 2), arena = map_arena(w, PAGES(1));
	struct mmu_event ev;

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, true, 99);
	ev = next_event(w);
	assert_int_equal(ev.type, MMU_EV_FAULT);
	assert_true(ev.write);
	move_all(w, addr, arena, MMU_PAGE);
	expect_through(w, 0, 99);
	expect_word(w, addr, 99);
}

static void waiters_are_woken_by_a_move_and_see_the_new_content(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 3), arena = map_arena(w, PAGES(4));
	uint64_t other = map_filled(w, PAGES(4), 4);

	move_all(w, arena, addr, PAGES(4));
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	w->ops->touch(w, 1, addr + PAGES(3), false, 0);
	expect_event(w, MMU_EV_FAULT, addr + PAGES(3), 0);
	move_all(w, addr, other, PAGES(4));
	expect_through(w, 0, word_of(4, 0));
	expect_through(w, 1, word_of(4, 3));
}

static void waiter_outside_the_moved_range_goes_on_waiting(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 5), arena = map_arena(w, PAGES(4));

	move_all(w, arena, addr, PAGES(4));
	w->ops->touch(w, 0, addr + PAGES(3), false, 0);
	expect_event(w, MMU_EV_FAULT, addr + PAGES(3), 0);
	move_all(w, addr, arena, PAGES(3));
	expect_waiting(w, 0);
	move_all(w, addr + PAGES(3), arena + PAGES(3), MMU_PAGE);
	expect_through(w, 0, word_of(5, 3));
}

static void partial_move_wakes_those_of_the_part(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(4), 6), arena = map_arena(w, PAGES(4));

	move_all(w, arena, addr, PAGES(2));
	w->ops->touch(w, 0, addr + PAGES(1), false, 0);
	expect_event(w, MMU_EV_FAULT, addr + PAGES(1), 0);
	move_stops(w, addr, arena, PAGES(4), PAGES(2), -EAGAIN);
	expect_through(w, 0, word_of(6, 1));
}

static void move_without_wake_leaves_the_waiter_to_wake(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(1), 7), arena = map_arena(w, PAGES(1));
	struct mmu_moved res;

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	res = w->mmu->ops->move(w->mmu, addr, arena, MMU_PAGE, false);
	assert_int_equal(res.err, 0);
	expect_waiting(w, 0);
	assert_int_equal(w->mmu->ops->wake(w->mmu, addr, MMU_PAGE), 0);
	expect_through(w, 0, word_of(7, 0));
}

static void woken_waiter_that_finds_nothing_faults_again(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(1), 8), arena = map_arena(w, PAGES(1));

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	assert_int_equal(w->mmu->ops->wake(w->mmu, addr, MMU_PAGE), 0);
	expect_waiting(w, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	move_all(w, addr, arena, MMU_PAGE);
	expect_through(w, 0, word_of(8, 0));
}

static void unread_fault_stops_no_move_and_is_gone_after_it(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 9), arena = map_arena(w, PAGES(2));

	move_all(w, arena, addr, PAGES(2));
	w->ops->touch(w, 0, addr, false, 0);
	assert_true(w->ops->wait_event(w, SOON_MS));
	move_all(w, addr, arena, PAGES(2));
	expect_through(w, 0, word_of(9, 0));
	expect_no_event(w);
}

static void untracked_memory_raises_no_fault(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = w->ops->map(w, PAGES(2));

	w->ops->touch(w, 0, addr, true, 5);
	expect_through(w, 0, 5);
	expect_word(w, addr + MMU_PAGE, 0);
	expect_no_event(w);
}

static void fill_zero_answers_a_first_touch(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_arena(w, PAGES(2));

	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, addr), 0);
	expect_through(w, 0, 0);
	w->ops->touch(w, 1, addr + MMU_PAGE, true, 17);
	expect_event(w, MMU_EV_FAULT, addr + MMU_PAGE, 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, addr + MMU_PAGE), 0);
	expect_through(w, 1, 17);
	expect_word(w, addr + MMU_PAGE + 8, 0);
}

static void fill_zero_never_replaces_a_page(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, MMU_PAGE, 10), plain = w->ops->map(w, MMU_PAGE);

	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, addr), -EEXIST);
	check(w, addr, MMU_PAGE, 10, 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, plain), -ENOENT);
}

static void untrack_wakes_whoever_waits(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_arena(w, PAGES(2));

	w->ops->touch(w, 0, addr + MMU_PAGE, false, 0);
	expect_event(w, MMU_EV_FAULT, addr + MMU_PAGE, 0);
	assert_int_equal(w->mmu->ops->untrack(w->mmu, addr, PAGES(2)), 0);
	expect_through(w, 0, 0);
	w->ops->touch(w, 1, addr, true, 3);
	expect_through(w, 1, 3);
	expect_no_event(w);
}

static void track_needs_memory_and_may_be_repeated(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 11), gone = w->ops->map(w, PAGES(2));

	assert_int_equal(w->mmu->ops->track(w->mmu, addr, PAGES(2)), 0);
	act_quietly(w, ACT_UNMAP, gone, PAGES(2));
	assert_int_equal(w->mmu->ops->track(w->mmu, gone, PAGES(2)), -EINVAL);
	check(w, addr, PAGES(2), 11, 0);
}

static void copy_in_installs_the_content_and_wakes(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, MMU_PAGE, 12), arena = map_arena(w, MMU_PAGE);

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	assert_int_equal(w->mmu->ops->copy_in(w->mmu, addr, arena), 0);
	expect_through(w, 0, word_of(12, 0));
	check(w, addr, MMU_PAGE, 12, 0);
	check(w, arena, MMU_PAGE, 12, 0);
	assert_int_equal(w->mmu->ops->copy_in(w->mmu, addr, arena), -EEXIST);
}

static void copy_in_works_where_the_area_became_read_only(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, MMU_PAGE, 13), arena = map_arena(w, MMU_PAGE);

	move_all(w, arena, addr, MMU_PAGE);
	assert_int_equal(w->ops->protect(w, addr, MMU_PAGE, false), 0);
	move_stops(w, addr, arena, MMU_PAGE, 0, -EINVAL);
	assert_int_equal(w->mmu->ops->copy_in(w->mmu, addr, arena), 0);
	check(w, addr, MMU_PAGE, 13, 0);
	assert_int_equal(w->ops->store(w, addr, 1), -EACCES);
}

static void poisoned_page_kills_its_waiter_and_every_later_touch(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 14), arena = map_arena(w, PAGES(2)), value;
	int err;

	move_all(w, arena, addr, MMU_PAGE);
	w->ops->touch(w, 0, addr, false, 0);
	expect_event(w, MMU_EV_FAULT, addr, 0);
	err = w->mmu->ops->poison(w->mmu, addr);
	if (err == -ENOSYS)
		SKIP("this kernel cannot poison");
	assert_int_equal(err, 0);
	assert_int_equal(w->ops->touched(w, 0, SOON_MS, &value), -EFAULT);
	assert_int_equal(w->ops->load(w, addr, &value), -EFAULT);
	assert_int_equal(w->ops->store(w, addr, 1), -EFAULT);
	expect_word(w, addr + MMU_PAGE, word_of(14, 1));
	assert_int_equal(w->mmu->ops->poison(w->mmu, addr + MMU_PAGE), -EEXIST);
}

static void poison_gives_way_to_no_move(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_arena(w, PAGES(2)), other = map_filled(w, PAGES(2), 15), value;
	int err = w->mmu->ops->poison(w->mmu, addr);

	if (err == -ENOSYS)
		SKIP("this kernel cannot poison");
	assert_int_equal(err, 0);
	move_stops(w, addr, other, MMU_PAGE, 0, -EEXIST);
	assert_int_equal(w->ops->load(w, addr, &value), -EFAULT);
}

/* So an engine must not answer a fault at an address that it has poisoned. */
static void content_that_is_installed_replaces_poison(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_arena(w, PAGES(2)), other = map_filled(w, PAGES(2), 16);
	int err = w->mmu->ops->poison(w->mmu, addr);

	if (err == -ENOSYS)
		SKIP("this kernel cannot poison");
	assert_int_equal(err, 0);
	assert_int_equal(w->mmu->ops->poison(w->mmu, addr + MMU_PAGE), 0);
	assert_int_equal(w->mmu->ops->copy_in(w->mmu, addr, other), 0);
	check(w, addr, MMU_PAGE, 16, 0);
	assert_int_equal(w->mmu->ops->fill_zero(w->mmu, addr + MMU_PAGE), 0);
	expect_word(w, addr + MMU_PAGE, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(load_of_a_moved_out_page_waits_and_says_where),
	cmocka_unit_test(store_to_a_moved_out_page_says_that_it_writes),
	cmocka_unit_test(waiters_are_woken_by_a_move_and_see_the_new_content),
	cmocka_unit_test(waiter_outside_the_moved_range_goes_on_waiting),
	cmocka_unit_test(partial_move_wakes_those_of_the_part),
	cmocka_unit_test(move_without_wake_leaves_the_waiter_to_wake),
	cmocka_unit_test(woken_waiter_that_finds_nothing_faults_again),
	cmocka_unit_test(unread_fault_stops_no_move_and_is_gone_after_it),
	cmocka_unit_test(untracked_memory_raises_no_fault),
	cmocka_unit_test(fill_zero_answers_a_first_touch),
	cmocka_unit_test(fill_zero_never_replaces_a_page),
	cmocka_unit_test(untrack_wakes_whoever_waits),
	cmocka_unit_test(track_needs_memory_and_may_be_repeated),
	cmocka_unit_test(copy_in_installs_the_content_and_wakes),
	cmocka_unit_test(copy_in_works_where_the_area_became_read_only),
	cmocka_unit_test(poisoned_page_kills_its_waiter_and_every_later_touch),
	cmocka_unit_test(poison_gives_way_to_no_move),
	cmocka_unit_test(content_that_is_installed_replaces_poison),
};

const struct mmu_contract_part mmu_contract_fault = { tests, ARRAY_SIZE(tests) };

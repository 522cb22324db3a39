/* SPDX-License-Identifier: MIT */
/* What the simulated program can do to an engine: the losses that the engine's rules are there for. */
#include "base/base.h"
#include "mmu/mmu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those first */
#include <cmocka.h>

#define PAGES(n) (MMU_PAGE * (n))
#define V MMU_SIM_BASE
#define ARENA (MMU_SIM_BASE + 8 * MMU_HUGE)
#define SPACE_PAGES (16 * MMU_HUGE / MMU_PAGE)

/* V and the arena are 4 MiB each, tracked; every page of nr in V has its number + 1. */
static struct mmu *open_filled(uint64_t nr)
{
	struct mmu *m;

	assert_int_equal(mmu_sim_open(&m, SPACE_PAGES), 0);
	assert_int_equal(mmu_sim_mmap(m, V, 2 * MMU_HUGE, true), 0);
	assert_int_equal(mmu_sim_mmap(m, ARENA, 2 * MMU_HUGE, true), 0);
	assert_int_equal(mmu_sim_madvise(m, ARENA, 2 * MMU_HUGE, MMU_SIM_DONTFORK), 0);
	for (uint64_t i = 0; i < nr; i++)
		assert_int_equal(mmu_sim_store(m, V + PAGES(i), i + 1), 0);
	assert_int_equal(m->ops->track(m, V, 2 * MMU_HUGE), 0);
	assert_int_equal(m->ops->track(m, ARENA, 2 * MMU_HUGE), 0);
	return m;
}

static int move(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	return m->ops->move(m, dst, src, len, true).err;
}

static uint64_t load(struct mmu *m, uint64_t addr)
{
	uint64_t value = 0;

	assert_int_equal(mmu_sim_load(m, addr, &value), 0);
	return value;
}

static enum mmu_event_type read_type(struct mmu *m)
{
	struct mmu_event ev = { 0 };

	return m->ops->read_event(m, &ev) ? ev.type : 0;
}

static bool is_huge(struct mmu *m, uint64_t addr)
{
	struct mmu_run run;
	uint64_t pos = addr;

	return m->ops->scan(m, &pos, addr + MMU_PAGE, &run, 1) == 1 && run.bits & MMU_PG_HUGE;
}

/* ---- devices and pipes ---- */

static void copy_before_the_move_out_loses_a_devices_write(void **state)
{
	struct mmu *m = open_filled(1);

	(void)state;
	m->ops->populate(m, ARENA, PAGES(1));
	assert_int_equal(mmu_sim_pin(m, V, true), 0);
	assert_int_equal(m->ops->peek(m, ARENA, V, PAGES(1)), PAGES(1));
	assert_int_equal(mmu_sim_dma(m, V, 99), 0);
	assert_int_equal(mmu_sim_pin(m, V, false), 0);
	assert_int_equal(move(m, ARENA + PAGES(1), V, PAGES(1)), 0);
	assert_int_equal(move(m, V, ARENA, PAGES(1)), 0);
	assert_int_equal(load(m, V), 1);
	assert_int_equal(load(m, ARENA + PAGES(1)), 99);
	m->ops->close(m);
}

static void move_out_before_the_copy_keeps_a_devices_write(void **state)
{
	struct mmu *m = open_filled(1);

	(void)state;
	assert_int_equal(mmu_sim_pin(m, V, true), 0);
	assert_int_equal(move(m, ARENA, V, PAGES(1)), -EBUSY);
	assert_int_equal(mmu_sim_dma(m, V, 99), 0);
	assert_int_equal(mmu_sim_pin(m, V, false), 0);
	assert_int_equal(move(m, ARENA, V, PAGES(1)), 0);
	assert_int_equal(load(m, ARENA), 99);
	assert_int_equal(mmu_sim_dma(m, V, 100), -ENOENT);
	m->ops->close(m);
}

static void recycled_frame_leaks_into_a_pipe_and_a_dropped_one_does_not(void **state)
{
	struct mmu *m = open_filled(2);
	uint64_t value;

	(void)state;
	assert_int_equal(mmu_sim_splice(m, V), 0);
	assert_int_equal(mmu_sim_splice(m, V + PAGES(1)), 0);
	assert_int_equal(move(m, ARENA, V, PAGES(2)), 0);
	assert_int_equal(m->ops->drop(m, ARENA + PAGES(1), PAGES(1)), 0);
	assert_int_equal(m->ops->populate(m, ARENA + PAGES(1), PAGES(1)), 0);
	mmu_sim_store(m, ARENA, 77);
	mmu_sim_store(m, ARENA + PAGES(1), 77);
	assert_int_equal(mmu_sim_spliced(m, V, &value), 0);
	assert_int_equal(value, 77);
	assert_int_equal(mmu_sim_spliced(m, V + PAGES(1), &value), 0);
	assert_int_equal(value, 2);
	m->ops->close(m);
}

static void pin_outlives_the_mapping_and_keeps_its_frame(void **state)
{
	struct mmu *m = open_filled(1);

	(void)state;
	assert_int_equal(mmu_sim_nr_frames(m), 1);
	assert_int_equal(mmu_sim_pin(m, V, true), 0);
	assert_int_equal(mmu_sim_munmap(m, V, 2 * MMU_HUGE), -EINPROGRESS);
	assert_int_equal(mmu_sim_dma(m, V, 5), 0);
	assert_int_equal(mmu_sim_nr_frames(m), 1);
	assert_int_equal(mmu_sim_pin(m, V, false), 0);
	assert_int_equal(mmu_sim_nr_frames(m), 0);
	m->ops->close(m);
}

static void pinned_page_stays_the_parents_own_at_a_fork(void **state)
{
	struct mmu *m = open_filled(2);
	uint64_t value;

	(void)state;
	assert_int_equal(mmu_sim_pin(m, V, true), 0);
	assert_int_equal(mmu_sim_fork(m), -EINPROGRESS);
	assert_int_equal(read_type(m), MMU_EV_FORK);
	assert_int_equal(mmu_sim_dma(m, V, 50), 0);
	assert_int_equal(load(m, V), 50);
	assert_int_equal(mmu_sim_child_load(m, 1, V, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(mmu_sim_pin(m, V, false), 0);
	assert_int_equal(move(m, ARENA, V, PAGES(1)), 0);
	assert_int_equal(move(m, ARENA + PAGES(1), V + PAGES(1), PAGES(1)), -EBUSY);
	m->ops->close(m);
}

/* ---- events ---- */

static void discard_while_a_page_is_out_lets_old_data_come_back(void **state)
{
	struct mmu *m = open_filled(1);

	(void)state;
	assert_int_equal(move(m, ARENA, V, PAGES(1)), 0);
	assert_int_equal(mmu_sim_discard(m, V, PAGES(1)), -EINPROGRESS);
	assert_int_equal(read_type(m), MMU_EV_REMOVE);
	assert_int_equal(move(m, V, ARENA, PAGES(1)), 0);
	assert_int_equal(load(m, V), 1);
	m->ops->close(m);
}

static void slow_discard_misses_a_page_that_moves_out_before_it_goes_on(void **state)
{
	struct mmu *m = open_filled(2);

	(void)state;
	mmu_sim_slow(m, true);
	assert_int_equal(mmu_sim_discard(m, V, PAGES(2)), -EINPROGRESS);
	assert_int_equal(mmu_sim_resumable(m), 0);
	assert_int_equal(read_type(m), MMU_EV_REMOVE);
	assert_int_equal(mmu_sim_resumable(m), 1);
	assert_int_equal(move(m, ARENA, V, PAGES(1)), -EAGAIN);
	mmu_sim_resume(m, 0);
	assert_int_equal(load(m, V), 1);
	assert_int_equal(move(m, ARENA, V, PAGES(1)), 0);
	assert_int_equal(mmu_sim_resumable(m), 1);
	mmu_sim_resume(m, 0);
	assert_int_equal(mmu_sim_resumable(m), 0);
	assert_int_equal(load(m, ARENA), 1);
	assert_int_equal(move(m, ARENA + PAGES(1), V + PAGES(1), PAGES(1)), -ENOENT);
	m->ops->close(m);
}

static void slow_threads_go_on_in_any_order(void **state)
{
	struct mmu *m = open_filled(4);

	(void)state;
	mmu_sim_slow(m, true);
	assert_int_equal(mmu_sim_discard(m, V, PAGES(1)), -EINPROGRESS);
	assert_int_equal(mmu_sim_munmap(m, V + PAGES(2), PAGES(1)), -EINPROGRESS);
	assert_int_equal(read_type(m), MMU_EV_REMOVE);
	assert_int_equal(read_type(m), MMU_EV_UNMAP);
	assert_int_equal(read_type(m), 0);
	assert_int_equal(mmu_sim_resumable(m), 2);
	mmu_sim_resume(m, 1);
	assert_int_equal(mmu_sim_resumable(m), 1);
	assert_int_equal(move(m, ARENA, V + PAGES(1), PAGES(1)), -EAGAIN);
	mmu_sim_resume(m, 0);
	assert_int_equal(move(m, ARENA, V + PAGES(1), PAGES(1)), 0);
	m->ops->close(m);
}

static void fault_is_reported_once_until_it_is_woken(void **state)
{
	struct mmu *m = open_filled(0);
	uint64_t value;

	(void)state;
	assert_int_equal(mmu_sim_load(m, V, &value), -EWOULDBLOCK);
	assert_true(mmu_sim_waiting(m, V));
	assert_int_equal(read_type(m), MMU_EV_FAULT);
	assert_int_equal(mmu_sim_store(m, V, 1), -EWOULDBLOCK);
	assert_int_equal(read_type(m), 0);
	assert_int_equal(m->ops->wake(m, V, PAGES(1)), 0);
	assert_false(mmu_sim_waiting(m, V));
	assert_int_equal(mmu_sim_store(m, V, 1), -EWOULDBLOCK);
	assert_int_equal(read_type(m), MMU_EV_FAULT);
	m->ops->close(m);
}

static void waiter_is_not_woken_by_an_unmap(void **state)
{
	struct mmu *m = open_filled(0);
	uint64_t value;

	(void)state;
	assert_int_equal(mmu_sim_load(m, V, &value), -EWOULDBLOCK);
	assert_int_equal(mmu_sim_munmap(m, V, PAGES(1)), -EINPROGRESS);
	assert_true(mmu_sim_waiting(m, V));
	assert_int_equal(m->ops->wake(m, V, PAGES(1)), 0);
	assert_int_equal(mmu_sim_load(m, V, &value), -EACCES);
	m->ops->close(m);
}

/* ---- huge pages ---- */

static void first_touch_and_populate_make_huge_pages_where_asked(void **state)
{
	struct mmu *m = open_filled(0);

	(void)state;
	assert_int_equal(mmu_sim_madvise(m, ARENA, MMU_HUGE, MMU_SIM_HUGEPAGE), 0);
	assert_int_equal(m->ops->populate(m, ARENA, 2 * MMU_HUGE), 0);
	assert_true(is_huge(m, ARENA));
	assert_false(is_huge(m, ARENA + MMU_HUGE));
	assert_int_equal(m->ops->untrack(m, V, 2 * MMU_HUGE), 0);
	assert_int_equal(mmu_sim_madvise(m, V, 2 * MMU_HUGE, MMU_SIM_HUGEPAGE), 0);
	assert_int_equal(mmu_sim_store(m, V + PAGES(7), 1), 0);
	assert_true(is_huge(m, V));
	assert_int_equal(load(m, V + MMU_HUGE), 0);
	assert_int_equal(mmu_sim_store(m, V + MMU_HUGE, 1), 0);
	assert_false(is_huge(m, V + MMU_HUGE));
	m->ops->close(m);
}

static void leftover_page_table_splits_a_huge_move_and_a_whole_drop_mends_it(void **state)
{
	struct mmu *m = open_filled(512);

	(void)state;
	assert_int_equal(mmu_sim_huge(m, V), 0);
	assert_int_equal(mmu_sim_mmap(m, V + 4 * MMU_HUGE, PAGES(1), true), 0);
	mmu_sim_store(m, V + 4 * MMU_HUGE, 1);
	assert_int_equal(move(m, ARENA, V + 4 * MMU_HUGE, PAGES(1)), 0);
	assert_int_equal(m->ops->drop(m, ARENA, PAGES(1)), 0);
	assert_int_equal(move(m, ARENA, V, MMU_HUGE), 0);
	assert_false(is_huge(m, ARENA));
	assert_int_equal(m->ops->drop(m, V, MMU_HUGE), 0);
	assert_int_equal(move(m, V, ARENA, MMU_HUGE), 0);
	assert_int_equal(mmu_sim_huge(m, V), 0);
	assert_int_equal(m->ops->drop(m, ARENA, MMU_HUGE), 0);
	assert_int_equal(move(m, ARENA, V, MMU_HUGE), 0);
	assert_true(is_huge(m, ARENA));
	assert_int_equal(load(m, ARENA + PAGES(511)), 512);
	m->ops->close(m);
}

static void pinned_part_keeps_a_huge_page_whole_and_in_its_place(void **state)
{
	struct mmu *m = open_filled(512);

	(void)state;
	assert_int_equal(mmu_sim_huge(m, V), 0);
	assert_int_equal(mmu_sim_pin(m, V + PAGES(100), true), 0);
	assert_int_equal(move(m, ARENA, V, MMU_HUGE), -EBUSY);
	assert_int_equal(move(m, ARENA, V, PAGES(4)), -EBUSY);
	assert_true(is_huge(m, V));
	assert_int_equal(mmu_sim_pin(m, V + PAGES(100), false), 0);
	assert_int_equal(move(m, ARENA, V, MMU_HUGE), 0);
	assert_true(is_huge(m, ARENA));
	m->ops->close(m);
}

static void changing_a_part_of_a_huge_page_splits_it(void **state)
{
	struct mmu *m = open_filled(512);

	(void)state;
	assert_int_equal(mmu_sim_huge(m, V), 0);
	assert_int_equal(mmu_sim_mprotect(m, V, PAGES(1), false), 0);
	assert_false(is_huge(m, V));
	assert_int_equal(load(m, V + PAGES(300)), 301);
	m->ops->close(m);
}

static void mremap_takes_a_huge_page_along_whole(void **state)
{
	struct mmu *m = open_filled(512);

	(void)state;
	assert_int_equal(mmu_sim_huge(m, V), 0);
	assert_int_equal(mmu_sim_mremap(m, V, MMU_HUGE, V + 4 * MMU_HUGE), -EINPROGRESS);
	assert_true(is_huge(m, V + 4 * MMU_HUGE));
	assert_int_equal(load(m, V + 4 * MMU_HUGE + PAGES(17)), 18);
	m->ops->close(m);
}

static void collapse_needs_every_page_of_a_tracked_area(void **state)
{
	struct mmu *m = open_filled(512);

	(void)state;
	assert_int_equal(move(m, ARENA, V + PAGES(3), PAGES(1)), 0);
	assert_int_equal(mmu_sim_huge(m, V), -EBUSY);
	assert_int_equal(move(m, V + PAGES(3), ARENA, PAGES(1)), 0);
	assert_int_equal(mmu_sim_huge(m, V), 0);
	m->ops->close(m);
}

/* ---- the space ---- */

static void addresses_outside_the_space_are_refused(void **state)
{
	struct mmu *m = open_filled(1);
	uint64_t end = V + PAGES(SPACE_PAGES), value;

	(void)state;
	assert_int_equal(mmu_sim_mmap(m, end, PAGES(1), true), -EINVAL);
	assert_int_equal(mmu_sim_munmap(m, end - PAGES(1), PAGES(2)), -EINVAL);
	assert_int_equal(mmu_sim_load(m, end, &value), -EACCES);
	assert_int_equal(mmu_sim_load(m, 8, &value), -EACCES);
	assert_int_equal(move(m, end, V, PAGES(1)), -ENOENT);
	assert_int_equal(m->ops->track(m, V - PAGES(1), PAGES(2)), -EINVAL);
	m->ops->close(m);
}

static void remapped_neighbours_are_areas_of_their_own(void **state)
{
	struct mmu *m = open_filled(8);

	(void)state;
	assert_int_equal(mmu_sim_mremap(m, V, PAGES(1), V + PAGES(4)), -EINPROGRESS);
	while (read_type(m))
		;
	assert_int_equal(load(m, V + PAGES(4)), 1);
	assert_int_equal(move(m, ARENA, V + PAGES(3), PAGES(2)), -EINVAL);
	assert_int_equal(move(m, ARENA, V + PAGES(3), PAGES(1)), 0);
	assert_int_equal(move(m, ARENA + PAGES(1), V + PAGES(4), PAGES(1)), 0);
	m->ops->close(m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(copy_before_the_move_out_loses_a_devices_write),
		cmocka_unit_test(move_out_before_the_copy_keeps_a_devices_write),
		cmocka_unit_test(recycled_frame_leaks_into_a_pipe_and_a_dropped_one_does_not),
		cmocka_unit_test(pin_outlives_the_mapping_and_keeps_its_frame),
		cmocka_unit_test(pinned_page_stays_the_parents_own_at_a_fork),
		cmocka_unit_test(discard_while_a_page_is_out_lets_old_data_come_back),
		cmocka_unit_test(slow_discard_misses_a_page_that_moves_out_before_it_goes_on),
		cmocka_unit_test(slow_threads_go_on_in_any_order),
		cmocka_unit_test(fault_is_reported_once_until_it_is_woken),
		cmocka_unit_test(waiter_is_not_woken_by_an_unmap),
		cmocka_unit_test(first_touch_and_populate_make_huge_pages_where_asked),
		cmocka_unit_test(leftover_page_table_splits_a_huge_move_and_a_whole_drop_mends_it),
		cmocka_unit_test(pinned_part_keeps_a_huge_page_whole_and_in_its_place),
		cmocka_unit_test(changing_a_part_of_a_huge_page_splits_it),
		cmocka_unit_test(mremap_takes_a_huge_page_along_whole),
		cmocka_unit_test(collapse_needs_every_page_of_a_tracked_area),
		cmocka_unit_test(addresses_outside_the_space_are_refused),
		cmocka_unit_test(remapped_neighbours_are_areas_of_their_own),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mmu_sim_program", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* mmu_contract_fork.c - pages that a fork shared, and the child's side. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>

/* Memory with content that a living child shares; tracked after the fork, so the fork told nobody. */
static uint64_t map_shared(struct mmu_world *w, uint64_t len, uint64_t seed)
{
	uint64_t addr = w->ops->map(w, len);

	fill(w, addr, len, seed);
	act_quietly(w, ACT_FORK, 0, 0);
	assert_int_equal(w->mmu->ops->track(w->mmu, addr, len), 0);
	return addr;
}

static void shared_page_is_ebusy_until_unshared(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_shared(w, PAGES(4), 1), arena = map_arena(w, PAGES(4));

	move_stops(w, arena, addr, PAGES(4), 0, -EBUSY);
	assert_int_equal(w->mmu->ops->unshare(w->mmu, addr, PAGES(2)), 0);
	move_stops(w, arena, addr, PAGES(4), PAGES(2), -EAGAIN);
	move_stops(w, arena + PAGES(2), addr + PAGES(2), PAGES(2), 0, -EBUSY);
	check(w, arena, PAGES(2), 1, 0);
	check(w, addr + PAGES(2), PAGES(2), 1, 2);
}

static void page_stays_shared_after_the_child_has_gone(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_shared(w, PAGES(2), 2), arena = map_arena(w, PAGES(2));

	w->ops->child_exit(w);
	move_stops(w, arena, addr, PAGES(2), 0, -EBUSY);
	assert_int_equal(w->mmu->ops->unshare(w->mmu, addr, PAGES(2)), 0);
	move_all(w, arena, addr, PAGES(2));
	check(w, arena, PAGES(2), 2, 0);
}

static void store_makes_a_shared_page_the_programs_own(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_shared(w, PAGES(2), 3), arena = map_arena(w, PAGES(2)), value;

	assert_int_equal(w->ops->store(w, addr, 77), 0);
	move_all(w, arena, addr, MMU_PAGE);
	expect_word(w, arena, 77);
	w->ops->child_ask(w, addr);
	assert_int_equal(w->ops->child_answer(w, SOON_MS, &value), 0);
	assert_int_equal(value, word_of(3, 0));
}

static void shared_tells_what_a_child_maps_too_from_what_is_ours(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_shared(w, PAGES(3), 8), ours = map_filled(w, PAGES(1), 9);
	const struct mmu_ops *ops = w->mmu->ops;

	assert_int_equal(ops->shared(w->mmu, addr, MMU_PAGE), 1);
	assert_int_equal(ops->shared(w->mmu, ours, MMU_PAGE), 0);
	assert_int_equal(ops->unshare(w->mmu, addr, PAGES(1)), 0);
	assert_int_equal(ops->shared(w->mmu, addr, MMU_PAGE), 0);
	assert_int_equal(ops->shared(w->mmu, addr + PAGES(1), MMU_PAGE), 1);
	assert_int_equal(w->ops->store(w, addr + PAGES(1), 1), 0);
	assert_int_equal(ops->shared(w->mmu, addr + PAGES(1), MMU_PAGE), 0);
	w->ops->child_exit(w);
	assert_int_equal(ops->shared(w->mmu, addr + PAGES(2), MMU_PAGE), 0);
	assert_int_equal(ops->shared(w->mmu, w->ops->map(w, PAGES(1)), MMU_PAGE), -ENOENT);
}

static void pinned_page_is_not_shared(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(1), 10), arena = map_arena(w, PAGES(1));

	if (w->ops->pin(w, addr))
		SKIP("no way to pin a page here");
	move_stops(w, arena, addr, PAGES(1), 0, -EBUSY);
	assert_int_equal(w->mmu->ops->shared(w->mmu, addr, MMU_PAGE), 0);
}

static void child_is_not_touched_by_what_the_engine_does_to_the_parent(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_shared(w, PAGES(2), 4), arena = map_arena(w, PAGES(2)), value;

	assert_int_equal(w->mmu->ops->unshare(w->mmu, addr, PAGES(2)), 0);
	move_all(w, arena, addr, PAGES(2));
	w->ops->child_ask(w, addr + PAGES(1));
	assert_int_equal(w->ops->child_answer(w, SOON_MS, &value), 0);
	assert_int_equal(value, word_of(4, 1));
	expect_no_event(w);
}

/* Fork while page 0 of two is out. Returns the child's descriptor; -1: no fork events with our rights. */
static int fork_with_a_page_out(struct mmu_world *w, uint64_t addr, uint64_t arena)
{
	struct mmu_event ev;

	assert_int_equal(w->ops->dontfork(w, arena, PAGES(2)), 0);
	move_all(w, arena, addr, MMU_PAGE);
	w->ops->begin(w, ACT_FORK, 0, 0, 0);
	while (!w->mmu->ops->read_event(w->mmu, &ev)) {
		if (w->ops->ended(w)) {
			assert_int_equal(w->ops->end(w), 0);
			return -1;
		}
		w->ops->wait_event(w, 10);
	}
	assert_int_equal(ev.type, MMU_EV_FORK);
	assert_int_equal(w->ops->end(w), 0);
	return ev.child;
}

static void forked_child_waits_for_a_page_that_was_out_and_gets_it(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 5), arena = map_arena(w, PAGES(2)), value;
	int child = fork_with_a_page_out(w, addr, arena);

	if (child < 0)
		SKIP("no fork events with these rights");
	w->ops->child_ask(w, addr);
	assert_int_equal(w->ops->child_answer(w, A_WHILE_MS, &value), -EWOULDBLOCK);
	assert_int_equal(w->mmu->ops->copy_child(w->mmu, child, addr, arena), 0);
	assert_int_equal(w->ops->child_answer(w, SOON_MS, &value), 0);
	assert_int_equal(value, word_of(5, 0));
	assert_int_equal(w->mmu->ops->copy_child(w->mmu, child, addr, arena), -EEXIST);
	w->ops->child_ask(w, addr + MMU_PAGE);
	assert_int_equal(w->ops->child_answer(w, SOON_MS, &value), 0);
	assert_int_equal(value, word_of(5, 1));
	w->mmu->ops->close_child(w->mmu, child);
}

static void page_that_was_out_at_the_fork_is_the_parents_alone(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 6), arena = map_arena(w, PAGES(2));
	int child = fork_with_a_page_out(w, addr, arena);

	if (child < 0)
		SKIP("no fork events with these rights");
	move_all(w, addr, arena, MMU_PAGE);
	check(w, addr, PAGES(2), 6, 0);
	move_all(w, arena, addr, MMU_PAGE);
	move_stops(w, arena + MMU_PAGE, addr + MMU_PAGE, MMU_PAGE, 0, -EBUSY);
	w->mmu->ops->close_child(w->mmu, child);
}

static void child_that_nobody_serves_any_more_finds_zeroes(void **state)
{
	struct mmu_world *w = *state;
	uint64_t addr = map_filled(w, PAGES(2), 7), arena = map_arena(w, PAGES(2)), value = 1;
	int child = fork_with_a_page_out(w, addr, arena);

	if (child < 0)
		SKIP("no fork events with these rights");
	w->ops->child_ask(w, addr);
	assert_int_equal(w->ops->child_answer(w, A_WHILE_MS, &value), -EWOULDBLOCK);
	w->mmu->ops->close_child(w->mmu, child);
	assert_int_equal(w->ops->child_answer(w, SOON_MS, &value), 0);
	assert_int_equal(value, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(shared_page_is_ebusy_until_unshared),
	cmocka_unit_test(page_stays_shared_after_the_child_has_gone),
	cmocka_unit_test(store_makes_a_shared_page_the_programs_own),
	cmocka_unit_test(shared_tells_what_a_child_maps_too_from_what_is_ours),
	cmocka_unit_test(pinned_page_is_not_shared),
	cmocka_unit_test(child_is_not_touched_by_what_the_engine_does_to_the_parent),
	cmocka_unit_test(forked_child_waits_for_a_page_that_was_out_and_gets_it),
	cmocka_unit_test(page_that_was_out_at_the_fork_is_the_parents_alone),
	cmocka_unit_test(child_that_nobody_serves_any_more_finds_zeroes),
};

const struct mmu_contract_part mmu_contract_fork = { tests, ARRAY_SIZE(tests) };

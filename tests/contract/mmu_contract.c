/* SPDX-License-Identifier: MIT */
/* mmu_contract.c - the suite: its steps and its runner. */
#include "mmu_contract_tests.h"

#include "base/base.h"

#include <errno.h>
#include <stdlib.h>

/* ---- content ---- */

/* One word a cache line or so, and the very last one. */
static const uint64_t offsets[] = { 0, 8, 120, 504, 1000, 2040, 2048, 3072, 4080, 4088 };

static uint64_t mix(uint64_t seed, uint64_t page, uint64_t offset)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15UL ^ page << 20 ^ offset;

	x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9UL;
	return x ^ x >> 29;
}

uint64_t word_of(uint64_t seed, uint64_t page)
{
	return mix(seed, page, 0);
}

void fill(struct mmu_world *w, uint64_t addr, uint64_t len, uint64_t seed)
{
	for (uint64_t page = 0; page < len / MMU_PAGE; page++)
		for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
			assert_int_equal(w->ops->store(w, addr + PAGES(page) + offsets[i],
						       mix(seed, page, offsets[i])),
					 0);
}

void check(struct mmu_world *w, uint64_t addr, uint64_t len, uint64_t seed, uint64_t first)
{
	for (uint64_t page = 0; page < len / MMU_PAGE; page++)
		for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
			expect_word(w, addr + PAGES(page) + offsets[i], mix(seed, first + page, offsets[i]));
}

void expect_word(struct mmu_world *w, uint64_t addr, uint64_t value)
{
	uint64_t got = ~value;

	assert_int_equal(w->ops->load(w, addr, &got), 0);
	assert_int_equal(got, value);
}

uint64_t map_filled(struct mmu_world *w, uint64_t len, uint64_t seed)
{
	uint64_t addr = w->ops->map(w, len);

	fill(w, addr, len, seed);
	assert_int_equal(w->mmu->ops->track(w->mmu, addr, len), 0);
	return addr;
}

/* As arena_map() of node_ram.c has it: touched before a part of it is ever untracked. */
uint64_t map_arena(struct mmu_world *w, uint64_t len)
{
	uint64_t addr = w->ops->map(w, len + PAGES(1));

	assert_int_equal(w->ops->store(w, addr + len, 0), 0);
	assert_int_equal(w->mmu->ops->track(w->mmu, addr, len), 0);
	return addr;
}

uint64_t count_present(struct mmu_world *w, uint64_t addr, uint64_t len, uint32_t *bits)
{
	struct mmu_run run[8];
	uint64_t pos = addr, pages = 0;
	int nr;

	*bits = ~0U;
	while ((nr = w->mmu->ops->scan(w->mmu, &pos, addr + len, run, ARRAY_SIZE(run))) > 0)
		for (int i = 0; i < nr; i++) {
			pages += (run[i].end - run[i].start) / MMU_PAGE;
			*bits &= run[i].bits;
		}
	assert_int_equal(nr, 0);
	return pages;
}

/* ---- the engine's steps ---- */

void move_stops(struct mmu_world *w, uint64_t dst, uint64_t src, uint64_t len, uint64_t done, int err)
{
	struct mmu_moved res = w->mmu->ops->move(w->mmu, dst, src, len, true);

	assert_int_equal(res.err, err);
	assert_int_equal(res.done, done);
}

void move_all(struct mmu_world *w, uint64_t dst, uint64_t src, uint64_t len)
{
	move_stops(w, dst, src, len, len, 0);
}

struct mmu_event next_event(struct mmu_world *w)
{
	struct mmu_event ev = { 0 };
	uint64_t until = clock_ns() + SOON_MS * 1000000UL;

	while (!w->mmu->ops->read_event(w->mmu, &ev)) {
		if (clock_ns() > until)
			fail_msg("no event came");
		w->ops->wait_event(w, 10);
	}
	return ev;
}

void expect_event(struct mmu_world *w, enum mmu_event_type type, uint64_t addr, uint64_t end)
{
	struct mmu_event ev = next_event(w);

	assert_int_equal(ev.type, type);
	assert_int_equal(ev.addr, addr);
	if (type != MMU_EV_FAULT)
		assert_int_equal(ev.end, end);
}

void expect_no_event(struct mmu_world *w)
{
	struct mmu_event ev;

	w->ops->wait_event(w, A_WHILE_MS);
	assert_int_equal(w->mmu->ops->read_event(w->mmu, &ev), 0);
}

/* ---- the program's steps ---- */

void expect_through(struct mmu_world *w, int id, uint64_t value)
{
	uint64_t got = ~value;

	assert_int_equal(w->ops->touched(w, id, SOON_MS, &got), 0);
	assert_int_equal(got, value);
}

void expect_waiting(struct mmu_world *w, int id)
{
	uint64_t got;

	assert_int_equal(w->ops->touched(w, id, A_WHILE_MS, &got), -EWOULDBLOCK);
}

/* Whoever waits is answered, so that a failure does not hang. */
static void answer_event(struct mmu_world *w, const struct mmu_event *ev)
{
	if (ev->type == MMU_EV_FAULT && w->mmu->ops->fill_zero(w->mmu, ev->addr))
		w->mmu->ops->wake(w->mmu, ev->addr, MMU_PAGE);
}

void act_quietly(struct mmu_world *w, enum mmu_act act, uint64_t addr, uint64_t len)
{
	struct mmu_event ev;
	int nr_events = 0;

	w->ops->begin(w, act, addr, len, 0);
	while (!w->ops->ended(w)) {
		w->ops->wait_event(w, 1);
		if (w->mmu->ops->read_event(w->mmu, &ev)) {
			answer_event(w, &ev);
			nr_events++;
		}
	}
	assert_int_equal(w->ops->end(w), 0);
	assert_int_equal(nr_events, 0);
	expect_no_event(w);
}

/* ---- the runner ---- */

static int open_world(void **state)
{
	const struct mmu_world_ops *ops = *state;

	*state = ops->open();
	return *state ? 0 : -1;
}

static int close_world(void **state)
{
	struct mmu_world *w = *state;

	w->ops->close(w);
	return 0;
}

int mmu_contract_run(const struct mmu_world_ops *ops)
{
	static const struct mmu_contract_part *const parts[] = { &mmu_contract_move,  &mmu_contract_huge,
								 &mmu_contract_fault, &mmu_contract_event,
								 &mmu_contract_fork,  &mmu_contract_slot };
	struct CMUnitTest test[128];
	size_t nr = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (size_t j = 0; j < parts[i]->nr; j++) {
			BUG_ON(nr == ARRAY_SIZE(test));
			test[nr] = parts[i]->test[j];
			test[nr].setup_func = open_world;
			test[nr].teardown_func = close_world;
			test[nr].initial_state = (void *)(uintptr_t)ops;
			nr++;
		}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests(ops->name, test, nr, NULL, NULL);
}

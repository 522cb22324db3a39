/* SPDX-License-Identifier: MIT */
/*
 * Stops a migration at a step (tests/live/hold.h): the engine's mmu with some operations replaced, which call
 * the real ones. They run on engine threads, so there is nothing of libc here, and no managed memory.
 *
 * A batch is known by the order of its operations:
 *
 *   shared peek      prepare, transactional     copy, same     the copy
 *   move, no wake    out                        move, wake     in
 *   drop scan untrack                           settle
 */
#include "hold.h"

#include "agent/agent.h"

#include <errno.h>
#include <linux/futex.h>
#include <time.h>

enum phase { IDLE, AHEAD, OUT, COPY, IN };

static struct hold {
	struct mm *mm;
	const struct mmu_ops *real;
	struct mmu_ops ops;
	uint32_t steps, us, every, bugs;	/* atomic */
	uint32_t passed;			/* steps since hold_set(); atomic */
	uint32_t count;				/* futex */
	uint32_t active;			/* atomic */
	enum phase phase;			/* who has mm->migrate */
	uint64_t batch;				/* whose phase it is; the same */
} hold __attribute__((section("gw_data"))) = { .every = 1 };

static bool broken(enum hold_bug bug)
{
	return __atomic_load_n(&hold.bugs, __ATOMIC_RELAXED) & bug;
}

static bool wanted(enum hold_step step)
{
	return __atomic_load_n(&hold.steps, __ATOMIC_ACQUIRE) & step;
}

static void stop_at(enum hold_step step)
{
	uint32_t us = __atomic_load_n(&hold.us, __ATOMIC_RELAXED);
	struct timespec ts = { .tv_nsec = us * 1000L };

	if (!wanted(step) ||
	    __atomic_fetch_add(&hold.passed, 1, __ATOMIC_RELAXED) % __atomic_load_n(&hold.every, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&hold.active, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&hold.count, 1, __ATOMIC_SEQ_CST);
	sys3(SYS_futex, &hold.count, FUTEX_WAKE_PRIVATE, INT32_MAX);
	sys2(SYS_nanosleep, &ts, NULL);
	__atomic_store_n(&hold.active, 0, __ATOMIC_SEQ_CST);
}

/* Something between two batches. */
static void not_moving(void)
{
	if (hold.phase == IN) {
		hold.phase = IDLE;
		stop_at(HOLD_SETTLE);
	}
}

/* A batch of which nothing could move says nothing of its end. */
static void batch_begins(void)
{
	not_moving();
	if (hold.batch != hold.mm->stats.batches)
		hold.phase = IDLE;
	hold.batch = hold.mm->stats.batches;
}

/* ---- the operations ---- */

static bool whole_huge(uint64_t dst, uint64_t src, uint64_t len)
{
	return !((dst | src | len) % MMU_HUGE);
}

/* Half of a run, as if something had stopped it there; a THP must not come apart for it. */
static struct mmu_moved move_out(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	struct mmu_moved mv;
	uint64_t part = len;

	batch_begins();
	if (hold.phase == OUT)
		return hold.real->move(m, dst, src, len, false);
	if (hold.phase != AHEAD)
		stop_at(HOLD_PREPARE);
	if (wanted(HOLD_OUT) && len > MMU_PAGE && !whole_huge(dst, src, len))
		part = len / 2 / MMU_PAGE * MMU_PAGE;
	mv = hold.real->move(m, dst, src, part, false);
	if (!mv.done)
		return mv;
	hold.phase = OUT;
	stop_at(HOLD_OUT);
	return (struct mmu_moved){ .done = mv.done, .err = mv.done < len ? -EAGAIN : 0 };
}

static struct mmu_moved move_in(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	struct mmu_moved mv;

	if (broken(HOLD_BUG_RECYCLE))
		__atomic_store_n(&hold.mm->recycle, true, __ATOMIC_RELAXED);
	if (hold.phase == IN || !wanted(HOLD_IN) || whole_huge(dst, src, len)) {
		hold.phase = IN;
		return hold.real->move(m, dst, src, len, true);
	}
	mv = hold.real->move(m, dst, src, MMU_PAGE, true);
	if (!mv.done)
		return mv;
	hold.phase = IN;
	stop_at(HOLD_IN);
	return (struct mmu_moved){ .done = mv.done, .err = mv.done < len ? -EAGAIN : 0 };
}

static struct mmu_moved held_move(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len, bool wake)
{
	return wake ? move_in(m, dst, src, len) : move_out(m, dst, src, len);
}

static void copy_begins(void)
{
	if (hold.phase == OUT)
		stop_at(HOLD_UNMAPPED);
}

static void copy_goes_on(void)
{
	if (hold.phase == OUT) {
		hold.phase = COPY;
		stop_at(HOLD_COPIED);
	}
}

static void held_copy(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	copy_begins();
	hold.real->copy(m, dst, src, len);
	copy_goes_on();
}

static bool held_same(struct mmu *m, uint64_t a, uint64_t b, uint64_t len)
{
	bool same;

	copy_begins();
	same = broken(HOLD_BUG_NO_LOOK) || hold.real->same(m, a, b, len);
	copy_goes_on();
	return same;
}

static int64_t held_peek(struct mmu *m, uint64_t slot, uint64_t addr, uint64_t len)
{
	int64_t got = hold.real->peek(m, slot, addr, len);

	batch_begins();
	if (hold.phase != AHEAD) {
		hold.phase = AHEAD;
		stop_at(HOLD_PREPARE);
	}
	return got;
}

static int held_copy_child(struct mmu *m, int child, uint64_t addr, uint64_t slot)
{
	return broken(HOLD_BUG_EMPTY_CHILD) ? 0 : hold.real->copy_child(m, child, addr, slot);
}

static int held_scan(struct mmu *m, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr)
{
	not_moving();
	return hold.real->scan(m, pos, end, run, nr);
}

static int held_drop(struct mmu *m, uint64_t addr, uint64_t len)
{
	not_moving();
	return hold.real->drop(m, addr, len);
}

static int held_untrack(struct mmu *m, uint64_t addr, uint64_t len)
{
	not_moving();
	return hold.real->untrack(m, addr, len);
}

/* ---- for the test ---- */

void hold_install(struct gw_engine *e)
{
	if (e->mmu->ops == &hold.ops)
		return;
	hold.mm = &e->mm;
	hold.real = e->mmu->ops;
	hold.ops = *hold.real;
	hold.ops.move = held_move;
	hold.ops.copy = held_copy;
	hold.ops.same = held_same;
	hold.ops.peek = held_peek;
	hold.ops.copy_child = held_copy_child;
	hold.ops.scan = held_scan;
	hold.ops.drop = held_drop;
	hold.ops.untrack = held_untrack;
	hold.phase = IDLE;
	hold.active = 0;
	__atomic_store_n(&e->mmu->ops, &hold.ops, __ATOMIC_RELEASE);
}

void hold_set(uint32_t steps, uint32_t us, uint32_t every)
{
	__atomic_store_n(&hold.us, us, __ATOMIC_RELAXED);
	__atomic_store_n(&hold.every, every ? every : 1, __ATOMIC_RELAXED);
	__atomic_store_n(&hold.passed, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&hold.steps, steps, __ATOMIC_RELEASE);
}

void hold_break(uint32_t bugs)
{
	__atomic_store_n(&hold.bugs, bugs, __ATOMIC_RELAXED);
}

uint32_t hold_count(void)
{
	return __atomic_load_n(&hold.count, __ATOMIC_ACQUIRE);
}

bool hold_wait(uint32_t seen, uint32_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	if (hold_count() == seen)
		sys4(SYS_futex, &hold.count, FUTEX_WAIT_PRIVATE, seen, &ts);
	return hold_count() != seen;
}

bool hold_active(void)
{
	return __atomic_load_n(&hold.active, __ATOMIC_SEQ_CST);
}

const uint32_t *hold_word(void)
{
	return &hold.active;
}

/* SPDX-License-Identifier: MIT */
/*
 * Sleeping locks on a futex. Three states: free, held, held with waiters. Builds with GODWIT_DEBUG
 * check the order of ranks through a small table of who holds what; a lock taken twice by one thread
 * is against the order too. Who only tries waits for nobody, and may do so in any order.
 */
#include "base/base.h"

#include <linux/futex.h>
#include <time.h>

#ifdef GODWIT_DEBUG
#define HELD_SLOTS 64

static struct {
	uint32_t tid;
	uint32_t ranks;
} held[HELD_SLOTS];

/* An entry of this thread, or a free one that is its own from now on. */
static uint32_t held_slot(uint32_t tid)
{
	for (uint32_t i = 0; i < HELD_SLOTS; i++)
		if (__atomic_load_n(&held[i].tid, __ATOMIC_RELAXED) == tid)
			return i;
	for (uint32_t i = 0; i < HELD_SLOTS; i++) {
		uint32_t none = 0;

		if (__atomic_compare_exchange_n(&held[i].tid, &none, tid, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return i;
	}
	return HELD_SLOTS;
}

enum held { HELD_BY_TRY, HELD_IN_ORDER, HELD_NO_MORE };

static void rank_check(const struct lock *l, enum held how)
{
	uint32_t slot = held_slot((uint32_t)sys0(SYS_gettid));

	if (slot == HELD_SLOTS)
		return; /* more threads hold locks than the table has room for */
	BUG_ON(how == HELD_IN_ORDER && held[slot].ranks >> l->rank);
	BUG_ON((how == HELD_NO_MORE) != (held[slot].ranks >> l->rank & 1));
	held[slot].ranks ^= 1U << l->rank;
	if (!held[slot].ranks)
		__atomic_store_n(&held[slot].tid, 0, __ATOMIC_RELAXED);
}
#else
#define rank_check(l, how) ((void)(l))
#endif

void futex_wait(uint32_t *word, uint32_t val, uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	sys4(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, ns ? &ts : NULL);
}

void futex_wake(uint32_t *word)
{
	sys3(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static bool lock_take(struct lock *l)
{
	uint32_t free = 0;

	return __atomic_compare_exchange_n(&l->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

bool lock_try(struct lock *l)
{
	if (!lock_take(l))
		return false;
	rank_check(l, HELD_BY_TRY);
	return true;
}

#ifndef LOCK_SPINS
#define LOCK_SPINS 200
#endif

/* Most holders are gone within a kernel call: spin about that long before sleeping. */
static bool lock_spin(struct lock *l)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		if (!__atomic_load_n(&l->word, __ATOMIC_RELAXED) && lock_take(l))
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

void lock_acquire(struct lock *l)
{
	if (!lock_take(l) && !lock_spin(l))
		while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
			futex_wait(&l->word, 2, 0);
	rank_check(l, HELD_IN_ORDER);
}

bool lock_release(struct lock *l)
{
	bool waited;

	rank_check(l, HELD_NO_MORE);
	waited = __atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2;
	if (waited)
		sys3(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1);
	return waited;
}

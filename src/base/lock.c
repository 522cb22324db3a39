/* SPDX-License-Identifier: MIT */
/*
 * Sleeping locks on a futex. Three states: free, held, held with waiters. Builds with GODWIT_DEBUG
 * check the order of ranks through a small table of who holds what; a lock taken twice by one thread
 * is against the order too.
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

static void rank_check(const struct lock *l, bool take)
{
	uint32_t slot = held_slot((uint32_t)sys0(SYS_gettid));

	if (slot == HELD_SLOTS)
		return; /* more threads hold locks than the table has room for */
	BUG_ON(take ? held[slot].ranks >> l->rank : !(held[slot].ranks & 1U << l->rank));
	held[slot].ranks ^= 1U << l->rank;
	if (!held[slot].ranks)
		__atomic_store_n(&held[slot].tid, 0, __ATOMIC_RELAXED);
}
#else
static void rank_check(const struct lock *l, bool take)
{
	(void)l;
	(void)take;
}
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

bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	if (!__atomic_compare_exchange_n(&l->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	rank_check(l, true);
	return true;
}

#ifndef LOCK_SPINS
#define LOCK_SPINS 200
#endif

/* Most holders are gone within a kernel call: spin about that long before sleeping. */
static bool lock_spin(struct lock *l)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		if (!__atomic_load_n(&l->word, __ATOMIC_RELAXED) && lock_try(l))
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

void lock_acquire(struct lock *l)
{
	if (lock_try(l) || lock_spin(l))
		return;
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
		futex_wait(&l->word, 2, 0);
	rank_check(l, true);
}

bool lock_release(struct lock *l)
{
	bool waited;

	rank_check(l, false);
	waited = __atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2;
	if (waited)
		sys3(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1);
	return waited;
}

/* SPDX-License-Identifier: MIT */
/* The reclaimer: the thread that keeps nodes within their limits, where a far node is behind them. */
#include "agent/agent.h"

#include <errno.h>

static int reclaimer_main(void *arg)
{
	struct gw_engine *e = arg;
	struct mm *mm = &e->mm;

	/* who takes memory waits for it, and what is taken unseen until it looks is beyond the limit */
	sys3(SYS_setpriority, 0 /* PRIO_PROCESS */, 0, MOST_URGENT);
	throttle_begin(mm);
	while (!__atomic_load_n(&e->reclaimer_stop, __ATOMIC_ACQUIRE)) {
		uint32_t kick = __atomic_load_n(&mm->throttle.kick, __ATOMIC_ACQUIRE), ms = reclaim_once(mm);

		throttle_serve(mm);
		futex_wait(&mm->throttle.kick, kick, ms * 1000000ULL);
	}
	throttle_end(mm);
	return 0;
}

int reclaimer_start(struct gw_engine *e)
{
	int err;

	if (e->reclaimer.tid || !reclaim_needed(&e->mm))
		return 0;
	if (!e->reclaimer.stack)
		e->reclaimer.stack = region_alloc(&e->region, THREAD_STACK);
	if (!e->reclaimer.stack)
		return -ENOMEM;
	workingset_init(&e->mm);
	e->reclaimer.fn = reclaimer_main;
	e->reclaimer.arg = e;
	e->reclaimer.name = "godwit-reclaim";
	e->reclaimer_stop = 0;
	e->mm.reclaim.stop = false;
	err = thread_start(&e->reclaimer, false);
	if (err)
		e->reclaimer.tid = 0;
	return err;
}

void reclaimer_stop(struct gw_engine *e)
{
	__atomic_store_n(&e->mm.reclaim.stop, true, __ATOMIC_RELAXED);
	__atomic_store_n(&e->reclaimer_stop, 1, __ATOMIC_RELEASE);
	__atomic_add_fetch(&e->mm.throttle.kick, 1, __ATOMIC_RELEASE);
	futex_wake(&e->mm.throttle.kick);
	thread_join(&e->reclaimer);
}

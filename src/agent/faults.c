/* SPDX-License-Identifier: MIT */
/*
 * The fault thread: answers touches of pages that are away, and reads the other events on the way. It is there as soon
 * as there is a far node; without one the service thread does it, and nothing runs that is not needed.
 *
 * Waking a thread on an idle CPU takes longer than all the rest of a fault (docs/fault-path.md). So while touches come
 * close after one another it does not sleep between them, and looks for the next itself; and where each brings in a page
 * another has to leave, which it sees to meanwhile.
 */
#include "agent/agent.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define SPIN_NS 30000ULL

static int faults_main(void *arg)
{
	struct gw_engine *e = arg;
	struct mm *mm = &e->mm;
	struct pollfd fd = { .fd = mm->mmu->ops->event_fd(mm->mmu), .events = POLLIN };
	uint64_t last = 0;

	while (!__atomic_load_n(&e->faults_stop, __ATOMIC_ACQUIRE)) {
		bool spin = clock_ns() - last < SPIN_NS;
		struct timespec most = { .tv_nsec = spin ? 0 : 100000000 };

		if (sys5(SYS_ppoll, &fd, 1, &most, 0, 8) <= 0) {
			if (spin)
				reclaim_step(mm);
			continue;
		}
		if (mm_drain_events(mm))
			last = clock_ns();
		if (__atomic_load_n(&mm->heir, __ATOMIC_RELAXED) >= 0 && !e->heir_watched)
			service_kick(e);
	}
	return 0;
}

int faults_start(struct gw_engine *e)
{
	int err;

	if (e->faults.tid)
		return 0;
	if (!e->faults.stack)
		e->faults.stack = region_alloc(&e->region, THREAD_STACK);
	if (!e->faults.stack)
		return -ENOMEM;
	e->faults.fn = faults_main;
	e->faults.arg = e;
	e->faults.name = "godwit-fault";
	e->faults_stop = 0;
	err = thread_start(&e->faults, false);
	if (err)
		e->faults.tid = 0;
	else
		gw_unwatch(e, e->mmu->ops->event_fd(e->mmu));
	return err;
}

/* On the service thread, which reads the events from here on. */
void faults_stop(struct gw_engine *e)
{
	__atomic_store_n(&e->faults_stop, 1, __ATOMIC_RELEASE);
	thread_join(&e->faults);
}

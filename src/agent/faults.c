/* SPDX-License-Identifier: MIT */
/*
 * The fault thread: answers touches of pages that are away, and reads the other events on the way. It is there as soon
 * as there is a far node; without one the service thread does it, and nothing runs that is not needed.
 *
 * Waking a thread on an idle CPU takes longer than all the rest of a fault (docs/fault-path.md). So while touches come
 * close after one another it does not sleep between them, and looks for the next itself; and where each brings in a
 * page another has to leave, which it sees to meanwhile.
 */
#include "agent/agent.h"

#include <errno.h>
#include <poll.h>

#define SPIN_NS 50000ULL
#define IDLE_MS 100
#define SLOW_LOOK_NS 100000000ULL

static int faults_main(void *arg)
{
	struct gw_engine *e = arg;
	struct mm *mm = &e->mm;
	struct pollfd fd = { .fd = mm->mmu->ops->event_fd(mm->mmu), .events = POLLIN };
	struct awake awake = { .fd = -1, .refused = e->opt.flags & GW_CPUS_SLEEP };
	uint64_t last = 0, now;

	/* it stands in for the kernel's fault handler, which waits for nobody; where that is not permitted it does */
	sys3(SYS_setpriority, 0 /* PRIO_PROCESS */, 0, MOST_URGENT);
	while (!__atomic_load_n(&e->faults_stop, __ATOMIC_ACQUIRE)) {
		bool spin;

		now = clock_ns();
		spin = now - last < SPIN_NS;
		awake_look(&awake, now, mm->stats.faults_fetched);
		/* while it spins one call tells whether there is something, and what */
		if ((spin || sys3(SYS_poll, &fd, 1, throttle_wait_ms(mm, IDLE_MS)) > 0) && mm_drain_events(mm)) {
			last = clock_ns();
			reclaim_keep_up(mm);
		} else if (!spin || !reclaim_step(mm)) {
			cache_trim(mm, !spin);
		}
		throttle_serve(mm);
		if (__atomic_load_n(&mm->heir, __ATOMIC_RELAXED) >= 0 && !e->heir_watched)
			service_kick(e);
	}
	awake_end(&awake);
	return 0;
}

/* Each has pages of its own to read into. */
static int slow_main(void *arg)
{
	struct slow_thread *t = arg;
	struct mm *mm = &t->e->mm;

	while (!__atomic_load_n(&t->e->faults_stop, __ATOMIC_ACQUIRE)) {
		uint32_t pushed = __atomic_load_n(&mm->slow.pushed, __ATOMIC_ACQUIRE);

		if (!slow_run(mm, t->pages))
			futex_wait(&mm->slow.pushed, pushed, SLOW_LOOK_NS);
	}
	return 0;
}

int slow_start(struct gw_engine *e)
{
	for (uint32_t i = 0; i < SLOW_THREADS; i++) {
		struct slow_thread *t = &e->slow[i];
		int err;

		t->e = e;
		if (!t->pages)
			t->pages = region_alloc(&e->region, (AHEAD_MOST + 1) * GW_PAGE_SIZE);
		if (!t->thread.stack)
			t->thread.stack = region_alloc(&e->region, THREAD_STACK);
		if (!t->pages || !t->thread.stack)
			return -ENOMEM;
		if (t->thread.tid)
			continue;
		t->thread.fn = slow_main;
		t->thread.arg = t;
		t->thread.name = "godwit-io";
		err = thread_start(&t->thread, false);
		if (err)
			return err;
		e->mm.slow.threads++;
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
	__atomic_add_fetch(&e->mm.slow.pushed, 1, __ATOMIC_RELEASE);
	futex_wake(&e->mm.slow.pushed);
	thread_join(&e->faults);
	for (uint32_t i = 0; i < SLOW_THREADS; i++)
		thread_join(&e->slow[i].thread);
}

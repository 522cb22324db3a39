/* SPDX-License-Identifier: MIT */
/*
 * Threads begin and end while the whole memory moves to and fro. When a thread ends the kernel writes its
 * control block and its robust mutexes, and does not wait for a page in flight: a lost write is a
 * join or a lock that never returns.
 */
#include "live.h"

#include <sched.h>
#include <threads.h>
#include <unistd.h>

#define AT_ONCE 8
#define STACK (128UL << 10)

static struct mover mover;
static atomic_bool mutexes_done;
static atomic_ulong finished;

/* Uses some of its stack, and of the heap. */
static uintptr_t work(uintptr_t n)
{
	volatile char deep[3 * GW_PAGE_SIZE];
	uintptr_t *p = malloc(sizeof(*p) * 100);
	uintptr_t sum;

	for (size_t i = 0; i < sizeof(deep); i += 512)
		deep[i] = (char)n;
	p[99] = n;
	if (n % 3 == 0)
		sched_yield();
	sum = p[99] + (uintptr_t)(deep[sizeof(deep) - 512] != (char)n);
	free(p);
	finished++;
	return sum;
}

static void *thread_posix(void *arg)
{
	return (void *)work((uintptr_t)arg);
}

static int thread_c11(void *arg)
{
	return (int)work((uintptr_t)arg);
}

/* ---- joinable ---- */

static uint64_t joinable(int nr, const pthread_attr_t *attr)
{
	uint64_t bad = 0;

	for (int i = 0; i < nr; i += AT_ONCE) {
		pthread_t t[AT_ONCE];
		void *ret;

		for (int k = 0; k < AT_ONCE; k++)
			bad += pthread_create(&t[k], attr, thread_posix, (void *)(uintptr_t)(i + k)) != 0;
		for (int k = 0; k < AT_ONCE; k++)
			bad += pthread_join(t[k], &ret) || (uintptr_t)ret != (uintptr_t)(i + k);
	}
	return bad;
}

static uint64_t joinable_c11(int nr)
{
	uint64_t bad = 0;

	for (int i = 0; i < nr; i += AT_ONCE) {
		thrd_t t[AT_ONCE];
		int ret;

		for (int k = 0; k < AT_ONCE; k++)
			bad += thrd_create(&t[k], thread_c11, (void *)(uintptr_t)(i + k)) != thrd_success;
		for (int k = 0; k < AT_ONCE; k++)
			bad += thrd_join(t[k], &ret) != thrd_success || ret != i + k;
	}
	return bad;
}

/* ---- detached: libc gives their stacks back by itself ---- */

static uint64_t detached(int nr)
{
	pthread_attr_t attr;
	uint64_t bad = 0;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	finished = 0;
	for (int i = 0; i < nr; i++) {
		pthread_t t;

		bad += pthread_create(&t, &attr, thread_posix, NULL) != 0;
		while (finished + AT_ONCE < (unsigned long)i)
			sched_yield();
	}
	while (finished < (unsigned long)nr)
		sched_yield();
	pthread_attr_destroy(&attr);
	return bad;
}

/* ---- stacks of the program's own, in managed memory ---- */

/* The same stacks over and over, and the memory used for data in between. */
static uint64_t own_stacks(int nr, char *memory)
{
	uint64_t bad = 0;

	for (int i = 0; i < nr; i += AT_ONCE) {
		pthread_t t[AT_ONCE];
		void *ret;

		for (int k = 0; k < AT_ONCE; k++) {
			pthread_attr_t attr;

			pthread_attr_init(&attr);
			bad += pthread_attr_setstack(&attr, memory + (size_t)k * STACK, STACK) != 0;
			bad += pthread_create(&t[k], &attr, thread_posix, (void *)(uintptr_t)(i + k)) != 0;
			pthread_attr_destroy(&attr);
		}
		for (int k = 0; k < AT_ONCE; k++)
			bad += pthread_join(t[k], &ret) || (uintptr_t)ret != (uintptr_t)(i + k);
		memset(memory, i & 0xff, AT_ONCE * STACK);
		sched_yield();
		for (size_t at = 0; at < AT_ONCE * STACK; at += GW_PAGE_SIZE / 2)
			bad += memory[at] != (char)(i & 0xff);
	}
	return bad;
}

/* ---- mutexes whose owner ends ---- */

static void *thread_holds(void *arg)
{
	return pthread_mutex_lock(arg) ? arg : NULL;
}

static bool owner_dies(pthread_mutex_t *m)
{
	struct timespec until;
	pthread_t t;
	void *ret;
	int err;

	if (pthread_create(&t, NULL, thread_holds, m) || pthread_join(t, &ret) || ret)
		return false;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	err = pthread_mutex_timedlock(m, &until);
	if (err != EOWNERDEAD)
		return false;
	return !pthread_mutex_consistent(m) && !pthread_mutex_unlock(m);
}

#define MUTEXES 64

/* Only the pages of the mutexes, so that one of them is in flight most of the time. */
static void *mutex_mover(void *arg)
{
	for (int round = 0; !mutexes_done; round++)
		move_range(mover.e, arg, MUTEXES, round % 2, NULL);
	return NULL;
}

/* Each mutex in a page of its own. */
static uint64_t robust(int nr)
{
	char *memory = aligned_alloc(GW_PAGE_SIZE, MUTEXES * GW_PAGE_SIZE);
	pthread_mutexattr_t attr;
	pthread_t t;
	uint64_t bad = 0;

	mutexes_done = false;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < MUTEXES; i++)
		pthread_mutex_init((pthread_mutex_t *)(void *)(memory + (size_t)i * GW_PAGE_SIZE), &attr);
	pthread_create(&t, NULL, mutex_mover, memory);
	for (int i = 0; i < nr && !bad; i++)
		bad += !owner_dies((pthread_mutex_t *)(void *)(memory + (size_t)(i % MUTEXES) * GW_PAGE_SIZE));
	mutexes_done = true;
	pthread_join(t, NULL);
	free(memory);
	return bad;
}

/* ---- the test ---- */

static char *mapped_stacks, *heap_stacks;

static uint64_t phase_joinable(void)
{
	return joinable(3000, NULL);
}

static uint64_t phase_small(void)
{
	pthread_attr_t small;
	uint64_t bad;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	bad = joinable(1000, &small);
	pthread_attr_destroy(&small);
	return bad;
}

static uint64_t phase_c11(void)
{
	return joinable_c11(1000);
}

static uint64_t phase_detached(void)
{
	return detached(1500);
}

static uint64_t phase_mapped(void)
{
	return own_stacks(1000, mapped_stacks);
}

static uint64_t phase_heap(void)
{
	return own_stacks(1000, heap_stacks);
}

static uint64_t phase_robust(void)
{
	return robust(10000);
}

static const struct phase {
	uint64_t (*fn)(void);
	const char *sentence;
} phases[] = {
	{ phase_joinable, "every join of a thread that ended returns its value" },
	{ phase_small, "threads with small stacks too" },
	{ phase_c11, "threads of C11 too" },
	{ phase_detached, "detached threads come to their end" },
	{ phase_mapped, "threads end on stacks that the program mapped, and their memory is good again" },
	{ phase_heap, "threads end on stacks from malloc, and their memory is good again" },
	{ phase_robust, "a robust mutex in moving memory tells that its owner has ended" },
};

/* Again until the memory has gone to and fro. */
static void run(const struct phase *ph)
{
	unsigned long round = mover.rounds, pages = mover.moved;
	uint64_t bad = 0;

	do
		bad += ph->fn();
	while (!bad && mover.rounds < round + 4);
	printf("# %lu pages moved meanwhile, %lu wrong\n", mover.moved - pages, (unsigned long)bad);
	tap(!bad && mover.moved > pages, ph->sentence);
}

int main(void)
{
	struct gw_stats st = { .size = sizeof(st) };

	alarm(60); /* a join that never returns ends here */
	mapped_stacks = mmap(NULL, AT_ONCE * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	heap_stacks = aligned_alloc(GW_PAGE_SIZE, AT_ONCE * STACK);
	mover.e = engine_with_nodes(2, 0);
	moving_begin(&mover);
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		run(&phases[i]);
	moving_end(&mover, "threads");
	gw_stats(mover.e, &st);
	tap(st.pages_moved[0][1] > 1000 && !st.poisoned, "the memory moved all the while, and no page is poisoned");
	tap(!gw_stop(mover.e), "the engine stops");
	free(heap_stacks);
	return tap_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * Threads begin and end while the whole memory moves to and fro. When a thread ends the kernel writes its
 * control block and its robust mutexes, and does not wait for a page in flight: a lost write is a
 * join or a lock that never returns. A watchdog says which.
 *
 * Each phase as it comes, then with migrations that stop for a while at every step. GODWIT_LONG=1: 100000
 * joins, and ten times as many of all others.
 *
 * test-timeout: 1800
 */
#include "hold.h"
#include "live.h"

#include <sched.h>
#include <threads.h>

#define AT_ONCE 8
#define STACK (128UL << 10)
#define BIG_STACK (64UL << 20)	/* more than libc keeps for later */
#define HOLD_US 60

static struct mover mover;
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
		for (int k = 0; k < AT_ONCE; k++) {
			watch("pthread_join()", (unsigned long)(i + k));
			bad += pthread_join(t[k], &ret) || (uintptr_t)ret != (uintptr_t)(i + k);
		}
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
		for (int k = 0; k < AT_ONCE; k++) {
			watch("thrd_join()", (unsigned long)(i + k));
			bad += thrd_join(t[k], &ret) != thrd_success || ret != i + k;
		}
	}
	return bad;
}

/* ---- ended in other ways ---- */

/* By pthread_exit(), or cancelled in a wait. */
static void *thread_ends(void *arg)
{
	if (work((uintptr_t)arg) % 2)
		pthread_exit(arg);
	for (;;)
		pause();
}

static uint64_t other_ends(int nr)
{
	uint64_t bad = 0;

	for (int i = 0; i < nr; i += AT_ONCE) {
		pthread_t t[AT_ONCE];
		void *ret;

		for (int k = 0; k < AT_ONCE; k++)
			bad += pthread_create(&t[k], NULL, thread_ends, (void *)(uintptr_t)k) != 0;
		for (int k = 0; k < AT_ONCE; k += 2)
			bad += pthread_cancel(t[k]) != 0;
		for (int k = 0; k < AT_ONCE; k++) {
			watch("pthread_join() of a thread that was cancelled, or called pthread_exit()",
			      (unsigned long)(i + k));
			bad += pthread_join(t[k], &ret) || ret != (k % 2 ? (void *)(uintptr_t)k : PTHREAD_CANCELED);
		}
	}
	return bad;
}

/* ---- detached: libc gives their stacks back by itself ---- */

static int nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int nr = -2; /* . and .. */

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

/* The job of a request is a thread, too: there may be one more than before, or one less. */
static uint64_t detached(int nr)
{
	pthread_attr_t attr;
	uint64_t bad = 0;
	int before = nr_threads();

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	finished = 0;
	for (int i = 0; i < nr; i++) {
		pthread_t t;

		watch("a detached thread, to begin", (unsigned long)i);
		bad += pthread_create(&t, &attr, thread_posix, NULL) != 0;
		while (finished + AT_ONCE < (unsigned long)i)
			sched_yield();
	}
	watch("detached threads, to end", (unsigned long)nr);
	while (finished < (unsigned long)nr || nr_threads() > before + 1)
		sched_yield();
	pthread_attr_destroy(&attr);
	return bad;
}

/* ---- stacks of the program's own, in managed memory ---- */

/* The same stacks over and over, and the memory used for data in between. It moves whenever it may. */
static uint64_t own_stacks(int nr, char *memory)
{
	struct range_mover stacks = { .e = mover.e, .mem = memory, .nr = AT_ONCE * STACK / GW_PAGE_SIZE };
	uint64_t bad = 0;

	range_moving_begin(&stacks);
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
		for (int k = 0; k < AT_ONCE; k++) {
			watch("pthread_join() of a thread on a stack of the program's own", (unsigned long)(i + k));
			bad += pthread_join(t[k], &ret) || (uintptr_t)ret != (uintptr_t)(i + k);
		}
		memset(memory, i & 0xff, AT_ONCE * STACK);
		sched_yield();
		for (size_t at = 0; at < AT_ONCE * STACK; at += GW_PAGE_SIZE / 2)
			bad += memory[at] != (char)(i & 0xff);
	}
	range_moving_end(&stacks);
	return bad;
}

/* ---- the last moment ---- */

#define SPINS 50000
#define FILLER (1UL << 20)

/*
 * From here to the end it touches neither its stack nor its control block: if those were out, too, when a
 * migration is held nothing would wait for them.
 */
static void *thread_ends_held(void *arg)
{
	long spins = SPINS;

	__asm__ volatile("1:	cmpl $0, (%[word])\n"
			 "	jne 2f\n"
			 "	pause\n"
			 "	dec %[spins]\n"
			 "	jnz 1b\n"
			 "2:	mov $60, %%eax\n" /* exit */
			 "	xor %%edi, %%edi\n"
			 "	syscall\n"
			 : [spins] "+r"(spins)
			 : [word] "r"(arg)
			 : "rax", "rcx", "rdi", "r11", "memory");
	return NULL;
}

/* Its stack is the last of what moves: most begin after the request that would move it. */
static uint64_t last_moments(int nr)
{
	char *memory = (char *)map_memory(FILLER + STACK, false);
	struct range_mover stacks = { .e = mover.e, .mem = memory, .nr = (FILLER + STACK) / GW_PAGE_SIZE };
	pthread_attr_t attr;
	uint64_t bad = 0;

	stacks.opt = (struct gw_migrate_options){ .flags = GW_MIGRATE_NO_STEER, .batch = 32 };
	hold_set(HOLD_OUT | HOLD_UNMAPPED, HOLD_US, 1);
	range_moving_begin(&stacks);
	pthread_attr_init(&attr);
	bad += pthread_attr_setstack(&attr, memory + FILLER, STACK) != 0;
	for (int i = 0; i < nr; i++) {
		pthread_t t;

		watch("pthread_join() of a thread that ended when pages were out", (unsigned long)i);
		bad += pthread_create(&t, &attr, thread_ends_held, (void *)hold_word()) || pthread_join(t, NULL);
	}
	pthread_attr_destroy(&attr);
	range_moving_end(&stacks);
	munmap(memory, FILLER + STACK);
	return bad;
}

/* ---- mutexes whose owner ends ---- */

#define HELD 4

struct holder {
	pthread_mutex_t *mutex[HELD];
	int end;
};

/* Ends with all of them: by return, by pthread_exit(), or cancelled. */
static void *thread_holds(void *arg)
{
	const struct holder *h = arg;

	for (int i = 0; i < HELD; i++)
		if (pthread_mutex_lock(h->mutex[i]))
			return arg;
	if (h->end == 1)
		pthread_exit(NULL);
	if (h->end == 2) {
		pthread_cancel(pthread_self());
		pthread_testcancel();
	}
	return NULL;
}

static bool owner_is_dead(pthread_mutex_t *m)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	return pthread_mutex_timedlock(m, &until) == EOWNERDEAD && !pthread_mutex_consistent(m) &&
	       !pthread_mutex_unlock(m);
}

static bool owner_dies(struct holder *h)
{
	pthread_t t;
	void *ret;
	bool ok = !pthread_create(&t, NULL, thread_holds, h) && !pthread_join(t, &ret) &&
		  ret == (h->end == 2 ? PTHREAD_CANCELED : NULL);

	for (int i = 0; i < HELD && ok; i++)
		ok = owner_is_dead(h->mutex[i]);
	return ok;
}

#define MUTEXES 64

static pthread_mutex_t *mutex_at(char *memory, int i)
{
	return (pthread_mutex_t *)(void *)(memory + (size_t)(i % MUTEXES) * GW_PAGE_SIZE);
}

/* Every other one lends its priority, which the kernel marks in its list. */
static void mutexes_make(char *memory)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < MUTEXES; i++) {
		pthread_mutexattr_setprotocol(&attr, i % 2 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
		pthread_mutex_init(mutex_at(memory, i), &attr);
	}
	pthread_mutexattr_destroy(&attr);
}

/* Each mutex in a page of its own, one of which is in flight most of the time. */
static uint64_t robust(int nr)
{
	char *memory = aligned_alloc(GW_PAGE_SIZE, MUTEXES * GW_PAGE_SIZE);
	struct range_mover mutexes = { .e = mover.e, .mem = memory, .nr = MUTEXES };
	uint64_t bad = 0;

	mutexes_make(memory);
	range_moving_begin(&mutexes);
	for (int i = 0; i < nr && !bad; i++) {
		struct holder h = { .end = i % 3 };

		for (int k = 0; k < HELD; k++)
			h.mutex[k] = mutex_at(memory, i + 7 * k);
		watch("a robust mutex whose owner has ended", (unsigned long)i);
		bad += !owner_dies(&h);
	}
	range_moving_end(&mutexes);
	free(memory);
	return bad;
}

/* ---- the test ---- */

static char *mapped_stacks, *heap_stacks;

static uint64_t phase_joinable(int nr)
{
	return joinable(nr, NULL);
}

static uint64_t joinable_sized(int nr, size_t size)
{
	pthread_attr_t attr;
	uint64_t bad;

	pthread_attr_init(&attr);
	bad = (uint64_t)pthread_attr_setstacksize(&attr, size) + joinable(nr, &attr);
	pthread_attr_destroy(&attr);
	return bad;
}

static uint64_t phase_small(int nr)
{
	return joinable_sized(nr, 64 << 10);
}

static uint64_t phase_big(int nr)
{
	return joinable_sized(nr, BIG_STACK);
}

static uint64_t phase_mapped(int nr)
{
	return own_stacks(nr, mapped_stacks);
}

static uint64_t phase_heap(int nr)
{
	return own_stacks(nr, heap_stacks);
}

static const struct phase {
	uint64_t (*fn)(int nr);
	int nr, nr_long;
	const char *sentence;
} phases[] = {
	{ phase_joinable, 3000, 100000, "every join of a thread that ended returns its value" },
	{ phase_small, 1000, 10000, "threads with small stacks too" },
	{ phase_big, 1000, 10000, "threads with big stacks too" },
	{ joinable_c11, 1000, 10000, "threads of C11 too" },
	{ other_ends, 1000, 10000, "threads that are cancelled or call pthread_exit() too" },
	{ detached, 1500, 15000, "detached threads come to their end" },
	{ phase_mapped, 1000, 10000, "threads end on stacks that the program mapped, and their memory is good again" },
	{ phase_heap, 1000, 10000, "threads end on stacks from malloc, and their memory is good again" },
	{ last_moments, 1000, 10000, "threads end at a moment when pages are out" },
	{ robust, 3000, 30000, "a robust mutex in moving memory tells that its owner has ended" },
};

/* Again until the memory has gone to and fro. */
static void run(const struct phase *ph, bool held)
{
	int nr = (long_form() ? ph->nr_long : ph->nr) / (held ? 4 : 1);
	unsigned long round = mover.rounds, pages = mover.moved, cycles = 0;
	uint32_t count = hold_count();
	double began = now();
	char sentence[160];
	uint64_t bad = 0;

	hold_set(held ? HOLD_ALL : 0U, HOLD_US, 5); /* another step of each batch */
	for (; !bad && (!cycles || mover.rounds < round + 4); cycles += (unsigned long)nr)
		bad += ph->fn(nr);
	hold_set(0, 0, 1);
	count = hold_count() - count;
	printf("# %lu threads, %lu pages moved meanwhile, held %u times, %lu wrong, %.1f s\n", cycles,
	       mover.moved - pages, count, (unsigned long)bad, now() - began);
	snprintf(sentence, sizeof(sentence), "%s%s", ph->sentence, held ? ", with migrations held at every step" : "");
	tap(!bad && mover.moved > pages && (!held || count), sentence);
}

int main(void)
{
	struct gw_stats st = { .size = sizeof(st) };

	watchdog_begin(30);
	mapped_stacks = mmap(NULL, AT_ONCE * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	heap_stacks = aligned_alloc(GW_PAGE_SIZE, AT_ONCE * STACK);
	mover.e = engine_with_nodes(2, 0);
	mover.opt.flags = GW_MIGRATE_BREAK_COW; /* what the watchdog shares shall not hold up anything */
	hold_install(mover.e);
	moving_begin(&mover);
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		for (int held = 0; held < 2; held++)
			run(&phases[i], held);
	moving_end(&mover, "threads");
	gw_stats(mover.e, &st);
	tap(st.pages_moved[0][1] > 1000 && !st.poisoned, "the memory moved all the while, and no page is poisoned");
	tap(!gw_stop(mover.e), "the engine stops");
	watchdog_end();
	free(heap_stacks);
	return tap_end();
}

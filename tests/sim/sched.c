/* SPDX-License-Identifier: MIT */
/*
 * Fibers and chance. A step is what one fiber does until another's turn; it ends at a lock, a system call, an
 * operation of the mmu or, since the rooms under test are compiled to call in at each function's entry, anywhere
 * between two functions.
 */
#define _GNU_SOURCE 1
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK (256UL << 10)
#define EVENTS 50U
#define QUANTUM_LEAST 6U /* 2^n function entries between two switches, at most */
#define QUANTUM_MOST 15U

enum state { FREE, READY, WAITING, SLEEPING, FUTEX, OVER };

struct fiber {
	ucontext_t context;
	char *stack;
	const char *name;
	void (*fn)(void *arg);
	void *arg;
	uint32_t tid, weight;
	enum state state;
	bool (*ready)(void *arg);
	void *ready_arg;
	const char *what;
	uint64_t until;
	const uint32_t *word;
	bool woken;
};

struct event {
	uint64_t step, a, b;
	int64_t ret;
	uint32_t tid;
	const char *what, *name;
};

static struct {
	uint64_t random, now, steps;
	ucontext_t main;
	struct fiber fiber[FIBERS_MAX], *current;
	uint32_t next_tid, quantum, left, step_ns;
	struct event event[EVENTS];
	uint64_t nr_events;
	void (*replay)(void);
	bool print_all;
} s;

/* ---- chance ---- */

uint64_t rnd(void)
{
	uint64_t z = s.random += 0x9e3779b97f4a7c15UL; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebUL;
	return z ^ z >> 31;
}

uint32_t rnd_below(uint32_t n)
{
	return (uint32_t)((rnd() >> 32) * n >> 32);
}

bool chance(uint32_t per_1000)
{
	return rnd_below(1000) < per_1000;
}

/* ---- reports ---- */

static void print_event(const struct event *e)
{
	printf("#   %7lu %-10s %4u %-16s %#lx %#lx = %ld\n", e->step, e->name, e->tid, e->what, e->a, e->b, e->ret);
}

void trace(const char *what, uint64_t a, uint64_t b, int64_t ret)
{
	struct event *e = &s.event[s.nr_events++ % EVENTS];

	*e = (struct event){
		s.steps, a, b, ret, s.current ? s.current->tid : 0, what, s.current ? s.current->name : "-"
	};
	if (s.print_all)
		print_event(e);
}

void sched_print_all(void)
{
	s.print_all = true;
}

void sched_replay_line(void (*print)(void))
{
	s.replay = print;
}

static void print_fibers(void)
{
	static const char *const states[] = { "free", "ready", "waits for", "sleeps", "waits for a lock", "over" };

	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		if (s.fiber[i].state != FREE)
			printf("#   %-10s %4u %s %s\n", s.fiber[i].name, s.fiber[i].tid, states[s.fiber[i].state],
			       s.fiber[i].state == WAITING ? s.fiber[i].what : "");
}

void fail(const char *format, ...)
{
	uint64_t first = s.nr_events > EVENTS ? s.nr_events - EVENTS : 0;
	va_list args;

	printf("# step %lu, %s: ", s.steps, s.current ? s.current->name : "the oracle");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n# threads:\n");
	print_fibers();
	printf("# the last events:\n");
	for (uint64_t i = first; i < s.nr_events; i++)
		print_event(&s.event[i % EVENTS]);
	if (s.replay)
		s.replay();
	fflush(stdout);
	_Exit(1);
}

_Noreturn void bug(const char *file, int line, const char *what)
{
	fail("%s:%d: BUG: %s", file, line, what);
}

void base_log(const char *a, const char *b)
{
	(void)b;
	trace(a, 0, 0, 0);
}

/* ---- fibers ---- */

static void to_main(void)
{
	swapcontext(&s.current->context, &s.main);
}

static void fiber_main(void)
{
	struct fiber *f = s.current;

	f->fn(f->arg);
	f->state = OVER;
	to_main();
}

void sched_begin(uint64_t seed)
{
	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		s.fiber[i].state = FREE;
	s.random = seed;
	s.now = 1000000000;
	s.steps = s.nr_events = 0;
	s.current = NULL;
	s.next_tid = 100;
	s.quantum = 1U << (QUANTUM_LEAST + rnd_below(QUANTUM_MOST - QUANTUM_LEAST + 1));
	s.left = s.quantum;
	s.step_ns = 1U << (7 + rnd_below(8));
}

void sched_end(void)
{
	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		s.fiber[i].state = FREE;
}

uint32_t sched_spawn(const char *name, uint32_t weight, void (*fn)(void *arg), void *arg)
{
	struct fiber *f = s.fiber;
	char *stack;

	while (f->state != FREE && f->state != OVER)
		if (++f == s.fiber + FIBERS_MAX)
			fail("too many fibers");
	stack = f->stack;
	if (!stack)
		stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*f = (struct fiber){ .stack = stack, .name = name, .fn = fn, .arg = arg, .weight = weight, .state = READY };
	f->tid = ++s.next_tid;
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, fiber_main, 0);
	return f->tid;
}

uint32_t sched_self(void)
{
	return s.current ? s.current->tid : 1;
}

uint32_t sched_rename(void)
{
	return s.current->tid = ++s.next_tid;
}

bool sched_alive(uint32_t tid)
{
	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		if (s.fiber[i].tid == tid && s.fiber[i].state != FREE && s.fiber[i].state != OVER)
			return true;
	return tid == 1;
}

static bool runnable(struct fiber *f)
{
	switch (f->state) {
	case READY:
		return true;
	case WAITING:
		return f->ready(f->ready_arg);
	case FUTEX:
		return f->woken || (f->until && s.now >= f->until);
	case SLEEPING:
		return s.now >= f->until;
	default:
		return false;
	}
}

static struct fiber *choose(void)
{
	uint32_t can[FIBERS_MAX], sum = 0, pick;

	for (uint32_t i = 0; i < FIBERS_MAX; i++) {
		can[i] = runnable(&s.fiber[i]) ? s.fiber[i].weight : 0;
		sum += can[i];
	}
	if (!sum)
		return NULL;
	pick = rnd_below(sum);
	for (uint32_t i = 0;; i++) {
		if (pick < can[i])
			return &s.fiber[i];
		pick -= can[i];
	}
}

static bool any_left(void)
{
	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		if (s.fiber[i].state != FREE && s.fiber[i].state != OVER)
			return true;
	return false;
}

/* Nobody can run: the clock goes on to who sleeps least. */
static void skip_time(void)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < FIBERS_MAX; i++)
		if ((s.fiber[i].state == SLEEPING || s.fiber[i].state == FUTEX) && s.fiber[i].until)
			next = min_u64(next, s.fiber[i].until);
	if (next == UINT64_MAX)
		fail("all threads wait, for ever");
	s.now = max_u64(s.now, next);
}

void sched_run(uint64_t steps, bool (*done)(void))
{
	uint64_t end = s.steps + steps;

	while (s.steps < end && !done() && any_left()) {
		struct fiber *f = choose();

		if (!f) {
			skip_time();
			continue;
		}
		f->state = READY;
		s.current = f;
		s.left = 1 + rnd_below(s.quantum);
		swapcontext(&s.main, &f->context);
		s.current = NULL;
		s.steps++;
		s.now += s.step_ns;
		oracle_step();
	}
}

void sched_point(void)
{
	if (s.current)
		to_main();
}

void sched_wait(bool (*ready)(void *arg), void *arg, const char *what)
{
	struct fiber *f = s.current;

	if (ready(arg))
		return;
	f->ready = ready;
	f->ready_arg = arg;
	f->what = what;
	f->state = WAITING;
	to_main();
}

void sched_sleep(uint64_t ns)
{
	if (!s.current)
		return;
	s.current->until = s.now + ns;
	s.current->state = SLEEPING;
	to_main();
}

long sched_futex_wait(const uint32_t *word, uint32_t val, uint64_t ns)
{
	struct fiber *f = s.current;

	if (*word != val)
		return -EAGAIN;
	if (!f)
		fail("the closer would wait for a lock that nobody gives up");
	f->word = word;
	f->woken = false;
	f->until = ns ? s.now + ns : 0;
	f->state = FUTEX;
	to_main();
	return f->woken ? 0 : -ETIMEDOUT;
}

long sched_futex_wake(const uint32_t *word, uint32_t nr)
{
	uint32_t woken = 0;

	for (uint32_t i = 0; i < FIBERS_MAX && woken < nr; i++)
		if (s.fiber[i].state == FUTEX && s.fiber[i].word == word && !s.fiber[i].woken) {
			s.fiber[i].woken = true;
			woken++;
		}
	return woken;
}

uint64_t sched_now(void)
{
	return s.now;
}

void sched_pass(uint64_t ns)
{
	s.now += ns;
}

uint64_t sched_steps(void)
{
	return s.steps;
}

/* Called by the compiler's doing, at every function of the rooms under test. */
__attribute__((no_instrument_function)) void __cyg_profile_func_enter(void *fn, void *site);
__attribute__((no_instrument_function)) void __cyg_profile_func_exit(void *fn, void *site);

void __cyg_profile_func_enter(void *fn, void *site)
{
	(void)fn;
	(void)site;
	if (s.current && !--s.left) {
		s.left = 1 + rnd_below(s.quantum);
		to_main();
	}
}

void __cyg_profile_func_exit(void *fn, void *site)
{
	(void)fn;
	(void)site;
}

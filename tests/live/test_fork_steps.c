/* SPDX-License-Identifier: MIT */
/*
 * test-timeout: 1800
 *
 * A fork at every step of a migration, in all its forms. The migration is held at a step (hold.h), then the
 * program forks; the child looks at every word of what it has inherited while its parent writes to every
 * page of it, and so does the parent afterwards. Children of fork() have engines of their own: some go on
 * migrating, and fork at every step, too.
 *
 * Each page has a pattern and, in its first and last word, the number of times that it was written to.
 * Pages of another thread are written to all the time: there both words agree but for one.
 * GODWIT_LONG=1: 12096 forks instead of some hundreds.
 */
#include "hold.h"
#include "live.h"

#include <linux/sched.h>
#include <spawn.h>
#include <sys/syscall.h>

#define PAGES 512UL		/* 4 KiB ones; and as many in a THP */
#define BUSY_PAGES 64UL
#define HOLD_US 300
#define CHILD_SECONDS 30

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

extern char **environ;

enum way { BY_FORK, BY_VFORK, BY_SPAWN, BY_RAW_FORK, BY_RAW_CLONE, BY_RAW_CLONE3, WAYS };

static const char *const way_names[] = { "fork()", "vfork() and exec", "posix_spawn()",
					 "a fork system call", "a clone system call", "a clone3 system call" };
static const char *const step_names[] = { "before the first page goes", "with half of the pages out",
					  "with all out and none copied", "in the middle of the copy",
					  "with the first page in",	 "before it is settled" };

/* On the stack of the first thread, which does not move. */
struct world {
	struct mover mover;
	uint64_t *mem[2];		/* of 4 KiB pages, and a THP */
	uint64_t written;		/* what the first and the last word of each page are */
	uint64_t *busy;			/* the other thread's */
	uint64_t busy_sum;		/* before the fork */
	pthread_t writer;
	atomic_bool writer_stop;
	uint64_t lost;			/* by the writer */
	const char *own_path;
	int generation;
	unsigned long nr, collapsed;
	unsigned long forks[HOLD_STEPS], met[HOLD_STEPS];
};

/* ---- memory ---- */

static void mem_write(struct world *w)
{
	w->written++;
	for (int m = 0; m < 2; m++)
		for (uint64_t p = 0; p < PAGES; p++) {
			w->mem[m][p * WORDS] = w->written;
			w->mem[m][p * WORDS + WORDS - 1] = w->written;
		}
}

static void mem_make(struct world *w)
{
	for (int m = 0; m < 2; m++) {
		w->mem[m] = map_memory(PAGES * GW_PAGE_SIZE, m == 1);
		pattern_fill(w->mem[m], PAGES * WORDS, (uint64_t)m);
	}
	mem_write(w);
}

static bool page_holds(const uint64_t *page, uint64_t p, uint64_t salt, uint64_t written)
{
	if (page[0] != written || page[WORDS - 1] != written)
		return false;
	for (uint64_t i = 1; i < WORDS - 1; i++)
		if (page[i] != pattern_word(p * WORDS + i, salt))
			return false;
	return true;
}

/* Neither libc's locks nor its memory: for a child of a raw fork too. */
static bool mem_holds(const struct world *w, uint64_t written)
{
	for (int m = 0; m < 2; m++)
		for (uint64_t p = 0; p < PAGES; p++)
			if (!page_holds(w->mem[m] + p * WORDS, p, (uint64_t)m, written))
				return false;
	return true;
}

/* ---- the other thread ---- */

static uint64_t busy_sum(const struct world *w)
{
	uint64_t sum = 0;

	for (uint64_t p = 0; p < BUSY_PAGES; p++)
		sum += __atomic_load_n(&w->busy[p * WORDS], __ATOMIC_RELAXED);
	return sum;
}

/* In a child: as it was at some moment of the fork. */
static bool busy_holds(const struct world *w)
{
	for (uint64_t p = 0; p < BUSY_PAGES; p++)
		if (w->busy[p * WORDS] - w->busy[p * WORDS + WORDS - 1] > 1)
			return false;
	return busy_sum(w) >= w->busy_sum;
}

static void *writer(void *arg)
{
	struct world *w = arg;
	uint64_t count[BUSY_PAGES] = { 0 }, seed = 88172645463325252ULL;

	for (uint64_t i = 0; !w->writer_stop; i++) {
		uint64_t p = next(&seed) % BUSY_PAGES;
		_Atomic uint64_t *page = (_Atomic uint64_t *)(w->busy + p * WORDS);

		w->lost += page[0] != count[p] || page[WORDS - 1] != count[p];
		page[0] = ++count[p];
		page[WORDS - 1] = count[p];
		if (i % 256 == 0)
			usleep(20);
	}
	return NULL;
}

static void writer_begin(struct world *w)
{
	w->busy = map_memory(BUSY_PAGES * GW_PAGE_SIZE, false);
	memset(w->busy, 0, BUSY_PAGES * GW_PAGE_SIZE);
	pthread_create(&w->writer, NULL, writer, w);
}

static void writer_end(struct world *w)
{
	w->writer_stop = true;
	pthread_join(w->writer, NULL);
}

/* ---- children ---- */

static bool fork_at(struct world *w, int step, enum way way);

/* There and back, alone. */
static bool migrates(struct world *w)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = GW_MIGRATE_BREAK_COW };
	struct gw_migrate_result res;

	for (int from = 0; from < 2; from++)
		if (migrate(w->mover.e, from, !from, &opt, &res) < 0 || gw_query(w->mover.e, w->mem[0]) != !from)
			return false;
	return true;
}

/* A child that goes on as its parent did. */
static bool forks_on(struct world *w)
{
	bool ok = true;

	hold_install(w->mover.e);
	moving_begin(&w->mover);
	for (int step = 0; step < HOLD_STEPS && ok; step++)
		ok = fork_at(w, step, BY_FORK) && fork_at(w, step, BY_RAW_CLONE3);
	moving_end(&w->mover, "a child"); /* is not shown: the child does not flush */
	return ok && w->mover.moved > 0;
}

/* The status that a child ends with: what went wrong. */
static int child_status(struct world *w)
{
	if (!mem_holds(w, w->written))
		return 1;
	if (!busy_holds(w))
		return 2;
	w->mover.e = gw_self();
	if (!w->mover.e)
		return 3;
	w->generation++;
	if (w->generation == 1 && w->nr % 4 == 0 && !forks_on(w))
		return 4;
	if ((w->generation > 1 || w->nr % 4 == 1) && !migrates(w))
		return 5;
	return mem_holds(w, w->written) ? 0 : 6;
}

static int child_status_raw(const struct world *w)
{
	return !mem_holds(w, w->written) ? 1 : !busy_holds(w) ? 2 : 0;
}

static pid_t fork_raw(enum way way)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	switch (way) {
	case BY_RAW_FORK:
		return (pid_t)syscall(SYS_fork);
	case BY_RAW_CLONE:
		return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	default:
		return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	}
}

static pid_t fork_by(struct world *w, enum way way)
{
	char *argv[] = { (char *)w->own_path, "--exit", NULL };
	pid_t pid = -1;

	switch (way) {
	case BY_FORK:
		pid = fork();
		if (!pid) {
			alarm(CHILD_SECONDS);
			_exit(child_status(w));
		}
		return pid;
	case BY_VFORK:
		pid = vfork();
		if (!pid) {
			execv(argv[0], argv);
			_exit(127);
		}
		return pid;
	case BY_SPAWN:
		return posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) ? -1 : pid;
	default:
		pid = fork_raw(way);
		if (!pid) { /* no libc beyond system calls */
			syscall(SYS_alarm, CHILD_SECONDS);
			for (;;)
				syscall(SYS_exit_group, child_status_raw(w));
		}
		return pid;
	}
}

/* Fork while a migration is held; the child's status, or -1. */
static int fork_held(struct world *w, int step, enum way way)
{
	uint32_t seen = hold_count();
	int status = -1;
	pid_t pid;

	mem_write(w);
	w->busy_sum = busy_sum(w);
	hold_set(1U << step, HOLD_US, 1);
	hold_wait(seen, 2000);
	w->forks[step]++;
	w->met[step] += hold_active();
	pid = fork_by(w, way);
	hold_set(0, 0, 1);
	mem_write(w); /* the child must not see it */
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static bool fork_at(struct world *w, int step, enum way way)
{
	int status;

	watch(way_names[way], w->nr);
	status = fork_held(w, step, way);
	if (status)
		printf("# number %lu, by %s, %s: the child's status is 0x%x\n", w->nr, way_names[way],
		       step_names[step], (unsigned int)status);
	if (!mem_holds(w, w->written)) {
		printf("# number %lu, by %s, %s: the parent's memory is wrong\n", w->nr, way_names[way],
		       step_names[step]);
		return false;
	}
	return !status;
}

/* ---- the test ---- */

/* The other form of sharing, and a THP again: the last forks took it apart. */
static void prepare_round(struct world *w, unsigned long round)
{
	w->mover.opt.flags = GW_MIGRATE_NO_STEER | (round % 2 ? GW_MIGRATE_BREAK_COW : 0U);
	w->collapsed += !madvise(w->mem[1], PAGES * GW_PAGE_SIZE, MADV_COLLAPSE);
	if (round == 4)
		gw_no_recycle(w->mover.e); /* settling is another thing then */
}

static void rounds(struct world *w, unsigned long most)
{
	bool ok[WAYS] = { true, true, true, true, true, true };
	char sentence[120];

	moving_begin(&w->mover);
	for (unsigned long round = 0; round < most; round++) {
		prepare_round(w, round);
		w->nr = round;
		for (int step = 0; step < HOLD_STEPS; step++)
			for (int way = 0; way < WAYS; way++)
				ok[way] = fork_at(w, step, (enum way)way) && ok[way];
	}
	for (int way = 0; way < WAYS; way++) {
		snprintf(sentence, sizeof(sentence), "%s at every step: parent and child have what they must",
			 way_names[way]);
		tap(ok[way], sentence);
	}
}

/* Children that are not given what is in flight: do they say so? */
static bool notices(struct world *w)
{
	int status = 0;

	hold_break(HOLD_BUG_EMPTY_CHILD);
	for (int i = 0; i < 100 && !status; i++)
		status = fork_held(w, 2, BY_RAW_CLONE);
	hold_break(0);
	return WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2);
}

static bool met_every_step(const struct world *w)
{
	bool all = true;

	for (int step = 0; step < HOLD_STEPS; step++) {
		printf("# %s: %lu forks, %lu of them began while it was held\n", step_names[step], w->forks[step],
		       w->met[step]);
		all = all && w->met[step] >= w->forks[step] / 4;
	}
	return all;
}

int main(int argc, char **argv)
{
	struct world w = { .own_path = argv[0] };
	struct gw_stats st = { .size = sizeof(st) };
	double began = now();
	bool moved;

	if (argc > 1 && !strcmp(argv[1], "--exit"))
		return 0;
	watchdog_begin(40);
	w.mover.e = engine_with_nodes(2, 0);
	w.mover.opt.batch = 32;
	hold_install(w.mover.e);
	mem_make(&w);
	writer_begin(&w);
	rounds(&w, long_form() ? 336 : 6);
	tap(met_every_step(&w), "forks met every step");
	tap(notices(&w), "a child that is not given the pages in flight finds it out");
	moved = moving_end(&w.mover, "forks");
	writer_end(&w);
	gw_stats(w.mover.e, &st);
	printf("# %lu forks, %lu fork events, %lu THPs made again, %.1f s\n", (unsigned long)st.forks,
	       (unsigned long)st.events_fork, w.collapsed, now() - began);
	tap(moved && w.mover.huge && st.events_fork >= 50, "the memory moved meanwhile, and forks met tracked memory");
	tap(!w.lost && !st.poisoned && mem_holds(&w, w.written), "the parent has lost nothing");
	tap(!gw_stop(w.mover.e), "the engine stops");
	watchdog_end();
	return tap_end();
}

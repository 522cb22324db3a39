/* SPDX-License-Identifier: MIT */
/*
 * fork() in all its forms while the whole memory moves to and fro: a child sees all of it, has an engine
 * of its own, and what it shares with its parent stays, counted, until somebody breaks the sharing.
 */
#include "live.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 2048UL		/* 4 KiB ones; and as many in THPs */
#define CHILD_SECONDS 30	/* on a busy machine a new process may wait some for its first turn */

extern char **environ;

struct world {
	struct gw_engine *e;
	uint64_t *mem, *huge;	/* PAGES pages each */
	struct mover mover;
};

static uint64_t word_of(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15ULL + 1;
}

static void fill(uint64_t *mem)
{
	for (uint64_t p = 0; p < PAGES; p++)
		for (uint64_t i = 0; i < WORDS; i += 37)
			mem[p * WORDS + i] = word_of(p) + i;
}

/* Neither libc's locks nor its memory: for a child of a raw fork too. */
static bool holds(const uint64_t *mem)
{
	for (uint64_t p = 0; p < PAGES; p++)
		for (uint64_t i = 0; i < WORDS; i += 37)
			if (mem[p * WORDS + i] != word_of(p) + i)
				return false;
	return true;
}

static uint64_t *memory(bool huge)
{
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, huge);

	fill(mem);
	return mem;
}

static bool ended_well(pid_t pid)
{
	int status = -1;

	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* ---- fork() ---- */

/* Move a hundred pages, for which the sharing is broken, and look at them. */
static bool engine_works(struct gw_engine *e, uint64_t *mem)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = GW_MIGRATE_BREAK_COW };
	void *pages[100];
	int nodes[100], status[100];

	for (int to = 0; to < 2; to++) {
		for (int i = 0; i < 100; i++) {
			pages[i] = mem + (uint64_t)i * WORDS;
			nodes[i] = to;
		}
		if (gw_move_pages(e, 100, pages, nodes, status, &opt) || gw_query(e, pages[99]) != to)
			return false;
	}
	return true;
}

/* Exit status of a child: the number of the step that went wrong. */
static int child_steps(struct world *w, int generation)
{
	struct gw_engine *e = gw_self();
	pid_t pid;

	alarm(CHILD_SECONDS);
	if (!holds(w->mem) || !holds(w->huge))
		return 1;
	if (!e)
		return 2;
	if (!engine_works(e, w->mem))
		return 3;
	if (!holds(w->mem))
		return 4;
	if (generation == 2)
		return 0;
	pid = fork();
	if (!pid)
		_exit(child_steps(w, generation + 1) * 10);
	if (!ended_well(pid))
		return 5;
	return holds(w->mem) && holds(w->huge) ? 0 : 6;
}

static bool forks_by_libc(struct world *w, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		pid_t pid = fork();
		int status = -1;

		if (!pid)
			_exit(child_steps(w, 1));
		if (waitpid(pid, &status, 0) != pid || status) {
			printf("# round %d: status 0x%x\n", i, status);
			return false;
		}
	}
	return true;
}

/* ---- fork while threads are being made ---- */

#define GENERATIONS 20
#define MADE 40

static void *made_thread(void *arg)
{
	return arg;
}

/* Each forks the next one when threads that it made still wait for their first turn, which they never have there. */
static int generation(int nr)
{
	pthread_attr_t attr;
	pthread_t t;
	pid_t pid;

	alarm(CHILD_SECONDS);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < MADE; i++)
		if (pthread_create(&t, &attr, made_thread, NULL))
			return 1;
	if (nr == GENERATIONS)
		return 0;
	pid = fork();
	if (!pid)
		_exit(generation(nr + 1));
	return ended_well(pid) ? 0 : 1;
}

static bool generations(void)
{
	struct sched_param first = { .sched_priority = 1 };
	cpu_set_t one;
	pid_t pid = fork();

	if (!pid) {
		/* threads that it makes come after it, at the earliest when it waits; for sure if that may be asked for */
		CPU_ZERO(&one);
		CPU_SET(sched_getcpu(), &one);
		sched_setaffinity(0, sizeof(one), &one);
		sched_setscheduler(0, SCHED_FIFO, &first);
		_exit(generation(1));
	}
	return ended_well(pid);
}

/* ---- fork past libc ---- */

enum raw { RAW_FORK, RAW_CLONE, RAW_KINDS };

static pid_t fork_raw(enum raw how)
{
	return (pid_t)(how == RAW_FORK ? syscall(SYS_fork) : syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

/* No libc in the child beyond system calls. */
static bool forks_raw(struct world *w, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		pid_t pid = fork_raw(i % RAW_KINDS);
		int status = -1;

		if (!pid) {
			syscall(SYS_alarm, CHILD_SECONDS);
			for (;;)
				syscall(SYS_exit_group, holds(w->mem) && holds(w->huge) ? 0 : 1);
		}
		if (waitpid(pid, &status, 0) != pid || status) {
			printf("# round %d: status 0x%x\n", i, status);
			return false;
		}
	}
	return true;
}

/* ---- exec ---- */

static const char *own_path;

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int nr = 0;

	while (d && readdir(d))
		nr++;
	if (d)
		closedir(d);
	return nr;
}

static bool vforks(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		pid_t pid = vfork();

		if (!pid) {
			execl(own_path, own_path, "--exit", "0", (char *)NULL);
			_exit(127);
		}
		if (!ended_well(pid))
			return false;
	}
	return true;
}

static bool spawns(int rounds)
{
	char *argv[] = { (char *)own_path, "--exit", "0", NULL };

	for (int i = 0; i < rounds; i++) {
		pid_t pid = -1;

		if (posix_spawn(&pid, own_path, NULL, NULL, argv, environ) || !ended_well(pid))
			return false;
	}
	return true;
}

static bool pipes(int rounds)
{
	char cmd[512], line[64];

	snprintf(cmd, sizeof(cmd), "'%s' --exit 0 && echo yes", own_path);
	for (int i = 0; i < rounds; i++) {
		FILE *f = popen(cmd, "r");
		bool ok = f && fgets(line, sizeof(line), f) && !strcmp(line, "yes\n");

		if (f && pclose(f))
			ok = false;
		if (!ok)
			return false;
	}
	return true;
}

/* How many descriptors a program has that is executed from here. */
static int descriptors_after_exec(void)
{
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		execl(own_path, own_path, "--descriptors", (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- pages that a living child shares ---- */

struct twin {
	pid_t pid;
	int say, hear;		/* to and from the child */
};

/* A child that waits, and then says whether its data is right. */
static struct twin twin_start(struct world *w)
{
	int to[2], from[2];
	struct twin t = { .pid = -1 };
	char c = 0;

	if (pipe(to) || pipe(from))
		return t;
	t.pid = fork();
	if (!t.pid) {
		alarm(CHILD_SECONDS);
		if (read(to[0], &c, 1) != 1)
			_exit(1);
		_exit(holds(w->mem) && holds(w->huge) ? 0 : 2);
	}
	close(to[0]);
	close(from[1]);
	t.say = to[1];
	t.hear = from[0];
	return t;
}

static bool twin_end(struct twin *t)
{
	bool ok = write(t->say, "x", 1) == 1 && ended_well(t->pid);

	close(t->say);
	close(t->hear);
	return ok;
}

static void sharing(struct world *w, uint32_t form)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .form = form };
	struct gw_migrate_result res;
	struct twin t;
	bool ok;
	int from = 0;

	migrate(w->e, !from, from, &opt, &res); /* all of it in one place */
	t = twin_start(w);
	migrate(w->e, from, !from, &opt, &res);
	printf("# with a living child: %lu of %lu moved, %lu EBUSY\n", (unsigned long)res.pages_moved,
	       (unsigned long)res.pages_total, (unsigned long)res.failed[EBUSY]);
	tap(res.failed[EBUSY] >= 2 * PAGES && gw_query(w->e, w->mem) == from && holds(w->mem) && holds(w->huge),
	    "pages that a living child shares stay, and count under EBUSY");
	tap(twin_end(&t), "and the child's data is right");

	migrate(w->e, from, !from, &opt, &res);
	printf("# without: %lu of %lu moved, %lu EBUSY\n", (unsigned long)res.pages_moved,
	       (unsigned long)res.pages_total, (unsigned long)res.failed[EBUSY]);
	tap(!res.failed[EBUSY] && res.pages_moved >= 2 * PAGES && gw_query(w->e, w->mem) == !from &&
		    holds(w->mem) && holds(w->huge),
	    "when the child has gone they move");

	from = !from;
	t = twin_start(w);
	opt.flags = GW_MIGRATE_BREAK_COW;
	migrate(w->e, from, !from, &opt, &res);
	ok = !res.failed[EBUSY] && res.pages_moved >= 2 * PAGES && gw_query(w->e, w->mem) == !from;
	tap(ok && holds(w->mem) && holds(w->huge), "with GW_MIGRATE_BREAK_COW they move while the child lives");
	fill(w->mem);
	w->mem[0]++;
	tap(twin_end(&t), "and the child's data is right then, whatever the parent writes");
	w->mem[0]--;
}

/* ---- the test ---- */

static void under_migration(struct world *w)
{
	struct gw_stats st = { .size = sizeof(st) };
	bool ok;

	moving_begin(&w->mover);
	tap(forks_by_libc(w, 60), "a forked child and its child see all data, and have engines that work");
	tap(forks_raw(w, 300), "a child of a raw fork or clone sees all data, and never hangs");
	tap(vforks(100), "vfork and exec work");
	tap(spawns(100), "posix_spawn works");
	tap(pipes(40), "popen works");
	ok = moving_end(&w->mover, "forks");
	gw_stats(w->e, &st);
	printf("# %lu forks, %lu fork events\n", (unsigned long)st.forks, (unsigned long)st.events_fork);
	tap(ok && st.forks >= 60 && st.events_fork >= 100,
	    "the memory moved meanwhile, and forks met tracked memory");
	tap(holds(w->mem) && holds(w->huge), "the parent's data is right after all of it");
}

int main(int argc, char **argv)
{
	struct world w = { 0 };
	int before, inside;

	if (argc > 2 && !strcmp(argv[1], "--exit"))
		return atoi(argv[2]);
	if (argc > 1 && !strcmp(argv[1], "--descriptors"))
		return open_descriptors();
	alarm(110);
	own_path = argv[0];
	before = descriptors_after_exec();
	inside = open_descriptors();
	w.e = w.mover.e = engine_with_nodes(2, 0);
	w.mem = memory(false);
	w.huge = memory(true);
	tap(!gw_control_open(w.e), "the control socket opens");
	under_migration(&w);
	tap(open_descriptors() == inside, "the engine adds no descriptor to the program's table");
	tap(before > 3 && descriptors_after_exec() == before, "and none to that of a program that is executed");
	tap(generations(), "a process of the twentieth generation starts threads, whatever its ancestors were about");
	sharing(&w, GW_FORM_PLAIN);
	sharing(&w, GW_FORM_TRANSACTIONAL);
	tap(!gw_stop(w.e), "the engine stops");
	return tap_end();
}

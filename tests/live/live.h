/* SPDX-License-Identifier: MIT */
/* What live tests share: TAP, an engine with two virtual nodes, memory of known content, a thread that moves all of it. */
#ifndef GODWIT_TESTS_LIVE_H
#define GODWIT_TESTS_LIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <godwit.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS (GW_PAGE_SIZE / 8)

static int tap_nr __attribute__((unused));
static int tap_failed __attribute__((unused));

static inline void tap(bool ok, const char *sentence)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++tap_nr, sentence);
	fflush(stdout);
	tap_failed += !ok;
}

static inline int tap_end(void)
{
	printf("1..%d\n", tap_nr);
	return tap_failed ? 1 : 0;
}

/* With GODWIT_FAR in the environment all but the first are compressed pools: what a test does to memory it does there. */
static inline struct gw_engine *engine_with_nodes(int nr, uint64_t bytes_of_last)
{
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_RAM, .host = -1 };
	struct gw_engine *e = gw_self();
	int err = e ? 0 : gw_start(&e, &opt);

	if (err) {
		printf("Bail out! gw_start: %s\n", strerror(-err));
		exit(1);
	}
	for (int i = gw_node_count(e); i < nr; i++) {
		node.bytes = i == nr - 1 ? bytes_of_last : 0;
		node.kind = i && getenv("GODWIT_FAR") ? GW_NODE_ZRAM : GW_NODE_RAM;
		if (gw_node_add(e, &node) != i && node.kind != GW_NODE_RAM) {
			printf("Bail out! no compressed pool as node %d\n", i);
			exit(1);
		}
	}
	return e;
}

static inline long migrate(struct gw_engine *e, int from, int to, const struct gw_migrate_options *opt,
			   struct gw_migrate_result *res)
{
	struct gw_migrate_result own;

	res = res ? res : &own;
	res->size = sizeof(*res);
	return gw_migrate_pages(e, 1ULL << from, 1ULL << to, opt, res);
}

#define RANGE_MOST 512		/* pages */

/* The pages of a range only, by their addresses. Returns as gw_move_pages(). */
static inline long move_range(struct gw_engine *e, void *mem, size_t nr, int to, const struct gw_migrate_options *opt)
{
	void *pages[RANGE_MOST];
	int nodes[RANGE_MOST], status[RANGE_MOST];

	for (size_t i = 0; i < nr; i++) {
		pages[i] = (char *)mem + i * GW_PAGE_SIZE;
		nodes[i] = to;
	}
	return gw_move_pages(e, nr, pages, nodes, status, opt);
}

/* ---- the long form: GODWIT_LONG=1 in the environment ---- */

static inline bool long_form(void)
{
	const char *s = getenv("GODWIT_LONG");

	return s && *s && strcmp(s, "0");
}

/* ---- time and chance ---- */

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* ---- memory whose content is known ---- */

/* Aligned to a THP. What lies before it and behind it is never used. */
static inline uint64_t *map_memory(size_t len, bool huge)
{
	uint64_t at = (uint64_t)mmap(NULL, len + 2 * GW_HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				     -1, 0);
	void *mem = (void *)((at + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1));

	if ((void *)at == MAP_FAILED) {
		printf("Bail out! mmap: %s\n", strerror(errno));
		exit(1);
	}
	madvise(mem, len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(mem, 0xff, len);
	return mem;
}

static inline uint64_t pattern_word(uint64_t i, uint64_t salt)
{
	return (i + salt * 1000003) * 0x9e3779b97f4a7c15ULL + 1;
}

static inline void pattern_fill(uint64_t *mem, uint64_t words, uint64_t salt)
{
	for (uint64_t i = 0; i < words; i++)
		mem[i] = pattern_word(i, salt);
}

static inline bool pattern_holds(const uint64_t *mem, uint64_t words, uint64_t salt)
{
	for (uint64_t i = 0; i < words; i++)
		if (mem[i] != pattern_word(i, salt))
			return false;
	return true;
}

/* ---- the whole memory goes to and fro ---- */

struct mover {
	struct gw_engine *e;
	struct gw_migrate_options opt;	/* .form is each in turn */
	atomic_bool stop;
	atomic_ulong rounds, moved, huge, busy, retries;
	pthread_t thread;
};

static inline void *mover_main(void *arg)
{
	struct mover *m = arg;

	for (uint32_t i = 0; !m->stop; i++) {
		struct gw_migrate_options opt = m->opt;
		struct gw_migrate_result res;

		opt.size = sizeof(opt);
		opt.form = i / 2 % 3;
		migrate(m->e, i % 2, !(i % 2), &opt, &res);
		m->rounds++;
		m->moved += res.pages_moved;
		m->huge += res.pages_huge;
		m->busy += res.failed[EBUSY];
		m->retries += res.retries;
	}
	return NULL;
}

static inline void moving_begin(struct mover *m)
{
	m->stop = false;
	m->rounds = m->moved = m->huge = m->busy = m->retries = 0;
	pthread_create(&m->thread, NULL, mover_main, m);
}

/* Whether there was anything to find out: pages moved, many times. */
static inline bool moved_enough(const struct mover *m)
{
	return m->rounds >= 10 && m->moved >= 1000;
}

static inline bool moving_end(struct mover *m, const char *what)
{
	m->stop = true;
	pthread_join(m->thread, NULL);
	printf("# %s: %lu migrations, %lu pages moved (%lu in THPs), %lu times tried again, %lu left EBUSY\n", what,
	       m->rounds, m->moved, m->huge, m->retries, m->busy);
	return moved_enough(m);
}

/* ---- a range goes to and fro, as fast as it can ---- */

struct range_mover {
	struct gw_engine *e;
	void *mem;
	size_t nr;			/* pages, RANGE_MOST at most */
	struct gw_migrate_options opt;
	atomic_bool stop;
	atomic_ulong rounds;
	pthread_t thread;
};

static inline void *range_mover_main(void *arg)
{
	struct range_mover *m = arg;

	m->opt.size = sizeof(m->opt);
	for (; !m->stop; m->rounds++)
		move_range(m->e, m->mem, m->nr, !(m->rounds % 2), &m->opt);
	return NULL;
}

static inline void range_moving_begin(struct range_mover *m)
{
	pthread_create(&m->thread, NULL, range_mover_main, m);
}

static inline void range_moving_end(struct range_mover *m)
{
	m->stop = true;
	pthread_join(m->thread, NULL);
}

/* ---- a wait that never ends: another process sees it, and says what it was ---- */

struct watchdog {
	pid_t pid, watched;
	const char *_Atomic what;	/* a literal: the same in both processes */
	atomic_ulong nr;
};

static struct watchdog *watchdog __attribute__((unused));

/* What is done now, for the n-th time: a sign of life. Also in forked children. */
static inline void watch(const char *what, unsigned long nr)
{
	watchdog->what = what;
	watchdog->nr = nr;
}

static inline void watchdog_line(pid_t pid, const char *tid, const char *name)
{
	char path[96], line[200] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/%s", (int)pid, tid, name);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	printf(" %s", line);
}

static inline void watchdog_bark(const struct watchdog *w, int seconds)
{
	char path[64];
	struct dirent *d;
	DIR *dir;

	printf("# nothing happened for %d s: %s, number %lu\n", seconds, w->what, w->nr);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)w->watched);
	dir = opendir(path);
	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.') {
			printf("# thread %s", d->d_name);
			watchdog_line(w->watched, d->d_name, "comm");
			watchdog_line(w->watched, d->d_name, "wchan");
			watchdog_line(w->watched, d->d_name, "syscall");
			printf("\n");
		}
	printf("Bail out! hung: %s, number %lu\n", w->what, w->nr);
	fflush(stdout);
	kill(w->watched, SIGKILL);
	_exit(1);
}

static inline void watchdog_run(const struct watchdog *w, int seconds)
{
	const char *what = NULL;
	unsigned long nr = 0;
	double since = now();

	for (;; usleep(200000)) {
		if (w->what == what && w->nr == nr && now() > since + seconds)
			watchdog_bark(w, seconds);
		if (w->what == what && w->nr == nr)
			continue;
		what = w->what;
		nr = w->nr;
		since = now();
	}
}

/* Before the engine starts, so that the watchdog has none. */
static inline void watchdog_begin(int seconds)
{
	pid_t pid;

	watchdog = mmap(NULL, sizeof(*watchdog), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((void *)watchdog == MAP_FAILED) {
		printf("Bail out! mmap: %s\n", strerror(errno));
		exit(1);
	}
	watchdog->watched = getpid();
	watch("the beginning", 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		watchdog_run(watchdog, seconds);
	}
	watchdog->pid = pid;
}

static inline void watchdog_end(void)
{
	kill(watchdog->pid, SIGKILL);
	waitpid(watchdog->pid, NULL, 0);
}

#endif

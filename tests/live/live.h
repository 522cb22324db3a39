/* SPDX-License-Identifier: MIT */
/* What live tests share: TAP, an engine with two virtual nodes, memory of known content, a thread that moves all of it. */
#ifndef GODWIT_TESTS_LIVE_H
#define GODWIT_TESTS_LIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <godwit.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

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
		gw_node_add(e, &node);
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
	atomic_ulong rounds, moved, busy, retries;
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
		m->busy += res.failed[EBUSY];
		m->retries += res.retries;
	}
	return NULL;
}

static inline void moving_begin(struct mover *m)
{
	m->stop = false;
	m->rounds = m->moved = m->busy = m->retries = 0;
	pthread_create(&m->thread, NULL, mover_main, m);
}

/* Whether there was anything to find out: pages moved, many times. */
static inline bool moving_end(struct mover *m, const char *what)
{
	m->stop = true;
	pthread_join(m->thread, NULL);
	printf("# %s: %lu migrations, %lu pages moved, %lu times tried again, %lu left EBUSY\n", what, m->rounds,
	       m->moved, m->retries, m->busy);
	return m->rounds >= 10 && m->moved >= 1000;
}

#endif

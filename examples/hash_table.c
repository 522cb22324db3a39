/* SPDX-License-Identifier: MIT */
/*
 * hash_table [MIGRATIONS] - a program that moves its own memory while it uses it.
 *
 * A hash table with open addressing lives in one mapping. The program adds keys and looks keys up all
 * the time; meanwhile jobs of the engine carry its memory from node 0 to node 1 and back. Nothing in
 * the table knows of it: no pointer changes.
 */
#include <godwit.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SLOTS (1UL << 24) /* of 16 bytes: 256 MiB */

struct slot {
	uint64_t key; /* 0: empty */
	uint64_t value;
};

struct table {
	struct slot *slot;
	uint64_t nr_keys; /* 1, 2, ... nr_keys are in it */
	uint64_t lookups, wrong;
};

static uint64_t mix(uint64_t x)
{
	return (x ^ x >> 31) * 0x9fb21c651e98df25ULL >> 20;
}

static struct slot *find(const struct table *t, uint64_t key)
{
	uint64_t at = mix(key) % SLOTS;

	while (t->slot[at].key && t->slot[at].key != key)
		at = (at + 1) % SLOTS;
	return &t->slot[at];
}

static void insert_next(struct table *t)
{
	uint64_t key = t->nr_keys + 1;

	*find(t, key) = (struct slot){ key, mix(~key) };
	t->nr_keys = key;
}

static void look_up(struct table *t, uint64_t key)
{
	const struct slot *s = find(t, key);

	t->lookups++;
	t->wrong += s->key != key || s->value != mix(~key);
}

/* One new key to sixteen lookups of old ones. */
static void work(struct table *t)
{
	if (t->nr_keys < SLOTS / 2)
		insert_next(t);
	for (uint64_t i = 0; i < 16; i++)
		look_up(t, 1 + mix(t->lookups) % t->nr_keys);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what, int err)
{
	fprintf(stderr, "hash_table: %s: %s\n", what, strerror(-err));
	exit(1);
}

static struct gw_engine *start(void)
{
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_RAM, .host = -1 };
	struct gw_engine *e;
	int err = gw_start(&e, &opt);

	if (err)
		fail("no engine (see: godwit check)", err);
	for (int i = 0; i < 2 && err >= 0; i++)
		err = gw_node_add(e, &node);
	if (err < 0)
		fail("no node", err);
	return e;
}

/* Work while a job moves the memory. Returns false when pages stayed behind. */
static bool migrate(struct gw_engine *e, struct table *t, int from, int to)
{
	struct gw_migrate_result res = { .size = sizeof(res) };
	struct gw_job *job;
	uint64_t before = t->lookups, stall;
	double begin = seconds(), took;
	int err = gw_job_migrate(e, 1ULL << from, 1ULL << to, NULL, NULL, NULL, &job);

	if (err)
		fail("no migration", err);
	do
		for (int i = 0; i < 256; i++)
			work(t);
	while (!gw_job_progress(job, NULL));
	gw_job_progress(job, &res);
	gw_job_end(job);
	took = seconds() - begin;
	stall = res.stall_ns_max > res.thp_stall_ns_max ? res.stall_ns_max : res.thp_stall_ns_max;
	printf("%d -> %d: %lu pages, %lu left, %.2f GB/s, worst window %.1f us, %.2f M lookups/s, key 1 on node %d\n",
	       from, to, (unsigned long)res.pages_moved, (unsigned long)res.pages_failed,
	       (double)(res.pages_moved * GW_PAGE_SIZE) / (double)res.ns, (double)stall / 1e3,
	       (double)(t->lookups - before) / took / 1e6, gw_query(e, find(t, 1)));
	return !res.error && !res.pages_failed;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 6;
	struct table t = { .slot = mmap(NULL, SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
	struct gw_engine *e = start();
	bool ok = t.slot != MAP_FAILED;
	double begin;

	if (!ok)
		return 1;
	while (t.nr_keys < SLOTS / 4)
		insert_next(&t);
	for (begin = seconds(); seconds() - begin < 0.5;)
		work(&t);
	printf("at rest: %.2f M lookups/s\n", (double)t.lookups / (seconds() - begin) / 1e6);
	for (int i = 0; i < rounds; i++)
		ok = migrate(e, &t, i % 2, !(i % 2)) && ok;
	for (uint64_t key = 1; key <= t.nr_keys; key++)
		look_up(&t, key);
	printf("%lu keys, %lu wrong\n", (unsigned long)t.nr_keys, (unsigned long)t.wrong);
	gw_stop(e);
	return ok && !t.wrong ? 0 : 1;
}

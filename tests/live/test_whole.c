/* SPDX-License-Identifier: MIT */
/*
 * The whole memory goes to and fro while threads read and write every page of it: no update may be
 * lost, no page may be seen torn. Arguments: MB (64), rounds (50).
 *
 * Each page holds 510 words: the first is a counter, the last its twin, and those between depend on
 * the page. A writer owns every other page, counts up, and keeps the sums beside; a reader sees a
 * counter that only grows, and the fixed words as they were.
 */
#include "live.h"

#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 50

struct world {
	uint64_t *mem;
	uint64_t pages;
	atomic_bool stop;
	atomic_ulong torn, lost, reads, writes;
	int disturbances;
};

struct worker {
	struct world *w;
	uint64_t first;		/* of two interleaved sets */
	uint64_t *count;	/* what the writer has written, by page */
	pthread_t thread;
};

static uint64_t fixed_word(uint64_t page, uint64_t i)
{
	return page * 0x9e3779b97f4a7c15ULL + i;
}

static void page_fill(struct world *w, uint64_t p)
{
	uint64_t *page = w->mem + p * WORDS;

	for (uint64_t i = 1; i < WORDS - 1; i++)
		page[i] = fixed_word(p, i);
	page[0] = page[WORDS - 1] = 0;
}

static void *writer(void *arg)
{
	struct worker *me = arg;
	uint64_t seed = me->first + 88172645463325252ULL;

	while (!me->w->stop) {
		uint64_t p = next(&seed) % (me->w->pages / 2) * 2 + me->first;
		_Atomic uint64_t *page = (_Atomic uint64_t *)(me->w->mem + p * WORDS);

		if (page[0] != me->count[p] || page[WORDS - 1] != me->count[p])
			me->w->lost++;
		me->count[p]++;
		page[0] = me->count[p];
		page[WORDS - 1] = me->count[p];
		me->w->writes++;
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct worker *me = arg;
	uint64_t seed = me->first + 362436069362436069ULL;

	while (!me->w->stop) {
		uint64_t p = next(&seed) % me->w->pages, i = 1 + next(&seed) % (WORDS - 2);
		_Atomic uint64_t *page = (_Atomic uint64_t *)(me->w->mem + p * WORDS);
		uint64_t last = page[WORDS - 1], first = page[0]; /* written first to last, read last to first */

		if (first < last || page[i] != fixed_word(p, i))
			me->w->torn++;
		me->w->reads++;
	}
	return NULL;
}

/* ---- disturbances: a thread that changes its own mappings, forks, and starts threads that end ---- */

static void *idle_thread(void *arg)
{
	return arg;
}

static bool own_memory_behaves(void)
{
	const size_t len = 256 << 10;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *q;
	bool ok;

	memset(p, 7, len);
	usleep(200);
	madvise(p, len / 2, MADV_DONTNEED);
	ok = !p[0] && !p[len / 2 - 1] && p[len / 2] == 7;
	memset(p, 9, len / 2);
	q = mremap(p, len, 2 * len, MREMAP_MAYMOVE);
	ok = ok && q[0] == 9 && q[len / 2] == 7 && !q[len];
	ok = ok && !mprotect(q, len, PROT_READ) && q[1] == 9 && !mprotect(q, len, PROT_READ | PROT_WRITE);
	q[2] = 1;
	return ok && !munmap(q, 2 * len);
}

static bool fork_behaves(struct world *w)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		for (uint64_t p = 0; p < w->pages; p += 1009)
			if (w->mem[p * WORDS + 5] != fixed_word(p, 5))
				_exit(1);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && !status;
}

static void *disturber(void *arg)
{
	struct world *w = arg;

	for (int round = 0; !w->stop; round++) {
		pthread_t t;

		w->lost += !own_memory_behaves();
		if (round % 64 == 0)
			w->lost += !fork_behaves(w);
		if (!pthread_create(&t, NULL, idle_thread, NULL))
			pthread_join(t, NULL);
		w->disturbances++;
	}
	return NULL;
}

/* ---- the test ---- */

static bool final_check(struct world *w, const struct worker *writers)
{
	uint64_t bad = 0;

	for (uint64_t p = 0; p < w->pages; p++) {
		const uint64_t *page = w->mem + p * WORDS;
		uint64_t want = writers[p % 2].count[p];

		bad += page[0] != want || page[WORDS - 1] != want;
		for (uint64_t i = 1; i < WORDS - 1; i++)
			bad += page[i] != fixed_word(p, i);
	}
	return !bad;
}

static void run(struct gw_engine *e, const char *what, uint64_t bytes, bool huge, bool disturb, int rounds)
{
	struct world w = { .pages = bytes / GW_PAGE_SIZE };
	struct worker writers[2], readers[2];
	pthread_t other;
	uint64_t total = 0, moved = 0, failed = 0, gone = 0, thp = 0;
	char line[200];

	w.mem = map_memory(bytes, huge);
	for (uint64_t p = 0; p < w.pages; p++)
		page_fill(&w, p);
	for (int i = 0; i < 2; i++) {
		writers[i] = (struct worker){ .w = &w, .first = (uint64_t)i, .count = calloc(w.pages, 8) };
		readers[i] = (struct worker){ .w = &w, .first = (uint64_t)i };
		pthread_create(&writers[i].thread, NULL, writer, &writers[i]);
		pthread_create(&readers[i].thread, NULL, reader, &readers[i]);
	}
	if (disturb)
		pthread_create(&other, NULL, disturber, &w);
	for (int i = 0; i < rounds; i++) {
		struct gw_migrate_result res;

		migrate(e, i % 2, !(i % 2), NULL, &res);
		moved += res.pages_moved;
		failed += res.pages_failed;
		gone += res.pages_gone;
		total += res.pages_total;
		for (int n = 0; n < GW_ERRNO_MAX; n++)
			if (res.failed[n])
				printf("# %s: %lu pages stay: %s\n", what, (unsigned long)res.failed[n],
				       strerrorname_np(n));
		thp += res.pages_huge;
	}
	w.stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(writers[i].thread, NULL);
		pthread_join(readers[i].thread, NULL);
	}
	if (disturb)
		pthread_join(other, NULL);
	printf("# %s: %lu pages, %lu moved (%lu in THPs), %lu left, %lu gone, %lu reads, %lu writes, %d disturbances\n",
	       what, (unsigned long)total, (unsigned long)moved, (unsigned long)thp, (unsigned long)failed,
	       (unsigned long)gone, (unsigned long)w.reads, (unsigned long)w.writes, w.disturbances);
	snprintf(line, sizeof(line), "%s: no update is lost", what);
	tap(!w.lost && final_check(&w, writers), line);
	snprintf(line, sizeof(line), "%s: no page is seen torn", what);
	tap(!w.torn, line);
	/* a forked child that lives just then shares pages: those stay, and are counted */
	snprintf(line, sizeof(line), "%s: %s, every time", what,
		 disturb ? "every page moved or is counted as left" : "all of it moved");
	tap(moved + failed + gone >= total && moved > w.pages * (uint64_t)rounds / 2 && (disturb || failed < 64), line);
	if (huge && !disturb) {
		snprintf(line, sizeof(line), "%s: THPs move whole", what);
		tap(thp > w.pages * (uint64_t)rounds * 9 / 10, line);
	}
	munmap(w.mem, bytes);
	for (int i = 0; i < 2; i++)
		free(writers[i].count);
}

int main(int argc, char **argv)
{
	uint64_t mb = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	int rounds = argc > 2 ? atoi(argv[2]) : ROUNDS;
	struct gw_engine *e = engine_with_nodes(2, 0);

	run(e, "4 KiB pages", mb << 20, false, false, rounds);
	run(e, "THPs", mb << 20, true, false, rounds);
	run(e, "4 KiB pages, maps, forks and threads", mb << 20, false, true, rounds);
	run(e, "THPs, maps, forks and threads", mb << 20, true, true, rounds);
	tap(!gw_stop(e), "the engine stops");
	return tap_end();
}

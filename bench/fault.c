/* SPDX-License-Identifier: MIT */
/*
 * Where the time of a touch of a compressed page goes, step by step: one thread touches pages one at a time, another
 * answers as the fault thread does, and both note the time. Medians, in the two ways that the answerer can wait, with
 * CPUs that sleep when they are idle and with such as are kept from it.
 */
#define _GNU_SOURCE 1
#include "far/far.h"
#include "mmu/mmu.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 20000U
#define REGION_LEN (256UL << 20)

enum step { TOLD, READ, FETCHED, COPIED, NR_STEPS };

struct bench {
	struct region region;
	struct mmu *mmu;
	struct far *store;
	char *mem; /* PAGES, absent */
	uint8_t *buf;
	uint32_t home[PAGES];
	uint64_t touched[PAGES], went_on[PAGES], at[PAGES][NR_STEPS];
	bool spin;
	int cpu; /* of the answerer; -1: any */
};

static void fail(const char *what)
{
	fprintf(stderr, "fault: %s\n", what);
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *answer(void *arg)
{
	struct bench *b = arg;
	struct pollfd fd = { .fd = b->mmu->ops->event_fd(b->mmu), .events = POLLIN };

	if (b->cpu >= 0)
		pin(b->cpu);
	for (uint32_t nr = 0; nr < PAGES;) {
		struct mmu_event ev;
		uint32_t page;

		if (poll(&fd, 1, b->spin ? 0 : -1) <= 0)
			continue;
		b->at[nr][TOLD] = clock_ns();
		if (b->mmu->ops->read_event(b->mmu, &ev) <= 0)
			continue;
		b->at[nr][READ] = clock_ns();
		page = (uint32_t)((ev.addr - (uint64_t)b->mem) / FAR_PAGE);
		if (far_get(b->store, b->home[page], b->buf))
			fail("a page could not be had back");
		b->at[nr][FETCHED] = clock_ns();
		b->mmu->ops->copy_in(b->mmu, ev.addr, (uint64_t)b->buf);
		b->at[nr++][COPIED] = clock_ns();
	}
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The permille of what took from one time to the other. */
static double spent(struct bench *b, int from, int to, uint32_t permille)
{
	static uint64_t v[PAGES];

	for (uint32_t i = 0; i < PAGES; i++) {
		uint64_t begin = from < 0 ? b->touched[i] : b->at[i][from];
		uint64_t end = to == NR_STEPS ? b->went_on[i] : b->at[i][to];

		v[i] = end > begin ? end - begin : 0; /* who is woken may run before the waker is back */
	}
	qsort(v, PAGES, sizeof(v[0]), by_time);
	return (double)v[(uint64_t)PAGES * permille / 1000] / 1000;
}

static void run(struct bench *b, const char *what)
{
	pthread_t thread;

	b->mmu->ops->drop(b->mmu, (uint64_t)b->mem, (uint64_t)PAGES * FAR_PAGE);
	if (pthread_create(&thread, NULL, answer, b))
		fail("no thread");
	for (uint32_t i = 0; i < PAGES; i++) {
		b->touched[i] = clock_ns();
		(void)*(volatile char *)&b->mem[(uint64_t)(i * 7919ULL % PAGES) * FAR_PAGE];
		b->went_on[i] = clock_ns();
	}
	pthread_join(thread, NULL);
	printf("%-36s %6.2f %6.2f %6.2f %6.2f %6.2f   %6.2f %7.2f %7.2f\n", what, spent(b, -1, TOLD, 500),
	       spent(b, TOLD, READ, 500), spent(b, READ, FETCHED, 500), spent(b, FETCHED, COPIED, 500),
	       spent(b, COPIED, NR_STEPS, 500), spent(b, -1, NR_STEPS, 500), spent(b, -1, NR_STEPS, 900),
	       spent(b, -1, NR_STEPS, 990));
}

static void fill(struct bench *b)
{
	struct far_spec spec = { .kind = FAR_ZRAM };
	uint64_t seed = 88172645463325252ULL;
	int err;

	if (far_open(&b->store, &b->region, &spec))
		fail("no store");
	for (uint32_t i = 0; i < PAGES; i++) {
		memset(b->buf, 0, FAR_PAGE);
		for (uint32_t at = 0; at < FAR_PAGE / 2; at += 8) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			memcpy(b->buf + at, &seed, 8);
		}
		if (far_put(b->store, b->buf, 1, &b->home[i], &err) != 1)
			fail("the store is full");
	}
}

/* Both ways. */
static void run_both(struct bench *b, const char *where)
{
	char what[64];

	for (int spin = 1; spin >= 0; spin--) {
		b->spin = spin;
		snprintf(what, sizeof(what), "%s, %s", spin ? "looks all the time" : "sleeps", where);
		run(b, what);
	}
}

static void run_awake(struct bench *b)
{
	int fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC), us = 0;

	if (fd < 0 || write(fd, &us, sizeof(us)) != (ssize_t)sizeof(us))
		printf("not run: /dev/cpu_dma_latency cannot be written, so idle CPUs cannot be kept awake\n");
	else
		run_both(b, "CPUs stay awake");
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	static struct bench b;

	if (region_reserve(&b.region, REGION_LEN, REGION_LEN) || mmu_uffd_open(&b.mmu, &b.region, NULL))
		fail("no userfaultfd with all rights: see godwit check");
	b.buf = region_alloc(&b.region, FAR_PAGE);
	b.mem = mmap(NULL, (uint64_t)PAGES * FAR_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!b.buf || b.mem == MAP_FAILED)
		fail("no memory");
	madvise(b.mem, (uint64_t)PAGES * FAR_PAGE, MADV_NOHUGEPAGE);
	if (b.mmu->ops->track(b.mmu, (uint64_t)b.mem, (uint64_t)PAGES * FAR_PAGE))
		fail("memory cannot be tracked");
	fill(&b);
	printf("# a touch of a page kept with LZ4, half compressible, in us (median of %u; all: also 90 and 99 %%)\n",
	       PAGES);
	printf("%-36s %6s %6s %6s %6s %6s   %6s %7s %7s\n", "who answers", "told", "read", "fetch", "copy", "goes on",
	       "all", "90 %", "99 %");
	b.cpu = -1;
	run_both(&b, "other CPU");
	run_awake(&b);
	b.cpu = 0;
	pin(0);
	run(&b, "sleeps, on the CPU of who touches");
	b.mmu->ops->close(b.mmu);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What it costs a program that its first touches are seen (src/mmu/touch.c), beside a program that is left alone and
 * one whose first touches are trapped and answered by another thread. Medians of interleaved rounds.
 */
#define _GNU_SOURCE 1
#include "base/base.h"
#include "mmu/touch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 5
#define PAGE 4096UL
#define TOUCHED (64UL << 20)
#define PAGES (TOUCHED / PAGE)
#define REGION_LEN (256UL << 20)

enum mode { ALONE, SEEN, ZEROPAGE, COPY, NR_MODES };

struct bench {
	struct region region;
	struct touches *t;
	uint64_t nr_told;
	double open_ns, close_ns, drain_ns;
};

/* ---- what is measured, on a thread that is there before the events are opened ---- */

struct load {
	const char *name, *unit;
	uint64_t (*run)(char *mem);	/* how many units it did */
	bool touches;		/* of mem, which is fresh: the modes that trap are measured too */
};

static uint64_t touch_pages(char *mem)
{
	for (uint64_t at = 0; at < TOUCHED; at += PAGE)
		((volatile char *)mem)[at] = 1;
	return PAGES;
}

static uint64_t compute(char *mem)
{
	volatile uint64_t seed = 88172645463325252ULL;

	(void)mem;
	for (uint64_t i = 0; i < 30000000; i++)
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return 30000000;
}

static void *answer_each(void *arg)
{
	int *fds = arg;
	char c;

	while (read(fds[0], &c, 1) == 1 && c)
		if (write(fds[3], &c, 1) != 1)
			break;
	return NULL;
}

/* Two threads that wake each other: the events go along at every switch. */
static uint64_t ping_pong(char *mem)
{
	int fds[4];
	pthread_t other;
	char c = 1;

	(void)mem;
	BUG_ON(pipe(fds) || pipe(fds + 2) || pthread_create(&other, NULL, answer_each, fds));
	for (int i = 0; i < 20000; i++)
		BUG_ON(write(fds[1], &c, 1) != 1 || read(fds[2], &c, 1) != 1);
	c = 0;
	BUG_ON(write(fds[1], &c, 1) != 1);
	pthread_join(other, NULL);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	return 20000;
}

static void *nothing(void *arg)
{
	return arg;
}

static uint64_t make_threads(char *mem)
{
	pthread_t thread;

	(void)mem;
	for (int i = 0; i < 2000; i++) {
		BUG_ON(pthread_create(&thread, NULL, nothing, NULL));
		pthread_join(thread, NULL);
	}
	return 2000;
}

static uint64_t map_unmap(char *mem)
{
	(void)mem;
	for (int i = 0; i < 20000; i++) {
		void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap(p, PAGE);
	}
	return 20000;
}

static const struct load loads[] = {
	{ "first touch", "page", touch_pages, true },
	{ "no fault at all", "step", compute, false },
	{ "two threads in turn", "round trip", ping_pong, false },
	{ "thread made and joined", "thread", make_threads, false },
	{ "mmap and munmap", "pair", map_unmap, false },
};

struct worker {
	pthread_t thread;
	pthread_barrier_t begin;
	const struct load *load;
	char *mem;
	double ns;		/* a unit */
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t begin, nr;

	pthread_barrier_wait(&w->begin);
	begin = clock_ns();
	nr = w->load->run(w->mem);
	w->ns = (double)(clock_ns() - begin) / (double)nr;
	return NULL;
}

/* ---- a thread that answers ---- */

struct answers {
	pthread_t thread;
	int fd;
	enum mode mode;
	char *zero;
};

static void answer(const struct answers *a, uint64_t addr)
{
	struct uffdio_zeropage zp = { .range = { addr, PAGE } };
	struct uffdio_copy cp = { .dst = addr, .src = (uint64_t)a->zero, .len = PAGE };

	if (a->mode == ZEROPAGE)
		BUG_ON(ioctl(a->fd, UFFDIO_ZEROPAGE, &zp));
	else
		BUG_ON(ioctl(a->fd, UFFDIO_COPY, &cp));
}

static void *answer_faults(void *arg)
{
	struct answers *a = arg;
	struct uffd_msg msg;

	/* the last one is in memory of ours */
	while (read(a->fd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg)) {
		uint64_t addr = ALIGN_DOWN(msg.arg.pagefault.address, PAGE);

		answer(a, addr);
		if (addr == (uint64_t)a->zero + PAGE)
			break;
	}
	return NULL;
}

static int trap(struct answers *a, char *mem)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uint64_t)mem, TOUCHED }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	a->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (a->fd < 0)
		return -errno;
	a->zero = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(ioctl(a->fd, UFFDIO_API, &api) || ioctl(a->fd, UFFDIO_REGISTER, &reg));
	a->zero[0] = 0;
	reg.range.start = (uint64_t)a->zero + PAGE;
	reg.range.len = PAGE;
	BUG_ON(ioctl(a->fd, UFFDIO_REGISTER, &reg) || pthread_create(&a->thread, NULL, answer_faults, a));
	return 0;
}

static void trap_end(struct answers *a)
{
	((volatile char *)a->zero)[PAGE] = 1;
	pthread_join(a->thread, NULL);
	close(a->fd);
	munmap(a->zero, 2 * PAGE);
}

/* ---- one run ---- */

static void count(void *arg, const struct touch *touch)
{
	struct bench *b = arg;

	b->nr_told += touch->type == TOUCH_PAGE;
}

static void see(struct bench *b)
{
	uint64_t begin = clock_ns();
	int err = touch_open(&b->t, &b->region, NULL);

	b->open_ns = (double)(clock_ns() - begin);
	if (err) {
		printf("# first touches cannot be seen here: error %d\n", err);
		exit(1);
	}
}

static void see_end(struct bench *b, const struct load *load)
{
	uint64_t begin = clock_ns(), lost;

	b->nr_told = 0;
	lost = touch_drain(b->t, count, b);
	if (load->touches && (lost || b->nr_told < PAGES))
		printf("# %lu of %lu were told, %lu lost\n", (unsigned long)b->nr_told, PAGES, (unsigned long)lost);
	if (load->touches)
		b->drain_ns = (double)(clock_ns() - begin) / (double)b->nr_told;
	begin = clock_ns();
	touch_close(b->t);
	b->close_ns = (double)(clock_ns() - begin);
}

/* ns a unit; negative: not to be had here. */
static double run_once(struct bench *b, const struct load *load, enum mode mode)
{
	struct worker w = { .load = load };
	struct answers a = { .mode = mode };

	w.mem = mmap(NULL, TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(w.mem, TOUCHED, MADV_NOHUGEPAGE);
	pthread_barrier_init(&w.begin, NULL, 2);
	BUG_ON(pthread_create(&w.thread, NULL, work, &w));
	if (mode == SEEN)
		see(b);
	if ((mode == ZEROPAGE || mode == COPY) && trap(&a, w.mem))
		mode = NR_MODES;
	pthread_barrier_wait(&w.begin);
	pthread_join(w.thread, NULL);
	if (mode == SEEN)
		see_end(b, load);
	if (mode == ZEROPAGE || mode == COPY)
		trap_end(&a);
	pthread_barrier_destroy(&w.begin);
	munmap(w.mem, TOUCHED);
	return mode == NR_MODES ? -1 : w.ns;
}

/* ---- the table ---- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_size);
	return v[ROUNDS / 2];
}

static void row(struct bench *b, const struct load *load)
{
	static const char *const modes[] = { "alone", "seen", "trapped, ZEROPAGE", "trapped, COPY" };
	int nr = load->touches ? NR_MODES : SEEN + 1;
	double ns[NR_MODES][ROUNDS], ratio[NR_MODES][ROUNDS], open[ROUNDS], end[ROUNDS], drain[ROUNDS];

	run_once(b, load, ALONE);
	for (int i = 0; i < ROUNDS; i++) {
		for (int mode = 0; mode < nr; mode++) {
			ns[mode][i] = run_once(b, load, (enum mode)mode);
			ratio[mode][i] = ns[mode][i] / ns[ALONE][i];
		}
		open[i] = b->open_ns;
		end[i] = b->close_ns;
		drain[i] = b->drain_ns;
	}
	for (int mode = 0; mode < nr; mode++) {
		double middle = median(ns[mode]);

		printf("%-24s %-18s %9.1f %9.1f %6.2f   ns/%s\n", load->name, modes[mode], middle, ns[mode][0],
		       median(ratio[mode]), load->unit);
	}
	if (load->touches)
		printf("# reading a record: %.0f ns; opening: %.0f us, closing: %.0f us\n", median(drain),
		       median(open) / 1e3, median(end) / 1e3);
	fflush(stdout);
}

int main(void)
{
	struct bench b = { 0 };

	BUG_ON(region_reserve(&b.region, REGION_LEN, REGION_LEN));
	printf("# %d rounds, median and best; ratio: to the same alone, in the same round, median\n", ROUNDS);
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		row(&b, &loads[i]);
	return 0;
}

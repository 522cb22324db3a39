/* SPDX-License-Identifier: MIT */
/*
 * A large process with all that hinders a migration, which knows nothing of godwit, and a thread that touches its
 * memory all the time and measures how long each touch takes.
 *
 *   crowd NODE MB THP_MB LIBS    all touched first on NODE
 *
 * It has MB of 4 KiB pages and THP_MB of THPs that are its own; LIBS files of 4 pages and 8 MiB of memory that three
 * children share; 8 MiB registered with io_uring; and 64 pages that a pipe holds (vmsplice). Prints "NAME START PAGES"
 * for each part (START in hexadecimal), then "ready". A line of stdin is a command:
 *
 *   check          "good", or "bad N" pages that do not hold what they did
 *   touch on|off   begin, or end: "TOUCHES MAX P50 P99 P999 OVER1MS OVER10MS OVER100MS", times in us
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define SHARED (8UL << 20)
#define RING (8UL << 20)
#define PIPE_PAGES 64UL
#define LIB_PAGES 4UL
#define CHILDREN 3
#define BUCKETS 64	/* powers of the square root of two, in ns */

struct part {
	const char *name;
	char *start;
	size_t len;
};

struct touches {
	uint64_t bucket[BUCKETS], max, count, over[3];
};

static struct part part[8];
static int nr_parts, nr_libs, master;
static volatile int touching;
static struct touches touches;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void add_part(const char *name, char *start, size_t len)
{
	part[nr_parts++] = (struct part){ name, start, len };
	for (size_t at = 0; at < len; at += PAGE)
		*(volatile uint64_t *)(void *)(start + at) = (uintptr_t)start + at;
}

static char *map(size_t len, int advice)
{
	char *p = mmap(NULL, len + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	madvise(p, len, advice);
	return p;
}

/* Files as programs map their libraries: private, executable, and read; by whom it may be. */
static void map_libraries(int nr)
{
	char name[64], page[PAGE] = "library";
	int first = nr_libs == 0;

	for (int i = 0; i < nr; i++) {
		int fd;
		const char *p;

		snprintf(name, sizeof(name), "/tmp/crowd.%d.%d", master, i);
		fd = open(name, O_RDWR | O_CREAT, 0600);
		for (size_t k = 0; k < LIB_PAGES && first; k++)
			if (fd < 0 || write(fd, page, PAGE) != (ssize_t)PAGE)
				fail(name);
		p = mmap(NULL, LIB_PAGES * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		if (p == MAP_FAILED)
			fail("mmap");
		close(fd);
	}
	nr_libs = nr;
}

static void unlink_libraries(void)
{
	char name[64];

	for (int i = 0; i < nr_libs; i++) {
		snprintf(name, sizeof(name), "/tmp/crowd.%d.%d", master, i);
		unlink(name);
	}
}

/* A fork shares private memory; files are there for a child when it maps them. */
static void make_children(void)
{
	int ready[2];
	char c = 0;

	if (pipe(ready))
		fail("pipe");
	for (int i = 0; i < CHILDREN; i++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			map_libraries(nr_libs);
			if (write(ready[1], &c, 1) == 1)
				for (;;)
					pause();
			_exit(1);
		}
	}
	for (int i = 0; i < CHILDREN; i++)
		if (read(ready[0], &c, 1) != 1)
			fail("a child");
	close(ready[0]);
	close(ready[1]);
}

static void register_ring(char *start)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { .iov_base = start, .iov_len = RING };
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1))
		fail("io_uring");
}

static void fill_pipe(char *start)
{
	struct iovec iov = { .iov_base = start, .iov_len = PIPE_PAGES * PAGE };
	int fds[2];

	if (pipe(fds) || fcntl(fds[1], F_SETPIPE_SZ, PIPE_PAGES * PAGE) < 0)
		fail("pipe");
	if (vmsplice(fds[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		fail("vmsplice");
}

/* ---------------------------------------------------------------- the toucher ---- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int bucket_of(uint64_t ns)
{
	int octave = 63 - __builtin_clzll(ns | 1);

	return octave > 31 ? BUCKETS - 1 : 2 * octave + (int)(octave ? ns >> (octave - 1) & 1 : 0);
}

static void touch(volatile uint64_t *word)
{
	static const uint64_t limits[3] = { 1000000, 10000000, 100000000 };
	uint64_t begin = now_ns(), ns;

	*word = *word + 1;
	ns = now_ns() - begin;
	touches.bucket[bucket_of(ns)]++;
	touches.count++;
	touches.max = ns > touches.max ? ns : touches.max;
	for (int i = 0; i < 3; i++)
		touches.over[i] += ns > limits[i];
}

static void *toucher(void *arg)
{
	uint64_t seed = 88172645463325252ULL;

	(void)arg;
	while (touching) {
		const struct part *p = &part[1];

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		touch((uint64_t *)(void *)(p->start + seed % (p->len / PAGE) * PAGE + 64));
	}
	return NULL;
}

static double at_permille(unsigned int permille)
{
	uint64_t seen = 0;

	for (int i = 0; i < BUCKETS; i++) {
		seen += touches.bucket[i];
		if (seen * 1000 >= touches.count * permille)
			return (double)((1ULL << (i / 2)) + (i & 1 ? 1ULL << (i / 2) >> 1 : 0)) / 1000;
	}
	return 0;
}

static void touch_on(pthread_t *thread)
{
	memset(&touches, 0, sizeof(touches));
	touching = 1;
	if (pthread_create(thread, NULL, toucher, NULL))
		fail("pthread_create");
	printf("good\n");
}

static void touch_off(pthread_t thread)
{
	touching = 0;
	pthread_join(thread, NULL);
	printf("%lu %.0f %.1f %.1f %.1f %lu %lu %lu\n", (unsigned long)touches.count, (double)touches.max / 1000,
	       at_permille(500), at_permille(990), at_permille(999), (unsigned long)touches.over[0],
	       (unsigned long)touches.over[1], (unsigned long)touches.over[2]);
}

/* ---------------------------------------------------------------- commands ---- */

static void check(void)
{
	size_t bad = 0;

	for (int i = 0; i < nr_parts; i++)
		for (size_t at = 0; at < part[i].len; at += PAGE)
			bad += *(volatile uint64_t *)(void *)(part[i].start + at) != (uintptr_t)part[i].start + at;
	if (bad)
		printf("bad %zu\n", bad);
	else
		printf("good\n");
}

static void obey(void)
{
	pthread_t thread;
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "check", 5))
			check();
		else if (!strncmp(line, "touch on", 8))
			touch_on(&thread);
		else if (!strncmp(line, "touch off", 9))
			touch_off(thread);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	unsigned long mask = argc > 1 ? 1UL << atoi(argv[1]) : 0;
	size_t len, thp;

	if (argc != 5) {
		fprintf(stderr, "usage: crowd NODE MB THP_MB LIBS\n");
		return 2;
	}
	master = getpid();
	/* MPOL_BIND */
	if (syscall(SYS_set_mempolicy, 2, &mask, 64))
		fail("set_mempolicy");
	add_part("children", map(SHARED, MADV_NOHUGEPAGE), SHARED);
	map_libraries(atoi(argv[4]));
	make_children();
	unlink_libraries();
	len = strtoul(argv[2], NULL, 10) << 20;
	thp = strtoul(argv[3], NULL, 10) << 20;
	add_part("own", map(len, MADV_NOHUGEPAGE), len);
	if (thp)
		add_part("thp", map(thp, MADV_HUGEPAGE), thp);
	add_part("ring", map(RING, MADV_NOHUGEPAGE), RING);
	register_ring(part[nr_parts - 1].start);
	add_part("pipe", map(PIPE_PAGES * PAGE, MADV_NOHUGEPAGE), PIPE_PAGES * PAGE);
	fill_pipe(part[nr_parts - 1].start);
	if (syscall(SYS_set_mempolicy, 0, NULL, 0))
		fail("set_mempolicy");
	for (int i = 0; i < nr_parts; i++)
		printf("%s %lx %zu\n", part[i].name, (unsigned long)part[i].start, part[i].len / PAGE);
	printf("ready\n");
	fflush(stdout);
	obey();
	return 0;
}

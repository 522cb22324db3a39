/* SPDX-License-Identifier: MIT */
/*
 * A program with memory of every kind, which knows nothing of godwit.
 *
 *   kinds NODE KIND=MB...    anon thp hugetlb shm sysv memfd file=MB, all touched first on NODE
 *
 * Prints "KIND START PAGES" for each (START in hexadecimal, PAGES of 4 KiB), then "ready". Then a line of stdin is a
 * command: "check" answers "good" or "bad N" (pages that do not hold what they did), "fork" makes a child that shares
 * everything (answers its pid), "write" writes every page anew, "node N" has the threads run on CPUs of node N.
 * The children end with it.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define PARTS 16

struct part {
	const char *kind;
	char *start;
	size_t len;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(size_t len, int flags, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static char *map_anon(size_t len, int advice)
{
	char *p = map(len + HUGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	if (madvise(p, len, advice))
		fail("madvise");
	return p;
}

static char *map_file(const char *name, size_t len)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *p;

	if (fd < 0 || ftruncate(fd, (off_t)len))
		fail(name);
	p = map(len, MAP_SHARED, fd);
	close(fd);
	unlink(name);
	return p;
}

static char *map_sysv(size_t len)
{
	int id = shmget(IPC_PRIVATE, len, 0600);
	char *p = id < 0 ? (char *)-1 : shmat(id, NULL, 0);

	if (p == (char *)-1)
		fail("shmat");
	shmctl(id, IPC_RMID, NULL);
	return p;
}

static char *map_part(const char *kind, size_t len)
{
	char name[64];
	int fd;

	if (!strcmp(kind, "anon"))
		return map_anon(len, MADV_NOHUGEPAGE);
	if (!strcmp(kind, "thp"))
		return map_anon(len, MADV_HUGEPAGE);
	if (!strcmp(kind, "hugetlb"))
		return map(len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	if (!strcmp(kind, "shm"))
		return map(len, MAP_SHARED | MAP_ANONYMOUS, -1);
	if (!strcmp(kind, "sysv"))
		return map_sysv(len);
	if (!strcmp(kind, "memfd")) {
		fd = memfd_create("kinds", 0);
		if (fd < 0 || ftruncate(fd, (off_t)len))
			fail("memfd_create");
		return map(len, MAP_SHARED, fd);
	}
	snprintf(name, sizeof(name), "/%s/kinds.%d", strcmp(kind, "tmpfs") ? "tmp" : "dev/shm", getpid());
	return map_file(name, len);
}

static void write_all(const struct part *part, int nr)
{
	for (int i = 0; i < nr; i++)
		for (size_t at = 0; at < part[i].len; at += PAGE)
			*(volatile uint64_t *)(void *)(part[i].start + at) = (uintptr_t)part[i].start + at;
}

static size_t check_all(const struct part *part, int nr)
{
	size_t bad = 0;

	for (int i = 0; i < nr; i++)
		for (size_t at = 0; at < part[i].len; at += PAGE)
			bad += *(volatile uint64_t *)(void *)(part[i].start + at) != (uintptr_t)part[i].start + at;
	return bad;
}

/* A child that has all that its parent has, as long as that lives. */
static void make_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	printf("%d\n", pid);
}

static void run_on(int node)
{
	char name[64], list[256] = "";
	cpu_set_t set;
	FILE *f;
	int first = 0, last = -1;

	snprintf(name, sizeof(name), "/sys/devices/system/node/node%d/cpulist", node);
	f = fopen(name, "r");
	CPU_ZERO(&set);
	if (f && fgets(list, sizeof(list), f) && sscanf(list, "%d-%d", &first, &last) < 2)
		last = sscanf(list, "%d", &first) == 1 ? first : -1;
	for (int cpu = first; f && cpu <= last; cpu++)
		CPU_SET(cpu, &set);
	if (f)
		fclose(f);
	printf("%s\n", sched_setaffinity(0, sizeof(set), &set) ? "bad" : "good");
}

static void obey(const struct part *part, int nr)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		size_t bad;

		if (!strncmp(line, "check", 5)) {
			bad = check_all(part, nr);
			if (bad)
				printf("bad %zu\n", bad);
			else
				printf("good\n");
		} else if (!strncmp(line, "fork", 4)) {
			make_child();
		} else if (!strncmp(line, "write", 5)) {
			write_all(part, nr);
			printf("good\n");
		} else if (!strncmp(line, "node ", 5)) {
			run_on(atoi(line + 5));
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct part part[PARTS];
	unsigned long mask = argc > 1 ? 1UL << atoi(argv[1]) : 0;
	int nr = 0;

	if (argc < 3 || argc > PARTS) {
		fprintf(stderr, "usage: kinds NODE KIND=MB...\n");
		return 2;
	}
	/* MPOL_BIND */
	if (syscall(SYS_set_mempolicy, 2, &mask, 64))
		fail("set_mempolicy");
	for (int i = 2; i < argc; i++) {
		char *equals = strchr(argv[i], '=');

		if (!equals)
			return 2;
		*equals = '\0';
		part[nr].kind = argv[i];
		part[nr].len = strtoul(equals + 1, NULL, 10) << 20;
		part[nr].start = map_part(argv[i], part[nr].len);
		nr++;
	}
	write_all(part, nr);
	if (syscall(SYS_set_mempolicy, 0, NULL, 0))
		fail("set_mempolicy");
	for (int i = 0; i < nr; i++)
		printf("%s %lx %zu\n", part[i].kind, (unsigned long)part[i].start, part[i].len / PAGE);
	printf("ready\n");
	fflush(stdout);
	obey(part, nr);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * host_memory: memory of several kinds, and words on stdin that say what to do with it. It knows nothing of godwit, and
 * says how each went: "ok", or "error ERRNO", or pages whose content is not what was written. At its start it prints
 * "KIND START-END" for each kind: small (4 KiB pages), huge (THPs, if there are any), locked (mlock), and "ready".
 *
 *   move KIND NODE         move_pages()               statuses counted: "ok N1=512 E16=3"
 *   mbind KIND MODE NODES  mbind(MPOL_MF_MOVE)        MODE as a number, NODES as a mask
 *   migrate FROM TO        migrate_pages(0, ...)      masks
 *   policy MODE NODES      set_mempolicy()
 *   first KIND             drop the memory and touch it again
 *   where KIND             move_pages() that only asks
 *   fork                   a child that lives until "reap"; the memory is shared with it
 *   reap
 *   unshare KIND           write to every page
 *   check                  every byte
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define NODES 64
#define MF_MOVE 2

static struct kind {
	const char *name;
	unsigned long bytes;
	char *mem;
} kinds[] = { { "small", 8UL << 20, NULL }, { "huge", 16UL << 20, NULL }, { "locked", 2UL << 20, NULL } };

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static pid_t child;

static void fill(struct kind *k)
{
	for (unsigned long at = 0; at < k->bytes; at += sizeof(long))
		*(unsigned long *)(void *)(k->mem + at) = (unsigned long)(k->mem + at) * 0x9e3779b97f4a7c15UL;
}

static unsigned long wrong(const struct kind *k)
{
	unsigned long nr = 0;

	for (unsigned long at = 0; at < k->bytes; at += sizeof(long))
		nr += *(unsigned long *)(void *)(k->mem + at) != (unsigned long)(k->mem + at) * 0x9e3779b97f4a7c15UL;
	return nr;
}

static void make(struct kind *k)
{
	char *all = mmap(NULL, k->bytes + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	k->mem = (char *)(((unsigned long)all + HUGE) & ~(HUGE - 1));
	if (all == MAP_FAILED || mprotect(k->mem, k->bytes, PROT_READ | PROT_WRITE)) {
		perror(k->name);
		exit(1);
	}
	madvise(k->mem, k->bytes, strcmp(k->name, "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	if (!strcmp(k->name, "locked") && mlock(k->mem, k->bytes)) {
		perror("mlock");
		exit(1);
	}
	fill(k);
	printf("%s %lx-%lx\n", k->name, (unsigned long)k->mem, (unsigned long)k->mem + k->bytes);
}

static struct kind *kind_of(const char *name)
{
	for (unsigned i = 0; i < KINDS; i++)
		if (name && !strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

static int said(long ret)
{
	if (ret < 0)
		printf("error %d\n", errno);
	else
		printf("ok\n");
	return 0;
}

/* node < 0: only ask. */
static void move(const struct kind *k, int node)
{
	unsigned long nr = k->bytes / PAGE, on[NODES] = { 0 }, failed[200] = { 0 };
	void **pages = calloc(nr, sizeof(*pages));
	int *nodes = calloc(nr, sizeof(*nodes)), *status = calloc(nr, sizeof(*status));

	for (unsigned long i = 0; i < nr; i++) {
		pages[i] = k->mem + i * PAGE;
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, nr, pages, node < 0 ? NULL : nodes, status, MF_MOVE) < 0) {
		said(-1);
		return;
	}
	for (unsigned long i = 0; i < nr; i++)
		if (status[i] >= 0)
			on[status[i] % NODES]++;
		else
			failed[-status[i] % 200]++;
	printf("ok");
	for (int n = 0; n < NODES; n++)
		if (on[n])
			printf(" N%d=%lu", n, on[n]);
	for (int n = 0; n < 200; n++)
		if (failed[n])
			printf(" E%d=%lu", n, failed[n]);
	printf("\n");
	free(pages);
	free(nodes);
	free(status);
}

static int drop(struct kind *k)
{
	if (madvise(k->mem, k->bytes, 24 /* MADV_DONTNEED_LOCKED */))
		return -1;
	fill(k);
	return 0;
}

static void no_more(int sig)
{
	(void)sig;
}

/* It has an engine of its own, which takes its socket away if it may. */
static int have_child(void)
{
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, no_more);
		pause();
		exit(0);
	}
	return child < 0 ? -1 : 0;
}

static int reap(void)
{
	kill(child, SIGTERM);
	return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static void check(void)
{
	unsigned long nr = 0;

	for (unsigned i = 0; i < KINDS; i++)
		nr += wrong(&kinds[i]);
	if (nr)
		printf("%lu words are wrong\n", nr);
	else
		printf("ok\n");
}

static int obey(char **word, int nr)
{
	struct kind *k = kind_of(nr > 1 ? word[1] : NULL);
	unsigned long a = nr > 1 ? strtoul(word[1], NULL, 0) : 0, b = nr > 2 ? strtoul(word[2], NULL, 0) : 0;

	if (!strcmp(word[0], "move") && k)
		move(k, (int)b);
	else if (!strcmp(word[0], "where") && k)
		move(k, -1);
	else if (!strcmp(word[0], "mbind") && k) {
		unsigned long mask = nr > 3 ? strtoul(word[3], NULL, 0) : 0;

		return said(syscall(SYS_mbind, k->mem, k->bytes, b, mask ? &mask : NULL, mask ? NODES + 1UL : 0UL,
				    MF_MOVE));
	} else if (!strcmp(word[0], "migrate"))
		return said(syscall(SYS_migrate_pages, 0, NODES + 1, &a, &b));
	else if (!strcmp(word[0], "policy"))
		return said(syscall(SYS_set_mempolicy, a, b ? &b : NULL, b ? NODES + 1UL : 0UL));
	else if (!strcmp(word[0], "first") && k)
		return said(drop(k));
	else if (!strcmp(word[0], "fork"))
		return said(have_child());
	else if (!strcmp(word[0], "reap"))
		return said(reap());
	else if (!strcmp(word[0], "unshare") && k) {
		fill(k);
		return said(0);
	} else if (!strcmp(word[0], "check"))
		check();
	else
		printf("what is '%s'?\n", word[0]);
	return 0;
}

int main(void)
{
	char line[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < KINDS; i++)
		make(&kinds[i]);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		char *word[5] = { NULL }, *save = NULL;
		int nr = 0;

		for (char *w = strtok_r(line, " \n", &save); w && nr < 5; w = strtok_r(NULL, " \n", &save))
			word[nr++] = w;
		if (nr)
			obey(word, nr);
	}
	return 0;
}

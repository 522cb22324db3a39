/* SPDX-License-Identifier: MIT */
/*
 * What becomes of policies and pages when other nodes are allowed: for a real cpuset and for a group alike.
 *
 *   allowed ranges    one thread; ranges have policies of every kind
 *   allowed threads   one range a thread; the threads have policies of every kind
 *
 * For each line on stdin, which names the nodes that are allowed now, every holder of a policy is asked for it and for
 * the nodes of its pages, and some more pages are touched. Each answer ends with a line ".".
 *
 * Needs four nodes. Addresses are fixed, and all threads run on CPU 0, so that every answer has one right value.
 */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define FIRST 12	/* pages touched before the first change */
#define STEP 4		/* and after each */
#define MOST 128
#define BASE 0x200000000000UL
#define APART (64UL << 20)

enum { DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL, MANY, WEIGHTED };

#define STATIC (1 << 15)
#define RELATIVE (1 << 14)

static const struct {
	const char *name;
	int mode;
	unsigned long nodes;
} kinds[] = {
	{ "default", DEFAULT, 0 },	    { "local", LOCAL, 0 },
	{ "bind:1-2", BIND, 6 },	    { "bind:0,3", BIND, 9 },
	{ "bind:1", BIND, 2 },		    { "interleave:0-1", INTERLEAVE, 3 },
	{ "interleave:0-3", INTERLEAVE, 15 }, { "interleave:1,3", INTERLEAVE, 10 },
	{ "prefer:1", PREFERRED, 2 },	    { "prefer:3", PREFERRED, 8 },
	{ "many:1-2", MANY, 6 },	    { "many:3", MANY, 8 },
	{ "weighted:1-2", WEIGHTED, 6 },    { "weighted:0-3", WEIGHTED, 15 },
};

#define NR_KINDS ((int)(sizeof(kinds) / sizeof(kinds[0])))

static const struct {
	const char *name;
	int flag;
} flags[] = { { "", 0 }, { "=static", STATIC }, { "=relative", RELATIVE } };

struct holder {
	int kind, flag, nr;
	bool task;
	char *mem;
	int touched;
};

static struct holder holders[3 * NR_KINDS];
static int nr_holders;
static pthread_barrier_t turn;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static int whose;
static bool over;

static void touch(struct holder *h, int nr)
{
	while (nr--)
		h->mem[h->touched++ * (long)PAGE] = 1;
}

static void say_nodes(unsigned long nodes)
{
	for (int n = 0; n < 64; n++)
		if (nodes >> n & 1)
			printf("%d", n);
}

static void say_policy(const struct holder *h)
{
	unsigned long nodes[16] = { 0 };
	int mode = -1;
	long err = syscall(SYS_get_mempolicy, &mode, nodes, 1024, h->task ? NULL : h->mem, h->task ? 0 : 2);

	printf(" policy %d", err ? -1 : mode & ~(STATIC | RELATIVE));
	printf("%s ", mode & STATIC ? "=static" : mode & RELATIVE ? "=relative" : "");
	say_nodes(nodes[0]);
}

static void say_pages(const struct holder *h, int from, int to)
{
	void *page[MOST];
	int status[MOST];

	for (int i = from; i < to; i++)
		page[i - from] = h->mem + i * (long)PAGE;
	if (syscall(SYS_move_pages, 0, (long)(to - from), page, NULL, status, 0))
		printf("?");
	for (int i = 0; i < to - from; i++)
		status[i] < 0 ? printf("x") : printf("%d", status[i]);
}

static void say(struct holder *h)
{
	printf("%s %s%s", h->task ? "thread" : "range", kinds[h->kind].name, flags[h->flag].name);
	say_policy(h);
	printf(" pages ");
	say_pages(h, 0, h->touched);
	touch(h, STEP);
	printf(" new ");
	say_pages(h, h->touched - STEP, h->touched);
	printf("\n");
}

static void hold(struct holder *h)
{
	int mode = kinds[h->kind].mode | flags[h->flag].flag;
	unsigned long nodes[16] = { kinds[h->kind].nodes };
	long err;

	if (h->task)
		err = syscall(SYS_set_mempolicy, mode, nodes, 1024);
	else
		err = syscall(SYS_mbind, h->mem, MOST * PAGE, mode, nodes, 1024, 0);
	if (err)
		printf("%s%s: refused\n", kinds[h->kind].name, flags[h->flag].name);
	touch(h, FIRST);
}

/* Pages of the default policy begin on all nodes. */
static void spread(struct holder *h)
{
	void *page[FIRST];
	int node[FIRST], status[FIRST];

	for (int i = 0; i < FIRST; i++) {
		page[i] = h->mem + i * (long)PAGE;
		node[i] = i % 4;
	}
	syscall(SYS_move_pages, 0, (long)FIRST, page, node, status, 2);
}

static void *task_main(void *arg)
{
	struct holder *h = arg;

	for (;;) {
		pthread_barrier_wait(&turn);
		if (over)
			return NULL;
		if (whose == h->nr) {
			pthread_mutex_lock(&one);
			if (!h->touched)
				hold(h);
			else
				say(h);
			pthread_mutex_unlock(&one);
		}
		pthread_barrier_wait(&turn);
	}
}

static void all(void)
{
	for (int i = 0; i < nr_holders; i++) {
		if (!holders[i].task && holders[i].touched)
			say(&holders[i]);
		else if (!holders[i].task)
			hold(&holders[i]);
		if (!holders[i].task && !holders[i].kind && holders[i].touched == FIRST)
			spread(&holders[i]);
		whose = i;
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	}
}

static void make(int kind, int flag, bool task)
{
	struct holder *h = &holders[nr_holders];

	if (flag && !kinds[kind].nodes)
		return;
	*h = (struct holder){ .kind = kind, .flag = flag, .task = task, .nr = nr_holders };
	h->mem = mmap((void *)(BASE + (unsigned long)nr_holders * APART), MOST * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (h->mem == MAP_FAILED)
		exit(1);
	madvise(h->mem, MOST * PAGE, MADV_NOHUGEPAGE);
	nr_holders++;
}

int main(int argc, char **argv)
{
	bool threads = argc > 1 && !strcmp(argv[1], "threads");
	pthread_t thread[3 * NR_KINDS];
	cpu_set_t cpu0;
	char line[64];

	CPU_ZERO(&cpu0);
	CPU_SET(0, &cpu0);
	sched_setaffinity(0, sizeof(cpu0), &cpu0);
	for (int kind = 0; kind < NR_KINDS; kind++)
		for (int flag = 0; flag < 3; flag++)
			make(kind, flag, threads);
	pthread_barrier_init(&turn, NULL, threads ? (unsigned int)nr_holders + 1 : 1);
	for (int i = 0; threads && i < nr_holders; i++)
		pthread_create(&thread[i], NULL, task_main, &holders[i]);
	all();
	printf(".\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		printf("allowed %s", line);
		all();
		printf(".\n");
		fflush(stdout);
	}
	over = true;
	pthread_barrier_wait(&turn);
	for (int i = 0; threads && i < nr_holders; i++)
		pthread_join(thread[i], NULL);
	return 0;
}

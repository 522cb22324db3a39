/* SPDX-License-Identifier: MIT */
/* Lazy migration: nothing is copied before it is touched, each page goes where it is to go, the rest stays. */
#include "far.h"

#include <sched.h>
#include <sys/syscall.h>

#define PAGES 3000UL

static struct gw_engine *e;

static struct gw_stats stats(void)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_query(e, &st); /* the books have seen what was touched before */
	gw_stats(e, &st);
	return st;
}

static uint64_t *filled(bool huge)
{
	uint64_t *mem = map_memory((huge ? 2 * GW_HUGE_SIZE : PAGES * GW_PAGE_SIZE), huge);

	contents_fill(mem, huge ? 2 * GW_HUGE_SIZE / GW_PAGE_SIZE : PAGES);
	return mem;
}

static uint64_t on_node(const uint64_t *mem, uint64_t first, uint64_t nr, int node)
{
	uint64_t n = 0;

	for (uint64_t p = first; p < first + nr; p++)
		n += gw_query(e, mem + p * WORDS) == node;
	return n;
}

static struct gw_migrate_result ask(gw_nodemask from, gw_nodemask to, uint32_t flags)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = flags };
	struct gw_migrate_result res = { .size = sizeof(res) };

	gw_migrate_pages(e, from, to, &opt, &res);
	return res;
}

static void each_when_touched(bool huge)
{
	uint64_t pages = huge ? 2 * GW_HUGE_SIZE / GW_PAGE_SIZE : PAGES, *mem = filled(huge), before, wrong;
	struct gw_migrate_result res = ask(1, 2, GW_MIGRATE_LAZY);

	before = stats().pages_moved[0][1];
	tap(res.pages_lazy >= pages && !res.pages_moved && !res.pages_failed,
	    huge ? "THPs: all is unmapped" : "all is unmapped");
	tap(stats().pages_cached >= pages && on_node(mem, 0, pages, 0) == pages, "and nothing has moved");
	wrong = contents_wrong(mem, 0, pages / 2);
	tap(!wrong && on_node(mem, 0, pages / 2, 1) == pages / 2,
	    "what is touched is as it was, and has moved by that");
	tap(on_node(mem, pages / 2, pages / 2, 0) == pages / 2, "what is not touched has not");
	tap(stats().pages_moved[0][1] - before >= pages / 2 && stats().pages_moved[0][1] - before < pages / 2 + 64,
	    "nor was it copied");
	res = ask(1, 1, GW_MIGRATE_LAZY_CANCEL);
	tap(res.pages_moved >= pages / 2 && !stats().pages_cached, "the rest goes back");
	tap(!contents_wrong(mem, 0, pages) && on_node(mem, pages / 2, pages / 2, 0) == pages / 2,
	    "as it was, where it was");
	ask(3, 2, GW_MIGRATE_LAZY);
	res = ask(1, 2, 0);
	tap(!res.pages_failed && on_node(mem, 0, pages, 1) == pages && !contents_wrong(mem, 0, pages),
	    "a request that is not lazy moves what waits");
	munmap(mem, pages * GW_PAGE_SIZE);
	tap(!stats().pages_cached, "what is unmapped waits no more");
	ask(2, 1, 0);
}

struct toucher {
	const uint64_t *mem;
	uint64_t first, nr;
	int cpu;
};

static void *touch(void *arg)
{
	const struct toucher *t = arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	return (void *)contents_wrong(t->mem, t->first, t->nr);
}

/* The last CPU is that of the last node. */
static void to_the_toucher(void)
{
	int last = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1;
	uint64_t *mem = filled(false);
	struct toucher t[2] = { { mem, 0, PAGES / 2, 0 }, { mem, PAGES / 2, PAGES / 2, last } };
	int node[2] = { gw_node_of_cpu(e, 0), gw_node_of_cpu(e, last) };
	pthread_t thread[2];
	void *wrong[2];

	printf("# CPU 0 is node %d's, CPU %d node %d's\n", node[0], last, node[1]);
	ask(1, 1, GW_MIGRATE_NEXT_TOUCH);
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, touch, &t[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], &wrong[i]);
	tap(!wrong[0] && !wrong[1], "two threads find everything as it was");
	for (int i = 0; i < 2; i++)
		tap(on_node(mem, t[i].first, t[i].nr, node[i]) == t[i].nr, "and it is on the node of who touched it");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

/* A forked child has what waits too, and it moves there by itself. */
static void in_children(void)
{
	uint64_t *mem = filled(false);
	int status = -1;
	pid_t pid;

	ask(2, 1, 0); /* first touches count where the toucher runs by now */
	ask(1, 2, GW_MIGRATE_LAZY);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(contents_wrong(mem, 0, PAGES) != 0);
	waitpid(pid, &status, 0);
	tap(!status, "a forked child reads what waits");
	tap(on_node(mem, 0, PAGES, 0) == PAGES, "which still waits in the parent");
	tap(!contents_wrong(mem, 0, PAGES) && on_node(mem, 0, PAGES, 1) == PAGES, "and moves there when it is touched");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

/* MPOL_MF_LAZY, by libc's way to the kernel. */
static void by_mbind(void)
{
	uint64_t *mem = filled(false), one = 2;
	long args[6] = { (long)mem, PAGES * GW_PAGE_SIZE, 2 /* MPOL_BIND */, (long)&one, 64, 2 | 8 };

	ask(2, 1, 0);
	tap(!gw_numa_call(e, 0, SYS_mbind, args) && on_node(mem, 0, PAGES, 0) == PAGES,
	    "mbind() with MPOL_MF_LAZY moves nothing");
	tap(!contents_wrong(mem, 0, PAGES) && on_node(mem, 0, PAGES, 1) == PAGES, "but what is touched");
	args[5] = 8;
	tap(gw_numa_call(e, 0, SYS_mbind, args) == -EINVAL, "and is refused where nothing is to move");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

int main(void)
{
	struct gw_options opt = { .size = sizeof(opt), .flags = GW_MBIND_LAZY };
	struct gw_migrate_options both = { .size = sizeof(both), .flags = GW_MIGRATE_LAZY | GW_MIGRATE_NEXT_TOUCH };

	tap(!gw_start(&e, &opt), "the engine starts");
	e = engine_with_nodes(2, 0);
	tap(gw_migrate_pages(e, 1, 2, &both, NULL) == -EINVAL, "two ways at once are refused");
	each_when_touched(false);
	each_when_touched(true);
	to_the_toucher();
	in_children();
	by_mbind();
	tap(!gw_stop(e), "the engine stops");
	return tap_end();
}

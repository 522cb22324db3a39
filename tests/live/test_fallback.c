/* SPDX-License-Identifier: MIT */
/*
 * GW_MIGRATE_FALLBACK_SWAP: what finds no room where it is to go waits on a far node, and its touch brings it to where
 * it was to go, or to where policy has it.
 */
#include "far.h"

#include <sched.h>

#define PAGES 4096UL
#define ROOM 2048UL	/* pages of node 1 */
#define FAR 2		/* a pool */
#define NEXT 3		/* one behind it */
#define POOL (2UL << 20)

static struct gw_engine *e;

static struct gw_stats stats(void)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_query(e, &st); /* the books have seen what was touched before */
	gw_stats(e, &st);
	return st;
}

static uint64_t node_pages(int node)
{
	struct gw_node_info info = { .opt.size = sizeof(info.opt) };

	stats();
	return gw_node_get(e, node, &info) ? 0 : info.pages;
}

static uint64_t on_node(const uint64_t *mem, uint64_t first, uint64_t nr, int node)
{
	uint64_t n = 0;

	for (uint64_t p = first; p < first + nr; p++)
		n += gw_query(e, mem + p * WORDS) == node;
	return n;
}

static long ask(gw_nodemask from, gw_nodemask to, uint32_t flags, struct gw_migrate_result *res)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = flags };
	struct gw_migrate_result own = { .size = sizeof(own) };

	if (res)
		*res = own;
	return gw_migrate_pages(e, from, to, &opt, res ? res : &own);
}

static uint64_t *filled(bool huge)
{
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, huge);

	contents_fill(mem, PAGES);
	return mem;
}

static void add_node(int kind, uint64_t bytes, uint32_t distance)
{
	struct gw_node_options node = { .size = sizeof(node), .kind = (uint32_t)kind, .host = -1, .bytes = bytes,
					.distance = distance };
	int id = gw_node_add(e, &node);

	if (id < 0) {
		printf("Bail out! a node of kind %d: %s\n", kind, strerror(-id));
		exit(1);
	}
}

/* ---- with nothing to fall back to ---- */

static void no_far_node(void)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = GW_MIGRATE_FALLBACK_SWAP };
	uint64_t *mem = filled(false);
	void *page = mem;
	int node = 1, status = 0;

	tap(ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, NULL) == -ENXIO && on_node(mem, 0, PAGES, 0) == PAGES,
	    "without a far node it is refused: ENXIO, and nothing has moved");
	tap(gw_move_pages(e, 1, &page, &node, &status, &opt) == -ENXIO, "by gw_move_pages() too");
	tap(ask(1, 2, GW_MIGRATE_FALLBACK_SWAP | GW_MIGRATE_LAZY, NULL) == -EINVAL, "with GW_MIGRATE_LAZY: EINVAL");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

/* ---- through the far node ---- */

static void all_home(void)
{
	ask(7, 1, 0, NULL);
}

/* Node 1 has a limit and a far node behind it, so it is reclaimed: at any time a few more find room. */
static void no_room(const uint64_t *mem)
{
	uint64_t fallen, far, before = stats().pages_fallback;
	struct gw_migrate_result res;
	long left = ask(1, 2, 0, &res);

	tap(left > 0 && res.failed[ENOMEM] > PAGES / 4 && !res.pages_fallback,
	    "without it what finds no room stays: ENOMEM");
	all_home();
	ask(1, 2, GW_MIGRATE_DRY_RUN | GW_MIGRATE_FALLBACK_SWAP, &res);
	tap(!res.failed[ENOMEM] && res.pages_fallback > PAGES / 4,
	    "a dry run says that it would go through a far node");
	left = ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, &res);
	fallen = res.pages_fallback;
	far = on_node(mem, 0, PAGES, FAR);
	printf("# moved %lu, through the far node %lu, %lu of the memory are there; %ld left: EBUSY %lu, ENOMEM %lu\n",
	       (unsigned long)res.pages_moved, (unsigned long)fallen, (unsigned long)far, left,
	       (unsigned long)res.failed[EBUSY], (unsigned long)res.failed[ENOMEM]);
	tap(left == (long)res.failed[EBUSY] && res.pages_moved > PAGES / 4 && fallen > PAGES / 4 &&
		    res.pages_total == res.pages_moved + fallen + res.pages_gone + (uint64_t)left,
	    "with it all of it goes one way or the other");
	tap(stats().pages_fallback - before == fallen && far > PAGES / 4 && node_pages(1) <= ROOM,
	    "the counter says so, and the node has what it may");
	tap(!contents_wrong(mem, 0, PAGES), "it is as it was when it is touched");
	tap(node_pages(1) <= ROOM, "and the node still has what it may");
}

static void room_by_then(const uint64_t *mem)
{
	uint64_t lazy, waited, there;
	struct gw_migrate_result res;

	all_home();
	ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, &res);
	waited = res.pages_fallback;
	ask(2, 1, 0, NULL);
	lazy = stats().lazy_moved;
	there = stats().pages_moved[FAR][1];
	tap(waited > PAGES / 4 && !contents_wrong(mem, 0, PAGES), "again, and there is room by the time of the touch");
	lazy = stats().lazy_moved - lazy;
	there = stats().pages_moved[FAR][1] - there;
	printf("# %lu waited, %lu moved by their touch, %lu came to node 1\n", (unsigned long)waited,
	       (unsigned long)lazy, (unsigned long)there);
	tap(there >= waited * 3 / 4 && lazy >= waited * 3 / 4, "then it comes to where it was to go");
	tap(node_pages(1) <= ROOM, "and never more than the node may have");
}

static void through(bool huge)
{
	uint64_t *mem = filled(huge);

	printf("# %s\n", huge ? "THPs" : "4 KiB pages");
	no_room(mem);
	room_by_then(mem);
	munmap(mem, PAGES * GW_PAGE_SIZE);
	all_home();
}

/* ---- what does not fall back ---- */

static void pinned(void)
{
	uint64_t *mem = filled(false);
	struct gw_migrate_result res;

	all_home();
	gw_pin(e, mem, 64 * GW_PAGE_SIZE);
	gw_exclude(e, mem + 64 * WORDS, 64 * GW_PAGE_SIZE);
	ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, &res);
	tap(res.failed[EBUSY] >= 64 && on_node(mem, 0, 128, 0) == 128,
	    "pinned and opted out pages stay where they are");
	tap(res.pages_fallback > PAGES / 4, "the others do not");
	gw_unpin(e, mem, 64 * GW_PAGE_SIZE);
	gw_include(e, mem + 64 * WORDS, 64 * GW_PAGE_SIZE);
	tap(!contents_wrong(mem, 0, PAGES), "all of it is as it was");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	all_home();
}

/* Pages by their addresses. */
static void single_pages(void)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = GW_MIGRATE_FALLBACK_SWAP };
	uint64_t *mem = filled(false), far;

	all_home();
	for (uint64_t p = 0; p < PAGES; p += 256)
		move_range(e, mem + p * WORDS, 256, 1, &opt);
	far = on_node(mem, 0, PAGES, FAR);
	tap(far > PAGES / 4 && !on_node(mem, 0, PAGES, 0), "gw_move_pages() sends them there too");
	munmap(mem, PAGES / 2 * GW_PAGE_SIZE);
	tap(!contents_wrong(mem, PAGES / 2, PAGES / 2) && on_node(mem, PAGES / 2, PAGES / 2, 1) > 0,
	    "and what is unmapped leaves room for the rest");
	munmap(mem + PAGES / 2 * WORDS, PAGES / 2 * GW_PAGE_SIZE);
	all_home();
}

/* A forked child has them too. */
static void in_children(void)
{
	uint64_t *mem = filled(false);
	int status = -1;
	pid_t pid;

	all_home();
	ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, NULL);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(contents_wrong(mem, 0, PAGES) != 0);
	waitpid(pid, &status, 0);
	tap(!status && !contents_wrong(mem, 0, PAGES), "a forked child reads what waits, and so does its parent");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	all_home();
}

/* ---- when that is full too: in a process of its own, whose far nodes are small ---- */

static bool words_hold(const uint64_t *mem)
{
	uint64_t seed = 5;

	for (uint64_t i = 0; i < PAGES * WORDS; i++)
		if (mem[i] != next(&seed))
			return false;
	return true;
}

/* 0, or the number of what is wrong. */
static int full(void)
{
	struct gw_options opt = { .size = sizeof(opt) };
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, false), seed = 5, first, second, home;
	struct gw_migrate_result res;

	if (gw_start(&e, &opt))
		return 1;
	add_node(GW_NODE_RAM, 0, 0);
	add_node(GW_NODE_RAM, ROOM * GW_PAGE_SIZE, 0);
	add_node(GW_NODE_ZRAM, POOL, 40);
	add_node(GW_NODE_ZRAM, POOL, 50);
	for (uint64_t i = 0; i < PAGES * WORDS; i++)
		mem[i] = next(&seed);
	ask(1, 2, GW_MIGRATE_FALLBACK_SWAP, &res);
	first = on_node(mem, 0, PAGES, FAR);
	second = on_node(mem, 0, PAGES, NEXT);
	printf("# moved %lu, %lu on the first far node, %lu on the next; left ENOSPC %lu, EBUSY %lu of %lu\n",
	       (unsigned long)res.pages_moved, (unsigned long)first, (unsigned long)second,
	       (unsigned long)res.failed[ENOSPC], (unsigned long)res.failed[EBUSY], (unsigned long)res.pages_failed);
	if (first < 64 || second < 64)
		return 2;
	if (res.failed[ENOSPC] < 64 || res.pages_failed != res.failed[ENOSPC] + res.failed[EBUSY])
		return 3;
	if (!words_hold(mem))
		return 4;
	/* nothing can leave node 1 to make room either */
	home = stats().pages_moved[FAR][0] + stats().pages_moved[NEXT][0];
	printf("# touched: %lu to node 0, where policy has them; node 1 has %lu of %lu\n", (unsigned long)home,
	       (unsigned long)node_pages(1), ROOM);
	if (home < 64 || node_pages(1) > ROOM)
		return 5;
	return gw_stop(e) || !words_hold(mem) ? 6 : 0;
}

static void full_too(void)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		int wrong = full();

		fflush(stdout);
		_exit(wrong);
	}
	waitpid(pid, &status, 0);
	if (status)
		printf("# status 0x%x\n", (unsigned int)status);
	tap(!status, "a full far node passes them to the next, the rest stays: ENOSPC; touched without room they come "
		     "to where policy has them");
}

int main(void)
{
	struct gw_options opt = { .size = sizeof(opt) };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set); /* which is node 0's: first touches count there */
	sched_setaffinity(0, sizeof(set), &set);
	watchdog_begin(60);
	watch("full", 0);
	full_too();
	tap(!gw_start(&e, &opt), "the engine starts");
	add_node(GW_NODE_RAM, 0, 0);
	add_node(GW_NODE_RAM, ROOM * GW_PAGE_SIZE, 0);
	no_far_node();
	add_node(GW_NODE_ZRAM, 0, 40);
	watch("pages", 0);
	through(false);
	watch("THPs", 0);
	through(true);
	watch("pins", 0);
	pinned();
	watch("single pages", 0);
	single_pages();
	watch("children", 0);
	in_children();
	tap(!stats().poisoned, "no page was lost");
	tap(!gw_stop(e), "the engine stops");
	watchdog_end();
	return tap_end();
}

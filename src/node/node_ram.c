/* SPDX-License-Identifier: MIT */
/* Arenas of direct nodes: where frames wait between two uses. */
#include "node/node.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SMALL_UNIT 4096UL
#define HUGE_UNIT (2UL << 20)
#ifndef SMALL_SLOTS
#define SMALL_SLOTS 1024U	/* a half: twice the largest batch */
#endif
#define HUGE_SLOTS 4U
#define STOCK_BYTES (16UL * SMALL_SLOTS * SMALL_UNIT)	/* 64 MiB */
#define STOCK_SHARE 16U	/* at most this part of the addresses that are left */

#define MPOL_PREFERRED_MODE 1

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

uint64_t arena_start(const struct arena *a)
{
	return a->half[0].base;
}

uint64_t arena_bytes(const struct arena *a)
{
	return 2 * a->slots * a->unit;
}

uint64_t arena_free(const struct arena *a)
{
	return (a->half[0].full + a->half[1].full) * a->unit;
}

struct half *arena_fuller(struct arena *a)
{
	return &a->half[a->half[1].full > a->half[0].full];
}

struct half *arena_twin(struct arena *a, struct half *h)
{
	return &a->half[h == &a->half[0]];
}

/* The slots, and a page behind them that is touched once: see arena_map(). */
static uint64_t arena_span(const struct arena *a)
{
	return arena_bytes(a) + SMALL_UNIT;
}

/*
 * DONTFORK: a child would get the frames' old content and keep them busy. Before Linux 6.16 pieces of a mapping grow
 * together again only if none or all had been touched when they were split, and no move crosses a piece's end.
 *
 * The host node is preferred, not bound to: bound, a populate of a full node would call the kernel's OOM killer for the
 * program. So who populates asks the kernel where the frames are, and gives those back that came from elsewhere.
 */
static int arena_map(const struct arena *a)
{
	uint64_t at = arena_start(a), len = arena_span(a), mask = a->host < 0 ? 0 : 1ULL << a->host;
	int prot = PROT_READ | PROT_WRITE | (a->class == ARENA_RWX ? PROT_EXEC : 0);
	long ret = sys_mmap(at, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (ret < 0)
		return (int)ret;
	sys2(SYS_munlock, at, len);	/* the program may have called mlockall(MCL_FUTURE) */
	sys3(SYS_madvise, at, len, MADV_DONTFORK);
	sys3(SYS_madvise, at, len, a->unit == HUGE_UNIT ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (a->host >= 0)
		ret = sys_numa(SYS_mbind, at, len, MPOL_PREFERRED_MODE, &mask, NODE_MAX + 1, 0);
	if (ret == -ENOSYS)
		ret = 0; /* a kernel that knows one node only */
	if (ret >= 0)
		ret = sys3(SYS_madvise, at + arena_bytes(a), SMALL_UNIT, MADV_POPULATE_WRITE);
	if (ret < 0)
		sys_mmap(at, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	return ret < 0 ? (int)ret : 0;
}

/*
 * Frames that go from one virtual node to another are back in their arena at once. Those that leave a host node are of
 * use only when something comes to it again: for that its arena has room for a stock.
 */
static uint32_t arena_slots(const struct node_table *t, const struct arena *a)
{
	uint32_t least = a->unit == HUGE_UNIT ? HUGE_SLOTS : SMALL_SLOTS, stock = (uint32_t)(STOCK_BYTES / 2 / a->unit);
	uint64_t left = t->region->reserved - __atomic_load_n(&t->region->used, __ATOMIC_RELAXED);

	if (a->host < 0 || a->class != ARENA_RW || STOCK_BYTES > left / STOCK_SHARE || stock < least)
		return least;
	return stock;
}

static struct arena *arena_make(struct node_table *t, int32_t host, enum arena_class class, uint64_t unit)
{
	struct arena *a = &t->arena[t->nr_arenas];
	uint64_t at;

	if (t->nr_arenas == ARENA_MAX)
		return NULL;
	*a = (struct arena){ .host = host, .class = class, .unit = unit };
	a->slots = arena_slots(t, a);
	at = (uint64_t)region_take(t->region, arena_span(a), HUGE_UNIT);
	if (!at)
		return NULL;
	a->half[0].base = at;
	a->half[1].base = at + a->slots * a->unit;
	t->nr_arenas++;
	return a;
}

static struct arena *arena_find(struct node_table *t, int32_t host, enum arena_class class, uint64_t unit)
{
	for (uint32_t i = 0; i < t->nr_arenas; i++) {
		struct arena *a = &t->arena[i];

		if (a->host == host && a->class == class && a->unit == unit)
			return a;
	}
	return NULL;
}

/* Pages move only between areas that are locked alike. */
static int arena_lock(struct arena *a)
{
	long ret;

	if (a->class != ARENA_LOCKED || a->locked)
		return 0;
	ret = sys3(SYS_mlock2, arena_start(a), arena_bytes(a), MLOCK_ONFAULT);
	a->locked = ret >= 0;
	return ret < 0 ? (int)ret : 0;
}

void node_rest(struct node_table *t)
{
	for (uint32_t i = 0; i < t->nr_arenas; i++) {
		sys2(SYS_munlock, arena_start(&t->arena[i]), arena_bytes(&t->arena[i]));
		t->arena[i].locked = t->arena[i].scarce = false;
	}
}

struct arena *node_arena(struct node_table *t, int node, enum arena_class class, bool huge)
{
	uint64_t unit = huge ? HUGE_UNIT : SMALL_UNIT;
	int32_t host = t->node[node].spec.host;
	struct arena *a = arena_find(t, host, class, unit);

	if (!a)
		a = arena_make(t, host, class, unit);
	if (!a)
		return NULL;
	if (!a->mapped && arena_map(a) < 0)
		return NULL;
	a->mapped = true;
	return arena_lock(a) < 0 ? NULL : a;
}

void node_forget_arenas(struct node_table *t)
{
	for (uint32_t i = 0; i < t->nr_arenas; i++) {
		struct arena *a = &t->arena[i];

		sys_mmap(arena_start(a), arena_span(a), PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		a->mapped = a->tracked = a->locked = a->scarce = false;
		a->half[0].full = a->half[1].full = 0;
	}
}

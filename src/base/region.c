/* SPDX-License-Identifier: MIT */
/*
 * One reservation of addresses that holds everything the engine owns: books, stacks, arenas. What is
 * the engine's own is then one comparison, and the program's allocators never meet it.
 */
#include "base/base.h"

#include <errno.h>
#include <sys/mman.h>

#define HUGE (2UL << 20)
#define GUARD 4096UL

int region_reserve(struct region *r, uint64_t most, uint64_t least)
{
	for (uint64_t len = most; len >= least; len /= 2) {
		long ret = sys_mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (ret > 0) {
			*r = (struct region){ .base = (char *)ret, .reserved = len };
			return 0;
		}
	}
	return -ENOMEM;
}

static void part_unmap(const struct region_part *p)
{
	sys2(SYS_munmap, p->start - GUARD, p->end - p->start + 2 * GUARD);
}

void region_release(struct region *r)
{
	for (uint32_t i = 0; i < r->nr_parts; i++)
		if (r->part[i].end)
			part_unmap(&r->part[i]);
	sys2(SYS_munmap, r->base, r->reserved);
	*r = (struct region){ 0 };
}

void *region_take(struct region *r, uint64_t len, uint64_t align)
{
	uint64_t base = (uint64_t)r->base;
	uint64_t used = __atomic_load_n(&r->used, __ATOMIC_RELAXED);
	uint64_t start;

	do {
		start = ALIGN_UP(base + used, align) - base;
		if (start + len > r->reserved)
			return NULL;
	} while (!__atomic_compare_exchange_n(&r->used, &used, start + ALIGN_UP(len, 4096), false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return r->base + start;
}

/* What was taken last can be given back, so that a try that fails costs nothing. */
static void region_untake(struct region *r, const char *p, uint64_t len)
{
	uint64_t end = (uint64_t)(p - r->base) + ALIGN_UP(len, 4096);

	__atomic_compare_exchange_n(&r->used, &end, (uint64_t)(p - r->base), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void *region_alloc(struct region *r, uint64_t len)
{
	char *p = region_take(r, len, 4096);

	if (!p)
		return NULL;
	if (sys3(SYS_mprotect, p, ALIGN_UP(len, 4096), PROT_READ | PROT_WRITE) < 0) {
		region_untake(r, p, len);
		return NULL;
	}
	sys3(SYS_madvise, p, ALIGN_UP(len, 4096), MADV_NOHUGEPAGE);
	return p;
}

/*
 * With a page that nobody may touch on either side: a mapping of the program's beside it must not become one with it,
 * or what is done to that is done to ours too.
 */
static long reserve_aligned(uint64_t len, uint64_t align)
{
	uint64_t whole = len + align + 2 * GUARD;
	long at = sys_mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t start = (uint64_t)at, first = ALIGN_UP(start + GUARD, align), end = start + whole;

	if (at < 0)
		return at;
	if (first - GUARD > start)
		sys2(SYS_munmap, start, first - GUARD - start);
	if (first + len + GUARD < end)
		sys2(SYS_munmap, first + len + GUARD, end - (first + len + GUARD));
	return (long)first;
}

/* An entry that is being filled looks empty: its end is stored last. */
static struct region_part *part_free(struct region *r)
{
	for (uint32_t i = 0; i < REGION_PARTS; i++) {
		uint64_t none = 0;

		if (!__atomic_load_n(&r->part[i].end, __ATOMIC_RELAXED) &&
		    __atomic_compare_exchange_n(&r->part[i].start, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return &r->part[i];
	}
	return NULL;
}

void *region_part(struct region *r, uint64_t len)
{
	struct region_part *p = part_free(r);
	uint32_t nr, at;
	long start;

	if (!p)
		return NULL;
	len = ALIGN_UP(len, 4096);
	start = reserve_aligned(len, HUGE);
	if (start < 0) {
		__atomic_store_n(&p->start, 0, __ATOMIC_RELEASE);
		return NULL;
	}
	p->start = (uint64_t)start;
	__atomic_store_n(&p->end, (uint64_t)start + len, __ATOMIC_RELEASE);
	at = (uint32_t)(p - r->part) + 1;
	nr = __atomic_load_n(&r->nr_parts, __ATOMIC_RELAXED);
	while (nr < at &&
	       !__atomic_compare_exchange_n(&r->nr_parts, &nr, at, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	return (void *)start;
}

void region_drop(struct region *r, const void *part)
{
	for (uint32_t i = 0; i < r->nr_parts; i++) {
		struct region_part *p = &r->part[i];

		if (p->start != (uint64_t)part || !p->end)
			continue;
		part_unmap(p);
		__atomic_store_n(&p->end, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&p->start, 0, __ATOMIC_RELEASE);
	}
}

bool region_owns(const struct region *r, uint64_t start, uint64_t end)
{
	uint32_t nr = __atomic_load_n(&r->nr_parts, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t to = __atomic_load_n(&r->part[i].end, __ATOMIC_ACQUIRE);

		if (start < to && end > r->part[i].start)
			return true;
	}
	return (start < (uint64_t)r->base + r->reserved && end > (uint64_t)r->base) ||
	       (start < r->own_end && end > r->own);
}

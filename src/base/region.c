/* SPDX-License-Identifier: MIT */
/*
 * One reservation of addresses that holds everything the engine owns: books, stacks, arenas. What is
 * the engine's own is then one comparison, and the program's allocators never meet it.
 */
#include "base/base.h"

#include <errno.h>
#include <sys/mman.h>

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

void region_release(struct region *r)
{
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

bool region_owns(const struct region *r, uint64_t start, uint64_t end)
{
	return (start < (uint64_t)r->base + r->reserved && end > (uint64_t)r->base) ||
	       (start < r->own_end && end > r->own);
}

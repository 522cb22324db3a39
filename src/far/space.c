/* SPDX-License-Identifier: MIT */
/* Memory that grows in place: addresses are reserved for the most there may be, and are made memory as they are needed. */
#include "far/store.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define STEP (1UL << 20)

int space_reach(struct space *s, uint64_t bytes)
{
	uint64_t to = min_u64(ALIGN_UP(bytes, STEP), s->reserved);

	if (bytes <= s->open)
		return 0;
	if (bytes > to)
		return -ENOMEM;
	if (sys3(SYS_mprotect, s->base + s->open, to - s->open, PROT_READ | PROT_WRITE) < 0)
		return -ENOMEM;
	s->open = to;
	return 0;
}

uint64_t space_host(void)
{
	struct sysinfo si;

	return sys1(SYS_sysinfo, &si) < 0 ? 1UL << 30 : (uint64_t)si.totalram * si.mem_unit;
}

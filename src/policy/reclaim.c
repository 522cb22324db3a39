/* SPDX-License-Identifier: MIT */
/*
 * When to reclaim, how much, and what has earned to stay: watermarks as the kernel's (min, low, high), a clock whose
 * pages have more than one chance (after Carr's WSClock and S3-FIFO's queues), refault distance as in mm/workingset.c.
 */
#include "policy/policy.h"

#include "base/base.h"

#define LEAST_GAP 64U /* pages between two watermarks */
#define FASTEST 1024U /* pages a millisecond that a program may take: 4 GB/s */
#define LOOK_MOST_MS 100U

void watermarks_of(uint64_t limit, struct watermarks *w)
{
	uint64_t gap = max_u64(limit / 64, LEAST_GAP);

	*w = (struct watermarks){ .min = limit,
				  .low = limit > gap ? limit - gap : 0,
				  .high = limit > 2 * gap ? limit - 2 * gap : 0 };
}

uint32_t reclaim_wait_ms(const struct watermarks *w, uint64_t used)
{
	uint64_t ms = used < w->low ? (w->low - used) / FASTEST : 0;

	return (uint32_t)min_u64(max_u64(ms, 1), LOOK_MOST_MS);
}

/* One that was tested and found in use is not tested again soon: twice as many rounds each time. */
uint8_t age_in_use(uint8_t age)
{
	return (uint8_t)min_u64(2U * age + 1, AGE_MOST);
}

/* It would not have left if memory had been larger by as much as has come back since: then only it is worth a round. */
uint8_t age_refault(uint64_t distance, uint64_t resident)
{
	return distance <= resident ? 1 : 0;
}

uint64_t cache_share(uint64_t limit)
{
	return max_u64(limit / 16, LEAST_GAP);
}

/* SPDX-License-Identifier: MIT */
/*
 * When to reclaim, how much, and what has earned to stay: watermarks as the kernel's (min, low, high), and a clock
 * whose pages have more than one chance (GCLOCK; S3-FIFO's small queue is the migration cache).
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

/*
 * One step for each time that it was found in use, one back for each time that it was not; what is at a level stays
 * twice as long as what is below it. With a zipfian load at half the memory that is a fifth fewer touches of pages that
 * are away than a clock with one chance, and a quarter more than if the most used pages stayed for good.
 */
uint8_t level_up(uint8_t level)
{
	return (uint8_t)min_u64(level + 1U, LEVEL_MOST);
}

uint8_t level_down(uint8_t level)
{
	return level ? (uint8_t)(level - 1) : 0;
}

uint8_t level_rounds(uint8_t level)
{
	return (uint8_t)((1U << level) - 1);
}

/* What left longer ago than a node's pages eight times over counts as more recent. */
uint64_t stamp_step(uint64_t limit)
{
	return max_u64(limit / 32, LEAST_GAP);
}

uint64_t cache_share(uint64_t limit)
{
	return max_u64(limit / 12, LEAST_GAP);
}

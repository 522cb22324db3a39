/* SPDX-License-Identifier: MIT */
/* Log-linear histograms of times: exact below 16 ns, then 16 steps an octave. */
#include "base/base.h"

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t octave;

	if (ns < 16)
		return (uint32_t)ns;
	octave = 63 - (uint32_t)__builtin_clzll(ns);
	if (octave - 3 >= HIST_BUCKETS / 16)
		return HIST_BUCKETS - 1;
	return (octave - 3) * 16 + (uint32_t)((ns >> (octave - 4)) & 15);
}

/* The largest time that falls into a bucket. */
static uint64_t bucket_top(uint32_t b)
{
	uint32_t octave = b / 16 + 3;

	if (b < 16)
		return b;
	return ((uint64_t)(16 + b % 16 + 1) << (octave - 4)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->bucket[bucket_of(ns)]++;
	h->count++;
	if (ns > h->max)
		h->max = ns;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
	into->count += from->count;
	into->max = max_u64(into->max, from->max);
}

uint64_t hist_at(const struct hist *h, uint32_t per_mille)
{
	uint64_t need = (h->count * per_mille + 999) / 1000, seen = 0;

	if (!h->count)
		return 0;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= need)
			return i == HIST_BUCKETS - 1 ? h->max : min_u64(bucket_top(i), h->max);
	}
	return h->max;
}

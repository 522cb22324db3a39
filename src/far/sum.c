/* SPDX-License-Identifier: MIT */
/*
 * Sums over what is kept: the inner loop of xxHash64 (Yann Collet) with four lanes, so that a page takes some 250 ns
 * and nothing needs to be probed, folded to 32 bits. Each step is a bijection of its lane for given input, so one
 * changed word changes the 64 bits for sure and the 32 with all but 2^-32.
 */
#include "far/codec.h"

#define P1 0x9e3779b185ebca87ULL
#define P2 0xc2b2ae3d27d4eb4fULL
#define P3 0x165667b19e3779f9ULL

static inline uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline uint64_t word_at(const char *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t mix(uint64_t acc, uint64_t v)
{
	return rotl(acc + v * P2, 31) * P1;
}

static uint64_t tail_at(const char *p, uint32_t len)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < len; i++)
		v |= (uint64_t)(unsigned char)p[i] << 8 * i;
	return v;
}

uint32_t sum_of(const void *bytes, uint32_t len)
{
	const char *p = bytes;
	uint64_t a = P1, b = P2, c = P3, d = len, all;

	for (; len >= 32; len -= 32, p += 32) {
		a = mix(a, word_at(p));
		b = mix(b, word_at(p + 8));
		c = mix(c, word_at(p + 16));
		d = mix(d, word_at(p + 24));
	}
	all = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
	for (; len >= 8; len -= 8, p += 8)
		all = mix(all, word_at(p));
	if (len)
		all = mix(all, tail_at(p, len));
	all = (all ^ all >> 33) * P2;
	all = (all ^ all >> 29) * P3;
	return (uint32_t)(all ^ all >> 32);
}

/* Most pages that are not so are found at the first step. */
bool page_is_same(const void *page, uint64_t *value)
{
	const uint64_t *v = page;
	uint64_t first = v[0];

	*value = first;
	if (v[1] != first || v[FAR_PAGE / 8 - 1] != first)
		return false;
	for (uint32_t i = 0; i < FAR_PAGE / 8; i += 8) {
		uint64_t differ = 0;

		for (uint32_t j = 0; j < 8; j++)
			differ |= v[i + j] ^ first;
		if (differ)
			return false;
	}
	return true;
}

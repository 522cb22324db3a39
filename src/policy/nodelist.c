/* SPDX-License-Identifier: MIT */
/* Lists of nodes: numactl's syntax, and migrate_pages(2)'s relative placement. */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

static bool number(const char **s, int *out)
{
	int v = 0, digits = 0;

	for (; **s >= '0' && **s <= '9'; (*s)++, digits++)
		if (digits < 4)
			v = v * 10 + (**s - '0');
	*out = digits < 4 ? v : 9999;
	return digits > 0;
}

static int take_range(const char **s, int nr, uint64_t *mask)
{
	int first, last;

	if (!number(s, &first))
		return -EINVAL;
	last = first;
	if (**s == '-') {
		(*s)++;
		if (!number(s, &last) || last < first)
			return -EINVAL;
	}
	if (last >= nr)
		return -ENODEV;
	for (int n = first; n <= last; n++)
		*mask |= 1ULL << n;
	return 0;
}

int nodelist_parse(const char *text, int nr, uint64_t *mask)
{
	uint64_t all = nr >= 64 ? ~0ULL : (1ULL << (nr < 0 ? 0 : nr)) - 1, got = 0;
	bool invert = *text == '!';
	const char *s = text + invert;
	int err;

	nr = nr > 64 ? 64 : nr;
	if (!strcmp(s, "all")) {
		*mask = invert ? 0 : all;
		return *mask ? 0 : -EINVAL;
	}
	for (;;) {
		err = take_range(&s, nr, &got);
		if (err)
			return err;
		if (!*s)
			break;
		if (*s++ != ',')
			return -EINVAL;
	}
	*mask = invert ? all & ~got : got;
	return *mask ? 0 : -EINVAL;
}

int nodes_nth(uint64_t mask, uint32_t n)
{
	while (n--)
		mask &= mask - 1;
	return __builtin_ctzll(mask);
}

int nodes_remap(uint64_t from, uint64_t to, int node)
{
	uint32_t rank = (uint32_t)__builtin_popcountll(from & ((1ULL << node) - 1));

	return nodes_nth(to, rank % (uint32_t)__builtin_popcountll(to));
}

/* The next node to empty: one whose pages do not meet others that are still to go, if there is one. */
static int next_source(uint64_t from, uint64_t to, uint64_t left)
{
	bool alike = __builtin_popcountll(from) == __builtin_popcountll(to);
	int source = -1;

	for (int n = 0; n < 64; n++) {
		if (!(left >> n & 1) || (!alike && to >> n & 1) || nodes_remap(from, to, n) == n)
			continue;
		source = n;
		if (!(left >> nodes_remap(from, to, n) & 1))
			break;
	}
	return source;
}

void nodes_relative(uint64_t from, uint64_t to, int dest[64])
{
	uint64_t left = from;
	int source;

	for (int n = 0; n < 64; n++)
		dest[n] = n;
	while (to && left && (source = next_source(from, to, left)) >= 0) {
		left &= ~(1ULL << source);
		for (int n = 0; n < 64; n++)
			if (dest[n] == source)
				dest[n] = nodes_remap(from, to, source);
	}
	for (int n = 0; n < 64; n++)
		if (dest[n] == n)
			dest[n] = -1;
}

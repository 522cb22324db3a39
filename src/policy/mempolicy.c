/* SPDX-License-Identifier: MIT */
/*
 * Memory policies as Linux has them (mm/mempolicy.c; numa(7), set_mempolicy(2)): which node a new page shall come
 * from, and what becomes of a policy when the nodes that it may name change.
 */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

static uint32_t weight_of(uint64_t mask)
{
	return (uint32_t)__builtin_popcountll(mask);
}

/* The i-th node that was asked for becomes the i-th that is allowed, modulo. */
static uint64_t relative_nodes(uint64_t given, uint64_t allowed)
{
	uint64_t out = 0;

	for (int n = 0; n < 64 && allowed; n++)
		if (given >> n & 1)
			out |= 1ULL << nodes_nth(allowed, (uint32_t)n % weight_of(allowed));
	return out;
}

static bool keeps_given(const struct mempolicy *pol)
{
	return pol->flags & MPOL_MODE_FLAGS;
}

/* ---- making one ---- */

static bool mode_known(uint32_t mode, uint32_t flags)
{
	bool fixed = flags & MPOL_F_STATIC_NODES, relative = flags & MPOL_F_RELATIVE_NODES;

	if (mode >= MPOL_MAX || (fixed && relative))
		return false;
	return !(flags & MPOL_F_NUMA_BALANCING) || mode == MPOL_BIND || mode == MPOL_PREFERRED_MANY;
}

int mpol_mode(uint32_t word, uint32_t *mode, uint32_t *flags)
{
	*flags = word & MPOL_MODE_FLAGS;
	*mode = word & ~MPOL_MODE_FLAGS;
	return mode_known(*mode, *flags) ? 0 : -EINVAL;
}

/* Modes without nodes, and those that must have some. */
static int mode_check(uint32_t *mode, uint32_t flags, bool any)
{
	bool by_mask = flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES);

	switch (*mode) {
	case MPOL_DEFAULT:
		return any ? -EINVAL : 0;
	case MPOL_LOCAL:
		return any || by_mask ? -EINVAL : 0;
	case MPOL_PREFERRED:
		if (!any && by_mask)
			return -EINVAL;
		if (!any)
			*mode = MPOL_LOCAL;
		return 0;
	default:
		return any ? 0 : -EINVAL;
	}
}

int mpol_new(struct mempolicy *pol, uint32_t mode, uint32_t flags, const struct nodes_given *given)
{
	int err = mode_check(&mode, flags, given->nodes || given->beyond);

	if (err)
		return err;
	*pol = (struct mempolicy){ .mode = (uint8_t)mode, .flags = (uint16_t)flags, .home = -1 };
	if (mode == MPOL_DEFAULT)
		pol->flags = 0;
	return 0;
}

int mpol_set_nodemask(struct mempolicy *pol, uint64_t given, uint64_t allowed)
{
	uint64_t nodes;

	if (pol->mode == MPOL_DEFAULT || pol->mode == MPOL_LOCAL)
		return 0;
	nodes = pol->flags & MPOL_F_RELATIVE_NODES ? relative_nodes(given, allowed) : given & allowed;
	pol->given = keeps_given(pol) ? given : allowed;
	if (!nodes)
		return -EINVAL;
	pol->nodes = pol->mode == MPOL_PREFERRED ? nodes & -nodes : nodes;
	return 0;
}

bool mpol_equal(const struct mempolicy *a, const struct mempolicy *b)
{
	return a->mode == b->mode && a->flags == b->flags && a->home == b->home && a->nodes == b->nodes &&
	       (!keeps_given(a) || a->given == b->given);
}

uint64_t mpol_shown_nodes(const struct mempolicy *pol)
{
	if (pol->mode == MPOL_DEFAULT)
		return 0;
	return keeps_given(pol) ? pol->given : pol->nodes;
}

/* ---- other nodes are allowed ---- */

static uint64_t remap(uint64_t nodes, uint64_t from, uint64_t to)
{
	uint64_t out = 0;

	for (int n = 0; n < 64; n++)
		if (nodes >> n & 1)
			out |= 1ULL << (from >> n & 1 ? nodes_remap(from, to, n) : n);
	return out;
}

void mpol_rebind(struct mempolicy *pol, uint64_t allowed)
{
	uint64_t nodes;

	if (pol->mode == MPOL_DEFAULT || pol->mode == MPOL_LOCAL || (!keeps_given(pol) && pol->given == allowed))
		return;
	if (pol->mode == MPOL_PREFERRED || pol->mode == MPOL_PREFERRED_MANY) {
		/* as the kernel: these keep their nodes, and forget the mask that was given, whatever their flags */
		pol->given = allowed;
		return;
	}
	if (pol->flags & MPOL_F_STATIC_NODES) {
		nodes = pol->given & allowed;
	} else if (pol->flags & MPOL_F_RELATIVE_NODES) {
		nodes = relative_nodes(pol->given, allowed);
	} else {
		nodes = remap(pol->nodes, pol->given, allowed);
		pol->given = allowed;
	}
	pol->nodes = nodes ? nodes : allowed;
}

/* ---- where a page shall come from ---- */

bool mpol_interleaves(const struct mempolicy *pol)
{
	return pol->mode == MPOL_INTERLEAVE || pol->mode == MPOL_WEIGHTED_INTERLEAVE;
}

static int weighted_node(uint64_t nodes, const uint8_t *weight, uint64_t index)
{
	uint64_t sum = 0;

	for (uint64_t m = nodes; m; m &= m - 1)
		sum += weight[__builtin_ctzll(m)];
	index %= sum ? sum : 1;
	for (uint64_t m = nodes;; m &= m - 1) {
		uint32_t w = weight[__builtin_ctzll(m)];

		if (index < w)
			return __builtin_ctzll(m);
		index -= w;
	}
}

struct mpol_choice mpol_choose(const struct mempolicy *pol, const uint8_t *weight, int local, uint64_t index)
{
	struct mpol_choice c = { .near = local, .nodes = ~0ULL, .interleaved = mpol_interleaves(pol) };

	switch (pol->mode) {
	case MPOL_PREFERRED:
		c.near = __builtin_ctzll(pol->nodes);
		break;
	case MPOL_BIND:
	case MPOL_PREFERRED_MANY:
		c.nodes = pol->nodes;
		c.strict = pol->mode == MPOL_BIND;
		c.near = pol->home >= 0 ? pol->home : local;
		break;
	case MPOL_INTERLEAVE:
		c.near = nodes_nth(pol->nodes, (uint32_t)(index % weight_of(pol->nodes)));
		break;
	case MPOL_WEIGHTED_INTERLEAVE:
		c.near = weighted_node(pol->nodes, weight, index);
		break;
	default:
		break;
	}
	return c;
}

/* ---- text: as numa_maps has it ---- */

static char *put(char *at, const char *end, const char *s)
{
	while (*s && at < end)
		*at++ = *s++;
	return at;
}

static char *put_number(char *at, const char *end, int n)
{
	char digit[3] = { (char)(n >= 10 ? '0' + n / 10 : '0' + n), n >= 10 ? (char)('0' + n % 10) : '\0', '\0' };

	return put(at, end, digit);
}

static char *put_nodes(char *at, const char *end, uint64_t nodes)
{
	const char *sep = "";

	for (int n = 0; n < 64; n++) {
		int last = n;

		if (!(nodes >> n & 1))
			continue;
		while (last < 63 && nodes >> (last + 1) & 1)
			last++;
		at = put_number(put(at, end, sep), end, n);
		if (last > n)
			at = put_number(put(at, end, "-"), end, last);
		sep = ",";
		n = last;
	}
	return at;
}

void mpol_text(const struct mempolicy *pol, char *buf, size_t len)
{
	static const char *const name[] = { "default", "prefer",      "bind", "interleave",
					    "local",   "prefer (many)", "weighted interleave" };
	const char *end = buf + len - 1;
	char *at = put(buf, end, name[pol->mode]);

	if (pol->flags & MPOL_F_STATIC_NODES)
		at = put(at, end, "=static");
	else if (pol->flags & MPOL_F_RELATIVE_NODES)
		at = put(at, end, "=relative");
	if (pol->flags & MPOL_F_NUMA_BALANCING)
		at = put(at, end, pol->flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES) ? "|balancing"
											     : "=balancing");
	if (pol->mode != MPOL_DEFAULT && pol->mode != MPOL_LOCAL)
		at = put_nodes(put(at, end, ":"), end, pol->nodes);
	*at = '\0';
}

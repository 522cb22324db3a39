/* SPDX-License-Identifier: MIT */
/*
 * policy - facts in, decisions out; never acts.
 *
 * Context: pure functions and plain state of the caller; no locks.
 */
#ifndef GODWIT_POLICY_H
#define GODWIT_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- nodelist.c ---- */

/* "0", "0,2", "0-3", "!1", "all" over nr nodes, as numactl has it. -EINVAL: not a list; -ENODEV: beyond nr. */
int nodelist_parse(const char *text, int nr, uint64_t *mask);

/* The n-th node of a set that has more than n, from 0. */
int nodes_nth(uint64_t mask, uint32_t n);

/* The node of to that has the rank of node in from, modulo; from has it, and to has one. */
int nodes_remap(uint64_t from, uint64_t to, int node);

/*
 * Relative placement of migrate_pages(2): where the pages of each node end, -1: where they are. The kernel goes from
 * node to node, and where the sets overlap pages may go on with those of the node that they came to; where the sets
 * are of different sizes nothing leaves a node of to.
 */
void nodes_relative(uint64_t from, uint64_t to, int dest[64]);

/* ---- mempolicy.c ---- */

/* Numbers and flags of set_mempolicy(2) and mbind(2). */
enum {
	MPOL_DEFAULT,
	MPOL_PREFERRED,
	MPOL_BIND,
	MPOL_INTERLEAVE,
	MPOL_LOCAL,
	MPOL_PREFERRED_MANY,
	MPOL_WEIGHTED_INTERLEAVE,
	MPOL_MAX,
};

#define MPOL_F_STATIC_NODES (1U << 15)
#define MPOL_F_RELATIVE_NODES (1U << 14)
#define MPOL_F_NUMA_BALANCING (1U << 13)
#define MPOL_MODE_FLAGS (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING)

/* A value: copied, not counted. MPOL_DEFAULT: none, what is around it holds. */
struct mempolicy {
	uint64_t nodes;		/* that it comes down to */
	uint64_t given;		/* static, relative: the mask that was given; else what was allowed when nodes was set */
	uint16_t flags;
	uint8_t mode;
	int8_t home;		/* set_mempolicy_home_node(2), or -1 */
};

/* A mask as a program gives it; nodes beyond 63 do not exist here, and yet it is not empty. */
struct nodes_given {
	uint64_t nodes;
	bool beyond;
};

/* Where a new page shall come from: the node of nodes that is nearest to near; else, if not strict, the nearest of all. */
struct mpol_choice {
	int near;
	uint64_t nodes;
	bool strict, interleaved;
};

/* Split the mode argument. -EINVAL: no such mode, or flags that do not go together. */
int mpol_mode(uint32_t word, uint32_t *mode, uint32_t *flags);
/* In two steps, as the kernel's checks come: by form, then by the nodes that are allowed. -EINVAL. */
int mpol_new(struct mempolicy *pol, uint32_t mode, uint32_t flags, const struct nodes_given *given);
int mpol_set_nodemask(struct mempolicy *pol, uint64_t given, uint64_t allowed);
bool mpol_equal(const struct mempolicy *a, const struct mempolicy *b);
/* The mask that get_mempolicy(2) shows. */
uint64_t mpol_shown_nodes(const struct mempolicy *pol);
/* Other nodes are allowed from now on: as a cpuset does it. */
void mpol_rebind(struct mempolicy *pol, uint64_t allowed);
/* Does the node go by the page's index? */
bool mpol_interleaves(const struct mempolicy *pol);
/* For a toucher on node local, and the page of this index (of interleaving); weight of each node. */
struct mpol_choice mpol_choose(const struct mempolicy *pol, const uint8_t *weight, int local, uint64_t index);
/* "bind=static:0-1", as in numa_maps. */
void mpol_text(const struct mempolicy *pol, char *buf, size_t len);

/* ---- steer.c ---- */

enum form { FORM_PLAIN, FORM_TRANSACTIONAL, FORMS };

/* What one form of migration has shown so far. */
struct form_record {
	uint32_t batch;		/* pages to take next time */
	uint32_t runs;
	uint32_t outliers;	/* in a row */
	uint64_t cost;		/* ns a page, all told, smoothed */
	uint64_t window;	/* ns, smoothed */
	uint64_t deviation;	/* ns, mean, smoothed */
};

/* The choice of form and batch size so that the window stays below a bound, at the least cost. */
struct steer {
	uint64_t bound;		/* ns; 0: none */
	uint32_t most;		/* pages a batch at most */
	int fixed;		/* enum form to keep to, or -1 */
	bool keep;		/* do not change the batch size */
	uint32_t turn;
	struct form_record form[FORMS];
};

void steer_init(struct steer *s, uint64_t bound_ns, uint32_t most, int fixed, bool keep);
/* The form and the number of pages of the next batch. */
enum form steer_next(struct steer *s, uint32_t *nr);
/* How it went: the window, and all that the batch took. */
void steer_learn(struct steer *s, enum form form, uint32_t nr, uint64_t window_ns, uint64_t all_ns);

#endif

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

/* ---- reclaim.c ---- */

#define AGE_MOST 15U
#define LEVEL_MOST 6U

/* Pages in use: beyond low reclaim begins, at high it ends, at min who takes more pays for it. */
struct watermarks {
	uint64_t min, low, high;
};

void watermarks_of(uint64_t limit, struct watermarks *w);
/* Until the next look. */
uint32_t reclaim_wait_ms(const struct watermarks *w, uint64_t used);
/* A page's level when it was found in use, when it was not, and the rounds that it then stays. */
uint8_t level_up(uint8_t level);
uint8_t level_down(uint8_t level);
uint8_t level_rounds(uint8_t level);
/* So many leave while a stamp of eight bits goes on by one. */
uint64_t stamp_step(uint64_t limit);
/* How many pages of a node are to be in the migration cache, where they prove whether they are in use. */
uint64_t cache_share(uint64_t limit);

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
/* What nearly all windows of a form stay below; 0: nothing is known yet. */
uint64_t steer_usual(const struct steer *s, enum form form);
/* How it went: the window, and all that the batch took. */
void steer_learn(struct steer *s, enum form form, uint32_t nr, uint64_t window_ns, uint64_t all_ns);

/* ---- profile.c: which page is used from where, by samples; how hot which range is, by a list of ranges ---- */

#define PROFILE_NODES 4		/* counted for each page; a page that more use is used from everywhere */

struct profile_page {
	uint64_t addr;
	uint32_t count[PROFILE_NODES];	/* samples from node[] */
	uint32_t rest;			/* from nodes that have no place, or from nobody knows where */
	uint32_t chain, newer, older;	/* numbers of pages; 0: none */
	uint32_t round;			/* that of the last sample */
	uint8_t node[PROFILE_NODES];
};

/*
 * Counts of pages in memory of the caller's, which bounds them: when it is full, the page whose last sample is the
 * oldest is forgotten.
 */
struct profile {
	struct profile_page *page;	/* page[0] stands for none; [1, nr] are in use */
	uint32_t *bucket;
	uint32_t nr, cap, nr_buckets, newest, oldest, round;
	uint32_t history;		/* from so many samples on the old ones count half; 0: never */
	uint64_t forgotten;
};

struct profile_rules {
	uint32_t least;		/* samples, or heat */
	uint32_t percent;	/* of the samples that a node must have; over 50, so that there is one at most */
	bool by_heat;		/* not where from, only how often */
	int hot, cold;		/* nodes; -1: what is hot, or cold, stays */
};

enum profile_verdict {
	PROFILE_MOVE,		/* to a node: it may be there already */
	PROFILE_FEW,		/* stays: too few samples */
	PROFILE_SPREAD,		/* stays: used from several nodes, none of which has the majority */
	PROFILE_KEPT,		/* stays: hot or cold, and no node was named for that */
};

/* What profile_init() takes for cap pages, zeroed. */
uint64_t profile_bytes(uint32_t cap);
void profile_init(struct profile *p, void *mem, uint32_t cap, uint32_t history);
/* Somebody on node (-1: not known) used the page, which begins at addr. */
void profile_sample(struct profile *p, uint64_t addr, int node);
/* Pages with samples since the last call of profile_round(), from 0, those of the last sample first. NULL: no more. */
const struct profile_page *profile_next(const struct profile *p, const struct profile_page *last);
void profile_round(struct profile *p);
enum profile_verdict profile_decide(const struct profile_page *page, const struct profile_rules *rules, int *node);

/* Ranges in the order of their addresses that do not overlap. */
struct heat_range {
	uint64_t start, end;
	uint32_t heat;
};

struct heat_map {
	struct heat_range *range;
	uint32_t nr, cap;
};

/* The range has this heat from now on, whatever parts of it had. -ENOSPC: no room, nothing changed. */
int heat_set(struct heat_map *map, uint64_t start, uint64_t end, uint32_t heat);
enum profile_verdict heat_decide(uint32_t heat, const struct profile_rules *rules, int *node);

#endif

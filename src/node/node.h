/* SPDX-License-Identifier: MIT */
/*
 * node - the table of nodes, what is charged to each, and the arenas that hold their free frames.
 *
 * A page of a direct node lives at its own address; the node only counts it. What the node owns are
 * the frames between two uses: an arena is a range of slots whose populated ones are free frames.
 * Nodes on the same frames (all virtual nodes; all nodes of one host node) share an arena.
 *
 * Context: callers serialise (mm's locks); charges are read without a lock.
 */
#ifndef GODWIT_NODE_H
#define GODWIT_NODE_H

#include "base/base.h"

#define NODE_MAX 64
#define NODE_NAME 32
#define NODE_VIRTUAL (-1)
#define NODE_CPUS 1024U
#define NODE_PATH 256
#define NODE_ZRAM_DISTANCE 40U	/* unless said otherwise: beyond any memory, and a file beyond that */
#define NODE_FILE_DISTANCE 80U

/* Memory is direct: a page there lies at its own address. The others are far: it is absent, and fetched when touched. */
enum node_kind { NODE_RAM, NODE_ZRAM, NODE_FILE };

struct node_spec {
	uint32_t kind;		/* enum node_kind */
	int32_t host;		/* host NUMA node of the frames, or NODE_VIRTUAL */
	uint64_t bytes;		/* capacity; 0: none */
	uint32_t distance;
	uint32_t weight;	/* of weighted interleaving; 0: 1 */
	char name[NODE_NAME];
	uint64_t cpus[NODE_CPUS / 64];	/* named for it; none: a share of those that nobody names */
	uint32_t alg;		/* of zram: 0 LZ4, 1 zstd */
	bool dedup;
	char path[NODE_PATH];	/* of a file */
};

struct node {
	struct node_spec spec;
	uint64_t pages;		/* charged, 4 KiB; changed under the lock of the caller's books */
	uint64_t in, out;	/* migrated; the same */
	/* as the kernel counts allocations; the same */
	uint64_t hit, miss, foreign, interleave_hit, local, other;
};

/* Attributes that the two sides of a move must share. */
enum arena_class { ARENA_RW, ARENA_RWX, ARENA_LOCKED, ARENA_CLASSES };

/*
 * Half of an arena: a stack of frames. Slots [0, full) are populated, the others empty, so that a run
 * of frames (the top) and a run of empty slots (above it) are always contiguous.
 */
struct half {
	uint64_t base;
	uint32_t full;
	uint32_t seen;		/* frames [seen, full) have been looked at, and are where they belong */
	uint64_t seen_until;	/* clock_ns(); nobody looks again before that */
	bool spoiled;		/* above .full lies what could not be dropped */
};

struct arena {
	int32_t host;
	enum arena_class class;
	uint64_t unit;		/* bytes of a slot: 4 KiB or 2 MiB */
	uint32_t slots;		/* of a half */
	bool mapped;		/* else only its addresses are taken */
	bool tracked;		/* for the caller to note */
	bool locked;		/* ARENA_LOCKED: mlocked now */
	bool scarce;		/* the kernel has taken frames from elsewhere, during this request */
	struct half half[2];	/* pages leave into one while frames come from the other */
};

#define ARENA_MAX 64

struct node_table {
	struct region *region;
	uint32_t nr;
	struct node node[NODE_MAX];
	uint32_t nr_cpus;	/* of the host; immutable after init */
	uint8_t cpu_node[NODE_CPUS];
	uint8_t distance[NODE_MAX][NODE_MAX];	/* the host's, between nodes bound to it; 0: as the specifications say */
	uint8_t near[NODE_MAX];	/* of each host node: the node bound to it, else the nearest that is bound; NODE_MAX: none */
	uint32_t nr_arenas;
	struct arena arena[ARENA_MAX];
};

/* ---- node.c ---- */

void node_table_init(struct node_table *t, struct region *r);
/*
 * "ram,size=1G,host=0,name=fast,distance=20,cpus=0-3,weight=1", "zram,size=1G,alg=zstd,dedup=1",
 * "file,path=/x,size=1G". 0, or -EINVAL with the offset of the bad word in *at.
 */
int node_parse(const char *text, struct node_spec *out, size_t *at);
/* The id, or -ENOSPC, -EINVAL, or for its host node as host_check() says. */
int node_add(struct node_table *t, const struct node_spec *spec);
/* Room for pages more: charge them, or false. Charges are changed under the lock of the caller's books. */
bool node_charge(struct node_table *t, int node, uint64_t pages);
/* Charge what is there anyway, full or not. */
void node_charge_force(struct node_table *t, int node, uint64_t pages);
void node_uncharge(struct node_table *t, int node, uint64_t pages);
bool node_any_host(const struct node_table *t);
bool node_far(const struct node_table *t, int node);
/* Both memory, of the same host node or of none: a page need not be copied from one to the other. */
bool node_same_frames(const struct node_table *t, int a, int b);
/* The mask of those that are memory. */
uint64_t nodes_direct(const struct node_table *t);
/* The far node that is the next behind this one by distance, which may be far itself; -1: there is none. */
int node_behind(const struct node_table *t, int node);
/* All that are memory are bound: where a page is and which node it counts on are one thing. */
bool node_all_host(const struct node_table *t);
/*
 * The node that a page counts on which the kernel says is on this host node (negative: it does not say), and which
 * counts on node, or would: that one if it agrees. A virtual node agrees with any. Else the first that is bound there;
 * else a virtual one; else the nearest.
 */
int node_true(const struct node_table *t, int node, int host);
/* The host nodes of a set of nodes. */
uint64_t nodes_to_host(const struct node_table *t, uint64_t nodes);

/* ---- cpus.c ---- */

/* Add "2" or "0-3" to a set; false: it is neither. */
bool node_parse_cpus(const char *text, size_t len, uint64_t *cpus);
/* How many CPUs this host has, those that are offline among them. */
uint32_t node_host_cpus(void);
/* After a node has come: divide the CPUs anew. */
void node_share_cpus(struct node_table *t);
/* -EINVAL: no such CPU. */
int node_of_cpu(const struct node_table *t, int cpu);
/* The mask of all that there are. */
static inline uint64_t nodes_all(const struct node_table *t)
{
	return t->nr >= NODE_MAX ? ~0ULL : (1ULL << t->nr) - 1;
}
/* 10 to itself, else the larger of the two from node 0. -ENODEV. */
int node_distance(const struct node_table *t, int from, int to);
/* The node of mask that is nearest to another, which may be in it; equal ones in the kernel's order. -1: mask is empty. */
int node_nearest(const struct node_table *t, int to, uint64_t mask);
/* Capacity, or an even share of the host's memory. */
uint64_t node_bytes(const struct node_table *t, int node);

/* ---- host.c ---- */

/* May its memory be a node's? 0, -ENODEV: there is none; -ENXIO: it has no memory; -EACCES: not in Mems_allowed. */
int host_check(int host);
uint64_t host_bytes(int host);
/* NODE_CPUS bits. */
void host_cpus(int host, uint64_t *cpus);
/* 10 to itself; 20 where it is not told. */
int host_distance(int from, int to);
/* Those that are online. */
uint64_t host_nodes(void);

/* ---- node_ram.c ---- */

/*
 * The arena for a node's frames of this class and size, mapped on first use (the caller has
 * [half 0, half 1 + its length) tracked by its mmu). NULL: no memory, no rights (mlock), or the host
 * refuses the binding; nothing is changed then, ask again.
 */
struct arena *node_arena(struct node_table *t, int node, enum arena_class class, bool huge);
uint64_t arena_start(const struct arena *a);
uint64_t arena_bytes(const struct arena *a);	/* both halves */
/* The half that has the most frames; its twin has the most room. */
struct half *arena_fuller(struct arena *a);
struct half *arena_twin(struct arena *a, struct half *h);
/*
 * No arena is locked: what was locked for a request counts against the program's limit no longer, and what
 * the program's mlockall() has locked can be used again.
 */
void node_rest(struct node_table *t);
/* Free frames, in bytes. */
uint64_t arena_free(const struct arena *a);
/* In a forked child: the arenas stayed with the parent. Keeps their addresses from being used. */
void node_forget_arenas(struct node_table *t);

#endif

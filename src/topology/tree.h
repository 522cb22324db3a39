/* SPDX-License-Identifier: MIT */
/* The files that do not change, and the places that hold them. tree.c, sweep.c: raw system calls, no engine. */
#ifndef GODWIT_TOPOLOGY_TREE_H
#define GODWIT_TOPOLOGY_TREE_H

#include "topology/text.h"

#include <godwit.h>

#include <stdbool.h>

#define PICTURE_HUGE 4

/* All that a tree shows, and so all that its name depends on. */
struct picture {
	uint32_t nr_nodes;
	uint32_t nr_cpus;		/* that are possible */
	uint64_t online[GW_MAX_CPUS / 64];
	uint8_t cpu_node[GW_MAX_CPUS];
	uint8_t distance[GW_MAX_NODES][GW_MAX_NODES];
	uint64_t total[GW_MAX_NODES];	/* bytes */
	char huge[PICTURE_HUGE][32];	/* "hugepages-2048kB": the sizes that the host has */
	uint32_t nr_huge;
};

uint64_t picture_hash(const struct picture *p);

/* "topology-HASH", for names beside it with something behind. */
#define TREE_PREFIX "topology-"
#define TREE_NAME 64

/* Fill the empty directory dir. scratch: TREE_SCRATCH bytes. 0 or -errno. */
#define TREE_SCRATCH (64UL << 10)
int tree_fill(int dir, const struct picture *p, char *scratch);

/*
 * Open a tree and hold it: a shared lock. The descriptor, -ENOENT: there is none, -EAGAIN: it is being removed, ask
 * again, -ENOTDIR and others: what is there is no tree.
 */
int tree_hold(const char *path);
/* Remove the entry name of the directory dir if it is a tree, or half of one, that nobody holds. */
void tree_remove(int dir, const char *name);

#endif

/* SPDX-License-Identifier: MIT */
/* What live files say now. live.c, process.c. */
#ifndef GODWIT_TOPOLOGY_LIVE_H
#define GODWIT_TOPOLOGY_LIVE_H

#include "topology/text.h"
#include "topology/topology.h"

/*
 * Memory that the engine never manages, for what its threads write or what is too large for a thread's stack: at least
 * bytes long if that can be had, else shorter; false: none.
 */
bool room_take(struct gw_engine *e, struct text *t, size_t bytes);
void room_give(struct gw_engine *e, struct text *t);

/*
 * Half of the room that all small files are made in, one after the other: what they say, and what the host says. Under
 * the lock of topology.c.
 */
#define HALF_BYTES (32UL << 10)

/* Add what the file says; spare: HALF_BYTES. 0, -errno, or -EXDEV: it is none of ours after all. */
int live_node(struct gw_engine *e, const struct topology_place *place, struct text *t);
int live_cpuset(struct gw_engine *e, const struct topology_place *place, struct text *t);
int live_status(struct gw_engine *e, const struct topology_place *place, struct text *t, char *spare);
/* Without the lock. */
int live_numa_maps(struct gw_engine *e, const struct topology_place *place, struct text *t);

/* A file of the host, NUL behind it. Its length, or -errno; what does not fit is left out. */
long host_read(const char *path, char *buf, size_t cap);

#endif

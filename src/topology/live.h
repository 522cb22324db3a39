/* SPDX-License-Identifier: MIT */
/* What live files say now. live.c, process.c. */
#ifndef GODWIT_TOPOLOGY_LIVE_H
#define GODWIT_TOPOLOGY_LIVE_H

#include "topology/text.h"
#include "topology/topology.h"

/*
 * Memory that the engine never manages: for what its threads write, and what is too large for a thread's stack. At
 * least bytes long if that can be had, else shorter; false: none.
 */
bool room_take(struct text *t, size_t bytes);
void room_give(struct text *t);

/* Add what the file says. 0, -errno, or -EXDEV: it is none of ours after all. */
int live_node(struct gw_engine *e, const struct topology_place *place, struct text *t);
int live_cpuset(struct gw_engine *e, const struct topology_place *place, struct text *t);
int live_numa_maps(struct gw_engine *e, const struct topology_place *place, struct text *t);
int live_status(struct gw_engine *e, const struct topology_place *place, struct text *t);

/* A file of the host, NUL behind it. Its length, or -errno; what does not fit is left out. */
long host_read(const char *path, char *buf, size_t cap);

#endif

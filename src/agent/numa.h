/* SPDX-License-Identifier: MIT */
/* Between the files of the NUMA system calls: the program's memory, and who asks. */
#ifndef GODWIT_AGENT_NUMA_H
#define GODWIT_AGENT_NUMA_H

#include "agent/agent.h"

/* False: some of it is not there. The calling thread holds no lock. */
bool read_user(void *here, uint64_t there, size_t len);
bool write_user(uint64_t there, const void *here, size_t len);
/* A node mask of nr bits as system calls take them: 0, -EINVAL, -EFAULT. */
int get_nodes(struct nodes_given *out, uint64_t there, uint64_t nr);
/* Has the thread CAP_SYS_NICE? */
bool may_move_all(uint32_t tid);

/* ---- watchful.c ---- */

/*
 * A thread is about to have this policy and these CPUs. Where that makes it matter who touches a page first, touches
 * are observed from here on. On a job's thread, with nothing held.
 */
void touch_watch(struct gw_engine *e, uint32_t tid, const struct task *has);

/* ---- numa_pages.c ---- */

long call_move_pages(struct gw_engine *e, uint32_t tid, const long a[6]);
long call_migrate_pages(struct gw_engine *e, uint32_t tid, const long a[6]);
/* The node of the page at addr as move_pages(2) says it, managed or not. */
int numa_query(struct gw_engine *e, uint64_t addr);

#endif

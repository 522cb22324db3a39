/* SPDX-License-Identifier: MIT */
/* Linux's NUMA system calls on the engine's nodes. */
#include "agent/agent.h"

#include <errno.h>

static gw_nodemask all_nodes(struct gw_engine *e)
{
	int nr = gw_node_count(e);

	return nr == 64 ? ~0ULL : (1ULL << nr) - 1;
}

gw_nodemask gw_nodes_allowed(struct gw_engine *e)
{
	return all_nodes(e);
}

long gw_nodes_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		    struct gw_migrate_result *res)
{
	(void)follow;
	(void)opt;
	(void)res;
	return !nodes || nodes & ~all_nodes(e) ? -EINVAL : nodes == all_nodes(e) ? 0 : -ENOSYS;
}

long gw_numa_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6])
{
	(void)e;
	(void)tid;
	(void)nr;
	(void)args;
	return -ENOSYS;
}

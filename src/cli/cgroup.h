/* SPDX-License-Identifier: MIT */
/* Cpusets of the kernel: groups of processes that have no engine. Messages are said; 0, or CLI_FAILED after saying why. */
#ifndef GODWIT_CLI_CGROUP_H
#define GODWIT_CLI_CGROUP_H

#include "cli.h"

#define CGROUP_PATH 1024

struct cgroups {
	int version;			/* 2, or 1 */
	char root[256];			/* where the hierarchy with the cpuset controller is mounted */
	gw_nodemask nodes;		/* of the host, that it may give */
};

/* Where it is; without one it is said why not, and the mend. */
int cgroups_find(struct cgroups *c);

/* The same without a word. */
bool cgroups_try(struct cgroups *c);

/* The cgroup of a process, below root: "/" or "/system.slice/x.service". -ESRCH, or CLI_FAILED. */
int cgroup_of(const struct cgroups *c, int pid, char path[CGROUP_PATH]);
/* May this process be taken out of its cgroup, and put back? CLI_FAILED after saying why not. */
int cgroup_may_take(const struct cgroups *c, int pid);

/* root/godwit/NAME, with these nodes. Nothing is left if it fails. */
int cgroup_make(const struct cgroups *c, const char *name, gw_nodemask nodes, bool follow);
/* Other nodes; with follow the pages of all its processes move before it returns. */
int cgroup_set(const struct cgroups *c, const char *name, gw_nodemask nodes, bool follow);
/* -ENOENT: there is no such cgroup. */
int cgroup_nodes(const struct cgroups *c, const char *name, gw_nodemask *nodes);
/* Move a process with all its threads to the cgroup at path. -ESRCH: it has ended. */
int cgroup_enter(const struct cgroups *c, const char *path, int pid);
/* Its processes, -ENOENT: no such cgroup; fn's return that is not 0 ends it. */
int cgroup_walk(const struct cgroups *c, const char *name, int (*fn)(int pid, void *arg), void *arg);
/* It goes, if nobody is in it; and root/godwit with the last one. */
void cgroup_remove(const struct cgroups *c, const char *name);
/* "/godwit/NAME". buf is returned. */
const char *cgroup_path(const char *name, char buf[CGROUP_PATH]);

/* Pages of a process by node of the host; anonymous: those of memory that is no file's. -ESRCH, -EACCES. */
int process_pages(int pid, bool anonymous, uint64_t pages[GW_MAX_NODES]);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * group - sets of processes with allowed nodes, as they stand in the runtime directory: what the command and the
 * engines of members agree on.
 *
 *   BASE/godwit/groups/NAME/nodes        the nodes, a list as numactl has it, as it was given
 *   BASE/godwit/groups/NAME/PID.START    a member: a symbolic link to the time since which it is one
 *
 * START and that time are in clock ticks since boot, as field 22 of /proc/PID/stat: a number that the kernel gives to
 * another process later is then not taken for the member. A link is there with its content or not at all.
 *
 * Context: raw system calls only, no errno, no allocation; on any thread, and in the last moment of a process. Changes
 * are made under a lock on BASE/godwit that is held for a few system calls; who cannot have it in time goes without
 * what he wanted. Readers take none: the list of nodes is replaced as a whole.
 */
#ifndef GODWIT_CONTROL_GROUP_H
#define GODWIT_CONTROL_GROUP_H

#include "control/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GROUP_LIST_MAX 256	/* a list of nodes, and its NUL */

struct group_member {
	int pid;
	uint64_t start;		/* when the process began */
	uint64_t since;		/* when it became a member */
};

/* Letters, digits, '_', '-' and '.', the first neither of the last two, GW_GROUP_SAVED at most. */
bool group_name_valid(const char *name);

/* Open a runtime directory (ctl_runtime_dir()). A descriptor or -errno. */
int groups_open(const char *dir);
/* 0, or -EAGAIN: somebody has held it for ms milliseconds. Closing dir releases it. */
int groups_lock(int dir, unsigned int ms);
void groups_unlock(int dir);
/* Walk the names of groups in any order; a return that is not 0 ends it and is returned. */
int groups_walk(int dir, int (*fn)(int dir, const char *name, void *arg), void *arg);

/* The group's nodes: 0, -ENOENT no such group, -EINVAL. */
int group_nodes(int dir, const char *name, char list[GROUP_LIST_MAX]);
/* Make the group, or give it other nodes. Lock held. */
int group_set(int dir, const char *name, const char *list);
/* Lock held. -ENOENT: no such group; 0 also for who was a member already, and since then. */
int group_enter(int dir, const char *name, const struct group_member *m);
int group_leave(int dir, const char *name, const struct group_member *m);
/* Is m (its pid and start) a member? Its since is filled in. */
bool group_has(int dir, const char *name, struct group_member *m);
/* Which group m is in: 0 or -ENOENT. */
int group_of(int dir, struct group_member *m, char name[CTL_GROUP_MAX]);
/* Walk the members in any order; a return that is not 0 ends it and is returned. */
int group_members(int dir, const char *name, int (*fn)(const struct group_member *m, void *arg), void *arg);
/* Lock held. The group is no more, if nobody is in it, also by a cgroup of the kernel's (NAME/cgroup is there then). */
void group_end(int dir, const char *name);

/* When process pid (0: the caller) began, and its parent. -ESRCH: it has ended; or what open(2) says. */
int process_times(int pid, uint64_t *start, int *parent);
/* Now, in clock ticks since boot. */
uint64_t ticks_now(void);

#endif

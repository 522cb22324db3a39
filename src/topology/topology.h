/* SPDX-License-Identifier: MIT */
/*
 * topology - the nodes as files: what a program finds at the paths where Linux has its NUMA topology.
 *
 *   /sys/devices/system/node, /sys/bus/node/devices     a tree of real files, made when first looked at
 *   /sys/devices/system/cpu/cpuN, .../cpuN/nodeM        in the same tree
 *   nodeN/{meminfo,numastat,vmstat}, hugepages          live: made anew each time they are opened
 *   /proc/PID/{numa_maps,status}, also of a thread      live
 *   cpuset.mems of the process's own group              live
 *
 * The tree is RUNTIME_DIR/godwit/topology-HASH, the hash being that of all it shows. Who uses it holds a
 * shared lock (flock) on it, with a descriptor of the service thread; a tree that nobody holds is rubbish,
 * and the next process that starts removes it.
 *
 * Context: what takes an engine may sleep, sets no errno, takes nothing from libc's allocator and has at
 * most 4 KiB of locals. Signals are blocked while the lock of this room is held, so finding and opening may
 * be done in a signal handler, numa_maps apart.
 */
#ifndef GODWIT_TOPOLOGY_H
#define GODWIT_TOPOLOGY_H

#include <godwit.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOPOLOGY_PATH 512	/* bytes of a path, NUL included; longer ones are none of ours */

enum topology_kind {
	TOPOLOGY_NONE,
	TOPOLOGY_TREE,		/* of the tree, and what it says there is all */
	TOPOLOGY_MEMINFO,	/* of the tree, live */
	TOPOLOGY_NUMASTAT,
	TOPOLOGY_VMSTAT,
	TOPOLOGY_HUGEPAGES,
	TOPOLOGY_NUMA_MAPS,	/* of /proc */
	TOPOLOGY_STATUS,
	TOPOLOGY_CPUSET,	/* of a cgroup */
};

struct topology_place {
	enum topology_kind kind;
	int node;		/* live files of the tree */
	int pid, tid;		/* files of /proc; 0: self, none; -1: thread-self */
	char path[TOPOLOGY_PATH];	/* where to go instead; absolute */
};

/* ---- path.c: no system call, no engine ---- */

bool topology_may_relative(const char *path);

/* Could it be a path of ours? Quick to say no. */
static inline bool topology_may(const char *path)
{
	if (!path)
		return false;
	if (*path != '/')
		return topology_may_relative(path);
	while (*path == '/' || (path[0] == '.' && path[1] == '/'))
		path++;
	if (path[0] == 's')
		return path[1] == 'y' && path[2] == 's' && path[3] == '/';
	return path[0] == 'p' && path[1] == 'r' && path[2] == 'o' && path[3] == 'c' && path[4] == '/';
}

/*
 * The absolute path that rel is beside base (NULL: rel is absolute), without "//", "." and "..", into
 * TOPOLOGY_PATH bytes; a node's link in a CPU's directory is followed where ".." stands behind it. False: too long.
 */
bool topology_canonical(char *out, const char *base, const char *rel);

/* What a canonical path is. Fills all but .path. */
void topology_classify(const char *path, struct topology_place *out);

/* If path leads into a tree, any process's, make it what it stands for ("/sys/..."). */
bool topology_reverse(char *path);

/* ---- area.c: no system call, no engine ---- */

#define TOPOLOGY_LINE 4096

/*
 * The line of a mapping in /proc/PID/numa_maps with its newline, into TOPOLOGY_LINE bytes; returns its length. more:
 * with the fields that are godwit's own, thp= and swapped=, and in octal also what a terminal would obey.
 */
size_t topology_area_line(const struct gw_area *area, bool more, char *buf);

/* ---- topology.c ---- */

/*
 * The place of a path, relative ones to dirfd (AT_FDCWD or a descriptor). 1: it is ours, see *out; 0: it is not;
 * -errno: it would be, but the tree cannot be made: the host's stands.
 */
int topology_find(struct gw_engine *e, int dirfd, const char *path, struct topology_place *out);

/*
 * Open it; flags as of open(2). A descriptor, -errno, or -EXDEV: it is the host's after all (another process's file in
 * /proc, and nothing of ours manages it; a file that is not to be read): open .path as it is.
 */
int topology_open(struct gw_engine *e, const struct topology_place *place, int flags);

/* Remove what nobody uses. dir: RUNTIME_DIR/godwit. */
void topology_sweep(const char *dir);
/*
 * The same for the directory that this process would use. Before main(), so that a process that an exec has left inside
 * of a tree stays there.
 */
void topology_begin(struct gw_engine *e);
/* The process is about to exit: leave the tree, and remove it if nobody else is in it. */
void topology_end(struct gw_engine *e);

#endif

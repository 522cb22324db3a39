/* SPDX-License-Identifier: MIT */
/*
 * The words on the control socket. Both ends are of one machine and one user: native byte order,
 * fixed sizes. A message is a header and len bytes. The client says HELLO first and every request
 * is answered by zero or more PROGRESS / AREA / STATUS messages and one closing message: the
 * request's own answer, or ERROR. A client that goes away cancels what it asked for.
 */
#ifndef GODWIT_CONTROL_PROTOCOL_H
#define GODWIT_CONTROL_PROTOCOL_H

#include <godwit.h>
#include <stdint.h>

#define CTL_MAGIC 0x54495747U	/* "GWIT" */
#define CTL_VERSION 2U
#define CTL_LEN_MAX (1U << 16)	/* longest message */
#define CTL_GROUP_MAX (GW_GROUP_SAVED + 1)	/* a group's name, and its NUL */
#define CTL_NO_NODE 255
#define CTL_MOVE_MAX 2048U	/* entries of one MOVE message: split longer lists */

/* In the upper half of a NUMA call's sixth argument: the engine's own, for the kernel. base's SYS_NUMA_REAL. */
#define CTL_NUMA_REAL 0x676f6477U

enum ctl_type {
	/* client to engine */
	CTL_HELLO = 1,		/* no body */
	CTL_STAT,		/* no body */
	CTL_AREAS,		/* no body */
	CTL_MIGRATE,		/* struct ctl_migrate */
	CTL_MOVE,		/* struct ctl_move, then ctl_move.count struct ctl_move_entry */
	CTL_CANCEL,		/* no body, no answer of its own: the running job's RESULT comes early */
	CTL_CALL,		/* struct ctl_call */
	CTL_ALLOW,		/* struct ctl_allow: answered as MIGRATE */
	/* engine to client */
	CTL_HELLO_OK = 64,	/* struct ctl_hello */
	CTL_STAT_OK,		/* struct ctl_stat */
	CTL_AREA,		/* struct ctl_area: one for every mapping, then AREAS_END */
	CTL_AREAS_END,		/* no body */
	CTL_PROGRESS,		/* struct gw_migrate_result, about every 100 ms */
	CTL_RESULT,		/* struct gw_migrate_result: the closing answer of MIGRATE and ALLOW */
	CTL_STATUS,		/* the closing answer of MOVE: struct ctl_status, then count int32_t */
	CTL_ERROR,		/* struct ctl_error */
	CTL_CALL_OK,		/* struct ctl_called: the closing answer of CALL */
};

struct ctl_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t len;		/* of the body */
	uint32_t zero;
};

struct ctl_hello {
	uint32_t pid;
	uint32_t nr_nodes;
	struct gw_node_info node[GW_MAX_NODES];
	char comm[16];
	uint8_t cpu_node[GW_MAX_CPUS];	/* the node of each CPU of the host; CTL_NO_NODE: there is no such CPU */
};

struct ctl_stat {
	uint32_t nr_nodes, zero;
	struct gw_node_info node[GW_MAX_NODES];
	struct gw_stats stats;
};

/* struct gw_area without the nodes that have nothing */
struct ctl_area {
	struct gw_area area;
};

struct ctl_migrate {
	uint64_t from, to;	/* node masks */
	struct gw_migrate_options opt;
};

struct ctl_allow {
	uint64_t nodes;		/* the mask that is allowed from now on */
	uint32_t follow;	/* 1: the pages move along */
	uint32_t zero;
	struct gw_migrate_options opt;
	char group[CTL_GROUP_MAX];	/* of which the process is a member from now on; "": of none */
};

struct ctl_move {
	uint32_t count;		/* at most CTL_MOVE_MAX */
	uint32_t query;		/* 1: only ask; the entries' nodes are ignored */
	struct gw_migrate_options opt;
};

struct ctl_move_entry {
	uint64_t addr;
	int32_t node, zero;
};

struct ctl_status {
	uint32_t count, zero;
	int64_t ret;		/* as gw_move_pages() */
};

/* A NUMA system call of the engine's process that did not go through libc: see gw_numa_call(). */
struct ctl_call {
	uint32_t tid, zero;	/* the thread that made it */
	int64_t nr;
	int64_t args[6];	/* pointers are the process's own */
};

struct ctl_called {
	int64_t ret;		/* what the system call returns: a value or a negative errno */
};

struct ctl_error {
	int32_t err;		/* negative errno */
	char text[124];
};

#endif

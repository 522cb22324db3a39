/* SPDX-License-Identifier: MIT */
/*
 * Who acts on a process: its engine, or the kernel for any process. Commands that can do both ask here.
 */
#ifndef GODWIT_CLI_VIA_H
#define GODWIT_CLI_VIA_H

#include "cli.h"
#include "kernel/kernel.h"

enum via { VIA_AUTO, VIA_ENGINE, VIA_KERNEL };

/* ---------------------------------------------------------------- via.c ---- */

/* The row of --via for the table of options. */
#define VIA_OPTION { OPT_VIA, 0, "via", "WHO", "engine, kernel, or auto: the engine if there is one", 0, 0 }

/* And that of --attach, for commands that act. */
#define ATTACH_OPTION { OPT_ATTACH, 0, "attach", NULL, "attach first to a process without an engine", 0, 0 }

/* One end of a command: an engine's session, or a process as the kernel shows it. */
struct actor {
	enum via via;			/* VIA_ENGINE or VIA_KERNEL */
	int pid;
	struct session session;		/* VIA_ENGINE */
	struct kernel_target target;	/* VIA_KERNEL */
	struct kernel_host host;	/* VIA_KERNEL */
	uint32_t stall_us_max;		/* VIA_KERNEL; 0: the default */
};

#define ACTOR_NONE { .session.client.fd = -1, .target.pagemap = -1, .target.maps = -1 }

/* Find who acts on the process named by text. 0, or CLI_FAILED after saying why. Closed by actor_close() in any case. */
int actor_open(struct actor *a, const struct cli_args *args, const char *text);
void actor_close(struct actor *a);
/* "engine" or "kernel" */
const char *via_name(enum via via);
/* Say why a process cannot be looked at, or that it has gone (-errno of a function of the kernel room). CLI_FAILED. */
int refusal_say(const struct kernel_target *t, enum kernel_refusal why);
int kernel_error(const struct kernel_target *t, int err);

/*
 * Nodes, CPUs and the process of an actor by the kernel where those of an engine are looked for; stall_us_max: of
 * kernel_move_run(), 0: its default.
 */
void host_hello(struct actor *a, uint32_t stall_us_max);
/* A list of nodes of the host; to: pages shall come to them. */
int host_nodes(const struct actor *a, const char *list, bool to, uint64_t *out);
/* May the process have pages on these? */
int host_allows(const struct actor *a, uint64_t to);

/* ---------------------------------------------------------------- via_*.c: what commands do by the kernel ---- */

int kernel_migrate_run(const struct cli_args *args, struct actor *a);
/* cli_maps.c: an area as JSON, whoever has looked at it. */
void maps_print_json(const struct gw_area *area, const char *kind);
int kernel_maps_run(const struct cli_args *args, struct actor *a);
int kernel_stat_run(const struct cli_args *args, struct actor *a);

/* Pages of a process by host node and kind. */
struct node_counts {
	uint64_t pages[KERNEL_NODES][KERNEL_KINDS];
	uint64_t shared[KERNEL_NODES];	/* of them, mapped by others too */
	uint64_t swapped;
};

/* 0 or -errno. */
int node_counts(struct kernel_target *t, bool sharing, struct node_counts *out);
uint64_t node_counts_sum(const struct node_counts *c, int node);

/* The processes that have no engine, for ps --all. managed says which have one. */
void ps_unmanaged(bool json, bool (*managed)(void *arg, int pid), void *arg);

/* Move single pages, or ask: status[i] becomes a node or -errno. 0, or CLI_FAILED after saying why. */
struct page_request {
	uint64_t addr;
	int32_t node;
};

/* May that line's node be asked for? 0, or CLI_FAILED after saying why. */
int kernel_move_check(const struct actor *a, size_t line, int32_t node);
int kernel_move_run(struct actor *a, const struct page_request *pages, uint32_t nr, bool query, int32_t *status);

#endif

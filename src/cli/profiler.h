/* SPDX-License-Identifier: MIT */
/* A profiler's log carried out: pages move to where they are used. */
#ifndef GODWIT_CLI_PROFILER_H
#define GODWIT_CLI_PROFILER_H

#include "accesslog.h"
#include "cli.h"
#include "policy/policy.h"
#include "source.h"

#define PROFILER_TASKS 1024	/* threads that are known to be the process's or not; a power of 2 */
#define PROFILER_BLOCKS 4096	/* that are known to be huge pages or not; a power of 2 */
#define WHY_TEXT 200

struct actor;

struct profiler_area {
	uint64_t start, end;
};

struct profiler_task {
	int32_t tid;
	bool ours;
};

/* 2 MiB of addresses, and whether they are one huge page. */
struct profiler_block {
	uint64_t addr;
	bool known, huge;
};

/* What the log had. */
struct profiler_counts {
	uint64_t lines, samples, ranges, others, no_data, bad;
	size_t first_bad, first_no_data;	/* line numbers; 0: none */
	char why_bad[WHY_TEXT], why_no_data[WHY_TEXT];
};

/* What became of the pages, each counted once in every batch that has it. */
struct profiler_pages {
	uint64_t wanted;	/* that belong somewhere */
	uint64_t already;	/* of them, there already */
	uint64_t gone;		/* not present any more, or never written */
	uint64_t unmanaged;
	uint64_t moved, failed;
	uint64_t few, spread, kept;
	uint64_t to[GW_MAX_NODES];	/* moved, or in a dry run: to be moved */
	uint64_t errors[GW_ERRNO_MAX];
};

struct profiler {
	/* as the caller has set them */
	struct actor *a;
	struct session *s;	/* of .a: for its process, nodes and statuses also without an engine */
	struct source *src;
	struct gw_migrate_options opt;
	struct profile_rules rules;
	int64_t target;			/* DAMON's; -1: the only one */
	uint32_t most_pages;
	uint32_t interval_ms;		/* of batches; 0: one batch, when the log ends */
	bool dry, json, quiet, progress, strict;

	struct log_parser parser;
	struct profile pages;
	struct heat_map map;
	void *memory;
	struct profiler_area *areas;
	size_t nr_areas;
	struct profiler_task task[PROFILER_TASKS];
	struct profiler_block block[PROFILER_BLOCKS];
	int pagemap;			/* descriptor; -1: what is huge cannot be seen */
	struct ctl_move_entry order[CTL_MOVE_MAX];
	uint16_t pages_of[CTL_MOVE_MAX];	/* of the order: 512 of a huge page's first one */
	uint32_t nr_orders;
	int signals, process;		/* descriptors */
	bool cancelled, ended;		/* by a signal; with the process */
	bool shown;			/* a line of progress is on the terminal */
	uint64_t began, batches;
	struct profiler_counts counts;
	struct profiler_pages all, now;	/* since the beginning; in this batch */
};

/* The whole command, once the caller's fields are set: an exit status. */
int profiler_run(struct profiler *p);

/* ---- profiler_move.c ---- */

/* Where the page begins that is moved with addr: a huge page moves whole, and all samples of it are one page's. */
uint64_t profiler_page(struct profiler *p, uint64_t addr);
/* The page that begins at addr belongs on node; carried out when there are enough of them. */
int profiler_want(struct profiler *p, uint64_t addr, int node);
/* Now. */
int profiler_carry_out(struct profiler *p);
/* The same for all of a range that is managed, as far as its pages are present. */
int profiler_want_range(struct profiler *p, const struct heat_range *range, int node);
/* Has a signal come, or has the process ended? Waits for that, and for the source if it is no file. */
bool profiler_stopped(struct profiler *p, int wait_ms);

/* ---- profiler_report.c ---- */

void profiler_report(const struct profiler *p);
/* One line of JSON for a batch. */
void profiler_report_batch(const struct profiler *p);
void profiler_show_progress(struct profiler *p);
void profiler_hide_progress(struct profiler *p);

/* ---- cli_move.c ---- */

/* Move pages, or ask where they are: at most CTL_MOVE_MAX. Their statuses are in the session's message. */
int move_pages_of(struct session *s, const struct ctl_move_entry *entries, uint32_t nr, bool query,
		  const struct gw_migrate_options *opt);

#endif

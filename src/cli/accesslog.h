/* SPDX-License-Identifier: MIT */
/* What profilers write about memory, line by line. Pure: texts in, facts out. */
#ifndef GODWIT_CLI_ACCESSLOG_H
#define GODWIT_CLI_ACCESSLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_format {
	LOG_AUTO,	/* not known yet: that of the first line that is understood */
	LOG_PLAIN,	/* "ADDRESS NODE" */
	LOG_PERF,	/* perf script, of samples with data addresses */
	LOG_MEMTIERD,	/* memtierd: tracker -dump raw new, tracker -counters, policy -dump heatmap */
	LOG_DAMON,	/* the tracepoint damon_aggregated, by perf script or from a trace file; damo's raw form */
	LOG_FORMATS
};

enum log_kind {
	LOG_NOTHING,	/* a comment, a headline, a frame of a call chain */
	LOG_SAMPLE,	/* somebody used the page at addr */
	LOG_RANGE,	/* [start, end) is so hot */
	LOG_NO_DATA,	/* understood, but there is no data address of user space in it */
	LOG_BAD,	/* not understood: why */
};

struct log_entry {
	enum log_kind kind;
	size_t number;		/* of its line, from 1 */
	const char *why;	/* LOG_BAD, LOG_NO_DATA */
	uint64_t start, end;	/* LOG_SAMPLE: end is 0 */
	int32_t pid, tid;	/* whose; -1: it does not say */
	int32_t cpu, node;	/* from where; -1: it does not say */
	int64_t target;		/* DAMON's number of whom it watched; -1: it does not say */
	uint32_t heat;
};

struct log_parser {
	enum log_format format;
	size_t number;		/* lines so far */
	bool in_chain;		/* the lines that follow may be frames of a call chain */
	bool in_doubt;		/* of the last line only the next one tells what its address is */
	struct log_entry doubt;
	int64_t target;		/* damo says it once, above the ranges */
};

#define LOG_ENTRIES 2	/* that one line may bring: one that was in doubt, and its own */

/* "auto", "perf" ...: LOG_FORMATS if it is none. */
enum log_format log_format_parse(const char *name);
const char *log_format_name(enum log_format format);

void log_begin(struct log_parser *p, enum log_format format);
/* The next line, without its end. Returns how many entries it brought. */
int log_line(struct log_parser *p, const char *text, struct log_entry out[LOG_ENTRIES]);
/* There is no further line: what was in doubt. */
int log_end(struct log_parser *p, struct log_entry out[LOG_ENTRIES]);

#endif

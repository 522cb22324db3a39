/* SPDX-License-Identifier: MIT */
/*
 * What a profiler's log said, and what became of its pages: as text, as JSON, and as a line on the terminal.
 */
#define _GNU_SOURCE 1
#include "profiler.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static double seconds(const struct profiler *p)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9 - (double)p->began / 1000;
}

/* ---------------------------------------------------------------- progress ---- */

void profiler_show_progress(struct profiler *p)
{
	char line[160];

	if (!p->progress)
		return;
	snprintf(line, sizeof(line), "%" PRIu64 " lines  %" PRIu64 " pages moved, %" PRIu64 " stayed  %.0f s",
		 p->counts.lines, p->all.moved + p->now.moved, p->all.failed + p->now.failed, seconds(p));
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
	p->shown = true;
}

void profiler_hide_progress(struct profiler *p)
{
	if (p->shown)
		result_progress_end();
	p->shown = false;
}

/* ---------------------------------------------------------------- text ---- */

static void print_to(const struct profiler_pages *n)
{
	for (int node = 0; node < GW_MAX_NODES; node++)
		if (n->to[node])
			printf(" %d:%" PRIu64, node, n->to[node]);
	putchar('\n');
}

static uint64_t sum_to(const struct profiler_pages *n)
{
	uint64_t sum = 0;

	for (int node = 0; node < GW_MAX_NODES; node++)
		sum += n->to[node];
	return sum;
}

static void print_log(const struct profiler *p)
{
	const struct profiler_counts *c = &p->counts;

	printf("%-12s %s, %" PRIu64 " lines: %" PRIu64 " %s of PID %d, %" PRIu64 " of others", "log",
	       log_format_name(p->parser.format), c->lines, c->samples + c->ranges, c->ranges ? "ranges" : "samples",
	       p->s->pid, c->others);
	if (c->no_data)
		printf(", %" PRIu64 " without an address of data", c->no_data);
	putchar('\n');
	if (c->bad)
		printf("%s%-12s%s %" PRIu64 " lines, the first is line %zu: %s\n", tone_begin(TONE_BAD), "bad",
		       tone_end(TONE_BAD), c->bad, c->first_bad, c->why_bad);
	if (p->pages.forgotten)
		printf("%-12s %" PRIu64 " pages, for there were more than %u: see --pages\n", "forgotten",
		       p->pages.forgotten, p->most_pages);
}

static void print_pages(const struct profiler *p)
{
	const struct profiler_pages *n = &p->all;
	char size[SIZE_TEXT];
	uint64_t away = sum_to(n);

	printf("%-12s %" PRIu64 " (%s)%s", p->dry ? "would move" : "moved", away, size_text(away * GW_PAGE_SIZE, size),
	       away ? ", to nodes" : "");
	print_to(n);
	printf("%-12s %" PRIu64 " pages are where they belong\n", "in place", n->already);
	if (n->few)
		printf("%-12s %" PRIu64 " pages stay: fewer than %u samples\n", "seldom", n->few, p->rules.least);
	if (n->spread)
		printf("%-12s %" PRIu64 " pages stay: no node has %u %% of the samples\n", "spread", n->spread,
		       p->rules.percent);
	if (n->kept)
		printf("%-12s %" PRIu64 " pages stay: no node was given for them\n", "left alone", n->kept);
	if (n->gone)
		printf("%-12s %" PRIu64 " pages are not present\n", "gone", n->gone);
	if (n->unmanaged)
		printf("%-12s %" PRIu64 " pages: files, stacks, shared or excluded memory\n", "not managed",
		       n->unmanaged);
}

static void print_failed(const struct profiler_pages *n)
{
	struct gw_migrate_result res = { .size = sizeof(res) };

	memcpy(res.failed, n->errors, sizeof(res.failed));
	result_print_failed(&res, "stayed");
}

/* ---------------------------------------------------------------- JSON ---- */

static void json_pages(cJSON *object, const struct profiler_pages *n, bool dry)
{
	cJSON *list;
	char key[16], name[ERRNO_TEXT];

	json_add_u64(object, "pages_wanted", n->wanted);
	json_add_u64(object, "pages_in_place", n->already);
	json_add_u64(object, "pages_would_move", dry ? sum_to(n) : 0);
	json_add_u64(object, "pages_moved", n->moved);
	json_add_u64(object, "pages_failed", n->failed);
	json_add_u64(object, "pages_gone", n->gone);
	json_add_u64(object, "pages_unmanaged", n->unmanaged);
	json_add_u64(object, "pages_seldom", n->few);
	json_add_u64(object, "pages_spread", n->spread);
	json_add_u64(object, "pages_left_alone", n->kept);
	list = json_add_object(object, "to");
	for (int node = 0; node < GW_MAX_NODES; node++) {
		snprintf(key, sizeof(key), "%d", node);
		if (n->to[node])
			json_add_u64(list, key, n->to[node]);
	}
	list = json_add_object(object, "failed");
	for (int err = 0; err < GW_ERRNO_MAX; err++)
		if (n->errors[err])
			json_add_u64(list, errno_name(err, name), n->errors[err]);
}

static cJSON *json_begin(const struct profiler *p, const char *event)
{
	const struct profiler_counts *c = &p->counts;
	cJSON *object = json_object();

	json_add_text(object, "event", event);
	json_add_u64(object, "pid", (uint64_t)p->s->pid);
	json_add_text(object, "format", log_format_name(p->parser.format));
	json_add_u64(object, "lines", c->lines);
	json_add_u64(object, "samples", c->samples);
	json_add_u64(object, "ranges", c->ranges);
	json_add_u64(object, "lines_of_others", c->others);
	json_add_u64(object, "lines_without_address", c->no_data);
	json_add_u64(object, "lines_bad", c->bad);
	json_add_u64(object, "pages_forgotten", p->pages.forgotten);
	json_add_u64(object, "batches", p->batches);
	json_add_real(object, "seconds", seconds(p), 3);
	json_add_bool(object, "dry_run", p->dry);
	return object;
}

void profiler_report_batch(const struct profiler *p)
{
	cJSON *object = json_begin(p, "batch");

	json_pages(object, &p->now, p->dry);
	json_print(object, stdout);
	fflush(stdout);
}

void profiler_report(const struct profiler *p)
{
	cJSON *object, *bad;

	if (!p->json) {
		print_log(p);
		print_pages(p);
		print_failed(&p->all);
		if (p->cancelled && !p->interval_ms)
			printf("%-12s before all of the log was carried out\n", "cancelled");
		if (p->ended)
			printf("%-12s PID %d has ended\n", "end", p->s->pid);
		return;
	}
	object = json_begin(p, "end");
	json_pages(object, &p->all, p->dry);
	if (p->counts.bad) {
		bad = json_add_object(object, "first_bad");
		json_add_u64(bad, "line", p->counts.first_bad);
		json_add_text(bad, "why", p->counts.why_bad);
	} else {
		json_add_null(object, "first_bad");
	}
	json_add_bool(object, "cancelled", p->cancelled);
	json_add_bool(object, "process_ended", p->ended);
	json_print(object, stdout);
}

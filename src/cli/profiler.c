/* SPDX-License-Identifier: MIT */
/*
 * A profiler's log is read line by line, what it says of one process is counted, and the policy decides where each page
 * belongs: when the log ends, or each time the interval is over.
 */
#define _GNU_SOURCE 1
#include "profiler.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RANGES (64U << 10)
#define SAID_BAD 5	 /* lines that are named; the others are counted */
#define FILE_POLL_MS 100 /* how often a file is looked at that may grow */
#define DONE (-1)	 /* of a step: go on */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- batches ---- */

static int decide_pages(struct profiler *p)
{
	const struct profile_page *page = NULL;
	int err = 0, node;

	while (!err && (page = profile_next(&p->pages, page))) {
		switch (profile_decide(page, &p->rules, &node)) {
		case PROFILE_MOVE:
			err = profiler_want(p, page->addr, node);
			break;
		case PROFILE_FEW:
			p->now.few++;
			break;
		case PROFILE_SPREAD:
			p->now.spread++;
			break;
		case PROFILE_KEPT:
			p->now.kept++;
			break;
		}
	}
	profile_round(&p->pages);
	return err;
}

static int decide_ranges(struct profiler *p)
{
	int err = 0, node;

	for (uint32_t i = 0; i < p->map.nr && !err; i++)
		if (heat_decide(p->map.range[i].heat, &p->rules, &node) == PROFILE_MOVE)
			err = profiler_want_range(p, &p->map.range[i], node);
	p->map.nr = 0;
	free(p->areas); /* the next batch looks anew */
	p->areas = NULL;
	p->nr_areas = 0;
	return err;
}

static void add_up(struct profiler_pages *all, const struct profiler_pages *now)
{
	all->wanted += now->wanted;
	all->already += now->already;
	all->gone += now->gone;
	all->unmanaged += now->unmanaged;
	all->moved += now->moved;
	all->failed += now->failed;
	all->few += now->few;
	all->spread += now->spread;
	all->kept += now->kept;
	for (int n = 0; n < GW_MAX_NODES; n++)
		all->to[n] += now->to[n];
	for (int err = 0; err < GW_ERRNO_MAX; err++)
		all->errors[err] += now->errors[err];
}

/* What the log has said so far is carried out. */
static int batch(struct profiler *p)
{
	bool any = p->map.nr || profile_next(&p->pages, NULL);
	int err = 0;

	memset(&p->now, 0, sizeof(p->now));
	memset(p->task, 0, sizeof(p->task));
	memset(p->block, 0, sizeof(p->block));
	if (any) {
		err = decide_pages(p);
		if (!err)
			err = decide_ranges(p);
		if (!err)
			err = profiler_carry_out(p);
		p->nr_orders = 0;
		p->batches++;
		add_up(&p->all, &p->now);
		if (p->interval_ms && p->json && !p->quiet)
			profiler_report_batch(p);
	}
	profiler_show_progress(p);
	return err;
}

/* ---------------------------------------------------------------- lines ---- */

static int __attribute__((format(printf, 3, 4))) bad_line(struct profiler *p, size_t number, const char *format, ...)
{
	struct profiler_counts *c = &p->counts;
	char why[WHY_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (!c->bad++) {
		c->first_bad = number;
		memcpy(c->why_bad, why, sizeof(why));
	}
	profiler_hide_progress(p);
	if (p->strict)
		return say_error("line %zu: %s", number, why);
	if (c->bad <= SAID_BAD && !p->quiet)
		say_note("line %zu: %s", number, why);
	if (c->bad == SAID_BAD && !p->quiet)
		say_note("further lines that are not understood are only counted");
	return DONE;
}

/* Threads come and go: what was found out holds for one batch. */
static bool is_thread(struct profiler *p, int32_t tid)
{
	struct profiler_task *t = &p->task[(uint32_t)tid % PROFILER_TASKS];
	char path[64];

	if (tid <= 0 || t->tid == tid)
		return tid > 0 && t->ours;
	t->tid = tid;
	snprintf(path, sizeof(path), "/proc/%d/task/%d", p->s->pid, tid);
	t->ours = tid == p->s->pid || access(path, F_OK) == 0;
	return t->ours;
}

static bool is_ours(struct profiler *p, const struct log_entry *e)
{
	if (e->pid >= 0)
		return e->pid == p->s->pid;
	return e->tid < 0 || is_thread(p, e->tid);
}

/* What DAMON watched is a number; with two of them it is not clear whose memory a range is. */
static int check_target(struct profiler *p, const struct log_entry *e, int64_t *seen)
{
	if (e->target < 0 || p->target >= 0)
		return DONE;
	if (*seen < 0)
		*seen = e->target;
	if (*seen == e->target)
		return DONE;
	return say_error("line %zu: DAMON watched targets %" PRId64 " and %" PRId64
			 ": say with --target which is PID %d",
			 e->number, *seen, e->target, p->s->pid);
}

static int take_range(struct profiler *p, const struct log_entry *e)
{
	int err;

	if (!p->rules.by_heat)
		return say_error("line %zu: a list of ranges tells how hot they are, not which node uses them: "
				 "give --hot NODE, --cold NODE, or both",
				 e->number);
	p->counts.ranges++;
	if (heat_set(&p->map, e->start, e->end, e->heat) == 0)
		return DONE;
	/* too many for one batch: the last word on each page is still the last */
	err = batch(p);
	if (!err)
		heat_set(&p->map, e->start, e->end, e->heat);
	return err ? err : DONE;
}

static int take_sample(struct profiler *p, const struct log_entry *e)
{
	const struct ctl_hello *hello = &p->s->client.hello;
	int node = e->node;

	if (!p->rules.by_heat && node < 0) {
		if (e->cpu < 0)
			return bad_line(p, e->number,
					"a sample without a CPU, which tells the node: record with 'perf record -a' "
					"or '--sample-cpu', print with 'perf script -F +cpu', or give --hot NODE");
		node = e->cpu < GW_MAX_CPUS ? hello->cpu_node[e->cpu] : CTL_NO_NODE;
		if (node == CTL_NO_NODE)
			return bad_line(p, e->number, "CPU %d: this machine has no such CPU", e->cpu);
	}
	if (node >= (int)hello->nr_nodes)
		return bad_line(p, e->number, "node %d: PID %d has nodes 0-%u", node, p->s->pid, hello->nr_nodes - 1);
	p->counts.samples++;
	profile_sample(&p->pages, profiler_page(p, e->start), p->rules.by_heat ? -1 : node);
	return DONE;
}

static int take(struct profiler *p, const struct log_entry *e, int64_t *seen)
{
	int status;

	if (e->kind == LOG_BAD)
		return bad_line(p, e->number, "%s", e->why);
	if (!is_ours(p, e) || (p->target >= 0 && e->target >= 0 && e->target != p->target)) {
		p->counts.others++;
		return DONE;
	}
	if (e->kind == LOG_NO_DATA) {
		if (!p->counts.no_data++) {
			p->counts.first_no_data = e->number;
			snprintf(p->counts.why_no_data, WHY_TEXT, "%s", e->why);
		}
		return DONE;
	}
	status = check_target(p, e, seen);
	if (status != DONE)
		return status;
	return e->kind == LOG_RANGE ? take_range(p, e) : take_sample(p, e);
}

/* All whole lines that are there; at the log's end what was in doubt too. */
static int take_lines(struct profiler *p, int64_t *seen)
{
	struct log_entry entries[LOG_ENTRIES];
	int status = DONE;
	char *line;
	bool cut;

	while (status == DONE && (line = source_line(p->src, &cut))) {
		int nr = log_line(&p->parser, line, entries);

		p->counts.lines++;
		if (cut && nr && entries[nr - 1].kind != LOG_BAD)
			entries[nr - 1].kind = LOG_BAD;
		if (cut && nr)
			entries[nr - 1].why = "the line is longer than 64 KiB";
		for (int i = 0; i < nr && status == DONE; i++)
			status = take(p, &entries[i], seen);
	}
	if (status == DONE && p->src->ended && log_end(&p->parser, entries))
		status = take(p, &entries[0], seen);
	return status;
}

/* ---------------------------------------------------------------- the log ---- */

static int read_log(struct profiler *p)
{
	uint64_t due = now_ms() + p->interval_ms;
	int64_t seen = -1;

	for (;;) {
		int got = source_fill(p->src), status = DONE, wait = got > 0 ? 0 : FILE_POLL_MS;

		if (got < 0)
			return say_error("cannot read '%s': %s", p->src->name, strerror(-got));
		if (p->src->shortened) {
			p->src->shortened = false;
			profiler_hide_progress(p);
			say_note("'%s' was shortened: read from its beginning", p->src->name);
		}
		status = take_lines(p, &seen);
		if (status == DONE && p->interval_ms && now_ms() >= due) {
			status = batch(p);
			status = status ? status : DONE;
			due = now_ms() + p->interval_ms;
		}
		if (status != DONE)
			return status;
		if (p->src->ended || profiler_stopped(p, p->src->ended ? 0 : wait))
			return batch(p);
	}
}

static int prepare(struct profiler *p)
{
	/* from so many samples of a page on, the old ones fade: a page may be used from elsewhere by and by */
	const uint32_t history = p->interval_ms ? 64 : 0;
	uint64_t bytes = profile_bytes(p->most_pages);
	char path[64];

	p->memory = calloc(1, bytes);
	p->map = (struct heat_map){ .range = calloc(RANGES, sizeof(struct heat_range)), .cap = RANGES };
	if (!p->memory || !p->map.range)
		return say_error("out of memory: --pages %u takes %" PRIu64 " MB", p->most_pages, bytes / 1000000);
	profile_init(&p->pages, p->memory, p->most_pages, history);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", p->s->pid);
	p->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	p->process = (int)syscall(SYS_pidfd_open, p->s->pid, 0);
	p->signals = signals_open();
	if (p->signals < 0)
		return say_error("signals cannot be waited for: %s", strerror(-p->signals));
	p->began = now_ms();
	return 0;
}

/* A log of which nothing was used is no success: what is wrong with it? */
static int nothing_used(const struct profiler *p)
{
	const struct profiler_counts *c = &p->counts;
	const char *name = p->src->name;

	if (c->samples || c->ranges || p->cancelled)
		return 0;
	if (p->ended)
		return say_error("PID %d has ended before '%s' said anything of it", p->s->pid, name);
	if (c->no_data)
		return say_error("'%s': no line has the address of data: line %zu: %s", name, c->first_no_data,
				 c->why_no_data);
	if (c->others)
		return say_error("'%s': no line is of PID %d: %" PRIu64 " are of others%s", name, p->s->pid, c->others,
				 p->parser.format == LOG_PERF
					 ? " (threads that have ended count as others: print the PID "
					   "with 'perf script -F +pid')"
					 : "");
	if (c->bad)
		return say_error("'%s': nothing was understood: line %zu: %s", name, c->first_bad, c->why_bad);
	return say_error("'%s': there is nothing in it", name);
}

int profiler_run(struct profiler *p)
{
	int status;

	p->process = p->signals = p->pagemap = -1;
	status = prepare(p);
	if (!status)
		status = read_log(p);
	profiler_hide_progress(p);
	if (!status)
		status = nothing_used(p);
	if (!status && !p->quiet)
		profiler_report(p);
	if (!status)
		status = p->all.failed || (p->cancelled && !p->interval_ms) ? CLI_LEFT : CLI_DONE;
	else if (p->all.moved && !(p->strict && p->counts.bad))
		status = CLI_LEFT;
	if (p->process >= 0)
		close(p->process);
	if (p->pagemap >= 0)
		close(p->pagemap);
	if (p->signals >= 0)
		close(p->signals);
	free(p->areas);
	free(p->map.range);
	free(p->memory);
	return status;
}

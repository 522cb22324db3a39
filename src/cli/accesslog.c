/* SPDX-License-Identifier: MIT */
/*
 * The formats of profilers' logs but for perf's (perflog.c), and which one it is.
 */
#include "accesslog.h"
#include "perflog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\f\v"

static const char *const format_names[LOG_FORMATS] = {
	[LOG_AUTO] = "auto",	     [LOG_PLAIN] = "plain", [LOG_PERF] = "perf",
	[LOG_MEMTIERD] = "memtierd", [LOG_DAMON] = "damon",
};

enum log_format log_format_parse(const char *name)
{
	int i = 0;

	while (i < LOG_FORMATS && strcmp(format_names[i], name) != 0)
		i++;
	return (enum log_format)i;
}

const char *log_format_name(enum log_format format)
{
	return format_names[format];
}

/* ---------------------------------------------------------------- words ---- */

/* Skip blanks, then the text; *at is behind it then. */
static bool take_text(const char **at, const char *text)
{
	const char *word = *at + strspn(*at, BLANKS);
	size_t len = strlen(text);

	if (strncmp(word, text, len) != 0)
		return false;
	*at = word + len;
	return true;
}

/* The same with a number, which does not go on behind its digits. */
static bool take_number(const char **at, int base, uint64_t *value)
{
	const char *word = *at + strspn(*at, BLANKS);
	size_t len = strspn(word, base == 16 ? "0123456789abcdefABCDEF" : "0123456789");
	char *end;

	if (!len)
		return false;
	errno = 0;
	*value = strtoull(word, &end, base);
	*at = word + len;
	return !errno && end == *at;
}

static bool at_end(const char *at)
{
	return at[strspn(at, BLANKS)] == '\0';
}

static bool take_small(const char **at, uint32_t *value)
{
	uint64_t number;

	if (!take_number(at, 10, &number))
		return false;
	*value = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
	return true;
}

static bool take_pid(const char **at, int32_t *pid)
{
	uint64_t number;

	if (!take_number(at, 10, &number) || number > INT32_MAX)
		return false;
	*pid = (int32_t)number;
	return true;
}

static void refuse(struct log_entry *e, const char *why)
{
	e->kind = LOG_BAD;
	e->why = why;
}

/* Whole pages of user space. */
static void range_check(struct log_entry *e)
{
	if (e->start >= e->end)
		refuse(e, "the range ends before it begins");
	else if (e->end > 1ULL << 63)
		refuse(e, "the range is not of user space");
	else
		e->kind = LOG_RANGE;
}

/* ---------------------------------------------------------------- plain ---- */

static bool plain_line(const char *text, struct log_entry *e)
{
	const char *at = text;
	uint64_t node;

	if (!take_text(&at, "0x") && !take_text(&at, "0X"))
		at = text;
	if (!take_number(&at, 16, &e->start) || !strchr(BLANKS, *at) || !take_number(&at, 10, &node) ||
	    !(at_end(at) || at[strspn(at, BLANKS)] == '#') || node > INT32_MAX)
		return false;
	e->kind = LOG_SAMPLE;
	e->node = (int32_t)node;
	return true;
}

/* ---------------------------------------------------------------- memtierd ---- */

/* "a=3 r=0 w=0 AddrRanges{pid=77 ranges=7f0000000000-7f0000200000 (2097152 B)}" */
static bool memtierd_counter(const char *at, struct log_entry *e)
{
	uint32_t a, r, w;
	uint64_t sum;

	if (!take_text(&at, "a=") || !take_small(&at, &a) || !take_text(&at, "r=") || !take_small(&at, &r) ||
	    !take_text(&at, "w=") || !take_small(&at, &w) || !take_text(&at, "AddrRanges{pid=") ||
	    !take_pid(&at, &e->pid) || !take_text(&at, "ranges="))
		return false;
	sum = (uint64_t)a + r + w;
	e->heat = sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
	if (!take_number(&at, 16, &e->start) || !take_text(&at, "-") || !take_number(&at, 16, &e->end))
		refuse(e, "expected ranges=START-END");
	else if (strchr(at, ','))
		refuse(e, "several ranges with one counter: which of them was used is not said");
	else
		range_check(e);
	return true;
}

/* "pid: 77: 0 {7f0000000000-7f0000200000(512),0.250000,1700000000000000000,5.000000s} (class 2)" */
static bool memtierd_heat(const char *at, struct log_entry *e)
{
	const char *behind;
	uint32_t nth;

	if (!take_text(&at, "pid:") || !take_pid(&at, &e->pid) || !take_text(&at, ":") || !take_small(&at, &nth) ||
	    !take_text(&at, "{"))
		return false;
	behind = strstr(at, "(class ");
	if (!take_number(&at, 16, &e->start) || !take_text(&at, "-") || !take_number(&at, 16, &e->end) || !behind)
		refuse(e, "expected {START-END(PAGES),HEAT,CREATED,AGE} (class N)");
	else if (behind += strlen("(class "), !take_small(&behind, &e->heat))
		refuse(e, "expected a number of a heat class");
	else
		range_check(e);
	return true;
}

/* "           timestamp       pid             addr    pages     accs   writes" */
static bool memtierd_raw(const char *at, struct log_entry *e)
{
	uint32_t accesses, writes;
	uint64_t when, pages, sum;

	if (!take_number(&at, 10, &when) || !take_pid(&at, &e->pid) || !take_number(&at, 16, &e->start) ||
	    !take_number(&at, 10, &pages) || !take_small(&at, &accesses) || !take_small(&at, &writes) || !at_end(at))
		return false;
	sum = (uint64_t)accesses + writes;
	e->heat = sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
	e->end = e->start > 1ULL << 63 || pages > 1ULL << 50 ? UINT64_MAX : e->start + pages * 4096;
	range_check(e);
	return true;
}

static bool memtierd_line(const char *text, struct log_entry *e)
{
	const char *at = text;

	while (take_text(&at, "memtierd>"))
		text = at;
	if (memtierd_counter(text, e) || memtierd_heat(text, e) || memtierd_raw(text, e))
		return true;
	at = text;
	return (take_text(&at, "timestamp") && take_text(&at, "pid") && take_text(&at, "addr")) ||
	       take_text(&at, "heatmap:") || take_text(&at, "raw access events recording") ||
	       (at != text && at_end(at));
}

/* ---------------------------------------------------------------- DAMON ---- */

/* "target_id=0 nr_regions=11 122509119488-135708762112: 0 864" */
static void damon_trace(const char *at, struct log_entry *e)
{
	uint32_t nr, age;
	uint64_t target;

	if (!take_text(&at, "target_id=") || !take_number(&at, 10, &target) || !take_text(&at, "nr_regions=") ||
	    !take_small(&at, &nr) || !take_number(&at, 10, &e->start) || !take_text(&at, "-") ||
	    !take_number(&at, 10, &e->end) || !take_text(&at, ":") || !take_small(&at, &e->heat) ||
	    (!at_end(at) && (!take_small(&at, &age) || !at_end(at)))) {
		refuse(e, "expected target_id=N nr_regions=N START-END: ACCESSES AGE");
		return;
	}
	e->target = target > INT64_MAX ? INT64_MAX : (int64_t)target;
	range_check(e);
}

/* "7f0000000000-7f0000200000 (   2.000 MiB)           3     5" */
static bool damo_range(const char *at, struct log_entry *e)
{
	const char *text = at;

	if (!take_number(&at, 16, &e->start) || *at != '-' || !take_text(&at, "-") || !take_number(&at, 16, &e->end) ||
	    !take_text(&at, "("))
		return false;
	at = strchr(text, ')') ? strchr(text, ')') + 1 : "";
	if (take_small(&at, &e->heat))
		range_check(e);
	else
		refuse(e, "expected START-END (SIZE) ACCESSES AGE");
	return true;
}

static bool damo_headline(struct log_parser *p, const char *text)
{
	static const char *const words[] = { "base_time_absolute:", "monitoring_start:", "monitoring_end:",
					     "monitoring_duration:", "nr_regions:" };
	const char *at = text;
	uint64_t target;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (take_text(&at, words[i]))
			return true;
	if (!take_text(&at, "target_id:"))
		return false;
	p->target = take_number(&at, 10, &target) && target < INT64_MAX ? (int64_t)target : -1;
	return true;
}

static bool damon_line(struct log_parser *p, const char *text, struct log_entry *e)
{
	static const char event[] = "damon_aggregated:";
	const char *at = strstr(text, event);

	if (at) {
		damon_trace(at + strlen(event), e);
		return true;
	}
	e->target = p->target;
	return damo_range(text, e) || damo_headline(p, text);
}

/* ---------------------------------------------------------------- any ---- */

static struct log_entry entry(const struct log_parser *p)
{
	return (struct log_entry){ .number = p->number, .pid = -1, .tid = -1, .cpu = -1, .node = -1, .target = -1 };
}

static const char *expected(enum log_format format)
{
	static const char *const texts[LOG_FORMATS] = {
		[LOG_AUTO] = "of no known format: see --format",
		[LOG_PLAIN] = "expected ADDRESS NODE",
		[LOG_PERF] = "not a sample as 'perf script' prints it",
		[LOG_MEMTIERD] = "neither a line of memtierd's raw dump, nor of its counters, nor of its heatmap",
		[LOG_DAMON] = "neither a damon_aggregated event nor a range of damo's raw form",
	};

	return texts[format];
}

static bool of_format(struct log_parser *p, enum log_format format, const char *text, struct log_entry *e)
{
	*e = entry(p);
	switch (format) {
	case LOG_PLAIN:
		return plain_line(text, e);
	case LOG_PERF:
		return perf_line(p, text, e);
	case LOG_MEMTIERD:
		return memtierd_line(text, e);
	case LOG_DAMON:
		return damon_line(p, text, e);
	default:
		return false;
	}
}

void log_begin(struct log_parser *p, enum log_format format)
{
	*p = (struct log_parser){ .format = format, .target = -1 };
}

/* Its own entry; of a line that says nothing the kind is LOG_NOTHING. */
static void parse(struct log_parser *p, const char *text, struct log_entry *e)
{
	/* the most special first: what one takes no other would */
	static const enum log_format order[] = { LOG_DAMON, LOG_MEMTIERD, LOG_PLAIN, LOG_PERF };
	enum log_format format = p->format;

	*e = entry(p);
	if (at_end(text) || text[strspn(text, BLANKS)] == '#')
		return;
	if (format != LOG_AUTO) {
		if (!of_format(p, format, text, e))
			refuse(e, expected(format));
		return;
	}
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if (!of_format(p, order[i], text, e))
			continue;
		p->format = order[i];
		return;
	}
	*e = entry(p);
	refuse(e, expected(LOG_AUTO));
}

static int bring(struct log_entry *to, const struct log_entry *e)
{
	if (e->kind == LOG_NOTHING)
		return 0;
	*to = *e;
	return 1;
}

int log_line(struct log_parser *p, const char *text, struct log_entry out[LOG_ENTRIES])
{
	int nr = 0;
	struct log_entry e;

	p->number++;
	if (p->in_chain && perf_chain(text)) {
		/* the address above is not where the code is: that stands here */
		if (p->in_doubt)
			nr = bring(out, &p->doubt);
		p->in_doubt = false;
		return nr;
	}
	nr = log_end(p, out);
	p->in_chain = false;
	parse(p, text, &e);
	if (p->in_doubt)
		p->doubt = e;
	else
		nr += bring(out + nr, &e);
	return nr;
}

int log_end(struct log_parser *p, struct log_entry out[LOG_ENTRIES])
{
	if (!p->in_doubt)
		return 0;
	p->in_doubt = false;
	out[0] = p->doubt;
	out[0].kind = LOG_NO_DATA;
	out[0].why = "its only address is that of the code: print the data's too with 'perf script -F +addr'";
	return 1;
}

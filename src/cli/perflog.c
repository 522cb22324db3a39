/* SPDX-License-Identifier: MIT */
/*
 * perf script: a line a sample,
 *
 *   COMM PID/TID [CPU] TIME: PERIOD EVENT: ADDR SYMBOL (DSO) DATA_SRC |OP ...| WEIGHT IP SYMBOL (DSO) PHYS_ADDR
 *
 * where any field may be missing (perf script -F) and the order is always this. The address of the data is the first
 * number behind the event; but so is that of the code where the other is missing, or the data source's. A symbol, or
 * "|", behind it tells them apart. With call chains the code's stands in the lines below.
 */
#include "perflog.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\f\v"
#define WORDS 64	/* a line's that are looked at to find the event */
#define NO_ADDRESS 4096 /* perf prints 0 where the processor gave none, and weights are small */
#define HEX "0123456789abcdef"
#define ADDRESS_DIGITS 8 /* no address of a sample's code has less; names of functions that are as long and hex: none */

struct word {
	const char *at;
	size_t len;
};

static int split(const char *text, struct word words[WORDS])
{
	int nr = 0;

	for (text += strspn(text, BLANKS); *text && nr < WORDS; text += strspn(text, BLANKS)) {
		words[nr].at = text;
		words[nr].len = strcspn(text, BLANKS);
		text += words[nr++].len;
	}
	return nr;
}

static bool all_digits(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isdigit((unsigned char)at[i]))
			return false;
	return len > 0;
}

/* "123.456789:" */
static bool is_time(const struct word *w)
{
	const char *dot = memchr(w->at, '.', w->len);

	return dot && w->at[w->len - 1] == ':' && all_digits(w->at, (size_t)(dot - w->at)) &&
	       all_digits(dot + 1, w->len - (size_t)(dot - w->at) - 2);
}

/* "[003]" */
static bool is_cpu(const struct word *w)
{
	return w->len > 2 && w->at[0] == '[' && w->at[w->len - 1] == ']' && all_digits(w->at + 1, w->len - 2);
}

/* "123" or "123/124" */
static bool is_task(const struct word *w, bool both)
{
	const char *slash = memchr(w->at, '/', w->len);

	if (!slash)
		return !both && all_digits(w->at, w->len);
	return all_digits(w->at, (size_t)(slash - w->at)) &&
	       all_digits(slash + 1, w->len - (size_t)(slash - w->at) - 1);
}

static int32_t small_number(const char *digits)
{
	unsigned long number = strtoul(digits, NULL, 10);

	return number > INT32_MAX ? -1 : (int32_t)number;
}

static void take_task(const struct word *w, struct log_entry *e)
{
	const char *slash = memchr(w->at, '/', w->len);

	if (slash)
		e->pid = small_number(w->at);
	e->tid = small_number(slash ? slash + 1 : w->at);
}

/* The words where the fields are, -1: missing. What stands before them all is the command's name, with blanks or not. */
struct fields {
	int task, cpu, time, event;
};

static struct fields find_fields(const struct word *words, int nr)
{
	struct fields f = { -1, -1, -1, -1 };
	int begin, end;

	for (int i = nr - 1; i >= 0; i--)
		if (is_time(&words[i]))
			f.time = i;
	end = f.time >= 0 ? f.time : nr;
	for (int i = 0; i < end && (f.cpu < 0 || f.time >= 0); i++)
		if (is_cpu(&words[i]))
			f.cpu = i;
	begin = f.time >= 0 ? f.time : f.cpu;
	for (int i = begin + 1; i < nr && f.event < 0; i++)
		if (words[i].len > 1 && words[i].at[words[i].len - 1] == ':')
			f.event = i;
	end = f.cpu >= 0 ? f.cpu : f.time >= 0 ? f.time : f.event >= 0 ? f.event : nr;
	for (int i = 0; i < end; i++)
		if (is_task(&words[i], true))
			f.task = i;
	/* a number alone: the last before the CPU or the time; else the first of two, for the other is the period */
	if (f.task < 0 && begin >= 0 && end > 0)
		f.task = is_task(&words[end - 1], false)	      ? end - 1
			 : end > 1 && is_task(&words[end - 2], false) ? end - 2
								      : -1;
	for (int i = 0; i < end && f.task < 0 && begin < 0 && f.event >= 0; i++)
		if (is_task(&words[i], false))
			f.task = i;
	return f;
}

/* Is there a second address, one that has a name behind it? Then the first is the data's. */
static bool names_code(const char *rest)
{
	struct word words[WORDS];
	int nr = split(rest, words);

	for (int i = 0; i < nr - 1; i++)
		if (words[i].len >= ADDRESS_DIGITS && strspn(words[i].at, HEX) == words[i].len)
			return true;
	return false;
}

static void no_data(struct log_entry *e, const char *why)
{
	e->kind = LOG_NO_DATA;
	e->why = why;
}

/* What stands behind the event. */
static void take_address(struct log_parser *p, const char *at, struct log_entry *e)
{
	const char *rest;
	size_t digits;
	char *end;

	at += strspn(at, BLANKS);
	digits = strspn(at, HEX);
	rest = at + digits;
	if (!digits || digits > 16 || !(*rest == '\0' || strchr(BLANKS, *rest))) {
		no_data(e, "no data address: record with 'perf mem record' or 'perf record -d', "
			   "print with 'perf script -F +addr'");
		return;
	}
	e->start = strtoull(at, &end, 16);
	e->kind = LOG_SAMPLE;
	digits = strspn(rest, BLANKS);
	rest += digits;
	if (*rest == '|')
		no_data(e, "a data source without a data address: print it with 'perf script -F +addr'");
	else if (e->start < NO_ADDRESS)
		no_data(e,
			"no data address: the processor gave none, or 'perf script' was not asked for it (-F +addr)");
	else if (e->start >= 1ULL << 63)
		no_data(e, "the address is the kernel's");
	else if (*rest && digits == 1 && !names_code(rest))
		p->in_doubt = true;
}

bool perf_line(struct log_parser *p, const char *text, struct log_entry *e)
{
	struct word words[WORDS];
	int nr = split(text, words), last;
	struct fields f = find_fields(words, nr);

	last = f.event;
	if (f.time > last)
		last = f.time;
	if (f.event < 0 && f.cpu > last)
		last = f.cpu;
	if (f.event < 0 && f.task > last)
		last = f.task;
	/* an event that is no sample's, or other text: something must be a sample's for certain */
	if (f.time < 0 && f.cpu < 0 && (f.task < 0 || f.event < 0) && !(f.task >= 0 && is_task(&words[f.task], true)))
		return false;
	if (f.cpu >= 0)
		e->cpu = small_number(words[f.cpu].at + 1);
	if (f.task >= 0)
		take_task(&words[f.task], e);
	p->in_chain = true;
	if (f.task < 0) {
		e->kind = LOG_BAD;
		e->why = "a sample without a PID: print it with 'perf script -F +pid'";
	} else if (f.event < 0 && nr != last + 2) {
		/* the period could not be told from the address */
		e->kind = LOG_BAD;
		e->why = "a sample without an event: print it with 'perf script -F +event'";
	} else {
		take_address(p, words[last].at + words[last].len, e);
	}
	return true;
}

/* "\t    55b3c122bffc name (file)", or the physical address alone. */
bool perf_chain(const char *text)
{
	const char *at = text + strspn(text, BLANKS);
	size_t digits = strspn(at, HEX);

	if (at == text || !digits || digits > 16)
		return false;
	return text[0] == '\t' ? at[digits] == '\0' || strchr(BLANKS, at[digits]) : at[digits] == '\0';
}

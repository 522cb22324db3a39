/* SPDX-License-Identifier: MIT */
/* Profilers' logs: any text, line by line, in each format; and its facts are such that a page can be asked for by them. */
#include "fuzz.h"

#include "cli/accesslog.h"

static void check(const struct log_entry *e, const struct log_parser *p)
{
	must(e->number && e->number <= p->number);
	must(e->pid >= -1 && e->tid >= -1 && e->cpu >= -1 && e->node >= -1 && e->target >= -1);
	must(e->kind != LOG_NOTHING);
	if (e->kind == LOG_BAD || e->kind == LOG_NO_DATA)
		must(e->why && *e->why);
	if (e->kind == LOG_RANGE)
		must(e->start < e->end && e->end <= 1ULL << 63);
}

static void read_as(const uint8_t *data, size_t size, enum log_format format)
{
	struct log_entry out[LOG_ENTRIES];
	struct log_parser p;
	size_t lines = 0, entries = 0;

	log_begin(&p, format);
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t len = end ? (size_t)(end - data) - at : size - at;
		char *line = input_text(data + at, len);
		int nr = log_line(&p, line, out);

		must(nr >= 0 && nr <= LOG_ENTRIES && p.number == ++lines);
		must(format == LOG_AUTO || p.format == format);
		for (int i = 0; i < nr; i++)
			check(&out[i], &p);
		entries += (size_t)nr;
		must(entries <= lines); /* nothing is said twice */
		free(line);
		at += len + (end != NULL);
	}
	if (log_end(&p, out))
		check(&out[0], &p);
	must(log_end(&p, out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int format = LOG_AUTO; format < LOG_FORMATS; format++)
		read_as(data, size, (enum log_format)format);
	return 0;
}

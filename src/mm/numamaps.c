/* SPDX-License-Identifier: MIT */
/*
 * /proc/thread-self/numa_maps: on which host nodes the pages of each mapping are. The kernel counts them for a
 * fraction of what it takes to be asked for each; so where all of a mapping are on one node, nobody asks.
 *
 * It counts while it walks the mapping: of what is touched afterwards nothing is said, as of what is touched after a
 * page was asked for. The next look finds it.
 */
#include "mm/mm.h"

#include <errno.h>

#define MANAGED_LEAST (8UL << 20)	/* below it asking costs less */
#define OTHERS_MOST 4U			/* times that: their pages are counted too, and are not wanted */

static const char *next_word(const char *s)
{
	while (*s && *s != ' ')
		s++;
	while (*s == ' ')
		s++;
	return s;
}

/* A file's name has no blank here: the kernel writes \040. */
bool numa_maps_parse(const char *s, uint64_t *start, int *host)
{
	uint64_t node, pages;

	*host = HOST_UNKNOWN;
	if (!str_u64(&s, 16, start) || *s != ' ')
		return false;
	for (s = next_word(s); *s; s = next_word(s)) {
		const char *at = s + 1;

		if (*s != 'N' || !str_u64(&at, 10, &node) || *at++ != '=' || !str_u64(&at, 10, &pages))
			continue;
		if (*host != HOST_UNKNOWN || node > INT16_MAX) {
			*host = HOST_UNKNOWN;
			return true;
		}
		*host = (int)node;
	}
	return true;
}

static bool worth_it(const struct spans *s)
{
	uint64_t managed = 0, others = 0;

	for (uint32_t i = 0; i < s->nr; i++) {
		uint64_t len = s->span[i].end - s->span[i].start;

		managed += s->span[i].kind == AREA_MANAGED ? len : 0;
		others += s->span[i].kind == AREA_FILE || s->span[i].kind == AREA_SHARED ? len : 0;
	}
	return managed >= MANAGED_LEAST && managed >= others / OTHERS_MOST;
}

void spans_hosts(struct mm *mm)
{
	struct spans *spans = &mm->spans;
	struct reader r;
	uint64_t start;
	uint32_t i = 0;
	char *line;
	int host;

	if (!node_any_host(mm->nodes) || !worth_it(spans) ||
	    reader_open(&r, "/proc/thread-self/numa_maps", mm->line, LINE_BUFFER))
		return;
	while ((line = reader_line(&r))) {
		if (!numa_maps_parse(line, &start, &host))
			continue;
		while (i < spans->nr && spans->span[i].end <= start)
			i++;
		if (i == spans->nr)
			break;
		/* one that begins inside the span is another mapping, which came after the list of them */
		if (start >= spans->span[i].start)
			spans->span[i].host = (int16_t)(start == spans->span[i].start ? host : HOST_UNKNOWN);
	}
	reader_close(&r);
}

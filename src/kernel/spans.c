/* SPDX-License-Identifier: MIT */
/* What was asked for, and where to: so that a page that is met again is not taken for a new one. */
#include "kernel/spans.h"

#include <errno.h>
#include <stdlib.h>

static int spans_grow(struct spans *s)
{
	size_t room = s->room ? s->room * 2 : 256;
	struct span *more = realloc(s->span, room * sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->span = more;
	s->room = room;
	return 0;
}

int spans_add(struct spans *s, const struct kernel_unit *u)
{
	uint64_t end = u->addr + u->pages * KERNEL_PAGE;
	struct span *last = s->nr ? &s->span[s->nr - 1] : NULL;
	int err;

	s->pages += u->pages;
	if (last && last->end == u->addr && last->to == u->to) {
		last->end = end;
		return 0;
	}
	err = s->nr == s->room ? spans_grow(s) : 0;
	if (err)
		return err;
	s->sorted = s->sorted && (!last || last->end <= u->addr);
	s->span[s->nr++] = (struct span){ .start = u->addr, .end = end, .to = u->to };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

void spans_sort(struct spans *s)
{
	if (!s->sorted && s->nr)
		qsort(s->span, s->nr, sizeof(*s->span), by_start);
	s->sorted = true;
}

int spans_to(const struct spans *s, uint64_t addr)
{
	size_t low = 0, high = s->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->span[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && addr < s->span[low - 1].end ? s->span[low - 1].to : -1;
}

void spans_free(struct spans *s)
{
	free(s->span);
	*s = (struct spans){ .sorted = true };
}

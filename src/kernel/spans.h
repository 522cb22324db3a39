/* SPDX-License-Identifier: MIT */
/* Ranges of pages that were asked for, with the node each was asked to go to. */
#ifndef GODWIT_KERNEL_SPANS_H
#define GODWIT_KERNEL_SPANS_H

#include "kernel/kernel.h"

struct span {
	uint64_t start, end;
	int to;
};

struct spans {
	struct span *span;
	size_t nr, room;
	uint64_t pages;		/* all that were added */
	bool sorted;
};

/* Ranges that were added must not overlap. 0 or -ENOMEM. */
int spans_add(struct spans *s, const struct kernel_unit *u);
/* Needed after adding, before asking. */
void spans_sort(struct spans *s);
/* Where the page at addr was asked to go, or -1: it was not. */
int spans_to(const struct spans *s, uint64_t addr);
void spans_free(struct spans *s);

#endif

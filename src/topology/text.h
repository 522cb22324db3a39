/* SPDX-License-Identifier: MIT */
/* What the files say. text.c, figures.c: no system call, no engine; nothing is written beyond a text's capacity. */
#ifndef GODWIT_TOPOLOGY_TEXT_H
#define GODWIT_TOPOLOGY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *buf;
	size_t cap, len;
	bool full;		/* something did not fit */
};

void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const char *s, size_t len);
void text_add_char(struct text *t, char c);
/* At least width wide, blanks before it. */
void text_add_u64(struct text *t, uint64_t v, unsigned int width);
void text_add_hex(struct text *t, uint64_t v, unsigned int width);
/* As the kernel's %*pbl ("0-1,3") and %*pb ("3,ffffffff": words of 32 bits, the first as wide as it must be). */
void text_add_list(struct text *t, const uint64_t *bits, uint32_t nr_bits);
void text_add_map(struct text *t, const uint64_t *bits, uint32_t nr_bits);

/* ---- figures.c: a node's live files ---- */

struct figures {
	int node;
	uint64_t total, used;	/* 4 KiB pages */
	uint64_t hit, miss, foreign, interleave_hit, local, other;
	uint64_t huge_total, huge_free, huge_surplus;	/* of the default size */
};

void text_add_meminfo(struct text *t, const struct figures *f);
void text_add_numastat(struct text *t, const struct figures *f);
void text_add_vmstat(struct text *t, const struct figures *f);
/* status of a process with other nodes allowed; the map is as wide as it was, and no narrower than nr_nodes. */
void text_add_status(struct text *t, const char *status, uint64_t allowed, uint32_t nr_nodes);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * codec - a page to fewer bytes and back, and sums of bytes. LZ4 and zstd are linked in, hidden and with nothing of
 * libc's but the four memory functions (scripts/codecs): what they might want to allocate they do not get.
 */
#ifndef GODWIT_FAR_CODEC_H
#define GODWIT_FAR_CODEC_H

#include "far/far.h"

#define CODEC_WORTH (FAR_PAGE * 3 / 4)	/* what takes more is kept as it is: a copy is all that it takes to read it */
#define CODEC_SLACK 64U

/* Bytes of working memory that one caller at a time needs. */
uint64_t codec_state_size(enum far_alg alg);
/* Zeroed memory of that size, aligned to 64, becomes a state. 0 or -ENOMEM: the library wants more than it said. */
int codec_state_init(enum far_alg alg, void *state);
/* A page to at most CODEC_WORTH bytes; how many, or 0: it takes more. */
uint32_t codec_pack(enum far_alg alg, void *state, const void *page, void *out);
/*
 * And back; false: that was no page. Any bytes may come here: nothing but the page at dst is written. LZ4 needs no
 * state.
 */
bool codec_unpack(enum far_alg alg, void *state, const void *in, uint32_t len, void *dst);
bool codec_needs_state(enum far_alg alg);

/* ---- sum.c ---- */

/* 32 bits; any one changed bit changes it. */
uint32_t sum_of(const void *p, uint32_t len);
/* Is the page one value all over? */
bool page_is_same(const void *page, uint64_t *value);

#endif

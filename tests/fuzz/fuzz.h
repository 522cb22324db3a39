/* SPDX-License-Identifier: MIT */
/*
 * What fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(); what it must not find is a crash,
 * a report of a sanitizer, a hang, or a must() that does not hold. libFuzzer drives it, or replay.c, which only
 * goes through the files of a corpus.
 */
#ifndef GODWIT_TESTS_FUZZ_H
#define GODWIT_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(cond)                                                                      \
	do {                                                                            \
		if (!(cond)) {                                                          \
			fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* An input, taken from its front; when it is used up there are only zeroes. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t input_byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

static inline size_t input_bytes(struct input *in, void *buf, size_t len)
{
	size_t nr = len < in->left ? len : in->left;

	memset(buf, 0, len);
	memcpy(buf, in->at, nr);
	in->at += nr;
	in->left -= nr;
	return nr;
}

static inline uint64_t input_u64(struct input *in)
{
	uint64_t v;

	input_bytes(in, &v, sizeof(v));
	return v;
}

/* A copy with a NUL behind it, of exactly that size, so that a sanitizer sees the first byte too far. */
static inline char *input_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	must(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif

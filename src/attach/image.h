/* SPDX-License-Identifier: MIT */
/* A shared library laid out in our memory as it is to be in another process's. */
#ifndef GODWIT_ATTACH_IMAGE_H
#define GODWIT_ATTACH_IMAGE_H

#include "attach/objects.h"
#include "control/attached.h"

struct segment {
	uint64_t start, end; /* whole pages, from the image's first byte */
	int prot;
};

#define SEGMENTS 8

struct image {
	uint8_t *file;
	size_t file_len;
	uint8_t *mem; /* len bytes */
	uint64_t len;
	uint64_t entry;
	uint64_t hooks, nr_hooks; /* struct attached_hook */
	struct segment segment[SEGMENTS];
	int nr_segments;
	uint64_t *value; /* of each relocation that names something of another object's */
	uint64_t nr_values;
	char missing[64]; /* valid after -ENOENT: what nobody in the process has */
};

/* -ENOEXEC: not a library that we can lay out; or what open(2) and read(2) say. */
int image_load(struct image *im, const char *file);
void image_free(struct image *im);
/* Look up what it wants of others: takes some milliseconds. */
int image_resolve(struct image *im, const struct objects *objects);
/* Relocate it for its place: takes some microseconds. The names of its hooks are then addresses there. */
int image_place(struct image *im, uint64_t base);

#endif

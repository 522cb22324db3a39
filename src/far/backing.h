/* SPDX-License-Identifier: MIT */
/* backing - the file, unnamed file or block device behind a store: opened, found again after fork, grown and shrunk. */
#ifndef GODWIT_FAR_BACKING_H
#define GODWIT_FAR_BACKING_H

#include "far/far.h"

struct backing {
	int fd;
	uint32_t opener;	/* the thread whose table of descriptors has it */
	bool device;
	bool direct;		/* O_DIRECT */
	bool grows;		/* the filesystem has fallocate(2) */
	uint64_t bytes;		/* that there may be at most */
	uint64_t dev, ino;
	uint64_t mark;		/* the offset of the open file, which nothing else uses: by it a descriptor is known */
};

/*
 * A directory: an unnamed file in it. A file: made, or empty so far; its name is gone on return. A block device: taken
 * for us alone. 0 or -errno; -EEXIST: the file has content, -EBUSY: the device is used, -EISDIR: no unnamed files.
 */
int backing_open(struct backing *b, const char *path, uint64_t bytes);
/* The same once more, in the caller's table of descriptors: an open file of its own. A descriptor or -errno. */
int backing_reopen(const struct backing *b);
/*
 * In a forked child: what backing_reopen() has opened before the fork, the same open file, in the caller's table. That
 * has it too, or that of the process' first thread does.
 */
int backing_inherit(const struct backing *b, int fd);
/* Close a descriptor of this table, if it is one of the store's and not something else by now: was it? */
bool backing_close_fd(const struct backing *b, int fd);
/* Room on the disk for a part of it: 0, -ENOSPC or another -errno. And no longer. */
int backing_grow(struct backing *b, uint64_t offset, uint64_t len);
void backing_punch(const struct backing *b, uint64_t offset, uint64_t len);

#endif

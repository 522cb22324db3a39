/* SPDX-License-Identifier: MIT */
/*
 * far - stores of pages that no CPU can address: a compressed pool, a file. What is kept is a copy of 4096 bytes under
 * a number; the books of mm say whose it is.
 *
 * Context: any engine thread; a store has its own lock (RANK_FAR) and takes no other. Nothing here allocates from libc
 * or touches managed memory. Sources and destinations are the engine's own, or arena slots.
 */
#ifndef GODWIT_FAR_H
#define GODWIT_FAR_H

#include "base/base.h"

#define FAR_PAGE 4096U
#define FAR_BATCH 64U		/* most pages of one call */
#define FAR_PATH 256

enum far_kind { FAR_ZRAM, FAR_FILE, FAR_KINDS };
enum far_alg { FAR_LZ4, FAR_ZSTD, FAR_ALGS };

struct far_spec {
	enum far_kind kind;
	enum far_alg alg;
	bool dedup;		/* pages of the same content are kept once */
	uint64_t bytes;		/* of memory (zram: pool and its books) or of the file at most; 0: as much as there is */
	char path[FAR_PATH];	/* file: a file, a directory (an unnamed file in it), or a block device */
};

/* Pages as 4 KiB; what is stored now, and events since the store was opened. */
struct far_stats {
	uint64_t pages;			/* kept */
	uint64_t same, raw, shared;	/* of them: one value all over; not compressed; under another's copy */
	uint64_t data_bytes;		/* of the objects */
	uint64_t used_bytes;		/* of memory or of the file that is taken, with holes and books */
	uint64_t puts, gets, drops;
	uint64_t refused;		/* puts for which there was no room */
	uint64_t io_errors, bad_sums;	/* pages that could not be read back, by cause */
	uint64_t compactions, compacted;	/* runs of it, objects moved */
	uint64_t buffered;		/* file: 1 where the filesystem has no O_DIRECT, so that the page cache has a copy too */
};

struct far;

/*
 * 0 with an empty store, or -errno: -ENOMEM; file: what open(2) and io_uring_setup(2) say, -EISDIR where the directory
 * takes no unnamed file, -EEXIST where the file has content, -EBUSY where a block device is mounted or another's.
 * Descriptors are opened in the caller's table; the thread has to live as long as the store, for those of a fork.
 */
int far_open(struct far **out, struct region *r, const struct far_spec *spec);
/* Everything that is kept is forgotten. */
void far_close(struct far *f);
enum far_kind far_kind(const struct far *f);
/* May far_get() wait for a device? */
bool far_slow(const struct far *f);

/*
 * Keep the nr (at most FAR_BATCH) pages that lie one after another at src. Returns how many were kept, from the first
 * on; of those home[i] is the number, never 0, and 0 of the others. Fewer than nr: *err says why the next was not:
 * -ENOSPC (full), -ENOMEM, -EIO. The content is read more than once and must not change meanwhile. With dedup several
 * pages may have one number: each is dropped for itself.
 */
uint32_t far_put(struct far *f, const void *src, uint32_t nr, uint32_t *home, int *err);
/* The content of a page to dst (64-byte aligned). 0, -EIO, -EBADMSG: what came back is not what was kept. It stays kept. */
int far_get(struct far *f, uint32_t home, void *dst);
/* The same of several, page i to dst + i * FAR_PAGE, in one go where the device can. err[i] as far_get(). */
void far_get_many(struct far *f, const uint32_t *home, uint32_t nr, void *dst, int *err);
/* Keep them no longer. Of one that is being read by far_get() the reader gets its content or -EBADMSG. */
void far_drop(struct far *f, const uint32_t *home, uint32_t nr);
void far_stats(struct far *f, struct far_stats *out);

/*
 * Around fork(), on the forking thread: from freeze to thaw nothing in the store changes; far_get() and far_get_many()
 * work meanwhile on other threads, far_put() and far_drop() wait. Freezing opens a descriptor for the child in the
 * caller's table; thawing closes it, so far_thaw() is for both: the parent, and the thread that has forked in the child
 * when far_fork_child() has returned or is not wanted. One fork at a time: a second freeze waits.
 */
void far_freeze(struct far *f);
void far_thaw(struct far *f);
/*
 * In the child, before fork() returns there, on the thread whose table of descriptors is to serve the store: both have
 * what was kept, and neither sees what the other keeps or drops. -errno: the child has nothing of it; file: -EUSERS
 * (1024 processes have the file), or why it could not be opened once more. It may run on another thread than the one
 * that has forked, with another table of descriptors, as long as that one's still has what far_freeze() opened.
 */
int far_fork_child(struct far *f);

/* ---- faults for tests: the next calls of this kind fail as a device would ---- */

enum far_fault { FAR_FAULT_READ, FAR_FAULT_WRITE, FAR_FAULT_CORRUPT, FAR_FAULT_FULL, FAR_FAULTS };
/* From the skip-th page on, nr pages. */
void far_inject(struct far *f, enum far_fault kind, uint32_t skip, uint32_t nr);

#endif

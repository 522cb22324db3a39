/* SPDX-License-Identifier: MIT */
/*
 * uring - several reads or writes of one file at a time, through io_uring(7) by its three system calls and two rings;
 * where the kernel or a sandbox refuses it one after another.
 *
 * Context: any thread that has the descriptors. One caller at a time has the rings; who comes meanwhile goes without.
 */
#ifndef GODWIT_FAR_URING_H
#define GODWIT_FAR_URING_H

#include "far/far.h"

#define URING_OPS FAR_BATCH

struct uring_op {
	char *buf;
	uint64_t offset;
	uint32_t len;
	uint32_t done;		/* bytes, from the front; short of len only with an error */
	int err;
};

struct uring {
	int fd;			/* -1: there are no rings */
	uint32_t busy;		/* atomic */
	uint64_t nr_single;	/* operations that were not, or not wholly, done by way of the rings; atomic */
	char *ring, *sqes;
	uint64_t ring_len, sqes_len;
	uint32_t *sq_tail, *sq_mask, *sq_array;
	uint32_t *cq_head, *cq_tail, *cq_mask;
	void *cqes;
};

/* Without rings when they are refused; that is no error. */
void uring_open(struct uring *u);
void uring_close(struct uring *u);
/* In a forked child: the rings are the parent's, and not even mapped here. inherited: their descriptor is in this table. */
void uring_forget(struct uring *u, bool inherited);
/* All of them, to their end or an error each. */
void uring_run(struct uring *u, int fd, bool write, struct uring_op *op, uint32_t nr);

#endif

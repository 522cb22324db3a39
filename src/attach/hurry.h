/* SPDX-License-Identifier: MIT */
/* While somebody stands still for us no ordinary thread takes the CPU from him, nor from us. As far as permitted. */
#ifndef GODWIT_ATTACH_HURRY_H
#define GODWIT_ATTACH_HURRY_H

#include <stdint.h>
#include <sys/types.h>

/* As the kernel has had it since 3.14; libc has no words for it. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct hurry {
	pid_t guardian;
	int line; /* to the guardian; -1: nothing is done */
	int tid;  /* who is in a hurry; 0: nobody */
	struct attributes was;
};

/* Be ready for it; before anybody stands still, for this takes a while. */
void hurry_ready(struct hurry *h);
/* From here on, thread tid and ourselves; hurry_rest() gives both back what they had. */
void hurry_begin(struct hurry *h, int tid);
void hurry_rest(struct hurry *h);
void hurry_end(struct hurry *h);

#endif

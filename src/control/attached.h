/* SPDX-License-Identifier: MIT */
/*
 * What the command and the engine agree on in a process that was attached to.
 *
 * The image is one range of anonymous memory there: a page that tells what it is (struct attached_plate), the library's
 * segments as the file has them, relocated by the command, then the block (struct attached), what it points to, and a
 * stack. The file's entry point (attached_entry) is where a thread of the image's own begins, with the block in r9, to
 * start the engine or to end it; when its tid is 0 it is gone.
 */
#ifndef GODWIT_CONTROL_ATTACHED_H
#define GODWIT_CONTROL_ATTACHED_H

#include <stdint.h>

#define ATTACHED_MAGIC 0x64656863617474ULL /* "ttached" */
#define ATTACHED_VERSION 1U
#define ATTACHED_NAME 40
#define ATTACHED_NODES 16384
#define ATTACHED_RANGES 8
#define ATTACHED_STACK (64UL << 10)
#define ATTACHED_SECTION "gw_hooks" /* of struct attached_hook */

/* A call of libc's that is to reach the engine first. */
struct attached_hook {
	const char *name;
	void *fn;
};

/* Where libc has it. */
struct attached_next {
	uint64_t addr;
	char name[ATTACHED_NAME];
};

/* A place through which an object of the program calls it. */
struct attached_slot {
	uint64_t at;
	uint64_t was, now;
	uint64_t readonly; /* the page may not be written to */
};

/* A part of the image that is not to be written to, once it has begun. */
struct attached_range {
	uint64_t start, len;
	uint64_t prot;
};

enum attached_order { ATTACHED_START = 1, ATTACHED_END };

/*
 * A process without the rights to handle its own faults gets them from the command, which may have them: step by step,
 * each set by the side named.
 */
enum attached_donor {
	DONOR_NONE,
	DONOR_WANTED,  /* process: send /dev/userfaultfd over the other end of donor_fd */
	DONOR_OPEN,    /* process: donor_fd is open on its faults: agree on donor_features with the kernel */
	DONOR_DONE,    /* command: done; donor_features are those that there are */
	DONOR_REFUSED, /* command: no rights here either */
};

struct attached_plate {
	uint64_t magic;
	uint32_t version, size; /* of struct attached */
	uint64_t block;
};

struct attached {
	uint64_t image, image_len; /* all that is to be unmapped in the end */
	uint64_t entry, stack_top; /* for a thread of the image's own */
	uint32_t order;		   /* enum attached_order */
	uint32_t running;	   /* 1: the engine is up */
	uint32_t pid;		   /* where it began: a forked child has the image, and no engine */
	int32_t error;		   /* of the last order, valid when tid is 0 */
	uint32_t tid;		   /* of the thread that carries it out; the kernel clears it */
	uint32_t inside;	   /* calls of program threads under way in hooks; atomic */
	uint32_t donor;		   /* enum attached_donor; atomic */
	int32_t donor_fd;	   /* in the table of thread donor_tid */
	uint32_t donor_tid;
	uint64_t donor_features;
	uint32_t stall_us_max, flags; /* of struct gw_options */
	uint32_t patience_ms;	      /* for calls inside */
	uint32_t nr_next, nr_slots, nr_ranges;
	uint64_t next, slots; /* addresses of the tables */
	struct attached_range range[ATTACHED_RANGES];
	char runtime_dir[128];	    /* XDG_RUNTIME_DIR of the process, or "" */
	char nodes[ATTACHED_NODES]; /* specifications, ';' between them */
};

#endif

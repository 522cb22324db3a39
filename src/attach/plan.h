/* SPDX-License-Identifier: MIT */
/* Attaching to one process, prepared. */
#ifndef GODWIT_ATTACH_PLAN_H
#define GODWIT_ATTACH_PLAN_H

#include "attach/attach.h"
#include "attach/examine.h"
#include "attach/image.h"
#include "attach/tracee.h"

#define PAGE 4096UL
#define PAGES(x) (((x) + PAGE - 1) & ~(PAGE - 1))
#define TLS_BLOCK 4096UL /* at the top of the stack: the image's thread has a thread pointer of its own */

struct plan {
	int pid;
	int turn; /* see attach.c */
	int mem;  /* of the program that was looked at */
	struct hurry hurry;
	struct maps maps;
	struct objects objects;
	struct image image;
	struct gadgets gadgets;
	struct attached_next *next;
	struct attached_slot *slot;
	uint64_t *slot_hook; /* of each slot: which hook */
	uint32_t nr_slots;
	uint8_t *tail;		/* the block, the tables, the stack's top */
	uint64_t tail_len, len; /* len: of the whole image */
};

/* These two as attach_process(), with .maps loaded. */
int plan_gadgets(struct plan *p, char *why);
int plan_make(struct plan *p, const char *library, char *why);
void plan_free(struct plan *p);
/* For an image at base, once it is placed there. */
void plan_tail_fill(struct plan *p, const struct attach_options *opt, uint64_t base);

#endif

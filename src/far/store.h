/* SPDX-License-Identifier: MIT */
/* What the kinds of stores share: the object behind the door, its calls, memory that grows in place. */
#ifndef GODWIT_FAR_STORE_H
#define GODWIT_FAR_STORE_H

#include "far/far.h"

/* The calls of far.h: get for one or many, freeze and thaw under the lock. */
struct far_ops {
	void (*close)(struct far *f);
	uint32_t (*put)(struct far *f, const char *src, uint32_t nr, uint32_t *home, int *err);
	void (*get)(struct far *f, const uint32_t *home, uint32_t nr, char *dst, int *err);
	void (*drop)(struct far *f, const uint32_t *home, uint32_t nr);
	void (*stats)(struct far *f, struct far_stats *out);
	void (*freeze)(struct far *f);	/* may be NULL, as thaw */
	void (*thaw)(struct far *f);
	int (*fork_child)(struct far *f);
};

struct far_plan {
	uint32_t skip, nr;
};

/* Events, since the store was opened; atomic. */
struct far_events {
	uint64_t puts, gets, drops, refused, io_errors, bad_sums;
};

struct far {
	const struct far_ops *ops;
	struct region *region;		/* immutable after open, as are the next three */
	void *part;			/* of the region: all that the store has, this struct too */
	struct far_spec spec;
	bool slow;
	struct lock lock;		/* of what the kinds keep */
	uint32_t frozen;		/* 0 or 1; protected by lock, waited for as a futex */
	uint32_t injecting;		/* faults that are planned; atomic */
	struct lock plans;		/* of plan[]; taken with lock held, so of the next rank */
	struct far_plan plan[FAR_FAULTS];
	struct far_events events;
};

static inline void far_count(uint64_t *event, uint64_t nr)
{
	__atomic_fetch_add(event, nr, __ATOMIC_RELAXED);
}

bool far_planned(struct far *f, enum far_fault kind);
/* Is the next page of this kind one that is to fail? */
static inline bool far_fails(struct far *f, enum far_fault kind)
{
	return __builtin_expect(__atomic_load_n(&f->injecting, __ATOMIC_RELAXED) != 0, 0) && far_planned(f, kind);
}

/* f->lock, when nothing is frozen. */
void far_lock_change(struct far *f);

/* ---- space.c: memory that grows in place ---- */

/* Addresses that are reserved, of which the first are memory. */
struct space {
	char *base;
	uint64_t reserved, open;	/* bytes */
};

/* The first bytes are memory: 0 or -ENOMEM. */
int space_reach(struct space *s, uint64_t bytes);
/* How much this host has. */
uint64_t space_host(void);

/* ---- the kinds ---- */

int zram_open(struct far **out, struct region *r, const struct far_spec *spec);
int file_open(struct far **out, struct region *r, const struct far_spec *spec);

#endif

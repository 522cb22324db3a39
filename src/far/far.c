/* SPDX-License-Identifier: MIT */
/* The door of the stores: which kind is asked, freezing, faults for tests. */
#include "far/store.h"

#include <errno.h>
#include <string.h>

int far_open(struct far **out, struct region *r, const struct far_spec *spec)
{
	*out = NULL;
	switch (spec->kind) {
	case FAR_ZRAM:
		return zram_open(out, r, spec);
	case FAR_FILE:
		return file_open(out, r, spec);
	default:
		return -EINVAL;
	}
}

void far_close(struct far *f)
{
	f->ops->close(f);
}

enum far_kind far_kind(const struct far *f)
{
	return f->spec.kind;
}

bool far_slow(const struct far *f)
{
	return f->slow;
}

uint32_t far_put(struct far *f, const void *src, uint32_t nr, uint32_t *home, int *err)
{
	uint32_t kept;

	BUG_ON(nr > FAR_BATCH);
	*err = 0;
	kept = nr ? f->ops->put(f, src, nr, home, err) : 0;
	memset(&home[kept], 0, (nr - kept) * sizeof(*home));
	far_count(&f->events.puts, kept);
	if (kept < nr)
		far_count(&f->events.refused, nr - kept);
	return kept;
}

static void count_gets(struct far *f, uint32_t nr, const int *err)
{
	far_count(&f->events.gets, nr);
	for (uint32_t i = 0; i < nr; i++)
		if (err[i])
			far_count(err[i] == -EBADMSG ? &f->events.bad_sums : &f->events.io_errors, 1);
}

int far_get(struct far *f, uint32_t home, void *dst)
{
	int err = 0;

	f->ops->get(f, &home, 1, dst, &err);
	count_gets(f, 1, &err);
	return err;
}

void far_get_many(struct far *f, const uint32_t *home, uint32_t nr, void *dst, int *err)
{
	BUG_ON(nr > FAR_BATCH);
	if (!nr)
		return;
	f->ops->get(f, home, nr, dst, err);
	count_gets(f, nr, err);
}

void far_drop(struct far *f, const uint32_t *home, uint32_t nr)
{
	f->ops->drop(f, home, nr);
	far_count(&f->events.drops, nr);
}

void far_stats(struct far *f, struct far_stats *out)
{
	*out = (struct far_stats){
		.puts = __atomic_load_n(&f->events.puts, __ATOMIC_RELAXED),
		.gets = __atomic_load_n(&f->events.gets, __ATOMIC_RELAXED),
		.drops = __atomic_load_n(&f->events.drops, __ATOMIC_RELAXED),
		.refused = __atomic_load_n(&f->events.refused, __ATOMIC_RELAXED),
		.io_errors = __atomic_load_n(&f->events.io_errors, __ATOMIC_RELAXED),
		.bad_sums = __atomic_load_n(&f->events.bad_sums, __ATOMIC_RELAXED),
	};
	f->ops->stats(f, out);
}

/* ---- fork ---- */

void far_lock_change(struct far *f)
{
	lock_acquire(&f->lock);
	while (f->frozen) {
		lock_release(&f->lock);
		futex_wait(&f->frozen, 1, 0);
		lock_acquire(&f->lock);
	}
}

void far_freeze(struct far *f)
{
	far_lock_change(f);
	f->frozen = 1;
	if (f->ops->freeze)
		f->ops->freeze(f);
	lock_release(&f->lock);
}

void far_thaw(struct far *f)
{
	lock_acquire(&f->lock);
	if (f->ops->thaw)
		f->ops->thaw(f);
	__atomic_store_n(&f->frozen, 0, __ATOMIC_RELAXED);
	lock_release(&f->lock);
	futex_wake(&f->frozen);
}

/* Threads that were in a call here are the parent's: what they held is free. */
int far_fork_child(struct far *f)
{
	f->lock = LOCK_INIT(RANK_FAR);
	f->plans = LOCK_INIT(RANK_POST);
	f->frozen = 0;
	return f->ops->fork_child(f);
}

/* ---- faults ---- */

bool far_planned(struct far *f, enum far_fault kind)
{
	struct far_plan *p = &f->plan[kind];
	bool fails = false;

	lock_acquire(&f->plans);
	if (p->nr && p->skip) {
		p->skip--;
	} else if (p->nr) {
		p->nr--;
		fails = true;
		if (!p->nr)
			__atomic_fetch_sub(&f->injecting, 1, __ATOMIC_RELAXED);
	}
	lock_release(&f->plans);
	return fails;
}

void far_inject(struct far *f, enum far_fault kind, uint32_t skip, uint32_t nr)
{
	struct far_plan *p = &f->plan[kind];

	lock_acquire(&f->plans);
	if (!p->nr && nr)
		__atomic_fetch_add(&f->injecting, 1, __ATOMIC_RELAXED);
	if (p->nr && !nr)
		__atomic_fetch_sub(&f->injecting, 1, __ATOMIC_RELAXED);
	*p = (struct far_plan){ skip, nr };
	lock_release(&f->plans);
}

/* SPDX-License-Identifier: MIT */
/* Stores of a simulated world: plain copies. They can be full, and what they keep can break, where the weather says so. */
#include "sim.h"

#include "far/far.h"

#include <errno.h>
#include <string.h>

#define STORES 2U
#define PAGES 2048U

struct far {
	struct far_spec spec;
	bool open, frozen;
	uint32_t nr;
	bool used[PAGES], broken[PAGES];
	uint8_t page[PAGES][FAR_PAGE];
};

static struct far stores[STORES];

int far_open(struct far **out, struct region *r, const struct far_spec *spec)
{
	(void)r;
	for (uint32_t i = 0; i < STORES; i++)
		if (!stores[i].open) {
			memset(&stores[i], 0, offsetof(struct far, page));
			stores[i].spec = *spec;
			stores[i].open = true;
			*out = &stores[i];
			return 0;
		}
	return -ENOMEM;
}

void far_close(struct far *f)
{
	f->open = false;
}

enum far_kind far_kind(const struct far *f)
{
	return f->spec.kind;
}

bool far_slow(const struct far *f)
{
	return f->spec.kind == FAR_FILE;
}

/* How many it keeps. */
uint64_t far_kept(const struct far *f)
{
	return f->nr;
}

const uint8_t *far_content(const struct far *f, uint32_t home)
{
	return home && home < PAGES && f->used[home] ? f->page[home] : NULL;
}

uint32_t far_homes(void)
{
	return PAGES;
}

static bool thawed(void *arg)
{
	return !((struct far *)arg)->frozen;
}

static uint32_t keep(struct far *f, const uint8_t *src)
{
	for (uint32_t i = 1; i < PAGES; i++)
		if (!f->used[i]) {
			f->used[i] = true;
			f->broken[i] = false;
			f->nr++;
			memcpy(f->page[i], src, FAR_PAGE);
			return i;
		}
	return 0;
}

/* 0, or why the store takes no page more. */
static int refuses(const struct far *f)
{
	if (!world->calm && chance(world->weather.bad_writes))
		return -EIO;
	return f->spec.bytes && (f->nr + 1) * FAR_PAGE > f->spec.bytes ? -ENOSPC : 0;
}

uint32_t far_put(struct far *f, const void *src, uint32_t nr, uint32_t *home, int *err)
{
	sched_wait(thawed, f, "a store");
	for (uint32_t i = 0; i < nr; i++) {
		sched_point();
		sched_wait(thawed, f, "a store");
		*err = refuses(f);
		home[i] = *err ? 0 : keep(f, kernel_bytes((uint64_t)src + i * FAR_PAGE));
		if (!home[i]) {
			*err = *err ? *err : -ENOSPC;
			return i;
		}
	}
	return nr;
}

/* What breaks stays broken, and is none of the pages that are all zeroes: the oracle knows it by its content. */
static bool breaks(struct far *f, uint32_t home)
{
	if (!f->broken[home] && !world->calm && chance(world->weather.bad_reads))
		f->broken[home] = shadow_breaks(f->page[home]);
	return f->broken[home];
}

int far_get(struct far *f, uint32_t home, void *dst)
{
	sched_point();
	if (!home || home >= PAGES || !f->used[home])
		fail("a store was asked for %u, which it does not keep", home);
	if (breaks(f, home)) {
		memset(dst, 0xbd, FAR_PAGE);
		return home % 2 ? -EIO : -EBADMSG;
	}
	memcpy(dst, f->page[home], FAR_PAGE);
	return 0;
}

void far_get_many(struct far *f, const uint32_t *home, uint32_t nr, void *dst, int *err)
{
	for (uint32_t i = 0; i < nr; i++)
		err[i] = far_get(f, home[i], (uint8_t *)dst + i * FAR_PAGE);
}

void far_drop(struct far *f, const uint32_t *home, uint32_t nr)
{
	if (f->frozen)
		fail("a page was dropped from a store in the middle of a fork");
	sched_point();
	for (uint32_t i = 0; i < nr; i++) {
		if (!home[i] || home[i] >= PAGES || !f->used[home[i]])
			fail("%u was dropped from a store that does not keep it", home[i]);
		f->used[home[i]] = false;
		f->nr--;
	}
}

void far_stats(struct far *f, struct far_stats *out)
{
	*out = (struct far_stats){ .pages = f->nr };
}

void far_freeze(struct far *f)
{
	f->frozen = true;
}

void far_thaw(struct far *f)
{
	f->frozen = false;
}

int far_fork_child(struct far *f)
{
	f->frozen = false;
	return 0;
}

void far_inject(struct far *f, enum far_fault kind, uint32_t skip, uint32_t nr)
{
	(void)f;
	(void)kind;
	(void)skip;
	(void)nr;
}

/* SPDX-License-Identifier: MIT */
/*
 * The oracle. A shadow keeps what each page of the program must hold, from the program's own doings alone; after
 * every step what is there is compared with it. A page that is absent must be in flight, somewhere in the batch.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRIPE 16U
#define WHOLE_EVERY 256U
#define BOOKS_EVERY 64U

static struct shadow_page shadow[WORLD_PAGES];
static uint64_t serial;
static uint32_t stripe;

struct snapshot {
	struct shadow_page page[WORLD_PAGES];
};

struct shadow_page *shadow_at(uint64_t addr)
{
	uint64_t nr = (addr - MMU_SIM_BASE) / PAGE_SIZE_;

	return addr >= MMU_SIM_BASE && nr < WORLD_PAGES ? &shadow[nr] : NULL;
}

uint64_t shadow_value(uint64_t addr)
{
	return ++serial << 12 | (addr - MMU_SIM_BASE) / PAGE_SIZE_;
}

uint32_t shadow_page_of(uint64_t value)
{
	return (uint32_t)(value & 0xfff);
}

/* ---- what the program does ---- */

void shadow_map(uint64_t addr, uint64_t len, bool mapped, bool writable)
{
	for (uint64_t at = addr; at < addr + len; at += PAGE_SIZE_) {
		shadow_at(at)->mapped = mapped;
		shadow_at(at)->writable = writable;
	}
}

void shadow_discarding(uint64_t addr, uint64_t len, int by)
{
	for (uint64_t at = addr; at < addr + len; at += PAGE_SIZE_)
		shadow_at(at)->discarding = (uint8_t)(shadow_at(at)->discarding + by);
}

static void lost(void *arg, uint64_t addr, uint64_t end)
{
	(void)arg;
	for (; addr < end; addr += PAGE_SIZE_)
		if (shadow_at(addr))
			memset(shadow_at(addr)->word, 0, sizeof(shadow_at(addr)->word));
}

static void moved(void *arg, uint64_t addr, uint64_t len, uint64_t to)
{
	(void)arg;
	for (uint64_t at = 0; at < len; at += PAGE_SIZE_) {
		struct shadow_page *src = shadow_at(addr + at), *dst = shadow_at(to + at);

		memcpy(dst->word, src->word, sizeof(src->word));
		dst->mapped = src->mapped;
		dst->writable = src->writable;
		memset(src, 0, sizeof(*src));
	}
}

void shadow_begin(void)
{
	static const struct mmu_sim_witness witness = { lost, moved, NULL };

	memset(shadow, 0, sizeof(shadow));
	serial = stripe = 0;
	mmu_sim_witness(world->sim, &witness);
}

void shadow_end(void)
{
	mmu_sim_witness(world->sim, NULL);
}

/* ---- pages ---- */

static bool empty(const struct shadow_page *p)
{
	for (uint32_t w = 0; w < WORDS; w++)
		if (p->word[w])
			return false;
	return true;
}

static uint64_t word_of(const uint8_t *frame, uint32_t w)
{
	uint64_t value;

	memcpy(&value, frame + w * (PAGE_SIZE_ / WORDS), sizeof(value));
	return value;
}

static bool frame_holds(const uint8_t *frame, const struct shadow_page *p)
{
	for (uint32_t w = 0; w < WORDS; w++) {
		uint64_t v = word_of(frame, w);

		if (v != p->word[w] && !(p->discarding && !v))
			return false;
	}
	return true;
}

static bool run_holds(uint64_t run, const struct batch *b, const struct shadow_page *p)
{
	uint32_t nr = b->nr ? b->nr : b->want;

	for (uint64_t at = run; at < run + nr * b->unit; at += PAGE_SIZE_) {
		const uint8_t *frame = mmu_sim_frame(world->sim, at);

		if (frame && frame_holds(frame, p))
			return true;
	}
	return false;
}

static bool in_flight(const struct shadow_page *p)
{
	const struct batch *b = &world->mm.batch;

	return b->nr && (run_holds(b->out, b, p) || run_holds(b->frames, b, p));
}

static void page_wrong(uint32_t nr, const uint8_t *frame)
{
	const struct shadow_page *p = &shadow[nr];

	for (uint32_t w = 0; w < WORDS; w++)
		if (!frame || word_of(frame, w) != p->word[w])
			fail("page %u at %#lx: word %u is %#lx, must be %#lx%s%s", nr, page_at(nr), w,
			     frame ? word_of(frame, w) : 0, p->word[w], frame ? "" : " (no page there, none in flight)",
			     p->discarding ? " or 0" : "");
	abort();
}

static bool given_up(uint32_t nr)
{
	uint64_t value;

	return world->failed_call && world->mm.stats.poisoned && mmu_sim_load(world->sim, page_at(nr), &value) < 0;
}

static void check_page(uint32_t nr)
{
	const struct shadow_page *p = &shadow[nr];
	const uint8_t *frame = p->mapped ? mmu_sim_frame(world->sim, page_at(nr)) : NULL;

	if (!p->mapped || (frame && frame_holds(frame, p)))
		return;
	if (!frame && (empty(p) || p->discarding || in_flight(p)))
		return;
	if (!given_up(nr))
		page_wrong(nr, frame);
}

/* Nothing but the words: a page is right in each byte. */
static void check_bytes(uint32_t nr)
{
	const uint8_t *frame = shadow[nr].mapped ? mmu_sim_frame(world->sim, page_at(nr)) : NULL;

	for (uint32_t at = 0; frame && at < PAGE_SIZE_; at++)
		if (at % (PAGE_SIZE_ / WORDS) >= sizeof(uint64_t) && frame[at])
			fail("page %u: byte %u is %#x, must be 0", nr, at, frame[at]);
}

/* ---- books ---- */

static void check_charges(void)
{
	uint64_t pages[NODE_MAX] = { 0 }, at = 0, present = 0;
	struct mm *mm = &world->mm;
	struct page *leaf;

	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		for (uint32_t i = 0; i < (leaf->flags & PG_HUGE ? 1 : LEAF_PAGES); i++)
			if (leaf[i].flags & PG_PRESENT)
				pages[leaf[i].node] += page_nr(&leaf[i]);
		at += HUGE_SIZE_;
	}
	for (uint32_t n = 0; n < world->nodes.nr; n++) {
		const struct node *node = &world->nodes.node[n];

		present += pages[n];
		if (node->pages != pages[n])
			fail("node %u is charged %lu pages, the books have %lu on it", n, node->pages, pages[n]);
		if (mm->lru[n].nr > pages[n])
			fail("the LRU of node %u has %lu pages, the books have %lu on it", n, mm->lru[n].nr, pages[n]);
	}
	if (present != mm->pt.present)
		fail("the books say %lu pages, and have %lu", mm->pt.present, present);
}

/* Slots [0, full) are frames, the others are empty. */
static void check_arenas(void)
{
	for (uint32_t i = 0; i < world->nodes.nr_arenas; i++)
		for (uint32_t h = 0; h < 2; h++) {
			const struct arena *a = &world->nodes.arena[i];
			const struct half *half = &a->half[h];

			for (uint32_t s = 0; s < a->slots; s++)
				if ((mmu_sim_frame(world->sim, half->base + s * a->unit) != NULL) != (s < half->full))
					fail("arena %u half %u, %u free frames: slot %u %s", i, h, half->full, s,
					     s < half->full ? "has no frame" : "has one");
		}
}

/* Who waits for a page that is there was forgotten. */
static void check_sleepers(void)
{
	for (uint32_t nr = 0; nr < STACKS_AT + STACKS; nr++)
		if (mmu_sim_waiting(world->sim, page_at(nr)) && mmu_sim_frame(world->sim, page_at(nr)))
			fail("page %u at %#lx is there, and who waits for it was not woken", nr, page_at(nr));
}

static bool books_at_rest(void)
{
	return !world->mm.migrate.word && !world->mm.lock.word && !world->mm.batch.nr;
}

/* ---- when ---- */

void oracle_step(void)
{
	uint64_t step = sched_steps();
	const struct batch *b = &world->mm.batch;

	for (uint32_t i = 0; i < b->nr; i++)
		if (b->unit == PAGE_SIZE_ && shadow_at(b->addr[i]))
			check_page((uint32_t)((b->addr[i] - MMU_SIM_BASE) / PAGE_SIZE_));
	for (uint32_t i = 0; i < STRIPE; i++) {
		check_page(stripe);
		stripe = (stripe + 1) % (world->weather.huge ? WORLD_PAGES : STACKS_AT + STACKS);
	}
	if (!(step % WHOLE_EVERY))
		for (uint32_t nr = 0; nr < STACKS_AT + STACKS; nr++)
			check_page(nr);
	if (!(step % BOOKS_EVERY) && books_at_rest()) {
		check_charges();
		if (!mmu_sim_unread(world->sim) && !world->failed_call)
			check_sleepers();
	}
}

void oracle_all(void)
{
	struct mm *mm = &world->mm;

	for (uint32_t nr = 0; nr < WORLD_PAGES; nr++) {
		check_page(nr);
		check_bytes(nr);
		if (mmu_sim_waiting(world->sim, page_at(nr)))
			fail("page %u: a touch still waits", nr);
		if (!world->failed_call && mmu_sim_tracked(world->sim, page_at(nr)))
			fail("page %u is still tracked", nr);
	}
	if (mm->migrate.word || mm->lock.word || mm->batch.nr || mm->users)
		fail("locks %u %u, %u pages in flight, %u requests: something is held by nobody", mm->migrate.word,
		     mm->lock.word, mm->batch.nr, mm->users);
	check_charges();
	if (!world->failed_call)
		check_arenas();
	if (mm->stats.poisoned && !world->failed_call)
		fail("%lu pages were given up", mm->stats.poisoned);
}

/* ---- children ---- */

struct snapshot *snapshot_take(void)
{
	struct snapshot *s = malloc(sizeof(*s));

	memcpy(s->page, shadow, sizeof(shadow));
	return s;
}

struct child_load {
	int child;
	uint64_t addr, value;
	int err;
};

/* A child's touch of a hole waits for the engine, too. */
static bool child_loaded(void *arg)
{
	struct child_load *l = arg;

	l->err = mmu_sim_child_load(world->sim, l->child, l->addr, &l->value);
	return l->err != -EWOULDBLOCK;
}

void snapshot_check(const struct snapshot *s, int child)
{
	for (uint32_t nr = 0; nr < (world->weather.huge ? WORLD_PAGES : STACKS_AT + STACKS); nr++)
		for (uint32_t w = 0; w < WORDS && s->page[nr].mapped; w++) {
			struct child_load l = { .child = child, .addr = page_at(nr) + w * (PAGE_SIZE_ / WORDS) };

			sched_wait(child_loaded, &l, "a page of a child");
			if ((s->page[nr].discarding && (l.err || !l.value)) || (l.err && world->failed_call))
				continue;
			if (l.err || l.value != s->page[nr].word[w])
				fail("child %d, page %u: word %u is %#lx (%d), must be %#lx", child, nr, w, l.value,
				     l.err, s->page[nr].word[w]);
		}
}

void snapshot_free(struct snapshot *s)
{
	free(s);
}

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
#define BROKEN_MOST 4096U

static struct shadow_page shadow[WORLD_PAGES];
static uint64_t serial;
static uint32_t stripe;
static struct {
	uint64_t word[WORDS];
} broken[BROKEN_MOST];
static uint32_t nr_broken;

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

/* What the books have of an address, for a report. */
void shadow_report(uint64_t addr)
{
	struct mm *mm = &world->mm;
	struct page *page = page_find(&mm->pt, addr);

	if (page)
		printf("# the books have %#lx as: flags %#x, node %u, home %u, refs %u, want %#x\n", addr, page->flags,
		       page->node, page->home, page->refs, page->want);
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		printf("# stranded: %#lx, node %d, home %u\n", mm->stranded[i].addr, mm->stranded[i].node,
		       mm->stranded[i].home);
	for (uint32_t i = 0; i < mm->nr_notes; i++)
		printf("# noted: %#lx to %#lx, to %#lx\n", mm->notes[i].start, mm->notes[i].end, mm->notes[i].to);
	printf("# forking %u, heir %d, %u + %u for a device, %u in hands, %u in flight\n", mm->forking, mm->heir,
	       mm->slow.nr, mm->slow.busy, mm->fetch.nr, mm->batch.nr);
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
	for (uint64_t at = addr; at < addr + len; at += PAGE_SIZE_)
		shadow_at(at)->raced = shadow_at(at)->discarding ? shadow_at(at)->raced : 0;
}

static void lost(void *arg, uint64_t addr, uint64_t end)
{
	(void)arg;
	for (; addr < end; addr += PAGE_SIZE_)
		for (uint32_t w = 0; w < WORDS && shadow_at(addr); w++) {
			struct shadow_page *p = shadow_at(addr);

			p->maybe[w] = p->raced >> w & 1 ? p->word[w] : 0;
			p->word[w] = 0;
		}
}

static void moved(void *arg, uint64_t addr, uint64_t len, uint64_t to)
{
	(void)arg;
	for (uint64_t at = 0; at < len; at += PAGE_SIZE_) {
		struct shadow_page *src = shadow_at(addr + at), *dst = shadow_at(to + at);

		BUG_ON(!src || !dst);
		memcpy(dst->word, src->word, sizeof(src->word));
		memcpy(dst->maybe, src->maybe, sizeof(src->maybe));
		dst->mapped = src->mapped;
		dst->writable = src->writable;
		memset(src, 0, sizeof(*src));
	}
}

void shadow_begin(void)
{
	static const struct mmu_sim_witness witness = { lost, moved, NULL };

	memset(shadow, 0, sizeof(shadow));
	serial = stripe = nr_broken = 0;
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

		if (v != p->word[w] && !(p->discarding && !v) && !(v && v == p->maybe[w]))
			return false;
	}
	return true;
}

bool shadow_breaks(const uint8_t *content)
{
	uint64_t any = 0;

	for (uint32_t w = 0; w < WORDS; w++)
		any |= broken[nr_broken].word[w] = word_of(content, w);
	if (!any || nr_broken == BROKEN_MOST - 1)
		return false;
	nr_broken++;
	return true;
}

/* No page is written to after it broke, and no two have the same content. */
bool shadow_broken(const struct shadow_page *p)
{
	for (uint32_t i = 0; i < nr_broken; i++)
		if (!memcmp(broken[i].word, p->word, sizeof(p->word)))
			return true;
	return false;
}

static bool bit_of(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> i % 64 & 1;
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

/* What a store, or a slot of the cache, keeps; NULL: nothing. */
static const uint8_t *content_of(int node, uint32_t home)
{
	struct mm *mm = &world->mm;

	if (node_far(mm->nodes, node))
		return far_content(mm->far[node], home);
	return home < mm->cache.slots && bit_of(mm->cache.used, home) ? mmu_sim_frame(world->sim, cache_slot(mm, home))
								      : NULL;
}

/* What the books say of an address whose page is away; NULL: they do not. */
static const uint8_t *content_away(uint64_t addr)
{
	struct mm *mm = &world->mm;
	struct page *page = mm->pt.away ? away_at(mm, addr) : NULL;

	for (uint32_t i = 0; i < mm->nr_stranded && !page; i++)
		if (mm->stranded[i].addr == addr)
			return content_of(mm->stranded[i].node, mm->stranded[i].home);
	return page ? content_of(page->node, page->home) : NULL;
}

/* Until the event is read that tells where a page is now the books have it elsewhere. */
static bool books_lag(void)
{
	return mmu_sim_unread(world->sim) || world->mm.lock.word || world->mm.migrate.word || world->mm.forking ||
	       world->failed_call;
}

/* In some store or slot, whatever the books say. */
static bool away_anywhere(const struct shadow_page *p)
{
	for (uint32_t slot = 0; slot < world->mm.cache.slots; slot++) {
		const uint8_t *content = mmu_sim_frame(world->sim, cache_slot(&world->mm, slot));

		if (content && frame_holds(content, p))
			return true;
	}
	for (uint32_t n = 0; n < world->nodes.nr; n++)
		for (uint32_t home = 0; world->mm.far[n] && home < far_homes(); home++) {
			const uint8_t *content = far_content(world->mm.far[n], home);

			if (content && frame_holds(content, p))
				return true;
		}
	return false;
}

static bool is_away(uint32_t nr)
{
	const struct shadow_page *p = &shadow[nr];
	const uint8_t *content = content_away(page_at(nr));

	if (content && !p->discarding && !books_lag() && !mmu_sim_tracked(world->sim, page_at(nr)))
		fail("page %u at %#lx is away, and its touch would not be told", nr, page_at(nr));
	if (content && frame_holds(content, p))
		return true;
	return books_lag() && away_anywhere(p);
}

static void page_wrong(uint32_t nr, const uint8_t *frame)
{
	const struct shadow_page *p = &shadow[nr];

	shadow_report(page_at(nr));
	for (uint32_t w = 0; w < WORDS; w++)
		if ((frame ? word_of(frame, w) : 0) != p->word[w])
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
	if (!frame && (empty(p) || p->discarding || in_flight(p) || is_away(nr)))
		return;
	if (shadow_broken(p) && mmu_sim_load(world->sim, page_at(nr), &(uint64_t){ 0 }) == -EFAULT)
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

struct census {
	uint64_t on[NODE_MAX], away[NODE_MAX], stranded[NODE_MAX];
	uint64_t nr_present, nr_away, nr_cached;
};

static void count_entry(struct census *c, const struct page *page)
{
	if ((page->flags & PG_PRESENT) && (page->flags & PG_AWAY))
		fail("a page is said to be present and away");
	if (page->flags & PG_PRESENT && node_far(&world->nodes, page->node))
		fail("page %#lx is said to be present on node %u, which is far", page_addr(&world->mm.pt, page),
		     page->node);
	if (page->flags & (PG_PRESENT | PG_AWAY))
		c->on[page->node] += page_nr(page);
	if (page->flags & PG_PRESENT)
		c->nr_present += page_nr(page);
	if (!(page->flags & PG_AWAY))
		return;
	c->away[page->node]++;
	c->nr_away++;
	c->nr_cached += !node_far(&world->nodes, page->node);
	if (page->flags & PG_LAZY && page->want >= world->nodes.nr && page->want != WANT_TOUCHER)
		fail("page %#lx waits for a touch, and for node %#x", page_addr(&world->mm.pt, page), page->want);
	if (!content_of(page->node, page->home))
		fail("a page is said to be away on node %u as %u, which is not kept there", page->node, page->home);
}

static void census_take(struct census *c)
{
	struct mm *mm = &world->mm;
	struct page *leaf;
	uint64_t at = 0;

	memset(c, 0, sizeof(*c));
	for (uint32_t i = 0; i < mm->nr_stranded; i++)
		c->stranded[mm->stranded[i].node]++;
	while ((leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_))) {
		for (uint32_t i = 0; i < (leaf->flags & PG_HUGE ? 1 : LEAF_PAGES); i++)
			count_entry(c, &leaf[i]);
		at += HUGE_SIZE_;
	}
}

static void check_charges(void)
{
	struct mm *mm = &world->mm;
	uint64_t in_cache = 0;
	struct census c;

	census_take(&c);
	for (uint32_t n = 0; n < world->nodes.nr; n++) {
		const struct node *node = &world->nodes.node[n];

		if (node->pages != c.on[n])
			fail("node %u is charged %lu pages, the books have %lu on it", n, node->pages, c.on[n]);
		if (mm->lru[n].nr > c.on[n])
			fail("the LRU of node %u has %lu pages, the books have %lu on it", n, mm->lru[n].nr, c.on[n]);
		if (mm->far[n] && far_kept(mm->far[n]) != c.away[n] + c.stranded[n])
			fail("node %u keeps %lu pages, the books have %lu away there", n, far_kept(mm->far[n]),
			     c.away[n] + c.stranded[n]);
		in_cache += mm->far[n] ? 0 : c.stranded[n];
	}
	if (c.nr_present != mm->pt.present || c.nr_away != mm->pt.away)
		fail("the books say %lu pages and %lu away, and have %lu and %lu", mm->pt.present, mm->pt.away,
		     c.nr_present, c.nr_away);
	in_cache += c.nr_cached;
	if (c.nr_cached != mm->pt.cached || in_cache != mm->cache.nr || mm->languish.nr > c.nr_cached)
		fail("%lu pages are in the cache: %lu by its own books, %u slots used, %lu on its list", in_cache,
		     mm->pt.cached, mm->cache.nr, mm->languish.nr);
}

/* What is neither in use nor stale is empty. */
static void check_cache(void)
{
	const struct cache *c = &world->mm.cache;
	uint32_t stale = 0, used = 0;

	for (uint32_t s = 0; s < c->slots; s++) {
		bool is_used = bit_of(c->used, s), is_stale = bit_of(c->stale, s);

		if (is_used && is_stale)
			fail("slot %u of the cache is in use and stale", s);
		if (!is_used && !is_stale && mmu_sim_frame(world->sim, cache_slot(&world->mm, s)))
			fail("slot %u of the cache has a frame, and is said to be empty", s);
		stale += is_stale;
		used += is_used;
	}
	if (used != c->nr || (stale != c->nr_stale && !world->failed_call))
		fail("the cache has %u slots in use and %u stale, and says %u and %u", used, stale, c->nr, c->nr_stale);
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

/* What was carried to where a first touch waits for the reclaimer is found when its turn comes. */
static bool is_held(uint64_t addr)
{
	const struct throttle *t = &world->mm.throttle;

	for (uint32_t i = 0; i < t->nr; i++)
		if (t->held[(t->first + i) % HELD_MOST].ev.addr == addr)
			return true;
	return false;
}

/* Who waits for a page that is there was forgotten. */
static void check_sleepers(void)
{
	for (uint32_t nr = 0; nr < STACKS_AT + STACKS; nr++)
		if (is_held(page_at(nr)))
			continue;
		else if (mmu_sim_waiting(world->sim, page_at(nr)) && mmu_sim_frame(world->sim, page_at(nr)))
			fail("page %u at %#lx is there, and who waits for it was not woken", nr, page_at(nr));
		else if (mmu_sim_waiting(world->sim, page_at(nr)) && content_away(page_at(nr)))
			fail("page %u at %#lx is away, and who waits for it was not answered", nr, page_at(nr));
}

static bool books_at_rest(void)
{
	const struct mm *mm = &world->mm;

	return !mm->migrate.word && !mm->lock.word && !mm->batch.nr && !mm->slow.nr && !mm->slow.busy;
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
		check_cache();
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
	check_cache();
	if (mm->throttle.nr || mm->throttle.guards)
		fail("%u first touches are still held", mm->throttle.nr);
	if (mm->nr_notes || mm->nr_stranded || mm->slow.nr || mm->slow.busy)
		fail("%u notes of a fork, %u pages without an entry, %u + %u for a device: left over", mm->nr_notes,
		     mm->nr_stranded, mm->slow.nr, mm->slow.busy);
	if (!world->failed_call)
		check_arenas();
	if (mm->pt.away && !world->failed_call)
		fail("%lu pages are still away", mm->pt.away);
	if (mm->stats.poisoned > nr_broken && !world->failed_call)
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
			if ((s->page[nr].discarding && (l.err || !l.value)) || (l.err && world->failed_call) ||
			    (l.err == -EFAULT && shadow_broken(&s->page[nr])) ||
			    (!l.err && l.value && l.value == s->page[nr].maybe[w]))
				continue;
			if (l.err || l.value != s->page[nr].word[w])
				shadow_report(l.addr);
			if (l.err || l.value != s->page[nr].word[w])
				fail("child %d, page %u: word %u is %#lx (%d), must be %#lx", child, nr, w, l.value,
				     l.err, s->page[nr].word[w]);
		}
}

void snapshot_free(struct snapshot *s)
{
	free(s);
}

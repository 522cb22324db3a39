/* SPDX-License-Identifier: MIT */
/*
 * mmu_sim.c - the address space of a simulated process.
 *
 * Every page has the attributes of its area and a page table entry: nothing, a frame, the zero page or a
 * poison marker. A frame is shared by all that refer to it: mappings, forked children, pins, spliced pipes.
 * A huge page is 512 frames under one PMD that has no page table. Deterministic: whoever calls decides
 * the order.
 */
#include "mmu/mmu_sim_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses ---- */

static uint64_t space_end(const struct sim *s)
{
	return MMU_SIM_BASE + s->nr_pages * MMU_PAGE;
}

struct page *sim_page_at(struct sim *s, uint64_t addr)
{
	if (addr < MMU_SIM_BASE || addr >= space_end(s))
		return NULL;
	return &s->page[(addr - MMU_SIM_BASE) / MMU_PAGE];
}

struct pmd *sim_pmd_at(struct sim *s, uint64_t addr)
{
	return &s->pmd[(addr - MMU_SIM_BASE) / MMU_HUGE];
}

bool sim_range_ok(const struct sim *s, uint64_t addr, uint64_t len)
{
	return len && !((addr | len) % MMU_PAGE) && addr >= MMU_SIM_BASE && addr <= space_end(s) &&
	       len <= space_end(s) - addr;
}

uint64_t sim_area_end(struct sim *s, uint64_t addr, uint64_t end)
{
	const struct page *first = sim_page_at(s, addr), *p = first;

	for (; addr < end; addr += MMU_PAGE, p++)
		if (p->shift != first->shift || (p->flags ^ first->flags) & P_AREA)
			break;
	return addr;
}

bool sim_one_area(struct sim *s, uint64_t addr, uint64_t len)
{
	return sim_range_ok(s, addr, len) && sim_page_at(s, addr)->flags & P_MAPPED &&
	       sim_area_end(s, addr, addr + len) == addr + len;
}

bool sim_some_have(struct sim *s, uint64_t addr, uint64_t len, uint32_t attr)
{
	const struct page *p = sim_page_at(s, addr), *end = p + len / MMU_PAGE;

	for (; p < end; p++)
		if (p->flags & attr)
			return true;
	return false;
}

bool sim_all_have(struct sim *s, uint64_t addr, uint64_t len, uint32_t attr)
{
	const struct page *p = sim_page_at(s, addr), *end = p + len / MMU_PAGE;

	for (; p < end; p++)
		if (!(p->flags & attr))
			return false;
	return true;
}

static uint32_t changed_flags(const struct page *p, uint32_t set, uint32_t clear)
{
	return p->flags & P_MAPPED ? (p->flags & ~clear) | set : p->flags;
}

/* An area is cut at an end of the range only if that end changes. */
void sim_change_attr(struct sim *s, uint64_t addr, uint64_t len, uint32_t set, uint32_t clear)
{
	struct page *p = sim_page_at(s, addr), *end = p + len / MMU_PAGE;

	if (changed_flags(p, set, clear) != p->flags)
		sim_split_edge(s, addr);
	if (changed_flags(end - 1, set, clear) != end[-1].flags)
		sim_split_edge(s, addr + len);
	for (; p < end; p++)
		p->flags = changed_flags(p, set, clear);
}

/* ---- frames and page tables ---- */

void *sim_alloc(size_t nr, size_t size)
{
	void *mem = calloc(nr, size);

	BUG_ON(!mem);
	return mem;
}

void sim_free(void *mem)
{
	free(mem);
}

struct frame *sim_frame_new(struct sim *s, const struct frame *from)
{
	struct frame *f = sim_alloc(1, sizeof(*f));

	f->refs = 1;
	if (from)
		memcpy(f->data, from->data, MMU_PAGE);
	s->nr_frames++;
	return f;
}

struct frame *sim_frame_get(struct frame *f)
{
	f->refs++;
	return f;
}

void sim_frame_put(struct sim *s, struct frame *f)
{
	if (!f || --f->refs)
		return;
	s->nr_frames--;
	sim_free(f);
}

static void page_clear(struct sim *s, struct page *p)
{
	sim_frame_put(s, p->frame);
	p->frame = NULL;
	p->flags &= ~(uint32_t)P_PTE;
}

void sim_page_transfer(struct page *dst, struct page *src)
{
	dst->frame = src->frame;
	dst->flags = (dst->flags & ~(uint32_t)P_PTE) | (src->flags & P_PTE);
	src->frame = NULL;
	src->flags &= ~(uint32_t)P_PTE;
}

void sim_split_pmd(struct pmd *pmd)
{
	if (!pmd->huge)
		return;
	pmd->huge = false;
	pmd->table = true;
}

void sim_split_edge(struct sim *s, uint64_t addr)
{
	if (addr % MMU_HUGE)
		sim_split_pmd(sim_pmd_at(s, addr));
}

void sim_move_huge(struct sim *s, uint64_t dst, uint64_t src)
{
	uint64_t i;

	for (i = 0; i < PMD_PAGES; i++)
		sim_page_transfer(sim_page_at(s, dst) + i, sim_page_at(s, src) + i);
	*sim_pmd_at(s, dst) = *sim_pmd_at(s, src);
	*sim_pmd_at(s, src) = (struct pmd){ 0 };
}

/* Page tables that lie whole in the range go with their pages. */
void sim_zap(struct sim *s, uint64_t addr, uint64_t end)
{
	uint64_t at;

	sim_split_edge(s, addr);
	sim_split_edge(s, end);
	for (at = addr; at < end; at += MMU_PAGE)
		page_clear(s, sim_page_at(s, at));
	for (at = ALIGN_UP(addr, MMU_HUGE); at + MMU_HUGE <= end; at += MMU_HUGE)
		*sim_pmd_at(s, at) = (struct pmd){ 0 };
}

void sim_install_frame(struct sim *s, uint64_t addr, const struct frame *from)
{
	sim_page_at(s, addr)->frame = sim_frame_new(s, from);
	sim_pmd_at(s, addr)->table = true;
}

static bool may_be_huge(struct sim *s, uint64_t addr)
{
	const struct pmd *pmd = sim_pmd_at(s, addr);

	return sim_page_at(s, addr)->flags & P_THP && !pmd->huge && !pmd->table &&
	       sim_one_area(s, ALIGN_DOWN(addr, MMU_HUGE), MMU_HUGE);
}

static void install_huge(struct sim *s, uint64_t addr)
{
	uint64_t at = ALIGN_DOWN(addr, MMU_HUGE), end = at + MMU_HUGE;

	for (; at < end; at += MMU_PAGE)
		sim_install_frame(s, at, NULL);
	*sim_pmd_at(s, addr) = (struct pmd){ .huge = true };
}

const uint8_t *sim_bytes_at(struct sim *s, uint64_t addr)
{
	static const uint8_t zeroes[MMU_PAGE];
	const struct page *p = sim_page_at(s, addr);

	return (p->frame ? p->frame->data : zeroes) + addr % MMU_PAGE;
}

/* ---- touches ---- */

static int touch_waits(struct sim *s, uint64_t addr, bool write)
{
	struct page *p = sim_page_at(s, addr);

	if (!(p->flags & P_WAIT))
		s->fault[s->nr_faults++] = (struct fault){ ALIGN_DOWN(addr, MMU_PAGE), write };
	p->flags |= P_WAIT;
	return -EWOULDBLOCK;
}

void sim_first_touch(struct sim *s, uint64_t addr, bool write)
{
	if (write && may_be_huge(s, addr)) {
		install_huge(s, addr);
	} else if (write) {
		sim_install_frame(s, addr, NULL);
	} else {
		sim_page_at(s, addr)->flags |= P_ZERO;
		sim_pmd_at(s, addr)->table = true;
	}
}

/* A huge page that nobody else refers to any more is the program's own again at once. */
static bool reuse_huge(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, ALIGN_DOWN(addr, MMU_HUGE));
	uint64_t i;

	for (i = 0; i < PMD_PAGES; i++)
		if (p[i].frame->refs > 1)
			return false;
	for (i = 0; i < PMD_PAGES; i++)
		p[i].flags &= ~(uint32_t)P_SHARED;
	return true;
}

/* A write to a page that is shared since a fork, or the zero page. */
static void break_cow(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, addr);
	struct frame *own;

	if (sim_pmd_at(s, addr)->huge && reuse_huge(s, addr))
		return;
	sim_split_pmd(sim_pmd_at(s, addr));
	if (!p->frame || p->frame->refs > 1) {
		own = sim_frame_new(s, p->frame);
		page_clear(s, p);
		p->frame = own;
	}
	p->flags &= ~(uint32_t)P_PTE;
}

int sim_touch(struct sim *s, uint64_t addr, bool write)
{
	struct page *p = sim_page_at(s, addr);

	if (!p || !(p->flags & P_MAPPED) || (write && !(p->flags & P_WRITE)))
		return -EACCES;
	if (p->flags & P_POISON)
		return -EFAULT;
	if (!page_occupied(p) && p->flags & P_TRACK)
		return touch_waits(s, addr, write);
	if (!page_occupied(p))
		sim_first_touch(s, addr, write);
	else if (write && p->flags & (P_ZERO | P_SHARED))
		break_cow(s, addr);
	return 0;
}

/* Faults that were not read yet are not reported any more. */
void sim_wake(struct sim *s, uint64_t addr, uint64_t len)
{
	uint64_t i, kept = 0, at;

	for (at = addr; at < addr + len; at += MMU_PAGE)
		sim_page_at(s, at)->flags &= ~(uint32_t)P_WAIT;
	for (i = 0; i < s->nr_faults; i++)
		if (s->fault[i].addr - addr >= len)
			s->fault[kept++] = s->fault[i];
	s->nr_faults = kept;
}

/* ---- events ---- */

void sim_lost(struct sim *s, uint64_t addr, uint64_t end)
{
	if (s->witness)
		s->witness->lost(s->witness->arg, addr, end);
}

void sim_post_event(struct sim *s, const struct mmu_event *ev, uint64_t rest)
{
	struct event *e = sim_alloc(1, sizeof(*e)), **tail = &s->events;

	e->ev = *ev;
	e->rest = rest;
	e->thread = s->thread;
	while (*tail)
		tail = &(*tail)->next;
	*tail = e;
}

bool sim_events_block(const struct sim *s)
{
	const struct event *e = s->events;

	while (e && e->stage == EV_DISCARD)
		e = e->next;
	return e;
}

struct event *sim_event_in(struct event *e, enum event_stage stage)
{
	while (e && e->stage != stage)
		e = e->next;
	return e;
}

bool sim_event_step(struct sim *s, struct event *e)
{
	struct event **link = &s->events;

	if (e->stage == EV_READ && e->ev.type == MMU_EV_REMOVE) {
		e->stage = EV_DISCARD;
		return false;
	}
	if (e->stage == EV_DISCARD) {
		int thread = s->thread;

		sim_lost(s, e->ev.addr, e->ev.end);
		sim_zap(s, e->ev.addr, e->ev.end);
		s->thread = e->thread;
		sim_discard(s, e->ev.end, e->rest);
		s->thread = thread;
	}
	while (*link != e)
		link = &(*link)->next;
	*link = e->next;
	sim_free(e);
	return true;
}

/* The kernel discards area by area, and waits for the reader before each tracked one. */
int sim_discard(struct sim *s, uint64_t addr, uint64_t end)
{
	struct mmu_event ev = { .type = MMU_EV_REMOVE };

	for (; addr < end; addr = ev.end) {
		ev.addr = addr;
		ev.end = sim_area_end(s, addr, end);
		if (sim_page_at(s, addr)->flags & P_TRACK) {
			sim_post_event(s, &ev, end);
			return -EINPROGRESS;
		}
		sim_lost(s, addr, ev.end);
		sim_zap(s, addr, ev.end);
	}
	return 0;
}

/* ---- the process ---- */

int mmu_sim_open(struct mmu **out, uint64_t nr_pages)
{
	struct sim *s = sim_alloc(1, sizeof(*s));

	s->mmu.ops = &mmu_sim_ops;
	s->nr_pages = nr_pages;
	s->page = sim_alloc(nr_pages, sizeof(*s->page));
	s->fault = sim_alloc(nr_pages, sizeof(*s->fault));
	s->pmd = sim_alloc(nr_pages / PMD_PAGES + 1, sizeof(*s->pmd));
	*out = &s->mmu;
	return 0;
}

void sim_free_child(struct sim *s, struct child *c)
{
	uint64_t i;

	for (i = 0; i < s->nr_pages; i++)
		sim_frame_put(s, c->page[i].frame);
	sim_free(c->page);
	sim_free(c);
}

void sim_close(struct sim *s)
{
	struct event *e;
	struct child *c;
	uint64_t i;

	while ((e = s->events)) {
		s->events = e->next;
		sim_free(e);
	}
	while ((c = s->children)) {
		s->children = c->next;
		sim_free_child(s, c);
	}
	for (i = 0; i < s->nr_pages; i++) {
		sim_frame_put(s, s->page[i].frame);
		sim_frame_put(s, s->page[i].pinned);
		sim_frame_put(s, s->page[i].spliced);
	}
	BUG_ON(s->nr_frames);
	sim_free(s->page);
	sim_free(s->fault);
	sim_free(s->pmd);
	sim_free(s);
}

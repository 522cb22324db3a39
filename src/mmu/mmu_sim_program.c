/* SPDX-License-Identifier: MIT */
/*
 * mmu_sim_program.c - what the simulated program, its children and its devices do.
 *
 * munmap, mremap and fork act at once and post their event then; MADV_DONTNEED of a tracked area acts
 * when its event is read.
 */
#include "mmu/mmu_sim_space.h"

#include <errno.h>
#include <string.h>

static void post(struct sim *s, enum mmu_event_type type, uint64_t addr, uint64_t len)
{
	sim_post_event(s, &(struct mmu_event){ .type = type, .addr = addr, .end = addr + len }, 0);
}

/* ---- mappings ---- */

static void unmap(struct sim *s, uint64_t addr, uint64_t len)
{
	uint64_t at, end = addr + len, pmd = ALIGN_DOWN(addr, MMU_HUGE);
	struct page *p;

	sim_zap(s, addr, end);
	for (at = addr; at < end; at += MMU_PAGE) {
		p = sim_page_at(s, at);
		p->flags &= P_WAIT;
		p->shift = 0;
	}
	for (; pmd < end; pmd += MMU_HUGE)
		if (!sim_range_ok(s, pmd, MMU_HUGE) || !sim_some_have(s, pmd, MMU_HUGE, P_MAPPED))
			*sim_pmd_at(s, pmd) = (struct pmd){ 0 };
}

/* Returns true when an event says so. */
static bool unmap_tracked(struct sim *s, uint64_t addr, uint64_t len)
{
	bool tracked = sim_some_have(s, addr, len, P_TRACK);

	sim_lost(s, addr, addr + len);
	unmap(s, addr, len);
	return tracked;
}

int mmu_sim_mmap(struct mmu *m, uint64_t addr, uint64_t len, bool writable)
{
	struct sim *s = sim_of(m);
	bool tracked;
	uint64_t at;

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	tracked = unmap_tracked(s, addr, len);
	for (at = addr; at < addr + len; at += MMU_PAGE)
		sim_page_at(s, at)->flags |= P_MAPPED | (writable ? P_WRITE : 0);
	if (!tracked)
		return 0;
	post(s, MMU_EV_UNMAP, addr, len);
	return -EINPROGRESS;
}

int mmu_sim_munmap(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	if (!unmap_tracked(s, addr, len))
		return 0;
	post(s, MMU_EV_UNMAP, addr, len);
	return -EINPROGRESS;
}

int mmu_sim_discard(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	return sim_discard(s, addr, addr + len);
}

void mmu_sim_slow(struct mmu *m, bool slow)
{
	sim_of(m)->slow = slow;
}

int mmu_sim_resumable(struct mmu *m)
{
	struct event *e;
	int nr = 0;

	for (e = sim_of(m)->events; e; e = e->next)
		nr += e->stage != EV_UNREAD;
	return nr;
}

void mmu_sim_resume(struct mmu *m, int which)
{
	struct sim *s = sim_of(m);
	struct event *e;

	for (e = s->events; e; e = e->next)
		if (e->stage != EV_UNREAD && !which--) {
			sim_event_step(s, e);
			return;
		}
}

void mmu_sim_thread(struct mmu *m, int thread)
{
	sim_of(m)->thread = thread;
}

bool mmu_sim_held_up(struct mmu *m, int thread)
{
	struct event *e = sim_of(m)->events;

	while (e && e->thread != thread)
		e = e->next;
	return e;
}

bool mmu_sim_unread(struct mmu *m)
{
	return sim_of(m)->nr_faults || sim_event_in(sim_of(m)->events, EV_UNREAD);
}

void mmu_sim_witness(struct mmu *m, const struct mmu_sim_witness *witness)
{
	sim_of(m)->witness = witness;
}

static void remap_pages(struct sim *s, uint64_t addr, uint64_t len, uint64_t to)
{
	uint64_t at;
	struct page *dst, *src;

	sim_split_edge(s, addr);
	sim_split_edge(s, addr + len);
	for (at = 0; at < len; at += MMU_PAGE) {
		dst = sim_page_at(s, to + at);
		src = sim_page_at(s, addr + at);
		dst->flags |= src->flags & P_AREA;
		dst->shift = src->shift + to - addr;
	}
	for (at = 0; at < len; at += MMU_PAGE) {
		if (!((addr + at) % MMU_HUGE || (to + at) % MMU_HUGE) && len - at >= MMU_HUGE) {
			sim_move_huge(s, to + at, addr + at);
			at += MMU_HUGE - MMU_PAGE;
			continue;
		}
		sim_split_pmd(sim_pmd_at(s, addr + at));
		sim_page_transfer(sim_page_at(s, to + at), sim_page_at(s, addr + at));
		sim_pmd_at(s, to + at)->table |= sim_pmd_at(s, addr + at)->table;
	}
}

/* The kernel tells first what the destination lost, then the move, then that the old place is gone. */
int mmu_sim_mremap(struct mmu *m, uint64_t addr, uint64_t len, uint64_t to)
{
	struct sim *s = sim_of(m);
	struct mmu_event ev = { .type = MMU_EV_REMAP, .addr = addr, .end = addr + len, .to = to };
	bool tracked, lost;

	if (!sim_range_ok(s, addr, len) || !sim_range_ok(s, to, len) || (addr < to + len && to < addr + len))
		return -EINVAL;
	if (!sim_one_area(s, addr, len))
		return -EFAULT;
	tracked = sim_some_have(s, addr, len, P_TRACK);
	lost = unmap_tracked(s, to, len);
	if (lost)
		post(s, MMU_EV_UNMAP, to, len);
	if (s->witness)
		s->witness->moved(s->witness->arg, addr, len, to);
	remap_pages(s, addr, len, to);
	unmap(s, addr, len);
	if (tracked) {
		sim_post_event(s, &ev, 0);
		post(s, MMU_EV_UNMAP, addr, len);
	}
	return tracked || lost ? -EINPROGRESS : 0;
}

int mmu_sim_mprotect(struct mmu *m, uint64_t addr, uint64_t len, bool writable)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	if (!sim_all_have(s, addr, len, P_MAPPED))
		return -ENOMEM;
	sim_change_attr(s, addr, len, writable ? P_WRITE : 0, writable ? 0 : P_WRITE);
	return 0;
}

int mmu_sim_madvise(struct mmu *m, uint64_t addr, uint64_t len, enum mmu_sim_advice advice)
{
	static const struct {
		uint32_t set, clear;
	} attr[] = {
		[MMU_SIM_HUGEPAGE] = { .set = P_THP },
		[MMU_SIM_NOHUGEPAGE] = { .clear = P_THP },
		[MMU_SIM_DONTFORK] = { .set = P_DONTFORK },
		[MMU_SIM_LOCK] = { .set = P_LOCKED },
		[MMU_SIM_UNLOCK] = { .clear = P_LOCKED },
	};
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	if (!sim_all_have(s, addr, len, P_MAPPED))
		return -ENOMEM;
	sim_change_attr(s, addr, len, attr[advice].set, attr[advice].clear);
	return 0;
}

static bool may_collapse(struct sim *s, uint64_t addr)
{
	const struct page *p = sim_page_at(s, addr);
	uint64_t i;

	for (i = 0; i < PMD_PAGES; i++)
		if (p[i].flags & P_POISON || (p[i].frame && p[i].frame->pins) ||
		    (p[i].flags & P_TRACK && !page_occupied(&p[i])))
			return false;
	return true;
}

/* MADV_COLLAPSE: content is kept, in new frames where others refer to the old. Tracked areas: no holes. */
int mmu_sim_huge(struct mmu *m, uint64_t addr)
{
	struct sim *s = sim_of(m);
	struct frame *own;
	struct page *p;
	uint64_t i;

	if (addr % MMU_HUGE || !sim_one_area(s, addr, MMU_HUGE))
		return -EINVAL;
	if (!may_collapse(s, addr))
		return -EBUSY;
	for (i = 0; i < PMD_PAGES; i++) {
		p = sim_page_at(s, addr) + i;
		if (!p->frame || p->frame->refs > 1) {
			own = sim_frame_new(s, p->frame);
			sim_frame_put(s, p->frame);
			p->frame = own;
		}
		p->flags &= ~(uint32_t)P_PTE;
	}
	*sim_pmd_at(s, addr) = (struct pmd){ .huge = true };
	return 0;
}

/* ---- accesses ---- */

static uint64_t *word_at(struct frame *f, uint64_t addr)
{
	return (uint64_t *)(void *)(f->data + ALIGN_DOWN(addr % MMU_PAGE, sizeof(uint64_t)));
}

int mmu_sim_store(struct mmu *m, uint64_t addr, uint64_t value)
{
	struct sim *s = sim_of(m);
	int err = sim_touch(s, addr, true);

	if (!err)
		*word_at(sim_page_at(s, addr)->frame, addr) = value;
	return err;
}

int mmu_sim_load(struct mmu *m, uint64_t addr, uint64_t *value)
{
	struct sim *s = sim_of(m);
	int err = sim_touch(s, addr, false);

	if (!err)
		memcpy(value, sim_bytes_at(s, ALIGN_DOWN(addr, sizeof(*value))), sizeof(*value));
	return err;
}

int mmu_sim_put_user(struct mmu *m, uint64_t addr, uint64_t value)
{
	struct sim *s = sim_of(m);
	struct page *p = sim_page_at(s, addr);

	if (!page_occupied(p) && p->flags & P_TRACK)
		return -EFAULT;
	return mmu_sim_store(m, addr, value);
}

bool mmu_sim_waiting(struct mmu *m, uint64_t addr)
{
	struct page *p = sim_page_at(sim_of(m), addr);

	return p && p->flags & P_WAIT;
}

bool mmu_sim_tracked(struct mmu *m, uint64_t addr)
{
	struct page *p = sim_page_at(sim_of(m), addr);

	return p && p->flags & P_TRACK;
}

const uint8_t *mmu_sim_frame(struct mmu *m, uint64_t addr)
{
	struct page *p = sim_page_at(sim_of(m), addr);

	return p && page_occupied(p) ? sim_bytes_at(sim_of(m), ALIGN_DOWN(addr, MMU_PAGE)) : NULL;
}

uint64_t mmu_sim_nr_frames(struct mmu *m)
{
	return sim_of(m)->nr_frames;
}

/* ---- references beside the page tables ---- */

int mmu_sim_pin(struct mmu *m, uint64_t addr, bool pin)
{
	struct sim *s = sim_of(m);
	struct page *p = sim_page_at(s, addr);
	int err;

	if (!p)
		return -EACCES;
	if (pin && p->pinned)
		return -EBUSY;
	if (pin) {
		err = sim_touch(s, addr, true);
		if (err)
			return err;
		p->pinned = sim_frame_get(p->frame);
		p->pinned->pins++;
		return 0;
	}
	if (!p->pinned)
		return -ENOENT;
	p->pinned->pins--;
	sim_frame_put(s, p->pinned);
	p->pinned = NULL;
	return 0;
}

int mmu_sim_dma(struct mmu *m, uint64_t addr, uint64_t value)
{
	struct page *p = sim_page_at(sim_of(m), addr);

	if (!p || !p->pinned)
		return -ENOENT;
	*word_at(p->pinned, addr) = value;
	return 0;
}

int mmu_sim_splice(struct mmu *m, uint64_t addr)
{
	struct sim *s = sim_of(m);
	struct page *p = sim_page_at(s, addr);
	int err = sim_touch(s, addr, true);

	if (err)
		return err;
	if (p->spliced)
		return -EBUSY;
	p->spliced = sim_frame_get(p->frame);
	return 0;
}

int mmu_sim_spliced(struct mmu *m, uint64_t addr, uint64_t *value)
{
	struct sim *s = sim_of(m);
	struct page *p = sim_page_at(s, addr);

	if (!p || !p->spliced)
		return -ENOENT;
	*value = *word_at(p->spliced, addr);
	sim_frame_put(s, p->spliced);
	p->spliced = NULL;
	return 0;
}

/* ---- children ---- */

/* A pinned page stays the parent's own: the child gets a copy at once. */
static void fork_page(struct sim *s, struct page *child, struct page *p)
{
	child->flags = p->flags & (P_AREA | P_ZERO | P_POISON);
	if (!p->frame)
		return;
	if (p->frame->pins) {
		child->frame = sim_frame_new(s, p->frame);
		return;
	}
	child->frame = sim_frame_get(p->frame);
	p->flags |= P_SHARED;
}

int mmu_sim_fork(struct mmu *m)
{
	struct sim *s = sim_of(m);
	struct child *c = sim_alloc(1, sizeof(*c));
	uint64_t i;

	c->id = ++s->nr_forks;
	c->page = sim_alloc(s->nr_pages, sizeof(*c->page));
	for (i = 0; i < s->nr_pages; i++) {
		if (!(s->page[i].flags & P_MAPPED) || s->page[i].flags & P_DONTFORK)
			continue;
		fork_page(s, &c->page[i], &s->page[i]);
		c->trapped |= !!(s->page[i].flags & P_TRACK);
	}
	c->next = s->children;
	s->children = c;
	if (!c->trapped)
		return 0;
	sim_post_event(s, &(struct mmu_event){ .type = MMU_EV_FORK, .child = c->id }, 0);
	return -EINPROGRESS;
}

static struct child **child_link(struct sim *s, int id)
{
	struct child **c = &s->children;

	while (*c && (*c)->id != id)
		c = &(*c)->next;
	return c;
}

int mmu_sim_child_load(struct mmu *m, int child, uint64_t addr, uint64_t *value)
{
	struct sim *s = sim_of(m);
	struct child *c = *child_link(s, child);
	struct page *p;

	if (!c)
		return -ESRCH;
	if (!sim_page_at(s, addr))
		return -EACCES;
	p = &c->page[(addr - MMU_SIM_BASE) / MMU_PAGE];
	if (!(p->flags & P_MAPPED))
		return -EACCES;
	if (p->flags & P_POISON)
		return -EFAULT;
	if (!page_occupied(p) && p->flags & P_TRACK && c->trapped)
		return -EWOULDBLOCK;
	*value = p->frame ? *word_at(p->frame, addr) : 0;
	return 0;
}

int mmu_sim_child_exit(struct mmu *m, int child)
{
	struct sim *s = sim_of(m);
	struct child **link = child_link(s, child), *c = *link;

	if (!c)
		return -ESRCH;
	*link = c->next;
	sim_free_child(s, c);
	return 0;
}

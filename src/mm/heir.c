/* SPDX-License-Identifier: MIT */
/*
 * What is away and forked children. One that builds an engine of its own is served (heir_serve) until that takes over,
 * which it says by touching the doorbell, an empty page; the answer tells it what its copy of the books may lack
 * (away_take_over). One that has none is given everything at once (away_bequeath), wherever its own changes have
 * carried it meanwhile.
 */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define LEGACY_TRIES 50000U	/* a second, or more */
#define LEGACY_PAUSE_NS 20000ULL

void legacy_begin(struct mm *mm, struct legacy *l, int child, uint8_t *page)
{
	l->child = child;
	l->page = page;
	l->notes = mm->child_notes = mm->nr_notes;
	l->tries = LEGACY_TRIES;
	l->nr = l->nr_own = 0;
}

/* The child's own changes go on when they are read. */
static void legacy_events(struct mm *mm, struct legacy *l)
{
	struct mmu_event ev;
	bool any = false;

	while (l->nr < LEGACY_CHANGES && mm->mmu->ops->read_child(mm->mmu, l->child, &ev) > 0) {
		any = true;
		if (ev.type == MMU_EV_FORK && l->nr_own < LEGACY_CHILDREN) {
			l->own[l->nr_own].child = ev.child;
			l->own[l->nr_own++].nr = l->nr;
		} else if (ev.type == MMU_EV_FORK) {
			base_log("a child of a forked child has nothing of what was away: too many at once", "");
			mm->mmu->ops->close_child(mm->mmu, ev.child);
		} else if (ev.type != MMU_EV_FAULT) {
			l->change[l->nr++] = (struct fork_note){ ev.addr, ev.end, ev.type == MMU_EV_REMAP ? ev.to : 0 };
		}
	}
	if (!any)
		sleep_ns(LEGACY_PAUSE_NS);
}

/* Where it is in the child by now; false: nowhere. */
static bool legacy_addr(const struct legacy *l, uint64_t *addr)
{
	for (uint32_t i = 0; i < l->nr; i++) {
		const struct fork_note *n = &l->change[i];

		if (*addr < n->start || *addr >= n->end)
			continue;
		if (!n->to)
			return false;
		*addr += n->to - n->start;
	}
	return true;
}

/* Better SIGBUS there than zeroes that nobody wrote. */
void legacy_give(struct mm *mm, struct legacy *l, uint64_t addr, const void *content)
{
	int err = -EAGAIN;
	uint64_t at = addr;

	for (; legacy_addr(l, &at); at = addr) {
		if (content)
			err = mm->mmu->ops->copy_child(mm->mmu, l->child, at, (uint64_t)content);
		if (!content || (err && err != -EAGAIN && err != -EEXIST))
			err = mm->mmu->ops->poison_child(mm->mmu, l->child, at);
		if (err != -EAGAIN)
			return;
		if (!l->tries || !--l->tries)
			break;
		legacy_events(mm, l);
	}
	if (err == -EAGAIN && !l->tries && l->nr < LEGACY_CHANGES)
		base_log("a forked child could not be given all that was away: it only changes its mappings", "");
}

/* What is not away was never touched. */
static void legacy_fill(struct mm *mm, struct legacy *l, const struct page *page, uint64_t addr)
{
	const void *what = l->page;
	int err;

	if (!page)
		memset(l->page, 0, PAGE_SIZE_);
	else
		what = away_content(mm, page, l->page, &err);
	legacy_give(mm, l, addr, what);
}

/* Where what is at addr by the books was when the child began; false: gone by then. */
static bool as_of_fork(const struct mm *mm, const struct legacy *l, uint64_t *addr)
{
	uint32_t nr = BUG_BACK(BUG_FAR_HEIR) ? mm->nr_notes : l->notes;

	for (uint32_t i = 0; i < nr; i++) {
		const struct fork_note *n = &mm->notes[i];

		if (*addr < n->start || *addr >= n->end)
			continue;
		if (!n->to)
			return false;
		*addr += n->to - n->start;
	}
	return true;
}

void away_bequeath(struct mm *mm, struct legacy *l)
{
	uint64_t at = 0;
	struct page *leaf;

	for (; mm->pt.away && (leaf = leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_)); at += HUGE_SIZE_)
		for (uint64_t a = at; a < at + HUGE_SIZE_ && !(leaf->flags & PG_HUGE); a += PAGE_SIZE_) {
			struct page *page = page_find(&mm->pt, a);
			uint64_t there = a;

			if (page->flags & PG_AWAY && as_of_fork(mm, l, &there))
				legacy_fill(mm, l, page, there);
		}
	for (uint32_t i = 0; i < mm->nr_stranded; i++) {
		const struct stranded *s = &mm->stranded[i];
		struct page page = { .flags = PG_AWAY, .node = (uint8_t)s->node, .home = s->home };

		if (!s->gone)
			legacy_fill(mm, l, &page, s->addr);
	}
	for (uint32_t i = 0; i < l->nr_own; i++) {
		struct legacy own = *l;

		own.child = l->own[i].child;
		own.nr = l->own[i].nr;
		own.nr_own = 0;
		away_bequeath(mm, &own);
		mm->mmu->ops->close_child(mm->mmu, own.child);
	}
	l->nr_own = 0;
}

/*
 * The answer to the doorbell: what had happened to mappings since the books were at rest and before the child began, of
 * which its copy of the notes may have only a part. False: more than the page holds.
 */
static bool heir_answer(struct mm *mm)
{
	struct heir_answer *a = (void *)mm->heirs.page;

	if (mm->heirs.notes > HEIR_NOTES)
		return false;
	a->told = 1;
	a->nr = mm->heirs.notes;
	memcpy(a->note, mm->notes, a->nr * sizeof(a->note[0]));
	return !mm->mmu->ops->copy_child(mm->mmu, mm->heir, mm->doorbell, (uint64_t)a);
}

bool heir_serve(struct mm *mm)
{
	struct mmu_event ev;

	/* it does nothing yet but touch */
	while (mm->mmu->ops->read_child(mm->mmu, mm->heir, &ev) > 0) {
		if (ev.type != MMU_EV_FAULT)
			continue;
		if (ev.addr != mm->doorbell) {
			legacy_fill(mm, &mm->heirs, away_as_of(mm, ev.addr, mm->heirs.notes), ev.addr);
			continue;
		}
		if (!heir_answer(mm))
			away_bequeath(mm, &mm->heirs);
		return true;
	}
	return false;
}

/* Nothing is away here: the parent has brought everything. What is in the stores is needed no longer. */
static void forget_all(struct mm *mm)
{
	uint64_t at = 0;

	for (; leaf_next(&mm->pt, &at, UINT64_MAX - HUGE_SIZE_); at += HUGE_SIZE_)
		for (uint64_t a = at; a < at + HUGE_SIZE_ && page_find(&mm->pt, at); a += PAGE_SIZE_) {
			struct page *page = page_find(&mm->pt, a);

			if (page->flags & PG_AWAY)
				page_gone(mm, page);
		}
}

int away_take_over(struct mm *mm)
{
	const struct heir_answer *a = (const void *)mm->doorbell;
	uint32_t parent = mm->pid_parent;

	if (!__atomic_load_n(&a->told, __ATOMIC_ACQUIRE)) {
		if (sys0(SYS_getppid) != parent)
			return -ESRCH; /* nobody can say any more what was */
		forget_all(mm);
		mm->nr_notes = 0;
	} else {
		mm->nr_notes = (uint32_t)a->nr;
		memcpy(mm->notes, a->note, a->nr * sizeof(a->note[0]));
	}
	away_settle(mm);
	return 0;
}

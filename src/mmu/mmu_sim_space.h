/* SPDX-License-Identifier: MIT */
/*
 * mmu_sim_space.h - the simulated process between the files of mmu_sim: its address space (mmu_sim.c), its
 * userfaultfd (mmu_sim_ops.c), what its program does (mmu_sim_program.c). Single-threaded.
 */
#ifndef GODWIT_MMU_SIM_SPACE_H
#define GODWIT_MMU_SIM_SPACE_H

#include "base/base.h"
#include "mmu/mmu.h"

#define PMD_PAGES (MMU_HUGE / MMU_PAGE)

struct frame {
	uint32_t refs;		/* mappings in every process, pins, splices */
	uint32_t pins;
	uint8_t data[MMU_PAGE];
};

enum page_flags {
	P_MAPPED = 1 << 0,
	P_WRITE = 1 << 1,
	P_TRACK = 1 << 2,
	P_THP = 1 << 3,
	P_DONTFORK = 1 << 4,
	P_LOCKED = 1 << 5,
	P_AREA = (1 << 6) - 1,	/* the attributes of the area */

	P_ZERO = 1 << 6,
	P_POISON = 1 << 7,
	P_SHARED = 1 << 8,	/* not exclusive since a fork */
	P_PTE = P_ZERO | P_POISON | P_SHARED,

	P_WAIT = 1 << 9,	/* a touch of this address waits */
};

struct page {
	struct frame *frame;
	struct frame *pinned;	/* by a pin that was taken at this address */
	struct frame *spliced;
	uint32_t flags;
	uint64_t shift;		/* how far mremap() brought it: neighbours with another are another area */
};

/* Neither huge nor table: empty. */
struct pmd {
	bool huge;
	bool table;
};

struct fault {
	uint64_t addr;
	bool write;
};

/* What the thread that raised an event waits for. */
enum event_stage {
	EV_UNREAD,
	EV_READ,		/* to run again: until then moves are refused */
	EV_DISCARD,		/* to discard its pages: moves are allowed again, and its pages are still there */
};

struct event {
	struct event *next;
	enum event_stage stage;
	struct mmu_event ev;
	uint64_t rest;		/* MMU_EV_REMOVE: the discard goes on from ev.end to here */
	int thread;		/* whose call it is */
};

struct child {
	struct child *next;
	int id;
	bool trapped;		/* its descriptor is open */
	struct page *page;
};

struct sim {
	struct mmu mmu;
	uint64_t nr_pages;
	uint64_t nr_frames;
	struct page *page;
	struct pmd *pmd;
	struct fault *fault;	/* unread, in order; at most one a page */
	uint64_t nr_faults;
	struct event *events;	/* in order */
	bool slow;		/* threads whose event was read run on at mmu_sim_resume() */
	int thread;		/* whose call the next event is */
	struct child *children;
	int nr_forks;
	const struct mmu_sim_witness *witness;
};

static inline struct sim *sim_of(struct mmu *m)
{
	return container_of(m, struct sim, mmu);
}

static inline bool page_occupied(const struct page *p)
{
	return p->frame || p->flags & (P_ZERO | P_POISON);
}

/* ---- mmu_sim_ops.c ---- */

extern const struct mmu_ops mmu_sim_ops;

/* ---- mmu_sim.c: addresses ---- */

/* NULL: no such address. */
struct page *sim_page_at(struct sim *s, uint64_t addr);
struct pmd *sim_pmd_at(struct sim *s, uint64_t addr);
bool sim_range_ok(const struct sim *s, uint64_t addr, uint64_t len);
/* The end of the area at addr, or of the gap, but not beyond end. */
uint64_t sim_area_end(struct sim *s, uint64_t addr, uint64_t end);
/* The range is mapped, and by one area. */
bool sim_one_area(struct sim *s, uint64_t addr, uint64_t len);
/* Some, or all, pages of the range have one of these attributes. */
bool sim_some_have(struct sim *s, uint64_t addr, uint64_t len, uint32_t attr);
bool sim_all_have(struct sim *s, uint64_t addr, uint64_t len, uint32_t attr);
/* Set and clear attributes of what is mapped in the range. */
void sim_change_attr(struct sim *s, uint64_t addr, uint64_t len, uint32_t set, uint32_t clear);

/* ---- mmu_sim.c: frames and page tables ---- */

/* Zeroed memory that must be there. */
void *sim_alloc(size_t nr, size_t size);
void sim_free(void *mem);
/* A copy of from, or zeroes. */
struct frame *sim_frame_new(struct sim *s, const struct frame *from);
struct frame *sim_frame_get(struct frame *f);
void sim_frame_put(struct sim *s, struct frame *f);
/* What the page table entry of src says, src says no more. */
void sim_page_transfer(struct page *dst, struct page *src);
void sim_split_pmd(struct pmd *pmd);
/* No huge page reaches over addr any more. */
void sim_split_edge(struct sim *s, uint64_t addr);
/* Move 2 MiB, aligned, with everything that is in it. */
void sim_move_huge(struct sim *s, uint64_t dst, uint64_t src);
void sim_install_frame(struct sim *s, uint64_t addr, const struct frame *from);
void sim_zap(struct sim *s, uint64_t addr, uint64_t end);
/* The bytes of the page at addr, zeroes where no frame is. */
const uint8_t *sim_bytes_at(struct sim *s, uint64_t addr);

/* ---- mmu_sim.c: touches and events ---- */

/* Put a page into an empty place, as a first touch of untracked memory does. */
void sim_first_touch(struct sim *s, uint64_t addr, bool write);
/* 0, -EACCES (SIGSEGV), -EFAULT (SIGBUS), -EWOULDBLOCK. */
int sim_touch(struct sim *s, uint64_t addr, bool write);
void sim_wake(struct sim *s, uint64_t addr, uint64_t len);
/* By the program's own doing the content of the range is no more. */
void sim_lost(struct sim *s, uint64_t addr, uint64_t end);
/* rest: of a discard that goes on after ev->end. */
void sim_post_event(struct sim *s, const struct mmu_event *ev, uint64_t rest);
/* Nothing can be moved or installed. */
bool sim_events_block(const struct sim *s);
/* The first event from e on in this stage; NULL: none. */
struct event *sim_event_in(struct event *e, enum event_stage stage);
/* The thread behind a read event runs on by one step; true: and is through. */
bool sim_event_step(struct sim *s, struct event *e);
/* MADV_DONTNEED. -EINPROGRESS: the rest happens when the event is read. */
int sim_discard(struct sim *s, uint64_t addr, uint64_t end);
void sim_free_child(struct sim *s, struct child *c);
void sim_close(struct sim *s);

#endif

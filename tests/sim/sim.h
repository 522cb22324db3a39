/* SPDX-License-Identifier: MIT */
/*
 * The simulator: the real base, mm, node and policy rooms on a simulated kernel, driven by one seed.
 *
 *   sched.c     fibers in the place of threads; who runs next, and until when, follows from the seed
 *   kernel.c    what the engine calls: system calls, and every operation of the mmu, with what can go wrong
 *   shadow.c    what the program's memory must be, and the oracle that looks whether it is
 *   program.c   threads of a program that does what programs do to their memory
 *   sim.c       worlds and seeds
 *
 * One process, one thread, no clock but its own: the same seed gives the same run.
 */
#ifndef GODWIT_SIM_H
#define GODWIT_SIM_H

#include "mm/mm.h"

#include <stdarg.h>

/* ---- sched.c ---- */

#define FIBERS_MAX 24

void sched_begin(uint64_t seed);
void sched_end(void);
/* Run fibers until done() or for so many steps. */
void sched_run(uint64_t steps, bool (*done)(void));
/* The number of its thread; a fiber may become another thread. weight: its share of the steps. */
uint32_t sched_spawn(const char *name, uint32_t weight, void (*fn)(void *arg), void *arg);
uint32_t sched_self(void);
uint32_t sched_rename(void);
bool sched_alive(uint32_t tid);

/* Another may run here. */
void sched_point(void);
/* Not before ready(arg) says so; what: for the report of a hang. */
void sched_wait(bool (*ready)(void *arg), void *arg, const char *what);
void sched_sleep(uint64_t ns);
/* As the futex system call. */
long sched_futex_wait(const uint32_t *word, uint32_t val, uint64_t ns);
long sched_futex_wake(const uint32_t *word, uint32_t nr);
uint64_t sched_now(void);
void sched_pass(uint64_t ns);
uint64_t sched_steps(void);

/* Chance, all from the seed. */
uint64_t rnd(void);
uint32_t rnd_below(uint32_t n);
bool chance(uint32_t per_1000);

/* What happened, for the report: kept for the last events only. */
void trace(const char *what, uint64_t a, uint64_t b, int64_t ret);
/* The world is wrong: report, and end the run with exit code 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Not only the last ones: each, at once. */
void sched_print_all(void);
/* Printed at the end of a report. */
void sched_replay_line(void (*print)(void));

/* ---- the layout of a world ---- */

#define SLOT_PAGES 16U
#define SLOTS 16U
#define STACKS_AT (SLOTS * SLOT_PAGES)		/* page number of the threads' stacks, one each */
#define STACKS 8U
#define HUGE_AT LEAF_PAGES			/* page number of the huge slots */
#define HUGE_SLOTS 2U
#define WORLD_PAGES ((1 + HUGE_SLOTS) * LEAF_PAGES)
#define REGION_AT (8UL << 20)			/* from MMU_SIM_BASE */
#define REGION_BYTES (256UL << 20)
#define PARTS_AT (REGION_AT + REGION_BYTES)	/* what region_part() gets */
#define PARTS_BYTES (8UL << 20)
#define WORDS 8U				/* of a page that the program uses, 512 bytes apart */

static inline uint64_t page_at(uint32_t nr)
{
	return MMU_SIM_BASE + nr * PAGE_SIZE_;
}

/* What can go wrong in this world: chances in 1000. */
struct weather {
	uint32_t eagain, ebusy, cut, enomem, storm;
	uint32_t flips;		/* bits of a copy: then every request verifies */
	uint32_t restless;	/* another thread runs at a call */
	const char *fail_kind;	/* calls of this kind, or NULL */
	uint32_t fail_call;	/* the so many-th of them fails */
	bool fail_on;		/* and all after it */
	bool huge;		/* THPs */
	bool raw_forks, lazy, slow;
	bool growth;		/* a node with a limit, and nothing that keeps pages from leaving it */
	uint32_t bad_reads, bad_writes;	/* of a far node's store */
};

struct world {
	struct weather weather;
	struct mmu *sim;		/* the simulated mmu */
	struct mmu mmu;			/* the same, seen by the engine: each call may be interrupted, and may fail */
	struct region region;
	struct node_table nodes;
	struct mm mm;
	bool ending;			/* the program comes to its end */
	bool calm;			/* nothing goes wrong any more */
	uint64_t parts_used;		/* addresses handed out by region_part() */
	uint32_t calls;			/* that could have failed */
	const char *failed_call;
	uint64_t jobs, moved, fallen, refused, forks;
	uint32_t beyond;		/* first touches answered while node 0 was beyond its limit */
	uint64_t let_go;		/* held ones that were, by then */
};

extern struct world *world;

/* ---- kernel.c ---- */

extern const struct mmu_ops kernel_mmu_ops;
void kernel_begin(void);
void kernel_end(void);
/* The 4096 bytes at an address of the simulated process, or of the engine's own memory. */
const uint8_t *kernel_bytes(uint64_t addr);
/* Names of the calls that can be made to fail, in order; NULL at the end. */
const char *kernel_kind(uint32_t nr);

/* ---- far.c: what the oracle may look at ---- */

uint64_t far_kept(const struct far *f);
/* Homes are below. */
uint32_t far_homes(void);
/* NULL: it is not kept. */
const uint8_t *far_content(const struct far *f, uint32_t home);

/* ---- shadow.c ---- */

void shadow_begin(void);
void shadow_end(void);
struct shadow_page *shadow_at(uint64_t addr);

struct shadow_page {
	uint64_t word[WORDS];
	bool mapped, writable;
	uint8_t discarding;	/* being discarded: the word or 0 */
	uint8_t raced;		/* words that were stored meanwhile: before the discard, or behind it */
	uint64_t maybe[WORDS];	/* ... their values: what was discarded, or not */
};

/* How the oracle follows: */
void shadow_map(uint64_t addr, uint64_t len, bool mapped, bool writable);
void shadow_discarding(uint64_t addr, uint64_t len, int by);
/* A value that no other store has, for the page. */
uint64_t shadow_value(uint64_t addr);
uint32_t shadow_page_of(uint64_t value);
/* A store cannot give this back any more: the page that held it is SIGBUS from its next touch on. False: all zeroes. */
bool shadow_breaks(const uint8_t *content);
bool shadow_broken(const struct shadow_page *p);
/* What the books have of it, for a report. */
void shadow_report(uint64_t addr);
/* A look at what the step that has just ended may have spoiled. */
void oracle_step(void);
/* At rest: everything. */
void oracle_all(void);
/* What a forked child must see. */
struct snapshot;
struct snapshot *snapshot_take(void);
void snapshot_check(const struct snapshot *s, int child);
void snapshot_free(struct snapshot *s);

/* ---- program.c ---- */

void program_begin(void);
/* No thread of it runs any more. */
bool program_over(void);
void program_end(void);

#endif

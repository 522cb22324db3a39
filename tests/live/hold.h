/* SPDX-License-Identifier: MIT */
/*
 * A migration that stops for a while at a step: what races with it then finds it there, every time, not
 * once in ten thousand. And single rules of the engine left out, to see that a test notices.
 *
 * Both are done from outside: tests/hold/hold.c puts itself between the engine and its mmu, whose operations
 * are a table. The engine under test is the one that is shipped; it has no switch for tests and pays for none.
 */
#ifndef GODWIT_TESTS_HOLD_H
#define GODWIT_TESTS_HOLD_H

#include <godwit.h>

#include <stdbool.h>

/* Once a batch each, in this order. Out, in and (for the plain form) prepare are held under mm->lock. */
enum hold_step {
	HOLD_PREPARE = 1 << 0,	/* before the first page goes; transactional: when it has been read ahead */
	HOLD_OUT = 1 << 1,	/* the first pages are out, others are not */
	HOLD_UNMAPPED = 1 << 2,	/* all are out, none is copied */
	HOLD_COPIED = 1 << 3,	/* some are copied */
	HOLD_IN = 1 << 4,	/* the first page is in, others are not */
	HOLD_SETTLE = 1 << 5,	/* all are in; the batch is not settled yet, or its window not closed */
};

#define HOLD_STEPS 6
#define HOLD_ALL ((1U << HOLD_STEPS) - 1)

enum hold_bug {
	HOLD_BUG_NO_LOOK = 1 << 0,	/* what was read ahead is taken for right: the copy before the move out counts */
	HOLD_BUG_EMPTY_CHILD = 1 << 1,	/* the child of a raw fork is not given the pages in flight */
	HOLD_BUG_RECYCLE = 1 << 2,	/* frames are reused, leak they or not */
};

/* Stand before this engine's mmu. Again in a forked child, whose engine has an mmu of its own. */
void hold_install(struct gw_engine *e);
/* From now on stop for us microseconds at these steps, each every-th time that one comes. steps 0: no more. */
void hold_set(uint32_t steps, uint32_t us, uint32_t every);
void hold_break(uint32_t bugs);
/* How often a migration was held so far. */
uint32_t hold_count(void);
/* Wait until there were more than seen, at most ms. False: there were not. */
bool hold_wait(uint32_t seen, uint32_t ms);
/* Is one held just now? */
bool hold_active(void);
/* Not 0 then: for who may not call. */
const uint32_t *hold_word(void);

#endif

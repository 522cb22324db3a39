/* SPDX-License-Identifier: MIT */
/* mmu_contract_tests.h - what the parts of the suite have in common. */
#ifndef GODWIT_MMU_CONTRACT_TESTS_H
#define GODWIT_MMU_CONTRACT_TESTS_H

#include "mmu_contract.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those first */
#include <cmocka.h>

#define PAGES(n) (MMU_PAGE * (n))
#define SOON_MS 5000	/* what must happen has this long */
#define A_WHILE_MS 20	/* what must not happen is looked for this long */

struct mmu_contract_part {
	const struct CMUnitTest *test;
	size_t nr;
};

extern const struct mmu_contract_part mmu_contract_move;
extern const struct mmu_contract_part mmu_contract_huge;
extern const struct mmu_contract_part mmu_contract_fault;
extern const struct mmu_contract_part mmu_contract_event;
extern const struct mmu_contract_part mmu_contract_fork;
extern const struct mmu_contract_part mmu_contract_slot;

/* Skip the test, saying why. */
#define SKIP(why)                                            \
	do {                                                 \
		print_message("# skipped: %s\n", why);       \
		skip();                                      \
	} while (0)

/* Words all over the pages of [addr, addr + len), different for each seed and page. */
void fill(struct mmu_world *w, uint64_t addr, uint64_t len, uint64_t seed);
/* [addr, addr + len) holds what fill() wrote from page first on. */
void check(struct mmu_world *w, uint64_t addr, uint64_t len, uint64_t seed, uint64_t first);
/* The word that fill() puts at offset 0 of a page. */
uint64_t word_of(uint64_t seed, uint64_t page);

/* Memory of the program with content, tracked. */
uint64_t map_filled(struct mmu_world *w, uint64_t len, uint64_t seed);
/* Empty slots, tracked. */
uint64_t map_arena(struct mmu_world *w, uint64_t len);

/* Move, waking; all of it must go over. */
void move_all(struct mmu_world *w, uint64_t dst, uint64_t src, uint64_t len);
/* Move, waking; it must stop after done bytes with err. */
void move_stops(struct mmu_world *w, uint64_t dst, uint64_t src, uint64_t len, uint64_t done, int err);

/* The next event must be this one, soon. */
void expect_event(struct mmu_world *w, enum mmu_event_type type, uint64_t addr, uint64_t end);
struct mmu_event next_event(struct mmu_world *w);
void expect_no_event(struct mmu_world *w);

/* The touch got through and saw, or left, value. */
void expect_through(struct mmu_world *w, int id, uint64_t value);
void expect_waiting(struct mmu_world *w, int id);
void expect_word(struct mmu_world *w, uint64_t addr, uint64_t value);

/* Begin an act that raises no event, and wait for its end. */
void act_quietly(struct mmu_world *w, enum mmu_act act, uint64_t addr, uint64_t len);

/* How many pages of the range are present; bits: those that all of them have. */
uint64_t count_present(struct mmu_world *w, uint64_t addr, uint64_t len, uint32_t *bits);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * policy - facts in, decisions out; never acts.
 *
 * Context: pure functions and plain state of the caller; no locks.
 */
#ifndef GODWIT_POLICY_H
#define GODWIT_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- nodelist.c ---- */

/* "0", "0,2", "0-3", "!1", "all" over nr nodes, as numactl has it. -EINVAL: not a list; -ENODEV: beyond nr. */
int nodelist_parse(const char *text, int nr, uint64_t *mask);

/* Relative placement of migrate_pages(2): the i-th node of from goes to the i-th of to, modulo. -1: not in from. */
int nodes_relative(uint64_t from, uint64_t to, int node);

/* ---- steer.c ---- */

enum form { FORM_PLAIN, FORM_TRANSACTIONAL, FORMS };

/* What one form of migration has shown so far. */
struct form_record {
	uint32_t batch;		/* pages to take next time */
	uint32_t runs;
	uint32_t outliers;	/* in a row */
	uint64_t cost;		/* ns a page, all told, smoothed */
	uint64_t window;	/* ns, smoothed */
	uint64_t deviation;	/* ns, mean, smoothed */
};

/* The choice of form and batch size so that the window stays below a bound, at the least cost. */
struct steer {
	uint64_t bound;		/* ns; 0: none */
	uint32_t most;		/* pages a batch at most */
	int fixed;		/* enum form to keep to, or -1 */
	bool keep;		/* do not change the batch size */
	uint32_t turn;
	struct form_record form[FORMS];
};

void steer_init(struct steer *s, uint64_t bound_ns, uint32_t most, int fixed, bool keep);
/* The form and the number of pages of the next batch. */
enum form steer_next(struct steer *s, uint32_t *nr);
/* How it went: the window, and all that the batch took. */
void steer_learn(struct steer *s, enum form form, uint32_t nr, uint64_t window_ns, uint64_t all_ns);

#endif

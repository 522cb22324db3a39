/* SPDX-License-Identifier: MIT */
/* Devices behind far nodes that fail, on order: the store under test is the one that is shipped (src/far/far.h, far_inject). */
#ifndef GODWIT_TESTS_HOLD_FAR_H
#define GODWIT_TESTS_HOLD_FAR_H

#include <godwit.h>

enum hold_far { HOLD_FAR_READ, HOLD_FAR_WRITE, HOLD_FAR_CORRUPT, HOLD_FAR_FULL };

/* From the skip-th page of this kind on, nr pages fail. nr 0: nothing fails any more, of no kind. */
void hold_far_fail(struct gw_engine *e, int node, enum hold_far kind, unsigned int skip, unsigned int nr);

#endif

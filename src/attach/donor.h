/* SPDX-License-Identifier: MIT */
/* Giving a process what its own rights do not: see enum attached_donor. */
#ifndef GODWIT_ATTACH_DONOR_H
#define GODWIT_ATTACH_DONOR_H

#include "control/attached.h"

/* Do what the block asks for now, if it is the step after the one that was answered last (0 at first). */
void donor_answer(int pid, uint64_t block, const struct attached *a, uint32_t *answered);

#endif

/* SPDX-License-Identifier: MIT */
/* Is any thread of a process in a range of code, or about to return there from a signal handler? */
#ifndef GODWIT_ATTACH_OUTSIDE_H
#define GODWIT_ATTACH_OUTSIDE_H

#include "attach/tracee.h"

/* Wait a little until none is. 0; -EBUSY: one stays; -ESRCH, -EPERM. */
int outside_wait(int pid, uint64_t start, uint64_t end);

#endif

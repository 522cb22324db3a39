/* SPDX-License-Identifier: MIT */
/* What a process has forbidden itself. */
#ifndef GODWIT_ATTACH_SECCOMP_H
#define GODWIT_ATTACH_SECCOMP_H

#include "attach/tracee.h"

/*
 * Would the filters of a stopped thread let the engine live? 0; -EPERM: they cannot be looked at (that takes root);
 * -ENOTSUP: *call is the name of one that they do not let pass.
 */
int seccomp_examine(const struct tracee *t, const char **call);

/* The action of a filter for a call, as the kernel would find it. Exposed for tests. */
struct sock_filter;
uint32_t seccomp_run(const struct sock_filter *filter, unsigned nr_insns, long nr, const uint64_t args[6]);

#endif

/* SPDX-License-Identifier: MIT */
/* What can be said of a process before it is touched. */
#ifndef GODWIT_ATTACH_EXAMINE_H
#define GODWIT_ATTACH_EXAMINE_H

/* 0, or an error as attach_process() gives it, and why[ATTACH_WHY] filled in. */
int examine(int pid, char *why);
/* What an error of ptrace(2) means for this process. Returns it, or a better one. */
int examine_ptrace(int pid, int err, char *why);

#endif

/* SPDX-License-Identifier: MIT */
/* What can be said of a process before it is touched. */
#ifndef GODWIT_ATTACH_EXAMINE_H
#define GODWIT_ATTACH_EXAMINE_H

/* 0, or an error as attach_process() gives it, and why[ATTACH_WHY] filled in. */
int examine(int pid, char *why);
/* What an error of ptrace(2) means for this process. Returns it, or a better one. */
int examine_ptrace(int pid, int err, char *why);

/* Put a text, or what was tried and an error's, into why[ATTACH_WHY]. Return err. */
int why_say(char *why, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
int why_errno(char *why, int err, const char *what);

#endif

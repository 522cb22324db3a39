/* SPDX-License-Identifier: MIT */
/*
 * attach - the engine into a program that runs, and out of it again. x86-64, glibc or musl, dynamically linked.
 *
 * One thread of the process is stopped by ptrace(2) for as long as a handful of system calls take that it makes for us
 * (tracee.c); everything else is prepared before and happens after. The library is not loaded by the program's dynamic
 * linker, whose locks and malloc()'s some thread may hold, but laid out and relocated here (image.c) against what the
 * linker has told debuggers (objects.c). What a program and the engine agree on is control/attached.h.
 *
 * Should we be killed in the middle, the stopped thread goes on by itself: see tracee.c.
 */
#ifndef GODWIT_ATTACH_H
#define GODWIT_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTACH_WHY 256

struct attach_options {
	const char *library;	 /* the file */
	const char *nodes;	 /* specifications, ';' between them */
	const char *runtime_dir; /* the process's XDG_RUNTIME_DIR, or "" */
	uint32_t stall_us_max;	 /* 0: the engine's own default */
	uint32_t flags;		 /* of struct gw_options */
};

struct attach_result {
	uint64_t pause_ns; /* the longest time that a thread of the process was stopped */
	uint64_t total_ns;
	uint32_t hooks;	  /* places that call the engine now, or did until now */
	uint32_t threads; /* that the process has */
};

/*
 * Both return 0; -ESRCH: no such process; -EALREADY: there is an engine, or none; -EBUSY: not now; -EPERM; -ENOTSUP: it
 * cannot be, and nothing will help but another program; or what failed. why[ATTACH_WHY] then says it, in words that go
 * behind "PID 1234". On error the process is as it was.
 */
int attach_process(int pid, const struct attach_options *opt, struct attach_result *res, char *why);
int detach_process(int pid, struct attach_result *res, char *why);

#endif

/* SPDX-License-Identifier: MIT */
/* One stopped thread of another process, and system calls that it makes for us. */
#ifndef GODWIT_ATTACH_TRACEE_H
#define GODWIT_ATTACH_TRACEE_H

#include "attach/hurry.h"
#include "attach/process.h"

#include <sys/user.h>

/*
 * Instructions of the program's that are used: "syscall; ret", and what returns from a signal handler.
 */
struct gadgets {
	uint64_t call, sigreturn;
};

struct tracee {
	int pid, tid;
	int mem; /* of the process when it was looked at: see memory_open() */
	struct gadgets gadgets;
	struct user_regs_struct regs; /* as they were */
	uint64_t mask;		      /* of signals, as it was */
	uint64_t sp;		      /* of our calls */
	uint64_t since;
	bool dead;
	struct hurry *hurry;
};

/* -ENOENT: the program has no such instructions. */
int gadgets_find(const struct maps *maps, int pid, struct gadgets *g);

/*
 * Stop one thread of the process, one that can make calls for us. -EBUSY: none stopped within two seconds; -ESTALE: the
 * process is another program by now; -EPERM, -ESRCH.
 */
int tracee_stop(struct tracee *t, int pid, const struct gadgets *g, int mem, struct hurry *hurry);
/* What the system call returned; -ESRCH also when the process died of something else. */
long tracee_call(struct tracee *t, long nr, const long args[6]);
/* Let the thread go on as if nothing had been. Returns how long it stood, in ns. */
uint64_t tracee_release(struct tracee *t);

#endif

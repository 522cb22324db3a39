/* SPDX-License-Identifier: MIT */
/* mmu_uffd_program.h - the real program under the contract: threads, acts, a child, a pin, a pipe. */
#ifndef GODWIT_MMU_UFFD_PROGRAM_H
#define GODWIT_MMU_UFFD_PROGRAM_H

#include "mmu_contract.h"

#include "base/base.h"

#include <pthread.h>
#include <sys/types.h>

/* One access by the calling thread: 0, -EFAULT (SIGBUS), -EACCES (SIGSEGV). */
int program_access(uint64_t addr, bool write, uint64_t *value);

/* An access by a thread of its own. */
struct program_touch {
	pthread_t thread;
	bool started;
	uint32_t done;		/* futex word, atomic */
	uint64_t addr, value;
	bool write;
	int ret;
};

void program_touch_begin(struct program_touch *t, uint64_t addr, bool write, uint64_t value);
int program_touch_end(struct program_touch *t, int ms, uint64_t *value);
void program_touch_join(struct program_touch *t);

/* A forked process that answers what it loads from an address. */
struct program_child {
	pid_t pid;
	int ask, answer;	/* our ends of the pipes */
};

void program_child_ask(struct program_child *c, uint64_t addr);
int program_child_answer(struct program_child *c, int ms, uint64_t *value);
void program_child_exit(struct program_child *c);

/* A system call by a thread of its own, or fn(this). */
struct program_act {
	pthread_t thread;
	bool started;
	uint32_t done;		/* futex word, atomic */
	enum mmu_act what;
	uint64_t addr, len, to;
	struct program_child *child;
	struct mmu *mmu;
	int (*fn)(void *arg);
	int ret;
};

void program_act_begin(struct program_act *act);
bool program_act_ended(struct program_act *act);
int program_act_end(struct program_act *act);
void program_act_join(struct program_act *act);
/* The same at once. */
int program_act_now(enum mmu_act what, uint64_t addr, uint64_t len, uint64_t to);

/* A registered buffer of io_uring: a long-term pin. -ENOTSUP: not allowed here. */
struct program_pin {
	int ring;
	bool pinned;
};

int program_pin(struct program_pin *pin, uint64_t addr);
void program_unpin(struct program_pin *pin);

/* The page at addr into a pipe, by reference; its first word out of it. */
int program_splice(int pipe_fd, uint64_t addr);
int program_spliced(int pipe_fd, uint64_t *value);

bool program_readable(int fd, int ms);

#endif

/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * On a busy machine a thread that stops and goes on seven times waits for a CPU as often. So it is scheduled before all
 * ordinary threads (SCHED_FIFO) meanwhile. Should the command be killed, a guardian, a process of a session of its own,
 * gives the thread back what it had: it is told before, and the line to it ends with the command.
 */
#include "attach/hurry.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* As the kernel has had it since 3.14; libc has no words for it. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct charge {
	int tid; /* 0: all is well */
	struct attributes was;
};

static bool attributes_get(int tid, struct attributes *a)
{
	return syscall(SYS_sched_getattr, tid, a, sizeof(*a), 0) == 0;
}

static bool attributes_set(int tid, struct attributes *a)
{
	a->size = sizeof(*a);
	return syscall(SYS_sched_setattr, tid, a, 0) == 0;
}

static bool hasten(int tid)
{
	struct attributes first = { .policy = SCHED_FIFO, .flags = 1 /* SCHED_FLAG_RESET_ON_FORK */, .priority = 1 };

	return attributes_set(tid, &first);
}

static _Noreturn void guard(int line)
{
	struct charge told, last = { .tid = 0 };

	while (read(line, &told, sizeof(told)) == (ssize_t)sizeof(told))
		last = told;
	if (last.tid)
		attributes_set(last.tid, &last.was);
	_exit(0);
}

void hurry_ready(struct hurry *h)
{
	struct attributes own;
	int line[2];

	*h = (struct hurry){ .line = -1 };
	/* not permitted: there is nothing to guard */
	if (!attributes_get(0, &own) || own.policy != SCHED_OTHER || !hasten(0))
		return;
	attributes_set(0, &own);
	if (pipe2(line, O_CLOEXEC) != 0)
		return;
	h->guardian = fork();
	if (h->guardian == 0) {
		setsid();
		close(line[1]);
		guard(line[0]);
	}
	close(line[0]);
	h->line = line[1];
	if (h->guardian < 0)
		hurry_end(h);
}

void hurry_begin(struct hurry *h, int tid)
{
	struct charge charge = { .tid = tid };
	struct sched_param param;

	if (h->line < 0 || !attributes_get(tid, &charge.was) || charge.was.policy != SCHED_OTHER)
		return;
	if (write(h->line, &charge, sizeof(charge)) != (ssize_t)sizeof(charge))
		return;
	h->was_nice = charge.was.nice;
	h->tid = tid;
	hasten(tid);
	param.sched_priority = 1;
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

void hurry_rest(struct hurry *h)
{
	struct attributes was = { .policy = SCHED_OTHER, .nice = h->was_nice };
	struct charge none = { .tid = 0 };
	struct sched_param param = { .sched_priority = 0 };

	if (!h->tid)
		return;
	attributes_set(h->tid, &was);
	h->tid = 0;
	if (write(h->line, &none, sizeof(none)) != (ssize_t)sizeof(none))
		hurry_end(h);
	sched_setscheduler(0, SCHED_OTHER, &param);
}

void hurry_end(struct hurry *h)
{
	if (h->line >= 0)
		close(h->line);
	if (h->guardian > 0)
		waitpid(h->guardian, NULL, 0);
	*h = (struct hurry){ .line = -1 };
}

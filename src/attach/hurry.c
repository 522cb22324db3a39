/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * On a busy machine a thread that stops and goes on seven times waits for a CPU as often. So it is scheduled before all
 * ordinary threads (SCHED_FIFO) meanwhile. Should the command be killed, a guardian, a process of a session of its own,
 * gives the thread back what it had: it is told before, and the line to it ends with the command.
 */
#include "attach/hurry.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

static bool may_hurry(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0 } };

	return syscall(SYS_capget, &head, caps) == 0 && caps[0].effective >> CAP_SYS_NICE & 1;
}

void hurry_ready(struct hurry *h)
{
	struct attributes own;
	int line[2];

	*h = (struct hurry){ .line = -1 };
	/* who has a limit that permits it may not take it back: it has to be a right */
	if (!may_hurry() || !attributes_get(0, &own) || own.policy != SCHED_OTHER)
		return;
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
	h->was = charge.was;
	h->tid = tid;
	hasten(tid);
	param.sched_priority = 1;
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

void hurry_rest(struct hurry *h)
{
	struct charge none = { .tid = 0 };
	struct sched_param param = { .sched_priority = 0 };

	if (!h->tid)
		return;
	attributes_set(h->tid, &h->was);
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

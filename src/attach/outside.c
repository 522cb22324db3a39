/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * Nobody calls into the image any more, and whoever is in a call there is counted by it. What the count does not see
 * are the few instructions before it is raised and after it is lowered: there a thread is for a moment, or for as long
 * as a signal handler takes that has interrupted it there. The kernel's record of that lies on the thread's stack, and
 * begins with the address of the code that returns from a handler.
 */
#include "attach/outside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_MOST (1UL << 20)
#define RECORD_IP 22 /* words from the record's first to the instruction pointer in it */
#define TRIES 2000
#define PAUSE_US 1000

struct look {
	int pid;
	const struct gadgets *gadgets;
	const struct maps *maps;
	uint64_t start, end;
};

static bool within(const struct look *l, uint64_t addr)
{
	return addr >= l->start && addr < l->end;
}

/* Of a thread that waits in the kernel; else -EAGAIN. */
static int where_waiting(int pid, int tid, uint64_t *sp, uint64_t *ip)
{
	char path[64], *text, *at;
	int err = -EAGAIN;

	snprintf(path, sizeof(path), "task/%d/syscall", tid);
	text = process_file(pid, path, NULL);
	at = text ? strrchr(text, ' ') : NULL;
	if (at && strncmp(text, "running", 7) != 0) {
		*ip = strtoull(at + 1, NULL, 16);
		*at = '\0';
		at = strrchr(text, ' ');
		*sp = at ? strtoull(at + 1, NULL, 16) : 0;
		err = at ? 0 : -EAGAIN;
	}
	free(text);
	return err;
}

/* Of one that runs: it is stopped for it. */
static int where_running(int tid, uint64_t *sp, uint64_t *ip)
{
	struct user_regs_struct r = { 0 };
	int status, err;

	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0)
		return -errno;
	err = ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 ? -errno : 0;
	while (!err) {
		if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
			return -ESRCH;
		if (status >> 16 == PTRACE_EVENT_STOP)
			break;
		/* a signal on its way: it is the thread's */
		err = ptrace(PTRACE_CONT, tid, NULL, (void *)(long)WSTOPSIG(status)) != 0 ? -errno : 0;
	}
	if (!err)
		err = ptrace(PTRACE_GETREGS, tid, NULL, &r) != 0 ? -errno : 0;
	*sp = r.rsp;
	*ip = r.rip;
	ptrace(PTRACE_DETACH, tid, NULL, NULL);
	return err;
}

static bool record_within(const struct look *l, uint64_t sp)
{
	const struct map *stack = maps_at(l->maps, sp);
	uint64_t len = stack ? stack->end - (sp & ~7ULL) : 0, *word;
	bool found = false;

	len = len < STACK_MOST ? len : STACK_MOST;
	word = len ? malloc(len) : NULL;
	if (word && !process_read(l->pid, sp & ~7ULL, word, len))
		for (uint64_t i = 0; i + RECORD_IP < len / 8 && !found; i++)
			found = word[i] == l->gadgets->sigreturn && within(l, word[i + RECORD_IP]);
	free(word);
	return found;
}

/* 1: the thread is in the range. */
static int thread_within(int tid, void *arg)
{
	const struct look *l = arg;
	char state = process_thread_state(l->pid, tid);
	uint64_t sp = 0, ip = 0;
	int err;

	if (!state || state == 'Z' || state == 'X')
		return 0;
	err = where_waiting(l->pid, tid, &sp, &ip);
	if (err)
		err = where_running(tid, &sp, &ip);
	if (err)
		return err == -ESRCH ? 0 : err;
	return within(l, ip) || record_within(l, sp);
}

int outside_wait(int pid, const struct gadgets *g, uint64_t start, uint64_t end)
{
	struct look l = { .pid = pid, .gadgets = g, .start = start, .end = end };
	struct maps maps;
	int err = maps_load(&maps, pid);

	if (err)
		return err;
	l.maps = &maps;
	for (int i = 0; i < TRIES; i++) {
		err = process_threads(pid, thread_within, &l);
		if (err <= 0)
			break;
		usleep(PAUSE_US);
	}
	maps_free(&maps);
	return err > 0 ? -EBUSY : err;
}

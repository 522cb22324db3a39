/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * Nobody calls into the image any more, and whoever is in a call there is counted by it. What the count does not see
 * are the few instructions before it is raised and after it is lowered: there a thread is for a moment, or for as long
 * as a signal handler takes that has interrupted it there. The kernel's record of that lies on the thread's stack.
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
#define PAGE_BYTES 4096UL
#define CODE_SEGMENT 0x33 /* of 64-bit programs */
#define TRIES 2000
#define PAUSE_US 1000
#define STOP_TRIES 10000
#define STOP_PAUSE_US 100

struct look {
	int pid;
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

/* -EBUSY: it does not stop; it goes on when this command ends. */
static int wait_stop(int tid, int *status)
{
	for (int i = 0; i < STOP_TRIES; i++) {
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got)
			return got == tid && WIFSTOPPED(*status) ? 0 : -ESRCH;
		usleep(STOP_PAUSE_US);
	}
	return -EBUSY;
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
		err = wait_stop(tid, &status);
		if (err || status >> 16 == PTRACE_EVENT_STOP)
			break;
		/* a signal on its way: it is the thread's */
		err = ptrace(PTRACE_CONT, tid, NULL, (void *)(long)WSTOPSIG(status)) != 0 ? -errno : 0;
	}
	if (!err)
		err = ptrace(PTRACE_GETREGS, tid, NULL, &r) != 0 ? -errno : 0;
	*sp = r.rsp;
	*ip = r.rip;
	if (err != -EBUSY)
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
	return err;
}

/* The instruction pointer in such a record, its flags and its code segment follow each other. */
static bool is_record(const struct look *l, const uint64_t *word)
{
	return within(l, word[0]) && word[1] < 1UL << 22 && (word[1] & 2) && (word[2] & 0xffff) == CODE_SEGMENT;
}

/* 1: there is such a record above the stack pointer; what cannot be read ends the stack. */
static int record_within(const struct look *l, uint64_t sp)
{
	uint64_t *word = malloc(STACK_MOST), nr = 0;
	int found = 0;

	if (!word)
		return -ENOMEM;
	sp &= ~7ULL;
	while (nr < STACK_MOST / 8) {
		uint64_t step = (PAGE_BYTES - (sp + nr * 8) % PAGE_BYTES) / 8;

		step = step < STACK_MOST / 8 - nr ? step : STACK_MOST / 8 - nr;
		if (process_read(l->pid, sp + nr * 8, word + nr, step * 8))
			break;
		nr += step;
	}
	for (uint64_t i = 0; i + 2 < nr && !found; i++)
		found = is_record(l, word + i);
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
	return within(l, ip) ? 1 : record_within(l, sp);
}

int outside_wait(int pid, uint64_t start, uint64_t end)
{
	struct look l = { .pid = pid, .start = start, .end = end };
	int err = 1;

	for (int i = 0; i < TRIES && err > 0; i++) {
		err = process_threads(pid, thread_within, &l);
		if (err > 0)
			usleep(PAUSE_US);
	}
	return err > 0 ? -EBUSY : err;
}

/* SPDX-License-Identifier: MIT */
/* Reading another process: its mappings, memory, and what /proc says of it. */
#ifndef GODWIT_ATTACH_PROCESS_H
#define GODWIT_ATTACH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct map {
	uint64_t start, end;
	bool readable, writable, executable, shared, file;
	char name[128];
};

struct maps {
	struct map *map;
	size_t nr;
};

int maps_load(struct maps *m, int pid);
void maps_free(struct maps *m);
const struct map *maps_at(const struct maps *m, uint64_t addr);

/* All of it, or -EFAULT, -ESRCH, -EPERM. */
int process_read(int pid, uint64_t addr, void *buf, size_t len);
int process_write(int pid, uint64_t addr, const void *buf, size_t len);

/*
 * The memory that the process has now, by a descriptor: when the process has become another program it is no more, and
 * -ESRCH. memory_open(): -EPERM, -ESRCH.
 */
int memory_open(int pid);
int memory_read(int mem, uint64_t addr, void *buf, size_t len);

/* A text of at most len - 1 bytes. */
int process_read_text(int pid, uint64_t addr, char *buf, size_t len);

/* /proc/PID/NAME, all of it, with a NUL behind; free() it. NULL: errno says why. */
char *process_file(int pid, const char *name, size_t *len);
/* The number behind "KEY:" in /proc/PID/status, or fallback. */
long process_status(const char *status, const char *key, long fallback);

/* Call fn for every thread; not 0 ends it, and is returned. */
int process_threads(int pid, int (*fn)(int tid, void *arg), void *arg);
/* 'R', 'S', 'D', 'T', 't', 'Z' ... as in /proc/PID/task/TID/stat; 0: gone. */
char process_thread_state(int pid, int tid);

#endif

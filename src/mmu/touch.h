/* SPDX-License-Identifier: MIT */
/*
 * touch - who touched which page first: page faults of the program's threads as the kernel counts them, and
 * what was mapped, in the order of time. Nothing waits for us and no memory is registered: the kernel writes
 * 32 bytes a fault to a ring of the fault's CPU.
 *
 * What is seen
 *   - A fault is written down before it is answered: whoever finds a page present finds its record by a drain
 *     that begins later. So what the record names may not be there yet, and a fault that ends in a signal is
 *     written down too.
 *   - Every fault counts: the first touch, a touch after MADV_DONTNEED, the write to a page that had only been
 *     read, the copy after a fork, a page that comes back from swap, one that waited for a userfaultfd.
 *   - A huge page (of any size) is one record, somewhere inside it.
 *   - System calls that copy to and from the program's memory (read(), recv()) fault like the program;
 *     touch_state says whether those are seen.
 *   - System calls that populate or pin it are not: the kernel counts no fault there. MADV_POPULATE_*,
 *     MAP_POPULATE, mlock(), O_DIRECT, buffers of io_uring, vmsplice(), process_vm_writev() from elsewhere.
 *   - CPUs that came online after the opening are not looked at. A thread that was in the making during all of
 *     the opening, which then takes 5 ms more where there are several threads, is not seen.
 *   - Threads that the engine makes on a program's thread inherit its events, and are seen.
 *
 * All functions but touch_fork_child() on one thread: the descriptors are in its table.
 */
#ifndef GODWIT_MMU_TOUCH_H
#define GODWIT_MMU_TOUCH_H

#include <stdbool.h>
#include <stdint.h>

struct region;
struct touches;

enum touch_type {
	TOUCH_PAGE = 1,	/* tid faulted at addr, on cpu */
	TOUCH_MAPPED,	/* tid mapped or grew writable anonymous private memory, or changed its protection */
};

/*
 * TOUCH_MAPPED: [addr, end) is the whole mapping as it was then, with the neighbours that the kernel merged it with:
 * it covers what is new and may cover memory that is old. mremap() and munmap() are not told.
 */
struct touch {
	enum touch_type type;
	uint32_t tid, cpu;
	uint64_t addr, end;	/* the byte, as the CPU gave it; TOUCH_PAGE: end is addr */
	uint64_t time;		/* as clock_ns() has it */
};

struct touch_options {
	uint64_t ring_bytes;	/* of each CPU, a power of two from 4 KiB on; 0: 4 MiB, or less where that is too much */
	const uint32_t *skip;	/* threads that are not to be seen; the calling one never is */
	uint32_t nr_skip;
};

struct touch_state {
	bool kernel;		/* faults of system calls on the program's memory are seen too */
	uint32_t cpus;
	uint32_t threads;	/* found at the opening; those that they made since are seen without being counted */
	uint64_t ring_bytes;
};

/*
 * Begin: all threads of the process from when this returns on. *t: NULL, or closed, and its memory is used again.
 * opt may be NULL. Returns 0 or, closed again:
 *   -EACCES, -EPERM   not permitted: kernel.perf_event_paranoid, or a sandbox
 *   -ENOSYS           not in this kernel
 *   -ENOENT           no /proc
 *   -EMFILE           a descriptor for each thread and CPU is more than RLIMIT_NOFILE
 *   -ENOMEM           the region is used up, or RLIMIT_MEMLOCK and kernel.perf_event_mlock_kb together do not
 *                     give 64 KiB (.ring_bytes, where that is less) a CPU
 */
int touch_open(struct touches **t, struct region *r, const struct touch_options *opt);
void touch_close(struct touches *t);

/*
 * In a forked child, before it maps anything: the rings were not inherited, their addresses are reserved again.
 * It is closed then.
 */
void touch_fork_child(struct touches *t);

void touch_state(const struct touches *t, struct touch_state *out);

/* Readable once each time a ring got fuller by a quarter; a drain does not need it. */
int touch_fd(const struct touches *t);

/*
 * Tell all that happened before the call, in the order of time over all CPUs: what a thread could know of
 * when it touched a page comes before that touch. Memory of the region is left out. fn may not call back.
 * Returns how many records, of any kind, were lost since the last drain because a ring was full.
 */
uint64_t touch_drain(struct touches *t, void (*fn)(void *arg, const struct touch *touch), void *arg);

/* May faults, those of system calls too, be seen by this process? 0 or -errno as touch_open(). */
int touch_probe(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * preload - what must be interposed in an unmodified program, and nothing more.
 *
 *   pthread_create, thrd_create   the new thread's control block and stack must stay where they are
 *   _exit, _Exit                  the control socket goes with the process
 *   setuid and its kin            the service thread gives up its rights with the others
 *   ioctl                         a range that the program is to serve must not be one that is tracked
 *   mlockall                      what is the engine's need not be locked, and must not count
 *   mremap                        a call across two mappings must not meet one that is tracked
 *   vmsplice, setsockopt          hand out references to pages: vacated frames are not reused then
 *   mmap, munmap, madvise         what is there next is new memory, and goes by its policy
 *   mmap, brk, sbrk               ... and near a limit it is tracked before it is filled
 *   syscall, mbind and its kin    Linux's NUMA interface is the engine's: see numa.c
 *   sched_setaffinity, getcpu     which node a thread is on
 *   open, fopen, opendir, stat, access, readlink, realpath, chdir, glob ... (files.c, look.c)
 *                                 the paths of Linux's NUMA topology show the engine's nodes: see topology.h
 */
#ifndef GODWIT_PRELOAD_H
#define GODWIT_PRELOAD_H

#include <stdbool.h>

#define VISIBLE __attribute__((visibility("default")))

/* A system call past all interposers, without errno; and what libc makes of its answer. */
long kernel_call(long nr, const long a[6]);
long kernel_result(long ret);

struct gw_engine;

/* The next definition of a libc function, or NULL. Any thread, any time. */
void *preload_next(const char *name);

/* The calling thread's policy goes into the environment, for what this process becomes. */
void preload_save_policy(struct gw_engine *e);

/* ---- preload.c ---- */

/*
 * The engine of this process, or NULL. Starts it if it is not started yet: for calls that a library's constructor may
 * make, which can come before this object's own.
 */
struct gw_engine *preload_engine(void);
/* "godwit: WHAT: ERROR: SO" on stderr, unless told to be quiet. */
void preload_say(const char *what, int err, const char *so);

/* Add the nodes of a list of specifications, ';' between them. 0 or -errno. */
int preload_add_nodes(struct gw_engine *e, const char *specs);

/* ---- interpose.c: threads ---- */

/* From now on new threads may come by; leave(): at the end of each, preload_thread_leave() or what calls it. */
int preload_threads_begin(void (*leave)(void *arg));
void preload_threads_end(void);
void preload_thread_leave(void *arg);
/* Is one on its way, from its maker to its own function? */
bool preload_threads_starting(void);

/* ---- attached.c ---- */

/* Was this library put into the running program, where the dynamic linker does not know of it? */
bool preload_attached(void);
/* preload_next() there. */
void *attached_next(const char *name);

/* ---- files.c ---- */

/* Find what a signal handler may need later: dlsym() is not for handlers. */
void files_ready(void);

#endif

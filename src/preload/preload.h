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
 */
#ifndef GODWIT_PRELOAD_H
#define GODWIT_PRELOAD_H

/* The next definition of a libc function, or NULL. Any thread, any time. */
void *preload_next(const char *name);

#endif

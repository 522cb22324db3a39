/* SPDX-License-Identifier: MIT */
/* What stands before libc's calls that take a path: files.c opens, look.c does everything else. */
#ifndef GODWIT_PRELOAD_FILES_H
#define GODWIT_PRELOAD_FILES_H

#include "preload/preload.h"
#include "topology/topology.h"

#define SHOWN __attribute__((visibility("default")))

/* The next definition of a function, looked up once: SLOT keeps it, NEXT is it. A null pointer if there is none. */
#define SLOT(name) static void *next_##name __attribute__((section("gw_data"))) = NULL;
#define NEXT(name) ((__typeof__(&name))files_next(&next_##name, #name))

static inline void *files_next(void **slot, const char *name)
{
	void *fn = __atomic_load_n(slot, __ATOMIC_RELAXED);

	if (__builtin_expect(!fn, 0)) {
		fn = preload_next(name);
		__atomic_store_n(slot, fn, __ATOMIC_RELAXED);
	}
	return fn;
}

/*
 * Open a path of ours. False: it is libc's to open, as it was asked for. Else *fd is what open(2) returns, errno set
 * accordingly. Both leave errno alone where nothing went wrong.
 */
bool files_open(int dirfd, const char *path, int flags, int *fd);

/* Where a path of ours really is, into TOPOLOGY_PATH bytes; false: it is not ours. */
bool files_tree(int dirfd, const char *path, char *out);

/* The compiler takes libc's word that no path is NULL; programs pass one all the same, and get EFAULT. */
static inline bool files_may(const char *path)
{
	__asm__("" : "+r"(path));
	return __builtin_expect(topology_may(path), 0);
}

/* The path to give to libc; real: TOPOLOGY_PATH bytes. */
static inline const char *files_path(int dirfd, const char *path, char *real)
{
	return files_may(path) && files_tree(dirfd, path, real) ? real : path;
}

/* ---- look.c ---- */

/* files_ready() of this file. */
void look_ready(void);

#endif

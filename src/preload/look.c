/* SPDX-License-Identifier: MIT */
/* Looking at files without opening them: those of the topology are the tree's. */
#include "preload/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A call that takes a path, and one that takes it beside a directory. */
#define BY_PATH(type, name, params, args)                                                                  \
	SLOT(name)                                                                                         \
	SHOWN type name params                                                                             \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		path = files_path(AT_FDCWD, path, real);                                                   \
		return NEXT(name) args;                                                                    \
	}

#define BY_DIR(type, name, params, args)                                                                   \
	SLOT(name)                                                                                         \
	SHOWN type name params                                                                             \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		path = files_path(dirfd, path, real);                                                      \
		return NEXT(name) args;                                                                    \
	}

/* ---- stat ---- */

BY_PATH(int, stat, (const char *path, struct stat *st), (path, st))
BY_PATH(int, stat64, (const char *path, struct stat64 *st), (path, st))
BY_PATH(int, lstat, (const char *path, struct stat *st), (path, st))
BY_PATH(int, lstat64, (const char *path, struct stat64 *st), (path, st))
BY_DIR(int, fstatat, (int dirfd, const char *path, struct stat *st, int flags), (dirfd, path, st, flags))
BY_DIR(int, fstatat64, (int dirfd, const char *path, struct stat64 *st, int flags), (dirfd, path, st, flags))
BY_DIR(int, statx, (int dirfd, const char *path, int flags, unsigned int mask, struct statx *stx),
       (dirfd, path, flags, mask, stx))

/*
 * What programs built against a glibc before 2.33 call. On x86-64 both versions of the structure that there ever
 * were are the kernel's own.
 */
#define XSTAT(name, type, flags)                                                                           \
	int name(int version, const char *path, struct type *st);                                          \
	SHOWN int name(int version, const char *path, struct type *st)                                     \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		if (version == 0 || version == 1)                                                          \
			return (int)syscall(SYS_newfstatat, AT_FDCWD, files_path(AT_FDCWD, path, real), st, \
					    flags);                                                        \
		errno = EINVAL;                                                                            \
		return -1;                                                                                 \
	}

XSTAT(__xstat, stat, 0)
XSTAT(__xstat64, stat64, 0)
XSTAT(__lxstat, stat, AT_SYMLINK_NOFOLLOW)
XSTAT(__lxstat64, stat64, AT_SYMLINK_NOFOLLOW)

#define XSTATAT(name, type)                                                                                \
	int name(int version, int dirfd, const char *path, struct type *st, int flags);                    \
	SHOWN int name(int version, int dirfd, const char *path, struct type *st, int flags)               \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		if (version == 0 || version == 1)                                                          \
			return (int)syscall(SYS_newfstatat, dirfd, files_path(dirfd, path, real), st, flags); \
		errno = EINVAL;                                                                            \
		return -1;                                                                                 \
	}

XSTATAT(__fxstatat, stat)
XSTATAT(__fxstatat64, stat64)

/* ---- access, and what ls asks beside ---- */

BY_PATH(int, access, (const char *path, int mode), (path, mode))
BY_PATH(int, eaccess, (const char *path, int mode), (path, mode))
BY_PATH(int, euidaccess, (const char *path, int mode), (path, mode))
BY_DIR(int, faccessat, (int dirfd, const char *path, int mode, int flags), (dirfd, path, mode, flags))
BY_PATH(ssize_t, getxattr, (const char *path, const char *name, void *value, size_t size), (path, name, value, size))
BY_PATH(ssize_t, lgetxattr, (const char *path, const char *name, void *value, size_t size), (path, name, value, size))
BY_PATH(ssize_t, listxattr, (const char *path, char *list, size_t size), (path, list, size))
BY_PATH(ssize_t, llistxattr, (const char *path, char *list, size_t size), (path, list, size))

/* ---- links and names ---- */

BY_PATH(ssize_t, readlink, (const char *path, char *buf, size_t len), (path, buf, len))
BY_DIR(ssize_t, readlinkat, (int dirfd, const char *path, char *buf, size_t len), (dirfd, path, buf, len))
ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t buf_len);
BY_PATH(ssize_t, __readlink_chk, (const char *path, char *buf, size_t len, size_t buf_len), (path, buf, len, buf_len))
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t len, size_t buf_len);
BY_DIR(ssize_t, __readlinkat_chk, (int dirfd, const char *path, char *buf, size_t len, size_t buf_len),
       (dirfd, path, buf, len, buf_len))
BY_PATH(int, chdir, (const char *path), (path))

/* A name that comes out of a tree is the one that the tree stands for. */
static char *reverse(char *name)
{
	if (name)
		topology_reverse(name);
	return name;
}

SLOT(realpath)
SHOWN char *realpath(const char *path, char *resolved)
{
	char real[TOPOLOGY_PATH];

	return reverse(NEXT(realpath)(files_path(AT_FDCWD, path, real), resolved));
}

char *__realpath_chk(const char *path, char *resolved, size_t len);
SLOT(__realpath_chk)
SHOWN char *__realpath_chk(const char *path, char *resolved, size_t len)
{
	char real[TOPOLOGY_PATH];

	return reverse(NEXT(__realpath_chk)(files_path(AT_FDCWD, path, real), resolved, len));
}

SLOT(canonicalize_file_name)
SHOWN char *canonicalize_file_name(const char *path)
{
	char real[TOPOLOGY_PATH];

	return reverse(NEXT(canonicalize_file_name)(files_path(AT_FDCWD, path, real)));
}

SLOT(getcwd)
SHOWN char *getcwd(char *buf, size_t size)
{
	return reverse(NEXT(getcwd)(buf, size));
}

char *__getcwd_chk(char *buf, size_t size, size_t buf_len);
SLOT(__getcwd_chk)
SHOWN char *__getcwd_chk(char *buf, size_t size, size_t buf_len)
{
	return reverse(NEXT(__getcwd_chk)(buf, size, buf_len));
}

void look_ready(void)
{
	(void)NEXT(stat);
	(void)NEXT(stat64);
	(void)NEXT(lstat);
	(void)NEXT(lstat64);
	(void)NEXT(fstatat);
	(void)NEXT(fstatat64);
	(void)NEXT(access);
	(void)NEXT(faccessat);
	(void)NEXT(readlink);
	(void)NEXT(readlinkat);
	(void)NEXT(chdir);
}

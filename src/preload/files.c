/* SPDX-License-Identifier: MIT */
/* Opening files and directories: those of the topology are the engine's. */
#include "preload/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- ours or not ---- */

static bool find(int dirfd, const char *path, struct topology_place *place)
{
	static uint32_t said __attribute__((section("gw_data"))) = 0;
	int saved = errno, ret = 0;
	struct gw_engine *e = preload_engine();

	if (e)
		ret = topology_find(e, dirfd, path, place);
	if (ret < 0 && !__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED))
		preload_say("cannot show the nodes as files", ret, "the program sees the host's");
	errno = saved;
	return ret == 1;
}

bool files_open(int dirfd, const char *path, int flags, int *fd)
{
	struct topology_place place;
	int saved = errno, ret;

	if (!find(dirfd, path, &place))
		return false;
	ret = topology_open(gw_self(), &place, flags);
	errno = ret < 0 && ret != -EXDEV ? -ret : saved;
	*fd = ret < 0 ? -1 : ret;
	return ret != -EXDEV;
}

bool files_tree(int dirfd, const char *path, char *out)
{
	struct topology_place place;
	char *name;

	if (!find(dirfd, path, &place))
		return false;
	if (place.kind >= TOPOLOGY_NUMA_MAPS) {
		/* a kernel without NUMA has no such file; one that is as good is beside it */
		if (place.kind != TOPOLOGY_NUMA_MAPS ||
		    !syscall(SYS_faccessat, AT_FDCWD, place.path, F_OK))
			return false;
		name = strrchr(place.path, '/') + 1;
		memcpy(name, "maps", 5);
	}
	memcpy(out, place.path, sizeof(place.path));
	return true;
}

/* ---- open ---- */

static bool has_mode(int flags)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

#define OPEN(name)                                                                                         \
	SLOT(name)                                                                                         \
	SHOWN int name(const char *path, int flags, ...)                                                   \
	{                                                                                                  \
		unsigned int mode = 0;                                                                     \
		int fd;                                                                                    \
                                                                                                           \
		if (has_mode(flags)) {                                                                     \
			__builtin_va_list args;                                                            \
                                                                                                           \
			__builtin_va_start(args, flags);                                                   \
			mode = __builtin_va_arg(args, unsigned int);                                       \
			__builtin_va_end(args);                                                            \
		}                                                                                          \
		if (files_may(path) && files_open(AT_FDCWD, path, flags, &fd))                             \
			return fd;                                                                         \
		return NEXT(name)(path, flags, mode);                                                      \
	}

OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                       \
	SLOT(name)                                                                                         \
	SHOWN int name(int dirfd, const char *path, int flags, ...)                                        \
	{                                                                                                  \
		unsigned int mode = 0;                                                                     \
		int fd;                                                                                    \
                                                                                                           \
		if (has_mode(flags)) {                                                                     \
			__builtin_va_list args;                                                            \
                                                                                                           \
			__builtin_va_start(args, flags);                                                   \
			mode = __builtin_va_arg(args, unsigned int);                                       \
			__builtin_va_end(args);                                                            \
		}                                                                                          \
		if (files_may(path) && files_open(dirfd, path, flags, &fd))                                \
			return fd;                                                                         \
		return NEXT(name)(dirfd, path, flags, mode);                                               \
	}

OPENAT(openat)
OPENAT(openat64)

/* What a program that was compiled with _FORTIFY_SOURCE calls instead, without a mode. */
#define OPEN_2(name)                                                                                       \
	SLOT(name)                                                                                         \
	int name(const char *path, int flags);                                                             \
	SHOWN int name(const char *path, int flags)                                                        \
	{                                                                                                  \
		int fd;                                                                                    \
                                                                                                           \
		if (files_may(path) && files_open(AT_FDCWD, path, flags, &fd))                             \
			return fd;                                                                         \
		return NEXT(name)(path, flags);                                                            \
	}

OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                                                                     \
	SLOT(name)                                                                                         \
	int name(int dirfd, const char *path, int flags);                                                  \
	SHOWN int name(int dirfd, const char *path, int flags)                                             \
	{                                                                                                  \
		int fd;                                                                                    \
                                                                                                           \
		if (files_may(path) && files_open(dirfd, path, flags, &fd))                                \
			return fd;                                                                         \
		return NEXT(name)(dirfd, path, flags);                                                     \
	}

OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* ---- streams ---- */

/* Of what fopen() understands, as much as tells reading from writing. */
static int mode_flags(const char *mode)
{
	int flags = mode[0] == 'r' && !strchr(mode, '+') ? O_RDONLY : O_RDWR;

	return flags | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

/* False: it is libc's to open. */
static bool stream_open(const char *path, const char *mode, FILE **stream)
{
	int fd;

	if (!files_open(AT_FDCWD, path, mode_flags(mode), &fd))
		return false;
	*stream = fd < 0 ? NULL : fdopen(fd, mode);
	if (fd >= 0 && !*stream)
		close(fd);
	return true;
}

#define FOPEN(name)                                                                                        \
	SLOT(name)                                                                                         \
	SHOWN FILE *name(const char *path, const char *mode)                                               \
	{                                                                                                  \
		FILE *stream;                                                                              \
                                                                                                           \
		if (files_may(path) && stream_open(path, mode, &stream))                                   \
			return stream;                                                                     \
		return NEXT(name)(path, mode);                                                             \
	}

FOPEN(fopen)
FOPEN(fopen64)

/* The same file again, for who takes paths only. */
static void path_of(int fd, char *path, size_t len)
{
	snprintf(path, len, "/proc/self/fd/%d", fd);
}

/* What cannot be opened closes the stream too. */
#define FREOPEN(name)                                                                                      \
	SLOT(name)                                                                                         \
	SHOWN FILE *name(const char *path, const char *mode, FILE *stream)                                 \
	{                                                                                                  \
		char again[32] = "/dev/null/denied";                                                       \
		int fd, err;                                                                               \
                                                                                                           \
		if (!files_may(path) || !files_open(AT_FDCWD, path, mode_flags(mode), &fd))                \
			return NEXT(name)(path, mode, stream);                                             \
		err = errno;                                                                               \
		if (fd >= 0)                                                                               \
			path_of(fd, again, sizeof(again));                                                 \
		stream = NEXT(name)(again, mode, stream);                                                  \
		if (fd >= 0)                                                                               \
			close(fd);                                                                         \
		else                                                                                       \
			errno = err;                                                                       \
		return stream;                                                                             \
	}

FREOPEN(freopen)
FREOPEN(freopen64)

/* ---- directories ---- */

SLOT(opendir)
SHOWN DIR *opendir(const char *path)
{
	char real[TOPOLOGY_PATH];

	path = files_path(AT_FDCWD, path, real);
	return NEXT(opendir)(path); /* cppcheck-suppress CastIntegerToAddressAtReturn */
}

#define SCANDIR(name, entry)                                                                               \
	SLOT(name)                                                                                         \
	SHOWN int name(const char *path, struct entry ***list, int (*filter)(const struct entry *),        \
		       int (*order)(const struct entry **, const struct entry **))                         \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		return NEXT(name)(files_path(AT_FDCWD, path, real), list, filter, order);                  \
	}

SCANDIR(scandir, dirent)
SCANDIR(scandir64, dirent64)

#define SCANDIRAT(name, entry)                                                                             \
	SLOT(name)                                                                                         \
	SHOWN int name(int dirfd, const char *path, struct entry ***list,                                  \
		       int (*filter)(const struct entry *),                                                \
		       int (*order)(const struct entry **, const struct entry **))                         \
	{                                                                                                  \
		char real[TOPOLOGY_PATH];                                                                  \
                                                                                                           \
		return NEXT(name)(dirfd, files_path(dirfd, path, real), list, filter, order);              \
	}

SCANDIRAT(scandirat, dirent)
SCANDIRAT(scandirat64, dirent64)

/* glob() goes to directories inside of libc, unless it is told how to. */
static void *glob_opendir(const char *path)
{
	return opendir(path);
}

static void glob_closedir(void *dir)
{
	closedir(dir);
}

#define GLOB(name, type, read_entry, stat_file, lstat_file)                                                \
	SLOT(name)                                                                                         \
	SHOWN int name(const char *pattern, int flags, int (*on_error)(const char *, int), type *found)    \
	{                                                                                                  \
		int ret;                                                                                   \
                                                                                                           \
		if (!files_may(pattern) || flags & GLOB_ALTDIRFUNC || !preload_engine())                   \
			return NEXT(name)(pattern, flags, on_error, found);                                \
		found->gl_opendir = glob_opendir;                                                          \
		found->gl_closedir = glob_closedir;                                                        \
		found->gl_readdir = (__typeof__(found->gl_readdir))(void *)read_entry;                     \
		found->gl_stat = stat_file;                                                                \
		found->gl_lstat = lstat_file;                                                              \
		ret = NEXT(name)(pattern, flags | GLOB_ALTDIRFUNC, on_error, found);                       \
		found->gl_flags &= ~GLOB_ALTDIRFUNC;                                                       \
		return ret;                                                                                \
	}

GLOB(glob, glob_t, readdir, stat, lstat)
GLOB(glob64, glob64_t, readdir64, stat64, lstat64)

/* Those that handlers may call. */
void files_ready(void)
{
	int saved = errno;

	(void)NEXT(open);
	(void)NEXT(open64);
	(void)NEXT(openat);
	(void)NEXT(openat64);
	(void)NEXT(__open_2);
	(void)NEXT(__open64_2);
	(void)NEXT(__openat_2);
	(void)NEXT(__openat64_2);
	look_ready();
	errno = saved;
}

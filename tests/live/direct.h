/* SPDX-License-Identifier: MIT */
/* What tests of devices that write share: a file that is read past the page cache. */
#ifndef GODWIT_TESTS_DIRECT_H
#define GODWIT_TESTS_DIRECT_H

#include "live.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A file in memory takes O_DIRECT and copies all the same: nothing is pinned. */
static inline int open_direct(const char *dir, const char **why)
{
	char path[4096];
	struct statfs fs;
	int fd;

	if (!dir || statfs(dir, &fs)) {
		*why = "no directory";
		return -1;
	}
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) {
		*why = "a filesystem in memory";
		return -1;
	}
	snprintf(path, sizeof(path), "%s/godwit-pins.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		*why = strerror(errno);
		unlink(path);
	} else {
		*why = strerror(errno);
	}
	return fd;
}

/* Word i of the file is pattern_word(i, 1). -1, and why. */
static inline int direct_file(size_t bytes, const char **why)
{
	int fd = open_direct(getenv("TMPDIR"), why);
	uint64_t *mem;
	ssize_t put;

	if (fd < 0)
		fd = open_direct("/var/tmp", why);
	if (fd < 0)
		return -1;
	mem = map_memory(bytes, false);
	pattern_fill(mem, bytes / 8, 1);
	put = pwrite(fd, mem, bytes, 0);
	*why = strerror(errno);
	munmap(mem, bytes);
	if (put == (ssize_t)bytes)
		return fd;
	close(fd);
	return -1;
}

#endif

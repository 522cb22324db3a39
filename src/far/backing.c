/* SPDX-License-Identifier: MIT */
/* How a path becomes a place for pages that nobody else finds, and that goes with the last process that has it. */
#include "far/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define OWNER 0600
#define ANYONE 0666		/* of a file without a name: a process that has changed its user opens it again for a child */
#define FD_FIRST 400		/* out of the way of programs that count on low numbers */

static int open_at(const char *path, int flags, int mode)
{
	return (int)sys4(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOCTTY | O_LARGEFILE, mode);
}

/* With O_DIRECT where the filesystem has it. */
static int open_direct(struct backing *b, const char *path, int flags, int mode)
{
	int fd = open_at(path, flags | O_RDWR | O_DIRECT, mode);

	b->direct = fd >= 0;
	if (fd == -EINVAL)
		fd = open_at(path, flags | O_RDWR, mode);
	return fd;
}

static int fd_stat(int fd, struct stat *st)
{
	return (int)sys4(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
}

static int named_open(struct backing *b, const char *path, bool there)
{
	int fd = open_direct(b, path, there ? O_NOFOLLOW : O_CREAT | O_EXCL, OWNER);
	struct stat opened, named;
	int err;

	/* a filesystem without O_DIRECT makes the file before it says so */
	if (fd == -EEXIST && !there)
		return named_open(b, path, true);
	if (fd < 0)
		return fd;
	err = fd_stat(fd, &opened);
	if (!err)
		err = (int)sys4(SYS_newfstatat, AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW);
	if (!err && (!S_ISREG(opened.st_mode) || opened.st_size || opened.st_ino != named.st_ino ||
		     opened.st_dev != named.st_dev))
		err = -EEXIST;
	if (!err)
		err = (int)sys3(SYS_unlinkat, AT_FDCWD, path, 0);
	if (err) {
		sys1(SYS_close, fd);
		return err;
	}
	return fd;
}

static int device_open(struct backing *b, const char *path)
{
	uint64_t size = 0;
	int fd = open_direct(b, path, O_EXCL, 0);
	long err = fd < 0 ? fd : sys3(SYS_ioctl, fd, BLKGETSIZE64, &size);

	if (err < 0) {
		if (fd >= 0)
			sys1(SYS_close, fd);
		return (int)err;
	}
	b->device = true;
	b->bytes = b->bytes ? min_u64(b->bytes, size) : size;
	return fd;
}

/* By what stands at the path. */
static int kind_open(struct backing *b, const char *path)
{
	struct stat st;
	int err = (int)sys4(SYS_newfstatat, AT_FDCWD, path, &st, 0);

	if (err == -ENOENT)
		return named_open(b, path, false);
	if (err)
		return err;
	if (S_ISDIR(st.st_mode)) {
		int fd = open_direct(b, path, O_TMPFILE | O_EXCL, OWNER);

		return fd == -EOPNOTSUPP ? -EISDIR : fd;
	}
	if (S_ISBLK(st.st_mode))
		return device_open(b, path);
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return named_open(b, path, true);
}

static int settle(struct backing *b)
{
	struct statfs fs;
	struct stat st;
	int err = fd_stat(b->fd, &st);

	if (!err && !b->device)
		err = (int)sys2(SYS_fstatfs, b->fd, &fs);
	if (err)
		return err;
	if (!b->device) {
		uint64_t disk = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;

		b->bytes = b->bytes ? min_u64(b->bytes, disk) : disk;
		sys2(SYS_fchmod, b->fd, ANYONE);
	}
	b->dev = st.st_dev;
	b->ino = st.st_ino;
	b->mark = ALIGN_DOWN(clock_ns() % max_u64(b->bytes, FAR_PAGE), 512) + 1;
	b->grows = !b->device;
	b->opener = (uint32_t)sys0(SYS_gettid);
	return sys3(SYS_lseek, b->fd, b->mark, SEEK_SET) < 0 ? -EINVAL : 0;
}

int backing_open(struct backing *b, const char *path, uint64_t bytes)
{
	int err;

	*b = (struct backing){ .fd = -1, .bytes = bytes };
	b->fd = kind_open(b, path);
	if (b->fd < 0)
		return b->fd;
	err = settle(b);
	if (!err && b->bytes < FAR_PAGE)
		err = -ENOSPC;
	if (err) {
		sys1(SYS_close, b->fd);
		b->fd = -1;
	}
	return err;
}

int backing_reopen(const struct backing *b)
{
	char path[96] = "/proc/self/task/";
	long fd, high, err;

	str_cat_u64(path, sizeof(path), b->opener);
	str_cat(path, sizeof(path), "/fd/");
	str_cat_u64(path, sizeof(path), (uint64_t)b->fd);
	fd = open_at(path, O_RDWR | (b->direct ? O_DIRECT : 0), 0);
	if (fd < 0)
		return (int)fd;
	/* a process may not be allowed so many */
	high = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_FIRST);
	if (high >= 0) {
		sys1(SYS_close, fd);
		fd = high;
	}
	err = sys3(SYS_lseek, fd, b->mark, SEEK_SET);
	if (err < 0) {
		sys1(SYS_close, fd);
		return (int)err;
	}
	return (int)fd;
}

static bool is_ours(const struct backing *b, int fd)
{
	struct stat st;

	return fd >= 0 && !fd_stat(fd, &st) && st.st_dev == b->dev && st.st_ino == b->ino &&
	       sys3(SYS_lseek, fd, 0, SEEK_CUR) == (long)b->mark;
}

bool backing_close_fd(const struct backing *b, int fd)
{
	if (!is_ours(b, fd))
		return false;
	sys1(SYS_close, fd);
	return true;
}

int backing_inherit(const struct backing *b, int fd)
{
	long pidfd, mine;

	if (is_ours(b, fd)) {
		mine = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
		sys1(SYS_close, fd);
		return (int)mine;
	}
	pidfd = sys2(SYS_pidfd_open, sys0(SYS_getpid), 0);
	if (pidfd < 0)
		return (int)pidfd;
	mine = sys3(SYS_pidfd_getfd, pidfd, fd, 0);
	sys1(SYS_close, pidfd);
	if (mine >= 0 && !is_ours(b, (int)mine)) {
		sys1(SYS_close, mine);
		return -EBADF;
	}
	return (int)mine;
}

int backing_grow(struct backing *b, uint64_t offset, uint64_t len)
{
	long ret;

	if (!b->grows)
		return 0;
	do
		ret = sys4(SYS_fallocate, b->fd, 0, offset, len);
	while (ret == -EINTR);
	if (ret == -EOPNOTSUPP || ret == -ENOSYS) {
		b->grows = false;
		return 0;
	}
	return (int)ret;
}

void backing_punch(const struct backing *b, uint64_t offset, uint64_t len)
{
	if (b->grows)
		sys4(SYS_fallocate, b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
}

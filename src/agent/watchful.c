/* SPDX-License-Identifier: MIT */
/*
 * Frames that leak: vmsplice(), zero-copy sends, FUSE and rings hold a page without a pin, so a move
 * goes through and whoever reads the other end sees what the frame holds next. Recycling ends for good
 * when a descriptor of this kind is seen (or, where libgodwit.so is preloaded, such a call).
 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define LOOK_EVERY_NS 1000000000ULL

static bool leaky(long dir, const char *name)
{
	char target[64];
	long len = sys4(SYS_readlinkat, dir, name, target, sizeof(target) - 1);

	if (len <= 0)
		return len != -ENOENT; /* closed meanwhile; else who knows */
	target[len] = '\0';
	return !strcmp(target, "/dev/fuse") || !strcmp(target, "anon_inode:[io_uring]");
}

/* The number of descriptors, or -1 when one is leaky, or not all can be seen: the first thread may have ended. */
static int any_leaky(long dir)
{
	char buf[2048] __attribute__((aligned(8)));
	int nr = 0;
	long got;

	while ((got = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);

			if (d->name[0] != '.' && leaky(dir, d->name))
				return -1;
			nr++;
			at += d->len;
		}
	return got < 0 || !nr ? -1 : nr;
}

void frames_watch(struct gw_engine *e)
{
	uint64_t now = clock_ns();
	long dir;

	if (!__atomic_load_n(&e->mm.recycle, __ATOMIC_RELAXED) || (e->fds_seen && now - e->fds_seen < LOOK_EVERY_NS))
		return;
	e->fds_seen = now;
	dir = sys4(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0) {
		gw_no_recycle(e);
		return;
	}
	if (any_leaky(dir) < 0)
		gw_no_recycle(e);
	sys1(SYS_close, dir);
}

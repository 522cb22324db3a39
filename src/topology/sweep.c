/* SPDX-License-Identifier: MIT */
/*
 * Who is in a tree, and who takes it away.
 *
 *   maker    makes topology-HASH.PID.new, locks it (shared), fills it, renames it to topology-HASH
 *   user     opens topology-HASH, locks it (shared), and looks whether the name still leads there
 *   remover  opens, tries to lock it alone, renames it to topology-HASH.PID.old, empties it
 *
 * Locks die with their processes, so what has no lock is in use by nobody: a half-made or half-removed tree too,
 * and neither is ever seen under the tree's own name. A maker whose new tree is swept before it has the lock
 * finds so by the user's look, and makes another.
 */
#include "base/base.h"
#include "topology/topology.h"
#include "topology/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define DEEP 12 /* directories in each other; a tree has fewer */

int tree_hold(const char *path)
{
	struct stat here, there;
	int fd = (int)sys4(SYS_openat, AT_FDCWD, path, DIRECTORY, 0), err;

	if (fd < 0)
		return fd;
	err = (int)sys2(SYS_flock, fd, LOCK_SH | LOCK_NB);
	if (!err && (sys2(SYS_fstat, fd, &here) || sys2(SYS_lstat, path, &there) || here.st_ino != there.st_ino ||
		     here.st_dev != there.st_dev))
		err = -EAGAIN;
	if (!err)
		return fd;
	sys1(SYS_close, fd);
	return err;
}

static void empty(int dir, int depth)
{
	char buf[1024] __attribute__((aligned(8)));
	long got;

	while ((got = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);
			const char *name = d->name;
			int fd = -1;

			at += d->len;
			if (!strcmp(name, ".") || !strcmp(name, ".."))
				continue;
			if (!sys3(SYS_unlinkat, dir, name, 0))
				continue;
			if (depth < DEEP)
				fd = (int)sys4(SYS_openat, dir, name, DIRECTORY, 0);
			if (fd < 0)
				continue;
			empty(fd, depth + 1);
			sys1(SYS_close, fd);
			sys3(SYS_unlinkat, dir, name, AT_REMOVEDIR);
		}
}

static bool ends_old(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && !strcmp(name + len - 4, ".old");
}

void tree_remove(int dir, const char *name)
{
	char old[TREE_NAME] = "";
	int fd;

	if (strncmp(name, TREE_PREFIX, sizeof(TREE_PREFIX) - 1) != 0)
		return;
	fd = (int)sys4(SYS_openat, dir, name, DIRECTORY, 0);
	if (fd < 0)
		return;
	if (!sys2(SYS_flock, fd, LOCK_EX | LOCK_NB)) {
		bool named = str_cat(old, sizeof(old), name);

		if (named && !ends_old(name)) {
			named = str_cat(old, sizeof(old), ".") &&
				str_cat_u64(old, sizeof(old), (uint64_t)sys0(SYS_getpid)) &&
				str_cat(old, sizeof(old), ".old") && !sys4(SYS_renameat, dir, name, dir, old);
		}
		if (named) {
			empty(fd, 0);
			sys3(SYS_unlinkat, dir, old, AT_REMOVEDIR);
		}
	}
	sys1(SYS_close, fd);
}

void topology_sweep(const char *path)
{
	char buf[1024] __attribute__((aligned(8)));
	int dir = (int)sys4(SYS_openat, AT_FDCWD, path, DIRECTORY, 0);
	long got;

	if (dir < 0)
		return;
	while ((got = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);

			at += d->len;
			tree_remove(dir, d->name);
		}
	sys1(SYS_close, dir);
}

/* SPDX-License-Identifier: MIT */
/* Groups in the runtime directory. See group.h. */
#include "control/group.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define PATH_SIZE 192
#define TICK_NS 10000000ULL	/* USER_HZ is 100 */

_Static_assert(PATH_SIZE > sizeof("groups//.") + CTL_GROUP_MAX + 2 * 20, "every path fits");

/* ---- names ---- */

static bool plain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool group_name_valid(const char *name)
{
	size_t len = 0;

	for (; name[len]; len++) {
		bool inner = name[len] == '-' || name[len] == '.';

		if (len == GW_GROUP_SAVED || !(plain_char(name[len]) || (len && inner)))
			return false;
	}
	return len > 0;
}

/* "groups/NAME/FILE"; file NULL: the directory. */
static const char *path_of(char buf[PATH_SIZE], const char *name, const char *file)
{
	buf[0] = '\0';
	str_cat(buf, PATH_SIZE, "groups/");
	str_cat(buf, PATH_SIZE, name);
	if (file) {
		str_cat(buf, PATH_SIZE, "/");
		str_cat(buf, PATH_SIZE, file);
	}
	return buf;
}

static const char *entry_of(char buf[PATH_SIZE], const char *name, const struct group_member *m)
{
	path_of(buf, name, "");
	str_cat_u64(buf, PATH_SIZE, (uint64_t)m->pid);
	str_cat(buf, PATH_SIZE, ".");
	str_cat_u64(buf, PATH_SIZE, m->start);
	return buf;
}

/* "123.456" */
static bool entry_parse(const char *name, struct group_member *m)
{
	uint64_t pid;

	if (!str_u64(&name, 10, &pid) || !pid || pid > INT32_MAX || *name++ != '.')
		return false;
	m->pid = (int)pid;
	return str_u64(&name, 10, &m->start) && !*name;
}

/* ---- processes ---- */

uint64_t ticks_now(void)
{
	struct timespec ts = { 0 };

	sys2(SYS_clock_gettime, CLOCK_BOOTTIME, &ts);
	return ((uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec) / TICK_NS;
}

/* Behind the name, which may have blanks and ends with the last parenthesis, field 3 follows. */
static int stat_parse(const char *text, uint64_t *start, int *parent)
{
	const char *at = NULL;
	uint64_t field[23] = { 0 };
	bool zombie;

	for (const char *p = text; *p; p++)
		at = *p == ')' ? p : at;
	if (!at || at[1] != ' ' || !at[2])
		return -ESRCH;
	zombie = at[2] == 'Z' || at[2] == 'X';
	at += 3;
	for (int i = 4; i <= 22; i++) {
		if (*at++ != ' ')
			return -ESRCH;
		at += *at == '-';
		if (!str_u64(&at, 10, &field[i]))
			return -ESRCH;
	}
	*parent = (int)field[4];
	*start = field[22];
	/* its first thread may have ended before the others */
	return zombie && field[20] <= 1 ? -ESRCH : 0;
}

int process_times(int pid, uint64_t *start, int *parent)
{
	char path[32] = "/proc/", text[512];
	long fd, got;

	if (pid)
		str_cat_u64(path, sizeof(path), (uint64_t)pid);
	else
		str_cat(path, sizeof(path), "self");
	str_cat(path, sizeof(path), "/stat");
	fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESRCH : (int)fd;
	got = sys3(SYS_read, fd, text, sizeof(text) - 1);
	sys1(SYS_close, fd);
	if (got <= 0)
		return -ESRCH;
	text[got] = '\0';
	return stat_parse(text, start, parent);
}

/* ---- the directory ---- */

int groups_open(const char *dir)
{
	return (int)sys4(SYS_openat, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
}

int groups_lock(int dir, unsigned int ms)
{
	uint64_t until = clock_ns() + ms * 1000000ULL;

	for (;;) {
		long err = sys2(SYS_flock, dir, LOCK_EX | LOCK_NB);

		if (!err || (err != -EAGAIN && err != -EINTR))
			return (int)err;
		if (clock_ns() >= until)
			return -EAGAIN;
		sleep_ns(500000);
	}
}

void groups_unlock(int dir)
{
	sys2(SYS_flock, dir, LOCK_UN);
}

struct walk {
	int dir;
	const char *name;
	int (*on_group)(int dir, const char *name, void *arg);
	int (*on_member)(const struct group_member *m, void *arg);
	void *arg;
};

static int walk_entry(const struct walk *w, const char *entry)
{
	struct group_member m = { 0 };

	if (w->on_group)
		return group_name_valid(entry) ? w->on_group(w->dir, entry, w->arg) : 0;
	if (!entry_parse(entry, &m) || !group_has(w->dir, w->name, &m))
		return 0;
	return w->on_member(&m, w->arg);
}

/* -ENOENT: there is no such directory. */
static int walk_dir(const struct walk *w, const char *path)
{
	char buf[1024] __attribute__((aligned(8)));
	long fd = sys4(SYS_openat, w->dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0), got;
	int ret = 0;

	if (fd < 0)
		return (int)fd;
	while (!ret && (got = sys3(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got && !ret;) {
			const struct sys_dirent *d = (const void *)(buf + at);

			ret = walk_entry(w, d->name);
			at += d->len;
		}
	sys1(SYS_close, fd);
	return ret;
}

int groups_walk(int dir, int (*fn)(int dir, const char *name, void *arg), void *arg)
{
	const struct walk w = { .dir = dir, .on_group = fn, .arg = arg };
	int ret = walk_dir(&w, "groups");

	return ret == -ENOENT ? 0 : ret;
}

int group_members(int dir, const char *name, int (*fn)(const struct group_member *m, void *arg), void *arg)
{
	const struct walk w = { .dir = dir, .name = name, .on_member = fn, .arg = arg };
	char path[PATH_SIZE];

	return walk_dir(&w, path_of(path, name, NULL));
}

/* ---- one group ---- */

int group_nodes(int dir, const char *name, char list[GROUP_LIST_MAX])
{
	char path[PATH_SIZE];
	long fd = sys4(SYS_openat, dir, path_of(path, name, "nodes"), O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0), got;

	if (fd < 0)
		return (int)fd;
	got = sys3(SYS_read, fd, list, GROUP_LIST_MAX - 1);
	sys1(SYS_close, fd);
	while (got > 0 && list[got - 1] == '\n')
		got--;
	list[got > 0 ? got : 0] = '\0';
	return got > 0 ? 0 : -EINVAL;
}

static int list_write(int dir, const char *path, const char *list)
{
	long fd = sys4(SYS_openat, dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t len = strlen(list);
	long got;

	if (fd < 0)
		return (int)fd;
	got = sys3(SYS_write, fd, list, len);
	if (got == (long)len)
		got += sys3(SYS_write, fd, "\n", 1);
	sys1(SYS_close, fd);
	return got == (long)len + 1 ? 0 : got < 0 ? (int)got : -ENOSPC;
}

static int dir_make(int dir, const char *path)
{
	long err = sys3(SYS_mkdirat, dir, path, 0700);

	return err == -EEXIST ? 0 : (int)err;
}

int group_set(int dir, const char *name, const char *list)
{
	char path[PATH_SIZE], temporary[PATH_SIZE], old[GROUP_LIST_MAX];
	int err = dir_make(dir, "groups");

	if (!err)
		err = dir_make(dir, path_of(path, name, NULL));
	if (!err)
		err = list_write(dir, path_of(temporary, name, ".nodes"), list);
	if (!err)
		err = (int)sys4(SYS_renameat, dir, temporary, dir, path_of(path, name, "nodes"));
	if (err && group_nodes(dir, name, old) == -ENOENT)
		group_end(dir, name);
	return err;
}

int group_enter(int dir, const char *name, const struct group_member *m)
{
	char path[PATH_SIZE], since[24] = "", list[GROUP_LIST_MAX];
	int err = group_nodes(dir, name, list);

	if (err)
		return err;
	str_cat_u64(since, sizeof(since), m->since);
	err = (int)sys3(SYS_symlinkat, since, dir, entry_of(path, name, m));
	return err == -EEXIST ? 0 : err;
}

int group_leave(int dir, const char *name, const struct group_member *m)
{
	char path[PATH_SIZE];

	return (int)sys3(SYS_unlinkat, dir, entry_of(path, name, m), 0);
}

bool group_has(int dir, const char *name, struct group_member *m)
{
	char path[PATH_SIZE], since[24];
	const char *at = since;
	long got = sys4(SYS_readlinkat, dir, entry_of(path, name, m), since, sizeof(since) - 1);

	if (got <= 0)
		return false;
	since[got] = '\0';
	return str_u64(&at, 10, &m->since) && !*at;
}

struct search {
	struct group_member *m;
	char *name;
};

static int search_group(int dir, const char *name, void *arg)
{
	struct search *s = arg;

	if (!group_has(dir, name, s->m))
		return 0;
	memcpy(s->name, name, strlen(name) + 1);
	return 1;
}

int group_of(int dir, struct group_member *m, char name[CTL_GROUP_MAX])
{
	struct search s = { .m = m, .name = name };
	int ret = groups_walk(dir, search_group, &s);

	return ret == 1 ? 0 : ret ? ret : -ENOENT;
}

static int somebody(const struct group_member *m, void *arg)
{
	(void)m;
	(void)arg;
	return 1;
}

void group_end(int dir, const char *name)
{
	char path[PATH_SIZE];

	/* the kernel's own members are known to the command only, which takes this directory away with the last of them */
	if (group_members(dir, name, somebody, NULL) ||
	    sys4(SYS_faccessat, dir, path_of(path, name, "cgroup"), 0, 0) == 0)
		return;
	sys3(SYS_unlinkat, dir, path_of(path, name, ".nodes"), 0);
	sys3(SYS_unlinkat, dir, path_of(path, name, "nodes"), 0);
	sys3(SYS_unlinkat, dir, path_of(path, name, NULL), AT_REMOVEDIR);
	sys3(SYS_unlinkat, dir, "groups", AT_REMOVEDIR);
}

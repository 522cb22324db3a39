/* SPDX-License-Identifier: MIT */
/*
 * The paths that both ends of the control socket agree on. Runs inside managed processes on a thread
 * without usable thread-local storage: raw system calls, no libc function that could set errno.
 */
#include "control.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/stat.h>

/* A path under construction; full is set once and makes every later step a no-op. */
struct path {
	char *buf;
	size_t len, used;
	bool full;
};

static int sys_lstat(const char *name, struct stat *st)
{
	return (int)sys2(SYS_lstat, name, st);
}

static int sys_mkdir(const char *name, unsigned int mode)
{
	return (int)sys2(SYS_mkdir, name, mode);
}

static void path_add_char(struct path *p, char ch)
{
	if (p->used + 1 >= p->len) {
		p->full = true;
		return;
	}
	p->buf[p->used++] = ch;
	p->buf[p->used] = '\0';
}

static void path_add(struct path *p, const char *text)
{
	while (*text != '\0' && !p->full)
		path_add_char(p, *text++);
}

static void path_add_number(struct path *p, unsigned int number)
{
	char digits[10];
	int nr = 0;

	do {
		digits[nr++] = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	while (nr > 0)
		path_add_char(p, digits[--nr]);
}

static struct path path_begin(char *buf, size_t len)
{
	struct path p = { .buf = buf, .len = len, .full = len == 0 };

	if (len > 0)
		buf[0] = '\0';
	return p;
}

static int path_end(const struct path *p)
{
	return p->full ? -ENAMETOOLONG : 0;
}

/* A directory, not a link to one, that belongs to uid and grants others none of the bits of closed. */
static int dir_check(const char *name, unsigned int uid, unsigned int closed)
{
	struct stat st;
	int err = sys_lstat(name, &st);

	if (err)
		return err;
	if (!S_ISDIR(st.st_mode) || st.st_uid != uid || (st.st_mode & closed) != 0)
		return -EACCES;
	return 0;
}

int ctl_runtime_base_below(const char *root, char *buf, size_t len, const char *xdg, unsigned int uid)
{
	struct path p = path_begin(buf, len);

	path_add(&p, root);
	if (xdg && xdg[0] == '/') {
		path_add(&p, xdg);
		/* with a slash at its end a symbolic link passes for what it leads to */
		while (p.used > 1 && buf[p.used - 1] == '/')
			buf[--p.used] = '\0';
		if (path_end(&p) == 0 && dir_check(buf, uid, 022) == 0)
			return 0;
		p = path_begin(buf, len);
		path_add(&p, root);
	}
	path_add(&p, "/run/user/");
	path_add_number(&p, uid);
	if (path_end(&p) == 0 && dir_check(buf, uid, 022) == 0)
		return 0;

	p = path_begin(buf, len);
	path_add(&p, root);
	path_add(&p, "/tmp/godwit-");
	path_add_number(&p, uid);
	return path_end(&p);
}

int ctl_runtime_base(char *buf, size_t len, const char *xdg, unsigned int uid)
{
	return ctl_runtime_base_below("", buf, len, xdg, uid);
}

/* mkdir() that is content with a directory that is there already. */
static int dir_make(const char *name, unsigned int uid, unsigned int closed)
{
	int err = dir_check(name, uid, closed);

	if (err != -ENOENT)
		return err;
	err = sys_mkdir(name, 0700);
	if (err && err != -EEXIST)
		return err;
	return dir_check(name, uid, closed);
}

int ctl_runtime_dir(char *buf, size_t len, const char *base, unsigned int uid, bool make)
{
	struct path p = path_begin(buf, len);
	int err;

	path_add(&p, base);
	if (path_end(&p))
		return -ENAMETOOLONG;
	err = make ? dir_make(buf, uid, 022) : dir_check(buf, uid, 022);
	if (err)
		return err;
	path_add(&p, "/godwit");
	if (path_end(&p))
		return -ENAMETOOLONG;
	return make ? dir_make(buf, uid, 077) : dir_check(buf, uid, 077);
}

int ctl_socket_path(char *buf, size_t len, const char *base, int pid)
{
	struct path p = path_begin(buf, len);

	path_add(&p, base);
	path_add(&p, "/godwit/");
	path_add_number(&p, (unsigned int)pid);
	path_add(&p, ".sock");
	return path_end(&p);
}

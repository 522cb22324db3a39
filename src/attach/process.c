/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/* What /proc and process_vm_readv() tell of another process. */
#include "attach/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define STEP 65536UL

static char *fd_read_all(int fd, size_t *len)
{
	size_t cap = 0, used = 0;
	char *buf = NULL;

	for (;;) {
		ssize_t nr;

		if (used + 1 >= cap) {
			char *more = realloc(buf, cap + STEP);

			if (!more)
				break;
			buf = more;
			cap += STEP;
		}
		nr = read(fd, buf + used, cap - used - 1);
		if (nr == 0) {
			buf[used] = '\0';
			*len = used;
			return buf;
		}
		if (nr < 0)
			break;
		used += (size_t)nr;
	}
	free(buf);
	return NULL;
}

char *process_file(int pid, const char *name, size_t *len)
{
	char path[64];
	size_t ignored;
	char *buf;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	buf = fd_read_all(fd, len ? len : &ignored);
	close(fd);
	return buf;
}

long process_status(const char *status, const char *key, long fallback)
{
	size_t len = strlen(key);

	for (const char *line = status; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, key, len) == 0 && line[len] == ':')
			return strtol(line + len + 1, NULL, 10);
	return fallback;
}

/* ---- mappings ---- */

static bool map_parse(const char *line, struct map *m)
{
	unsigned long start, end, inode;
	char perms[5];
	int at = 0;

	*m = (struct map){ .start = 0 };
	if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu %n", &start, &end, perms, &inode, &at) < 4)
		return false;
	m->start = start;
	m->end = end;
	m->readable = perms[0] == 'r';
	m->writable = perms[1] == 'w';
	m->executable = perms[2] == 'x';
	m->shared = perms[3] == 's';
	m->file = inode != 0;
	snprintf(m->name, sizeof(m->name), "%s", line + at);
	return true;
}

int maps_load(struct maps *m, int pid)
{
	char *text = process_file(pid, "maps", NULL), *line, *rest = text;
	size_t cap = 0;

	*m = (struct maps){ .nr = 0 };
	if (!text)
		return -errno;
	while ((line = strsep(&rest, "\n")) && *line) {
		if (m->nr == cap) {
			struct map *more = realloc(m->map, (cap + 256) * sizeof(*more));

			if (!more) {
				free(text);
				maps_free(m);
				return -ENOMEM;
			}
			m->map = more;
			cap += 256;
		}
		m->nr += map_parse(line, &m->map[m->nr]);
	}
	free(text);
	return m->nr ? 0 : -ESRCH; /* that of a process without memory is empty: it has ended, or is the kernel's */
}

void maps_free(struct maps *m)
{
	free(m->map);
	*m = (struct maps){ .nr = 0 };
}

const struct map *maps_at(const struct maps *m, uint64_t addr)
{
	size_t low = 0, high = m->nr;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (addr < m->map[mid].start)
			high = mid;
		else if (addr >= m->map[mid].end)
			low = mid + 1;
		else
			return &m->map[mid];
	}
	return NULL;
}

/* ---- memory ---- */

int process_read(int pid, uint64_t addr, void *buf, size_t len)
{
	struct iovec local = { buf, len }, remote = { (void *)addr, len };
	ssize_t nr = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	return nr == (ssize_t)len ? 0 : nr < 0 ? -errno : -EFAULT;
}

int process_write(int pid, uint64_t addr, const void *buf, size_t len)
{
	struct iovec local = { (void *)buf, len }, remote = { (void *)addr, len };
	ssize_t nr = process_vm_writev(pid, &local, 1, &remote, 1, 0);

	return nr == (ssize_t)len ? 0 : nr < 0 ? -errno : -EFAULT;
}

int memory_open(int pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 ? fd : errno == EACCES ? -EPERM : errno == ENOENT ? -ESRCH : -errno;
}

int memory_read(int mem, uint64_t addr, void *buf, size_t len)
{
	ssize_t nr = pread(mem, buf, len, (off_t)addr);

	return nr == (ssize_t)len ? 0 : nr == 0 ? -ESRCH : -EFAULT;
}

int process_read_text(int pid, uint64_t addr, char *buf, size_t len)
{
	size_t used = 0;

	/* by pages: what lies behind the text's may not be there */
	while (used + 1 < len) {
		size_t step = 4096 - (addr + used) % 4096;
		int err;

		step = step < len - 1 - used ? step : len - 1 - used;
		err = process_read(pid, addr + used, buf + used, step);
		if (err)
			return err;
		if (memchr(buf + used, 0, step))
			return 0;
		used += step;
	}
	buf[used] = '\0';
	return 0;
}

/* ---- threads ---- */

int process_threads(int pid, int (*fn)(int tid, void *arg), void *arg)
{
	char path[64];
	struct dirent *entry;
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			ret = fn(atoi(entry->d_name), arg);
	closedir(dir);
	return ret;
}

char process_thread_state(int pid, int tid)
{
	char path[64], state = 0, *stat, *at;

	snprintf(path, sizeof(path), "task/%d/stat", tid);
	stat = process_file(pid, path, NULL);
	at = stat ? strrchr(stat, ')') : NULL;
	if (at && at[1] == ' ')
		state = at[2];
	free(stat);
	return state;
}

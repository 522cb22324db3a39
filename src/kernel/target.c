/* SPDX-License-Identifier: MIT */
/* A process that is not ours: may it be looked at, and what limits it. */
#include "kernel/kernel.h"
#include "base/pagemap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_MAX 8192
#define THREADS_MAX 1024	/* whose statistics are read */

/* ---------------------------------------------------------------- status ---- */

/* Behind "KEY:" and blanks at the beginning of a line, or NULL. */
static const char *status_value(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, len) && at[len] == ':')
			return at + len + 1 + strspn(at + len + 1, " \t");
	}
	return NULL;
}

static uint64_t status_number(const char *text, const char *key)
{
	const char *at = status_value(text, key);
	uint64_t number;

	return at && str_u64(&at, 10, &number) ? number : 0;
}

/* The last of the numbers: the one in the innermost namespace. */
static int innermost(const char *at)
{
	uint64_t number = 0;

	while (at && str_u64(&at, 10, &number))
		at += strspn(at, " \t");
	return number <= INT32_MAX ? (int)number : 0;
}

static unsigned int effective_uid(const char *at)
{
	uint64_t uid = 0;

	if (!at || !str_u64(&at, 10, &uid))
		return 0;
	at += strspn(at, " \t");
	return str_u64(&at, 10, &uid) ? (unsigned int)uid : 0;
}

bool kernel_status_parse(const char *text, struct kernel_status *out)
{
	const char *state = status_value(text, "State"), *mems = status_value(text, "Mems_allowed_list");
	bool beyond;

	memset(out, 0, sizeof(*out));
	if (!state || !*state)
		return false;
	out->state = *state;
	out->kthread = status_number(text, "Kthread") == 1;
	out->memory = status_value(text, "VmSize") != NULL;
	out->uid = effective_uid(status_value(text, "Uid"));
	out->ns_pid = innermost(status_value(text, "NSpid"));
	out->pinned_bytes = status_number(text, "VmPin") << 10;
	if (!mems || !kernel_nodes_read(mems, &out->allowed, &beyond))
		out->allowed = ~0ULL;
	return true;
}

static ssize_t read_whole(const char *path, char *buf, size_t len)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0), got = 1;
	size_t used = 0;

	if (fd < 0)
		return fd;
	while (got > 0 && used + 1 < len) {
		got = sys3(SYS_read, fd, buf + used, len - 1 - used);
		used += got > 0 ? (size_t)got : 0;
	}
	sys1(SYS_close, fd);
	buf[used] = '\0';
	return got < 0 ? got : (ssize_t)used;
}

static int status_read(int pid, struct kernel_status *out)
{
	char path[64], text[STATUS_MAX];
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	got = read_whole(path, text, sizeof(text));
	if (got < 0)
		return (int)got;
	return kernel_status_parse(text, out) ? 0 : -EIO;
}

/* ---------------------------------------------------------------- refusals ---- */

/* The process that is called so in a namespace below ours, or 0. */
static int find_elsewhere(int pid)
{
	DIR *proc = opendir("/proc");
	struct kernel_status status;
	struct dirent *entry;
	int found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		int here = atoi(entry->d_name);

		if (here > 0 && here != pid && !status_read(here, &status) && status.ns_pid == pid)
			found = here;
	}
	if (proc)
		closedir(proc);
	return found;
}

/* Why there is no address space. */
static enum kernel_refusal without_memory(const struct kernel_status *status)
{
	if (status->state == 'Z')
		return KERNEL_ZOMBIE;
	if (status->kthread)
		return KERNEL_THREAD;
	/* Before 6.10 the kernel does not say of its threads that they are; those that end are dead or zombies soon. */
	return status->state == 'X' || status->uid != 0 ? KERNEL_EXITING : KERNEL_THREAD;
}

static void read_cpuset(struct kernel_target *t)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/cpuset", t->pid);
	if (read_whole(path, t->cpuset, sizeof(t->cpuset)) < 0)
		t->cpuset[0] = '\0';
	t->cpuset[strcspn(t->cpuset, "\n")] = '\0';
}

static int open_proc(int pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return (int)sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

/* GODWIT_PROBE=no-scan: as on a kernel without it. */
static bool scan_works(int pagemap)
{
	struct pm_scan_arg arg = { .size = sizeof(arg), .return_mask = PAGE_IS_PRESENT };
	const char *probe = getenv("GODWIT_PROBE");

	if (probe && strstr(probe, "no-scan"))
		return false;
	arg.category_mask = PAGE_IS_PRESENT;
	return sys3(SYS_ioctl, pagemap, PAGEMAP_SCAN, &arg) >= 0;
}

static enum kernel_refusal refused(struct kernel_target *t, int err)
{
	t->err = err;
	if (err == -EACCES || err == -EPERM)
		return KERNEL_FORBIDDEN;
	return err == -ENOENT || err == -ESRCH ? KERNEL_EXITING : KERNEL_NO_PROC;
}

enum kernel_refusal kernel_open(struct kernel_target *t, int pid)
{
	struct kernel_status status;
	int err = status_read(pid, &status);

	*t = (struct kernel_target){ .pid = pid, .pagemap = -1, .maps = -1 };
	if (err == -ENOENT || err == -ESRCH) {
		t->other = find_elsewhere(pid);
		return t->other ? KERNEL_ELSEWHERE : KERNEL_NO_PROCESS;
	}
	if (err)
		return refused(t, err);
	if (!status.memory)
		return without_memory(&status);
	t->uid = status.uid;
	t->allowed = status.allowed;
	t->pinned_bytes = status.pinned_bytes;
	read_cpuset(t);
	t->pagemap = open_proc(pid, "pagemap");
	if (t->pagemap < 0)
		return refused(t, t->pagemap);
	t->maps = open_proc(pid, "maps");
	if (t->maps < 0)
		return refused(t, t->maps);
	t->scan = scan_works(t->pagemap);
	return KERNEL_FINE;
}

int kernel_reopen(struct kernel_target *t)
{
	int pagemap = open_proc(t->pid, "pagemap"), maps = open_proc(t->pid, "maps");
	int err = pagemap < maps ? pagemap : maps;

	if (err >= 0) {
		kernel_close(t);
		t->pagemap = pagemap;
		t->maps = maps;
		return 0;
	}
	if (pagemap >= 0)
		sys1(SYS_close, pagemap);
	if (maps >= 0)
		sys1(SYS_close, maps);
	return err == -ENOENT ? -ESRCH : err;
}

void kernel_close(struct kernel_target *t)
{
	if (t->pagemap >= 0)
		sys1(SYS_close, t->pagemap);
	if (t->maps >= 0)
		sys1(SYS_close, t->maps);
	t->pagemap = t->maps = -1;
}

/* ---------------------------------------------------------------- NUMA balancing ---- */

static uint64_t thread_balanced(int pid, const char *tid)
{
	char path[128], buf[4096];
	uint64_t pages = 0;
	struct reader r;
	char *line;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/sched", pid, tid);
	if (reader_open(&r, path, buf, sizeof(buf)))
		return 0;
	while ((line = reader_line(&r))) {
		const char *at = strchr(line, ':');

		if (strncmp(line, "numa_pages_migrated", 19) != 0 || !at)
			continue;
		at += 1 + strspn(at + 1, " ");
		if (!str_u64(&at, 10, &pages))
			pages = 0;
	}
	reader_close(&r);
	return pages;
}

uint64_t kernel_balanced(int pid)
{
	char path[64];
	uint64_t pages = 0;
	struct dirent *entry;
	DIR *tasks;
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && nr < THREADS_MAX && (entry = readdir(tasks)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') {
			pages += thread_balanced(pid, entry->d_name);
			nr++;
		}
	if (tasks)
		closedir(tasks);
	return pages;
}

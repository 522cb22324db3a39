/* SPDX-License-Identifier: MIT */
/*
 * The kernel's cpusets, of cgroup v2 and v1, as files. In v2 the controller is handed down from the root, and memory
 * follows by itself; in v1 each directory needs CPUs and nodes first, and memory follows if memory_migrate says so.
 */
#define _GNU_SOURCE 1
#include "cgroup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TOP "/godwit"
#define FILE_PATH (256 + CGROUP_PATH + 64)

/* ---------------------------------------------------------------- files ---- */

static const char *file_of(const struct cgroups *c, const char *path, const char *file, char buf[FILE_PATH])
{
	snprintf(buf, FILE_PATH, "%s%s%s%s", c->root, strcmp(path, "/") == 0 ? "" : path, file ? "/" : "",
		 file ? file : "");
	return buf;
}

static int read_text(const struct cgroups *c, const char *path, const char *file, char *text, size_t len)
{
	char name[FILE_PATH];
	ssize_t got = file_read(file_of(c, path, file, name), text, len);

	if (got < 0)
		return (int)got;
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

static int write_text(const struct cgroups *c, const char *path, const char *file, const char *text)
{
	char name[FILE_PATH];
	int fd = open(file_of(c, path, file, name), O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* What the kernel means by an error of these files, and what helps. */
static int refused(const struct cgroups *c, const char *path, const char *what, int err)
{
	char name[FILE_PATH];
	const char *why = strerror(-err);

	file_of(c, path, NULL, name);
	if (err == -EROFS)
		why = "it is read-only here, as in a container: run godwit on the host, or mount it writable";
	else if (err == -EACCES || err == -EPERM)
		why = "that is not permitted: run godwit as root";
	else if (err == -EBUSY)
		why = "this cgroup has processes of its own, or another use of the controller is in the way: godwit "
		      "needs the root of the hierarchy, not a container's";
	else if (err == -EOPNOTSUPP)
		why = "it is a threaded cgroup: its threads cannot be moved together";
	else if (err == -EINVAL)
		why = "the kernel does not take it: a thread of its own, or nodes that the cgroup above does not have";
	else if (err == -ENOSPC)
		why = "the kernel allows no further cgroups (cgroup.max.descendants), or this one has no CPUs or nodes";
	return say_error("%s: cannot %s: %s", name, what, why);
}

/* ---------------------------------------------------------------- nodes ---- */

/* "0-1,3" as the kernel writes it. */
static int list_parse(const char *text, gw_nodemask *nodes)
{
	*nodes = 0;
	return *text ? gw_nodes_parse(text, GW_MAX_NODES, nodes) : 0;
}

static int read_nodes(const struct cgroups *c, const char *path, const char *file, gw_nodemask *nodes)
{
	char text[512];
	int err = read_text(c, path, file, text, sizeof(text));

	return err ? err : list_parse(text, nodes);
}

const char *cgroup_path(const char *name, char buf[CGROUP_PATH])
{
	snprintf(buf, CGROUP_PATH, TOP "/%s", name);
	return buf;
}

int cgroup_nodes(const struct cgroups *c, const char *name, gw_nodemask *nodes)
{
	char path[CGROUP_PATH];

	return read_nodes(c, cgroup_path(name, path), "cpuset.mems", nodes);
}

/* ---------------------------------------------------------------- where it is ---- */

static bool has_word(const char *list, const char *word, const char *separators)
{
	char copy[4096], *at = copy, *one;

	snprintf(copy, sizeof(copy), "%s", list);
	while ((one = strsep(&at, separators)))
		if (strcmp(one, word) == 0)
			return true;
	return false;
}

/* "31 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup rw" */
static bool take_mount(char *line, int version, struct cgroups *c)
{
	char *fields = strstr(line, " - "), *point = line, type[32], options[512] = "", controllers[512];

	if (!fields || sscanf(fields, " - %31s %*s %511s", type, options) < 1)
		return false;
	for (int i = 0; i < 4; i++)
		point = strchr(point, ' ') ? strchr(point, ' ') + 1 : "";
	if (strcmp(type, version == 2 ? "cgroup2" : "cgroup") != 0 || strcspn(point, " ") >= sizeof(c->root))
		return false;
	snprintf(c->root, sizeof(c->root), "%.*s", (int)strcspn(point, " "), point);
	c->version = version;
	if (version == 1)
		return has_word(options, "cpuset", ",");
	return read_text(c, "/", "cgroup.controllers", controllers, sizeof(controllers)) == 0 &&
	       has_word(controllers, "cpuset", " ");
}

static bool find_mount(int version, struct cgroups *c)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	while (f && !found && getline(&line, &room, f) > 0)
		found = take_mount(line, version, c);
	free(line);
	if (f)
		fclose(f);
	return found;
}

bool cgroups_try(struct cgroups *c)
{
	return find_mount(2, c) || find_mount(1, c);
}

int cgroups_find(struct cgroups *c)
{
	static const char *const files[] = { "cpuset.mems.effective", "cpuset.effective_mems", "cpuset.mems" };
	int err = -ENOENT;

	if (!cgroups_try(c))
		return say_error(
			"the kernel has no cpuset controller here, neither of cgroup v2 nor of v1: mount one with "
			"'mount -t cgroup2 none /sys/fs/cgroup', or start the process with 'godwit run -- CMD'");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && (err || !c->nodes); i++)
		err = read_nodes(c, "/", files[i], &c->nodes);
	return err ? refused(c, "/", "read its nodes", err) : 0;
}

int cgroup_of(const struct cgroups *c, int pid, char path[CGROUP_PATH])
{
	char name[64], text[16384], *line = text, *next;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	if (file_read(name, text, sizeof(text)) <= 0)
		return -ESRCH;
	for (; line && *line; line = next) {
		char *controllers = strchr(line, ':'), *at = controllers ? strchr(controllers + 1, ':') : NULL;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!at)
			continue;
		*at++ = '\0';
		if (c->version == 2 ? strcmp(line, "0:") != 0 : !has_word(controllers + 1, "cpuset", ","))
			continue;
		if (strncmp(at, "/..", 3) == 0)
			return say_error("PID %d is in a cgroup outside of what is seen here: run godwit on the host",
					 pid);
		if (strlen(at) >= CGROUP_PATH)
			return say_error("PID %d: the path of its cgroup is too long", pid);
		snprintf(path, CGROUP_PATH, "%s", at);
		return 0;
	}
	return say_error("PID %d is in no cgroup of %s", pid, c->root);
}

/* ---------------------------------------------------------------- whose it is ---- */

static bool ends_with(const char *text, size_t len, const char *end)
{
	return len > strlen(end) && strncmp(text + len - strlen(end), end, strlen(end)) == 0;
}

static bool is_delegated(const char *dir)
{
	char value[8] = "";

	return (getxattr(dir, "trusted.delegate", value, sizeof(value)) > 0 && value[0] == '1') ||
	       (getxattr(dir, "user.delegate", value, sizeof(value)) > 0 && value[0] == '1');
}

/* systemd keeps account of its units by their cgroups: a process that is taken away is lost to its unit. */
static int check_unit(const struct cgroups *c, int pid, const char *path)
{
	const char *unit = NULL, *at = path;
	char dir[FILE_PATH], part[CGROUP_PATH];
	size_t len = 0;

	if (c->version != 2 || access("/run/systemd/system", F_OK) != 0)
		return 0;
	while (*at == '/') {
		size_t nr = strcspn(at + 1, "/");

		if (ends_with(at + 1, nr, ".service") || ends_with(at + 1, nr, ".scope")) {
			unit = at + 1;
			len = nr;
		}
		at += 1 + nr;
	}
	if (!unit)
		return 0;
	snprintf(part, sizeof(part), "%.*s", (int)(unit + len - path), path);
	if (is_delegated(file_of(c, part, NULL, dir)))
		return 0;
	return say_error(
		"PID %d is in the unit %.*s, which is systemd's: 'systemctl set-property --runtime %.*s "
		"AllowedMemoryNodes=LIST' does it for the whole unit, or start the process in one with Delegate=yes",
		pid, (int)len, unit, (int)len, unit);
}

int cgroup_may_take(const struct cgroups *c, int pid)
{
	char path[CGROUP_PATH], type[64], name[64], status[4096];
	int err = cgroup_of(c, pid, path);

	if (err)
		return err == -ESRCH ? say_error("no process %d", pid) : err;
	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	if (file_read(name, status, sizeof(status)) > 0 && !strstr(status, "\nVmSize:"))
		return say_error("PID %d is a thread of the kernel's: it has no memory to be moved", pid);
	if (c->version == 2 && read_text(c, path, "cgroup.type", type, sizeof(type)) == 0 &&
	    strcmp(type, "threaded") == 0)
		return say_error(
			"PID %d is in a threaded cgroup, %s: its threads may be in several, which a group cannot put "
			"back: move it to an ordinary one first",
			pid, path);
	return check_unit(c, pid, path);
}

/* ---------------------------------------------------------------- making one ---- */

static int hand_down(const struct cgroups *c, const char *path)
{
	char now[512];
	int err;

	if (read_text(c, path, "cgroup.subtree_control", now, sizeof(now)) == 0 && has_word(now, "cpuset", " "))
		return 0;
	err = write_text(c, path, "cgroup.subtree_control", "+cpuset");
	return err ? refused(c, path, "hand down the cpuset controller", err) : 0;
}

static int make_dir(const struct cgroups *c, const char *path, bool *made)
{
	char name[FILE_PATH];

	*made = mkdir(file_of(c, path, NULL, name), 0755) == 0;
	return *made || errno == EEXIST ? 0 : refused(c, path, "make it", -errno);
}

/* v1: a cpuset without CPUs or nodes takes no process. */
static int fill(const struct cgroups *c, const char *parent, const char *path)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char text[4096];

	for (int i = 0; i < 2; i++) {
		int err = read_text(c, parent, files[i], text, sizeof(text));

		if (!err)
			err = write_text(c, path, files[i], text);
		if (err)
			return refused(c, path, "give it its parent's CPUs and nodes", err);
	}
	return 0;
}

static int write_nodes(const struct cgroups *c, const char *path, gw_nodemask nodes, bool follow)
{
	char list[NODES_TEXT];
	int err = c->version == 1 ? write_text(c, path, "cpuset.memory_migrate", follow ? "1" : "0") : 0;

	if (!err)
		err = write_text(c, path, "cpuset.mems", nodes_text(nodes, list));
	return err ? refused(c, path, "give it its nodes", err) : 0;
}

int cgroup_make(const struct cgroups *c, const char *name, gw_nodemask nodes, bool follow)
{
	char path[CGROUP_PATH], dir[FILE_PATH];
	bool made_top = false, made = false;
	int err = c->version == 2 ? hand_down(c, "/") : 0;

	cgroup_path(name, path);
	if (!err)
		err = make_dir(c, TOP, &made_top);
	if (!err)
		err = c->version == 2 ? hand_down(c, TOP) : made_top ? fill(c, "/", TOP) : 0;
	if (!err)
		err = make_dir(c, path, &made);
	if (!err && !made)
		err = say_error("%s is there already, of another runtime directory or left behind: take another name, "
				"or remove it with rmdir",
				file_of(c, path, NULL, dir));
	if (!err && c->version == 1)
		err = fill(c, TOP, path);
	if (!err)
		err = write_nodes(c, path, nodes, follow);
	if (err && made)
		rmdir(file_of(c, path, NULL, dir));
	if (err && made_top)
		rmdir(file_of(c, TOP, NULL, dir));
	return err;
}

int cgroup_set(const struct cgroups *c, const char *name, gw_nodemask nodes, bool follow)
{
	char path[CGROUP_PATH];

	return write_nodes(c, cgroup_path(name, path), nodes, follow);
}

int cgroup_enter(const struct cgroups *c, const char *path, int pid)
{
	char text[16];
	int err;

	snprintf(text, sizeof(text), "%d", pid);
	err = write_text(c, path, "cgroup.procs", text);
	if (err == -ESRCH)
		return err;
	return err ? refused(c, path, "move a process there", err) : 0;
}

int cgroup_walk(const struct cgroups *c, const char *name, int (*fn)(int pid, void *arg), void *arg)
{
	char path[CGROUP_PATH], file[FILE_PATH];
	FILE *f = fopen(file_of(c, cgroup_path(name, path), "cgroup.procs", file), "re");
	int pid, ret = 0;

	if (!f)
		return -errno;
	while (!ret && fscanf(f, "%d", &pid) == 1)
		ret = fn(pid, arg);
	fclose(f);
	return ret;
}

void cgroup_remove(const struct cgroups *c, const char *name)
{
	char path[CGROUP_PATH], dir[FILE_PATH];

	rmdir(file_of(c, cgroup_path(name, path), NULL, dir));
	rmdir(file_of(c, TOP, NULL, dir));
}

/* ---------------------------------------------------------------- pages ---- */

/* "7f00 default anon=512 dirty=512 N0=256 N1=256 kernelpagesize_kB=4" */
static void count_line(char *line, bool anonymous, uint64_t pages[GW_MAX_NODES])
{
	uint64_t count[GW_MAX_NODES] = { 0 }, unit = 1;
	char *at = line, *word;

	while ((word = strsep(&at, " \n"))) {
		unsigned int node;
		unsigned long value;

		if (anonymous && strncmp(word, "file=", 5) == 0)
			return;
		if (sscanf(word, "N%u=%lu", &node, &value) == 2 && node < GW_MAX_NODES)
			count[node] = value;
		if (sscanf(word, "kernelpagesize_kB=%lu", &value) == 1 && value >= 4)
			unit = value / 4;
	}
	for (int n = 0; n < GW_MAX_NODES; n++)
		pages[n] += count[n] * unit;
}

int process_pages(int pid, bool anonymous, uint64_t pages[GW_MAX_NODES])
{
	char name[64], *line = NULL;
	size_t room = 0;
	FILE *f;

	memset(pages, 0, GW_MAX_NODES * sizeof(*pages));
	snprintf(name, sizeof(name), "/proc/%d/numa_maps", pid);
	f = fopen(name, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (getline(&line, &room, f) > 0)
		count_line(line, anonymous, pages);
	free(line);
	fclose(f);
	return 0;
}

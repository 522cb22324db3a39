/* SPDX-License-Identifier: MIT */
/*
 * Where processes and their sockets are.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENVIRON_MAX (256 << 10)

ssize_t file_read(const char *name, char *buf, size_t len)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t nr = 1;

	if (fd < 0)
		return -errno;
	while (used + 1 < len && nr > 0) {
		nr = read(fd, buf + used, len - 1 - used);
		if (nr > 0)
			used += (size_t)nr;
	}
	if (nr < 0)
		nr = -errno;
	close(fd);
	buf[used] = '\0';
	return nr < 0 ? nr : (ssize_t)used;
}

/* ---------------------------------------------------------------- processes ---- */

int process_owner(int pid, unsigned int *uid)
{
	char name[64], status[4096];
	const char *line;
	ssize_t nr;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	nr = file_read(name, status, sizeof(status));
	if (nr < 0) {
		if (nr == -ENOENT && kill(pid, 0) != 0 && errno == ESRCH)
			return -ENOENT;
		return nr == -ESRCH ? -ENOENT : -EACCES;
	}
	line = strstr(status, "\nUid:");
	if (!line || sscanf(line, "\nUid: %*u %u", uid) != 1)
		return -ENOENT;
	return 0;
}

const char *process_name(int pid, const char *known, char *buf, size_t len)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/%d/comm", pid);
	if (*known || file_read(name, buf, len) <= 0)
		snprintf(buf, len, "%s", *known ? known : "?");
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

const char *user_name(unsigned int uid, char *buf, size_t len)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		clean_text(pw->pw_name, buf, len);
	else
		snprintf(buf, len, "user %u", uid);
	return buf;
}

/* ---------------------------------------------------------------- places ---- */

static int place_add_below(struct place *places, int nr, const char *root, const char *xdg, unsigned int uid)
{
	struct place *place = &places[nr];

	if (nr == PLACES_MAX || ctl_runtime_base_below(root, place->base, sizeof(place->base), xdg, uid) != 0)
		return nr;
	place->uid = uid;
	for (int i = 0; i < nr; i++)
		if (strcmp(places[i].base, place->base) == 0)
			return nr;
	return nr + 1;
}

static int place_add(struct place *places, int nr, const char *xdg, unsigned int uid)
{
	return place_add_below(places, nr, "", xdg, uid);
}

/* Another mount namespace, or another root directory. */
static bool has_other_files(int pid)
{
	char name[64], its[64] = "", ours[64] = "";
	struct stat st, own;

	snprintf(name, sizeof(name), "/proc/%d/ns/mnt", pid);
	if (readlink(name, its, sizeof(its) - 1) < 0 || readlink("/proc/self/ns/mnt", ours, sizeof(ours) - 1) < 0)
		return false;
	snprintf(name, sizeof(name), "/proc/%d/root", pid);
	return strcmp(its, ours) != 0 ||
	       (stat(name, &st) == 0 && stat("/", &own) == 0 && (st.st_dev != own.st_dev || st.st_ino != own.st_ino));
}

/* Where a process's file tree is, if it is not ours; else "". */
static const char *process_root(int pid, char *buf, size_t len)
{
	if (!has_other_files(pid))
		return "";
	snprintf(buf, len, "/proc/%d/root", pid);
	return buf;
}

bool process_runtime_dir(int pid, char *buf, size_t len)
{
	static const char key[] = "XDG_RUNTIME_DIR=";
	char name[64], *environ_text = malloc(ENVIRON_MAX);
	bool found = false;
	ssize_t nr;

	if (!environ_text)
		return false;
	snprintf(name, sizeof(name), "/proc/%d/environ", pid);
	nr = file_read(name, environ_text, ENVIRON_MAX);
	for (ssize_t at = 0; at < nr && !found; at += (ssize_t)strlen(environ_text + at) + 1)
		if (strncmp(environ_text + at, key, sizeof(key) - 1) == 0)
			found = (size_t)snprintf(buf, len, "%s", environ_text + at + sizeof(key) - 1) < len;
	free(environ_text);
	return found;
}

int places_of_process(struct place *places, int pid, unsigned int uid)
{
	char dir[CTL_PATH_MAX], buf[64];
	const char *root = process_root(pid, buf, sizeof(buf));
	int nr = 0;

	if (uid == geteuid() && !*root)
		nr = place_add(places, nr, getenv("XDG_RUNTIME_DIR"), uid);
	if (process_runtime_dir(pid, dir, sizeof(dir)))
		nr = place_add_below(places, nr, root, dir, uid);
	return place_add_below(places, nr, root, NULL, uid);
}

/* Names that end in a user's number. */
static int place_add_users(struct place *places, int nr, const char *pattern)
{
	glob_t found;

	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return nr;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *digits = strpbrk(found.gl_pathv[i], "0123456789");
		char *end;
		unsigned long uid = digits ? strtoul(digits, &end, 10) : 0;

		if (digits && *end == '\0' && uid <= UINT32_MAX)
			nr = place_add(places, nr, NULL, (unsigned int)uid);
	}
	globfree(&found);
	return nr;
}

int places_of_all(struct place *places)
{
	unsigned int uid = geteuid();
	int nr = place_add(places, 0, getenv("XDG_RUNTIME_DIR"), uid);

	nr = place_add(places, nr, NULL, uid);
	if (uid != 0)
		return nr;
	nr = place_add_users(places, nr, "/run/user/*");
	return place_add_users(places, nr, "/tmp/godwit-*");
}

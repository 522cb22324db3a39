/* SPDX-License-Identifier: MIT */
/*
 * The memory nodes that a command line asks for.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODES_DEFAULT 2

static int check_host(const char *spec, int host)
{
	char name[ERRNO_TEXT];
	int err = host < 0 ? 0 : gw_host_node(host);

	switch (err) {
	case 0:
		return 0;
	case -ENODEV:
		return say_error("node '%s': this machine has no NUMA node %d: see 'godwit check'", spec, host);
	case -ENXIO:
		return say_error("node '%s': NUMA node %d of this machine has no memory: bring its memory online, or "
				 "name one of /sys/devices/system/node/has_memory",
				 spec, host);
	case -EACCES:
		return say_error("node '%s': this process may not use NUMA node %d: it is not in Mems_allowed of "
				 "/proc/self/status; widen cpuset.mems of its cgroup, or name a node of it",
				 spec, host);
	default:
		return say_error("node '%s': NUMA node %d: %s", spec, host, errno_name(err, name));
	}
}

/* What the engine would refuse later, where nobody sees what it was: by the path's own words. */
static int check_device(const char *spec, const char *path)
{
	int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	else if (errno == EBUSY)
		return say_error("node '%s': the block device %s is mounted, or in use otherwise: umount it first, or "
				 "name a directory on it",
				 spec, path);
	else
		return say_error("node '%s': %s: %s", spec, path, strerror(errno));
	return 0;
}

static int check_directory(const char *spec, const char *path)
{
	int fd = open(path, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	else if (errno == EOPNOTSUPP || errno == EISDIR)
		return say_error("node '%s': the file system of %s has no files without a name: name a new file in it",
				 spec, path);
	else
		return say_error("node '%s': %s: no file can be made there: %s", spec, path, strerror(errno));
	return 0;
}

/* Of a file that is not there: where it would be. */
static int check_parent(const char *spec, const char *path)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX] = ".";

	if (slash)
		snprintf(parent, sizeof(parent), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	if (!access(parent, W_OK | X_OK))
		return 0;
	if (errno == ENOENT)
		return say_error("node '%s': there is no directory %s: make it (mkdir -p), or name another", spec,
				 parent);
	return say_error("node '%s': %s: no file can be made there: %s", spec, parent, strerror(errno));
}

static int check_path(const char *spec, const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno == ENOENT)
			return check_parent(spec, path);
		return say_error("node '%s': %s: %s", spec, path, strerror(errno));
	}
	if (S_ISBLK(st.st_mode))
		return check_device(spec, path);
	if (S_ISDIR(st.st_mode))
		return check_directory(spec, path);
	if (!S_ISREG(st.st_mode))
		return say_error("node '%s': %s is no file, directory or block device: name one", spec, path);
	if (st.st_size)
		return say_error("node '%s': %s has content, which would be lost: name another file, or a directory",
				 spec, path);
	return 0;
}

/* Under attach a relative path is relative to where the process is. */
static int check_file(const struct cli_args *args, const char *spec, const struct gw_node_options *opt)
{
	char path[PATH_MAX];

	if (!opt->path || opt->path_len >= sizeof(path) || (args->cmd == &cli_attach && opt->path[0] != '/'))
		return 0;
	memcpy(path, opt->path, opt->path_len);
	path[opt->path_len] = '\0';
	return check_path(spec, path);
}

static int check_spec(const struct cli_args *args, const char *spec, bool first)
{
	struct gw_node_options opt = { .size = sizeof(opt) };
	size_t at = 0;
	int err = gw_node_parse(spec, &opt, &at);
	char name[ERRNO_TEXT];

	if (err == -EINVAL && at <= strlen(spec))
		return say_error("node '%s': cannot read '%s': expected " SPEC_FORM, spec, spec + at);
	if (err)
		return say_error("node '%s': %s", spec, errno_name(err, name));
	if (strchr(spec, ';'))
		return say_error("node '%s': ';' cannot be part of it", spec);
	if (first && opt.kind != GW_NODE_RAM)
		return say_error("node '%s': the first node has to be memory, where the program starts: put --node ram "
				 "before it",
				 spec);
	return check_file(args, spec, &opt) ? CLI_FAILED : check_host(spec, opt.host);
}

int specs_collect(const struct cli_args *args, char *buf)
{
	uint64_t want = args_number(args, OPT_NODES, NODES_DEFAULT);
	const struct cli_value *value;
	size_t used = 0;
	int nr;

	if (args_has(args, OPT_NODES) && args_has(args, OPT_NODE)) {
		say_error("--nodes and --node exclude each other");
		return -1;
	}
	for (nr = 0;; nr++) {
		bool given = args_has(args, OPT_NODE);
		const char *spec = "ram";

		value = args_value(args, OPT_NODE, nr);
		if (given ? !value : (uint64_t)nr == want)
			return nr;
		if (given)
			spec = value->text;
		if (given && check_spec(args, spec, !nr))
			return -1;
		if (nr == GW_MAX_NODES || used + strlen(spec) + 2 > SPECS_MAX) {
			say_error("node '%s': more than %d nodes, or too long a list of them", spec, GW_MAX_NODES);
			return -1;
		}
		used += (size_t)snprintf(buf + used, SPECS_MAX - used, "%s%s", nr ? ";" : "", spec);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The memory nodes that a command line asks for.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>

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

static int check_spec(const char *spec, bool first)
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
	return check_host(spec, opt.host);
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
		if (given && check_spec(spec, !nr))
			return -1;
		if (nr == GW_MAX_NODES || used + strlen(spec) + 2 > SPECS_MAX) {
			say_error("node '%s': more than %d nodes, or too long a list of them", spec, GW_MAX_NODES);
			return -1;
		}
		used += (size_t)snprintf(buf + used, SPECS_MAX - used, "%s%s", nr ? ";" : "", spec);
	}
}

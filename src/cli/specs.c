/* SPDX-License-Identifier: MIT */
/*
 * The memory nodes that a command line asks for.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NODES_DEFAULT 2

static int check_host(const char *spec, int host)
{
	char name[64];

	if (host < 0)
		return 0;
	snprintf(name, sizeof(name), "/sys/devices/system/node/node%d", host);
	/* Without NUMA in the kernel there is one node and no directory. */
	if (access(name, F_OK) == 0 || (host == 0 && access("/sys/devices/system/node", F_OK) != 0))
		return 0;
	return say_error("node '%s': this machine has no NUMA node %d: see 'godwit check'", spec, host);
}

static int check_spec(const char *spec)
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
		if (given && check_spec(spec))
			return -1;
		if (nr == GW_MAX_NODES || used + strlen(spec) + 2 > SPECS_MAX) {
			say_error("node '%s': more than %d nodes, or too long a list of them", spec, GW_MAX_NODES);
			return -1;
		}
		used += (size_t)snprintf(buf + used, SPECS_MAX - used, "%s%s", nr ? ";" : "", spec);
	}
}

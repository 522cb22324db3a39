/* SPDX-License-Identifier: MIT */
/*
 * The engine for an unmodified program: started before main() when the environment says so.
 *
 * GODWIT_NODES     node specifications, ';' between them; without it nothing happens
 * GODWIT_STALL_US  bound of the window
 * GODWIT_FLAGS     no-recycle, mbind-lazy, cpus-sleep
 * GODWIT_POLICY    the memory policy of the thread that became this program, see gw_policy_save()
 * GODWIT_GROUP     the group of the process that made this one, see gw_group_inherit()
 * GODWIT_QUIET     say nothing when the engine cannot start
 */
#include "preload/preload.h"
#include "topology/topology.h"

#include <godwit.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPEC_MAX 256

void preload_say(const char *what, int err, const char *so)
{
	char line[256];
	size_t n = 0;
	const char *parts[] = { "godwit: ", what, ": ", strerrordesc_np(-err), ": ", so, "\n" };

	if (getenv("GODWIT_QUIET"))
		return;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t len = parts[i] ? strlen(parts[i]) : 0;

		if (n + len > sizeof(line))
			break;
		memcpy(line + n, parts[i], len);
		n += len;
	}
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}

int preload_add_nodes(struct gw_engine *e, const char *specs)
{
	char spec[SPEC_MAX];
	struct gw_node_options opt;
	int id = -EINVAL;

	while (*specs) {
		size_t len = strcspn(specs, ";"), at;

		if (len >= sizeof(spec))
			return -EINVAL;
		memcpy(spec, specs, len);
		spec[len] = '\0';
		specs += len + (specs[len] == ';');
		if (!len)
			continue;
		if (gw_node_parse(spec, &opt, &at))
			return -EINVAL;
		id = gw_node_add(e, &opt);
		if (id < 0)
			return id;
	}
	return id < 0 ? id : 0;
}

static void say(const char *what, int err)
{
	preload_say(what, err, "the program runs unmanaged");
}

/* A forked child has an engine of its own by now, and needs a socket of its own. */
static void forked(struct gw_engine *e, int err, void *arg)
{
	(void)arg;
	if (err)
		return;
	gw_control_open(e);
	preload_save_policy(e);
}

/* From the environment; errno is the program's: it may look at it in the first line of main(). */
static void start(void)
{
	const char *nodes = getenv("GODWIT_NODES"), *stall = getenv("GODWIT_STALL_US"), *flags = getenv("GODWIT_FLAGS");
	struct gw_options opt = { .size = sizeof(opt), .forked = forked };
	struct gw_engine *e;
	char *group = getenv("GODWIT_GROUP");
	int err, saved = errno; /* the program's: it may look at it in the first line of main() */

	if (!nodes)
		return;
	opt.stall_us_max = stall ? (uint32_t)strtoul(stall, NULL, 10) : 0;
	opt.flags = (flags && strstr(flags, "no-recycle") ? GW_NO_RECYCLE : 0) |
		    (flags && strstr(flags, "mbind-lazy") ? GW_MBIND_LAZY : 0) |
		    (flags && strstr(flags, "cpus-sleep") ? GW_CPUS_SLEEP : 0);
	err = gw_start(&e, &opt);
	if (err) {
		say("cannot start the engine", err);
	} else {
		err = preload_add_nodes(e, nodes);
		if (!err)
			err = gw_group_inherit(e, group && strlen(group) == GW_GROUP_SAVED ? group : NULL);
		if (!err)
			err = gw_policy_load(e, getenv("GODWIT_POLICY") ? getenv("GODWIT_POLICY") : "");
		if (!err)
			err = gw_control_open(e);
		if (err) {
			gw_stop(e);
			say("cannot set up nodes or the control socket", err);
		}
	}
	(void)at_quick_exit(gw_control_unlink);
	if (!err)
		topology_begin(e);
	errno = saved;
}

/* In data that is never managed: constructors of libraries may have made pages move by then. */
static uint32_t started __attribute__((section("gw_data"))) = 0;

/* Libraries' constructors run before those of a preloaded object, and libnuma's looks for nodes. */
__attribute__((constructor)) static void preload_start(void)
{
	if (!__atomic_exchange_n(&started, 1, __ATOMIC_RELAXED)) {
		preload_threads_begin(preload_thread_leave); /* also for an engine that the program starts itself */
		start();
	}
	files_ready();
}

struct gw_engine *preload_engine(void)
{
	if (!__atomic_load_n(&started, __ATOMIC_RELAXED) && !preload_attached())
		preload_start();
	return gw_self();
}

__attribute__((destructor)) static void preload_end(void)
{
	struct gw_engine *e = gw_self();

	if (e)
		topology_end(e);
	gw_control_unlink();
}

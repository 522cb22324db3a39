/* SPDX-License-Identifier: MIT */
/* Who acts on a process, and what to say when nobody can. */
#define _GNU_SOURCE 1
#include "via.h"

#include "attach/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ENVIRON_MAX (256 << 10)
#define STARTING_TRIES 50	/* of 20 ms */

const char *via_name(enum via via)
{
	return via == VIA_ENGINE ? "engine" : via == VIA_KERNEL ? "kernel" : "auto";
}

static int parse_via(const struct cli_args *args, enum via *via)
{
	const struct cli_value *value = args_value(args, OPT_VIA, 0);

	*via = VIA_AUTO;
	if (!value)
		return 0;
	for (enum via v = VIA_AUTO; v <= VIA_KERNEL; v++) {
		if (strcmp(value->text, via_name(v)) == 0) {
			*via = v;
			return 0;
		}
	}
	return say_error("%s: --via '%s': expected engine, kernel or auto", args->cmd->name, value->text);
}

/* ---------------------------------------------------------------- refusals ---- */

int refusal_say(const struct kernel_target *t, enum kernel_refusal why)
{
	char name[64];
	unsigned int uid;

	switch (why) {
	case KERNEL_FINE:
		return 0;
	case KERNEL_NO_PROCESS:
		return say_error("no process %d", t->pid);
	case KERNEL_ELSEWHERE:
		return say_error("no process %d here: one of another PID namespace is called so, and is %d here",
				 t->pid, t->other);
	case KERNEL_ZOMBIE:
		return say_error("PID %d is a zombie: it has ended, and has no memory", t->pid);
	case KERNEL_EXITING:
		return say_error("PID %d is ending: it has no memory any more", t->pid);
	case KERNEL_THREAD:
		return say_error("PID %d is a thread of the kernel: it has no memory of its own", t->pid);
	case KERNEL_FORBIDDEN:
		if (process_owner(t->pid, &uid) || uid == geteuid())
			return say_error("PID %d's memory may not be looked at (%s): run godwit as root", t->pid,
					 strerror(-t->err));
		return say_error("PID %d belongs to %s: run godwit as root or as that user", t->pid,
				 user_name(uid, name, sizeof(name)));
	case KERNEL_NO_PROC:
		break;
	}
	return say_error("/proc/%d: %s: is /proc mounted, with CONFIG_PROC_PAGE_MONITOR?", t->pid, strerror(-t->err));
}

int kernel_error(const struct kernel_target *t, int err)
{
	char name[ERRNO_TEXT];

	switch (err) {
	case -ESRCH:
		return say_error("PID %d has ended", t->pid);
	case -EPERM:
		return say_error("PID %d: not permitted to move its pages (EPERM): run godwit as root; --all needs "
				 "CAP_SYS_NICE",
				 t->pid);
	case -EACCES:
		return say_error("PID %d: its cpuset does not allow that node (EACCES)", t->pid);
	case -ENOSYS:
		return say_error("this kernel has no move_pages(2): built without CONFIG_NUMA or CONFIG_MIGRATION");
	case -ENOMEM:
		return say_error("out of memory");
	}
	return say_error("PID %d: %s (%s)", t->pid, strerror(-err), errno_name(err, name));
}

/* ---------------------------------------------------------------- opening ---- */

static int open_kernel(struct actor *a)
{
	enum kernel_refusal why = kernel_open(&a->target, a->pid);

	a->via = VIA_KERNEL;
	kernel_host(&a->host);
	return refusal_say(&a->target, why);
}

/* Without a word -ENOENT: there is no engine. */
static int open_engine(struct actor *a)
{
	a->via = VIA_ENGINE;
	a->session.patience_ms = SESSION_TIMEOUT_MS;
	return session_try(&a->session, a->pid);
}

/*
 * Is it a program under `godwit run` whose engine is not up yet, or `godwit run` itself? Then one moment decides about
 * who acts, and a script that has just started it means the engine.
 */
static bool is_starting(int pid)
{
	static const char mark[] = "GODWIT_NODES=";
	char name[64], exe[CTL_PATH_MAX], *text = malloc(ENVIRON_MAX);
	const char *base;
	ssize_t len;
	bool found = false;

	snprintf(name, sizeof(name), "/proc/%d/environ", pid);
	len = text ? file_read(name, text, ENVIRON_MAX) : 0;
	for (ssize_t at = 0; at < len && !found; at += (ssize_t)strlen(text + at) + 1)
		found = strncmp(text + at, mark, sizeof(mark) - 1) == 0;
	free(text);
	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	len = readlink(name, exe, sizeof(exe) - 1);
	exe[len > 0 ? len : 0] = '\0';
	base = strrchr(exe, '/');
	return found || (base && strcmp(base, "/godwit") == 0);
}

/* Without a word -ENOENT: there is no engine, and none is about to be. */
static int open_engine_soon(struct actor *a)
{
	static const struct timespec moment = { .tv_nsec = 20000000 };
	int err = open_engine(a);

	for (int tries = 0; err == -ENOENT && tries < STARTING_TRIES && is_starting(a->pid); tries++) {
		nanosleep(&moment, NULL);
		err = open_engine(a);
	}
	return err;
}

/* The host's nodes by their numbers, where it has several; else two virtual ones. */
static int nodes_to_attach(char *buf, size_t len)
{
	struct kernel_host host;
	size_t used = 0;

	kernel_host(&host);
	if (!(host.memory & (host.memory - 1)))
		return snprintf(buf, len, "ram;ram") < 0;
	if (host.memory & (host.memory + 1))
		return say_error("--attach: this host's nodes with memory are not numbered from 0 on: "
				 "'godwit attach' with a --node for each");
	for (int node = 0; host.memory >> node & 1 && used < len; node++)
		used += (size_t)snprintf(buf + used, len - used, "%sram,host=%d", node ? ";" : "", node);
	return 0;
}

static int attach_first(struct actor *a)
{
	struct attach_result res;
	char nodes[GW_MAX_NODES * 16];

	if (nodes_to_attach(nodes, sizeof(nodes)) || attach_to(a->pid, nodes, 0, 0, &res))
		return CLI_FAILED;
	return open_engine(a);
}

int actor_open(struct actor *a, const struct cli_args *args, const char *text)
{
	enum via via;
	int err;

	*a = (struct actor)ACTOR_NONE;
	if (parse_via(args, &via) || session_pid(text, &a->pid))
		return CLI_FAILED;
	if (via == VIA_KERNEL && args_has(args, OPT_ATTACH))
		return say_error("%s: --attach brings an engine, --via kernel does without: give one of them",
				 args->cmd->name);
	if (via == VIA_KERNEL)
		return open_kernel(a);
	err = via == VIA_AUTO ? open_engine_soon(a) : open_engine(a);
	if (err == -ENOENT && args_has(args, OPT_ATTACH))
		err = attach_first(a);
	if (err == -ENOENT && via == VIA_ENGINE)
		return say_error("PID %d has no godwit engine: 'godwit attach %d', or use --via kernel", a->pid,
				 a->pid);
	if (err == -ENOENT || err == -ESRCH)
		return open_kernel(a);
	return err ? CLI_FAILED : 0;
}

void actor_close(struct actor *a)
{
	session_close(&a->session);
	kernel_close(&a->target);
}

/* ---------------------------------------------------------------- nodes of the host ---- */

static int nodes_missing(const struct actor *a, uint64_t missing, const char *what, uint64_t have)
{
	char text[NODES_TEXT], list[NODES_TEXT];

	nodes_text(missing, text);
	nodes_text(have, list);
	(void)a;
	return say_error("node %s: %s %s", text, what, list);
}

static void host_cpus(int node, uint8_t *cpu_node)
{
	char name[64], list[4096];
	unsigned first, last;
	int used;

	snprintf(name, sizeof(name), "/sys/devices/system/node/node%d/cpulist", node);
	if (file_read(name, list, sizeof(list)) <= 0)
		return;
	for (const char *at = list; sscanf(at, "%u%n", &first, &used) == 1; at += used + (at[used] == ',')) {
		at += used;
		last = first;
		used = 0;
		if (*at == '-' && sscanf(at, "-%u%n", &last, &used) != 1)
			return;
		for (unsigned cpu = first; cpu <= last && cpu < GW_MAX_CPUS; cpu++)
			cpu_node[cpu] = (uint8_t)node;
	}
}

void host_hello(struct actor *a, uint32_t stall_us_max)
{
	struct ctl_hello *hello = &a->session.client.hello;

	a->stall_us_max = stall_us_max;
	a->session.pid = a->pid;
	hello->pid = (uint32_t)a->pid;
	hello->nr_nodes = (uint32_t)(64 - __builtin_clzll(a->host.online));
	/* a kernel without NUMA has no such files: all CPUs are node 0's */
	memset(hello->cpu_node, a->host.online == 1 ? 0 : CTL_NO_NODE, sizeof(hello->cpu_node));
	for (int node = 0; node < (int)hello->nr_nodes; node++)
		if (a->host.online >> node & 1)
			host_cpus(node, hello->cpu_node);
}

int host_nodes(const struct actor *a, const char *list, bool to, uint64_t *out)
{
	const struct kernel_host *host = &a->host;
	int nr = 64 - __builtin_clzll(host->online), err = gw_nodes_parse(list, GW_MAX_NODES, out);
	bool whole = list[0] == '!' || strcmp(list, "all") == 0;
	uint64_t used;

	if (!err && whole && gw_nodes_parse(list, nr, out))
		*out = 0;
	if (err == -ENODEV)
		return say_error("node list '%s': this host has node%s up to %d", list, nr > 1 ? "s" : "", nr - 1);
	if (err)
		return say_error("node list '%s': expected a list as 0  0,2  0-1  !1  all", list);
	used = whole ? *out & host->memory : *out;
	if (!used)
		return say_error("node list '%s': names no node with memory", list);
	if (used & ~host->online)
		return nodes_missing(a, used & ~host->online, "this host has", host->online);
	if (to && used & ~host->memory)
		return nodes_missing(a, used & ~host->memory, "no memory there; those with memory:", host->memory);
	*out = used;
	return 0;
}

int host_allows(const struct actor *a, uint64_t to)
{
	uint64_t denied = to & ~a->target.allowed;
	char text[NODES_TEXT], allowed[NODES_TEXT];

	if (!denied)
		return 0;
	nodes_text(denied, text);
	nodes_text(a->target.allowed & a->host.online, allowed);
	return say_error("node %s is not allowed to PID %d: its cpuset %s allows %s; change cpuset.mems there, or name "
			 "other nodes",
			 text, a->pid, a->target.cpuset[0] ? a->target.cpuset : "(/proc/PID/cpuset)", allowed);
}

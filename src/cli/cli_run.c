/* SPDX-License-Identifier: MIT */
/*
 * godwit run: become CMD, with the engine preloaded and its nodes in the environment.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- environment ---- */

static int set_env(const char *name, const char *value)
{
	if (value ? setenv(name, value, 1) : unsetenv(name))
		return say_error("%s: %s", name, strerror(errno));
	return 0;
}

/* Ours goes first; a nested run does not name it twice. */
static int set_preload(const char *engine)
{
	const char *old = getenv("LD_PRELOAD");
	size_t len = strlen(engine);
	char *both;
	int err;

	if (!old || !*old)
		return set_env("LD_PRELOAD", engine);
	if (strncmp(old, engine, len) == 0 && (old[len] == '\0' || old[len] == ':'))
		return 0;
	if (asprintf(&both, "%s:%s", engine, old) < 0)
		return say_error("out of memory");
	err = set_env("LD_PRELOAD", both);
	free(both);
	return err;
}

static int set_environment(const struct cli_args *args, const char *engine, const char *nodes)
{
	const struct cli_value *stall = args_value(args, OPT_MAX_STALL, 0);
	/* room for them: engines write theirs here, for what is executed next */
	char policy[GW_POLICY_SAVED + 1], group[GW_GROUP_SAVED + 1], flags[64];

	snprintf(flags, sizeof(flags), "%s%s%s", args_has(args, OPT_NO_RECYCLE) ? "no-recycle " : "",
		 args_has(args, OPT_MBIND_LAZY) ? "mbind-lazy " : "",
		 args_has(args, OPT_CPUS_SLEEP) ? "cpus-sleep" : "");
	memset(policy, ' ', GW_POLICY_SAVED);
	policy[GW_POLICY_SAVED] = '\0';
	memset(group, ' ', GW_GROUP_SAVED);
	group[GW_GROUP_SAVED] = '\0';
	if (set_preload(engine) || set_env("GODWIT_NODES", nodes) || set_env("GODWIT_POLICY", policy) ||
	    set_env("GODWIT_GROUP", group) ||
	    set_env("GODWIT_STALL_US", stall ? stall->text : NULL) ||
	    set_env("GODWIT_FLAGS", flags[0] ? flags : NULL) ||
	    set_env("GODWIT_QUIET", args_has(args, OPT_QUIET) ? "1" : NULL))
		return CLI_FAILED;
	return 0;
}

/* ---------------------------------------------------------------- command ---- */

static int inline_mode(const struct cli_args *args, enum inline_mode *mode)
{
	static const char *const names[] = { [INLINE_AUTO] = "auto", [INLINE_ALWAYS] = "always",
					     [INLINE_NEVER] = "never" };
	const struct cli_value *value;

	*mode = INLINE_AUTO;
	for (int nth = 0; (value = args_value(args, OPT_INLINE, nth)); nth++) {
		int i = INLINE_NEVER;

		while (i >= 0 && strcmp(value->text, names[i]) != 0)
			i--;
		if (i < 0)
			return say_error("run: --inline '%s': expected auto, always or never", value->text);
		*mode = (enum inline_mode)i;
	}
	return 0;
}

/* stdout is CMD's, so this goes where godwit's own words go. */
static void print_json(const char *cmd, int nr_nodes, enum program_kind kind)
{
	cJSON *object = json_object();

	json_add_u64(object, "pid", (uint64_t)getpid());
	json_add_text(object, "command", cmd);
	json_add_u64(object, "nodes", (uint64_t)nr_nodes);
	json_add_bool(object, "managed", kind == PROGRAM_DYNAMIC);
	if (kind == PROGRAM_DYNAMIC)
		json_add_null(object, "reason");
	else
		json_add_text(object, "reason", program_reason(kind));
	json_print(object, stderr);
}

static int become(char **cmd)
{
	int err;

	execvp(cmd[0], cmd);
	err = errno;
	say_error("'%s': %s", cmd[0], strerror(err));
	return err == ENOENT ? CLI_NO_CMD : CLI_NO_EXEC;
}

static int run(const struct cli_args *args)
{
	char nodes[SPECS_MAX] = "", engine[PATH_MAX];
	enum program_kind kind;
	enum inline_mode mode;
	int nr_nodes = specs_collect(args, nodes);

	if (nr_nodes < 0 || inline_mode(args, &mode) || need_all() || program_engine(engine, sizeof(engine)))
		return CLI_FAILED;
	kind = program_examine(args->operands[0]);
	if (args_has(args, OPT_JSON))
		print_json(args->operands[0], nr_nodes, kind);
	else if (kind != PROGRAM_DYNAMIC && !args_has(args, OPT_QUIET))
		say_note("%s %s: it runs unmanaged", args->operands[0], program_reason(kind));
	if (kind == PROGRAM_DYNAMIC && set_environment(args, engine, nodes))
		return CLI_FAILED;
	if (inline_begin(args, mode))
		return CLI_FAILED;
	return become(args->operands);
}

static const struct cli_option options[] = {
	{ OPT_NODES, 0, "nodes", "N", "that many virtual RAM nodes (default 2)", 1, GW_MAX_NODES },
	{ OPT_NODE, 0, "node", "SPEC", "one node; repeat it; numbered from 0 in this order", 0, 0 },
	{ OPT_MAX_STALL, 0, "max-stall", "US", "default bound of a stall in microseconds (50)", 1, 1000000 },
	{ OPT_NO_RECYCLE, 0, "no-recycle", NULL, "never reuse a vacated page frame", 0, 0 },
	{ OPT_MBIND_LAZY, 0, "mbind-lazy", NULL, "mbind() takes MPOL_MF_LAZY, which Linux refuses", 0, 0 },
	{ OPT_CPUS_SLEEP, 0, "cpus-sleep", NULL, "idle CPUs may sleep while pages come back from far nodes", 0, 0 },
	{ OPT_INLINE, 0, "inline", "WHEN", "answer NUMA calls that do not pass libc: auto, always, never", 0, 0 },
	{ OPT_QUIET, 'q', "quiet", NULL, "say nothing that is no error", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_run = {
	.name = "run",
	.usage = "[--nodes N | --node SPEC ...] [OPTION...] [--] CMD [ARG...]",
	.summary = "start a program on memory nodes",
	.text = "Become CMD with godwit's engine in it: same pid, signals and exit status.\n"
		"Nothing moves until it is asked for.\n"
		"SPEC: " SPEC_FORM "\n"
		"Exits as CMD does; 127: CMD not found, 126: CMD cannot be executed, 1: godwit\n"
		"cannot work here.",
	.options = options,
	.min = 1,
	.max = -1,
	.run = run,
};

/* SPDX-License-Identifier: MIT */
/*
 * godwit attach, godwit detach: the engine into a running process, and out of it.
 */
#include "cli.h"

#include "attach/attach.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- words ---- */

static void print_json(int pid, bool attached, int nr_nodes, const struct attach_result *res)
{
	cJSON *object = json_object();

	json_add_u64(object, "pid", (uint64_t)pid);
	json_add_bool(object, "attached", attached);
	if (attached)
		json_add_u64(object, "nodes", (uint64_t)nr_nodes);
	json_add_u64(object, "threads", res->threads);
	json_add_u64(object, "hooks", res->hooks);
	json_add_us(object, "pause_us", res->pause_ns);
	json_add_us(object, "total_us", res->total_ns);
	json_print(object, stdout);
}

static void print_line(int pid, const char *what, const struct attach_result *res)
{
	printf("PID %d: %s; one of its %u threads stood still for %.1f ms\n", pid, what, res->threads,
	       (double)res->pause_ns / 1e6);
}

/* Nothing is left half done by a signal: the way back takes no longer than the way on. */
static void signals_hold(bool hold)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* ---------------------------------------------------------------- attach ---- */

/* Whoever brought it. 0, or CLI_FAILED after saying what is in the way. */
static int has_engine(int pid, bool *has)
{
	struct session s = { .patience_ms = SESSION_TIMEOUT_MS };
	int err = session_try(&s, pid);

	*has = !err;
	if (!err)
		session_close(&s);
	if (err == -ESRCH)
		return say_error("no process %d", pid);
	return err == -ENOENT ? 0 : err ? CLI_FAILED : 0;
}

int attach_to(int pid, const char *nodes, uint32_t stall_us_max, uint32_t flags, struct attach_result *res)
{
	char engine[PATH_MAX], dir[CTL_PATH_MAX] = "", why[ATTACH_WHY];
	struct attach_options opt = { .library = engine, .nodes = nodes, .runtime_dir = dir,
				      .stall_us_max = stall_us_max, .flags = flags };
	int err;

	if (need_all() || program_engine(engine, sizeof(engine)))
		return CLI_FAILED;
	if (!process_runtime_dir(pid, dir, sizeof(dir)))
		dir[0] = '\0';
	signals_hold(true);
	err = attach_process(pid, &opt, res, why);
	signals_hold(false);
	return err ? say_error("PID %d %s", pid, why) : 0;
}

static int attach(const struct cli_args *args)
{
	char nodes[SPECS_MAX] = "";
	struct attach_result res;
	bool has;
	int pid, nr_nodes = specs_collect(args, nodes);

	if (nr_nodes < 0 || session_pid(args->operands[0], &pid) || has_engine(pid, &has))
		return CLI_FAILED;
	if (has)
		return say_error("PID %d has an engine already", pid);
	if (attach_to(pid, nodes, (uint32_t)args_number(args, OPT_MAX_STALL, 0),
		      args_has(args, OPT_NO_RECYCLE) ? GW_NO_RECYCLE : 0, &res))
		return CLI_FAILED;
	if (args_has(args, OPT_JSON))
		print_json(pid, true, nr_nodes, &res);
	else if (!args_has(args, OPT_QUIET))
		print_line(pid, "attached", &res);
	return CLI_DONE;
}

static const struct cli_option attach_options[] = {
	{ OPT_NODES, 0, "nodes", "N", "that many virtual RAM nodes (default 2)", 1, GW_MAX_NODES },
	{ OPT_NODE, 0, "node", "SPEC", "one node; repeat it; numbered from 0 in this order", 0, 0 },
	{ OPT_MAX_STALL, 0, "max-stall", "US", "default bound of a stall in microseconds (50)", 1, 1000000 },
	{ OPT_NO_RECYCLE, 0, "no-recycle", NULL, "never reuse a vacated page frame", 0, 0 },
	{ OPT_QUIET, 'q', "quiet", NULL, "say nothing that is no error", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_attach = {
	.name = "attach",
	.usage = "[--nodes N | --node SPEC ...] [OPTION...] PID",
	.summary = "put the engine into a running process",
	.text = "The process becomes what 'godwit run' makes of a program, without a restart; one of\n"
		"its threads stands still for some milliseconds. 'godwit detach' undoes it.\n"
		"SPEC: " SPEC_FORM "\n"
		"What cannot be attached to stays untouched, and its reason is said: a static or a\n"
		"32-bit program, one under a debugger, a stopped or ending one, one in a container.",
	.options = attach_options,
	.min = 1,
	.max = 1,
	.run = attach,
};

/* ---------------------------------------------------------------- detach ---- */

static int detach(const struct cli_args *args)
{
	char why[ATTACH_WHY];
	struct attach_result res;
	bool has;
	int pid, err;

	if (session_pid(args->operands[0], &pid))
		return CLI_FAILED;
	signals_hold(true);
	err = detach_process(pid, &res, why);
	signals_hold(false);
	if (err == -EALREADY && !has_engine(pid, &has) && has)
		return say_error("PID %d was not attached to: it was started with its engine, which ends with it", pid);
	if (err)
		return say_error("PID %d %s", pid, why);
	if (args_has(args, OPT_JSON))
		print_json(pid, false, 0, &res);
	else if (!args_has(args, OPT_QUIET))
		print_line(pid, "detached", &res);
	return CLI_DONE;
}

static const struct cli_option detach_options[] = {
	{ OPT_QUIET, 'q', "quiet", NULL, "say nothing that is no error", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_detach = {
	.name = "detach",
	.usage = "[-q] PID",
	.summary = "take the engine out of a process that was attached to",
	.text = "Migrations under way end early; pages on far nodes come back, the others stay where\n"
		"they are. Afterwards nothing of the engine is left: no thread, no descriptor, no\n"
		"mapping.",
	.options = detach_options,
	.min = 1,
	.max = 1,
	.run = detach,
};

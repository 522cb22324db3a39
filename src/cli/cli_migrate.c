/* SPDX-License-Identifier: MIT */
/*
 * godwit migrate: move the pages of a process from nodes to nodes while it runs.
 */
#define _GNU_SOURCE 1
#include "via.h"

#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- command ---- */

static int parse_form(const struct cli_args *args, uint32_t *form)
{
	static const char *const names[] = { "auto", "plain", "transactional" };
	const struct cli_value *value = args_value(args, OPT_FORM, 0);

	*form = GW_FORM_AUTO;
	if (!value)
		return 0;
	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value->text, names[i]) == 0) {
			*form = i;
			return 0;
		}
	}
	return say_error("migrate: --form '%s': expected auto, plain or transactional", value->text);
}

static int parse_fallback(const struct cli_args *args, struct gw_migrate_options *opt)
{
	const struct cli_value *value = args_value(args, OPT_FALLBACK, 0);
	bool lazy = args_has(args, OPT_LAZY) || args_has(args, OPT_NEXT_TOUCH) || args_has(args, OPT_LAZY_CANCEL);

	if (!value || strcmp(value->text, "none") == 0)
		return 0;
	if (strcmp(value->text, "swap") != 0)
		return say_error("migrate: --fallback '%s': expected swap or none", value->text);
	if (lazy)
		return say_error("migrate: --fallback swap and --lazy, --next-touch or --lazy-cancel exclude each "
				 "other: what is lazy takes no room before it is touched");
	opt->flags |= GW_MIGRATE_FALLBACK_SWAP;
	return 0;
}

static int parse_options(const struct cli_args *args, struct gw_migrate_options *opt)
{
	opt->size = sizeof(*opt);
	opt->flags = (args_has(args, OPT_DRY_RUN) ? GW_MIGRATE_DRY_RUN : 0) |
		     (args_has(args, OPT_VERIFY) ? GW_MIGRATE_VERIFY : 0) |
		     (args_has(args, OPT_BREAK_COW) ? GW_MIGRATE_BREAK_COW : 0) |
		     (args_has(args, OPT_LAZY) ? GW_MIGRATE_LAZY : 0) |
		     (args_has(args, OPT_NEXT_TOUCH) ? GW_MIGRATE_NEXT_TOUCH : 0) |
		     (args_has(args, OPT_LAZY_CANCEL) ? GW_MIGRATE_LAZY_CANCEL : 0);
	if (args_has(args, OPT_LAZY) + args_has(args, OPT_NEXT_TOUCH) + args_has(args, OPT_LAZY_CANCEL) > 1)
		return say_error("migrate: --lazy, --next-touch and --lazy-cancel exclude each other");
	if (parse_fallback(args, opt))
		return CLI_FAILED;
	opt->stall_us_max = (uint32_t)args_number(args, OPT_MAX_STALL, 0);
	opt->batch = (uint32_t)args_number(args, OPT_BATCH, 0);
	opt->rate = args_number(args, OPT_RATE, 0) * 1000000;
	return parse_form(args, &opt->form);
}

static int report(const struct cli_args *args, const struct session *s, const struct ctl_migrate *request)
{
	const struct migration m = {
		.pid = s->pid,
		.from = request->from,
		.to = request->to,
		.opt = &request->opt,
		.res = &s->msg.result,
	};

	if (args_has(args, OPT_JSON))
		result_print_json(&m);
	else if (!args_has(args, OPT_QUIET))
		result_print(&m);
	if (m.res->error)
		return CLI_LEFT;
	return !args_has(args, OPT_DRY_RUN) && result_pages_left(m.res) ? CLI_LEFT : CLI_DONE;
}

static int engine_run(const struct cli_args *args, struct session *s)
{
	bool progress = isatty(STDERR_FILENO) && !args_has(args, OPT_QUIET);
	struct ctl_migrate request = { 0 };
	struct iovec body = { .iov_base = &request, .iov_len = sizeof(request) };
	int status;

	if (args_has(args, OPT_ALL))
		return say_error("migrate: --all is of --via kernel: PID %d has an engine, see --break-cow", s->pid);
	if (parse_options(args, &request.opt))
		return CLI_FAILED;
	status = session_nodes(s, args->operands[1], &request.from);
	if (!status)
		status = session_nodes(s, args->operands[2], &request.to);
	if (!status)
		status = job_run(s, CTL_MIGRATE, &body, progress);
	return status ? status : report(args, s, &request);
}

static int run(const struct cli_args *args)
{
	struct gw_migrate_options opt;
	struct actor a;
	int status = parse_options(args, &opt);

	if (status)
		return status;
	status = actor_open(&a, args, args->operands[0]);
	if (!status)
		status = a.via == VIA_KERNEL ? kernel_migrate_run(args, &a) : engine_run(args, &a.session);
	actor_close(&a);
	return status;
}

static const struct cli_option options[] = {
	VIA_OPTION,
	ATTACH_OPTION,
	{ OPT_ALL, 0, "all", NULL, "kernel: also pages that other processes map, for all of them", 0, 0 },
	{ OPT_MAX_STALL, 0, "max-stall", "US", "bound of a stall of the program (microseconds)", 1, 1000000 },
	{ OPT_RATE, 0, "rate", "MB/s", "move at most that much, in 10^6 bytes a second", 1, 1000000000 },
	{ OPT_DRY_RUN, 0, "dry-run", NULL, "only say what would move, what would stay and why", 0, 0 },
	{ OPT_VERIFY, 0, "verify", NULL, "compare checksums of every batch", 0, 0 },
	{ OPT_BREAK_COW, 0, "break-cow", NULL, "also copy pages that a forked child still shares", 0, 0 },
	{ OPT_LAZY, 0, "lazy", NULL, "copy nothing now: each page moves when it is next touched", 0, 0 },
	{ OPT_NEXT_TOUCH, 0, "next-touch", NULL, "the same, to the node of the CPU that touches it", 0, 0 },
	{ OPT_LAZY_CANCEL, 0, "lazy-cancel", NULL, "pages of FROM that wait for that go back where they were", 0, 0 },
	{ OPT_FALLBACK, 0, "fallback", "WHAT", "swap: what finds no room goes through a far node; none", 0, 0 },
	{ OPT_BATCH, 0, "batch", "N", "at most that many pages a batch", 1, 512 },
	{ OPT_FORM, 0, "form", "FORM", "auto, plain or transactional", 0, 0 },
	{ OPT_QUIET, 'q', "quiet", NULL, "no progress and no summary: only the exit status", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_migrate = {
	.name = "migrate",
	.usage = "[OPTION...] PID FROM TO",
	.summary = "move the pages of a process from nodes to nodes, live",
	.text = "Move every page of PID on a node of FROM to the node of TO with the same rank,\n"
		"while PID runs. FROM and TO are node lists as in numactl:\n"
		"0  0,2  0-1  !1  all. Ctrl-C stops between two batches.\n"
		"A process that has no engine is moved by the kernel, on the nodes of the host.\n"
		"Exits with 0 if all pages moved, with 2 if pages stayed behind, and with 1 if\n"
		"nothing was done.",
	.options = options,
	.min = 3,
	.max = 3,
	.run = run,
};

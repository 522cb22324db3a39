/* SPDX-License-Identifier: MIT */
/* godwit migrate --via kernel: any process, by move_pages(2). */
#include "via.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define STALL_US 1000		/* the kernel takes longer for its pages than an engine: hence not the engine's 50 */
#define PROGRESS_NS 100000000ULL

/* A migration under way, as its calls back see it. */
struct watch {
	struct kernel_result *res;
	int signals;
	bool progress, shown, stop;
	uint64_t begin, next;
};

/* ---------------------------------------------------------------- while it runs ---- */

static void show(struct watch *w, uint64_t now)
{
	struct gw_migrate_result res = { .pages_total = w->res->total, .pages_done = w->res->done };

	res.pages_moved = w->res->done;
	res.ns = now - w->begin;
	res.stall_ns_max = max_u64(w->res->calls.stall[0].max, w->res->calls.stall[1].max);
	result_progress(&res);
	w->shown = true;
	w->next = now + PROGRESS_NS;
}

static bool between(void *arg)
{
	struct watch *w = arg;
	uint64_t now = clock_ns();

	w->stop = w->stop || signals_taken(w->signals);
	if (w->progress && now >= w->next)
		show(w, now);
	return w->stop;
}

/* ---------------------------------------------------------------- options ---- */

static const struct {
	enum cli_opt id;
	const char *name, *instead;
} engines_only[] = {
	{ OPT_VERIFY, "verify", "the kernel copies" },
	{ OPT_LAZY, "lazy", "the kernel unmaps nothing" },
	{ OPT_NEXT_TOUCH, "next-touch", "the kernel unmaps nothing" },
	{ OPT_LAZY_CANCEL, "lazy-cancel", "the kernel unmaps nothing" },
	{ OPT_FALLBACK, "fallback", "the kernel moves a page directly, or it stays" },
	{ OPT_BREAK_COW, "break-cow", "see --all" },
	{ OPT_FORM, "form", "the kernel has one" },
};

static int check_options(const struct cli_args *args, int pid)
{
	for (size_t i = 0; i < sizeof(engines_only) / sizeof(engines_only[0]); i++)
		if (args_has(args, engines_only[i].id))
			return say_error("migrate: --%s needs an engine, and PID %d has none or is not asked by it: %s",
					 engines_only[i].name, pid, engines_only[i].instead);
	return 0;
}

static void fill_request(const struct cli_args *args, struct kernel_request *req)
{
	req->dry = args_has(args, OPT_DRY_RUN);
	req->move.bound_ns = args_number(args, OPT_MAX_STALL, STALL_US) * 1000;
	req->move.rate = args_number(args, OPT_RATE, 0) * 1000000;
	req->move.batch = (uint32_t)args_number(args, OPT_BATCH, 0);
	req->move.all = args_has(args, OPT_ALL);
	req->move.stop = between;
}

/* ---------------------------------------------------------------- the result ---- */

/* In the words that an engine's has, so that both are read and printed alike. */
static void translate(const struct kernel_result *res, bool dry, struct gw_migrate_result *out)
{
	const struct hist *small = &res->calls.stall[0], *huge = &res->calls.stall[1];

	*out = (struct gw_migrate_result){ .pages_total = res->total, .pages_done = res->done };
	out->pages_moved = dry ? 0 : res->moved;
	out->pages_failed = kernel_failed(res);
	out->pages_gone = res->gone;
	out->pages_huge = dry ? 0 : res->moved_huge;
	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		for (int err = 0; err < GW_ERRNO_MAX; err++)
			out->failed[err] += res->failed[kind][err];
	out->would_4k = dry ? res->moved - res->moved_huge : 0;
	out->would_huge = dry ? res->moved_huge : 0;
	out->ns = res->ns;
	out->batches = res->calls.calls;
	out->retries = res->calls.retries;
	out->passes = res->passes;
	out->stall_ns_max = small->max;
	out->stall_ns_p99 = hist_at(small, 990);
	out->stall_ns_p999 = hist_at(small, 999);
	out->thp_stall_ns_max = huge->max;
	out->thp_stall_ns_p99 = hist_at(huge, 990);
	out->thp_stall_ns_p999 = hist_at(huge, 999);
	out->batch_last = res->calls.batch;
	out->form_last = GW_FORM_PLAIN;
	out->state = res->cancelled ? 2 : 1;
	out->error = res->error < 0 ? -res->error : res->error;
}

_Static_assert(KERNEL_ERRNO_MAX == GW_ERRNO_MAX, "errors are counted alike");
_Static_assert(KERNEL_NODES == GW_MAX_NODES, "and nodes");

static int report(const struct cli_args *args, const struct actor *a, const struct kernel_request *req,
		  const struct kernel_result *res)
{
	const struct gw_migrate_options opt = { .flags = req->dry ? GW_MIGRATE_DRY_RUN : 0 };
	struct gw_migrate_result shown;
	const struct kernel_report report = {
		.res = res, .host = &a->host, .target = &a->target, .all = req->move.all,
	};
	const struct migration m = {
		.pid = a->pid, .from = req->from, .to = req->to, .opt = &opt, .res = &shown, .kernel = &report,
	};

	translate(res, req->dry, &shown);
	if (args_has(args, OPT_JSON))
		result_print_json(&m);
	else if (!args_has(args, OPT_QUIET))
		result_print(&m);
	if (res->error || res->cancelled)
		return CLI_LEFT;
	return !req->dry && kernel_failed(res) ? CLI_LEFT : CLI_DONE;
}

int kernel_migrate_run(const struct cli_args *args, struct actor *a)
{
	struct kernel_result res = { 0 };
	struct watch watch = { .res = &res, .begin = clock_ns() };
	struct kernel_request req = { .move.arg = &watch };
	int err;

	fill_request(args, &req);
	if (check_options(args, a->pid) || host_nodes(a, args->operands[1], false, &req.from) ||
	    host_nodes(a, args->operands[2], true, &req.to) || host_allows(a, req.to))
		return CLI_FAILED;
	watch.progress = isatty(STDERR_FILENO) && !args_has(args, OPT_QUIET);
	watch.next = watch.begin + PROGRESS_NS;
	watch.signals = signals_open();
	err = kernel_migrate(&a->target, &req, &res);
	if (watch.signals >= 0)
		close(watch.signals);
	if (watch.shown)
		result_progress_end();
	return err ? kernel_error(&a->target, err) : report(args, a, &req, &res);
}

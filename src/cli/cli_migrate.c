/* SPDX-License-Identifier: MIT */
/*
 * godwit migrate: move the pages of a process from nodes to nodes while it runs.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define AGAIN_MS 1000

/* A request under way. */
struct job {
	struct session *s;
	int signals;		/* signalfd of what asks for an early end */
	bool progress;		/* show it */
	bool shown, started, cancelled;
	struct timespec asked;	/* when it was cancelled */
};

/* ---------------------------------------------------------------- progress ---- */

static void hide_progress(struct job *job)
{
	if (job->shown)
		result_progress_end();
	job->shown = false;
}

static void show_progress(struct job *job)
{
	if (!job->progress)
		return;
	result_progress(&job->s->msg.result);
	job->shown = true;
}

/* ---------------------------------------------------------------- signals ---- */

/* Signals that are ignored stay so: a script's background job has no use for Ctrl-C. */
static int open_signals(void)
{
	static const int wanted[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		struct sigaction now;

		if (sigaction(wanted[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaddset(&set, wanted[i]);
	}
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Milliseconds since the engine was asked to stop. */
static int64_t since_asked(const struct job *job)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - job->asked.tv_sec) * 1000 + (now.tv_nsec - job->asked.tv_nsec) / 1000000;
}

static int give_up(struct job *job)
{
	hide_progress(job);
	return say_error("not waiting for PID %d's engine: it stops after the batch in flight", job->s->pid);
}

/*
 * The first signal asks the engine to stop between two batches, a later one hangs up. timeout(1)
 * signals its child and then the child's group: twice within a moment is once.
 */
static int take_signal(struct job *job)
{
	struct signalfd_siginfo si;
	int err;

	if (read(job->signals, &si, sizeof(si)) != sizeof(si))
		return 0;
	if (job->cancelled)
		return since_asked(job) < AGAIN_MS ? 0 : give_up(job);
	hide_progress(job);
	job->cancelled = true;
	clock_gettime(CLOCK_MONOTONIC, &job->asked);
	err = ctl_send(&job->s->client, CTL_CANCEL, NULL, 0);
	return err ? session_error(job->s, err) : 0;
}

/* ---------------------------------------------------------------- conversation ---- */

static int wait_message(struct job *job)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = job->s->client.fd, .events = POLLIN },
			{ .fd = job->signals, .events = POLLIN },
		};
		int nr;

		if (job->cancelled && since_asked(job) > SESSION_TIMEOUT_MS)
			return give_up(job);
		nr = poll(fds, 2, SESSION_TIMEOUT_MS);
		if (nr < 0 && errno == EINTR)
			continue;
		if (nr <= 0) {
			hide_progress(job);
			return session_error(job->s, nr < 0 ? -errno : -ETIMEDOUT);
		}
		if (fds[1].revents && take_signal(job))
			return CLI_FAILED;
		if (fds[0].revents)
			return 0;
	}
}

/* Until RESULT is in the session's message. A request that broke off after it had begun has left pages behind. */
static int follow(struct job *job)
{
	for (;;) {
		if (wait_message(job) || session_expect(job->s, CTL_PROGRESS, CTL_RESULT))
			return job->started ? CLI_LEFT : CLI_FAILED;
		if (job->s->msg.head.type == CTL_RESULT)
			return CLI_DONE;
		job->started = true;
		show_progress(job);
	}
}

static int converse(struct session *s, const struct ctl_migrate *request, bool progress)
{
	struct iovec body = { .iov_base = (void *)request, .iov_len = sizeof(*request) };
	struct job job = { .s = s, .signals = open_signals(), .progress = progress };
	int err = ctl_send(&s->client, CTL_MIGRATE, &body, 1);
	int status = err ? session_error(s, err) : follow(&job);

	hide_progress(&job);
	if (job.signals >= 0)
		close(job.signals);
	return status;
}

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

static int parse_options(const struct cli_args *args, struct gw_migrate_options *opt)
{
	opt->size = sizeof(*opt);
	opt->flags = (args_has(args, OPT_DRY_RUN) ? GW_MIGRATE_DRY_RUN : 0) |
		     (args_has(args, OPT_VERIFY) ? GW_MIGRATE_VERIFY : 0) |
		     (args_has(args, OPT_BREAK_COW) ? GW_MIGRATE_BREAK_COW : 0);
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

static int run(const struct cli_args *args)
{
	bool progress = isatty(STDERR_FILENO) && !args_has(args, OPT_QUIET);
	struct ctl_migrate request = { 0 };
	struct session s;
	int status;

	if (parse_options(args, &request.opt) || session_open(&s, args->operands[0]))
		return CLI_FAILED;
	status = session_nodes(&s, args->operands[1], &request.from);
	if (!status)
		status = session_nodes(&s, args->operands[2], &request.to);
	if (!status)
		status = converse(&s, &request, progress);
	if (!status)
		status = report(args, &s, &request);
	session_close(&s);
	return status;
}

static const struct cli_option options[] = {
	{ OPT_MAX_STALL, 0, "max-stall", "US", "bound of a stall of the program (microseconds)", 1, 1000000 },
	{ OPT_RATE, 0, "rate", "MB/s", "move at most that much, in 10^6 bytes a second", 1, 1000000000 },
	{ OPT_DRY_RUN, 0, "dry-run", NULL, "only say what would move, what would stay and why", 0, 0 },
	{ OPT_VERIFY, 0, "verify", NULL, "compare checksums of every batch", 0, 0 },
	{ OPT_BREAK_COW, 0, "break-cow", NULL, "also copy pages that a forked child still shares", 0, 0 },
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
		"Exits with 0 if all pages moved, with 2 if pages stayed behind, and with 1 if\n"
		"nothing was done.",
	.options = options,
	.min = 3,
	.max = 3,
	.run = run,
};

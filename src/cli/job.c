/* SPDX-License-Identifier: MIT */
/*
 * A request under way: its progress on the terminal, the signals that ask for an early end, and its result.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
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
int signals_open(void)
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

bool signals_taken(int fd)
{
	struct signalfd_siginfo si;

	return fd >= 0 && read(fd, &si, sizeof(si)) == sizeof(si);
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
	int err;

	if (!signals_taken(job->signals))
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

int job_run(struct session *s, enum ctl_type type, const struct iovec *body, bool progress)
{
	struct job job = { .s = s, .signals = signals_open(), .progress = progress };
	int err = ctl_send(&s->client, type, body, 1);
	int status = err ? session_error(s, err) : follow(&job);

	hide_progress(&job);
	if (job.signals >= 0)
		close(job.signals);
	return status;
}

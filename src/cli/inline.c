/* SPDX-License-Identifier: MIT */
/*
 * NUMA calls that do not pass libc, below `godwit run`: the filter is installed in this process, which becomes CMD, and
 * its listener is handed to a supervisor that was forked before and so is not under the filter.
 *
 *   run                                  between               supervisor
 *   fork                                 holds nothing of ours
 *   wait                                 fork, end             is nobody's child
 *   install the filter, send its listener                      receive it
 *   exec CMD                                                   serve until all below the filter have ended
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TITLE "godwit: NUMA calls"

/* ---------------------------------------------------------------- the descriptor ---- */

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

static int listener_send(int sock, int fd)
{
	union control control = { .room = "" };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	return sendmsg(sock, &mh, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* -1: there is none to come. */
static int listener_receive(int sock)
{
	union control control = { .room = "" };
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};
	int fd = -1;

	if (recvmsg(sock, &mh, MSG_CMSG_CLOEXEC) == 1 && mh.msg_controllen >= CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return fd;
}

/* ---------------------------------------------------------------- the supervisor's beginning ---- */

/* What a user sees in ps, where CMD and its arguments would be. The strings of our arguments lie one after the other. */
static void title_set(const struct cli_args *args)
{
	char *start = program_invocation_name, *last = args->operands[args->nr - 1];
	size_t len = (size_t)(last + strlen(last) - start);

	if (last < start)
		return;
	memset(start, 0, len);
	memcpy(start, TITLE, len < sizeof(TITLE) ? len : sizeof(TITLE) - 1);
	prctl(PR_SET_NAME, "godwit-numa");
}

/* Of descriptors only the socket, as number 3. The first three may have been closed. */
static int hold_nothing(int sock)
{
	int high = fcntl(sock, F_DUPFD, 10), null = open("/dev/null", O_RDWR);

	if (null < 0 || high < 0)
		return -1;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			return -1;
	if (dup2(high, 3) < 0)
		return -1;
	return close_range(4, ~0U, 0) || chdir("/") ? -1 : 0;
}

/* It ends when those do whom it serves, and not before. */
static void signals_ignore(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM };
	sigset_t none;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void supervisor_main(void)
{
	int listener = listener_receive(3);

	close(3);
	if (listener >= 0)
		supervisor_serve(listener);
	_exit(0);
}

/* Its exit status says whether there is a supervisor. */
static _Noreturn void between_main(const struct cli_args *args, int sock)
{
	pid_t pid;

	title_set(args);
	if (setsid() < 0 || hold_nothing(sock))
		_exit(1);
	signals_ignore();
	pid = fork();
	if (pid == 0)
		supervisor_main();
	_exit(pid < 0);
}

/* ---------------------------------------------------------------- a child that leaves no trace ---- */

/* What CMD would notice of a child that we have had: a pending SIGCHLD, an orphan that we adopt. */
struct quiet {
	int reaper;
	bool pending;
	sigset_t mask;
};

static void quiet_begin(struct quiet *q)
{
	sigset_t set;

	sigpending(&set);
	q->pending = sigismember(&set, SIGCHLD);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &q->mask);
	q->reaper = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &q->reaper);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void quiet_end(const struct quiet *q)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (!q->pending)
		sigtimedwait(&set, NULL, &now);
	prctl(PR_SET_CHILD_SUBREAPER, q->reaper);
	sigprocmask(SIG_SETMASK, &q->mask, NULL);
}

/* Returns the socket that it waits at, or -errno. */
static int supervisor_start(const struct cli_args *args)
{
	int pair[2], status = 0, err = 0;
	struct quiet quiet;
	pid_t pid, got;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	quiet_begin(&quiet);
	pid = fork();
	if (pid == 0)
		between_main(args, pair[1]);
	err = pid < 0 ? -errno : 0;
	do {
		got = err ? 0 : waitpid(pid, &status, 0);
	} while (got < 0 && errno == EINTR);
	quiet_end(&quiet);
	close(pair[1]);
	/* Without a status (SIGCHLD is ignored) a missing supervisor is noticed when it is sent to. */
	if (got == pid && status)
		err = -EAGAIN;
	if (err)
		close(pair[0]);
	return err ? err : pair[0];
}

/* ---------------------------------------------------------------- for run ---- */

static const char never[] = "'--inline never' runs without an answer to NUMA calls that do not pass libc";

/* -EBUSY: another godwit run serves us already, or somebody else listens: the kernel has one listener at most. */
static int filter_hand_over(int sock)
{
	int listener = filter_install(), err;

	if (listener < 0)
		return listener == -EBUSY ? 0 : listener;
	err = listener_send(sock, listener);
	close(listener);
	return err;
}

int inline_begin(const struct cli_args *args, enum inline_mode mode)
{
	int sock, err;

	if (mode == INLINE_NEVER || (mode == INLINE_AUTO && !filter_permitted()))
		return 0;
	if (!filter_permitted()) {
		err = filter_renounce();
		if (err)
			return say_error("no_new_privs: %s", strerror(-err));
	}
	sock = supervisor_start(args);
	if (sock < 0)
		return say_error("cannot start a process to answer NUMA calls: %s: %s", strerror(-sock), never);
	err = filter_hand_over(sock);
	close(sock);
	/* A kernel or a container without filters, or without listeners. */
	if (!err || (mode == INLINE_AUTO && (err == -EINVAL || err == -ENOSYS || err == -EPERM || err == -EACCES)))
		return 0;
	return say_error("seccomp: %s: %s", strerror(-err), never);
}

/* SPDX-License-Identifier: MIT */
/*
 * What it costs to stand below libc: system calls of a program that nobody intercepts, with nothing, with a seccomp
 * filter that has the NUMA numbers only, with syscall user dispatch; and one intercepted call each way. Every way is a
 * process of its own; they are measured in turn, and the figures are medians of rounds, ratios taken inside a round.
 *
 *   inline                        the table
 *   inline run CMD [ARG...]       CMD under the filter, without anybody who answers: to be measured by its own means
 */
#define _GNU_SOURCE 1
#include <godwit.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ROUNDS 41
#define CALLS 200000
#define CALLS_CAUGHT 5000
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "inline: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_size);
	return v[n / 2];
}

/* ---- the ways ---- */

/* Returns the listener, if action is that of one. */
static int install_filter(unsigned int action, unsigned long flags)
{
	static const int numbers[] = { SYS_set_mempolicy, SYS_get_mempolicy, SYS_mbind, 450, SYS_move_pages,
				       SYS_migrate_pages, SYS_getcpu };
	struct sock_filter code[32] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog prog = { .filter = code };
	unsigned short at = 4;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)numbers[i],
							  (unsigned char)(ARRAY_SIZE(numbers) - i), 0);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
	prog.len = at;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("PR_SET_NO_NEW_PRIVS");
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

/* The call comes from here, and not from libc. */
static long call_inline(long nr)
{
	long ret;

	__asm__ volatile("xor %%edi, %%edi\n\txor %%esi, %%esi\n\txor %%edx, %%edx\n\txor %%r10d, %%r10d\n\t"
			 "xor %%r8d, %%r8d\n\tsyscall"
			 : "=a"(ret)
			 : "a"(nr)
			 : "rcx", "r11", "rdi", "rsi", "rdx", "r10", "r8", "memory");
	return ret;
}

static volatile char selector;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_RAX] = 0;
}

static void catch_sigsys(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &sa, NULL);
}

/* The executable mapping that holds libc's syscall(). */
static void libc_text(unsigned long *start, unsigned long *len)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long at = (unsigned long)syscall, end;
	char line[512], perms[8];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %7s", start, &end, perms) == 3 && at >= *start && at < end) {
			*len = end - *start;
			fclose(maps);
			return;
		}
	die("libc's text");
}

static void dispatch_on(bool by_range)
{
	unsigned long start = 0, len = 0;

	catch_sigsys();
	libc_text(&start, &len);
	selector = by_range; /* 1: blocked outside of the range */
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, by_range ? start : 0, by_range ? len : 0, &selector))
		die("PR_SET_SYSCALL_USER_DISPATCH");
}

static void serve(int listener)
{
	for (;;) {
		struct seccomp_notif req = { 0 };
		struct seccomp_notif_resp resp = { 0 };

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req)) {
			if (errno == EINTR)
				continue;
			_exit(0);
		}
		resp.id = req.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	}
}

/* Who answers is a process of its own, which takes the listener from the caller. */
static void answer(unsigned long sync)
{
	int pair[2];

	if (pipe(pair))
		die("pipe");
	if (!fork()) {
		int fd = 0, pid = getppid();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(pair[0], &fd, sizeof(fd)) != sizeof(fd))
			_exit(1);
		fd = (int)syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, pid, 0), fd, 0);
		if (fd < 0)
			die("pidfd_getfd");
		if (sync)
			ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, sync);
		serve(fd);
	} else {
		int fd = install_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);

		if (fd < 0)
			die("seccomp");
		if (write(pair[1], &fd, sizeof(fd)) != sizeof(fd))
			die("write");
	}
}

enum way { PLAIN, FILTER, FILTER_SYNC, FILTER_TRAP, FILTER_ERRNO, RANGE, SELECTOR, WAYS };

static const char *const names[] = {
	[PLAIN] = "nothing",
	[FILTER] = "seccomp, listener",
	[FILTER_SYNC] = "seccomp, listener, sync wake-up",
	[FILTER_TRAP] = "seccomp, SIGSYS",
	[FILTER_ERRNO] = "seccomp, errno",
	[RANGE] = "user dispatch, libc's text allowed",
	[SELECTOR] = "user dispatch, selector at allow",
};

static void enter(enum way way)
{
	switch (way) {
	case FILTER:
		answer(0);
		break;
	case FILTER_SYNC:
		answer(SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
		break;
	case FILTER_TRAP:
		catch_sigsys();
		install_filter(SECCOMP_RET_TRAP, 0);
		break;
	case FILTER_ERRNO:
		install_filter(SECCOMP_RET_ERRNO | ENOSYS, 0);
		break;
	case RANGE:
		dispatch_on(true);
		break;
	case SELECTOR:
		dispatch_on(false);
		break;
	default:
		break;
	}
}

/* ---- what is measured ---- */

enum what { GETPPID, READ, CAUGHT, WHATS };

static double measure(enum what what, int zero)
{
	double begin = now_ns();
	char byte;

	switch (what) {
	case GETPPID:
		for (int i = 0; i < CALLS; i++)
			syscall(SYS_getppid);
		return (now_ns() - begin) / CALLS;
	case READ:
		for (int i = 0; i < CALLS; i++)
			syscall(SYS_read, zero, &byte, 1);
		return (now_ns() - begin) / CALLS;
	default:
		for (int i = 0; i < CALLS_CAUGHT; i++)
			call_inline(SYS_get_mempolicy);
		return (now_ns() - begin) / CALLS_CAUGHT;
	}
}

struct subject {
	pid_t pid;
	int ask, told;
	double figure[WHATS][ROUNDS];
};

static void subject_start(struct subject *s, enum way way)
{
	int ask[2], told[2];
	char what;

	if (pipe2(ask, O_CLOEXEC) || pipe2(told, O_CLOEXEC))
		die("pipe");
	s->ask = ask[1];
	s->told = told[0];
	s->pid = fork();
	if (s->pid)
		return;
	close(ask[1]);
	enter(way);
	while (read(ask[0], &what, 1) == 1) {
		double ns = measure((enum what)what, open("/dev/zero", O_RDONLY | O_CLOEXEC));

		if (write(told[1], &ns, sizeof(ns)) != sizeof(ns))
			break;
	}
	_exit(0);
}

static double subject_ask(struct subject *s, enum what what)
{
	char byte = (char)what;
	double ns;

	if (write(s->ask, &byte, 1) != 1 || read(s->told, &ns, sizeof(ns)) != sizeof(ns))
		die("a subject");
	return ns;
}

static double ratio(const struct subject *s, const struct subject *to, enum what what)
{
	double r[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		r[i] = s->figure[what][i] / to->figure[what][i];
	return median(r, ROUNDS);
}

static void table(void)
{
	static struct subject s[WAYS];

	for (int w = 0; w < WAYS; w++)
		subject_start(&s[w], (enum way)w);
	for (int r = 0; r < ROUNDS; r++)
		for (int what = 0; what < WHATS; what++)
			for (int w = 0; w < WAYS; w++)
				s[w].figure[what][r] = subject_ask(&s[w], (enum what)what);
	printf("%-36s %10s %6s %10s %6s %12s\n", "", "getppid ns", "ratio", "read ns", "ratio", "caught ns");
	for (int w = 0; w < WAYS; w++) {
		double g = ratio(&s[w], &s[PLAIN], GETPPID), d = ratio(&s[w], &s[PLAIN], READ);

		printf("%-36s %10.1f %6.3f %10.1f %6.3f %12.1f\n", names[w], median(s[w].figure[GETPPID], ROUNDS), g,
		       median(s[w].figure[READ], ROUNDS), d, median(s[w].figure[CAUGHT], ROUNDS));
	}
	for (int w = 0; w < WAYS; w++) {
		close(s[w].ask);
		kill(s[w].pid, SIGKILL);
		waitpid(s[w].pid, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "run") == 0) {
		if (install_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER) < 0)
			die("seccomp");
		execvp(argv[2], argv + 2);
		die(argv[2]);
	}
	table();
	return 0;
}

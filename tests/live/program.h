/* SPDX-License-Identifier: MIT */
/*
 * What tests share that have tests/progs/counters.c run under `godwit run` and ask for migrations from outside. Each
 * wait has a deadline; what misses it is killed, and is a hang.
 */
#ifndef GODWIT_TESTS_PROGRAM_H
#define GODWIT_TESTS_PROGRAM_H

#include "live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM_WHOLE 42	/* exit status of counters whose memory is right */
#define HANG_MS 60000
#define TEXT 4096

static char program_path[PATH_MAX], godwit_path[PATH_MAX];

static inline double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline bool long_wanted(void)
{
	const char *s = getenv("GODWIT_LONG");

	return s && *s && strcmp(s, "0");
}

/* From 0 to n - 1. */
static inline unsigned int below(unsigned int n)
{
	static uint64_t seed = 88172645463325252ULL;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int)(seed % n);
}

static inline void pause_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

/* The directory of sockets goes, with what is in it. */
static inline void runtime_clear(void)
{
	char name[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(name, sizeof(name), "%s/godwit", getenv("XDG_RUNTIME_DIR"));
	dir = opendir(name);
	while (dir && (entry = readdir(dir)))
		if (strstr(entry->d_name, ".sock"))
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(name);
}

static inline void runtime_remove(void)
{
	runtime_clear();
	rmdir(getenv("XDG_RUNTIME_DIR"));
}

/* Where sockets are; a place of our own if the caller has none. */
static inline void runtime_find(void)
{
	char name[] = "/tmp/godwit-tests.XXXXXX";

	if (getenv("XDG_RUNTIME_DIR"))
		return;
	if (!mkdtemp(name) || setenv("XDG_RUNTIME_DIR", name, 1))
		exit(1);
	atexit(runtime_remove);
}

/* Where the command and the program are. Orphans come to us. */
static inline void programs_find(void)
{
	const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/godwit", build);
	if (!realpath(getenv("GODWIT") ? getenv("GODWIT") : name, godwit_path)) {
		printf("Bail out! there is no %s\n", name);
		exit(1);
	}
	snprintf(name, sizeof(name), "%s/tests/counters", build);
	if (!realpath(name, program_path)) {
		printf("Bail out! there is no %s\n", name);
		exit(1);
	}
	runtime_find();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- a process with a deadline ---- */

static inline void print_first_line(const char *format, pid_t pid, const char *task)
{
	char name[320], line[256] = "";
	FILE *f;

	snprintf(name, sizeof(name), format, pid, task);
	f = fopen(name, "re");
	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	printf(" %s", line);
}

/* What every thread of a process waits for. */
static inline void print_threads(pid_t pid)
{
	char name[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/task", pid);
	dir = opendir(name);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		printf("# %d/%s:", pid, entry->d_name);
		print_first_line("/proc/%d/task/%s/comm", pid, entry->d_name);
		print_first_line("/proc/%d/task/%s/wchan", pid, entry->d_name);
		print_first_line("/proc/%d/task/%s/syscall", pid, entry->d_name);
		printf("\n");
	}
	if (dir)
		closedir(dir);
}

static pid_t program_pid;	/* whose threads tell why something hangs */

/* Its wait status, or -1 when it had to be killed. */
static inline int await_end(pid_t pid, int ms)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = -1, ready;
	struct pollfd end = { .fd = fd, .events = POLLIN };

	do
		ready = poll(&end, 1, ms);
	while (ready < 0 && errno == EINTR);
	if (!ready) {
		print_threads(program_pid);
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	close(fd);
	return ready ? status : -1;
}

static inline void text_read(int fd, char *text)
{
	ssize_t n = pread(fd, text, TEXT - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* ---- the command ---- */

struct command {
	pid_t pid;
	int out_fd, err_fd;
	int status;		/* wait status; -1: hung */
	char out[TEXT], err[TEXT];
};

static inline void command_start(struct command *c, const char *const argv[])
{
	c->out_fd = memfd_create("out", MFD_CLOEXEC);
	c->err_fd = memfd_create("err", MFD_CLOEXEC);
	c->pid = fork();
	if (c->pid)
		return;
	dup2(c->out_fd, STDOUT_FILENO);
	dup2(c->err_fd, STDERR_FILENO);
	execv(godwit_path, (char *const *)argv);
	_exit(126);
}

static inline void command_end(struct command *c)
{
	c->status = await_end(c->pid, HANG_MS);
	text_read(c->out_fd, c->out);
	text_read(c->err_fd, c->err);
}

static inline bool exited(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* A number of a line of JSON; -1: it is not there. */
static inline long json_number(const char *text, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(text, quoted);
	return at ? strtol(at + strlen(quoted), NULL, 10) : -1;
}

/* ---- the program ---- */

struct program {
	pid_t pid;
	int in, out;		/* our ends */
	int err_fd;
	char err[TEXT];
};

/* In the child, before it becomes `godwit run`; arg as given to program_start(). */
typedef void before_exec_t(void *arg);

static inline void program_start(struct program *p, const char *last_node, before_exec_t *before, void *arg)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		exit(1);
	p->err_fd = memfd_create("err", MFD_CLOEXEC);
	p->pid = fork();
	if (!p->pid) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(p->err_fd, STDERR_FILENO);
		if (before)
			before(arg);
		execl(godwit_path, "godwit", "run", "--node", "ram", "--node", last_node, "--", program_path, NULL);
		_exit(126);
	}
	program_pid = p->pid;
	close(in[0]);
	close(out[1]);
	p->in = in[1];
	p->out = out[0];
}

/* Until the program has said a line; false: it does not, or has ended. */
static inline bool program_says(struct program *p, const char *line)
{
	double until = seconds() + HANG_MS / 1e3;
	size_t len = strlen(line), got = 0;
	char text[64];

	while (got < len) {
		struct pollfd pfd = { .fd = p->out, .events = POLLIN };
		double left = until - seconds();
		ssize_t n;

		if (left <= 0)
			break;
		if (poll(&pfd, 1, (int)(left * 1e3) + 1) <= 0)
			continue;
		n = read(p->out, text + got, len - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	if (got == len && !memcmp(text, line, len))
		return true;
	print_threads(program_pid);
	printf("# it says \"%.*s\", %.1f s before time\n", (int)got, text, until - seconds());
	return false;
}

static inline void program_told(struct program *p, char letter)
{
	if (write(p->in, &letter, 1) < 0)
		return; /* it has ended, which its status will tell */
}

/* Its wait status, or -1 when it hung. */
static inline int program_end(struct program *p)
{
	int status;

	close(p->in);
	status = await_end(p->pid, HANG_MS);
	close(p->out);
	text_read(p->err_fd, p->err);
	return status;
}

static inline void socket_path(pid_t pid, char *path, size_t len)
{
	snprintf(path, len, "%s/godwit/%d.sock", getenv("XDG_RUNTIME_DIR"), pid);
}

/* No socket of this pid, no process of ours. A forked child of the program that has come to us is whole, too. */
static inline bool nothing_left(pid_t pid)
{
	char path[PATH_MAX];
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0)
		if (!exited(status, PROGRAM_WHOLE))
			printf("# an orphan's status is %x\n", status);
	socket_path(pid, path, sizeof(path));
	return access(path, F_OK) && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* A child that was forked ends by itself when it has verified its memory. */
static inline bool nothing_left_soon(pid_t pid)
{
	for (int i = 0; i < 500 && !nothing_left(pid); i++)
		pause_ms(10);
	return nothing_left(pid);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Runs a command in a cgroup and samples, every 50 ms while it measures, the memory that it takes: what its cgroup is
 * charged for, its resident set, and a zram device's pool. Processor time and faults are taken where the measuring
 * begins and ends. The load itself is not to be slowed by that: this is another process, outside of the cgroup. It dies
 * with its parent, and the command with it.
 */
#define _GNU_SOURCE 1
#include "load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_MS 50
#define KTHREAD 0x00200000UL /* PF_KTHREAD in /proc/PID/stat's flags */

struct series {
	double sum, max;
};

/* At one moment, since the process began (or the machine). */
struct totals {
	double cpu_s, kthread_s, busy_s;
	uint64_t majflt, minflt, ns;
};

struct watch {
	const struct options *o;
	pid_t pid;
	int tell;
	bool measuring, late;
	uint64_t nr;
	struct series charged, rss, pool, stored, all;
	struct totals begin, end;
};

/* The n-th number of a file (0 the first); 0 if it cannot be read. */
static uint64_t number_in(const char *path, int n)
{
	char buf[512], *at = buf;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	buf[len > 0 ? len : 0] = 0;
	for (; n > 0; n--)
		strtoull(at, &at, 10);
	return strtoull(at, NULL, 10);
}

static void add(struct series *s, double v)
{
	s->sum += v;
	if (v > s->max)
		s->max = v;
}

static void sample(struct watch *w)
{
	char statm[64];
	double charged = 0, pool = 0;

	snprintf(statm, sizeof(statm), "/proc/%d/statm", (int)w->pid);
	if (w->o->usage)
		charged = (double)number_in(w->o->usage, 0);
	if (w->o->pool) {
		pool = (double)number_in(w->o->pool, 2);
		add(&w->stored, (double)number_in(w->o->pool, 0));
	}
	add(&w->charged, charged);
	add(&w->rss, (double)number_in(statm, 1) * PAGE);
	add(&w->pool, pool);
	add(&w->all, charged + pool);
	w->nr++;
}

/* ---- totals ---- */

/* Fields of /proc/PID/stat behind the name: number 3 is field[0]. */
static bool stat_fields(const char *pid, uint64_t *field, int nr)
{
	char path[64], buf[1024], *at;
	FILE *f;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	len = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[len] = 0;
	at = strrchr(buf, ')');
	if (!at || strlen(at) < 4)
		return false;
	at += 3;
	field[0] = 0;
	for (int i = 1; i < nr; i++)
		field[i] = strtoull(at, &at, 10);
	return true;
}

/* What all kernel threads have run: kswapd, writeback, the block layer's workers. */
static double kthread_seconds(void)
{
	DIR *proc = opendir("/proc");
	const struct dirent *d;
	uint64_t ticks = 0, f[13];

	while (proc && (d = readdir(proc)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && stat_fields(d->d_name, f, 13) && (f[6] & KTHREAD))
			ticks += f[11] + f[12];
	if (proc)
		closedir(proc);
	return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* All processors: user, nice, system, irq, softirq; not idle, not iowait, not stolen. */
static double busy_seconds(void)
{
	unsigned long long v[7] = { 0 };
	FILE *f = fopen("/proc/stat", "re");
	int got = f ? fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
			     &v[6])
		    : 0;

	if (f)
		fclose(f);
	return got == 7 ? (double)(v[0] + v[1] + v[2] + v[5] + v[6]) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static void take_totals(const struct watch *w, struct totals *t)
{
	struct timespec ts = { 0 };
	char pid[24];
	clockid_t clock;
	uint64_t f[13] = { 0 };

	snprintf(pid, sizeof(pid), "%d", (int)w->pid);
	if (!clock_getcpuclockid(w->pid, &clock))
		clock_gettime(clock, &ts);
	stat_fields(pid, f, 13);
	t->cpu_s = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
	t->minflt = f[7];
	t->majflt = f[9];
	t->kthread_s = kthread_seconds();
	t->busy_s = busy_seconds();
	t->ns = now_ns();
}

static void turn(struct watch *w, char what)
{
	if (what == 'b') {
		take_totals(w, &w->begin);
		w->measuring = true;
		sample(w);
	} else if (what == 'e' && w->measuring) {
		sample(w);
		take_totals(w, &w->end);
		w->measuring = false;
	}
}

/* ---- the command ---- */

static bool join(const char *procs)
{
	char pid[24];
	int len = snprintf(pid, sizeof(pid), "%d", (int)getpid()), fd = open(procs, O_WRONLY | O_CLOEXEC);
	bool joined = fd >= 0 && write(fd, pid, (size_t)len) == len;

	if (fd >= 0)
		close(fd);
	return joined;
}

static void become(const struct options *o)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (o->procs && !join(o->procs))
		fprintf(stderr, "tier: cannot join %s: %s\n", o->procs, strerror(errno));
	else if (execvp(o->rest[0], o->rest) < 0)
		fprintf(stderr, "tier: cannot run %s: %s\n", o->rest[0], strerror(errno));
	_exit(127);
}

static void follow(struct watch *w)
{
	struct pollfd fds[2] = { { .fd = w->tell, .events = POLLIN }, { .events = POLLIN } };
	uint64_t due = now_ns(), end = due + (uint64_t)(w->o->timeout * 1e9);
	char what;

	fds[1].fd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	for (;;) {
		uint64_t now = now_ns();

		if (now < due)
			poll(fds, 2, (int)((due - now) / 1000000) + 1);
		while (w->tell >= 0 && read(w->tell, &what, 1) == 1)
			turn(w, what);
		if (fds[1].revents & POLLIN)
			break;
		if (now_ns() < due)
			continue;
		if (due > end && !w->late) {
			w->late = true;
			kill(w->pid, SIGKILL);
		}
		due = now_ns() + SAMPLE_MS * 1000000ULL;
		if (w->measuring)
			sample(w);
	}
	close(fds[1].fd);
}

static void report(const struct watch *w)
{
	double nr = w->nr ? (double)w->nr : 1;

	printf("wall_s=%.3f cpu_s=%.3f kthread_s=%.2f busy_s=%.2f majflt=%lu minflt=%lu",
	       (double)(w->end.ns - w->begin.ns) / 1e9, w->end.cpu_s - w->begin.cpu_s,
	       w->end.kthread_s - w->begin.kthread_s, w->end.busy_s - w->begin.busy_s,
	       (unsigned long)(w->end.majflt - w->begin.majflt), (unsigned long)(w->end.minflt - w->begin.minflt));
	printf(" samples=%lu mem_mean=%.0f mem_max=%.0f charged_mean=%.0f charged_max=%.0f rss_mean=%.0f rss_max=%.0f",
	       (unsigned long)w->nr, w->all.sum / nr, w->all.max, w->charged.sum / nr, w->charged.max, w->rss.sum / nr,
	       w->rss.max);
	printf(" pool_mean=%.0f pool_max=%.0f stored_mean=%.0f\n", w->pool.sum / nr, w->pool.max, w->stored.sum / nr);
}

/* Exits as the command does; 124 if it was ended because it took too long, 128 + N if signal N ended it; 1 if it was to tell when it measures, and did not. */
int run_watch(const struct options *o)
{
	struct watch w = { .o = o, .tell = -1 };
	int status;

	if (!o->rest[0]) {
		fprintf(stderr, "tier: watch: no command\n");
		return 1;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (o->tell && mkfifo(o->tell, 0600) && errno != EEXIST)
		fprintf(stderr, "tier: cannot make %s: %s\n", o->tell, strerror(errno));
	if (o->tell)
		w.tell = open(o->tell, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	w.pid = fork();
	if (!w.pid)
		become(o);
	follow(&w);
	if (waitpid(w.pid, &status, 0) != w.pid)
		return 1;
	if (w.late) {
		fprintf(stderr, "tier: not done in %g s\n", o->timeout);
		return 124;
	}
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "tier: %s ended by signal %d\n", o->rest[0], WTERMSIG(status));
		return 128 + WTERMSIG(status);
	}
	if (WEXITSTATUS(status))
		return WEXITSTATUS(status);
	if (!o->tell)
		return 0;
	if (!w.end.ns) {
		fprintf(stderr, "tier: %s ended before its measuring did\n", o->rest[0]);
		return 1;
	}
	report(&w);
	return 0;
}

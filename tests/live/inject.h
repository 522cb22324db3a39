/* SPDX-License-Identifier: MIT */
/*
 * Failed system calls, on order. A filter of seccomp in the program reports the calls of one kind; a thread here
 * counts those that the engine makes (they come from libgodwit.so, in the program itself, not in the command that
 * became it) and answers some of them with an errno. All others go on as if nobody had looked.
 */
#ifndef GODWIT_TESTS_INJECT_H
#define GODWIT_TESTS_INJECT_H

#include "program.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define FOR_EVER 1000000000U
#define ANY_COMMAND 0U

/* Which calls: of a number, and for ioctl() of a command. */
struct call {
	int nr;
	unsigned int command;
};

/* The first'th call (from 1) and those after it, `count` of them, fail with err. */
struct shots {
	struct call call;
	int err;
	unsigned int first, count;
};

#define RULES_MAX 2

struct injector {
	struct shots shots[RULES_MAX];
	int nr;
	atomic_uint seen[RULES_MAX], hit[RULES_MAX];
	int listener;
	pthread_t thread;
	/* shared with the child until it has become the program */
	struct {
		atomic_int listener, taken;
	} *handover;
};

static inline void injector_init(struct injector *in, const struct shots *shots, int nr)
{
	memset(in, 0, sizeof(*in));
	memcpy(in->shots, shots, (size_t)nr * sizeof(*shots));
	in->nr = nr;
	in->handover = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	in->handover->listener = -1;
}

/* Each rule: load the number, compare, load the ioctl's command, compare, report. */
static inline int filter_make(const struct injector *in, struct sock_filter *f)
{
	int n = 0;

	for (int i = 0; i < in->nr; i++) {
		const struct call *c = &in->shots[i].call;

		f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)c->nr, 0,
						       c->command == ANY_COMMAND ? 1 : 3);
		if (c->command != ANY_COMMAND) {
			f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							       offsetof(struct seccomp_data, args[1]));
			f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, c->command, 0, 1);
		}
		f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return n;
}

/* In the child: from here on no call of the kind may be made until the listener has been taken. */
static void injector_enter(void *arg)
{
	struct injector *in = arg;
	struct sock_filter filter[RULES_MAX * 5 + 1];
	struct sock_fprog prog = { .len = (unsigned short)filter_make(in, filter), .filter = filter };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	in->handover->listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
					      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
					      &prog);
	while (!in->handover->taken)
		sched_yield();
}

/* ---- whose call is it ---- */

static inline bool in_program(pid_t tid)
{
	char name[64], exe[PATH_MAX];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/exe", tid);
	n = readlink(name, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	return !strcmp(exe, program_path);
}

static inline bool from_engine(pid_t tid, unsigned long at)
{
	char name[64], line[512];
	bool found = false;
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%d/maps", tid);
	maps = fopen(name, "re");
	while (maps && !found && fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		found = strstr(line, "/libgodwit.so") && sscanf(line, "%lx-%lx", &start, &end) == 2 && at >= start &&
			at < end;
	}
	if (maps)
		fclose(maps);
	return found;
}

static inline bool is_call(const struct call *c, const struct seccomp_data *d)
{
	return c->nr == d->nr && (c->command == ANY_COMMAND || c->command == (unsigned int)d->args[1]);
}

/* The errno to answer with, or 0. */
static inline int verdict(struct injector *in, const struct seccomp_notif *n)
{
	for (int i = 0; i < in->nr; i++) {
		const struct shots *s = &in->shots[i];
		unsigned int nr;

		if (!is_call(&s->call, &n->data))
			continue;
		if (!in_program((pid_t)n->pid) || !from_engine((pid_t)n->pid, n->data.instruction_pointer))
			return 0;
		nr = ++in->seen[i];
		if (nr < s->first || nr - s->first >= s->count)
			return 0;
		in->hit[i]++;
		return s->err;
	}
	return 0;
}

static inline void *injector_run(void *arg)
{
	struct injector *in = arg;
	struct pollfd pfd = { .fd = in->listener, .events = POLLIN };

	for (;;) {
		struct seccomp_notif n = { 0 };
		struct seccomp_notif_resp r = { 0 };

		if (poll(&pfd, 1, -1) < 0)
			continue;
		if (pfd.revents & (POLLHUP | POLLERR))
			break; /* nobody has the filter any more */
		if (ioctl(in->listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
			continue;
		r.id = n.id;
		r.error = -verdict(in, &n);
		r.flags = r.error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(in->listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
	return NULL;
}

/* False: this kernel has no such filter, or the child has died. */
static inline bool injector_start(struct injector *in, pid_t child)
{
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	double until = seconds() + HANG_MS / 1e3;

	while (in->handover->listener == -1 && seconds() < until)
		usleep(200);
	in->listener = (int)syscall(SYS_pidfd_getfd, pidfd, in->handover->listener, 0);
	close(pidfd);
	in->handover->taken = 1;
	return in->listener >= 0 && !pthread_create(&in->thread, NULL, injector_run, in);
}

/* When all that had the filter has ended. */
static inline void injector_end(struct injector *in)
{
	pthread_join(in->thread, NULL);
	close(in->listener);
	munmap(in->handover, 4096);
}

#endif

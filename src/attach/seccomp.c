/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * A filter may do worse to a forbidden call than refuse it: kill the process. So the filters are read out and asked
 * about each call that the engine makes, before it makes any.
 */
#include "attach/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#ifndef SYS_userfaultfd
#define SYS_userfaultfd 323
#endif

#define THREAD_OWN_FILES (CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

#define NEED(call, ...)                                                                  \
	{                                                                                \
		.name = #call, .nr = SYS_##call, .needed = true, .args = { __VA_ARGS__ } \
	}
#define MAY(call, ...)                                                                    \
	{                                                                                 \
		.name = #call, .nr = SYS_##call, .needed = false, .args = { __VA_ARGS__ } \
	}
#define OF_FAULTS(nr) _IOC(_IOC_READ | _IOC_WRITE, 0xAA, nr, 0)
#define OF_PAGES(nr) _IOC(_IOC_READ | _IOC_WRITE, 'f', nr, 0)

/*
 * What the engine cannot do without, and what it can be refused but must not be killed for, with the arguments that
 * filters look at. tests/check/seccomp.sh holds it against the engine's rooms.
 */
static const struct need {
	const char *name;
	long nr;
	bool needed;
	uint64_t args[6];
} needs[] = {
	NEED(mmap, 0, 1 << 20, RW, PRIVATE),
	NEED(mprotect, 1 << 20, 4096, PROT_READ | PROT_EXEC),
	NEED(munmap),
	NEED(madvise),
	NEED(clone, THREAD_OWN_FILES),
	NEED(exit),
	NEED(prctl, PR_SET_NAME),
	NEED(rt_sigprocmask),
	NEED(rt_sigreturn),
	NEED(futex),
	NEED(tgkill),
	NEED(getpid),
	NEED(gettid),
	NEED(geteuid),
	NEED(nanosleep),
	NEED(clock_gettime),
	NEED(userfaultfd),
	NEED(ioctl, 0, OF_FAULTS(0x05)),
	NEED(ioctl, 0, OF_PAGES(16)),
	NEED(ioctl, 0, OF_PAGES(17)),
	NEED(process_vm_readv),
	NEED(openat),
	NEED(read),
	NEED(pread64),
	NEED(close),
	NEED(close_range),
	NEED(getdents64),
	NEED(lstat),
	NEED(mkdir),
	NEED(unlink),
	NEED(chmod),
	NEED(fchmod),
	NEED(readlinkat),
	NEED(socket, AF_UNIX, SOCK_STREAM),
	NEED(bind),
	NEED(listen),
	NEED(accept4),
	NEED(sendto),
	NEED(recvfrom),
	NEED(getsockopt),
	NEED(setsockopt),
	NEED(epoll_create1),
	NEED(epoll_ctl),
	NEED(epoll_pwait),
	NEED(signalfd4),
	NEED(get_robust_list),
	NEED(mremap),
	NEED(poll),
	NEED(write),
	MAY(socketpair, AF_UNIX, SOCK_STREAM),
	MAY(recvmsg),
	MAY(sched_setscheduler),
	MAY(sched_getaffinity),
	MAY(get_mempolicy),
	MAY(set_mempolicy),
	MAY(set_mempolicy_home_node),
	MAY(mbind),
	MAY(move_pages),
	MAY(migrate_pages),
	MAY(mincore),
	MAY(brk),
	MAY(mlock2),
	MAY(munlock),
	MAY(process_vm_writev),
	MAY(pidfd_open),
	MAY(pidfd_getfd),
	MAY(perf_event_open),
	MAY(getcpu),
	MAY(getresuid),
	MAY(getresgid),
	MAY(setresuid),
	MAY(setresgid),
	MAY(capget),
	MAY(sysinfo),
	MAY(access),
	MAY(faccessat),
	MAY(unlinkat),
	MAY(mkdirat),
	MAY(symlinkat),
	MAY(renameat),
	MAY(flock),
	MAY(open),
	MAY(connect),
	MAY(fcntl),
	MAY(fstat),
	MAY(kill),
	MAY(getppid),
	MAY(setpriority),
	MAY(fallocate),
	MAY(fstatfs),
	MAY(io_uring_enter),
	MAY(io_uring_setup),
	MAY(lseek),
	MAY(pwrite64),
};

/* ---- classic BPF, as seccomp allows it ---- */

struct machine {
	uint32_t a, x, mem[BPF_MEMWORDS];
	struct seccomp_data data;
};

static uint32_t operand(const struct machine *m, const struct sock_filter *f)
{
	return BPF_SRC(f->code) == BPF_X ? m->x : f->k;
}

static void compute(struct machine *m, const struct sock_filter *f)
{
	uint32_t k = operand(m, f);

	switch (BPF_OP(f->code)) {
	case BPF_ADD:
		m->a += k;
		break;
	case BPF_SUB:
		m->a -= k;
		break;
	case BPF_MUL:
		m->a *= k;
		break;
	case BPF_DIV:
		m->a = k ? m->a / k : 0;
		break;
	case BPF_AND:
		m->a &= k;
		break;
	case BPF_OR:
		m->a |= k;
		break;
	case BPF_XOR:
		m->a ^= k;
		break;
	case BPF_LSH:
		m->a = k < 32 ? m->a << k : 0;
		break;
	case BPF_RSH:
		m->a = k < 32 ? m->a >> k : 0;
		break;
	case BPF_NEG:
		m->a = -m->a;
		break;
	default:
		break;
	}
}

static uint32_t load(const struct machine *m, const struct sock_filter *f)
{
	uint32_t word = 0;

	switch (BPF_MODE(f->code)) {
	case BPF_ABS:
		if (f->k <= sizeof(m->data) - sizeof(word))
			memcpy(&word, (const char *)&m->data + f->k, sizeof(word));
		return word;
	case BPF_MEM:
		return m->mem[f->k % BPF_MEMWORDS];
	case BPF_LEN:
		return sizeof(m->data);
	default:
		return f->k;
	}
}

static bool jumps(const struct machine *m, const struct sock_filter *f)
{
	uint32_t k = operand(m, f);

	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		return m->a == k;
	case BPF_JGT:
		return m->a > k;
	case BPF_JGE:
		return m->a >= k;
	default:
		return m->a & k; /* BPF_JSET */
	}
}

uint32_t seccomp_run(const struct sock_filter *filter, unsigned nr_insns, long nr, const uint64_t args[6])
{
	struct machine m = { .data = { .nr = (int)nr, .arch = AUDIT_ARCH_X86_64 } };

	memcpy(m.data.args, args, sizeof(m.data.args));
	for (unsigned at = 0; at < nr_insns; at++) {
		const struct sock_filter *f = &filter[at];

		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
			m.a = load(&m, f);
			break;
		case BPF_LDX:
			m.x = load(&m, f);
			break;
		case BPF_ST:
			m.mem[f->k % BPF_MEMWORDS] = m.a;
			break;
		case BPF_STX:
			m.mem[f->k % BPF_MEMWORDS] = m.x;
			break;
		case BPF_ALU:
			compute(&m, f);
			break;
		case BPF_JMP:
			at += BPF_OP(f->code) == BPF_JA ? f->k : jumps(&m, f) ? f->jt : f->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(f->code) == BPF_A ? m.a : f->k;
		default:
			if (BPF_MISCOP(f->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
		}
	}
	return SECCOMP_RET_KILL_PROCESS; /* the kernel does not take such a filter */
}

/* ---- a process's filters ---- */

static int filter_examine(const struct sock_filter *filter, unsigned nr_insns, const char **call)
{
	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		uint32_t action = seccomp_run(filter, nr_insns, needs[i].nr, needs[i].args) & SECCOMP_RET_ACTION_FULL;

		if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG &&
		    (needs[i].needed || action != SECCOMP_RET_ERRNO)) {
			*call = needs[i].name;
			return -ENOTSUP;
		}
	}
	return 0;
}

/* Of the thread itself: each has its own. */
static long mode_of(const struct tracee *t)
{
	char name[64], *status;
	long mode;

	snprintf(name, sizeof(name), "task/%d/status", t->tid);
	status = process_file(t->pid, name, NULL);
	mode = status ? process_status(status, "Seccomp", SECCOMP_MODE_DISABLED) : SECCOMP_MODE_FILTER;
	free(status);
	return mode;
}

int seccomp_examine(const struct tracee *t, const char **call)
{
	struct sock_filter *filter;
	long mode = mode_of(t), nr = 0;
	int err = 0;

	if (mode == SECCOMP_MODE_DISABLED)
		return 0;
	*call = needs[0].name;
	if (mode == SECCOMP_MODE_STRICT)
		return -ENOTSUP;
	filter = calloc(BPF_MAXINSNS, sizeof(*filter));
	if (!filter)
		return -ENOMEM;
	/* each has its say, and the strictest counts */
	for (unsigned long nth = 0; !err && nr >= 0; nth++) {
		nr = ptrace(PTRACE_SECCOMP_GET_FILTER, t->tid, (void *)nth, filter);
		if (nr >= 0)
			err = filter_examine(filter, (unsigned)nr, call);
		else if (errno != ENOENT || !nth)
			err = -EPERM;
	}
	free(filter);
	return err;
}

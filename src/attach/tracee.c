/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * A stopped thread that makes system calls for us.
 *
 * Where it was stopped in a system call, that is begun again or ended by the kernel exactly as for a debugger: the
 * registers that say so are put back while the thread is about to look for signals (settle()), not on its way out of
 * one of our calls.
 *
 * A tracer's death lets its thread run on with the registers that it has. So ours are always such that the thread
 * puts everything right by itself: below the red zone of its stack lies what the kernel leaves there for a signal
 * handler, with the thread's true state in it; our calls are made at a "syscall; ret" with the stack pointer at
 * the address of the function that returns from a handler.
 *
 *   sp ->  address of sigreturn's code     the "ret" goes there
 *          struct frame                    which is what it restores
 *          fpu state                       64-byte aligned
 *          (red zone, 128 bytes)
 *   the thread's own stack pointer
 */
#include "attach/tracee.h"

#include "base/base.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define RED_ZONE 128
#define XSTATE_MOST 16384U
#define XSTATE_ALIGN 64
#define NO_CALL (~0ULL) /* in orig_rax: not in a system call */

/* ---- instructions ---- */

static const uint8_t call_code[] = { 0x0f, 0x05, 0xc3 };
static const uint8_t sigreturn_code[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };

static void gadgets_in(const uint8_t *text, const struct map *m, struct gadgets *g)
{
	size_t len = m->end - m->start;
	const uint8_t *at;

	at = g->call ? NULL : memmem(text, len, call_code, sizeof(call_code));
	if (at)
		g->call = m->start + (uint64_t)(at - text);
	at = g->sigreturn ? NULL : memmem(text, len, sigreturn_code, sizeof(sigreturn_code));
	if (at)
		g->sigreturn = m->start + (uint64_t)(at - text);
}

/* Which stays as long as the program does. */
static bool is_libc(const char *name)
{
	return strstr(name, "/libc.so") || strstr(name, "/libc-2.") || strstr(name, "/ld-musl");
}

int gadgets_find(const struct maps *maps, int pid, struct gadgets *g)
{
	*g = (struct gadgets){ 0 };
	for (int libc = 1; libc >= 0; libc--)
		for (size_t i = 0; i < maps->nr && !(g->call && g->sigreturn); i++) {
			const struct map *m = &maps->map[i];
			uint8_t *text;

			if (!m->executable || !m->readable || !m->file || is_libc(m->name) != libc)
				continue;
			text = malloc(m->end - m->start);
			if (!text)
				return -ENOMEM;
			if (!process_read(pid, m->start, text, m->end - m->start))
				gadgets_in(text, m, g);
			free(text);
		}
	return g->call && g->sigreturn ? 0 : -ENOENT;
}

/* ---- stops ---- */

static bool is_trap_stop(int status)
{
	return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

/* Wait for a stop. -ETIMEDOUT, -ESRCH. */
static int wait_stop(struct tracee *t, int *status, uint64_t until)
{
	for (unsigned pause_us = 10;; pause_us = pause_us < 1000 ? pause_us + 10 : pause_us) {
		pid_t got = waitpid(t->tid, status, __WALL | WNOHANG);

		if (got == t->tid) {
			t->dead = WIFEXITED(*status) || WIFSIGNALED(*status);
			return t->dead ? -ESRCH : 0;
		}
		if (got < 0 && errno != EINTR) {
			t->dead = true;
			return -ESRCH;
		}
		if (clock_ns() > until)
			return -ETIMEDOUT;
		usleep(pause_us);
	}
}

/*
 * Come to the place where the thread looks for signals, and stop there. Signals on the way are the thread's: their
 * handlers are set up and begin when we have gone.
 */
static int settle(struct tracee *t, uint64_t until)
{
	int status, err;

	for (;;) {
		err = wait_stop(t, &status, until);
		if (err)
			return err;
		if (is_trap_stop(status))
			return 0;
		if (ptrace(PTRACE_CONT, t->tid, NULL, (void *)(long)WSTOPSIG(status)) != 0)
			return -errno;
	}
}

/* ---- what lets the thread go on without us ---- */

/* As the kernel lays them out for a handler of a 64-bit program. */
struct context {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct frame {
	uint64_t restorer;
	uint64_t uc_flags, uc_link;
	struct {
		uint64_t sp;
		int32_t flags, pad;
		uint64_t size;
	} altstack;
	struct context context;
	uint64_t mask;
	uint8_t info[128];
};

#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4
#define ALTSTACK_LEAVE 0x7f /* no flags that there are: the thread's stays as it is */

#define FP_MAGIC1 0x46505853U
#define FP_MAGIC2 0x46505845U
#define FP_SOFTWARE 464

struct fp_software {
	uint32_t magic1, extended_size;
	uint64_t features;
	uint32_t size, padding[7];
};

#define FP_HEADER 512
#define FP_LEAST (FP_HEADER + 64U)

/* What follows the last component in use is not the thread's: the kernel takes no more than the thread has. */
static uint32_t xstate_used(const uint8_t *buf, uint32_t len)
{
	uint32_t used = FP_LEAST, size, offset, ignored[2];
	uint64_t components;

	memcpy(&components, buf + FP_HEADER, sizeof(components));
	for (unsigned i = 2; i < 63; i++)
		if (components >> i & 1 && __get_cpuid_count(0xd, i, &size, &offset, &ignored[0], &ignored[1]))
			used = offset + size > used ? offset + size : used;
	return used < len ? used : len;
}

static int xstate_read(int tid, uint8_t *buf, uint32_t *len)
{
	struct iovec iov = { buf, XSTATE_MOST };
	struct fp_software sw = { .magic1 = FP_MAGIC1 };
	const uint32_t magic2 = FP_MAGIC2;

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &iov) != 0)
		return -errno;
	*len = xstate_used(buf, (uint32_t)iov.iov_len);
	memcpy(&sw.features, buf + FP_SOFTWARE, sizeof(sw.features)); /* the kernel puts them there */
	sw.size = *len;
	sw.extended_size = *len + (uint32_t)sizeof(magic2);
	memcpy(buf + FP_SOFTWARE, &sw, sizeof(sw));
	memcpy(buf + *len, &magic2, sizeof(magic2));
	*len += (uint32_t)sizeof(magic2);
	return 0;
}

static struct context context_of(const struct user_regs_struct *r)
{
	struct context c = { .r8 = r->r8,
			     .r9 = r->r9,
			     .r10 = r->r10,
			     .r11 = r->r11,
			     .r12 = r->r12,
			     .r13 = r->r13,
			     .r14 = r->r14,
			     .r15 = r->r15,
			     .di = r->rdi,
			     .si = r->rsi,
			     .bp = r->rbp,
			     .bx = r->rbx,
			     .dx = r->rdx,
			     .ax = r->rax,
			     .cx = r->rcx,
			     .sp = r->rsp,
			     .ip = r->rip,
			     .flags = r->eflags,
			     .cs = (uint16_t)r->cs,
			     .ss = (uint16_t)r->ss };

	/* what the kernel does for a system call that a signal without a handler has interrupted */
	if (r->orig_rax == NO_CALL)
		return c;
	if (r->rax == -512ULL || r->rax == -513ULL || r->rax == -514ULL) {
		c.ax = r->orig_rax;
		c.ip -= 2;
	} else if (r->rax == -516ULL) {
		c.ax = (uint64_t)-EINTR;
	}
	return c;
}

/* Below the stack pointer; -ENOSPC: there is no room. */
static int frame_write(struct tracee *t, const struct maps *maps)
{
	uint8_t xstate[XSTATE_MOST + 64];
	struct frame f = { .restorer = t->gadgets.sigreturn,
			   .uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
			   .altstack.flags = ALTSTACK_LEAVE,
			   .context = context_of(&t->regs),
			   .mask = t->mask };
	const struct map *stack = maps_at(maps, t->regs.rsp);
	uint64_t fp, sp;
	uint32_t len = 0;
	int err = xstate_read(t->tid, xstate, &len);

	if (err)
		return err;
	fp = (t->regs.rsp - RED_ZONE - len) & ~(uint64_t)(XSTATE_ALIGN - 1);
	sp = ((fp - sizeof(f)) & ~15ULL) - 8;
	f.context.fpstate = fp;
	if (!stack || !stack->writable || sp < stack->start + 4096)
		return -ENOSPC;
	err = process_write(t->pid, fp, xstate, len);
	if (!err)
		err = process_write(t->pid, sp, &f, sizeof(f));
	t->sp = sp;
	return err;
}

/* ---- stop ---- */

#define ALL_SIGNALS (~0ULL)

/* The instructions are still where they were: it is the same program, and libc is there. */
static bool same_program(const struct tracee *t)
{
	uint8_t call[sizeof(call_code)], back[sizeof(sigreturn_code)];

	return !memory_read(t->mem, t->gadgets.call, call, sizeof(call)) &&
	       !memory_read(t->mem, t->gadgets.sigreturn, back, sizeof(back)) &&
	       memcmp(call, call_code, sizeof(call)) == 0 && memcmp(back, sigreturn_code, sizeof(back)) == 0;
}

/*
 * Only below an ordinary stack there is room that nobody uses: the first thread's, or one that has the thread's control
 * block at its end. Coroutines have small ones, side by side.
 */
static bool has_room(const struct tracee *t, const struct maps *maps)
{
	const struct map *stack = maps_at(maps, t->regs.rsp);

	return stack && stack->writable &&
	       (strcmp(stack->name, "[stack]") == 0 || (t->regs.fs_base > t->regs.rsp && t->regs.fs_base < stack->end));
}

#define CODE_64 0x33
#define GET_RSEQ 0x420f	    /* PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13 */
#define GET_DISPATCH 0x4210 /* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4 */

/* Such a thread's system calls go to a handler of its own. */
static bool dispatches(const struct tracee *t)
{
	struct {
		uint64_t mode, offset, len, selector;
	} config = { 0 };

	return ptrace(GET_DISPATCH, t->tid, (void *)sizeof(config), &config) == 0 && config.mode;
}

struct rseq_config {
	uint64_t area;
	uint32_t size, signature, flags, pad;
};

struct rseq_section {
	uint32_t version, flags;
	uint64_t start, len, abort;
};

/*
 * A restartable sequence that is interrupted is to begin anew; our calls end it without that. So the thread goes on
 * where the kernel would have sent it.
 */
static int leave_sequence(struct tracee *t)
{
	struct rseq_config config;
	struct rseq_section section;
	uint64_t at = 0;
	int err;

	if (ptrace(GET_RSEQ, t->tid, (void *)sizeof(config), &config) <= 0 || !config.area)
		return 0;
	err = process_read(t->pid, config.area + 8, &at, sizeof(at));
	if (err || !at)
		return err;
	err = process_read(t->pid, at, &section, sizeof(section));
	if (!err && t->regs.rip - section.start < section.len)
		t->regs.rip = section.abort;
	return err;
}

/* -EINVAL: another thread may do. */
static int fit_for_calls(struct tracee *t, const struct maps *maps)
{
	if (!same_program(t))
		return -ESTALE;
	if (t->regs.cs != CODE_64 || dispatches(t) || !has_room(t, maps) || leave_sequence(t))
		return -EINVAL;
	return 0;
}

/* From here on the thread puts itself right when we are gone; only then are its signals held up. */
static int take_over(struct tracee *t)
{
	uint64_t all = ALL_SIGNALS;
	struct user_regs_struct r;
	struct maps maps;
	int err;

	if (ptrace(PTRACE_GETREGS, t->tid, NULL, &t->regs) != 0 ||
	    ptrace(PTRACE_GETSIGMASK, t->tid, (void *)sizeof(t->mask), &t->mask) != 0)
		return -errno;
	err = maps_load(&maps, t->pid);
	if (err)
		return err;
	err = fit_for_calls(t, &maps);
	if (!err)
		err = frame_write(t, &maps);
	maps_free(&maps);
	if (err)
		return err;
	r = t->regs;
	r.rip = t->gadgets.sigreturn;
	r.rsp = t->sp + sizeof(uint64_t);
	r.orig_rax = NO_CALL;
	if (ptrace(PTRACE_SETREGS, t->tid, NULL, &r) != 0 ||
	    ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(all), &all) != 0)
		return -errno; /* a dying thread */
	return 0;
}

static int try_thread(struct tracee *t, int tid, uint64_t until)
{
	int err;

	t->tid = tid;
	t->dead = false;
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD) != 0)
		return -errno;
	hurry_begin(t->hurry, tid);
	t->since = clock_ns();
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0)
		return -errno;
	err = settle(t, until);
	if (!err)
		err = take_over(t);
	if (err && err != -ETIMEDOUT && !t->dead)
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
	if (err)
		hurry_rest(t->hurry);
	return err;
}

#define THREADS_TRIED 64
#define PATIENCE_NS 2000000000ULL

struct candidates {
	int pid, nr;
	int tid[THREADS_TRIED];
};

/* What such a one begins would have its table of descriptors, and keep open what it closes. */
static bool is_engines(int pid, int tid)
{
	char path[64], *name;
	bool is;

	snprintf(path, sizeof(path), "task/%d/comm", tid);
	name = process_file(pid, path, NULL);
	is = name && (strcmp(name, "godwit\n") == 0 || strcmp(name, "godwit-job\n") == 0);
	free(name);
	return is;
}

/* A thread that waits, or runs; not one that is ending, stopped, or where signals cannot reach it. */
static int candidate(int tid, void *arg)
{
	struct candidates *c = arg;
	char state = process_thread_state(c->pid, tid);

	if ((state == 'S' || state == 'R') && c->nr < THREADS_TRIED && (tid == c->pid || !is_engines(c->pid, tid)))
		c->tid[c->nr++] = tid;
	return 0;
}

/* -ETIMEDOUT: one was asked to stop and has not; it is let go when this command ends, which must be soon. */
static int try_threads(struct tracee *t, uint64_t until)
{
	struct candidates c = { .pid = t->pid };
	int err = process_threads(t->pid, candidate, &c);

	if (err)
		return err == -ENOENT ? -ESRCH : err;
	err = -EBUSY;
	for (int i = 0; i < c.nr && err && err != -EPERM && err != -ETIMEDOUT && err != -ESTALE; i++)
		err = try_thread(t, c.tid[i], until);
	return err;
}

int tracee_stop(struct tracee *t, int pid, const struct gadgets *g, int mem, struct hurry *hurry)
{
	uint64_t until = clock_ns() + PATIENCE_NS;
	int err;

	*t = (struct tracee){ .pid = pid, .mem = mem, .gadgets = *g, .hurry = hurry };
	while ((err = try_threads(t, until)) && err != -EPERM && err != -ESTALE && clock_ns() < until)
		usleep(2000);
	if (!err)
		return 0;
	if (err == -ESRCH && process_thread_state(pid, pid))
		err = -EBUSY; /* threads end faster than they can be asked */
	return err == -EPERM || err == -ESTALE || err == -ESRCH ? err : -EBUSY;
}

/* ---- calls ---- */

#define CALL_STOP (SIGTRAP | 0x80)
#define CALL_PATIENCE_NS 10000000000ULL

/*
 * To the next begin or end of a system call. All signals but two are blocked: SIGSTOP is the process's, and holds when
 * we have gone. Another can only be our call's own fault.
 */
static int step(struct tracee *t)
{
	int status, sig = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, t->tid, NULL, (void *)(long)sig) != 0)
			return -errno;
		if (waitpid(t->tid, &status, __WALL) != t->tid || !WIFSTOPPED(status)) {
			t->dead = true;
			return -ESRCH;
		}
		if (WSTOPSIG(status) == CALL_STOP)
			return 0;
		if (!is_trap_stop(status) && WSTOPSIG(status) != SIGSTOP)
			return -EFAULT;
		sig = is_trap_stop(status) ? 0 : WSTOPSIG(status);
	}
}

long tracee_call(struct tracee *t, long nr, const long args[6])
{
	struct user_regs_struct r = t->regs;
	int err;

	r.rip = t->gadgets.call;
	r.rsp = t->sp;
	r.rax = (uint64_t)nr;
	r.orig_rax = NO_CALL;
	r.rdi = (uint64_t)args[0];
	r.rsi = (uint64_t)args[1];
	r.rdx = (uint64_t)args[2];
	r.r10 = (uint64_t)args[3];
	r.r8 = (uint64_t)args[4];
	r.r9 = (uint64_t)args[5];
	if (ptrace(PTRACE_SETREGS, t->tid, NULL, &r) != 0)
		return -errno;
	err = step(t);
	if (!err)
		err = step(t);
	if (!err && ptrace(PTRACE_GETREGS, t->tid, NULL, &r) != 0)
		err = -errno;
	return err ? err : (long)r.rax;
}

/* ---- release ---- */

uint64_t tracee_release(struct tracee *t)
{
	struct user_regs_struct r;
	int err;

	if (t->dead) {
		hurry_rest(t->hurry);
		return 0;
	}
	/* from the end of one of our calls to where signals are looked for: no instruction of the program in between */
	err = ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) || ptrace(PTRACE_CONT, t->tid, NULL, NULL);
	if (!err)
		err = settle(t, clock_ns() + CALL_PATIENCE_NS);
	if (!err)
		err = ptrace(PTRACE_GETREGS, t->tid, NULL, &r);
	if (!err) {
		ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(t->mask), &t->mask);
		ptrace(PTRACE_SETREGS, t->tid, NULL, &t->regs);
	}
	ptrace(PTRACE_DETACH, t->tid, NULL, NULL);
	t->since = clock_ns() - t->since;
	hurry_rest(t->hurry);
	return t->since;
}

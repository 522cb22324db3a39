/* SPDX-License-Identifier: MIT */
/*
 * Threads that libc does not know. libc's count of threads, its single-threaded shortcuts and its
 * end-of-last-thread rule stay as the program has them; the thread gets a thread pointer of its own
 * (a zeroed block) so that nothing it calls reads another thread's state.
 */
#include "base/base.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#define TLS_BLOCK 4096UL	/* top of the stack area: room below and above the thread pointer */

/*
 * clone() whose child starts in fn(arg) on stack: the child returns from the system call on another
 * stack, so nothing of the caller's frame may be used there.
 */
long clone_raw(unsigned long flags, void *stack, uint32_t *ctid, void *tls, int (*fn)(void *), void *arg);
__asm__(".text\n"
	".type clone_raw, @function\n"
	".hidden clone_raw\n"
	".globl clone_raw\n"
	"clone_raw:\n"
	"	sub $16, %rsi\n"
	"	mov %r8, (%rsi)\n"	/* fn */
	"	mov %r9, 8(%rsi)\n"	/* arg */
	"	mov %rdx, %r10\n"	/* ctid */
	"	mov %rcx, %r8\n"	/* tls */
	"	mov $56, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	mov %eax, %edi\n"
	"	mov $60, %eax\n"
	"	syscall\n"
	"	hlt\n"
	".size clone_raw, .-clone_raw\n");

static int thread_main(void *arg)
{
	struct thread *t = arg;

	sys2(SYS_prctl, PR_SET_NAME, t->name);
	return t->fn(t->arg);
}

int thread_start(struct thread *t, bool own_files)
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
			      CLONE_CHILD_CLEARTID | (own_files ? 0 : CLONE_FILES);
	char *top = t->stack + THREAD_STACK - TLS_BLOCK;
	uint64_t *tp = (uint64_t *)(void *)(top + TLS_BLOCK / 2);
	uint64_t all = ~0ULL, old = 0;
	long tid;

	tp[0] = tp[2] = (uint64_t)tp;
	t->tid = ~0U;
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
	tid = clone_raw(flags, top, &t->tid, tp, thread_main, t);
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	if (tid < 0) {
		t->tid = 0;
		return (int)tid;
	}
	return 0;
}

void thread_join(struct thread *t)
{
	uint32_t tid;

	while ((tid = __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE)) != 0)
		/* the kernel's wake at exit is not a private one */
		sys4(SYS_futex, &t->tid, 0 /* FUTEX_WAIT */, tid, NULL);
}

int thread_cpu(uint32_t tid)
{
	char path[64] = "/proc/self/task/", buf[1024];
	const char *at;
	uint64_t cpu = 0;
	long fd, got;

	str_cat_u64(path, sizeof(path), tid);
	str_cat(path, sizeof(path), "/stat");
	fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	got = fd < 0 ? -1 : sys3(SYS_read, fd, buf, sizeof(buf) - 1);
	if (fd >= 0)
		sys1(SYS_close, fd);
	buf[got > 0 ? got : 0] = '\0';
	/* field 39; the name, field 2, may have blanks and ends with the last parenthesis */
	at = NULL;
	for (const char *c = buf; *c; c++)
		at = *c == ')' ? c : at;
	for (int field = 2; at && field < 39; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at && str_u64(&at, 10, &cpu) ? (int)cpu : 0;
}

#define FIFO_LOWEST 1

bool thread_hurry(bool on)
{
	int prio = on ? FIFO_LOWEST : 0;

	return sys3(SYS_sched_setscheduler, 0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER, &prio) >= 0;
}

uint64_t signals_block(void)
{
	uint64_t all = ~0ULL, old = 0;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	return old;
}

void signals_restore(uint64_t mask)
{
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
}

/* SPDX-License-Identifier: MIT */
/*
 * A program with system calls of its own: NUMA calls by an instruction in its own text, which no interposer sees.
 *
 *   inline_calls compare          each call once so and once by libc's syscall(): the answers are the same
 *   inline_calls nodes            the nodes that policies may name: a mask, or a negative errno
 *   inline_calls refused          all are refused as by a kernel without NUMA, and getcpu() works
 *   inline_calls threads N TIMES  N threads make each call so often
 *   inline_calls raw N TIMES      the same without libc: threads by clone(), output by write()
 *   inline_calls fork             parent and child have policies of their own
 *   inline_calls for-ever N       N threads, until it is killed
 *   inline_calls wait             there is no child, and no SIGCHLD pending
 *   inline_calls reaper CMD...    become CMD, which orphans below are given to
 *   inline_calls filter           a filter of its own is as it would be; a listener of its own is refused
 *   inline_calls lost             ask until the answer is that there is no NUMA
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MPOL_DEFAULT 0
#define MPOL_PREFERRED 1
#define MPOL_BIND 2
#define MPOL_F_NODE 1
#define MPOL_F_ADDR 2
#define MPOL_F_MEMS_ALLOWED 4
#define HOME_NODE 450
#define X32_BIT 0x40000000L
#define THREADS_MAX 64

static long own(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static long libcs(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = syscall(nr, a, b, c, d, e, f);

	return ret < 0 ? -errno : ret;
}

typedef long caller(long nr, long a, long b, long c, long d, long e, long f);

static char *page_map(void)
{
	char *page = (char *)own(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)page = 1;
	return page;
}

/* ---- the same answers ---- */

struct answers {
	long ret[24];
	int nr;
};

static void note(struct answers *a, long ret)
{
	a->ret[a->nr++] = ret;
}

/* A story with a known beginning, told by one who calls. */
static void ask_all(struct answers *a, caller *call)
{
	unsigned long mask = 2, got[16] = { 0 }, out = 1UL << 40;
	char *page = page_map();
	void *pages[2] = { page, (void *)8 };
	int mode = -1, status[2] = { -1, -1 }, to = 1;
	unsigned int cpu = 0;

	a->nr = 0;
	note(a, call(SYS_set_mempolicy, MPOL_PREFERRED, (long)&mask, 64, 0, 0, 0));
	note(a, call(SYS_get_mempolicy, (long)&mode, (long)got, 1024, 0, 0, 0));
	note(a, mode);
	note(a, (long)got[0]);
	note(a, call(SYS_set_mempolicy, MPOL_BIND, (long)&out, 64, 0, 0, 0));
	note(a, call(SYS_set_mempolicy, MPOL_BIND, 8, 64, 0, 0, 0));
	note(a, call(SYS_set_mempolicy, 99, 0, 0, 0, 0, 0));
	note(a, call(SYS_set_mempolicy, MPOL_DEFAULT, 0, 0, 0, 0, 0));
	note(a, call(SYS_get_mempolicy, 8, 0, 0, 0, 0, 0));
	note(a, call(SYS_get_mempolicy, 0, (long)got, 1024, 0, MPOL_F_MEMS_ALLOWED, 0));
	note(a, (long)got[0]);
	note(a, call(SYS_mbind, (long)page, 4096, MPOL_BIND, (long)&mask, 64, 0));
	note(a, call(SYS_get_mempolicy, (long)&mode, 0, 0, (long)page, MPOL_F_ADDR, 0));
	note(a, mode);
	note(a, call(HOME_NODE, (long)page, 4096, 1, 0, 0, 0));
	note(a, call(SYS_mbind, (long)page + 1, 4096, MPOL_BIND, (long)&mask, 64, 0));
	note(a, call(SYS_move_pages, 0, 2, (long)pages, 0, (long)status, 0));
	note(a, status[1]);
	note(a, call(SYS_move_pages, 0, 1, (long)pages, (long)&to, (long)status, 2));
	note(a, status[0]);
	note(a, call(SYS_migrate_pages, 0, 0, 0, 0, 0, 0));
	note(a, call(SYS_getcpu, (long)&cpu, 0, 0, 0, 0, 0));
	own(SYS_munmap, (long)page, 4096, 0, 0, 0, 0);
}

static int compare(void)
{
	struct answers a, b;
	bool same = true;

	ask_all(&a, own);
	ask_all(&b, libcs);
	for (int i = 0; i < a.nr; i++) {
		printf("%d: %ld %ld\n", i, a.ret[i], b.ret[i]);
		same &= a.ret[i] == b.ret[i] && a.ret[i] != -ENOSYS;
	}
	return !same || a.nr != b.nr || a.ret[0] != 0 || a.ret[2] != MPOL_PREFERRED;
}

static int nodes(void)
{
	unsigned long got[16] = { 0 };
	long ret = own(SYS_get_mempolicy, 0, (long)got, 1024, 0, MPOL_F_MEMS_ALLOWED, 0);

	if (ret)
		printf("%ld\n", ret);
	else
		printf("%lx\n", got[0]);
	return 0;
}

/* get_mempolicy() by the number of 32-bit programs; by a child, for a kernel without them kills it. */
static bool refused_as_32bit(void)
{
	long ret = 275;
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		__asm__ volatile("xor %%ebx, %%ebx\n\txor %%ecx, %%ecx\n\txor %%edx, %%edx\n\t"
				 "xor %%esi, %%esi\n\txor %%edi, %%edi\n\tint $0x80"
				 : "+a"(ret)
				 :
				 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
		_exit((int)ret != -ENOSYS);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && (status == 0 || WIFSIGNALED(status));
}

static int refused(void)
{
	struct answers a = { .nr = 0 };
	unsigned int cpu = ~0U, node = ~0U;

	note(&a, own(SYS_set_mempolicy, 0, 0, 0, 0, 0, 0));
	note(&a, own(SYS_get_mempolicy, 0, 0, 0, 0, 0, 0));
	note(&a, own(SYS_mbind, 0, 0, 0, 0, 0, 0));
	note(&a, own(HOME_NODE, 0, 0, 0, 0, 0, 0));
	note(&a, own(SYS_migrate_pages, 0, 0, 0, 0, 0, 0));
	note(&a, own(SYS_move_pages, 0, 0, 0, 0, 0, 0));
	note(&a, own(X32_BIT + 239, 0, 0, 0, 0, 0, 0));
	note(&a, refused_as_32bit() ? -ENOSYS : 0);
	for (int i = 0; i < a.nr; i++)
		if (a.ret[i] != -ENOSYS) {
			printf("%d: %ld\n", i, a.ret[i]);
			return 1;
		}
	return own(SYS_getcpu, (long)&cpu, (long)&node, 0, 0, 0, 0) != 0 || cpu == ~0U;
}

/* ---- many at once ---- */

/* A thread's own policy is its own: what was set is what is got. */
static bool asks_well(int self, int times)
{
	for (int i = 0; i < times; i++) {
		unsigned long mask = 1UL << (self & 1), got[16] = { 0 };
		int mode = -1;

		if (own(SYS_set_mempolicy, MPOL_PREFERRED, (long)&mask, 64, 0, 0, 0))
			return false;
		if (own(SYS_get_mempolicy, (long)&mode, (long)got, 1024, 0, 0, 0))
			return false;
		if (mode != MPOL_PREFERRED || got[0] != mask)
			return false;
	}
	return true;
}

static struct {
	atomic_int good, ended;
	int times;
} all;

static void *ask(void *arg)
{
	all.good += asks_well((int)(long)arg, all.times);
	all.ended++;
	return NULL;
}

static int threads(int nr, int times)
{
	pthread_t thread[THREADS_MAX];

	all.times = times;
	for (long i = 0; i < nr; i++)
		if (pthread_create(&thread[i], NULL, ask, (void *)i))
			return 2;
	for (int i = 0; i < nr; i++)
		pthread_join(thread[i], NULL);
	printf("%d of %d\n", all.good, nr);
	return all.good != nr;
}

/* clone(): the child has nothing on its stack but its function and its argument. */
long clone_here(unsigned long flags, void *stack);
__asm__(".text\n"
	"clone_here:\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	xor %r8d, %r8d\n"
	"	mov $56, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	xor %edi, %edi\n"
	"	mov $60, %eax\n"
	"	syscall\n"
	"	hlt\n");

static void say(const char *text)
{
	size_t len = 0;

	while (text[len])
		len++;
	own(SYS_write, 1, (long)text, (long)len, 0, 0, 0);
}

static int raw(int nr, int times)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	const long len = 64 << 10;

	all.times = times;
	for (long i = 0; i < nr; i++) {
		long stack = own(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		void **top = (void **)(stack + len - 32);

		top[0] = (void *)ask;
		top[1] = (void *)i;
		if (clone_here(flags, top) < 0)
			return 2;
	}
	while (all.ended < nr)
		own(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	say(all.good == nr ? "good\n" : "bad\n");
	own(SYS_exit_group, all.good != nr, 0, 0, 0, 0, 0);
	return 1;
}

static int in_family(void)
{
	int status = 1;
	pid_t pid;

	if (!asks_well(0, 10))
		return 1;
	pid = fork();
	if (!pid)
		_exit(!asks_well(1, 10));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return status || !asks_well(0, 10);
}

/* ---- what is as without godwit ---- */

static int no_child(void)
{
	sigset_t pending;

	sigpending(&pending);
	return wait(NULL) != -1 || errno != ECHILD || sigismember(&pending, SIGCHLD);
}

static int reaper(char **cmd)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	execvp(cmd[0], cmd);
	return 127;
}

static int filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ETIME),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog) != -1 ||
	    errno != EBUSY)
		return 1;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		return 1;
	return own(SYS_getppid, 0, 0, 0, 0, 0, 0) != -ETIME || !asks_well(0, 1);
}

static int lost(void)
{
	puts("asking");
	fflush(stdout);
	for (int i = 0; i < 100; i++) {
		if (own(SYS_set_mempolicy, MPOL_DEFAULT, 0, 0, 0, 0, 0) == -ENOSYS)
			return 0;
		usleep(100000);
	}
	return 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int nr = argc > 2 ? atoi(argv[2]) : 1, times = argc > 3 ? atoi(argv[3]) : 1;

	if (nr > THREADS_MAX)
		return 2;
	if (!strcmp(what, "compare"))
		return compare();
	if (!strcmp(what, "nodes"))
		return nodes();
	if (!strcmp(what, "refused"))
		return refused();
	if (!strcmp(what, "threads"))
		return threads(nr, times);
	if (!strcmp(what, "raw"))
		return raw(nr, times);
	if (!strcmp(what, "fork"))
		return in_family();
	if (!strcmp(what, "for-ever"))
		return threads(nr, 1 << 30);
	if (!strcmp(what, "wait"))
		return no_child();
	if (!strcmp(what, "reaper") && argc > 2)
		return reaper(argv + 2);
	if (!strcmp(what, "filter"))
		return filter();
	if (!strcmp(what, "lost"))
		return lost();
	return 2;
}

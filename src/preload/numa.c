/* SPDX-License-Identifier: MIT */
/*
 * Linux's NUMA interface as programs reach it: libc's syscall(), the functions that libnuma exports and itself calls
 * through the same door, getcpu(), and the calls that give a thread other CPUs.
 */
#include "preload/preload.h"

#include <godwit.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

/* As libnuma's numaif.h declares them. */
long set_mempolicy(int mode, const unsigned long *nodes, unsigned long max);
long get_mempolicy(int *mode, unsigned long *nodes, unsigned long max, void *addr, unsigned flags);
long mbind(void *addr, unsigned long len, int mode, const unsigned long *nodes, unsigned long max, unsigned flags);
int set_mempolicy_home_node(void *addr, unsigned long len, unsigned long home, unsigned long flags);
long move_pages(int pid, unsigned long count, void **pages, const int *nodes, int *status, int flags);
long migrate_pages(int pid, unsigned long max, const unsigned long *from, const unsigned long *to);

static bool is_numa(long nr)
{
	switch (nr) {
	case SYS_set_mempolicy:
	case SYS_get_mempolicy:
	case SYS_mbind:
	case SYS_set_mempolicy_home_node:
	case SYS_move_pages:
	case SYS_migrate_pages:
	case SYS_getcpu:
		return true;
	default:
		return false;
	}
}

/* ---- the policy of what this process becomes ---- */

#define SAVED "GODWIT_POLICY="

/* In place: the environment itself may be in use, and is not ours to change. */
void preload_save_policy(struct gw_engine *e)
{
	char *saved = getenv("GODWIT_POLICY"), text[GW_POLICY_SAVED + 1];

	if (!saved || strlen(saved) != GW_POLICY_SAVED)
		return;
	gw_policy_save(e, text);
	memcpy(saved, text, GW_POLICY_SAVED);
}

/* ---- calls ---- */

static long call(long nr, const long a[6])
{
	struct gw_engine *e = preload_engine();
	long ret;

	if (!e)
		return kernel_call(nr, a);
	ret = gw_numa_call(e, 0, nr, a);
	if (nr == SYS_set_mempolicy && !ret && gettid() == getpid())
		preload_save_policy(e);
	return ret;
}

VISIBLE long syscall(long nr, ...)
{
	va_list args;
	long a[6];

	va_start(args, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (is_numa(nr))
		return kernel_result(call(nr, a));
	switch (nr) {
	case SYS_mmap:
		return (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
	case SYS_munmap:
		return munmap((void *)a[0], (size_t)a[1]);
	case SYS_madvise:
		return madvise((void *)a[0], (size_t)a[1], (int)a[2]);
	case SYS_mremap:
		return (long)mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
	case SYS_sched_setaffinity:
		return sched_setaffinity((pid_t)a[0], (size_t)a[1], (const cpu_set_t *)a[2]);
	default:
		return kernel_result(kernel_call(nr, a));
	}
}

VISIBLE long set_mempolicy(int mode, const unsigned long *nodes, unsigned long max)
{
	return kernel_result(call(SYS_set_mempolicy, (long[6]){ mode, (long)nodes, (long)max }));
}

VISIBLE long get_mempolicy(int *mode, unsigned long *nodes, unsigned long max, void *addr, unsigned flags)
{
	return kernel_result(
		call(SYS_get_mempolicy, (long[6]){ (long)mode, (long)nodes, (long)max, (long)addr, flags }));
}

VISIBLE long mbind(void *addr, unsigned long len, int mode, const unsigned long *nodes, unsigned long max,
		   unsigned flags)
{
	return kernel_result(call(SYS_mbind, (long[6]){ (long)addr, (long)len, mode, (long)nodes, (long)max, flags }));
}

VISIBLE int set_mempolicy_home_node(void *addr, unsigned long len, unsigned long home, unsigned long flags)
{
	return (int)kernel_result(
		call(SYS_set_mempolicy_home_node, (long[6]){ (long)addr, (long)len, (long)home, (long)flags }));
}

VISIBLE long move_pages(int pid, unsigned long count, void **pages, const int *nodes, int *status, int flags)
{
	return kernel_result(call(SYS_move_pages,
			   (long[6]){ pid, (long)count, (long)pages, (long)nodes, (long)status, flags }));
}

VISIBLE long migrate_pages(int pid, unsigned long max, const unsigned long *from, const unsigned long *to)
{
	return kernel_result(call(SYS_migrate_pages, (long[6]){ pid, (long)max, (long)from, (long)to }));
}

VISIBLE int getcpu(unsigned *cpu, unsigned *node)
{
	struct gw_engine *e = preload_engine();
	int now = sched_getcpu(), its;

	if (!e || now < 0)
		return (int)kernel_result(call(SYS_getcpu, (long[6]){ (long)cpu, (long)node }));
	its = gw_node_of_cpu(e, now);
	if (cpu)
		*cpu = (unsigned)now;
	if (node)
		*node = its < 0 ? 0 : (unsigned)its;
	return 0;
}

/* ---- CPUs ---- */

VISIBLE int sched_setaffinity(pid_t pid, size_t len, const cpu_set_t *cpus)
{
	long ret = kernel_call(SYS_sched_setaffinity, (long[6]){ pid, (long)len, (long)cpus });
	struct gw_engine *e = ret ? NULL : preload_engine();

	if (e)
		gw_thread_moved(e, (uint32_t)pid);
	return (int)kernel_result(ret);
}

VISIBLE int pthread_setaffinity_np(pthread_t thread, size_t len, const cpu_set_t *cpus)
{
	static int (*next)(pthread_t, size_t, const cpu_set_t *) __attribute__((section("gw_data"))) = NULL;
	struct gw_engine *e;
	clockid_t clock;
	int err;

	if (!next)
		next = preload_next("pthread_setaffinity_np");
	err = next(thread, len, cpus);
	e = err ? NULL : preload_engine();
	if (e && !pthread_getcpuclockid(thread, &clock)) /* a thread's clock has its number in it: Linux's ABI */
		gw_thread_moved(e, (uint32_t)~(clock >> 3));
	return err;
}

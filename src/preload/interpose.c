/* SPDX-License-Identifier: MIT */
/* The functions that stand before libc's. */
#include "preload/preload.h"

#include <godwit.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <threads.h>
#include <unistd.h>

void *preload_next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* ---- threads ---- */

#define STARTS 256

/*
 * What a new thread is to run, from its maker until its first instruction. In data that is never managed. A
 * forked child inherits those of threads that it does not have: they are nobody's there.
 */
static struct start {
	pid_t maker; /* process; another than this, or 0: free */
	pid_t thread; /* the one that makes it */
	size_t stack;
	void *(*fn)(void *arg);
	int (*fn11)(void *arg);
	void *arg;
} starts[STARTS] __attribute__((section("gw_data"))) = { { .maker = 0 } };

static struct start *start_take(void)
{
	pid_t self = getpid();

	for (;;) {
		for (int i = 0; i < STARTS; i++) {
			pid_t maker = __atomic_load_n(&starts[i].maker, __ATOMIC_RELAXED);

			if (maker != self && __atomic_compare_exchange_n(&starts[i].maker, &maker, self, false,
									 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return &starts[i];
		}
		sched_yield();
	}
}

static void start_free(struct start *s)
{
	__atomic_store_n(&s->maker, 0, __ATOMIC_RELEASE);
}

static struct start begin(void *arg)
{
	struct start s = *(struct start *)arg;
	struct gw_engine *e = gw_self();

	start_free(arg);
	if (e) {
		gw_thread_exclude(e, s.stack);
		gw_thread_inherit(e, (uint32_t)s.thread);
	}
	return s;
}

static void leave(void *arg)
{
	struct gw_engine *e = gw_self();

	(void)arg;
	if (e)
		gw_thread_leave(e);
}

/* Runs leave() also when the thread ends by pthread_exit() or is cancelled. */
static void *begin_posix(void *arg)
{
	struct start s = begin(arg);
	void *ret;

	pthread_cleanup_push(leave, NULL);
	ret = s.fn(s.arg);
	pthread_cleanup_pop(1);
	return ret;
}

static int begin_c11(void *arg)
{
	struct start s = begin(arg);
	int ret;

	pthread_cleanup_push(leave, NULL);
	ret = s.fn11(s.arg);
	pthread_cleanup_pop(1);
	return ret;
}

static size_t stack_size(const pthread_attr_t *attr)
{
	pthread_attr_t own;
	size_t size = 0;

	if (attr) {
		pthread_attr_getstacksize(attr, &size);
	} else if (!pthread_getattr_default_np(&own)) {
		pthread_attr_getstacksize(&own, &size);
		pthread_attr_destroy(&own);
	}
	return size;
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
							  void *(*fn)(void *), void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
		__attribute__((section("gw_data"))) = NULL;
	struct start *s;
	int err;

	if (!next)
		next = preload_next("pthread_create");
	if (!gw_self())
		return next(thread, attr, fn, arg);
	s = start_take();
	s->thread = gettid();
	s->stack = stack_size(attr);
	s->fn = fn;
	s->arg = arg;
	err = next(thread, attr, begin_posix, s);
	if (err)
		start_free(s);
	return err;
}

__attribute__((visibility("default"))) int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	static int (*next)(thrd_t *, thrd_start_t, void *) __attribute__((section("gw_data"))) = NULL;
	struct start *s;
	int err;

	if (!next)
		next = preload_next("thrd_create");
	if (!gw_self())
		return next(thread, fn, arg);
	s = start_take();
	s->thread = gettid();
	s->stack = stack_size(NULL);
	s->fn11 = fn;
	s->arg = arg;
	err = next(thread, begin_c11, s);
	if (err != thrd_success)
		start_free(s);
	return err;
}

/* ---- the end ---- */

__attribute__((visibility("default"), noreturn)) void _exit(int status)
{
	gw_control_unlink();
	for (;;)
		syscall(SYS_exit_group, status);
}

__attribute__((visibility("default"), noreturn)) void _Exit(int status)
{
	_exit(status);
}

/* ---- credentials: libc changes those of the threads that it knows ---- */

#define FOLLOWS(name, params, args)                                                                        \
	__attribute__((visibility("default"))) int name params                                             \
	{                                                                                                  \
		static int(*next) params __attribute__((section("gw_data"))) = NULL;                       \
		struct gw_engine *e = gw_self();                                                           \
		int ret;                                                                                   \
                                                                                                           \
		if (!next)                                                                                 \
			next = preload_next(#name);                                                        \
		ret = next args;                                                                           \
		if (!ret && e)                                                                             \
			gw_credentials(e);                                                                 \
		return ret;                                                                                \
	}

FOLLOWS(setuid, (uid_t uid), (uid))
FOLLOWS(setgid, (gid_t gid), (gid))
FOLLOWS(seteuid, (uid_t uid), (uid))
FOLLOWS(setegid, (gid_t gid), (gid))
FOLLOWS(setreuid, (uid_t real, uid_t effective), (real, effective))
FOLLOWS(setregid, (gid_t real, gid_t effective), (real, effective))
FOLLOWS(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
FOLLOWS(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))

/* ---- mappings ---- */

__attribute__((visibility("default"))) void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	struct gw_engine *e = gw_self();
	void *new_addr = NULL;
	va_list args;
	long ret;

	va_start(args, flags);
	if (flags & MREMAP_FIXED)
		new_addr = va_arg(args, void *);
	va_end(args);
	if (!e)
		return (void *)syscall(SYS_mremap, addr, old_len, new_len, flags, new_addr);
	ret = gw_mremap(e, addr, old_len, new_len, flags, new_addr);
	if (ret < 0 && ret > -4096) {
		errno = (int)-ret;
		return MAP_FAILED;
	}
	return (void *)ret;
}

#define FAULTS_TYPE 0xAA	/* of the requests to a descriptor that serves faults */

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	struct gw_engine *e;
	va_list args;
	void *arg;
	long ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	e = _IOC_TYPE(request) == FAULTS_TYPE ? gw_self() : NULL;
	if (!e)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	ret = gw_ioctl(e, fd, request, arg);
	if (ret < 0) {
		errno = (int)-ret;
		return -1;
	}
	return (int)ret;
}

__attribute__((visibility("default"))) int mlockall(int flags)
{
	struct gw_engine *e = gw_self();
	long ret = syscall(SYS_mlockall, flags);

	if (!ret && e)
		gw_unlock(e);
	return (int)ret;
}

/* ---- references to pages that are no pins ---- */

static void frames_leak(void)
{
	struct gw_engine *e = gw_self();

	if (e)
		gw_no_recycle(e);
}

__attribute__((visibility("default"))) ssize_t vmsplice(int fd, const struct iovec *iov, size_t nr, unsigned int flags)
{
	frames_leak();
	return syscall(SYS_vmsplice, fd, iov, nr, flags);
}

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

__attribute__((visibility("default"))) int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (level == SOL_SOCKET && name == SO_ZEROCOPY)
		frames_leak();
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

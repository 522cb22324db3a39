/* SPDX-License-Identifier: MIT */
/* The functions that stand before libc's. */
#include "preload/preload.h"

#include "base/sys.h"

#include <godwit.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <threads.h>
#include <unistd.h>

void *preload_next(const char *name)
{
	return preload_attached() ? attached_next(name) : dlsym(RTLD_NEXT, name);
}

long kernel_call(long nr, const long a[6])
{
	return sys6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

long kernel_result(long ret)
{
	if (ret < 0 && ret > -4096) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
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
	void *fn;
	void *arg;
} starts[STARTS] __attribute__((section("gw_data"))) = { { .maker = 0 } };

static pthread_key_t leave_key __attribute__((section("gw_data"))) = 0;
static bool leave_keyed __attribute__((section("gw_data"))) = false;

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

/* What a new thread goes on with. */
struct begun {
	void *fn, *arg;
};

struct begun preload_thread_begin(struct start *s);
struct begun preload_thread_begin(struct start *s)
{
	struct begun b = { .fn = (void *)s->fn, .arg = s->arg };
	struct gw_engine *e = gw_self();

	if (e) {
		gw_thread_exclude(e, s->stack);
		gw_thread_inherit(e, (uint32_t)s->thread);
		if (leave_keyed)
			pthread_setspecific(leave_key, s);
	}
	start_free(s);
	return b;
}

/* Where a new thread begins: nothing of ours stays on its stack. */
void *thread_entry(void *start);
__asm__(".text\n"
	".type thread_entry, @function\n"
	".hidden thread_entry\n"
	".globl thread_entry\n"
	"thread_entry:\n"
	"	sub $8, %rsp\n"
	"	call preload_thread_begin\n"
	"	add $8, %rsp\n"
	"	mov %rdx, %rdi\n"
	"	jmp *%rax\n"
	".size thread_entry, .-thread_entry\n");

/* Of a key that every thread has a value of: also when it ends by pthread_exit() or is cancelled. */
void preload_thread_leave(void *arg)
{
	struct gw_engine *e = gw_self();

	(void)arg;
	if (e)
		gw_thread_leave(e);
}

int preload_threads_begin(void (*leave)(void *arg))
{
	int err = pthread_key_create(&leave_key, leave);

	leave_keyed = !err;
	return -err;
}

void preload_threads_end(void)
{
	leave_keyed = false;
	pthread_key_delete(leave_key);
}

bool preload_threads_starting(void)
{
	pid_t self = getpid();

	for (int i = 0; i < STARTS; i++)
		if (__atomic_load_n(&starts[i].maker, __ATOMIC_ACQUIRE) == self)
			return true;
	return false;
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

VISIBLE int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
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
	s->fn = (void *)fn;
	s->arg = arg;
	err = next(thread, attr, thread_entry, s);
	if (err)
		start_free(s);
	return err;
}

VISIBLE int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
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
	s->fn = (void *)fn;
	s->arg = arg;
	err = next(thread, (thrd_start_t)(void *)thread_entry, s);
	if (err != thrd_success)
		start_free(s);
	return err;
}

/* ---- the end ---- */

__attribute__((visibility("default"), noreturn)) void _exit(int status)
{
	gw_control_unlink();
	for (;;)
		kernel_call(SYS_exit_group, (long[6]){ status });
}

__attribute__((visibility("default"), noreturn)) void _Exit(int status)
{
	_exit(status);
}

/* ---- credentials: libc changes those of the threads that it knows ---- */

#define FOLLOWS(name, params, args)                                                                        \
	VISIBLE int name params                                             \
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

VISIBLE void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
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
		ret = kernel_call(SYS_mremap,
				  (long[6]){ (long)addr, (long)old_len, (long)new_len, flags, (long)new_addr });
	else
		ret = gw_mremap(e, addr, old_len, new_len, flags, new_addr);
	return (void *)kernel_result(ret);
}

/* Memory of its own that it may fill at once. */
static bool takes_memory(int prot, int flags)
{
	return prot & PROT_WRITE && flags & MAP_ANONYMOUS && (flags & MAP_TYPE) == MAP_PRIVATE;
}

VISIBLE void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	uint64_t since = gw_discard_time();
	long ret = kernel_call(SYS_mmap, (long[6]){ (long)addr, (long)len, prot, flags, fd, offset });

	if (since && (ret >= 0 || ret <= -4096))
		gw_discard((void *)ret, len, 1, since);
	if ((ret >= 0 || ret <= -4096) && takes_memory(prot, flags))
		gw_mapped(len);
	return (void *)kernel_result(ret);
}

VISIBLE void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
	__attribute__((alias("mmap")));

VISIBLE int brk(void *end)
{
	static int (*next)(void *) __attribute__((section("gw_data"))) = NULL;
	uint64_t from = (uint64_t)kernel_call(SYS_brk, (long[6]){ 0 });
	int ret;

	if (!next)
		next = preload_next("brk");
	ret = next(end);
	if (!ret && (uint64_t)end > from)
		gw_mapped((uint64_t)end - from);
	return ret;
}

VISIBLE void *sbrk(intptr_t more)
{
	static void *(*next)(intptr_t) __attribute__((section("gw_data"))) = NULL;
	void *ret;

	if (!next)
		next = preload_next("sbrk");
	ret = next(more);
	if (ret != (void *)-1 && more > 0)
		gw_mapped((size_t)more);
	return ret;
}

VISIBLE int munmap(void *addr, size_t len)
{
	uint64_t since = gw_discard_time();
	long ret = kernel_call(SYS_munmap, (long[6]){ (long)addr, (long)len });

	if (since && !ret)
		gw_discard(addr, len, 1, since);
	return (int)kernel_result(ret);
}

#define DONTNEED_LOCKED 24 /* MADV_DONTNEED_LOCKED */

VISIBLE int madvise(void *addr, size_t len, int advice)
{
	bool discards = advice == MADV_DONTNEED || advice == DONTNEED_LOCKED;
	uint64_t since = discards ? gw_discard_time() : 0;
	long ret = kernel_call(SYS_madvise, (long[6]){ (long)addr, (long)len, advice });

	/* where there are holes it says ENOMEM, and has discarded the rest */
	if (since && (!ret || ret == -ENOMEM))
		gw_discard(addr, len, 0, since);
	return (int)kernel_result(ret);
}

#define FAULTS_TYPE 0xAA	/* of the requests to a descriptor that serves faults */

VISIBLE int ioctl(int fd, unsigned long request, ...)
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
		ret = kernel_call(SYS_ioctl, (long[6]){ fd, (long)request, (long)arg });
	else
		ret = gw_ioctl(e, fd, request, arg);
	return (int)kernel_result(ret);
}

VISIBLE int mlockall(int flags)
{
	struct gw_engine *e = gw_self();
	long ret = kernel_call(SYS_mlockall, (long[6]){ flags });

	if (!ret && e)
		gw_unlock(e);
	return (int)kernel_result(ret);
}

/* ---- references to pages that are no pins ---- */

static void frames_leak(void)
{
	struct gw_engine *e = gw_self();

	if (e)
		gw_no_recycle(e);
}

VISIBLE ssize_t vmsplice(int fd, const struct iovec *iov, size_t nr, unsigned int flags)
{
	frames_leak();
	return kernel_result(kernel_call(SYS_vmsplice, (long[6]){ fd, (long)iov, (long)nr, flags }));
}

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

VISIBLE int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (level == SOL_SOCKET && name == SO_ZEROCOPY)
		frames_leak();
	return (int)kernel_result(kernel_call(SYS_setsockopt, (long[6]){ fd, level, name, (long)value, len }));
}

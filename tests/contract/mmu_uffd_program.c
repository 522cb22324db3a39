/* SPDX-License-Identifier: MIT */
/* mmu_uffd_program.c - see mmu_uffd_program.h. */
#define _GNU_SOURCE
#include "mmu_uffd_program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

bool program_readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0 && p.revents & POLLIN;
}

/* *done became 1 within ms. */
static bool wait_done(uint32_t *done, int ms)
{
	uint64_t now = clock_ns(), until = now + (uint64_t)ms * 1000000;

	while (!__atomic_load_n(done, __ATOMIC_ACQUIRE) && now < until) {
		futex_wait(done, 0, until - now);
		now = clock_ns();
	}
	return __atomic_load_n(done, __ATOMIC_ACQUIRE);
}

static void set_done(uint32_t *done)
{
	__atomic_store_n(done, 1, __ATOMIC_RELEASE);
	futex_wake(done);
}

/* ---- accesses ---- */

/* Where the thread's access goes on when it is killed. A signal handler has no other argument. */
static __thread sigjmp_buf *volatile escape;

static void on_fault(int sig)
{
	if (!escape) {
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(*escape, sig);
}

/* Before each access: the test runner puts its own in place when a test begins. */
static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_fault };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

int program_access(uint64_t addr, bool write, uint64_t *value)
{
	volatile uint64_t *word = (uint64_t *)addr;
	sigjmp_buf here;
	int sig = sigsetjmp(here, 1);

	if (sig) {
		escape = NULL;
		return sig == SIGBUS ? -EFAULT : -EACCES;
	}
	catch_signals();
	escape = &here;
	if (write)
		*word = *value;
	else
		*value = *word;
	escape = NULL;
	return 0;
}

static void *touch_thread(void *arg)
{
	struct program_touch *t = arg;

	t->ret = program_access(t->addr, t->write, &t->value);
	set_done(&t->done);
	return NULL;
}

void program_touch_begin(struct program_touch *t, uint64_t addr, bool write, uint64_t value)
{
	BUG_ON(t->started);
	*t = (struct program_touch){ .addr = addr, .write = write, .value = value };
	t->started = !pthread_create(&t->thread, NULL, touch_thread, t);
	BUG_ON(!t->started);
}

int program_touch_end(struct program_touch *t, int ms, uint64_t *value)
{
	if (!wait_done(&t->done, ms))
		return -EWOULDBLOCK;
	program_touch_join(t);
	*value = t->value;
	return t->ret;
}

void program_touch_join(struct program_touch *t)
{
	if (t->started)
		pthread_join(t->thread, NULL);
	t->started = false;
}

/* ---- the child ---- */

/* Answers until its parent closes the pipe. A userfaultfd's descriptor that it kept would keep that alive. */
static void child_main(int questions, int answers)
{
	uint64_t addr, value;

	dup2(questions, 0);
	dup2(answers, 1);
	close_range(3, ~0U, 0);
	while (read(0, &addr, sizeof(addr)) == (ssize_t)sizeof(addr)) {
		value = *(volatile uint64_t *)addr;
		if (write(1, &value, sizeof(value)) != (ssize_t)sizeof(value))
			break;
	}
	_exit(0);
}

static int child_fork(struct program_child *c)
{
	int questions[2], answers[2];

	BUG_ON(c->pid || pipe2(questions, O_CLOEXEC) || pipe2(answers, O_CLOEXEC));
	c->pid = fork();
	if (!c->pid)
		child_main(questions[0], answers[1]);
	BUG_ON(c->pid < 0);
	close(questions[0]);
	close(answers[1]);
	c->ask = questions[1];
	c->answer = answers[0];
	return 0;
}

void program_child_ask(struct program_child *c, uint64_t addr)
{
	BUG_ON(write(c->ask, &addr, sizeof(addr)) != (ssize_t)sizeof(addr));
}

int program_child_answer(struct program_child *c, int ms, uint64_t *value)
{
	if (!program_readable(c->answer, ms))
		return -EWOULDBLOCK;
	return read(c->answer, value, sizeof(*value)) == (ssize_t)sizeof(*value) ? 0 : -EPIPE;
}

void program_child_exit(struct program_child *c)
{
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	close(c->ask);
	close(c->answer);
	c->pid = 0;
}

/* ---- acts ---- */

/* Small pages, whatever the machine's default is. */
static int map_over(uint64_t addr, uint64_t len)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	void *p = mmap((void *)addr, len, PROT_READ | PROT_WRITE, flags, -1, 0);

	return p == MAP_FAILED || madvise(p, len, MADV_NOHUGEPAGE) ? -errno : 0;
}

int program_act_now(enum mmu_act what, uint64_t addr, uint64_t len, uint64_t to)
{
	void *p = (void *)addr;

	switch (what) {
	case ACT_UNMAP:
		return munmap(p, len) ? -errno : 0;
	case ACT_MAP_OVER:
		return map_over(addr, len);
	case ACT_DISCARD:
		return madvise(p, len, MADV_DONTNEED) ? -errno : 0;
	case ACT_REMAP:
		p = mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to);
		return p == MAP_FAILED ? -errno : 0;
	default:
		return -EINVAL;
	}
}

static void *act_thread(void *arg)
{
	struct program_act *act = arg;

	if (act->fn)
		act->ret = act->fn(act);
	else if (act->what == ACT_FORK)
		act->ret = child_fork(act->child);
	else
		act->ret = program_act_now(act->what, act->addr, act->len, act->to);
	set_done(&act->done);
	return NULL;
}

void program_act_begin(struct program_act *act)
{
	act->started = !pthread_create(&act->thread, NULL, act_thread, act);
	BUG_ON(!act->started);
}

bool program_act_ended(struct program_act *act)
{
	return __atomic_load_n(&act->done, __ATOMIC_ACQUIRE);
}

int program_act_end(struct program_act *act)
{
	program_act_join(act);
	return act->ret;
}

void program_act_join(struct program_act *act)
{
	if (act->started)
		pthread_join(act->thread, NULL);
	act->started = false;
}

/* ---- a device ---- */

/* Buffers that are registered with a ring stay pinned until they are unregistered, some time later. */
int program_pin(struct program_pin *pin, uint64_t addr)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { (void *)addr, MMU_PAGE };
	long ret = sys2(SYS_io_uring_setup, 1, &params);

	if (ret < 0)
		return -ENOTSUP;
	pin->ring = (int)ret;
	pin->pinned = true;
	ret = sys4(SYS_io_uring_register, pin->ring, IORING_REGISTER_BUFFERS, &iov, 1);
	if (ret < 0)
		program_unpin(pin);
	return ret < 0 ? -ENOTSUP : 0;
}

void program_unpin(struct program_pin *pin)
{
	if (!pin->pinned)
		return;
	sys4(SYS_io_uring_register, pin->ring, IORING_UNREGISTER_BUFFERS, 0, 0);
	close(pin->ring);
	pin->pinned = false;
}

int program_splice(int pipe_fd, uint64_t addr)
{
	struct iovec iov = { (void *)addr, MMU_PAGE };

	return vmsplice(pipe_fd, &iov, 1, 0) == (ssize_t)MMU_PAGE ? 0 : -errno;
}

int program_spliced(int pipe_fd, uint64_t *value)
{
	uint64_t page[MMU_PAGE / sizeof(uint64_t)];

	if (read(pipe_fd, page, sizeof(page)) != (ssize_t)sizeof(page))
		return -EIO;
	*value = page[0];
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The service thread: waits for the kernel's events, for what is watched, and for posts.
 *
 * Program threads have none of its descriptors; they wake it with a signal that is blocked in it and
 * sent to it alone, which it reads from a signalfd. Such a reading also takes signals for the whole process:
 * so it is one that nobody sends to a process.
 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#define KICK_SIGNAL 33U	/* libc's own, for single threads: a program can neither block nor await it */
#define KICK_AGAIN_NS 100000000ULL	/* a signal that could not be sent is sent again */

void service_kick(struct gw_engine *e)
{
	uint32_t tid = e->service.tid;

	if (tid && tid != ~0U)
		sys3(SYS_tgkill, e->pid, tid, KICK_SIGNAL);
}

/* ---- credentials ---- */

struct credentials {
	uint32_t uid[3], gid[3];
};

static int take_credentials(struct gw_engine *e, void *arg)
{
	const struct credentials *c = arg;

	(void)e;
	int err = (int)sys3(SYS_setresgid, c->gid[0], c->gid[1], c->gid[2]);
	int uid_err = (int)sys3(SYS_setresuid, c->uid[0], c->uid[1], c->uid[2]);

	return err ? err : uid_err;
}

void gw_credentials(struct gw_engine *e)
{
	struct credentials c;

	sys3(SYS_getresuid, &c.uid[0], &c.uid[1], &c.uid[2]);
	sys3(SYS_getresgid, &c.gid[0], &c.gid[1], &c.gid[2]);
	gw_call(e, take_credentials, &c);
}

/* ---- what is watched ---- */

int gw_watch(struct gw_engine *e, int fd, uint32_t events, void (*fn)(struct gw_engine *e, uint32_t events, void *arg),
	     void *arg)
{
	for (uint32_t i = 0; i < WATCH_MAX; i++) {
		struct epoll_event ev = { .events = events, .data.u32 = i };
		long ret;

		if (e->watch[i].fd >= 0)
			continue;
		ret = sys4(SYS_epoll_ctl, e->epoll, EPOLL_CTL_ADD, fd, &ev);
		if (ret < 0)
			return (int)ret;
		e->watch[i] = (struct watch){ .fd = fd, .fn = fn, .arg = arg };
		return 0;
	}
	return -ENOSPC;
}

int gw_unwatch(struct gw_engine *e, int fd)
{
	for (uint32_t i = 0; i < WATCH_MAX; i++)
		if (e->watch[i].fd == fd) {
			e->watch[i].fd = -1;
			return (int)sys4(SYS_epoll_ctl, e->epoll, EPOLL_CTL_DEL, fd, NULL);
		}
	return -ENOENT;
}

int gw_tick(struct gw_engine *e, uint32_t ms, void (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	e->tick_ms = ms;
	e->tick_fn = fn;
	e->tick_arg = arg;
	e->tick_due = clock_ns() + ms * 1000000ULL;
	return 0;
}

/* ---- posts ---- */

static int post(struct gw_engine *e, struct post p)
{
	uint64_t signals = signals_block();
	int err = -EAGAIN;

	lock_acquire(&e->post_lock);
	if (e->nr_posts < POST_MAX) {
		e->post[e->nr_posts++] = p;
		err = 0;
	}
	lock_release(&e->post_lock);
	signals_restore(signals);
	service_kick(e);
	return err;
}

int gw_post(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	return post(e, (struct post){ .fn = fn, .arg = arg });
}

int gw_call(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	uint32_t done = 0, pid = e->pid;
	int ret = 0, err;
	struct post p = { .fn = fn, .arg = arg, .ret = &ret, .done = &done };

	if ((uint32_t)sys0(SYS_gettid) == e->service.tid)
		return fn(e, arg);
	while ((err = post(e, p)) == -EAGAIN)
		sleep_ns(1000000);
	while (!err && !__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		futex_wait(&done, 0, KICK_AGAIN_NS);
		if (e->pid != pid)
			return -EINTR; /* a handler has forked: nobody here knows of the call */
		if (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
			service_kick(e);
	}
	return err ? err : ret;
}

static bool post_next(struct gw_engine *e, struct post *p)
{
	bool any;

	lock_acquire(&e->post_lock);
	any = e->nr_posts > 0;
	if (any) {
		*p = e->post[0];
		e->nr_posts--;
		for (uint32_t i = 0; i < e->nr_posts; i++)
			e->post[i] = e->post[i + 1];
	}
	lock_release(&e->post_lock);
	return any;
}

static void on_kick(struct gw_engine *e, uint32_t events, void *arg)
{
	struct signalfd_siginfo info;
	struct post p;

	(void)events;
	(void)arg;
	while (sys3(SYS_read, e->signal_fd, &info, sizeof(info)) > 0)
		;
	while (post_next(e, &p)) {
		int ret = p.fn(e, p.arg);

		if (!p.done)
			continue;
		*p.ret = ret;
		__atomic_store_n(p.done, 1, __ATOMIC_RELEASE);
		futex_wake(p.done);
	}
}

static void on_events(struct gw_engine *e, uint32_t events, void *arg)
{
	(void)events;
	(void)arg;
	mm_drain_events(&e->mm);
}

/* ---- a forked child that is to take over what is away ---- */

#define HEIR_LOOK_NS 20000ULL
#define HEIR_MOST_NS 1000000000ULL	/* then it gets everything at once: it may be stopped, or have no engine */

static void heir_over(struct gw_engine *e)
{
	int fd = e->mm.heir;

	if (e->heir_watched)
		gw_unwatch(e, fd);
	e->heir_watched = false;
	e->mm.mmu->ops->close_child(e->mm.mmu, fd);
	__atomic_store_n(&e->mm.heir, -1, __ATOMIC_RELEASE);
}

static void on_heir(struct gw_engine *e, uint32_t events, void *arg)
{
	(void)events;
	(void)arg;
	if (heir_serve(&e->mm))
		heir_over(e);
}

static void heir_watch(struct gw_engine *e)
{
	if (e->mm.heir >= 0 && !e->heir_watched)
		e->heir_watched = !gw_watch(e, e->mm.heir, EPOLLIN, on_heir, NULL);
}

static int heir_give_all(struct gw_engine *e, void *arg)
{
	(void)arg;
	if (e->mm.heir < 0)
		return 0;
	away_bequeath(&e->mm, &e->mm.heirs);
	heir_over(e);
	return 0;
}

void heir_wait(struct gw_engine *e)
{
	uint64_t until = clock_ns() + HEIR_MOST_NS;

	mm_fork_seen(&e->mm);
	while (__atomic_load_n(&e->mm.heir, __ATOMIC_ACQUIRE) >= 0 && clock_ns() < until)
		sleep_ns(HEIR_LOOK_NS);
	if (__atomic_load_n(&e->mm.heir, __ATOMIC_ACQUIRE) >= 0)
		gw_call(e, heir_give_all, NULL);
}

/* ---- the loop ---- */

static int until_tick(struct gw_engine *e)
{
	uint64_t now, due = e->tick_ms ? e->tick_due : UINT64_MAX;

	if (e->stock_due)
		due = min_u64(due, e->stock_due);
	if (due == UINT64_MAX)
		return -1;
	now = clock_ns();
	return due > now ? (int)((due - now) / 1000000) + 1 : 0;
}

/* Nothing has been migrated for a while: the stock goes back, a piece at a time; others may want the books. */
static void service_stock(struct gw_engine *e)
{
	uint64_t batches = __atomic_load_n(&e->mm.stats.batches, __ATOMIC_RELAXED);
	bool idle = !__atomic_load_n(&e->mm.users, __ATOMIC_RELAXED) && batches == e->stock_batches, more = true;

	if (!e->stock_due || clock_ns() < e->stock_due)
		return;
	idle = idle && lock_try(&e->mm.migrate);
	if (idle) {
		more = stock_return(&e->mm);
		lock_release(&e->mm.migrate);
	}
	e->stock_batches = batches;
	e->stock_due = more ? clock_ns() + (idle ? 0 : STOCK_IDLE_NS) : 0;
}

/* While a request is under way threads wait for what is read here, and the job for its lock. */
static void service_hurry(struct gw_engine *e)
{
	bool busy = __atomic_load_n(&e->mm.users, __ATOMIC_RELAXED);

	if (busy != e->hurried)
		e->hurried = thread_hurry(busy) && busy;
}

static void service_once(struct gw_engine *e)
{
	struct epoll_event ev[8];
	long n = sys6(SYS_epoll_pwait, e->epoll, SYS_ARG(ev), ARRAY_SIZE(ev), until_tick(e), 0, 8);

	for (long i = 0; i < n; i++) {
		struct watch *w = &e->watch[ev[i].data.u32];

		if (w->fd >= 0)
			w->fn(e, ev[i].events, w->arg);
	}
	if (e->tick_ms && clock_ns() >= e->tick_due) {
		e->tick_due = clock_ns() + e->tick_ms * 1000000ULL;
		e->tick_fn(e, e->tick_arg);
	}
	heir_watch(e);
	service_stock(e);
	service_hurry(e);
}

/* The program's descriptors came along with the copy of the table: it may wait for their last close. */
static int service_open(struct gw_engine *e)
{
	uint64_t mask = 1ULL << (KICK_SIGNAL - 1);
	struct mmu_donor donor = { .give = e->opt.faults, .arg = e->opt.faults_arg };
	int err;

	sys3(SYS_close_range, 0, ~0U, 0);
	for (uint32_t i = 0; i < WATCH_MAX; i++)
		e->watch[i].fd = -1;
	e->epoll = (int)sys1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (e->epoll < 0)
		return e->epoll;
	e->signal_fd = (int)sys4(SYS_signalfd4, -1, &mask, sizeof(mask), SFD_NONBLOCK | SFD_CLOEXEC);
	if (e->signal_fd < 0)
		return e->signal_fd;
	err = mmu_uffd_open(&e->mmu, &e->region, &donor);
	if (err)
		return err;
	err = gw_watch(e, e->mmu->ops->event_fd(e->mmu), EPOLLIN, on_events, NULL);
	return err ? err : gw_watch(e, e->signal_fd, EPOLLIN, on_kick, NULL);
}

static void service_ready(struct gw_engine *e, int err)
{
	e->start_error = err;
	__atomic_store_n(&e->ready, 2, __ATOMIC_RELEASE);
	futex_wake(&e->ready);
}

/* In a forked child: those of the parent are not here. */
static int threads_again(struct gw_engine *e)
{
	bool slow = false;
	int err = 0;

	e->reclaimer.tid = e->faults.tid = 0;
	for (uint32_t i = 0; i < SLOW_THREADS; i++)
		e->slow[i].thread.tid = 0;
	for (uint32_t i = 0; i < NODE_MAX; i++)
		slow = slow || (e->mm.far[i] && far_slow(e->mm.far[i]));
	if (e->mm.kept)
		err = faults_start(e);
	return !err && slow ? slow_start(e) : err;
}

static int service_main(void *arg)
{
	struct gw_engine *e = arg;
	bool again = e->mm.mmu != NULL;
	int err = service_open(e);

	if (!err && again)
		err = mm_fork_child(&e->mm, e->mmu);
	e->mm.mmu = e->mmu;
	if (!err && again) {
		err = threads_again(e);
		reclaimer_start(e);
	}
	e->service.tid = (uint32_t)sys0(SYS_gettid);
	service_ready(e, err);
	while (!err && !e->stopping)
		service_once(e);
	if (!err) {
		faults_stop(e);
		mm_exit(&e->mm);
	}
	return 0;
}

int service_start(struct gw_engine *e)
{
	char *stack = e->service.stack ? e->service.stack : region_alloc(&e->region, THREAD_STACK);
	int err;

	if (!stack)
		return -ENOMEM;
	e->service = (struct thread){ .fn = service_main, .arg = e, .stack = stack, .name = "godwit" };
	e->post_lock = LOCK_INIT(RANK_POST);
	e->nr_posts = 0;
	e->stopping = false;
	e->hurried = e->heir_watched = false;
	e->tick_ms = 0;
	e->stock_due = 0;
	e->ready = 1;
	err = thread_start(&e->service, true);
	if (err)
		return err;
	while (__atomic_load_n(&e->ready, __ATOMIC_ACQUIRE) == 1)
		futex_wait(&e->ready, 1, 0);
	if (e->start_error)
		thread_join(&e->service);
	return e->start_error;
}

static int stop_here(struct gw_engine *e, void *arg)
{
	(void)arg;
	e->stopping = true;
	return 0;
}

void service_stop(struct gw_engine *e)
{
	gw_call(e, stop_here, NULL);
	thread_join(&e->service);
}

/* SPDX-License-Identifier: MIT */
/*
 * What the engine keeps an eye on without being in the way: descriptors through which frames leak, and who touches
 * which page first.
 *
 * Frames that leak: vmsplice(), zero-copy sends, FUSE and rings hold a page without a pin, so a move
 * goes through and whoever reads the other end sees what the frame holds next. Recycling ends for good
 * when a descriptor of this kind is seen (or, where libgodwit.so is preloaded, such a call).
 */
#include "agent/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#define LOOK_EVERY_NS 1000000000ULL

static bool leaky(long dir, const char *name)
{
	char target[64];
	long len = sys4(SYS_readlinkat, dir, name, target, sizeof(target) - 1);

	if (len <= 0)
		return len != -ENOENT; /* closed meanwhile; else who knows */
	target[len] = '\0';
	return !strcmp(target, "/dev/fuse") || !strcmp(target, "anon_inode:[io_uring]");
}

/* The number of descriptors, or -1 when one is leaky, or not all can be seen: the first thread may have ended. */
static int any_leaky(long dir)
{
	char buf[2048] __attribute__((aligned(8)));
	int nr = 0;
	long got;

	while ((got = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);

			if (d->name[0] != '.' && leaky(dir, d->name))
				return -1;
			nr++;
			at += d->len;
		}
	return got < 0 || !nr ? -1 : nr;
}

void frames_watch(struct gw_engine *e)
{
	uint64_t now = clock_ns();
	long dir;

	if (!__atomic_load_n(&e->mm.recycle, __ATOMIC_RELAXED) || (e->fds_seen && now - e->fds_seen < LOOK_EVERY_NS))
		return;
	e->fds_seen = now;
	dir = sys4(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0) {
		gw_no_recycle(e);
		return;
	}
	if (any_leaky(dir) < 0)
		gw_no_recycle(e);
	sys1(SYS_close, dir);
}

/* ---- first touches ---- */

#define RING (1ULL << 20)	/* a CPU: its records are entered under the lock that readers of events want too */
#define CHANGES_MOST 16U	/* of policies, for each of which all memory is looked at */

static int run_observe(struct gw_job *job)
{
	__atomic_store_n(&job->e->collecting, 0, __ATOMIC_RELEASE);
	do_observe(&job->e->mm);
	return 0;
}

/* On the service thread. Without touches there are departures only, which need no more than a moment's lock. */
static int collect(struct gw_engine *e, void *arg)
{
	struct gw_job *job;

	(void)arg;
	job = e->mm.observed ? job_take(e, NULL) : NULL;
	if (!job) {
		__atomic_store_n(&e->collecting, 0, __ATOMIC_RELEASE);
		lock_acquire(&e->mm.lock);
		if (!e->mm.forking)
			departures_take(&e->mm);
		lock_release(&e->mm.lock);
		return 0;
	}
	job->run = run_observe;
	job->nobodys = true;
	return job_start(job);
}

/* Records need the mappings, and those a lock that the service thread must not wait for: hence a job. */
void touch_collect(struct gw_engine *e)
{
	if (!__atomic_exchange_n(&e->collecting, 1, __ATOMIC_ACQUIRE) && gw_post(e, collect, NULL))
		__atomic_store_n(&e->collecting, 0, __ATOMIC_RELEASE);
}

static void on_touches(struct gw_engine *e, uint32_t events, void *arg)
{
	(void)events;
	(void)arg;
	touch_collect(e);
}

static int watch_open(struct gw_engine *e, void *arg)
{
	uint32_t skip[JOBS_MAX];
	struct touch_options opt = { .ring_bytes = RING, .skip = skip };
	int err;

	(void)arg;
	for (uint32_t i = 0; i < JOBS_MAX; i++)
		if (e->job[i].thread.tid)
			skip[opt.nr_skip++] = e->job[i].thread.tid;
	err = touch_open(&e->mm.touches, &e->region, &opt);
	if (err)
		return err;
	err = gw_watch(e, touch_fd(e->mm.touches), EPOLLIN, on_touches, NULL);
	if (err)
		touch_close(e->mm.touches);
	return err;
}

/* Another thread that has something else. */
static bool others_differ(struct gw_engine *e, uint32_t tid, const struct task *has)
{
	char buf[2048] __attribute__((aligned(8)));
	long got, dir = sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool differ = false;

	while (dir >= 0 && (got = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);
			const char *name = d->name;
			uint64_t other;

			at += d->len;
			if (!str_u64(&name, 10, &other) || other == tid || other == e->service.tid)
				continue;
			for (uint32_t i = 0; i < JOBS_MAX; i++)
				other = other == e->job[i].thread.tid ? 0 : other;
			lock_acquire(&e->mm.lock);
			differ = differ || (other && task_differs(&e->mm, (uint32_t)other, has));
			lock_release(&e->mm.lock);
		}
	if (dir >= 0)
		sys1(SYS_close, dir);
	return differ;
}

void touch_watch(struct gw_engine *e, uint32_t tid, const struct task *has)
{
	struct mm *mm = &e->mm;
	bool open;

	/* where all nodes are bound to the host its kernel says where a page came from */
	if (mm->observed || mm->nodes->nr < 2 || node_all_host(mm->nodes) ||
	    (mm->place.nr_changes < CHANGES_MOST && !others_differ(e, tid, has)))
		return;
	lock_acquire(&mm->migrate);
	open = !mm->observed && !gw_call(e, watch_open, NULL);
	mm->observed = mm->observed || open;
	lock_release(&mm->migrate);
}

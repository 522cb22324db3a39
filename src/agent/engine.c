/* SPDX-License-Identifier: MIT */
/* One engine a process: start, stop, nodes, ranges, fork. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define REGION_MOST (8ULL << 30)
#define REGION_LEAST (256ULL << 20)
#define STALL_US_DEFAULT 50U

/* The one mutable global. In a section of the file's own data, which is never managed. */
static struct gw_engine *the_engine __attribute__((section("gw_data"))) = NULL;
/* One that nobody finds any more, until it is stopped. */
static struct gw_engine *retired __attribute__((section("gw_data"))) = NULL;
static uint32_t fork_handlers __attribute__((section("gw_data"))) = 0;

struct gw_engine *engine_self(void)
{
	struct gw_engine *e = __atomic_load_n(&the_engine, __ATOMIC_ACQUIRE);

	return e && e->pid == (uint32_t)sys0(SYS_getpid) ? e : NULL;
}

struct gw_engine *gw_self(void)
{
	return engine_self();
}

/* Called at every mmap() and munmap(): what costs a system call comes last. */
uint64_t gw_discard_time(void)
{
	struct gw_engine *e = __atomic_load_n(&the_engine, __ATOMIC_ACQUIRE);

	return e && !mm_knows_nothing(&e->mm) ? clock_ns() : 0;
}

void gw_discard(const void *addr, size_t len, int unmapped, uint64_t since)
{
	struct gw_engine *e = __atomic_load_n(&the_engine, __ATOMIC_ACQUIRE);
	struct departure d = { .start = ALIGN_DOWN((uint64_t)addr, GW_PAGE_SIZE),
			       .end = ALIGN_UP((uint64_t)addr + len, GW_PAGE_SIZE),
			       .unmapped = unmapped };

	if (!e || mm_knows_nothing(&e->mm) || engine_self() != e || d.start >= d.end)
		return;
	d.time = since ? since : clock_ns();
	if (mm_discard(&e->mm, &d))
		touch_collect(e);
}

void gw_mapped(size_t len)
{
	struct gw_engine *e = __atomic_load_n(&the_engine, __ATOMIC_ACQUIRE);

	if (e && __atomic_load_n(&e->mm.throttle.on, __ATOMIC_RELAXED) && engine_self() == e)
		throttle_mapped(&e->mm, len);
}

int gw_check(struct gw_check_result *res)
{
	struct mmu_probe probe;
	long fd;

	if (res->size < sizeof(*res))
		return -EINVAL;
	*res = (struct gw_check_result){ .size = sizeof(*res) };
	mmu_probe(&probe, getenv("GODWIT_PROBE"));
	res->missing = probe.missing; /* the same bits */
	res->method = probe.method;
	res->features = probe.features;
	fd = sys4(SYS_openat, AT_FDCWD, "/proc/sys/kernel/osrelease", O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		long got = sys3(SYS_read, fd, res->kernel, sizeof(res->kernel) - 1);

		res->kernel[got > 0 ? got - (res->kernel[got - 1] == '\n') : 0] = '\0';
		sys1(SYS_close, fd);
	}
	return 0;
}

/* ---- fork: the child builds its own engine before fork() returns there ---- */

static void fork_prepare(void)
{
	struct gw_engine *e = engine_self();

	if (e)
		mm_fork_prepare(&e->mm);
}

static void fork_parent(void)
{
	struct gw_engine *e = engine_self();

	if (!e)
		return;
	heir_wait(e);
	mm_fork_parent(&e->mm);
}

static void fork_child(void)
{
	struct gw_engine *e = the_engine;
	uint64_t signals;
	int err;

	/* only if this fork went through fork_prepare() */
	if (!e || !e->mm.forking)
		return;
	if (BUG_BACK(BUG_CHILD)) {
		mm_fork_parent(&e->mm);
		return;
	}
	if (e->mm.touches)
		touch_fork_child(e->mm.touches);
	e->mm.observed = e->mm.place.complete = false;
	e->pid = (uint32_t)sys0(SYS_getpid);
	signals = e->mm.forker_signals;
	e->mm.forking = false;
	e->mm.lock = LOCK_INIT(RANK_MM);
	exclude_fork_child(&e->mm);
	tasks_fork_child(&e->mm, e->mm.forker);
	e->mm.pid = e->pid;
	jobs_init(e);
	buffers_init(e);
	e->collecting = 0;
	err = service_start(e);
	stores_thaw(&e->mm);
	if (err)
		__atomic_store_n(&the_engine, NULL, __ATOMIC_RELEASE);
	signals_restore(signals);
	if (e->opt.forked)
		e->opt.forked(e, err, e->opt.forked_arg);
}

/* ---- the same for who is not libc ---- */

void gw_hold(struct gw_engine *e)
{
	mm_hold(&e->mm);
}

void gw_release(struct gw_engine *e)
{
	mm_release(&e->mm);
}

void gw_abandon(struct gw_engine *e)
{
	struct region r = e->region;

	__atomic_store_n(&the_engine, NULL, __ATOMIC_RELEASE);
	region_release(&r);
}

static int watch_forks(void)
{
	if (__atomic_exchange_n(&fork_handlers, 1, __ATOMIC_RELAXED))
		return 0;
	return -pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---- start and stop ---- */

static struct gw_engine *engine_make(const struct gw_options *opt)
{
	struct region r;
	struct gw_engine *e;

	if (region_reserve(&r, REGION_MOST, REGION_LEAST))
		return NULL;
	e = region_alloc(&r, sizeof(*e));
	if (!e) {
		region_release(&r);
		return NULL;
	}
	if (opt && opt->size >= offsetof(struct gw_options, own_len) + sizeof(opt->own_len)) {
		r.own = (uint64_t)opt->own;
		r.own_end = r.own + opt->own_len;
	}
	e->region = r;
	e->pid = (uint32_t)sys0(SYS_getpid);
	if (opt)
		memcpy(&e->opt, opt, min_u64(opt->size, sizeof(e->opt)));
	if (!e->opt.stall_us_max)
		e->opt.stall_us_max = STALL_US_DEFAULT;
	jobs_init(e);
	buffers_init(e);
	node_table_init(&e->nodes, &e->region);
	return e;
}

int gw_start(struct gw_engine **out, const struct gw_options *opt)
{
	struct gw_engine *e;
	int err;

	if (opt && opt->size < sizeof(size_t) * 2)
		return -EINVAL;
	if (engine_self())
		return -EBUSY;
#ifdef GODWIT_BUGS
	if (getenv("GODWIT_BUG") && !bug_put_back(getenv("GODWIT_BUG")))
		return -EINVAL;
#endif
	e = engine_make(opt);
	if (!e)
		return -ENOMEM;
	err = mm_init(&e->mm, NULL, &e->nodes, &e->region);
	e->mm.pid = e->pid;
	e->mm.recycle = !(e->opt.flags & GW_NO_RECYCLE);
	if (!err && !(e->opt.flags & GW_OWN_FORKS))
		err = watch_forks();
	if (!err)
		err = service_start(e);
	if (err) {
		struct region r = e->region;

		region_release(&r);
		return err;
	}
	__atomic_store_n(&the_engine, e, __ATOMIC_RELEASE);
	*out = e;
	return 0;
}

void gw_retire(struct gw_engine *e)
{
	retired = e;
	__atomic_store_n(&the_engine, NULL, __ATOMIC_SEQ_CST);
}

static int run_return(struct gw_job *job)
{
	job->left = do_return(&job->e->mm, &job->rq);
	return (int)job->left;
}

/* What is far would be lost with its store. */
static int everything_back(struct gw_engine *e)
{
	struct gw_job *job;
	int err;

	if (!e->mm.pt.away)
		return 0;
	job = job_take(e, NULL);
	if (!job)
		return -EAGAIN;
	job->run = run_return;
	err = job_start(job);
	return err ? err : (int)job_end_wait(job, NULL);
}

int gw_stop(struct gw_engine *e)
{
	struct region r;
	int err;

	if (!e || (e != engine_self() && e != retired))
		return -EINVAL;
	reclaimer_stop(e);
	err = everything_back(e);
	if (err)
		return err;
	gw_control_close(e);
	jobs_end(e);
	err = everything_back(e); /* one of them may have sent pages away meanwhile */
	if (err)
		return err;
	for (int i = 0; i < GW_MAX_NODES; i++)
		if (e->mm.far[i])
			far_close(e->mm.far[i]);
	service_stop(e);
	__atomic_store_n(&the_engine, NULL, __ATOMIC_RELEASE);
	retired = NULL;
	r = e->region;
	region_release(&r);
	return 0;
}

void *gw_memory(struct gw_engine *e, size_t len)
{
	return region_alloc(&e->region, len);
}

/* ---- ranges ---- */

static int range_add(struct gw_engine *e, const void *addr, size_t len, uint32_t kind)
{
	uint64_t start = (uint64_t)addr;

	if (!len || start + len < start)
		return -EINVAL;
	return exclude_add(&e->mm, start, start + len, kind);
}

static int range_del(struct gw_engine *e, const void *addr, size_t len, uint32_t kind)
{
	return len ? exclude_del(&e->mm, (uint64_t)addr, (uint64_t)addr + len, kind) : -EINVAL;
}

int gw_pin(struct gw_engine *e, const void *addr, size_t len)
{
	return range_add(e, addr, len, EXCLUDE_PIN);
}

int gw_unpin(struct gw_engine *e, const void *addr, size_t len)
{
	return range_del(e, addr, len, EXCLUDE_PIN);
}

int gw_exclude(struct gw_engine *e, const void *addr, size_t len)
{
	return range_add(e, addr, len, EXCLUDE_OPT_OUT);
}

int gw_include(struct gw_engine *e, const void *addr, size_t len)
{
	return range_del(e, addr, len, EXCLUDE_OPT_OUT);
}

/* glibc 2.35 and later; where it is, seen from the thread pointer */
extern const ptrdiff_t __rseq_offset __attribute__((weak));

#define CONTROL_BELOW 8192UL
#define CONTROL_LEAST 1024UL	/* struct pthread as far as the kernel writes to it when the thread ends */
#define RSEQ_BYTES 64UL		/* which the kernel writes to while it runs */

/* What lies behind it may be another mapping of the program's. */
static uint64_t control_end(void)
{
	uint64_t rseq = &__rseq_offset && __rseq_offset > 0 ? (uint64_t)__rseq_offset + RSEQ_BYTES : 0;

	return (uint64_t)__builtin_thread_pointer() + max_u64(CONTROL_LEAST, rseq);
}

int gw_thread_exclude(struct gw_engine *e, size_t stack_size)
{
	uint64_t tp = (uint64_t)__builtin_thread_pointer(), top = control_end(),
		 here = (uint64_t)__builtin_frame_address(0);
	uint32_t tid = (uint32_t)sys0(SYS_gettid);
	int err = range_add(e, (void *)(tp - CONTROL_BELOW), top - tp + CONTROL_BELOW, tid);

	if (err || here > top || top - here > stack_size + CONTROL_BELOW)
		return err ? err : range_add(e, (void *)(here - stack_size), stack_size + GW_PAGE_SIZE, tid);
	return range_add(e, (void *)(tp - stack_size), top - tp + stack_size, tid);
}

#define ROBUST_MOST 64

/*
 * What the kernel walks when a thread dies: a ring of list entries, each inside a mutex, whose word it
 * marks without waiting for a page in flight.
 */
void gw_thread_leave(struct gw_engine *e)
{
	uint32_t tid = (uint32_t)sys0(SYS_gettid);
	void **head = NULL, **entry;
	uint64_t len = 0;

	if (sys3(SYS_get_robust_list, 0, &head, &len) < 0 || !head)
		return;
	entry = head[0];
	for (int i = 0; i < ROBUST_MOST && entry != head; i++) {
		/* bit 0 marks a priority-inheriting mutex; the whole of it lies within 64 bytes of the entry */
		uint64_t at = (uint64_t)entry & ~1ULL;

		range_add(e, (void *)(at - 64), 128, tid);
		entry = *(void ***)at;
	}
}

/* Under mm->migrate: no batch is in flight that needs two sides locked alike. */
void gw_unlock(struct gw_engine *e)
{
	lock_acquire(&e->mm.migrate);
	sys2(SYS_munlock, e->region.base, e->region.reserved);
	node_rest(&e->nodes);
	lock_release(&e->mm.migrate);
}

void gw_no_recycle(struct gw_engine *e)
{
	__atomic_store_n(&e->mm.recycle, false, __ATOMIC_RELAXED);
}

/* ---- looking ---- */

static void stats_stalls(const struct mm_stats *m, struct gw_stats *out)
{
	out->stall_ns_max = m->window.max;
	out->stall_ns_p99 = hist_at(&m->window, 990);
	out->stall_ns_p999 = hist_at(&m->window, 999);
	out->thp_stall_ns_max = m->window_huge.max;
	out->thp_stall_ns_p99 = hist_at(&m->window_huge, 990);
	out->thp_stall_ns_p999 = hist_at(&m->window_huge, 999);
}

int gw_stats(struct gw_engine *e, struct gw_stats *out)
{
	const struct mm_stats *m = &e->mm.stats;

	if (out->size < sizeof(*out))
		return -EINVAL;
	*out = (struct gw_stats){ .size = sizeof(*out) };
	out->managed_pages = e->mm.pt.present;
	out->metadata_bytes = pgtable_bytes(&e->mm.pt);
	for (uint32_t i = 0; i < e->nodes.nr_arenas; i++)
		out->arena_bytes += arena_free(&e->nodes.arena[i]);
	out->faults_waited = m->faults_waited;
	out->faults_filled = m->faults_filled;
	out->faults_fetched = m->faults_fetched;
	out->pages_away = e->mm.pt.away;
	out->pages_demoted = m->demoted;
	out->pages_promoted = m->promoted;
	out->pages_cached = e->mm.pt.cached;
	out->rescued = m->rescued;
	out->lazy_moved = m->lazy_moved;
	out->pages_fallback = m->fallen;
	out->refaults = m->refaults;
	out->prefetched = m->prefetched;
	out->prefetch_hits = m->prefetch_hits;
	out->reclaims = m->reclaims;
	out->stalls_reclaim = m->stalls_reclaim;
	out->held = m->held;
	out->held_let_go = m->held_let_go;
	out->held_ns = m->held_ns;
	out->held_ns_max = m->held_ns_max;
	out->events_unmap = m->events[MMU_EV_UNMAP];
	out->events_remove = m->events[MMU_EV_REMOVE];
	out->events_remap = m->events[MMU_EV_REMAP];
	out->events_fork = m->events[MMU_EV_FORK];
	memcpy(out->pages_moved, m->moved, sizeof(out->pages_moved));
	memcpy(out->failed, m->failed, sizeof(out->failed));
	out->batches = m->batches;
	out->retries = m->retries;
	out->batches_transactional = m->transactional;
	out->pages_recopied = m->recopied;
	out->copied_in = m->copied_in;
	out->cow_broken = m->unshared;
	out->frames_dropped = m->dropped;
	out->poisoned = m->poisoned;
	out->forks = m->forks;
	out->recycling = e->mm.recycle;
	out->stall_us_default = e->opt.stall_us_max;
	stats_stalls(m, out);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Requests: each is a job; the calls that wait are a job and its end. */
#include "agent/agent.h"

#include <errno.h>
#include <string.h>

_Static_assert(GW_ERRNO_MAX == ERRNO_MAX_ && GW_MAX_NODES == NODE_MAX && GW_NAME_MAX == NODE_NAME, "limits agree");
_Static_assert(GW_MAX_CPUS == NODE_CPUS, "limits agree");
_Static_assert((int)GW_UNMANAGED_NR == (int)AREA_KINDS && (int)GW_UNMANAGED_OTHER == (int)AREA_OTHER, "kinds agree");
_Static_assert((int)GW_NEED_SCAN == (int)MMU_NEED_SCAN && (int)GW_WANT_TOUCH == (int)MMU_WANT_TOUCH, "needs agree");

static int run_migrate(struct gw_job *job)
{
	int err = do_migrate_pages(&job->e->mm, job->from, job->to, &job->rq);

	job->left = err ? err : (long)job->progress.failed_pages;
	return err;
}

static int run_move(struct gw_job *job)
{
	int err = do_move_pages(&job->e->mm, job->count, job->pages, job->nodes, job->status, &job->rq);

	job->left = err;
	for (uint64_t i = 0; !err && job->nodes && i < job->count; i++)
		job->left += job->status[i] != job->nodes[i];
	return err;
}

static bool options_known(const struct gw_migrate_options *opt)
{
	uint32_t ways = GW_MIGRATE_LAZY | GW_MIGRATE_NEXT_TOUCH | GW_MIGRATE_LAZY_CANCEL | GW_MIGRATE_FALLBACK_SWAP;

	return !opt || (opt->size >= offsetof(struct gw_migrate_options, form) && opt->form <= GW_FORM_TRANSACTIONAL &&
			__builtin_popcount(opt->flags & ways) <= 1);
}

/* -ENXIO: there is nothing to fall back to. */
static int options_error(struct gw_engine *e, const struct gw_migrate_options *opt)
{
	bool fallback = opt && opt->flags & GW_MIGRATE_FALLBACK_SWAP;

	if (!options_known(opt))
		return -EINVAL;
	return fallback && nodes_direct(&e->nodes) == nodes_all(&e->nodes) ? -ENXIO : 0;
}

bool known_nodes(struct gw_engine *e, gw_nodemask mask)
{
	return mask && !(mask & ~nodes_all(&e->nodes));
}

int gw_job_migrate(struct gw_engine *e, gw_nodemask from, gw_nodemask to, const struct gw_migrate_options *opt,
		   void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	struct gw_job *job;
	int err = options_error(e, opt);

	if (!known_nodes(e, from) || !known_nodes(e, to))
		return -EINVAL;
	if (err)
		return err;
	job = job_take(e, opt);
	if (!job)
		return -EAGAIN;
	job->run = run_migrate;
	job->from = from;
	job->to = to;
	job->kick = kick;
	job->kick_arg = arg;
	*out = job;
	return job_start(job);
}

int gw_job_move(struct gw_engine *e, size_t count, void *const *pages, const int *nodes, int *status,
		const struct gw_migrate_options *opt, void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	struct gw_job *job;
	int err = options_error(e, opt);

	if (err)
		return err;
	job = job_take(e, opt);
	if (!job)
		return -EAGAIN;
	job->run = run_move;
	job->count = count;
	job->pages = pages;
	job->nodes = nodes;
	job->status = status;
	job->kick = kick;
	job->kick_arg = arg;
	*out = job;
	return job_start(job);
}

int gw_job_areas(struct gw_engine *e, int (*fn)(const struct gw_area *area, void *fn_arg), void *fn_arg,
		 void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	struct gw_job *job = job_take(e, NULL);

	if (!job)
		return -EAGAIN;
	job->run = areas_run;
	job->area_fn = fn;
	job->area_arg = fn_arg;
	job->kick = kick;
	job->kick_arg = arg;
	*out = job;
	return job_start(job);
}

static int run_numa_call(struct gw_job *job)
{
	*job->called = gw_numa_call(job->e, job->tid, job->call[0], job->call + 1);
	return 0;
}

int gw_job_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6], long *ret, void (*kick)(void *arg),
		void *arg, struct gw_job **out)
{
	struct gw_job *job = job_take(e, NULL);

	if (!job)
		return -EAGAIN;
	job->run = run_numa_call;
	job->tid = tid;
	job->called = ret;
	job->call[0] = nr;
	memcpy(job->call + 1, args, 6 * sizeof(*args));
	job->kick = kick;
	job->kick_arg = arg;
	*out = job;
	return job_start(job);
}

long gw_migrate_pages(struct gw_engine *e, gw_nodemask from, gw_nodemask to,
		      const struct gw_migrate_options *opt, struct gw_migrate_result *res)
{
	struct gw_job *job;
	int err;

	if (res && res->size < sizeof(*res))
		return -EINVAL;
	err = gw_job_migrate(e, from, to, opt, NULL, NULL, &job);
	return err ? err : job_end_wait(job, res);
}

long gw_move_pages(struct gw_engine *e, size_t count, void *const *pages, const int *nodes, int *status,
		   const struct gw_migrate_options *opt)
{
	struct gw_job *job;
	int err;

	if (!count)
		return 0;
	err = gw_job_move(e, count, pages, nodes, status, opt, NULL, NULL, &job);
	return err ? err : job_end_wait(job, NULL);
}

int gw_query(struct gw_engine *e, const void *addr)
{
	void *page = (void *)addr;
	int status = -ENOENT;
	long err = gw_move_pages(e, 1, &page, NULL, &status, NULL);

	return err < 0 ? (int)err : status;
}

int gw_areas(struct gw_engine *e, int (*fn)(const struct gw_area *area, void *arg), void *arg)
{
	struct gw_job *job;
	int err = gw_job_areas(e, fn, arg, NULL, NULL, &job);

	return err ? err : (int)job_end_wait(job, NULL);
}

/* ---- calls with nothing tracked and nothing in flight ---- */

static int run_call(struct gw_job *job)
{
	struct mm *mm = &job->e->mm;
	const long *a = job->call;

	lock_acquire(&mm->migrate);
	window_close(mm);
	job->left = sys5(a[0], a[1], a[2], a[3], a[4], a[5]);
	lock_release(&mm->migrate);
	return 0;
}

static int run_remap(struct gw_job *job)
{
	job->left = mm_remap(&job->e->mm, job->call);
	return 0;
}

static bool anything_known(const struct mm *mm)
{
	return __atomic_load_n(&mm->users, __ATOMIC_SEQ_CST) || !mm_knows_nothing(mm) ||
	       __atomic_load_n(&mm->place.nr_changes, __ATOMIC_RELAXED);
}

long gw_mremap(struct gw_engine *e, void *addr, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	const long call[] = { SYS_mremap, (long)addr, (long)old_len, (long)new_len, flags, (long)new_addr };
	struct gw_job *job = anything_known(&e->mm) ? job_take(e, NULL) : NULL;

	if (!job)
		return sys5(SYS_mremap, addr, old_len, new_len, flags, new_addr);
	memcpy(job->call, call, sizeof(call));
	job->run = run_remap;
	if (job_start(job))
		return sys5(SYS_mremap, addr, old_len, new_len, flags, new_addr);
	return job_end_wait(job, NULL);
}

/* A job has descriptors of its own: it takes a copy of the program's. */
static int run_ioctl(struct gw_job *job)
{
	long self = sys2(SYS_pidfd_open, sys0(SYS_getpid), 0), fd = sys3(SYS_pidfd_getfd, self, job->call[1], 0);

	job->left = -EBUSY;
	if (fd >= 0) {
		job->call[1] = fd;
		run_call(job);
		sys1(SYS_close, fd);
	}
	if (self >= 0)
		sys1(SYS_close, self);
	return 0;
}

long gw_ioctl(struct gw_engine *e, int fd, unsigned long request, void *arg)
{
	const long call[6] = { SYS_ioctl, fd, (long)request, (long)arg };
	struct gw_job *job;
	long ret;

	if (!__atomic_exchange_n(&e->mm.serves_faults, true, __ATOMIC_RELAXED)) {
		/* a batch may be reading ahead */
		lock_acquire(&e->mm.migrate);
		lock_release(&e->mm.migrate);
	}
	ret = sys3(SYS_ioctl, fd, request, arg);
	job = ret == -EBUSY ? job_take(e, NULL) : NULL;
	if (!job)
		return ret;
	memcpy(job->call, call, sizeof(call));
	job->run = run_ioctl;
	return job_start(job) ? ret : job_end_wait(job, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Jobs: a request on a thread of its own, with progress, an early end, and a bounded number of them. */
#include "agent/agent.h"

#include <errno.h>
#include <string.h>

void jobs_init(struct gw_engine *e)
{
	e->jobs_lock = LOCK_INIT(RANK_JOBS);
	for (uint32_t i = 0; i < JOBS_MAX; i++) {
		e->job[i].state = JOB_FREE;
		e->job[i].thread.tid = 0;
	}
}

static void request_fill(struct gw_job *job, const struct gw_migrate_options *given)
{
	struct gw_migrate_options opt = { 0 };
	struct request *rq = &job->rq;

	if (given)
		memcpy(&opt, given, min_u64(given->size, sizeof(opt)));
	*rq = (struct request){
		.mode = MIGRATE_SYNC,
		.reason = MR_SYSCALL,
		.bound_ns = (opt.stall_us_max ? opt.stall_us_max : job->e->opt.stall_us_max) * 1000ULL,
		.rate = opt.rate,
		.batch = opt.batch,
		.form = opt.form == GW_FORM_AUTO ? -1
										     : (int)opt.form - GW_FORM_PLAIN,
		.verify = opt.flags & GW_MIGRATE_VERIFY,
		.private_only = opt.flags & GW_MIGRATE_PRIVATE,
		.unshare_all = opt.flags & GW_MIGRATE_BREAK_COW,
		.keep_batch = opt.flags & GW_MIGRATE_NO_STEER,
		.dry_run = opt.flags & GW_MIGRATE_DRY_RUN,
		.lazy = opt.flags & GW_MIGRATE_LAZY	   ? LAZY_TO :
			opt.flags & GW_MIGRATE_NEXT_TOUCH  ? LAZY_TOUCHER :
			opt.flags & GW_MIGRATE_LAZY_CANCEL ? LAZY_BACK :
							     LAZY_NOT,
		.fallback = opt.flags & GW_MIGRATE_FALLBACK_SWAP,
		.cancel = &job->cancel,
		.progress = &job->progress,
	};
}

static bool is_free(const struct gw_job *job)
{
	return job->state == JOB_FREE || (job->nobodys && __atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == JOB_OVER &&
					  !__atomic_load_n(&job->thread.tid, __ATOMIC_ACQUIRE));
}

struct gw_job *job_take(struct gw_engine *e, const struct gw_migrate_options *opt)
{
	struct gw_job *job = NULL;
	uint64_t signals = signals_block();

	lock_acquire(&e->jobs_lock);
	for (uint32_t i = 0; i < JOBS_MAX && !job; i++)
		if (is_free(&e->job[i]))
			job = &e->job[i];
	if (job) {
		char *stack = job->thread.stack;

		*job = (struct gw_job){ .e = e, .state = JOB_QUEUED, .thread.stack = stack };
	}
	lock_release(&e->jobs_lock);
	signals_restore(signals);
	if (job)
		request_fill(job, opt);
	return job;
}

static int job_main(void *arg)
{
	struct gw_job *job = arg;
	struct mm *mm = &job->e->mm;
	void (*kick)(void *) = job->kick;
	void *kick_arg = job->kick_arg;

	frames_watch(job->e);
	job->error = job->run(job);
	__atomic_sub_fetch(&mm->users, 1, __ATOMIC_SEQ_CST);
	job->ended = clock_ns() - job->rq.started;
	__atomic_store_n(&job->state, JOB_OVER, __ATOMIC_RELEASE);
	futex_wake(&job->state);
	if (kick)
		kick(kick_arg);
	return 0;
}

/* Pages that wait to be touched need all that far nodes need. */
static int lazy_prepare(struct gw_engine *e)
{
	int err = mm_far_init(&e->mm);

	return err ? err : faults_start(e);
}

/* On the service thread, whose table of descriptors the new thread shares. */
static int job_launch(struct gw_engine *e, void *arg)
{
	struct gw_job *job = arg;
	int err;

	if (!job->thread.stack)
		job->thread.stack = region_alloc(&e->region, THREAD_STACK);
	if (!job->thread.stack)
		return -ENOMEM;
	err = job->rq.lazy ? lazy_prepare(e) : 0;
	if (err)
		return err;
	job->thread.fn = job_main;
	job->thread.arg = job;
	job->thread.name = "godwit-job";
	job->rq.started = clock_ns();
	job->state = JOB_RUNNING;
	__atomic_add_fetch(&e->mm.users, 1, __ATOMIC_SEQ_CST);
	e->stock_due = clock_ns() + STOCK_IDLE_NS;
	err = thread_start(&job->thread, false);
	if (err)
		__atomic_sub_fetch(&e->mm.users, 1, __ATOMIC_SEQ_CST);
	return err;
}

int job_start(struct gw_job *job)
{
	int err = gw_call(job->e, job_launch, job);

	if (err)
		job->state = JOB_FREE;
	return err;
}

void job_wait(struct gw_job *job)
{
	uint32_t state;

	while ((state = __atomic_load_n(&job->state, __ATOMIC_ACQUIRE)) == JOB_RUNNING)
		futex_wait(&job->state, state, 0);
}

int gw_job_progress(struct gw_job *job, struct gw_migrate_result *res)
{
	if (res)
		job_result(job, res);
	return __atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == JOB_OVER;
}

void gw_job_cancel(struct gw_job *job)
{
	__atomic_store_n(&job->cancel, 1, __ATOMIC_RELAXED);
}

void gw_job_end(struct gw_job *job)
{
	gw_job_cancel(job);
	thread_join(&job->thread);
	__atomic_store_n(&job->state, JOB_FREE, __ATOMIC_RELEASE);
}

void jobs_end(struct gw_engine *e)
{
	for (uint32_t i = 0; i < JOBS_MAX; i++)
		if (e->job[i].state != JOB_FREE)
			gw_job_end(&e->job[i]);
}

long job_end_wait(struct gw_job *job, struct gw_migrate_result *res)
{
	long left;

	job_wait(job);
	left = job->left;
	if (res)
		job_result(job, res);
	gw_job_end(job);
	return left;
}

static void result_stalls(const struct progress *p, struct gw_migrate_result *res)
{
	res->stall_ns_max = p->window.max;
	res->stall_ns_p99 = hist_at(&p->window, 990);
	res->stall_ns_p999 = hist_at(&p->window, 999);
	res->thp_stall_ns_max = p->window_huge.max;
	res->thp_stall_ns_p99 = hist_at(&p->window_huge, 990);
	res->thp_stall_ns_p999 = hist_at(&p->window_huge, 999);
}

void job_result(const struct gw_job *job, struct gw_migrate_result *res)
{
	const struct progress *p = &job->progress;
	bool over = __atomic_load_n(&job->state, __ATOMIC_ACQUIRE) == JOB_OVER;

	*res = (struct gw_migrate_result){
		.size = sizeof(*res),
		.pages_total = p->total,
		.pages_done = p->done,
		.pages_moved = p->moved,
		.pages_failed = p->failed_pages,
		.pages_gone = p->gone,
		.pages_huge = p->huge,
		.pages_lazy = p->lazy,
		.pages_fallback = p->fallen,
		.would_4k = p->would_small,
		.would_huge = p->would_huge,
		.would_swapped = p->would_swapped,
		.ns = over ? job->ended : clock_ns() - job->rq.started,
		.batches = p->batches,
		.retries = p->retries,
		.passes = p->passes,
		.verify_errors = p->verify_errors,
		.batch_last = p->batch_last,
		.form_last = p->batches ? p->form_last + GW_FORM_PLAIN : GW_FORM_AUTO,
		.state = !over ? 0 : job->cancel && p->done < p->total ? 2 : 1, /* too late: all was done */
		.error = job->error,
	};
	memcpy(res->failed, p->failed, sizeof(res->failed));
	memcpy(res->unmanaged, p->unmanaged, sizeof(res->unmanaged));
	result_stalls(p, res);
}

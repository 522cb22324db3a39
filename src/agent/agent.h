/* SPDX-License-Identifier: MIT */
/*
 * agent - the engine in a process: the API, its threads, jobs, fork.
 *
 * Threads
 *   service   one, always: reads events, answers faults, serves what is watched. Has a table of
 *             descriptors of its own, so the program cannot close what the engine needs, and a fork or
 *             an exec leaves nothing open.
 *   job       one for each request under way; shares the service thread's table.
 * Program threads never use a descriptor of the engine: they leave work (post) and wait.
 */
#ifndef GODWIT_AGENT_H
#define GODWIT_AGENT_H

#include "base/base.h"
#include "far/far.h"
#include "mm/mm.h"
#include "mmu/mmu.h"
#include "node/node.h"

#include <godwit.h>

#define JOBS_MAX 24
#define WATCH_MAX 40
#define POST_MAX 8
#define MOST_URGENT (-20)	/* a thread's priority, where that is permitted */
#define STOCK_IDLE_NS 1000000000ULL	/* then free frames go back to the host */

enum job_state { JOB_FREE, JOB_QUEUED, JOB_RUNNING, JOB_OVER };

struct gw_job {
	struct gw_engine *e;
	uint32_t state;			/* enum job_state; atomic; a futex */
	uint32_t cancel;		/* atomic */
	struct thread thread;
	int (*run)(struct gw_job *job);
	int error;
	long left;			/* what the request returns */
	long call[7];			/* a system call: its number and arguments */
	long *called;			/* where what it returned is wanted */
	struct mbind mbind;		/* of the NUMA calls */
	uint32_t tid;			/* who asks; 0: the job itself does */
	bool nobodys;			/* nobody waits for it: free as soon as its thread has ended */
	bool flag;
	struct request rq;
	struct progress progress;
	uint64_t ended;			/* ns it took, when over */
	/* what is asked */
	uint64_t from, to;
	uint64_t count;
	void *const *pages;
	const int *nodes;
	int *status;
	int (*area_fn)(const struct gw_area *area, void *arg);
	void *area_arg;
	void (*kick)(void *arg);
	void *kick_arg;
};

struct watch {
	int fd;				/* -1: free */
	void (*fn)(struct gw_engine *e, uint32_t events, void *arg);
	void *arg;
};

#define BUFFERS_SMALL 24U
#define BUFFERS (BUFFERS_SMALL + 4U)

struct buffer {
	void *mem;		/* NULL: not asked for yet */
	bool taken;
};

struct post {
	int (*fn)(struct gw_engine *e, void *arg);
	void *arg;
	int *ret;
	uint32_t *done;			/* a futex, or NULL */
};

/* One that waits for devices in the place of the fault thread. */
#define SLOW_THREADS 4U

struct slow_thread {
	struct gw_engine *e;
	struct thread thread;
	uint8_t *pages;
};

/* The fault thread's. */
struct awake {
	int fd;				/* of the PM QoS request; -1: none */
	bool refused;			/* no right to, or not wanted */
	uint64_t since, touches;	/* when the spell began, and how many there were then */
	uint64_t worth;			/* when there were many last */
};

struct gw_engine {
	struct region region;
	struct node_table nodes;
	struct mm mm;
	struct mmu *mmu;
	struct gw_options opt;
	uint32_t pid;
	/* service thread */
	struct thread service;
	int epoll, signal_fd;		/* service thread only */
	uint32_t ready;			/* futex: 1 starting, 2 up or failed: see start_error */
	int start_error;
	bool stopping;
	bool heir_watched;		/* service thread only */
	struct thread faults;
	struct slow_thread slow[SLOW_THREADS];
	uint32_t faults_stop;		/* atomic */
	struct thread reclaimer;
	uint32_t reclaimer_stop;	/* atomic */
	bool hurried;			/* service thread only */
	uint32_t tick_ms;
	uint64_t tick_due;
	uint64_t stock_due;		/* when to look whether free frames are still needed; 0: there are none */
	uint64_t stock_batches;		/* as many there were then */
	void (*tick_fn)(struct gw_engine *e, void *arg);
	void *tick_arg;
	struct watch watch[WATCH_MAX];
	struct lock post_lock;
	uint32_t nr_posts;
	struct post post[POST_MAX];
	/* jobs */
	struct lock jobs_lock;
	struct gw_job job[JOBS_MAX];
	struct lock buffers_lock;
	struct buffer buffer[BUFFERS];
	uint32_t collecting;		/* touches and departures are about to be entered; atomic */
	uint64_t fds_seen;		/* when the program's descriptors were last looked at */
};

/* ---- engine.c ---- */

/* This process's engine; NULL also in a child whose engine could not be built. */
struct gw_engine *engine_self(void);

/* ---- service.c ---- */

/* In the parent, when fork() is over: until the child's engine has taken over what is away. */
void heir_wait(struct gw_engine *e);
/* Start the service thread and wait until it serves. In a forked child it keeps the books of the parent. */
int service_start(struct gw_engine *e);
void service_stop(struct gw_engine *e);
/* Have it look what there is to do. */
void service_kick(struct gw_engine *e);

/* ---- faults.c: on the service thread ---- */

int faults_start(struct gw_engine *e);
/* With the first node that waits for a device. */
int slow_start(struct gw_engine *e);
void faults_stop(struct gw_engine *e);

/* ---- awake.c ---- */

/* So many touches of pages that are away there were until now. Now and then, also when there are none. */
void awake_look(struct awake *a, uint64_t now, uint64_t touches);
void awake_end(struct awake *a);

/* ---- reclaimer.c ---- */

/* On the service thread; where no node has a limit nothing happens. */
int reclaimer_start(struct gw_engine *e);
void reclaimer_stop(struct gw_engine *e);

/* ---- job.c ---- */

void jobs_init(struct gw_engine *e);
/* Cancel all and wait. */
void jobs_end(struct gw_engine *e);
/* A free slot, or NULL. */
struct gw_job *job_take(struct gw_engine *e, const struct gw_migrate_options *opt);
/* Have it run on a thread of its own. */
int job_start(struct gw_job *job);
void job_wait(struct gw_job *job);
/* Wait for its end, and free it; what the request returns. */
long job_end_wait(struct gw_job *job, struct gw_migrate_result *res);
void job_result(const struct gw_job *job, struct gw_migrate_result *res);

/* ---- api.c ---- */

/* A set of nodes that there are, and not empty. */
bool known_nodes(struct gw_engine *e, gw_nodemask mask);

/* ---- buffers.c ---- */

/* Also in a forked child: the threads that had them are not there. */
void buffers_init(struct gw_engine *e);

/* ---- areas.c ---- */

int areas_run(struct gw_job *job);

/* ---- watchful.c ---- */

/* Has the program descriptors through which the kernel holds pages without pinning them? Then stop recycling. */
void frames_watch(struct gw_engine *e);
/* Have first touches that were seen entered in the books, some time soon. Any thread. */
void touch_collect(struct gw_engine *e);

#endif

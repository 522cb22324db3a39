/* SPDX-License-Identifier: MIT */
/*
 * place - where pages come from: the policies of ranges and of threads, the nodes that they may name, and what that
 * says of a page that is seen for the first time.
 *
 * Nothing is trapped for it. A page is charged when the engine next looks; until then no policy may change. So every
 * change first brings the books up to date (mm_settle()). Where it matters who touched a page first (threads whose
 * policies or CPUs differ) first touches are observed from then on, see mmu/touch.h.
 */
#ifndef GODWIT_MM_PLACE_H
#define GODWIT_MM_PLACE_H

#include "node/node.h"
#include "policy/policy.h"

#define TASKS_MAX 8192U
#define POLICIES_MAX 65536U
#define NODE_BY_POLICY (-1)
#define HOST_UNKNOWN (-1)

/* A thread that has, or inherited, a policy or a set of CPUs of its own. */
struct task {
	uint32_t tid;		/* 0: free */
	int home;		/* node of the CPUs that it may use; -1: of several nodes */
	struct mempolicy pol;
};

/* A policy of mbind(): the counterpart of vma->vm_policy. */
struct range_policy {
	uint64_t start, end;
	uint64_t since;		/* clock_ns() */
	struct mempolicy pol;
};

/* A range that lost its pages at a time: what was touched there before was another page. */
struct departure {
	uint64_t start, end, time;
	bool unmapped;
};

#define DEPARTURES_MAX 1024U

/*
 * What the program has taken away, told by its threads without a lock: a lock of ours would have them wait for the
 * batch in flight. The books hear of it when they are next looked at.
 *
 *   program threads                          who holds mm->lock
 *   take the slot at tail (CAS)              slot at head is ready?
 *   fill it, then mark it ready (release)    (acquire) read it, head++
 */
struct departures {
	uint64_t head;		/* protected by mm->lock; read by others */
	uint64_t tail;		/* atomic */
	struct {
		struct departure what;
		uint64_t ready;	/* its number + 1; atomic */
	} slot[DEPARTURES_MAX];
};

/* All fields are protected by mm->lock. */
struct placement {
	uint64_t allowed;	/* the nodes that policies may name; 0: all */
	struct task initial;	/* what a thread has that is not in the table */
	struct task *task;	/* a hash table of TASKS_MAX; NULL: no thread is in it */
	struct task *spare;	/* another, to go to when it is cleared of threads that are gone */
	uint32_t nr_tasks;
	struct range_policy *range;	/* in order of addresses; NULL: none yet */
	uint32_t nr_ranges;
	uint32_t nr_changes;	/* of threads' policies, since the start */
	bool complete;		/* all that was touched before the observation began is in the books */
	struct departures departures;
	struct departure departure[DEPARTURES_MAX];	/* of them, since first touches were last entered */
	uint32_t nr_departures;
	uint64_t lost;		/* first touches that the observation missed */
};

/* Who touches a page first. */
struct toucher {
	const struct mempolicy *pol;
	int local;		/* the node of its CPU */
};

#endif

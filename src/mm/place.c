/* SPDX-License-Identifier: MIT */
/* Which node a new page is charged to. See place.h. */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

uint64_t place_allowed(const struct mm *mm)
{
	uint64_t all = nodes_direct(mm->nodes);

	return mm->place.allowed ? mm->place.allowed & all : all;
}

/* ---- threads ---- */

static uint32_t task_hash(uint32_t tid)
{
	return tid * 2654435761U % TASKS_MAX;
}

static struct task *task_find(const struct placement *p, uint32_t tid)
{
	if (!p->task)
		return NULL;
	for (uint32_t i = task_hash(tid), n = 0; n < TASKS_MAX; n++, i = (i + 1) % TASKS_MAX) {
		if (p->task[i].tid == tid)
			return &p->task[i];
		if (!p->task[i].tid)
			return NULL;
	}
	return NULL;
}

const struct task *task_of(const struct mm *mm, uint32_t tid)
{
	const struct task *t = task_find(&mm->place, tid);

	return t ? t : &mm->place.initial;
}

static bool thread_lives(uint32_t tid)
{
	return sys3(SYS_tgkill, sys0(SYS_getpid), tid, 0) >= 0;
}

/* Those that are gone leave; the others go to the other table, so that none is lost to a search. */
static void tasks_expire(struct placement *p)
{
	struct task *old = p->task;

	p->task = p->spare;
	p->spare = old;
	memset(p->task, 0, TASKS_MAX * sizeof(struct task));
	p->nr_tasks = 0;
	for (uint32_t i = 0; i < TASKS_MAX; i++) {
		uint32_t at = task_hash(old[i].tid);

		if (!old[i].tid || !thread_lives(old[i].tid))
			continue;
		while (p->task[at].tid)
			at = (at + 1) % TASKS_MAX;
		p->task[at] = old[i];
		p->nr_tasks++;
	}
}

static struct task *task_make(struct mm *mm, uint32_t tid)
{
	struct placement *p = &mm->place;
	struct task *t = task_find(p, tid);
	uint32_t at = task_hash(tid);

	if (t)
		return t;
	if (!p->task) {
		p->task = region_alloc(mm->region, TASKS_MAX * sizeof(struct task));
		p->spare = region_alloc(mm->region, TASKS_MAX * sizeof(struct task));
	}
	if (!p->task || !p->spare)
		return NULL;
	if (p->nr_tasks > TASKS_MAX * 3 / 4)
		tasks_expire(p);
	if (p->nr_tasks > TASKS_MAX * 3 / 4)
		return NULL;
	while (p->task[at].tid)
		at = (at + 1) % TASKS_MAX;
	p->task[at] = p->initial;
	p->task[at].tid = tid;
	p->nr_tasks++;
	return &p->task[at];
}

int task_set_policy(struct mm *mm, uint32_t tid, const struct mempolicy *pol)
{
	struct task *t = task_make(mm, tid);

	if (!t)
		return -ENOMEM;
	t->pol = *pol;
	mm->place.nr_changes++;
	return 0;
}

int task_set_home(struct mm *mm, uint32_t tid, int home)
{
	struct task *t = task_make(mm, tid);

	if (!t)
		return -ENOMEM;
	t->home = home;
	return 0;
}

bool task_differs(const struct mm *mm, uint32_t tid, const struct task *from)
{
	const struct task *t = task_of(mm, tid);

	return t->home != from->home || !mpol_equal(&t->pol, &from->pol);
}

int task_inherit(struct mm *mm, uint32_t tid, const struct task *from)
{
	struct task *t = task_make(mm, tid);

	if (!t)
		return -ENOMEM;
	t->pol = from->pol;
	t->home = from->home;
	return 0;
}

/* In a forked child the forking thread is the only one, under a new number. */
void tasks_fork_child(struct mm *mm, uint32_t parent_tid)
{
	struct placement *p = &mm->place;

	p->initial = *task_of(mm, parent_tid);
	p->initial.tid = 0;
	if (p->task)
		memset(p->task, 0, TASKS_MAX * sizeof(struct task));
	p->nr_tasks = 0;
}

/* The node of a set of CPUs, -1: of several; no CPU at all counts as the first node that has one. */
int place_home(const struct mm *mm, const uint64_t *cpus, uint32_t nr)
{
	int home = -2;

	for (uint32_t cpu = 0; cpu < nr; cpu++) {
		int node = cpus[cpu / 64] >> cpu % 64 & 1 ? node_of_cpu(mm->nodes, (int)cpu) : -EINVAL;

		if (node < 0 || node == home)
			continue;
		if (home != -2)
			return -1;
		home = node;
	}
	return home == -2 ? -1 : home;
}

/* The node that a thread's pages come from, as far as its CPUs tell: where it may run on several, the first with CPUs. */
static int local_of(const struct mm *mm, const struct task *t)
{
	return t->home >= 0 ? t->home : node_of_cpu(mm->nodes, 0);
}

/* ---- ranges ---- */

/* The first range that ends above addr. */
static uint32_t range_index(const struct placement *p, uint64_t addr)
{
	uint32_t low = 0, high = p->nr_ranges;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (p->range[mid].end > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

struct range_policy *range_at(const struct mm *mm, uint64_t addr, uint64_t *end)
{
	const struct placement *p = &mm->place;
	uint32_t i = range_index(p, addr);
	struct range_policy *r = i < p->nr_ranges ? &p->range[i] : NULL;
	bool holds = r && r->start <= addr;

	if (end && r)
		*end = min_u64(*end, holds ? r->end : r->start);
	return holds ? r : NULL;
}

static bool insert_at(struct placement *p, uint32_t i, struct range_policy r)
{
	if (p->nr_ranges == POLICIES_MAX)
		return false;
	memmove(&p->range[i + 1], &p->range[i], (p->nr_ranges - i) * sizeof(r));
	p->range[i] = r;
	p->nr_ranges++;
	return true;
}

static void remove_at(struct placement *p, uint32_t i)
{
	p->nr_ranges--;
	memmove(&p->range[i], &p->range[i + 1], (p->nr_ranges - i) * sizeof(p->range[0]));
}

/* No range crosses addr afterwards. */
static bool cut_at(struct placement *p, uint64_t addr)
{
	uint32_t i = range_index(p, addr);
	struct range_policy tail;

	if (i == p->nr_ranges || p->range[i].start >= addr)
		return true;
	tail = p->range[i];
	tail.start = addr;
	if (!insert_at(p, i + 1, tail))
		return false;
	p->range[i].end = addr;
	return true;
}

/* Those that were there before. Where the table is full what sticks out goes too: better none than a wrong one. */
static void clear_before(struct mm *mm, uint64_t start, uint64_t end, uint64_t before)
{
	struct placement *p = &mm->place;

	if (!p->nr_ranges)
		return;
	cut_at(p, start);
	cut_at(p, end);
	for (uint32_t i = range_index(p, start); i < p->nr_ranges && p->range[i].start < end;)
		if (p->range[i].since < before)
			remove_at(p, i);
		else
			i++;
}

void range_clear(struct mm *mm, uint64_t start, uint64_t end)
{
	clear_before(mm, start, end, UINT64_MAX);
}

void range_left(struct mm *mm, uint64_t start, uint64_t end, uint64_t at)
{
	clear_before(mm, start, end, at);
}

static bool joins(const struct range_policy *a, const struct range_policy *b)
{
	return a->end == b->start && mpol_equal(&a->pol, &b->pol);
}

int range_set(struct mm *mm, uint64_t start, uint64_t end, const struct mempolicy *pol)
{
	struct placement *p = &mm->place;
	uint32_t i;

	if (!p->range)
		p->range = region_alloc(mm->region, POLICIES_MAX * sizeof(p->range[0]));
	if (!p->range || p->nr_ranges + 3 > POLICIES_MAX)
		return -ENOMEM;
	range_clear(mm, start, end);
	if (pol->mode == MPOL_DEFAULT)
		return 0;
	i = range_index(p, start);
	insert_at(p, i, (struct range_policy){ start, end, clock_ns(), *pol });
	if (i + 1 < p->nr_ranges && joins(&p->range[i], &p->range[i + 1])) {
		p->range[i].end = p->range[i + 1].end;
		remove_at(p, i + 1); /* the later of the two times stays */
	}
	if (i && joins(&p->range[i - 1], &p->range[i])) {
		p->range[i - 1].end = p->range[i].end;
		p->range[i - 1].since = p->range[i].since;
		remove_at(p, i);
	}
	return 0;
}

/* mremap() takes them along; what was at the new place is gone with it. */
void range_move(struct mm *mm, uint64_t from, uint64_t to, uint64_t len, bool keep)
{
	struct placement *p = &mm->place;
	struct range_policy r;
	uint64_t at = from;
	uint32_t i;

	if (!p->nr_ranges)
		return;
	range_clear(mm, to, to + len);
	while (at < from + len && (i = range_index(p, at)) < p->nr_ranges && p->range[i].start < from + len) {
		r = p->range[i];
		r.start = max_u64(r.start, at);
		r.end = min_u64(r.end, from + len);
		at = r.end;
		range_set(mm, r.start - from + to, r.end - from + to, &r.pol);
	}
	if (!keep)
		range_clear(mm, from, from + len);
}

/*
 * The host's kernel keeps a mark where a policy of ours holds, and loses it with the mapping: what has no mark is a
 * mapping that came later.
 */
void ranges_check(struct mm *mm, uint64_t start, uint64_t end)
{
	struct placement *p = &mm->place;

	for (uint32_t i = range_index(p, start); i < p->nr_ranges && p->range[i].start < end; i++) {
		uint64_t from = max_u64(p->range[i].start, start), to = min_u64(p->range[i].end, end);

		start = to;
		if (mm->mmu->ops->marked(mm->mmu, from) > 0)
			continue;
		range_clear(mm, from, to);
		i = range_index(p, start) - 1;
	}
}

void place_rebind(struct mm *mm, uint64_t allowed)
{
	struct placement *p = &mm->place;

	p->allowed = allowed;
	mpol_rebind(&p->initial.pol, allowed);
	for (uint32_t i = 0; p->task && i < TASKS_MAX; i++)
		if (p->task[i].tid)
			mpol_rebind(&p->task[i].pol, allowed);
	for (uint32_t i = 0; i < p->nr_ranges; i++)
		mpol_rebind(&p->range[i].pol, allowed);
	host_ranges(mm);
}

/* ---- one page ---- */

/* The index that interleaving goes by: the page's place in its mapping, in pages of its own size. */
static uint64_t interleave_index(struct mm *mm, uint64_t addr, uint32_t nr)
{
	const struct span *span = nr > 1 ? span_find(mm, addr) : NULL;
	uint64_t unit = nr * PAGE_SIZE_, start = span ? span->start : 0;

	return start / unit + (addr - start) / unit;
}

static bool has_room(struct node_table *t, int node, uint32_t nr)
{
	uint64_t most = t->node[node].spec.bytes / PAGE_SIZE_;

	return !most || t->node[node].pages + nr <= most;
}

static int nearest_with_room(struct node_table *t, int near, uint64_t mask, uint32_t nr)
{
	int node;

	while ((node = node_nearest(t, near, mask)) >= 0 && !has_room(t, node, nr))
		mask &= ~(1ULL << node);
	return node;
}

static void count_place(struct node_table *t, const struct mpol_choice *c, int wanted, int node, uint32_t nr)
{
	if (node == wanted) {
		t->node[node].hit += nr;
	} else {
		t->node[node].miss += nr;
		t->node[wanted].foreign += nr;
	}
	if (c->interleaved && node == wanted)
		t->node[node].interleave_hit += nr;
}

/* A page that is there already counts where it is. */
static int choose_node(struct mm *mm, const struct mpol_choice *c, uint32_t nr, bool must, int host)
{
	uint64_t allowed = place_allowed(mm), mask = c->nodes & allowed;
	int near, node;

	mask = mask ? mask : allowed;
	near = node_nearest(mm->nodes, c->near, mask);
	if (c->interleaved) /* its node is a wish, not a limit */
		near = allowed >> c->near & 1 ? c->near : node_nearest(mm->nodes, c->near, allowed);
	node = has_room(mm->nodes, near, nr) ? near : nearest_with_room(mm->nodes, c->near, mask, nr);
	if (node < 0 && !c->strict)
		node = nearest_with_room(mm->nodes, c->near, allowed, nr);
	if (node < 0 && !must)
		return -ENOMEM;
	node = node_true(mm->nodes, node < 0 ? near : node, host);
	count_place(mm->nodes, c, near, node, nr);
	return node;
}

static const struct mempolicy *policy_at(struct mm *mm, uint64_t addr, const struct mempolicy *task)
{
	const struct range_policy *r = mm->place.nr_ranges ? range_at(mm, addr, NULL) : NULL;

	return r ? &r->pol : task;
}

static const uint8_t *weights(struct mm *mm, uint8_t *buf)
{
	for (uint32_t n = 0; n < mm->nodes->nr; n++)
		buf[n] = (uint8_t)max_u64(mm->nodes->node[n].spec.weight, 1);
	return buf;
}

/* host: of a page that is there, else HOST_UNKNOWN; PLACE_AGAIN: it may stay where it is. */
#define PLACE_AGAIN (-2)

static int place(struct mm *mm, uint64_t addr, uint32_t nr, const struct toucher *who, int host)
{
	const struct mempolicy *pol = policy_at(mm, addr, who->pol);
	uint8_t weight[NODE_MAX];
	struct mpol_choice c;
	int node;

	if (!mm->nodes->nr)
		return 0; /* there will be one */

	c = mpol_choose(pol, pol->mode == MPOL_WEIGHTED_INTERLEAVE ? weights(mm, weight) : NULL, who->local,
			interleave_index(mm, addr, nr));
	node = choose_node(mm, &c, nr, host != PLACE_AGAIN, host);
	if (node >= 0) {
		mm->nodes->node[node].local += node == who->local ? nr : 0;
		mm->nodes->node[node].other += node == who->local ? 0 : nr;
	}
	return node;
}

/* Nobody knows who touched it: as if the first thread had. */
static struct toucher anybody(struct mm *mm)
{
	const struct task *t = task_of(mm, mm->pid);

	return (struct toucher){ &t->pol, local_of(mm, t) };
}

bool place_interleaved(struct mm *mm, uint64_t addr)
{
	return mpol_interleaves(policy_at(mm, addr, anybody(mm).pol));
}

int place_page(struct mm *mm, uint64_t addr, uint32_t nr, const struct toucher *who, int host)
{
	struct toucher any;

	if (!who) {
		any = anybody(mm);
		who = &any;
	}
	return place(mm, addr, nr, who, host);
}

struct toucher toucher_of(struct mm *mm, uint32_t tid, int cpu)
{
	const struct task *t = task_of(mm, tid);
	int node = node_of_cpu(mm->nodes, cpu);

	return (struct toucher){ &t->pol, node < 0 ? local_of(mm, t) : node };
}

int place_again(struct mm *mm, uint64_t addr, uint32_t nr, const struct toucher *who)
{
	return place(mm, addr, nr, who, PLACE_AGAIN);
}

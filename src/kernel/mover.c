/* SPDX-License-Identifier: MIT */
/*
 * Calls of move_pages(2), as large as the bound of a stall allows.
 *
 * What one call does (mm/migrate.c, do_pages_move()), and who waits:
 *
 *   our thread                                        a thread of the target
 *   ----------                                        ----------------------
 *   empty every CPU's list of fresh pages             goes on
 *   look up and isolate page after page               goes on
 *   replace all entries by migration entries          a touch of one of these pages waits from here ...
 *   copy
 *   put the new entries                               ... to here
 *
 * So a touch waits for less than the call lasts. The first step makes nobody wait, and costs the same whatever the
 * call is for; it is measured by calls for an address where nothing is, and the least that was seen is taken off. The
 * rest is reported as the stall: nobody has waited longer.
 *
 * It is far too much where the machine is busy, for in the first step our thread sleeps until every CPU has had its
 * turn. So the size of the next call is steered (policy/steer.c) by the time that our thread was on a CPU, less what
 * that is in a call for nothing: the steps in which others wait are work. Our thread is not to be interrupted in them
 * (thread_hurry()).
 *
 * A page that somebody holds is taken away and put back up to ten times before the kernel gives up, so it costs ten
 * times as much, and such pages come in runs: what was refused so, and what comes behind it, is steered by itself, from
 * one page a call on.
 *
 * Where a destination is nearly full the kernel reclaims memory while pages of the same call are already away; one page
 * a call is asked for then, whose new place is found before it goes.
 */
#include "kernel/kernel.h"
#include "policy/policy.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOVE_OWN 2	/* MPOL_MF_MOVE, MPOL_MF_MOVE_ALL */
#define MOVE_ALL 4

#define CALL_MAX 512U		/* the kernel takes away no more at once (NR_MAX_BATCHED_MIGRATION) */
#define PROBES 8
#define TURNS 9U		/* 1, 2, 4 ... ms before each */
#define TURNS_FEW 3U		/* of what is seldom of another mind later */
#define CREDIT (64ULL << 20)	/* bytes between two looks at what is free */
#define RESERVE (64ULL << 20)	/* below this a node is nearly full */
#define FULL_AFTER 64U		/* pages refused in a row */
#define SLICE_NS 50000000ULL	/* between two looks at a stop */
#define GIANT_RATE 2ULL		/* bytes a nanosecond that the copy of a page of 1 GiB is expected to have */

enum unit_class { SMALL, HUGE, HUGETLB, GIANT, CLASSES };

/* What is known of a destination. */
struct dest {
	int64_t credit;		/* bytes until it is looked at again */
	bool tight;		/* nearly full */
	uint32_t refused[CLASSES];	/* in a row, for want of memory */
};

struct kernel_mover {
	int pid;
	struct kernel_move_options opt;
	struct kernel_calls *calls;
	struct steer steer[CLASSES][2];	/* of each class: as a rule; of pages that may be held by somebody */
	bool held[CLASSES];	/* the last call met such */
	bool again;		/* pages that were refused before */
	struct dest dest[KERNEL_NODES];
	bool may_hurry;
	uint64_t fixed_cpu;	/* time on a CPU of a call for nothing */
	uint64_t start, bytes;	/* for the rate */
	/* one call */
	uint64_t addr[CALL_MAX];
	int32_t node[CALL_MAX], status[CALL_MAX], verdict[CALL_MAX];
	struct kernel_unit *unit[CALL_MAX], asked[CALL_MAX];
};

static enum unit_class class_of(const struct kernel_unit *u)
{
	if (u->pages > KERNEL_HUGE_PAGES)
		return GIANT;
	return u->kind == KERNEL_HUGETLB ? HUGETLB : u->pages == KERNEL_HUGE_PAGES ? HUGE : SMALL;
}

static struct steer *steer_of(struct kernel_mover *m, enum unit_class class)
{
	return &m->steer[class][m->again || m->held[class]];
}

static uint64_t unit_bytes(const struct kernel_unit *u)
{
	return u->pages * KERNEL_PAGE;
}

/* ---------------------------------------------------------------- verdicts ---- */

/*
 * The kernel queues pages of one node. A page that it does not queue (an error, or it is there already) has its status
 * stored at once, then all that are queued are moved; if that fails for any, the call ends there without storing
 * theirs. So what is untold is: the group that failed, just before the last status that was told; and, behind that
 * status, pages that nobody looked at. If nothing is untold before it, the group was the last one.
 */
void kernel_verdicts(const int32_t *status, uint32_t nr, long ret, int32_t *verdict)
{
	uint32_t last = 0, group = 0; /* one behind the last that was told; how many before it were not */

	for (uint32_t i = 0; i < nr; i++)
		if (status[i] != KERNEL_UNTOLD)
			last = i + 1;
	for (uint32_t i = 0; i < last; i++)
		group += status[i] == KERNEL_UNTOLD;
	for (uint32_t i = 0; i < nr; i++) {
		if (status[i] != KERNEL_UNTOLD)
			verdict[i] = status[i];
		else if (ret == 0 || i < last || !group)
			verdict[i] = KERNEL_TRIED;
		else
			verdict[i] = KERNEL_UNTOLD;
	}
}

/* ---------------------------------------------------------------- time ---- */

static bool stopped(const struct kernel_mover *m)
{
	return m->opt.stop && m->opt.stop(m->opt.arg);
}

/* True: a stop was asked for meanwhile. */
static bool pause_until(const struct kernel_mover *m, uint64_t when)
{
	for (uint64_t now = clock_ns(); now < when; now = clock_ns()) {
		if (stopped(m))
			return true;
		sleep_ns(min_u64(when - now, SLICE_NS));
	}
	return stopped(m);
}

static uint64_t rate_until(const struct kernel_mover *m)
{
	if (!m->opt.rate)
		return 0;
	return m->start + (uint64_t)((double)m->bytes * 1e9 / (double)m->opt.rate);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts = { 0 };

	sys2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* One call for what is in .addr, .node and .status, and its time. */
struct spent {
	uint64_t wall, cpu;
};

static long timed_call(struct kernel_mover *m, uint32_t nr, struct spent *spent)
{
	uint64_t begin, cpu;
	long ret;

	if (m->may_hurry)
		thread_hurry(true);
	cpu = cpu_ns();
	begin = clock_ns();
	ret = sys_numa(SYS_move_pages, m->pid, nr, m->addr, m->node, m->status, m->opt.all ? MOVE_ALL : MOVE_OWN);
	spent->wall = clock_ns() - begin;
	spent->cpu = cpu_ns() - cpu;
	if (m->may_hurry)
		thread_hurry(false);
	return ret;
}

/* The part of a call that has nothing to do with pages: one for an address where nothing can be. */
static void probe(struct kernel_mover *m)
{
	struct spent best = { ~0ULL, ~0ULL }, spent;

	m->addr[0] = 0;
	m->node[0] = 0;
	for (int i = 0; i < PROBES && timed_call(m, 1, &spent) >= 0; i++) {
		best.wall = min_u64(best.wall, spent.wall);
		best.cpu = min_u64(best.cpu, spent.cpu);
	}
	m->calls->fixed_ns = best.wall == ~0ULL ? 0 : best.wall;
	m->fixed_cpu = best.cpu == ~0ULL ? 0 : best.cpu;
}

/* ---------------------------------------------------------------- room ---- */

static void look_at_room(struct dest *d, int node)
{
	uint64_t free = kernel_node_free(node);

	d->tight = free < RESERVE + CREDIT;
	d->credit = d->tight ? (int64_t)(16 * KERNEL_PAGE) : (int64_t)CREDIT;
}

static void spend(struct dest *d, int node, uint64_t bytes)
{
	d->credit -= (int64_t)bytes;
	if (d->credit <= 0)
		look_at_room(d, node);
}

/* ---------------------------------------------------------------- one call ---- */

struct kernel_mover *kernel_mover_new(int pid, const struct kernel_move_options *opt, struct kernel_calls *calls)
{
	struct kernel_mover *m = calloc(1, sizeof(*m));
	uint32_t most = opt->batch && opt->batch < CALL_MAX ? opt->batch : CALL_MAX;

	if (!m)
		return NULL;
	m->pid = pid;
	m->opt = *opt;
	m->calls = calls;
	m->start = clock_ns();
	/* The first one is not to be a dozen where one may take as long as the bound. */
	for (int c = SMALL; c < CLASSES; c++) {
		for (int held = 0; held < 2; held++) {
			steer_init(&m->steer[c][held], opt->bound_ns, c == SMALL ? most : c == GIANT ? 1 : 8,
				   FORM_PLAIN, false);
			if (held || c != SMALL)
				m->steer[c][held].form[FORM_PLAIN].batch = 1;
		}
	}
	/* What was started with another policy keeps it. */
	m->may_hurry = sys1(SYS_sched_getscheduler, 0) == SCHED_OTHER;
	probe(m);
	return m;
}

void kernel_mover_free(struct kernel_mover *m)
{
	free(m);
}

/* Where those are whose fate was not told, or that were refused: another address of the same page may have taken them. */
static int settle(struct kernel_mover *m, uint32_t nr, int why)
{
	int err;

	for (uint32_t i = 0; i < nr; i++)
		m->asked[i] = *m->unit[i];
	err = kernel_query(m->pid, m->asked, nr);
	for (uint32_t i = 0; !err && i < nr; i++) {
		struct kernel_unit *u = m->unit[i];

		if (m->verdict[i] == KERNEL_UNTOLD)
			continue;
		if (m->asked[i].node == u->to)
			u->err = 0;
		else if (m->asked[i].node < 0)
			u->err = ENOENT;
		else
			u->err = (int16_t)(m->verdict[i] < 0 && m->verdict[i] > -4096 ? -m->verdict[i] : why);
	}
	return err;
}

/* No room, and several asked for: the kernel has given up at one of them. One by one, then. */
static int too_many(struct kernel_mover *m, uint32_t nr)
{
	struct dest *d = &m->dest[m->unit[0]->to];
	int err = settle(m, nr, ECANCELED);

	d->tight = true;
	d->credit = 16 * KERNEL_PAGE;
	return err;
}

/* The answer of the kernel as errors of the units; -errno ends it all. */
static int judge(struct kernel_mover *m, uint32_t nr, long ret)
{
	bool clean = ret == 0;

	if (ret == -EINVAL) /* its address space has gone */
		ret = -ESRCH;
	if (ret < 0 && ret != -ENOMEM && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
		return (int)ret;
	kernel_verdicts(m->status, nr, ret, m->verdict);
	for (uint32_t i = 0; i < nr; i++) {
		clean = clean && m->verdict[i] == m->unit[i]->to;
		if (clean)
			m->unit[i]->err = 0;
	}
	if (clean)
		return 0;
	return ret == -ENOMEM && nr > 1 ? too_many(m, nr) : settle(m, nr, ret < 0 ? (int)-ret : EBUSY);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void count_call(struct kernel_mover *m, enum unit_class class, uint32_t nr, const struct spent *spent)
{
	uint64_t stall = less(spent->wall, m->calls->fixed_ns);
	uint64_t busy = min_u64(stall, less(spent->cpu, m->fixed_cpu));
	uint32_t tried = 0, pages = 0, held = 0;
	struct dest *d = &m->dest[m->unit[0]->to];

	for (uint32_t i = 0; i < nr; i++) {
		const struct kernel_unit *u = m->unit[i];

		/* What was refused at first sight was never away. */
		tried += u->err == 0 || u->err == EBUSY || u->err == EAGAIN || u->err == ENOMEM;
		held += u->err == EBUSY;
		pages += u->err == 0 ? u->pages : 0;
		m->bytes += u->err == 0 ? unit_bytes(u) : 0;
		if (u->err == ENOMEM)
			d->refused[class]++;
		else if (u->err == 0)
			d->refused[class] = 0;
	}
	m->calls->calls++;
	m->calls->batch = nr;
	m->calls->call_ns_max = max_u64(m->calls->call_ns_max, spent->wall);
	hist_add(&m->calls->stall[class != SMALL], stall);
	hist_add(&m->calls->busy[class != SMALL], busy);
	if (tried)
		steer_learn(steer_of(m, class), FORM_PLAIN, tried, busy, busy);
	m->held[class] = held;
	spend(d, m->unit[0]->to, pages * KERNEL_PAGE);
}

static int call(struct kernel_mover *m, enum unit_class class, uint32_t nr)
{
	struct spent spent;
	long ret;
	int err;

	for (uint32_t i = 0; i < nr; i++) {
		m->addr[i] = m->unit[i]->addr;
		m->node[i] = m->unit[i]->to;
		m->status[i] = KERNEL_UNTOLD;
	}
	ret = timed_call(m, nr, &spent);
	err = judge(m, nr, ret);
	if (!err)
		count_call(m, class, nr, &spent);
	return err;
}

/* ---------------------------------------------------------------- many ---- */

/* Units whose move would certainly take longer than the bound, or find no room. */
static int hopeless(const struct kernel_mover *m, const struct kernel_unit *u)
{
	if (class_of(u) == GIANT && m->opt.bound_ns && unit_bytes(u) / GIANT_RATE > m->opt.bound_ns)
		return EFBIG;
	return m->dest[u->to].refused[class_of(u)] >= FULL_AFTER ? ENOMEM : 0;
}

static bool alike(const struct kernel_unit *a, const struct kernel_unit *b)
{
	return class_of(a) == class_of(b) && a->to == b->to;
}

/*
 * The units of the next call: the first that is left, and those behind it of the same class and destination, though
 * others stand between them. *at becomes the first one's index.
 */
static uint32_t gather(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr, uint32_t *at)
{
	uint32_t most = 1, n = 0;

	for (uint32_t i = *at; i < nr && n < most; i++) {
		struct kernel_unit *u = &units[i];
		int why;

		if (u->err != ECANCELED || (n && !alike(u, m->unit[0])))
			continue;
		why = hopeless(m, u);
		if (why) {
			u->err = (int16_t)why;
			continue;
		}
		if (!n) {
			*at = i;
			if (!m->dest[u->to].tight)
				steer_next(steer_of(m, class_of(u)), &most);
		}
		m->unit[n++] = u;
	}
	return n;
}

int kernel_mover_run(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr)
{
	uint32_t at = 0, n;

	for (uint32_t i = 0; i < nr; i++)
		units[i].err = ECANCELED;
	while ((n = gather(m, units, nr, &at))) {
		int err;

		if (pause_until(m, rate_until(m)))
			return 1;
		if (m->dest[m->unit[0]->to].credit <= 0)
			look_at_room(&m->dest[m->unit[0]->to], m->unit[0]->to);
		err = call(m, class_of(m->unit[0]), n);
		if (err)
			return err;
	}
	return 0;
}

/* ---------------------------------------------------------------- again ---- */

static bool is_held(const struct kernel_unit *u)
{
	return u->err == EBUSY || u->err == EAGAIN;
}

static bool may_succeed_later(const struct kernel_unit *u, uint32_t turn)
{
	if (is_held(u))
		return turn < TURNS;
	return (u->err == EACCES || u->err == ENOMEM) && turn < TURNS_FEW;
}

/* Those that are held, or the others: a call for the former takes much longer. *done has how many there were. */
static int ask_again(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr, uint32_t turn, uint32_t *done)
{
	struct kernel_unit *some = calloc(nr ? nr : 1, sizeof(*some));
	uint32_t n = 0, k = 0;
	int err;

	if (!some)
		return -ENOMEM;
	for (uint32_t i = 0; i < nr; i++)
		if (is_held(&units[i]) == m->again && may_succeed_later(&units[i], turn))
			some[n++] = units[i];
	err = kernel_mover_run(m, some, n);
	for (uint32_t i = 0; i < nr && k < n; i++) {
		if (units[i].addr != some[k].addr)
			continue;
		/* What a stop left untried is what it was before. */
		if (some[k].err != ECANCELED)
			units[i].err = some[k].err;
		k++;
	}
	*done += n;
	free(some);
	return err;
}

bool kernel_mover_again(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr, uint32_t turn, int *err)
{
	uint32_t n = 0;

	*err = 0;
	for (uint32_t i = 0; i < nr; i++)
		n += may_succeed_later(&units[i], turn);
	if (!n)
		return false;
	if (pause_until(m, clock_ns() + (1000000ULL << turn))) {
		*err = 1;
		return true;
	}
	for (int node = 0; node < KERNEL_NODES; node++)
		memset(m->dest[node].refused, 0, sizeof(m->dest[node].refused));
	n = 0;
	*err = ask_again(m, units, nr, turn, &n);
	m->again = true;
	if (!*err)
		*err = ask_again(m, units, nr, turn, &n);
	m->again = false;
	m->calls->retries += n;
	return true;
}

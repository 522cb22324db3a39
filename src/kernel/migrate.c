/* SPDX-License-Identifier: MIT */
/*
 * All pages of a process from nodes to nodes, and an account of every one of them.
 *
 * The process runs on, so its memory is gone through several times ("sweeps"): first everything on nodes that are to
 * be left is asked for; those that were refused are asked for again, ever later; then it is looked where everything is.
 * Pages that came meanwhile are moved too, three times at most. The last sweep only looks, and it alone is the account:
 * a page has moved if the kernel says that it is where it was asked to go, and has failed if the kernel says that it is
 * not. The reason is what the kernel said last when it was asked for.
 */
#include "kernel/kernel.h"
#include "kernel/spans.h"
#include "policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SWEEPS 4	/* that move; the last look is another one */

/* Units that have not moved, and why. */
struct stayed {
	struct kernel_unit *unit;
	size_t nr, room;
	size_t sorted;		/* of them, those of earlier sweeps */
};

struct job {
	struct kernel_target *t;
	const struct kernel_request *req;
	struct kernel_result *res;
	struct kernel_mover *mover;
	int dest[KERNEL_NODES];	/* -1: pages of this node stay there */
	struct spans spans;
	struct stayed stayed;
	struct spans fresh;	/* found by this sweep */
	struct kernel_range *pins;
	uint32_t nr_pins;
	bool moving;		/* this sweep moves what is new to it */
	uint32_t sweep;
	uint64_t met;		/* pages of .spans that this sweep has found */
	struct kernel_unit todo[KERNEL_WINDOW];
};

uint64_t kernel_failed(const struct kernel_result *res)
{
	uint64_t sum = 0;

	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		for (int err = 0; err < KERNEL_ERRNO_MAX; err++)
			sum += res->failed[kind][err];
	return sum;
}

/* ---------------------------------------------------------------- those that stayed ---- */

static int stayed_add(struct stayed *s, const struct kernel_unit *u)
{
	if (s->nr == s->room) {
		size_t room = s->room ? s->room * 2 : 1024;
		struct kernel_unit *more = realloc(s->unit, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->unit = more;
		s->room = room;
	}
	s->unit[s->nr++] = *u;
	return 0;
}

static int by_addr(const void *a, const void *b)
{
	const struct kernel_unit *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

/* The last reason for the page at addr, or 0: it had moved. */
static int stayed_why(const struct stayed *s, uint64_t addr)
{
	size_t low = 0, high = s->sorted;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->unit[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || addr >= s->unit[low - 1].addr + s->unit[low - 1].pages * KERNEL_PAGE)
		return 0;
	return s->unit[low - 1].err;
}

static bool is_pinned(const struct job *job, uint64_t addr)
{
	uint32_t low = 0, high = job->nr_pins;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (job->pins[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && addr < job->pins[low - 1].end;
}

/*
 * Those in registered buffers to the front: as long as a ring has them they cannot move, and each try takes a page away
 * from its device's driver for a while. Returns where the others begin.
 */
static size_t stayed_pinned(struct job *job)
{
	struct stayed *s = &job->stayed;
	size_t at = s->sorted;

	for (size_t i = s->sorted; i < s->nr; i++)
		if (is_pinned(job, s->unit[i].addr)) {
			struct kernel_unit u = s->unit[i];

			s->unit[i] = s->unit[at];
			s->unit[at++] = u;
		}
	return at;
}

/* Ask again for those of this sweep that may succeed later. 0, 1: stopped, or -errno. */
static int stayed_again(struct job *job)
{
	struct stayed *s = &job->stayed;
	size_t first = stayed_pinned(job);
	uint32_t nr = (uint32_t)(s->nr - first), turn = 0;
	int err = 0;

	while (!err && nr && kernel_mover_again(job->mover, s->unit + first, nr, turn, &err)) {
		job->res->passes++;
		turn++;
	}
	return err;
}

/* Keep those that have a reason, in order. */
static void stayed_sort(struct stayed *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->nr; i++)
		if (s->unit[i].err && s->unit[i].err != ENOENT)
			s->unit[kept++] = s->unit[i];
	if (kept)
		qsort(s->unit, kept, sizeof(*s->unit), by_addr);
	s->nr = s->sorted = kept;
}

/* ---------------------------------------------------------------- accounting ---- */

static void account_failed(struct job *job, const struct kernel_unit *u, int err)
{
	struct kernel_result *res = job->res;

	if (err <= 0 || err >= KERNEL_ERRNO_MAX)
		err = EIO;
	res->failed[u->kind][err] += u->pages;
	if (err == EBUSY && is_pinned(job, u->addr))
		res->pinned += u->pages;
}

static void account_moved(struct kernel_result *res, const struct kernel_unit *u)
{
	res->moved += u->pages;
	res->moved_kind[u->kind] += u->pages;
	res->moved_huge += u->pages >= KERNEL_HUGE_PAGES ? u->pages : 0;
}

/* Sums of a sweep begin at nothing: only the last one's count. */
static void account_begin(struct kernel_result *res)
{
	res->moved = res->moved_huge = res->untried = res->pinned = 0;
	memset(res->moved_kind, 0, sizeof(res->moved_kind));
	memset(res->failed, 0, sizeof(res->failed));
}

/* ---------------------------------------------------------------- a window ---- */

/* To be moved at the end of the window. */
static void put(struct job *job, const struct kernel_unit *u, int to, uint32_t *nr)
{
	job->todo[*nr] = *u;
	job->todo[(*nr)++].to = (int8_t)to;
}

/* A page that was asked for before: is it there? If it was, and is no more, it is asked for again. */
static void look_again(struct job *job, const struct kernel_unit *u, int to, uint32_t *nr)
{
	int why;

	job->met += u->pages;
	if (u->node == to) {
		account_moved(job->res, u);
		return;
	}
	why = stayed_why(&job->stayed, u->addr);
	if (why == ECANCELED) {
		job->res->untried += u->pages;
		return;
	}
	if (!why) {
		job->res->returned += u->pages;
		why = EAGAIN;
		if (job->moving)
			put(job, u, to, nr);
	}
	account_failed(job, u, why);
}

/* New to this sweep, and to be left. */
static int take(struct job *job, const struct kernel_unit *u, uint32_t *nr)
{
	int to = job->dest[u->node];

	if (job->moving) {
		job->res->fresh += job->sweep ? u->pages : 0;
		put(job, u, to, nr);
		return spans_add(&job->fresh, &job->todo[*nr - 1]);
	}
	if (job->res->cancelled || job->res->error)
		job->res->untried += u->pages;
	else
		account_failed(job, u, EAGAIN);
	return 0;
}

static int move_window(struct job *job, uint32_t nr)
{
	int err = kernel_mover_run(job->mover, job->todo, nr), full = 0;

	for (uint32_t i = 0; i < nr && !full; i++) {
		job->res->done += job->todo[i].err == ECANCELED ? 0 : job->todo[i].pages;
		if (job->todo[i].err)
			full = stayed_add(&job->stayed, &job->todo[i]);
	}
	return err ? err : full;
}

static int sweep_window(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr)
{
	struct job *job = arg;
	uint32_t n = 0;
	int err = 0;

	(void)vma;
	for (uint32_t i = 0; i < nr && !err; i++) {
		int to = job->sweep ? spans_to(&job->spans, units[i].addr) : -1;

		if (to >= 0)
			look_again(job, &units[i], to, &n);
		else if (job->dest[units[i].node] >= 0)
			err = take(job, &units[i], &n);
	}
	if (!err && n)
		err = move_window(job, n);
	return err;
}

/* ---------------------------------------------------------------- sweeps ---- */

static int fresh_to_spans(struct job *job)
{
	int err = 0;

	for (size_t i = 0; i < job->fresh.nr && !err; i++) {
		const struct span *s = &job->fresh.span[i];
		/* In pieces that a unit can be. */
		for (uint64_t at = s->start; at < s->end && !err;) {
			uint64_t pages = min_u64((s->end - at) / KERNEL_PAGE, 1U << 30);
			struct kernel_unit u = { .addr = at, .pages = (uint32_t)pages, .to = (int8_t)s->to };

			err = spans_add(&job->spans, &u);
			at += pages * KERNEL_PAGE;
		}
	}
	spans_free(&job->fresh);
	spans_sort(&job->spans);
	return err;
}

/* 0, 1: stopped, or -errno. */
static int sweep(struct job *job, bool moving)
{
	int err, added;

	job->moving = moving;
	job->met = 0;
	account_begin(job->res);
	err = kernel_walk(job->t, 0, sweep_window, job);
	if (!err)
		err = stayed_again(job);
	added = fresh_to_spans(job);
	stayed_sort(&job->stayed);
	job->sweep++;
	return err ? err : added;
}

/* Until a sweep finds nothing new; returns as sweep(). */
static int move_all(struct job *job)
{
	int err = 0;

	for (int i = 0; i < SWEEPS && !err; i++) {
		uint64_t before = job->spans.pages;

		err = sweep(job, true);
		job->res->passes++;
		if (job->spans.pages == before)
			break;
	}
	return err;
}

static void finish(struct job *job)
{
	struct kernel_result *res = job->res;
	int err = sweep(job, false);

	if (err && !res->error)
		res->error = err;
	res->gone = job->spans.pages > job->met ? job->spans.pages - job->met : 0;
	res->total = res->moved + kernel_failed(res) + res->gone + res->untried;
}

/* ---------------------------------------------------------------- the first look ---- */

static int count_window(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr)
{
	struct job *job = arg;
	struct kernel_result *res = job->res;

	(void)vma;
	for (uint32_t i = 0; i < nr; i++) {
		const struct kernel_unit *u = &units[i];

		if (u->node < 0)
			res->swapped += u->pages;
		else if (job->dest[u->node] >= 0) {
			res->total += u->pages;
			res->found[u->kind] += u->pages;
			if (!job->req->dry)
				continue;
			if (is_pinned(job, u->addr))
				account_failed(job, u, EBUSY);
			else if (u->shared && !job->req->move.all)
				account_failed(job, u, EACCES);
			else
				account_moved(res, u);
		}
	}
	return job->req->move.stop && job->req->move.stop(job->req->move.arg);
}

static int look(struct job *job)
{
	uint32_t flags = KERNEL_WALK_SWAP | (job->req->dry ? KERNEL_WALK_SHARED : 0U);

	job->nr_pins = kernel_pins(job->t->pid, &job->pins);
	return kernel_walk(job->t, flags, count_window, job);
}

static int run(struct job *job)
{
	struct kernel_result *res = job->res;
	int err = look(job);

	if (err < 0 || job->req->dry) {
		res->cancelled = err == 1;
		return err < 0 ? err : 0;
	}
	if (!err)
		err = move_all(job);
	if (err < 0 && !res->calls.calls)
		return err;
	res->cancelled = err == 1;
	res->error = err < 0 ? err : 0;
	finish(job);
	return 0;
}

int kernel_migrate(struct kernel_target *t, const struct kernel_request *req, struct kernel_result *res)
{
	uint64_t begin = clock_ns(), balanced = kernel_balanced(t->pid), after;
	struct job *job = calloc(1, sizeof(*job));
	int err;

	memset(res, 0, sizeof(*res));
	if (!job)
		return -ENOMEM;
	job->t = t;
	job->req = req;
	job->res = res;
	job->spans.sorted = job->fresh.sorted = true;
	nodes_relative(req->from, req->to, job->dest);
	job->mover = kernel_mover_new(t->pid, &req->move, &res->calls);
	err = job->mover ? run(job) : -ENOMEM;
	res->ns = clock_ns() - begin;
	after = kernel_balanced(t->pid);
	res->balanced = after > balanced ? after - balanced : 0;
	kernel_mover_free(job->mover);
	free(job->stayed.unit);
	spans_free(&job->spans);
	free(job->pins);
	free(job);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * model [SEED [OPERATIONS]]: random NUMA calls from three threads, each on a region of its own, and from another
 * process on a fourth region of this one; after each phase the other process also migrates the whole of this one.
 * Beside them runs a model of what Linux documents, which says what each call returns, on which node each page is, and
 * what stands in it.
 *
 * The model, in a few words. A page comes down by its range's policy, else its task's. Interleaving goes by the page's
 * number, which is its address by 4096; from a set of which any node will do (bind, preferred-many) it is the home node
 * or the thread's own, else the next higher one, and around. mbind() moves pages that are not on the nodes that it was
 * given, as they were given, and MPOL_MF_STRICT alone finds them and changes nothing. migrate_pages() goes node by
 * node, in an order in which none is filled before it was emptied.
 *
 * Prints the seed, the first differences, and TAP. Exit 0: none.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "case.h"

#define THREADS 3
#define WORKERS (THREADS + 1) /* the last one is the other process */
#define PAGES 96
#define PHASES 10

struct policy {
	int mode;
	unsigned long mask; /* as it was given */
	int home;	    /* -1: none */
};

static const struct policy no_policy = { DEFAULT, 0, -1 };

struct page {
	enum { ABSENT, ZERO, PRESENT } state;
	int node;
	uint64_t word;
	struct policy policy; /* of its range */
};

struct worker {
	uint64_t random;
	int id, local; /* node that it runs on */
	pid_t pid;     /* whose pages; 0: its own */
	size_t steps, phase;
	char *at;
	struct policy task;
	struct page page[PAGES];
	pthread_t thread;
};

/* Of both processes. */
struct common {
	pthread_barrier_t barrier;	    /* WORKERS and the main thread */
	unsigned long from, to;		    /* of the migration: written by the other process, between two barriers */
	unsigned long calls, places, bytes; /* compared; atomic */
	unsigned long bad_calls, bad_places, bad_bytes; /* atomic */
};

static struct common *common;

/* ---- random ---- */

static uint64_t any(struct worker *w, uint64_t limit)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random >> 8) % limit;
}

static void any_range(struct worker *w, size_t *first, size_t *nr)
{
	*first = any(w, PAGES);
	*nr = 1 + any(w, any(w, 3) ? 12 : PAGES);
	if (*first + *nr > PAGES)
		*nr = PAGES - *first;
}

/* ---- the model ---- */

static unsigned long all_nodes(void)
{
	return (1UL << nr_nodes) - 1;
}

static int first_of(unsigned long nodes_set)
{
	return __builtin_ctzl(nodes_set);
}

static int nth_of(unsigned long nodes_set, unsigned long n)
{
	for (n %= (unsigned long)__builtin_popcountl(nodes_set); n; n--)
		nodes_set &= nodes_set - 1;
	return first_of(nodes_set);
}

static int plain(int mode)
{
	return mode & ~(STATIC | RELATIVE | NUMA_BALANCING);
}

/* The nodes that a policy stands for: relative ones are numbers in the set of those that there are, and wrap around. */
static unsigned long effective(const struct policy *p)
{
	unsigned long set = 0;

	if (!(p->mode & RELATIVE))
		return p->mask & all_nodes();
	for (int i = 0; i < 64; i++)
		if (p->mask >> i & 1)
			set |= 1UL << i % nr_nodes;
	return set;
}

static int nearest(unsigned long set, int from)
{
	while (!(set >> from & 1))
		from = (from + 1) % nr_nodes;
	return from;
}

static bool is_default(const struct policy *p)
{
	return plain(p->mode) == DEFAULT;
}

static int node_for(const struct worker *w, const struct policy *range, size_t i)
{
	const struct policy *p = is_default(range) ? &w->task : range;
	unsigned long set = effective(p);

	switch (plain(p->mode)) {
	case PREFERRED:
		return set ? first_of(set) : w->local;
	case BIND:
	case PREFERRED_MANY:
		return nearest(set, p->home >= 0 ? p->home : w->local);
	case INTERLEAVE:
	case WEIGHTED_INTERLEAVE: /* all weigh the same unless somebody said otherwise */
		return nth_of(set, (uintptr_t)w->at / PAGE + i);
	}
	return w->local;
}

/* What get_mempolicy() says of it. */
static void as_read(const struct policy *p, int *mode, unsigned long *mask)
{
	*mode = p->mode;
	*mask = p->mode & (STATIC | RELATIVE) ? p->mask : effective(p);
	if (plain(p->mode) == DEFAULT)
		*mode = DEFAULT;
	if (plain(p->mode) == PREFERRED && !p->mask)
		*mode = LOCAL;
	if (plain(p->mode) == PREFERRED && !(p->mode & (STATIC | RELATIVE)) && *mask)
		*mask = 1UL << first_of(*mask);
}

static int remapped(int node, unsigned long from, unsigned long to)
{
	if (!(from >> node & 1))
		return node;
	return nth_of(to, (unsigned long)__builtin_popcountl(from & ((1UL << node) - 1)));
}

static void model_migrate(struct worker *w, unsigned long from, unsigned long to)
{
	unsigned long left = from;

	while (left) {
		int source = -1, dest = 0;

		for (int s = 0; s < 64; s++) {
			int d;

			if (!(left >> s & 1))
				continue;
			if (__builtin_popcountl(from) != __builtin_popcountl(to) && (to >> s & 1))
				continue;
			d = remapped(s, from, to);
			if (d == s)
				continue;
			source = s;
			dest = d;
			if (!(left >> dest & 1))
				break;
		}
		if (source < 0)
			return;
		left &= ~(1UL << source);
		for (size_t i = 0; i < PAGES; i++)
			if (w->page[i].state == PRESENT && w->page[i].node == source)
				w->page[i].node = dest;
	}
}

/* ---- comparing ---- */

static bool agree(unsigned long *compared, unsigned long *bad, bool good)
{
	__atomic_add_fetch(compared, 1, __ATOMIC_RELAXED);
	if (good)
		return true;
	return __atomic_add_fetch(bad, 1, __ATOMIC_RELAXED) > 10;
}

static void same_result(struct worker *w, const char *call, long got, long expected)
{
	if (!agree(&common->calls, &common->bad_calls, got == expected))
		printf("# worker %d, phase %zu: %s: %ld, the model has %ld\n", w->id, w->phase, call, got, expected);
}

static int model_status(const struct page *p)
{
	return p->state == PRESENT ? p->node : p->state == ZERO ? -EFAULT : -ENOENT;
}

static void same_place(struct worker *w, const char *call, size_t i, int got)
{
	int expected = model_status(&w->page[i]);

	if (!agree(&common->places, &common->bad_places, got == expected))
		printf("# worker %d, phase %zu: %s: page %zu has %d, the model has %d (policy %s)\n", w->id, w->phase,
		       call, i, got, expected,
		       policy_name(w->page[i].policy.mode, nodes_of_bits(w->page[i].policy.mask)));
}

static void same_places(struct worker *w, const char *call)
{
	void *list[PAGES];
	int status[PAGES];

	for (size_t i = 0; i < PAGES; i++)
		list[i] = w->at + i * PAGE;
	same_result(w, "move_pages, query", move_pages(w->pid, PAGES, list, NULL, status, 0), 0);
	for (size_t i = 0; i < PAGES; i++)
		same_place(w, call, i, status[i]);
}

static void same_bytes(struct worker *w)
{
	for (size_t i = 0; i < PAGES; i++) {
		const volatile uint64_t *word = (void *)(w->at + i * PAGE);

		if (w->page[i].state == PRESENT && !agree(&common->bytes, &common->bad_bytes,
							  word[0] == w->page[i].word && word[511] == ~w->page[i].word))
			printf("# worker %d, phase %zu: page %zu has other bytes\n", w->id, w->phase, i);
	}
}

static void same_policy(struct worker *w, const struct policy *p, void *addr)
{
	struct nodes mask = { 0 };
	unsigned long expected_mask;
	int mode = -1, expected;

	as_read(p, &expected, &expected_mask);
	same_result(w, "get_mempolicy", get_mempolicy(&mode, &mask, MAXNODE, addr, addr ? F_ADDR : 0), 0);
	same_result(w, "get_mempolicy, mode", mode, expected);
	same_result(w, "get_mempolicy, mask", (long)mask.word[0], (long)expected_mask);
}

/* ---- operations ---- */

static void write_page(struct worker *w, size_t i)
{
	volatile uint64_t *word = (void *)(w->at + i * PAGE);
	struct page *p = &w->page[i];

	if (p->state != PRESENT)
		p->node = node_for(w, &p->policy, i);
	p->state = PRESENT;
	p->word = any(w, ~0UL >> 8) * 2 + 1;
	word[0] = p->word;
	word[511] = ~p->word;
}

static void op_write(struct worker *w)
{
	size_t first, nr;

	any_range(w, &first, &nr);
	for (size_t i = 0; i < nr; i++)
		write_page(w, first + i);
}

static void op_read(struct worker *w)
{
	size_t first, nr;

	any_range(w, &first, &nr);
	for (size_t i = first; i < first + nr; i++) {
		uint64_t expected = w->page[i].state == PRESENT ? w->page[i].word : 0;
		uint64_t got = *(volatile uint64_t *)(w->at + i * PAGE);

		if (!agree(&common->bytes, &common->bad_bytes, got == expected))
			printf("# worker %d, phase %zu: page %zu reads %#lx, the model has %#lx\n", w->id, w->phase, i,
			       got, expected);
		if (w->page[i].state == ABSENT)
			w->page[i].state = ZERO;
	}
}

static void op_discard(struct worker *w)
{
	size_t first, nr;

	any_range(w, &first, &nr);
	madvise(w->at + first * PAGE, nr * PAGE, MADV_DONTNEED);
	for (size_t i = first; i < first + nr; i++)
		w->page[i].state = ABSENT;
}

static void op_map_anew(struct worker *w)
{
	size_t first, nr;
	char *at;

	any_range(w, &first, &nr);
	at = w->at + first * PAGE;
	if (any(w, 2))
		munmap(at, nr * PAGE);
	mmap(at, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	madvise(at, nr * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = first; i < first + nr; i++) {
		w->page[i].state = ABSENT;
		w->page[i].policy = no_policy;
	}
}

static struct policy any_policy(struct worker *w)
{
	static const int modes[] = { DEFAULT,	 PREFERRED,  PREFERRED, BIND,		BIND,
				     INTERLEAVE, INTERLEAVE, LOCAL,	PREFERRED_MANY, WEIGHTED_INTERLEAVE };
	static const int flags[] = { 0, 0, STATIC, RELATIVE };
	struct policy p = { modes[any(w, LIST_LEN(modes))], 0, -1 };

	if (p.mode == DEFAULT || p.mode == LOCAL || (p.mode == PREFERRED && any(w, 8) == 0))
		return p;
	p.mode |= flags[any(w, LIST_LEN(flags))];
	/* Also nodes that there are not, and for a relative policy nothing but those. */
	p.mask = 1 + any(w, (2UL << nr_nodes) - 1);
	if (!(p.mode & RELATIVE) && !(p.mask & all_nodes()))
		p.mask |= 1UL << any(w, (uint64_t)nr_nodes);
	return p;
}

static void op_task_policy(struct worker *w)
{
	struct policy p = any_policy(w);
	struct nodes mask = { { p.mask } };

	same_result(w, "set_mempolicy", set_mempolicy(p.mode, &mask, MAXNODE), 0);
	w->task = p;
	same_policy(w, &w->task, NULL);
}

static void op_range_policy(struct worker *w)
{
	static const unsigned int all[] = { 0, 0, STRICT, MOVE, MOVE, MOVE | STRICT };
	struct policy p = any_policy(w);
	struct nodes mask = { { p.mask } };
	unsigned int flags = all[any(w, LIST_LEN(all))];
	size_t first, nr, misplaced = 0;
	long expected = 0;

	any_range(w, &first, &nr);
	for (size_t i = first; i < first + nr; i++)
		misplaced += w->page[i].state == PRESENT && !(p.mask >> w->page[i].node & 1);
	if (misplaced && (flags & (STRICT | MOVE)) == STRICT && !is_default(&p))
		expected = -EIO;
	for (size_t i = first; !expected && i < first + nr; i++) {
		struct page *page = &w->page[i];

		page->policy = p;
		if (page->state == PRESENT && flags & MOVE && !(p.mask >> page->node & 1))
			page->node = node_for(w, &p, i);
	}
	same_result(w, "mbind", mbind(w->at + first * PAGE, nr * PAGE, p.mode, &mask, MAXNODE, flags), expected);
	if (flags)
		same_places(w, "mbind");
}

static void op_home_node(struct worker *w)
{
	int home = (int)any(w, (uint64_t)nr_nodes);
	long expected = -ENOENT;
	size_t first, nr;

	any_range(w, &first, &nr);
	for (size_t i = first; i < first + nr; i++) {
		struct policy *p = &w->page[i].policy;

		if (is_default(p))
			continue;
		expected = plain(p->mode) == BIND || plain(p->mode) == PREFERRED_MANY ? 0 : -EOPNOTSUPP;
		if (expected)
			break;
		p->home = home;
	}
	same_result(w, "set_mempolicy_home_node",
		    set_home_node(w->at + first * PAGE, nr * PAGE, (unsigned long)home, 0), expected);
}

static void op_move(struct worker *w)
{
	void *list[PAGES];
	int to[PAGES] = { 0 }, status[PAGES];
	size_t index[PAGES], nr = 0, every = 1 + any(w, 6), backwards = any(w, 2);

	for (size_t i = 0; i < PAGES; i++)
		if (any(w, every) == 0)
			index[nr++] = backwards ? PAGES - 1 - i : i;
	for (size_t k = 0; k < nr; k++) {
		list[k] = w->at + index[k] * PAGE;
		to[k] = (int)any(w, (uint64_t)nr_nodes);
		w->page[index[k]].node = to[k];
	}
	same_result(w, "move_pages", move_pages(w->pid, nr, list, to, status, MOVE), 0);
	for (size_t k = 0; k < nr; k++)
		same_place(w, "move_pages", index[k], status[k]);
}

static void op_look(struct worker *w)
{
	size_t i = any(w, PAGES);

	if (!w->pid)
		same_policy(w, &w->page[i].policy, w->at + i * PAGE);
	same_places(w, "a query");
}

static void step(struct worker *w)
{
	static void (*const own[])(struct worker * w) = { op_write,	   op_write,	    op_write,
							  op_read,	   op_discard,	    op_map_anew,
							  op_task_policy,  op_task_policy,  op_range_policy,
							  op_range_policy, op_range_policy, op_home_node,
							  op_move,	   op_move,	    op_look };

	if (!w->pid)
		own[any(w, LIST_LEN(own))](w);
	else if (any(w, 3))
		op_move(w);
	else
		op_look(w);
}

/* ---- phases ---- */

static void meet(void)
{
	pthread_barrier_wait(&common->barrier);
}

static void work(struct worker *w)
{
	for (w->phase = 0; w->phase < PHASES; w->phase++) {
		for (size_t i = 0; i < w->steps; i++)
			step(w);
		meet();
		if (w->pid) {
			struct nodes from = { { 1 + any(w, (1UL << nr_nodes) - 1) } },
				     to = { { 1 + any(w, (1UL << nr_nodes) - 1) } };
			long left = migrate_pages(w->pid, MAXNODE, &from, &to);

			common->from = from.word[0];
			common->to = to.word[0];
			same_result(w, "migrate_pages", left < 0 ? left : 0, 0);
		}
		meet();
		model_migrate(w, common->from, common->to);
		same_places(w, "after migrate_pages");
		if (!w->pid)
			same_bytes(w);
		meet();
	}
}

static void *work_thread(void *arg)
{
	struct worker *w = arg;
	unsigned int node = 0;

	pin_to(w->id % nr_nodes);
	get_cpu(NULL, &node);
	w->local = (int)node;
	work(w);
	return NULL;
}

/* The main thread has no region; it checks the bytes of the one that the other process works on. */
static void watch(struct worker *other)
{
	for (size_t phase = 0; phase < PHASES; phase++) {
		other->phase = phase;
		meet();
		meet();
		same_bytes(other);
		meet();
	}
}

static void prepare(struct worker *w, int id, uint64_t seed, size_t steps)
{
	w->id = id;
	w->random = (seed + 1) * 0x9e3779b97f4a7c15UL + (uint64_t)id * 0xbf58476d1ce4e5b9UL;
	w->random |= 1;
	w->steps = steps;
	w->task = no_policy;
	w->at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(w->at, PAGES * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PAGES; i++)
		w->page[i].policy = no_policy;
	for (int i = 0; i < 10; i++)
		any(w, 2);
}

static int end(const char *what, int nr, unsigned long compared, unsigned long bad)
{
	printf("%sok %d - %s (%lu compared, %lu differ)\n", bad || !compared ? "not " : "", nr, what, compared, bad);
	return bad || !compared;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)getpid();
	size_t operations = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
	static struct worker worker[WORKERS];
	struct worker *other = &worker[THREADS];
	pthread_barrierattr_t attr;
	int ready[2], failed, status = 0;
	char byte = 0;
	pid_t child;

	setvbuf(stdout, NULL, _IOLBF, 0);
	machine_init();
	alarm(600);
	printf("# seed %lu, %zu operations, %d nodes\n", seed, operations, nr_nodes);
	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&common->barrier, &attr, WORKERS + 1);
	for (int i = 0; i < WORKERS; i++)
		prepare(&worker[i], i, seed, (operations + WORKERS * PHASES - 1) / (WORKERS * PHASES));

	/* The other process begins when the pages that it is to move are there. */
	if (pipe(ready))
		return 1;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(ready[0], &byte, 1) != 1)
			_exit(1);
		other->pid = getppid();
		for (size_t i = 0; i < PAGES; i++)
			if (i % 7)
				other->page[i].state = PRESENT;
		work(other);
		_exit(0);
	}
	for (size_t i = 0; i < PAGES; i++)
		if (i % 7)
			write_page(other, i);
	if (child < 0 || write(ready[1], &byte, 1) != 1)
		return 1;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&worker[i].thread, NULL, work_thread, &worker[i]))
			return 1;
	watch(other);
	for (int i = 0; i < THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	waitpid(child, &status, 0);

	failed = end("every call returned what the model has", 1, common->calls, common->bad_calls);
	failed |= end("every page was where the model has it", 2, common->places, common->bad_places);
	failed |= end("every byte was what had been written", 3, common->bytes, common->bad_bytes);
	printf("%sok 4 - the other process came to its end\n1..4\n", status ? "not " : "");
	if (failed || status)
		printf("# again: model %lu %zu\n", seed, operations);
	return failed || status;
}

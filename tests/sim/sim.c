/* SPDX-License-Identifier: MIT */
/*
 * sim - worlds and seeds.
 *
 *   sim [--seed N] [--seeds N] [--steps N] [--workers N] [--bug NAME]
 *       [--faults | --fail KIND:N[+]] [--verbose] [--trace]
 *
 * A seed decides the world (nodes, threads, what goes wrong and how often) and the order of everything in it.
 * Exit: 0 all worlds are right, 1 one is wrong (the report says how to see it again), 2 bad usage.
 */
#define _GNU_SOURCE 1
#include "sim.h"

#include "base/bugs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS 20000U
#define LAST_STEPS 400000U /* that the end of a program may take */
#define JOBS 2U
#define LIST_MOST 24U
#define HELD_LONGEST 300000000ULL /* ns */

struct world *world;

struct fault {
	const char *kind;
	uint32_t call;
	bool on;
};

static struct {
	uint64_t seed, seeds, steps;
	uint32_t workers;
	const char *bug;
	bool faults;	    /* every kind of call, in turn, fails once and from then on */
	struct fault fault; /* this one */
	bool verbose;
} opt = { .seed = 1, .seeds = 0, .steps = STEPS, .workers = 2 };

static uint64_t seed_now;

static void replay_line(void)
{
	const char *commit = getenv("COMMIT");

	printf("# seed %lu, commit %s\n# again: make sim SEED=%lu STEPS=%lu", seed_now, commit ? commit : "unknown",
	       seed_now, opt.steps);
	if (opt.bug)
		printf(" BUG=%s", opt.bug);
	if (world && world->weather.fail_kind)
		printf(" FAIL=%s:%u%s", world->weather.fail_kind, world->weather.fail_call,
		       world->weather.fail_on ? "+" : "");
	printf("\n");
}

/* ---- the engine's threads ---- */

static bool stop;

static bool reader_wanted(void *arg)
{
	(void)arg;
	return mmu_sim_unread(world->sim) || world->mm.heir >= 0 || stop;
}

/* No child has an engine here that could take over: it is given all that is away, sooner or later. */
static void heir_over(void)
{
	struct mm *mm = &world->mm;
	int heir = mm->heir;

	heir_serve(mm);
	if (heir < 0 || chance(700))
		return;
	away_bequeath(mm, &mm->heirs);
	mm->mmu->ops->close_child(mm->mmu, heir);
	mm->heir = -1;
}

/* Nobody is held for ever, whatever it is that he waits for. */
static void serve(void)
{
	const struct throttle *t = &world->mm.throttle;
	uint64_t now = sched_now();

	throttle_serve(&world->mm);
	if (t->nr && t->held[t->first].since + HELD_LONGEST < now)
		fail("a first touch of %#lx is held, since %lu us ago", t->held[t->first].ev.addr,
		     (now - t->held[t->first].since) / 1000);
}

static void reader_main(void *arg)
{
	(void)arg;
	while (!stop) {
		if (throttle_wait_ms(&world->mm, 0) && !mmu_sim_unread(world->sim))
			sched_sleep(rnd_below(1000000));
		else
			sched_wait(reader_wanted, NULL, "an event to read");
		mm_drain_events(&world->mm);
		serve();
		heir_over();
		if (chance(300))
			reclaim_step(&world->mm);
		if (chance(100))
			cache_trim(&world->mm, chance(500));
	}
}

static bool slow_wanted(void *arg)
{
	(void)arg;
	return world->mm.slow.nr || stop;
}

static void slow_main(void *arg)
{
	uint8_t *pages = malloc((AHEAD_MOST + 1) * PAGE_SIZE_);

	(void)arg;
	while (!stop) {
		sched_wait(slow_wanted, NULL, "a page to be read from a device");
		while (slow_run(&world->mm, pages))
			;
	}
	free(pages);
}

static bool reclaimer_over;

static void reclaim_main(void *arg)
{
	(void)arg;
	throttle_begin(&world->mm);
	while (!world->ending) {
		reclaim_once(&world->mm);
		throttle_serve(&world->mm);
		sched_sleep(rnd_below(200000));
	}
	throttle_end(&world->mm);
	reclaimer_over = true;
}

static bool kernel_wanted(void *arg)
{
	return mmu_sim_resumable(world->sim) || *(bool *)arg;
}

/* As the service thread does when nothing has been migrated for a while. */
static void some_stock_returns(void)
{
	if (!lock_try(&world->mm.migrate))
		return;
	stock_return(&world->mm);
	lock_release(&world->mm.migrate);
}

/* Threads whose event was read go on some time later; seldom much time passes, but never over a thread's head. */
static void kernel_main(void *arg)
{
	(void)arg;
	while (!stop) {
		int nr;

		sched_wait(kernel_wanted, &stop, "a thread to go on");
		nr = mmu_sim_resumable(world->sim);
		if (nr)
			mmu_sim_resume(world->sim, (int)rnd_below((uint32_t)nr));
		if (chance(20)) {
			while (mmu_sim_resumable(world->sim))
				mmu_sim_resume(world->sim, 0);
			sched_pass(DISCARD_NS + 1000000);
			some_stock_returns();
		}
		sched_point();
	}
}

struct job {
	struct progress progress;
	uint32_t cancel;
	bool over;
};

static struct job jobs[JOBS];

static struct request any_request(struct job *j)
{
	struct request rq = {
		.mode = chance(700) ? MIGRATE_SYNC : MIGRATE_ASYNC,
		.bound_ns = chance(300) ? 0 : 10000 + rnd_below(50000),
		.batch = chance(300) ? 0 : 1 + rnd_below(chance(500) ? 8 : 64),
		.form = (int)rnd_below(3) - 1,
		.rate = chance(50) ? 1 + rnd_below(1 << 28) : 0,
		.verify = world->weather.flips || chance(100),
		.unshare_all = chance(200),
		.keep_batch = chance(500),
		.cancel = &j->cancel,
		.lazy = world->weather.lazy && chance(300) ? 1 + rnd_below(3) : LAZY_NOT,
		.progress = &j->progress,
	};

	rq.fallback = !rq.lazy && chance(400);
	memset(&j->progress, 0, sizeof(j->progress));
	j->cancel = 0;
	return rq;
}

static uint64_t any_nodes(void)
{
	if (chance(600))
		return 1ULL << rnd_below(world->nodes.nr);
	return 1 + rnd_below((1U << world->nodes.nr) - 1);
}

static int move_some(struct request *rq)
{
	void *page[LIST_MOST];
	int node[LIST_MOST], status[LIST_MOST];
	uint32_t nr = 1 + rnd_below(LIST_MOST);

	for (uint32_t i = 0; i < nr; i++) {
		page[i] = (void *)page_at(rnd_below(world->weather.huge ? WORLD_PAGES : STACKS_AT + STACKS));
		node[i] = (int)rnd_below(world->nodes.nr);
	}
	return do_move_pages(&world->mm, nr, page, chance(900) ? node : NULL, status, rq);
}

static int request_once(struct request *rq)
{
	int err;

	__atomic_add_fetch(&world->mm.users, 1, __ATOMIC_SEQ_CST);
	if (chance(700))
		err = do_migrate_pages(&world->mm, chance(700) ? (1ULL << world->nodes.nr) - 1 : any_nodes(),
				       any_nodes(), rq);
	else
		err = move_some(rq);
	__atomic_sub_fetch(&world->mm.users, 1, __ATOMIC_SEQ_CST);
	world->jobs++;
	world->moved += rq->progress->moved;
	world->fallen += rq->progress->fallen;
	world->refused += rq->progress->failed_pages;
	return err;
}

static void job_main(void *arg)
{
	struct job *j = arg;

	while (!world->ending && !world->weather.growth) {
		struct request rq = any_request(j);
		int err;

		rq.dry_run = chance(30);
		trace("request", 0, 0, 0);
		err = request_once(&rq);
		trace("request ends", j->progress.moved, j->progress.failed_pages, err);
		if (chance(50))
			jobs[rnd_below(JOBS)].cancel = 1;
		sched_sleep(rnd_below(20000));
	}
	j->over = true;
}

/* ---- the end ---- */

static bool all_over(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < JOBS; i++)
		if (!jobs[i].over)
			return false;
	if (!reclaimer_over || world->mm.slow.nr || world->mm.slow.busy)
		return false;
	return program_over();
}

/* Everything comes to rest, and everything that may move moves to node 0. */
static void closer_main(void *arg)
{
	static struct job last;
	struct request rq;

	(void)arg;
	sched_wait(all_over, NULL, "the program's end");
	program_end();
	world->calm = true;
	memset(&last, 0, sizeof(last));
	rq = (struct request){ .mode = MIGRATE_SYNC, .form = -1, .progress = &last.progress, .unshare_all = true };
	for (uint32_t i = 0; i < world->nodes.nr; i++)
		world->nodes.node[i].spec.bytes = 0;
	sched_pass(DISCARD_NS + 1000000);
	__atomic_add_fetch(&world->mm.users, 1, __ATOMIC_SEQ_CST);
	if (do_migrate_pages(&world->mm, (1ULL << world->nodes.nr) - 1, 1, &rq))
		fail("the last migration could not be");
	do_return(&world->mm, &rq);
	__atomic_sub_fetch(&world->mm.users, 1, __ATOMIC_SEQ_CST);
	for (uint32_t e = 0; e < ERRNO_MAX_ && !world->failed_call; e++)
		if (last.progress.failed[e] && e != EACCES && !(world->weather.bad_reads && (e == EIO || e == EBADMSG)))
			fail("%lu pages stay behind at the end: error %u", last.progress.failed[e], e);
	mm_exit(&world->mm);
	stop = true;
}

static bool stopped(void)
{
	return stop;
}

/* ---- a world ---- */

static uint32_t sometimes(uint32_t per_1000, uint32_t most)
{
	return chance(per_1000) ? rnd_below(most) : 0;
}

static void weather_make(struct weather *w)
{
	w->eagain = sometimes(500, 100);
	w->storm = sometimes(150, 995);
	w->ebusy = sometimes(400, 100);
	w->cut = sometimes(600, 400);
	w->enomem = sometimes(300, 60);
	w->restless = 5 + rnd_below(200);
	w->huge = chance(200);
	w->flips = sometimes(100, 30);
	w->raw_forks = chance(500);
	w->lazy = chance(400);
	w->slow = chance(400);
	w->bad_reads = sometimes(150, 20);
	w->bad_writes = sometimes(200, 100);
	if (chance(100))
		*w = (struct weather){ .restless = w->restless, .eagain = w->eagain, .cut = w->cut, .growth = true };
}

static void nodes_make(void)
{
	uint32_t nr = world->weather.growth ? 1 : 2 + rnd_below(3);

	node_table_init(&world->nodes, &world->region);
	for (uint32_t i = 0; i < nr; i++) {
		struct node_spec spec = { .host = NODE_VIRTUAL, .distance = 10 };

		if (!i && (world->weather.growth || chance(400)))
			spec.bytes = (50 + rnd_below(world->weather.growth ? 100 : 300)) * PAGE_SIZE_;
		if (i && chance(200))
			spec.bytes = (1 + rnd_below(200)) * PAGE_SIZE_;
		if (i && chance(100))
			spec.host = 0;
		node_add(&world->nodes, &spec);
	}
}

/* As the engine does when a far node is added. */
static void far_node_make(void)
{
	struct node_spec spec = { .kind = NODE_ZRAM, .host = NODE_VIRTUAL, .distance = 20 + rnd_below(3) };
	struct far_spec store = { .kind = world->weather.slow && chance(700) ? FAR_FILE : FAR_ZRAM,
				  .bytes = chance(400) ? (1 + rnd_below(200)) * PAGE_SIZE_ : 0 };

	store.bytes = world->weather.growth ? 0 : store.bytes;
	if (mm_far_init(&world->mm) || far_open(&world->mm.far[world->nodes.nr], &world->region, &store))
		fail("no far node");
	node_add(&world->nodes, &spec);
}

static void far_nodes_make(void)
{
	for (uint32_t i = world->weather.growth ? 3 : rnd_below(5); i > 2; i--)
		far_node_make();
	if (world->weather.lazy && mm_far_init(&world->mm))
		fail("no lazy migration");
	world->mm.slow.threads = world->weather.slow && chance(900);
}

static void far_nodes_end(void)
{
	for (uint32_t i = 0; i < NODE_MAX; i++)
		if (world->mm.far[i])
			far_close(world->mm.far[i]);
}

static void world_begin(uint64_t seed)
{
	world = calloc(1, sizeof(*world));
	seed_now = seed;
	stop = false;
	memset(jobs, 0, sizeof(jobs));
	sched_begin(seed);
	kernel_begin();
	weather_make(&world->weather);
	world->calm = true;
	if (region_reserve(&world->region, REGION_BYTES, REGION_BYTES))
		fail("no region");
	nodes_make();
	if (mm_init(&world->mm, &world->mmu, &world->nodes, &world->region))
		fail("mm_init");
	far_nodes_make();
	world->calm = false;
	shadow_begin();
	program_begin();
	reclaimer_over = !reclaim_needed(&world->mm);
	sched_spawn("reader", 1 + rnd_below(8), reader_main, NULL);
	sched_spawn("io", 1 + rnd_below(8), slow_main, NULL);
	if (!reclaimer_over)
		sched_spawn("reclaimer", 1 + rnd_below(8), reclaim_main, NULL);
	sched_spawn("kernel", 1 + rnd_below(8), kernel_main, NULL);
	for (uint32_t i = 0; i < JOBS; i++)
		sched_spawn("job", 2 + rnd_below(40), job_main, &jobs[i]);
}

static void world_end(void)
{
	shadow_end();
	far_nodes_end();
	kernel_end();
	region_release(&world->region);
	sched_end();
	free(world);
	world = NULL;
}

struct totals {
	uint64_t worlds, jobs, moved, fallen, refused, forks, steps, failed, held, let_go;
};

static void world_run(uint64_t seed, const struct fault *f, struct totals *t)
{
	world_begin(seed);
	if (f) {
		world->weather.fail_kind = f->kind;
		world->weather.fail_call = f->call;
		world->weather.fail_on = f->on;
	}
	sched_run(opt.steps, stopped);
	world->ending = true;
	sched_spawn("closer", 1, closer_main, NULL);
	sched_run(LAST_STEPS, stopped);
	if (!stop)
		fail("the end does not come");
	oracle_all();
	t->worlds++;
	t->jobs += world->jobs;
	t->moved += world->moved;
	t->fallen += world->fallen;
	t->refused += world->refused;
	t->forks += world->forks;
	t->steps += sched_steps();
	t->failed += world->failed_call != NULL;
	t->held += world->mm.stats.held;
	t->let_go += world->mm.stats.held_let_go;
	if (opt.verbose)
		printf("# seed %lu: %lu steps, %lu requests, %lu pages moved, %lu refused, %lu forks, %u calls%s%s\n",
		       seed, sched_steps(), world->jobs, world->moved, world->refused, world->forks, world->calls,
		       world->failed_call ? ", failed: " : "", world->failed_call ? world->failed_call : "");
	world_end();
}

/* ---- seeds, over workers ---- */

/* Kind by kind, once and for good, at an early call, a later one ... */
static struct fault fault_of(uint64_t i)
{
	uint32_t kinds = 0;

	while (kernel_kind(kinds))
		kinds++;
	return (struct fault){ kernel_kind((uint32_t)(i / 2 % kinds)), 1U << i / 2 / kinds % 10, i % 2 };
}

static void worker(uint32_t nr, struct totals *t)
{
	sched_replay_line(replay_line);
	for (uint64_t i = nr; i < opt.seeds; i += opt.workers) {
		struct fault f = opt.faults ? fault_of(i) : opt.fault;

		world_run(opt.seed + i, f.kind ? &f : NULL, t);
	}
	_Exit(0);
}

/* True: all worlds are right. */
static bool run_seeds(void)
{
	struct totals *t = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sum = { 0 };
	bool good = true;
	int status;

	fflush(stdout);
	for (uint32_t i = 0; i < opt.workers; i++)
		if (!fork())
			worker(i, &t[i]);
	while (wait(&status) > 0)
		good = good && WIFEXITED(status) && !WEXITSTATUS(status);
	for (uint32_t i = 0; i < opt.workers; i++) {
		sum.worlds += t[i].worlds;
		sum.jobs += t[i].jobs;
		sum.moved += t[i].moved;
		sum.fallen += t[i].fallen;
		sum.refused += t[i].refused;
		sum.forks += t[i].forks;
		sum.steps += t[i].steps;
		sum.failed += t[i].failed;
		sum.held += t[i].held;
		sum.let_go += t[i].let_go;
	}
	printf("# %lu worlds of %lu right: %lu steps, %lu requests, %lu pages moved, %lu through a far node, "
	       "%lu refusals, %lu forks\n",
	       sum.worlds, opt.seeds, sum.steps, sum.jobs, sum.moved, sum.fallen, sum.refused, sum.forks);
	printf("# %lu first touches held, %lu of them in vain\n", sum.held, sum.let_go);
	if (opt.faults)
		printf("# a call was made to fail in %lu of them\n", sum.failed);
	munmap(t, 4096);
	return good;
}

static int usage(void)
{
	fprintf(stderr, "usage: sim [--seed N] [--seeds N] [--steps N] [--workers N] [--bug NAME]\n"
			"           [--faults | --fail KIND:N[+]] [--verbose] [--trace]\n");
	return 2;
}

/* "move:12": the twelfth; "move:12+": and all after it. */
static bool fault_parse(const char *text)
{
	const char *colon = strchr(text, ':');
	char *end;

	for (uint32_t i = 0; colon && kernel_kind(i); i++)
		if (!strncmp(kernel_kind(i), text, (size_t)(colon - text)) && !kernel_kind(i)[colon - text])
			opt.fault.kind = kernel_kind(i);
	if (!opt.fault.kind)
		return false;
	opt.fault.call = (uint32_t)strtoul(colon + 1, &end, 10);
	opt.fault.on = *end == '+';
	return opt.fault.call;
}

static bool take(const char *name, const char *value)
{
	uint64_t n = value ? strtoull(value, NULL, 10) : 0;

	if (!strcmp(name, "--bug")) {
		opt.bug = value;
		return value && bug_put_back(value);
	}
	if (!strcmp(name, "--fail"))
		return value && fault_parse(value);
	if (!n)
		return false;
	if (!strcmp(name, "--seed"))
		opt.seed = n;
	else if (!strcmp(name, "--seeds"))
		opt.seeds = n;
	else if (!strcmp(name, "--steps"))
		opt.steps = n;
	else if (!strcmp(name, "--workers"))
		opt.workers = (uint32_t)n;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--verbose"))
			opt.verbose = true;
		else if (!strcmp(argv[i], "--trace"))
			sched_print_all();
		else if (!strcmp(argv[i], "--faults"))
			opt.faults = true;
		else if (!take(argv[i], argv[i + 1]))
			return usage();
		else
			i++;
	if (!opt.seeds)
		opt.seeds = 1;
	if (opt.seeds < opt.workers)
		opt.workers = (uint32_t)opt.seeds;
	return run_seeds() ? 0 : 1;
}

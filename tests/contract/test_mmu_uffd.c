/* SPDX-License-Identifier: MIT */
/*
 * The contract over userfaultfd: a real program with threads, children and devices.
 *
 * Closing the mmu lets everybody go who still waits, so a world whose test failed half-way can be closed.
 *
 * test-machine: two
 */
#define _GNU_SOURCE
#include "mmu_contract_tests.h"

#include "mmu_uffd_program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_LEN (1UL << 20)
#define NR_MAPS 16

struct uffd_world {
	struct mmu_world w;
	struct region region;	/* the mmu's own state */
	struct {
		char *start;
		uint64_t len;
	} map[NR_MAPS];
	int nr_maps;
	struct program_touch touch[MMU_WORLD_TOUCHES];
	struct program_act act;
	struct program_child child;
	struct program_pin pin;
	int pipe[2];		/* holds the spliced page */
};

static struct uffd_world *to_uffd(struct mmu_world *w)
{
	return container_of(w, struct uffd_world, w);
}

/* ---- memory ---- */

static uint64_t world_map(struct mmu_world *w, uint64_t len)
{
	struct uffd_world *uw = to_uffd(w);
	uint64_t gap = ALIGN_UP(len, MMU_HUGE) + 2 * MMU_HUGE, addr;
	char *start = mmap(NULL, gap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	BUG_ON(start == MAP_FAILED || uw->nr_maps == NR_MAPS);
	uw->map[uw->nr_maps].start = start;
	uw->map[uw->nr_maps++].len = gap;
	addr = ALIGN_UP((uint64_t)start + 1, MMU_HUGE);
	BUG_ON(program_act_now(ACT_MAP_OVER, addr, len, 0));
	return addr;
}

static int world_protect(struct mmu_world *w, uint64_t addr, uint64_t len, bool writable)
{
	(void)w;
	return mprotect((void *)addr, len, PROT_READ | (writable ? PROT_WRITE : 0)) ? -errno : 0;
}

static int world_dontfork(struct mmu_world *w, uint64_t addr, uint64_t len)
{
	(void)w;
	return madvise((void *)addr, len, MADV_DONTFORK) ? -errno : 0;
}

static int world_make_huge(struct mmu_world *w, uint64_t addr)
{
	uint32_t bits;

	if (madvise((void *)addr, MMU_HUGE, MADV_HUGEPAGE))
		return -errno;
	*(volatile char *)addr = 0;
	count_present(w, addr, MMU_HUGE, &bits);
	return bits & MMU_PG_HUGE ? 0 : -ENOMEM;
}

static int world_store(struct mmu_world *w, uint64_t addr, uint64_t value)
{
	(void)w;
	return program_access(addr, true, &value);
}

static int world_load(struct mmu_world *w, uint64_t addr, uint64_t *value)
{
	(void)w;
	return program_access(addr, false, value);
}

/* ---- other threads ---- */

static void world_touch(struct mmu_world *w, int id, uint64_t addr, bool write, uint64_t value)
{
	program_touch_begin(&to_uffd(w)->touch[id], addr, write, value);
}

static int world_touched(struct mmu_world *w, int id, int ms, uint64_t *value)
{
	return program_touch_end(&to_uffd(w)->touch[id], ms, value);
}

static int act_of_the_engine(void *arg)
{
	struct program_act *act = arg;
	struct mmu *m = act->mmu;

	if (act->what == ACT_POPULATE)
		return m->ops->populate(m, act->addr, act->len);
	return m->ops->drop(m, act->addr, act->len);
}

static void world_begin(struct mmu_world *w, enum mmu_act what, uint64_t addr, uint64_t len, uint64_t to)
{
	struct uffd_world *uw = to_uffd(w);

	uw->act = (struct program_act){ .what = what, .addr = addr, .len = len, .to = to, .mmu = w->mmu };
	if (what == ACT_FORK)
		uw->act.child = &uw->child;
	if (what == ACT_POPULATE || what == ACT_DROP)
		uw->act.fn = act_of_the_engine;
	program_act_begin(&uw->act);
}

static bool world_ended(struct mmu_world *w)
{
	return program_act_ended(&to_uffd(w)->act);
}

static int world_end(struct mmu_world *w)
{
	return program_act_end(&to_uffd(w)->act);
}

static bool world_wait_event(struct mmu_world *w, int ms)
{
	return program_readable(w->mmu->ops->event_fd(w->mmu), ms);
}

/* ---- devices ---- */

static int world_pin(struct mmu_world *w, uint64_t addr)
{
	return program_pin(&to_uffd(w)->pin, addr);
}

static void world_unpin(struct mmu_world *w, uint64_t addr)
{
	(void)addr;
	program_unpin(&to_uffd(w)->pin);
}

static int world_splice(struct mmu_world *w, uint64_t addr)
{
	return program_splice(to_uffd(w)->pipe[1], addr);
}

static int world_spliced(struct mmu_world *w, uint64_t addr, uint64_t *value)
{
	(void)addr;
	return program_spliced(to_uffd(w)->pipe[0], value);
}

/* ---- children ---- */

static void world_child_ask(struct mmu_world *w, uint64_t addr)
{
	program_child_ask(&to_uffd(w)->child, addr);
}

static int world_child_answer(struct mmu_world *w, int ms, uint64_t *value)
{
	return program_child_answer(&to_uffd(w)->child, ms, value);
}

static void world_child_exit(struct mmu_world *w)
{
	program_child_exit(&to_uffd(w)->child);
}

/* ---- the world ---- */

static struct mmu_world *world_open(void);

/* Waiters go when the descriptor goes; a child holds none. */
static void world_close(struct mmu_world *w)
{
	struct uffd_world *uw = to_uffd(w);

	program_child_exit(&uw->child);
	program_unpin(&uw->pin);
	w->mmu->ops->close(w->mmu);
	for (int i = 0; i < MMU_WORLD_TOUCHES; i++)
		program_touch_join(&uw->touch[i]);
	program_act_join(&uw->act);
	for (int i = 0; i < uw->nr_maps; i++)
		munmap(uw->map[i].start, uw->map[i].len);
	close(uw->pipe[0]);
	close(uw->pipe[1]);
	region_release(&uw->region);
	free(uw);
	alarm(0);
}

static const struct mmu_world_ops uffd_world_ops = {
	.name = "mmu_uffd",
	.open = world_open,
	.close = world_close,
	.map = world_map,
	.protect = world_protect,
	.dontfork = world_dontfork,
	.make_huge = world_make_huge,
	.store = world_store,
	.load = world_load,
	.touch = world_touch,
	.touched = world_touched,
	.begin = world_begin,
	.ended = world_ended,
	.end = world_end,
	.wait_event = world_wait_event,
	.pin = world_pin,
	.unpin = world_unpin,
	.splice = world_splice,
	.spliced = world_spliced,
	.child_ask = world_child_ask,
	.child_answer = world_child_answer,
	.child_exit = world_child_exit,
};

/* A test that hangs ends the program: better than a runner that waits. */
static struct mmu_world *world_open(void)
{
	struct uffd_world *uw = calloc(1, sizeof(*uw));
	int err;

	alarm(60);
	BUG_ON(!uw || region_reserve(&uw->region, REGION_LEN, REGION_LEN) || pipe(uw->pipe));
	err = mmu_uffd_open(&uw->w.mmu, &uw->region, NULL);
	if (err) {
		print_message("# mmu_uffd_open: error %d\n", err);
		return NULL;
	}
	uw->w.ops = &uffd_world_ops;
	return &uw->w;
}

int main(void)
{
	struct mmu_probe probe;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mmu_probe(&probe, NULL);
	if (probe.missing & ~(uint32_t)(MMU_WANT_EVENT_FORK | MMU_WANT_POISON | MMU_WANT_TOUCH)) {
		printf("1..0 # SKIP the engine needs what is missing here (0x%x)\n", probe.missing);
		return 0;
	}
	return mmu_contract_run(&uffd_world_ops);
}

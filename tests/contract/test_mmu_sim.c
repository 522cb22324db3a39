/* SPDX-License-Identifier: MIT */
/* The contract over the simulated mmu. Nothing here waits: what would wait is tried again when looked at. */
#include "mmu_contract.h"

#include "base/base.h"

#include <errno.h>
#include <stdlib.h>

#define SPACE_PAGES (256UL << 20 >> 12)

struct sim_touch {
	uint64_t addr, value;
	bool write;
};

struct sim_world {
	struct mmu_world w;
	uint64_t next;		/* address of the next map */
	struct sim_touch touch[MMU_WORLD_TOUCHES];
	int ret;		/* of the act */
	int children;
	uint64_t asked;
};

static struct sim_world *to_sim(struct mmu_world *w)
{
	return container_of(w, struct sim_world, w);
}

static uint64_t sim_map(struct mmu_world *w, uint64_t len)
{
	uint64_t addr = to_sim(w)->next;

	to_sim(w)->next += ALIGN_UP(len, MMU_HUGE) + MMU_HUGE;
	BUG_ON(mmu_sim_mmap(w->mmu, addr, len, true));
	return addr;
}

static int sim_protect(struct mmu_world *w, uint64_t addr, uint64_t len, bool writable)
{
	return mmu_sim_mprotect(w->mmu, addr, len, writable);
}

static int sim_dontfork(struct mmu_world *w, uint64_t addr, uint64_t len)
{
	return mmu_sim_madvise(w->mmu, addr, len, MMU_SIM_DONTFORK);
}

static int sim_make_huge(struct mmu_world *w, uint64_t addr)
{
	mmu_sim_madvise(w->mmu, addr, MMU_HUGE, MMU_SIM_HUGEPAGE);
	return mmu_sim_store(w->mmu, addr, 0);
}

static int sim_store(struct mmu_world *w, uint64_t addr, uint64_t value)
{
	return mmu_sim_store(w->mmu, addr, value);
}

static int sim_load(struct mmu_world *w, uint64_t addr, uint64_t *value)
{
	return mmu_sim_load(w->mmu, addr, value);
}

static int try_touch(struct mmu_world *w, struct sim_touch *t, uint64_t *value)
{
	if (!t->write)
		return mmu_sim_load(w->mmu, t->addr, value);
	*value = t->value;
	return mmu_sim_store(w->mmu, t->addr, t->value);
}

static void sim_touch(struct mmu_world *w, int id, uint64_t addr, bool write, uint64_t value)
{
	struct sim_touch *t = &to_sim(w)->touch[id];

	*t = (struct sim_touch){ addr, value, write };
	try_touch(w, t, &value);
}

static int sim_touched(struct mmu_world *w, int id, int ms, uint64_t *value)
{
	struct sim_touch *t = &to_sim(w)->touch[id];

	(void)ms;
	return mmu_sim_waiting(w->mmu, t->addr) ? -EWOULDBLOCK : try_touch(w, t, value);
}

static int act(struct mmu_world *w, enum mmu_act what, uint64_t addr, uint64_t len, uint64_t to)
{
	switch (what) {
	case ACT_UNMAP:
		return mmu_sim_munmap(w->mmu, addr, len);
	case ACT_MAP_OVER:
		return mmu_sim_mmap(w->mmu, addr, len, true);
	case ACT_DISCARD:
		return mmu_sim_discard(w->mmu, addr, len);
	case ACT_REMAP:
		return mmu_sim_mremap(w->mmu, addr, len, to);
	case ACT_FORK:
		to_sim(w)->children++;
		return mmu_sim_fork(w->mmu);
	case ACT_POPULATE:
		return w->mmu->ops->populate(w->mmu, addr, len);
	case ACT_DROP:
		return w->mmu->ops->drop(w->mmu, addr, len);
	}
	return -EINVAL;
}

static void sim_begin(struct mmu_world *w, enum mmu_act what, uint64_t addr, uint64_t len, uint64_t to)
{
	to_sim(w)->ret = act(w, what, addr, len, to);
}

/* Whatever an act waits for was there at once to be read. */
static bool sim_ended(struct mmu_world *w)
{
	(void)w;
	return true;
}

static int sim_end(struct mmu_world *w)
{
	return to_sim(w)->ret == -EINPROGRESS ? 0 : to_sim(w)->ret;
}

static bool sim_wait_event(struct mmu_world *w, int ms)
{
	(void)w;
	(void)ms;
	return true;
}

static int sim_pin(struct mmu_world *w, uint64_t addr)
{
	return mmu_sim_pin(w->mmu, addr, true);
}

static void sim_unpin(struct mmu_world *w, uint64_t addr)
{
	mmu_sim_pin(w->mmu, addr, false);
}

static int sim_splice(struct mmu_world *w, uint64_t addr)
{
	return mmu_sim_splice(w->mmu, addr);
}

static int sim_spliced(struct mmu_world *w, uint64_t addr, uint64_t *value)
{
	return mmu_sim_spliced(w->mmu, addr, value);
}

static void sim_child_ask(struct mmu_world *w, uint64_t addr)
{
	to_sim(w)->asked = addr;
}

static int sim_child_answer(struct mmu_world *w, int ms, uint64_t *value)
{
	(void)ms;
	return mmu_sim_child_load(w->mmu, to_sim(w)->children, to_sim(w)->asked, value);
}

static void sim_child_exit(struct mmu_world *w)
{
	mmu_sim_child_exit(w->mmu, to_sim(w)->children);
}

static struct mmu_world *sim_open(void);

static void sim_close(struct mmu_world *w)
{
	w->mmu->ops->close(w->mmu);
	free(to_sim(w));
}

static const struct mmu_world_ops sim_ops = {
	.name = "mmu_sim",
	.open = sim_open,
	.close = sim_close,
	.map = sim_map,
	.protect = sim_protect,
	.dontfork = sim_dontfork,
	.make_huge = sim_make_huge,
	.store = sim_store,
	.load = sim_load,
	.touch = sim_touch,
	.touched = sim_touched,
	.begin = sim_begin,
	.ended = sim_ended,
	.end = sim_end,
	.wait_event = sim_wait_event,
	.pin = sim_pin,
	.unpin = sim_unpin,
	.splice = sim_splice,
	.spliced = sim_spliced,
	.child_ask = sim_child_ask,
	.child_answer = sim_child_answer,
	.child_exit = sim_child_exit,
};

static struct mmu_world *sim_open(void)
{
	struct sim_world *sw = calloc(1, sizeof(*sw));

	BUG_ON(!sw || mmu_sim_open(&sw->w.mmu, SPACE_PAGES));
	sw->w.ops = &sim_ops;
	sw->next = MMU_SIM_BASE + MMU_HUGE;
	return &sw->w;
}

int main(void)
{
	return mmu_contract_run(&sim_ops);
}

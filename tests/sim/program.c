/* SPDX-License-Identifier: MIT */
/*
 * A program: threads that load, store, map, discard, protect, lock, pin, fork and end, without any regard for the
 * migrations beside them. What a thread does to a slot's layout it does alone (as an allocator sees to); loads and
 * stores race with everything.
 */
#include "sim.h"

#include <errno.h>
#include <string.h>

#define THREADS_MOST 5U
#define CHILDREN_MOST 3U

struct slot {
	uint32_t first, nr; /* pages */
	bool owned;	    /* its layout is being changed */
	uint32_t users;	    /* who count on its layout */
};

struct thread_state {
	uint32_t nr; /* of its stack page */
	struct slot *pinned, *spliced, *excluded;
	uint64_t pin, splice, splice_value, excl;
	uint32_t excl_kind;
};

struct child_state {
	int id; /* 0: none */
	uint64_t until;
};

static struct {
	struct slot slot[SLOTS + HUGE_SLOTS];
	uint32_t nr_slots, threads, over;
	struct thread_state thread[THREADS_MOST];
	struct child_state child[CHILDREN_MOST];
	int nr_forks;
} p;

#define SIM (world->sim)

/* ---- slots ---- */

static uint64_t slot_addr(const struct slot *s)
{
	return page_at(s->first);
}

static uint64_t slot_bytes(const struct slot *s)
{
	return s->nr * PAGE_SIZE_;
}

static struct slot *any_slot(void)
{
	if (world->weather.huge && chance(300))
		return &p.slot[SLOTS + rnd_below(HUGE_SLOTS)];
	return &p.slot[rnd_below(p.nr_slots)];
}

/* A slot whose layout is the caller's to change; NULL: the one that was thought of is taken. */
static struct slot *own_slot(void)
{
	struct slot *s = any_slot();

	if (s->owned || s->users)
		return NULL;
	s->owned = true;
	return s;
}

static struct slot *use_slot(void)
{
	struct slot *s = any_slot();

	if (s->owned)
		return NULL;
	s->users++;
	return s;
}

static uint64_t any_page(const struct slot *s)
{
	return slot_addr(s) + rnd_below(s->nr) * PAGE_SIZE_;
}

static uint64_t any_range(const struct slot *s, uint64_t *len)
{
	uint32_t first = rnd_below(s->nr), nr = 1 + rnd_below(s->nr - first);

	if (chance(300)) {
		first = 0;
		nr = s->nr;
	}
	*len = nr * PAGE_SIZE_;
	return slot_addr(s) + first * PAGE_SIZE_;
}

/* ---- waiting ---- */

static bool woken(void *arg)
{
	return !mmu_sim_waiting(SIM, *(uint64_t *)arg);
}

static bool let_go(void *arg)
{
	return !mmu_sim_held_up(SIM, (int)*(uint32_t *)arg);
}

/* The thread whose call this was sleeps in the kernel until its event has been dealt with. */
static void wait_for_event(int ret)
{
	uint32_t self = sched_self();

	if (ret == -EINPROGRESS)
		sched_wait(let_go, &self, "the reader of its event");
}

static void as_self(void)
{
	mmu_sim_thread(SIM, (int)sched_self());
}

/* ---- loads and stores ---- */

static void expect(const char *what, uint64_t addr, int got, int must)
{
	if (got == -EFAULT && world->failed_call && world->mm.stats.poisoned)
		return;
	if (got == -EFAULT && shadow_broken(shadow_at(ALIGN_DOWN(addr, PAGE_SIZE_))))
		return;
	if (got != must)
		fail("%s at %#lx: %d, must be %d", what, addr, got, must);
}

static uint64_t word_addr(uint64_t page, uint32_t *w)
{
	*w = rnd_below(WORDS);
	return page + *w * (PAGE_SIZE_ / WORDS);
}

static int store(uint64_t page)
{
	struct shadow_page *sh = shadow_at(page);
	uint32_t w;
	uint64_t addr = word_addr(page, &w), value;
	int err;

	/* values grow in the order of the stores that were done */
	while ((err = mmu_sim_store(SIM, addr, value = shadow_value(page))) == -EWOULDBLOCK)
		sched_wait(woken, &page, "a page");
	expect("store", addr, err, sh->mapped && sh->writable ? 0 : -EACCES);
	if (!err) {
		sh->word[w] = value;
		sh->maybe[w] = 0;
		sh->raced |= (uint8_t)(sh->discarding ? 1U << w : 0);
	}
	trace("store", addr, value, err);
	return err;
}

static void load(uint64_t page)
{
	struct shadow_page *sh = shadow_at(page);
	uint64_t addr, value = 0;
	uint32_t w;
	int err;

	addr = word_addr(page, &w);
	while ((err = mmu_sim_load(SIM, addr, &value)) == -EWOULDBLOCK)
		sched_wait(woken, &page, "a page");
	expect("load", addr, err, sh->mapped ? 0 : -EACCES);
	if (!err && value != sh->word[w] && !(sh->discarding && !value) && !(value && value == sh->maybe[w]))
		fail("load at %#lx: %#lx, must be %#lx", addr, value, sh->word[w]);
	trace("load", addr, value, err);
}

static void do_store(struct thread_state *t)
{
	(void)t;
	store(any_page(any_slot()));
}

static void do_load(struct thread_state *t)
{
	(void)t;
	load(any_page(any_slot()));
}

/* ---- layout ---- */

static void do_discard(struct slot *s)
{
	uint64_t len, addr;
	int ret;

	addr = any_range(s, &len);
	shadow_discarding(addr, len, 1);
	as_self();
	ret = mmu_sim_discard(SIM, addr, len);
	trace("discard", addr, len, ret);
	wait_for_event(ret);
	shadow_discarding(addr, len, -1);
}

static void map_slot(const struct slot *s, uint64_t addr, uint64_t len)
{
	int ret;

	as_self();
	ret = mmu_sim_mmap(SIM, addr, len, true);
	shadow_map(addr, len, true, true);
	if (s->nr == LEAF_PAGES)
		mmu_sim_madvise(SIM, addr, len, MMU_SIM_HUGEPAGE);
	trace("mmap", addr, len, ret);
	wait_for_event(ret);
	if (chance(800)) /* the others are made inside libc, where nobody sees them */
		throttle_mapped(&world->mm, len);
}

static void do_map(struct slot *s)
{
	map_slot(s, slot_addr(s), slot_bytes(s));
}

static void do_unmap(struct slot *s)
{
	uint64_t len, addr;
	int ret;

	addr = any_range(s, &len);
	as_self();
	ret = mmu_sim_munmap(SIM, addr, len);
	shadow_map(addr, len, false, false);
	trace("munmap", addr, len, ret);
	wait_for_event(ret);
	if (chance(700))
		map_slot(s, addr, len);
}

static void do_remap(struct slot *s)
{
	struct slot *to = own_slot();
	int ret = -EINVAL;

	if (to && to->nr == s->nr) {
		as_self();
		ret = mmu_sim_mremap(SIM, slot_addr(s), slot_bytes(s), slot_addr(to));
		trace("mremap", slot_addr(s), slot_addr(to), ret);
		wait_for_event(ret);
		if (ret != -EFAULT && chance(800))
			map_slot(s, slot_addr(s), slot_bytes(s));
	}
	if (to)
		to->owned = false;
}

static void do_protect(struct slot *s)
{
	bool writable = chance(600);
	uint64_t len, addr;
	int ret;

	addr = any_range(s, &len);
	ret = mmu_sim_mprotect(SIM, addr, len, writable);
	if (!ret)
		shadow_map(addr, len, true, writable);
	trace("mprotect", addr, len, writable);
}

static void do_lock(struct slot *s)
{
	uint64_t len, addr;
	bool lock = chance(400);

	addr = any_range(s, &len);
	mmu_sim_madvise(SIM, addr, len, lock ? MMU_SIM_LOCK : MMU_SIM_UNLOCK);
	trace(lock ? "mlock" : "munlock", addr, len, 0);
}

static void do_collapse(struct slot *s)
{
	int ret;

	if (s->nr == LEAF_PAGES && shadow_at(slot_addr(s))->writable) {
		ret = mmu_sim_huge(SIM, slot_addr(s));
		trace("collapse", slot_addr(s), 0, ret);
	}
}

/* ---- references beside the page tables ---- */

static void unpin(struct thread_state *t)
{
	mmu_sim_pin(SIM, t->pin, false);
	trace("unpin", t->pin, 0, 0);
	t->pinned->users--;
	t->pinned = NULL;
}

/* A device writes through its pin, whatever becomes of the page meanwhile. */
static void do_pin(struct thread_state *t)
{
	struct slot *s = t->pinned ? NULL : use_slot();
	uint32_t w;
	int err;

	if (t->pinned) {
		uint64_t addr = word_addr(t->pin, &w), value = shadow_value(t->pin);

		if (mmu_sim_dma(SIM, addr, value))
			fail("the pin at %#lx has gone", t->pin);
		shadow_at(t->pin)->word[w] = value;
		trace("dma", addr, value, 0);
		if (chance(300))
			unpin(t);
	}
	if (!s)
		return;
	t->pin = any_page(s);
	while ((err = mmu_sim_pin(SIM, t->pin, true)) == -EWOULDBLOCK)
		sched_wait(woken, &t->pin, "a page to pin");
	trace("pin", t->pin, 0, err);
	if (err)
		s->users--;
	else
		t->pinned = s;
}

static void read_pipe(struct thread_state *t)
{
	uint64_t value = 0;

	if (mmu_sim_spliced(SIM, t->splice, &value))
		fail("the pipe is empty");
	trace("read pipe", t->splice, value, 0);
	if (value != t->splice_value && (value < t->splice_value || page_at(shadow_page_of(value)) != t->splice))
		fail("a pipe was given %#lx and holds %#lx", t->splice_value, value);
	t->spliced->users--;
	t->spliced = NULL;
}

/* vmsplice() is interposed: frames are not used again from then on. */
static void do_splice(struct thread_state *t)
{
	struct slot *s = t->spliced ? NULL : use_slot();
	int err;

	if (t->spliced) {
		read_pipe(t);
		return;
	}
	if (!s)
		return;
	t->splice = any_page(s);
	__atomic_store_n(&world->mm.recycle, false, __ATOMIC_RELAXED);
	if (store(t->splice)) {
		s->users--;
		return;
	}
	while ((err = mmu_sim_splice(SIM, t->splice)) == -EWOULDBLOCK)
		sched_wait(woken, &t->splice, "a page to splice");
	if (!err)
		err = mmu_sim_load(SIM, t->splice, &t->splice_value);
	trace("vmsplice", t->splice, t->splice_value, err);
	if (err || !t->splice_value)
		t->splice_value = shadow_at(t->splice)->word[0];
	if (err)
		s->users--;
	else
		t->spliced = s;
}

static void include_again(struct thread_state *t)
{
	if (exclude_del(&world->mm, t->excl, t->excl + PAGE_SIZE_, t->excl_kind))
		fail("the exclusion of %#lx has gone", t->excl);
	t->excluded->users--;
	t->excluded = NULL;
}

/* While it is pinned by gw_pin(), or opted out, the kernel may write to it without waiting. */
static void do_exclude(struct thread_state *t)
{
	struct slot *s = t->excluded ? NULL : use_slot();
	uint64_t value;

	if (t->excluded) {
		value = shadow_value(t->excl);
		if (mmu_sim_put_user(SIM, t->excl, value) == -EFAULT)
			fail("%#lx is in flight, and must stay", t->excl);
		shadow_at(t->excl)->word[0] = value;
		trace("put_user", t->excl, value, 0);
		if (chance(300))
			include_again(t);
		return;
	}
	if (!s)
		return;
	t->excl = any_page(s);
	t->excl_kind = chance(500) ? EXCLUDE_PIN : EXCLUDE_OPT_OUT;
	if (exclude_add(&world->mm, t->excl, t->excl + PAGE_SIZE_, t->excl_kind))
		fail("no room for an exclusion");
	t->excluded = s;
	if (!shadow_at(t->excl)->mapped || store(t->excl))
		include_again(t);
}

/* ---- children ---- */

static void children_end(bool all)
{
	for (uint32_t i = 0; i < CHILDREN_MOST; i++)
		if (p.child[i].id && (all || sched_steps() > p.child[i].until)) {
			mmu_sim_child_exit(SIM, p.child[i].id);
			trace("child ends", (uint64_t)p.child[i].id, 0, 0);
			p.child[i].id = 0;
		}
}

static bool no_heir(void *arg)
{
	(void)arg;
	return world->mm.heir < 0;
}

/*
 * Between the handlers of fork() and the call itself, and behind it: locks of its allocator and of its files, which
 * other threads use, too, so that such a page may be on its way just then.
 */
static void libc_touches(void)
{
	const struct slow *q = &world->mm.slow;

	for (uint32_t nr = rnd_below(4); nr; nr--)
		store(q->nr && chance(700) ? q->fetch[(q->first + q->nr - 1) % SLOW_MOST].addr : any_page(any_slot()));
}

static void do_fork(struct thread_state *t)
{
	struct child_state *c = p.child;
	bool raw = world->weather.raw_forks && chance(500);
	struct snapshot *seen;
	int id, ret;

	(void)t;
	children_end(false);
	while (c->id)
		if (++c == p.child + CHILDREN_MOST)
			return;
	c->id = -1;
	c->until = UINT64_MAX;
	if (!raw) {
		mm_fork_prepare(&world->mm);
		libc_touches();
	}
	seen = snapshot_take();
	as_self();
	ret = mmu_sim_fork(SIM);
	id = ++p.nr_forks;
	c->id = id;
	trace(raw ? "raw fork" : "fork", (uint64_t)id, 0, ret);
	wait_for_event(ret);
	if (!raw) {
		if (chance(500))
			libc_touches();
		mm_fork_seen(&world->mm);
		sched_wait(no_heir, NULL, "the service of a child's faults");
		while (chance(950))
			sched_point();
		mm_fork_parent(&world->mm);
	}
	snapshot_check(seen, id);
	snapshot_free(seen);
	c->until = sched_steps() + rnd_below(500);
	world->forks++;
}

/* ---- threads ---- */

static void thread_begins(struct thread_state *t)
{
	uint64_t stack = page_at(STACKS_AT + t->nr);

	if (exclude_add(&world->mm, stack, stack + PAGE_SIZE_, sched_self()))
		fail("no room for a thread's exclusion");
	store(stack);
}

/* The kernel clears a word of the thread's memory, and does not wait for it; who joins waits for that word. */
static void thread_ends(struct thread_state *t)
{
	uint64_t stack = page_at(STACKS_AT + t->nr), value = shadow_value(stack);
	int err = mmu_sim_put_user(SIM, stack, value);

	trace("thread ends", stack, value, err);
	if (err == -EFAULT && shadow_broken(shadow_at(stack))) {
		sched_rename();
		return;
	}
	if (err == -EFAULT)
		fail("what the kernel writes at a thread's end is lost");
	shadow_at(stack)->word[0] = value;
	sched_rename();
}

static void do_end_thread(struct thread_state *t)
{
	thread_ends(t);
	sched_point();
	thread_begins(t);
}

struct doing {
	uint32_t weight;
	void (*fn)(struct thread_state *t);
	void (*layout)(struct slot *s); /* or this, with a slot whose layout is its own to change */
};

static const struct doing doings[] = {
	{ 600, .fn = do_store },     { 250, .fn = do_load },	   { 50, .fn = do_pin },
	{ 12, .fn = do_splice },     { 25, .fn = do_exclude },	   { 1, .fn = do_fork },
	{ 12, .fn = do_end_thread }, { 30, .layout = do_discard }, { 8, .layout = do_map },
	{ 15, .layout = do_unmap },  { 20, .layout = do_remap },   { 25, .layout = do_protect },
	{ 8, .layout = do_lock },    { 8, .layout = do_collapse },
};

static const struct doing *any_doing(void)
{
	const struct doing *d = doings;
	uint32_t sum = 0, pick;

	for (uint32_t i = 0; i < ARRAY_SIZE(doings); i++)
		sum += doings[i].weight;
	for (pick = rnd_below(sum); pick >= d->weight; d++)
		pick -= d->weight;
	return d;
}

static void do_something(struct thread_state *t)
{
	const struct doing *d = any_doing();
	struct slot *s = d->layout ? own_slot() : NULL;

	/* forks come together */
	if (world->mm.forking && chance(150))
		do_fork(t);
	if (d->fn)
		d->fn(t);
	if (!s)
		return;
	d->layout(s);
	s->owned = false;
}

static void thread_main(void *arg)
{
	struct thread_state *t = arg;

	thread_begins(t);
	while (!world->ending) {
		do_something(t);
		sched_point();
	}
	if (t->pinned)
		unpin(t);
	if (t->spliced)
		read_pipe(t);
	if (t->excluded)
		include_again(t);
	thread_ends(t);
	p.over++;
}

/* ---- the program ---- */

void program_begin(void)
{
	memset(&p, 0, sizeof(p));
	for (uint32_t i = 0; i < SLOTS; i++)
		p.slot[p.nr_slots++] = (struct slot){ .first = i * SLOT_PAGES, .nr = SLOT_PAGES };
	for (uint32_t i = 0; i < HUGE_SLOTS && world->weather.huge; i++)
		p.slot[p.nr_slots++] = (struct slot){ .first = HUGE_AT + i * LEAF_PAGES, .nr = LEAF_PAGES };
	for (uint32_t i = 0; i < p.nr_slots; i++)
		if (i % 4)
			map_slot(&p.slot[i], slot_addr(&p.slot[i]), slot_bytes(&p.slot[i]));
	map_slot(&p.slot[0], page_at(STACKS_AT), STACKS * PAGE_SIZE_);
	p.threads = 2 + rnd_below(THREADS_MOST - 1);
	for (uint32_t i = 0; i < p.threads; i++) {
		p.thread[i].nr = i;
		sched_spawn("thread", 2, thread_main, &p.thread[i]);
	}
}

bool program_over(void)
{
	return p.over == p.threads;
}

void program_end(void)
{
	children_end(true);
}

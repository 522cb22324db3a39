/* SPDX-License-Identifier: MIT */
/*
 * The kernel that the engine sees: system calls, and the operations of the mmu. Every call is a place where another
 * thread may run, before and after, and a place where something may go wrong.
 */
#define _GNU_SOURCE 1
#include "sim.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALL_NS 500U
#define OPEN_MAX_ 4U
#define COMES_BACK 5000U /* calls; who touches what is away waits for memory as long as there is none */
#define TEXT_MAX 8192U
#define ANSWERS_BEYOND 33U /* READ_EVERY of mm/throttle.c, and the one that reads */

/* ---- what may happen at a call ---- */

static void interrupt_here(void)
{
	sched_pass(CALL_NS);
	if (chance(world->weather.restless))
		sched_point();
}

/* The calls that can be made to fail, one kind in a world. (UFFDIO_WAKE and UFFDIO_POISON of one page have no way to.) */
static const char *const kinds[] = {
	"track", "untrack", "move", "copy_in", "copy_child", "fill_zero", "peek", "populate", "fill", "drop", "shared",
	"unshare", "scan", "area", "where", "placed", "mmap", "mlock2", "mbind", "mprotect", "openat", "read",
};

const char *kernel_kind(uint32_t nr)
{
	return nr < ARRAY_SIZE(kinds) ? kinds[nr] : NULL;
}

/* Is this the call that fails? */
static bool fails(const char *what)
{
	struct weather *w = &world->weather;

	if (!w->fail_kind || strcmp(what, w->fail_kind))
		return false;
	world->calls++;
	if (!strcmp(what, "copy_in") && world->calls > w->fail_call + COMES_BACK)
		return false;
	if (world->calm || world->calls < w->fail_call || (world->calls > w->fail_call && !w->fail_on))
		return false;
	world->failed_call = what;
	trace("injected failure", world->calls, 0, -1);
	return true;
}

static bool stormy(uint32_t per_1000)
{
	return !world->calm && per_1000 && chance(per_1000);
}

static int64_t done(const char *what, uint64_t a, uint64_t b, int64_t ret)
{
	trace(what, a, b, ret);
	interrupt_here();
	return ret;
}

/* ---- files ---- */

static struct {
	bool used;
	uint32_t len, pos;
	char text[TEXT_MAX];
} file[OPEN_MAX_];

static uint32_t maps_text(char *text)
{
	uint64_t at = MMU_SIM_BASE, end = page_at(WORLD_PAGES);
	uint32_t len = 0;

	while (at < end) {
		uint64_t from, to;
		struct shadow_page *p = shadow_at(at);

		if (world->sim->ops->area(world->sim, at, &from, &to)) {
			at += PAGE_SIZE_;
			continue;
		}
		len += (uint32_t)snprintf(text + len, TEXT_MAX - len, "%lx-%lx r%c-p 00000000 00:00 0 \n", from, to,
					  p->writable ? 'w' : '-');
		at = to;
	}
	return len;
}

static long file_open(const char *path)
{
	long fd = 0;

	while (file[fd].used)
		if (++fd == OPEN_MAX_)
			return -EMFILE;
	file[fd].used = true;
	file[fd].len = file[fd].pos = 0;
	if (strstr(path, "/maps"))
		file[fd].len = maps_text(file[fd].text);
	return fd;
}

static long file_read(long fd, char *buf, uint64_t len)
{
	uint64_t n = min_u64(len, file[fd].len - file[fd].pos);

	memcpy(buf, file[fd].text + file[fd].pos, n);
	file[fd].pos += (uint32_t)n;
	return (long)n;
}

/* ---- memory of the engine's own: the books are real memory, arenas are the simulated process's ---- */

static bool in_sim(uint64_t addr)
{
	return world->sim->ops->area(world->sim, addr, &(uint64_t){ 0 }, &(uint64_t){ 0 }) == 0;
}

/* Addresses only: what is mapped there is the simulated process's. */
static long part_map(uint64_t len)
{
	uint64_t at = world->parts_used;

	if (len > PARTS_BYTES - at)
		return -ENOMEM;
	world->parts_used += len;
	return (long)(MMU_SIM_BASE + PARTS_AT + at);
}

static long memory_map(uint64_t addr, uint64_t len, int prot)
{
	if (!addr && world->region.base)
		return part_map(len);
	if (!addr)
		return len > REGION_BYTES
			       ? -ENOMEM
			       : (long)mmap((void *)(MMU_SIM_BASE + REGION_AT), len, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (prot == PROT_NONE)
		mmu_sim_munmap(world->sim, addr, len);
	else
		mmu_sim_mmap(world->sim, addr, len, true);
	return (long)addr;
}

static long memory_advise(uint64_t addr, uint64_t len, int advice)
{
	if (!in_sim(addr) || advice == MADV_POPULATE_WRITE)
		return 0;
	return mmu_sim_madvise(world->sim, addr, len,
			       advice == MADV_DONTFORK	 ? MMU_SIM_DONTFORK
			       : advice == MADV_HUGEPAGE ? MMU_SIM_HUGEPAGE
							 : MMU_SIM_NOHUGEPAGE);
}

static long memory_protect(uint64_t addr, uint64_t len, int prot)
{
	if (in_sim(addr))
		return mmu_sim_mprotect(world->sim, addr, len, prot & PROT_WRITE);
	return mprotect((void *)addr, len, prot) ? -errno : 0;
}

static long futex(const uint32_t *word, int op, uint32_t val, const struct timespec *ts)
{
	if ((op & FUTEX_CMD_MASK) == FUTEX_WAKE)
		return sched_futex_wake(word, val);
	return sched_futex_wait(word, val, ts ? (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec : 0);
}

/* Which calls of the engine may fail for a want of memory, in bad weather and at an injected failure. */
static bool call_fails(long nr, long prot)
{
	if (nr == SYS_mmap && prot != PROT_NONE)
		return fails("mmap") || stormy(world->weather.enomem);
	if (nr == SYS_mlock2)
		return fails("mlock2") || stormy(world->weather.enomem);
	if (nr == SYS_mbind)
		return fails("mbind");
	if (nr == SYS_mprotect)
		return fails("mprotect");
	if (nr == SYS_openat)
		return fails("openat");
	if (nr == SYS_read)
		return fails("read");
	return false;
}

long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	(void)e;
	(void)f;
	interrupt_here();
	if (call_fails(nr, c))
		return nr == SYS_read ? -EIO : -ENOMEM;
	switch (nr) {
	case SYS_futex:
		return futex((const uint32_t *)a, (int)b, (uint32_t)c, (const struct timespec *)d);
	case SYS_gettid:
		return sched_self();
	case SYS_getpid:
		return 1;
	case SYS_tgkill:
		return sched_alive((uint32_t)b) ? 0 : -ESRCH;
	case SYS_mmap:
		return memory_map((uint64_t)a, (uint64_t)b, (int)c);
	case SYS_munmap:
		return munmap((void *)a, (size_t)b);
	case SYS_mprotect:
		return memory_protect((uint64_t)a, (uint64_t)b, (int)c);
	case SYS_madvise:
		return memory_advise((uint64_t)a, (uint64_t)b, (int)c);
	case SYS_mlock2:
		return mmu_sim_madvise(world->sim, (uint64_t)a, (uint64_t)b, MMU_SIM_LOCK);
	case SYS_munlock:
		return mmu_sim_madvise(world->sim, (uint64_t)a, (uint64_t)b, MMU_SIM_UNLOCK);
	case SYS_mbind:
	case SYS_brk:
	case SYS_access:
		return 0;
	case SYS_get_mempolicy:
		return -ENOSYS;
	case SYS_openat:
		return file_open((const char *)b);
	case SYS_read:
		return file_read(a, (char *)b, (uint64_t)c);
	case SYS_getdents64:
		return 0;
	case SYS_close:
		file[a].used = false;
		return 0;
	default:
		fail("system call %ld is not simulated", nr);
	}
}

/* ---- what of base is not real: clock and scheduling ---- */

uint64_t clock_ns(void)
{
	return sched_now();
}

void sleep_ns(uint64_t ns)
{
	sched_sleep(ns);
}

bool thread_hurry(bool on)
{
	return on;
}

int thread_cpu(uint32_t tid)
{
	return (int)tid % 2;
}

/* ---- the mmu ---- */

#define SIM (world->sim)
#define OPS (world->sim->ops)
#define SCRATCH_AT (WORLD_PAGES + 1) /* page number of what the engine's own memory is seen as */

const uint8_t *kernel_bytes(uint64_t addr)
{
	static const uint8_t zeroes[PAGE_SIZE_];
	const uint8_t *frame;

	if (!in_sim(addr))
		return (const uint8_t *)addr;
	frame = mmu_sim_frame(SIM, addr);
	return frame ? frame : zeroes;
}

/* An address of the simulated process with the content that is at addr. */
static uint64_t in_process(uint64_t addr)
{
	const uint64_t *word = (const uint64_t *)addr;
	uint64_t at = page_at(SCRATCH_AT);

	if (in_sim(addr))
		return addr;
	for (uint32_t i = 0; i < PAGE_SIZE_ / sizeof(*word); i++)
		BUG_ON(mmu_sim_store(SIM, at + i * sizeof(*word), word[i]));
	return at;
}

static int k_track(struct mmu *m, uint64_t addr, uint64_t len)
{
	(void)m;
	if (!in_sim(addr) && region_owns(&world->region, addr, addr + len))
		return 0; /* no child takes over here: nobody rings */
	interrupt_here();
	if (fails("track") || stormy(world->weather.enomem))
		return -ENOMEM;
	return (int)done("track", addr, len, OPS->track(SIM, addr, len));
}

static int k_untrack(struct mmu *m, uint64_t addr, uint64_t len)
{
	(void)m;
	interrupt_here();
	if (fails("untrack"))
		return -ENOMEM;
	return (int)done("untrack", addr, len, OPS->untrack(SIM, addr, len));
}

/* Linux's MOVE may stop anywhere, and tells the reason only to who asks again. */
static struct mmu_moved k_move(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len, bool wake)
{
	struct weather *w = &world->weather;
	struct mmu_moved moved = { 0 };
	uint64_t part = len;

	(void)m;
	interrupt_here();
	if (fails("move"))
		moved.err = -ENOMEM;
	else if (stormy(w->eagain) || stormy(w->storm))
		moved.err = -EAGAIN;
	else if (stormy(w->ebusy))
		moved.err = -EBUSY;
	else if (stormy(w->enomem))
		moved.err = -ENOMEM;
	if (!moved.err && len > PAGE_SIZE_ && stormy(w->cut))
		part = (1 + rnd_below((uint32_t)(len / PAGE_SIZE_) - 1)) * PAGE_SIZE_;
	if (!moved.err) {
		moved = OPS->move(SIM, dst, src, part, wake);
		if (!moved.err && part < len)
			moved.err = -EAGAIN;
	}
	trace(wake ? "move in" : "move out", wake ? dst : src, len, moved.done ? (int64_t)moved.done : moved.err);
	interrupt_here();
	return moved;
}

static int k_copy_in(struct mmu *m, uint64_t addr, uint64_t slot)
{
	(void)m;
	interrupt_here();
	if (fails("copy_in"))
		return -ENOMEM;
	if (stormy(world->weather.eagain))
		return -EAGAIN;
	return (int)done("copy in", addr, slot, OPS->copy_in(SIM, addr, in_process(slot)));
}

static int k_copy_child(struct mmu *m, int child, uint64_t addr, uint64_t slot)
{
	(void)m;
	interrupt_here();
	if (fails("copy_child"))
		return -ENOMEM;
	return (int)done("copy to child", addr, (uint64_t)child, OPS->copy_child(SIM, child, addr, in_process(slot)));
}

static int k_poison_child(struct mmu *m, int child, uint64_t addr)
{
	(void)m;
	interrupt_here();
	return (int)done("poison in child", addr, (uint64_t)child, OPS->poison_child(SIM, child, addr));
}

static int k_read_child(struct mmu *m, int child, struct mmu_event *ev)
{
	(void)m;
	return OPS->read_child(SIM, child, ev);
}

static bool k_changing(struct mmu *m)
{
	(void)m;
	interrupt_here();
	return OPS->changing(SIM);
}

static bool k_sees_forks(struct mmu *m)
{
	(void)m;
	return true;
}

static void k_close_child(struct mmu *m, int child)
{
	(void)m;
	interrupt_here();
	OPS->close_child(SIM, child);
}

/* Is there a reason for which nobody is to wait for the reclaimer, or was there when this one was let go? */
static bool lets_go(void)
{
	const struct mm *mm = &world->mm;
	bool counted = world->let_go != mm->stats.held_let_go;

	world->let_go = mm->stats.held_let_go;
	return counted || !mm->throttle.on || mm->forking || mm->reclaim.full || sched_now() < mm->throttle.open_until;
}

/*
 * Of so many first touches one is answered after what is used was read. Where the node was beyond its limit at each of
 * them nobody looked.
 */
static void check_room(void)
{
	uint64_t limit = world->nodes.node[0].spec.bytes / PAGE_SIZE_;

	if (!world->weather.growth || !limit || lets_go() || OPS->resident(SIM) <= limit)
		world->beyond = 0;
	else if (++world->beyond > ANSWERS_BEYOND)
		fail("%u first touches were answered one after another while %lu pages are there, and %lu may be",
		     world->beyond, OPS->resident(SIM), limit);
}

static int k_fill_zero(struct mmu *m, uint64_t addr)
{
	(void)m;
	interrupt_here();
	if (!OPS->changing(SIM) && fails("fill_zero")) /* which looks for events before memory */
		return -ENOMEM;
	if (stormy(world->weather.eagain))
		return -EAGAIN;
	check_room();
	return (int)done("fill", addr, 0, OPS->fill_zero(SIM, addr));
}

static int k_poison(struct mmu *m, uint64_t addr)
{
	(void)m;
	interrupt_here();
	return (int)done("poison", addr, 0, OPS->poison(SIM, addr));
}

static int k_wake(struct mmu *m, uint64_t addr, uint64_t len)
{
	(void)m;
	interrupt_here();
	return (int)done("wake", addr, len, OPS->wake(SIM, addr, len));
}

/* A copy is no instant: the program goes on between two pages. */
static void k_copy(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	(void)m;
	for (uint64_t at = 0; at < len; at += PAGE_SIZE_) {
		if (chance(100))
			interrupt_here();
		OPS->copy(SIM, dst + at, src + at, min_u64(len - at, PAGE_SIZE_));
	}
	if (stormy(world->weather.flips))
		mmu_sim_store(SIM, dst + rnd_below((uint32_t)len), rnd());
	trace("copy", dst, src, (int64_t)len);
}

static bool k_same(struct mmu *m, uint64_t a, uint64_t b, uint64_t len)
{
	(void)m;
	if (!in_sim(a) || !in_sim(b))
		return !memcmp(kernel_bytes(a), kernel_bytes(b), len); /* a page */
	return OPS->same(SIM, a, b, len);
}

static uint64_t k_sum(struct mmu *m, uint64_t slot, uint64_t len)
{
	(void)m;
	return OPS->sum(SIM, slot, len);
}

static bool not_waiting(void *arg)
{
	return !mmu_sim_waiting(SIM, *(uint64_t *)arg);
}

static int64_t k_peek(struct mmu *m, uint64_t slot, uint64_t addr, uint64_t len)
{
	int64_t got;

	(void)m;
	interrupt_here();
	if (fails("peek"))
		return -EFAULT;
	while ((got = OPS->peek(SIM, slot, addr, len)) == -EWOULDBLOCK)
		sched_wait(not_waiting, &addr, "a fault of the engine");
	return done("peek", addr, len, got);
}

static int k_populate(struct mmu *m, uint64_t slot, uint64_t len)
{
	(void)m;
	interrupt_here();
	if (fails("populate") || stormy(world->weather.enomem))
		return -ENOMEM;
	return (int)done("populate", slot, len, OPS->populate(SIM, slot, len));
}

/* From the engine's own memory; one page that is refused leaves those before it filled. */
static int fill_from(uint64_t slot, uint64_t src, uint64_t len)
{
	int err = 0;

	for (uint64_t at = 0; at < len && !err; at += PAGE_SIZE_) {
		err = OPS->fill(SIM, slot + at, in_process(src + at), PAGE_SIZE_);
		if (chance(world->weather.restless))
			interrupt_here();
	}
	return err;
}

static int k_fill(struct mmu *m, uint64_t slot, uint64_t src, uint64_t len)
{
	(void)m;
	interrupt_here();
	if (fails("fill") || stormy(world->weather.enomem))
		return -ENOMEM;
	if (stormy(world->weather.eagain))
		return -EAGAIN;
	return (int)done("fill", slot, len, in_sim(src) || shadow_at(src) ? OPS->fill(SIM, slot, src, len)
								   : fill_from(slot, src, len));
}

static int k_drop(struct mmu *m, uint64_t addr, uint64_t len)
{
	(void)m;
	interrupt_here();
	if (fails("drop"))
		return -ENOMEM;
	return (int)done("drop", addr, len, OPS->drop(SIM, addr, len));
}

static int k_shared(struct mmu *m, uint64_t addr, uint64_t len)
{
	(void)m;
	if (fails("shared"))
		return -ENOMEM;
	return OPS->shared(SIM, addr, len);
}

static void k_touch(struct mmu *m, uint64_t addr)
{
	uint64_t value;

	(void)m;
	interrupt_here();
	while (mmu_sim_load(SIM, addr, &value) == -EWOULDBLOCK)
		sched_wait(not_waiting, &addr, "a page that its thread wants back");
	trace("touch", addr, 0, 0);
}

static uint64_t k_resident(struct mmu *m)
{
	(void)m;
	interrupt_here();
	return OPS->resident(SIM);
}

static int k_unshare(struct mmu *m, uint64_t addr, uint64_t len)
{
	int err = 0;

	(void)m;
	interrupt_here();
	if (fails("unshare"))
		return -ENOMEM;
	for (uint64_t at = addr; at < addr + len && !err; at += PAGE_SIZE_)
		while ((err = OPS->unshare(SIM, at, PAGE_SIZE_)) == -EWOULDBLOCK)
			sched_wait(not_waiting, &at, "a fault of the engine");
	return (int)done("unshare", addr, len, err);
}

static int k_scan(struct mmu *m, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr)
{
	(void)m;
	interrupt_here();
	return fails("scan") ? 0 : OPS->scan(SIM, pos, end, run, nr);
}

static int k_area(struct mmu *m, uint64_t addr, uint64_t *start, uint64_t *end)
{
	(void)m;
	interrupt_here();
	return fails("area") ? -ENOTTY : OPS->area(SIM, addr, start, end);
}

/* Told, or not told, or that some are elsewhere, which the page by page answer contradicts. */
static int k_placed(struct mmu *m, uint64_t slot, uint64_t len, int node)
{
	(void)m;
	interrupt_here();
	return fails("placed") ? -ENOMEM : chance(100) ? 0 : OPS->placed(SIM, slot, len, node);
}

static int k_where(struct mmu *m, uint64_t addr, int nr, int *node)
{
	(void)m;
	return fails("where") ? -ENOMEM : OPS->where(SIM, addr, nr, node);
}

static int k_mark(struct mmu *m, uint64_t addr, uint64_t len, const struct mmu_policy *pol)
{
	(void)m;
	return OPS->mark(SIM, addr, len, pol);
}

static int k_prefer(struct mmu *m, const struct mmu_policy *pol)
{
	(void)m;
	return OPS->prefer(SIM, pol);
}

static int k_marked(struct mmu *m, uint64_t addr)
{
	(void)m;
	return OPS->marked(SIM, addr);
}

static int k_read_event(struct mmu *m, struct mmu_event *ev)
{
	int got;

	(void)m;
	interrupt_here();
	got = OPS->read_event(SIM, ev);
	if (got > 0)
		trace(ev->type == MMU_EV_FAULT	  ? "reads fault"
		      : ev->type == MMU_EV_REMOVE ? "reads remove"
		      : ev->type == MMU_EV_UNMAP  ? "reads unmap"
		      : ev->type == MMU_EV_REMAP  ? "reads remap"
						  : "reads fork",
		      ev->addr, ev->type == MMU_EV_REMAP ? ev->to : ev->end, 0);
	if (got > 0 && ev->type == MMU_EV_FORK)
		sched_sleep(rnd_below(2000)); /* who has forked runs on before anything is done about it */
	return got;
}

const struct mmu_ops kernel_mmu_ops = {
	.name = "sim",
	.track = k_track,
	.untrack = k_untrack,
	.move = k_move,
	.copy_in = k_copy_in,
	.copy_child = k_copy_child,
	.poison_child = k_poison_child,
	.read_child = k_read_child,
	.close_child = k_close_child,
	.sees_forks = k_sees_forks,
	.changing = k_changing,
	.fill_zero = k_fill_zero,
	.map_zero = k_fill_zero,
	.poison = k_poison,
	.wake = k_wake,
	.copy = k_copy,
	.same = k_same,
	.sum = k_sum,
	.peek = k_peek,
	.populate = k_populate,
	.drop = k_drop,
	.fill = k_fill,
	.shared = k_shared,
	.unshare = k_unshare,
	.touch = k_touch,
	.resident = k_resident,
	.scan = k_scan,
	.area = k_area,
	.where = k_where,
	.placed = k_placed,
	.mark = k_mark,
	.marked = k_marked,
	.prefer = k_prefer,
	.read_event = k_read_event,
};

void kernel_begin(void)
{
	memset(file, 0, sizeof(file));
	mmu_sim_open(&world->sim, (PARTS_AT + PARTS_BYTES) / PAGE_SIZE_);
	mmu_sim_slow(world->sim, true);
	mmu_sim_mmap(world->sim, page_at(SCRATCH_AT), PAGE_SIZE_, true);
	mmu_sim_madvise(world->sim, page_at(SCRATCH_AT), PAGE_SIZE_, MMU_SIM_DONTFORK);
	world->mmu.ops = &kernel_mmu_ops;
}

void kernel_end(void)
{
	OPS->close(SIM);
}

/* Nobody observes first touches here. */
uint64_t touch_drain(struct touches *t, void (*fn)(void *arg, const struct touch *touch), void *arg)
{
	(void)t;
	(void)fn;
	(void)arg;
	return 0;
}

/* Nor are there signals. */
uint64_t signals_block(void)
{
	return 0;
}

void signals_restore(uint64_t mask)
{
	(void)mask;
}

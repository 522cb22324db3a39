/* SPDX-License-Identifier: MIT */
/*
 * The mmu of the real world: userfaultfd, pagemap, madvise of the process we live in.
 *
 * What ioctl errors mean is decided in uffd_move() and one-liners beside it, nowhere else.
 */
#include "mmu/mmu.h"

#include "base/base.h"
#include "mmu/copy.h"
#include "mmu/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* MADV_DONTNEED, also of mlocked memory */
#endif

struct mmu_uffd {
	struct mmu mmu;
	int fd;
	int pagemap, maps, statm;
	int pid;
	bool can_poison, sees_forks;
	bool wide;			/* 256-bit vectors */
	uint8_t *zero;		/* one page of zeroes */
	bool no_marks;		/* the host takes no policy: see mark */
	uint8_t *probe;		/* one page that is there, and tracked */
};

static struct mmu_uffd *to_uffd(struct mmu *m)
{
	return container_of(m, struct mmu_uffd, mmu);
}

static long uffd_ioctl(struct mmu *m, unsigned long nr, void *arg)
{
	return sys3(SYS_ioctl, to_uffd(m)->fd, nr, arg);
}

static void uffd_close(struct mmu *m)
{
	sys1(SYS_close, to_uffd(m)->fd);
	sys1(SYS_close, to_uffd(m)->pagemap);
	sys1(SYS_close, to_uffd(m)->maps);
	sys1(SYS_close, to_uffd(m)->statm);
}

/* ---- tracking ---- */

/* MISSING only: a range registered for WP alone would be filled with zeroes under our hands. */
static int uffd_track(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct uffdio_register reg = { .range = { addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	return (int)uffd_ioctl(m, UFFDIO_REGISTER, &reg);
}

static int uffd_untrack(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = { addr, len };

	return (int)uffd_ioctl(m, UFFDIO_UNREGISTER, &range);
}

static int uffd_wake(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = { addr, len };

	return (int)uffd_ioctl(m, UFFDIO_WAKE, &range);
}

/* ---- moving ---- */

static bool occupied(struct mmu *m, uint64_t addr)
{
	uint64_t entry = 0;

	sys4(SYS_pread64, to_uffd(m)->pagemap, &entry, sizeof(entry), addr / MMU_PAGE * sizeof(entry));
	return entry >> 62;
}

/*
 * Linux 6.18 forgets to clear an EAGAIN that it has met inside (a page that the kernel itself was
 * migrating): it moves the page, takes it for the next one, and reports EEXIST. Slots are filled by moves
 * alone, so where the source is empty and the destination is not, the page has moved.
 */
static struct mmu_moved moved_unsaid(struct mmu *m, const struct uffdio_move *mv)
{
	uint64_t done = 0;

	while (done < mv->len && occupied(m, mv->dst + done) && !occupied(m, mv->src + done))
		done += MMU_PAGE;
	if (done && !(mv->mode & UFFDIO_MOVE_MODE_DONTWAKE))
		uffd_wake(m, mv->dst, done);
	return (struct mmu_moved){ .done = done, .err = done == mv->len ? 0 : done ? -EAGAIN : -EEXIST };
}

static int copy_through(int fd, uint64_t addr, uint64_t src)
{
	struct uffdio_copy cp = { .dst = addr, .src = src, .len = MMU_PAGE };

	return (int)sys3(SYS_ioctl, fd, UFFDIO_COPY, &cp);
}

static bool uffd_changing(struct mmu *m)
{
	struct mmu_uffd *u = to_uffd(m);

	return copy_through(u->fd, (uint64_t)u->probe, (uint64_t)u->zero) == -EAGAIN;
}

/*
 * The kernel looks the mapping up before it looks whether one is being changed: between an mremap() and
 * its event a move there says ENOENT or EINVAL, though the page's home has only moved. A copy onto a page
 * that is there, in memory that nobody changes, says EAGAIN as long as a change is under way.
 */
static int unless_changing(struct mmu *m, int err)
{
	if (err != -ENOENT && err != -EINVAL)
		return err;
	return uffd_changing(m) ? -EAGAIN : err;
}

/*
 * UFFDIO_MOVE: any error after the first page comes as EAGAIN with the bytes done; an error on the
 * first page comes by itself, with the negative errno in .move (or .move untouched for bad arguments).
 */
static struct mmu_moved uffd_move(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len, bool wake)
{
	struct uffdio_move mv = { .dst = dst, .src = src, .len = len, .mode = wake ? 0 : UFFDIO_MOVE_MODE_DONTWAKE };
	long ret = uffd_ioctl(m, UFFDIO_MOVE, &mv);

	if (!ret)
		return (struct mmu_moved){ .done = len };
	/* a signal for the process may end it early: nothing is wrong, go on from there */
	if (ret == -EINTR)
		ret = -EAGAIN;
	if (ret == -EEXIST)
		return moved_unsaid(m, &mv);
	return (struct mmu_moved){ .done = ret == -EAGAIN && mv.move > 0 ? (uint64_t)mv.move : 0,
				   .err = unless_changing(m, (int)ret) };
}

static int uffd_copy_in(struct mmu *m, uint64_t addr, uint64_t slot)
{
	return unless_changing(m, copy_through(to_uffd(m)->fd, addr, slot));
}

static int uffd_poison_child(struct mmu *m, int child, uint64_t addr)
{
	struct uffdio_poison po = { .range = { addr, MMU_PAGE } };

	return to_uffd(m)->can_poison ? (int)sys3(SYS_ioctl, child, UFFDIO_POISON, &po) : -ENOSYS;
}

static int uffd_copy_child(struct mmu *m, int child, uint64_t addr, uint64_t slot)
{
	(void)m;
	return copy_through(child, addr, slot);
}

static void uffd_close_child(struct mmu *m, int child)
{
	(void)m;
	sys1(SYS_close, child);
}

/* A page of its own for who writes: to the page that all share he would fault a second time. */
static int uffd_fill_zero(struct mmu *m, uint64_t addr)
{
	return copy_through(to_uffd(m)->fd, addr, (uint64_t)to_uffd(m)->zero);
}

static int uffd_map_zero(struct mmu *m, uint64_t addr)
{
	struct uffdio_zeropage zp = { .range = { ALIGN_DOWN(addr, MMU_PAGE), MMU_PAGE } };

	return (int)uffd_ioctl(m, UFFDIO_ZEROPAGE, &zp);
}

static int uffd_poison(struct mmu *m, uint64_t addr)
{
	struct uffdio_poison po = { .range = { addr, MMU_PAGE } };

	return to_uffd(m)->can_poison ? unless_changing(m, (int)uffd_ioctl(m, UFFDIO_POISON, &po)) : -ENOSYS;
}

/* ---- arena slots ---- */

static void uffd_copy(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	copy_pages((void *)dst, (const void *)src, len, to_uffd(m)->wide);
}

static bool uffd_same(struct mmu *m, uint64_t a, uint64_t b, uint64_t len)
{
	return copy_same((const void *)a, (const void *)b, len, to_uffd(m)->wide);
}

static uint64_t uffd_sum(struct mmu *m, uint64_t slot, uint64_t len)
{
	(void)m;
	return copy_sum((const void *)slot, len);
}

/* Through the kernel: the program may unmap the page while we read. */
static int64_t uffd_peek(struct mmu *m, uint64_t slot, uint64_t addr, uint64_t len)
{
	struct iovec local = { (void *)slot, len }, remote = { (void *)addr, len };

	return sys6(SYS_process_vm_readv, to_uffd(m)->pid, SYS_ARG(&local), 1, SYS_ARG(&remote), 1, 0);
}

/*
 * On tracked memory the kernel would ask the reader first, which may be the caller: so tracking stops
 * for the moment. Where it cannot (a mapping is to be split, and there is no memory) nothing is done.
 */
static int advise_untracked(struct mmu *m, uint64_t addr, uint64_t len, int advice)
{
	int err = uffd_untrack(m, addr, len), back;

	if (err)
		return err;
	err = (int)sys3(SYS_madvise, addr, len, advice);
	back = uffd_track(m, addr, len);
	return err ? err : back;
}

static int uffd_populate(struct mmu *m, uint64_t slot, uint64_t len)
{
	return advise_untracked(m, slot, len, MADV_POPULATE_WRITE);
}

/* Any error after the first page is EAGAIN with the bytes done: asked again from there it says why, or goes on. */
static int uffd_fill(struct mmu *m, uint64_t slot, uint64_t src, uint64_t len)
{
	while (len) {
		struct uffdio_copy cp = { .dst = slot, .src = src, .len = len, .mode = UFFDIO_COPY_MODE_DONTWAKE };
		long ret = uffd_ioctl(m, UFFDIO_COPY, &cp);

		if (!ret)
			return 0;
		if (ret != -EAGAIN || cp.copy <= 0)
			return (int)ret;
		slot += (uint64_t)cp.copy;
		src += (uint64_t)cp.copy;
		len -= (uint64_t)cp.copy;
	}
	return 0;
}

static int uffd_drop(struct mmu *m, uint64_t addr, uint64_t len)
{
	return advise_untracked(m, addr, len, MADV_DONTNEED_LOCKED);
}

/* Bit 56 of the page map: mapped here only. After a forked child has gone it is set, though the page is still marked shared. */
static int uffd_shared(struct mmu *m, uint64_t addr, uint64_t len)
{
	uint64_t entry[64], nr = len / MMU_PAGE;
	int shared = 0;

	for (uint64_t at = 0; at < nr; at += ARRAY_SIZE(entry)) {
		uint64_t n = min_u64(nr - at, ARRAY_SIZE(entry));
		long got = sys4(SYS_pread64, to_uffd(m)->pagemap, entry, n * 8, (addr / MMU_PAGE + at) * 8);

		if (got != (long)(n * 8))
			return got < 0 ? (int)got : -EIO;
		for (uint64_t i = 0; i < n; i++)
			if (!(entry[i] >> 62))
				return -ENOENT;
			else if (!(entry[i] >> 56 & 1))
				shared = 1;
	}
	return shared;
}

/*
 * UFFDIO_MOVE looks for the exclusive mark on the first page of a large folio, whichever of its pages is
 * meant; where that one was copied away the others could never move. Advice for one small page has the
 * kernel take the folio apart.
 */
static int uffd_unshare(struct mmu *m, uint64_t addr, uint64_t len)
{
	int err = (int)sys3(SYS_madvise, addr, len, MADV_POPULATE_WRITE);

	(void)m;
	if (!err && len == MMU_PAGE)
		sys3(SYS_madvise, addr, len, MADV_COLD);
	return err;
}

/* By way of the kernel, which says so where nothing is mapped. */
static void uffd_touch(struct mmu *m, uint64_t addr)
{
	uint8_t byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)addr, 1 };

	sys6(SYS_process_vm_readv, to_uffd(m)->pid, SYS_ARG(&local), 1, SYS_ARG(&remote), 1, 0);
}

/* ---- looking ---- */

static uint32_t bits_of(uint64_t categories)
{
	return (categories & PAGE_IS_PRESENT ? MMU_PG_PRESENT : 0U) |
	       (categories & PAGE_IS_SWAPPED ? MMU_PG_SWAPPED : 0U) |
	       (categories & PAGE_IS_PFNZERO ? MMU_PG_ZERO : 0U) | (categories & PAGE_IS_HUGE ? MMU_PG_HUGE : 0U);
}

static int uffd_scan(struct mmu *m, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr)
{
	struct page_region region[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = *pos,
		.end = end,
		.vec = (uint64_t)region,
		.vec_len = min_u64((uint64_t)nr, ARRAY_SIZE(region)),
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE,
	};
	long got;

	do {
		if (arg.start >= end)
			return 0;
		got = sys3(SYS_ioctl, to_uffd(m)->pagemap, PAGEMAP_SCAN, &arg);
		if (got < 0)
			return (int)got;
		*pos = arg.start = got || arg.walk_end > arg.start ? arg.walk_end : end;
	} while (!got);
	for (long i = 0; i < got; i++)
		run[i] = (struct mmu_run){ region[i].start, region[i].end, bits_of(region[i].categories) };
	return (int)got;
}

static int uffd_area(struct mmu *m, uint64_t addr, uint64_t *start, uint64_t *end)
{
	struct procmap_query q = { .size = sizeof(q), .query_addr = addr };
	long ret = sys3(SYS_ioctl, to_uffd(m)->maps, PROCMAP_QUERY, &q);

	if (ret < 0)
		return (int)ret;
	*start = q.vma_start;
	*end = q.vma_end;
	return 0;
}

static uint64_t uffd_resident(struct mmu *m)
{
	char text[128];
	const char *s = text;
	uint64_t size, resident, shared;
	long got = sys4(SYS_pread64, to_uffd(m)->statm, text, sizeof(text) - 1, 0);

	text[got > 0 ? got : 0] = '\0';
	if (!str_u64(&s, 10, &size) || *s++ != ' ' || !str_u64(&s, 10, &resident) || *s++ != ' ' ||
	    !str_u64(&s, 10, &shared))
		return 0;
	return resident > shared ? resident - shared : 0;
}

/* ---- the host's nodes: mmu_host.c ---- */

static int uffd_where(struct mmu *m, uint64_t addr, int nr, int *node)
{
	(void)m;
	return mmu_host_where(addr, nr, node);
}

static int uffd_placed(struct mmu *m, uint64_t slot, uint64_t len, int node)
{
	struct mmu_run run;
	uint64_t pos = slot;
	int placed = mmu_host_placed(slot, len, node);

	/* in swap is on no node: it may come back from any */
	if (placed <= 0 || !mmu_host_swaps())
		return placed;
	return uffd_scan(m, &pos, slot + len, &run, 1) == 1 && !(run.bits & MMU_PG_SWAPPED) && run.start == slot &&
	       run.end == slot + len;
}

static int uffd_mark(struct mmu *m, uint64_t addr, uint64_t len, const struct mmu_policy *pol)
{
	return mmu_host_mark(addr, len, pol, &to_uffd(m)->no_marks);
}

static int uffd_marked(struct mmu *m, uint64_t addr)
{
	return mmu_host_marked(addr, to_uffd(m)->no_marks);
}

static int uffd_prefer(struct mmu *m, const struct mmu_policy *pol)
{
	(void)m;
	return mmu_host_prefer(pol);
}

/* ---- events ---- */

static int read_through(int fd, struct mmu_event *ev)
{
	struct uffd_msg msg;
	long got = sys3(SYS_read, fd, &msg, sizeof(msg));

	if (got != (long)sizeof(msg))
		return 0;
	*ev = (struct mmu_event){ 0 };
	switch (msg.event) {
	case UFFD_EVENT_PAGEFAULT:
		ev->type = MMU_EV_FAULT;
		ev->addr = ALIGN_DOWN(msg.arg.pagefault.address, MMU_PAGE);
		ev->write = msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
		ev->tid = msg.arg.pagefault.feat.ptid;
		return 1;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		ev->type = msg.event == UFFD_EVENT_REMOVE ? MMU_EV_REMOVE : MMU_EV_UNMAP;
		ev->addr = msg.arg.remove.start;
		ev->end = msg.arg.remove.end;
		return 1;
	case UFFD_EVENT_REMAP:
		ev->type = MMU_EV_REMAP;
		ev->addr = msg.arg.remap.from;
		ev->end = msg.arg.remap.from + msg.arg.remap.len;
		ev->to = msg.arg.remap.to;
		return 1;
	case UFFD_EVENT_FORK:
		ev->type = MMU_EV_FORK;
		ev->child = (int)msg.arg.fork.ufd;
		return 1;
	default:
		BUG_ON("unknown userfaultfd event");
	}
	return 0;
}

static int uffd_read_event(struct mmu *m, struct mmu_event *ev)
{
	return read_through(to_uffd(m)->fd, ev);
}

static int uffd_read_child(struct mmu *m, int child, struct mmu_event *ev)
{
	(void)m;
	return read_through(child, ev);
}

static bool uffd_sees_forks(struct mmu *m)
{
	return to_uffd(m)->sees_forks;
}

static int uffd_event_fd(struct mmu *m)
{
	return to_uffd(m)->fd;
}

static const struct mmu_ops uffd_ops = {
	.name = "userfaultfd",
	.close = uffd_close,
	.track = uffd_track,
	.untrack = uffd_untrack,
	.move = uffd_move,
	.copy_in = uffd_copy_in,
	.copy_child = uffd_copy_child,
	.poison_child = uffd_poison_child,
	.read_child = uffd_read_child,
	.changing = uffd_changing,
	.close_child = uffd_close_child,
	.sees_forks = uffd_sees_forks,
	.fill_zero = uffd_fill_zero,
	.map_zero = uffd_map_zero,
	.poison = uffd_poison,
	.wake = uffd_wake,
	.copy = uffd_copy,
	.same = uffd_same,
	.sum = uffd_sum,
	.peek = uffd_peek,
	.populate = uffd_populate,
	.drop = uffd_drop,
	.fill = uffd_fill,
	.shared = uffd_shared,
	.unshare = uffd_unshare,
	.touch = uffd_touch,
	.scan = uffd_scan,
	.area = uffd_area,
	.where = uffd_where,
	.placed = uffd_placed,
	.mark = uffd_mark,
	.marked = uffd_marked,
	.prefer = uffd_prefer,
	.resident = uffd_resident,
	.read_event = uffd_read_event,
	.event_fd = uffd_event_fd,
};

int mmu_uffd_open(struct mmu **out, struct region *r, const struct mmu_donor *donor)
{
	struct mmu_uffd *u = region_alloc(r, 3 * MMU_PAGE);
	uint64_t features;
	uint32_t method;

	if (!u)
		return -ENOMEM;
	u->zero = (uint8_t *)u + MMU_PAGE;
	u->probe = u->zero + MMU_PAGE;
	*u->probe = 1;
	sys3(SYS_madvise, u->probe, MMU_PAGE, MADV_DONTFORK);
	u->mmu.ops = &uffd_ops;
	u->wide = copy_wide();
	u->pid = (int)sys0(SYS_getpid);
	u->fd = uffd_open(&method, &features);
	if (u->fd == -EPERM && donor && donor->give)
		u->fd = uffd_donated(donor, &features);
	if (u->fd < 0)
		return u->fd;
	u->can_poison = features & UFFD_FEATURE_POISON;
	u->sees_forks = features & UFFD_FEATURE_EVENT_FORK;
	u->pagemap = (int)sys4(SYS_openat, AT_FDCWD, "/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	u->maps = (int)sys4(SYS_openat, AT_FDCWD, "/proc/thread-self/maps", O_RDONLY | O_CLOEXEC, 0);
	u->statm = (int)sys4(SYS_openat, AT_FDCWD, "/proc/thread-self/statm", O_RDONLY | O_CLOEXEC, 0);
	if (u->pagemap < 0 || u->maps < 0 || u->statm < 0) {
		uffd_close(&u->mmu);
		return u->pagemap < 0 ? u->pagemap : u->maps < 0 ? u->maps : u->statm;
	}
	*out = &u->mmu;
	return uffd_track(&u->mmu, (uint64_t)u->probe, MMU_PAGE);
}

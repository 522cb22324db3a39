/* SPDX-License-Identifier: MIT */
/*
 * The pages of another process, as units that move as one, with their nodes.
 *
 * The process goes on meanwhile, so all of this is true only for a moment; nothing here is taken to stay so. Its page
 * tables are read in small pieces: the kernel holds the lock of its mappings for a few pages at a time, while
 * /proc/PID/numa_maps and smaps hold it for a whole mapping.
 */
#include "kernel/kernel.h"
#include "base/pagemap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGIONS 256U
#define ENTRIES 512U
#define DEVS_MAX 256

struct walk {
	struct kernel_target *t;
	uint32_t flags;
	kernel_walk_fn fn;
	void *arg;
	const struct kernel_vma *vma;
	uint32_t vma_page;	/* 4 KiB pages of the mapping's own page size; 0: not known yet */
	uint32_t nr;
	struct kernel_unit unit[KERNEL_WINDOW];
};

/* What pages have in common; .categories is of PAGE_IS_*. */
struct run {
	uint64_t start, end, categories;
};

/* ---------------------------------------------------------------- nodes ---- */

int kernel_status_of(int pid, const uint64_t *addr, uint32_t nr, int32_t *status)
{
	for (uint32_t at = 0; at < nr; at += ENTRIES) {
		uint32_t n = nr - at < ENTRIES ? nr - at : ENTRIES;
		long ret = sys_numa(SYS_move_pages, pid, n, addr + at, 0, status + at, 0);

		if (ret == -EINVAL) /* its address space has gone */
			ret = -ESRCH;
		if (ret < 0 && ret != -ENOSYS)
			return (int)ret;
		for (uint32_t i = 0; ret && i < n; i++)
			status[at + i] = 0; /* a kernel without nodes has one */
	}
	return 0;
}

int kernel_query(int pid, struct kernel_unit *units, uint32_t nr)
{
	uint64_t addrs[ENTRIES];
	int32_t status[ENTRIES];

	for (uint32_t at = 0; at < nr; at += ENTRIES) {
		uint32_t n = nr - at < ENTRIES ? nr - at : ENTRIES;
		int err;

		for (uint32_t i = 0; i < n; i++)
			addrs[i] = units[at + i].addr;
		err = kernel_status_of(pid, addrs, n, status);
		if (err)
			return err;
		for (uint32_t i = 0; i < n; i++)
			units[at + i].node = (int8_t)(status[i] >= 0 && status[i] < KERNEL_NODES ? status[i] : -1);
	}
	return 0;
}

/* Not known is taken for huge: such are moved with more care. */
uint32_t kernel_size_at(struct kernel_target *t, uint64_t addr)
{
	struct page_region region = { 0 };
	struct pm_scan_arg arg = { .size = sizeof(arg), .start = addr, .end = addr + KERNEL_PAGE, .vec_len = 1 };

	arg.vec = (uint64_t)(uintptr_t)&region;
	arg.category_mask = arg.return_mask = PAGE_IS_PRESENT;
	arg.return_mask |= PAGE_IS_HUGE;
	if (!t->scan)
		return KERNEL_HUGE_PAGES;
	if (sys3(SYS_ioctl, t->pagemap, PAGEMAP_SCAN, &arg) < 1)
		return 1;
	return region.categories & PAGE_IS_HUGE ? KERNEL_HUGE_PAGES : 1;
}

/* ---------------------------------------------------------------- sharing ---- */

/* Whether others map a unit too: it is when any page of it is. */
static void mark_shared(struct walk *w)
{
	uint64_t entry[ENTRIES], base = ~0ULL, have = 0;

	for (uint32_t i = 0; i < w->nr; i++) {
		struct kernel_unit *u = &w->unit[i];
		uint64_t index = u->addr / KERNEL_PAGE;

		if (base == ~0ULL || index < base || index >= base + have) {
			long got = sys4(SYS_pread64, w->t->pagemap, entry, sizeof(entry), index * sizeof(entry[0]));

			base = index;
			have = got > 0 ? (uint64_t)got / sizeof(entry[0]) : 0;
		}
		u->shared = have && (entry[index - base] & PM_PRESENT) && !(entry[index - base] & PM_EXCLUSIVE);
	}
}

/* ---------------------------------------------------------------- windows ---- */

static int flush(struct walk *w)
{
	uint32_t kept = 0;
	int err;

	if (!w->nr)
		return 0;
	err = kernel_query(w->t->pid, w->unit, w->nr);
	if (err)
		return err;
	if (w->flags & KERNEL_WALK_SHARED)
		mark_shared(w);
	for (uint32_t i = 0; i < w->nr; i++)
		if (w->unit[i].node >= 0 || (w->flags & KERNEL_WALK_SWAP && w->unit[i].err))
			w->unit[kept++] = w->unit[i];
	w->nr = 0;
	return kept ? w->fn(w->arg, w->vma, w->unit, kept) : 0;
}

/* The page size of a hugetlb mapping as numa_maps has it, for kernels that are not asked by PROCMAP_QUERY. */
static uint32_t page_from_numa_maps(const struct walk *w)
{
	char path[64], *buf = malloc(KERNEL_LINE), *line;
	struct kernel_numa_line numa;
	uint32_t pages = 1;
	struct reader r;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", w->t->pid);
	if (!buf || reader_open(&r, path, buf, KERNEL_LINE)) {
		free(buf);
		return 1;
	}
	while ((line = reader_line(&r)))
		if (kernel_numa_line_parse(line, &numa) && numa.start == w->vma->start)
			pages = (uint32_t)numa.unit;
	reader_close(&r);
	free(buf);
	return pages;
}

static uint32_t vma_page(struct walk *w)
{
	struct procmap_query q = { .size = sizeof(q), .query_addr = w->vma->start };

	if (w->vma_page)
		return w->vma_page;
	if (sys3(SYS_ioctl, w->t->maps, PROCMAP_QUERY, &q) >= 0)
		w->vma_page = q.vma_page_size >= KERNEL_PAGE ? (uint32_t)(q.vma_page_size / KERNEL_PAGE) : 1;
	else
		w->vma_page = w->vma->name[0] == '/' ? page_from_numa_maps(w) : 1;
	return w->vma_page;
}

static void classify(struct walk *w, const struct run *run, struct kernel_unit *u)
{
	bool huge = run->categories & PAGE_IS_HUGE, file = run->categories & PAGE_IS_FILE;

	u->pages = 1;
	if (huge && vma_page(w) > 1) {
		u->pages = w->vma_page;
		u->kind = KERNEL_HUGETLB;
		return;
	}
	if (huge)
		u->pages = KERNEL_HUGE_PAGES;
	if (file)
		u->kind = w->vma->shmem ? KERNEL_SHARED : KERNEL_FILE;
	else
		u->kind = huge ? KERNEL_THP : KERNEL_ANON;
}

static int add_run(struct walk *w, const struct run *run)
{
	struct kernel_unit u = { .node = -1 };

	if (run->categories & PAGE_IS_PFNZERO)
		return 0;
	classify(w, run, &u);
	/* Here .err only says that it is swapped out. */
	u.err = run->categories & PAGE_IS_PRESENT ? 0 : ENOENT;
	for (u.addr = run->start; u.addr < run->end; u.addr += (uint64_t)u.pages * KERNEL_PAGE) {
		int err = w->nr == KERNEL_WINDOW ? flush(w) : 0;

		if (err)
			return err;
		w->unit[w->nr++] = u;
	}
	return 0;
}

/* ---------------------------------------------------------------- two ways to read page tables ---- */

static int scan_vma(struct walk *w)
{
	struct page_region regions[REGIONS];
	struct pm_scan_arg arg = { .size = sizeof(arg), .end = w->vma->end };

	arg.vec = (uint64_t)(uintptr_t)regions;
	arg.vec_len = REGIONS;
	arg.category_anyof_mask = PAGE_IS_PRESENT | (w->flags & KERNEL_WALK_SWAP ? PAGE_IS_SWAPPED : 0U);
	arg.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_FILE | PAGE_IS_HUGE | PAGE_IS_PFNZERO;
	for (uint64_t at = w->vma->start; at < w->vma->end; at = arg.walk_end) {
		long got;

		arg.start = at;
		arg.walk_end = 0;
		got = sys3(SYS_ioctl, w->t->pagemap, PAGEMAP_SCAN, &arg);
		if (got == -EINTR)
			arg.walk_end = at;
		else if (got < 0)
			return (int)got;
		for (long i = 0; i < got; i++) {
			const struct run run = { regions[i].start, regions[i].end, regions[i].categories };
			int err = add_run(w, &run);

			if (err)
				return err;
		}
		if (arg.walk_end <= at && got >= 0) /* the process has no memory any more */
			return -ESRCH;
	}
	return flush(w);
}

/* Entry by entry; what is a THP is not told, its pages are asked for one by one. */
static int read_entries(struct walk *w, uint64_t at, const uint64_t *entry, uint32_t nr)
{
	uint64_t unit = 1;

	for (uint64_t i = 0; i < nr; i += unit) {
		uint64_t e = entry[i];
		struct run run = { .start = at + i * KERNEL_PAGE };

		run.categories = (e & PM_PRESENT ? PAGE_IS_PRESENT : 0U) | (e & PM_FILE ? PAGE_IS_FILE : 0U);
		if (w->vma_page > 1) {
			run.categories |= PAGE_IS_HUGE;
			unit = w->vma_page - (run.start - w->vma->start) / KERNEL_PAGE % w->vma_page;
		}
		run.end = run.start + KERNEL_PAGE;
		if ((e & PM_PRESENT || (e & PM_SWAPPED && w->flags & KERNEL_WALK_SWAP)) &&
		    (unit == 1 || unit == w->vma_page)) {
			int err = add_run(w, &run);

			if (err)
				return err;
		}
	}
	return 0;
}

static int read_vma(struct walk *w)
{
	uint64_t entry[ENTRIES];

	w->vma_page = w->vma->name[0] == '/' ? vma_page(w) : 1;
	for (uint64_t at = w->vma->start; at < w->vma->end;) {
		uint64_t left = (w->vma->end - at) / KERNEL_PAGE;
		long got = sys4(SYS_pread64, w->t->pagemap, entry, (left < ENTRIES ? left : ENTRIES) * sizeof(entry[0]),
				at / KERNEL_PAGE * sizeof(entry[0]));
		int err;

		if (got <= 0)
			return got < 0 ? (int)got : -ESRCH;
		err = read_entries(w, at, entry, (uint32_t)(got / (long)sizeof(entry[0])));
		if (err)
			return err;
		at += (uint64_t)got / sizeof(entry[0]) * KERNEL_PAGE;
	}
	return flush(w);
}

static int walk_vma(struct walk *w, const struct kernel_vma *vma)
{
	if (vma->special)
		return 0;
	w->vma = vma;
	w->vma_page = 0;
	w->nr = 0;
	return w->t->scan ? scan_vma(w) : read_vma(w);
}

/* ---------------------------------------------------------------- mappings ---- */

/* Devices of the mounts that are memory: tmpfs and its like, in the target's view. */
struct devs {
	uint32_t dev[DEVS_MAX];
	int nr;
};

/* "22 1 0:21 / /dev/shm rw - tmpfs tmpfs rw" */
static bool parse_mount(const char *line, uint32_t *dev)
{
	uint64_t number, major, minor;
	const char *type = strstr(line, " - ");

	if (!type || (strncmp(type + 3, "tmpfs ", 6) != 0 && strncmp(type + 3, "devtmpfs ", 9) != 0))
		return false;
	if (!str_u64(&line, 10, &number) || *line++ != ' ' || !str_u64(&line, 10, &number) || *line++ != ' ')
		return false;
	if (!str_u64(&line, 10, &major) || *line++ != ':' || !str_u64(&line, 10, &minor))
		return false;
	*dev = (uint32_t)(major << 20 | (minor & 0xfffff));
	return true;
}

static void read_devs(int pid, struct devs *devs)
{
	char path[64], buf[8192], *line;
	struct reader r;

	devs->nr = 0;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	if (reader_open(&r, path, buf, sizeof(buf)))
		return;
	while ((line = reader_line(&r)) && devs->nr < DEVS_MAX)
		devs->nr += parse_mount(line, &devs->dev[devs->nr]);
	reader_close(&r);
}

static bool devs_have(const struct devs *devs, uint32_t dev)
{
	for (int i = 0; i < devs->nr; i++)
		if (devs->dev[i] == dev)
			return true;
	return false;
}

int kernel_vmas(int pid, int (*fn)(void *arg, struct kernel_vma *vma), void *arg)
{
	char path[64], *buf = malloc(KERNEL_LINE), *line;
	struct kernel_vma vma;
	struct devs devs;
	uint64_t end = 0;
	struct reader r;
	int err;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	err = buf ? reader_open(&r, path, buf, KERNEL_LINE) : -ENOMEM;
	if (err) {
		free(buf);
		return err == -ENOENT ? -ESRCH : err;
	}
	read_devs(pid, &devs);
	while (!err && (line = reader_line(&r))) {
		if (!kernel_vma_parse(line, &vma) || vma.end <= end)
			continue;
		vma.start = max_u64(vma.start, end); /* it has grown downwards since its neighbour was read */
		end = vma.end;
		vma.shmem = vma.shmem || (vma.name[0] == '/' && devs_have(&devs, vma.dev));
		err = fn(arg, &vma);
	}
	if (!err)
		err = reader_close(&r);
	else
		reader_close(&r);
	free(buf);
	return err;
}

static int visit(void *arg, struct kernel_vma *vma)
{
	return walk_vma(arg, vma);
}

static struct walk *walk_new(struct kernel_target *t, uint32_t flags, kernel_walk_fn fn, void *arg)
{
	struct walk *w = malloc(sizeof(*w));

	if (w) {
		w->t = t;
		w->flags = flags;
		w->fn = fn;
		w->arg = arg;
	}
	return w;
}

int kernel_walk(struct kernel_target *t, uint32_t flags, kernel_walk_fn fn, void *arg)
{
	struct walk *w = walk_new(t, flags, fn, arg);
	int err = w ? kernel_reopen(t) : -ENOMEM;

	if (!err)
		err = kernel_vmas(t->pid, visit, w);
	free(w);
	return err;
}

int kernel_walk_vma(struct kernel_target *t, const struct kernel_vma *vma, uint32_t flags, kernel_walk_fn fn,
		    void *arg)
{
	struct walk *w = walk_new(t, flags, fn, arg);
	int err = w ? walk_vma(w, vma) : -ENOMEM;

	free(w);
	return err;
}

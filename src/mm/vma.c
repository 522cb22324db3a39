/* SPDX-License-Identifier: MIT */
/* What the kernel says is mapped, which of it is managed, and what was opted out. */
#include "mm/mm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define SPANS_MAX (128U << 10) /* above vm.max_map_count's default */

/* ---- /proc/thread-self/maps: that of /proc/self is empty when the first thread has ended ---- */

static bool begins(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

static enum area_kind anonymous_kind(const struct area *a, const char *name)
{
	if (begins(name, "[stack"))
		return AREA_STACK;
	if (name[0] == '[' && !begins(name, "[heap]") && !begins(name, "[anon:"))
		return AREA_OTHER;
	return a->prot & PROT_WRITE ? AREA_MANAGED : AREA_READONLY;
}

static enum area_kind area_kind(const struct mm *mm, const struct area *a, bool shared, bool inode)
{
	if (region_owns(mm->region, a->start, a->end))
		return AREA_OWN;
	if (shared)
		return begins(a->name, "/") && !begins(a->name, "/dev/zero") && !begins(a->name, "/memfd:") &&
				       !begins(a->name, "/SYSV") && !begins(a->name, "/dev/shm/") ?
			       AREA_FILE :
			       AREA_SHARED;
	if (begins(a->name, "/anon_hugepage"))
		return AREA_OTHER;
	return inode ? AREA_FILE : anonymous_kind(a, a->name);
}

static uint32_t prot_of(const char *perms)
{
	return (perms[0] == 'r' ? PROT_READ : 0U) | (perms[1] == 'w' ? PROT_WRITE : 0U) |
	       (perms[2] == 'x' ? PROT_EXEC : 0U);
}

static const char *skip_word(const char *s)
{
	while (*s && *s != ' ')
		s++;
	while (*s == ' ')
		s++;
	return s;
}

bool area_parse(const struct mm *mm, const char *s, struct area *a)
{
	const char *perms;
	uint64_t inode;

	*a = (struct area){ 0 };
	if (!str_u64(&s, 16, &a->start) || *s++ != '-' || !str_u64(&s, 16, &a->end) || *s++ != ' ' || strlen(s) < 5)
		return false;
	perms = s;
	a->prot = prot_of(perms);
	s += 5;
	if (!str_u64(&s, 16, &a->offset))
		return false;
	s = skip_word(skip_word(s)); /* what is left of the offset, then the device */
	if (!str_u64(&s, 10, &inode))
		return false;
	while (*s == ' ')
		s++;
	a->name = s;
	a->kind = area_kind(mm, a, perms[3] == 's', inode != 0);
	return a->start < a->end;
}

int area_walk(struct mm *mm, int (*fn)(struct mm *mm, const struct area *area, void *arg), void *arg)
{
	struct reader r;
	struct area area;
	char *line;
	int err = reader_open(&r, "/proc/thread-self/maps", mm->line, LINE_BUFFER), cut;

	if (err)
		return err;
	while (!err && (line = reader_line(&r)))
		if (area_parse(mm, line, &area))
			err = fn(mm, &area, arg);
	cut = reader_close(&r);
	return err ? err : cut;
}

/* ---- spans ---- */

static int span_take(struct mm *mm, const struct area *a, void *arg)
{
	struct spans *s = &mm->spans;

	(void)arg;
	if (s->nr == s->cap)
		return -ENOMEM;
	s->span[s->nr++] = (struct span){ .start = a->start,
					  .end = a->end,
					  .kind = (uint8_t)a->kind,
					  .class = a->prot & PROT_EXEC ? ARENA_RWX : ARENA_RW,
					  .host = HOST_UNKNOWN };
	return 0;
}

int spans_load(struct mm *mm)
{
	if (!mm->spans.span) {
		mm->spans.span = region_alloc(mm->region, SPANS_MAX * sizeof(struct span));
		if (!mm->spans.span)
			return -ENOMEM;
		mm->spans.cap = SPANS_MAX;
	}
	mm->spans.nr = 0;
	return area_walk(mm, span_take, NULL);
}

struct span *span_find(struct mm *mm, uint64_t addr)
{
	uint32_t low = 0, high = mm->spans.nr;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		struct span *s = &mm->spans.span[mid];

		if (addr < s->start)
			high = mid;
		else if (addr >= s->end)
			low = mid + 1;
		else
			return s;
	}
	return NULL;
}

/* ---- exclusions ---- */

static bool of_thread(const struct exclusion *x)
{
	return x->tid != EXCLUDE_OPT_OUT && x->tid != EXCLUDE_PIN;
}

static int excluded_in(const struct exclusions *x, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < x->nr; i++)
		if (start < x->range[i].end && end > x->range[i].start &&
		    !(BUG_BACK(BUG_THREAD_EXIT) && of_thread(&x->range[i])))
			return x->range[i].tid == EXCLUDE_PIN ? -EBUSY : -EACCES;
	return 0;
}

/* Pages are asked for in address order: most lie in 2 MiB that are known to have no exclusion at all. */
int excluded_at(struct mm *mm, uint64_t start, uint64_t end)
{
	struct exclusions *x = &mm->excluded;
	uint64_t leaf = ALIGN_DOWN(start, HUGE_SIZE_);

	if (leaf == x->clean_leaf && end <= leaf + HUGE_SIZE_)
		return 0;
	if (!excluded_in(x, leaf, leaf + HUGE_SIZE_)) {
		x->clean_leaf = leaf;
		return 0;
	}
	return excluded_in(x, start, end);
}

static int exclude_add_locked(struct mm *mm, uint64_t start, uint64_t end, uint32_t tid)
{
	struct exclusions *x = &mm->excluded;

	if (x->nr == EXCLUSIONS_MAX)
		return -ENOMEM;
	x->clean_leaf = UINT64_MAX;
	x->range[x->nr++] = (struct exclusion){ ALIGN_DOWN(start, PAGE_SIZE_), ALIGN_UP(end, PAGE_SIZE_), tid };
	return 0;
}

static bool thread_alive(uint32_t tid)
{
	return sys3(SYS_tgkill, sys0(SYS_getpid), tid, 0) != -ESRCH;
}

void exclude_fork_child(struct mm *mm)
{
	struct exclusions *x = &mm->excluded;
	uint64_t here = (uint64_t)__builtin_frame_address(0);

	for (uint32_t i = 0; i < x->nr;) {
		if (of_thread(&x->range[i]) && (here < x->range[i].start || here >= x->range[i].end)) {
			x->range[i] = x->range[--x->nr];
			continue;
		}
		if (of_thread(&x->range[i]))
			x->range[i].tid = (uint32_t)sys0(SYS_gettid);
		i++;
	}
}

static void forget_dead_threads(struct mm *mm)
{
	struct exclusions *x = &mm->excluded;

	for (uint32_t i = 0; i < x->nr;)
		if (of_thread(&x->range[i]) && !thread_alive(x->range[i].tid))
			x->range[i] = x->range[--x->nr];
		else
			i++;
}

/*
 * By program threads. One that held mm->lock while its own stack is in flight would wait for the
 * migration, and the migration for it; with mm->migrate, which books_acquire() takes first, nothing is.
 */
int exclude_add(struct mm *mm, uint64_t start, uint64_t end, uint32_t tid)
{
	uint64_t signals = program_acquire(mm), at = ALIGN_DOWN(start, PAGE_SIZE_);
	bool away;
	int err;

	err = exclude_add_locked(mm, start, end, tid);
	if (err) {
		forget_dead_threads(mm);
		err = exclude_add_locked(mm, start, end, tid);
	}
	if (err) /* better that nothing moves than that this does */
		mm->excluded.range[0] = (struct exclusion){ 0, UINT64_MAX, EXCLUDE_OPT_OUT };
	away = away_next(mm, &at, end);
	program_release(mm, signals);
	/* the caller has no descriptor: it asks for what is away by touching it */
	while (away) {
		mm->mmu->ops->touch(mm->mmu, at);
		at += PAGE_SIZE_;
		signals = program_acquire(mm);
		away = away_next(mm, &at, end);
		program_release(mm, signals);
	}
	return err;
}

int exclude_del(struct mm *mm, uint64_t start, uint64_t end, uint32_t kind)
{
	struct exclusions *x = &mm->excluded;
	uint64_t signals = program_acquire(mm);
	int err = -ENOENT;

	for (uint32_t i = 0; i < x->nr && err; i++)
		if (x->range[i].tid == kind && x->range[i].start == ALIGN_DOWN(start, PAGE_SIZE_) &&
		    x->range[i].end == ALIGN_UP(end, PAGE_SIZE_)) {
			x->range[i] = x->range[--x->nr];
			err = 0;
		}
	program_release(mm, signals);
	return err;
}

static bool thread_known(const struct mm *mm, uint32_t tid)
{
	for (uint32_t i = 0; i < mm->excluded.nr; i++)
		if (mm->excluded.range[i].tid == tid)
			return true;
	return false;
}

/*
 * A thread that nobody named (the first one; one made by a raw clone): its robust list is in its
 * control block, and the stack ends there, so the pages around it are what the kernel writes at exit.
 * The first thread's stack is elsewhere, and the kernel's own.
 */
#define CONTROL_BELOW (64UL << 10)
#define CONTROL_FIRST 64UL	/* its number, which the kernel clears, lies right below its robust list */
#define CONTROL_ABOVE 4096UL

/* Nobody writes there for the kernel: what is away has to come back before the thread ends. */
static void bring_back(struct mm *mm, uint64_t start, uint64_t end)
{
	for (uint64_t at = ALIGN_DOWN(start, PAGE_SIZE_); mm->pt.away && at < end; at += PAGE_SIZE_) {
		struct mmu_event ev = { .addr = at, .tid = mm->pid };
		struct page *page = away_at(mm, at);

		if (page)
			away_fault(mm, page, &ev);
	}
}

static void exclude_thread(struct mm *mm, uint32_t tid)
{
	uint64_t head = 0, len = 0, start;

	if (thread_known(mm, tid) || sys3(SYS_get_robust_list, tid, &head, &len) < 0 || !head)
		return;
	start = head - (tid == mm->pid ? CONTROL_FIRST : CONTROL_BELOW);
	exclude_add_locked(mm, start, head + CONTROL_ABOVE, tid);
	bring_back(mm, start, head + CONTROL_ABOVE);
}

static void exclude_listed(struct mm *mm, const char *buf, long len)
{
	for (long at = 0; at < len;) {
		const struct sys_dirent *d = (const void *)(buf + at);
		const char *name = d->name;
		uint64_t tid;

		if (str_u64(&name, 10, &tid))
			exclude_thread(mm, (uint32_t)tid);
		at += d->len;
	}
}

int exclude_refresh(struct mm *mm)
{
	char buf[2048] __attribute__((aligned(8)));
	long got, fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	lock_acquire(&mm->lock);
	forget_dead_threads(mm);
	lock_release(&mm->lock);
	if (fd < 0)
		return (int)fd;
	while ((got = sys3(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		lock_acquire(&mm->lock);
		exclude_listed(mm, buf, got);
		lock_release(&mm->lock);
	}
	sys1(SYS_close, fd);
	return (int)got;
}

/* SPDX-License-Identifier: MIT */
/*
 * The program changes its mappings while their pages are in flight: madvise, munmap, mremap, mprotect, mlock.
 *
 * Two threads each own a range and know what every page of it must hold. They take turns at one kind of
 * change, at random places, and look at every page concerned after each; meanwhile one thread moves the
 * whole memory to and fro, and another one lists of single pages of the same ranges. Nothing may come back
 * from the dead, nothing may be lost. In the end nothing of the program may be left tracked.
 */
#include "live.h"

#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 1024UL		/* a range: two THPs */
#define LEN (PAGES * GW_PAGE_SIZE)
#define CHANGERS 2
#define LIST 64

struct range {
	char *base;		/* LEN bytes, aligned to a THP; LEN bytes beside it are free for mremap */
	char *aside;
	uint64_t want[PAGES];	/* 0: a page of zeroes */
	uint64_t stamp, seed;
	bool huge;
	uint64_t changes, bad;
};

typedef void change_fn(struct range *r, uint64_t first, uint64_t nr);

struct world {
	struct gw_engine *e;
	struct range range[CHANGERS];
	change_fn *change;
	struct mover mover;
	atomic_bool stop, changed;
	atomic_ulong listed;
};

struct changer {
	struct world *w;
	struct range *r;
	pthread_t thread;
};

/* ---- what a page holds ---- */

static void page_write(struct range *r, uint64_t p)
{
	uint64_t *page = (uint64_t *)(void *)(r->base + p * GW_PAGE_SIZE), v = ++r->stamp;

	for (uint64_t i = 0; i < WORDS; i += 73)
		page[i] = v + i;
	page[WORDS - 1] = v + WORDS - 1;
	r->want[p] = v;
}

static bool page_holds(const uint64_t *page, uint64_t v)
{
	bool ok = page[WORDS - 1] == (v ? v + WORDS - 1 : 0);

	for (uint64_t i = 0; i < WORDS && ok; i += 73)
		ok = page[i] == (v ? v + i : 0);
	return ok;
}

static void check_at(struct range *r, const char *base, uint64_t first, uint64_t nr)
{
	for (uint64_t p = first; p < first + nr; p++)
		r->bad += !page_holds((const uint64_t *)(const void *)(base + (p - first) * GW_PAGE_SIZE), r->want[p]);
}

static void check(struct range *r, uint64_t first, uint64_t nr)
{
	check_at(r, r->base + first * GW_PAGE_SIZE, first, nr);
}

static void fill(struct range *r, uint64_t first, uint64_t nr)
{
	for (uint64_t p = first; p < first + nr; p++)
		page_write(r, p);
}

static void gone(struct range *r, uint64_t first, uint64_t nr)
{
	for (uint64_t p = first; p < first + nr; p++)
		r->want[p] = 0;
}

static void map_anew(struct range *r, uint64_t first, uint64_t nr)
{
	char *at = r->base + first * GW_PAGE_SIZE;
	uint64_t len = nr * GW_PAGE_SIZE;

	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		r->bad++;
	madvise(at, len, r->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	gone(r, first, nr);
}

/* Let a batch or two pass between the change and the look. */
static void let_pass(struct range *r)
{
	if (next(&r->seed) % 4 == 0)
		usleep((useconds_t)(next(&r->seed) % 200));
}

/* ---- the changes ---- */

static void change_dontneed(struct range *r, uint64_t first, uint64_t nr)
{
	fill(r, first, nr);
	let_pass(r);
	r->bad += madvise(r->base + first * GW_PAGE_SIZE, nr * GW_PAGE_SIZE, MADV_DONTNEED) != 0;
	gone(r, first, nr);
	check(r, first, nr);
	let_pass(r);
	check(r, first, nr); /* and stays zero */
}

/* Each page is as it was or zero, until it is written. */
static void change_free(struct range *r, uint64_t first, uint64_t nr)
{
	fill(r, first, nr);
	r->bad += madvise(r->base + first * GW_PAGE_SIZE, nr * GW_PAGE_SIZE, MADV_FREE) != 0;
	for (uint64_t p = first; p < first + nr; p++) {
		const uint64_t *page = (const uint64_t *)(const void *)(r->base + p * GW_PAGE_SIZE);

		r->bad += !page_holds(page, r->want[p]) && !page_holds(page, 0);
	}
	for (uint64_t p = first; p < first + nr; p++) {
		memset(r->base + p * GW_PAGE_SIZE, 0, GW_PAGE_SIZE);
		page_write(r, p);
	}
	let_pass(r);
	check(r, first, nr);
}

static void change_map(struct range *r, uint64_t first, uint64_t nr)
{
	fill(r, first, nr);
	let_pass(r);
	if (next(&r->seed) % 2)
		r->bad += munmap(r->base + first * GW_PAGE_SIZE, nr * GW_PAGE_SIZE) != 0;
	map_anew(r, first, nr);
	check(r, first, nr);
	if (next(&r->seed) % 2)
		fill(r, first, nr);
	let_pass(r);
	check(r, first, nr);
}

/* Away and back. */
static void change_remap(struct range *r, uint64_t first, uint64_t nr)
{
	char *from = r->base + first * GW_PAGE_SIZE, *to = r->aside + first * GW_PAGE_SIZE;
	uint64_t len = nr * GW_PAGE_SIZE;

	fill(r, first, nr);
	let_pass(r);
	if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) {
		r->bad++;
		return;
	}
	check_at(r, to, first, nr);
	let_pass(r);
	check_at(r, to, first, nr);
	if (mremap(to, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, from) != from)
		r->bad++;
	else
		check(r, first, nr);
}

/* The range's end goes and comes back: what comes is zero. Then it moves and grows in one step. */
static void change_size(struct range *r, uint64_t first, uint64_t nr)
{
	uint64_t keep = first + nr == PAGES ? first + 1 : first + nr, len = keep * GW_PAGE_SIZE;

	fill(r, first, PAGES - first);
	r->bad += mremap(r->base, LEN, len, 0) != r->base;
	gone(r, keep, PAGES - keep);
	check(r, first, keep - first);
	let_pass(r);
	r->bad += mremap(r->base, len, LEN, 0) != r->base;
	check(r, first, PAGES - first);
	fill(r, keep, PAGES - keep);
	r->bad += mremap(r->base, LEN, len, 0) != r->base;
	gone(r, keep, PAGES - keep);
	if (mremap(r->base, len, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, r->aside) != r->aside) {
		r->bad++;
		return;
	}
	check_at(r, r->aside, 0, PAGES);
	r->bad += mremap(r->aside, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, r->base) != r->base;
	check(r, first, PAGES - first);
}

/* Past every interposer: libc's syscall() is one. */
static long kernel_mremap(char *at, uint64_t len, uint64_t new_len, long flags, char *to)
{
	register long r10 __asm__("r10") = flags;
	register char *r8 __asm__("r8") = to;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_mremap), "D"(at), "S"(len), "d"(new_len), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

/*
 * A mapping that has grown just as tracking began may be tracked in part for a moment; the call then says
 * EFAULT and changes nothing.
 */
static bool moves_by_syscall(char *from, uint64_t len, uint64_t new_len, char *to)
{
	long ret = -1;

	for (int i = 0; i < 100 && ret < 0; i++) {
		ret = kernel_mremap(from, len, new_len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		if (ret == -EFAULT)
			usleep(1000);
	}
	return ret == (long)to;
}

static bool grows_by_syscall(char *at, uint64_t len, uint64_t new_len)
{
	long ret = -1;

	for (int i = 0; i < 100 && ret < 0; i++) {
		ret = kernel_mremap(at, len, new_len, 0, NULL);
		if (ret == -EFAULT)
			usleep(1000);
	}
	return ret == (long)at;
}

/*
 * libgodwit stands before mremap(), so that nothing is in flight then; a system call goes past it. One
 * mapping as a whole, as the kernel wants it.
 */
static void change_remap_raw(struct range *r, uint64_t first, uint64_t nr)
{
	fill(r, first, nr);
	let_pass(r);
	if (!moves_by_syscall(r->base, LEN, LEN, r->aside)) {
		r->bad++;
		return;
	}
	check_at(r, r->aside + first * GW_PAGE_SIZE, first, nr);
	let_pass(r);
	if (!moves_by_syscall(r->aside, LEN, LEN - GW_HUGE_SIZE, r->base)) {
		r->bad++;
		return;
	}
	gone(r, PAGES / 2, PAGES / 2);
	check(r, 0, PAGES / 2);
	if (!grows_by_syscall(r->base, LEN - GW_HUGE_SIZE, LEN))
		r->bad++;
	else
		check(r, 0, PAGES);
}

static void change_protect(struct range *r, uint64_t first, uint64_t nr)
{
	char *at = r->base + first * GW_PAGE_SIZE;
	uint64_t len = nr * GW_PAGE_SIZE;

	fill(r, first, nr);
	r->bad += mprotect(at, len, PROT_READ) != 0;
	check(r, first, nr);
	r->bad += mprotect(at, len, PROT_NONE) != 0;
	let_pass(r);
	r->bad += mprotect(at, len, PROT_READ | PROT_WRITE) != 0;
	check(r, first, nr);
	fill(r, first, nr);
	check(r, first, nr);
}

static void change_lock(struct range *r, uint64_t first, uint64_t nr)
{
	char *at = r->base + first * GW_PAGE_SIZE;
	uint64_t len = nr * GW_PAGE_SIZE;

	fill(r, first, nr);
	r->bad += mlock(at, len) != 0;
	check(r, first, nr);
	fill(r, first, nr);
	let_pass(r);
	r->bad += munlock(at, len) != 0;
	check(r, first, nr);
}

static change_fn *const any_change[] = { change_dontneed, change_free, change_map, change_remap,
					 change_protect, change_lock };

static void change_any(struct range *r, uint64_t first, uint64_t nr)
{
	any_change[next(&r->seed) % (sizeof(any_change) / sizeof(any_change[0]))](r, first, nr);
}

/* ---- threads ---- */

static void *changer(void *arg)
{
	struct changer *me = arg;
	struct range *r = me->r;

	while (!me->w->changed) {
		uint64_t first = next(&r->seed) % PAGES, most = PAGES - first < 300 ? PAGES - first : 300;

		/* whole THPs too */
		if (r->huge && next(&r->seed) % 3 == 0) {
			first &= ~511UL;
			most = 512;
		} else {
			most = 1 + next(&r->seed) % most;
		}
		me->w->change(r, first, most);
		r->changes++;
	}
	return NULL;
}

static void *lister(void *arg)
{
	struct world *w = arg;
	uint64_t seed = 2463534242;

	while (!w->stop) {
		void *pages[LIST];
		int nodes[LIST], status[LIST];

		for (int i = 0; i < LIST; i++) {
			pages[i] = w->range[next(&seed) % CHANGERS].base + next(&seed) % PAGES * GW_PAGE_SIZE;
			nodes[i] = (int)(next(&seed) % 2);
		}
		if (gw_move_pages(w->e, LIST, pages, nodes, status, NULL) >= 0)
			for (int i = 0; i < LIST; i++)
				w->listed += status[i] == nodes[i];
	}
	return NULL;
}

static void range_make(struct range *r, int nr, bool huge)
{
	char *p = mmap(NULL, 3 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*r = (struct range){ .huge = huge, .stamp = (uint64_t)nr << 32 };
	r->seed = 88172645463325252ULL + (uint64_t)nr;
	r->base = (char *)(((uint64_t)p + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1));
	r->aside = r->base + LEN;
	map_anew(r, 0, PAGES);
	fill(r, 0, PAGES);
}

/* Returns the ranges to their first state; what was known of them must still be so. */
static uint64_t range_end(struct range *r)
{
	check(r, 0, PAGES);
	munmap(r->base, LEN);
	return r->bad;
}

struct phase {
	const char *name;
	change_fn *change;
	uint64_t ms;
};

static void run(struct world *w, const struct phase *ph, bool huge)
{
	struct changer changers[CHANGERS];
	pthread_t list_thread;
	uint64_t bad = 0, changes = 0;
	char line[160];

	w->change = ph->change;
	w->stop = w->changed = false;
	w->listed = 0;
	for (int i = 0; i < CHANGERS; i++)
		range_make(&w->range[i], i + 1, huge);
	moving_begin(&w->mover);
	pthread_create(&list_thread, NULL, lister, w);
	for (int i = 0; i < CHANGERS; i++) {
		changers[i] = (struct changer){ .w = w, .r = &w->range[i] };
		pthread_create(&changers[i].thread, NULL, changer, &changers[i]);
	}
	usleep((useconds_t)ph->ms * 1000);
	w->changed = true;
	for (int i = 0; i < CHANGERS; i++)
		pthread_join(changers[i].thread, NULL);
	w->stop = true;
	moving_end(&w->mover, ph->name);
	pthread_join(list_thread, NULL);
	for (int i = 0; i < CHANGERS; i++) {
		changes += w->range[i].changes;
		bad += range_end(&w->range[i]);
	}
	printf("# %s: %lu changes, %lu pages of lists moved, %lu wrong\n", ph->name, (unsigned long)changes,
	       (unsigned long)w->listed, (unsigned long)bad);
	snprintf(line, sizeof(line), "%s: after %s every page holds what it must", huge ? "THPs" : "4 KiB pages",
		 ph->name);
	tap(!bad && changes > 20 && w->mover.moved + w->listed > 100, line);
}

/* ---- what is left ---- */

/* Mappings of the program that are registered with userfaultfd ("um"); the engine's own are "dc" (not forked). */
static int tracked_mappings(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512], head[512] = "";
	int nr = 0;

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long start;

		if (sscanf(line, "%lx-", &start) == 1 && strchr(line, '-') < strchr(line, ' '))
			memcpy(head, line, sizeof(head));
		if (!strncmp(line, "VmFlags:", 8) && strstr(line, " um ") && !strstr(line, " dc ")) {
			printf("# still tracked: %s", head);
			nr++;
		}
	}
	if (f)
		fclose(f);
	return f ? nr : -1;
}

static const struct phase phases[] = {
	{ .name = "MADV_DONTNEED", .change = change_dontneed, .ms = 500 },
	{ .name = "MADV_FREE", .change = change_free, .ms = 500 },
	{ .name = "munmap and mmap", .change = change_map, .ms = 500 },
	{ .name = "mremap to and fro", .change = change_remap, .ms = 500 },
	{ .name = "mremap to another size", .change = change_size, .ms = 500 },
	{ .name = "mremap by system call", .change = change_remap_raw, .ms = 500 },
	{ .name = "mprotect", .change = change_protect, .ms = 500 },
	{ .name = "mlock and munlock", .change = change_lock, .ms = 500 },
	{ .name = "any of them", .change = change_any, .ms = 1000 },
};

int main(void)
{
	static struct world w;
	struct gw_stats st = { .size = sizeof(st) };

	alarm(60);
	w.e = w.mover.e = engine_with_nodes(2, 0);
	for (int huge = 0; huge < 2; huge++)
		for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
			run(&w, &phases[i], huge);
	gw_stats(w.e, &st);
	printf("# events: %lu remove, %lu unmap, %lu remap; %lu faults waited, %lu filled; %lu copied in\n",
	       (unsigned long)st.events_remove, (unsigned long)st.events_unmap, (unsigned long)st.events_remap,
	       (unsigned long)st.faults_waited, (unsigned long)st.faults_filled, (unsigned long)st.copied_in);
	tap(st.events_remove > 100 && st.events_unmap > 20 && st.events_remap > 20, "the races took place");
	tap(!st.poisoned, "no page is poisoned");
	tap(!tracked_mappings(), "no memory of the program is tracked when nothing is under way");
	tap(!gw_stop(w.e), "the engine stops");
	return tap_end();
}

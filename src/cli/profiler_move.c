/* SPDX-License-Identifier: MIT */
/*
 * Pages of a profiler's log: where they are, to where they belong.
 */
#define _GNU_SOURCE 1
#include "profiler.h"
#include "via.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SLICE_MS 250		/* what one request may take at the rate asked for */
#define SLICE_PAGES (16U << 10)	/* and at most */

/* ---------------------------------------------------------------- stopping ---- */

bool profiler_stopped(struct profiler *p, int wait_ms)
{
	struct pollfd fds[] = {
		{ .fd = p->signals, .events = POLLIN },
		{ .fd = p->process, .events = POLLIN },
		{ .fd = p->src->regular || p->src->ended ? -1 : p->src->fd, .events = POLLIN },
	};

	if (poll(fds, wait_ms ? 3 : 2, wait_ms) > 0) {
		p->cancelled |= fds[0].revents != 0;
		p->ended |= fds[1].revents != 0;
	}
	return p->cancelled || p->ended;
}

/* The engine went away: with its process that is an end like another. */
static int broke_off(struct profiler *p)
{
	struct pollfd fd = { .fd = p->process, .events = POLLIN };

	p->s->mute = false;
	if (p->interval_ms && p->process >= 0 && poll(&fd, 1, 1000) > 0) {
		p->ended = true;
		return 0;
	}
	return session_error(p->s, p->s->err);
}

/* ---------------------------------------------------------------- huge pages ---- */

/* PAGEMAP_SCAN of Linux 6.7, which older headers lack. */
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

struct scan_region {
	uint64_t start, end, categories;
};

#define SCAN _IOWR('f', 16, struct scan)
#define SCAN_HUGE (1ULL << 6)

static bool is_huge(int pagemap, uint64_t block)
{
	struct scan_region region = { 0 };
	struct scan arg = {
		.size = sizeof(arg),
		.start = block,
		.end = block + GW_HUGE_SIZE,
		.vec = (uint64_t)(uintptr_t)&region,
		.vec_len = 1,
		.category_mask = SCAN_HUGE,
		.return_mask = SCAN_HUGE,
	};

	return ioctl(pagemap, SCAN, &arg) == 1 && region.start == block && region.end == block + GW_HUGE_SIZE;
}

uint64_t profiler_page(struct profiler *p, uint64_t addr)
{
	uint64_t start = addr & ~(uint64_t)(GW_HUGE_SIZE - 1);
	struct profiler_block *b = &p->block[addr / GW_HUGE_SIZE % PROFILER_BLOCKS];

	if (!b->known || b->addr != start)
		*b = (struct profiler_block){ .addr = start, .known = true, .huge = is_huge(p->pagemap, start) };
	return b->huge ? start : addr & ~(uint64_t)(GW_PAGE_SIZE - 1);
}

/* ---------------------------------------------------------------- moving ---- */

static void note_error(struct profiler *p, int err, uint32_t pages)
{
	if (err == ENOENT || err == EFAULT) {
		p->now.gone += pages;
	} else if (err == EACCES && p->a->via == VIA_ENGINE) {
		p->now.unmanaged += pages;
	} else {
		p->now.failed += pages;
		p->now.errors[err > 0 && err < GW_ERRNO_MAX ? err : 0] += pages;
	}
}

/* What these pages may take at the rate asked for, less what they took. */
static void keep_rate(const struct profiler *p, const struct ctl_move_entry *entries, uint32_t nr, uint64_t since)
{
	const uint16_t *pages_of = p->pages_of + (entries - p->order);
	uint64_t bytes = 0, due, took = clock_ns() - since;

	for (uint32_t i = 0; i < nr; i++)
		bytes += pages_of[i] * (uint64_t)GW_PAGE_SIZE;
	due = p->opt.rate ? bytes * 1000000 / (p->opt.rate / 1000) : 0;
	if (due > took)
		usleep((useconds_t)((due - took) / 1000));
}

/* By the kernel, which has no engine to ask to go slowly. */
static int ask_kernel(struct profiler *p, const struct ctl_move_entry *entries, uint32_t nr, bool query)
{
	struct page_request pages[CTL_MOVE_MAX];
	uint64_t since = clock_ns();

	for (uint32_t i = 0; i < nr; i++)
		pages[i] = (struct page_request){ .addr = entries[i].addr, .node = entries[i].node };
	if (profiler_stopped(p, 0) && p->ended)
		return 0;
	if (kernel_move_run(p->a, pages, nr, query, p->s->msg.moved.status))
		return CLI_FAILED;
	if (!query)
		keep_rate(p, entries, nr, since);
	return 0;
}

static int ask(struct profiler *p, const struct ctl_move_entry *entries, uint32_t nr, bool query)
{
	int err;

	if (p->a->via == VIA_KERNEL)
		return ask_kernel(p, entries, nr, query);
	p->s->mute = true;
	p->s->err = 0;
	err = move_pages_of(p->s, entries, nr, query, &p->opt);
	p->s->mute = false;
	if (err)
		return broke_off(p);
	if (p->s->msg.moved.head.ret < 0)
		return session_error(p->s, (int)p->s->msg.moved.head.ret);
	return 0;
}

/* Those that are elsewhere come to the front; how many these are, or -1: it broke off. */
static int sort_out(struct profiler *p, uint32_t *nr_away)
{
	uint32_t nr = 0;
	int err = ask(p, p->order, p->nr_orders, true);

	*nr_away = 0;
	if (err || p->ended)
		return err;
	for (uint32_t i = 0; i < p->nr_orders; i++) {
		int32_t is = p->s->msg.moved.status[i];

		if (is < 0)
			note_error(p, -is, p->pages_of[i]);
		else if (is == p->order[i].node)
			p->now.already += p->pages_of[i];
		else {
			p->pages_of[nr] = p->pages_of[i];
			p->order[nr++] = p->order[i];
		}
	}
	*nr_away = nr;
	return 0;
}

static int move_some(struct profiler *p, uint32_t at, uint32_t nr)
{
	const struct ctl_move_entry *order = p->order + at;
	int err = ask(p, order, nr, false);

	if (err || p->ended)
		return err;
	for (uint32_t i = 0; i < nr; i++) {
		int32_t is = p->s->msg.moved.status[i];

		if (is == order[i].node) {
			p->now.moved += p->pages_of[at + i];
			p->now.to[is] += p->pages_of[at + i];
		} else {
			note_error(p, is < 0 ? -is : EAGAIN, p->pages_of[at + i]);
		}
	}
	return 0;
}

/* How many of the orders from at on one request takes: a signal, and the engine's answer, are not to wait for long. */
static uint32_t slice(const struct profiler *p, uint32_t at, uint32_t end)
{
	uint64_t most = SLICE_PAGES, pages = 0;
	uint32_t nr = 0;

	if (p->opt.rate && p->opt.rate / GW_PAGE_SIZE * SLICE_MS / 1000 < most)
		most = p->opt.rate / GW_PAGE_SIZE * SLICE_MS / 1000;
	while (at + nr < end && (!nr || pages + p->pages_of[at + nr] <= most))
		pages += p->pages_of[at + nr++];
	return nr;
}

int profiler_carry_out(struct profiler *p)
{
	uint32_t nr = 0, some;
	int err = p->nr_orders && !p->ended ? sort_out(p, &nr) : 0;

	p->nr_orders = 0;
	for (uint32_t at = 0; at < nr && !err && !p->ended && !p->cancelled; at += some) {
		some = slice(p, at, nr);
		if (p->dry) {
			for (uint32_t i = at; i < at + some; i++)
				p->now.to[p->order[i].node] += p->pages_of[i];
			continue;
		}
		err = move_some(p, at, some);
		profiler_show_progress(p);
		profiler_stopped(p, 0);
	}
	return err;
}

int profiler_want(struct profiler *p, uint64_t addr, int node)
{
	int err = p->nr_orders == CTL_MOVE_MAX ? profiler_carry_out(p) : 0;
	const struct profiler_block *b;
	uint16_t pages;

	if (p->ended)
		return 0;
	b = &p->block[addr / GW_HUGE_SIZE % PROFILER_BLOCKS];
	pages = profiler_page(p, addr) == addr && b->huge ? GW_HUGE_SIZE / GW_PAGE_SIZE : 1;
	p->now.wanted += pages;
	p->pages_of[p->nr_orders] = pages;
	p->order[p->nr_orders++] = (struct ctl_move_entry){ .addr = addr, .node = node };
	return err;
}

/* ---------------------------------------------------------------- ranges ---- */

static int note_area(struct profiler *p, uint64_t start, uint64_t end)
{
	struct profiler_area *last = p->nr_areas ? &p->areas[p->nr_areas - 1] : NULL, *more;

	if (last && last->end == start) {
		last->end = end;
		return 0;
	}
	more = realloc(p->areas, (p->nr_areas + 1) * sizeof(*more));
	if (!more)
		return say_error("out of memory");
	p->areas = more;
	p->areas[p->nr_areas++] = (struct profiler_area){ .start = start, .end = end };
	return 0;
}

/* The kernel moves whatever is mapped, but for what is its own. */
static int find_mappings(struct profiler *p)
{
	char path[32], line[512];
	uint64_t start, end;
	int err = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", p->s->pid);
	maps = fopen(path, "re");
	if (!maps)
		return say_error("%s: %s", path, strerror(errno));
	while (!err && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && !strstr(line, "[v"))
			err = note_area(p, start, end);
	fclose(maps);
	return err;
}

/* A profiler's ranges have holes and files in them: only what is managed is asked for, page by page. */
static int find_areas(struct profiler *p)
{
	struct session *s = p->s;
	int err;

	if (p->a->via == VIA_KERNEL)
		return find_mappings(p);
	err = ctl_send(&s->client, CTL_AREAS, NULL, 0);
	s->mute = true;
	s->err = err;
	while (!err) {
		err = session_expect(s, CTL_AREA, CTL_AREAS_END);
		if (!err && s->msg.head.type == CTL_AREAS_END)
			break;
		if (!err && !s->msg.area.area.kind &&
		    note_area(p, s->msg.area.area.start, s->msg.area.area.end))
			return CLI_FAILED;
	}
	s->mute = false;
	return err ? broke_off(p) : 0;
}

int profiler_want_range(struct profiler *p, const struct heat_range *range, int node)
{
	int err = p->areas ? 0 : find_areas(p);

	for (size_t i = 0; i < p->nr_areas && !err; i++) {
		uint64_t start = p->areas[i].start > range->start ? p->areas[i].start : range->start;
		uint64_t end = p->areas[i].end < range->end ? p->areas[i].end : range->end;

		start &= ~(uint64_t)(GW_PAGE_SIZE - 1);
		/* a huge page goes where the range is that has its beginning */
		for (; start < end && !err && !p->ended && !p->cancelled; start += GW_PAGE_SIZE)
			if (profiler_page(p, start) == start)
				err = profiler_want(p, start, node);
	}
	return err;
}

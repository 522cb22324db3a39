/* SPDX-License-Identifier: MIT */
/*
 * What lazy migration promises beyond test_lazy.c: a page that nobody touches is never copied, by the kernel's word;
 * one that languishes while memory is short ends on the far node, and comes from there to where it is wanted.
 */
#include "far.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/types.h>
#include <sched.h>
#include <sys/ioctl.h>

#define PAGES 6000UL
#define LIMIT (64UL << 20)
#define GROWTH (64UL << 20)
#define FAR 2			/* the node */
#define PFN_BITS 55
#define PRESENT (1ULL << 63)
#define PFNS_MOST (1U << 17)

#ifndef PAGEMAP_SCAN /* Linux 6.7 */
#define PAGE_IS_PRESENT (1 << 3)
struct page_region {
	__u64 start, end, categories;
};
struct pm_scan_arg {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

static struct gw_engine *e;

static struct gw_stats stats(void)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_query(e, &st); /* the books have seen what was touched before */
	gw_stats(e, &st);
	return st;
}

static struct gw_migrate_result ask(gw_nodemask from, gw_nodemask to, uint32_t flags)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = flags };
	struct gw_migrate_result res = { .size = sizeof(res) };

	gw_migrate_pages(e, from, to, &opt, &res);
	return res;
}

static uint64_t *filled(void)
{
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, false);

	contents_fill(mem, PAGES);
	return mem;
}

/* Of some pages; a move that asks for nothing is a look. */
static uint64_t on_node(const uint64_t *mem, uint64_t first, uint64_t nr, int node)
{
	uint64_t n = 0;

	for (uint64_t p = first; p < first + nr; p++)
		n += gw_query(e, mem + p * WORDS) == node;
	return n;
}

/* ---- the frames, by the kernel's word ---- */

struct frames {
	uint64_t pfn[PFNS_MOST];
	size_t nr;
};

static void frames_of(int pagemap, uint64_t start, uint64_t end, struct frames *f)
{
	uint64_t entry[512];

	while (start < end && f->nr < PFNS_MOST - 512) {
		size_t most = (end - start) / GW_PAGE_SIZE < 512 ? (end - start) / GW_PAGE_SIZE : 512;
		ssize_t got = pread(pagemap, entry, most * 8, (off_t)(start / GW_PAGE_SIZE * 8));

		if (got <= 0)
			return;
		for (size_t i = 0; i < (size_t)got / 8; i++)
			if (entry[i] & PRESENT)
				f->pfn[f->nr++] = entry[i] & ((1ULL << PFN_BITS) - 1);
		start += (uint64_t)got / 8 * GW_PAGE_SIZE;
	}
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What is present of a mapping, which may be a reservation of terabytes. */
static void frames_of_mapping(int pagemap, uint64_t start, uint64_t end, struct frames *f)
{
	struct page_region run[64];
	struct pm_scan_arg arg = { .size = sizeof(arg), .start = start, .end = end, .vec = (uintptr_t)run,
				   .vec_len = 64, .category_mask = PAGE_IS_PRESENT, .return_mask = PAGE_IS_PRESENT };
	int nr;

	while (arg.start < end && (nr = ioctl(pagemap, PAGEMAP_SCAN, &arg)) > 0) {
		for (int i = 0; i < nr; i++)
			frames_of(pagemap, run[i].start, run[i].end, f);
		arg.start = arg.walk_end;
	}
}

/* Every frame of the process. */
static void frames_of_all(int pagemap, struct frames *f)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	uint64_t start, end;
	char line[512];

	f->nr = 0;
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			frames_of_mapping(pagemap, start, end, f);
	if (maps)
		fclose(maps);
	qsort(f->pfn, f->nr, sizeof(f->pfn[0]), by_number);
}

static bool has_frame(const struct frames *f, uint64_t pfn)
{
	return bsearch(&pfn, f->pfn, f->nr, sizeof(pfn), by_number);
}

static uint64_t pfn_at(int pagemap, const void *addr)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, 8, (off_t)((uint64_t)addr / GW_PAGE_SIZE * 8)) != 8 || !(entry & PRESENT))
		return 0;
	return entry & ((1ULL << PFN_BITS) - 1);
}

static uint64_t anonymous_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	uint64_t kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* ---- who touches nothing has nothing copied ---- */

static void by_frames(int pagemap, const uint64_t *mem, const uint64_t *before)
{
	static struct frames all;
	uint64_t kept = 0, absent = 0, back = 0;

	frames_of_all(pagemap, &all);
	for (uint64_t p = 0; p < PAGES; p++) {
		kept += has_frame(&all, before[p]);
		absent += !pfn_at(pagemap, mem + p * WORDS);
	}
	printf("# of %lu pages %lu are absent, %lu of their frames are still the process's\n", PAGES, absent, kept);
	tap(absent == PAGES && kept == PAGES, "the kernel says: absent, and every frame is still there");
	tap(!contents_wrong(mem, 0, PAGES / 2), "half of it is touched, and as it was");
	for (uint64_t p = 0; p < PAGES / 2; p++)
		back += pfn_at(pagemap, mem + p * WORDS) == before[p];
	frames_of_all(pagemap, &all);
	kept = absent = 0;
	for (uint64_t p = PAGES / 2; p < PAGES; p++) {
		kept += has_frame(&all, before[p]);
		absent += !pfn_at(pagemap, mem + p * WORDS);
	}
	tap(back == PAGES / 2, "where the nodes share their frames each is back in its own, not copied either");
	tap(absent == PAGES / 2 && kept == PAGES / 2, "the other half has stayed in its frames");
}

static void never_copied(void)
{
	uint64_t *mem = filled(), *before = malloc(PAGES * sizeof(*before)), rss;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct gw_stats was, is;

	for (uint64_t p = 0; p < PAGES; p++)
		before[p] = pfn_at(pagemap, mem + p * WORDS);
	was = stats();
	rss = anonymous_kib();
	tap(ask(1, 2, GW_MIGRATE_LAZY).pages_lazy >= PAGES, "all of it waits to be touched");
	usleep(200000);
	is = stats();
	printf("# moved %" PRIu64 " pages, fetched %" PRIu64 ", copied in %" PRIu64 "; anonymous memory %" PRIu64
	       " KiB, then %" PRIu64 "\n",
	       is.pages_moved[0][1] - was.pages_moved[0][1], is.faults_fetched - was.faults_fetched,
	       is.copied_in - was.copied_in, rss, anonymous_kib());
	tap(is.pages_moved[0][1] - was.pages_moved[0][1] < 64 && is.copied_in == was.copied_in &&
		    is.pages_demoted == was.pages_demoted && is.batches == was.batches,
	    "the engine has counted no copy");
	tap(anonymous_kib() < rss + PAGES * 4 / 8, "there is no second copy in memory");
	if (before[0])
		by_frames(pagemap, mem, before);
	else
		printf("ok %d - the kernel says so # SKIP numbers of frames are told with CAP_SYS_ADMIN only\n",
		       ++tap_nr);
	ask(3, 1, 0);
	tap(!contents_wrong(mem, 0, PAGES), "all of it is as it was");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	free(before);
	close(pagemap);
}

/* ---- who languishes goes far, and comes from there ---- */

static uint64_t gone_far(void)
{
	struct gw_stats st = stats();

	return st.pages_away - st.pages_cached;
}

static void languish(void)
{
	uint64_t *mem = filled(), *growth, far, first, lazy;
	struct gw_stats was, is;

	ask(1, 2, GW_MIGRATE_LAZY);
	was = stats();
	growth = map_memory(GROWTH, false); /* written all over: node 0 is beyond its size */
	for (double end = now() + 30; gone_far() < PAGES / 2 && now() < end;)
		usleep(20000);
	far = on_node(mem, 0, PAGES, FAR);
	is = stats();
	printf("# memory grew: %" PRIu64 " of %lu pages that wait are on the far node; %" PRIu64
	       " moved by a touch so far\n",
	       far, PAGES, is.lazy_moved - was.lazy_moved);
	tap(far >= PAGES / 4, "what languishes while memory is short ends on the far node");
	first = is.pages_moved[FAR][1];
	lazy = is.lazy_moved;
	tap(!contents_wrong(mem, 0, PAGES), "it is as it was when it is touched");
	is = stats();
	printf("# %" PRIu64 " came from the far node to node 1, %" PRIu64 " moved by a touch in all\n",
	       is.pages_moved[FAR][1] - first, is.lazy_moved - lazy);
	tap(is.pages_moved[FAR][1] - first >= far, "it came from there to where it was wanted");
	tap(on_node(mem, 0, PAGES, 1) == PAGES, "every page is there, from wherever it came");
	tap(is.lazy_moved - lazy >= PAGES, "and counts as moved by its touch");
	tap(!is.poisoned, "none was lost");
	munmap(growth, GROWTH);
	munmap(mem, PAGES * GW_PAGE_SIZE);
	ask(1ULL << FAR | 2, 1, 0);
}

/* Cancelled, it comes to where policy has it: here, where the toucher runs. */
static void cancelled_far(void)
{
	uint64_t *mem = filled(), rest = PAGES / 2 + 64; /* behind what was brought along */

	ask(2, 1, 0);
	send_range(e, mem, PAGES, FAR);
	ask(1ULL << FAR, 2, GW_MIGRATE_LAZY);
	tap(!contents_wrong(mem, 0, PAGES / 2) && on_node(mem, 0, PAGES / 2, 1) == PAGES / 2,
	    "pages of a far node that wait come to the node wanted");
	ask(1ULL << FAR, 2, GW_MIGRATE_LAZY_CANCEL);
	tap(on_node(mem, rest, PAGES - rest, FAR) == PAGES - rest, "cancelled, they stay on the far node");
	tap(!contents_wrong(mem, 0, PAGES) && on_node(mem, rest, PAGES - rest, 0) == PAGES - rest,
	    "and come to where policy has them");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

static void nodes_make(void)
{
	struct gw_node_options ram = { .size = sizeof(ram), .kind = GW_NODE_RAM, .host = -1 };
	struct gw_node_options pool = { .size = sizeof(pool), .kind = GW_NODE_ZRAM, .host = -1 };
	int id;

	ram.bytes = LIMIT;
	gw_node_add(e, &ram);
	ram.bytes = 0;
	gw_node_add(e, &ram);
	id = gw_node_add(e, &pool);
	if (id != FAR) {
		printf("Bail out! a compressed pool as node %d: %s\n", FAR, strerror(-id));
		exit(1);
	}
}

int main(void)
{
	struct gw_options opt = { .size = sizeof(opt) };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set); /* which is node 0's: first touches count there */
	sched_setaffinity(0, sizeof(set), &set);
	watchdog_begin(60);
	tap(!gw_start(&e, &opt), "the engine starts");
	nodes_make();
	watch("never copied", 0);
	never_copied();
	watch("languish", 0);
	languish();
	watch("cancelled", 0);
	cancelled_far();
	tap(!gw_stop(e), "the engine stops");
	watchdog_end();
	return tap_end();
}

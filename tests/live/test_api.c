/* SPDX-License-Identifier: MIT */
/*
 * What the API promises, call by call: a status for every page that is asked about, a reason for every
 * page that stays, a full node, jobs, rates, masks, and the engine's own books.
 *
 * Nodes 0 to 2 have no limit, node 3 holds SMALL_PAGES pages. Every part finds the whole memory on node 0.
 */
#include "live.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGES (GW_HUGE_SIZE / GW_PAGE_SIZE)
#define NODES 4
#define SMALL 3
#define SMALL_PAGES 1024UL
#define MASK(n) (1ULL << (n))
#define PLAIN (MAP_PRIVATE | MAP_ANONYMOUS)

/* ---- memory with known words, and where it is ---- */

static uint64_t word_of(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15ULL + 1;
}

static void fill(uint64_t *mem, uint64_t pages)
{
	for (uint64_t p = 0; p < pages; p++)
		for (uint64_t i = 0; i < WORDS; i += 73)
			mem[p * WORDS + i] = word_of(p) + i;
}

static bool holds(const uint64_t *mem, uint64_t pages)
{
	for (uint64_t p = 0; p < pages; p++)
		for (uint64_t i = 0; i < WORDS; i += 73)
			if (mem[p * WORDS + i] != word_of(p) + i)
				return false;
	return true;
}

/* Aligned to 2 MiB, and nothing else within the last 2 MiB. */
static uint64_t *reserve(uint64_t pages)
{
	uint64_t len = (pages * GW_PAGE_SIZE + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1);
	uint64_t at = (uint64_t)mmap(NULL, len + GW_HUGE_SIZE, PROT_NONE, PLAIN | MAP_NORESERVE, -1, 0);
	uint64_t start = (at + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1);

	if ((void *)at == MAP_FAILED) {
		printf("Bail out! mmap: %s\n", strerror(errno));
		exit(1);
	}
	if (start > at)
		munmap((void *)at, start - at);
	munmap((void *)(start + len), at + GW_HUGE_SIZE - start);
	return (uint64_t *)start;
}

static uint64_t *memory(uint64_t pages, bool huge)
{
	uint64_t *mem = reserve(pages);

	mprotect(mem, pages * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	madvise(mem, pages * GW_PAGE_SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	fill(mem, pages);
	return mem;
}

static void discard(uint64_t *mem, uint64_t pages)
{
	munmap(mem, (pages * GW_PAGE_SIZE + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1));
}

/* How many of the pages have this status when asked about. */
static uint64_t count_on(struct gw_engine *e, const uint64_t *mem, uint64_t pages, int want)
{
	void **list = malloc(pages * sizeof(*list));
	int *status = malloc(pages * sizeof(*status));
	uint64_t nr = 0;

	for (uint64_t p = 0; p < pages; p++) {
		list[p] = (void *)(mem + p * WORDS);
		status[p] = -EIO;
	}
	if (!gw_move_pages(e, pages, list, NULL, status, NULL))
		for (uint64_t p = 0; p < pages; p++)
			nr += status[p] == want;
	free(list);
	free(status);
	return nr;
}

static bool all_on(struct gw_engine *e, const uint64_t *mem, uint64_t pages, int node)
{
	return count_on(e, mem, pages, node) == pages;
}

/* Ask for one page to be moved: its status, which the call's own return value must agree with. */
static int move_one(struct gw_engine *e, const void *addr, int node)
{
	void *page = (void *)addr;
	int status = -EIO;
	long left = gw_move_pages(e, 1, &page, &node, &status, NULL);

	return left == (status != node) ? status : -EPROTO;
}

static int ask_one(struct gw_engine *e, const void *addr)
{
	void *page = (void *)addr;
	int status = -EIO;
	long left = gw_move_pages(e, 1, &page, NULL, &status, NULL);

	return left || status != gw_query(e, addr) ? -EPROTO : status;
}

/* Everything back to node 0. */
static void home(struct gw_engine *e)
{
	if (gw_migrate_pages(e, MASK(1) | MASK(2) | MASK(SMALL), MASK(0), NULL, NULL))
		printf("# not everything came home\n");
}

static uint64_t charged(struct gw_engine *e, int node)
{
	struct gw_node_info info;

	return gw_node_get(e, node, &info) ? UINT64_MAX : info.pages;
}

static uint64_t charged_in_all(struct gw_engine *e)
{
	uint64_t sum = 0;

	for (int n = 0; n < NODES; n++)
		sum += charged(e, n);
	return sum;
}

static uint64_t managed(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	return gw_stats(e, &st) ? 0 : st.managed_pages;
}

/* ---- options and words ---- */

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int nr = 0;

	while (d && readdir(d))
		nr++;
	if (d)
		closedir(d);
	return nr;
}

static void sizes_are_checked(struct gw_engine *e)
{
	struct gw_options opt = { .size = 4 };
	struct gw_node_options node = { .size = 8, .kind = GW_NODE_RAM, .host = -1 };
	struct gw_migrate_result res = { .size = 8 };
	struct gw_stats st = { .size = 8 };
	struct gw_check_result check = { .size = 8 };
	struct gw_engine *other = NULL;

	tap(gw_start(&other, &opt) == -EINVAL && !other, "gw_start refuses options of no size");
	opt.size = sizeof(opt);
	tap(gw_start(&other, &opt) == -EBUSY && !other && gw_self() == e, "a second gw_start is refused: -EBUSY");
	tap(gw_node_add(e, &node) == -EINVAL && gw_node_count(e) == NODES, "gw_node_add refuses a short structure");
	node.size = sizeof(node);
	node.kind = 0;
	tap(gw_node_add(e, &node) == -EINVAL, "gw_node_add refuses an unknown kind");
	node.kind = GW_NODE_RAM;
	node.host = GW_MAX_NODES - 1;
	tap(gw_node_add(e, &node) == -ENODEV && gw_node_count(e) == NODES,
	    "gw_node_add refuses a host node that is none");
	tap(gw_migrate_pages(e, MASK(0), MASK(1), NULL, &res) == -EINVAL && gw_stats(e, &st) == -EINVAL &&
		    gw_check(&check) == -EINVAL,
	    "results of a wrong size are refused");
	tap(gw_migrate_pages(e, 0, MASK(1), NULL, NULL) == -EINVAL &&
		    gw_migrate_pages(e, MASK(0), 0, NULL, NULL) == -EINVAL &&
		    gw_migrate_pages(e, MASK(0), MASK(NODES), NULL, NULL) == -EINVAL,
	    "empty and unknown node masks are refused");
}

static void short_options_are_refused(struct gw_engine *e)
{
	struct gw_migrate_options opt = { .size = 0, .flags = GW_MIGRATE_DRY_RUN };
	uint64_t *mem = memory(16, false);
	long left = gw_migrate_pages(e, MASK(0), MASK(1), &opt, NULL);

	tap(left == -EINVAL && all_on(e, mem, 16, 0),
	    "migration options without a size are refused, and nothing moves");
	discard(mem, 16);
	home(e);
}

static void nodes_are_parsed(struct gw_engine *e)
{
	static const struct {
		const char *text;
		gw_nodemask want;
	} good[] = { { "0", 1 },    { "0,2", 5 },     { "0-3", 15 },   { "!1", 13 },
		     { "all", 15 }, { "1-2,0", 7 },   { "!0-2", 8 },   { "3,3", 8 } };
	static const struct {
		const char *text;
		int want;
	} bad[] = { { "", -EINVAL },	 { "x", -EINVAL },    { "0-", -EINVAL },  { "2-1", -EINVAL },
		    { "0,", -EINVAL },	 { "0,,1", -EINVAL }, { "0 1", -EINVAL }, { "-1", -EINVAL },
		    { "!all", -EINVAL }, { "!0-3", -EINVAL }, { "4", -ENODEV },	  { "0-4", -ENODEV },
		    { "!4", -ENODEV },	 { "99999", -ENODEV } };
	bool ok = true;

	(void)e;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		gw_nodemask mask = 0;
		int err = gw_nodes_parse(good[i].text, NODES, &mask);

		if (err || mask != good[i].want) {
			printf("# \"%s\": %d, mask 0x%lx\n", good[i].text, err, (unsigned long)mask);
			ok = false;
		}
	}
	tap(ok, "lists of nodes are read as numactl reads them");
	ok = true;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		gw_nodemask mask;
		int err = gw_nodes_parse(bad[i].text, NODES, &mask);

		if (err != bad[i].want) {
			printf("# \"%s\": %d\n", bad[i].text, err);
			ok = false;
		}
	}
	tap(ok, "a bad list is -EINVAL, a node beyond the last -ENODEV");
}

static void specs_are_parsed(struct gw_engine *e)
{
	static const struct {
		const char *text;
		size_t at;
	} bad[] = { { "", 0 },
		    { "disk", 0 },
		    { "ramx", 0 },
		    { "ram,", 4 },
		    { "ram,size=", 4 },
		    { "ram,size=1G,x=1", 12 },
		    { "ram,host=-1", 4 },
		    { "ram,distance=9", 4 },
		    { "ram,size=1Q", 4 },
		    { "ram,name=a b", 4 },
		    { "ram,name=fast,name=", 14 },
		    { "ram,distance=256", 4 } };
	struct gw_node_options opt = { 0 };
	bool ok = true;

	(void)e;
	tap(!gw_node_parse("ram,size=1G,name=fast,distance=30", &opt, NULL) && opt.bytes == 1UL << 30 &&
		    opt.distance == 30 && !strcmp(opt.name, "fast") && opt.host == -1 && opt.kind == GW_NODE_RAM &&
		    opt.size == sizeof(opt),
	    "a node's specification is read");
	tap(!gw_node_parse("ram", &opt, NULL) && !opt.bytes && opt.host == -1 && !opt.name[0],
	    "and its defaults are no limit and no host node");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t at = 999;
		int err = gw_node_parse(bad[i].text, &opt, &at);

		if (err != -EINVAL || at != bad[i].at) {
			printf("# \"%s\": %d at %zu\n", bad[i].text, err, at);
			ok = false;
		}
	}
	tap(ok, "a bad specification is -EINVAL, with the offset of the word");
}

/* ---- the status of a page ---- */

static void statuses(struct gw_engine *e)
{
	uint64_t *mem = memory(16, false), *hole = reserve(HUGE_PAGES);
	volatile char *zero = (char *)mem + 9 * GW_PAGE_SIZE;

	madvise(mem + 8 * WORDS, 2 * GW_PAGE_SIZE, MADV_DONTNEED);
	if (*zero)
		printf("# a page that was given back is not zero\n");
	discard(hole, HUGE_PAGES);
	tap(ask_one(e, mem) == 0 && move_one(e, mem, 1) == 1 && ask_one(e, mem) == 1,
	    "a moved page's status is its node");
	tap(move_one(e, (char *)mem + 77, 2) == 2 && gw_query(e, mem) == 2, "any address in a page stands for it");
	tap(move_one(e, mem, 2) == 2, "a page that is there already has its node as status");
	tap(ask_one(e, mem + WORDS) == 0, "its neighbour stays");
	tap(ask_one(e, mem + 8 * WORDS) == -ENOENT && move_one(e, mem + 8 * WORDS, 1) == -ENOENT,
	    "an absent page of a managed mapping is -ENOENT");
	tap(ask_one(e, (void *)zero) == -EFAULT && move_one(e, (void *)zero, 1) == -EFAULT, "the zero page is -EFAULT");
	tap(ask_one(e, hole) == -EFAULT && move_one(e, hole, 1) == -EFAULT && ask_one(e, NULL) == -EFAULT &&
		    move_one(e, (void *)0xffffffff81000000UL, 1) == -EFAULT,
	    "an address that is not mapped is -EFAULT");
	tap(move_one(e, mem + 2 * WORDS, NODES) == -ENODEV && move_one(e, mem + 2 * WORDS, -1) == -ENODEV &&
		    ask_one(e, mem + 2 * WORDS) == 0,
	    "a node that is not there is -ENODEV");
	tap(!gw_move_pages(e, 0, NULL, NULL, NULL, NULL), "an empty list is fine");
	tap(holds(mem, 8), "and the contents are as they were");
	discard(mem, 16);
	home(e);
}

static void *private_file(size_t len)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	char *mem;
	int fd;

	snprintf(path, sizeof(path), "%s/godwit-api.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	if (fd < 0)
		return MAP_FAILED;
	unlink(path);
	if (ftruncate(fd, (off_t)len))
		printf("# ftruncate: %s\n", strerror(errno));
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (mem != MAP_FAILED)
		memset(mem, 1, len);
	return mem;
}

static void unmanaged_kinds(struct gw_engine *e)
{
	const size_t len = 8 * GW_PAGE_SIZE;
	char *file = private_file(len),
	     *shared = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *ro = memory(16, false);
	struct gw_migrate_options dry = { .size = sizeof(dry), .flags = GW_MIGRATE_DRY_RUN };
	struct gw_migrate_result res, then;

	memset(shared, 1, len);
	migrate(e, 0, 1, &dry, &res);
	mprotect(ro, 16 * GW_PAGE_SIZE, PROT_READ);
	tap(file != MAP_FAILED && move_one(e, file, 1) == -EACCES && ask_one(e, file) == -EACCES,
	    "a private file mapping is -EACCES");
	tap(move_one(e, shared, 1) == -EACCES && ask_one(e, shared) == -EACCES, "shared memory is -EACCES");
	tap(move_one(e, ro, 1) == -EACCES && ask_one(e, ro) == 0, "read-only memory stays on its node: -EACCES");
	migrate(e, 0, 1, &dry, &then);
	tap(then.unmanaged[GW_UNMANAGED_READONLY] == res.unmanaged[GW_UNMANAGED_READONLY] + 16 &&
		    then.pages_total == res.pages_total - 16,
	    "read-only memory is counted in unmanaged[], page by page");
	tap(then.unmanaged[GW_UNMANAGED_SHARED] >= 8 && then.unmanaged[GW_UNMANAGED_FILE] >= 8 &&
		    then.unmanaged[GW_UNMANAGED_STACK] >= 1,
	    "and so are files, shared memory and stacks");
	migrate(e, 0, 1, NULL, &res);
	tap(holds(ro, 16) && file[5] == 1 && shared[5] == 1, "none of it is touched");
	mprotect(ro, 16 * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	tap(move_one(e, ro, 2) == 2 && holds(ro, 16), "memory that became writable moves");
	munmap(file, len);
	munmap(shared, len);
	discard(ro, 16);
	home(e);
}

/* ---- lists ---- */

static void two_mappings_in_one_block(struct gw_engine *e)
{
	uint64_t *a = reserve(HUGE_PAGES), *b = a + 256 * WORDS;
	void *list[128];
	int nodes[128], status[128];
	long left;

	mprotect(a, 64 * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	mprotect(b, 64 * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	fill(a, 64);
	fill(b, 64);
	for (int i = 0; i < 128; i++) {
		list[i] = (i % 2 ? b : a) + (uint64_t)(i / 2) * WORDS;
		nodes[i] = 1;
		status[i] = -EIO;
	}
	left = gw_move_pages(e, 128, list, nodes, status, NULL);
	tap(!left && all_on(e, a, 64, 1) && all_on(e, b, 64, 1), "two mappings in one 2 MiB block both move");
	left = gw_move_pages(e, 128, list, NULL, status, NULL);
	for (int i = 0; i < 128; i++)
		left += status[i] != 1;
	tap(!left, "and asking for both moves nothing and answers for both");
	tap(holds(a, 64) && holds(b, 64), "with their contents");
	discard(a, HUGE_PAGES);
	home(e);
}

static void duplicates(struct gw_engine *e)
{
	uint64_t *mem = memory(4, false);
	void *list[6] = { mem, mem, (char *)mem + 8, mem + WORDS, mem, mem + WORDS };
	int same[6] = { 1, 1, 1, 1, 1, 1 }, both[2] = { 2, 0 }, status[6];
	bool ok = !gw_move_pages(e, 6, list, same, status, NULL);

	for (int i = 0; i < 6; i++)
		ok = ok && status[i] == 1;
	tap(ok && all_on(e, mem, 2, 1) && all_on(e, mem + 2 * WORDS, 2, 0),
	    "a list with duplicates moves each page once");
	ok = gw_move_pages(e, 2, list, both, status, NULL) >= 1;
	printf("# asked for nodes 2 and 0 at once: %d and %d\n", status[0], status[1]);
	tap(ok && (status[0] == gw_query(e, mem) || status[1] == gw_query(e, mem)) && holds(mem, 4),
	    "a page that is wanted in two places is in one, and says so");
	discard(mem, 4);
	home(e);
}

static void whole_thps(struct gw_engine *e)
{
	const uint64_t pages = 2 * HUGE_PAGES;
	uint64_t *mem = memory(pages, true);
	struct gw_migrate_options dry = { .size = sizeof(dry), .flags = GW_MIGRATE_DRY_RUN };
	struct gw_migrate_result res;
	struct gw_stats was = { .size = sizeof(was) }, is = { .size = sizeof(is) };
	void *list[3] = { mem + 7 * WORDS, mem, mem + 511 * WORDS };
	int nodes[3] = { 2, 2, 2 }, status[3];

	migrate(e, 0, 1, &dry, &res);
	if (res.would_huge < pages) {
		printf("ok %d - an address in a THP moves all of it # SKIP no THPs are to be had here\n", ++tap_nr);
		discard(mem, pages);
		return;
	}
	gw_stats(e, &was);
	tap(move_one(e, mem + 300 * WORDS + 5, 1) == 1 && all_on(e, mem, HUGE_PAGES, 1),
	    "an address in a THP moves all of it");
	gw_stats(e, &is);
	tap(is.pages_moved[0][1] - was.pages_moved[0][1] == HUGE_PAGES, "and it counts as 512 pages");
	tap(all_on(e, mem + HUGE_PAGES * WORDS, HUGE_PAGES, 0), "the next THP stays");
	tap(!gw_move_pages(e, 3, list, nodes, status, NULL) && status[0] == 2 && status[1] == 2 && status[2] == 2 &&
		    all_on(e, mem, HUGE_PAGES, 2),
	    "three addresses in one THP move it once");
	migrate(e, 2, 0, NULL, &res);
	tap(res.pages_huge == HUGE_PAGES && all_on(e, mem, pages, 0), "it is still a THP afterwards");
	tap(!gw_pin(e, mem + 17 * WORDS, 1) && move_one(e, mem, 1) == -EBUSY && all_on(e, mem, HUGE_PAGES, 0) &&
		    !gw_unpin(e, mem + 17 * WORDS, 1) && move_one(e, mem, 1) == 1,
	    "a pin of one of its pages holds all of it");
	tap(holds(mem, pages), "the contents are as they were");
	discard(mem, pages);
	home(e);
}

/* ---- ranges ---- */

static void pins(struct gw_engine *e)
{
	uint64_t *mem = memory(16, false);
	char *at = (char *)mem + 4 * GW_PAGE_SIZE + 100;
	struct gw_migrate_result res;

	tap(gw_pin(e, at, 0) == -EINVAL && gw_unpin(e, at, GW_PAGE_SIZE) == -ENOENT,
	    "an empty range is -EINVAL, one that was never pinned -ENOENT");
	tap(!gw_pin(e, at, GW_PAGE_SIZE) && !gw_pin(e, at, GW_PAGE_SIZE), "pins nest");
	tap(move_one(e, at, 1) == -EBUSY && move_one(e, at + GW_PAGE_SIZE, 1) == -EBUSY && ask_one(e, at) == 0 &&
		    move_one(e, at - GW_PAGE_SIZE, 1) == 1 && move_one(e, at + 2 * GW_PAGE_SIZE, 1) == 1,
	    "a pinned range is widened to whole pages, which are -EBUSY and keep their node; those around it move");
	migrate(e, 0, 2, NULL, &res);
	tap(res.failed[EBUSY] == 2 && res.pages_failed >= 2 && gw_query(e, at) == 0 && gw_query(e, mem) == 2,
	    "gw_migrate_pages counts pinned pages under failed[EBUSY]");
	tap(!gw_unpin(e, at, GW_PAGE_SIZE) && move_one(e, at, 1) == -EBUSY, "pinned twice and unpinned once it stays");
	tap(!gw_unpin(e, at, GW_PAGE_SIZE) && move_one(e, at, 1) == 1, "unpinned twice it moves");
	tap(gw_unpin(e, at, GW_PAGE_SIZE) == -ENOENT, "unpinned a third time: -ENOENT");
	tap(holds(mem, 16), "and the contents are as they were");
	discard(mem, 16);
	home(e);
}

static void exclusions(struct gw_engine *e)
{
	uint64_t *mem = memory(16, false);
	struct gw_migrate_options dry = { .size = sizeof(dry), .flags = GW_MIGRATE_DRY_RUN };
	struct gw_migrate_result was, is;

	migrate(e, 0, 1, &dry, &was);
	tap(gw_include(e, mem, 8 * GW_PAGE_SIZE) == -ENOENT && !gw_exclude(e, mem, 8 * GW_PAGE_SIZE),
	    "a range that was never opted out cannot be let in");
	tap(move_one(e, mem + WORDS, 1) == -EACCES && ask_one(e, mem + WORDS) == 0,
	    "an opted-out page is -EACCES when asked to move, and has a node when asked about");
	migrate(e, 0, 1, &dry, &is);
	tap(is.unmanaged[GW_UNMANAGED_EXCLUDED] == was.unmanaged[GW_UNMANAGED_EXCLUDED] + 8 &&
		    is.pages_total == was.pages_total - 8,
	    "opted-out pages are counted in unmanaged[]");
	migrate(e, 0, 1, NULL, &is);
	tap(!is.failed[EACCES] && all_on(e, mem, 8, 0) && all_on(e, mem + 8 * WORDS, 8, 1),
	    "gw_migrate_pages leaves them, and moves the rest");
	tap(!gw_include(e, mem, 8 * GW_PAGE_SIZE) && gw_include(e, mem, 8 * GW_PAGE_SIZE) == -ENOENT,
	    "a range is let in again once");
	tap(move_one(e, mem + WORDS, 1) == 1 && holds(mem, 16), "and then moves");
	discard(mem, 16);
	home(e);
}

/* ---- a full node ---- */

static void full_for_single_pages(struct gw_engine *e)
{
	const uint64_t pages = SMALL_PAGES + 76;
	uint64_t *mem = memory(pages, false), full = 0, there = 0;
	void **list = malloc(pages * sizeof(*list));
	int *nodes = malloc(pages * sizeof(*nodes)), *status = malloc(pages * sizeof(*status));
	long left;

	for (uint64_t p = 0; p < pages; p++) {
		list[p] = mem + p * WORDS;
		nodes[p] = SMALL;
	}
	left = gw_move_pages(e, pages, list, nodes, status, NULL);
	for (uint64_t p = 0; p < pages; p++) {
		there += status[p] == SMALL;
		full += status[p] == -ENOMEM;
	}
	tap(left == 76 && full == 76 && there == SMALL_PAGES && charged(e, SMALL) == SMALL_PAGES,
	    "a full node takes what it holds, and the others are -ENOMEM");
	tap(count_on(e, mem, pages, SMALL) == SMALL_PAGES && count_on(e, mem, pages, 0) == 76 && holds(mem, pages),
	    "which stay where they were");
	free(list);
	free(nodes);
	free(status);
	discard(mem, pages);
	home(e);
}

static void full_for_all(struct gw_engine *e)
{
	const uint64_t pages = 1500, thp = HUGE_PAGES;
	uint64_t *mem = memory(pages, false), *huge = memory(thp, true), before, moved = 0;
	struct gw_migrate_result res;
	long left = migrate(e, 0, 1, NULL, NULL);

	left += migrate(e, 1, 0, NULL, &res);
	before = charged_in_all(e);
	tap(!left && before == managed(e), "the charges of all nodes are the managed pages");
	left = migrate(e, 0, SMALL, NULL, &res);
	printf("# a full node: %lu of %lu moved, %lu ENOMEM\n", (unsigned long)res.pages_moved,
	       (unsigned long)res.pages_total, (unsigned long)res.failed[ENOMEM]);
	tap(left > 0 && (uint64_t)left == res.failed[ENOMEM] && res.pages_failed == res.failed[ENOMEM] &&
		    res.pages_moved + res.pages_failed == res.pages_total && !res.error && res.state == 1,
	    "a full node is no error of the call: its pages count under failed[ENOMEM]");
	tap(charged(e, SMALL) == res.pages_moved && charged(e, SMALL) <= SMALL_PAGES &&
		    res.pages_moved > SMALL_PAGES / 2,
	    "the node is full, and not fuller than that");
	tap(charged_in_all(e) == before && managed(e) == before, "no page's charge is lost or counted twice");
	tap(count_on(e, mem, pages, 0) + count_on(e, mem, pages, SMALL) == pages &&
		    (all_on(e, huge, thp, 0) || all_on(e, huge, thp, SMALL)),
	    "every page is wholly on one node");
	tap(holds(mem, pages) && holds(huge, thp), "with its contents");
	for (int i = 0; i < 8 && left > 0; i++) {
		moved += res.pages_moved;
		migrate(e, SMALL, 1, NULL, NULL);
		left = migrate(e, 0, SMALL, NULL, &res);
	}
	migrate(e, SMALL, 1, NULL, NULL);
	tap(!left && moved >= SMALL_PAGES && all_on(e, mem, pages, 1) && all_on(e, huge, thp, 1) && !charged(e, SMALL),
	    "whenever room is made more of the rest moves, until all has");
	tap(holds(mem, pages) && holds(huge, thp) && charged_in_all(e) == before, "with contents and charges");
	discard(mem, pages);
	discard(huge, thp);
	home(e);
}

/* What a dry run says must be what then happens. */
static void dry_run_to(struct gw_engine *e, int to, const char *sentence)
{
	struct gw_migrate_options dry = { .size = sizeof(dry), .flags = GW_MIGRATE_DRY_RUN };
	struct gw_migrate_result would, res;
	long said, left;

	said = migrate(e, 0, to, &dry, &would);
	left = migrate(e, 0, to, NULL, &res);
	printf("# to node %d: would move %lu and %lu in THPs, %ld stay; moved %lu and %lu, %ld stay\n", to,
	       (unsigned long)would.would_4k, (unsigned long)would.would_huge, said,
	       (unsigned long)(res.pages_moved - res.pages_huge), (unsigned long)res.pages_huge, left);
	tap(!would.pages_moved && would.would_huge == res.pages_huge &&
		    would.would_4k == res.pages_moved - res.pages_huge && !would.would_swapped && said == left &&
		    !memcmp(would.failed, res.failed, sizeof(res.failed)) && would.pages_total == res.pages_total,
	    sentence);
	home(e);
}

/* Pages that stay for a pin must not hold up those of other mappings behind them. */
static void pinned_before_others(struct gw_engine *e)
{
	uint64_t *first = reserve(2 * HUGE_PAGES), *second = first + HUGE_PAGES * WORDS;
	struct gw_migrate_result res;

	mprotect(first, 16 * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	mprotect(second, 16 * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	fill(first, 16);
	fill(second, 16);
	gw_pin(e, first, 16 * GW_PAGE_SIZE);
	migrate(e, 0, 1, NULL, &res);
	printf("# 16 pages pinned: %lu EBUSY, %lu EAGAIN\n", (unsigned long)res.failed[EBUSY],
	       (unsigned long)res.failed[EAGAIN]);
	tap(res.failed[EBUSY] == 16 && res.pages_failed == 16 && all_on(e, first, 16, 0) && all_on(e, second, 16, 1),
	    "a mapping that is all pinned does not hold up the next");
	gw_unpin(e, first, 16 * GW_PAGE_SIZE);
	tap(holds(first, 16) && holds(second, 16), "and both keep their contents");
	discard(first, 2 * HUGE_PAGES);
	home(e);
}

static void dry_runs(struct gw_engine *e)
{
	uint64_t *mem = memory(700, false), *huge = memory(3 * HUGE_PAGES, true);

	dry_run_to(e, 1, "a dry run says what then moves");
	gw_pin(e, mem + 5 * WORDS, 3 * GW_PAGE_SIZE);
	gw_pin(e, huge + 5 * WORDS, 8);
	dry_run_to(e, 2, "also when some of it is pinned");
	gw_unpin(e, mem + 5 * WORDS, 3 * GW_PAGE_SIZE);
	gw_unpin(e, huge + 5 * WORDS, 8);
	dry_run_to(e, SMALL, "also when the node will be full");
	tap(holds(mem, 700) && holds(huge, 3 * HUGE_PAGES), "and the contents are as they were");
	discard(mem, 700);
	discard(huge, 3 * HUGE_PAGES);
}

/* ---- jobs ---- */

static atomic_int kicks;

static void kick(void *arg)
{
	if (arg == &kicks)
		kicks++;
}

static void cancelled_job(struct gw_engine *e)
{
	const uint64_t pages = 8192;
	uint64_t *mem = memory(pages, false), was;
	struct gw_migrate_options opt = { .size = sizeof(opt), .batch = 16, .rate = 20000000 };
	struct gw_migrate_result res = { .size = sizeof(res) };
	struct gw_job *job = NULL;
	double end = now() + 3;
	bool ran = false;

	home(e);
	was = charged(e, 1);
	tap(!gw_job_migrate(e, MASK(0), MASK(1), &opt, kick, &kicks, &job), "a job starts");
	while (!gw_job_progress(job, &res) && res.pages_moved < 256 && now() < end) {
		ran = ran || (res.state == 0 && res.pages_total >= pages);
		usleep(500);
	}
	gw_job_cancel(job);
	while (!gw_job_progress(job, &res) && now() < end)
		usleep(500);
	usleep(20000);
	tap(ran && res.state == 2 && !res.error && kicks == 1, "it can be watched and cancelled, and kicks once");
	printf("# cancelled after %lu of %lu pages, %lu failed\n", (unsigned long)res.pages_moved,
	       (unsigned long)res.pages_total, (unsigned long)res.pages_failed);
	tap(res.pages_moved >= 256 && res.pages_moved < pages / 2, "it ends between two batches, long before its time");
	gw_job_end(job);
	tap(!was && charged(e, 1) == res.pages_moved &&
		    count_on(e, mem, pages, 0) + count_on(e, mem, pages, 1) == pages,
	    "what it had done stays");
	tap(holds(mem, pages) && !migrate(e, 0, 1, NULL, NULL) && all_on(e, mem, pages, 1),
	    "and another request moves the rest");
	discard(mem, pages);
	home(e);
}

static void job_of_single_pages(struct gw_engine *e)
{
	uint64_t *mem = memory(3, false);
	void *list[3] = { mem, mem + WORDS, mem + 2 * WORDS };
	int nodes[3] = { 1, 2, 1 }, status[3] = { -EIO, -EIO, -EIO };
	struct gw_migrate_result res = { .size = sizeof(res) };
	struct gw_job *job = NULL;
	double end = now() + 3;

	kicks = 0;
	if (!gw_job_move(e, 3, list, nodes, status, NULL, kick, &kicks, &job)) {
		while (!gw_job_progress(job, &res) && now() < end)
			usleep(200);
		gw_job_end(job);
	}
	tap(res.state == 1 && res.pages_moved == 3 && kicks == 1 && status[0] == 1 && status[1] == 2 && status[2] == 1,
	    "a job moves single pages too");
	discard(mem, 3);
	home(e);
}

static void rate(struct gw_engine *e)
{
	const uint64_t bytes = 64UL << 20, pages = bytes / GW_PAGE_SIZE;
	struct gw_migrate_options opt = { .size = sizeof(opt), .rate = 200000000 };
	uint64_t *mem = memory(pages, false);
	struct gw_migrate_result res;
	double begin = now(), took;
	long left = migrate(e, 0, 1, &opt, &res);

	took = now() - begin;
	printf("# 64 MiB at 200 MB/s took %.3f s\n", took);
	tap(!left && took >= 0.25 && took < 3 && res.ns >= 250000000 && all_on(e, mem, pages, 1),
	    "64 MiB at 200 MB/s take at least a quarter of a second");
	discard(mem, pages);
	home(e);
}

/* ---- nodes to nodes ---- */

/* Sixteen pages on each of nodes 0 to 2. */
static uint64_t *three_groups(struct gw_engine *e)
{
	uint64_t *mem = memory(48, false);
	void *list[48];
	int nodes[48], status[48];

	for (int i = 0; i < 48; i++) {
		list[i] = mem + (uint64_t)i * WORDS;
		nodes[i] = i / 16;
	}
	gw_move_pages(e, 48, list, nodes, status, NULL);
	return mem;
}

static bool groups_on(struct gw_engine *e, const uint64_t *mem, int a, int b, int c)
{
	return all_on(e, mem, 16, a) && all_on(e, mem + 16 * WORDS, 16, b) && all_on(e, mem + 32 * WORDS, 16, c) &&
	       holds(mem, 48);
}

static void masks(struct gw_engine *e)
{
	static const struct {
		gw_nodemask from, to;
		int a, b, c;
		const char *sentence;
	} cases[] = {
		{ 3, 3, 0, 1, 2, "masks have no order: {0,1} to {1,0} is {0,1} to {0,1}, and nothing moves" },
		{ 7, 7, 0, 1, 2, "nor does anything from {0,1,2} to {1,2,0}" },
		{ 3, 6, 1, 2, 2, "{0,1} to {1,2}: each page goes one node on, and only once" },
		{ 6, 3, 0, 0, 1, "{1,2} to {0,1}: each page goes one node back, and only once" },
		{ 7, 6, 1, 1, 2, "{0,1,2} to {1,2}: of sets that differ in size what is on the second stays" },
		{ 7, 2, 1, 1, 1, "{0,1,2} to {1}: all go to one" },
		{ 5, 6, 1, 1, 2, "{0,2} to {1,2}: the second of both is the same and stays" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t *mem = three_groups(e);
		struct gw_migrate_result res = { .size = sizeof(res) };
		long left = gw_migrate_pages(e, cases[i].from, cases[i].to, NULL, &res);

		tap(!left && groups_on(e, mem, cases[i].a, cases[i].b, cases[i].c) &&
			    (cases[i].from == cases[i].to) == !res.pages_moved,
		    cases[i].sentence);
		discard(mem, 48);
		home(e);
	}
}

static void rotation(struct gw_engine *e)
{
	uint64_t *mem = three_groups(e);
	void *list[48];
	int nodes[48], status[48];
	bool ok = groups_on(e, mem, 0, 1, 2);

	for (int i = 0; i < 48; i++) {
		list[i] = mem + (uint64_t)(i * 7 % 48) * WORDS;
		nodes[i] = (i * 7 % 48 / 16 + 1) % 3;
	}
	ok = ok && !gw_move_pages(e, 48, list, nodes, status, NULL);
	tap(ok && groups_on(e, mem, 1, 2, 0),
	    "gw_move_pages turns three nodes round in one list: 0 to 1, 1 to 2, 2 to 0");
	for (int i = 0; i < 32; i++) {
		list[i] = mem + (uint64_t)i * WORDS;
		nodes[i] = i < 16 ? 2 : 1;
	}
	tap(!gw_move_pages(e, 32, list, nodes, status, NULL) && groups_on(e, mem, 2, 1, 0), "and swaps two");
	discard(mem, 48);
	home(e);
}

/* ---- memory of other kinds ---- */

static void executable(struct gw_engine *e)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42, %eax; ret */
	const size_t len = 16 * GW_PAGE_SIZE;
	char *mem = (char *)reserve(16);
	int (*fn)(void) = (int (*)(void))(uintptr_t)(mem + 5 * GW_PAGE_SIZE);
	struct gw_migrate_result res;
	long left;

	if (mprotect(mem, len, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		printf("ok %d - RWX memory moves # SKIP mprotect: %s\n", ++tap_nr, strerror(errno));
		return;
	}
	for (size_t at = 0; at < len; at += GW_PAGE_SIZE)
		memcpy(mem + at, code, sizeof(code));
	left = migrate(e, 0, 1, NULL, &res);
	tap(!left && all_on(e, (uint64_t *)mem, 16, 1) && fn() == 42, "RWX memory moves, and code in it runs on");
	mem[5 * GW_PAGE_SIZE + 1] = 43;
	tap(move_one(e, mem + 5 * GW_PAGE_SIZE, 2) == 2 && fn() == 43, "and stays writable and executable");
	discard((uint64_t *)mem, 16);
	home(e);
}

static long locked_kb(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmLck:", 6))
			kb = atol(line + 6);
	if (f)
		fclose(f);
	return kb;
}

/* A number of the mapping that begins at mem, from smaps; or whether its flags have "lo". */
static long mapping_locked_kb(const void *mem, bool *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	bool in = false;
	long kb = -1;

	*flag = false;
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = (unsigned long)mem >= start && (unsigned long)mem < end;
		else if (in && !strncmp(line, "Locked:", 7))
			kb = atol(line + 7);
		else if (in && !strncmp(line, "VmFlags:", 8))
			*flag = strstr(line, " lo") != NULL;
	}
	if (f)
		fclose(f);
	return kb;
}

static void locked(struct gw_engine *e)
{
	const uint64_t pages = 256;
	uint64_t *mem = memory(pages, false), on;
	struct gw_migrate_result res;
	bool flag;
	long was, is, kb;

	if (mlock(mem, pages * GW_PAGE_SIZE)) {
		printf("ok %d - locked memory moves or is counted # SKIP mlock: %s\n", ++tap_nr, strerror(errno));
		discard(mem, pages);
		return;
	}
	was = locked_kb();
	migrate(e, 0, 1, NULL, &res);
	on = count_on(e, mem, pages, 1);
	kb = mapping_locked_kb(mem, &flag);
	is = locked_kb();
	printf("# locked memory: %lu of %lu pages moved, %lu stay, VmLck %ld kB before and %ld kB after\n",
	       (unsigned long)on, (unsigned long)pages, (unsigned long)res.pages_failed, was, is);
	tap(on + res.pages_failed >= pages && count_on(e, mem, pages, 0) + on == pages && holds(mem, pages),
	    "locked memory moves or is counted, and is never lost");
	tap(flag && kb == (long)(pages * 4), "it stays locked, every page of it");
	tap(was >= (long)(pages * 4) && is == was, "and VmLck is what it was");
	munlock(mem, pages * GW_PAGE_SIZE);
	discard(mem, pages);
	home(e);
}

/* What the whole of it is: the engine's own memory is locked with everything else, or would be when it is mapped. */
static void locked_all(struct gw_engine *e, int flags, bool raw)
{
	const uint64_t pages = 2048;
	uint64_t *before = memory(pages, false), *after, on;
	struct gw_migrate_result res;
	char text[160];
	long kb;

	if (raw ? syscall(SYS_mlockall, flags) : mlockall(flags)) {
		printf("ok %d - all memory is locked # SKIP mlockall: %s\n", ++tap_nr, strerror(errno));
		discard(before, pages);
		return;
	}
	kb = locked_kb();
	after = memory(pages, false);
	migrate(e, 0, 1, NULL, &res);
	on = count_on(e, before, pages, 1) + count_on(e, after, pages, 1);
	snprintf(text, sizeof(text), "all memory moves when all is locked, and what came later (flags %d%s)", flags,
		 raw ? ", by a raw system call" : "");
	tap(on == 2 * pages && !res.pages_failed && holds(before, pages) && holds(after, pages), text);
	munlockall();
	migrate(e, 1, 0, NULL, &res);
	on = count_on(e, before, pages, 0) + count_on(e, after, pages, 0);
	tap(on == 2 * pages && !res.pages_failed && holds(before, pages) && holds(after, pages),
	    "and back when it is locked no more");
	if (!raw)
		tap(kb >= 0 && kb < (1L << 20), "the engine's reservation does not count as locked");
	discard(before, pages);
	discard(after, pages);
	home(e);
}

static void locked_whole(struct gw_engine *e)
{
	for (int flags = MCL_CURRENT; flags <= (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT); flags++) {
		if (!(flags & (MCL_CURRENT | MCL_FUTURE)))
			continue;
		locked_all(e, flags, false);
		locked_all(e, flags, true);
	}
}

/* ---- signals ---- */

#define SIGNALS 100

static _Atomic int signals_due;
static int signal_nr;

static void *send_signals(void *arg)
{
	for (int sent = 0; sent < SIGNALS;) {
		if (atomic_load(&signals_due) <= sent) {
			sched_yield();
			continue;
		}
		usleep(20); /* it waits for it by now */
		kill(getpid(), signal_nr);
		sent++;
	}
	return arg;
}

/* Of signals for the process, blocked in all its threads, each must arrive at the program's own signalfd. */
static bool signals_arrive(int nr)
{
	struct signalfd_siginfo info;
	int came = 0, fd;
	struct pollfd ask;
	pthread_t sender;
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, nr);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	ask = (struct pollfd){ .fd = fd, .events = POLLIN };
	signal_nr = nr;
	atomic_store(&signals_due, 0);
	pthread_create(&sender, NULL, send_signals, NULL);
	do
		atomic_store(&signals_due, came + 1);
	while (poll(&ask, 1, 3000) == 1 && read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) && ++came < SIGNALS);
	atomic_store(&signals_due, SIGNALS);
	pthread_join(sender, NULL);
	while (read(fd, &info, sizeof(info)) > 0)
		;
	close(fd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return came == SIGNALS;
}

static void signals(struct gw_engine *e)
{
	int lost = 0;

	(void)e;
	for (int nr = 1; nr <= SIGRTMAX; nr++) {
		if (nr == SIGKILL || nr == SIGSTOP || nr == SIGALRM || (nr > SIGSYS && nr < SIGRTMIN))
			continue;
		if (!signals_arrive(nr)) {
			printf("# signal %d (%s) was lost\n", nr, strsignal(nr));
			lost++;
		}
	}
	tap(!lost, "every signal for the program reaches the program");
}

/* ---- the books ---- */

static void numbers(struct gw_engine *e)
{
	uint64_t *mem = memory(64, false);
	struct gw_stats was = { .size = sizeof(was) }, is = { .size = sizeof(is) };
	struct gw_node_info from, to, from_then, to_then;
	struct gw_migrate_result res;

	gw_stats(e, &was);
	gw_node_get(e, 0, &from);
	gw_node_get(e, 1, &to);
	gw_pin(e, mem, 1);
	migrate(e, 0, 1, NULL, &res);
	gw_unpin(e, mem, 1);
	gw_stats(e, &is);
	gw_node_get(e, 0, &from_then);
	gw_node_get(e, 1, &to_then);
	tap(res.pages_moved >= 63 && is.pages_moved[0][1] == was.pages_moved[0][1] + res.pages_moved &&
		    is.failed[EBUSY] == was.failed[EBUSY] + 1 && is.batches >= was.batches + res.batches &&
		    is.retries == was.retries + res.retries && res.batches && res.retries,
	    "what a request counted is added to the engine's numbers");
	tap(is.managed_pages == charged_in_all(e) && is.managed_pages >= 64, "managed pages are those charged");
	tap(res.stall_ns_max && res.stall_ns_p99 <= res.stall_ns_p999 && is.stall_ns_max >= res.stall_ns_max,
	    "windows are measured");
	tap(from_then.out == from.out + res.pages_moved && to_then.in == to.in + res.pages_moved &&
		    to_then.pages == to.pages + res.pages_moved,
	    "and so are the nodes' own");
	tap(gw_node_get(e, NODES, &to) == -ENODEV && gw_node_get(e, -1, &to) == -ENODEV && gw_node_count(e) == NODES,
	    "a node that is not there has no numbers");
	discard(mem, 64);
	home(e);
}

struct looking {
	uint64_t start, pages0, pages1;
	int kinds;
};

static int look(const struct gw_area *area, void *arg)
{
	struct looking *l = arg;

	if (area->start > l->start || area->end <= l->start)
		return 0;
	l->pages0 = area->pages[0];
	l->pages1 = area->pages[1];
	l->kinds += area->kind == 0 && area->prot == (PROT_READ | PROT_WRITE);
	return 77;
}

static void areas(struct gw_engine *e)
{
	uint64_t *mem = memory(HUGE_PAGES, false);
	struct looking l = { .start = (uint64_t)mem };

	for (uint64_t p = 0; p < 10; p++)
		move_one(e, mem + p * WORDS, 1);
	madvise(mem + 100 * WORDS, 12 * GW_PAGE_SIZE, MADV_DONTNEED);
	tap(gw_areas(e, look, &l) == 77 && l.kinds == 1 && l.pages1 == 10 && l.pages0 >= HUGE_PAGES - 22,
	    "gw_areas counts a mapping's pages by node, and ends when told to");
	discard(mem, HUGE_PAGES);
	home(e);
}

static void metadata(struct gw_engine *e)
{
	const uint64_t pages = (256UL << 20) / GW_PAGE_SIZE;
	uint64_t *mem = memory(pages, false);
	struct gw_stats st = { .size = sizeof(st) };
	struct gw_migrate_result res;

	migrate(e, 0, 1, NULL, &res);
	gw_stats(e, &st);
	printf("# %lu managed pages, %lu bytes of books: %.3f %%\n", (unsigned long)st.managed_pages,
	       (unsigned long)st.metadata_bytes,
	       100.0 * (double)st.metadata_bytes / (double)(st.managed_pages * GW_PAGE_SIZE));
	tap(st.managed_pages >= pages && st.metadata_bytes &&
		    st.metadata_bytes * 1000 <= st.managed_pages * GW_PAGE_SIZE * 55 / 10,
	    "the books of 256 MiB take at most 0.55 percent");
	discard(mem, pages);
	home(e);
	gw_stats(e, &st);
	tap(st.managed_pages < pages, "and pages that are gone are not in them");
}

static void verify(struct gw_engine *e)
{
	struct gw_migrate_options opt = { .size = sizeof(opt), .flags = GW_MIGRATE_VERIFY };
	uint64_t *mem = memory(2048, false), *huge = memory(HUGE_PAGES, true);
	bool ok = true;

	for (uint32_t form = GW_FORM_AUTO; form <= GW_FORM_TRANSACTIONAL; form++) {
		struct gw_migrate_result res;

		opt.form = form;
		ok = ok && !migrate(e, 0, 1, &opt, &res) && !res.verify_errors && res.pages_moved >= 2560 &&
		     (form == GW_FORM_AUTO || res.form_last == form);
		ok = ok && all_on(e, mem, 2048, 1) && all_on(e, huge, HUGE_PAGES, 1);
		home(e);
	}
	tap(ok && holds(mem, 2048) && holds(huge, HUGE_PAGES), "GW_MIGRATE_VERIFY finds no difference, in any form");
	discard(mem, 2048);
	discard(huge, HUGE_PAGES);
}

/* ---- another engine ---- */

static uint64_t dropped_by_moving(struct gw_engine *e)
{
	uint64_t *mem = memory(1024, false);
	struct gw_stats was = { .size = sizeof(was) }, is = { .size = sizeof(is) };

	gw_stats(e, &was);
	for (int i = 0; i < 4; i++)
		migrate(e, i % 2, !(i % 2), NULL, NULL);
	gw_stats(e, &is);
	tap(is.pages_moved[0][1] - was.pages_moved[0][1] >= 2048 && holds(mem, 1024), "memory moves to and fro");
	discard(mem, 1024);
	return is.frames_dropped - was.frames_dropped;
}

static void without_recycling(struct gw_engine *e, int descriptors)
{
	struct gw_options opt = { .size = sizeof(opt), .flags = GW_NO_RECYCLE };
	struct gw_stats st = { .size = sizeof(st) };
	uint64_t before = dropped_by_moving(e), after;

	gw_stats(e, &st);
	tap(st.recycling == 1, "an engine recycles frames unless told otherwise");
	tap(!gw_stop(e) && !gw_self() && open_descriptors() == descriptors,
	    "the engine stops, and leaves no descriptor");
	tap(!gw_start(&e, &opt) && gw_self() == e && gw_node_count(e) == 0, "and starts again, empty");
	engine_with_nodes(2, 0);
	after = dropped_by_moving(e);
	gw_stats(e, &st);
	printf("# frames dropped: %lu when recycling, %lu without\n", (unsigned long)before, (unsigned long)after);
	tap(after >= 4096 && after > 2 * before && !st.recycling, "with GW_NO_RECYCLE vacated frames are dropped");
	tap(open_descriptors() == descriptors, "and the program's table of descriptors is as it was");
	tap(!gw_stop(e) && gw_stop(e) == -EINVAL, "the engine stops once");
}

int main(void)
{
	static void (*const parts[])(struct gw_engine * e) = {
		sizes_are_checked,
		short_options_are_refused,
		nodes_are_parsed,
		specs_are_parsed,
		statuses,
		unmanaged_kinds,
		two_mappings_in_one_block,
		duplicates,
		whole_thps,
		pins,
		exclusions,
		full_for_single_pages,
		full_for_all,
		pinned_before_others,
		dry_runs,
		cancelled_job,
		job_of_single_pages,
		rate,
		masks,
		rotation,
		executable,
		locked,
		locked_whole,
		signals,
		numbers,
		areas,
		metadata,
		verify,
	};
	int descriptors = open_descriptors();
	struct gw_engine *e = engine_with_nodes(NODES, SMALL_PAGES * GW_PAGE_SIZE);

	alarm(60);
	tap(open_descriptors() == descriptors, "the engine adds no descriptor to the program's table");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		parts[i](e);
	tap(open_descriptors() == descriptors, "nor do requests");
	without_recycling(e, descriptors);
	return tap_end();
}

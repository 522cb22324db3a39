/* SPDX-License-Identifier: MIT */
/*
 * Side by side on a machine with two NUMA nodes: the same memory moved from node to node by the engine and by its
 * machine's kernel (move_pages(2), mbind(2), numactl's migratepages, and `godwit migrate --via kernel` where there is
 * one), in turn, round after round, with nobody, a reader or a writer at work in it. Medians of the rounds; what its
 * user waits is one distribution over all of them. bench/vm.sh is what to run.
 *
 *   vm CSV [GODWIT [4K|THP [quiet|reader|writer]]]
 */
#define _GNU_SOURCE 1
#include <godwit.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define REGION (32UL << 20)
#define REGION_USED (4UL << 20) /* with somebody at work in it */
#define PAGES (REGION / GW_PAGE_SIZE)
#define TABLE_NS 9e9 /* then the round is the last: somebody may keep the machine's processors from us */
#define ROUNDS_LEAST 2
#define RATE (100UL << 20) /* bytes a second, where both are to keep to one */
#define CHUNK 64	   /* pages a call, where the kernel is to keep to it */
#define MF_MOVE 2
#define BIND 2

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* Past the engine, which answers these calls else. */
static long kernel(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_size);
	return n ? v[n / 2] : 0;
}

/* ---- a user of the memory, who notes how long each access took ---- */

#define BUCKETS 4096 /* 1/64 of an octave */

struct waits {
	uint64_t count, max;
	uint64_t bucket[BUCKETS];
};

struct user {
	pthread_t thread;
	volatile char *mem;
	uint64_t bytes;
	bool writes;
	atomic_bool stop;
	_Atomic(struct waits *) waits; /* whose turn it is; NULL: nobody's */
};

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns | 64);

	return octave * 64 + (uint32_t)((ns << 1 >> (octave - 5)) & 63);
}

static double quantile_us(const struct waits *w, double q)
{
	uint64_t need = (uint64_t)((double)w->count * q), seen = 0;

	for (uint32_t b = 0; b < BUCKETS; b++) {
		seen += w->bucket[b];
		if (seen > need)
			return (double)((64ULL + (b & 63) + 1) << (b / 64)) / 64 / 1e3;
	}
	return (double)w->max / 1e3;
}

static void *use(void *arg)
{
	struct user *u = arg;
	uint64_t seed = 88172645463325252ULL;

	while (!u->stop) {
		struct waits *w = u->waits;
		double begin = now_ns();
		uint64_t ns;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		if (u->writes)
			u->mem[seed % u->bytes]++;
		else
			(void)u->mem[seed % u->bytes];
		ns = (uint64_t)(now_ns() - begin);
		if (!w)
			continue;
		w->bucket[bucket_of(ns)]++;
		w->count++;
		w->max = ns > w->max ? ns : w->max;
	}
	return NULL;
}

/* ---- the ways to move ---- */

struct bench {
	struct gw_engine *e;
	const char *godwit;
	char *mem; /* what is moved */
	uint64_t bytes, pages_nr;
	int node; /* where it is */
	void *pages[PAGES];
	int nodes[PAGES], status[PAGES];
	bool via;	  /* godwit migrate knows --via */
	const char *load; /* the only one, or NULL */
};

struct way {
	const char *what;
	/* Move one region to a node: 0, or what did not move. */
	long (*move)(struct bench *b, const struct way *w, bool huge, int to);
	uint32_t batch;
	uint32_t form;
	uint32_t stall_us;
	uint64_t rate;
	bool huge_too, huge_only;
	bool cold; /* the engine has no free frames in stock */
};

static long by_engine(struct bench *b, const struct way *w, bool huge, int to)
{
	struct gw_migrate_options opt = { .size = sizeof(opt),
					  .batch = w->batch,
					  .form = w->form,
					  .rate = w->rate,
					  .stall_us_max = w->stall_us,
					  .flags = w->stall_us ? 0 : GW_MIGRATE_NO_STEER };
	struct gw_migrate_result res = { .size = sizeof(res) };
	long left = gw_migrate_pages(b->e, 1ULL << !to, 1ULL << to, &opt, &res);

	(void)huge;
	return left ? left : res.pages_moved >= b->pages_nr ? 0 : (long)(b->pages_nr - res.pages_moved);
}

/* Where the kernel is to keep to a rate it is asked for a chunk at a time. */
static void pace(double begin, uint64_t bytes, uint64_t rate)
{
	double ahead = rate ? (double)bytes * 1e9 / (double)rate - (now_ns() - begin) : 0;

	if (ahead > 1e6)
		usleep((unsigned)(ahead / 1e3));
}

static long by_move_pages(struct bench *b, const struct way *w, bool huge, int to)
{
	uint64_t step = w->rate ? (huge ? GW_HUGE_SIZE / GW_PAGE_SIZE : CHUNK) : b->pages_nr;
	double begin = now_ns();

	for (uint64_t i = 0; i < b->pages_nr; i++) {
		b->pages[i] = b->mem + i * GW_PAGE_SIZE;
		b->nodes[i] = to;
	}
	for (uint64_t at = 0; at < b->pages_nr; at += step) {
		if (kernel(SYS_move_pages, 0, (long)step, (long)(b->pages + at), (long)(b->nodes + at),
			   (long)(b->status + at), MF_MOVE) < 0)
			return (long)b->pages_nr;
		pace(begin, (at + step) * GW_PAGE_SIZE, w->rate);
	}
	return 0; /* the statuses of a THP's other pages say nothing: the kernel is asked again afterwards */
}

/* One address for each THP, as a program may that knows of them. */
static long by_move_heads(struct bench *b, const struct way *w, bool huge, int to)
{
	uint64_t nr = b->bytes / GW_HUGE_SIZE, left = 0;

	(void)w;
	(void)huge;
	for (uint64_t i = 0; i < nr; i++) {
		b->pages[i] = b->mem + i * GW_HUGE_SIZE;
		b->nodes[i] = to;
	}
	if (kernel(SYS_move_pages, 0, (long)nr, (long)b->pages, (long)b->nodes, (long)b->status, MF_MOVE) < 0)
		return (long)nr;
	for (uint64_t i = 0; i < nr; i++)
		left += b->status[i] != to;
	return (long)left;
}

static long by_mbind(struct bench *b, const struct way *w, bool huge, int to)
{
	uint64_t step = w->rate ? (huge ? GW_HUGE_SIZE : CHUNK * GW_PAGE_SIZE) : b->bytes, mask = 1ULL << to;
	double begin = now_ns();
	long err = 0;

	for (uint64_t at = 0; at < b->bytes && !err; at += step) {
		err = kernel(SYS_mbind, (long)(b->mem + at), (long)step, BIND, (long)&mask, 64, MF_MOVE);
		pace(begin, at + step, w->rate);
	}
	kernel(SYS_mbind, (long)b->mem, (long)b->bytes, 0, 0, 0, 0);
	return err ? (long)b->pages_nr : 0;
}

static long by_command(char **argv)
{
	int status = 0;
	pid_t pid = vfork();

	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

static long by_migratepages(struct bench *b, const struct way *w, bool huge, int to)
{
	char pid[16], from[2] = { (char)('0' + !to), '\0' }, there[2] = { (char)('0' + to), '\0' };
	char *migratepages[] = { "migratepages", pid, from, there, NULL };
	char *godwit[] = { (char *)b->godwit, "migrate", "-q", "--via", "kernel", pid, from, there, NULL };

	(void)huge;
	snprintf(pid, sizeof(pid), "%d", getpid());
	return by_command(w->batch ? godwit : migratepages);
}

/* What the kernel says of it afterwards, which is no part of the time. */
static uint64_t astray(struct bench *b, int to)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < b->pages_nr; i++)
		b->pages[i] = b->mem + i * GW_PAGE_SIZE;
	kernel(SYS_move_pages, 0, (long)b->pages_nr, (long)b->pages, 0, (long)b->status, 0);
	for (uint64_t i = 0; i < b->pages_nr; i++)
		nr += b->status[i] != to;
	return nr;
}

/* ---- rows ---- */

#define WAYS 16

struct row {
	double cost[ROUNDS];
	int rounds;
	uint64_t left;
	struct waits waits;
};

static FILE *csv;

/* reference: the row that the ratios are to; its median is taken, so that cost[0] is its best. */
static void row_print(const struct way *w, struct row *r, bool huge, const char *load, const struct row *reference)
{
	double cost = median(r->cost, r->rounds), best = r->cost[0];
	double ratio = reference->cost[reference->rounds / 2] / cost, best_ratio = reference->cost[0] / best;
	const struct waits *u = &r->waits;

	printf("%-26s %-5s %-7s %5u %9.0f %6.2f %9.0f %6.2f", w->what, huge ? "THP" : "4 KiB", load, w->batch, cost,
	       ratio, best, best_ratio);
	fprintf(csv, "%s,%s,%s,%u,%u,%.0f,%.3f,%.0f,%.3f,%lu", w->what, huge ? "THP" : "4K", load, w->batch,
		(unsigned)(w->rate >> 20), cost, ratio, best, best_ratio, (unsigned long)r->left);
	if (u->count) {
		printf(" | %8.2f %8.2f %9.1f %9.0f", quantile_us(u, 0.5), quantile_us(u, 0.99), quantile_us(u, 0.999),
		       (double)u->max / 1e3);
		fprintf(csv, ",%.3f,%.3f,%.3f,%.1f", quantile_us(u, 0.5), quantile_us(u, 0.99), quantile_us(u, 0.999),
			(double)u->max / 1e3);
	} else {
		fprintf(csv, ",,,,");
	}
	printf("%s\n", r->left ? "  PAGES LEFT BEHIND" : "");
	fprintf(csv, "\n");
	fflush(stdout);
}

/*
 * Free frames on both nodes, as after migrations to and fro, or none, as after some seconds without. What is done for
 * it is no part of the time.
 */
static void stock(struct bench *b, const struct way *w, int to)
{
	struct gw_node_info info;
	struct way fill = { .batch = 512, .form = GW_FORM_PLAIN };

	if (w->move != by_engine)
		return;
	for (int k = 0; w->cold && k < 50 && !gw_node_get(b->e, to, &info) && info.free_frames; k++)
		usleep(100000);
	if (w->cold)
		return;
	by_engine(b, &fill, false, to);
	by_engine(b, &fill, false, !to);
}

static void round_once(struct bench *b, const struct way *w, bool huge, struct user *u, struct row *r, int i)
{
	int to = !b->node;
	double begin;
	long left;

	stock(b, w, to);
	if (u)
		u->waits = &r->waits;
	begin = now_ns();
	left = w->move(b, w, huge, to);
	r->cost[i] = (now_ns() - begin) / b->pages_nr;
	if (u)
		u->waits = NULL;
	r->left += left ? (uint64_t)left : astray(b, to);
	b->node = to;
}

/* All ways in turn, again and again; the first way is what the others are measured by. */
static void table(struct bench *b, const struct way *ways, int nr, bool huge, const char *load)
{
	static struct row rows[WAYS];
	struct user u = { .mem = b->mem, .bytes = b->bytes, .writes = !strcmp(load, "writer") };
	bool used = strcmp(load, "quiet") != 0;
	double begin = now_ns();

	memset(rows, 0, sizeof(rows));

	if (used)
		pthread_create(&u.thread, NULL, use, &u);
	/* round -1 warms up, and is written over */
	for (int i = -1; i < ROUNDS && (i < ROUNDS_LEAST || now_ns() - begin < TABLE_NS); i++)
		for (int k = 0; k < nr; k++) {
			round_once(b, &ways[k], huge, used ? &u : NULL, &rows[k], i < 0 ? 0 : i);
			rows[k].rounds = i + 1;
			if (i < 0)
				memset(&rows[k].waits, 0, sizeof(rows[k].waits));
		}
	u.stop = true;
	if (used)
		pthread_join(u.thread, NULL);
	median(rows[0].cost, rows[0].rounds);
	for (int k = 0; k < nr; k++)
		row_print(&ways[k], &rows[k], huge, load, &rows[0]);
}

/* ---- the copies that cannot be avoided ---- */

static void map_region(struct bench *b, uint64_t bytes, bool huge)
{
	char *all = mmap(NULL, bytes + 2 * GW_HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = (char *)(((uintptr_t)all + GW_HUGE_SIZE) & ~(GW_HUGE_SIZE - 1));

	mprotect(p, bytes, PROT_READ | PROT_WRITE);
	madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < bytes; i += GW_PAGE_SIZE)
		memset(p + i, 1 + (int)(i >> 12), GW_PAGE_SIZE);
	b->mem = p;
	b->bytes = bytes;
	b->pages_nr = bytes / GW_PAGE_SIZE;
}

/* As the engine copies a page. libc may do it by "rep movs", which costs an emulated machine fifty times as much. */
__attribute__((target("avx2"))) static void copy_page(char *dst, const char *src)
{
	typedef long long wide __attribute__((vector_size(32)));

	for (uint64_t i = 0; i < GW_PAGE_SIZE; i += sizeof(wide)) {
		*(wide *)(void *)(dst + i) = *(const wide *)(const void *)(src + i);
		__asm__ volatile("" ::: "memory");
	}
}

static double copy_once(char *to, const char *from)
{
	double begin = now_ns();

	for (uint64_t at = 0; at < REGION; at += GW_PAGE_SIZE)
		copy_page(to + at, from + at);
	return (now_ns() - begin) / PAGES;
}

static double read_once(int fd, char *to)
{
	double begin = now_ns();

	return pread(fd, to, REGION, 0) == (ssize_t)REGION ? (now_ns() - begin) / PAGES : 0;
}

static void copies(struct bench *b)
{
	/* an emulator's table of addresses is to have a place for each */
	char *all = mmap(NULL, REGION + 2 * GW_HUGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	char *to = (char *)(((uintptr_t)all & ~(GW_HUGE_SIZE - 1)) + GW_HUGE_SIZE + 37 * GW_PAGE_SIZE);
	int fd = memfd_create("bench", MFD_CLOEXEC);
	double user[ROUNDS], own[ROUNDS];

	map_region(b, REGION, false);
	if (fd < 0 || write(fd, b->mem, REGION) != (ssize_t)REGION)
		return;
	for (int i = 0; i < ROUNDS; i++) {
		user[i] = copy_once(to, b->mem);
		own[i] = read_once(fd, to);
	}
	median(user, ROUNDS);
	median(own, ROUNDS);
	printf("# the bare copy of 4 KiB, at best: %.0f ns by vectors, %.0f ns by the kernel (a read of memory)\n",
	       user[0], own[0]);
	fprintf(csv,
		"bare copy by vectors,4K,quiet,1,0,%.0f,,%.0f,,0,,,,\n"
		"bare copy by the kernel,4K,quiet,1,0,%.0f,,%.0f,,0,,,,\n",
		user[ROUNDS / 2], user[0], own[ROUNDS / 2], own[0]);
	close(fd);
	munmap(all, REGION + 2 * GW_HUGE_SIZE);
	munmap(b->mem, REGION);
	b->mem = NULL;
}

/* ---- all of it ---- */

static bool knows_via(const char *godwit)
{
	char line[256];
	FILE *f = NULL;
	bool knows = false;

	if (godwit) {
		snprintf(line, sizeof(line), "%s migrate --help", godwit);
		f = popen(line, "r");
	}
	while (f && fgets(line, sizeof(line), f))
		knows = knows || strstr(line, "--via");
	if (f)
		pclose(f);
	return knows;
}

/* What else this process has is nobody's to move: the kernel is asked for a region, too. */
static void exclude_others(struct bench *b)
{
	unsigned long start, end, inode;
	char line[512], perms[5];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, perms, &inode) == 4 && perms[1] == 'w')
			gw_exclude(b->e, (void *)start, end - start);
	if (f)
		fclose(f);
}

static void begin(struct bench *b)
{
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_RAM };

	if (gw_start(&b->e, &opt)) {
		fprintf(stderr, "bench/vm: the engine cannot start: see 'godwit check'\n");
		exit(1);
	}
	for (node.host = 0; node.host < 2; node.host++)
		if (gw_node_add(b->e, &node) < 0) {
			fprintf(stderr, "bench/vm: this machine has no NUMA nodes 0 and 1: see bench/vm.sh\n");
			exit(77);
		}
	exclude_others(b);
}

/* The ways of one set that go for this size of page. */
static void tables(struct bench *b, const struct way *ways, size_t nr, bool huge, const char *load)
{
	struct way now[WAYS];
	int n = 0;

	if (b->load && strcmp(b->load, load))
		return;
	for (size_t i = 0; i < nr; i++)
		if ((huge ? ways[i].huge_too || ways[i].huge_only : !ways[i].huge_only) &&
		    (b->via || ways[i].move != by_migratepages || !ways[i].batch))
			now[n++] = ways[i];
	table(b, now, n, huge, load);
}

static void region_anew(struct bench *b, uint64_t bytes, bool huge)
{
	if (b->mem)
		munmap(b->mem, b->bytes);
	map_region(b, bytes, huge);
	b->node = 0;
	by_mbind(b, &(struct way){ 0 }, huge, 0);
}

/* One region at a time, and nothing else in the engine's way. */
static void kind(struct bench *b, bool huge)
{
	static const struct way quiet[] = {
		{ "mbind(MPOL_MF_MOVE)", by_mbind, .huge_too = true },
		{ "move_pages", by_move_pages, .huge_too = true },
		{ "move_pages, heads of THPs", by_move_heads, .huge_only = true },
		{ "engine, plain", by_engine, .batch = 16, .form = GW_FORM_PLAIN },
		{ "engine, plain", by_engine, .batch = 64, .form = GW_FORM_PLAIN, .huge_too = true },
		{ "engine, plain", by_engine, .batch = 512, .form = GW_FORM_PLAIN },
		{ "engine, transactional", by_engine, .batch = 64, .form = GW_FORM_TRANSACTIONAL, .huge_too = true },
		{ "engine, no free frames", by_engine, .batch = 64, .form = GW_FORM_PLAIN, .huge_too = true,
		  .cold = true },
	};
	/* these move what else the process has, the engine's free frames among it */
	static const struct way whole[] = {
		{ "mbind(MPOL_MF_MOVE)", by_mbind, .huge_too = true },
		{ "migratepages", by_migratepages, .huge_too = true },
		{ "godwit --via kernel", by_migratepages, .batch = 1, .huge_too = true },
	};
	static const struct way used[] = {
		{ "mbind(MPOL_MF_MOVE)", by_mbind, .huge_too = true },
		{ "move_pages", by_move_pages, .huge_too = true },
		{ "engine, plain", by_engine, .batch = 16, .form = GW_FORM_PLAIN },
		{ "engine, plain", by_engine, .batch = 64, .form = GW_FORM_PLAIN, .huge_too = true },
		{ "engine, transactional", by_engine, .batch = 64, .form = GW_FORM_TRANSACTIONAL, .huge_too = true },
		{ "engine, --max-stall 1000", by_engine, .stall_us = 1000, .huge_too = true },
	};
	static const struct way paced[] = {
		{ "mbind, 100 MB/s", by_mbind, .rate = RATE, .huge_too = true },
		{ "move_pages, 100 MB/s", by_move_pages, .rate = RATE, .huge_too = true },
		{ "engine, 100 MB/s", by_engine, .batch = 16, .form = GW_FORM_PLAIN, .rate = RATE },
		{ "engine, 100 MB/s", by_engine, .batch = 64, .form = GW_FORM_PLAIN, .rate = RATE, .huge_too = true },
		{ "engine, trans., 100 MB/s", by_engine, .batch = 16, .form = GW_FORM_TRANSACTIONAL, .rate = RATE,
		  .huge_too = true },
		{ "engine, 100 MB/s, 50 us", by_engine, .stall_us = 50, .rate = RATE },
	};
	static const char *const loads[] = { "reader", "writer" };

	region_anew(b, REGION, huge);
	tables(b, quiet, sizeof(quiet) / sizeof(quiet[0]), huge, "quiet");
	tables(b, whole, sizeof(whole) / sizeof(whole[0]), huge, "quiet");
	region_anew(b, REGION_USED, huge);
	for (int l = 0; l < 2; l++) {
		tables(b, used, sizeof(used) / sizeof(used[0]), huge, loads[l]);
		tables(b, paced, sizeof(paced) / sizeof(paced[0]), huge, loads[l]);
	}
}

int main(int argc, char **argv)
{
	static struct bench b;

	csv = argc > 1 ? fopen(argv[1], "w") : NULL;
	if (!csv) {
		fprintf(stderr, "usage: vm CSV [GODWIT [4K|THP [LOAD]]]: run bench/vm.sh\n");
		return 1;
	}
	b.godwit = argc > 2 ? argv[2] : NULL;
	b.via = knows_via(b.godwit);
	begin(&b);
	printf("# %lu MiB, %d rounds, median and best; ratio: mbind's time / this time\n", REGION >> 20, ROUNDS);
	fprintf(csv, "what,pages,load,batch,rate_mb_s,ns_page,ratio_to_mbind,ns_page_best,ratio_best,left,wait_us_p50,"
		     "wait_us_p99,wait_us_p999,wait_us_max\n");
	copies(&b);
	printf("%-26s %-5s %-7s %5s %9s %6s %9s %6s | %8s %8s %9s %9s\n", "what", "pages", "load", "batch", "ns/4 KiB",
	       "ratio", "best", "ratio", "wait p50", "p99 us", "p99.9", "max");
	b.load = argc > 4 ? argv[4] : NULL;
	for (int huge = 0; huge < 2; huge++)
		if (argc < 4 || !strcmp(argv[3], huge ? "THP" : "4K"))
			kind(&b, huge);
	gw_stop(b.e);
	fclose(csv);
	return 0;
}

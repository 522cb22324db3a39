/* SPDX-License-Identifier: MIT */
/*
 * One table: what a page costs to move and how long its users wait, beside the copy that cannot be
 * avoided and the kernel's own migration. Figures are medians of interleaved rounds; ratios are taken
 * inside a round. The same rows go to build/bench.csv.
 */
#define _GNU_SOURCE 1
#include <godwit.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 7
#define REGION (256UL << 20)
#define PAGES (REGION / GW_PAGE_SIZE)

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_size);
	return v[n / 2];
}

/* ---- a user of the memory, who notes how long each access took ---- */

#define BUCKETS 4096 /* 1/64 of an octave */

struct user {
	pthread_t thread;
	volatile char *mem;
	bool writes;
	atomic_bool stop;
	uint64_t count, max;
	uint64_t bucket[BUCKETS];
};

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns | 64);

	return octave * 64 + (uint32_t)((ns << 1 >> (octave - 5)) & 63);
}

static double at_quantile(const struct user *u, double q)
{
	uint64_t need = (uint64_t)((double)u->count * q), seen = 0;

	for (uint32_t b = 0; b < BUCKETS; b++) {
		seen += u->bucket[b];
		if (seen > need)
			return (double)((64ULL + (b & 63) + 1) << (b / 64)) / 64;
	}
	return (double)u->max;
}

static void *use(void *arg)
{
	struct user *u = arg;
	uint64_t seed = 88172645463325252ULL;

	while (!u->stop) {
		double begin = now_ns();
		uint64_t ns;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		if (u->writes)
			u->mem[seed % REGION]++;
		else
			(void)u->mem[seed % REGION];
		ns = (uint64_t)(now_ns() - begin);
		u->bucket[bucket_of(ns)]++;
		u->count++;
		u->max = ns > u->max ? ns : u->max;
	}
	return NULL;
}

static struct user *user_start(char *mem, bool writes)
{
	struct user *u = calloc(1, sizeof(*u));

	u->mem = mem;
	u->writes = writes;
	pthread_create(&u->thread, NULL, use, u);
	return u;
}

static void user_stop(struct user *u)
{
	u->stop = true;
	pthread_join(u->thread, NULL);
}

/* ---- rows ---- */

static FILE *csv;

struct row {
	const char *what, *form, *load;
	int batch;
	double ns_page, ratio;			    /* ratio: the copy loop's time / this time */
	double window_p99, window_p999, window_max; /* us */
	const struct user *user;
	double seconds; /* that the user ran */
};

static void row_head(void)
{
	printf("%-26s %-13s %-7s %5s %9s %7s %6s | %8s %8s %8s | %9s %8s %8s %9s %9s\n", "what", "form", "load",
	       "batch", "ns/page", "GB/s", "ratio", "win p99", "p99.9", "max us", "user M/s", "p50 us", "p99", "p99.9",
	       "max us");
	fprintf(csv, "what,form,load,batch,ns_page,gb_s,ratio_to_copy,window_us_p99,window_us_p999,window_us_max,"
		     "user_accesses_s,user_us_p50,user_us_p99,user_us_p999,user_us_max\n");
}

static void row_user(const struct row *r)
{
	const struct user *u = r->user;

	if (!u) {
		printf("\n");
		fprintf(csv, ",,,,\n");
		return;
	}
	printf(" %9.3f %8.2f %8.2f %9.2f %9.1f\n", (double)u->count / r->seconds / 1e6, at_quantile(u, 0.5) / 1e3,
	       at_quantile(u, 0.99) / 1e3, at_quantile(u, 0.999) / 1e3, (double)u->max / 1e3);
	fprintf(csv, "%.0f,%.3f,%.3f,%.3f,%.3f\n", (double)u->count / r->seconds, at_quantile(u, 0.5) / 1e3,
		at_quantile(u, 0.99) / 1e3, at_quantile(u, 0.999) / 1e3, (double)u->max / 1e3);
}

static void row_print(const struct row *r)
{
	printf("%-26s %-13s %-7s %5d %9.1f %7.2f %6.2f |", r->what, r->form, r->load, r->batch, r->ns_page,
	       r->ns_page > 0 ? GW_PAGE_SIZE / r->ns_page : 0, r->ratio);
	printf(" %8.1f %8.1f %8.1f |", r->window_p99, r->window_p999, r->window_max);
	fprintf(csv, "%s,%s,%s,%d,%.1f,%.3f,%.3f,%.2f,%.2f,%.2f,", r->what, r->form, r->load, r->batch, r->ns_page,
		r->ns_page > 0 ? GW_PAGE_SIZE / r->ns_page : 0, r->ratio, r->window_p99, r->window_p999, r->window_max);
	row_user(r);
	fflush(stdout);
}

/* ---- the copy that cannot be avoided ---- */

/* Shared memory is none of the engine's business: the copies' destinations are. */
static char *map_region(bool huge, int sharing, int fill)
{
	char *p = mmap(NULL, REGION + GW_HUGE_SIZE, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

	p = (char *)(((uintptr_t)p + GW_HUGE_SIZE - 1) & ~(GW_HUGE_SIZE - 1));
	madvise(p, REGION, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < REGION; i += GW_PAGE_SIZE)
		memset(p + i, fill + (int)(i >> 12), GW_PAGE_SIZE);
	return p;
}

/* ns a 4 KiB page of a copy in pieces of unit bytes, from and to memory that is there. */
static double copy_loop(char *dst, const char *src, uint64_t unit)
{
	double begin = now_ns();

	for (uint64_t at = 0; at < REGION; at += unit)
		memcpy(dst + at, src + at, unit);
	return (now_ns() - begin) / PAGES;
}

/* ---- the engine ---- */

struct bench {
	struct gw_engine *e;
	char *small, *small_to, *huge, *huge_to;
	int node_small, node_huge;
};

/* Only one region at a time is under management: the others are opted out. */
static double engine_once(struct bench *b, bool huge, const struct gw_migrate_options *opt,
			  struct gw_migrate_result *res)
{
	int *node = huge ? &b->node_huge : &b->node_small;
	double begin;

	res->size = sizeof(*res);
	begin = now_ns();
	if (gw_migrate_pages(b->e, 1ULL << *node, 1ULL << !*node, opt, res))
		printf("# pages were left behind: %lu\n", (unsigned long)res->pages_failed);
	*node = !*node;
	return (now_ns() - begin) / (double)(res->pages_moved ? res->pages_moved : 1);
}

static void max_of(struct row *row, const struct gw_migrate_result *res, bool huge)
{
	double p99 = (double)(huge ? res->thp_stall_ns_p99 : res->stall_ns_p99) / 1e3;
	double p999 = (double)(huge ? res->thp_stall_ns_p999 : res->stall_ns_p999) / 1e3;
	double max = (double)(huge ? res->thp_stall_ns_max : res->stall_ns_max) / 1e3;

	row->window_p99 += p99 / ROUNDS;
	row->window_p999 += p999 / ROUNDS;
	row->window_max = max > row->window_max ? max : row->window_max;
}

static void engine_rows(struct bench *b, bool huge, int batch, enum gw_form form, const char *load)
{
	static const char *const forms[] = { "steered", "plain", "transactional" };
	struct gw_migrate_options opt = {
		.size = sizeof(opt), .form = form, .batch = (uint32_t)batch, .flags = batch ? GW_MIGRATE_NO_STEER : 0
	};
	struct row row = { .what = huge ? "engine, THP" : "engine, 4 KiB",
			   .form = forms[form],
			   .load = load,
			   .batch = huge ? 512 : batch };
	char *mem = huge ? b->huge : b->small;
	struct user *u = strcmp(load, "quiet") ? user_start(mem, !strcmp(load, "writer")) : NULL;
	double cost[ROUNDS], ratio[ROUNDS], begin = now_ns();

	for (int i = 0; i < ROUNDS; i++) {
		struct gw_migrate_result res;
		double copy = copy_loop(huge ? b->huge_to : b->small_to, mem, huge ? GW_HUGE_SIZE : GW_PAGE_SIZE);

		cost[i] = engine_once(b, huge, &opt, &res);
		ratio[i] = copy / cost[i];
		max_of(&row, &res, huge);
	}
	row.seconds = (now_ns() - begin) / 1e9;
	if (u)
		user_stop(u);
	row.user = u;
	row.ns_page = median(cost, ROUNDS);
	row.ratio = median(ratio, ROUNDS);
	row_print(&row);
	free(u);
}

static void copy_rows(struct bench *b)
{
	double small[ROUNDS], huge[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		small[i] = copy_loop(b->small_to, b->small, GW_PAGE_SIZE);
		huge[i] = copy_loop(b->huge_to, b->huge, GW_HUGE_SIZE);
	}
	row_print(&(struct row){ .what = "memcpy, 4 KiB loop",
				 .form = "-",
				 .load = "quiet",
				 .batch = 1,
				 .ns_page = median(small, ROUNDS),
				 .ratio = 1 });
	row_print(&(struct row){ .what = "memcpy, 2 MiB",
				 .form = "-",
				 .load = "quiet",
				 .batch = 512,
				 .ns_page = median(huge, ROUNDS),
				 .ratio = 1 });
}

#define CONTROL_WINDOWS 10000

/* A window's work without the window: how often the machine itself takes the CPU away for that long. */
static void control_window(struct bench *b)
{
	static double took[CONTROL_WINDOWS];
	const uint64_t bytes = 64 * GW_PAGE_SIZE;
	uint64_t at = 0;

	for (int i = 0; i < CONTROL_WINDOWS; i++, at = (at + bytes) % REGION) {
		double begin = now_ns();

		for (uint64_t page = 0; page < bytes; page += GW_PAGE_SIZE)
			memcpy(b->small_to + at + page, b->small + at + page, GW_PAGE_SIZE);
		took[i] = (now_ns() - begin) / 1e3;
	}
	row_print(&(struct row){ .what = "no migration, 64 copies",
				 .form = "-",
				 .load = "quiet",
				 .batch = 64,
				 .ns_page = median(took, CONTROL_WINDOWS) * 1e3 / 64,
				 .window_p99 = took[CONTROL_WINDOWS * 99 / 100],
				 .window_p999 = took[CONTROL_WINDOWS * 999 / 1000],
				 .window_max = took[CONTROL_WINDOWS - 1] });
}

/* The users without any migration, for as long: what the machine itself does to them. */
static void control_rows(struct bench *b)
{
	for (int writes = 0; writes < 2; writes++) {
		struct user *u = user_start(b->small, writes);
		double begin = now_ns();

		usleep(500000);
		user_stop(u);
		row_print(&(struct row){ .what = "no migration",
					 .form = "-",
					 .load = writes ? "writer" : "reader",
					 .user = u,
					 .seconds = (now_ns() - begin) / 1e9 });
		free(u);
	}
}

/* One kind of memory under management at a time, so that a migration moves just that. */
static void only(struct bench *b, bool huge)
{
	gw_include(b->e, huge ? b->huge : b->small, REGION);
	gw_exclude(b->e, huge ? b->small : b->huge, REGION);
}

static void engine_table(struct bench *b)
{
	static const char *const loads[] = { "quiet", "reader", "writer" };
	static const int batches[] = { 1, 16, 64, 512 };

	only(b, false);
	for (size_t l = 0; l < 3; l++) {
		for (int form = GW_FORM_PLAIN; form <= GW_FORM_TRANSACTIONAL; form++)
			for (size_t i = 0; i < 4; i++)
				engine_rows(b, false, batches[i], (enum gw_form)form, loads[l]);
		engine_rows(b, false, 0, GW_FORM_AUTO, loads[l]);
	}
	only(b, true);
	for (size_t l = 0; l < 3; l++)
		for (int form = GW_FORM_PLAIN; form <= GW_FORM_TRANSACTIONAL; form++)
			engine_rows(b, true, 1, (enum gw_form)form, loads[l]);
	gw_include(b->e, b->small, REGION);
}

/* ---- fork ---- */

static double fork_once(void)
{
	double begin = now_ns(), took;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	took = now_ns() - begin;
	waitpid(pid, NULL, 0);
	return took / 1e3;
}

/* The same gigabyte before the engine has started, and when all of it is in the books. */
static void fork_rows(struct gw_engine **e, char *gigabyte)
{
	double without[ROUNDS], with[ROUNDS];
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_RAM, .host = -1 };
	struct gw_migrate_result res = { .size = sizeof(res) };

	for (int i = 0; i < ROUNDS; i++)
		without[i] = fork_once();
	if (gw_start(e, &opt)) {
		fprintf(stderr, "bench: the engine cannot start: see 'godwit check'\n");
		exit(1);
	}
	gw_node_add(*e, &node);
	gw_node_add(*e, &node);
	gw_migrate_pages(*e, 1, 2, NULL, &res);
	gw_migrate_pages(*e, 2, 1, NULL, &res);
	for (int i = 0; i < ROUNDS; i++)
		with[i] = fork_once();
	printf("# fork() with 1 GiB: %.0f us without the engine, %.0f us with every page in its books (%+.1f %%)\n",
	       median(without, ROUNDS), median(with, ROUNDS),
	       100 * (median(with, ROUNDS) / median(without, ROUNDS) - 1));
	fprintf(csv, "fork_us_without,,,,%.1f,,,,,,,,,,\nfork_us_with,,,,%.1f,,,,,,,,,,\n", median(without, ROUNDS),
		median(with, ROUNDS));
	munmap(gigabyte, 1UL << 30);
}

/* ---- the kernel's own migration, on one node: taking a block of memory offline moves what is in it ---- */

static long read_number(const char *path, const char *key)
{
	char line[256];
	long v = -1;
	FILE *f = fopen(path, "r");

	while (f && v < 0 && fgets(line, sizeof(line), f))
		if (!*key)
			v = strtol(line, NULL, 16);
		else if (!strncmp(line, key, strlen(key)))
			v = strtol(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return v;
}

static bool block_set(long block, const char *state)
{
	char path[96];
	int fd;
	bool ok;

	snprintf(path, sizeof(path), "/sys/devices/system/memory/memory%ld/state", block);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, state, strlen(state)) > 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* The memory that the kernel moves belongs to another process, so that the engine has nothing to do with it. */
struct holder {
	pid_t pid;
	const char *mem;
	uint64_t bytes;
};

#define HOLDS (2UL << 30)

static int hold(void)
{
	char *mem = mmap(NULL, 2 * HOLDS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(mem, 2 * HOLDS, MADV_NOHUGEPAGE);
	/* free memory that was touched once: a frame's first touch is the hypervisor's, not the kernel's */
	memset(mem, 1, 2 * HOLDS);
	munmap(mem + HOLDS, HOLDS);
	if (write(STDOUT_FILENO, &mem, sizeof(mem)) == sizeof(mem))
		pause();
	return 0;
}

static struct holder holder_start(void)
{
	struct holder h = { .bytes = HOLDS };
	int fds[2];

	if (pipe(fds))
		return h;
	h.pid = fork();
	if (!h.pid) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		execl("/proc/self/exe", "bench", "--hold", NULL);
		_exit(1);
	}
	close(fds[1]);
	if (read(fds[0], &h.mem, sizeof(h.mem)) != sizeof(h.mem))
		h.bytes = 0;
	close(fds[0]);
	return h;
}

static void holder_end(struct holder *h)
{
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
}

/* Its pages in each block of physical memory. */
static void count_blocks(const struct holder *h, uint64_t block_pages, uint32_t *count, uint32_t nr)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", h->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (uint64_t at = 0; fd >= 0 && at < h->bytes; at += GW_PAGE_SIZE) {
		uint64_t entry = 0;

		if (pread(fd, &entry, 8, (off_t)(((uintptr_t)h->mem + at) / GW_PAGE_SIZE * 8)) != 8)
			break;
		entry = (entry & ((1ULL << 55) - 1)) / block_pages;
		if (entry < nr)
			count[entry]++;
	}
	if (fd >= 0)
		close(fd);
}

#define BLOCKS 4096U

static uint32_t fullest(const uint32_t *count)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < BLOCKS; i++)
		best = count[i] > count[best] ? i : best;
	return best;
}

/* ns a page, or 0 when no block that holds many of ours can go. */
static double kernel_once(const struct holder *h, uint64_t block_pages, uint32_t *count)
{
	uint32_t best;

	memset(count, 0, BLOCKS * sizeof(*count));
	count_blocks(h, block_pages, count, BLOCKS);
	while (count[best = fullest(count)] >= block_pages / 2) {
		long before = read_number("/proc/vmstat", "pgmigrate_success "), moved;
		double begin = now_ns(), took;

		count[best] = 0;
		if (!block_set(best, "offline"))
			continue;
		took = now_ns() - begin;
		moved = read_number("/proc/vmstat", "pgmigrate_success ") - before;
		block_set(best, "online");
		if (moved > 4096)
			return took / (double)moved;
	}
	return 0;
}

/* A 4 KiB page by the engine at batch 64, in the same round as the kernel's. */
static double engine_reference(struct bench *b)
{
	struct gw_migrate_options opt = {
		.size = sizeof(opt), .batch = 64, .flags = GW_MIGRATE_NO_STEER, .form = GW_FORM_PLAIN
	};
	struct gw_migrate_result res;

	return engine_once(b, false, &opt, &res);
}

static void kernel_rows(struct bench *b, const struct holder *holder)
{
	long block = read_number("/sys/devices/system/memory/block_size_bytes", "");
	double cost[ROUNDS], ratio[ROUNDS];
	uint32_t *count;
	int n = 0;

	if (geteuid() || block <= 0) {
		printf("# the kernel's own migration: needs root and memory blocks that can go offline\n");
		return;
	}
	only(b, false);
	engine_reference(b); /* the fork that made the holder has left pages shared */
	count = calloc(BLOCKS, sizeof(*count));
	for (int i = 0; i < ROUNDS; i++) {
		double engine = engine_reference(b);
		double kernel = kernel_once(holder, (uint64_t)block / GW_PAGE_SIZE, count);

		if (kernel <= 0)
			continue;
		cost[n] = kernel;
		ratio[n++] = kernel / engine;
	}
	free(count);
	if (!n) {
		printf("# the kernel's own migration: no block of memory could be taken offline\n");
		return;
	}
	row_print(&(struct row){
		.what = "kernel, memory offline", .form = "-", .load = "quiet", .ns_page = median(cost, n) });
	printf("# the kernel takes %.1f times as long for a 4 KiB page as the engine at batch 64 (%d rounds)\n",
	       median(ratio, n), n);
}

int main(int argc, char **argv)
{
	struct bench b = { 0 };
	struct holder holder;
	char *gigabyte;

	if (argc > 1 && !strcmp(argv[1], "--hold"))
		return hold();
	csv = fopen(argc > 1 ? argv[1] : "build/bench.csv", "w");
	if (!csv) {
		fprintf(stderr, "bench: build/bench.csv: %s: run it from the top of the tree\n", strerror(errno));
		return 1;
	}
	gigabyte = mmap(NULL, 1UL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	printf("# %d rounds, medians; ratio: the bare copy's time / this time, in the same round\n", ROUNDS);
	row_head();
	fork_rows(&b.e, gigabyte);
	b.small = map_region(false, MAP_PRIVATE, 1);
	b.small_to = map_region(false, MAP_SHARED, 2);
	b.huge = map_region(true, MAP_PRIVATE, 3);
	b.huge_to = map_region(true, MAP_PRIVATE, 4);
	gw_exclude(b.e, b.huge_to, REGION);
	gw_exclude(b.e, b.small, REGION);
	copy_rows(&b);
	control_window(&b);
	control_rows(&b);
	engine_table(&b);
	holder = holder_start();
	kernel_rows(&b, &holder);
	holder_end(&holder);
	gw_stop(b.e);
	fclose(csv);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What it costs to keep a page far away (src/far), beside the bare compressor on the same pages, and plain O_DIRECT
 * reads and writes of the same size. Medians of interleaved rounds.
 *
 *   far [DIRECTORY]    where the file is made; /var/tmp unless it is given
 */
#define _GNU_SOURCE 1
#include "far/codec.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 7
#define PAGES 8192U		/* 32 MiB */
#define REGION_LEN (256UL << 20)

struct bench {
	struct region region;
	char *src, *dst, *packed;	/* PAGES each; packed: what the bare compressor makes of them */
	uint32_t len[PAGES];
	uint32_t home[PAGES];
	uint32_t order[PAGES];		/* for reads one by one */
	char *state;
	const char *dir;
};

enum { BARE_PACK, PUT_NEW, PUT_TURN, BARE_UNPACK, GET, NR_ZRAM };
enum { BARE_WRITE, FILE_PUT, BARE_READ, FILE_GET, BARE_READ_1, FILE_GET_1, NR_FILE };
#define NR_MAX 6

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_size);
	return v[ROUNDS / 2];
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Random in the first bytes of each page, zeroes in the rest; text: words. */
static void fill(struct bench *b, uint32_t random_bytes, bool text)
{
	static const char *const word[] = {
		"page ", "the ", "of ", "memory ", "migrates ", "node ", "far ", "kernel\n"
	};
	uint64_t seed = 88172645463325252ULL;

	memset(b->src, 0, (uint64_t)PAGES * FAR_PAGE);
	for (uint32_t i = 0; i < PAGES; i++) {
		char *page = b->src + (uint64_t)i * FAR_PAGE;

		for (uint32_t at = 0; !text && at < random_bytes; at += 8) {
			uint64_t v = next(&seed);

			memcpy(page + at, &v, 8);
		}
		for (uint32_t at = 0; text && at < FAR_PAGE - 16;) {
			uint64_t v = next(&seed);

			at += (uint32_t)(v & 64 ? sprintf(page + at, "%lu ", (unsigned long)(v >> 40 & 0xffff)) :
						  sprintf(page + at, "%s", word[v & 7]));
		}
	}
}

/* ---- in memory ---- */

static void bare_pack(struct bench *b, enum far_alg alg)
{
	for (uint32_t i = 0; i < PAGES; i++)
		b->len[i] = codec_pack(alg, b->state, b->src + (uint64_t)i * FAR_PAGE,
				       b->packed + (uint64_t)i * FAR_PAGE);
}

static void bare_unpack(struct bench *b, enum far_alg alg)
{
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t nr = b->order[i];

		if (b->len[nr])
			BUG_ON(!codec_unpack(alg, b->state, b->packed + (uint64_t)nr * FAR_PAGE, b->len[nr], b->dst));
		else
			memcpy(b->dst, b->src + (uint64_t)nr * FAR_PAGE, FAR_PAGE);
	}
}

static void put_all(struct bench *b, struct far *f)
{
	int err;

	for (uint32_t i = 0; i < PAGES; i += FAR_BATCH)
		BUG_ON(far_put(f, b->src + (uint64_t)i * FAR_PAGE, FAR_BATCH, b->home + i, &err) != FAR_BATCH);
}

static void get_all(struct bench *b, struct far *f)
{
	for (uint32_t i = 0; i < PAGES; i++)
		BUG_ON(far_get(f, b->home[b->order[i]], b->dst));
}

static void drop_all(struct bench *b, struct far *f)
{
	for (uint32_t i = 0; i < PAGES; i += FAR_BATCH)
		far_drop(f, b->home + i, FAR_BATCH);
}

/* As pages come and go: into the room that others have left. Nanoseconds of the puts. */
static uint64_t put_in_turn(struct bench *b, struct far *f)
{
	uint64_t ns = 0, begin;
	int err;

	for (uint32_t i = 0; i < PAGES; i += FAR_BATCH) {
		far_drop(f, b->home + i, FAR_BATCH);
		begin = clock_ns();
		BUG_ON(far_put(f, b->src + (uint64_t)i * FAR_PAGE, FAR_BATCH, b->home + i, &err) != FAR_BATCH);
		ns += clock_ns() - begin;
	}
	return ns;
}

static double zram_once(struct bench *b, struct far *f, enum far_alg alg, int what)
{
	uint64_t begin = clock_ns();

	switch (what) {
	case BARE_PACK:
		bare_pack(b, alg);
		break;
	case PUT_NEW:
		put_all(b, f);
		break;
	case PUT_TURN:
		return (double)put_in_turn(b, f) / PAGES;
	case BARE_UNPACK:
		bare_unpack(b, alg);
		break;
	default:
		get_all(b, f);
		break;
	}
	return (double)(clock_ns() - begin) / PAGES;
}

static void row(const char *what, double *ns, double *ratio)
{
	double middle = median(ns);

	printf("%-34s %9.0f %9.0f %8.2f", what, middle, ns[0], FAR_PAGE / middle);
	if (ratio)
		printf(" %7.2f", median(ratio));
	printf("\n");
	fflush(stdout);
}

struct line {
	const char *what;
	int bare;		/* the line that it is compared with; itself: none */
};

static void table(const struct line *line, double (*ns)[ROUNDS], int nr)
{
	double ratio[NR_MAX][ROUNDS];

	for (int i = 0; i < nr; i++)
		for (int r = 0; r < ROUNDS; r++)
			ratio[i][r] = ns[line[i].bare][r] / ns[i][r];
	for (int i = 0; i < nr; i++)
		row(line[i].what, ns[i], line[i].bare == i ? NULL : ratio[i]);
}

static void zram_bench(struct bench *b, enum far_alg alg, const char *content)
{
	static const char *const name[FAR_ALGS] = { "lz4", "zstd" };
	static const struct line lines[NR_ZRAM] = {
		{ "  pack, bare", BARE_PACK },	   { "  far_put, the pool grows", BARE_PACK },
		{ "  far_put, others go", BARE_PACK }, { "  unpack, bare", BARE_UNPACK },
		{ "  far_get", BARE_UNPACK },
	};
	struct far_spec spec = { .kind = FAR_ZRAM, .alg = alg };
	double ns[NR_MAX][ROUNDS];
	struct far_stats st = { 0 };
	struct far *f;

	BUG_ON(far_open(&f, &b->region, &spec) || codec_state_init(alg, b->state));
	for (int round = -1; round < ROUNDS; round++) {
		for (int i = 0; i < NR_ZRAM; i++)
			ns[i][round < 0 ? 0 : round] = zram_once(b, f, alg, i);
		far_stats(f, &st);
		drop_all(b, f);
	}
	far_close(f);
	printf("%s, %s: %.2f of its size, %.2f with holes and books\n", name[alg], content,
	       (double)st.data_bytes / PAGES / FAR_PAGE, (double)st.used_bytes / PAGES / FAR_PAGE);
	table(lines, ns, NR_ZRAM);
}

/* ---- in a file ---- */

static void plain(struct bench *b, int fd, bool write, uint32_t batch)
{
	uint64_t len = (uint64_t)batch * FAR_PAGE;

	for (uint32_t i = 0; i < PAGES; i += batch) {
		uint64_t at = (uint64_t)(batch == 1 ? b->order[i] : i) * FAR_PAGE;

		BUG_ON((write ? pwrite(fd, b->src + at, len, (off_t)at) : pread(fd, b->dst, len, (off_t)at)) !=
		       (ssize_t)len);
	}
}

static void get_batches(struct bench *b, struct far *f)
{
	int err[FAR_BATCH];

	for (uint32_t i = 0; i < PAGES; i += FAR_BATCH) {
		far_get_many(f, b->home + i, FAR_BATCH, b->dst, err);
		for (uint32_t j = 0; j < FAR_BATCH; j++)
			BUG_ON(err[j]);
	}
}

static double file_once(struct bench *b, struct far *f, int fd, int what)
{
	uint64_t begin = clock_ns();

	switch (what) {
	case BARE_WRITE:
	case BARE_READ:
	case BARE_READ_1:
		plain(b, fd, what == BARE_WRITE, what == BARE_READ_1 ? 1 : FAR_BATCH);
		break;
	case FILE_PUT:
		put_all(b, f);
		break;
	case FILE_GET:
		get_batches(b, f);
		break;
	default:
		get_all(b, f);
		break;
	}
	return (double)(clock_ns() - begin) / PAGES;
}

static void file_bench(struct bench *b)
{
	static const struct line lines[NR_FILE] = {
		{ "  pwrite, 64 pages", BARE_WRITE },	     { "  far_put, 64 pages", BARE_WRITE },
		{ "  pread, 64 pages", BARE_READ },	     { "  far_get_many, 64 pages", BARE_READ },
		{ "  pread, a page anywhere", BARE_READ_1 }, { "  far_get, a page anywhere", BARE_READ_1 },
	};
	struct far_spec spec = { .kind = FAR_FILE };
	double ns[NR_MAX][ROUNDS];
	struct far_stats st = { 0 };
	int fd = open(b->dir, O_TMPFILE | O_RDWR | O_DIRECT, 0600);
	struct far *f;

	snprintf(spec.path, sizeof(spec.path), "%s", b->dir);
	if (fd < 0 || fallocate(fd, 0, 0, (off_t)PAGES * FAR_PAGE) || far_open(&f, &b->region, &spec)) {
		printf("# no file with O_DIRECT in %s\n", b->dir);
		return;
	}
	/* the first round is not counted: blocks are written for the first time in it */
	for (int round = -1; round < ROUNDS; round++) {
		for (int i = 0; i < NR_FILE; i++)
			ns[i][round < 0 ? 0 : round] = file_once(b, f, fd, i);
		far_stats(f, &st);
		drop_all(b, f);
	}
	far_close(f);
	close(fd);
	printf("file in %s, %s\n", b->dir, st.buffered ? "buffered" : "O_DIRECT");
	table(lines, ns, NR_FILE);
}

int main(int argc, char **argv)
{
	static struct bench b;
	uint64_t seed = 7, len = (uint64_t)PAGES * FAR_PAGE;

	b.dir = argc > 1 ? argv[1] : "/var/tmp";
	BUG_ON(region_reserve(&b.region, REGION_LEN, REGION_LEN));
	b.src = mmap(NULL, 3 * len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	b.state = aligned_alloc(FAR_PAGE, ALIGN_UP(codec_state_size(FAR_ZSTD), FAR_PAGE));
	BUG_ON(b.src == MAP_FAILED || !b.state);
	b.dst = b.src + len;
	b.packed = b.dst + len;
	memset(b.state, 0, codec_state_size(FAR_ZSTD));
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t j = (uint32_t)(next(&seed) % (i + 1));

		b.order[i] = b.order[j];
		b.order[j] = i;
	}
	printf("# %d rounds of %u pages, median and best; ratio: speed of the bare one, in the same round, median\n",
	       ROUNDS, PAGES);
	printf("%-34s %9s %9s %8s %7s\n", "", "ns/page", "best", "GB/s", "ratio");
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		fill(&b, FAR_PAGE / 2, false);
		zram_bench(&b, (enum far_alg)alg, "half random, half zeroes");
		fill(&b, 0, true);
		zram_bench(&b, (enum far_alg)alg, "text");
	}
	fill(&b, FAR_PAGE, false);
	zram_bench(&b, FAR_LZ4, "random");
	file_bench(&b);
	return 0;
}

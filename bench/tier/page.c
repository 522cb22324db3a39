/* SPDX-License-Identifier: MIT */
/* Single pages: how long the touch of one that is far takes, how fast memory goes far, and a compressor on its own. */
#define _GNU_SOURCE 1
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#define PRESENT (1ULL << 63)

/* How many pages this process does not map now. */
static uint64_t count_absent(const uint64_t *mem, uint64_t nr)
{
	uint64_t entry[PAGE_WORDS], absent = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	for (uint64_t i = 0; i < nr; i += PAGE_WORDS) {
		uint64_t some = nr - i < PAGE_WORDS ? nr - i : PAGE_WORDS;

		if (pread(fd, entry, some * 8, (off_t)(((uint64_t)mem / PAGE + i) * 8)) != (ssize_t)(some * 8)) {
			fprintf(stderr, "tier: cannot read /proc/self/pagemap: %s\n", strerror(errno));
			exit(1);
		}
		for (uint64_t j = 0; j < some; j++)
			absent += !(entry[j] & PRESENT);
	}
	close(fd);
	return absent;
}

/* How many of them the kernel still has in memory: in its swap cache. */
static uint64_t count_cached(uint64_t *mem, uint64_t nr)
{
	unsigned char in[PAGE];
	uint64_t cached = 0;

	for (uint64_t i = 0; i < nr; i += sizeof(in)) {
		uint64_t some = nr - i < sizeof(in) ? nr - i : sizeof(in);

		if (mincore(mem + i * PAGE_WORDS, some * PAGE, in)) {
			fprintf(stderr, "tier: mincore: %s\n", strerror(errno));
			exit(1);
		}
		for (uint64_t j = 0; j < some; j++)
			cached += in[j] & 1;
	}
	return cached;
}

static uint64_t *filled(const struct options *o)
{
	uint64_t *mem = map_memory(o->bytes);

	for (uint64_t i = 0; i < o->bytes / PAGE; i++)
		fill_page(mem + i * PAGE_WORDS, i, o->random);
	return mem;
}

/* What the whole machine has under way to disks, in KiB. */
static uint64_t writeback(void)
{
	char line[128];
	unsigned long kib = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Writeback: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* madvise() returns when the last write was begun: wait for its end, 10 s at most, since others write too. */
static void page_out(uint64_t *mem, uint64_t bytes)
{
	uint64_t before = writeback(), begin = now_ns();

	if (madvise(mem, bytes, MADV_PAGEOUT))
		fprintf(stderr, "tier: MADV_PAGEOUT: %s\n", strerror(errno));
	while (writeback() > before + 1024 && now_ns() - begin < 10000000000ULL)
		usleep(1000);
}

/*
 * With --pageout the kernel swaps out first. Then whoever reads "ready" has the pages, or what is left of them, moved,
 * and answers. Returns the seconds that the kernel took.
 */
static double go_far(const struct options *o, uint64_t *mem)
{
	uint64_t begin = now_ns(), end;
	char c;

	if (o->pageout)
		page_out(mem, o->bytes);
	end = now_ns();
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	if (read(STDIN_FILENO, &c, 1) != 1)
		fprintf(stderr, "tier: nobody answered on stdin\n");
	return (double)(end - begin) / 1e9;
}

static void touch_all(const uint64_t *mem, uint64_t nr, const struct options *o, struct hist *h)
{
	struct scramble s;

	scramble_init(&s, nr, o->seed);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t which = scrambled(&s, i), begin = tick(), got;

		got = *(const volatile uint64_t *)(mem + which * PAGE_WORDS);
		hist_add(h, tick() - begin);
		if (got != which)
			wrong("fault", "page", which);
	}
}

/* Each page is touched once, in random order, one at a time; then once more, to show what a touch without a fault takes. */
int run_fault(const struct options *o)
{
	uint64_t *mem = filled(o), nr = o->bytes / PAGE, absent, cached;
	struct hist *h = calloc(2, sizeof(*h));
	struct rusage before, after;
	double ticks_ns = measure_tick();

	if (!h)
		return 1;
	go_far(o, mem);
	absent = count_absent(mem, nr);
	cached = count_cached(mem, nr);
	getrusage(RUSAGE_SELF, &before);
	touch_all(mem, nr, o, &h[0]);
	getrusage(RUSAGE_SELF, &after);
	touch_all(mem, nr, o, &h[1]);
	for (uint64_t i = 0; i < nr; i++)
		if (!page_is_right(mem + i * PAGE_WORDS, i))
			wrong("fault", "page", i);
	printf("touches=%lu absent=%lu cached=%lu majflt=%ld minflt=%ld present_p50_us=%.3f", (unsigned long)nr,
	       (unsigned long)absent, (unsigned long)cached, after.ru_majflt - before.ru_majflt,
	       after.ru_minflt - before.ru_minflt, hist_at(&h[1], 0.5) / ticks_ns / 1e3);
	report_times(&h[0], ticks_ns);
	printf("\n");
	free(h);
	return 0;
}

/* Memory that goes far as a whole, comes back as it is read, and is right. */
int run_hold(const struct options *o)
{
	uint64_t *mem = filled(o), nr = o->bytes / PAGE, absent, begin;
	double seconds = go_far(o, mem);

	absent = count_absent(mem, nr);
	begin = now_ns();
	for (uint64_t i = 0; i < nr; i++)
		if (!page_is_right(mem + i * PAGE_WORDS, i))
			wrong("hold", "page", i);
	printf("pages=%lu absent=%lu", (unsigned long)nr, (unsigned long)absent);
	if (o->pageout)
		printf(" mb_per_s=%.0f", (double)absent * PAGE / 1e6 / seconds);
	printf(" back_mb_per_s=%.0f\n", (double)o->bytes / 1e6 / ((double)(now_ns() - begin) / 1e9));
	return 0;
}

/* Page after page of the same content through LZ4 with one thread, and back. */
int run_lz4(const struct options *o)
{
	uint64_t *mem = filled(o), nr = o->bytes / PAGE, begin, packed = 0;
	uint32_t bound = (uint32_t)LZ4_compressBound(PAGE), *len = map_memory(nr * sizeof(*len));
	char *pool = map_memory(nr * PAGE + bound), page[PAGE];
	double out, in;

	memset(pool, 1, nr * PAGE);
	begin = now_ns();
	for (uint64_t i = 0; i < nr; i++) {
		int got = LZ4_compress_default((char *)(mem + i * PAGE_WORDS), pool + packed, PAGE, (int)bound);

		len[i] = got > 0 && got < (int)PAGE ? (uint32_t)got : PAGE;
		if (len[i] == PAGE)
			memcpy(pool + packed, mem + i * PAGE_WORDS, PAGE);
		packed += len[i];
	}
	out = (double)(now_ns() - begin) / 1e9;
	begin = now_ns();
	for (uint64_t i = 0, at = 0; i < nr; at += len[i], i++)
		if (len[i] < PAGE && LZ4_decompress_safe(pool + at, page, (int)len[i], PAGE) != PAGE)
			wrong("lz4", "page", i);
	in = (double)(now_ns() - begin) / 1e9;
	printf("pages=%lu ratio=%.2f mb_per_s=%.0f back_mb_per_s=%.0f ns_page=%.0f back_ns_page=%.0f\n",
	       (unsigned long)nr, (double)o->bytes / (double)packed, (double)o->bytes / 1e6 / out,
	       (double)o->bytes / 1e6 / in, out * 1e9 / (double)nr, in * 1e9 / (double)nr);
	return 0;
}

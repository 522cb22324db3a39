/* SPDX-License-Identifier: MIT */
/* The clock, the histogram, the phases of a run, and memory with known content. */
#define _GNU_SOURCE 1
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- time ---- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

double measure_tick(void)
{
	uint64_t begin_ns = now_ns(), begin = tick();

	while (now_ns() - begin_ns < 20000000)
		;
	return (double)(tick() - begin) / (double)(now_ns() - begin_ns);
}

/* Exact below 64 ticks, then 64 steps an octave: 1.6 %. */
void hist_add(struct hist *h, uint64_t ticks)
{
	uint32_t octave = 63 - (uint32_t)__builtin_clzll(ticks | HIST_STEPS);

	h->bucket[(octave - 5) * HIST_STEPS + (uint32_t)((ticks >> (octave - 6)) & (HIST_STEPS - 1)) -
		  (ticks < HIST_STEPS ? HIST_STEPS : 0)]++;
	h->count++;
	if (ticks > h->max)
		h->max = ticks;
}

double hist_at(const struct hist *h, double quantile)
{
	uint64_t need = (uint64_t)((double)h->count * quantile), seen = 0;

	for (uint32_t b = 0; b < ARRAY_LEN(h->bucket); b++) {
		seen += h->bucket[b];
		if (seen > need)
			return b < HIST_STEPS
				       ? (double)b
				       : (double)((HIST_STEPS + (b & (HIST_STEPS - 1)) + 1) << (b / HIST_STEPS - 1));
	}
	return (double)h->max;
}

/* ---- phases ---- */

static void tell(const struct meter *m, char what)
{
	if (m->tell >= 0 && write(m->tell, &what, 1) != 1)
		fprintf(stderr, "tier: cannot write to %s: %s\n", m->o->tell, strerror(errno));
}

struct meter *meter_new(const struct options *o)
{
	struct meter *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->o = o;
	m->tell = o->tell ? open(o->tell, O_WRONLY | O_CLOEXEC) : -1;
	if (o->tell && m->tell < 0)
		fprintf(stderr, "tier: cannot open %s: %s\n", o->tell, strerror(errno));
	m->ticks_ns = measure_tick();
	m->until = tick() + (uint64_t)(o->warm * 1e9 * m->ticks_ns);
	return m;
}

void meter_turn(struct meter *m)
{
	if (m->phase == WARM) {
		m->phase = MEASURE;
		memset(&m->hist, 0, sizeof(m->hist));
		tell(m, 'b');
		m->begin_ns = now_ns();
		m->begin_tick = tick();
		m->until = m->begin_tick + (uint64_t)(m->o->seconds * 1e9 * m->ticks_ns);
	} else {
		m->phase = DONE;
		m->end_tick = tick();
		m->end_ns = now_ns();
		tell(m, 'e');
	}
}

void report_times(const struct hist *h, double ticks_ns)
{
	printf(" p50_us=%.3f p99_us=%.3f p999_us=%.3f max_us=%.1f", hist_at(h, 0.5) / ticks_ns / 1e3,
	       hist_at(h, 0.99) / ticks_ns / 1e3, hist_at(h, 0.999) / ticks_ns / 1e3, (double)h->max / ticks_ns / 1e3);
}

void meter_report(const struct meter *m)
{
	double ns = (double)(m->end_ns - m->begin_ns);

	printf("ops=%lu ops_per_s=%.0f", (unsigned long)m->hist.count, (double)m->hist.count / ns * 1e9);
	report_times(&m->hist, (double)(m->end_tick - m->begin_tick) / ns);
	printf("\n");
}

/* ---- memory ---- */

void scramble_init(struct scramble *s, uint64_t n, uint64_t seed)
{
	s->n = n;
	s->seed = seed | 1;
	s->mask = n > 1 ? ~0ULL >> __builtin_clzll(n - 1) : 0;
	s->shift = (uint32_t)__builtin_popcountll(s->mask) / 2 + 1;
}

/* Steps that can each be undone on that many bits; numbers beyond n go round again. */
uint64_t scrambled(const struct scramble *s, uint64_t i)
{
	do {
		for (int round = 0; round < 3; round++) {
			i = (i * (s->seed * 0x9e3779b97f4a7c15ULL | 1) + 0x632be59bd9b4e019ULL) & s->mask;
			i ^= i >> s->shift;
		}
	} while (i >= s->n);
	return i;
}

void *map_memory(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "tier: no %lu MiB of memory: %s\n", (unsigned long)(bytes / MIB), strerror(errno));
		exit(1);
	}
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static uint64_t nr_random(uint64_t nr, uint32_t random)
{
	return nr * random / 100;
}

void fill_words(uint64_t *words, uint64_t nr, uint64_t seed, uint32_t random)
{
	uint64_t some = nr_random(nr, random);

	for (uint64_t i = 0; i < some; i++)
		words[i] = mix(seed + i * 0x9e3779b97f4a7c15ULL);
	memset(words + some, 0, (nr - some) * 8);
}

bool same_words(const uint64_t *words, uint64_t nr, uint64_t seed, uint32_t random)
{
	uint64_t some = nr_random(nr, random), differ = 0;

	for (uint64_t i = 0; i < some; i++)
		differ |= words[i] ^ mix(seed + i * 0x9e3779b97f4a7c15ULL);
	for (uint64_t i = some; i < nr; i++)
		differ |= words[i];
	return !differ;
}

static uint64_t page_sum(const uint64_t *page)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < PAGE_WORDS - 1; i++)
		sum = sum + page[i] * (i | 1);
	return sum;
}

void fill_page(uint64_t *page, uint64_t number, uint32_t random)
{
	fill_words(page + 1, PAGE_WORDS - 2, mix(number), random);
	page[0] = number;
	page[PAGE_WORDS - 1] = page_sum(page);
}

bool page_is_right(const uint64_t *page, uint64_t number)
{
	return page[0] == number && page[PAGE_WORDS - 1] == page_sum(page);
}

void wrong(const char *load, const char *what, uint64_t which)
{
	fprintf(stderr, "tier: %s: WRONG BYTES: %s %lu\n", load, what, (unsigned long)which);
	exit(1);
}

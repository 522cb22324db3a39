/* SPDX-License-Identifier: MIT */
/*
 * load - what the loads of bench/tier.c share: a clock, a histogram of single operations, the phases of a run, and
 * pages whose content follows from their number. Nothing here knows of godwit: the same binary runs under the
 * kernel's swap.
 *
 * A run is: load (fill the memory), warm (run, unmeasured), measure. Where the last one begins and ends is told to
 * whoever samples memory and processor time: a byte 'b', a byte 'e' into the FIFO of --tell.
 */
#ifndef TIER_LOAD_H
#define TIER_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <x86intrin.h>

#define PAGE 4096UL
#define PAGE_WORDS (PAGE / 8)
#define MIB (1UL << 20)
#define ARRAY_LEN(a) (sizeof(a) / sizeof(*(a)))

#define HIST_STEPS 64U	/* of an octave */

struct hist {
	uint64_t count, max;
	uint64_t bucket[64 * HIST_STEPS];
};

/* What the command line said. */
struct options {
	uint64_t bytes;		/* of memory that the load works on, about */
	double seconds, warm;
	double timeout;		/* watch: of the command */
	double theta;		/* of the zipfian distribution */
	uint32_t writes;	/* % */
	uint32_t random;	/* % of a page or value that does not compress */
	uint32_t value;		/* bytes */
	uint64_t seed;
	const char *tell;	/* a FIFO, or NULL */
	const char *socket;	/* redis */
	const char *usage, *procs, *pool;	/* watch: the cgroup's memory and members, zram's mm_stat; or NULL */
	bool pageout;		/* fault, hold: the kernel is asked to swap out; else somebody else is waited for */
	char **rest;		/* behind the options */
};

enum phase { WARM, MEASURE, DONE };

struct meter {
	const struct options *o;
	enum phase phase;
	int tell;
	uint64_t until;		/* ticks */
	uint64_t begin_tick, begin_ns, end_tick, end_ns;
	double ticks_ns;	/* ticks in a ns */
	struct hist hist;	/* ticks of single operations, while measuring */
};

/* ---- meter.c ---- */

static inline uint64_t tick(void)
{
	uint64_t t;

	_mm_lfence();
	t = __rdtsc();
	_mm_lfence();
	return t;
}

uint64_t now_ns(void);
double measure_tick(void);	/* ticks in a ns; takes 20 ms */
void hist_add(struct hist *h, uint64_t ticks);
double hist_at(const struct hist *h, double quantile);	/* ticks */

/* The memory is filled: begin to warm up. NULL if there is no memory for it. */
struct meter *meter_new(const struct options *o);
void meter_turn(struct meter *m);	/* the time of a phase is over */

/* An operation took from begin to end. False: the time is over. */
static inline bool meter_add(struct meter *m, uint64_t begin, uint64_t end)
{
	hist_add(&m->hist, end - begin);
	if (__builtin_expect(end >= m->until, 0))
		meter_turn(m);
	return m->phase != DONE;
}

/* One line: key=value. */
void meter_report(const struct meter *m);
/* The same of single times without phases. */
void report_times(const struct hist *h, double ticks_ns);

/* ---- what is in memory ---- */

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t next(uint64_t *seed)
{
	return mix(*seed += 0x9e3779b97f4a7c15ULL);
}

static inline double unit(uint64_t random)
{
	return (double)(random >> 11) * 0x1p-53;
}

/* A number below n for each number below n: no two the same, neighbours far apart. */
struct scramble {
	uint64_t n, mask, seed;
	uint32_t shift;
};

void scramble_init(struct scramble *s, uint64_t n, uint64_t seed);
uint64_t scrambled(const struct scramble *s, uint64_t i);

/* Anonymous memory without huge pages: swap, and godwit, deal in 4 KiB here. Exits without memory. */
void *map_memory(uint64_t bytes);
/* Words that nobody can guess, then zeroes: random % of nr. */
void fill_words(uint64_t *words, uint64_t nr, uint64_t seed, uint32_t random);
bool same_words(const uint64_t *words, uint64_t nr, uint64_t seed, uint32_t random);
/* A page that knows its number and its sum. */
void fill_page(uint64_t *page, uint64_t number, uint32_t random);
bool page_is_right(const uint64_t *page, uint64_t number);
/* Says what is wrong and exits with 1. */
_Noreturn void wrong(const char *load, const char *what, uint64_t which);

/* ---- the loads: exit status ---- */

int run_kv(const struct options *o);
int run_scan(const struct options *o);
int run_gups(const struct options *o);
int run_bfs(const struct options *o);
int run_fault(const struct options *o);
int run_hold(const struct options *o);
int run_lz4(const struct options *o);
int run_fill_redis(const struct options *o);
int run_check_redis(const struct options *o);
int run_watch(const struct options *o);

#endif

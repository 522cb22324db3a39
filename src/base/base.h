/* SPDX-License-Identifier: MIT */
/*
 * base - what every room stands on: raw system calls, ranked locks, threads of our own, the region
 * that all engine memory comes from, clocks, histograms, strings.
 *
 * Nothing here allocates from libc, touches errno or waits on managed memory: engine threads have no
 * libc thread state at all.
 */
#ifndef GODWIT_BASE_H
#define GODWIT_BASE_H

#include "base/bugs.h"
#include "base/sys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + (a)-1, a)
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- bug.c: programmer errors end the process, with the place on stderr ---- */

_Noreturn void bug(const char *file, int line, const char *what);
#define BUG_ON(cond)                                             \
	do {                                                     \
		if (__builtin_expect(!!(cond), 0))               \
			bug(__FILE__, __LINE__, #cond);          \
	} while (0)

/* One line to the program's stderr. Never sleeps for long, never fails visibly. */
void base_log(const char *a, const char *b);

/* ---- lock.c: sleeping locks on a futex, taken in the order of their ranks ---- */

/* Lock order: a thread that holds a lock may only take one of a higher rank. */
enum lock_rank {
	RANK_JOBS = 1,		/* engine: the list of jobs */
	RANK_MIGRATE,		/* mm: one batch in flight; held over a batch */
	RANK_MM,		/* mm: books, registrations, event reading; held briefly */
	RANK_FAR,		/* far: a store of pages */
	RANK_POST,		/* engine: calls to the service thread */
};

struct lock {
	uint32_t word;		/* 0 free, 1 held, 2 held and waited for */
	uint32_t rank;
};

#define LOCK_INIT(r) ((struct lock){ .rank = (r) })
void lock_acquire(struct lock *l);
bool lock_try(struct lock *l);
/* True: somebody may be waiting for it. */
bool lock_release(struct lock *l);

/* Wait while *word == val, at most ns nanoseconds (0: for ever); wake all who do. */
void futex_wait(uint32_t *word, uint32_t val, uint64_t ns);
void futex_wake(uint32_t *word);

/* ---- thread.c: threads that libc does not know ---- */

#define THREAD_STACK (64UL << 10)

struct thread {
	uint32_t tid;		/* not 0 while the thread lives; the kernel clears it at the end */
	int (*fn)(void *arg);
	void *arg;
	char *stack;		/* THREAD_STACK bytes, kept by the owner for the next start */
	const char *name;
};

/*
 * Start t->fn on t->stack with all signals blocked. own_files: with its own copy of the table of
 * descriptors instead of the caller's. Returns 0 or -errno.
 */
int thread_start(struct thread *t, bool own_files);
void thread_join(struct thread *t);
/* The CPU that a thread of this process runs on, or ran on last. */
int thread_cpu(uint32_t tid);
/*
 * A program's thread that takes a lock of ours must not run a handler meanwhile: that may want the lock too, or wait
 * for another thread that does (collectors of garbage stop threads so). Returns the mask to restore.
 */
uint64_t signals_block(void);
void signals_restore(uint64_t mask);
/*
 * From here on no ordinary thread takes the CPU from the caller, until it says false: for the short
 * time in which others wait for it. False: not permitted (CAP_SYS_NICE or RLIMIT_RTPRIO).
 */
bool thread_hurry(bool on);

/* ---- region.c: one reservation of addresses that holds everything the engine owns ---- */

#define REGION_PARTS 32U

struct region {
	char *base;
	uint64_t reserved;	/* bytes of address space */
	uint64_t used;		/* handed out so far, from base; atomic */
	uint64_t own, own_end;	/* what else is the engine's, elsewhere */
	uint32_t nr_parts;	/* atomic */
	struct region_part {
		uint64_t start, end;
	} part[REGION_PARTS];	/* further reservations */
};

int region_reserve(struct region *r, uint64_t most, uint64_t least);
void region_release(struct region *r);
/* Address space only (PROT_NONE), aligned; NULL when it is used up. Never given back. */
void *region_take(struct region *r, uint64_t len, uint64_t align);
/* The same, readable and writable, zeroed, never huge pages. */
void *region_alloc(struct region *r, uint64_t len);
/*
 * A reservation of its own, for what is too large or may come and go: address space only, 2 MiB aligned. It is the
 * engine's until region_drop(). NULL: no addresses, or REGION_PARTS taken.
 */
void *region_part(struct region *r, uint64_t len);
void region_drop(struct region *r, const void *part);
bool region_owns(const struct region *r, uint64_t start, uint64_t end);

/* ---- clock ---- */

uint64_t clock_ns(void);
void sleep_ns(uint64_t ns);

/* ---- hist.c: times, log-linear: 16 steps an octave, so a percentile is at most 6 % too high ---- */

#define HIST_BUCKETS (40 * 16)

struct hist {
	uint64_t max;
	uint64_t count;
	uint32_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);
/* The time that per_mille of 1000 stay at or below. */
uint64_t hist_at(const struct hist *h, uint32_t per_mille);

/* ---- str.c ---- */

/* Append to a buffer of cap bytes that ends in NUL; false when it did not fit (nothing appended). */
bool str_cat(char *buf, size_t cap, const char *s);
bool str_cat_u64(char *buf, size_t cap, uint64_t v);
/* Read a number and advance; false: no digit, or too large. base 10 or 16. */
bool str_u64(const char **s, int base, uint64_t *out);
/* "4096", "64K", "1G", "1.5G" is not: whole numbers with an optional K, M, G, T. */
bool str_size(const char *s, size_t len, uint64_t *out);

/* ---- reader.c: lines of a /proc file through a caller's buffer ---- */

struct reader {
	int fd;
	char *buf;
	uint32_t cap, len, pos;
	bool eof, cut;
	int err;
};

int reader_open(struct reader *r, const char *path, char *buf, uint32_t cap);
/* The next line, NUL-terminated, without its newline; NULL at the end. A line over cap is cut, and its rest skipped. */
char *reader_line(struct reader *r);
/* 0, or why the last line that was read was not the last of the file. */
int reader_close(struct reader *r);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * kernel - any process's pages, moved by the kernel: move_pages(2) on the NUMA nodes of the host.
 *
 * For processes without an engine. Nothing is done inside the target: its page tables are read through
 * /proc/PID/pagemap, pages are asked for by address in calls so small that no thread of the target waits longer than a
 * bound, and at the end the kernel is asked where every page is. What is reported is that answer.
 *
 * Why not migrate_pages(2): one call walks the whole address space. It cannot be bounded nor stopped, and says of the
 * pages it leaves behind only how many there are.
 *
 * Context: the command's process only, one thread; may sleep, and allocates from libc. No part of libgodwit.so.
 */
#ifndef GODWIT_KERNEL_H
#define GODWIT_KERNEL_H

#include "base/base.h"

#define KERNEL_NODES 64
#define KERNEL_ERRNO_MAX 134
#define KERNEL_PAGE 4096UL
#define KERNEL_HUGE_PAGES 512U		/* of 4 KiB, in a THP */

enum kernel_kind {
	KERNEL_ANON,		/* private, 4 KiB */
	KERNEL_THP,		/* private, mapped as a huge page */
	KERNEL_HUGETLB,
	KERNEL_SHARED,		/* shared memory: shmem, memfd, tmpfs */
	KERNEL_FILE,		/* page cache, mapped */
	KERNEL_KINDS,
};

/* "anon", "thp", "hugetlb", "shared", "file" */
const char *kernel_kind_name(int kind);

/* ---------------------------------------------------------------- host.c ---- */

struct kernel_host {
	uint64_t online;	/* nodes there are */
	uint64_t memory;	/* of them, those with memory */
	bool numa;		/* the kernel has move_pages(2) */
	bool beyond;		/* there are nodes above 63, which godwit does not see */
	int balancing;		/* kernel.numa_balancing, -1: not there */
};

/* What this machine has. A kernel without NUMA has node 0. */
void kernel_host(struct kernel_host *host);
/* Bytes free on a node; ~0: not known. */
uint64_t kernel_node_free(int node);
/* "0-3,5" as files of the kernel have it; nodes above 63 set *beyond. False: no such list. */
bool kernel_nodes_read(const char *text, uint64_t *nodes, bool *beyond);

/* ---------------------------------------------------------------- target.c ---- */

/* Why a process cannot be looked at. */
enum kernel_refusal {
	KERNEL_FINE,
	KERNEL_NO_PROCESS,
	KERNEL_ELSEWHERE,	/* a process of another PID namespace has that number there; .other has ours */
	KERNEL_ZOMBIE,
	KERNEL_EXITING,
	KERNEL_THREAD,		/* of the kernel's own: no memory */
	KERNEL_FORBIDDEN,	/* another user's, or protected */
	KERNEL_NO_PROC,		/* /proc does not show what is needed: .err */
};

struct kernel_target {
	int pid;
	int pagemap, maps;	/* of /proc/PID; -1: not open */
	int other;		/* KERNEL_ELSEWHERE: what the process is called here */
	int err;		/* -errno behind a refusal */
	unsigned int uid;
	bool scan;		/* PAGEMAP_SCAN works (6.7) */
	uint64_t allowed;	/* Mems_allowed */
	uint64_t pinned_bytes;	/* VmPin: pinned for long, as registered buffers are */
	char cpuset[256];	/* its path, may be empty */
};

/* Open a process for what follows. Closed by kernel_close(), also after a refusal. */
enum kernel_refusal kernel_open(struct kernel_target *t, int pid);
/* Anew: the process may have become another program. 0 or -errno, then nothing has changed. */
int kernel_reopen(struct kernel_target *t);
void kernel_close(struct kernel_target *t);
/* Pages that NUMA balancing has moved for the threads of the process; 0 where the kernel does not tell. */
uint64_t kernel_balanced(int pid);

/* What /proc/PID/status says; false: text is none. */
struct kernel_status {
	char state;
	bool kthread, memory;	/* it is a kernel thread; it has an address space */
	unsigned int uid;
	int ns_pid;		/* its number in the innermost PID namespace */
	uint64_t allowed, pinned_bytes;
};

bool kernel_status_parse(const char *text, struct kernel_status *out);

/* ---------------------------------------------------------------- lines.c: what /proc writes ---- */

#define KERNEL_NAME 256
#define KERNEL_LINE (16 << 10)	/* bytes for a line: a path may have 4096, in octal four times that */

struct kernel_vma {
	uint64_t start, end, offset;
	uint32_t prot;		/* PROT_* */
	bool shared;		/* MAP_SHARED */
	bool special;		/* vdso and its like: no memory that could move */
	bool shmem;		/* pages that are not private belong to shared memory, not to a file */
	uint32_t dev;		/* major << 20 | minor */
	char name[KERNEL_NAME];	/* cut if it is longer */
};

struct kernel_numa_line {
	uint64_t start;
	char policy[KERNEL_NAME];
	uint64_t unit;		/* 4 KiB pages that one of the counts stands for */
	uint64_t pages[KERNEL_NODES];	/* 4 KiB pages */
	bool huge;		/* hugetlb */
};

/* A line of /proc/PID/maps, of /proc/PID/numa_maps. False: it is none. */
bool kernel_vma_parse(const char *line, struct kernel_vma *out);
bool kernel_numa_line_parse(const char *line, struct kernel_numa_line *out);

/* ---------------------------------------------------------------- walk.c ---- */

/* What moves as one: a page, or a huge page by its first address. */
struct kernel_unit {
	uint64_t addr;
	uint32_t pages;		/* of 4 KiB */
	int16_t err;		/* why it is not on .to: an errno; 0: it is */
	uint8_t kind;		/* enum kernel_kind */
	int8_t node;		/* where it is */
	int8_t to;		/* where it shall be */
	bool shared;		/* others map it too; valid after KERNEL_WALK_SHARED */
};

enum kernel_walk_flags {
	KERNEL_WALK_SHARED = 1 << 0,	/* also find out what is mapped more than once */
	KERNEL_WALK_SWAP = 1 << 1,	/* also tell what is swapped out, as units on node -1 */
};

#define KERNEL_WINDOW 4096U

/*
 * All pages that are present, in address order, at most KERNEL_WINDOW units at a time; vma is the mapping that a
 * window is of. fn returns 0, or what ends the walk. Returns that, or -ESRCH: the process has ended; -ENOMEM, -EACCES.
 */
typedef int (*kernel_walk_fn)(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr);
int kernel_walk(struct kernel_target *t, uint32_t flags, kernel_walk_fn fn, void *arg);
/* The same for one mapping; with no unit at all fn is not called. */
int kernel_walk_vma(struct kernel_target *t, const struct kernel_vma *vma, uint32_t flags, kernel_walk_fn fn,
		    void *arg);
/* Every mapping, without its pages. */
int kernel_vmas(int pid, int (*fn)(void *arg, struct kernel_vma *vma), void *arg);
/* .node of each: -1 is not present, or nothing that has a node. 0 or -errno. */
int kernel_query(int pid, struct kernel_unit *units, uint32_t nr);
/* The same of any addresses, with the kernel's own errors: status[i] is a node, -ENOENT not present, -EFAULT nothing there. */
int kernel_status_of(int pid, const uint64_t *addr, uint32_t nr, int32_t *status);
/* 4 KiB pages that move with the one at addr; of one as large as 1 GiB those of 2 MiB. */
uint32_t kernel_size_at(struct kernel_target *t, uint64_t addr);

/* ---------------------------------------------------------------- mover.c ---- */

struct kernel_mover;

/* How the calls went. */
struct kernel_calls {
	uint64_t calls, retries;
	uint64_t call_ns_max;	/* a whole call */
	uint64_t fixed_ns;	/* of each call: before the first page is touched, the kernel empties lists of all CPUs */
	struct hist stall[2];	/* the rest of a call: what a thread of the target can wait at most; small, huge */
	struct hist busy[2];	/* of it, the time on a CPU, as far as it is more than a call for nothing has */
	uint32_t batch;		/* pages of the last call */
};

struct kernel_move_options {
	uint64_t bound_ns;	/* of a stall */
	uint64_t rate;		/* bytes a second, 0: no limit */
	uint32_t batch;		/* pages a call at most, 0: no other limit than the kernel's own 512 */
	bool all;		/* MPOL_MF_MOVE_ALL */
	/* Called between two calls: true ends it. May be NULL. */
	bool (*stop)(void *arg);
	void *arg;
};

struct kernel_mover *kernel_mover_new(int pid, const struct kernel_move_options *opt, struct kernel_calls *calls);
void kernel_mover_free(struct kernel_mover *m);
/*
 * Try to bring each unit to .to, once; .err says how it went. Untried units (only after a stop or an error) keep
 * .err = ECANCELED. Returns 0, 1: stopped, or -errno that ends it all: -ESRCH the process has ended, -EPERM, -EACCES
 * the cpuset does not allow a node any more, -ENODEV a node has gone.
 */
int kernel_mover_run(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr);
/* Once more those that may succeed later, after a while that grows with turn; true: there was any, and turns are left. */
bool kernel_mover_again(struct kernel_mover *m, struct kernel_unit *units, uint32_t nr, uint32_t turn, int *err);

/*
 * What a call of move_pages(2) for nr pages of one node came to: verdict[i] becomes a node, a negative errno, or one of
 * these. status[i] was KERNEL_UNTOLD before the call. See mover.c for how the kernel fills it.
 */
#define KERNEL_UNTOLD INT32_MIN
#define KERNEL_TRIED (INT32_MIN + 1)	/* the kernel tried, and does not say how it went */
void kernel_verdicts(const int32_t *status, uint32_t nr, long ret, int32_t *verdict);

/* ---------------------------------------------------------------- migrate.c ---- */

struct kernel_request {
	uint64_t from, to;
	bool dry;
	struct kernel_move_options move;
};

struct kernel_result {
	uint64_t total;		/* 4 KiB pages found on nodes that are to be left; = moved + sum(failed) + gone + untried */
	uint64_t moved, gone, untried;
	uint64_t moved_huge;
	uint64_t returned;	/* were moved, and found elsewhere later */
	uint64_t fresh;		/* of total: came while the rest was moved */
	uint64_t pinned;	/* of failed[][EBUSY]: in buffers registered with io_uring */
	uint64_t swapped;	/* have no node */
	uint64_t done;		/* so far: for a progress */
	uint64_t found[KERNEL_KINDS], moved_kind[KERNEL_KINDS];
	uint64_t failed[KERNEL_KINDS][KERNEL_ERRNO_MAX];
	uint64_t balanced;	/* pages that NUMA balancing has moved meanwhile */
	uint64_t ns;
	uint32_t passes;
	bool cancelled;
	int error;		/* 0, or the -errno that ended it */
	struct kernel_calls calls;
};

/* Returns 0 and *res, or -errno: nothing was done. */
int kernel_migrate(struct kernel_target *t, const struct kernel_request *req, struct kernel_result *res);
uint64_t kernel_failed(const struct kernel_result *res);

/* ---------------------------------------------------------------- pins.c ---- */

struct kernel_range {
	uint64_t start, end;
};

/* Buffers that a process has registered with io_uring, sorted. Returns how many, *out is the caller's to free. */
uint32_t kernel_pins(int pid, struct kernel_range **out);
/* A line of /proc/PID/fdinfo/FD that names one: "    0: 0x7f0000000000/4096" */
bool kernel_pin_parse(const char *line, struct kernel_range *out);

#endif

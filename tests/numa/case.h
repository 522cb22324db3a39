/* SPDX-License-Identifier: MIT */
/*
 * What the cases of this program are written with: the calls as the kernel has them (a value or a negative errno),
 * memory at addresses that make placement repeatable, other processes and threads to act on, and the one line a case.
 *
 * A line is "CALL | what is asked | outcome". An outcome is a return value or the errno's name, and behind it what came
 * of the call. A case that this machine cannot ask has an outcome that begins with "cannot: ".
 */
#ifndef NUMA_CASE_H
#define NUMA_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define NODES_MAX 8
#define LIST_LEN(list) (sizeof(list) / sizeof((list)[0]))

/* Linux's numbers, from its manual pages and no header. */
enum {
	DEFAULT = 0,
	PREFERRED = 1,
	BIND = 2,
	INTERLEAVE = 3,
	LOCAL = 4,
	PREFERRED_MANY = 5,
	WEIGHTED_INTERLEAVE = 6,
	NUMA_BALANCING = 1 << 13,
	RELATIVE = 1 << 14,
	STATIC = 1 << 15,
};

enum { F_NODE = 1, F_ADDR = 2, F_MEMS_ALLOWED = 4 };

enum { STRICT = 1, MOVE = 2, MOVE_ALL = 4, LAZY = 8 };

#define BAD_POINTER ((void *)8)
#define KERNEL_POINTER ((void *)0xffff888000000000UL)

/* ---- the machine ---- */

extern int nr_nodes;		/* immutable after machine_init() */
extern int node_cpu[NODES_MAX]; /* a CPU of the node, or -1; immutable after machine_init() */

void machine_init(void);
/* Run on a CPU of that node from now on. False: it has none. */
bool pin_to(int node);

/* ---- node sets ---- */

struct nodes {
	unsigned long word[PAGE / sizeof(unsigned long)];
};

/* "0,2", "all", "" (none), "N" (the first node that does not exist). The result is valid for the next hundred calls. */
struct nodes *nodes(const char *list);
/* The nodes from begin to end (at most 64). */
struct nodes *nodes_of_bits(unsigned long bits);

/* ---- the calls: a value or -errno ---- */

#define MAXNODE 1025UL /* more than any kernel has, and one */

long set_mempolicy(int mode, const void *mask, unsigned long maxnode);
long get_mempolicy(void *mode, void *mask, unsigned long maxnode, void *addr, unsigned long flags);
long mbind(void *addr, size_t len, int mode, const void *mask, unsigned long maxnode, unsigned int flags);
long set_home_node(void *addr, size_t len, unsigned long node, unsigned long flags);
long move_pages(pid_t pid, unsigned long count, void *pages, const int *to, int *status, int flags);
long migrate_pages(pid_t pid, unsigned long maxnode, const void *from, const void *to);
long get_cpu(void *cpu, void *node);

/* The same, with nodes as a list. */
long task_policy(int mode, const char *list);
long range_policy(void *addr, size_t nr_pages, int mode, const char *list, unsigned int flags);

/* ---- memory ---- */

/* Forget all areas and the task's policy, and run on node 0: the beginning of a case. */
void fresh(void);

/*
 * Anonymous memory that nobody has touched, nothing beside it, small pages. The number of its first page (its address
 * by 4096) divides by 768, so that interleaving over 1 to 4 nodes begins with the first; areas are 3 MiB apart.
 */
char *area(size_t nr_pages);
/* The same, at its page'th page. */
char *area_at(size_t page, size_t nr_pages);
/* Address space in which mappings can be made with MAP_FIXED: as an area, but not mapped. */
char *hole(void);

/* Write to nr_pages pages, each its own bytes. */
void touch(char *at, size_t nr_pages);
/* Write to them under that policy of the task. */
void touch_on(char *at, size_t nr_pages, int node);
/* Write to page i on node layout[i] - '0'; '-': not. */
void lay_out(char *at, const char *layout);
/* ", data lost" if not what touch() wrote, else "". */
const char *kept(const char *at, size_t nr_pages);

/* ---- outcomes as text; valid for the next hundred calls of any of these ---- */

const char *outcome(long ret);
/* The nodes of pages, a character each: its digit, '-' not there, 'x' no page of its own (EFAULT), or another errno's. */
const char *pages(const char *at, size_t nr_pages);
const char *pages_of(pid_t pid, const char *at, size_t nr_pages);
/* Numbers of a status array: nodes and errno names; '.' what nobody has written to (see STATUS_UNSET). */
const char *statuses(const int *status, size_t count);
#define STATUS_UNSET 12345
/* "bind|static:0-1" */
const char *policy_name(int mode, const struct nodes *mask);
/* Of the task (NULL) or of the page at addr. */
const char *policy(void *addr);
/* Of pages in a row: "default*2 bind:1*1". */
const char *policies(char *at, size_t nr_pages);
const char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void report(const char *call, const char *asked, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- other processes and threads ---- */

/* Run fn(arg) in a forked child and wait for its end. */
void in_child(void (*fn)(void *arg), void *arg);
/* The same as another user without capabilities; reports "cannot" for that case where that is impossible. */
void as_nobody(const char *call, const char *asked, void (*fn)(void *arg), void *arg);
/* Run fn(arg) in a thread and wait for its end. */
void in_thread(void (*fn)(void *arg), void *arg);

/* A child that runs fn(arg), and then sleeps until peer_end(). */
struct peer {
	pid_t pid;
	int end;
};

struct peer peer_begin(void (*fn)(void *arg), void *arg);
void peer_end(struct peer *p);
void become_nobody(void *unused);

/* ---- groups of cases ---- */

void cases_task_sweep(void);
void cases_range_sweep(void);
void cases_task_policy(void);
void cases_range_policy(void);
void cases_range_move(void);
void cases_first_touch(void);
void cases_query(void);
void cases_home_node(void);
void cases_move(void);
void cases_migrate(void);
void cases_cpu(void);
void cases_huge(void);
/* What runs after an execve() of this program: "--after-exec". */
int after_exec(void);

#endif

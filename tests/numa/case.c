/* SPDX-License-Identifier: MIT */
/* The machine, memory, processes and lines that the cases are made of. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "case.h"

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

#define AREA_PAGES 768UL
#define AREAS 24UL
#define TEXTS 128

int nr_nodes;
int node_cpu[NODES_MAX];

static char *areas;
static size_t nr_areas;

static void die(const char *what)
{
	fprintf(stderr, "calls: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the calls ---- */

static long result(long ret)
{
	return ret == -1 ? -errno : ret;
}

long set_mempolicy(int mode, const void *mask, unsigned long maxnode)
{
	return result(syscall(SYS_set_mempolicy, (long)mode, mask, maxnode));
}

long get_mempolicy(void *mode, void *mask, unsigned long maxnode, void *addr, unsigned long flags)
{
	return result(syscall(SYS_get_mempolicy, mode, mask, maxnode, addr, flags));
}

long mbind(void *addr, size_t len, int mode, const void *mask, unsigned long maxnode, unsigned int flags)
{
	return result(syscall(SYS_mbind, addr, len, (long)mode, mask, maxnode, (unsigned long)flags));
}

long set_home_node(void *addr, size_t len, unsigned long node, unsigned long flags)
{
	return result(syscall(SYS_set_mempolicy_home_node, addr, len, node, flags));
}

long move_pages(pid_t pid, unsigned long count, void *page_list, const int *to, int *status, int flags)
{
	return result(syscall(SYS_move_pages, (long)pid, count, page_list, to, status, (long)flags));
}

long migrate_pages(pid_t pid, unsigned long maxnode, const void *from, const void *to)
{
	return result(syscall(SYS_migrate_pages, (long)pid, maxnode, from, to));
}

long get_cpu(void *cpu, void *node)
{
	return result(syscall(SYS_getcpu, cpu, node, NULL));
}

long task_policy(int mode, const char *list)
{
	return set_mempolicy(mode, list ? nodes(list) : NULL, MAXNODE);
}

long range_policy(void *addr, size_t nr_pages, int mode, const char *list, unsigned int flags)
{
	return mbind(addr, nr_pages * PAGE, mode, list ? nodes(list) : NULL, MAXNODE, flags);
}

/* ---- node sets ---- */

struct nodes *nodes_of_bits(unsigned long bits)
{
	static struct nodes ring[TEXTS];
	static unsigned int next;
	struct nodes *set = &ring[next++ % TEXTS];

	memset(set, 0, sizeof(*set));
	set->word[0] = bits;
	return set;
}

struct nodes *nodes(const char *list)
{
	unsigned long bits = 0;

	for (const char *at = list; *at; at++)
		if (*at == 'N')
			bits |= 1UL << nr_nodes;
		else if (*at >= '0' && *at <= '9')
			bits |= 1UL << (*at - '0');
		else if (*at == 'a')
			bits |= (1UL << nr_nodes) - 1;
	return nodes_of_bits(bits);
}

/* ---- the machine ---- */

bool pin_to(int node)
{
	cpu_set_t set;

	if (node_cpu[node] < 0)
		return false;
	CPU_ZERO(&set);
	CPU_SET((size_t)node_cpu[node], &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

void machine_init(void)
{
	struct nodes *allowed = nodes_of_bits(0);
	cpu_set_t set, one;

	if (get_mempolicy(NULL, allowed, MAXNODE, NULL, F_MEMS_ALLOWED) != 0)
		die("get_mempolicy");
	for (nr_nodes = 0; allowed->word[0] >> nr_nodes & 1;)
		nr_nodes++;
	if (nr_nodes < 2 || nr_nodes > NODES_MAX) {
		fprintf(stderr, "calls: %d nodes, and 2 to %d are needed\n", nr_nodes, NODES_MAX);
		exit(1);
	}

	memset(node_cpu, -1, sizeof(node_cpu));
	sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		unsigned int node = NODES_MAX;

		CPU_ZERO(&one);
		CPU_SET((size_t)cpu, &one);
		if (!CPU_ISSET((size_t)cpu, &set) || sched_setaffinity(0, sizeof(one), &one))
			continue;
		get_cpu(NULL, &node);
		if (node < NODES_MAX && node_cpu[node] < 0)
			node_cpu[node] = cpu;
	}
	pin_to(0);

	areas = mmap(NULL, (AREAS + 1) * AREA_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		     0);
	if (areas == MAP_FAILED)
		die("mmap");
	areas += AREA_PAGES * PAGE - (uintptr_t)areas % (AREA_PAGES * PAGE);
}

/* ---- memory ---- */

void fresh(void)
{
	set_mempolicy(DEFAULT, NULL, 0);
	pin_to(0);
	if (nr_areas && mmap(areas, nr_areas * AREA_PAGES * PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != areas)
		die("mmap");
	nr_areas = 0;
}

char *hole(void)
{
	char *at;

	if (nr_areas == AREAS) {
		fprintf(stderr, "calls: too many areas in a case\n");
		exit(1);
	}
	at = areas + nr_areas++ * AREA_PAGES * PAGE;
	munmap(at, AREA_PAGES * PAGE);
	return at;
}

char *area_at(size_t page, size_t nr_pages)
{
	char *at = hole() + page * PAGE;

	if (mmap(at, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		die("mmap");
	madvise(at, nr_pages * PAGE, MADV_NOHUGEPAGE);
	return at;
}

char *area(size_t nr_pages)
{
	return area_at(0, nr_pages);
}

static char byte_of(const char *at, size_t page)
{
	return (char)(1 + ((uintptr_t)at / PAGE + page) % 251);
}

void touch(char *at, size_t nr_pages)
{
	for (size_t i = 0; i < nr_pages; i++) {
		at[i * PAGE] = byte_of(at, i);
		at[i * PAGE + PAGE - 1] = byte_of(at, i);
	}
}

void touch_on(char *at, size_t nr_pages, int node)
{
	struct nodes *before = nodes_of_bits(0);
	int mode = DEFAULT;

	get_mempolicy(&mode, before, MAXNODE, NULL, 0);
	set_mempolicy(BIND, nodes_of_bits(1UL << node), MAXNODE);
	touch(at, nr_pages);
	set_mempolicy(mode, before, MAXNODE);
}

void lay_out(char *at, const char *layout)
{
	for (size_t i = 0; layout[i]; i++)
		if (layout[i] != '-')
			touch_on(at + i * PAGE, 1, layout[i] - '0');
}

const char *kept(const char *at, size_t nr_pages)
{
	for (size_t i = 0; i < nr_pages; i++)
		if (at[i * PAGE] != byte_of(at, i) || at[i * PAGE + PAGE - 1] != byte_of(at, i))
			return ", data lost";
	return "";
}

/* ---- text ---- */

static char *text(void)
{
	static char ring[TEXTS][2048];
	static unsigned int next;
	char *at = ring[next++ % TEXTS];

	at[0] = 0;
	return at;
}

const char *format(const char *fmt, ...)
{
	char *at = text();
	va_list args;

	va_start(args, fmt);
	vsnprintf(at, 2048, fmt, args);
	va_end(args);
	return at;
}

const char *outcome(long ret)
{
	const char *name;

	if (ret >= 0)
		return format("%ld", ret);
	name = strerrorname_np((int)-ret);
	return name ? name : format("-%ld", -ret);
}

static char letter(int status)
{
	switch (-status) {
	case ENOENT:
		return '-';
	case EFAULT:
		return 'x';
	case EBUSY:
		return 'b';
	case EACCES:
		return 'a';
	}
	return status >= 0 && status < 10 ? (char)('0' + status) : '?';
}

const char *pages_of(pid_t pid, const char *at, size_t nr_pages)
{
	const void *list[1024];
	int status[1024];
	char *s = text();
	long ret;

	for (size_t i = 0; i < nr_pages; i++)
		list[i] = at + i * PAGE;
	ret = move_pages(pid, nr_pages, list, NULL, status, 0);
	if (ret)
		return outcome(ret);
	for (size_t i = 0; i < nr_pages; i++)
		s[i] = letter(status[i]);
	s[nr_pages] = 0;
	return s;
}

const char *pages(const char *at, size_t nr_pages)
{
	return pages_of(0, at, nr_pages);
}

const char *statuses(const int *status, size_t count)
{
	char *s = text();
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += (size_t)sprintf(s + n, "%s%s", i ? " " : "", status[i] == STATUS_UNSET ? "." : outcome(status[i]));
	return s;
}

const char *policy_name(int mode, const struct nodes *mask)
{
	static const char *const names[] = { "default",	       "preferred",	     "bind", "interleave", "local",
					     "preferred-many", "weighted-interleave" };
	unsigned int plain = (unsigned int)mode & ~(unsigned int)(STATIC | RELATIVE | NUMA_BALANCING);
	char *s = text();
	size_t n;

	n = (size_t)(plain < LIST_LEN(names) ? sprintf(s, "%s", names[plain]) : sprintf(s, "mode-%#x", plain));
	n += (size_t)sprintf(s + n, "%s%s%s", mode & STATIC ? "|static" : "", mode & RELATIVE ? "|relative" : "",
			     mode & NUMA_BALANCING ? "|balancing" : "");
	for (int i = 0, first = 1; mask && i < 1024; i++)
		if (mask->word[i / 64] >> i % 64 & 1) {
			n += (size_t)sprintf(s + n, "%s%d", first ? ":" : ",", i);
			first = 0;
		}
	return s;
}

const char *policy(void *addr)
{
	struct nodes *mask = nodes_of_bits(0);
	int mode = 0;
	long ret = get_mempolicy(&mode, mask, MAXNODE, addr, addr ? F_ADDR : 0);

	return ret ? outcome(ret) : policy_name(mode, mask);
}

const char *policies(char *at, size_t nr_pages)
{
	char *s = text(), last[128];
	size_t n = 0, run = 1;

	snprintf(last, sizeof(last), "%s", policy(at));
	for (size_t i = 1; i <= nr_pages; i++) {
		const char *now = i < nr_pages ? policy(at + i * PAGE) : "";

		if (!strcmp(now, last)) {
			run++;
			continue;
		}
		n += (size_t)sprintf(s + n, "%s%s*%zu", n ? " " : "", last, run);
		snprintf(last, sizeof(last), "%s", now);
		run = 1;
	}
	return s;
}

void report(const char *call, const char *asked, const char *fmt, ...)
{
	va_list args;

	printf("%s | %s | ", call, asked);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ---- other processes and threads ---- */

void in_child(void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (status)
		printf("a child ended with status %#x\n", status);
}

void become_nobody(void *unused)
{
	(void)unused;
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		_exit(77);
	prctl(PR_SET_DUMPABLE, 1);
}

void as_nobody(const char *call, const char *asked, void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		become_nobody(NULL);
		fn(arg);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		report(call, asked, "cannot: become another user");
	else if (status)
		report(call, asked, "a child ended with status %#x", status);
}

struct thread {
	void (*fn)(void *arg);
	void *arg;
};

static void *run_thread(void *arg)
{
	struct thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

void in_thread(void (*fn)(void *arg), void *arg)
{
	struct thread t = { fn, arg };
	pthread_t id;

	if (pthread_create(&id, NULL, run_thread, &t))
		die("pthread_create");
	pthread_join(id, NULL);
}

struct peer peer_begin(void (*fn)(void *arg), void *arg)
{
	int ready[2], end[2];
	struct peer p;
	char byte = 0;

	if (pipe(ready) || pipe(end))
		die("pipe");
	p.pid = fork();
	if (p.pid < 0)
		die("fork");
	if (p.pid == 0) {
		close(end[1]);
		if (fn)
			fn(arg);
		if (write(ready[1], &byte, 1) != 1 || read(end[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	p.end = end[1];
	if (read(ready[0], &byte, 1) < 0)
		die("read");
	close(ready[0]);
	return p;
}

void peer_end(struct peer *p)
{
	close(p->end);
	waitpid(p->pid, NULL, 0);
}

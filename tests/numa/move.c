/* SPDX-License-Identifier: MIT */
/* move_pages(): queries, moves, every status, other processes, other users. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "case.h"

#define NAME "move_pages"
#define NOBODY 4194303 /* no process has this pid: it is larger than pid_max allows */

/* Up to 16 pages in a row, to those nodes (NULL: a query); what it returned and left in status. */
struct request {
	void *page[16];
	int to[16];
	int status[16];
};

static void fill(struct request *r, char *at, size_t count, int to)
{
	for (size_t i = 0; i < count; i++) {
		r->page[i] = at + i * PAGE;
		r->to[i] = to;
		r->status[i] = STATUS_UNSET;
	}
}

static void query_one(const char *what, void *addr)
{
	struct request r;
	long ret;

	fill(&r, addr, 1, 0);
	ret = move_pages(0, 1, r.page, NULL, r.status, 0);
	report(NAME, format("query: %s", what), "%s, %s", outcome(ret), statuses(r.status, 1));
}

static void move_one(const char *what, void *addr, int to)
{
	struct request r;
	long ret;

	fill(&r, addr, 1, to);
	ret = move_pages(0, 1, r.page, r.to, r.status, MOVE);
	report(NAME, format("to %d: %s", to, what), "%s, %s", outcome(ret), statuses(r.status, 1));
}

static int zero_page(char *at)
{
	return ((volatile char *)at)[0];
}

static void *of_kind(int kind)
{
	char *at, *other;
	int fd;

	fresh();
	at = area(2);
	switch (kind) {
	case 0:
		touch(at, 1);
		return at;
	case 1:
		return at;
	case 2:
		munmap(at, PAGE);
		return at;
	case 3:
		zero_page(at);
		return at;
	case 4:
		touch(at, 1);
		return at + 123;
	case 5:
		touch(at, 1);
		mprotect(at, PAGE, PROT_READ);
		return at;
	case 6:
		touch(at, 1);
		mprotect(at, PAGE, PROT_NONE);
		return at;
	case 7:
		touch(at, 1);
		madvise(at, PAGE, MADV_DONTNEED);
		return at;
	case 8:
		return NULL;
	case 9:
		return KERNEL_POINTER;
	case 10:
		return (void *)~0UL;
	case 11:
		at = hole();
		at = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		touch(at, 1);
		return at;
	case 12:
		fd = memfd_create("moved", 0);
		if (fd < 0 || ftruncate(fd, (off_t)PAGE))
			return NULL;
		other = mmap(hole(), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
		touch(other, 1);
		at = mmap(hole(), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
		touch(at, 1);
		close(fd);
		return at;
	case 13:
		touch(at, 1);
		mlock(at, PAGE);
		return at;
	case 14:
		mprotect(at, PAGE, PROT_NONE);
		return at;
	default:
		return (void *)0x7ffffffff000UL;
	}
}

static void kinds(void)
{
	static const char *const names[] = {
		"a page",
		"an untouched page",
		"an address that is not mapped",
		"the zero page",
		"an address inside a page",
		"a read-only page",
		"a page without access",
		"a page after MADV_DONTNEED",
		"NULL",
		"an address in the kernel",
		"the last address",
		"a page of shared memory",
		"a page written to in a private mapping of a file",
		"a locked page",
		"an untouched page without access",
		"the first address behind user memory",
	};

	for (int i = 0; i < (int)LIST_LEN(names); i++) {
		query_one(names[i], of_kind(i));
		move_one(names[i], of_kind(i), 1);
		if (i < 8)
			move_one(names[i], of_kind(i), 0);
	}
}

static void to_nodes(void)
{
	static const int outside[] = {
		-1, -2, -14, 62, 63, 64, 65, 1023, 1024, 1025, 1 << 20, 0x7fffffff, (int)0x80000000
	};
	struct request r;
	char *at;
	long ret;

	for (int node = 0; node <= nr_nodes; node++)
		for (int from = 0; from < nr_nodes; from++) {
			fresh();
			at = area(4);
			touch_on(at, 4, from);
			fill(&r, at, 4, node);
			ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
			report(NAME,
			       format("4 pages from node %d to %s", from, node < nr_nodes ? format("%d", node) : "N"),
			       "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 4), pages(at, 4), kept(at, 4));
		}
	for (size_t i = 0; i < LIST_LEN(outside); i++)
		for (int where = 0; where < 4; where += 3) {
			fresh();
			at = area(4);
			touch(at, 4);
			fill(&r, at, 4, 1);
			r.to[where] = outside[i];
			ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
			report(NAME, format("page %d of 4 to node %d, the others to 1", where, outside[i]),
			       "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 4), pages(at, 4), kept(at, 4));
		}
	fresh();
	at = area(8);
	touch(at, 8);
	fill(&r, at, 8, 0);
	for (int i = 0; i < 8; i++)
		r.to[i] = i % nr_nodes;
	ret = move_pages(0, 8, r.page, r.to, r.status, MOVE);
	report(NAME, "8 pages from node 0, to each node in turn", "%s, %s, pages %s%s", outcome(ret),
	       statuses(r.status, 8), pages(at, 8), kept(at, 8));
}

/* Lists in which something is not as it should be. */
static void lists(void)
{
	struct request r;
	char *at;
	long ret;

	fresh();
	at = area(8);
	touch(at, 8);
	fill(&r, at, 8, 1);
	r.page[3] = r.page[1];
	ret = move_pages(0, 8, r.page, r.to, r.status, MOVE);
	report(NAME, "8 pages, the fourth is the second again", "%s, %s, pages %s%s", outcome(ret),
	       statuses(r.status, 8), pages(at, 8), kept(at, 8));
	fresh();
	at = area(4);
	touch(at, 4);
	fill(&r, at, 4, 1);
	for (int i = 0; i < 4; i++)
		r.page[i] = at + i;
	ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
	report(NAME, "4 times the same page, to node 1", "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 4),
	       pages(at, 4), kept(at, 4));
	fresh();
	at = area(4);
	touch(at, 4);
	fill(&r, at, 4, 1);
	for (int i = 0; i < 4; i++) {
		r.page[i] = at;
		r.to[i] = 1 - i % 2;
	}
	ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
	report(NAME, "4 times the same page, to nodes 1 0 1 0", "%s, %s, pages %s%s", outcome(ret),
	       statuses(r.status, 4), pages(at, 4), kept(at, 4));
	fresh();
	at = area(8);
	touch(at, 8);
	fill(&r, at, 8, 1);
	madvise(at + 2 * PAGE, PAGE, MADV_DONTNEED);
	munmap(at + 4 * PAGE, PAGE);
	zero_page(at + 2 * PAGE);
	madvise(at + 5 * PAGE, PAGE, MADV_DONTNEED);
	r.page[7] = KERNEL_POINTER;
	ret = move_pages(0, 8, r.page, r.to, r.status, MOVE);
	report(NAME, "to 1: 2 pages, zero page, page, not mapped, untouched, page, kernel", "%s, %s, pages %s",
	       outcome(ret), statuses(r.status, 8), pages(at, 8));
	fill(&r, at, 8, 1);
	r.page[7] = KERNEL_POINTER;
	ret = move_pages(0, 8, r.page, NULL, r.status, 0);
	report(NAME, "query: 2 pages, zero page, page, not mapped, untouched, page, kernel", "%s, %s", outcome(ret),
	       statuses(r.status, 8));
	fill(&r, at, 8, 1);
	ret = move_pages(0, 8, r.page, r.to, NULL, MOVE);
	report(NAME, "to 1: status NULL", "%s", outcome(ret));
	fresh();
	at = area(8);
	touch(at, 8);
	fill(&r, at, 8, 1);
	for (int i = 0; i < 8; i++)
		r.page[i] = at + (size_t)(7 - i) * PAGE;
	ret = move_pages(0, 8, r.page, r.to, r.status, MOVE);
	report(NAME, "8 pages in descending order to 1", "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 8),
	       pages(at, 8), kept(at, 8));
}

static void counts(void)
{
	static const unsigned long huge[] = { 1UL << 31, 1UL << 32, 1UL << 62, ~0UL };
	struct request r;
	char *at;

	fresh();
	at = area(2);
	touch(at, 2);
	fill(&r, at, 2, 1);
	report(NAME, "count 0", "%s", outcome(move_pages(0, 0, r.page, r.to, r.status, MOVE)));
	report(NAME, "count 0, all NULL", "%s", outcome(move_pages(0, 0, NULL, NULL, NULL, 0)));
	report(NAME, "count 0, all bad", "%s", outcome(move_pages(0, 0, BAD_POINTER, BAD_POINTER, BAD_POINTER, MOVE)));
	report(NAME, "count 0, flags 1", "%s", outcome(move_pages(0, 0, NULL, NULL, NULL, 1)));
	report(NAME, "count 0, no such process", "%s", outcome(move_pages(NOBODY, 0, NULL, NULL, NULL, 0)));
	for (size_t i = 0; i < LIST_LEN(huge); i++) {
		report(NAME, format("count %#lx, query, all NULL", huge[i]), "%s",
		       outcome(move_pages(0, huge[i], NULL, NULL, NULL, 0)));
		report(NAME, format("count %#lx, move, arrays at 8", huge[i]), "%s",
		       outcome(move_pages(0, huge[i], BAD_POINTER, BAD_POINTER, BAD_POINTER, MOVE)));
	}
}

static void pointers(void)
{
	static const char *const names[] = { "pages", "nodes", "status" };
	struct request *r;
	char *at, *list;
	long ret;

	for (int bad = 0; bad < 3; bad++)
		for (int how = 0; how < 3; how++) {
			static const char *const hows[] = { "NULL", "at 8", "in the kernel" };
			void *wrong = how == 0 ? NULL : how == 1 ? BAD_POINTER : KERNEL_POINTER;

			fresh();
			at = area(4);
			touch(at, 4);
			r = (void *)area(1);
			fill(r, at, 4, 1);
			ret = move_pages(0, 4, bad == 0 ? wrong : r->page, bad == 1 ? wrong : r->to,
					 bad == 2 ? wrong : r->status, MOVE);
			report(NAME, format("4 pages to 1, %s %s", names[bad], hows[how]), "%s, %s, pages %s",
			       outcome(ret), statuses(r->status, 4), pages(at, 4));
			if (bad == 1)
				continue;
			ret = move_pages(0, 4, bad == 0 ? wrong : r->page, NULL, bad == 2 ? wrong : r->status, 0);
			report(NAME, format("query of 4 pages, %s %s", names[bad], hows[how]), "%s", outcome(ret));
		}
	for (int bad = 0; bad < 3; bad++) {
		fresh();
		at = area(4);
		touch(at, 4);
		r = (void *)area(1);
		fill(r, at, 4, 1);
		list = area(1) + PAGE - (bad == 0 ? 2 * sizeof(void *) : 2 * sizeof(int));
		memcpy(list,
		       bad == 0	  ? (void *)r->page
		       : bad == 1 ? r->to
				  : r->status,
		       bad == 0 ? 2 * sizeof(void *) : 2 * sizeof(int));
		ret = move_pages(0, 4, bad == 0 ? (void *)list : r->page, bad == 1 ? (void *)list : r->to,
				 bad == 2 ? (void *)list : r->status, MOVE);
		report(NAME, format("4 pages to 1, %s end a mapping after the second", names[bad]), "%s, %s, pages %s",
		       outcome(ret), statuses(bad == 2 ? (int *)list : r->status, bad == 2 ? 2 : 4), pages(at, 4));
	}
	fresh();
	at = area(4);
	touch(at, 4);
	r = (void *)area(1);
	fill(r, at, 4, 1);
	mprotect(r, PAGE, PROT_READ);
	ret = move_pages(0, 4, r->page, r->to, r->status, MOVE);
	report(NAME, "4 pages to 1, status in read-only memory", "%s, pages %s", outcome(ret), pages(at, 4));
	ret = move_pages(0, 4, r->page, NULL, r->status, 0);
	report(NAME, "query of 4 pages, status in read-only memory", "%s", outcome(ret));
}

static void flags(void)
{
	static const int all[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 18, 1 << 30, -1 };
	struct request r;
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(all); i++)
		for (int query = 0; query < 2; query++) {
			fresh();
			at = area(2);
			touch(at, 2);
			fill(&r, at, 2, 1);
			ret = move_pages(0, 2, r.page, query ? NULL : r.to, r.status, all[i]);
			report(NAME, format("%s, flags %d", query ? "query" : "2 pages to 1", all[i]),
			       "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 2), pages(at, 2), kept(at, 2));
		}
}

/* ---- other processes ---- */

static void write_half(void *at)
{
	touch((char *)at + 2 * PAGE, 2);
}

static void shared(void)
{
	static const int all[] = { MOVE, MOVE_ALL, 0 };
	static const char *const names[] = { "move", "move-all", "flags 0" };
	struct request r;
	struct peer p;
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(all); i++)
		for (int whose = 0; whose < 2; whose++) {
			fresh();
			at = area(4);
			touch(at, 4);
			p = peer_begin(write_half, at);
			fill(&r, at, 4, 1);
			ret = move_pages(whose ? p.pid : 0, 4, r.page, r.to, r.status, all[i]);
			report(NAME,
			       format("%s, %s: 4 pages to 1, 2 of them shared with a child", names[i],
				      whose ? "the child's" : "its own"),
			       "%s, %s, pages %s%s, the child's %s", outcome(ret), statuses(r.status, 4), pages(at, 4),
			       kept(at, 4), pages_of(p.pid, at, 4));
			peer_end(&p);
			fill(&r, at, 4, 1);
			ret = move_pages(0, 4, r.page, r.to, r.status, all[i]);
			report(NAME,
			       format("%s, %s: again, after the child's end", names[i],
				      whose ? "the child's" : "its own"),
			       "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 4), pages(at, 4), kept(at, 4));
		}
}

static void held(void)
{
	struct request r;
	struct iovec v;
	int fd[2];
	char *at;
	long ret;

	fresh();
	at = area(4);
	touch(at, 4);
	v.iov_base = at + PAGE;
	v.iov_len = PAGE;
	if (pipe(fd) || vmsplice(fd[1], &v, 1, 0) != (ssize_t)PAGE)
		return;
	fill(&r, at, 4, 1);
	ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
	report(NAME, "4 pages to 1, a pipe holds the second", "%s, %s, pages %s%s", outcome(ret), statuses(r.status, 4),
	       pages(at, 4), kept(at, 4));
	close(fd[0]);
	close(fd[1]);
}

static void touch_all(void *at)
{
	touch(at, 4);
}

static void report_on(const char *asked, pid_t pid, char *at)
{
	struct request r;
	const char *query;
	long ret;

	fill(&r, at, 4, 1);
	ret = move_pages(pid, 4, r.page, NULL, r.status, 0);
	query = format("%s, %s", outcome(ret), statuses(r.status, 4));
	fill(&r, at, 4, 1);
	ret = move_pages(pid, 4, r.page, r.to, r.status, MOVE);
	report(NAME, asked, "query %s; to 1 %s, %s; pages %s", query, outcome(ret), statuses(r.status, 4),
	       pages_of(pid, at, 4));
}

static void parents(void *at)
{
	report_on("the parent's pages", getppid(), at);
}

static void thread_id(void *at)
{
	report_on("by a thread's id", (pid_t)syscall(SYS_gettid), at);
}

static void main_from_thread(void *at)
{
	report_on("by the process's id, from another thread", getpid(), at);
}

static void nobody_touches(void *at)
{
	become_nobody(NULL);
	touch(at, 4);
}

static void closed_nobody_touches(void *at)
{
	nobody_touches(at);
	prctl(PR_SET_DUMPABLE, 0);
}

static void nobody_asks(void *at)
{
	report_on("a root process's pages, by another user", getppid(), at);
}

static void nobody_asks_own(void *at)
{
	struct request r;
	long ret;

	touch(at, 4);
	report_on("its own pages, by a user without CAP_SYS_NICE", 0, at);
	fill(&r, at, 4, 0);
	ret = move_pages(0, 4, r.page, r.to, r.status, MOVE_ALL);
	report(NAME, "move-all: by a user without CAP_SYS_NICE", "%s, %s", outcome(ret), statuses(r.status, 4));
	ret = move_pages(0, 0, NULL, NULL, NULL, MOVE_ALL);
	report(NAME, "move-all, count 0: by a user without CAP_SYS_NICE", "%s", outcome(ret));
	ret = move_pages(0, 4, r.page, NULL, r.status, MOVE_ALL);
	report(NAME, "move-all, query: by a user without CAP_SYS_NICE", "%s, %s", outcome(ret), statuses(r.status, 4));
}

static void processes(void)
{
	struct peer p;
	char *at;

	fresh();
	at = area(4);
	p = peer_begin(touch_all, at);
	report_on("a child's pages", p.pid, at);
	peer_end(&p);
	fresh();
	at = area(4);
	touch(at, 4);
	report_on("pid 0", 0, at);
	fresh();
	at = area(4);
	touch(at, 4);
	report_on("its own pid", getpid(), at);
	fresh();
	at = area(4);
	touch(at, 4);
	in_child(parents, at);
	fresh();
	at = area(4);
	touch(at, 4);
	in_thread(thread_id, at);
	fresh();
	at = area(4);
	touch(at, 4);
	in_thread(main_from_thread, at);
	fresh();
	at = area(4);
	touch(at, 4);
	report_on("no such process", NOBODY, at);
	report_on("pid -1", -1, at);
	fresh();
	at = area(4);
	p = peer_begin(NULL, NULL);
	peer_end(&p);
	report_on("a process that has ended", p.pid, at);
	fresh();
	at = area(4);
	touch(at, 4);
	as_nobody(NAME, "a root process's pages, by another user", nobody_asks, at);
	fresh();
	as_nobody(NAME, "its own pages, by a user without CAP_SYS_NICE", nobody_asks_own, area(4));
	fresh();
	at = area(4);
	p = peer_begin(nobody_touches, at);
	report_on("another user's pages, by root", p.pid, at);
	peer_end(&p);
	fresh();
	at = area(4);
	p = peer_begin(closed_nobody_touches, at);
	report_on("another user's pages, not dumpable, by root", p.pid, at);
	peer_end(&p);
}

/* The range's policy says nothing about where move_pages() puts a page, nor does it change. */
static void policies_stay(void)
{
	struct request r;
	char *at;
	long ret;

	fresh();
	at = area(4);
	range_policy(at, 4, BIND, "0", 0);
	touch(at, 4);
	fill(&r, at, 4, 1);
	ret = move_pages(0, 4, r.page, r.to, r.status, MOVE);
	report(NAME, "4 pages with bind {0} to 1", "%s, %s, then %s, pages %s%s", outcome(ret), statuses(r.status, 4),
	       policies(at, 4), pages(at, 4), kept(at, 4));
	ret = range_policy(at, 4, BIND, "0", STRICT);
	report(NAME, "4 pages with bind {0} to 1: mbind strict after that", "%s", outcome(ret));
	madvise(at, 2 * PAGE, MADV_DONTNEED);
	touch(at, 4);
	report(NAME, "4 pages with bind {0} to 1: 2 touched again", "pages %s", pages(at, 4));
}

static void many(void)
{
	static void *list[768];
	static int to[768], status[768];
	size_t moved = 0;
	char *at;
	long ret;

	fresh();
	at = area(767);
	touch(at, 767);
	for (size_t i = 0; i < 767; i++) {
		list[i] = at + i * PAGE;
		to[i] = (int)(i / 3 % 2);
	}
	ret = move_pages(0, 767, list, to, status, MOVE);
	for (size_t i = 0; i < 767; i++)
		moved += status[i] == to[i];
	report(NAME, "767 pages, three to 0, three to 1, and so on", "%s, %zu good, first pages %s%s", outcome(ret),
	       moved, pages(at, 18), kept(at, 767));
}

void cases_move(void)
{
	kinds();
	to_nodes();
	lists();
	counts();
	pointers();
	flags();
	shared();
	held();
	processes();
	policies_stay();
	many();
}

/* SPDX-License-Identifier: MIT */
/*
 * migrate_pages(): relative placement page by page, node sets, other processes, what cannot move. The value it returns
 * counts pages of the whole process, libraries too, and is given as "0 or more" unless it says something.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "case.h"

#define NAME "migrate_pages"
#define NOBODY 4194303

static const char *done(long ret)
{
	return ret >= 0 ? "0 or more" : outcome(ret);
}

static long migrate(pid_t pid, const char *from, const char *to)
{
	return migrate_pages(pid, MAXNODE, from ? nodes(from) : NULL, to ? nodes(to) : NULL);
}

static const struct {
	const char *from, *to;
	int nodes;
} moves[] = {
	{ "0", "1", 2 },	 { "1", "0", 2 },	  { "0,1", "1", 2 },	   { "0,1", "0", 2 },
	{ "0", "0,1", 2 },	 { "1", "0,1", 2 },	  { "0,1", "0,1", 2 },	   { "0", "0", 2 },
	{ "1", "1", 2 },	 { "", "1", 2 },	  { "0", "", 2 },	   { "", "", 2 },
	{ "N", "1", 2 },	 { "0", "N", 2 },	  { "0,N", "1", 2 },	   { "0,N", "1,N", 2 },
	{ "0", "1,N", 2 },	 { "0,1", "N", 2 },	  { "0,1", "1,N", 2 },	   { "all", "1", 2 },
	{ "all", "all", 2 },	 { "all", "0", 2 },	  { "0,1,2", "1,2,3", 4 }, { "0,1", "2", 4 },
	{ "0", "2,3", 4 },	 { "0,1", "1,2", 4 },	  { "1,2", "0,1", 4 },	   { "0,1,2", "0,1,3", 4 },
	{ "1,2,3", "0,1,2", 4 }, { "0,1", "2,3", 4 },	  { "2,3", "0,1", 4 },	   { "0,2", "1,3", 4 },
	{ "1,3", "0,2", 4 },	 { "0,1,2,3", "0,1", 4 }, { "0,1,2,3", "2,3", 4 }, { "0,1,2", "3", 4 },
	{ "0", "1,2,3", 4 },	 { "0,1", "1,2,3", 4 },	  { "0,3", "1,2", 4 },	   { "0,1,2", "1,2", 4 },
	{ "0,1,2", "2,3", 4 },	 { "1,2", "2,3", 4 },	  { "0,1,3", "1,2,3", 4 }, { "0,3", "3", 4 },
	{ "0,1,2,3", "1,3", 4 },
};

static void relative(void)
{
	const char *layout = nr_nodes >= 4 ? "0123012301230123" : "0101010101010101";
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(moves); i++) {
		if (moves[i].nodes > nr_nodes)
			continue;
		fresh();
		at = area(16);
		lay_out(at, layout);
		ret = migrate(0, moves[i].from, moves[i].to);
		report(NAME, format("{%s} to {%s}: pages %.8s twice", moves[i].from, moves[i].to, layout),
		       "%s, pages %s%s", done(ret), pages(at, 16), kept(at, 16));
	}
	fresh();
	at = area(8);
	lay_out(at, "0011");
	ret = migrate(0, NULL, "1");
	report(NAME, "NULL to {1}: pages 0011", "%s, pages %s", done(ret), pages(at, 8));
	ret = migrate(0, "0", NULL);
	report(NAME, "{0} to NULL: pages 0011", "%s, pages %s", done(ret), pages(at, 8));
	ret = migrate(0, NULL, NULL);
	report(NAME, "NULL to NULL: pages 0011", "%s, pages %s", done(ret), pages(at, 8));
	fresh();
	at = area(8);
	lay_out(at, "0-1-0-1-");
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: pages 0-1-0-1-", "%s, pages %s", done(ret), pages(at, 8));
	fresh();
	at = area(8);
	lay_out(at, "01010101");
	ret = migrate(0, "0", "1");
	ret |= migrate(0, "1", "0");
	report(NAME, "{0} to {1}, then {1} to {0}: pages 01010101", "%s, pages %s%s", done(ret), pages(at, 8),
	       kept(at, 8));
}

/* Policies neither hinder nor follow. */
static void policies_stay(void)
{
	static const struct {
		const char *name;
		int mode;
		const char *list;
	} kinds[] = { { "bind {0}", BIND, "0" },
		      { "interleave {0,1}", INTERLEAVE, "0,1" },
		      { "preferred {0}", PREFERRED, "0" } };
	char *at;
	long ret;

	for (size_t k = 0; k < LIST_LEN(kinds); k++) {
		fresh();
		at = area(8);
		range_policy(at, 8, kinds[k].mode, kinds[k].list, 0);
		touch(at, 4);
		ret = migrate(0, "0", "1");
		touch(at + 4 * PAGE, 4);
		report(NAME, format("{0} to {1}: the range has %s, 4 of 8 touched before, 4 after", kinds[k].name),
		       "%s, then %s, pages %s", done(ret), policy(at), pages(at, 8));
		fresh();
		at = area(8);
		task_policy(kinds[k].mode, kinds[k].list);
		touch(at, 4);
		ret = migrate(0, "0", "1");
		touch(at + 4 * PAGE, 4);
		report(NAME, format("{0} to {1}: the task has %s, 4 of 8 touched before, 4 after", kinds[k].name),
		       "%s, then %s, pages %s", done(ret), policy(NULL), pages(at, 8));
	}
}

static void lengths(void)
{
	static const unsigned long maxnode[] = { 0,    1,    2,	   3,	  4,	 64,	65,	   66,
						 1024, 1025, 1026, 32768, 32769, 32770, 1UL << 63, ~0UL };
	struct nodes *high;
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(maxnode); i++) {
		fresh();
		at = area(4);
		lay_out(at, "0101");
		ret = migrate_pages(0, maxnode[i], nodes("0"), nodes("1"));
		report(NAME, format("{0} to {1}, maxnode %ld: pages 0101", (long)maxnode[i]), "%s, pages %s", done(ret),
		       pages(at, 4));
		fresh();
		at = area(4);
		lay_out(at, "0101");
		ret = migrate_pages(0, maxnode[i], nodes("1"), nodes("0"));
		report(NAME, format("{1} to {0}, maxnode %ld: pages 0101", (long)maxnode[i]), "%s, pages %s", done(ret),
		       pages(at, 4));
		ret = migrate_pages(0, maxnode[i], NULL, NULL);
		report(NAME, format("NULL to NULL, maxnode %ld", (long)maxnode[i]), "%s", done(ret));
	}
	for (int which = 0; which < 2; which++)
		for (unsigned int bit = 64; bit < 2000; bit += 480) {
			fresh();
			at = area(4);
			lay_out(at, "0101");
			high = nodes(which ? "1" : "0");
			high->word[bit / 64] |= 1UL << bit % 64;
			ret = which ? migrate_pages(0, 2048, nodes("0"), high)
				    : migrate_pages(0, 2048, high, nodes("1"));
			report(NAME,
			       format("{0} to {1}, bit %u of the %s set, maxnode 2048", bit, which ? "new" : "old"),
			       "%s, pages %s", done(ret), pages(at, 4));
		}
}

static void pointers(void)
{
	fresh();
	report(NAME, "old at 8", "%s", done(migrate_pages(0, 65, BAD_POINTER, nodes("1"))));
	report(NAME, "new at 8", "%s", done(migrate_pages(0, 65, nodes("0"), BAD_POINTER)));
	report(NAME, "old in the kernel", "%s", done(migrate_pages(0, 65, KERNEL_POINTER, nodes("1"))));
	report(NAME, "both at 8, maxnode 1", "%s", done(migrate_pages(0, 1, BAD_POINTER, BAD_POINTER)));
	report(NAME, "both at 8, maxnode 2^64-1", "%s", done(migrate_pages(0, ~0UL, BAD_POINTER, BAD_POINTER)));
	report(NAME, "old at 8, no such process", "%s", done(migrate_pages(NOBODY, 65, BAD_POINTER, nodes("1"))));
	report(NAME, "{0} to {N}, no such process", "%s", done(migrate(NOBODY, "0", "N")));
}

/* ---- other processes ---- */

static void lay_out_4(void *at)
{
	lay_out(at, "0101");
}

static void migrate_parent(void *at)
{
	long ret = migrate(getppid(), "0", "1");

	report(NAME, "{0} to {1}: the parent's pages 0101", "%s, pages %s", done(ret), pages_of(getppid(), at, 4));
}

static void nobody_migrates_parent(void *at)
{
	(void)at;
	report(NAME, "{0} to {1}: a root process, by another user", "%s", done(migrate(getppid(), "0", "1")));
	report(NAME, "{} to {}: a root process, by another user", "%s", done(migrate(getppid(), "", "")));
}

static void nobody_migrates(void *at)
{
	long ret;

	lay_out(at, "0101");
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: itself, by a user without CAP_SYS_NICE", "%s, pages %s", done(ret), pages(at, 4));
	report(NAME, "{0} to {1,N}: by a user without CAP_SYS_NICE", "%s", done(migrate(0, "0", "1,N")));
	report(NAME, "{0} to {N}: by a user without CAP_SYS_NICE", "%s", done(migrate(0, "0", "N")));
	report(NAME, "{0,N} to {1}: by a user without CAP_SYS_NICE", "%s", done(migrate(0, "0,N", "1")));
	report(NAME, "{} to {}: by a user without CAP_SYS_NICE", "%s", done(migrate(0, "", "")));
}

static void nobody_lays_out(void *at)
{
	become_nobody(NULL);
	lay_out(at, "0101");
}

static void closed_nobody_lays_out(void *at)
{
	nobody_lays_out(at);
	prctl(PR_SET_DUMPABLE, 0);
}

static void by_thread_id(void *at)
{
	long ret = migrate((pid_t)syscall(SYS_gettid), "0", "1");

	report(NAME, "{0} to {1}: by a thread's id, pages 0101", "%s, pages %s", done(ret), pages(at, 4));
}

static void ask_pid(const char *who, pid_t pid, char *at)
{
	long ret = migrate(pid, "0", "1");

	report(NAME, format("{0} to {1}: %s, pages 0101", who), "%s, pages %s", done(ret), pages_of(pid, at, 4));
}

static void of_peer(const char *who, void (*fn)(void *arg))
{
	struct peer p;
	char *at;

	fresh();
	at = area(4);
	p = peer_begin(fn, at);
	ask_pid(who, p.pid, at);
	peer_end(&p);
}

static void processes(void)
{
	struct peer p;
	char *at;

	of_peer("a child", lay_out_4);
	of_peer("another user's process, by root", nobody_lays_out);
	of_peer("another user's process, not dumpable, by root", closed_nobody_lays_out);
	fresh();
	at = area(4);
	lay_out(at, "0101");
	ask_pid("its own pid", getpid(), at);
	fresh();
	at = area(4);
	lay_out(at, "0101");
	in_thread(by_thread_id, at);
	fresh();
	at = area(4);
	lay_out(at, "0101");
	in_child(migrate_parent, at);
	ask_pid("no such process", NOBODY, at);
	ask_pid("pid -1", -1, at);
	p = peer_begin(NULL, NULL);
	peer_end(&p);
	ask_pid("a process that has ended", p.pid, at);
	fresh();
	as_nobody(NAME, "{0} to {1}: a root process, by another user", nobody_migrates_parent, NULL);
	fresh();
	as_nobody(NAME, "{0} to {1}: itself, by a user without CAP_SYS_NICE", nobody_migrates, area(4));
}

/* ---- pages that stay, or are of a special kind ---- */

static void write_half(void *at)
{
	touch((char *)at + 2 * PAGE, 2);
}

static void nobody_migrates_shared(void *at)
{
	long ret;

	touch((char *)at + 2 * PAGE, 2);
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: itself, by a user without CAP_SYS_NICE, 2 of 4 pages shared with the parent",
	       "%s, pages %s", done(ret), pages(at, 4));
}

static void special(void)
{
	struct iovec v;
	struct peer p;
	int fd[2];
	char *at;
	long ret;

	fresh();
	at = area(4);
	touch(at, 4);
	p = peer_begin(write_half, at);
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: pages 0000, 2 of them shared with a child", "%s, pages %s, the child's %s", done(ret),
	       pages(at, 4), pages_of(p.pid, at, 4));
	peer_end(&p);
	fresh();
	at = area(4);
	touch(at, 4);
	p = peer_begin(write_half, at);
	ret = migrate(p.pid, "0", "1");
	report(NAME, "{0} to {1}: a child's pages 0000, 2 of them shared", "%s, pages %s, the child's %s", done(ret),
	       pages(at, 4), pages_of(p.pid, at, 4));
	peer_end(&p);
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: pages that were shared with a child, after its end", "%s, pages %s%s", done(ret),
	       pages(at, 4), kept(at, 4));
	fresh();
	at = area(4);
	touch(at, 4);
	as_nobody(NAME, "{0} to {1}: itself, by a user without CAP_SYS_NICE, 2 of 4 pages shared with the parent",
		  nobody_migrates_shared, at);
	fresh();
	at = area(4);
	touch(at, 4);
	v.iov_base = at + PAGE;
	v.iov_len = PAGE;
	if (pipe(fd) || vmsplice(fd[1], &v, 1, 0) != (ssize_t)PAGE)
		return;
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: pages 0000, a pipe holds the second", "%s, pages %s%s",
	       ret > 0 ? "more than 0" : outcome(ret), pages(at, 4), kept(at, 4));
	close(fd[0]);
	close(fd[1]);
	fresh();
	at = area(8);
	touch(at, 8);
	mprotect(at, 2 * PAGE, PROT_READ);
	mprotect(at + 2 * PAGE, 2 * PAGE, PROT_NONE);
	mlock(at + 4 * PAGE, 2 * PAGE);
	ret = migrate(0, "0", "1");
	mprotect(at, 4 * PAGE, PROT_READ | PROT_WRITE);
	report(NAME, "{0} to {1}: pages read-only, without access, locked, others", "%s, pages %s%s", done(ret),
	       pages(at, 8), kept(at, 8));
	fresh();
	at = mmap(hole(), 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	touch(at, 4);
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: pages 0000 of shared memory", "%s, pages %s%s", done(ret), pages(at, 4), kept(at, 4));
	fresh();
	at = area(767);
	touch(at, 767);
	ret = migrate(0, "0", "1");
	report(NAME, "{0} to {1}: 767 pages", "%s, pages %s%s", done(ret),
	       strspn(pages(at, 767), "1") == 767 ? "all on 1" : pages(at, 767), kept(at, 767));
}

void cases_migrate(void)
{
	relative();
	policies_stay();
	lengths();
	pointers();
	processes();
	special();
}

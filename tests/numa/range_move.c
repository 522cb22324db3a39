/* SPDX-License-Identifier: MIT */
/* mbind() of pages that are there: what MPOL_MF_STRICT finds, what MPOL_MF_MOVE moves, and what stays. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include "case.h"

#define NAME "mbind"

static const struct {
	const char *name;
	int mode;
	const char *list;
	int nodes;
} to[] = {
	{ "default", DEFAULT, NULL, 2 },
	{ "local", LOCAL, NULL, 2 },
	{ "preferred {}", PREFERRED, "", 2 },
	{ "preferred {1}", PREFERRED, "1", 2 },
	{ "preferred {0,1}", PREFERRED, "0,1", 2 },
	{ "bind {0}", BIND, "0", 2 },
	{ "bind {1}", BIND, "1", 2 },
	{ "bind {0,1}", BIND, "0,1", 2 },
	{ "bind|static {1}", BIND | STATIC, "1", 2 },
	{ "bind|relative {1}", BIND | RELATIVE, "1", 2 },
	{ "bind|relative {1,N}", BIND | RELATIVE, "1,N", 2 },
	{ "interleave|relative {1,N}", INTERLEAVE | RELATIVE, "1,N", 2 },
	{ "preferred|relative {N}", PREFERRED | RELATIVE, "N", 2 },
	{ "bind|balancing {1}", BIND | NUMA_BALANCING, "1", 2 },
	{ "preferred-many {1}", PREFERRED_MANY, "1", 2 },
	{ "preferred-many {0,1}", PREFERRED_MANY, "0,1", 2 },
	{ "interleave {1}", INTERLEAVE, "1", 2 },
	{ "interleave {0,1}", INTERLEAVE, "0,1", 2 },
	{ "weighted-interleave {0,1}", WEIGHTED_INTERLEAVE, "0,1", 2 },
	{ "bind {2}", BIND, "2", 4 },
	{ "bind {1,2}", BIND, "1,2", 4 },
	{ "bind {2,3}", BIND, "2,3", 4 },
	{ "preferred {2,3}", PREFERRED, "2,3", 4 },
	{ "preferred-many {2,3}", PREFERRED_MANY, "2,3", 4 },
	{ "interleave {2,3}", INTERLEAVE, "2,3", 4 },
	{ "interleave {1,2,3}", INTERLEAVE, "1,2,3", 4 },
	{ "weighted-interleave {1,2,3}", WEIGHTED_INTERLEAVE, "1,2,3", 4 },
	{ "interleave {0,1,2,3}", INTERLEAVE, "0,1,2,3", 4 },
};

static const struct {
	const char *name;
	unsigned int flags;
} how[] = { { "", 0 }, { ", strict", STRICT }, { ", move", MOVE }, { ", move strict", MOVE | STRICT } };

static void layouts(void)
{
	static const struct {
		const char *layout;
		int nodes;
	} from[] = { { "00000000", 2 }, { "11111111", 2 }, { "0--1-01-", 2 }, { "01230123", 4 }, { "33221100", 4 } };
	char asked[120];
	char *at;
	long ret;

	for (size_t t = 0; t < LIST_LEN(to); t++)
		for (size_t f = 0; f < LIST_LEN(from); f++)
			for (size_t h = 0; h < LIST_LEN(how); h++) {
				if (to[t].nodes > nr_nodes || from[f].nodes > nr_nodes)
					continue;
				fresh();
				at = area(8);
				lay_out(at, from[f].layout);
				ret = range_policy(at, 8, to[t].mode, to[t].list, how[h].flags);
				snprintf(asked, sizeof(asked), "%s%s: pages %s", to[t].name, how[h].name,
					 from[f].layout);
				report(NAME, asked, "%s, then %s, pages %s%s", outcome(ret), policy(at), pages(at, 8),
				       strchr(from[f].layout, '-') ? "" : kept(at, 8));
			}
}

/* What MPOL_DEFAULT and MPOL_LOCAL mean for pages that move: the policy and the place of the caller. */
static void callers(void)
{
	static const struct {
		const char *name;
		int mode;
		const char *list;
	} task[] = { { "bind {1}", BIND, "1" },
		     { "interleave {0,1}", INTERLEAVE, "0,1" },
		     { "preferred {1}", PREFERRED, "1" } };
	char asked[120];
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(task); i++)
		for (int local = 0; local < 2; local++) {
			fresh();
			at = area(8);
			lay_out(at, "00001111");
			task_policy(task[i].mode, task[i].list);
			ret = range_policy(at, 8, local ? LOCAL : DEFAULT, NULL, MOVE);
			snprintf(asked, sizeof(asked), "%s, move: pages 00001111, the task has %s",
				 local ? "local" : "default", task[i].name);
			report(NAME, asked, "%s, pages %s%s", outcome(ret), pages(at, 8), kept(at, 8));
		}
	for (int node = 0; node < nr_nodes; node++) {
		snprintf(asked, sizeof(asked), "local, move: pages 0101, on a CPU of node %d", node);
		fresh();
		at = area(4);
		lay_out(at, "0101");
		if (!pin_to(node)) {
			report(NAME, asked, "cannot: no CPU there");
			continue;
		}
		ret = range_policy(at, 4, LOCAL, NULL, MOVE);
		report(NAME, asked, "%s, pages %s%s", outcome(ret), pages(at, 4), kept(at, 4));
	}
	fresh();
	at = area_at(1, 8);
	touch(at, 8);
	ret = range_policy(at, 8, INTERLEAVE, "1", MOVE);
	ret |= range_policy(at, 8, BIND, "0", MOVE);
	report(NAME, "interleave {1}, then bind {0}, move", "%s, pages %s%s", outcome(ret), pages(at, 8), kept(at, 8));
	if (nr_nodes < 4)
		return;
	for (size_t first = 0; first < 4; first++) {
		fresh();
		at = area_at(first, 8);
		touch(at, 8);
		ret = range_policy(at, 8, INTERLEAVE, "1,2,3", MOVE);
		snprintf(asked, sizeof(asked), "interleave {1,2,3}, move: pages 00000000, page number %zu", first);
		report(NAME, asked, "%s, pages %s%s", outcome(ret), pages(at, 8), kept(at, 8));
	}
}

/* A range whose mappings have several policies and kinds. */
static void several(void)
{
	char *at;
	long ret;

	for (size_t h = 0; h < LIST_LEN(how); h++) {
		fresh();
		at = area(8);
		touch(at, 8);
		mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ);
		mprotect(at + 4 * PAGE, 2 * PAGE, PROT_NONE);
		ret = range_policy(at, 8, BIND, "1", how[h].flags);
		mprotect(at, 8 * PAGE, PROT_READ | PROT_WRITE);
		report(NAME, format("bind {1}%s: pages 00000000, 2 read-only, 2 without access", how[h].name),
		       "%s, then %s, pages %s%s", outcome(ret), policies(at, 8), pages(at, 8), kept(at, 8));
	}
	for (size_t h = 0; h < LIST_LEN(how); h++) {
		fresh();
		at = area(4);
		if (((volatile char *)at)[0] | ((volatile char *)at)[PAGE])
			return;
		touch(at + 2 * PAGE, 2);
		ret = range_policy(at, 4, BIND, "1", how[h].flags);
		report(NAME, format("bind {1}%s: two zero pages and pages 00", how[h].name), "%s, pages %s",
		       outcome(ret), pages(at, 4));
	}
}

/* ---- pages of two processes ---- */

struct sharing {
	const char *child, *name;
	unsigned int flags;
};

static void child_writes(void *at)
{
	touch((char *)at + PAGE, 2);
}

static void child_binds(void *arg)
{
	char **at = arg;
	long ret = range_policy(at[0], 4, BIND, "1", (unsigned int)(uintptr_t)at[1]);

	report(NAME, at[2], "%s, pages %s%s", outcome(ret), pages(at[0], 4), kept(at[0], 4));
}

static void shared(void)
{
	static const struct {
		const char *name;
		unsigned int flags;
	} all[] = { { "strict", STRICT },
		    { "move", MOVE },
		    { "move strict", MOVE | STRICT },
		    { "move-all", MOVE_ALL },
		    { "move-all strict", MOVE_ALL | STRICT } };
	char asked[120];
	struct peer p;
	char *at;
	long ret;

	for (size_t i = 0; i < LIST_LEN(all); i++) {
		fresh();
		at = area(4);
		touch(at, 4);
		p = peer_begin(child_writes, at);
		ret = range_policy(at, 4, BIND, "1", all[i].flags);
		snprintf(asked, sizeof(asked), "bind {1}, %s: pages 0000, the first and last shared with a child",
			 all[i].name);
		report(NAME, asked, "%s, pages %s%s, the child's %s", outcome(ret), pages(at, 4), kept(at, 4),
		       pages_of(p.pid, at, 4));
		peer_end(&p);
		ret = range_policy(at, 4, BIND, "1", all[i].flags);
		snprintf(asked, sizeof(asked), "bind {1}, %s: again, after the child's end", all[i].name);
		report(NAME, asked, "%s, pages %s%s", outcome(ret), pages(at, 4), kept(at, 4));
	}
	for (size_t i = 0; i < LIST_LEN(all); i++) {
		char *args[3];

		fresh();
		at = area(4);
		touch(at, 4);
		snprintf(asked, sizeof(asked), "bind {1}, %s: pages 0000, by a child that shares them", all[i].name);
		args[0] = at;
		args[1] = (char *)(uintptr_t)all[i].flags;
		args[2] = asked;
		in_child(child_binds, args);
	}
}

static void nobody_binds(void *arg)
{
	char **at = arg;
	long ret = range_policy(at[0], 4, BIND, "1", (unsigned int)(uintptr_t)at[1]);

	report(NAME, at[2], "%s, then %s, pages %s", outcome(ret), policy(at[0]), pages(at[0], 4));
}

static void nobody(void)
{
	static const struct {
		const char *name;
		unsigned int flags;
	} all[] = {
		{ "move", MOVE }, { "move-all", MOVE_ALL }, { "move-all lazy", MOVE_ALL | LAZY }, { "strict", STRICT }
	};
	char asked[120];
	char *args[3];

	for (size_t i = 0; i < LIST_LEN(all); i++) {
		fresh();
		args[0] = area(4);
		args[1] = (char *)(uintptr_t)all[i].flags;
		args[2] = asked;
		snprintf(asked, sizeof(asked), "bind {1}, %s: by a user without CAP_SYS_NICE", all[i].name);
		as_nobody(NAME, asked, nobody_binds, args);
	}
}

/* A page that a pipe refers to cannot move. */
static void held(void)
{
	struct iovec v;
	int fd[2];
	char *at;
	long ret;

	for (size_t h = 0; h < LIST_LEN(how); h++) {
		fresh();
		at = area(4);
		touch(at, 4);
		if (pipe(fd))
			return;
		v.iov_base = at + PAGE;
		v.iov_len = PAGE;
		if (vmsplice(fd[1], &v, 1, 0) != (ssize_t)PAGE)
			return;
		ret = range_policy(at, 4, BIND, "1", how[h].flags);
		report(NAME, format("bind {1}%s: pages 0000, a pipe holds the second", how[h].name),
		       "%s, then %s, pages %s%s", outcome(ret), policy(at), pages(at, 4), kept(at, 4));
		close(fd[0]);
		close(fd[1]);
	}
}

/* Pages of a file and of shared memory that only this process maps. */
static void objects(void)
{
	char *at;
	long ret;

	for (size_t h = 0; h < LIST_LEN(how); h++) {
		fresh();
		at = hole();
		mmap(at, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		touch(at, 4);
		ret = range_policy(at, 4, BIND, "1", how[h].flags);
		report(NAME, format("bind {1}%s: pages 0000 of shared memory", how[h].name), "%s, pages %s%s",
		       outcome(ret), pages(at, 4), kept(at, 4));
	}
}

void cases_range_move(void)
{
	layouts();
	callers();
	several();
	shared();
	nobody();
	held();
	objects();
}

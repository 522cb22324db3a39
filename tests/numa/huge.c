/* SPDX-License-Identifier: MIT */
/* Huge pages: where they come down, and that a call moves one as a whole or splits it. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "case.h"

/* Two huge pages' worth of address space. */
static char *huge_area(void)
{
	char *at = hole();

	at += (HUGE - (uintptr_t)at % HUGE) % HUGE;
	hole();
	hole();
	mmap(at, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	madvise(at, 2 * HUGE, MADV_HUGEPAGE);
	return at;
}

/* How many kilobytes of the mapping at addr are mapped as huge pages. */
static long huge_kb(const char *at)
{
	char line[256];
	unsigned long from, to;
	long kb = 0, here = 0;
	FILE *f = fopen("/proc/self/smaps", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from < (uintptr_t)at + 2 * HUGE && to > (uintptr_t)at;
		if (here && !strncmp(line, "AnonHugePages:", 14))
			kb += atol(line + 14);
	}
	if (f)
		fclose(f);
	return kb;
}

/* Pages 0, 1, 256 and 511 of each of the two. */
static const char *samples(const char *at)
{
	return format("%s%s%s %s%s%s", pages(at, 2), pages(at + 256 * PAGE, 1), pages(at + 511 * PAGE, 1),
		      pages(at + HUGE, 2), pages(at + HUGE + 256 * PAGE, 1), pages(at + HUGE + 511 * PAGE, 1));
}

static bool huge_there(const char *call, const char *asked, const char *at)
{
	if (huge_kb(at) > 0)
		return true;
	report(call, asked, "cannot: no huge page here");
	return false;
}

static char *touched(void)
{
	char *at;

	fresh();
	at = huge_area();
	touch(at, 1);
	touch(at + HUGE, 1);
	return at;
}

static void touches(void)
{
	static const struct {
		const char *name;
		int mode;
		const char *list;
	} kinds[] = { { "bind {1}", BIND, "1" },
		      { "interleave {0,1}", INTERLEAVE, "0,1" },
		      { "preferred {1}", PREFERRED, "1" },
		      { "preferred-many {1}", PREFERRED_MANY, "1" },
		      { "weighted-interleave {0,1}", WEIGHTED_INTERLEAVE, "0,1" },
		      { "local", LOCAL, NULL } };

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (int range = 0; range < 2; range++) {
			const char *asked = format("the %s's %s, two huge pages", range ? "range" : "task",
						   kinds[k].name);
			char *at, *first;

			fresh();
			at = huge_area();
			if (range)
				mbind(at, 2 * HUGE, kinds[k].mode, kinds[k].list ? nodes(kinds[k].list) : NULL, MAXNODE,
				      0);
			else
				task_policy(kinds[k].mode, kinds[k].list);
			touch(at, 1);
			touch(at + HUGE, 1);
			if (!huge_there("first touch", asked, at))
				continue;
			/* Interleaving begins where the address says. */
			first = (char *)pages(at, 1);
			if (kinds[k].mode == INTERLEAVE || kinds[k].mode == WEIGHTED_INTERLEAVE)
				report("first touch", asked, "on %s",
				       strcmp(first, pages(at + HUGE, 1)) ? "both nodes" : "one node");
			else
				report("first touch", asked, "pages %s", samples(at));
		}
}

static void moves(void)
{
	int to = 1, status = STATUS_UNSET;
	const char *asked;
	void *page;
	char *at;
	long ret;

	asked = "bind {1}, move: two huge pages on node 0";
	at = touched();
	if (huge_there("mbind", asked, at)) {
		ret = mbind(at, 2 * HUGE, BIND, nodes("1"), MAXNODE, MOVE);
		report("mbind", asked, "%s, pages %s, %ld kB huge%s", outcome(ret), samples(at), huge_kb(at),
		       kept(at, 1));
	}
	asked = "bind {1}, strict: two huge pages on node 0";
	at = touched();
	if (huge_there("mbind", asked, at)) {
		ret = mbind(at, 2 * HUGE, BIND, nodes("1"), MAXNODE, STRICT);
		report("mbind", asked, "%s, pages %s, %ld kB huge%s", outcome(ret), samples(at), huge_kb(at),
		       kept(at, 1));
	}
	asked = "bind {1}, move: the first half of a huge page";
	at = touched();
	if (huge_there("mbind", asked, at)) {
		ret = mbind(at, HUGE / 2, BIND, nodes("1"), MAXNODE, MOVE);
		report("mbind", asked, "%s, pages %s%s", outcome(ret), samples(at), kept(at, 1));
	}
	asked = "one huge page to 1, by its first address";
	at = touched();
	if (huge_there("move_pages", asked, at)) {
		page = at;
		ret = move_pages(0, 1, &page, &to, &status, MOVE);
		report("move_pages", asked, "%s, %s, pages %s, %ld kB huge%s", outcome(ret), statuses(&status, 1),
		       samples(at), huge_kb(at), kept(at, 1));
	}
	asked = "one huge page to 1, by an address in its middle";
	at = touched();
	if (huge_there("move_pages", asked, at)) {
		page = at + 300 * PAGE;
		status = STATUS_UNSET;
		ret = move_pages(0, 1, &page, &to, &status, MOVE);
		report("move_pages", asked, "%s, %s, pages %s, %ld kB huge%s", outcome(ret), statuses(&status, 1),
		       samples(at), huge_kb(at), kept(at, 1));
	}
	asked = "{0} to {1}: two huge pages";
	at = touched();
	if (huge_there("migrate_pages", asked, at)) {
		ret = migrate_pages(0, MAXNODE, nodes("0"), nodes("1"));
		report("migrate_pages", asked, "%s, pages %s, %ld kB huge%s", ret >= 0 ? "0 or more" : outcome(ret),
		       samples(at), huge_kb(at), kept(at, 1));
	}
}

static void queries(void)
{
	void *list[3];
	int to[3] = { 1, 1, 1 }, status[3];
	const char *asked = "three pages of a huge page to 1";
	char *at = touched();
	long ret;

	if (!huge_there("move_pages", asked, at))
		return;
	for (size_t i = 0; i < 3; i++)
		list[i] = at + i * 200 * PAGE;
	ret = move_pages(0, 3, list, to, status, MOVE);
	report("move_pages", asked, "%s, %s, pages %s", outcome(ret), statuses(status, 3), samples(at));
	for (int i = 0; i < 3; i++)
		to[i] = i % 2;
	ret = move_pages(0, 3, list, to, status, MOVE);
	report("move_pages", "three pages of a huge page on 1 to 0 1 0", "%s, %s, pages %s", outcome(ret),
	       statuses(status, 3), samples(at));
}

void cases_huge(void)
{
	touches();
	moves();
	queries();
}

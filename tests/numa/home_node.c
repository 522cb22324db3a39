/* SPDX-License-Identifier: MIT */
/* set_mempolicy_home_node(): which policies take one, its errors, and what it does to placement. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "case.h"

#define NAME "set_mempolicy_home_node"

static const struct {
	const char *name;
	int mode;
	const char *list;
	int nodes;
} kinds[] = {
	{ "no policy", -1, NULL, 2 },
	{ "default", DEFAULT, NULL, 2 },
	{ "local", LOCAL, NULL, 2 },
	{ "preferred {0}", PREFERRED, "0", 2 },
	{ "preferred {0,1}", PREFERRED, "0,1", 2 },
	{ "bind {0}", BIND, "0", 2 },
	{ "bind {0,1}", BIND, "0,1", 2 },
	{ "bind|static {0,1}", BIND | STATIC, "0,1", 2 },
	{ "preferred-many {0}", PREFERRED_MANY, "0", 2 },
	{ "preferred-many {0,1}", PREFERRED_MANY, "0,1", 2 },
	{ "interleave {0,1}", INTERLEAVE, "0,1", 2 },
	{ "weighted-interleave {0,1}", WEIGHTED_INTERLEAVE, "0,1", 2 },
	{ "bind {1,2,3}", BIND, "1,2,3", 4 },
	{ "bind {2,3}", BIND, "2,3", 4 },
	{ "preferred-many {1,2,3}", PREFERRED_MANY, "1,2,3", 4 },
	{ "preferred-many {1,3}", PREFERRED_MANY, "1,3", 4 },
};

static char *with_policy(size_t kind)
{
	char *at;

	fresh();
	at = area(8);
	if (kinds[kind].mode >= 0)
		range_policy(at, 8, kinds[kind].mode, kinds[kind].list, 0);
	return at;
}

static void every_policy(void)
{
	char asked[120];

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (int home = 0; home <= nr_nodes; home++) {
			char *at;
			long ret;

			if (kinds[k].nodes > nr_nodes)
				continue;
			at = with_policy(k);
			ret = set_home_node(at, 8 * PAGE, (unsigned long)home, 0);
			touch(at, 8);
			snprintf(asked, sizeof(asked), "%s, home %s", kinds[k].name,
				 home < nr_nodes ? format("%d", home) : "N");
			report(NAME, asked, "%s, then %s, pages %s", outcome(ret), policy(at), pages(at, 8));
		}
}

static void arguments(void)
{
	static const struct {
		const char *name;
		size_t from, len;
		unsigned long node, flags;
	} list[] = {
		{ "flags 1", 0, 8 * PAGE, 1, 1 },
		{ "flags 2^63", 0, 8 * PAGE, 1, 1UL << 63 },
		{ "address not aligned", 8, PAGE, 1, 0 },
		{ "length 0", 0, 0, 1, 0 },
		{ "length 0, home N", 0, 0, 99, 0 },
		{ "length 1", 0, 1, 1, 0 },
		{ "length 2^64-1", 0, ~0UL, 1, 0 },
		{ "length 2^64-4096", 0, ~0UL - 4095, 1, 0 },
		{ "home 63", 0, PAGE, 63, 0 },
		{ "home 64", 0, PAGE, 64, 0 },
		{ "home 1023", 0, PAGE, 1023, 0 },
		{ "home 1024", 0, PAGE, 1024, 0 },
		{ "home 2^32", 0, PAGE, 1UL << 32, 0 },
		{ "home -1", 0, PAGE, ~0UL, 0 },
		{ "a page more than is mapped", 0, 9 * PAGE, 1, 0 },
		{ "nothing mapped", 9 * PAGE, PAGE, 1, 0 },
		{ "two pages of 8", 2 * PAGE, 2 * PAGE, 1, 0 },
	};

	for (size_t i = 0; i < LIST_LEN(list); i++) {
		char *at = with_policy(6);
		long ret = set_home_node(at + list[i].from, list[i].len, list[i].node, list[i].flags);

		touch(at, 8);
		report(NAME, format("bind {0,1}, %s", list[i].name), "%s, then %s, pages %s", outcome(ret),
		       policies(at, 8), pages(at, 8));
	}
}

static void several(void)
{
	char *at, *pages_at;
	long ret;

	fresh();
	at = area(8);
	range_policy(at, 2, BIND, "0,1", 0);
	range_policy(at + 4 * PAGE, 2, BIND, "0,1", 0);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	touch(at, 8);
	report(NAME, "bind {0,1} on pages 0,1 and 4,5 of 8, home 1", "%s, then %s, pages %s", outcome(ret),
	       policies(at, 8), pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 2, BIND, "0,1", 0);
	range_policy(at + 4 * PAGE, 2, INTERLEAVE, "0,1", 0);
	range_policy(at + 6 * PAGE, 2, BIND, "0,1", 0);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	touch(at, 8);
	report(NAME, "bind {0,1}, none, interleave {0,1}, bind {0,1}: home 1", "%s, then %s, pages %s", outcome(ret),
	       policies(at, 8), pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "0,1", 0);
	munmap(at + 2 * PAGE, 2 * PAGE);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	touch(at, 2);
	touch(at + 4 * PAGE, 4);
	report(NAME, "bind {0,1}, 2 pages of 8 not mapped, home 1", "%s, pages %s", outcome(ret), pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "0,1");
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	touch(at, 8);
	report(NAME, "the task's bind {0,1}, home 1", "%s, pages %s", outcome(ret), pages(at, 8));
	pages_at = with_policy(6);
	touch(pages_at, 8);
	ret = set_home_node(pages_at, 8 * PAGE, 1, 0);
	report(NAME, "bind {0,1}, pages that are there, home 1", "%s, pages %s", outcome(ret), pages(pages_at, 8));
	at = with_policy(6);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	ret |= range_policy(at, 8, BIND, "0,1", 0);
	touch(at, 8);
	report(NAME, "bind {0,1}, home 1, then bind {0,1} again", "%s, pages %s", outcome(ret), pages(at, 8));
	at = with_policy(6);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	ret |= set_home_node(at, 4 * PAGE, 0, 0);
	touch(at, 8);
	report(NAME, "bind {0,1}, home 1, then home 0 for 4 of 8", "%s, pages %s", outcome(ret), pages(at, 8));
	at = with_policy(6);
	ret = set_home_node(at, 8 * PAGE, 1, 0);
	at = mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole());
	touch(at, 8);
	report(NAME, "bind {0,1}, home 1, moved by mremap()", "%s, pages %s", outcome(ret), pages(at, 8));
}

void cases_home_node(void)
{
	every_policy();
	arguments();
	several();
}

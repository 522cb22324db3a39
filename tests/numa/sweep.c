/* SPDX-License-Identifier: MIT */
/* Every mode with every flag and every kind of node set, for the task and for a range; where pages come down then. */
#include <stdio.h>
#include "case.h"

struct choice {
	const char *name;
	int value;
};

static const struct choice modes[] = {
	{ "default", DEFAULT }, { "preferred", PREFERRED },
	{ "bind", BIND },	{ "interleave", INTERLEAVE },
	{ "local", LOCAL },	{ "preferred-many", PREFERRED_MANY },
	{ "mode 7", 7 },	{ "weighted-interleave", WEIGHTED_INTERLEAVE },
	{ "mode 8", 8 },	{ "mode 2^20", 1 << 20 },
	{ "mode -1", -1 },
};

static const struct choice flags[] = {
	{ "", 0 },
	{ "|static", STATIC },
	{ "|relative", RELATIVE },
	{ "|static|relative", STATIC | RELATIVE },
	{ "|balancing", NUMA_BALANCING },
	{ "|balancing|static", NUMA_BALANCING | STATIC },
	{ "|unknown", 1 << 12 },
};

static const struct {
	const char *name, *list;
	int nodes; /* that the machine must have */
} sets[] = {
	{ "NULL", NULL, 2 },	   { "{}", "", 2 },
	{ "{0}", "0", 2 },	   { "{1}", "1", 2 },
	{ "{0,1}", "0,1", 2 },	   { "{N}", "N", 2 },
	{ "{0,N}", "0,N", 2 },	   { "{1,N}", "1,N", 2 },
	{ "{2}", "2", 4 },	   { "{1,2}", "1,2", 4 },
	{ "{2,3}", "2,3", 4 },	   { "{0,3}", "0,3", 4 },
	{ "{1,2,3}", "1,2,3", 4 }, { "{0,1,2,3}", "0,1,2,3", 4 },
};

static void ask_task(const char *asked, int mode, const char *list)
{
	char *at;
	long ret;

	fresh();
	at = area(8);
	ret = task_policy(mode, list);
	if (ret == 0)
		touch(at, 8);
	report("set_mempolicy", asked, "%s, then %s%s", outcome(ret), policy(NULL),
	       ret ? "" : format(", pages %s", pages(at, 8)));
}

static void ask_range(const char *asked, int mode, const char *list)
{
	char *at;
	long ret;

	fresh();
	at = area(8);
	ret = range_policy(at, 8, mode, list, 0);
	if (ret == 0)
		touch(at, 8);
	report("mbind", asked, "%s, then %s%s", outcome(ret), policy(at),
	       ret ? "" : format(", pages %s", pages(at, 8)));
}

static void sweep(void (*ask)(const char *asked, int mode, const char *list))
{
	char asked[100];

	for (size_t m = 0; m < LIST_LEN(modes); m++)
		for (size_t f = 0; f < LIST_LEN(flags); f++)
			for (size_t s = 0; s < LIST_LEN(sets); s++) {
				/* An unknown mode is one, whatever comes with it. */
				if (sets[s].nodes > nr_nodes || (modes[m].value > 6 && s != 2) ||
				    (modes[m].value < 0 && (s != 2 || f)))
					continue;
				snprintf(asked, sizeof(asked), "%s%s %s", modes[m].name, flags[f].name, sets[s].name);
				ask(asked, modes[m].value | flags[f].value, sets[s].list);
			}
}

void cases_task_sweep(void)
{
	sweep(ask_task);
}

void cases_range_sweep(void)
{
	sweep(ask_range);
}

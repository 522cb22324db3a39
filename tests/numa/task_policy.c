/* SPDX-License-Identifier: MIT */
/* set_mempolicy(): how the node set is read, bad pointers, and who inherits the policy. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "case.h"

#define NAME "set_mempolicy"

static const struct {
	const char *name;
	int mode;
} kinds[] = {
	{ "default", DEFAULT }, { "bind", BIND },	    { "interleave", INTERLEAVE },
	{ "local", LOCAL },	{ "preferred", PREFERRED }, { "preferred-many", PREFERRED_MANY },
};

static void ask(const char *asked, int mode, const void *mask, unsigned long maxnode)
{
	long ret;

	fresh();
	ret = set_mempolicy(mode, mask, maxnode);
	report(NAME, asked, "%s, then %s", outcome(ret), policy(NULL));
}

static void lengths(void)
{
	static const struct {
		const char *name;
		unsigned long maxnode;
	} lengths[] = {
		{ "0", 0 },	    { "1", 1 },		{ "2", 2 },
		{ "3", 3 },	    { "8", 8 },		{ "63", 63 },
		{ "64", 64 },	    { "65", 65 },	{ "66", 66 },
		{ "1024", 1024 },   { "1025", 1025 },	{ "1026", 1026 },
		{ "4096", 4096 },   { "32768", 32768 }, { "32769", 32769 },
		{ "32770", 32770 }, { "65536", 65536 }, { "2^63", 1UL << 63 },
		{ "2^64-1", ~0UL },
	};
	char asked[100];

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (size_t i = 0; i < LIST_LEN(lengths); i++) {
			snprintf(asked, sizeof(asked), "%s, maxnode %s, {0,1}", kinds[k].name, lengths[i].name);
			ask(asked, kinds[k].mode, nodes("0,1"), lengths[i].maxnode);
			snprintf(asked, sizeof(asked), "%s, maxnode %s, NULL", kinds[k].name, lengths[i].name);
			ask(asked, kinds[k].mode, NULL, lengths[i].maxnode);
		}
}

/* Bits at and beyond what the kernel has room for. */
static void high_bits(void)
{
	static const struct {
		unsigned int bit;
		unsigned long maxnode;
	} high[] = {
		{ 63, 65 },	{ 63, 64 },	{ 64, 65 },	{ 64, 66 },	{ 1023, 1025 },	  { 1023, 1024 },
		{ 1024, 1025 }, { 1024, 1026 }, { 2000, 2000 }, { 2000, 2002 }, { 32767, 32769 }, { 32767, 32768 },
	};
	char asked[100];

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (size_t i = 0; i < LIST_LEN(high); i++) {
			struct nodes *mask = nodes("1");

			mask->word[high[i].bit / 64] |= 1UL << high[i].bit % 64;
			snprintf(asked, sizeof(asked), "%s, {1} and bit %u, maxnode %lu", kinds[k].name, high[i].bit,
				 high[i].maxnode);
			ask(asked, kinds[k].mode, mask, high[i].maxnode);
		}
}

static void pointers(void)
{
	char asked[100];
	struct nodes *mask;
	char *at;
	long ret;

	for (size_t k = 0; k < LIST_LEN(kinds); k++) {
		snprintf(asked, sizeof(asked), "%s, mask at 8", kinds[k].name);
		ask(asked, kinds[k].mode, BAD_POINTER, 65);
		snprintf(asked, sizeof(asked), "%s, mask at 8, maxnode 1", kinds[k].name);
		ask(asked, kinds[k].mode, BAD_POINTER, 1);
		snprintf(asked, sizeof(asked), "%s, mask in the kernel", kinds[k].name);
		ask(asked, kinds[k].mode, KERNEL_POINTER, 65);
	}
	ask("mode 8, mask at 8", 8, BAD_POINTER, 65);
	ask("bind|static|relative, mask at 8", BIND | STATIC | RELATIVE, BAD_POINTER, 65);

	for (int last = 0; last < 4; last++) {
		static const unsigned long maxnode[] = { 65, 66, 1025, 9 };

		fresh();
		at = area(1);
		memcpy(at + PAGE - 8, nodes("1"), 8);
		snprintf(asked, sizeof(asked), "bind {1}, maxnode %lu, the mask's first 8 bytes end a mapping",
			 maxnode[last]);
		ret = set_mempolicy(BIND, at + PAGE - 8, maxnode[last]);
		report(NAME, asked, "%s, then %s", outcome(ret), policy(NULL));
	}
	fresh();
	at = area(1);
	mask = nodes("1");
	memcpy(at + 3, mask, 16);
	ret = set_mempolicy(BIND, at + 3, 65);
	report(NAME, "bind {1}, mask not aligned", "%s, then %s", outcome(ret), policy(NULL));
}

static void last_one_counts(void)
{
	long ret;

	fresh();
	task_policy(BIND, "1");
	ret = task_policy(BIND, "N");
	report(NAME, "bind {N} after bind {1}", "%s, then %s", outcome(ret), policy(NULL));
	fresh();
	task_policy(BIND, "1");
	ret = set_mempolicy(INTERLEAVE, BAD_POINTER, 65);
	report(NAME, "interleave, mask at 8, after bind {1}", "%s, then %s", outcome(ret), policy(NULL));
	fresh();
	task_policy(INTERLEAVE, "0,1");
	ret = task_policy(PREFERRED, "1");
	report(NAME, "preferred {1} after interleave {0,1}", "%s, then %s", outcome(ret), policy(NULL));
	fresh();
	task_policy(PREFERRED, "1");
	ret = task_policy(PREFERRED, NULL);
	report(NAME, "preferred NULL after preferred {1}", "%s, then %s", outcome(ret), policy(NULL));
}

static void show(void *what)
{
	report(NAME, what, "%s", policy(NULL));
}

static void change(void *unused)
{
	(void)unused;
	task_policy(PREFERRED, "0");
}

static void exec_self(void *unused)
{
	(void)unused;
	execl("/proc/self/exe", "calls", "--after-exec", NULL);
}

int after_exec(void)
{
	char *at;
	const char *inherited;

	inherited = format("%s", policy(NULL));
	machine_init();
	at = area(8);
	touch(at, 8);
	report(NAME, "interleave|static {0,1}: after execve() in a child", "%s, pages %s", inherited, pages(at, 8));
	return 0;
}

static void heirs(void)
{
	fresh();
	task_policy(INTERLEAVE | STATIC, "0,1");
	in_child(show, "interleave|static {0,1}: a forked child's");
	in_thread(show, "interleave|static {0,1}: a new thread's");
	in_child(exec_self, NULL);

	in_child(change, NULL);
	show("interleave|static {0,1}: after a forked child set its own");
	in_thread(change, NULL);
	show("interleave|static {0,1}: after a thread set its own");
}

static void new_thread_again(void *unused)
{
	(void)unused;
	task_policy(BIND, "1");
	in_thread(show, "a thread's of a thread with bind {1}");
	in_child(show, "a child's of a thread with bind {1}");
}

void cases_task_policy(void)
{
	lengths();
	high_bits();
	pointers();
	last_one_counts();
	heirs();
	fresh();
	in_thread(new_thread_again, NULL);
	show("the main thread's, after its thread set bind {1}");
}

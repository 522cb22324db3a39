/* SPDX-License-Identifier: MIT */
/* get_mempolicy(): every set of flags, what each argument may be, and what comes back. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "case.h"

#define NAME "get_mempolicy"
#define NOT_WRITTEN (-7777)

/* The answer to one question: what was written to mode and mask. */
static void ask(const char *asked, unsigned long maxnode, void *addr, unsigned long flags)
{
	struct nodes *mask = nodes_of_bits(0xaaaaaa00UL);
	int mode = NOT_WRITTEN;
	long ret = get_mempolicy(&mode, mask, maxnode, addr, flags);

	report(NAME, asked, "%s, mode %s, mask %s", outcome(ret), mode == NOT_WRITTEN ? "." : format("%d", mode),
	       mask->word[0] == 0xaaaaaa00UL ? "." : format("%#lx", mask->word[0]));
}

static const struct {
	const char *name;
	int mode;
	const char *list;
} tasks[] = {
	{ "default", DEFAULT, NULL },
	{ "local", LOCAL, NULL },
	{ "preferred {}", PREFERRED, "" },
	{ "preferred {1}", PREFERRED, "1" },
	{ "preferred {0,1}", PREFERRED, "0,1" },
	{ "bind {1}", BIND, "1" },
	{ "bind|static {1,N}", BIND | STATIC, "1,N" },
	{ "bind|relative {0,1}", BIND | RELATIVE, "0,1" },
	{ "bind|relative {N}", BIND | RELATIVE, "N" },
	{ "bind|balancing {1}", BIND | NUMA_BALANCING, "1" },
	{ "preferred-many {0,1}", PREFERRED_MANY, "0,1" },
	{ "interleave {0,1}", INTERLEAVE, "0,1" },
	{ "interleave {1}", INTERLEAVE, "1" },
	{ "interleave|static {0,1}", INTERLEAVE | STATIC, "0,1" },
	{ "interleave|relative {0}", INTERLEAVE | RELATIVE, "0" },
	{ "weighted-interleave {0,1}", WEIGHTED_INTERLEAVE, "0,1" },
};

static void all_flags(void)
{
	char asked[120];

	for (size_t t = 0; t < LIST_LEN(tasks); t++)
		for (unsigned long flags = 0; flags < 8; flags++)
			for (int with = 0; with < 2; with++) {
				char *at;

				if (flags >= 4 && t % 5)
					continue;
				fresh();
				at = area(2);
				range_policy(at, 2, tasks[t].mode, tasks[t].list, 0);
				touch(at, 1);
				task_policy(tasks[t].mode, tasks[t].list);
				snprintf(asked, sizeof(asked), "task and range %s:%s%s%s%s%s", tasks[t].name,
					 flags & F_NODE ? " node" : "", flags & F_ADDR ? " addr" : "",
					 flags & F_MEMS_ALLOWED ? " mems-allowed" : "", flags ? "" : " flags 0",
					 with ? ", an address" : ", no address");
				/* The next node of interleaving is that after the kernel's last page for itself: any. */
				if (flags == F_NODE && !with && (tasks[t].mode & 0xfff) == INTERLEAVE && t != 12)
					continue;
				ask(asked, MAXNODE, with ? at : NULL, flags);
			}
	for (unsigned long flags = 8; flags; flags <<= 4) {
		fresh();
		snprintf(asked, sizeof(asked), "flags %#lx", flags);
		ask(asked, MAXNODE, NULL, flags);
		snprintf(asked, sizeof(asked), "flags %#lx with addr, an address", flags);
		ask(asked, MAXNODE, area(1), flags | F_ADDR);
	}
}

static void lengths(void)
{
	static const unsigned long maxnode[] = { 0,  1,	 2,   3,    4,	  5,	 8,	    63,
						 64, 65, 128, 1024, 1025, 32769, 1UL << 40, ~0UL };
	static const struct {
		const char *name;
		unsigned long flags;
	} all[] = { { "flags 0", 0 },
		    { "addr", F_ADDR },
		    { "mems-allowed", F_MEMS_ALLOWED },
		    { "node addr", F_NODE | F_ADDR } };
	char asked[120];
	char *at;

	for (size_t f = 0; f < LIST_LEN(all); f++)
		for (size_t i = 0; i < LIST_LEN(maxnode); i++) {
			int mode = NOT_WRITTEN;
			long ret;

			fresh();
			at = area(1);
			task_policy(BIND, "1");
			range_policy(at, 1, BIND, "0,1", 0);
			touch(at, 1);
			snprintf(asked, sizeof(asked), "%s, maxnode %ld, mask NULL", all[f].name, (long)maxnode[i]);
			ret = get_mempolicy(&mode, NULL, maxnode[i], all[f].flags & F_ADDR ? at : NULL, all[f].flags);
			report(NAME, asked, "%s, mode %s", outcome(ret),
			       mode == NOT_WRITTEN ? "." : format("%d", mode));
			if (maxnode[i] > 32769)
				continue;
			snprintf(asked, sizeof(asked), "%s, maxnode %lu", all[f].name, maxnode[i]);
			ask(asked, maxnode[i], all[f].flags & F_ADDR ? at : NULL, all[f].flags);
		}
}

/* How much of the mask is written: the kernel's own number of nodes, and zeroes up to maxnode. */
static void written(void)
{
	static const unsigned long maxnode[] = { 8, 64, 65, 128, 512, 1024, 1025, 2048, 32768 };
	char asked[120];

	for (size_t i = 0; i < LIST_LEN(maxnode); i++) {
		struct nodes *mask = nodes_of_bits(0);
		size_t last = 0;
		long ret;

		fresh();
		task_policy(BIND, "1");
		memset(mask, 0xee, sizeof(*mask));
		ret = get_mempolicy(NULL, mask, maxnode[i], NULL, 0);
		for (size_t byte = 0; byte < sizeof(*mask); byte++)
			if (((unsigned char *)mask)[byte] != 0xee)
				last = byte + 1;
		snprintf(asked, sizeof(asked), "maxnode %lu: bytes of the mask that are written", maxnode[i]);
		report(NAME, asked, "%s, %zu", outcome(ret), last);
	}
}

static void pointers(void)
{
	struct nodes *mask = nodes_of_bits(0);
	int mode = 0;
	char *at;
	long ret;

	fresh();
	at = area(4);
	task_policy(BIND, "1");
	report(NAME, "all NULL", "%s", outcome(get_mempolicy(NULL, NULL, 0, NULL, 0)));
	report(NAME, "mode at 8", "%s", outcome(get_mempolicy(BAD_POINTER, NULL, 0, NULL, 0)));
	report(NAME, "mode in the kernel", "%s", outcome(get_mempolicy(KERNEL_POINTER, NULL, 0, NULL, 0)));
	report(NAME, "mask at 8", "%s", outcome(get_mempolicy(NULL, BAD_POINTER, MAXNODE, NULL, 0)));
	mode = NOT_WRITTEN;
	ret = get_mempolicy(&mode, BAD_POINTER, MAXNODE, NULL, 0);
	report(NAME, "mask at 8, a good mode", "%s, mode %s", outcome(ret),
	       mode == NOT_WRITTEN ? "." : format("%d", mode));
	report(NAME, "mask at 8, maxnode 0", "%s", outcome(get_mempolicy(NULL, BAD_POINTER, 0, NULL, 0)));
	report(NAME, "mode at 8, mems-allowed", "%s",
	       outcome(get_mempolicy(BAD_POINTER, mask, MAXNODE, NULL, F_MEMS_ALLOWED)));
	report(NAME, "mask at 8, mems-allowed", "%s",
	       outcome(get_mempolicy(NULL, BAD_POINTER, MAXNODE, NULL, F_MEMS_ALLOWED)));
	report(NAME, "mems-allowed, mask NULL", "%s", outcome(get_mempolicy(&mode, NULL, 0, NULL, F_MEMS_ALLOWED)));
	report(NAME, "addr, mode at 8", "%s", outcome(get_mempolicy(BAD_POINTER, mask, MAXNODE, at, F_ADDR)));
	report(NAME, "addr, all NULL but the address", "%s", outcome(get_mempolicy(NULL, NULL, 0, at, F_ADDR)));
	report(NAME, "node addr, mode NULL", "%s", outcome(get_mempolicy(NULL, NULL, 0, at, F_NODE | F_ADDR)));
	mprotect(at, PAGE, PROT_READ);
	report(NAME, "mode in read-only memory", "%s", outcome(get_mempolicy(at, NULL, 0, NULL, 0)));
	report(NAME, "mask in read-only memory", "%s", outcome(get_mempolicy(NULL, at, MAXNODE, NULL, 0)));
	munmap(at + 2 * PAGE, PAGE);
	report(NAME, "mask of 1024 bits, its first 8 bytes end a mapping", "%s",
	       outcome(get_mempolicy(NULL, at + 2 * PAGE - 8, 1024, NULL, 0)));
	report(NAME, "mask of 64 bits that ends a mapping", "%s",
	       outcome(get_mempolicy(NULL, at + 2 * PAGE - 8, 64, NULL, 0)));
}

static void addresses(void)
{
	char *at;

	fresh();
	at = area(4);
	munmap(at + PAGE, PAGE);
	ask("addr: not mapped", MAXNODE, at + PAGE, F_ADDR);
	ask("node addr: not mapped", MAXNODE, at + PAGE, F_NODE | F_ADDR);
	ask("addr: NULL", MAXNODE, NULL, F_ADDR);
	ask("node addr: NULL", MAXNODE, NULL, F_NODE | F_ADDR);
	ask("addr: in the kernel", MAXNODE, KERNEL_POINTER, F_ADDR);
	ask("addr: no policy of its own, the task has none", MAXNODE, at, F_ADDR);
	task_policy(BIND, "1");
	ask("addr: no policy of its own, the task has bind {1}", MAXNODE, at, F_ADDR);
	ask("addr: not aligned", MAXNODE, at + 123, F_ADDR);
	range_policy(at + 2 * PAGE, 1, LOCAL, NULL, 0);
	ask("addr: local, the task has bind {1}", MAXNODE, at + 2 * PAGE, F_ADDR);
	range_policy(at + 2 * PAGE, 1, DEFAULT, NULL, 0);
	ask("addr: default, the task has bind {1}", MAXNODE, at + 2 * PAGE, F_ADDR);
}

static void node_of_page(void)
{
	struct nodes *mask = nodes_of_bits(0);
	int mode = NOT_WRITTEN;
	char *at;
	long ret;

	fresh();
	at = area(4);
	lay_out(at, "01");
	ask("node addr: a page on node 0", MAXNODE, at, F_NODE | F_ADDR);
	ask("node addr: a page on node 1", MAXNODE, at + PAGE + 5, F_NODE | F_ADDR);
	range_policy(at, 4, BIND, "1", 0);
	ask("node addr: a page on node 0 with bind {1}", MAXNODE, at, F_NODE | F_ADDR);
	/* It reads the page, and any node may have the zero page. */
	ret = get_mempolicy(&mode, mask, MAXNODE, at + 2 * PAGE, F_NODE | F_ADDR);
	report(NAME, "node addr: an untouched page with bind {1}", "%s, mode %s, mask %#lx, pages %s", outcome(ret),
	       mode >= 0 && mode < nr_nodes ? "a node" : "no node", mask->word[0], pages(at, 4));
	fresh();
	at = area(4);
	range_policy(at, 4, INTERLEAVE, "0,1", 0);
	touch(at, 4);
	ask("node addr: interleave, the first page", MAXNODE, at, F_NODE | F_ADDR);
	ask("node addr: interleave, the second page", MAXNODE, at + PAGE, F_NODE | F_ADDR);
	fresh();
	at = area(4);
	touch(at, 4);
	mprotect(at, 4 * PAGE, PROT_NONE);
	ask("node addr: a page without access", MAXNODE, at, F_NODE | F_ADDR);
	ask("addr: a page without access", MAXNODE, at, F_ADDR);
}

void cases_query(void)
{
	all_flags();
	lengths();
	written();
	pointers();
	addresses();
	node_of_page();
}

/* SPDX-License-Identifier: MIT */
/* getcpu(): the node of each CPU, and its pointers. */
#define _GNU_SOURCE 1
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include "case.h"

#define NAME "getcpu"

void cases_cpu(void)
{
	unsigned int cpu, node;
	int good = 0, all = 0;
	cpu_set_t one;
	char *at;
	long ret;

	for (int n = 0; n < nr_nodes; n++) {
		const char *asked = format("on a CPU of node %d", n);
		const char *by_libc = format("by libc, on a CPU of node %d", n);

		fresh();
		if (!pin_to(n)) {
			report(NAME, asked, "cannot: no CPU there");
			report(NAME, by_libc, "cannot: no CPU there");
			continue;
		}
		cpu = node = 999;
		ret = get_cpu(&cpu, &node);
		report(NAME, asked, "%s, node %u, cpu %s", outcome(ret), node,
		       (int)cpu == node_cpu[n] ? "as pinned" : "another");
		cpu = node = 999;
		ret = getcpu(&cpu, &node);
		report(NAME, by_libc, "%s, node %u, cpu %s", outcome(ret), node,
		       (int)cpu == node_cpu[n] ? "as pinned" : "another");
	}
	fresh();
	for (int i = 0; i < CPU_SETSIZE; i++) {
		CPU_ZERO(&one);
		CPU_SET((size_t)i, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue;
		all++;
		cpu = node = 999;
		good += get_cpu(&cpu, &node) == 0 && (int)cpu == i && (int)node < nr_nodes;
	}
	report(NAME, "on every CPU: itself, and a node that there is", "%s",
	       good == all ? "all" : format("%d of %d", good, all));
	fresh();
	cpu = node = 999;
	ret = get_cpu(NULL, &node);
	report(NAME, "cpu NULL", "%s, node %u", outcome(ret), node);
	ret = get_cpu(&cpu, NULL);
	report(NAME, "node NULL", "%s, cpu %s", outcome(ret), (int)cpu == node_cpu[0] ? "as pinned" : "another");
	report(NAME, "both NULL", "%s", outcome(get_cpu(NULL, NULL)));
	node = 999;
	ret = get_cpu(BAD_POINTER, &node);
	report(NAME, "cpu at 8", "%s, node %s", outcome(ret), node == 999 ? "." : format("%u", node));
	report(NAME, "node at 8", "%s", outcome(get_cpu(&cpu, BAD_POINTER)));
	report(NAME, "node in the kernel", "%s", outcome(get_cpu(&cpu, KERNEL_POINTER)));
	at = area(1);
	mprotect(at, PAGE, PROT_READ);
	report(NAME, "cpu in read-only memory", "%s", outcome(get_cpu(at, &node)));
}

/* SPDX-License-Identifier: MIT */
/* The node that a page comes down on when it is touched first, by policy, place of the thread, and kind of touch. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "case.h"

#define NAME "first touch"

static const struct choice {
	const char *name;
	int mode;
	const char *list;
	int nodes;
} choices[] = {
	{ "default", DEFAULT, NULL, 2 },
	{ "local", LOCAL, NULL, 2 },
	{ "preferred {}", PREFERRED, "", 2 },
	{ "preferred {0}", PREFERRED, "0", 2 },
	{ "preferred {1}", PREFERRED, "1", 2 },
	{ "preferred {0,1}", PREFERRED, "0,1", 2 },
	{ "bind {1}", BIND, "1", 2 },
	{ "bind {0,1}", BIND, "0,1", 2 },
	{ "preferred-many {1}", PREFERRED_MANY, "1", 2 },
	{ "preferred-many {0,1}", PREFERRED_MANY, "0,1", 2 },
	{ "interleave {0,1}", INTERLEAVE, "0,1", 2 },
	{ "interleave {1}", INTERLEAVE, "1", 2 },
	{ "weighted-interleave {0,1}", WEIGHTED_INTERLEAVE, "0,1", 2 },
	{ "bind|relative {1}", BIND | RELATIVE, "1", 2 },
	{ "interleave|static {0,1}", INTERLEAVE | STATIC, "0,1", 2 },
	{ "preferred {2,3}", PREFERRED, "2,3", 4 },
	{ "bind {0,2}", BIND, "0,2", 4 },
	{ "bind {1,2}", BIND, "1,2", 4 },
	{ "bind {1,3}", BIND, "1,3", 4 },
	{ "bind {2,3}", BIND, "2,3", 4 },
	{ "bind {1,2,3}", BIND, "1,2,3", 4 },
	{ "preferred-many {1,2}", PREFERRED_MANY, "1,2", 4 },
	{ "preferred-many {2,3}", PREFERRED_MANY, "2,3", 4 },
	{ "interleave {0,2}", INTERLEAVE, "0,2", 4 },
	{ "interleave {1,2,3}", INTERLEAVE, "1,2,3", 4 },
	{ "interleave {0,1,2,3}", INTERLEAVE, "0,1,2,3", 4 },
	{ "weighted-interleave {1,2,3}", WEIGHTED_INTERLEAVE, "1,2,3", 4 },
};

static void places(void)
{
	char asked[120];

	for (size_t i = 0; i < LIST_LEN(choices); i++)
		for (int node = 0; node < nr_nodes; node++)
			for (int range = 0; range < 2; range++) {
				char *at;

				if (choices[i].nodes > nr_nodes)
					continue;
				fresh();
				at = area(16);
				snprintf(asked, sizeof(asked), "the %s's %s, on a CPU of node %d",
					 range ? "range" : "task", choices[i].name, node);
				if (!pin_to(node)) {
					report(NAME, asked, "cannot: no CPU there");
					continue;
				}
				if (range)
					range_policy(at, 16, choices[i].mode, choices[i].list, 0);
				else
					task_policy(choices[i].mode, choices[i].list);
				touch(at, 16);
				report(NAME, asked, "pages %s", pages(at, 16));
			}
}

/* Interleaving goes by the page's place: in which order and from where pages are touched is nothing to it. */
static void orders(void)
{
	static const int interleaving[] = { 10, 12, 24, 25, 26 };
	char asked[120];
	char *at;

	for (size_t k = 0; k < LIST_LEN(interleaving); k++)
		for (int range = 0; range < 2; range++) {
			const struct choice *c = &choices[interleaving[k]];
			const char *whose = range ? "range" : "task";

			if (c->nodes > nr_nodes)
				continue;
			for (size_t first = 1; first < 4; first++) {
				fresh();
				at = area_at(first, 12);
				if (range)
					range_policy(at, 12, c->mode, c->list, 0);
				else
					task_policy(c->mode, c->list);
				touch(at, 12);
				snprintf(asked, sizeof(asked), "the %s's %s, page number %zu", whose, c->name, first);
				report(NAME, asked, "pages %s", pages(at, 12));
			}
			fresh();
			at = area(12);
			if (range)
				range_policy(at, 12, c->mode, c->list, 0);
			else
				task_policy(c->mode, c->list);
			for (size_t i = 12; i-- > 0;)
				touch(at + i * PAGE, 1);
			snprintf(asked, sizeof(asked), "the %s's %s, backwards", whose, c->name);
			report(NAME, asked, "pages %s", pages(at, 12));
			fresh();
			at = area(12);
			if (range)
				range_policy(at + 3 * PAGE, 9, c->mode, c->list, 0);
			else
				task_policy(c->mode, c->list);
			for (size_t i = 3; i < 12; i += 2)
				touch(at + i * PAGE, 1);
			for (size_t i = 4; i < 12; i += 2)
				touch(at + i * PAGE, 1);
			snprintf(asked, sizeof(asked), "the %s's %s, from the fourth page, every second, then the rest",
				 whose, c->name);
			report(NAME, asked, "pages %s", pages(at, 12));
			fresh();
			at = area(12);
			if (range)
				range_policy(at, 12, c->mode, c->list, 0);
			else
				task_policy(c->mode, c->list);
			touch(at, 4);
			at = mremap(at, 12 * PAGE, 12 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole() + 5 * PAGE);
			touch(at + 4 * PAGE, 8);
			snprintf(asked, sizeof(asked), "the %s's %s, 4 pages, then moved 5 pages by mremap()", whose,
				 c->name);
			report(NAME, asked, "pages %s", pages(at, 12));
			fresh();
			at = area(12);
			if (range)
				range_policy(at, 12, c->mode, c->list, 0);
			else
				task_policy(c->mode, c->list);
			at = mremap(at, 12 * PAGE, 12 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole() + 5 * PAGE);
			touch(at, 12);
			snprintf(asked, sizeof(asked), "the %s's %s, untouched, moved 5 pages by mremap()", whose,
				 c->name);
			report(NAME, asked, "pages %s", pages(at, 12));
		}
}

static int read_all(const char *at, size_t nr_pages)
{
	int sum = 0;

	for (size_t i = 0; i < nr_pages; i++)
		sum += ((volatile const char *)at)[i * PAGE];
	return sum;
}

static void kinds_of_touch(void)
{
	const char *seen;
	char *at;
	int zero[2], sum;

	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "1", 0);
	sum = read_all(at, 8);
	seen = pages(at, 8);
	touch(at, 8);
	report(NAME, "bind {1}: read, then written to", "sum %d, pages %s, then %s", sum, seen, pages(at, 8));
	fresh();
	at = area(8);
	sum = read_all(at, 8);
	range_policy(at, 8, INTERLEAVE, "0,1", 0);
	touch(at, 8);
	report(NAME, "read, then interleave {0,1}, then written to", "sum %d, pages %s", sum, pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "1", 0);
	if (pipe(zero) || write(zero[1], "12345678", 8) != 8 || read(zero[0], at + PAGE - 4, 8) != 8)
		return;
	report(NAME, "bind {1}: by read() into two pages", "pages %s", pages(at, 8));
	close(zero[0]);
	close(zero[1]);
	fresh();
	at = area(8);
	range_policy(at, 8, INTERLEAVE, "0,1", 0);
	madvise(at, 8 * PAGE, MADV_POPULATE_WRITE);
	report(NAME, "interleave {0,1}: MADV_POPULATE_WRITE", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "1", 0);
	madvise(at, 8 * PAGE, MADV_POPULATE_READ);
	report(NAME, "bind {1}: MADV_POPULATE_READ", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "1", 0);
	mlock(at, 8 * PAGE);
	report(NAME, "bind {1}: mlock()", "pages %s", pages(at, 8));
	munlock(at, 8 * PAGE);
	fresh();
	task_policy(BIND, "1");
	at = hole();
	mmap(at, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
	report(NAME, "the task's bind {1}: MAP_POPULATE", "pages %s", pages(at, 8));
	fresh();
	task_policy(INTERLEAVE, "0,1");
	at = hole();
	mmap(at, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
	report(NAME, "the task's interleave {0,1}: MAP_POPULATE", "pages %s", pages(at, 8));
}

static void again(void)
{
	char *at;

	fresh();
	at = area(8);
	task_policy(BIND, "1");
	touch(at, 8);
	task_policy(BIND, "0");
	touch(at, 8);
	report(NAME, "pages 11111111 written to under bind {0}", "pages %s", pages(at, 8));
	madvise(at, 4 * PAGE, MADV_DONTNEED);
	report(NAME, "4 of 8 after MADV_DONTNEED", "pages %s", pages(at, 8));
	touch(at, 8);
	report(NAME, "4 of 8 after MADV_DONTNEED, touched under bind {0}", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	for (int i = 0; i < 8; i++) {
		task_policy(i % 2 ? INTERLEAVE : PREFERRED, i % 4 < 2 ? "0" : "1");
		touch(at + (size_t)i * PAGE, 1);
	}
	report(NAME, "preferred {0}, interleave {0}, preferred {1}, interleave {1}, page by page", "pages %s",
	       pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "1");
	task_policy(DEFAULT, NULL);
	touch(at, 8);
	report(NAME, "default after bind {1}", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "0");
	range_policy(at + 2 * PAGE, 4, BIND, "1", 0);
	touch(at, 8);
	report(NAME, "the task's bind {0}, the range's bind {1} in the middle", "pages %s", pages(at, 8));
}

/* ---- threads and processes ---- */

static void even_on_1(void *at)
{
	task_policy(BIND, "1");
	for (size_t i = 0; i < 8; i += 2)
		touch((char *)at + i * PAGE, 1);
}

static void just_touch(void *at)
{
	touch(at, 8);
}

static void report_touch(void *at)
{
	touch(at, 8);
	report(NAME, "by a forked child, the task's bind {1}", "pages %s", pages(at, 8));
}

static void report_write(void *at)
{
	touch(at, 8);
	report(NAME, "pages 00000000 written to by a forked child, the task's bind {1}", "pages %s", pages(at, 8));
}

static void on_node_1(void *at)
{
	pin_to(1);
	touch(at, 8);
}

static void threads(void)
{
	char *at;

	fresh();
	at = area(8);
	task_policy(BIND, "0");
	in_thread(even_on_1, at);
	touch(at + PAGE, 1);
	touch(at + 3 * PAGE, 1);
	touch(at + 5 * PAGE, 3);
	report(NAME, "two threads with bind {1} and bind {0} take turns", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "1");
	in_thread(just_touch, at);
	report(NAME, "by a new thread, the task's bind {1}", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "1");
	in_child(report_touch, at);
	fresh();
	at = area(8);
	touch(at, 8);
	task_policy(BIND, "1");
	in_child(report_write, at);
	touch(at, 8);
	report(NAME, "the same pages written to by the parent after that", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	if (node_cpu[1] < 0) {
		report(NAME, "default, by a thread on a CPU of node 1", "cannot: no CPU there");
		return;
	}
	in_thread(on_node_1, at);
	report(NAME, "default, by a thread on a CPU of node 1", "pages %s", pages(at, 8));
	fresh();
	at = area(8);
	touch(at, 3);
	pin_to(1);
	touch(at + 3 * PAGE, 5);
	report(NAME, "default, 3 pages on node 0's CPU and then 5 on node 1's", "pages %s", pages(at, 8));
}

void cases_first_touch(void)
{
	places();
	orders();
	kinds_of_touch();
	again();
	threads();
}

/* SPDX-License-Identifier: MIT */
/* What live tests share: an engine with two virtual nodes, and TAP. */
#ifndef GODWIT_TESTS_LIVE_H
#define GODWIT_TESTS_LIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <godwit.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_nr __attribute__((unused));
static int tap_failed __attribute__((unused));

static inline void tap(bool ok, const char *sentence)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++tap_nr, sentence);
	fflush(stdout);
	tap_failed += !ok;
}

static inline int tap_end(void)
{
	printf("1..%d\n", tap_nr);
	return tap_failed ? 1 : 0;
}

static inline struct gw_engine *engine_with_nodes(int nr, uint64_t bytes_of_last)
{
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_RAM, .host = -1 };
	struct gw_engine *e = gw_self();
	int err = e ? 0 : gw_start(&e, &opt);

	if (err) {
		printf("Bail out! gw_start: %s\n", strerror(-err));
		exit(1);
	}
	for (int i = gw_node_count(e); i < nr; i++) {
		node.bytes = i == nr - 1 ? bytes_of_last : 0;
		gw_node_add(e, &node);
	}
	return e;
}

static inline long migrate(struct gw_engine *e, int from, int to, const struct gw_migrate_options *opt,
			   struct gw_migrate_result *res)
{
	struct gw_migrate_result own;

	res = res ? res : &own;
	res->size = sizeof(*res);
	return gw_migrate_pages(e, 1ULL << from, 1ULL << to, opt, res);
}

#endif

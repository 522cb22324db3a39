/* SPDX-License-Identifier: MIT */
/* godwit move --via kernel: single pages of any process. */
#include "via.h"

#include <errno.h>
#include <stdlib.h>

#define STALL_NS 1000000ULL	/* as migrate's */

int kernel_move_check(const struct actor *a, size_t line, int32_t node)
{
	char have[NODES_TEXT];

	if (node < 0 || node >= KERNEL_NODES || !(a->host.memory >> node & 1))
		return say_error("line %zu: node %d: the nodes of this host with memory are %s", line, node,
				 nodes_text(a->host.memory, have));
	if (!(a->target.allowed >> node & 1))
		return say_error("line %zu: node %d is not allowed to PID %d: its cpuset %s allows %s", line, node,
				 a->pid, a->target.cpuset, nodes_text(a->target.allowed & a->host.online, have));
	return 0;
}

/* Ask for each, then again for those that may succeed later. 0 or -errno. */
static int move_units(struct actor *a, struct kernel_unit *units, uint32_t nr)
{
	const struct kernel_move_options opt = { .bound_ns = a->stall_us_max ? a->stall_us_max * 1000ULL : STALL_NS };
	struct kernel_calls calls = { 0 };
	struct kernel_mover *mover = kernel_mover_new(a->pid, &opt, &calls);
	int err;

	if (!mover)
		return -ENOMEM;
	err = kernel_mover_run(mover, units, nr);
	for (uint32_t turn = 0; !err && kernel_mover_again(mover, units, nr, turn, &err); turn++)
		;
	kernel_mover_free(mover);
	return err;
}

int kernel_move_run(struct actor *a, const struct page_request *pages, uint32_t nr, bool query, int32_t *status)
{
	struct kernel_unit *units = calloc(nr + 1, sizeof(*units));
	uint64_t *addrs = calloc(nr + 1, sizeof(*addrs));
	int err = units && addrs ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && i < nr; i++) {
		addrs[i] = ALIGN_DOWN(pages[i].addr, KERNEL_PAGE);
		units[i].addr = addrs[i];
		units[i].to = (int8_t)pages[i].node;
		units[i].pages = query ? 1 : kernel_size_at(&a->target, addrs[i]);
	}
	if (!err && !query)
		err = move_units(a, units, nr);
	if (!err)
		err = kernel_status_of(a->pid, addrs, nr, status);
	for (uint32_t i = 0; !err && !query && i < nr; i++)
		if (status[i] >= 0 && status[i] != pages[i].node && units[i].err)
			status[i] = -units[i].err;
	free(units);
	free(addrs);
	return err ? kernel_error(&a->target, err) : 0;
}

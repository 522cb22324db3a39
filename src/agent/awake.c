/* SPDX-License-Identifier: MIT */
/*
 * CPUs that do not sleep while touches of pages that are away follow each other: who touches waits for who answers,
 * each on a CPU of its own, and a CPU that sleeps takes longer to wake than the rest of a fault (docs/fault-path.md).
 * The kernel's PM QoS is asked, through /dev/cpu_dma_latency, for as long as that is worth it: its idle CPUs then poll.
 * Who has no right to, or has said GW_CPUS_SLEEP, has longer faults.
 */
#include "agent/agent.h"

#include <fcntl.h>

#define SPELL_NS 10000000ULL /* touches are counted so long */
#define SPELL_TOUCHES 50U
#define LAST_NS 100000000ULL /* since it was worth it */

static void stay_awake(struct awake *a)
{
	int32_t us = 0;

	a->fd = (int)sys3(SYS_open, "/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC, 0);
	if (a->fd >= 0 && sys3(SYS_write, a->fd, &us, sizeof(us)) == (long)sizeof(us))
		return;
	awake_end(a);
	a->refused = true;
}

void awake_end(struct awake *a)
{
	if (a->fd >= 0)
		sys1(SYS_close, a->fd);
	a->fd = -1;
}

void awake_look(struct awake *a, uint64_t now, uint64_t touches)
{
	if (a->refused || now - a->since < SPELL_NS)
		return;
	if (touches - a->touches >= SPELL_TOUCHES)
		a->worth = now;
	a->touches = touches;
	a->since = now;
	if (a->fd < 0 && a->worth == now)
		stay_awake(a);
	else if (a->fd >= 0 && now - a->worth > LAST_NS)
		awake_end(a);
}

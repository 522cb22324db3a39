/* SPDX-License-Identifier: MIT */
/*
 * Memory for a while, out of the reservation. The engine maps nothing in a running program: a program may unmap a range
 * and map it anew, sure that nobody else maps anything in between.
 */
#include "agent/agent.h"

#include <errno.h>
#include <sys/mman.h>

#define PAUSE_NS 200000ULL

/* The last small ones are for those who have one of another size, and need no third: nobody waits in a ring. */
#define SECOND_FROM (BUFFERS_SMALL - 8U)

static size_t size_of(uint32_t i)
{
	return i < BUFFERS_SMALL ? GW_BUFFER_SMALL : GW_BUFFER_MOST;
}

static bool fits(uint32_t i, size_t len)
{
	if (i < BUFFERS_SMALL)
		return i >= SECOND_FROM ? len <= GW_BUFFER_SECOND : len > GW_BUFFER_SECOND && len <= GW_BUFFER_SMALL;
	return len > GW_BUFFER_SMALL;
}

static void *try_take(struct gw_engine *e, size_t len)
{
	uint64_t signals = signals_block();
	void *mem = NULL;

	lock_acquire(&e->buffers_lock);
	for (uint32_t i = 0; i < BUFFERS && !mem; i++) {
		struct buffer *b = &e->buffer[i];

		if (b->taken || !fits(i, len))
			continue;
		if (!b->mem)
			b->mem = region_alloc(&e->region, size_of(i));
		b->taken = b->mem != NULL;
		mem = b->mem;
	}
	lock_release(&e->buffers_lock);
	signals_restore(signals);
	return mem;
}

void *gw_buffer_take(struct gw_engine *e, size_t len)
{
	void *mem;

	if (len > GW_BUFFER_MOST)
		return NULL;
	while (!(mem = try_take(e, len)))
		sleep_ns(PAUSE_NS);
	return mem;
}

void gw_buffer_put(struct gw_engine *e, void *mem)
{
	uint64_t signals;
	uint32_t i = 0;

	while (i < BUFFERS && e->buffer[i].mem != mem)
		i++;
	BUG_ON(i == BUFFERS);
	if (!e->buffer[i].taken)
		return; /* taken by the parent, before a handler of a signal forked */
	if (size_of(i) > GW_BUFFER_SMALL)
		sys3(SYS_madvise, mem, size_of(i), MADV_DONTNEED);
	signals = signals_block();
	lock_acquire(&e->buffers_lock);
	e->buffer[i].taken = false;
	lock_release(&e->buffers_lock);
	signals_restore(signals);
}

void buffers_init(struct gw_engine *e)
{
	e->buffers_lock = LOCK_INIT(RANK_JOBS);
	for (uint32_t i = 0; i < BUFFERS; i++)
		e->buffer[i].taken = false;
}

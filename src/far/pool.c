/* SPDX-License-Identifier: MIT */
/* Chunks, size classes, holes, and the moving together of what is left in them. */
#include "far/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define NO_HOLE 0xffffU
#define HOLE 0x80000000U	/* in a slot's owner: it is free, the next free one in the rest */
#define GROUP_NONE POOL_GROUPS
#define STOCK 4U
#define SMALLEST 48U

static uint32_t max_chunks(uint64_t bytes)
{
	return (uint32_t)min_u64(bytes / POOL_CHUNK + 1, POOL_CHUNKS - 1);
}

static uint64_t chunks_len(uint64_t bytes)
{
	return ALIGN_UP((uint64_t)(max_chunks(bytes) + 1) * sizeof(struct pool_chunk), FAR_PAGE);
}

static uint64_t raw_len(uint64_t bytes)
{
	return ALIGN_UP((uint64_t)(max_chunks(bytes) + 1) * POOL_RAW_SLOTS * sizeof(uint32_t), FAR_PAGE);
}

uint64_t pool_space(uint64_t bytes)
{
	return (uint64_t)max_chunks(bytes) * POOL_CHUNK + chunks_len(bytes) + raw_len(bytes);
}

static void class_add(struct pool *p, uint32_t slots)
{
	uint32_t first = (uint32_t)ALIGN_UP(slots * sizeof(uint32_t), 8);
	uint32_t size = (uint32_t)ALIGN_DOWN((POOL_CHUNK - first) / slots, 8);

	BUG_ON(p->nr_classes == POOL_CLASSES);
	p->class[p->nr_classes++] =
		(struct pool_class){ .size = (uint16_t)size, .slots = (uint16_t)slots, .first = first };
}

/* A class is for each number of objects that a chunk can have, where neighbours differ by 3 % or 32 bytes at least. */
static void classes_make(struct pool *p)
{
	uint32_t last = 0;

	for (uint32_t want = SMALLEST; want < POOL_LARGEST; want += (uint32_t)max_u64(32, want / 32)) {
		uint32_t slots = POOL_CHUNK / (want + (uint32_t)sizeof(uint32_t));

		if (slots == last)
			continue;
		class_add(p, slots);
		last = slots;
	}
	for (uint32_t i = 0, c = 0; i < POOL_LARGEST / 8; i++) {
		while (c < p->nr_classes - 1 && p->class[c].size < (i + 1) * 8)
			c++;
		p->class_of[i] = (uint8_t)c;
	}
	p->class[p->nr_classes++] = (struct pool_class){ .size = FAR_PAGE, .slots = POOL_RAW_SLOTS };
}

void pool_init(struct pool *p, char *at, uint64_t bytes)
{
	uint64_t memory = (uint64_t)max_chunks(bytes) * POOL_CHUNK;

	*p = (struct pool){
		.memory = { .base = at, .reserved = memory },
		.chunks = { .base = at + memory, .reserved = chunks_len(bytes) },
		.raw_owners = { .base = at + memory + chunks_len(bytes), .reserved = raw_len(bytes) },
	};
	classes_make(p);
}

static uint64_t touched(uint64_t bytes)
{
	return ALIGN_UP(bytes, FAR_PAGE);
}

uint64_t pool_bytes(const struct pool *p)
{
	const struct pool_class *raw = &p->class[p->nr_classes - 1];

	return (uint64_t)p->nr_resident * POOL_CHUNK + touched((p->nr_chunks + 1) * sizeof(struct pool_chunk)) +
	       touched(raw->nr_slots * sizeof(uint32_t));
}

static struct pool_chunk *chunk_at(const struct pool *p, uint32_t nr)
{
	return (struct pool_chunk *)(void *)p->chunks.base + nr;
}

static char *chunk_memory(const struct pool *p, uint32_t nr)
{
	return p->memory.base + (uint64_t)(nr - 1) * POOL_CHUNK;
}

static uint32_t *owners_of(const struct pool *p, uint32_t nr)
{
	if (chunk_at(p, nr)->cls == p->nr_classes - 1)
		return (uint32_t *)(void *)p->raw_owners.base + (uint64_t)nr * POOL_RAW_SLOTS;
	return (uint32_t *)(void *)chunk_memory(p, nr);
}

void *pool_ptr(const struct pool *p, struct pool_at at)
{
	const struct pool_class *c = &p->class[chunk_at(p, at.chunk)->cls];

	return chunk_memory(p, at.chunk) + c->first + (uint64_t)at.slot * c->size;
}

uint32_t pool_class_of(const struct pool *p, struct pool_at at)
{
	return chunk_at(p, at.chunk)->cls;
}

/* ---- which group a chunk is in ---- */

static void group_leave(struct pool *p, uint32_t nr)
{
	struct pool_chunk *k = chunk_at(p, nr);

	if (k->group == GROUP_NONE)
		return;
	if (k->prev)
		chunk_at(p, k->prev)->next = k->next;
	else
		p->class[k->cls].head[k->group] = k->next;
	if (k->next)
		chunk_at(p, k->next)->prev = k->prev;
	k->group = GROUP_NONE;
}

static void group_enter(struct pool *p, uint32_t nr)
{
	struct pool_chunk *k = chunk_at(p, nr);
	struct pool_class *c = &p->class[k->cls];
	uint32_t group = k->used == c->slots ? GROUP_NONE : k->used * POOL_GROUPS / c->slots;

	if (group == k->group)
		return;
	group_leave(p, nr);
	if (group == GROUP_NONE)
		return;
	k->group = (uint8_t)group;
	k->prev = 0;
	k->next = c->head[group];
	if (k->next)
		chunk_at(p, k->next)->prev = nr;
	c->head[group] = nr;
}

/* ---- chunks come and go ---- */

static int chunk_fill(const struct pool *p, uint32_t nr)
{
	long ret;

	do
		ret = sys3(SYS_madvise, chunk_memory(p, nr), POOL_CHUNK, MADV_POPULATE_WRITE);
	while (ret == -EINTR || ret == -EAGAIN);
	return ret < 0 ? -ENOMEM : 0;
}

/* A number whose memory is there, or 0 and *err. */
static uint32_t chunk_take(struct pool *p, bool may_grow, int *err)
{
	uint32_t nr = p->stock;

	*err = 0;
	if (nr) {
		p->stock = chunk_at(p, nr)->next;
		p->nr_stock--;
		return nr;
	}
	nr = p->gone ? p->gone : p->nr_chunks + 1;
	*err = -ENOSPC;
	if (!may_grow || (uint64_t)nr * POOL_CHUNK > p->memory.reserved)
		return 0;
	*err = -ENOMEM;
	if (space_reach(&p->chunks, (nr + 1) * sizeof(struct pool_chunk)) ||
	    space_reach(&p->memory, (uint64_t)nr * POOL_CHUNK) || chunk_fill(p, nr))
		return 0;
	*err = 0;
	if (p->gone)
		p->gone = chunk_at(p, nr)->next;
	else
		p->nr_chunks++;
	p->nr_resident++;
	return nr;
}

static void chunk_give(struct pool *p, uint32_t nr)
{
	struct pool_chunk *k = chunk_at(p, nr);
	uint32_t *list = p->nr_stock < STOCK ? &p->stock : &p->gone;

	p->class[k->cls].nr_slots -= p->class[k->cls].slots;
	if (list == &p->stock) {
		p->nr_stock++;
	} else {
		sys3(SYS_madvise, chunk_memory(p, nr), POOL_CHUNK, MADV_DONTNEED);
		p->nr_resident--;
	}
	*k = (struct pool_chunk){ .next = *list, .group = GROUP_NONE };
	*list = nr;
}

static uint32_t chunk_new(struct pool *p, uint32_t cls, bool may_grow, int *err)
{
	uint32_t nr = chunk_take(p, may_grow, err);

	if (!nr)
		return 0;
	*chunk_at(p, nr) = (struct pool_chunk){ .hole = NO_HOLE, .cls = (uint8_t)cls, .group = GROUP_NONE };
	if (cls == p->nr_classes - 1 &&
	    space_reach(&p->raw_owners, (uint64_t)(nr + 1) * POOL_RAW_SLOTS * sizeof(uint32_t))) {
		p->class[cls].nr_slots += p->class[cls].slots;
		chunk_give(p, nr);
		*err = -ENOMEM;
		return 0;
	}
	p->class[cls].nr_slots += p->class[cls].slots;
	return nr;
}

/* ---- objects ---- */

static uint32_t fullest(const struct pool_class *c)
{
	for (uint32_t g = POOL_GROUPS; g-- > 0;)
		if (c->head[g])
			return c->head[g];
	return 0;
}

static uint32_t slot_take(struct pool *p, uint32_t nr, uint32_t owner)
{
	struct pool_chunk *k = chunk_at(p, nr);
	uint32_t *owners = owners_of(p, nr);
	uint32_t slot = k->hole;

	if (slot == NO_HOLE)
		slot = k->fresh++;
	else
		k->hole = (uint16_t)owners[slot];
	owners[slot] = owner;
	k->used++;
	p->class[k->cls].nr_used++;
	group_enter(p, nr);
	return slot;
}

int pool_alloc(struct pool *p, const struct pool_wish *wish, struct pool_at *at)
{
	uint32_t cls = wish->len <= POOL_LARGEST ? p->class_of[(wish->len - 1) / 8] : p->nr_classes - 1;
	uint32_t nr = fullest(&p->class[cls]);
	int err = 0;

	if (!nr)
		nr = chunk_new(p, cls, wish->may_grow, &err);
	while (!nr && wish->any && ++cls < p->nr_classes)
		nr = fullest(&p->class[cls]);
	if (!nr)
		return err;
	*at = (struct pool_at){ .chunk = nr, .slot = slot_take(p, nr, wish->owner) };
	return 0;
}

/* Who reads what is dropped sees that the sum is wrong: all that is wanted here is that memory stays memory. */
static bool is_pinned(const struct pool_chunk *k)
{
	return __atomic_load_n(&k->pins, __ATOMIC_ACQUIRE) != 0;
}

void pool_free(struct pool *p, struct pool_at at)
{
	struct pool_chunk *k = chunk_at(p, at.chunk);

	owners_of(p, at.chunk)[at.slot] = HOLE | k->hole;
	k->hole = (uint16_t)at.slot;
	k->used--;
	p->class[k->cls].nr_used--;
	group_enter(p, at.chunk);
	if (!k->used && !is_pinned(k)) {
		group_leave(p, at.chunk);
		chunk_give(p, at.chunk);
	}
}

void pool_pin(struct pool *p, struct pool_at at)
{
	__atomic_fetch_add(&chunk_at(p, at.chunk)->pins, 1, __ATOMIC_RELAXED);
}

void pool_unpin(struct pool *p, struct pool_at at)
{
	__atomic_fetch_sub(&chunk_at(p, at.chunk)->pins, 1, __ATOMIC_RELEASE);
}

void pool_unpin_all(struct pool *p)
{
	for (uint32_t nr = 1; nr <= p->nr_chunks; nr++)
		if (is_pinned(chunk_at(p, nr)))
			chunk_at(p, nr)->pins = 0;
}

/* ---- compaction ---- */

static uint32_t emptiest(const struct pool *p, const struct pool_class *c)
{
	for (uint32_t g = 0; g < POOL_GROUPS; g++)
		for (uint32_t nr = c->head[g]; nr; nr = chunk_at(p, nr)->next)
			if (!is_pinned(chunk_at(p, nr)))
				return nr;
	return 0;
}

static uint64_t holes(const struct pool_class *c)
{
	return c->nr_slots - c->nr_used;
}

bool pool_is_loose(const struct pool *p, uint32_t cls)
{
	const struct pool_class *c = &p->class[cls];

	return holes(c) > c->slots + c->nr_slots / 8;
}

/* The holes of the others are enough, since those of the class make up a chunk. */
bool pool_compact(struct pool *p, uint32_t cls, pool_moved_t moved, void *arg)
{
	struct pool_class *c = &p->class[cls];
	uint32_t from = holes(c) >= c->slots ? emptiest(p, c) : 0;
	const uint32_t *owners;
	uint32_t fresh;

	if (!from)
		return false;
	group_leave(p, from);
	owners = owners_of(p, from);
	fresh = chunk_at(p, from)->fresh;
	for (uint32_t slot = 0; slot < fresh; slot++) {
		struct pool_at to = { .chunk = fullest(c) };

		if (owners[slot] & HOLE)
			continue;
		to.slot = slot_take(p, to.chunk, owners[slot]);
		memcpy(pool_ptr(p, to), pool_ptr(p, (struct pool_at){ from, slot }), c->size);
		moved(arg, owners[slot], to);
		c->nr_used--;
		p->compacted++;
	}
	chunk_give(p, from);
	p->compactions++;
	return true;
}

bool pool_squeeze(struct pool *p, pool_moved_t moved, void *arg)
{
	for (uint32_t i = 0; i < p->nr_classes; i++) {
		p->turn = (p->turn + 1) % p->nr_classes;
		if (pool_compact(p, p->turn, moved, arg))
			return true;
	}
	return false;
}

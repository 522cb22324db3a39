/* SPDX-License-Identifier: MIT */
/*
 * pool - objects of any size up to a page, in memory that shrinks. Chunks of 64 KiB each hold objects of one size
 * class; a class takes the fullest chunk that has a hole, and when its holes make up a chunk the objects of its
 * emptiest chunk go there (pool_compact). An empty chunk goes back to the host, but for a few.
 *
 * An object is at a chunk and a slot, and has an owner: the number by which whoever keeps it is told that it has moved.
 *
 * Context: all under the lock of the store, but for pool_ptr() and pool_unpin(). A chunk that is pinned is neither
 * moved nor given back, so what is in it can be read without the lock.
 */
#ifndef GODWIT_FAR_POOL_H
#define GODWIT_FAR_POOL_H

#include "far/store.h"

#define POOL_CHUNK (64U << 10)
#define POOL_CHUNKS (1U << 24)	/* most of them: 24 bits of an object's place */
#define POOL_SLOT_BITS 12
#define POOL_CLASSES 96U
#define POOL_GROUPS 4U		/* chunks with holes, by how full they are */
#define POOL_RAW_SLOTS (POOL_CHUNK / FAR_PAGE)
#define POOL_LARGEST 3328U	/* of the objects that are not whole pages */

struct pool_class {
	uint16_t size, slots;
	uint32_t first;			/* offset of the first object: before it stand the owners */
	uint32_t head[POOL_GROUPS];	/* 0: none */
	uint64_t nr_slots, nr_used;	/* of all its chunks */
};

struct pool_chunk {
	uint32_t prev, next;		/* of its group, or of the free ones */
	uint16_t used;
	uint16_t fresh;			/* from here on slots have never been used */
	uint16_t hole;			/* first of the list of free slots before that; POOL_NO_HOLE: none */
	uint16_t pins;			/* atomic; taken with the lock, given back without */
	uint8_t cls, group;	/* cls: index of its class */
	uint16_t unused;
};

struct pool {
	struct space memory, chunks;	/* the latter: struct pool_chunk by number, from 1 on */
	struct space raw_owners;	/* POOL_RAW_SLOTS each: a chunk of whole pages has no room for them */
	uint32_t nr_chunks;		/* ever used; the highest number */
	uint32_t nr_resident;		/* that take memory */
	uint32_t stock, nr_stock;	/* free, memory kept */
	uint32_t gone;			/* free, memory given back */
	uint32_t nr_classes, turn;
	uint64_t compactions, compacted;
	struct pool_class class[POOL_CLASSES];	/* by size; the last is of whole pages */
	uint8_t class_of[POOL_LARGEST / 8];	/* by (length - 1) / 8 */
};

struct pool_at {
	uint32_t chunk, slot;
};

typedef void (*pool_moved_t)(void *arg, uint32_t owner, struct pool_at to);

/* How much address space a pool of so many bytes wants; and from there on it is one. */
uint64_t pool_space(uint64_t bytes);
void pool_init(struct pool *p, char *at, uint64_t bytes);
/* Memory that is taken, books included. */
uint64_t pool_bytes(const struct pool *p);

/*
 * Room for len bytes. 0, -ENOSPC: it takes a new chunk, and may not; -ENOMEM: the host has none. may_grow: the pool may
 * take another chunk. any: the hole may be larger than need be.
 */
struct pool_wish {
	uint32_t len, owner;
	bool may_grow, any;
};
int pool_alloc(struct pool *p, const struct pool_wish *wish, struct pool_at *at);
void pool_free(struct pool *p, struct pool_at at);
void *pool_ptr(const struct pool *p, struct pool_at at);

/* One chunk's objects move, of a class with many holes. False: there is none such. */
bool pool_compact(struct pool *p, uint32_t cls, pool_moved_t moved, void *arg);
/* The same of any class that has a chunk's worth of holes: then a chunk is free. */
bool pool_squeeze(struct pool *p, pool_moved_t moved, void *arg);
uint32_t pool_class_of(const struct pool *p, struct pool_at at);
/* Does this class have more holes than it should? */
bool pool_is_loose(const struct pool *p, uint32_t cls);

void pool_pin(struct pool *p, struct pool_at at);
void pool_unpin(struct pool *p, struct pool_at at);
/* In a forked child, where who pinned is not there. */
void pool_unpin_all(struct pool *p);

#endif

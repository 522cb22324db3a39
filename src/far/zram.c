/* SPDX-License-Identifier: MIT */
/*
 * The compressed pool. A page is one of: a value that it has all over, kept in its entry; packed, or raw where that
 * does not pay, in the pool. An entry has 12 bytes, and each object in the pool the number of its entry.
 *
 * What runs in parallel: packing (each caller with a state of its own) and unpacking (the chunk is pinned); the lock
 * is held while a page is found or put into the books.
 *
 * dedup: the same content has the same object, sum and length; where those agree with an object that is there, and
 * every byte does, the page gets that one's number.
 */
#include "far/codec.h"
#include "far/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define STATES 4U		/* callers that pack at a time */
#define STATES_READ 4U		/* and unpack, where that needs a state */
#define BUCKETS_MAX (1U << 20)

enum kind { KIND_FREE, KIND_SAME, KIND_RAW, KIND_PACKED };

/* at: the kind above; below it chunk, slot and length - 1 of an object; 48 bits of a value; the next free entry. */
struct entry {
	uint32_t lo, hi;
	uint32_t sum;		/* of the object; of a value: a sum, and its other 16 bits */
};

#define KIND_SHIFT 60
#define CHUNK_SHIFT 24
#define SLOT_SHIFT 12
#define LOW48 ((1ULL << 48) - 1)

/* With dedup, beside each entry. */
struct shared {
	uint32_t refs;
	uint32_t next;		/* of the same bucket; 0: none */
};

struct packer {
	uint32_t busy;		/* atomic */
	bool ready;		/* owner only, as is the rest */
	char *state;
	char *out;		/* CODEC_WORTH bytes and some */
};

struct zram {
	struct far far;
	struct packer packer[STATES + STATES_READ];
	uint32_t nr_packers;	/* immutable after open, as are the next two */
	uint32_t nr_buckets;
	uint32_t *bucket;
	uint64_t limit;
	/* protected by far.lock */
	struct pool pool;
	struct space entries, shares;
	uint32_t nr_entries;	/* ever used; the highest number */
	uint32_t free_entry;	/* 0: none */
	uint64_t pages, same, raw, extra, data_bytes;
	uint64_t packer_bytes;	/* of those that were ever used; atomic */
};

/* What a page has become on its way into the books. */
struct parcel {
	enum kind kind;
	uint64_t value;
	const void *data;
	uint32_t len, sum;
};

static struct zram *zram_of(struct far *f)
{
	return container_of(f, struct zram, far);
}

/* ---- states ---- */

static uint64_t packer_len(enum far_alg alg)
{
	return ALIGN_UP(codec_state_size(alg) + CODEC_WORTH + CODEC_SLACK, FAR_PAGE);
}

static struct packer *packer_try(struct zram *z, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		uint32_t free = 0;

		if (__atomic_compare_exchange_n(&z->packer[i].busy, &free, 1, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return &z->packer[i];
	}
	return NULL;
}

/* Of the first STATES to write with, of the others to read with: a reader does not wait for one who packs a batch. */
static struct packer *packer_take(struct zram *z, bool to_read)
{
	uint32_t from = to_read ? STATES : 0, to = to_read ? STATES + STATES_READ : STATES;
	uint32_t *word = &z->packer[from].busy;
	struct packer *p;

	while (!(p = packer_try(z, from, to))) {
		uint32_t held = 1;

		__atomic_compare_exchange_n(word, &held, 2, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		futex_wait(word, 2, 1000000);
	}
	if (!p->ready) {
		/* the library was asked for this size when the store was opened */
		BUG_ON(codec_state_init(z->far.spec.alg, p->state));
		p->ready = true;
		far_count(&z->packer_bytes, packer_len(z->far.spec.alg));
	}
	return p;
}

static void packer_give(struct packer *p)
{
	if (__atomic_exchange_n(&p->busy, 0, __ATOMIC_RELEASE) == 2)
		futex_wake(&p->busy);
}

/* ---- entries: under the lock ---- */

static struct entry *entry_at(const struct zram *z, uint32_t home)
{
	return (struct entry *)(void *)z->entries.base + home;
}

static struct shared *shared_at(const struct zram *z, uint32_t home)
{
	return (struct shared *)(void *)z->shares.base + home;
}

static uint64_t entry_word(const struct entry *e)
{
	return (uint64_t)e->hi << 32 | e->lo;
}

static void entry_set(struct entry *e, enum kind kind, uint64_t word)
{
	word |= (uint64_t)kind << KIND_SHIFT;
	e->lo = (uint32_t)word;
	e->hi = (uint32_t)(word >> 32);
}

static enum kind entry_kind(const struct entry *e)
{
	return (enum kind)(e->hi >> (KIND_SHIFT - 32));
}

static struct pool_at entry_place(const struct entry *e)
{
	uint64_t word = entry_word(e);

	return (struct pool_at){
		.chunk = (uint32_t)(word >> CHUNK_SHIFT) & (POOL_CHUNKS - 1),
		.slot = (uint32_t)(word >> SLOT_SHIFT) & ((1U << POOL_SLOT_BITS) - 1),
	};
}

static uint32_t entry_len(const struct entry *e)
{
	return (e->lo & ((1U << SLOT_SHIFT) - 1)) + 1;
}

static void entry_put_at(struct entry *e, enum kind kind, struct pool_at at, uint32_t len)
{
	entry_set(e, kind, (uint64_t)at.chunk << CHUNK_SHIFT | (uint64_t)at.slot << SLOT_SHIFT | (len - 1));
}

static uint32_t value_sum(uint64_t value)
{
	return sum_of(&value, sizeof(value)) & 0xffff;
}

static uint64_t book_bytes(uint64_t nr, uint64_t size)
{
	return ALIGN_UP((nr + 1) * size, FAR_PAGE);
}

static uint64_t used_bytes(const struct zram *z)
{
	uint64_t n = pool_bytes(&z->pool) + book_bytes(z->nr_entries, sizeof(struct entry)) +
		     z->nr_buckets * sizeof(uint32_t);

	if (z->far.spec.dedup)
		n += book_bytes(z->nr_entries, sizeof(struct shared));
	return n + sizeof(*z) + __atomic_load_n(&z->packer_bytes, __ATOMIC_RELAXED);
}

/* An entry that nobody has; it is the caller's once it has a kind. 0 or -errno. */
static int entry_new(struct zram *z, uint32_t *home)
{
	uint32_t nr = z->nr_entries + 1;

	*home = z->free_entry;
	if (*home)
		return 0;
	if (nr >= 1U << 31 || (nr + 1) * sizeof(struct shared) > z->shares.reserved ||
	    (book_bytes(nr, sizeof(struct entry)) > book_bytes(nr - 1, sizeof(struct entry)) &&
	     used_bytes(z) + 2UL * FAR_PAGE > z->limit))
		return -ENOSPC;
	if (space_reach(&z->entries, (nr + 1) * sizeof(struct entry)) ||
	    (z->far.spec.dedup && space_reach(&z->shares, (nr + 1) * sizeof(struct shared))))
		return -ENOMEM;
	*home = nr;
	return 0;
}

static void entry_take(struct zram *z, uint32_t home)
{
	if (home > z->nr_entries)
		z->nr_entries = home;
	else
		z->free_entry = entry_at(z, home)->lo;
}

static void entry_free(struct zram *z, uint32_t home)
{
	entry_set(entry_at(z, home), KIND_FREE, z->free_entry);
	z->free_entry = home;
}

/* ---- the same content ---- */

static uint32_t *bucket_of(struct zram *z, uint32_t sum)
{
	return &z->bucket[sum & (z->nr_buckets - 1)];
}

static bool bytes_differ(const char *a, const char *b, uint32_t len)
{
	uint64_t x, y;

	for (; len >= 8; len -= 8, a += 8, b += 8) {
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x != y)
			return true;
	}
	return memcmp(a, b, len) != 0;
}

static uint32_t twin_find(struct zram *z, const struct parcel *p)
{
	uint32_t home = *bucket_of(z, p->sum);

	for (; home; home = shared_at(z, home)->next) {
		const struct entry *e = entry_at(z, home);

		if (e->sum == p->sum && entry_kind(e) == p->kind && entry_len(e) == p->len &&
		    !bytes_differ(pool_ptr(&z->pool, entry_place(e)), p->data, p->len))
			return home;
	}
	return 0;
}

static void twin_enter(struct zram *z, uint32_t home)
{
	struct shared *s = shared_at(z, home);
	uint32_t *bucket = bucket_of(z, entry_at(z, home)->sum);

	*s = (struct shared){ .refs = 1, .next = *bucket };
	*bucket = home;
}

static void twin_leave(struct zram *z, uint32_t home)
{
	uint32_t *link = bucket_of(z, entry_at(z, home)->sum);

	while (*link != home)
		link = &shared_at(z, *link)->next;
	*link = shared_at(z, home)->next;
}

/* ---- into the books ---- */

static void moved(void *arg, uint32_t owner, struct pool_at to)
{
	struct zram *z = arg;
	struct entry *e = entry_at(z, owner);

	entry_put_at(e, entry_kind(e), to, entry_len(e));
}

/* First where it fits best; then what compaction frees; then any hole that is large enough. */
static int place_find(struct zram *z, const struct parcel *p, uint32_t home, struct pool_at *at)
{
	struct pool_wish wish = { .len = p->len, .owner = home, .may_grow = used_bytes(z) + POOL_CHUNK <= z->limit };
	int err = pool_alloc(&z->pool, &wish, at);

	if (err && pool_squeeze(&z->pool, moved, z))
		err = pool_alloc(&z->pool, &wish, at);
	wish.any = true;
	if (err && pool_alloc(&z->pool, &wish, at) == 0)
		err = 0;
	return err;
}

static int object_keep(struct zram *z, const struct parcel *p, uint32_t home)
{
	struct pool_at at;
	int err = place_find(z, p, home, &at);

	if (err)
		return err;
	memcpy(pool_ptr(&z->pool, at), p->data, p->len);
	entry_take(z, home);
	entry_put_at(entry_at(z, home), p->kind, at, p->len);
	entry_at(z, home)->sum = p->sum;
	z->data_bytes += p->len;
	z->raw += p->kind == KIND_RAW;
	if (z->far.spec.dedup)
		twin_enter(z, home);
	return 0;
}

static void value_keep(struct zram *z, uint64_t value, uint32_t home)
{
	entry_take(z, home);
	entry_set(entry_at(z, home), KIND_SAME, value & LOW48);
	entry_at(z, home)->sum = value_sum(value) | (uint32_t)(value >> 48) << 16;
	z->same++;
}

static int keep(struct zram *z, const struct parcel *p, uint32_t *home)
{
	int err = 0;

	if (z->far.spec.dedup && p->kind != KIND_SAME && (*home = twin_find(z, p)) != 0) {
		shared_at(z, *home)->refs++;
		z->extra++;
		z->pages++;
		return 0;
	}
	err = entry_new(z, home);
	if (!err && p->kind == KIND_SAME)
		value_keep(z, p->value, *home);
	else if (!err)
		err = object_keep(z, p, *home);
	z->pages += !err;
	return err;
}

static void pack(struct zram *z, struct packer *k, const char *page, struct parcel *p)
{
	*p = (struct parcel){ .kind = KIND_SAME };
	if (page_is_same(page, &p->value))
		return;
	p->len = codec_pack(z->far.spec.alg, k->state, page, k->out);
	p->kind = p->len ? KIND_PACKED : KIND_RAW;
	p->data = p->len ? k->out : page;
	p->len = p->len ? p->len : FAR_PAGE;
	p->sum = sum_of(p->data, p->len);
}

static uint32_t zram_put(struct far *f, const char *src, uint32_t nr, uint32_t *home, int *err)
{
	struct zram *z = zram_of(f);
	struct packer *k = packer_take(z, false);
	struct parcel p;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		*err = far_fails(f, FAR_FAULT_WRITE) ? -EIO : far_fails(f, FAR_FAULT_FULL) ? -ENOSPC : 0;
		if (*err)
			break;
		pack(z, k, src + (uint64_t)i * FAR_PAGE, &p);
		far_lock_change(f);
		*err = keep(z, &p, &home[i]);
		lock_release(&f->lock);
		if (*err)
			break;
	}
	packer_give(k);
	return i;
}

/* ---- out of the books ---- */

static void object_drop(struct zram *z, uint32_t home)
{
	struct entry *e = entry_at(z, home);
	struct pool_at at = entry_place(e);
	uint32_t cls = pool_class_of(&z->pool, at);

	if (z->far.spec.dedup)
		twin_leave(z, home);
	z->data_bytes -= entry_len(e);
	z->raw -= entry_kind(e) == KIND_RAW;
	entry_free(z, home);
	pool_free(&z->pool, at);
	if (pool_is_loose(&z->pool, cls))
		pool_compact(&z->pool, cls, moved, z);
}

static void drop(struct zram *z, uint32_t home)
{
	enum kind kind;

	BUG_ON(!home || home > z->nr_entries);
	kind = entry_kind(entry_at(z, home));
	BUG_ON(kind == KIND_FREE);
	z->pages--;
	if (kind == KIND_SAME) {
		z->same--;
		entry_free(z, home);
	} else if (z->far.spec.dedup && shared_at(z, home)->refs > 1) {
		shared_at(z, home)->refs--;
		z->extra--;
	} else {
		object_drop(z, home);
	}
}

static void zram_drop(struct far *f, const uint32_t *home, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		far_lock_change(f);
		drop(zram_of(f), home[i]);
		lock_release(&f->lock);
	}
}

/* ---- reading ---- */

static int fill_value(const struct entry *e, bool broken, uint64_t *dst)
{
	uint64_t value = (entry_word(e) & LOW48) | (uint64_t)(e->sum >> 16) << 48;

	if ((value_sum(value) ^ broken) != (e->sum & 0xffff))
		return -EBADMSG;
	for (uint32_t i = 0; i < FAR_PAGE / 8; i++)
		dst[i] = value;
	return 0;
}

static int unpack(struct zram *z, const struct entry *e, bool broken, void *dst)
{
	const void *data = pool_ptr(&z->pool, entry_place(e));
	struct packer *k = NULL;
	bool good;

	if ((sum_of(data, entry_len(e)) ^ broken) != e->sum)
		return -EBADMSG;
	if (entry_kind(e) == KIND_RAW) {
		memcpy(dst, data, FAR_PAGE);
		return 0;
	}
	if (codec_needs_state(z->far.spec.alg))
		k = packer_take(z, true);
	good = codec_unpack(z->far.spec.alg, k ? k->state : NULL, data, entry_len(e), dst);
	if (k)
		packer_give(k);
	return good ? 0 : -EBADMSG;
}

static int get(struct zram *z, uint32_t home, void *dst)
{
	bool broken = far_fails(&z->far, FAR_FAULT_CORRUPT);
	struct entry e;
	int err;

	if (far_fails(&z->far, FAR_FAULT_READ))
		return -EIO;
	lock_acquire(&z->far.lock);
	BUG_ON(!home || home > z->nr_entries);
	e = *entry_at(z, home);
	BUG_ON(entry_kind(&e) == KIND_FREE);
	if (entry_kind(&e) != KIND_SAME)
		pool_pin(&z->pool, entry_place(&e));
	lock_release(&z->far.lock);
	if (entry_kind(&e) == KIND_SAME)
		return fill_value(&e, broken, dst);
	err = unpack(z, &e, broken, dst);
	pool_unpin(&z->pool, entry_place(&e));
	return err;
}

static void zram_get(struct far *f, const uint32_t *home, uint32_t nr, char *dst, int *err)
{
	for (uint32_t i = 0; i < nr; i++)
		err[i] = get(zram_of(f), home[i], dst + (uint64_t)i * FAR_PAGE);
}

static void zram_stats(struct far *f, struct far_stats *out)
{
	struct zram *z = zram_of(f);

	lock_acquire(&f->lock);
	out->pages = z->pages;
	out->same = z->same;
	out->raw = z->raw;
	out->shared = z->extra;
	out->data_bytes = z->data_bytes;
	out->used_bytes = used_bytes(z);
	out->compactions = z->pool.compactions;
	out->compacted = z->pool.compacted;
	lock_release(&f->lock);
}

/* The pool is private memory: the kernel has copied it. Who read or packed meanwhile is not here. */
static int zram_fork_child(struct far *f)
{
	struct zram *z = zram_of(f);

	for (uint32_t i = 0; i < z->nr_packers; i++) {
		z->packer[i].busy = 0;
		if (z->packer[i].ready)
			BUG_ON(codec_state_init(f->spec.alg, z->packer[i].state));
	}
	pool_unpin_all(&z->pool);
	return 0;
}

static void zram_close(struct far *f)
{
	region_drop(f->region, f->part);
}

static const struct far_ops zram_ops = {
	.close = zram_close,
	.put = zram_put,
	.get = zram_get,
	.drop = zram_drop,
	.stats = zram_stats,
	.fork_child = zram_fork_child,
};

/* ---- opening ---- */

/* Where in the reservation what begins. */
struct layout {
	uint64_t limit, packers, buckets, pool, entries, shares, end;
	uint32_t nr_buckets, nr_packers;
};

static void layout_make(struct layout *l, const struct far_spec *spec, uint64_t limit)
{
	*l = (struct layout){ .limit = limit, .nr_packers = STATES + (codec_needs_state(spec->alg) ? STATES_READ : 0) };
	for (l->nr_buckets = spec->dedup ? 512 : 0; l->nr_buckets && l->nr_buckets < BUCKETS_MAX; l->nr_buckets *= 2)
		if (l->nr_buckets * 8192UL >= limit)
			break;
	l->packers = ALIGN_UP(sizeof(struct zram), FAR_PAGE);
	l->buckets = l->packers + l->nr_packers * packer_len(spec->alg);
	l->pool = ALIGN_UP(l->buckets + l->nr_buckets * sizeof(uint32_t), POOL_CHUNK);
	l->entries = l->pool + pool_space(limit);
	l->shares = l->entries + ALIGN_UP(limit, FAR_PAGE);
	l->end = l->shares + ALIGN_UP(limit, FAR_PAGE);
}

static void zram_init(struct zram *z, char *part, const struct layout *l, const struct far_spec *spec)
{
	z->far.ops = &zram_ops;
	z->far.part = part;
	z->far.spec = *spec;
	z->far.lock = LOCK_INIT(RANK_FAR);
	z->far.plans = LOCK_INIT(RANK_POST);
	z->limit = l->limit;
	z->nr_packers = l->nr_packers;
	z->nr_buckets = l->nr_buckets;
	z->bucket = (uint32_t *)(void *)(part + l->buckets);
	for (uint32_t i = 0; i < l->nr_packers; i++) {
		z->packer[i].state = part + l->packers + i * packer_len(spec->alg);
		z->packer[i].out = z->packer[i].state + codec_state_size(spec->alg);
	}
	pool_init(&z->pool, part + l->pool, l->limit);
	z->entries = (struct space){ .base = part + l->entries, .reserved = l->shares - l->entries };
	z->shares = (struct space){ .base = part + l->shares, .reserved = l->end - l->shares };
}

/* Without a limit as many addresses as this host has memory; fewer where a process may not have so many. */
int zram_open(struct far **out, struct region *r, const struct far_spec *spec)
{
	uint64_t limit = spec->bytes ? spec->bytes : space_host();
	struct layout l;
	char *part = NULL;

	if (spec->alg >= FAR_ALGS)
		return -EINVAL;
	for (;; limit /= 2) {
		layout_make(&l, spec, min_u64(limit, (uint64_t)POOL_CHUNKS * POOL_CHUNK));
		part = region_part(r, l.end);
		if (part || spec->bytes || limit < 64UL << 20)
			break;
	}
	if (!part)
		return -ENOMEM;
	sys3(SYS_madvise, part, l.end, MADV_NOHUGEPAGE);
	if (sys3(SYS_mprotect, part, l.pool, PROT_READ | PROT_WRITE) < 0) {
		region_drop(r, part);
		return -ENOMEM;
	}
	zram_init((struct zram *)(void *)part, part, &l, spec);
	((struct zram *)(void *)part)->far.region = r;
	*out = &((struct zram *)(void *)part)->far;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Pages in a file or on a block device, past the page cache. Which slots are taken is known to all processes of the
 * family (slots.h), what is in them only to the one that has put it there, or its parent before the fork: a sum, and
 * whether somebody reads it just now.
 *
 *     FREE -> CLAIMED (being written) -> KEPT -> FREE, or DYING where it is dropped while it is read: then the last
 *     reader frees it
 *
 * The lock is not held while anything is read or written, nor while the store is frozen: the slots of a put that is
 * under way then are not the child's. A reader that ends meanwhile leaves a dying slot to far_thaw().
 */
#include "far/backing.h"
#include "far/codec.h"
#include "far/slots.h"
#include "far/uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define GROW_GROUPS 16U		/* backed at a time: 16 MiB */
#define SLACK_GROUPS 16U	/* backed and free, before any is given back */
#define TRIM_GROUPS 64U		/* looked at in one go */
#define BURY_NS 1000000000UL	/* between two looks for dead members */

enum slot_state { SLOT_FREE, SLOT_CLAIMED, SLOT_KEPT, SLOT_DYING };

struct slot {
	uint32_t sum;
	uint32_t state : 2, pins : 30;
};

struct file {
	struct far far;
	struct backing backing;		/* immutable after open, but for fork */
	struct uring uring;
	struct lock bounce_lock;	/* of bounce: for memory that a device cannot reach */
	char *bounce;
	/* protected by far.lock */
	struct slots slots;
	struct slot *slot;
	struct space books;		/* what slot is in */
	uint64_t pages, dying;
	uint64_t full_at, buried_at;	/* nr_left when there was no room; when dead members were last looked for */
	uint32_t trim_group;
	int fork_fd, fork_err;		/* of the child that is being made */
	uint32_t fork_member;
};

static struct file *file_of(struct far *f)
{
	return container_of(f, struct file, far);
}

static uint64_t offset_of(uint32_t slot)
{
	return (uint64_t)slot * FAR_PAGE;
}

/* ---- room ---- */

/* The disk has room for these slots, or for the first of them: how many. */
static uint32_t back(struct file *s, uint32_t first, uint32_t nr, int *err)
{
	uint32_t group = first / SLOTS_GROUP, last = (first + nr - 1) / SLOTS_GROUP;

	for (; group <= last; group++) {
		uint64_t at = offset_of(group * SLOTS_GROUP), most = offset_of(s->slots.nr) - at;
		uint32_t more = 1;

		if (slots_is_backed(&s->slots, group))
			continue;
		while (more < GROW_GROUPS && group + more < slots_groups(&s->slots) &&
		       !slots_is_backed(&s->slots, group + more))
			more++;
		*err = backing_grow(&s->backing, at, min_u64(offset_of(more * SLOTS_GROUP), most));
		if (*err && more > 1) {
			more = 1;
			*err = backing_grow(&s->backing, at, min_u64(offset_of(SLOTS_GROUP), most));
		}
		if (*err) {
			*err = *err == -EDQUOT || *err == -EFBIG ? -ENOSPC : *err == -ENOSPC ? -ENOSPC : -EIO;
			break;
		}
		for (uint32_t i = 0; i < more; i++)
			slots_back(&s->slots, group + i, true);
	}
	return group > last ? nr : (uint32_t)max_u64(group * SLOTS_GROUP, first) - first;
}

/* Up to want slots in a row; 0 and *err. */
static uint32_t room_try(struct file *s, uint32_t want, uint32_t *first, int *err)
{
	uint64_t top = slots_top(&s->slots), used = __atomic_load_n(&s->slots.shared->nr_used, __ATOMIC_RELAXED);
	uint32_t nr, good;

	/* runs are long where one slot in sixteen is free */
	if (top < used + want + top / 16)
		slots_widen(&s->slots);
	nr = slots_take(&s->slots, want, false, first);
	if (!nr && slots_widen(&s->slots))
		nr = slots_take(&s->slots, want, false, first);
	if (!nr)
		return 0;
	good = back(s, *first, nr, err);
	if (good < nr)
		slots_leave(&s->slots, *first + good, nr - good);
	if (!good)
		good = slots_take(&s->slots, want, true, first);
	if (good)
		*err = 0;
	return good;
}

/* What processes had that have ended is theirs until somebody looks. */
static bool bury(struct file *s)
{
	uint64_t now = clock_ns();

	if (now - s->buried_at < BURY_NS)
		return false;
	s->buried_at = now;
	if (!members_bury(&s->slots, s->backing.fd))
		slots_recount(&s->slots, s->backing.fd);
	return true;
}

/* A full store is not searched again before somebody has left something, or may have died. */
static uint32_t room_find(struct file *s, uint32_t want, uint32_t *first, int *err)
{
	uint64_t left = __atomic_load_n(&s->slots.shared->nr_left, __ATOMIC_RELAXED);
	uint32_t nr = 0;

	*err = -ENOSPC;
	if (left != s->full_at)
		nr = room_try(s, want, first, err);
	if (nr)
		return nr;
	if (bury(s))
		nr = room_try(s, want, first, err);
	s->full_at = nr ? ~0ULL : left;
	return nr;
}

/* A step of giving room back to the disk, where half of it and more is free. */
static void trim(struct file *s)
{
	uint64_t backed = __atomic_load_n(&s->slots.shared->nr_backed, __ATOMIC_RELAXED);
	uint64_t used = __atomic_load_n(&s->slots.shared->nr_used, __ATOMIC_RELAXED) / SLOTS_GROUP;
	uint32_t members = __atomic_load_n(&s->slots.shared->nr_members, __ATOMIC_RELAXED);

	if (s->backing.grows && backed >= SLACK_GROUPS && members > 1 && bury(s))
		used = __atomic_load_n(&s->slots.shared->nr_used, __ATOMIC_RELAXED) / SLOTS_GROUP;
	if (!s->backing.grows || backed < 2 * used + SLACK_GROUPS)
		return;
	for (uint32_t i = 0; i < TRIM_GROUPS; i++) {
		uint32_t group = s->trim_group, first = group * SLOTS_GROUP;
		uint32_t nr = (uint32_t)min_u64(SLOTS_GROUP, s->slots.nr - first);

		s->trim_group = (group + 1) % (uint32_t)max_u64(1, slots_top(&s->slots) / SLOTS_GROUP);
		if (!slots_take_group(&s->slots, group))
			continue;
		slots_back(&s->slots, group, false);
		backing_punch(&s->backing, offset_of(first), offset_of(nr));
		slots_leave(&s->slots, first, nr);
		/* what is used next is at the front again */
		s->slots.cursor = 0;
		return;
	}
}

/* ---- keeping ---- */

struct run {
	uint32_t first, nr;
};

/* Slots for nr pages, as few runs as can be; returns for how many pages. */
static uint32_t runs_take(struct file *s, uint32_t nr, struct run *run, uint32_t *nr_runs, int *err)
{
	uint32_t got = 0;

	*nr_runs = 0;
	far_lock_change(&s->far);
	while (got < nr) {
		struct run *r = &run[*nr_runs];

		*err = far_fails(&s->far, FAR_FAULT_FULL) ? -ENOSPC : 0;
		r->nr = *err ? 0 : room_find(s, nr - got, &r->first, err);
		if (!r->nr)
			break;
		*err = space_reach(&s->books, (uint64_t)(r->first + r->nr) * sizeof(struct slot));
		if (*err) {
			slots_leave(&s->slots, r->first, r->nr);
			break;
		}
		for (uint32_t i = 0; i < r->nr; i++)
			s->slot[r->first + i] = (struct slot){ .state = SLOT_CLAIMED };
		got += r->nr;
		(*nr_runs)++;
	}
	lock_release(&s->far.lock);
	return got;
}

static bool reachable(const struct file *s, const void *buf)
{
	return !s->backing.direct || !((uintptr_t)buf % 512);
}

/* A batch of operations, by way of the bounce buffer where the memory is not aligned as devices want it. */
static void transfer(struct file *s, bool write, struct uring_op *op, uint32_t nr)
{
	char *buf;

	if (reachable(s, op[0].buf)) {
		uring_run(&s->uring, s->backing.fd, write, op, nr);
		return;
	}
	for (uint32_t i = 0; i < nr; i++) {
		buf = op[i].buf;
		lock_acquire(&s->bounce_lock);
		if (write)
			memcpy(s->bounce, buf, op[i].len);
		op[i].buf = s->bounce;
		uring_run(&s->uring, s->backing.fd, write, &op[i], 1);
		op[i].buf = buf;
		if (!write)
			memcpy(buf, s->bounce, op[i].done);
		lock_release(&s->bounce_lock);
	}
}

/* The pages of these runs are written; how many from the first on were, and *err of the next. */
static uint32_t runs_write(struct file *s, const char *src, const struct run *run, uint32_t nr_runs, int *err)
{
	struct uring_op op[FAR_BATCH];
	uint32_t pages = 0, good = 0;

	for (uint32_t i = 0; i < nr_runs; i++) {
		op[i] = (struct uring_op){
			.buf = (char *)(uintptr_t)src + offset_of(pages),
			.offset = offset_of(run[i].first),
			.len = run[i].nr * FAR_PAGE,
		};
		pages += run[i].nr;
	}
	transfer(s, true, op, nr_runs);
	for (uint32_t i = 0; i < nr_runs; i++) {
		good += op[i].done / FAR_PAGE;
		if (op[i].done < op[i].len) {
			*err = op[i].err == -ENOSPC || op[i].err == -EDQUOT ? -ENOSPC : -EIO;
			break;
		}
	}
	for (uint32_t i = 0; i < good; i++)
		if (far_fails(&s->far, FAR_FAULT_WRITE)) {
			*err = -EIO;
			return i;
		}
	return good;
}

/* What was written is kept, the rest of the slots are left. */
static void runs_settle(struct file *s, const char *src, const struct run *run, uint32_t nr_runs, struct run good,
			uint32_t *home)
{
	uint32_t page = 0, sum[FAR_BATCH];

	for (uint32_t i = 0; i < good.nr; i++)
		sum[i] = sum_of(src + offset_of(i), FAR_PAGE);
	far_lock_change(&s->far);
	for (uint32_t r = 0; r < nr_runs; r++)
		for (uint32_t i = 0; i < run[r].nr; i++, page++) {
			uint32_t slot = run[r].first + i;

			if (page < good.nr) {
				s->slot[slot] = (struct slot){ .sum = sum[page], .state = SLOT_KEPT };
				home[page] = slot + 1;
			} else {
				s->slot[slot] = (struct slot){ .state = SLOT_FREE };
				slots_leave(&s->slots, slot, 1);
			}
		}
	s->pages += good.nr;
	lock_release(&s->far.lock);
}

static uint32_t file_put(struct far *f, const char *src, uint32_t nr, uint32_t *home, int *err)
{
	struct file *s = file_of(f);
	struct run run[FAR_BATCH], good = { 0, 0 };
	uint32_t nr_runs, got = runs_take(s, nr, run, &nr_runs, err);
	int io_err = 0;

	if (!got)
		return 0;
	good.nr = runs_write(s, src, run, nr_runs, &io_err);
	if (io_err)
		*err = io_err;
	runs_settle(s, src, run, nr_runs, good, home);
	return good.nr;
}

/* ---- reading ---- */

static void slot_free(struct file *s, uint32_t slot)
{
	s->slot[slot] = (struct slot){ .state = SLOT_FREE };
	slots_leave(&s->slots, slot, 1);
}

static void slots_pin(struct file *s, const uint32_t *home, uint32_t nr, uint32_t *sum)
{
	lock_acquire(&s->far.lock);
	for (uint32_t i = 0; i < nr; i++) {
		struct slot *slot = &s->slot[home[i] - 1];

		BUG_ON(!home[i] || home[i] > s->slots.nr || slot->state != SLOT_KEPT);
		slot->pins++;
		sum[i] = slot->sum;
	}
	lock_release(&s->far.lock);
}

static void slots_unpin(struct file *s, const uint32_t *home, uint32_t nr)
{
	lock_acquire(&s->far.lock);
	for (uint32_t i = 0; i < nr; i++) {
		struct slot *slot = &s->slot[home[i] - 1];

		if (--slot->pins || slot->state != SLOT_DYING)
			continue;
		if (s->far.frozen)
			s->dying++;
		else
			slot_free(s, home[i] - 1);
	}
	lock_release(&s->far.lock);
}

/* Pages that are neighbours on the disk are one read; where that fails it is known which of them. */
static void pages_read(struct file *s, const uint32_t *home, uint32_t nr, char *dst, int *err)
{
	struct uring_op op[FAR_BATCH];
	uint32_t nr_ops = 0, page = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (i && home[i] == home[i - 1] + 1 && reachable(s, dst))
			op[nr_ops - 1].len += FAR_PAGE;
		else
			op[nr_ops++] = (struct uring_op){ .buf = dst + offset_of(i),
							  .offset = offset_of(home[i] - 1),
							  .len = FAR_PAGE };
	}
	transfer(s, false, op, nr_ops);
	for (uint32_t o = 0; o < nr_ops; o++)
		for (uint32_t at = 0; at < op[o].len; at += FAR_PAGE, page++) {
			struct uring_op one = { .buf = op[o].buf + at, .offset = op[o].offset + at, .len = FAR_PAGE };

			if (op[o].done < at + FAR_PAGE)
				transfer(s, false, &one, 1);
			err[page] = one.err ? -EIO : 0;
		}
}

static void file_get(struct far *f, const uint32_t *home, uint32_t nr, char *dst, int *err)
{
	struct file *s = file_of(f);
	uint32_t sum[FAR_BATCH];

	slots_pin(s, home, nr, sum);
	pages_read(s, home, nr, dst, err);
	for (uint32_t i = 0; i < nr; i++) {
		char *page = dst + offset_of(i);

		if (far_fails(f, FAR_FAULT_READ))
			err[i] = -EIO;
		if (far_fails(f, FAR_FAULT_CORRUPT))
			page[0] ^= 1;
		if (!err[i] && sum_of(page, FAR_PAGE) != sum[i])
			err[i] = -EBADMSG;
	}
	slots_unpin(s, home, nr);
}

static void file_drop(struct far *f, const uint32_t *home, uint32_t nr)
{
	struct file *s = file_of(f);

	far_lock_change(f);
	for (uint32_t i = 0; i < nr; i++) {
		struct slot *slot = &s->slot[home[i] - 1];

		BUG_ON(!home[i] || home[i] > s->slots.nr || slot->state != SLOT_KEPT);
		if (slot->pins)
			slot->state = SLOT_DYING;
		else
			slot_free(s, home[i] - 1);
	}
	s->pages -= nr;
	trim(s);
	lock_release(&f->lock);
}

static void file_stats(struct far *f, struct far_stats *out)
{
	struct file *s = file_of(f);

	lock_acquire(&f->lock);
	out->pages = out->raw = s->pages;
	out->data_bytes = s->pages * FAR_PAGE;
	out->used_bytes = s->backing.grows ? s->slots.shared->nr_backed * SLOTS_GROUP * FAR_PAGE
					   : s->slots.shared->nr_used * FAR_PAGE;
	out->buffered = !s->backing.direct;
	lock_release(&f->lock);
}

/* ---- fork ---- */

static bool is_kept(void *arg, uint32_t slot)
{
	return ((struct file *)arg)->slot[slot].state == SLOT_KEPT;
}

/*
 * The child is a member before it exists: what it will have cannot go meanwhile. If it never comes to be, or ends, the
 * open file goes that its byte is locked on.
 */
static void file_freeze(struct far *f)
{
	struct file *s = file_of(f);
	int member;

	s->fork_err = 0;
	s->fork_fd = backing_reopen(&s->backing);
	if (s->fork_fd < 0) {
		s->fork_err = s->fork_fd;
		return;
	}
	member = member_take(&s->slots, s->fork_fd);
	if (member < 0) {
		s->fork_err = member;
		return;
	}
	s->fork_member = (uint32_t)member;
	member_copy(&s->slots, s->fork_member, is_kept, s);
}

static void dying_free(struct file *s)
{
	for (uint32_t slot = 0; slot < s->books.open / sizeof(struct slot) && s->dying; slot++)
		if (s->slot[slot].state == SLOT_DYING && !s->slot[slot].pins) {
			slot_free(s, slot);
			s->dying--;
		}
}

/* In the parent, and in the child after far_fork_child(): there the number may be another's by now. */
static void file_thaw(struct far *f)
{
	struct file *s = file_of(f);

	if (s->fork_fd >= 0 && s->fork_fd != s->backing.fd)
		backing_close_fd(&s->backing, s->fork_fd);
	s->fork_fd = -1;
	dying_free(s);
}

static int file_fork_child(struct far *f)
{
	struct file *s = file_of(f);
	int mine, parents = s->backing.fd;

	s->bounce_lock = LOCK_INIT(RANK_FAR);
	mine = s->fork_err ? s->fork_err : backing_inherit(&s->backing, s->fork_fd);
	if (mine < 0) {
		/* what is left to be closed here is memory only */
		uring_forget(&s->uring, false);
		s->slots.me = SLOTS_NONE;
		s->backing.fd = -1;
		return mine;
	}
	/* where our file was not the ring was not either, and its number is another's */
	uring_forget(&s->uring, parents != mine && backing_close_fd(&s->backing, parents));
	s->backing.fd = mine;
	s->backing.opener = (uint32_t)sys0(SYS_gettid);
	s->slots.me = s->fork_member;
	s->pages = s->dying = 0;
	for (uint32_t slot = 0; slot < s->books.open / sizeof(struct slot); slot++) {
		s->slot[slot] = s->slot[slot].state == SLOT_KEPT
					? (struct slot){ .sum = s->slot[slot].sum, .state = SLOT_KEPT }
					: (struct slot){ .state = SLOT_FREE };
		s->pages += s->slot[slot].state == SLOT_KEPT;
	}
	uring_open(&s->uring);
	return 0;
}

/* ---- opening and closing ---- */

static void file_close(struct far *f)
{
	struct file *s = file_of(f);
	int fd = s->backing.fd;

	uring_close(&s->uring);
	if (s->slots.me != SLOTS_NONE)
		member_clear(&s->slots, s->slots.me);
	region_drop(f->region, f->part);
	if (fd >= 0)
		sys1(SYS_close, fd);
}

static const struct far_ops file_ops = {
	.close = file_close,
	.put = file_put,
	.get = file_get,
	.drop = file_drop,
	.stats = file_stats,
	.freeze = file_freeze,
	.thaw = file_thaw,
	.fork_child = file_fork_child,
};

/* Where in the reservation what begins. */
struct layout {
	uint64_t bounce, books, slots, end;
	uint32_t nr;
};

static void layout_make(struct layout *l, uint64_t bytes)
{
	l->nr = (uint32_t)min_u64(bytes / FAR_PAGE, SLOTS_NONE - 1);
	l->bounce = ALIGN_UP(sizeof(struct file), FAR_PAGE);
	l->books = l->bounce + FAR_BATCH * FAR_PAGE;
	l->slots = ALIGN_UP(l->books + (uint64_t)l->nr * sizeof(struct slot), FAR_PAGE);
	l->end = l->slots + slots_space(l->nr);
}

static int file_init(struct file *s, char *part, const struct layout *l)
{
	int member;
	int err = slots_init(&s->slots, part + l->slots, l->nr);

	if (err)
		return err;
	member = member_take(&s->slots, s->backing.fd);
	if (member < 0)
		return member;
	s->slots.me = (uint32_t)member;
	s->far.ops = &file_ops;
	s->far.part = part;
	s->far.slow = true;
	s->far.lock = s->bounce_lock = LOCK_INIT(RANK_FAR);
	s->far.plans = LOCK_INIT(RANK_POST);
	s->bounce = part + l->bounce;
	s->books = (struct space){ .base = part + l->books, .reserved = l->slots - l->books };
	s->slot = (struct slot *)(void *)s->books.base;
	s->full_at = ~0ULL;
	s->fork_fd = -1;
	uring_open(&s->uring);
	return 0;
}

int file_open(struct far **out, struct region *r, const struct far_spec *spec)
{
	struct backing b;
	struct layout l;
	struct file *s;
	int err = backing_open(&b, spec->path, spec->bytes);

	if (err)
		return err;
	layout_make(&l, b.bytes);
	s = region_part(r, l.end);
	err = !s || sys3(SYS_mprotect, s, l.books, PROT_READ | PROT_WRITE) < 0 ? -ENOMEM : 0;
	if (!err) {
		sys3(SYS_madvise, s, l.slots, MADV_NOHUGEPAGE);
		s->backing = b;
		s->far.region = r;
		s->far.spec = *spec;
		err = file_init(s, (char *)s, &l);
	}
	if (err) {
		if (s)
			region_drop(r, s);
		sys1(SYS_close, b.fd);
		return err;
	}
	*out = &s->far;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Mappings that stay tracked because pages of theirs are away. A table of ranges in the order of addresses. It must not
 * say more than is tracked: a page that goes out where nothing is would be touched unseen; nor less than pages are away
 * from, or their tracking ends. mm->lock held, but where said otherwise.
 */
#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define SOON_NS 20000ULL
#define SOON_TRIES 250000U /* five seconds */

static uint32_t kept_index(const struct kept *k, uint64_t addr)
{
	uint32_t low = 0, high = k->nr;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (k->range[mid].end > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static void remove_some(struct kept *k, uint32_t i, uint32_t nr)
{
	memmove(&k->range[i], &k->range[i + nr], (k->nr - i - nr) * sizeof(k->range[0]));
	k->nr -= nr;
}

static int insert_at(struct kept *k, uint32_t i, uint64_t start, uint64_t end)
{
	if (k->nr == KEPT_MAX)
		return -ENOSPC;
	memmove(&k->range[i + 1], &k->range[i], (k->nr - i) * sizeof(k->range[0]));
	k->range[i] = (struct kept_range){ start, end };
	k->nr++;
	return 0;
}

int kept_add(struct mm *mm, uint64_t start, uint64_t end)
{
	struct kept *k = mm->kept;
	uint32_t i, nr = 0;

	if (!k)
		return -ENOMEM;
	i = kept_index(k, start);
	while (i + nr < k->nr && k->range[i + nr].start < end) {
		start = min_u64(start, k->range[i + nr].start);
		end = max_u64(end, k->range[i + nr].end);
		nr++;
	}
	if (!nr)
		return insert_at(k, i, start, end);
	k->range[i] = (struct kept_range){ start, end };
	remove_some(k, i + 1, nr - 1);
	return 0;
}

/* Where a hole in the middle finds no room for its second half the range stays as it is. */
void kept_cut(struct mm *mm, uint64_t start, uint64_t end)
{
	struct kept *k = mm->kept;

	for (uint32_t i = k ? kept_index(k, start) : 0; k && i < k->nr && k->range[i].start < end;) {
		struct kept_range *r = &k->range[i];

		if (r->start >= start && r->end <= end) {
			remove_some(k, i, 1);
		} else if (r->start < start && r->end > end) {
			if (!insert_at(k, i + 1, end, r->end))
				k->range[i].end = start;
			return;
		} else if (r->start < start) {
			r->end = start;
			i++;
		} else {
			r->start = end;
		}
	}
}

bool kept_overlaps(const struct mm *mm, uint64_t start, uint64_t end)
{
	uint32_t i = mm->kept ? kept_index(mm->kept, start) : 0;

	return mm->kept && i < mm->kept->nr && mm->kept->range[i].start < end;
}

/* Where the first range at or behind addr begins, or end. */
uint64_t kept_next(const struct mm *mm, uint64_t addr, uint64_t end)
{
	uint32_t i = mm->kept ? kept_index(mm->kept, addr) : 0;

	return mm->kept && i < mm->kept->nr ? max_u64(addr, min_u64(end, mm->kept->range[i].start)) : end;
}

/* Where the range that holds addr ends, but not beyond end; none does: addr. */
uint64_t kept_end(const struct mm *mm, uint64_t addr, uint64_t end)
{
	uint32_t i = mm->kept ? kept_index(mm->kept, addr) : 0;

	if (!mm->kept || i == mm->kept->nr || mm->kept->range[i].start > addr)
		return addr;
	return min_u64(mm->kept->range[i].end, end);
}

/* Ranges where nothing is away any more are tracked no longer. migrate lock held, mm->lock not. */
void kept_trim(struct mm *mm)
{
	window_close(mm); /* it would be taken for open where nothing is tracked any more */
	if (__atomic_load_n(&mm->throttle.guards, __ATOMIC_RELAXED))
		return; /* near a limit what is not touched yet is tracked all the same */
	for (uint32_t i = 0; mm->kept && i < mm->kept->nr;) {
		struct kept_range r;
		uint32_t nr;
		bool idle;

		lock_acquire(&mm->lock);
		if (i >= mm->kept->nr) { /* an event was read */
			lock_release(&mm->lock);
			return;
		}
		nr = mm->kept->nr;
		r = mm->kept->range[i];
		idle = !away_in(mm, r.start, r.end) && !stranded_in(mm, r.start, r.end);
		if (idle) {
			remove_some(mm->kept, i, 1);
			untrack_range(mm, r.start, r.end);
		}
		i += !idle || mm->kept->nr >= nr; /* it may be kept all the same */
		lock_release(&mm->lock);
	}
}

/* What came along with the fork is the parent's for a moment longer: until that has read the end of it. */
int track_soon(struct mm *mm, uint64_t start, uint64_t len)
{
	int err = -EBUSY;

	for (uint32_t i = 0; i < SOON_TRIES && err == -EBUSY; i++) {
		err = mm->mmu->ops->track(mm->mmu, start, len);
		if (err == -EBUSY)
			sleep_ns(SOON_NS);
	}
	return err;
}

struct track_again {
	uint64_t start, end;
	int err;
};

static int track_piece(struct mm *mm, const struct area *a, void *arg)
{
	struct track_again *t = arg;
	uint64_t start = max_u64(a->start, t->start), end = min_u64(a->end, t->end);
	int err = 0;

	if (start < end && away_in(mm, start, end))
		err = track_soon(mm, start, end - start);
	t->err = t->err ? t->err : err;
	return a->start >= t->end;
}

int kept_track_again(struct mm *mm)
{
	for (uint32_t i = 0; mm->kept && i < mm->kept->nr; i++) {
		struct kept_range r = mm->kept->range[i];
		struct track_again t = { r.start, r.end, 0 };

		if (!track_soon(mm, r.start, r.end - r.start))
			continue;
		area_walk(mm, track_piece, &t);
		if (t.err)
			return t.err;
	}
	return 0;
}

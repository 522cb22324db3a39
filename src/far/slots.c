/* SPDX-License-Identifier: MIT */
/* The table that the processes of a family share: who uses which slot of the file. */
#include "far/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define WIDEN 16U		/* groups: 16 MiB */
#define WINDOW 16384U		/* slots that are looked at for a run before a shorter one will do */

static uint64_t users_len(uint32_t nr)
{
	return ALIGN_UP((uint64_t)nr * sizeof(uint16_t) + 8, FAR_PAGE);
}

static uint64_t backed_len(uint32_t nr)
{
	return ALIGN_UP(nr / SLOTS_GROUP + 1, FAR_PAGE);
}

static uint64_t bits_len(uint32_t nr)
{
	return ALIGN_UP((uint64_t)(nr / 64 + 1) * 8, FAR_PAGE);
}

uint64_t slots_space(uint32_t nr)
{
	return ALIGN_UP(sizeof(struct slots_shared), FAR_PAGE) + users_len(nr) + backed_len(nr) +
	       SLOTS_MEMBERS * bits_len(nr);
}

int slots_init(struct slots *s, char *at, uint32_t nr)
{
	long ret = sys_mmap(at, slots_space(nr), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	char *users = at + ALIGN_UP(sizeof(struct slots_shared), FAR_PAGE);

	if (ret < 0)
		return (int)ret;
	*s = (struct slots){
		.nr = nr,
		.words = (uint32_t)(bits_len(nr) / 8),
		.shared = (struct slots_shared *)(void *)at,
		.users = (uint16_t *)(void *)users,
		.backed = (uint8_t *)users + users_len(nr),
		.bits = (uint64_t *)(void *)(users + users_len(nr) + backed_len(nr)),
	};
	return 0;
}

uint32_t slots_top(const struct slots *s)
{
	return (uint32_t)min_u64(s->nr, (uint64_t)__atomic_load_n(&s->shared->top, __ATOMIC_ACQUIRE) * SLOTS_GROUP);
}

bool slots_widen(struct slots *s)
{
	uint32_t top = __atomic_load_n(&s->shared->top, __ATOMIC_RELAXED);

	if (top >= slots_groups(s))
		return false;
	/* who loses this has what the winner adds */
	if (__atomic_compare_exchange_n(&s->shared->top, &top, (uint32_t)min_u64(top + WIDEN, slots_groups(s)), false,
					__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		s->cursor = top * SLOTS_GROUP;
	return true;
}

/* ---- members ---- */

/* 0: the byte is locked by us now; -EAGAIN: by another. */
static int byte_lock(int fd, uint32_t member, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = SLOTS_LOCKS + member, .l_len = 1 };
	long ret = sys3(SYS_fcntl, fd, F_OFD_SETLK, &l);

	return ret == -EACCES ? -EAGAIN : (int)ret;
}

static uint64_t *word_of(const struct slots *s, uint32_t member, uint32_t slot)
{
	return &s->bits[(uint64_t)member * s->words + slot / 64];
}

static void user_gone(struct slots *s, uint32_t slot)
{
	if (__atomic_fetch_sub(&s->users[slot], 1, __ATOMIC_RELEASE) == 1)
		__atomic_fetch_sub(&s->shared->nr_used, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->shared->nr_left, 1, __ATOMIC_RELAXED);
}

void member_clear(struct slots *s, uint32_t who)
{
	uint64_t *word = word_of(s, who, 0);

	for (uint32_t i = 0; i < (slots_top(s) + 63) / 64; i++)
		for (uint64_t left = __atomic_load_n(&word[i], __ATOMIC_RELAXED); left; left &= left - 1) {
			__atomic_fetch_and(&word[i], ~(left & -left), __ATOMIC_RELEASE);
			user_gone(s, i * 64 + (uint32_t)__builtin_ctzll(left));
		}
	__atomic_store_n(&s->shared->dirty[who], 0, __ATOMIC_RELEASE);
}

int member_take(struct slots *s, int fd)
{
	for (uint32_t i = 0; i < SLOTS_MEMBERS; i++) {
		uint32_t nr = __atomic_load_n(&s->shared->nr_members, __ATOMIC_RELAXED);
		int err = byte_lock(fd, i, F_WRLCK);

		if (err == -EAGAIN)
			continue;
		if (err)
			return err;
		while (nr <= i && !__atomic_compare_exchange_n(&s->shared->nr_members, &nr, i + 1, false,
							       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
		if (s->shared->dirty[i])
			member_clear(s, i);
		__atomic_store_n(&s->shared->dirty[i], 1, __ATOMIC_RELEASE);
		return (int)i;
	}
	return -EUSERS;
}

bool members_bury(struct slots *s, int fd)
{
	uint32_t nr = __atomic_load_n(&s->shared->nr_members, __ATOMIC_RELAXED);
	bool found = false;

	for (uint32_t i = 0; i < nr; i++) {
		if (i == s->me || !__atomic_load_n(&s->shared->dirty[i], __ATOMIC_RELAXED) || byte_lock(fd, i, F_WRLCK))
			continue;
		found = found || s->shared->dirty[i];
		if (s->shared->dirty[i])
			member_clear(s, i);
		byte_lock(fd, i, F_UNLCK);
	}
	return found;
}

void member_copy(struct slots *s, uint32_t to, bool (*used)(void *arg, uint32_t slot), void *arg)
{
	const uint64_t *mine = word_of(s, s->me, 0);
	uint64_t *its = word_of(s, to, 0);

	for (uint32_t i = 0; i < (slots_top(s) + 63) / 64; i++)
		for (uint64_t left = mine[i]; left; left &= left - 1) {
			uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(left);

			if (!used(arg, slot))
				continue;
			__atomic_fetch_add(&s->users[slot], 1, __ATOMIC_RELAXED);
			__atomic_fetch_or(&its[i], left & -left, __ATOMIC_RELEASE);
		}
}

/* Of the others none lives: each byte could be locked. While one is being looked at it cannot come to life. */
static bool is_alone(const struct slots *s, int fd)
{
	for (uint32_t i = 0; i < s->shared->nr_members; i++) {
		if (i == s->me)
			continue;
		if (byte_lock(fd, i, F_WRLCK))
			return false;
		byte_lock(fd, i, F_UNLCK);
	}
	return true;
}

/* Members are born of members only, and we are the one: holding our store's lock is enough. */
bool slots_recount(struct slots *s, int fd)
{
	const uint64_t *mine = word_of(s, s->me, 0);
	uint64_t nr = 0;

	if (!is_alone(s, fd))
		return false;
	for (uint32_t slot = 0; slot < slots_top(s); slot++) {
		bool is_mine = mine[slot / 64] >> slot % 64 & 1;

		nr += s->users[slot] && !is_mine;
		if (s->users[slot] != is_mine)
			__atomic_store_n(&s->users[slot], is_mine, __ATOMIC_RELAXED);
	}
	__atomic_fetch_sub(&s->shared->nr_used, nr, __ATOMIC_RELAXED);
	return nr != 0;
}

/* ---- slots ---- */

static bool take_one(struct slots *s, uint32_t slot)
{
	uint16_t none = 0;

	if (!__atomic_compare_exchange_n(&s->users[slot], &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	__atomic_fetch_or(word_of(s, s->me, slot), 1ULL << slot % 64, __ATOMIC_RELEASE);
	__atomic_fetch_add(&s->shared->nr_used, 1, __ATOMIC_RELAXED);
	return true;
}

void slots_leave(struct slots *s, uint32_t first, uint32_t nr)
{
	for (uint32_t slot = first; slot < first + nr; slot++) {
		__atomic_fetch_and(word_of(s, s->me, slot), ~(1ULL << slot % 64), __ATOMIC_RELEASE);
		user_gone(s, slot);
	}
}

static bool is_free(const struct slots *s, uint32_t slot, bool backed)
{
	return !__atomic_load_n(&s->users[slot], __ATOMIC_RELAXED) &&
	       (!backed || slots_is_backed(s, slot / SLOTS_GROUP));
}

struct run {
	uint32_t first, nr;
};

/* The first run of want free slots in [from, to), or the longest there is. */
static struct run run_find(const struct slots *s, struct run in, uint32_t want, bool backed)
{
	struct run best = { 0, 0 }, now = { 0, 0 };

	for (uint32_t slot = in.first; slot < in.first + in.nr && best.nr < want; slot++) {
		/* four that are all used */
		while (!(slot % 4) && slot + 4 <= in.first + in.nr && s->users[slot] && s->users[slot + 1] &&
		       s->users[slot + 2] && s->users[slot + 3])
			slot += 4;
		if (slot >= in.first + in.nr)
			break;
		if (!is_free(s, slot, backed))
			continue;
		now = now.first + now.nr == slot && now.nr ? (struct run){ now.first, now.nr + 1 }
							   : (struct run){ slot, 1 };
		best = now.nr > best.nr ? now : best;
	}
	return best;
}

static struct run run_choose(struct slots *s, uint32_t want, bool backed)
{
	uint32_t top = slots_top(s);
	struct run best = { 0, 0 };

	for (uint32_t done = 0; done < top;) {
		uint32_t from = s->cursor < top ? s->cursor : 0;
		struct run in = { from, (uint32_t)min_u64(WINDOW, top - from) };

		best = run_find(s, in, want, backed);
		if (best.nr)
			break;
		done += in.nr;
		s->cursor = from + in.nr;
	}
	return best;
}

uint32_t slots_take(struct slots *s, uint32_t want, bool backed, uint32_t *first)
{
	struct run run;
	uint32_t nr = 0;

	do {
		run = run_choose(s, want, backed);
		/* another member may be quicker */
		while (nr < run.nr && take_one(s, run.first + nr))
			nr++;
	} while (run.nr && !nr);
	*first = run.first;
	if (nr)
		s->cursor = run.first + nr;
	return nr;
}

bool slots_take_group(struct slots *s, uint32_t group)
{
	uint32_t first = group * SLOTS_GROUP, nr = (uint32_t)min_u64(SLOTS_GROUP, s->nr - first), got = 0;

	if (!slots_is_backed(s, group))
		return false;
	for (uint32_t i = 0; i < nr; i++)
		if (s->users[first + i])
			return false;
	while (got < nr && take_one(s, first + got))
		got++;
	if (got == nr)
		return true;
	slots_leave(s, first, got);
	return false;
}

uint32_t slots_groups(const struct slots *s)
{
	return (s->nr + SLOTS_GROUP - 1) / SLOTS_GROUP;
}

bool slots_is_backed(const struct slots *s, uint32_t group)
{
	return __atomic_load_n(&s->backed[group], __ATOMIC_ACQUIRE);
}

/* Two that back the same group at a time count it once. */
void slots_back(struct slots *s, uint32_t group, bool backed)
{
	uint8_t was = __atomic_exchange_n(&s->backed[group], backed, __ATOMIC_ACQ_REL);

	if (backed && !was)
		__atomic_fetch_add(&s->shared->nr_backed, 1, __ATOMIC_RELAXED);
	if (!backed && was)
		__atomic_fetch_sub(&s->shared->nr_backed, 1, __ATOMIC_RELAXED);
}

/* SPDX-License-Identifier: MIT */
/* What tests of stores share: pages of all kinds of content, and a model of what a store keeps. */
#ifndef GODWIT_TESTS_FAR_H
#define GODWIT_TESTS_FAR_H

#include "base/base.h"
#include "far/far.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
	__has_feature(thread_sanitizer)
#define SANITIZED
#define STEPS 3000
#else
#define STEPS 10000
#endif

#define FAR_REGION (1UL << 30)

static uint64_t rnd_state __attribute__((unused)) = 1;

static inline uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

enum content { ZEROES, SAME, TEXT, HALF, NEARLY, RAW, SPARSE, CONTENTS };

static inline void page_words(char *page, uint32_t from, uint32_t to, uint64_t *seed)
{
	for (uint32_t i = from; i < to; i += 8) {
		*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
		uint64_t v = *seed ^ *seed >> 33;

		memcpy(page + i, &v, 8);
	}
}

/* The same content for the same seed and kind. */
static inline void page_fill(char *page, enum content kind, uint64_t seed)
{
	static const char *const word[] = { "the ",	"godwit ", "flies ",  "without ",
					    "landing ", "from ",   "Alaska ", "page " };
	uint64_t value = kind == SAME ? seed * 0x9e3779b97f4a7c15ULL : 0;

	for (uint32_t i = 0; i < FAR_PAGE; i += 8)
		memcpy(page + i, &value, 8);
	seed = seed * 2 + 1;
	switch (kind) {
	case TEXT:
		for (uint32_t at = 0; at < FAR_PAGE;) {
			const char *w;
			uint32_t len;

			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			w = word[seed >> 61];
			len = (uint32_t)min_u64(strlen(w), FAR_PAGE - at);
			memcpy(page + at, w, len);
			at += len;
		}
		break;
	case HALF:
		page_words(page, 0, FAR_PAGE / 2, &seed);
		break;
	case NEARLY:
		page_words(page, 0, (uint32_t)(seed * 64 % (FAR_PAGE - 64)) & ~7U, &seed);
		break;
	case RAW:
		page_words(page, 0, FAR_PAGE, &seed);
		break;
	case SPARSE:
		memcpy(page + seed % 511 * 8, &seed, 8);
		break;
	default:
		break;
	}
}

/* Pages that are kept, by what was put. */
struct kept {
	uint32_t home;		/* 0: none */
	enum content kind;
	uint64_t seed;
};

struct far_world {
	struct region region;
	struct far *f;
	char *src, *dst;	/* FAR_BATCH pages each, and one beside dst to compare with */
	char *want;
	struct kept *kept;
	uint32_t nr;
	uint64_t full;		/* puts that were refused for want of room */
};

static inline void world_init(struct far_world *w, uint32_t nr)
{
	*w = (struct far_world){ .nr = nr };
	BUG_ON(region_reserve(&w->region, FAR_REGION, FAR_REGION));
	w->src = aligned_alloc(FAR_PAGE, (2 * FAR_BATCH + 1) * FAR_PAGE);
	w->dst = w->src + FAR_BATCH * FAR_PAGE;
	w->want = w->dst + FAR_BATCH * FAR_PAGE;
	w->kept = calloc(nr, sizeof(*w->kept));
	BUG_ON(!w->src || !w->kept);
}

static inline void world_end(struct far_world *w)
{
	if (w->f)
		far_close(w->f);
	region_release(&w->region);
	free(w->src);
	free(w->kept);
}

static inline struct far_stats stats_of(const struct far_world *w)
{
	struct far_stats st;

	far_stats(w->f, &st);
	return st;
}

/* Is this what was put? */
static inline bool right(struct far_world *w, const struct kept *k, const char *page)
{
	page_fill(w->want, k->kind, k->seed);
	return !memcmp(w->want, page, FAR_PAGE);
}

/* Every page that is kept comes back; how many do not. */
static inline uint32_t wrong_pages(struct far_world *w)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < w->nr; i++)
		if (w->kept[i].home)
			bad += far_get(w->f, w->kept[i].home, w->dst) || !right(w, &w->kept[i], w->dst);
	return bad;
}

static inline void drop_kept(struct far_world *w, struct kept *k)
{
	if (k->home)
		far_drop(w->f, &k->home, 1);
	k->home = 0;
}

/* Up to nr pages in a row into places that are empty then; returns how many were kept. */
static inline uint32_t put_kept(struct far_world *w, struct kept *k, uint32_t nr, enum content kind, uint64_t seed)
{
	uint32_t home[FAR_BATCH], got;
	int err = 0;

	for (uint32_t i = 0; i < nr; i++) {
		drop_kept(w, &k[i]);
		k[i] = (struct kept){ 0, kind == CONTENTS ? (enum content)(rnd() % CONTENTS) : kind, seed + i };
		page_fill(w->src + i * FAR_PAGE, k[i].kind, k[i].seed);
	}
	got = far_put(w->f, w->src, nr, home, &err);
	BUG_ON(got > nr || (got < nr) != (err != 0));
	for (uint32_t i = 0; i < got; i++)
		k[i].home = home[i];
	w->full += err == -ENOSPC;
	return got;
}

static inline bool get_run_right(struct far_world *w, const struct kept *k, uint32_t nr)
{
	uint32_t home[FAR_BATCH], n = 0, at[FAR_BATCH];
	int err[FAR_BATCH];
	bool good = true;

	for (uint32_t i = 0; i < nr; i++)
		if (k[i].home) {
			at[n] = i;
			home[n++] = k[i].home;
		}
	far_get_many(w->f, home, n, w->dst, err);
	for (uint32_t i = 0; i < n; i++)
		good = good && !err[i] && right(w, &k[at[i]], w->dst + i * FAR_PAGE);
	return good;
}

/* One step of what a store is for. False: something was not what it should be. */
static inline bool random_step(struct far_world *w, uint64_t kinds)
{
	uint32_t nr = 1 + (uint32_t)(rnd() % 16), at = (uint32_t)(rnd() % (w->nr - nr + 1));

	switch (rnd() % 4) {
	case 0:
		put_kept(w, &w->kept[at], nr, CONTENTS, kinds ? rnd() % kinds : rnd());
		return true;
	case 1:
		for (uint32_t i = 0; i < nr; i++)
			drop_kept(w, &w->kept[at + i]);
		return true;
	case 2:
		return get_run_right(w, &w->kept[at], nr);
	default:
		return !w->kept[at].home ||
		       (!far_get(w->f, w->kept[at].home, w->dst) && right(w, &w->kept[at], w->dst));
	}
}

static inline uint32_t nr_kept(const struct far_world *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->nr; i++)
		n += w->kept[i].home != 0;
	return n;
}

static inline void drop_all(struct far_world *w)
{
	for (uint32_t i = 0; i < w->nr; i++)
		drop_kept(w, &w->kept[i]);
}

#endif

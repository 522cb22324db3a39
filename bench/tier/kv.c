/* SPDX-License-Identifier: MIT */
/*
 * A key-value store under a zipfian load, as YCSB has it: keys scrambled, so that hot values lie on pages of cold ones.
 * A value follows from its key and version, and the index knows the version: each read is verified.
 */
#define _GNU_SOURCE 1
#include "load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct entry {
	uint64_t key; /* + 1; 0: free */
	uint32_t slot, version;
};

struct store {
	const struct options *o;
	struct entry *index; /* open addressing, less than half full */
	uint64_t index_mask;
	char *values;
	uint64_t nr;
	struct scramble scramble;
};

/* Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994. */
struct zipf {
	uint64_t n, seed;
	double theta, zeta, alpha, eta, second;
};

static void zipf_init(struct zipf *z, const struct options *o, uint64_t n)
{
	double zeta = 0;

	for (uint64_t i = 1; i <= n; i++)
		zeta += pow((double)i, -o->theta);
	z->n = n;
	z->seed = o->seed;
	z->theta = o->theta;
	z->zeta = zeta;
	z->alpha = 1 / (1 - o->theta);
	z->second = 1 + pow(0.5, o->theta);
	z->eta = (1 - pow(2.0 / (double)n, 1 - o->theta)) / (1 - z->second / zeta);
}

static uint64_t zipf_next(struct zipf *z)
{
	double u = unit(next(&z->seed)), uz = u * z->zeta;
	uint64_t rank;

	if (uz < 1)
		return 0;
	if (uz < z->second)
		return 1;
	rank = (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
	return rank < z->n ? rank : z->n - 1;
}

static struct entry *find(const struct store *s, uint64_t key)
{
	uint64_t at = mix(key) & s->index_mask;

	while (s->index[at].key && s->index[at].key != key + 1)
		at = (at + 1) & s->index_mask;
	return &s->index[at];
}

static uint64_t *value_of(const struct store *s, const struct entry *e)
{
	return (uint64_t *)(s->values + (uint64_t)e->slot * s->o->value);
}

/* Key and version in front, then what follows from them. */
static void put(const struct store *s, struct entry *e)
{
	uint64_t *value = value_of(s, e), key = e->key - 1;

	e->version++;
	value[0] = key;
	value[1] = e->version;
	fill_words(value + 2, s->o->value / 8 - 2, mix(key) + e->version, s->o->random);
}

static void check(const struct store *s, const struct entry *e)
{
	const uint64_t *value = value_of(s, e);
	uint64_t key = e->key - 1;

	if (value[0] != key || value[1] != e->version ||
	    !same_words(value + 2, s->o->value / 8 - 2, mix(key) + e->version, s->o->random))
		wrong("kv", "key", key);
}

static void fill(struct store *s)
{
	for (uint64_t i = 0; i < s->nr; i++) {
		struct entry *e = find(s, i);

		if (e->key)
			wrong("kv", "twice key", i);
		e->key = i + 1;
		e->slot = (uint32_t)i;
		put(s, e);
	}
}

int run_kv(const struct options *o)
{
	struct store s = { .o = o, .nr = o->bytes / o->value };
	uint64_t index_size = 1, seed = o->seed + 1;
	struct zipf z;
	struct meter *m;
	bool on = true;

	while (index_size < s.nr * 2)
		index_size *= 2;
	s.index_mask = index_size - 1;
	s.index = map_memory(index_size * sizeof(*s.index));
	s.values = map_memory(s.nr * o->value);
	scramble_init(&s.scramble, s.nr, o->seed);
	fill(&s);
	zipf_init(&z, o, s.nr);
	m = meter_new(o);
	while (m && on) {
		uint64_t key = scrambled(&s.scramble, zipf_next(&z)), begin;
		bool writes = next(&seed) % 100 < o->writes;
		struct entry *e;

		begin = tick();
		e = find(&s, key);
		if (e->key != key + 1)
			wrong("kv", "no key", key);
		check(&s, e);
		if (writes)
			put(&s, e);
		on = meter_add(m, begin, tick());
	}
	if (!m)
		return 1;
	for (uint64_t i = 0; i < s.nr; i++)
		check(&s, find(&s, i));
	meter_report(m);
	free(m);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Breadth-first search over a random graph in CSR form. Out-degrees follow a power law (Pareto, exponent 2, 16 in the
 * mean), and so do in-degrees. Operation: a vertex is taken from the queue and its edges are gone through.
 */
#define _GNU_SOURCE 1
#include "load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOTS 8
#define DEGREE 16
#define DEGREE_MAX 65536

struct graph {
	uint64_t nr, nr_edges;
	uint64_t *first; /* edge of a vertex; nr + 1 of them */
	uint32_t *edge;
	uint32_t *seen; /* in which search a vertex was last reached */
	uint32_t *queue;
	uint64_t seed, sum;
	struct scramble scramble;
};

/* What a search of a root found, to be found again. */
struct found {
	uint64_t reached, sum;
};

static uint64_t degree(const struct graph *g, uint64_t v)
{
	double d = DEGREE / 2.0 / sqrt(unit(mix(g->seed ^ v * 2)) + 1e-12);

	return d < DEGREE_MAX ? (uint64_t)d : DEGREE_MAX;
}

static uint32_t target(const struct graph *g, uint64_t v, uint64_t i)
{
	double u = unit(mix(g->seed + v * 0x9e3779b97f4a7c15ULL + i * 0xd1b54a32d192ed03ULL));

	return (uint32_t)scrambled(&g->scramble, (uint64_t)((double)g->nr * u * u * u));
}

static void graph_init(struct graph *g, const struct options *o)
{
	uint64_t at = 0;

	g->seed = o->seed;
	g->nr = o->bytes / (8 + 4 * DEGREE + 4 + 4);
	scramble_init(&g->scramble, g->nr, o->seed);
	for (uint64_t v = 0; v < g->nr; v++)
		g->nr_edges += degree(g, v);
	g->first = map_memory((g->nr + 1) * sizeof(*g->first));
	g->edge = map_memory(g->nr_edges * sizeof(*g->edge));
	g->seen = map_memory(g->nr * sizeof(*g->seen));
	g->queue = map_memory(g->nr * sizeof(*g->queue));
	for (uint64_t v = 0; v < g->nr; v++) {
		uint64_t d = degree(g, v);

		g->first[v] = at;
		for (uint64_t i = 0; i < d; i++, at++) {
			g->edge[at] = target(g, v, i);
			g->sum += g->edge[at] * mix(at);
		}
	}
	g->first[g->nr] = at;
}

static void graph_check(const struct graph *g)
{
	uint64_t sum = 0;

	for (uint64_t v = 0, at = 0; v < g->nr; v++, at += degree(g, v - 1))
		if (g->first[v] != at)
			wrong("bfs", "vertex", v);
	for (uint64_t at = 0; at < g->nr_edges; at++)
		sum += g->edge[at] * mix(at);
	if (sum != g->sum)
		wrong("bfs", "sum of edges", sum);
}

/* False: the time is over before the queue is empty. */
static bool search(struct graph *g, struct meter *m, uint32_t root, uint32_t number, struct found *f)
{
	uint64_t head = 0, tail = 0;

	g->seen[root] = number;
	g->queue[tail++] = root;
	f->sum = 0;
	while (head < tail) {
		uint64_t begin = tick();
		uint32_t v = g->queue[head++];

		for (uint64_t e = g->first[v]; e < g->first[v + 1]; e++) {
			uint32_t to = g->edge[e];

			if (g->seen[to] == number)
				continue;
			g->seen[to] = number;
			g->queue[tail++] = to;
		}
		f->sum += mix(v) * head;
		if (!meter_add(m, begin, tick()))
			return false;
	}
	f->reached = tail;
	return true;
}

int run_bfs(const struct options *o)
{
	struct graph g = { 0 };
	struct found found[ROOTS] = { 0 }, f;
	struct meter *m;

	graph_init(&g, o);
	m = meter_new(o);
	if (!m)
		return 1;
	for (uint32_t number = 1;; number++) {
		struct found *before = &found[number % ROOTS];

		if (!search(&g, m, (uint32_t)scrambled(&g.scramble, number % ROOTS), number, &f))
			break;
		if (before->reached && (before->reached != f.reached || before->sum != f.sum))
			wrong("bfs", "search of root", number % ROOTS);
		*before = f;
	}
	graph_check(&g);
	meter_report(m);
	free(m);
	return 0;
}

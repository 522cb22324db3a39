/* SPDX-License-Identifier: MIT */
/*
 * churn ROUNDS: threads that allocate, grow, shrink and free blocks of all sizes, and check each byte that they
 * wrote. In every round new threads go on with the blocks that others have left. Prints a sum that depends on
 * ROUNDS alone.
 */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define BLOCKS 1500
#define STEPS 12000

struct block {
	uint8_t *at;
	size_t len;
	uint8_t seed;
};

struct worker {
	pthread_t thread;
	struct block *block;
	uint64_t number, sum;
};

static struct block blocks[THREADS][BLOCKS];

static uint64_t next(struct worker *w)
{
	w->number ^= w->number << 13;
	w->number ^= w->number >> 7;
	w->number ^= w->number << 17;
	return w->number;
}

static void fill(struct block *b, size_t from)
{
	for (size_t i = from; i < b->len; i++)
		b->at[i] = (uint8_t)(b->seed + i * 7);
}

static void check(struct worker *w, const struct block *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (b->at[i] != (uint8_t)(b->seed + i * 7)) {
			printf("byte %zu of %zu at %p is %u\n", i, b->len, (void *)b->at, b->at[i]);
			exit(1);
		}
	w->sum = w->sum * 31 + b->seed + len;
}

static size_t any_length(struct worker *w)
{
	uint64_t n = next(w);

	return 1 + (n >> 8) % (n % 500 == 0 ? 3000000 : n % 20 == 0 ? 60000 : 600);
}

static void take(struct worker *w, struct block *b)
{
	uint64_t way = next(w) % 8;

	*b = (struct block){ .len = any_length(w), .seed = (uint8_t)next(w) };
	if (way == 0)
		b->at = aligned_alloc(64UL << next(w) % 8, (b->len + 8191) & ~8191UL);
	else if (way == 1)
		b->at = calloc(1, b->len);
	else
		b->at = malloc(b->len);
	for (size_t i = 0; way == 1 && i < b->len; i++)
		if (b->at[i]) {
			printf("calloc() gave %u\n", b->at[i]);
			exit(1);
		}
	fill(b, 0);
}

static void resize(struct worker *w, struct block *b)
{
	size_t was = b->len;

	b->len = next(w) % 2 ? any_length(w) : was + was / 2 + 1;
	b->at = realloc(b->at, b->len);
	check(w, b, was < b->len ? was : b->len);
	fill(b, was);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int step = 0; step < STEPS; step++) {
		struct block *b = &w->block[next(w) % BLOCKS];

		if (!b->at) {
			take(w, b);
		} else if (next(w) % 3 == 0 && b->len < 4000000) {
			resize(w, b);
		} else {
			check(w, b, b->len);
			free(b->at);
			b->at = NULL;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 10;
	struct worker w[THREADS];
	uint64_t sum = 0;

	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < THREADS; i++) {
			w[i] = (struct worker){ .block = blocks[(i + round) % THREADS],
						.number = (uint64_t)(round * THREADS + i + 1) * 2654435761U };
			if (pthread_create(&w[i].thread, NULL, work, &w[i]))
				return 1;
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(w[i].thread, NULL);
			sum = sum * 7 + w[i].sum;
		}
	}
	printf("%016lx\n", (unsigned long)sum);
	return 0;
}

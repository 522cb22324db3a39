/* SPDX-License-Identifier: MIT */
/*
 * A program that knows what its memory has to hold, and does to it what programs do: writes, mallocs, reallocs,
 * maps and unmaps, discards, locks, forks, has a second thread. It says "ready", then obeys letters on stdin:
 *
 *   q  verify everything and exit 42        e  exec itself, on the first thread
 *   v  verify everything and say "good"     t  exec itself, on the second thread
 *
 * The end of stdin is a q. Memory that is not as it was written is exit 43 at once, and a word on stderr.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WHOLE 42
#define BROKEN 43
#define PAGE 4096UL
#define BLOCKS 48
#define BLOCK_MOST (128UL << 10)
#define MAPS 6
#define MAP_BYTES (256UL << 10)
#define LOCKED_BYTES (64UL << 10)
#define HUGE (2UL << 20)
#define COUNTERS 64
#define FORK_EVERY 150

struct block {
	uint64_t *at;
	uint64_t bytes, seed;
};

static struct block block[BLOCKS], map[MAPS], locked, huge;
static uint64_t counter[2][COUNTERS][PAGE / 8], expected[2][COUNTERS];
static atomic_bool second_execs, second_ends;
static uint64_t state = 88172645463325252ULL;
static char **args;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void broken(const char *what)
{
	fprintf(stderr, "counters: %s is not as it was written\n", what);
	_exit(BROKEN);
}

/* ---- blocks ---- */

static uint64_t word_of(uint64_t seed, uint64_t i)
{
	return seed ? (seed + i) * 0x9e3779b97f4a7c15ULL : 0;
}

static void block_fill(struct block *b)
{
	b->seed = next();
	for (uint64_t i = 0; i < b->bytes / 8; i++)
		b->at[i] = word_of(b->seed, i);
}

static void block_check(const struct block *b, uint64_t bytes, const char *what)
{
	for (uint64_t i = 0; i < bytes / 8; i++)
		if (b->at[i] != word_of(b->seed, i))
			broken(what);
}

static uint64_t any_size(void)
{
	return 4096 + next() % (BLOCK_MOST - 4096) / 8 * 8;
}

static void *map_bytes(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void use_block(struct block *b)
{
	uint64_t before = b->bytes;
	void *at;

	block_check(b, b->bytes, "a heap block");
	switch (next() % 4) {
	case 0:
		at = realloc(b->at, b->bytes = any_size());
		b->bytes = at ? b->bytes : before;
		b->at = at ? at : b->at;
		block_check(b, before < b->bytes ? before : b->bytes, "a block that realloc() has moved");
		break;
	case 1:
		at = malloc(BLOCK_MOST);
		if (!at)
			break;
		free(b->at);
		b->at = at;
		b->bytes = any_size();
		break;
	}
	block_fill(b);
}

static void use_map(struct block *b)
{
	void *at;

	block_check(b, b->bytes, "a mapping");
	switch (next() % 4) {
	case 0:
		at = map_bytes(MAP_BYTES);
		if (!at)
			break;
		munmap(b->at, MAP_BYTES);
		b->at = at;
		break;
	case 1:
		at = mremap(b->at, MAP_BYTES, 2 * MAP_BYTES, MREMAP_MAYMOVE);
		if (at == MAP_FAILED)
			break;
		b->at = at;
		block_check(b, b->bytes, "a mapping that mremap() has moved");
		munmap((char *)at + MAP_BYTES, MAP_BYTES);
		break;
	case 2:
		if (madvise(b->at, MAP_BYTES, MADV_DONTNEED))
			break;
		b->seed = 0;
		block_check(b, b->bytes, "a mapping that was discarded");
		break;
	}
	block_fill(b);
}

/* ---- counters: one half each thread's ---- */

static void count(int who, uint64_t i)
{
	_Atomic uint64_t *at = (_Atomic uint64_t *)&counter[who][i][i % (PAGE / 8)];

	if (++*at != ++expected[who][i])
		broken("a counter");
}

static void *second(void *arg)
{
	while (!second_ends) {
		for (uint64_t i = 0; i < COUNTERS; i++)
			count(1, i);
		if (second_execs)
			execv("/proc/self/exe", args);
		usleep(200);
	}
	return arg;
}

/* ---- all of it ---- */

static void check_all(void)
{
	for (int i = 0; i < BLOCKS; i++)
		block_check(&block[i], block[i].bytes, "a heap block, at the end,");
	for (int i = 0; i < MAPS; i++)
		block_check(&map[i], map[i].bytes, "a mapping, at the end,");
	block_check(&locked, locked.bytes, "locked memory");
	block_check(&huge, huge.bytes, "a huge page");
	for (int i = 0; i < COUNTERS; i++)
		count(0, i);
}

static void make_all(void)
{
	char *two = map_bytes(2 * HUGE);

	for (int i = 0; i < BLOCKS; i++) {
		block[i] = (struct block){ .at = malloc(BLOCK_MOST), .bytes = any_size() };
		block_fill(&block[i]);
	}
	for (int i = 0; i < MAPS; i++) {
		map[i] = (struct block){ .at = map_bytes(MAP_BYTES), .bytes = MAP_BYTES };
		block_fill(&map[i]);
	}
	locked = (struct block){ .at = map_bytes(LOCKED_BYTES), .bytes = LOCKED_BYTES };
	if (mlock(locked.at, LOCKED_BYTES))
		perror("mlock");
	block_fill(&locked);
	huge = (struct block){ .at = (void *)(((uintptr_t)two + HUGE - 1) / HUGE * HUGE), .bytes = HUGE };
	madvise(huge.at, HUGE, MADV_HUGEPAGE);
	block_fill(&huge);
}

/* The child finds everything as it was, and writes to some of it. */
static void fork_once(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		check_all();
		for (int i = 0; i < BLOCKS; i += 4)
			block_fill(&block[i]);
		_exit(WHOLE);
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != WHOLE << 8))
		broken("a forked child");
}

static void step(uint64_t nr)
{
	use_block(&block[next() % BLOCKS]);
	if (nr % 4 == 0)
		use_map(&map[next() % MAPS]);
	if (nr % 16 == 0)
		block_check(&huge, huge.bytes, "a huge page");
	if (nr % 32 == 0)
		block_fill(&locked);
	for (uint64_t i = 0; i < COUNTERS; i++)
		count(0, i);
	if (nr % FORK_EVERY == FORK_EVERY - 1)
		fork_once();
}

static char letter(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char c = 'q';

	if (poll(&in, 1, 0) <= 0)
		return 0;
	return read(STDIN_FILENO, &c, 1) == 1 ? c : 'q';
}

static void say(const char *line)
{
	if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		_exit(1);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char c = 0;

	args = argv;
	(void)argc;
	make_all();
	if (pthread_create(&thread, NULL, second, NULL))
		return 1;
	say("ready\n");
	for (uint64_t nr = 1; c != 'q'; nr++) {
		step(nr);
		usleep(100);
		c = letter();
		if (c == 'v') {
			check_all();
			say("good\n");
		} else if (c == 'e') {
			execv("/proc/self/exe", argv);
		} else if (c == 't') {
			second_execs = true;
			pause();
		}
	}
	second_ends = true;
	pthread_join(thread, NULL);
	check_all();
	return WHOLE;
}

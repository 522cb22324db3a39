/* SPDX-License-Identifier: MIT */
/*
 * A program that keeps something: MIB megabytes of words of no order. Says "ready"; for every line on its standard
 * input looks at all of it and says "right", or "wrong" and how many pages are. Knows nothing of godwit.
 *
 *   keeper MIB
 */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_WORDS 512UL

static uint64_t word(uint64_t i)
{
	i ^= i >> 33;
	i *= 0xff51afd7ed558ccdULL;
	i ^= i >> 33;
	i *= 0xc4ceb9fe1a85ec53ULL;
	return (i ^ i >> 29) | 1;
}

static uint64_t pages_wrong(const volatile uint64_t *mem, uint64_t words)
{
	uint64_t wrong = 0;

	for (uint64_t at = 0; at < words; at += PAGE_WORDS)
		for (uint64_t i = 0; i < PAGE_WORDS; i++)
			if (mem[at + i] != word(at + i)) {
				wrong++;
				break;
			}
	return wrong;
}

static void say(const char *what, uint64_t nr)
{
	if (nr)
		printf("%s %lu\n", what, (unsigned long)nr);
	else
		printf("%s\n", what);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint64_t words = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) << 17;
	volatile uint64_t *mem = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char line[64];

	if ((void *)mem == MAP_FAILED)
		return 1;
	madvise((void *)mem, words * 8, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < words; i++)
		mem[i] = word(i);
	say("ready", 0);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t wrong = pages_wrong(mem, words);

		say(wrong ? "wrong" : "right", wrong);
	}
	return 0;
}

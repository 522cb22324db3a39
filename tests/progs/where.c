/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel says that pages are: where PID, with lines "NAME START PAGES" on stdin (START in hexadecimal),
 * prints "NAME NODE=COUNT ...", by move_pages(2) for every 4 KiB page. Pages that are on no node count as "none".
 */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK 1024UL

static int ask(int pid, unsigned long start, unsigned long pages, unsigned long count[65])
{
	void *addr[CHUNK];
	int status[CHUNK];

	for (unsigned long at = 0; at < pages; at += CHUNK) {
		unsigned long n = pages - at < CHUNK ? pages - at : CHUNK;

		for (unsigned long i = 0; i < n; i++)
			addr[i] = (void *)(uintptr_t)(start + (at + i) * 4096);
		if (syscall(SYS_move_pages, pid, n, addr, NULL, status, 0)) {
			perror("move_pages");
			return 1;
		}
		for (unsigned long i = 0; i < n; i++)
			count[status[i] >= 0 && status[i] < 64 ? status[i] : 64]++;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long start, pages;
	char name[64];

	if (argc != 2)
		return 2;
	while (scanf("%63s %lx %lu", name, &start, &pages) == 3) {
		unsigned long count[65] = { 0 };

		if (ask(atoi(argv[1]), start, pages, count))
			return 1;
		printf("%s", name);
		for (int n = 0; n < 64; n++)
			if (count[n])
				printf(" %d=%lu", n, count[n]);
		if (count[64])
			printf(" none=%lu", count[64]);
		putchar('\n');
	}
	return 0;
}

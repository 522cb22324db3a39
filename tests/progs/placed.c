/* SPDX-License-Identifier: MIT */
/*
 * placed [MS]: where 64 pages of a process are that knows nothing of nodes: by move_pages(), and by its own numa_maps.
 * With MS it then waits so long for somebody to move them, and says it again.
 */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define NR 64

static void by_call(char *mem)
{
	int status[NR], count[64] = { 0 };
	void *pages[NR];

	for (int i = 0; i < NR; i++)
		pages[i] = mem + (unsigned long)i * PAGE;
	if (syscall(SYS_move_pages, 0, NR, pages, NULL, status, 0)) {
		perror("move_pages");
		exit(1);
	}
	printf("call:");
	for (int i = 0; i < NR; i++)
		if (status[i] >= 0 && status[i] < 64)
			count[status[i]]++;
	for (int n = 0; n < 64; n++)
		if (count[n])
			printf(" N%d=%d", n, count[n]);
}

static void by_maps(const char *mem)
{
	char line[4096], *at;
	FILE *f = fopen("/proc/self/numa_maps", "r");

	printf(" maps:");
	while (f && fgets(line, sizeof(line), f)) {
		if (strtoul(line, &at, 16) != (unsigned long)mem)
			continue;
		for (char *word = strtok(at, " \n"); word; word = strtok(NULL, " \n"))
			if ((word[0] == 'N' && word[1] >= '0' && word[1] <= '9') || !strchr(word, '='))
				printf(" %s", word);
	}
	printf("\n");
	if (f)
		fclose(f);
}

static void say(char *mem)
{
	by_call(mem);
	by_maps(mem);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char *all = mmap(NULL, (NR + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *mem = all + PAGE;

	mprotect(mem, NR * PAGE, PROT_READ | PROT_WRITE);
	madvise(mem, NR * PAGE, MADV_NOHUGEPAGE);
	memset(mem, 1, NR * PAGE);
	say(mem);
	if (argc > 1) {
		usleep((unsigned)atoi(argv[1]) * 1000);
		say(mem);
	}
	return 0;
}

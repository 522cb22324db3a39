/* SPDX-License-Identifier: MIT */
/*
 * host_pages PID [START-END...]: where the pages of another process are by the word of the host's kernel, with nothing
 * of godwit in between: a line "START-END N0=... N1=..." for each range, in hexadecimal as in /proc/PID/maps; without
 * ranges for every private anonymous mapping that may be written. Pages that are not there are not counted; EBUSY and
 * the like are.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define CHUNK 1024
#define NODES 64

static int ask(int pid, unsigned long start, unsigned long end)
{
	unsigned long on[NODES] = { 0 }, other = 0;
	static void *pages[CHUNK];
	static int status[CHUNK];

	for (unsigned long at = start; at < end; at += CHUNK * PAGE) {
		unsigned long nr = (end - at) / PAGE;

		nr = nr > CHUNK ? CHUNK : nr;
		for (unsigned long i = 0; i < nr; i++)
			pages[i] = (void *)(at + i * PAGE);
		if (syscall(SYS_move_pages, pid, nr, pages, NULL, status, 0))
			return -errno;
		for (unsigned long i = 0; i < nr; i++)
			if (status[i] >= 0 && status[i] < NODES)
				on[status[i]]++;
			else if (status[i] != -ENOENT && status[i] != -EFAULT)
				other++;
	}
	printf("%lx-%lx", start, end);
	for (int n = 0; n < NODES; n++)
		if (on[n])
			printf(" N%d=%lu", n, on[n]);
	if (other)
		printf(" other=%lu", other);
	printf("\n");
	return 0;
}

static int ask_all(int pid)
{
	char path[64], line[512], perms[5];
	unsigned long start, end, inode;
	FILE *f;
	int err = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (!err && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, perms, &inode) == 4 && !inode &&
		    !strncmp(perms, "rw", 2) && perms[3] == 'p')
			err = ask(pid, start, end);
	fclose(f);
	return err;
}

int main(int argc, char **argv)
{
	int pid = argc > 1 ? atoi(argv[1]) : 0, err = 0;

	if (!pid) {
		fprintf(stderr, "usage: host_pages PID [START-END...]\n");
		return 1;
	}
	if (argc == 2)
		err = ask_all(pid);
	for (int i = 2; i < argc && !err; i++) {
		char *at;
		unsigned long start = strtoul(argv[i], &at, 16),
			      end = *at == '-' ? strtoul(at + 1, NULL, 16) : start + PAGE;

		err = ask(pid, start, end);
	}
	if (err)
		fprintf(stderr, "host_pages: %d: %s\n", pid, strerror(-err));
	return err != 0;
}

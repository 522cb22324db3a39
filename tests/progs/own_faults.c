/* SPDX-License-Identifier: MIT */
/*
 * own_faults ROUNDS MS: a program that serves faults of its own memory by userfaultfd, as virtual machines and
 * collectors do. ROUNDS times it takes memory, writes half of it, registers it, has a thread bring the other
 * half in, and keeps it for MS milliseconds. The sum of all that it read is printed; a page that is not what it
 * must be, or a call that fails, ends it with 1.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 2048UL
#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t *mem;
static uint64_t round_nr;

static void need(int ok, const char *what)
{
	if (ok)
		return;
	printf("round %lu: %s: %s\n", (unsigned long)round_nr, what, strerror(errno));
	exit(1);
}

static uint64_t word_of(uint64_t page, uint64_t word)
{
	return (round_nr << 40) + (page << 16) + word * 2654435761U;
}

static void fill(uint64_t *to, uint64_t page)
{
	for (uint64_t i = 0; i < WORDS; i++)
		to[i] = word_of(page, i);
}

/* Until something can be read from the second descriptor. */
static void *serve(void *arg)
{
	int *fds = arg;
	struct pollfd ask[2] = { { .fd = fds[0], .events = POLLIN }, { .fd = fds[1], .events = POLLIN } };
	uint64_t *page = aligned_alloc(PAGE, PAGE);

	for (;;) {
		struct uffd_msg msg;
		struct uffdio_copy copy = { .src = (uint64_t)page, .len = PAGE };

		need(poll(ask, 2, -1) > 0, "poll");
		if (ask[1].revents)
			break;
		if (read(fds[0], &msg, sizeof(msg)) != (ssize_t)sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		copy.dst = msg.arg.pagefault.address & ~(PAGE - 1);
		fill(page, (copy.dst - (uint64_t)mem) / PAGE);
		need(!ioctl(fds[0], UFFDIO_COPY, &copy) || errno == EEXIST, "UFFDIO_COPY");
	}
	free(page);
	return NULL;
}

static uint64_t one_round(int uffd, unsigned int keep_us)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int tell[2], fds[2];
	uint64_t sum = 0;
	pthread_t server;

	mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(mem != MAP_FAILED, "mmap");
	madvise(mem, PAGES * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t page = 0; page < PAGES; page += 2)
		fill(mem + page * WORDS, page);
	usleep(20000);	/* it may be on its way when it is registered */
	reg.range.start = (uint64_t)mem;
	reg.range.len = PAGES * PAGE;
	need(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	need(!pipe(tell), "pipe");
	fds[0] = uffd;
	fds[1] = tell[0];
	need(!pthread_create(&server, NULL, serve, fds), "pthread_create");
	for (uint64_t page = 0; page < PAGES; page++)
		for (uint64_t i = 0; i < WORDS; i++) {
			if (mem[page * WORDS + i] != word_of(page, i)) {
				printf("round %lu, page %lu, word %lu: %lx\n", (unsigned long)round_nr,
				       (unsigned long)page, (unsigned long)i, (unsigned long)mem[page * WORDS + i]);
				exit(1);
			}
			sum = sum * 31 + mem[page * WORDS + i];
		}
	usleep(keep_us);
	need(write(tell[1], "", 1) == 1, "write");
	pthread_join(server, NULL);
	close(tell[0]);
	close(tell[1]);
	need(!ioctl(uffd, UFFDIO_UNREGISTER, &reg.range), "UFFDIO_UNREGISTER");
	need(!munmap(mem, PAGES * PAGE), "munmap");
	return sum;
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 10, sum = 0;
	unsigned int keep_us = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) * 1000 : 0;
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	need(uffd >= 0, "userfaultfd");
	need(!ioctl(uffd, UFFDIO_API, &api), "UFFDIO_API");
	for (round_nr = 0; round_nr < rounds; round_nr++)
		sum = sum * 7 + one_round(uffd, keep_us);
	printf("%016lx\n", (unsigned long)sum);
	return 0;
}

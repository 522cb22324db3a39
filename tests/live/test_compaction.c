/* SPDX-License-Identifier: MIT */
/*
 * The kernel moves the same pages at the same time: memory is compacted without pause while all of it
 * goes to and fro. Linux 6.18 then reports moves as failed that it has made; no page may be lost over it.
 */
#include "live.h"

#include <fcntl.h>
#include <unistd.h>

#define PAGES (64UL << 10)
#define SECONDS 5

static atomic_bool stop;
static atomic_ulong compactions;

/* Compaction finds work where free frames lie scattered: every other page of some other memory goes. */
static void scatter(char *other, uint64_t odd)
{
	for (uint64_t p = 0; p < PAGES; p++)
		if (p % 2 == odd)
			madvise(other + p * GW_PAGE_SIZE, GW_PAGE_SIZE, MADV_DONTNEED);
		else
			other[p * GW_PAGE_SIZE] = 1;
}

static void *compact(void *arg)
{
	char *other = mmap(NULL, PAGES * GW_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = *(int *)arg;

	madvise(other, PAGES * GW_PAGE_SIZE, MADV_NOHUGEPAGE);
	gw_exclude(gw_self(), other, PAGES * GW_PAGE_SIZE);
	while (!stop) {
		scatter(other, compactions % 2);
		if (pwrite(fd, "1", 1, 0) == 1)
			compactions++;
	}
	return NULL;
}

static uint64_t wrong_words(const volatile uint64_t *mem)
{
	uint64_t wrong = 0;

	for (uint64_t p = 0; p < PAGES; p++)
		wrong += mem[p * 512] != p + 1 || mem[p * 512 + 511] != ~p;
	return wrong;
}

int main(void)
{
	struct gw_engine *e = engine_with_nodes(2, 0);
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
	uint64_t *mem, wrong = 0, rounds = 0, moved = 0;
	time_t end = time(NULL) + SECONDS;
	pthread_t thread;

	if (fd < 0) {
		printf("ok 1 - no page is lost beside compaction # SKIP compact_memory: %s\n1..1\n", strerror(errno));
		return 0;
	}
	mem = mmap(NULL, PAGES * GW_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(mem, PAGES * GW_PAGE_SIZE, MADV_NOHUGEPAGE);
	for (uint64_t p = 0; p < PAGES; p++) {
		mem[p * 512] = p + 1;
		mem[p * 512 + 511] = ~p;
	}
	pthread_create(&thread, NULL, compact, &fd);
	for (; time(NULL) < end && !wrong; rounds++) {
		struct gw_migrate_result res;

		migrate(e, rounds % 2, !(rounds % 2), NULL, &res);
		moved += res.pages_moved;
		wrong = wrong_words(mem);
	}
	stop = true;
	pthread_join(thread, NULL);
	printf("# %lu migrations, %lu pages, %lu compactions\n", (unsigned long)rounds, (unsigned long)moved,
	       (unsigned long)compactions);
	tap(!wrong, "no page is lost beside compaction");
	tap(compactions > 2 && moved > PAGES, "both took place");
	close(fd);
	tap(!gw_stop(e), "the engine stops");
	return tap_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * Pages in a compressed pool: what is in them comes back by a touch, by a request, by system calls and other processes,
 * and over everything that a program does to its mappings.
 */
#include "far.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGES 1200UL

static uint64_t *filled(size_t pages, bool huge)
{
	uint64_t *mem = map_memory(pages * GW_PAGE_SIZE, huge);

	contents_fill(mem, pages);
	return mem;
}

static uint64_t fetched(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_query(e, &st); /* a thread runs on before the books have its page: wait for them */
	gw_stats(e, &st);
	return st.faults_fetched;
}

static uint64_t resident(const void *mem, size_t pages)
{
	unsigned char vec[PAGES];
	uint64_t nr = 0;

	mincore((void *)(uintptr_t)mem, pages * GW_PAGE_SIZE, vec);
	for (size_t i = 0; i < pages; i++)
		nr += vec[i] & 1;
	return nr;
}

/* ---- there and back ---- */

static void contents(struct gw_engine *e, bool huge)
{
	size_t pages = huge ? 2 * GW_HUGE_SIZE / GW_PAGE_SIZE : PAGES;
	uint64_t *mem = filled(pages, huge), before = fetched(e), wrong;
	struct gw_migrate_options verify = { .size = sizeof(verify), .flags = GW_MIGRATE_VERIFY };
	struct gw_migrate_result res = { .size = sizeof(res) };

	tap(send_range(e, mem, pages, 1) == pages && pages_away(e) >= pages,
	    huge ? "THPs go to the pool" : "pages of every content go to the pool");
	tap(!resident(mem, pages), "and are memory no more");
	wrong = contents_wrong(mem, 0, pages);
	printf("# %lu wrong, %lu fetched before, %lu now\n", wrong, before, fetched(e));
	tap(!wrong && fetched(e) + 1 >= before + pages, "a touch of each brings it back as it was");
	tap(gw_query(e, mem) == 0 && gw_query(e, mem + (pages - 1) * WORDS) == 0, "to node 0");
	migrate(e, 0, 1, &verify, &res);
	tap(res.pages_moved >= pages && !res.verify_errors, "a request sends everything, verified");
	migrate(e, 1, 0, NULL, &res);
	tap(res.pages_moved + res.pages_gone >= pages && !res.pages_failed && !pages_away(e),
	    "a request brings everything back");
	tap(resident(mem, pages) == pages && !contents_wrong(mem, 0, pages), "as it was, before it is touched");
	munmap(mem, pages * GW_PAGE_SIZE);
}

/* ---- what the program does to its mappings ---- */

static void mappings(struct gw_engine *e)
{
	const size_t len = PAGES * GW_PAGE_SIZE;
	uint64_t *mem = filled(PAGES, false), *to, wrong = 0;

	send_range(e, mem, PAGES, 1);
	to = mremap(mem, len, 2 * len, MREMAP_MAYMOVE | MREMAP_FIXED, map_memory(2 * len, false));
	tap(to != MAP_FAILED && !contents_wrong(to, 0, PAGES) && !to[PAGES * WORDS], "mremap() takes them along");
	send_range(e, to, PAGES, 1);
	madvise(to, len / 2, MADV_DONTNEED);
	for (size_t p = 0; p < PAGES / 2; p++)
		wrong += to[p * WORDS + 5] != 0;
	tap(!wrong && !contents_wrong(to, PAGES / 2, PAGES / 2),
	    "what is discarded is zeroes, and the rest is as it was");
	contents_fill(to, PAGES);
	send_range(e, to, PAGES, 1);
	tap(!mprotect(to, len, PROT_READ) && !contents_wrong(to, 0, PAGES),
	    "memory that is read-only by now reads as it was");
	mprotect(to, len, PROT_READ | PROT_WRITE);
	send_range(e, to, PAGES, 1);
	tap(!mlock(to, 64 * GW_PAGE_SIZE) && resident(to, 64) == 64 && !contents_wrong(to, 0, PAGES),
	    "mlock() brings them in");
	munlock(to, len);
	send_range(e, to, PAGES, 1);
	munmap(to, len / 2);
	tap(!contents_wrong(to, PAGES / 2, PAGES / 2), "what is left of a mapping is as it was");
	tap(mmap(to, len / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == to && !to[1] &&
		    !to[WORDS * (PAGES / 2 - 1)],
	    "and what is mapped anew is zeroes");
	munmap(to, 2 * len);
	migrate(e, 1, 0, NULL, NULL);
	tap(!pages_away(e), "nothing is kept of what was unmapped");
}

/* Neighbours that are two mappings, and then one: the one may be idle while the other is away. */
static void neighbours(struct gw_engine *e)
{
	const size_t half = PAGES / 2, len = half * GW_PAGE_SIZE;
	uint64_t *mem = filled(PAGES, false);
	char *other = (char *)mem + len;

	madvise(other, len, MADV_DONTFORK);
	send_range(e, mem, PAGES, 1);
	tap(!contents_wrong(mem, 0, half), "a mapping comes back");
	migrate(e, 1, 1, NULL, NULL);
	send_range(e, mem, 1, 1);
	tap(!contents_wrong(mem, 0, PAGES), "and its neighbour is still told of");
	send_range(e, mem, PAGES, 1);
	madvise(other, len, MADV_DOFORK);
	tap(!contents_wrong(mem, 0, half), "a mapping that has become one with its neighbour comes back");
	send_range(e, filled(1, false), 1, 1);
	tap(!contents_wrong(mem, 0, PAGES), "and the neighbour's part is still told of");
	send_range(e, mem, PAGES, 1);
	tap(mremap(mem, 2 * len, 4 * len, MREMAP_MAYMOVE) != MAP_FAILED, "the whole can be mremapped");
}

/* ---- system calls, and others, at pages that are away ---- */

static bool by_calls(struct gw_engine *e, uint64_t *mem)
{
	int fd = memfd_create("far", 0), pipes[2];
	size_t len = PAGES * GW_PAGE_SIZE;
	char *copy = malloc(len);
	bool ok = fd >= 0 && !pipe(pipes);

	send_range(e, mem, PAGES, 1);
	ok = ok && pwrite(fd, mem, len, 0) == (ssize_t)len && !contents_wrong(mem, 0, PAGES);
	tap(ok, "write() reads pages that are away");
	memset(mem, 0xee, len);
	send_range(e, mem, PAGES, 1);
	tap(pread(fd, mem, len, 0) == (ssize_t)len && !contents_wrong(mem, 0, PAGES), "read() writes them");
	send_range(e, mem, PAGES, 1);
	tap(write(pipes[1], mem + 4 * WORDS, 4096) == 4096 && read(pipes[0], copy, 4096) == 4096 &&
		    !memcmp(copy, mem + 4 * WORDS, 4096),
	    "and pipes take them");
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	free(copy);
	return ok;
}

static bool by_direct_io(struct gw_engine *e, uint64_t *mem)
{
	char name[] = "/var/tmp/godwit-far-XXXXXX";
	int fd = mkostemp(name, O_DIRECT);
	size_t len = PAGES * GW_PAGE_SIZE;
	bool ok;

	if (fd < 0) {
		printf("# no O_DIRECT there: %s\n", strerror(errno));
		return true;
	}
	unlink(name);
	send_range(e, mem, PAGES, 1);
	ok = pwrite(fd, mem, len, 0) == (ssize_t)len;
	memset(mem, 0xee, len);
	send_range(e, mem, PAGES, 1);
	ok = ok && pread(fd, mem, len, 0) == (ssize_t)len;
	close(fd);
	return ok && !contents_wrong(mem, 0, PAGES);
}

static void *futex_waker(void *arg)
{
	uint32_t *word = arg;

	usleep(50000);
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	while (!syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0))
		usleep(1000);
	return NULL;
}

static bool by_futex(struct gw_engine *e)
{
	uint64_t *mem = filled(1, false);
	uint32_t *word = (uint32_t *)mem;
	struct timespec most = { .tv_sec = 20 };
	pthread_t t;
	long ret;

	send_range(e, mem, 1, 1);
	pthread_create(&t, NULL, futex_waker, word);
	ret = syscall(SYS_futex, word, FUTEX_WAIT, 0, &most, NULL, 0);
	pthread_join(t, NULL);
	return (!ret || errno == EAGAIN) && *word == 1;
}

/* Another process, which has no engine. */
static bool by_another(struct gw_engine *e, uint64_t *mem)
{
	int go[2], status = -1;
	size_t len = PAGES * GW_PAGE_SIZE;
	pid_t pid, parent = getpid();
	char c = 0;

	if (pipe(go))
		return false;
	pid = fork();
	if (!pid) {
		uint64_t *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct iovec here = { copy, len }, there = { mem, len };

		close(go[1]);
		if (read(go[0], &c, 1) != 1 || process_vm_readv(parent, &here, 1, &there, 1, 0) != (ssize_t)len)
			_exit(1);
		_exit(contents_wrong(copy, 0, PAGES) ? 2 : 0);
	}
	madvise(mem, len, MADV_POPULATE_WRITE);
	send_range(e, mem, PAGES, 1);
	prctl(PR_SET_PTRACER, (unsigned long)pid, 0, 0, 0);
	if (write(go[1], "g", 1) != 1)
		return false;
	waitpid(pid, &status, 0);
	close(go[0]);
	close(go[1]);
	return !status;
}

static void calls(struct gw_engine *e)
{
	uint64_t *mem = filled(PAGES, false);

	by_calls(e, mem);
	tap(by_direct_io(e, mem), "O_DIRECT reads and writes them");
	tap(by_futex(e), "a futex in one is waited for and woken");
	tap(by_another(e, mem), "another process reads them by process_vm_readv()");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

/* ---- threads that end on what was away ---- */

static void *ending(void *arg)
{
	*(volatile uint64_t *)arg += 1;
	return arg;
}

/* The stacks are the program's own, and lie far before each begins. */
static bool threads_end(struct gw_engine *e)
{
	const size_t size = 64 << 10;
	char *stack = (char *)map_memory(16 * size, false);
	uint64_t done = 0;

	for (int round = 0; round < 20; round++) {
		pthread_t t[16];
		pthread_attr_t attr;

		send_range(e, stack, 16 * size / GW_PAGE_SIZE, 1);
		for (size_t i = 0; i < 16; i++) {
			pthread_attr_init(&attr);
			pthread_attr_setstack(&attr, stack + i * size, size);
			if (pthread_create(&t[i], &attr, ending, &(uint64_t){ 0 }))
				return false;
			pthread_attr_destroy(&attr);
		}
		for (size_t i = 0; i < 16; i++)
			done += !pthread_join(t[i], NULL);
	}
	return done == 16 * 20;
}

/* ---- children of raw forks, which have no engine ---- */

#define HEIRLOOM 20000UL

/* It changes its mappings while it is still given what was away. */
static _Noreturn void raw_child(uint64_t *mem, uint64_t *other)
{
	bool ok = !syscall(SYS_munmap, other, 64 * GW_PAGE_SIZE) &&
		  !syscall(SYS_madvise, mem, GW_PAGE_SIZE, MADV_DONTNEED) && !mem[5];

	ok = ok && !contents_wrong(mem, 1, HEIRLOOM - 1);
	for (;;)
		syscall(SYS_exit_group, ok ? 0 : 1);
}

static bool raw_forks(struct gw_engine *e)
{
	uint64_t *mem = filled(HEIRLOOM, false), *other;
	int status = 0;

	for (int i = 0; i < 4 && !status; i++) {
		pid_t pid;

		other = filled(64, false);
		send_range(e, mem, HEIRLOOM, 1);
		send_range(e, other, 64, 1);
		pid = (pid_t)syscall(SYS_fork);
		if (!pid)
			raw_child(mem, other);
		if (waitpid(pid, &status, 0) != pid)
			status = -1;
		if (status)
			printf("# child %d: status 0x%x\n", i, (unsigned int)status);
		munmap(other, 64 * GW_PAGE_SIZE);
	}
	if (contents_wrong(mem, 0, HEIRLOOM))
		status = -1;
	munmap(mem, HEIRLOOM * GW_PAGE_SIZE);
	return !status;
}

/* ---- limits, and the end ---- */

static void full(struct gw_engine *e)
{
	struct gw_node_options node = { .size = sizeof(node), .kind = GW_NODE_ZRAM, .host = -1, .bytes = 2 << 20 };
	int id = gw_node_add(e, &node);
	uint64_t *mem = filled(4 * PAGES, false);
	struct gw_migrate_result res = { .size = sizeof(res) };

	gw_migrate_pages(e, 1, 1ULL << id, NULL, &res);
	for (int n = 0; n < GW_ERRNO_MAX; n++)
		if (res.failed[n])
			printf("# %lu pages stay: %s\n", (unsigned long)res.failed[n], strerrorname_np(n));
	tap(res.failed[ENOSPC] > 0 && res.pages_moved > 0 &&
		    res.pages_failed == res.failed[ENOSPC] + res.failed[EBUSY], /* some are shared with the watchdog */
	    "what does not fit stays, and is counted: ENOSPC");
	tap(!contents_wrong(mem, 0, 4 * PAGES), "all of it is as it was");
	gw_migrate_pages(e, 1, 2, NULL, NULL);
	res.size = sizeof(res);
	gw_migrate_pages(e, 2, 1ULL << id, NULL, &res);
	tap(res.failed[ENOSPC] > 0 && !contents_wrong(mem, 0, 4 * PAGES), "between two pools too");
	munmap(mem, 4 * PAGES * GW_PAGE_SIZE);
}

static void the_end(struct gw_engine *e)
{
	uint64_t *mem = filled(PAGES, false), *fixed = filled(64, false);

	migrate(e, 0, 1, NULL, NULL);
	mprotect(fixed, 64 * GW_PAGE_SIZE, PROT_READ);
	tap(gw_query(e, mem) == 1 && gw_query(e, fixed) == 1 && !gw_stop(e), "the engine stops, with pages away");
	tap(!contents_wrong(mem, 0, PAGES), "and they are back");
	tap(!contents_wrong(fixed, 0, 64), "those too that are read-only by now");
}

int main(void)
{
	struct gw_engine *e;

	watchdog_begin(60);
	e = engine_with_far(0);
	watch("contents", 0);
	contents(e, false);
	contents(e, true);
	watch("mappings", 0);
	mappings(e);
	neighbours(e);
	watch("calls", 0);
	calls(e);
	watch("threads", 0);
	tap(threads_end(e), "threads end on stacks that were away");
	watch("raw forks", 0);
	tap(raw_forks(e), "a child of a raw fork has what was away, whatever it does meanwhile");
	watch("limits", 0);
	full(e);
	watch("the end", 0);
	the_end(e);
	watchdog_end();
	return tap_end();
}

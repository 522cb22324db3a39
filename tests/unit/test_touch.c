/* SPDX-License-Identifier: MIT */
/* First touches, by real threads on real CPUs. */
#define _GNU_SOURCE
#include "unit.h"

#include "base/base.h"
#include "mmu/touch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define REGION_LEN (64UL << 20)
#define NR_SEEN 65536

/* The opener stands for the service thread: a thread of its own, which is not seen, with descriptors of its own. */
struct world {
	struct region region;
	struct touches *t;
	struct touch_options opt;
	struct thread thread;
	uint32_t turn, done;	/* futex words */
	enum { OPEN, DRAIN, CLOSE, END } todo;
	int err, fds;
	bool readable;
	uint64_t lost;
	struct touch *seen;
	uint32_t nr_seen;
};

static uint32_t gettid_now(void)
{
	return (uint32_t)sys0(SYS_gettid);
}

static void keep(void *arg, const struct touch *touch)
{
	struct world *w = arg;

	BUG_ON(w->nr_seen == NR_SEEN);
	w->seen[w->nr_seen++] = *touch;
}

static int count_fds(void)
{
	char buf[8192] __attribute__((aligned(8)));
	long got, n = 0, fd = sys3(SYS_openat, -100, "/proc/thread-self/fd", 0);

	while ((got = sys3(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got; n++)
			at += ((struct sys_dirent *)(void *)(buf + at))->len;
	sys1(SYS_close, fd);
	return (int)n;
}

/* poll() as libc has it would touch libc's thread state. */
static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return sys3(SYS_poll, &p, 1, 0) == 1;
}

static void work(struct world *w)
{
	switch (w->todo) {
	case OPEN:
		w->err = touch_open(&w->t, &w->region, &w->opt);
		break;
	case DRAIN:
		w->readable = is_readable(touch_fd(w->t));
		w->lost += touch_drain(w->t, keep, w);
		break;
	case CLOSE:
		touch_close(w->t);
		break;
	default:
		break;
	}
	w->fds = count_fds();
}

static int opener(void *arg)
{
	struct world *w = arg;
	bool end = false;

	for (uint32_t turn = 1; !end; turn++) {
		while (__atomic_load_n(&w->turn, __ATOMIC_ACQUIRE) < turn)
			futex_wait(&w->turn, turn - 1, 0);
		work(w);
		end = w->todo == END;
		__atomic_store_n(&w->done, turn, __ATOMIC_RELEASE);
		futex_wake(&w->done);
	}
	return 0;
}

static void order(struct world *w, int todo)
{
	uint32_t turn = w->turn + 1;

	w->todo = todo;
	__atomic_store_n(&w->turn, turn, __ATOMIC_RELEASE);
	futex_wake(&w->turn);
	while (__atomic_load_n(&w->done, __ATOMIC_ACQUIRE) < turn)
		futex_wait(&w->done, turn - 1, 0);
}

static void drain(struct world *w)
{
	w->nr_seen = 0;
	w->lost = 0;
	order(w, DRAIN);
}

static struct world *world_make(void)
{
	struct world *w = calloc(1, sizeof(*w));

	BUG_ON(!w || region_reserve(&w->region, REGION_LEN, REGION_LEN));
	w->seen = malloc(NR_SEEN * sizeof(*w->seen));
	memset(w->seen, 0, NR_SEEN * sizeof(*w->seen));
	w->thread = (struct thread){ .fn = opener, .arg = w, .name = "opener" };
	w->thread.stack = region_alloc(&w->region, THREAD_STACK);
	BUG_ON(thread_start(&w->thread, true));
	return w;
}

static struct world *world_open(uint64_t ring_bytes)
{
	struct world *w = world_make();

	w->opt.ring_bytes = ring_bytes;
	order(w, OPEN);
	assert_int_equal(w->err, 0);
	return w;
}

static void world_end(struct world *w)
{
	if (w->t)
		order(w, CLOSE);
	order(w, END);
	thread_join(&w->thread);
	region_release(&w->region);
	free(w->seen);
	free(w);
}

static char *map(uint64_t len)
{
	char *p = mmap(NULL, len + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = (char *)ALIGN_UP((uint64_t)p + 1, HUGE);

	BUG_ON(p == MAP_FAILED);
	BUG_ON(mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at);
	madvise(at, len, MADV_NOHUGEPAGE);
	return at;
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	BUG_ON(sched_setaffinity(0, sizeof(set), &set));
}

static bool may_use(int nr_cpus)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < nr_cpus; i++)
		if (!CPU_ISSET(i, &set))
			return false;
	return true;
}

/* Records of one type that begin in [addr, addr + len). */
static uint32_t seen_in(const struct world *w, enum touch_type type, const char *addr, uint64_t len)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->nr_seen; i++)
		n += w->seen[i].type == type && w->seen[i].addr - (uint64_t)addr < len;
	return n;
}

static const struct touch *seen_at(const struct world *w, const char *addr)
{
	for (uint32_t i = 0; i < w->nr_seen; i++)
		if (w->seen[i].type == TOUCH_PAGE && w->seen[i].addr == (uint64_t)addr)
			return &w->seen[i];
	return NULL;
}

/* ---- threads that touch ---- */

struct toucher {
	pthread_t thread;
	char *mem;
	uint64_t pages, first, step;
	int cpu;
	uint32_t tid;
	uint32_t *go;
};

static void *touch_all(void *arg)
{
	struct toucher *w = arg;

	if (w->cpu >= 0)
		pin_to(w->cpu);
	w->tid = gettid_now();
	while (w->go && !__atomic_load_n(w->go, __ATOMIC_ACQUIRE))
		futex_wait(w->go, 0, 0);
	for (uint64_t i = w->first; i < w->pages; i += w->step)
		((volatile char *)w->mem)[i * PAGE] = 1;
	return NULL;
}

static void begin(struct toucher *w)
{
	BUG_ON(pthread_create(&w->thread, NULL, touch_all, w));
}

/* How many were not seen. */
static uint32_t check_pages(const struct world *w, const struct toucher *by, uint32_t nr)
{
	uint32_t missed = 0;

	for (uint64_t i = 0; i < by[0].pages; i++) {
		const struct touch *touch = seen_at(w, by[0].mem + i * PAGE);

		missed += !touch;
		if (!touch)
			continue;
		assert_int_equal(touch->tid, by[i % nr].tid);
		if (by[i % nr].cpu >= 0)
			assert_int_equal(touch->cpu, by[i % nr].cpu);
	}
	assert_int_equal(seen_in(w, TOUCH_PAGE, by[0].mem, by[0].pages * PAGE), by[0].pages - missed);
	for (uint32_t i = 1; i < w->nr_seen; i++)
		assert_true(w->seen[i - 1].time <= w->seen[i].time);
	return missed;
}

#define TWO_CPUS()                                                        \
	do {                                                              \
		if (!may_use(2)) {                                        \
			print_message("# only one CPU to be had here\n"); \
			skip();                                           \
		}                                                         \
	} while (0)

/* Threads that are there before the opening, or are made after it, by the one that was. */
static void touch_by_two(bool before)
{
	uint32_t go = 0;
	char *mem = map(512 * PAGE);
	struct toucher by[2] = { { .mem = mem, .pages = 512, .first = 0, .step = 2, .cpu = 0, .go = &go },
				 { .mem = mem, .pages = 512, .first = 1, .step = 2, .cpu = 1, .go = &go } };
	struct world *w = before ? NULL : world_open(0);
	struct touch_state state;

	for (int i = 0; i < 2; i++)
		begin(&by[i]);
	if (before)
		w = world_open(0);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	futex_wake(&go);
	for (int i = 0; i < 2; i++)
		pthread_join(by[i].thread, NULL);
	drain(w);
	assert_int_equal(check_pages(w, by, 2), 0);
	assert_int_equal(w->lost, 0);
	touch_state(w->t, &state);
	assert_int_equal(state.threads, before ? 3 : 1);
	world_end(w);
}

static void each_page_comes_once_with_its_thread_and_cpu(void **state)
{
	(void)state;
	TWO_CPUS();
	touch_by_two(true);
}

static void threads_made_later_are_seen(void **state)
{
	(void)state;
	TWO_CPUS();
	touch_by_two(false);
}

/* One that goes to and fro between CPUs: its records are in two rings, and in its own order. */
static void a_threads_touches_come_in_its_order_over_all_cpus(void **state)
{
	struct world *w;
	char *mem = map(256 * PAGE);
	cpu_set_t old;
	uint64_t next = 0;

	(void)state;
	TWO_CPUS();
	sched_getaffinity(0, sizeof(old), &old);
	w = world_open(0);
	for (int i = 0; i < 256; i++) {
		pin_to(i / 3 % 2);
		((volatile char *)mem)[i * PAGE] = 1;
	}
	sched_setaffinity(0, sizeof(old), &old);
	drain(w);
	for (uint32_t i = 0; i < w->nr_seen; i++) {
		if (w->seen[i].type != TOUCH_PAGE || w->seen[i].addr - (uint64_t)mem >= 256 * PAGE)
			continue;
		assert_int_equal(w->seen[i].addr, (uint64_t)mem + next * PAGE);
		assert_int_equal(w->seen[i].cpu, next / 3 % 2);
		next++;
	}
	assert_int_equal(next, 256);
	world_end(w);
}

/* ---- a crowd that is born while the events are opened ---- */

#define CROWD 64

static void *make_crowd(void *arg)
{
	struct toucher *crowd = arg;

	for (int i = 0; i < CROWD; i++)
		begin(&crowd[i]);
	return NULL;
}

static void threads_made_during_the_opening_come_once(void **state)
{
	uint32_t missed = 0;

	(void)state;
	for (int round = 0; round < 8; round++) {
		struct toucher crowd[CROWD];
		struct world *w = world_make();
		char *mem = map(CROWD * PAGE);
		uint32_t go = 0;
		pthread_t maker;

		for (uint64_t i = 0; i < CROWD; i++)
			crowd[i] = (struct toucher){
				.mem = mem, .pages = CROWD, .first = i, .step = CROWD, .cpu = -1, .go = &go
			};
		BUG_ON(pthread_create(&maker, NULL, make_crowd, crowd));
		order(w, OPEN);
		assert_int_equal(w->err, 0);
		pthread_join(maker, NULL);
		__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
		futex_wake(&go);
		for (int i = 0; i < CROWD; i++)
			pthread_join(crowd[i].thread, NULL);
		drain(w);
		missed += check_pages(w, crowd, CROWD);
		world_end(w);
	}
	assert_in_range(missed, 0, 1); /* on a busy machine one may be in the making all the time */
}

/* ---- what is seen ---- */

static void a_page_that_was_discarded_comes_again(void **state)
{
	struct world *w = world_open(0);
	char *mem = map(4 * PAGE);

	(void)state;
	memset(mem, 1, 4 * PAGE);
	madvise(mem + PAGE, PAGE, MADV_DONTNEED);
	((volatile char *)mem)[PAGE] = 2;
	drain(w);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem, PAGE), 1);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem + PAGE, PAGE), 2);
	((volatile char *)mem)[PAGE] = 3;
	drain(w);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem, 4 * PAGE), 0);
	world_end(w);
}

static void a_huge_page_comes_once(void **state)
{
	struct world *w = world_open(0);
	char *mem = map(HUGE);
	unsigned char present[HUGE / PAGE];
	uint32_t n;

	(void)state;
	madvise(mem, HUGE, MADV_HUGEPAGE);
	((volatile char *)mem)[77 * PAGE + 5] = 1;
	BUG_ON(mincore(mem, HUGE, present));
	drain(w);
	n = seen_in(w, TOUCH_PAGE, mem, HUGE);
	assert_non_null(seen_at(w, mem + 77 * PAGE + 5));
	world_end(w);
	if (!(present[0] & 1)) {
		print_message("# no huge page to be had here\n");
		skip();
	}
	assert_int_equal(n, 1);
}

static void what_is_mapped_is_told_before_its_touch(void **state)
{
	struct world *w = world_open(0);
	char *mem = map(16 * PAGE);
	uint64_t mapped = UINT64_MAX, touched = 0;

	(void)state;
	((volatile char *)mem)[3 * PAGE] = 1;
	drain(w);
	for (uint32_t i = 0; i < w->nr_seen; i++) {
		const struct touch *touch = &w->seen[i];

		if (touch->type == TOUCH_MAPPED && touch->addr <= (uint64_t)mem &&
		    touch->end >= (uint64_t)mem + 16 * PAGE) {
			mapped = touch->time;
			assert_int_equal(touch->tid, gettid_now());
		}
	}
	assert_non_null(seen_at(w, mem + 3 * PAGE));
	touched = seen_at(w, mem + 3 * PAGE)->time;
	assert_true(mapped < touched);
	assert_true(touched < clock_ns());
	world_end(w);
}

static void memory_that_is_none_of_the_engines_business_is_not_told(void **state)
{
	struct world *w = world_open(0);
	char *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *own = region_alloc(&w->region, 4 * PAGE);

	(void)state;
	memset(own, 1, 4 * PAGE);
	drain(w);
	assert_int_equal(seen_in(w, TOUCH_MAPPED, file, PAGE), 0);
	assert_int_equal(seen_in(w, TOUCH_MAPPED, none, PAGE), 0);
	assert_int_equal(seen_in(w, TOUCH_MAPPED, w->region.base, REGION_LEN), 0);
	assert_int_equal(seen_in(w, TOUCH_PAGE, w->region.base, REGION_LEN), 0);
	world_end(w);
}

static void a_touch_by_a_system_call_is_seen_where_that_is_allowed(void **state)
{
	struct world *w = world_open(0);
	char *mem = map(4 * PAGE);
	int pipes[2];
	struct touch_state ts;

	(void)state;
	BUG_ON(pipe(pipes) || write(pipes[1], "hello", 5) != 5);
	BUG_ON(read(pipes[0], mem + PAGE, 5) != 5);
	close(pipes[0]);
	close(pipes[1]);
	drain(w);
	touch_state(w->t, &ts);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem, 4 * PAGE), ts.kernel);
	assert_int_equal(touch_probe(), ts.kernel ? 0 : -EACCES);
	world_end(w);
}

static void a_forked_child_is_not_seen_and_has_no_rings(void **state)
{
	struct world *w = world_open(0);
	char *mem = map(4 * PAGE);
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		touch_fork_child(w->t);
		memset(mem, 1, 4 * PAGE);
		_exit(touch_fd(w->t) == -1 && mem[0] == 1 ? 7 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 7);
	drain(w);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem, 4 * PAGE), 0);
	((volatile char *)mem)[0] = 1;
	drain(w);
	assert_int_equal(seen_in(w, TOUCH_PAGE, mem, 4 * PAGE), 1);
	world_end(w);
}

static void a_forked_child_opens_its_own(void **state)
{
	struct world *w = world_open(0), *own;
	char *mem = map(4 * PAGE);
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		touch_fork_child(w->t);
		own = world_make();
		own->t = w->t; /* its memory and its addresses */
		own->region = w->region;
		order(own, OPEN);
		memset(mem, 1, 4 * PAGE);
		drain(own);
		_exit(own->err || seen_in(own, TOUCH_PAGE, mem, 4 * PAGE) != 4 ? 1 : 7);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 7);
	world_end(w);
}

/* ---- loss, and the descriptor ---- */

static void what_a_full_ring_lost_is_counted(void **state)
{
	struct world *w;
	char *mem = map(1024 * PAGE);
	cpu_set_t old;
	uint64_t got, lost;

	(void)state;
	memset(mem, 1, 1024 * PAGE); /* a sanitizer's notes of it are there before they could be counted */
	sched_getaffinity(0, sizeof(old), &old);
	pin_to(sched_getcpu());
	w = world_open(4096);
	for (int round = 0; round < 3; round++) {
		madvise(mem, 1024 * PAGE, MADV_DONTNEED);
		drain(w);
		for (int i = 0; i < 1000; i++)
			((volatile char *)mem)[i * PAGE] = 1;
		drain(w);
		got = seen_in(w, TOUCH_PAGE, mem, 1024 * PAGE);
		lost = w->lost;
		assert_true(lost > 0);
		((volatile char *)mem)[1000 * PAGE] = 1;
		drain(w);
		assert_int_equal(got + lost + w->lost, 1000);
	}
	sched_setaffinity(0, sizeof(old), &old);
	world_end(w);
}

static void the_descriptor_says_when_a_quarter_is_full(void **state)
{
	struct world *w = world_open(65536);
	char *mem = map(1024 * PAGE);

	(void)state;
	drain(w);
	for (int i = 0; i < 10; i++)
		((volatile char *)mem)[i * PAGE] = 1;
	drain(w);
	assert_false(w->readable);
	for (int i = 10; i < 1000; i++)
		((volatile char *)mem)[i * PAGE] = 1;
	usleep(1000);
	drain(w);
	assert_true(w->readable);
	assert_int_equal(w->lost, 0);
	drain(w);
	assert_false(w->readable);
	world_end(w);
}

static void *end_soon(void *arg)
{
	while (!__atomic_load_n((uint32_t *)arg, __ATOMIC_ACQUIRE))
		futex_wait(arg, 0, 0);
	return NULL;
}

/* It would have the service thread spin. */
static void the_descriptor_is_quiet_after_threads_have_ended(void **state)
{
	uint32_t go = 0;
	pthread_t thread;
	struct world *w;

	(void)state;
	BUG_ON(pthread_create(&thread, NULL, end_soon, &go));
	w = world_open(0);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	futex_wake(&go);
	pthread_join(thread, NULL);
	usleep(1000);
	drain(w);
	assert_false(w->readable);
	world_end(w);
}

/* ---- opening and closing ---- */

static int count_rings(void)
{
	char line[512];
	int n = 0;
	FILE *f = fopen("/proc/self/maps", "re");

	while (fgets(line, sizeof(line), f))
		n += strstr(line, "perf_event") != NULL;
	fclose(f);
	return n;
}

static void opened_again_it_takes_no_more_memory(void **state)
{
	struct world *w = world_make();
	uint64_t used = 0;
	int fds = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		order(w, OPEN);
		assert_int_equal(w->err, 0);
		assert_true(count_rings() > 0);
		order(w, CLOSE);
		assert_int_equal(count_rings(), 0);
		if (i) {
			assert_int_equal(w->fds, fds);
			assert_int_equal(w->region.used, used);
		}
		fds = w->fds;
		used = w->region.used;
	}
	world_end(w);
}

static void the_programs_limit_of_descriptors_is_told(void **state)
{
	struct world *w = world_make();
	struct rlimit old, few;
	int fds;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	few = old;
	few.rlim_cur = 5;
	setrlimit(RLIMIT_NOFILE, &few);
	order(w, OPEN);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(w->err, -EMFILE);
	assert_int_equal(count_rings(), 0);
	order(w, OPEN);
	assert_int_equal(w->err, 0);
	fds = w->fds;
	order(w, CLOSE);
	assert_true(w->fds < fds);
	world_end(w);
}

/* ---- rights ---- */

/* As somebody without rights: what is seen is less, or nothing, and that is said. */
static void without_rights_it_says_what_is_missing(void **state)
{
	int status = 0;
	pid_t pid;

	(void)state;
	if (geteuid()) {
		print_message("# not root\n");
		skip();
	}
	pid = fork();
	if (!pid) {
		struct world *w;
		struct touch_state ts;
		bool good;

		BUG_ON(setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534));
		w = world_make();
		order(w, OPEN);
		if (w->err)
			_exit((w->err == -EACCES || w->err == -EPERM) && touch_probe() == w->err ? 7 : 1);
		touch_state(w->t, &ts);
		good = ts.kernel == !touch_probe() && ts.ring_bytes >= 65536;
		_exit(good ? 8 + ts.kernel : 2);
	}
	waitpid(pid, &status, 0);
	assert_in_range(WEXITSTATUS(status), 7, 9);
	print_message("# without rights: %s\n", WEXITSTATUS(status) == 7 ? "nothing is seen" :
						WEXITSTATUS(status) == 8 ? "system calls are not seen" :
									   "all is seen");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_page_comes_once_with_its_thread_and_cpu),
		cmocka_unit_test(threads_made_later_are_seen),
		cmocka_unit_test(a_threads_touches_come_in_its_order_over_all_cpus),
		cmocka_unit_test(threads_made_during_the_opening_come_once),
		cmocka_unit_test(a_page_that_was_discarded_comes_again),
		cmocka_unit_test(a_huge_page_comes_once),
		cmocka_unit_test(what_is_mapped_is_told_before_its_touch),
		cmocka_unit_test(memory_that_is_none_of_the_engines_business_is_not_told),
		cmocka_unit_test(a_touch_by_a_system_call_is_seen_where_that_is_allowed),
		cmocka_unit_test(a_forked_child_is_not_seen_and_has_no_rings),
		cmocka_unit_test(a_forked_child_opens_its_own),
		cmocka_unit_test(what_a_full_ring_lost_is_counted),
		cmocka_unit_test(the_descriptor_says_when_a_quarter_is_full),
		cmocka_unit_test(the_descriptor_is_quiet_after_threads_have_ended),
		cmocka_unit_test(opened_again_it_takes_no_more_memory),
		cmocka_unit_test(the_programs_limit_of_descriptors_is_told),
		cmocka_unit_test(without_rights_it_says_what_is_missing),
	};
	struct world *w;
	int err;

#ifdef __SANITIZE_THREAD__
	printf("1..0 # SKIP what TSan knows of a thread is in libc's block of it, and the opener has none\n");
	return 0;
#endif
	w = world_make();
	order(w, OPEN);
	err = w->err;
	world_end(w);
	if (err == -EACCES || err == -EPERM || err == -ENOSYS) {
		printf("1..0 # SKIP first touches cannot be seen here (error %d)\n", err);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

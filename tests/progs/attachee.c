/* SPDX-License-Identifier: MIT */
/*
 * A program to be attached to, in one state or another; it knows nothing of godwit. Each checks its own data all the
 * time and aborts when it is wrong.
 *
 *   attachee threads N	N threads, each with memory of its own that it fills, checks, grows and gives back, that make
 *				further threads which end at once, and of which some fork
 *   attachee malloc		eight threads in malloc(), realloc() and free() as good as all the time
 *   attachee handler		in a signal handler half of the time, on a stack of its own
 *   attachee vfork		in vfork(), again and again, for a while each time
 *   attachee vfork-long	in vfork() once, for long
 *   attachee forker		children that end soon, one after the other
 *   attachee strict|forbid|refuse|allow	with a seccomp filter: the strict mode, or userfaultfd() kills, fails,
 *				or is let through
 *   attachee late		asks for nothing, but after SIGUSR1 has a filter that kills whoever makes a thread
 *   attachee coroutine	waits on a stack of 2 KiB that begins where data ends
 *   attachee parent		after SIGUSR1 makes a child that lives as long as it does, and is as it is
 *   attachee atfork		forks with handlers that wait for a thread which remaps memory
 *   attachee exits		ends after a tenth of a second
 *   attachee wait		in a futex for ever, by syscall()
 *
 * Says "ready", then works until SIGTERM or SIGUSR2; then says "whole N", N times it was checked, and exits with 0.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t over;
static unsigned long checks;

static void on_term(int sig)
{
	(void)sig;
	over = 1;
}

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "attachee: wrong: %s\n", what);
	abort();
}

static void pause_us(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

static void checked(void)
{
	__atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);
}

/* ---- data ---- */

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static void fill(uint32_t *words, size_t nr, uint32_t seed)
{
	for (size_t i = 0; i < nr; i++)
		words[i] = (uint32_t)i * 2654435761U ^ seed;
}

static bool filled(const uint32_t *words, size_t nr, uint32_t seed)
{
	for (size_t i = 0; i < nr; i++)
		if (words[i] != ((uint32_t)i * 2654435761U ^ seed))
			return false;
	return true;
}

/* ---- threads ---- */

static void *short_life(void *arg)
{
	uint32_t on_stack[512];

	fill(on_stack, 512, (uint32_t)(uintptr_t)arg);
	must(filled(on_stack, 512, (uint32_t)(uintptr_t)arg), "a short thread's stack");
	return arg;
}

static void child_once(const uint32_t *words, size_t nr, uint32_t seed)
{
	int status = -1;
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (!pid)
		_exit(filled(words, nr, seed) ? 0 : 1);
	while (waitpid(pid, &status, 0) < 0)
		must(errno == EINTR, "waitpid");
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child's memory");
}

static void *worker(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg, state = seed;
	size_t nr = 16384;
	uint32_t *words = malloc(nr * 4);

	must(words, "malloc");
	fill(words, nr, seed);
	while (!over) {
		uint32_t what = next_random(&state) % 16;
		pthread_t thread;
		void *back;

		must(filled(words, nr, seed), "a thread's memory");
		checked();
		if (what == 0) {
			nr = 4096 + next_random(&state) % 65536;
			words = realloc(words, nr * 4);
			fill(words, nr, ++seed);
		} else if (what == 1) {
			uint32_t *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			must(map != MAP_FAILED, "mmap");
			fill(map, 1 << 18, state);
			must(filled(map, 1 << 18, state), "a new mapping");
			munmap(map, 1 << 20);
		} else if (what == 2 && seed % 8 == 0) {
			child_once(words, nr, seed);
		} else if (what < 6) {
			must(!pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)state), "pthread_create");
			must(!pthread_join(thread, &back) && back == (void *)(uintptr_t)state, "pthread_join");
		} else {
			pause_us(500);
		}
	}
	must(filled(words, nr, seed), "a thread's memory in the end");
	free(words);
	return NULL;
}

static void *allocator(void *arg)
{
	uint32_t state = (uint32_t)(uintptr_t)arg, seeds[64] = { 0 };
	uint32_t *block[64] = { NULL };
	size_t len[64] = { 0 };

	while (!over) {
		uint32_t at = next_random(&state) % 64;

		must(!block[at] || filled(block[at], len[at], seeds[at]), "an allocated block");
		checked();
		if (next_random(&state) % 3 == 0) {
			free(block[at]);
			block[at] = NULL;
			continue;
		}
		len[at] = 1 + next_random(&state) % (next_random(&state) % 16 ? 512 : 65536);
		block[at] = realloc(block[at], len[at] * 4);
		must(block[at], "realloc");
		seeds[at] = state;
		fill(block[at], len[at], state);
	}
	for (int i = 0; i < 64; i++)
		free(block[i]);
	return NULL;
}

static void run_threads(long nr, void *(*fn)(void *))
{
	pthread_t *thread = calloc((size_t)nr, sizeof(*thread));

	for (long i = 0; i < nr; i++)
		must(!pthread_create(&thread[i], NULL, fn, (void *)(uintptr_t)(i * 8 + 8)), "pthread_create");
	printf("ready\n");
	fflush(stdout);
	for (long i = 0; i < nr; i++)
		must(!pthread_join(thread[i], NULL), "pthread_join");
	free(thread);
}

/* ---- signals ---- */

static uint32_t handled[4096];

/* Holds up the one that is attaching, too, and is held up. */
static void on_alarm(int sig)
{
	static uint32_t seed;
	struct timespec begin, now;

	(void)sig;
	must(filled(handled, 4096, seed), "a handler's memory");
	fill(handled, 4096, ++seed);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < 1000000);
	checks++;
}

static void in_handlers(void)
{
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } };
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART };
	stack_t alt = { .ss_sp = malloc(65536), .ss_size = 65536 };
	double sum = 0;

	fill(handled, 4096, 0);
	sigaltstack(&alt, NULL);
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	printf("ready\n");
	fflush(stdout);
	/* floating point, which must come through stops in any place */
	for (double x = 1; !over; x += 1) {
		sum += x;
		must(sum == x * (x + 1) / 2, "floating point");
		if (x == 1e6)
			x = sum = 0;
	}
}

/* ---- children ---- */

static void vforks(bool for_long)
{
	volatile uint32_t mine = 1;

	printf("ready\n");
	fflush(stdout);
	do {
		int status = -1;
		pid_t pid = vfork();

		must(pid >= 0, "vfork");
		if (!pid) {
			pause_us(for_long ? 3000000 : 20000);
			execl("/bin/true", "true", (char *)NULL);
			_exit(1);
		}
		while (waitpid(pid, &status, 0) < 0)
			must(errno == EINTR, "waitpid");
		must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child of vfork()");
		must(mine == checks + 1, "memory after vfork()");
		checks++;
		mine++;
		if (for_long)
			pause_us(100000);
	} while (!over);
}

static void forks(void)
{
	uint32_t *words = malloc(1 << 20);

	fill(words, 1 << 18, 5);
	printf("ready\n");
	fflush(stdout);
	while (!over) {
		child_once(words, 1 << 18, 5);
		checks++;
	}
}

/* ---- filters ---- */

static void filter(uint32_t call, uint32_t action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), "a filter");
}

/* Nothing but read(), write() and returns from handlers is left. */
static void strict(void)
{
	char byte;
	int pipe_fd[2];

	must(!pipe(pipe_fd), "pipe");
	printf("ready\n");
	fflush(stdout);
	must(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), "strict mode");
	for (;;)
		must(read(pipe_fd[0], &byte, 1) == 1, "read");
}

static void filtered(uint32_t action)
{
	filter(SYS_userfaultfd, action);
	run_threads(2, worker);
}

static void on_filter(int sig)
{
	(void)sig;
	filter(SYS_clone, SECCOMP_RET_KILL_PROCESS);
}

static void filtered_later(void)
{
	struct sigaction act = { .sa_handler = on_filter };

	sigaction(SIGUSR1, &act, NULL);
	printf("ready\n");
	fflush(stdout);
	while (!over) {
		pause_us(1000);
		checks++;
	}
}

/* ---- a stack without room ---- */

#define BELOW 65536

static ucontext_t outside, inside;

static void on_small_stack(void)
{
	struct timespec ts = { 0, 20000000 };

	/* no more of it is used than a waiting coroutine does */
	while (!over) {
		long ret;

		__asm__ volatile("syscall" : "=a"(ret) : "0"(SYS_nanosleep), "D"(&ts), "S"(0) : "rcx", "r11", "memory");
		checks++;
	}
}

static void coroutine(void)
{
	unsigned char *pool = malloc(BELOW + 65536);
	struct sigaction act = { .sa_handler = on_term, .sa_flags = SA_ONSTACK };

	memset(pool, 0x5a, BELOW);
	must(!getcontext(&inside), "getcontext");
	inside.uc_stack.ss_sp = pool + BELOW;
	inside.uc_stack.ss_size = 2048;
	inside.uc_link = &outside;
	makecontext(&inside, on_small_stack, 0);
	sigaltstack(&(stack_t){ .ss_sp = malloc(65536), .ss_size = 65536 }, NULL);
	sigaction(SIGUSR2, &act, NULL);
	printf("ready\n");
	fflush(stdout);
	must(!swapcontext(&outside, &inside), "swapcontext");
	for (int i = 0; i < BELOW; i++)
		must(pool[i] == 0x5a, "data below a small stack");
	free(pool);
}

/* ---- forks with handlers ---- */

static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;

static void busy_lock(void)
{
	pthread_mutex_lock(&busy);
}

static void busy_unlock(void)
{
	pthread_mutex_unlock(&busy);
}

static void *remapper(void *arg)
{
	size_t len = 1 << 20;
	char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (!over) {
		size_t other = len == 1 << 20 ? 2 << 20 : 1 << 20;

		busy_lock();
		map = mremap(map, len, other, MREMAP_MAYMOVE);
		must(map != MAP_FAILED, "mremap");
		map[other - 1] = 1;
		len = other;
		busy_unlock();
		pause_us(200);
	}
	return arg;
}

static void *fork_with_handlers(void *arg)
{
	uint32_t words[64];

	fill(words, 64, 9);
	while (!over) {
		child_once(words, 64, 9);
		checked();
	}
	return arg;
}

static void *either(void *arg)
{
	return (uintptr_t)arg > 8 ? remapper(arg) : fork_with_handlers(arg);
}

static volatile sig_atomic_t wanted;

static void on_want(int sig)
{
	(void)sig;
	wanted = 1;
}

static void family(void)
{
	struct sigaction act = { .sa_handler = on_want };
	uint32_t *words = malloc(1 << 20);
	pid_t child = 0;

	sigaction(SIGUSR1, &act, NULL);
	fill(words, 1 << 18, 7);
	printf("ready\n");
	fflush(stdout);
	while (!over) {
		must(filled(words, 1 << 18, 7), "memory of parent or child");
		checks++;
		pause_us(1000);
		if (!wanted)
			continue;
		wanted = 0;
		child = fork();
		must(child >= 0, "fork");
	}
	if (child) {
		int status = -1;

		kill(child, SIGUSR2);
		must(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status),
		     "the child's end");
	}
}

/* ---- one state ---- */

static void wait_long(void)
{
	uint32_t word = 0;

	printf("ready\n");
	fflush(stdout);
	while (!over) {
		long ret = syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);

		must(ret < 0 && (errno == EINTR || errno == EAGAIN), "a wait in a futex");
		checks++;
	}
}

int main(int argc, char **argv)
{
	const char *state = argc > 1 ? argv[1] : "";
	struct sigaction act = { .sa_handler = on_term };

	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGUSR2, &act, NULL);
	if (!strcmp(state, "threads"))
		run_threads(argc > 2 ? atol(argv[2]) : 4, worker);
	else if (!strcmp(state, "malloc"))
		run_threads(8, allocator);
	else if (!strcmp(state, "handler"))
		in_handlers();
	else if (!strcmp(state, "vfork") || !strcmp(state, "vfork-long"))
		vforks(!strcmp(state, "vfork-long"));
	else if (!strcmp(state, "forker"))
		forks();
	else if (!strcmp(state, "strict"))
		strict();
	else if (!strcmp(state, "forbid"))
		filtered(SECCOMP_RET_KILL_PROCESS);
	else if (!strcmp(state, "refuse"))
		filtered(SECCOMP_RET_ERRNO | EPERM);
	else if (!strcmp(state, "allow"))
		filtered(SECCOMP_RET_ALLOW);
	else if (!strcmp(state, "parent"))
		family();
	else if (!strcmp(state, "late"))
		filtered_later();
	else if (!strcmp(state, "coroutine"))
		coroutine();
	else if (!strcmp(state, "atfork") && !pthread_atfork(busy_lock, busy_unlock, busy_unlock))
		run_threads(2, either);
	else if (!strcmp(state, "wait"))
		wait_long();
	else if (!strcmp(state, "exits"))
		pause_us(100000);
	else
		return 2;
	printf("whole %lu\n", checks);
	return 0;
}

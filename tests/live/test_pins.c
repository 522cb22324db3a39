/* SPDX-License-Identifier: MIT */
/*
 * Memory that the kernel uses while it moves: pages pinned by a device stay, pages referenced by a pipe
 * keep what they held, and whoever sleeps in the kernel over a page that moves wakes up with the right data.
 */
#include "direct.h"
#include "live.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONG_ENOUGH 2.0		/* seconds for what takes microseconds */

/* ---- a device writes: O_DIRECT ---- */

#define FILE_BYTES (4UL << 20)
#define READ_BYTES (256UL << 10)

struct reads {
	uint64_t nr, refused, wrong;
};

static void read_directly(int fd, uint64_t *buf, double seconds, struct reads *r)
{
	double end = now() + seconds;
	uint64_t seed = 88172645463325252ULL;

	while (now() < end) {
		uint64_t page;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		page = (seed >> 33) % ((FILE_BYTES - READ_BYTES) / GW_PAGE_SIZE);
		memset(buf, 0xee, READ_BYTES);
		if (pread(fd, buf, READ_BYTES, (off_t)(page * GW_PAGE_SIZE)) != (ssize_t)READ_BYTES)
			r->refused++;
		else
			for (uint64_t i = 0; i < READ_BYTES / 8; i++)
				if (buf[i] != pattern_word(page * WORDS + i, 1)) {
					r->wrong++;
					break;
				}
		r->nr++;
	}
}

static void direct_reads(struct mover *m, bool huge, const char *sentence)
{
	const char *why = "";
	struct reads r = { 0 };
	int fd = direct_file(FILE_BYTES, &why);
	uint64_t *buf;
	bool moved;

	if (fd < 0) {
		printf("ok %d - %s # SKIP no O_DIRECT: %s\n", ++tap_nr, sentence, why);
		return;
	}
	buf = map_memory(GW_HUGE_SIZE, huge);
	moving_begin(m);
	read_directly(fd, buf, 1.0, &r);
	moved = moving_end(m, huge ? "O_DIRECT into a THP" : "O_DIRECT into 4 KiB pages");
	printf("# %lu preads of 256 KiB, %lu refused, %lu with wrong data\n", (unsigned long)r.nr,
	       (unsigned long)r.refused, (unsigned long)r.wrong);
	tap(r.nr >= 20 && !r.refused && !r.wrong && moved, sentence);
	munmap(buf, GW_HUGE_SIZE);
	close(fd);
}

/* ---- a pin that lasts: io_uring's fixed buffers ---- */

#define URING_SETUP 425
#define URING_REGISTER 427
#define REGISTER_BUFFERS 0
#define UNREGISTER_BUFFERS 1
#define PINNED 4UL
#define AROUND 64UL

static bool moves_within(struct gw_engine *e, const uint64_t *mem, int to, double seconds)
{
	double end = now() + seconds;
	struct gw_migrate_result res;

	do {
		migrate(e, !to, to, NULL, &res);
		if (!res.failed[EBUSY] && gw_query(e, mem) == to)
			return true;
		usleep(1000);
	} while (now() < end);
	return false;
}

static void registered_buffers(struct gw_engine *e)
{
	uint32_t params[30] = { 0 }; /* struct io_uring_params */
	uint64_t *mem = map_memory(AROUND * GW_PAGE_SIZE, false);
	struct iovec iov = { mem + 20 * WORDS, PINNED * GW_PAGE_SIZE };
	struct gw_migrate_result res;
	bool stayed = true, others = true;
	int ring = (int)syscall(URING_SETUP, 1, params);

	if (ring < 0 || syscall(URING_REGISTER, ring, REGISTER_BUFFERS, &iov, 1)) {
		printf("ok %d - pages of a registered buffer stay # SKIP io_uring: %s\n", ++tap_nr, strerror(errno));
		if (ring >= 0)
			close(ring);
		return;
	}
	pattern_fill(mem, AROUND * WORDS, 2);
	migrate(e, 1, 0, NULL, NULL);
	migrate(e, 0, 1, NULL, &res);
	for (uint64_t p = 0; p < AROUND; p++) {
		bool pinned = p >= 20 && p < 20 + PINNED;
		int node = gw_query(e, mem + p * WORDS);

		stayed = stayed && (!pinned || node == 0);
		others = others && (pinned || node == 1);
	}
	tap(res.failed[EBUSY] == PINNED && res.pages_failed == PINNED && stayed,
	    "pages of a registered buffer stay, and are counted under EBUSY");
	tap(others && pattern_holds(mem, AROUND * WORDS, 2), "those around it move, and nothing is lost");
	tap(!syscall(URING_REGISTER, ring, UNREGISTER_BUFFERS, NULL, 0) && moves_within(e, iov.iov_base, 1, 1.0),
	    "when the buffer is unregistered they move");
	tap(pattern_holds(mem, AROUND * WORDS, 2), "with what they held");
	close(ring);
	munmap(mem, AROUND * GW_PAGE_SIZE);
}

/* ---- a reference that is no pin: a page in a pipe ---- */

#define SPLICED 8UL

static uint32_t recycling(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	return gw_stats(e, &st) ? 2 : st.recycling;
}

static bool read_all(int fd, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = poll(&p, 1, (int)(LONG_ENOUGH * 1000)) == 1 ? read(fd, (char *)buf + got, len - got) : 0;

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

/* The pages must have left their frames before they are written to: until then the pipe shows the writes. */
static void spliced_pages(struct gw_engine *e)
{
	const size_t len = SPLICED * GW_PAGE_SIZE;
	uint64_t *mem = map_memory(GW_HUGE_SIZE, false), *copy = malloc(len);
	struct iovec iov = { mem, len };
	uint32_t before = recycling(e);
	bool away = true;
	int ends[2];

	migrate(e, 1, 0, NULL, NULL);
	pattern_fill(mem, SPLICED * WORDS, 3);
	if (pipe2(ends, O_CLOEXEC) || vmsplice(ends[1], &iov, 1, 0) != (ssize_t)len) {
		printf("ok %d - a page in a pipe keeps its content # SKIP vmsplice: %s\n", ++tap_nr, strerror(errno));
		return;
	}
	tap(before == 1 && recycling(e) == 0, "vmsplice() ends the reuse of frames");
	migrate(e, 0, 1, NULL, NULL);
	for (uint64_t p = 0; p < SPLICED; p++)
		away = away && gw_query(e, mem + p * WORDS) == 1;
	for (uint64_t i = 0; i < 10; i++) {
		pattern_fill(mem, GW_HUGE_SIZE / 8, 100 + i);
		migrate(e, !(i % 2), i % 2, NULL, NULL);
	}
	tap(away && read_all(ends[0], copy, len) && pattern_holds(copy, SPLICED * WORDS, 3),
	    "the reader of the pipe sees what was spliced, whatever moves and is written since");
	tap(pattern_holds(mem, GW_HUGE_SIZE / 8, 109), "and the memory has what was written last");
	close(ends[0]);
	close(ends[1]);
	free(copy);
	munmap(mem, GW_HUGE_SIZE);
}

/* ---- sleeping in the kernel over pages that move ---- */

#define CHUNK (64UL << 10)

struct sender {
	int fd;
	uint64_t *buf, rounds;
	atomic_bool stop;
	pthread_t thread;
};

/* Late and in pieces, so that the receiver sleeps. Never libc's allocator: its pages move too, that is the point. */
static void *sender(void *arg)
{
	struct sender *s = arg;

	for (uint64_t round = 0; round < s->rounds && !s->stop; round++) {
		pattern_fill(s->buf, CHUNK / 8, round);
		usleep(100);
		for (size_t put = 0; put < CHUNK;) {
			ssize_t n = write(s->fd, (char *)s->buf + put, CHUNK - put < 10000 ? CHUNK - put : 10000);

			if (n <= 0)
				return NULL;
			put += (size_t)n;
		}
	}
	return NULL;
}

static bool receive_pipe(int fd, void *buf)
{
	size_t got = 0;

	while (got < CHUNK) {
		ssize_t n = read(fd, (char *)buf + got, CHUNK - got);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

static bool receive_socket(int fd, void *buf)
{
	return recv(fd, buf, CHUNK, MSG_WAITALL) == (ssize_t)CHUNK;
}

/* A wait that never ends is what alarm() is for. */
static void transfers(struct mover *m, int in, int out, bool (*receive)(int fd, void *buf), const char *what,
		      const char *sentence)
{
	struct sender s = { .fd = out, .rounds = UINT64_MAX };
	uint64_t *buf = map_memory(GW_HUGE_SIZE, false), round = 0, wrong = 0;
	double end;
	bool moved, ok = true;

	s.buf = map_memory(GW_HUGE_SIZE, false);
	moving_begin(m);
	pthread_create(&s.thread, NULL, sender, &s);
	for (end = now() + 0.8; now() < end && ok; round++) {
		ok = receive(in, buf);
		wrong += !ok || !pattern_holds(buf, CHUNK / 8, round);
	}
	s.stop = true;
	shutdown(in, SHUT_RDWR);
	close(in);
	pthread_join(s.thread, NULL);
	moved = moving_end(m, what);
	close(out);
	printf("# %s: %lu transfers of 64 KiB, %lu wrong\n", what, (unsigned long)round, (unsigned long)wrong);
	tap(ok && moved && round >= 50 && !wrong, sentence);
	munmap(buf, GW_HUGE_SIZE);
	munmap(s.buf, GW_HUGE_SIZE);
}

static void pipe_and_socket(struct mover *m)
{
	int ends[2];

	if (!pipe2(ends, O_CLOEXEC))
		transfers(m, ends[0], ends[1], receive_pipe, "pipe", "read() from a pipe into moving memory completes");
	if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		transfers(m, ends[0], ends[1], receive_socket, "socket",
			  "recv() from a socket into moving memory completes");
}

/* Two threads hand a turn to and fro: word 0 counts one's turns, word 1 the other's. */
struct turns {
	uint32_t *ours, *theirs;	/* on pages of their own */
	uint64_t *sum;		/* only the thread whose turn it is may add to it */
	atomic_bool stop, late;
	uint32_t nr;
};

static long futex(uint32_t *word, int op, uint32_t val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, val, timeout, NULL, 0);
}

/* Wait until *word is want. False when it took far too long: a wake was lost. */
static bool await(uint32_t *word, uint32_t want, bool private)
{
	struct timespec timeout = { .tv_sec = (time_t)LONG_ENOUGH };
	int flag = private ? FUTEX_PRIVATE_FLAG : 0;
	uint32_t v;

	while ((v = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != want)
		if (futex(word, FUTEX_WAIT | flag, v, &timeout) && errno != EAGAIN && errno != EINTR)
			return false;
	return true;
}

static void give(uint32_t *word, uint32_t value, bool private)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	futex(word, FUTEX_WAKE | (private ? FUTEX_PRIVATE_FLAG : 0), 1, NULL);
}

static void *other_player(void *arg)
{
	struct turns *t = arg;

	for (uint32_t i = 1; !t->late; i++) {
		if (!await(t->ours, i, i % 64 < 32)) {
			t->late = true;
			break;
		}
		++*t->sum;
		give(t->theirs, i, i % 64 < 32);
		if (t->stop && i == t->nr)
			break;
	}
	return NULL;
}

static void futexes(struct mover *m)
{
	uint64_t *mem = map_memory(GW_HUGE_SIZE, false);
	struct turns t = { .ours = (uint32_t *)mem,
			   .theirs = (uint32_t *)(mem + 70 * WORDS),
			   .sum = mem + 200 * WORDS };
	double end;
	pthread_t other;
	uint32_t i = 1;
	bool moved;

	*t.ours = *t.theirs = 0;
	*t.sum = 0;
	moving_begin(m);
	pthread_create(&other, NULL, other_player, &t);
	for (end = now() + 0.8; !t.late; i++) {
		bool last = now() >= end;

		++*t.sum;
		if (i % 16 == 0)
			usleep(50);
		if (last) {
			t.nr = i;
			t.stop = true;
		}
		give(t.ours, i, i % 64 < 32);
		if (!await(t.theirs, i, i % 64 < 32))
			t.late = true;
		if (last)
			break;
	}
	pthread_join(other, NULL);
	moved = moving_end(m, "futex");
	printf("# %u turns\n", i);
	tap(!t.late && moved && i >= 1000, "no futex wake is lost while the word moves");
	tap(*t.sum == 2ULL * i, "and what they guard is right");
	munmap(mem, GW_HUGE_SIZE);
}

int main(void)
{
	struct mover m = { .e = engine_with_nodes(2, 0) };

	alarm(30);
	signal(SIGPIPE, SIG_IGN);
	direct_reads(&m, false, "O_DIRECT reads into 4 KiB pages that move lose nothing");
	direct_reads(&m, true, "O_DIRECT reads into THPs that move lose nothing");
	pipe_and_socket(&m);
	futexes(&m);
	spliced_pages(m.e);
	registered_buffers(m.e);
	tap(!gw_stop(m.e), "the engine stops");
	return tap_end();
}

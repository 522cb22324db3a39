/* SPDX-License-Identifier: MIT */
/*
 * test-timeout: 1800
 *
 * The kernel reads and writes buffers of the program while the whole memory goes to and fro: devices
 * (O_DIRECT, io_uring's fixed buffers), other processes (process_vm_writev, recv), pipes that hold pages
 * without a pin. Each operation fills or gives a buffer, looks at every word of it, and looks again
 * before the buffer is used next: what came right may be lost later.
 *
 * First as it comes, then with migrations that stop for a while in every step: the time between two
 * steps is microseconds, and what goes wrong in it would be seen once in a day. In the end rules of the
 * engine are left out, and the same operations must notice. GODWIT_LONG=1: 100000 operations of each kind
 * and pass instead of a thousand.
 */
#include "direct.h"
#include "hold.h"
#include "live.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define BUFFERS 128UL		/* a THP in all */
#define BUFFER_BYTES (16UL << 10)
#define BUFFER_WORDS (BUFFER_BYTES / 8)
#define FILE_BYTES (4UL << 20)
#define HOLD_US 100

/* ---- another process, without an engine, whose memory stays ---- */

enum wish { WISH_WRITE, WISH_SEND };

struct request {
	enum wish wish;
	void *at;
	uint64_t salt;
};

struct helper {
	pid_t pid;
	int ask;		/* requests to it; the result of a write back */
	int data;		/* what it sends */
};

static bool put_all(int fd, const void *buf, size_t len)
{
	for (size_t put = 0; put < len;) {
		ssize_t n = write(fd, (const char *)buf + put, len - put < 5000 ? len - put : 5000);

		if (n <= 0)
			return false;
		put += (size_t)n;
	}
	return true;
}

/* Late, so that the one who waits sleeps, and in pieces. */
static void helper_run(const struct helper *h, pid_t parent)
{
	static uint64_t words[BUFFER_WORDS];
	struct request rq;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(h->ask, &rq, sizeof(rq)) == (ssize_t)sizeof(rq)) {
		struct iovec local = { words, BUFFER_BYTES }, remote = { rq.at, BUFFER_BYTES };
		ssize_t done;

		pattern_fill(words, BUFFER_WORDS, rq.salt);
		if (rq.salt % 4 == 0)
			usleep(50);
		if (rq.wish == WISH_SEND) {
			if (!put_all(h->data, words, BUFFER_BYTES))
				break;
			continue;
		}
		done = process_vm_writev(parent, &local, 1, &remote, 1, 0);
		if (write(h->ask, &done, sizeof(done)) != (ssize_t)sizeof(done))
			break;
	}
	_exit(0);
}

static void helper_start(struct helper *h)
{
	int ask[2], data[2];
	pid_t parent = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ask) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data)) {
		printf("Bail out! socketpair: %s\n", strerror(errno));
		exit(1);
	}
	h->ask = ask[0];
	h->data = data[0];
	h->pid = fork();
	if (!h->pid) {
		close(ask[0]);
		close(data[0]);
		helper_run(&(struct helper){ .ask = ask[1], .data = data[1] }, parent);
	}
	close(ask[1]);
	close(data[1]);
	prctl(PR_SET_PTRACER, h->pid); /* where only parents may write to their children */
}

static bool helper_asked(const struct helper *h, enum wish wish, void *at, uint64_t salt)
{
	struct request rq = { .wish = wish, .at = at, .salt = salt };

	return write(h->ask, &rq, sizeof(rq)) == (ssize_t)sizeof(rq);
}

static void helper_end(struct helper *h)
{
	close(h->ask);
	close(h->data);
	waitpid(h->pid, NULL, 0);
}

/* ---- buffers ---- */

struct content {
	bool known;
	uint64_t first, salt;	/* word i is pattern_word(first + i, salt) */
};

/* On the stack of the first thread, which does not move. */
struct io {
	struct mover mover;
	struct helper helper;
	uint64_t *mem;			/* BUFFERS */
	struct content content[BUFFERS];
	int file;			/* pattern_fill(1) */
	uint64_t nr, refused, wrong, wrong_later, seed;
	int err;			/* of the last one that was refused */
	void *private;			/* of the kind */
};

static uint64_t *buffer(const struct io *io, uint64_t b)
{
	return io->mem + b * BUFFER_WORDS;
}

static bool buffer_holds(const struct io *io, uint64_t b)
{
	const struct content *c = &io->content[b];
	const uint64_t *buf = buffer(io, b);

	for (uint64_t i = 0; i < BUFFER_WORDS; i++)
		if (buf[i] != pattern_word(c->first + i, c->salt))
			return false;
	return true;
}

static bool buffer_got(struct io *io, uint64_t b, uint64_t first, uint64_t salt)
{
	io->content[b] = (struct content){ .known = true, .first = first, .salt = salt };
	if (buffer_holds(io, b))
		return true;
	io->content[b].known = false;
	io->wrong++;
	return false;
}

static void buffer_check(struct io *io, uint64_t b)
{
	if (io->content[b].known && !buffer_holds(io, b))
		io->wrong_later++;
	io->content[b].known = false;
}

/* One that may be overwritten. Still right? */
static uint64_t buffer_take(struct io *io)
{
	uint64_t b = next(&io->seed) % BUFFERS;

	buffer_check(io, b);
	memset(buffer(io, b), 0xee, BUFFER_BYTES);
	return b;
}

static void refused(struct io *io)
{
	io->refused++;
	io->err = errno;
}

/* Anywhere in the file; the first word. */
static uint64_t place_in_file(struct io *io)
{
	return next(&io->seed) % ((FILE_BYTES - BUFFER_BYTES) / GW_PAGE_SIZE) * WORDS;
}

/* ---- the kinds ---- */

struct kind {
	const char *name;
	/* NULL: begun; else why not. Once a pass. */
	const char *(*begin)(struct io *io);
	void (*one)(struct io *io);
	void (*end)(struct io *io);
};

static const char *direct_begin(struct io *io)
{
	const char *why = NULL;

	if (io->file < 0)
		io->file = direct_file(FILE_BYTES, &why);
	return io->file < 0 ? why : NULL;
}

static void direct_one(struct io *io)
{
	uint64_t b = buffer_take(io), first = place_in_file(io);

	if (pread(io->file, buffer(io, b), BUFFER_BYTES, (off_t)(first * 8)) != (ssize_t)BUFFER_BYTES)
		refused(io);
	else
		buffer_got(io, b, first, 1);
}

static void writev_one(struct io *io)
{
	uint64_t b = buffer_take(io), salt = next(&io->seed);
	ssize_t done = -1;

	if (!helper_asked(&io->helper, WISH_WRITE, buffer(io, b), salt) ||
	    read(io->helper.ask, &done, sizeof(done)) != (ssize_t)sizeof(done) || done != (ssize_t)BUFFER_BYTES)
		refused(io);
	else
		buffer_got(io, b, 0, salt);
}

static void recv_one(struct io *io)
{
	uint64_t b = buffer_take(io), salt = next(&io->seed);

	if (!helper_asked(&io->helper, WISH_SEND, NULL, salt) ||
	    recv(io->helper.data, buffer(io, b), BUFFER_BYTES, MSG_WAITALL) != (ssize_t)BUFFER_BYTES)
		refused(io);
	else
		buffer_got(io, b, 0, salt);
}

/* ---- io_uring: buffers are pinned for a few reads, then others are ---- */

#define FIXED 4U
#define FIXED_READS 8

struct uring {
	int fd;
	struct io_uring_params params;
	char *rings;
	size_t rings_len;
	struct io_uring_sqe *sqes;
	uint64_t fixed[FIXED];	/* buffers */
	bool pinned;
	int left;		/* reads until others are pinned */
};

static const char *uring_begin(struct io *io)
{
	static struct uring u;
	const char *why = direct_begin(io);

	if (why)
		return why;
	u = (struct uring){ 0 };
	u.fd = (int)syscall(SYS_io_uring_setup, FIXED, &u.params);
	if (u.fd < 0)
		return strerror(errno);
	u.rings_len = u.params.cq_off.cqes + u.params.cq_entries * sizeof(struct io_uring_cqe);
	u.rings = mmap(NULL, u.rings_len, PROT_READ | PROT_WRITE, MAP_SHARED, u.fd, IORING_OFF_SQ_RING);
	u.sqes = mmap(NULL, FIXED * sizeof(*u.sqes), PROT_READ | PROT_WRITE, MAP_SHARED, u.fd, IORING_OFF_SQES);
	if (!(u.params.features & IORING_FEAT_SINGLE_MMAP) || u.rings == MAP_FAILED || (void *)u.sqes == MAP_FAILED) {
		close(u.fd);
		return "the rings cannot be mapped";
	}
	io->private = &u;
	return NULL;
}

static void uring_end(struct io *io)
{
	struct uring *u = io->private;

	munmap(u->rings, u->rings_len);
	munmap(u->sqes, FIXED * sizeof(*u->sqes));
	close(u->fd);
}

static bool uring_pin(struct io *io, struct uring *u)
{
	struct iovec iov[FIXED];

	if (u->left > 0)
		return true;
	if (u->pinned && syscall(SYS_io_uring_register, u->fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
		return false;
	if (next(&io->seed) % 8 == 0)
		usleep(1000); /* a THP of which no page is pinned can move */
	for (uint32_t i = 0; i < FIXED; i++) {
		u->fixed[i] = (next(&io->seed) % (BUFFERS / FIXED)) * FIXED + i; /* all different */
		iov[i] = (struct iovec){ buffer(io, u->fixed[i]), BUFFER_BYTES };
	}
	u->left = FIXED_READS;
	u->pinned = !syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_BUFFERS, iov, FIXED);
	return u->pinned;
}

static int uring_read(struct uring *u, int fd, void *buf, uint16_t index, uint64_t offset)
{
	uint32_t *tail = (uint32_t *)(void *)(u->rings + u->params.sq_off.tail),
		 *array = (uint32_t *)(void *)(u->rings + u->params.sq_off.array),
		 *head = (uint32_t *)(void *)(u->rings + u->params.cq_off.head), slot = *tail % u->params.sq_entries;
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(void *)(u->rings + u->params.cq_off.cqes);
	int res;

	u->sqes[slot] = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
					       .fd = fd,
					       .off = offset,
					       .addr = (uint64_t)buf,
					       .len = (uint32_t)BUFFER_BYTES,
					       .buf_index = index };
	array[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, u->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -errno;
	res = cqes[*head % u->params.cq_entries].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

static void uring_one(struct io *io)
{
	struct uring *u = io->private;
	uint64_t first = place_in_file(io), b;
	uint16_t index = (uint16_t)(next(&io->seed) % FIXED);
	int res;

	if (!uring_pin(io, u)) {
		refused(io);
		return;
	}
	u->left--;
	b = u->fixed[index];
	buffer_check(io, b);
	memset(buffer(io, b), 0xee, BUFFER_BYTES);
	res = uring_read(u, io->file, buffer(io, b), index, first * 8);
	if (res != (int)BUFFER_BYTES) {
		errno = res < 0 ? -res : EIO;
		refused(io);
	} else {
		buffer_got(io, b, first, 1);
	}
}

/* ---- pages in pipes: given by vmsplice(), doubled by tee(), carried on by splice(), read some operations later ---- */

#define GIVEN 24UL

struct pipes {
	int in[2], twin[2], out[2];
	uint64_t fifo[GIVEN];		/* buffers */
	uint64_t given, taken;
	uint64_t words[BUFFER_WORDS];
};

static bool pipe_wide(int ends[2])
{
	return !pipe2(ends, O_CLOEXEC) && fcntl(ends[1], F_SETPIPE_SZ, GIVEN * BUFFER_BYTES) >= 0;
}

static const char *pipes_begin(struct io *io)
{
	static struct pipes p;

	p = (struct pipes){ 0 };
	if (!pipe_wide(p.in) || !pipe_wide(p.twin) || !pipe_wide(p.out))
		return strerror(errno);
	io->private = &p;
	return NULL;
}

static bool all(ssize_t n)
{
	return n == (ssize_t)BUFFER_BYTES;
}

/* Nobody writes to it until it is read: as long as the page does not move the pipe would show the writes. */
static bool give(struct io *io, struct pipes *p, uint64_t b)
{
	struct iovec iov = { buffer(io, b), BUFFER_BYTES };

	return all(vmsplice(p->in[1], &iov, 1, 0)) && all(tee(p->in[0], p->twin[1], BUFFER_BYTES, 0)) &&
	       all(splice(p->in[0], NULL, p->out[1], NULL, BUFFER_BYTES, 0));
}

static bool pipe_holds(struct io *io, struct pipes *p, int fd, uint64_t b)
{
	size_t got = 0;

	while (got < BUFFER_BYTES) {
		ssize_t n = read(fd, (char *)p->words + got, BUFFER_BYTES - got);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return pattern_holds(p->words, BUFFER_WORDS, io->content[b].salt);
}

static void take(struct io *io, struct pipes *p)
{
	uint64_t b = p->fifo[p->taken++ % GIVEN];
	bool first = pipe_holds(io, p, p->out[0], b), second = pipe_holds(io, p, p->twin[0], b);

	io->wrong += !first || !second;
	buffer_check(io, b);
}

static void pipes_one(struct io *io)
{
	struct pipes *p = io->private;
	uint64_t b = p->given % BUFFERS, salt = next(&io->seed);

	if (p->given - p->taken == GIVEN) {
		if (salt % 16 == 0)
			usleep(200); /* they lie there while more than a batch passes */
		take(io, p);
	}
	buffer_check(io, b);
	pattern_fill(buffer(io, b), BUFFER_WORDS, salt);
	io->content[b] = (struct content){ .known = true, .salt = salt };
	if (!give(io, p, b)) {
		refused(io);
		return;
	}
	p->fifo[p->given++ % GIVEN] = b;
}

static void pipes_end(struct io *io)
{
	struct pipes *p = io->private;

	while (p->taken < p->given)
		take(io, p);
	for (int i = 0; i < 2; i++) {
		close(p->in[i]);
		close(p->twin[i]);
		close(p->out[i]);
	}
}

static const struct kind kinds[] = {
	{ "O_DIRECT reads", direct_begin, direct_one, NULL },
	{ "process_vm_writev() by another process", NULL, writev_one, NULL },
	{ "recv()", NULL, recv_one, NULL },
	/* from here on frames are not reused */
	{ "reads into fixed buffers of io_uring", uring_begin, uring_one, uring_end },
	{ "pages in pipes", pipes_begin, pipes_one, pipes_end },
};

/* ---- passes ---- */

static const struct pass {
	const char *name;
	bool huge, held;
} passes[] = {
	{ "4 KiB pages", false, false },
	{ "4 KiB pages of migrations held at every step", false, true },
	{ "THPs of migrations held at every step", true, true },
};

/* Those of the buffers that were used and not since checked. */
static void check_all(struct io *io)
{
	for (uint64_t b = 0; b < BUFFERS; b++)
		buffer_check(io, b);
}

static void io_begin(struct io *io, bool huge)
{
	io->nr = io->refused = io->wrong = io->wrong_later = 0;
	io->seed = 88172645463325252ULL;
	io->mem = map_memory(BUFFERS * BUFFER_BYTES, huge);
	memset(io->content, 0, sizeof(io->content));
}

static void io_end(struct io *io, const char *what)
{
	check_all(io);
	munmap(io->mem, BUFFERS * BUFFER_BYTES);
	printf("# %s: %lu operations, %lu refused%s%s, %lu wrong, %lu later\n", what, io->nr, io->refused,
	       io->refused ? ": " : "", io->refused ? strerror(io->err) : "", io->wrong, io->wrong_later);
}

static void run(struct io *io, const struct kind *k, const struct pass *p, uint64_t most)
{
	char sentence[160];
	const char *why;
	uint32_t held = hold_count();
	double began = now();
	bool moved;

	snprintf(sentence, sizeof(sentence), "%s: every word is right, %s", k->name, p->name);
	io_begin(io, p->huge);
	why = k->begin ? k->begin(io) : NULL;
	if (why) {
		printf("ok %d - %s # SKIP %s\n", ++tap_nr, sentence, why);
		return;
	}
	if (p->held)
		hold_set(HOLD_ALL, HOLD_US, 1);
	moving_begin(&io->mover);
	for (; io->nr < most || (!moved_enough(&io->mover) && now() < began + 60); io->nr++) {
		watch(k->name, io->nr);
		k->one(io);
	}
	moved = moving_end(&io->mover, k->name);
	hold_set(0, 0, 1);
	if (k->end)
		k->end(io);
	io_end(io, k->name);
	held = hold_count() - held;
	printf("# %.1f s, held %u times\n", now() - began, held);
	tap(!io->refused && !io->wrong && !io->wrong_later && moved && (!p->held || held >= 10), sentence);
}

/* ---- would they notice? ---- */

/* Only the buffers, for what happens to them is not good. */
static void notices(struct io *io, const struct kind *k, enum hold_bug bug, const char *sentence)
{
	struct range_mover m = { .e = io->mover.e, .nr = BUFFERS * BUFFER_BYTES / GW_PAGE_SIZE };
	double began = now();
	const char *why;

	io_begin(io, false);
	m.mem = io->mem;
	m.opt = (struct gw_migrate_options){ .flags = GW_MIGRATE_NO_STEER, .form = GW_FORM_TRANSACTIONAL, .batch = 32 };
	why = k->begin ? k->begin(io) : NULL;
	if (why) {
		printf("ok %d - %s # SKIP %s\n", ++tap_nr, sentence, why);
		return;
	}
	hold_break(bug);
	hold_set(HOLD_PREPARE, HOLD_US, 1);
	range_moving_begin(&m);
	for (; !io->wrong && !io->wrong_later && now() < began + 10; io->nr++) {
		watch(sentence, io->nr);
		k->one(io);
	}
	range_moving_end(&m);
	hold_set(0, 0, 1);
	hold_break(0);
	if (k->end)
		k->end(io);
	io_end(io, sentence);
	printf("# %.1f s\n", now() - began);
	tap(io->wrong || io->wrong_later, sentence);
}

int main(void)
{
	struct io io = { .file = -1 };
	uint64_t most = long_form() ? 100000 : 1000;

	signal(SIGPIPE, SIG_IGN);
	watchdog_begin(20);
	helper_start(&io.helper);
	io.mover.e = engine_with_nodes(2, 0);
	/* what the helper and the watchdog share shall not hold up anything */
	io.mover.opt = (struct gw_migrate_options){ .flags = GW_MIGRATE_NO_STEER | GW_MIGRATE_BREAK_COW, .batch = 32 };
	hold_install(io.mover.e);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t p = 0; p < sizeof(passes) / sizeof(passes[0]); p++)
			run(&io, &kinds[k], &passes[p], most);
	notices(&io, &kinds[0], HOLD_BUG_NO_LOOK, "O_DIRECT reads that a copy before the move out loses are found");
	notices(&io, &kinds[1], HOLD_BUG_NO_LOOK, "so are writes of process_vm_writev()");
	notices(&io, &kinds[2], HOLD_BUG_NO_LOOK, "so is what recv() brings");
	notices(&io, &kinds[4], HOLD_BUG_RECYCLE, "so are other pages in a pipe when its frames are reused");
	tap(!gw_stop(io.mover.e), "the engine stops");
	helper_end(&io.helper);
	watchdog_end();
	return tap_end();
}

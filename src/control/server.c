/* SPDX-License-Identifier: MIT */
/*
 * The engine's end of the control socket. Everything here runs on the service thread, which also reads
 * the kernel's events: nothing sleeps, nothing allocates, every client has its bounds.
 *
 * A client is in one of three moods: reading a message, waiting for the job it asked for, or being
 * written to. While its output is not taken, or its job runs, nothing but CANCEL is looked at.
 *
 * Clients are not trusted to be few, quick or quiet. Each has a share of the thread's time (share_take),
 * so has the accepting of new ones, and the jobs are counted. When all places are taken the next comer gets
 * that of another (client_spare), but of none whose request is under way. Without such a crowd a client may be
 * as slow as it likes.
 */
#include "control/control.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CLIENTS 16
#define JOBS_AT_ONCE 12	/* of all clients: four places are always left for short questions */
#define TICK_MS 100
#define CROWD_TICK_MS 10	/* while somebody has been put off */
#define SHARE_NS 10000000ULL
#define SHARE_CLIENT 16U	/* readings and messages of one client in SHARE_NS */
#define SHARE_COMERS 16U	/* new connections in SHARE_NS */
#define STAY_NS 250000000ULL	/* that long a client may stay whoever waits: most are gone after 5 ms */
#define LISTING_NS 200000000ULL	/* and that long a listing is kept for one who does not take it */
#define LISTING_BYTES (64UL << 20)
#define LISTING_STEP (1UL << 20)

enum wish { WISH_NONE, WISH_MIGRATE, WISH_MOVE, WISH_AREAS };

/* How much was taken in the current SHARE_NS. */
struct share {
	uint64_t slice;
	uint32_t taken;
};

struct client {
	struct server *server;
	int fd;			/* -1: free */
	uint32_t got;		/* bytes of .in */
	const char *out;	/* what is being written */
	uint64_t out_len, out_at;
	enum wish wish;
	struct gw_job *job;
	bool shut;		/* gone: free it when its job has ended */
	bool put_off;		/* there is more to read: at the next tick */
	struct share share;
	uint64_t came, heard;	/* when: its connection, its last message or the end of its last job */
	uint64_t ticket;	/* its turn among those who wait for a listing; 0: it does not */
	struct ctl_move move;
	void *page[CTL_MOVE_MAX];
	int node[CTL_MOVE_MAX], status[CTL_MOVE_MAX];
	char in[sizeof(struct ctl_header) + CTL_LEN_MAX];
	char reply[sizeof(struct ctl_header) + CTL_LEN_MAX];
};

struct server {
	struct gw_engine *e;
	int fd;
	bool accepting;
	int comer;		/* accepted, without a place yet; -1: none */
	struct share share;
	uint32_t nr_jobs;
	uint32_t tick_ms;
	uint64_t tell_due;
	struct client *lister;	/* whose areas are being listed; one at a time */
	char *listing;		/* LISTING_BYTES of addresses, used as far as a listing needs */
	uint64_t listed, listed_at;
	uint64_t tickets;
	struct client *client;	/* CLIENTS of them */
};

/*
 * What must be known at exit, in a signal or after a fork, when the engine may be gone. In the
 * object's own data, which is never managed.
 */
static struct {
	struct server *server;
	int pid;		/* whose socket path is */
	char base[CTL_PATH_MAX];
	char path[CTL_PATH_MAX];
} here __attribute__((section("gw_data"))) = { .pid = 0 };

static void client_close(struct client *c);
static void client_run(struct client *c);
static void on_tick(struct gw_engine *e, void *arg);

/* ---- time ---- */

static bool share_take(struct share *s, uint32_t most)
{
	uint64_t slice = clock_ns() / SHARE_NS;

	if (s->slice != slice)
		*s = (struct share){ .slice = slice };
	if (s->taken == most)
		return false;
	s->taken++;
	return true;
}

static void tick_set(struct server *s, uint32_t ms)
{
	if (ms == s->tick_ms)
		return;
	s->tick_ms = ms;
	gw_tick(s->e, ms, ms ? on_tick : NULL, s);
}

static void put_off(struct client *c)
{
	c->put_off = true;
	tick_set(c->server, CROWD_TICK_MS);
}

/* ---- writing ---- */

static void listing_end(struct server *s)
{
	s->lister = NULL;
	sys3(SYS_madvise, s->listing, ALIGN_UP(s->listed, 4096), MADV_DONTNEED);
}

static void client_flush(struct client *c)
{
	while (c->out_at < c->out_len) {
		long n = sys6(SYS_sendto, c->fd, SYS_ARG(c->out + c->out_at), SYS_ARG(c->out_len - c->out_at),
			      MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			client_close(c);
			return;
		}
		c->out_at += (uint64_t)n;
	}
	if (c->server->lister == c && !c->job && c->wish == WISH_NONE)
		listing_end(c->server);
}

static void head_fill(struct ctl_header *h, enum ctl_type type, uint32_t len)
{
	*h = (struct ctl_header){ .magic = CTL_MAGIC, .version = CTL_VERSION, .type = (uint16_t)type, .len = len };
}

/* The reply's body starts after its header; this sends what has been put there. */
static void *reply_body(struct client *c)
{
	return c->reply + sizeof(struct ctl_header);
}

static void reply_send(struct client *c, enum ctl_type type, uint32_t len)
{
	head_fill((struct ctl_header *)(void *)c->reply, type, len);
	c->out = c->reply;
	c->out_len = sizeof(struct ctl_header) + len;
	c->out_at = 0;
	client_flush(c);
}

static void reply_error(struct client *c, int err, const char *text)
{
	struct ctl_error *body = reply_body(c);

	*body = (struct ctl_error){ .err = err };
	str_cat(body->text, sizeof(body->text), text);
	reply_send(c, CTL_ERROR, sizeof(*body));
}

/* ---- jobs ---- */

/* Jobs are looked after by the clock: their ends are seen at the next tick, or at once by the kick. */
static int job_kicked(struct gw_engine *e, void *arg)
{
	on_tick(e, arg);
	return 0;
}

static void kick(void *arg)
{
	struct server *s = arg;

	gw_post(s->e, job_kicked, s);
}

static const char too_many[] = "too many requests at once: try again";

static bool job_begun(struct client *c, enum wish wish, int err)
{
	if (err) {
		reply_error(c, err,
			    err == -EAGAIN   ? too_many
			    : err == -EINVAL ? "no such node"
					     : "cannot start");
		c->job = NULL;
		return false;
	}
	c->wish = wish;
	if (!c->server->nr_jobs++)
		c->server->tell_due = clock_ns() + TICK_MS * 1000000ULL;
	if (!c->server->tick_ms)
		tick_set(c->server, TICK_MS);
	return true;
}

static void job_over(struct client *c)
{
	gw_job_end(c->job);
	c->job = NULL;
	c->wish = WISH_NONE;
	c->heard = clock_ns();
	c->server->nr_jobs--;
}

static void finish_migrate(struct client *c)
{
	struct gw_migrate_result *res = reply_body(c);
	int err;

	gw_job_progress(c->job, res);
	err = res->error;
	job_over(c);
	if (err)
		reply_error(c, err, "migration failed");
	else
		reply_send(c, CTL_RESULT, sizeof(*res));
}

static void finish_move(struct client *c)
{
	struct ctl_status *body = reply_body(c);
	struct gw_migrate_result res;

	gw_job_progress(c->job, &res);
	job_over(c);
	if (res.error) {
		reply_error(c, res.error, "move failed");
		return;
	}
	*body = (struct ctl_status){ .count = c->move.count };
	for (uint32_t i = 0; i < c->move.count; i++)
		body->ret += c->move.query ? 0 : c->status[i] != c->node[i];
	memcpy(body + 1, c->status, c->move.count * sizeof(int));
	reply_send(c, CTL_STATUS, (uint32_t)(sizeof(*body) + c->move.count * sizeof(int)));
}

static void finish_areas(struct client *c)
{
	struct server *s = c->server;
	struct gw_migrate_result res;

	gw_job_progress(c->job, &res);
	job_over(c);
	if (res.error) {
		listing_end(s);
		reply_error(c, res.error, "the mappings cannot be listed");
		return;
	}
	s->listed_at = clock_ns();
	head_fill((struct ctl_header *)(void *)(s->listing + s->listed), CTL_AREAS_END, 0);
	s->listed += sizeof(struct ctl_header);
	c->out = s->listing;
	c->out_len = s->listed;
	c->out_at = 0;
	client_flush(c);
}

static void finish(struct client *c)
{
	if (c->shut) {
		job_over(c);
		if (c->server->lister == c)
			listing_end(c->server);
		c->shut = false;
	} else if (c->wish == WISH_MIGRATE) {
		finish_migrate(c);
	} else if (c->wish == WISH_MOVE) {
		finish_move(c);
	} else {
		finish_areas(c);
	}
}

static void tell_progress(struct client *c)
{
	if (c->wish != WISH_MIGRATE || c->shut || c->out_at < c->out_len)
		return;
	gw_job_progress(c->job, reply_body(c));
	reply_send(c, CTL_PROGRESS, sizeof(struct gw_migrate_result));
}

static void look_after(struct client *c, bool tell)
{
	bool more = c->put_off;

	if (c->job && gw_job_progress(c->job, NULL) && (c->shut || c->out_at == c->out_len)) {
		finish(c);
		more = true;
	} else if (c->job && tell) {
		tell_progress(c);
	}
	c->put_off = false;
	if (more)
		client_run(c);
}

static void comer_settle(struct server *s);

static void on_tick(struct gw_engine *e, void *arg)
{
	struct server *s = arg;
	uint64_t now = clock_ns();
	bool tell = now >= s->tell_due, crowd;

	(void)e;
	if (tell)
		s->tell_due = now + TICK_MS * 1000000ULL;
	for (int i = 0; i < CLIENTS; i++)
		look_after(&s->client[i], tell);
	if (!s->accepting && s->fd >= 0)
		comer_settle(s);
	crowd = !s->accepting && s->fd >= 0;
	for (int i = 0; i < CLIENTS; i++)
		crowd |= s->client[i].put_off;
	tick_set(s, crowd ? CROWD_TICK_MS : s->nr_jobs ? TICK_MS : 0);
}

/* ---- requests ---- */

/* The program's name now: of its first thread, not of ours. */
static void comm_read(char *buf, size_t len)
{
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC, 0), n;

	if (fd < 0)
		return;
	n = sys3(SYS_read, fd, buf, len - 1);
	buf[n > 0 ? n - (buf[n - 1] == '\n') : 0] = '\0';
	sys1(SYS_close, fd);
}

static void ask_hello(struct client *c)
{
	struct ctl_hello *body = reply_body(c);
	struct gw_engine *e = c->server->e;

	*body = (struct ctl_hello){ .pid = (uint32_t)here.pid, .nr_nodes = (uint32_t)gw_node_count(e) };
	comm_read(body->comm, sizeof(body->comm));
	for (uint32_t i = 0; i < body->nr_nodes; i++)
		gw_node_get(e, (int)i, &body->node[i]);
	reply_send(c, CTL_HELLO_OK, sizeof(*body));
}

static void ask_stat(struct client *c)
{
	struct ctl_stat *body = reply_body(c);
	struct gw_engine *e = c->server->e;

	_Static_assert(sizeof(*body) <= CTL_LEN_MAX, "fits a message");
	memset(body, 0, sizeof(*body));
	body->nr_nodes = (uint32_t)gw_node_count(e);
	body->stats.size = sizeof(body->stats);
	for (uint32_t i = 0; i < body->nr_nodes; i++)
		gw_node_get(e, (int)i, &body->node[i]);
	gw_stats(e, &body->stats);
	reply_send(c, CTL_STAT_OK, sizeof(*body));
}

/* On the job's thread; the client is not written to until the job is over. */
static int list_area(const struct gw_area *area, void *arg)
{
	struct server *s = arg;
	const uint32_t len = sizeof(struct ctl_header) + sizeof(struct ctl_area);

	if (s->listed + len + sizeof(struct ctl_header) > LISTING_BYTES)
		return -E2BIG;
	head_fill((struct ctl_header *)(void *)(s->listing + s->listed), CTL_AREA, sizeof(struct ctl_area));
	memcpy(s->listing + s->listed + sizeof(struct ctl_header), area, sizeof(*area));
	s->listed += len;
	return 0;
}

/* One listing at a time, in the order in which they were asked for. */
static bool listing_turn(struct client *c)
{
	struct server *s = c->server;

	if (!c->ticket)
		c->ticket = ++s->tickets;
	if (s->lister && !s->lister->job && clock_ns() - s->listed_at > LISTING_NS)
		client_close(s->lister);
	for (int i = 0; i < CLIENTS; i++)
		if (s->client[i].fd >= 0 && s->client[i].ticket && s->client[i].ticket < c->ticket)
			return false;
	if (s->lister)
		return false;
	c->ticket = 0;
	return true;
}

static void ask_areas(struct client *c)
{
	struct server *s = c->server;

	if (!s->listing)
		s->listing = gw_memory(s->e, LISTING_BYTES);
	if (!s->listing) {
		reply_error(c, -ENOMEM, "no memory to list the mappings in");
		return;
	}
	s->lister = c;
	s->listed = 0;
	if (!job_begun(c, WISH_AREAS, gw_job_areas(s->e, list_area, s, kick, s, &c->job)))
		s->lister = NULL;
}

static void ask_migrate(struct client *c, const struct ctl_migrate *m)
{
	job_begun(c, WISH_MIGRATE, gw_job_migrate(c->server->e, m->from, m->to, &m->opt, kick, c->server, &c->job));
}

static void ask_move(struct client *c, const struct ctl_move *m, uint32_t len)
{
	const struct ctl_move_entry *entry = (const void *)(m + 1);

	if (m->count > CTL_MOVE_MAX || len != sizeof(*m) + m->count * sizeof(*entry)) {
		reply_error(c, -EINVAL, "a list of pages that does not fit its length");
		return;
	}
	c->move = *m;
	for (uint32_t i = 0; i < m->count; i++) {
		c->page[i] = (void *)entry[i].addr;
		c->node[i] = entry[i].node;
		c->status[i] = -ENOENT;
	}
	job_begun(c, WISH_MOVE,
		  gw_job_move(c->server->e, m->count, c->page, m->query ? NULL : c->node, c->status, &m->opt, kick,
			      c->server, &c->job));
}

static bool options_fit(const struct gw_migrate_options *opt)
{
	return opt->size <= sizeof(*opt) && opt->form <= GW_FORM_TRANSACTIONAL;
}

/* Those whose job has ended, and who do not take what they were told before, have been waited for long enough. */
static bool jobs_are_many(struct server *s)
{
	if (s->nr_jobs < JOBS_AT_ONCE)
		return false;
	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &s->client[i];

		if (c->fd >= 0 && c->job && c->out_at < c->out_len && gw_job_progress(c->job, NULL))
			client_close(c);
	}
	return true;
}

static bool wants_job(const struct ctl_header *h)
{
	return h->type == CTL_AREAS || h->type == CTL_MIGRATE || h->type == CTL_MOVE;
}

static void ask(struct client *c, const struct ctl_header *h, const void *body)
{
	const struct ctl_migrate *migrate = body;
	const struct ctl_move *move = body;

	if (wants_job(h) && jobs_are_many(c->server))
		reply_error(c, -EAGAIN, too_many);
	else if (h->type == CTL_HELLO && !h->len)
		ask_hello(c);
	else if (h->type == CTL_STAT && !h->len)
		ask_stat(c);
	else if (h->type == CTL_AREAS && !h->len)
		ask_areas(c);
	else if (h->type == CTL_MIGRATE && h->len == sizeof(*migrate) && options_fit(&migrate->opt))
		ask_migrate(c, migrate);
	else if (h->type == CTL_MOVE && h->len >= sizeof(*move) && options_fit(&move->opt))
		ask_move(c, move, h->len);
	else if (h->type != CTL_CANCEL)
		reply_error(c, -EPROTO, "a request that this engine does not know");
}

/* ---- reading ---- */

static void client_drop_input(struct client *c, uint32_t len)
{
	c->got -= len;
	memmove(c->in, c->in + len, c->got);
}

/* One message of the input, if it is whole and its turn has come. False: nothing more to do now. */
static bool client_message(struct client *c)
{
	struct ctl_header h;
	bool busy = c->job || c->out_at < c->out_len;

	if (c->got < sizeof(h))
		return false;
	memcpy(&h, c->in, sizeof(h));
	if (h.magic != CTL_MAGIC || h.version != CTL_VERSION || h.len > CTL_LEN_MAX) {
		client_close(c);
		return false;
	}
	if (c->got < sizeof(h) + h.len)
		return false;
	if (busy && h.type != CTL_CANCEL)
		return false;
	if (!share_take(&c->share, SHARE_CLIENT) || (h.type == CTL_AREAS && !h.len && !listing_turn(c))) {
		put_off(c);
		return false;
	}
	c->heard = clock_ns();
	if (h.type == CTL_CANCEL && c->job)
		gw_job_cancel(c->job);
	else
		ask(c, &h, c->in + sizeof(h));
	if (c->fd < 0)
		return false;
	client_drop_input(c, (uint32_t)sizeof(h) + h.len);
	return true;
}

/* Read and answer until there is nothing more to read, or the turn is not the client's, or its share is used up. */
static void client_run(struct client *c)
{
	while (c->fd >= 0 && !c->put_off) {
		uint64_t room = sizeof(c->in) - c->got;
		long n = sys6(SYS_recvfrom, c->fd, SYS_ARG(c->in + c->got), SYS_ARG(room), MSG_DONTWAIT, 0, 0);

		if (room && (!n || (n < 0 && n != -EAGAIN))) {
			client_close(c);
			return;
		}
		c->got += n > 0 ? (uint32_t)n : 0;
		if (n > 0 && !share_take(&c->share, SHARE_CLIENT))
			put_off(c);
		else if (!client_message(c) && n <= 0)
			return;
	}
}

/* Asked again: the event may have been for who had the descriptor before. */
static bool peer_gone(int fd)
{
	struct pollfd p = { .fd = fd };

	return sys3(SYS_poll, &p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

static void on_client(struct gw_engine *e, uint32_t events, void *arg)
{
	struct client *c = arg;

	(void)e;
	/* a full buffer of input must not hide that nobody waits for the job any more */
	if (events & (EPOLLHUP | EPOLLERR) && c->fd >= 0 && peer_gone(c->fd))
		client_close(c);
	if (events & EPOLLOUT && c->fd >= 0)
		client_flush(c);
	client_run(c);
}

/* ---- clients come and go ---- */

static void client_close(struct client *c)
{
	struct server *s = c->server;

	gw_unwatch(s->e, c->fd);
	sys1(SYS_close, c->fd);
	c->fd = -1;
	if (c->job) {
		gw_job_cancel(c->job);
		c->shut = true; /* the tick ends it: waiting for the batch here would keep events waiting */
	} else if (s->lister == c) {
		listing_end(s);
	}
}

static bool peer_allowed(int fd)
{
	struct ucred peer = { .uid = ~0U };
	uint32_t len = sizeof(peer);

	if (sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == 0 || peer.uid == (uint32_t)sys0(SYS_geteuid);
}

static struct client *client_free(struct server *s)
{
	for (int i = 0; i < CLIENTS; i++)
		if (s->client[i].fd < 0 && !s->client[i].job)
			return &s->client[i];
	return NULL;
}

static bool asks_too_much(const struct client *c)
{
	return c->share.taken >= SHARE_CLIENT;
}

static bool rather_goes(const struct client *a, const struct client *b)
{
	return asks_too_much(a) != asks_too_much(b) ? asks_too_much(a) : a->heard < b->heard;
}

/*
 * Whose place another may have: no request of its own is under way; of those one that has used up its share,
 * which a good client never does, else the one silent for longest.
 */
static struct client *client_spare(struct server *s)
{
	struct client *spare = NULL;
	uint64_t now = clock_ns();

	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &s->client[i];
		bool rests = c->fd >= 0 && (!c->job || gw_job_progress(c->job, NULL));

		if (rests && now - c->came >= STAY_NS && (!spare || rather_goes(c, spare)))
			spare = c;
	}
	return spare;
}

static void client_begin(struct client *c, struct server *s, int fd)
{
	c->server = s;
	c->got = 0;
	c->out_len = c->out_at = 0;
	c->wish = WISH_NONE;
	c->shut = c->put_off = false;
	c->share = (struct share){ 0 };
	c->came = c->heard = clock_ns();
	c->ticket = 0;
	c->fd = fd;
	if (gw_watch(s->e, fd, EPOLLIN | EPOLLOUT | EPOLLET, on_client, c)) {
		sys1(SYS_close, fd);
		c->fd = -1;
	}
}

static void on_listen(struct gw_engine *e, uint32_t events, void *arg);

/* A place for the comer, and then for the next. Without one both wait, and the next tick tries again. */
static void comer_settle(struct server *s)
{
	struct client *c = client_free(s);

	if (s->comer >= 0 && !c) {
		c = client_spare(s);
		if (c)
			client_close(c);
		c = client_free(s);
	}
	if (s->comer >= 0 && !c)
		return;
	if (s->comer >= 0)
		client_begin(c, s, s->comer);
	s->comer = -1;
	if (!s->accepting)
		s->accepting = !gw_watch(s->e, s->fd, EPOLLIN, on_listen, s);
}

static void listen_pause(struct server *s)
{
	gw_unwatch(s->e, s->fd);
	s->accepting = false;
	tick_set(s, CROWD_TICK_MS);
}

static void on_listen(struct gw_engine *e, uint32_t events, void *arg)
{
	struct server *s = arg;
	struct client *spare;
	int fd;

	(void)e;
	(void)events;
	if (!s->accepting)
		return;
	if (!share_take(&s->share, SHARE_COMERS)) {
		listen_pause(s);
		return;
	}
	fd = (int)sys4(SYS_accept4, s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd == -EAGAIN)
		return;
	if (fd < 0) { /* the program's limit of descriptors: one of ours has to go, and not in a hurry */
		spare = client_spare(s);
		if (spare)
			client_close(spare);
		listen_pause(s);
		return;
	}
	if (!peer_allowed(fd)) {
		sys1(SYS_close, fd);
		return;
	}
	s->comer = fd;
	comer_settle(s);
	if (s->comer >= 0)
		listen_pause(s);
}

/* ---- the socket ---- */

#define SO_PASSRIGHTS_ 83	/* Linux 6.16; not in the headers of Debian 12 and 13 */

/* A socket of that name can only be an earlier life of this pid: the directory is ours alone. */
static int socket_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	long fd = sys3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;
	int none = 0;

	if (fd < 0)
		return (int)fd;
	memcpy(addr.sun_path, here.path, sizeof(addr.sun_path));
	/*
	 * Nobody else's from its first moment on, and descriptors are not taken: the last close of one may wait.
	 * (Before Linux 6.16 they are, and closed.) The second chmod is for an umask that takes from the owner.
	 */
	sys2(SYS_fchmod, fd, 0600);
	sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_PASSRIGHTS_, &none, sizeof(none));
	sys1(SYS_unlink, here.path);
	err = sys3(SYS_bind, fd, &addr, sizeof(addr));
	if (err >= 0)
		err = sys2(SYS_chmod, here.path, 0600);
	if (err >= 0)
		err = sys2(SYS_listen, fd, CLIENTS);
	if (err < 0) {
		sys1(SYS_close, fd);
		return (int)err;
	}
	return (int)fd;
}

static int server_open(struct gw_engine *e, void *arg)
{
	struct server *s = here.server ? here.server : gw_memory(e, sizeof(*s));
	char dir[CTL_PATH_MAX];
	int pid = (int)sys0(SYS_getpid), err;

	(void)arg;
	if (!s)
		return -ENOMEM;
	if (!s->client)
		s->client = gw_memory(e, CLIENTS * sizeof(*s->client));
	if (!s->client)
		return -ENOMEM;
	for (int i = 0; i < CLIENTS; i++) {
		s->client[i].fd = -1;
		s->client[i].job = NULL;
	}
	s->e = e;
	s->fd = -1;
	s->accepting = false;
	s->nr_jobs = 0;
	s->tick_ms = 0;
	s->comer = -1;
	s->lister = NULL;
	here.server = s;
	here.pid = 0; /* in a forked child the path is still the parent's */
	err = ctl_runtime_dir(dir, sizeof(dir), here.base, (uint32_t)sys0(SYS_geteuid), true);
	if (!err)
		err = ctl_socket_path(here.path, sizeof(here.path), here.base, pid);
	if (err)
		return err;
	here.pid = pid;
	s->fd = socket_open();
	if (s->fd < 0)
		return s->fd;
	s->accepting = true;
	return gw_watch(e, s->fd, EPOLLIN, on_listen, s);
}

int gw_control_open(struct gw_engine *e)
{
	int err = ctl_runtime_base(here.base, sizeof(here.base), getenv("XDG_RUNTIME_DIR"),
				   (uint32_t)sys0(SYS_geteuid));

	return err ? err : gw_call(e, server_open, NULL);
}

static int server_close(struct gw_engine *e, void *arg)
{
	struct server *s = here.server;

	(void)arg;
	if (!s)
		return 0;
	for (int i = 0; i < CLIENTS; i++)
		if (s->client[i].fd >= 0)
			client_close(&s->client[i]);
	if (s->accepting)
		gw_unwatch(e, s->fd);
	if (s->comer >= 0)
		sys1(SYS_close, s->comer);
	sys1(SYS_close, s->fd);
	s->fd = s->comer = -1;
	s->accepting = false;
	tick_set(s, 0);
	gw_control_unlink();
	here.server = NULL;
	return 0;
}

int gw_control_close(struct gw_engine *e)
{
	return gw_call(e, server_close, NULL);
}

void gw_control_unlink(void)
{
	if (here.pid && here.pid == (int)sys0(SYS_getpid))
		sys1(SYS_unlink, here.path);
}

/* SPDX-License-Identifier: MIT */
/*
 * The engine's end of the control socket. Everything here runs on the service thread, which also reads
 * the kernel's events: nothing sleeps, nothing allocates, every client has its bounds.
 *
 * A client is in one of three moods: reading a message, waiting for the job it asked for, or being
 * written to. While its output is not taken, or its job runs, nothing but CANCEL is looked at.
 */
#include "control/control.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CLIENTS 16
#define TICK_MS 100
#define LISTING_BYTES (64UL << 20)
#define LISTING_STEP (1UL << 20)

enum wish { WISH_NONE, WISH_MIGRATE, WISH_MOVE, WISH_AREAS };

struct client {
	struct server *server;
	int fd;			/* -1: free */
	uint32_t got;		/* bytes of .in */
	const char *out;	/* what is being written */
	uint64_t out_len, out_at;
	enum wish wish;
	struct gw_job *job;
	bool shut;		/* gone: free it when its job has ended */
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
	uint32_t nr_jobs;
	struct client *lister;	/* whose areas are being listed; one at a time */
	char *listing;		/* LISTING_BYTES of addresses, used as far as a listing needs */
	uint64_t listed;
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

/* ---- writing ---- */

static void client_close(struct client *c);
static void client_run(struct client *c);

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
	if (c->server->lister == c && !c->job && c->wish == WISH_NONE) {
		/* the listing has been taken: its memory goes back */
		c->server->lister = NULL;
		sys3(SYS_madvise, c->server->listing, ALIGN_UP(c->server->listed, 4096), MADV_DONTNEED);
	}
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

static void on_tick(struct gw_engine *e, void *arg);

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

static bool job_begun(struct client *c, enum wish wish, int err)
{
	if (err) {
		reply_error(c, err,
			    err == -EAGAIN   ? "too many requests at once: try again"
			    : err == -EINVAL ? "no such node"
					     : "cannot start");
		c->job = NULL;
		return false;
	}
	c->wish = wish;
	if (!c->server->nr_jobs++)
		gw_tick(c->server->e, TICK_MS, on_tick, c->server);
	return true;
}

static void job_over(struct client *c)
{
	gw_job_end(c->job);
	c->job = NULL;
	c->wish = WISH_NONE;
	if (!--c->server->nr_jobs)
		gw_tick(c->server->e, 0, NULL, NULL);
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
		s->lister = NULL;
		reply_error(c, res.error, "the mappings cannot be listed");
		return;
	}
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
			c->server->lister = NULL;
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

static void on_tick(struct gw_engine *e, void *arg)
{
	struct server *s = arg;

	(void)e;
	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &s->client[i];

		if (!c->job)
			continue;
		if (!gw_job_progress(c->job, NULL)) {
			tell_progress(c);
		} else if (c->shut || c->out_at == c->out_len) {
			finish(c);
			client_run(c);
		}
	}
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

static void ask_areas(struct client *c)
{
	struct server *s = c->server;

	if (!s->listing)
		s->listing = gw_memory(s->e, LISTING_BYTES);
	if (!s->listing || s->lister) {
		reply_error(c, s->listing ? -EAGAIN : -ENOMEM,
			    "the mappings are being listed for another client: try again");
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

static void ask(struct client *c, const struct ctl_header *h, const void *body)
{
	const struct ctl_migrate *migrate = body;
	const struct ctl_move *move = body;

	if (h->type == CTL_HELLO && !h->len)
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
	if (h.type == CTL_CANCEL && c->job)
		gw_job_cancel(c->job);
	else
		ask(c, &h, c->in + sizeof(h));
	if (c->fd < 0)
		return false;
	client_drop_input(c, (uint32_t)sizeof(h) + h.len);
	return true;
}

/* Read and answer until there is nothing more to read, or the turn is not the client's. */
static void client_run(struct client *c)
{
	while (c->fd >= 0) {
		uint64_t room = sizeof(c->in) - c->got;
		long n = sys6(SYS_recvfrom, c->fd, SYS_ARG(c->in + c->got), SYS_ARG(room), MSG_DONTWAIT, 0, 0);

		if (room && (!n || (n < 0 && n != -EAGAIN))) {
			client_close(c);
			return;
		}
		c->got += n > 0 ? (uint32_t)n : 0;
		if (!client_message(c) && n <= 0)
			return;
	}
}

static void on_client(struct gw_engine *e, uint32_t events, void *arg)
{
	struct client *c = arg;

	(void)e;
	if (events & EPOLLOUT && c->fd >= 0)
		client_flush(c);
	client_run(c);
}

/* ---- clients come and go ---- */

static void on_listen(struct gw_engine *e, uint32_t events, void *arg);

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
		s->lister = NULL;
	}
	if (!s->accepting && !gw_watch(s->e, s->fd, EPOLLIN, on_listen, s))
		s->accepting = true;
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

static void on_listen(struct gw_engine *e, uint32_t events, void *arg)
{
	struct server *s = arg;
	struct client *c = client_free(s);
	int fd;

	(void)events;
	if (!c) { /* full: whoever comes waits in the queue until one goes */
		gw_unwatch(e, s->fd);
		s->accepting = false;
		return;
	}
	fd = (int)sys4(SYS_accept4, s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	c->server = s;
	c->got = 0;
	c->out_len = c->out_at = 0;
	c->wish = WISH_NONE;
	c->shut = false;
	c->fd = fd;
	if (!peer_allowed(fd) || gw_watch(e, fd, EPOLLIN | EPOLLOUT | EPOLLET, on_client, c)) {
		sys1(SYS_close, fd);
		c->fd = -1;
	}
}

/* ---- the socket ---- */

/* A socket of that name can only be an earlier life of this pid: the directory is ours alone. */
static int socket_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	long fd = sys3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

	if (fd < 0)
		return (int)fd;
	memcpy(addr.sun_path, here.path, sizeof(addr.sun_path));
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
	sys1(SYS_close, s->fd);
	gw_tick(e, 0, NULL, NULL);
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

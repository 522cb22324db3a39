/* SPDX-License-Identifier: MIT */
/*
 * The control socket and its places.
 *
 * Clients are not trusted to be few, quick or quiet. Each has a share of the thread's time (share_take),
 * so has the accepting of new ones, and the jobs are counted. When all places are taken the next comer gets
 * that of another (client_spare), but of none whose request is under way. Without such a crowd a client may be
 * as slow as it likes.
 */
#include "control/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * What must be known at exit, in a signal or after a fork, when the engine may be gone. In the
 * object's own data, which is never managed.
 */
static struct {
	struct server *server;
	int pid; /* whose socket path is */
	char base[CTL_PATH_MAX];
	char path[CTL_PATH_MAX];
} here __attribute__((section("gw_data"))) = { .pid = 0 };

/* ---- time ---- */

bool share_take(struct share *s, uint32_t most)
{
	uint64_t slice = clock_ns() / SHARE_NS;

	if (s->slice != slice)
		*s = (struct share){ .slice = slice };
	if (s->taken == most)
		return false;
	s->taken++;
	return true;
}

void tick_set(struct server *s, uint32_t ms)
{
	if (ms == s->tick_ms)
		return;
	s->tick_ms = ms;
	gw_tick(s->e, ms, ms ? server_tick : NULL, s);
}

void put_off(struct client *c)
{
	c->put_off = true;
	tick_set(c->server, CROWD_TICK_MS);
}

/* ---- clients come and go ---- */

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
	return c->share.taken >= (c->calls ? SHARE_CALLER : SHARE_CLIENT);
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

void server_tick(struct gw_engine *e, void *arg)
{
	struct server *s = arg;
	uint64_t now = clock_ns();
	bool tell = now >= s->tell_due, crowd;

	(void)e;
	if (tell)
		s->tell_due = now + TICK_MS * 1000000ULL;
	for (int i = 0; i < CLIENTS; i++)
		look_after(&s->client[i], tell);
	group_look_after(s);
	if (!s->accepting && s->fd >= 0)
		comer_settle(s);
	crowd = !s->accepting && s->fd >= 0;
	for (int i = 0; i < CLIENTS; i++)
		crowd |= s->client[i].put_off;
	tick_set(s, crowd ? CROWD_TICK_MS : s->nr_jobs ? TICK_MS : 0);
}

/* ---- the socket ---- */

#define SO_PASSRIGHTS_ 83 /* Linux 6.16; not in the headers of Debian 12 and 13 */

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
	s->own = NULL;
	here.server = s;
	here.pid = 0; /* in a forked child the path is still the parent's */
	err = ctl_runtime_dir(dir, sizeof(dir), here.base, (uint32_t)sys0(SYS_geteuid), true);
	if (!err)
		err = ctl_socket_path(here.path, sizeof(here.path), here.base, pid);
	if (err)
		return err;
	here.pid = s->pid = pid;
	s->fd = socket_open();
	if (s->fd < 0)
		return s->fd;
	s->accepting = true;
	err = gw_watch(e, s->fd, EPOLLIN, on_listen, s);
	if (!err)
		group_join(s, dir);
	return err;
}

int gw_control_open_at(struct gw_engine *e, const char *runtime_dir)
{
	int err = ctl_runtime_base(here.base, sizeof(here.base), runtime_dir, (uint32_t)sys0(SYS_geteuid));

	return err ? err : gw_call(e, server_open, NULL);
}

int gw_control_open(struct gw_engine *e)
{
	return gw_control_open_at(e, getenv("XDG_RUNTIME_DIR"));
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
	if (!here.pid || here.pid != (int)sys0(SYS_getpid))
		return;
	group_exit();
	sys1(SYS_unlink, here.path);
}
/* SPDX-License-Identifier: MIT */
/*
 * One client. It is in one of three moods: reading a message, waiting for the job it asked for, or being
 * written to. While its output is not taken, or its job runs, nothing but CANCEL is looked at.
 */
#include "control/server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* ---- writing ---- */

void listing_end(struct server *s)
{
	s->lister = NULL;
	sys3(SYS_madvise, s->listing, ALIGN_UP(s->listed, 4096), MADV_DONTNEED);
}

void client_flush(struct client *c)
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

void head_fill(struct ctl_header *h, enum ctl_type type, uint32_t len)
{
	*h = (struct ctl_header){ .magic = CTL_MAGIC, .version = CTL_VERSION, .type = (uint16_t)type, .len = len };
}

/* The reply's body starts after its header; this sends what has been put there. */
void *reply_body(struct client *c)
{
	return c->reply + sizeof(struct ctl_header);
}

void reply_send(struct client *c, enum ctl_type type, uint32_t len)
{
	head_fill((struct ctl_header *)(void *)c->reply, type, len);
	c->out = c->reply;
	c->out_len = sizeof(struct ctl_header) + len;
	c->out_at = 0;
	client_flush(c);
}

void reply_error(struct client *c, int err, const char *text)
{
	struct ctl_error *body = reply_body(c);

	*body = (struct ctl_error){ .err = err };
	str_cat(body->text, sizeof(body->text), text);
	reply_send(c, CTL_ERROR, sizeof(*body));
}

/* ---- it goes ---- */

void client_close(struct client *c)
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

/* ---- reading ---- */

static void client_drop_input(struct client *c, uint32_t len)
{
	c->got -= len;
	memmove(c->in, c->in + len, c->got);
}

static bool turn_take(struct client *c)
{
	return share_take(&c->share, c->calls ? SHARE_CALLER : SHARE_CLIENT);
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
	if (!turn_take(c) || (h.type == CTL_AREAS && !h.len && !listing_turn(c))) {
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
void client_run(struct client *c)
{
	while (c->fd >= 0 && !c->put_off) {
		uint64_t room = sizeof(c->in) - c->got;
		long n = sys6(SYS_recvfrom, c->fd, SYS_ARG(c->in + c->got), SYS_ARG(room), MSG_DONTWAIT, 0, 0);

		if (room && (!n || (n < 0 && n != -EAGAIN))) {
			client_close(c);
			return;
		}
		c->got += n > 0 ? (uint32_t)n : 0;
		if (n > 0 && !turn_take(c))
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

void client_begin(struct client *c, struct server *s, int fd)
{
	c->server = s;
	c->got = 0;
	c->out_len = c->out_at = 0;
	c->wish = WISH_NONE;
	c->shut = c->put_off = c->calls = false;
	c->share = (struct share){ 0 };
	c->came = c->heard = clock_ns();
	c->ticket = 0;
	c->fd = fd;
	if (gw_watch(s->e, fd, EPOLLIN | EPOLLOUT | EPOLLET, on_client, c)) {
		sys1(SYS_close, fd);
		c->fd = -1;
	}
}

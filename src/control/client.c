/* SPDX-License-Identifier: MIT */
/*
 * The client's end of the control socket. Never blocks longer than its timeout, and believes nothing
 * that the other end says before it has checked it: the engine may be another user's, or broken.
 * Raw system calls: inside a managed process it runs on threads that have no errno.
 */
#include "control.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

_Static_assert(sizeof(struct ctl_stat) <= CTL_LEN_MAX, "STAT_OK fits in a message");
_Static_assert(sizeof(struct ctl_move) + CTL_MOVE_MAX * sizeof(struct ctl_move_entry) <= CTL_LEN_MAX,
	       "MOVE fits in a message");

static int64_t now_ms(void)
{
	struct timespec ts = { 0 };

	sys2(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Wait until fd is ready for events (POLLIN, POLLOUT), or broken; -ETIMEDOUT at the deadline. */
static int wait_ready(int fd, short events, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int64_t left = deadline - now_ms();
		long nr = sys3(SYS_poll, &pfd, 1, left > 0 ? (int)left : 0);

		if (nr > 0)
			return 0;
		if (nr < 0 && nr != -EINTR)
			return (int)nr;
		if (nr == 0 && left <= 0)
			return -ETIMEDOUT;
	}
}

/* ---------------------------------------------------------------- bytes ---- */

static int read_exactly(struct ctl_client *c, void *buf, size_t len, int64_t deadline)
{
	unsigned char *at = buf;

	while (len > 0) {
		long nr = sys6(SYS_recvfrom, c->fd, SYS_ARG(at), SYS_ARG(len), 0, 0, 0);

		if (nr > 0) {
			at += nr;
			len -= (size_t)nr;
			continue;
		}
		if (nr == 0 || nr == -ECONNRESET)
			return -ECONNRESET;
		if (nr == -EAGAIN) {
			int err = wait_ready(c->fd, POLLIN, deadline);

			if (err)
				return err;
		} else if (nr != -EINTR) {
			return (int)nr;
		}
	}
	return 0;
}

/* Take nr bytes that were sent off the front of the vector. */
static void iov_advance(struct msghdr *mh, size_t nr)
{
	while (mh->msg_iovlen > 0 && nr >= mh->msg_iov->iov_len) {
		nr -= mh->msg_iov->iov_len;
		mh->msg_iov++;
		mh->msg_iovlen--;
	}
	if (mh->msg_iovlen > 0) {
		mh->msg_iov->iov_base = (char *)mh->msg_iov->iov_base + nr;
		mh->msg_iov->iov_len -= nr;
	}
}

int ctl_send(struct ctl_client *c, enum ctl_type type, const struct iovec *part, int nr_parts)
{
	struct ctl_header head = { .magic = CTL_MAGIC, .version = CTL_VERSION, .type = (uint16_t)type };
	struct iovec iov[3] = { { .iov_base = &head, .iov_len = sizeof(head) } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 1 };
	int64_t deadline = now_ms() + c->timeout_ms;

	for (int i = 0; i < nr_parts && i < 2; i++) {
		iov[mh.msg_iovlen++] = part[i];
		head.len += (uint32_t)part[i].iov_len;
	}
	while (mh.msg_iovlen > 0) {
		long nr = sys3(SYS_sendmsg, c->fd, &mh, MSG_NOSIGNAL);

		if (nr >= 0) {
			iov_advance(&mh, (size_t)nr);
		} else if (nr == -EAGAIN) {
			int err = wait_ready(c->fd, POLLOUT, deadline);

			if (err)
				return err;
		} else if (nr == -EPIPE || nr == -ECONNRESET) {
			return -ECONNRESET;
		} else if (nr != -EINTR) {
			return (int)nr;
		}
	}
	return 0;
}

/* ---------------------------------------------------------------- checks ---- */

/* What an engine may send, and how long it is; STATUS says its own length. */
static const struct {
	enum ctl_type type;
	size_t len;
} answers[] = {
	{ CTL_HELLO_OK, sizeof(struct ctl_hello) },
	{ CTL_STAT_OK, sizeof(struct ctl_stat) },
	{ CTL_AREA, sizeof(struct ctl_area) },
	{ CTL_AREAS_END, 0 },
	{ CTL_PROGRESS, sizeof(struct gw_migrate_result) },
	{ CTL_RESULT, sizeof(struct gw_migrate_result) },
	{ CTL_ERROR, sizeof(struct ctl_error) },
	{ CTL_CALL_OK, sizeof(struct ctl_called) },
};

static bool length_is_valid(const struct ctl_header *head)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (answers[i].type == head->type)
			return head->len == answers[i].len;
	return head->type == CTL_STATUS && head->len >= sizeof(struct ctl_status) && head->len <= CTL_LEN_MAX;
}

static int header_check(const struct ctl_header *head)
{
	if (head->magic != CTL_MAGIC)
		return -EPROTO;
	if (head->version != CTL_VERSION)
		return -EPROTONOSUPPORT;
	return length_is_valid(head) ? 0 : -EPROTO;
}

static bool nodes_mend(struct gw_node_info *node, uint32_t nr)
{
	if (nr == 0 || nr > GW_MAX_NODES)
		return false;
	for (uint32_t i = 0; i < nr; i++)
		node[i].opt.name[GW_NAME_MAX - 1] = '\0';
	return true;
}

static bool area_mend(struct gw_area *area)
{
	area->name[sizeof(area->name) - 1] = '\0';
	area->policy[sizeof(area->policy) - 1] = '\0';
	return area->start < area->end && area->kind <= GW_UNMANAGED_NR;
}

/* Check the counts of a body and end its texts. */
static bool body_mend(struct ctl_message *msg)
{
	switch (msg->head.type) {
	case CTL_HELLO_OK:
		msg->hello.comm[sizeof(msg->hello.comm) - 1] = '\0';
		for (int cpu = 0; cpu < GW_MAX_CPUS; cpu++)
			if (msg->hello.cpu_node[cpu] >= msg->hello.nr_nodes)
				msg->hello.cpu_node[cpu] = CTL_NO_NODE;
		return nodes_mend(msg->hello.node, msg->hello.nr_nodes);
	case CTL_STAT_OK:
		return nodes_mend(msg->stat.node, msg->stat.nr_nodes);
	case CTL_AREA:
		return area_mend(&msg->area.area);
	case CTL_STATUS:
		return msg->moved.head.count <= CTL_MOVE_MAX &&
		       msg->head.len == sizeof(struct ctl_status) + msg->moved.head.count * sizeof(int32_t);
	case CTL_ERROR:
		msg->error.text[sizeof(msg->error.text) - 1] = '\0';
		return msg->error.err < 0;
	default:
		return true;
	}
}

int ctl_read_message(struct ctl_client *c, struct ctl_message *msg)
{
	int64_t deadline = now_ms() + c->timeout_ms;
	int err = read_exactly(c, &msg->head, sizeof(msg->head), deadline);

	if (err)
		return err;
	err = header_check(&msg->head);
	if (err)
		return err;
	err = read_exactly(c, msg->raw, msg->head.len, deadline);
	if (err)
		return err;
	if (!body_mend(msg))
		return -EPROTO;
	if (msg->head.type != CTL_ERROR)
		return 0;
	c->error = msg->error;
	return -EREMOTEIO;
}

/* ---------------------------------------------------------------- connection ---- */

void ctl_close(struct ctl_client *c)
{
	if (c->fd >= 0)
		sys1(SYS_close, c->fd);
	c->fd = -1;
}

/*
 * Who waits inside of connect(2) for room in the queue gets it in turn; a socket that does not block is told
 * EAGAIN, and whoever comes just then is first. So it blocks until it is connected.
 */
static int connect_until(int fd, const struct sockaddr_un *sun, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		struct timeval tv = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
		long err;

		if (left <= 0)
			return -ETIMEDOUT;
		sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		err = sys3(SYS_connect, fd, sun, sizeof(*sun));
		if (!err)
			break;
		if (err != -EAGAIN && err != -EINTR)
			return (int)err;
	}
	return (int)sys3(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
}

/* The kernel knows who listens, whatever the path led to and the other end says of itself. */
static int peer_check(struct ctl_client *c, int pid)
{
	struct ucred peer = { .pid = 0 };
	socklen_t len = sizeof(peer);
	long err = sys5(SYS_getsockopt, c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);

	if (err)
		return (int)err;
	c->peer = peer.pid;
	return peer.pid == pid ? 0 : -ESRCH;
}

static int open_socket(struct ctl_client *c, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (len >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, len + 1);
	c->fd = (int)sys3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return c->fd;
	return connect_until(c->fd, &sun, now_ms() + c->timeout_ms);
}

static int say_hello(struct ctl_client *c, struct ctl_message *msg)
{
	int sent = ctl_send(c, CTL_HELLO, NULL, 0);
	int err;

	/* An engine that turns us away says why and hangs up: its word may be there although ours was not taken. */
	if (sent && sent != -ECONNRESET)
		return sent;
	err = ctl_read_message(c, msg);
	if (err)
		return err;
	if (sent || msg->head.type != CTL_HELLO_OK)
		return -EPROTO;
	c->hello = msg->hello;
	return 0;
}

int ctl_connect(struct ctl_client *c, const char *path, int pid, int timeout_ms, struct ctl_message *msg)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->fd = -1;
	c->timeout_ms = timeout_ms;
	err = open_socket(c, path);
	if (!err)
		err = peer_check(c, pid);
	if (!err)
		err = say_hello(c, msg);
	if (err)
		ctl_close(c);
	return err;
}

int ctl_request(struct ctl_client *c, enum ctl_type type, const struct iovec *part, int nr_parts,
		struct ctl_message *msg)
{
	int err = ctl_send(c, type, part, nr_parts);

	return err ? err : ctl_read_message(c, msg);
}

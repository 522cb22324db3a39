/* SPDX-License-Identifier: MIT */
/* The client's end of the control socket: any bytes for an engine's answers. */
#include "fuzz.h"

#include "control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (128U << 10)

static struct ctl_message msg;

static bool ends(const char *text, size_t len)
{
	return memchr(text, '\0', len);
}

static void nodes_hold(const struct gw_node_info *node, uint32_t nr)
{
	must(nr > 0 && nr <= GW_MAX_NODES);
	for (uint32_t i = 0; i < nr; i++)
		must(ends(node[i].opt.name, GW_NAME_MAX));
}

/* What a caller counts on. */
static void message_holds(const struct ctl_client *c, int err)
{
	if (err == -EREMOTEIO) {
		must(msg.head.type == CTL_ERROR && c->error.err < 0 && ends(c->error.text, sizeof(c->error.text)));
		return;
	}
	must(msg.head.magic == CTL_MAGIC && msg.head.version == CTL_VERSION && msg.head.len <= CTL_LEN_MAX);
	switch (msg.head.type) {
	case CTL_HELLO_OK:
		nodes_hold(msg.hello.node, msg.hello.nr_nodes);
		must(ends(msg.hello.comm, sizeof(msg.hello.comm)));
		break;
	case CTL_STAT_OK:
		nodes_hold(msg.stat.node, msg.stat.nr_nodes);
		break;
	case CTL_AREA:
		must(msg.area.area.start < msg.area.area.end && msg.area.area.kind <= GW_UNMANAGED_NR);
		must(ends(msg.area.area.name, sizeof(msg.area.area.name)));
		break;
	case CTL_STATUS:
		must(msg.moved.head.count <= CTL_MOVE_MAX);
		must(msg.head.len == sizeof(msg.moved.head) + msg.moved.head.count * sizeof(int32_t));
		break;
	default:
		must(msg.head.type == CTL_AREAS_END || msg.head.type == CTL_PROGRESS || msg.head.type == CTL_RESULT ||
		     msg.head.type == CTL_CALL_OK);
	}
}

/* With a valid header of the right length before it, so that bodies are reached at all. */
static size_t well_formed(struct input *in, uint8_t *to)
{
	static const struct {
		uint16_t type;
		uint32_t len;
	} known[] = {
		{ CTL_HELLO_OK, sizeof(struct ctl_hello) },	 { CTL_STAT_OK, sizeof(struct ctl_stat) },
		{ CTL_AREA, sizeof(struct ctl_area) },		 { CTL_AREAS_END, 0 },
		{ CTL_PROGRESS, sizeof(struct gw_migrate_result) }, { CTL_RESULT, sizeof(struct gw_migrate_result) },
		{ CTL_ERROR, sizeof(struct ctl_error) },	 { CTL_STATUS, sizeof(struct ctl_status) },
		{ CTL_CALL_OK, sizeof(struct ctl_called) },
	};
	/* what the corpus counts on: the last message came later than it */
	uint8_t byte = input_byte(in), which = byte >= 248 ? 8 : byte % 8;
	struct ctl_header head = {
		.magic = CTL_MAGIC, .version = CTL_VERSION, .type = known[which].type, .len = known[which].len
	};
	struct ctl_status status = { 0 };

	memset(to + sizeof(head), input_byte(in), head.len);
	if (head.type == CTL_STATUS) {
		status.count = input_byte(in) * 9U;
		memcpy(to + sizeof(head), &status, sizeof(status));
		head.len += status.count * (uint32_t)sizeof(int32_t);
	}
	for (uint8_t i = input_byte(in) % 8; head.len && i; i--) {
		uint32_t at = (uint32_t)input_u64(in) % head.len;

		to[sizeof(head) + at] = input_byte(in);
	}
	memcpy(to, &head, sizeof(head));
	return sizeof(head) + head.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[ROOM + sizeof(struct ctl_header) + CTL_LEN_MAX];
	struct ctl_client c = { .timeout_ms = 1000 };
	struct input in = { data, size };
	size_t len = 0, nr = 0;
	int fd[2], err, room = 4 * ROOM;

	while (in.left && len < ROOM) {
		uint8_t how = input_byte(&in);

		len += how & 1 ? well_formed(&in, bytes + len) : input_bytes(&in, bytes + len, input_byte(&in));
	}
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd));
	setsockopt(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (len)
		must(send(fd[1], bytes, len, MSG_NOSIGNAL) > 0);
	shutdown(fd[1], SHUT_WR);
	c.fd = fd[0];
	for (;;) {
		err = ctl_read_message(&c, &msg);
		if (err && err != -EREMOTEIO)
			break;
		message_holds(&c, err);
		must(++nr <= len / sizeof(struct ctl_header));
	}
	must(err == -ECONNRESET || err == -EPROTO || err == -EPROTONOSUPPORT);
	ctl_close(&c);
	must(c.fd == -1);
	close(fd[1]);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Files of /proc: of this process from its engine, of others from theirs, through the control socket. */
#include "base/base.h"
#include "control/control.h"
#include "topology/live.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define ANSWER_TIMEOUT_MS 2000
#define BUSY_TRIES 100
#define BUSY_NS 1000000ULL

/* This process, by its number or that of one of its threads. */
static bool is_own(const struct topology_place *place)
{
	char path[64] = "/proc/self/task/";

	if (place->pid <= 0 || place->pid == (int)sys0(SYS_getpid))
		return true;
	str_cat_u64(path, sizeof(path), (uint64_t)place->pid);
	return !sys3(SYS_faccessat, AT_FDCWD, path, 0);
}

/* ---- another process ---- */

struct talk {
	struct ctl_client client;
	struct ctl_message msg;
};

/* Its engine; -EXDEV: it has none, or none that answers. */
static int talk_begin(struct talk *talk, int pid)
{
	return ctl_connect_process(&talk->client, pid, ANSWER_TIMEOUT_MS, &talk->msg) ? -EXDEV : 0;
}

static int add_their_areas(struct talk *talk, struct text *t)
{
	char line[TOPOLOGY_LINE];
	uint64_t end = 0;
	int err = ctl_send(&talk->client, CTL_AREAS, NULL, 0);

	for (;;) {
		if (!err)
			err = ctl_read_message(&talk->client, &talk->msg);
		if (err)
			return err;
		if (talk->msg.head.type == CTL_AREAS_END)
			return 0;
		if (talk->msg.head.type != CTL_AREA || talk->msg.area.area.start < end || t->full)
			return -EPROTO;
		end = talk->msg.area.area.end;
		text_add_bytes(t, line, topology_area_line(&talk->msg.area.area, false, line));
	}
}

static int their_numa_maps(int pid, struct text *t)
{
	struct gw_engine *e = gw_self();
	struct text room;
	struct talk *talk;
	int err;

	if (!room_take(e, &room, sizeof(*talk)))
		return -ENOMEM;
	talk = (void *)room.buf;
	err = talk_begin(talk, pid);
	if (!err) {
		err = add_their_areas(talk, t);
		ctl_close(&talk->client);
	}
	room_give(e, &room);
	return err ? -EXDEV : 0;
}

/* How many nodes it has; -EXDEV. */
static int their_nodes(int pid)
{
	struct gw_engine *e = gw_self();
	struct text room;
	struct talk *talk;
	int nr;

	if (!room_take(e, &room, sizeof(*talk)))
		return -ENOMEM;
	talk = (void *)room.buf;
	nr = talk_begin(talk, pid);
	if (!nr) {
		nr = (int)talk->client.hello.nr_nodes;
		ctl_close(&talk->client);
	}
	room_give(e, &room);
	return nr;
}

/* ---- the files ---- */

/* On an engine thread. */
static int add_area(const struct gw_area *area, void *arg)
{
	struct text *t = arg;
	char line[TOPOLOGY_LINE];

	text_add_bytes(t, line, topology_area_line(area, false, line));
	return t->full ? -ENOMEM : 0;
}

/* What an engine thread writes to must not be the program's: the text is told of by a copy in the room's own memory. */
static int own_numa_maps(struct gw_engine *e, struct text *t)
{
	struct text *t_room = (void *)t->buf;
	int err = -EAGAIN;

	for (int i = 0; i < BUSY_TRIES && err == -EAGAIN; i++) {
		if (i)
			sleep_ns(BUSY_NS);
		*t_room = (struct text){ .buf = t->buf, .cap = t->cap, .len = sizeof(*t) };
		err = gw_areas(e, add_area, t_room);
	}
	if (err)
		return err;
	t->len = t_room->len - sizeof(*t);
	memmove(t->buf, t->buf + sizeof(*t), t->len);
	return 0;
}

int live_numa_maps(struct gw_engine *e, const struct topology_place *place, struct text *t)
{
	return is_own(place) ? own_numa_maps(e, t) : their_numa_maps(place->pid, t);
}

int live_status(struct gw_engine *e, const struct topology_place *place, struct text *t, char *spare)
{
	uint64_t allowed = gw_nodes_allowed(e);
	int nr_nodes = gw_node_count(e);
	long got;

	if (!is_own(place)) {
		nr_nodes = their_nodes(place->pid);
		if (nr_nodes < 0)
			return nr_nodes;
		allowed = nr_nodes < GW_MAX_NODES ? (1ULL << nr_nodes) - 1 : ~0ULL;
	}
	got = host_read(place->path, spare, HALF_BYTES);
	if (got > 0)
		text_add_status(t, spare, allowed, (uint32_t)nr_nodes);
	return got < 0 ? (int)got : 0;
}

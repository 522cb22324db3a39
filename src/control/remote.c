/* SPDX-License-Identifier: MIT */
/*
 * Another process's engine, asked from inside this one: what migrate_pages(2) and move_pages(2) do with a pid. No
 * libc state is used, and memory comes from the engine: any thread may call.
 */
#include "base/sys.h"
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SILENCE_MS 30000

struct remote {
	struct ctl_client client;
	struct ctl_message msg;
	struct {
		struct ctl_move head;
		struct ctl_move_entry entry[CTL_MOVE_MAX];
	} move;
};

static int owner_of(int pid, unsigned int *uid)
{
	char path[32] = "/proc/", *at = path + 6;
	struct stat st;
	long err;

	for (int scale = 1000000000; scale; scale /= 10)
		if (pid >= scale)
			*at++ = (char)('0' + pid / scale % 10);
	*at = '\0';
	err = sys4(SYS_newfstatat, AT_FDCWD, path, &st, 0);
	*uid = st.st_uid;
	return (int)err;
}

struct other {
	int pid, timeout_ms;
	unsigned int uid;	/* in whose place it is looked for */
};

static int connect_at(struct ctl_client *c, const struct other *o, const char *xdg, struct ctl_message *msg)
{
	char base[CTL_PATH_MAX], path[CTL_PATH_MAX];
	int err = ctl_runtime_base(base, sizeof(base), xdg, o->uid);

	if (!err)
		err = ctl_runtime_dir(path, sizeof(path), base, o->uid, false);
	if (!err)
		err = ctl_socket_path(path, sizeof(path), base, o->pid);
	return err ? err : ctl_connect(c, path, o->pid, o->timeout_ms, msg);
}

static bool nobody(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED || err == -ENOTSOCK || err == -ESRCH || err == -ENAMETOOLONG;
}

int ctl_connect_process(struct ctl_client *c, int pid, int timeout_ms, struct ctl_message *msg)
{
	struct other o = { .pid = pid, .timeout_ms = timeout_ms };
	unsigned int owner;
	int err;

	if (owner_of(pid, &owner))
		return -ESRCH;
	/* the socket of a process that has changed its user stays where the first one's are */
	for (int i = 0; i < 4; i++) {
		o.uid = i < 2 ? owner : (unsigned int)sys0(SYS_geteuid);
		err = connect_at(c, &o, i % 2 ? NULL : getenv("XDG_RUNTIME_DIR"), msg);
		if (!nobody(err))
			break;
	}
	return err == -EACCES ? -EPERM : nobody(err) ? -ENXIO : err;
}

_Static_assert(sizeof(struct remote) <= GW_BUFFER_SECOND, "a second buffer: who moves pages has one");

static int remote_open(struct remote **out, struct gw_engine *e, int pid)
{
	int err;

	*out = gw_buffer_take(e, sizeof(struct remote));
	err = ctl_connect_process(&(*out)->client, pid, SILENCE_MS, &(*out)->msg);
	if (err)
		gw_buffer_put(e, *out);
	return err;
}

static void remote_close(struct gw_engine *e, struct remote *r)
{
	ctl_close(&r->client);
	gw_buffer_put(e, r);
}

static int said(const struct remote *r, int err)
{
	return err == -EREMOTEIO ? r->client.error.err : err;
}

long gw_remote_migrate(struct gw_engine *e, int pid, gw_nodemask from, gw_nodemask to, struct gw_migrate_result *res)
{
	struct ctl_migrate ask = { .from = from, .to = to, .opt = { .size = sizeof(ask.opt) } };
	struct iovec part = { &ask, sizeof(ask) };
	struct remote *r = NULL;
	long left = 0;
	int err = remote_open(&r, e, pid);

	if (err)
		return err;
	err = ctl_request(&r->client, CTL_MIGRATE, &part, 1, &r->msg);
	while (!err && r->msg.head.type == CTL_PROGRESS)
		err = ctl_read_message(&r->client, &r->msg);
	if (!err && r->msg.head.type != CTL_RESULT)
		err = -EPROTO;
	if (!err) {
		left = (long)r->msg.result.pages_failed;
		if (res && res->size >= sizeof(*res))
			*res = r->msg.result;
	}
	err = said(r, err);
	remote_close(e, r);
	return err ? err : left;
}

struct pages {
	const struct gw_migrate_options *opt;
	void *const *page;
	const int *node;
	int *status;
};

static int move_some(struct remote *r, const struct pages *p, size_t at, uint32_t nr)
{
	struct iovec part = { &r->move, sizeof(r->move.head) + nr * sizeof(r->move.entry[0]) };
	int err;

	r->move.head = (struct ctl_move){ .count = nr, .query = !p->node, .opt = { .size = sizeof(r->move.head.opt) } };
	if (p->opt)
		r->move.head.opt = *p->opt;
	for (uint32_t i = 0; i < nr; i++)
		r->move.entry[i] = (struct ctl_move_entry){ .addr = (uint64_t)p->page[at + i],
							    .node = p->node ? p->node[at + i] : 0 };
	err = ctl_request(&r->client, CTL_MOVE, &part, 1, &r->msg);
	if (!err && (r->msg.head.type != CTL_STATUS || r->msg.moved.head.count != nr))
		err = -EPROTO;
	if (!err)
		memcpy(p->status + at, r->msg.moved.status, nr * sizeof(int));
	return said(r, err);
}

long gw_remote_move(struct gw_engine *e, int pid, size_t count, void *const *pages, const int *nodes, int *status,
		    const struct gw_migrate_options *opt)
{
	const struct pages p = { opt, pages, nodes, status };
	struct remote *r = NULL;
	long left = 0;
	int err = remote_open(&r, e, pid);

	if (err)
		return err;
	for (size_t at = 0; at < count && !err; at += CTL_MOVE_MAX)
		err = move_some(r, &p, at, (uint32_t)(count - at < CTL_MOVE_MAX ? count - at : CTL_MOVE_MAX));
	for (size_t i = 0; nodes && !err && i < count; i++)
		left += status[i] != nodes[i];
	remote_close(e, r);
	return err ? err : left;
}

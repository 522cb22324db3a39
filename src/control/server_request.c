/* SPDX-License-Identifier: MIT */
/* What clients ask for: short answers, and jobs whose results are sent when they are over. */
#include "control/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- jobs ---- */

/* Jobs are looked after by the clock: their ends are seen at the next tick, or at once by the kick. */
static int job_kicked(struct gw_engine *e, void *arg)
{
	server_tick(e, arg);
	return 0;
}

void kick(void *arg)
{
	struct server *s = arg;

	gw_post(s->e, job_kicked, s);
}

static const char too_many[] = "too many requests at once: try again";

static const char *why_not(int err)
{
	switch (err) {
	case -EAGAIN:
		return too_many;
	case -EINVAL:
		return "no such node";
	case -ENXIO:
		return "no far node to go through (--fallback swap): start it with --node zram or file,path=DIR "
		       "behind ram";
	default:
		return "cannot start";
	}
}

static bool job_begun(struct client *c, enum wish wish, int err)
{
	if (err) {
		reply_error(c, err, why_not(err));
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

static void finish_call(struct client *c)
{
	struct ctl_called *body = reply_body(c);

	job_over(c);
	*body = (struct ctl_called){ .ret = c->called };
	reply_send(c, CTL_CALL_OK, sizeof(*body));
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
	} else if (c->wish == WISH_CALL) {
		finish_call(c);
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

void look_after(struct client *c, bool tell)
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

	*body = (struct ctl_hello){ .pid = (uint32_t)c->server->pid, .nr_nodes = (uint32_t)gw_node_count(e) };
	comm_read(body->comm, sizeof(body->comm));
	for (uint32_t i = 0; i < body->nr_nodes; i++)
		gw_node_get(e, (int)i, &body->node[i]);
	for (int cpu = 0; cpu < GW_MAX_CPUS; cpu++) {
		int node = gw_node_of_cpu(e, cpu);

		body->cpu_node[cpu] = node < 0 ? CTL_NO_NODE : (uint8_t)node;
	}
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
bool listing_turn(struct client *c)
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

static void ask_allow(struct client *c, const struct ctl_allow *a)
{
	struct server *s = c->server;
	int err;

	if (!memchr(a->group, 0, sizeof(a->group)) || (a->group[0] && !group_name_valid(a->group))) {
		reply_error(c, -EINVAL, "no name of a group");
		return;
	}
	err = gw_job_allow(s->e, a->nodes, (int)a->follow, &a->opt, kick, s, &c->job);
	if (job_begun(c, WISH_MIGRATE, err))
		group_told(a->group);
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

static void ask_call(struct client *c, const struct ctl_call *call)
{
	long args[6];

	_Static_assert(CTL_NUMA_REAL == SYS_NUMA_REAL, "the filter lets through what the engine marks");
	c->calls = true;
	for (int i = 0; i < 6; i++)
		args[i] = (long)call->args[i];
	job_begun(c, WISH_CALL,
		  gw_job_call(c->server->e, call->tid, (long)call->nr, args, &c->called, kick, c->server, &c->job));
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
	return h->type == CTL_AREAS || h->type == CTL_MIGRATE || h->type == CTL_MOVE || h->type == CTL_CALL ||
	       h->type == CTL_ALLOW;
}

void ask(struct client *c, const struct ctl_header *h, const void *body)
{
	const struct ctl_migrate *migrate = body;
	const struct ctl_move *move = body;
	const struct ctl_allow *allow = body;

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
	else if (h->type == CTL_ALLOW && h->len == sizeof(*allow) && options_fit(&allow->opt))
		ask_allow(c, allow);
	else if (h->type == CTL_MOVE && h->len >= sizeof(*move) && options_fit(&move->opt))
		ask_move(c, move, h->len);
	else if (h->type == CTL_CALL && h->len == sizeof(struct ctl_call))
		ask_call(c, body);
	else if (h->type != CTL_CANCEL)
		reply_error(c, -EPROTO, "a request that this engine does not know");
}

/* SPDX-License-Identifier: MIT */
/*
 * The engine's end of the control socket, with real sockets and epoll, a clock of our own, and jobs that end when
 * the input says so. The input is a list of things that up to CLIENTS_MAX clients do, well-formed or not.
 *
 * Beside crashes it looks for: answers that are no messages; a good client that is not answered within GOOD_MS
 * whatever the others have done; places, jobs, descriptors or a listing that are not given back when all have gone.
 *
 * Stands in for the engine: server.c calls what is defined here.
 */
#include "fuzz.h"

#include "base/base.h"
#include "control/protocol.h"
#include "policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 40
#define JOBS_MAX 24
#define WATCH_MAX 40
#define GOOD_MS 3000
#define OPS_MAX 300

struct gw_job {
	bool used, over, cancelled;
	int (*area_fn)(const struct gw_area *area, void *arg);
	void *area_arg;
	int *status;
	size_t count;
	void (*kick)(void *arg);
	void *kick_arg;
	int32_t error;
};

struct watch {
	int fd;
	void (*fn)(struct gw_engine *e, uint32_t events, void *arg);
	void *arg;
};

struct peer {
	int fd;			/* -1: not connected */
	size_t got;		/* of the header of the message that is coming */
	struct ctl_header head;
	size_t body_left;
	uint16_t last;		/* type of the last whole message */
};

static struct {
	uint64_t now;
	int epoll;
	struct watch watch[WATCH_MAX];
	uint32_t tick_ms;
	uint64_t tick_due;
	void (*tick_fn)(struct gw_engine *e, void *arg);
	void *tick_arg;
	int (*post[8])(struct gw_engine *e, void *arg);
	void *post_arg[8];
	int nr_posts;
	struct gw_job job[JOBS_MAX];
	struct peer peer[CLIENTS_MAX];
	struct sockaddr_un path;
	struct input in;
} world;

static struct gw_engine *const engine = (struct gw_engine *)(void *)&world;

/* ---- the engine, as far as the server knows it ---- */

uint64_t clock_ns(void)
{
	return world.now;
}

void sleep_ns(uint64_t ns)
{
	world.now += ns;
}

int gw_call(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	return fn(e, arg);
}

int gw_post(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	must(e == engine);
	if (world.nr_posts == 8)
		return -EAGAIN;
	world.post[world.nr_posts] = fn;
	world.post_arg[world.nr_posts++] = arg;
	return 0;
}

int gw_tick(struct gw_engine *e, uint32_t ms, void (*fn)(struct gw_engine *e, void *arg), void *arg)
{
	must(e == engine && (!ms || fn));
	world.tick_ms = ms;
	world.tick_fn = fn;
	world.tick_arg = arg;
	world.tick_due = world.now + ms * 1000000ULL;
	return 0;
}

int gw_watch(struct gw_engine *e, int fd, uint32_t events, void (*fn)(struct gw_engine *e, uint32_t events, void *arg),
	     void *arg)
{
	must(e == engine && fd >= 0);
	for (uint32_t i = 0; i < WATCH_MAX; i++) {
		struct epoll_event ev = { .events = events, .data.u32 = i };

		if (world.watch[i].fd >= 0) {
			must(world.watch[i].fd != fd);
			continue;
		}
		must(!epoll_ctl(world.epoll, EPOLL_CTL_ADD, fd, &ev));
		world.watch[i] = (struct watch){ .fd = fd, .fn = fn, .arg = arg };
		return 0;
	}
	return -ENOSPC;
}

int gw_unwatch(struct gw_engine *e, int fd)
{
	must(e == engine);
	for (uint32_t i = 0; i < WATCH_MAX; i++)
		if (world.watch[i].fd == fd) {
			world.watch[i].fd = -1;
			return epoll_ctl(world.epoll, EPOLL_CTL_DEL, fd, NULL);
		}
	return -ENOENT;
}

/* Once for the server, once for its clients, once for a listing: kept over all inputs, as in a process. */
void *gw_memory(struct gw_engine *e, size_t len)
{
	void *p = aligned_alloc(4096, ALIGN_UP(len, 4096));

	must(e == engine && p);
	if (len < 32UL << 20)
		memset(p, 0, len);
	return p;
}

int gw_node_count(struct gw_engine *e)
{
	must(e == engine);
	return 2;
}

int gw_node_of_cpu(struct gw_engine *e, int cpu)
{
	(void)e;
	return cpu < 4 ? cpu % 2 : -EINVAL;
}

int gw_node_get(struct gw_engine *e, int node, struct gw_node_info *out)
{
	must(e == engine && node >= 0 && node < 2);
	memset(out, 0, sizeof(*out));
	return 0;
}

int gw_stats(struct gw_engine *e, struct gw_stats *out)
{
	must(e == engine && out->size == sizeof(*out));
	memset(out, 0, sizeof(*out));
	return 0;
}

static bool options_known(const struct gw_migrate_options *opt)
{
	must(!opt || opt->size <= sizeof(*opt)); /* as much of it is read */
	return !opt || opt->size >= offsetof(struct gw_migrate_options, form);
}

static int job_begin(const struct gw_migrate_options *opt, void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	if (!options_known(opt))
		return -EINVAL;
	for (int i = 0; i < JOBS_MAX; i++)
		if (!world.job[i].used) {
			world.job[i] = (struct gw_job){ .used = true, .kick = kick, .kick_arg = arg };
			*out = &world.job[i];
			return 0;
		}
	return -EAGAIN;
}

int gw_job_migrate(struct gw_engine *e, gw_nodemask from, gw_nodemask to, const struct gw_migrate_options *opt,
		   void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	must(e == engine);
	return !from || from >> 2 || !to || to >> 2 ? -EINVAL : job_begin(opt, kick, arg, out);
}

int gw_job_move(struct gw_engine *e, size_t count, void *const *pages, const int *nodes, int *status,
		const struct gw_migrate_options *opt, void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	int err = job_begin(opt, kick, arg, out);
	uintptr_t sum = 0;

	must(e == engine && count <= CTL_MOVE_MAX);
	for (size_t i = 0; i < count; i++)
		sum += (uintptr_t)pages[i] + (nodes ? (uintptr_t)nodes[i] : 0);
	if (!err) {
		(*out)->status = status;
		(*out)->count = count;
		(*out)->error = sum == 13 ? -ENOMEM : 0;
	}
	return err;
}

int gw_job_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6], long *ret, void (*kick)(void *arg),
		void *arg, struct gw_job **out)
{
	int err = job_begin(NULL, kick, arg, out);

	must(e == engine);
	if (!err)
		*ret = nr + (long)tid + args[5];
	return err;
}

int gw_job_areas(struct gw_engine *e, int (*fn)(const struct gw_area *area, void *fn_arg), void *fn_arg,
		 void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	int err = job_begin(NULL, kick, arg, out);

	must(e == engine);
	if (!err) {
		(*out)->area_fn = fn;
		(*out)->area_arg = fn_arg;
	}
	return err;
}

int gw_job_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		 void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	(void)follow;
	must(e == engine);
	return !nodes || nodes >> 2 ? -EINVAL : job_begin(opt, kick, arg, out);
}

gw_nodemask gw_nodes_allowed(struct gw_engine *e)
{
	must(e == engine);
	return 3;
}

int gw_nodes_inherit(struct gw_engine *e, gw_nodemask nodes)
{
	must(e == engine && nodes);
	return 0;
}

int gw_nodes_parse(const char *list, int nr_nodes, gw_nodemask *out)
{
	return nodelist_parse(list, nr_nodes, out);
}

int gw_job_progress(struct gw_job *job, struct gw_migrate_result *res)
{
	must(job->used);
	if (res)
		*res = (struct gw_migrate_result){ .size = sizeof(*res), .error = job->error, .state = job->over };
	return job->over;
}

void gw_job_cancel(struct gw_job *job)
{
	must(job->used);
	job->cancelled = true;
}

void gw_job_end(struct gw_job *job)
{
	must(job->used && job->over); /* else the service thread waits */
	job->used = false;
}

/* ---- time goes by ---- */

static void job_finish(struct gw_job *job, uint32_t areas)
{
	struct gw_area area = { .end = 4096 };

	if (!job->used || job->over)
		return;
	for (uint32_t i = 0; i < areas && job->area_fn && !job->error; i++)
		job->error = job->cancelled ? -ECANCELED : job->area_fn(&area, job->area_arg);
	for (size_t i = 0; i < job->count; i++)
		job->status[i] = (int)i;
	job->over = true;
	job->kick(job->kick_arg);
}

static void events_dispatch(void)
{
	struct epoll_event ev[8];
	int nr = epoll_wait(world.epoll, ev, 8, 0);

	for (int i = 0; i < nr; i++) {
		struct watch *w = &world.watch[ev[i].data.u32];

		if (w->fd >= 0)
			w->fn(engine, ev[i].events, w->arg);
	}
}

/* What the service thread does in ms milliseconds. */
static void pass(uint32_t ms)
{
	world.now += ms * 1000000ULL;
	for (int i = 0; i < JOBS_MAX; i++)
		if (world.job[i].cancelled)
			job_finish(&world.job[i], 0);
	for (int i = 0; i < world.nr_posts; i++)
		world.post[i](engine, world.post_arg[i]);
	world.nr_posts = 0;
	for (int i = 0; i < 3; i++)
		events_dispatch();
	if (world.tick_ms && world.now >= world.tick_due) {
		world.tick_due = world.now + world.tick_ms * 1000000ULL;
		world.tick_fn(engine, world.tick_arg);
	}
}

/* ---- clients ---- */

static void peer_connect(struct peer *p)
{
	if (p->fd >= 0)
		return;
	*p = (struct peer){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	must(p->fd >= 0);
	if (!connect(p->fd, (const void *)&world.path, sizeof(world.path)))
		return;
	must(errno == EAGAIN);
	close(p->fd);
	p->fd = -1;
}

static void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void peer_shutdown(struct peer *p, int how)
{
	if (p->fd >= 0)
		shutdown(p->fd, how);
}

static void peer_write(struct peer *p, const void *buf, size_t len)
{
	if (p->fd >= 0 && send(p->fd, buf, len, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		peer_close(p);
}

/* What the server says are messages, whole and one behind the other. */
static void peer_parse(struct peer *p, const uint8_t *at, size_t nr)
{
	while (nr) {
		size_t part = p->body_left < nr ? p->body_left : nr;

		p->body_left -= part;
		at += part;
		nr -= part;
		if (p->body_left || !nr)
			return;
		part = sizeof(p->head) - p->got < nr ? sizeof(p->head) - p->got : nr;
		memcpy((uint8_t *)&p->head + p->got, at, part);
		p->got += part;
		at += part;
		nr -= part;
		if (p->got < sizeof(p->head))
			return;
		must(p->head.magic == CTL_MAGIC && p->head.version == CTL_VERSION && p->head.len <= CTL_LEN_MAX);
		must(p->head.type >= CTL_HELLO_OK && p->head.type <= CTL_CALL_OK);
		p->last = p->head.type;
		p->body_left = p->head.len;
		p->got = 0;
	}
}

static void peer_read(struct peer *p, size_t most)
{
	static uint8_t buf[1 << 16];
	ssize_t nr = p->fd >= 0 ? recv(p->fd, buf, most < sizeof(buf) ? most : sizeof(buf), 0) : -1;

	if (nr > 0)
		peer_parse(p, buf, (size_t)nr);
	else if (p->fd >= 0 && (nr == 0 || errno != EAGAIN))
		peer_close(p);
}

static void ask(struct peer *p, uint8_t what)
{
	static const uint16_t types[] = { CTL_HELLO, CTL_STAT,	 CTL_AREAS, CTL_MIGRATE,
					  CTL_MOVE,  CTL_CANCEL, CTL_ERROR };
	struct {
		struct ctl_header head;
		union {
			struct ctl_migrate migrate;
			struct ctl_call call;
			struct ctl_allow allow;
			struct {
				struct ctl_move head;
				struct ctl_move_entry entry[CTL_MOVE_MAX + 200];
			} move;
		};
	} m;
	size_t len;

	m.head = (struct ctl_header){ .magic = CTL_MAGIC, .version = CTL_VERSION, .type = types[what % 7] };
	/* what the corpus counts on: this message came later than it */
	if ((what >= 190 && what < 200) || what >= 250) {
		m.head.type = CTL_CALL;
		m.head.len = sizeof(m.call);
		m.call = (struct ctl_call){ .tid = what, .nr = 13 };
	}
	if (m.head.type == CTL_MIGRATE) {
		m.migrate = (struct ctl_migrate){ .from = 1, .to = 2, .opt = { .size = sizeof(m.migrate.opt) } };
		m.head.len = sizeof(m.migrate);
	}
	if (m.head.type == CTL_ERROR && what / 7 % 2) {
		m.head.type = CTL_ALLOW;
		m.allow = (struct ctl_allow){ .nodes = 1, .opt = { .size = sizeof(m.allow.opt) }, .group = "group" };
		m.head.len = sizeof(m.allow);
	}
	if (m.head.type == CTL_MOVE) {
		memset(&m.move, 0, sizeof(m.move));
		m.move.head.count = what / 7U * 60;
		m.move.head.opt.size = sizeof(m.migrate.opt);
		m.head.len = (uint32_t)(sizeof(m.move.head) + m.move.head.count * sizeof(m.move.entry[0]));
	}
	len = sizeof(m.head) + m.head.len;
	/* a byte of it may be another */
	if (what >= 200)
		((uint8_t *)&m)[input_u64(&world.in) % len] = input_byte(&world.in);
	peer_write(p, &m, len);
}

static void noise(struct peer *p, uint8_t len)
{
	struct ctl_header head = { .magic = CTL_MAGIC, .version = CTL_VERSION };
	uint8_t buf[256];

	input_bytes(&world.in, buf, len);
	head.type = buf[0];
	head.len = buf[1];
	if (len >= sizeof(head) && len & 1)
		memcpy(buf, &head, sizeof(head));
	peer_write(p, buf, len);
}

static void flood(struct peer *p)
{
	static struct ctl_header many[2048];
	uint16_t type = input_byte(&world.in) % 8;

	for (size_t i = 0; i < 2048; i++)
		many[i] = (struct ctl_header){ .magic = CTL_MAGIC, .version = CTL_VERSION, .type = type };
	peer_write(p, many, sizeof(many));
}

static void step(void)
{
	uint8_t op = input_byte(&world.in), arg = input_byte(&world.in);
	struct peer *p = &world.peer[input_byte(&world.in) % CLIENTS_MAX];

	if (op < 128)
		pass(arg % 2);
	switch (op % 12) {
	case 0:
	case 1:
		peer_connect(p);
		return;
	case 2:
		noise(p, arg);
		return;
	case 3:
	case 4:
		ask(p, arg);
		return;
	case 5:
		peer_read(p, arg < 128 ? arg + 1U : 1U << 16);
		return;
	case 6:
		peer_close(p);
		return;
	case 7:
		pass(arg * 2U);
		return;
	case 8:
		job_finish(&world.job[arg % JOBS_MAX], arg * 2U);
		return;
	case 9:
		peer_shutdown(p, arg & 1 ? SHUT_WR : SHUT_RD);
		return;
	case 10:
		flood(p);
		return;
	default:
		for (int i = 0; i < arg % CLIENTS_MAX; i++)
			peer_connect(&world.peer[i]);
	}
}

/* ---- what must hold afterwards ---- */

static void good_client_is_answered(void)
{
	struct peer good = { .fd = -1 };
	uint64_t until = world.now + GOOD_MS * 1000000ULL;
	bool said = false;

	while (good.last != CTL_HELLO_OK) {
		must(world.now < until);
		peer_connect(&good);
		if (good.fd >= 0 && !said) {
			struct ctl_header hello = { .magic = CTL_MAGIC, .version = CTL_VERSION, .type = CTL_HELLO };

			must(send(good.fd, &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
			said = true;
		}
		pass(5);
		peer_read(&good, 1 << 16);
		must(good.fd >= 0 || !said);
	}
	peer_close(&good);
}

/* Nothing is watched but the socket, no job is left, and the engine sleeps. */
static bool at_rest(void)
{
	int watches = 0, jobs = 0;

	for (int i = 0; i < WATCH_MAX; i++)
		watches += world.watch[i].fd >= 0;
	for (int i = 0; i < JOBS_MAX; i++)
		jobs += world.job[i].used;
	return watches == 1 && !jobs && !world.tick_ms;
}

static void all_is_given_back(void)
{
	for (int i = 0; i < CLIENTS_MAX; i++)
		peer_close(&world.peer[i]);
	for (int i = 0; i < 5 || (i < 300 && !at_rest()); i++)
		pass(10);
	must(at_rest());
}

static char base[64];

static void remove_base(void)
{
	char dir[128];

	gw_control_unlink();
	snprintf(dir, sizeof(dir), "%s/godwit", base);
	rmdir(dir);
	rmdir(base);
}

static void world_begin(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(base, sizeof(base), "%s/gw-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	must(mkdtemp(base));
	atexit(remove_base);
	setenv("XDG_RUNTIME_DIR", base, 1);
	world.now = 1000000000;
	world.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < WATCH_MAX; i++)
		world.watch[i].fd = -1;
	for (int i = 0; i < CLIENTS_MAX; i++)
		world.peer[i].fd = -1;
	must(!gw_control_open(engine));
	world.path.sun_family = AF_UNIX;
	snprintf(world.path.sun_path, sizeof(world.path.sun_path), "%s/godwit/%d.sock", base, getpid());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!world.now)
		world_begin();
	world.in = (struct input){ data, size };
	for (int i = 0; world.in.left && i < OPS_MAX; i++)
		step();
	good_client_is_answered();
	all_is_given_back();
	return 0;
}

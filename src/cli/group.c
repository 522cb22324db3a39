/* SPDX-License-Identifier: MIT */
/*
 * Groups as the command sees them: where one is, who is in it, and the word to each member's engine.
 *
 * Two locks, taken in this order. A command that changes groups holds the turn, a lock on the directory of groups, to
 * its end: members then get the changes of two commands in the same order. What stands in the directory is changed
 * under the lock of control/group.h, which is held for a moment, for members wait for it when they fork.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_MS 10000
#define EXEC_MS 1000	/* a program that replaces itself has no engine for a moment */
#define RESTARTS 3

/* ---------------------------------------------------------------- where it is ---- */

/* Root acts as the user whose groups these are, so that they stay the user's. */
static int become(unsigned int uid)
{
	const struct passwd *pw;

	if (geteuid() == uid)
		return 0;
	pw = getpwuid(uid);
	if ((pw && setegid(pw->pw_gid) != 0) || seteuid(uid) != 0)
		return say_error("cannot act as user %u: %s", uid, strerror(errno));
	return 0;
}

static int cannot(const char *what, int err)
{
	return say_error("%s: %s", what, strerror(err < 0 ? -err : err));
}

int group_open(struct group *g, const struct place *place, bool make)
{
	char dir[CTL_PATH_MAX];
	int err;

	if (become(place->uid))
		return CLI_FAILED;
	g->place = *place;
	err = ctl_runtime_dir(dir, sizeof(dir), place->base, place->uid, make);
	if (!err)
		g->dir = groups_open(dir);
	if (!err && g->dir < 0)
		err = g->dir;
	return err ? cannot(dir, err) : 0;
}

void group_close(struct group *g)
{
	free(g->members);
	if (g->turn >= 0)
		close(g->turn);
	if (g->dir >= 0)
		close(g->dir);
	*g = (struct group){ .dir = -1, .turn = -1 };
}

/* The directory of groups goes with the last of them: the lock must be on the one that is there. */
static bool is_current(int dir, int turn)
{
	struct stat there, here;

	return fstatat(dir, "groups", &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(turn, &here) == 0 &&
	       there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

int group_turn(struct group *g, bool make)
{
	for (;;) {
		if (make && mkdirat(g->dir, "groups", 0700) != 0 && errno != EEXIST)
			return cannot("groups", errno);
		g->turn = openat(g->dir, "groups", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (g->turn < 0 && (errno != ENOENT || !make))
			return errno == ENOENT ? 0 : cannot("groups", errno);
		if (g->turn < 0)
			continue;
		if (flock(g->turn, LOCK_EX) != 0)
			return cannot("groups", errno);
		if (is_current(g->dir, g->turn))
			return 0;
		close(g->turn);
		g->turn = -1;
	}
}

int group_lock(struct group *g)
{
	int err = groups_lock(g->dir, LOCK_MS);

	if (err == -EAGAIN)
		return say_error("%s/godwit: locked for 10 s: is there a godwit command that is stopped?",
				 g->place.base);
	return err ? cannot(g->place.base, err) : 0;
}

void group_unlock(struct group *g)
{
	groups_unlock(g->dir);
}

/* ---------------------------------------------------------------- who is in it ---- */

static struct member *member_add(struct group *g)
{
	if (g->nr == g->room) {
		int room = g->room ? 2 * g->room : 64;
		struct member *more = realloc(g->members, (size_t)room * sizeof(*more));

		if (!more)
			return NULL;
		g->members = more;
		g->room = room;
	}
	g->members[g->nr] = (struct member){ .state = MEMBER_NEW };
	return &g->members[g->nr++];
}

struct member *group_find(struct group *g, int pid)
{
	for (int i = 0; i < g->nr; i++)
		if (g->members[i].who.pid == pid)
			return &g->members[i];
	return NULL;
}

int group_add(struct group *g, int pid)
{
	struct member *m = group_find(g, pid);
	int parent;

	if (m)
		return 0;
	m = member_add(g);
	if (!m)
		return say_error("out of memory");
	m->who.pid = pid;
	if (process_times(pid, &m->who.start, &parent))
		return say_error("no process %d", pid);
	return 0;
}

static int list_member(const struct group_member *who, void *arg)
{
	struct group *g = arg;
	struct member *m = group_find(g, who->pid);

	if (m && m->who.start == who->start)
		return 0;
	m = member_add(g);
	if (!m)
		return -ENOMEM;
	m->who = *who;
	return 0;
}

static int compare_members(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return (x->who.pid > y->who.pid) - (x->who.pid < y->who.pid);
}

int group_list(struct group *g)
{
	int err = group_nodes(g->dir, g->name, g->list);

	if (!err)
		err = group_members(g->dir, g->name, list_member, g);
	if (err)
		return err == -ENOENT ? say_error("no group '%s'", g->name) : cannot(g->name, err);
	qsort(g->members, (size_t)g->nr, sizeof(*g->members), compare_members);
	return 0;
}

bool member_lives(const struct member *m)
{
	uint64_t start;
	int parent;

	return process_times(m->who.pid, &start, &parent) == 0 && start == m->who.start;
}

/* Members that were killed leave; a group whose last one did so ends. */
static int prune_one(int dir, const char *name, void *arg)
{
	struct group g = { .dir = dir };
	bool left = false;

	(void)arg;
	snprintf(g.name, sizeof(g.name), "%s", name);
	group_members(dir, name, list_member, &g);
	for (int i = 0; i < g.nr; i++) {
		if (member_lives(&g.members[i]))
			continue;
		group_leave(dir, name, &g.members[i].who);
		left = true;
	}
	if (group_has_cgroup(dir, name)) {
		kernel_prune(dir, name);
		left |= !group_has_cgroup(dir, name);
	}
	if (left)
		group_end(dir, name);
	free(g.members);
	return 0;
}

struct names {
	char (*name)[CTL_GROUP_MAX];
	int nr;
};

static int note_name(int dir, const char *name, void *arg)
{
	struct names *n = arg;
	char(*more)[CTL_GROUP_MAX] = realloc(n->name, (size_t)(n->nr + 1) * CTL_GROUP_MAX);

	(void)dir;
	if (!more)
		return -ENOMEM;
	n->name = more;
	snprintf(n->name[n->nr++], CTL_GROUP_MAX, "%s", name);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The directory changes meanwhile. */
int groups_each(int dir, int (*fn)(int dir, const char *name, void *arg), void *arg)
{
	struct names names = { 0 };
	int ret = groups_walk(dir, note_name, &names);

	qsort(names.name, (size_t)names.nr, CTL_GROUP_MAX, compare_names);
	for (int i = 0; i < names.nr && !ret; i++)
		ret = fn(dir, names.name[i], arg);
	free(names.name);
	return ret;
}

void groups_prune(int dir)
{
	groups_each(dir, prune_one, NULL);
}

void groups_prune_place(const struct place *place)
{
	char dir[CTL_PATH_MAX];
	int fd;

	if (place->uid != geteuid() || ctl_runtime_dir(dir, sizeof(dir), place->base, place->uid, false) != 0)
		return;
	fd = groups_open(dir);
	if (fd < 0)
		return;
	if (faccessat(fd, "groups", F_OK, 0) == 0 && groups_lock(fd, 0) == 0)
		groups_prune(fd);
	close(fd);
}

/* ---------------------------------------------------------------- the word to a member ---- */

static void pause_ms(long ms)
{
	const struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static enum member_state silence(struct session *s, const struct member *m)
{
	if (!member_lives(m))
		return MEMBER_ENDED;
	s->mute = s->patience_ms < SESSION_TIMEOUT_MS;
	if (s->err)
		session_error(s, s->err);
	s->err = 0;
	return MEMBER_SILENT;
}

enum member_state member_open(struct session *s, struct member *m, int patience_ms)
{
	int err;

	s->patience_ms = patience_ms;
	for (int ms = 0;; ms += 20) {
		s->mute = true;
		err = session_try(s, m->who.pid);
		if (err != -ENOENT && !(err > 0 && s->err == -ECONNRESET))
			break;
		if (!member_lives(m))
			return MEMBER_ENDED;
		if (ms >= EXEC_MS) {
			if (patience_ms == SESSION_TIMEOUT_MS)
				say_error("PID %d has no godwit engine any more", m->who.pid);
			return MEMBER_NO_ENGINE;
		}
		pause_ms(20);
	}
	if (err)
		return err == -ESRCH ? MEMBER_ENDED : silence(s, m);
	s->client.timeout_ms = SESSION_TIMEOUT_MS;
	m->nr_nodes = s->client.hello.nr_nodes;
	process_name(m->who.pid, s->client.hello.comm, m->command, sizeof(m->command));
	return MEMBER_NEW;
}

/* A list counts from what it is a list of: !1 and all are of the member's own nodes. */
int member_nodes(struct member *m, const char *list)
{
	int err = gw_nodes_parse(list, (int)m->nr_nodes, &m->nodes);
	char have[NODES_TEXT];

	if (!err)
		return 0;
	nodes_text(m->nr_nodes == GW_MAX_NODES ? ~0ULL : (1ULL << m->nr_nodes) - 1, have);
	return say_error("node list '%s': PID %d has node%s %s", list, m->who.pid, m->nr_nodes > 1 ? "s" : "", have);
}

/* What the member's engine is asked for is done, or said. */
static enum member_state tell_once(struct session *s, struct member *m, const struct group *g,
				   const struct group_change *change)
{
	struct ctl_allow ask = { .follow = change->follow, .opt = change->opt };
	struct iovec body = { .iov_base = &ask, .iov_len = sizeof(ask) };
	enum member_state state = member_open(s, m, SESSION_TIMEOUT_MS);
	int err;

	if (state != MEMBER_NEW)
		return state;
	if (!change->leave)
		memcpy(ask.group, g->name, sizeof(ask.group));
	err = member_nodes(m, change->leave ? "all" : g->list);
	ask.nodes = m->nodes;
	s->mute = true;
	if (!err)
		err = job_run(s, CTL_ALLOW, &body, change->progress);
	if (!err)
		m->res = s->msg.result;
	session_close(s);
	return err ? MEMBER_SILENT : MEMBER_TOLD;
}

void member_tell(struct member *m, const struct group *g, const struct group_change *change)
{
	struct session s;

	memset(&m->res, 0, sizeof(m->res));
	for (int turn = 0; turn < RESTARTS; turn++) {
		m->state = tell_once(&s, m, g, change);
		if (m->state != MEMBER_SILENT || s.err != -ECONNRESET || !member_lives(m))
			break; /* else it has become another program */
	}
	if (m->state == MEMBER_SILENT)
		m->state = silence(&s, m);
}

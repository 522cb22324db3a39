/* SPDX-License-Identifier: MIT */
/*
 * Members of a group that have no engine: a cgroup of the kernel's holds them, and what they fork, to the group's
 * nodes, which are the host's then. It is the truth about who is a member; beside the group's other files stands only
 * where each one came from, to be put back there:
 *
 *   BASE/godwit/groups/NAME/cgroup/PID.START    a symbolic link to the path of its former cgroup
 *
 * The turn is held by all that change something. Files of the kernel's are root's, those of the group its user's: root
 * acts as the one or as the other.
 */
#define _GNU_SOURCE 1
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_PATH (CTL_GROUP_MAX + 64)
#define SWEEPS 100 /* of a cgroup whose processes fork while they are moved out */

/* ---------------------------------------------------------------- who acts ---- */

/* Returns who it was. */
static uid_t act_as_root(void)
{
	uid_t was = geteuid();

	if (was != 0 && getuid() == 0 && seteuid(0) != 0)
		say_note("cannot act as root again: %s", strerror(errno));
	return was;
}

static void act_as(uid_t uid)
{
	if (geteuid() != uid && seteuid(uid) != 0)
		say_note("cannot act as user %u again: %s", uid, strerror(errno));
}

/* ---------------------------------------------------------------- records ---- */

static const char *record_of(const char *name, const struct group_member *who, char path[RECORD_PATH])
{
	if (who)
		snprintf(path, RECORD_PATH, "groups/%s/cgroup/%d.%" PRIu64, name, who->pid, who->start);
	else
		snprintf(path, RECORD_PATH, "groups/%s/cgroup", name);
	return path;
}

bool group_has_cgroup(int dir, const char *name)
{
	char path[RECORD_PATH];

	return faccessat(dir, record_of(name, NULL, path), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool read_origin(int dir, const char *name, const struct group_member *who, char *origin)
{
	char path[RECORD_PATH];
	ssize_t got = readlinkat(dir, record_of(name, who, path), origin, CGROUP_PATH - 1);

	origin[got > 0 ? got : 0] = '\0';
	return got > 0;
}

static int write_origin(int dir, const char *name, const struct member *m)
{
	char path[RECORD_PATH];

	unlinkat(dir, record_of(name, &m->who, path), 0);
	return symlinkat(m->origin, dir, path) == 0 ? 0 : -errno;
}

/*
 * Walk the records. They stay as long as the cgroup does, also of those who left or ended: children of theirs that are
 * in it came from there too.
 */
static int records_walk(int dir, const char *name, int (*fn)(int dir, const char *entry, void *arg), void *arg)
{
	char path[RECORD_PATH];
	int fd = openat(dir, record_of(name, NULL, path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), ret = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (d && !ret && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			ret = fn(fd, entry->d_name, arg);
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	return ret;
}

static int drop_record(int dir, const char *entry, void *arg)
{
	(void)arg;
	unlinkat(dir, entry, 0);
	return 0;
}

static int take_origin(int dir, const char *entry, void *arg)
{
	char *origin = arg;
	ssize_t got = readlinkat(dir, entry, origin, CGROUP_PATH - 1);

	origin[got > 0 ? got : 0] = '\0';
	return got > 0;
}

static void drop_records(int dir, const char *name)
{
	char path[RECORD_PATH];

	records_walk(dir, name, drop_record, NULL);
	unlinkat(dir, record_of(name, NULL, path), AT_REMOVEDIR);
}

/* ---------------------------------------------------------------- nodes ---- */

/* What a list comes down to on the host. */
static int host_nodes(const struct cgroups *c, const char *list, gw_nodemask *nodes)
{
	char have[NODES_TEXT];
	int err = gw_nodes_parse(list, 64 - __builtin_clzll(c->nodes), nodes);

	if (!err && (list[0] == '!' || list[0] == 'a'))
		*nodes &= c->nodes; /* a host may lack a number in between */
	if (!err && *nodes && !(*nodes & ~c->nodes))
		return 0;
	return say_error("node list '%s': processes without an engine are on the host's nodes, and that has %s", list,
			 nodes_text(c->nodes, have));
}

static bool any_kernel(const struct group *g)
{
	for (int i = 0; i < g->nr; i++)
		if (g->members[i].kernel)
			return true;
	return false;
}

/* ---------------------------------------------------------------- counting ---- */

static uint64_t outside(int pid, gw_nodemask nodes)
{
	uint64_t pages[GW_MAX_NODES], sum = 0;

	if (process_pages(pid, true, pages))
		return 0;
	for (int n = 0; n < GW_MAX_NODES; n++)
		sum += nodes >> n & 1 ? 0 : pages[n];
	return sum;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Before the kernel moves its pages. */
static void count_before(struct member *m, gw_nodemask nodes)
{
	memset(&m->res, 0, sizeof(m->res));
	m->nodes = nodes;
	m->nr_nodes = GW_MAX_NODES;
	process_name(m->who.pid, "", m->command, sizeof(m->command));
	m->res.pages_total = outside(m->who.pid, nodes);
	m->res.ns = now_ns();
}

/* The kernel does not say what stayed, or why; what is elsewhere is still elsewhere. */
static void count_after(struct member *m, bool follow)
{
	uint64_t left = outside(m->who.pid, m->nodes);

	m->res.ns = now_ns() - m->res.ns;
	m->res.state = 1;
	m->res.pages_moved = m->res.pages_total > left ? m->res.pages_total - left : 0;
	if (follow)
		m->res.pages_failed = m->res.failed[EBUSY] = left;
	m->state = member_lives(m) ? MEMBER_TOLD : MEMBER_ENDED;
}

/* ---------------------------------------------------------------- joining ---- */

/* Which of the groups in this place has the process in its cgroup; "": none. CLI_FAILED: one of another place. */
static int find_group(const struct group *g, const char *origin, char name[CTL_GROUP_MAX], int pid)
{
	static const char top[] = "/godwit/";

	name[0] = '\0';
	if (strncmp(origin, top, strlen(top)) != 0)
		return 0;
	snprintf(name, CTL_GROUP_MAX, "%s", origin + strlen(top));
	if (group_name_valid(name) && group_has_cgroup(g->dir, name))
		return 0;
	return say_error("PID %d is in cgroup %s, of a group of another runtime directory: remove it there first", pid,
			 origin);
}

int kernel_check(struct group *g, const struct group_change *change)
{
	gw_nodemask nodes;
	struct cgroups c = { 0 };
	uid_t was;
	int err;

	if (!any_kernel(g) && !group_has_cgroup(g->dir, g->name))
		return 0;
	was = act_as_root();
	err = cgroups_find(&c);
	if (!err)
		err = host_nodes(&c, g->list, &nodes);
	if (!err && !change->follow && c.version == 2)
		err = say_error(
			"--no-follow: cgroup v2 moves the pages of processes without an engine whenever their nodes "
			"change");
	for (int i = 0; i < g->nr && !err; i++)
		if (g->members[i].kernel && !g->members[i].joined)
			err = cgroup_may_take(&c, g->members[i].who.pid);
	act_as(was);
	if (!err && any_kernel(g) && (change->opt.rate || change->opt.stall_us_max || change->opt.flags))
		say_note("processes without an engine are moved by the kernel, at once: --rate, --max-stall and "
			 "--break-cow are for the others");
	return err;
}

/* As it was: those who came are where they came from, and there is no cgroup that was not there. */
static void undo_join(const struct cgroups *c, struct group *g, bool made)
{
	for (int i = 0; i < g->nr; i++)
		if (g->members[i].kernel && g->members[i].joined)
			cgroup_enter(c, g->members[i].origin, g->members[i].who.pid);
	if (made)
		cgroup_remove(c, g->name);
}

static int join_one(const struct cgroups *c, struct group *g, struct member *m, gw_nodemask nodes)
{
	char path[CGROUP_PATH], old[CTL_GROUP_MAX];
	int err = cgroup_of(c, m->who.pid, m->origin);

	if (!err)
		err = find_group(g, m->origin, old, m->who.pid);
	if (err)
		return err == -ESRCH ? say_error("no process %d", m->who.pid) : err;
	count_before(m, nodes);
	if (strcmp(m->origin, cgroup_path(g->name, path)) != 0)
		err = cgroup_enter(c, path, m->who.pid);
	if (err == -ESRCH)
		return say_error("no process %d", m->who.pid);
	m->joined = !err;
	return err;
}

int kernel_join(struct group *g, bool follow)
{
	struct cgroups c = { 0 };
	gw_nodemask nodes;
	bool made;
	uid_t was;
	int err;

	if (!any_kernel(g))
		return 0;
	was = act_as_root();
	made = !group_has_cgroup(g->dir, g->name);
	err = cgroups_find(&c);
	if (!err)
		err = host_nodes(&c, g->list, &nodes);
	if (!err && made)
		err = cgroup_make(&c, g->name, nodes, follow);
	if (err)
		made = false;
	for (int i = 0; i < g->nr && !err; i++)
		if (g->members[i].kernel)
			err = join_one(&c, g, &g->members[i], nodes);
	if (err)
		undo_join(&c, g, made);
	for (int i = 0; i < g->nr && !err; i++)
		if (g->members[i].kernel)
			count_after(&g->members[i], follow);
	act_as(was);
	return err;
}

void kernel_undo_join(struct group *g)
{
	struct cgroups c = { 0 };
	uid_t was;

	if (!any_kernel(g))
		return;
	was = act_as_root();
	if (!cgroups_find(&c))
		undo_join(&c, g, !group_has_cgroup(g->dir, g->name));
	act_as(was);
}

/* Where a member of another group came from before that is where it belongs when it leaves this one. */
int kernel_record(struct group *g)
{
	char path[RECORD_PATH], old[CTL_GROUP_MAX], origin[CGROUP_PATH];
	int err = 0;

	if (!any_kernel(g))
		return 0;
	if (mkdirat(g->dir, record_of(g->name, NULL, path), 0700) != 0 && errno != EEXIST)
		return say_error("group %s: %s", g->name, strerror(errno));
	for (int i = 0; i < g->nr && !err; i++) {
		struct member *m = &g->members[i];

		if (!m->kernel || find_group(g, m->origin, old, m->who.pid))
			continue;
		if (strcmp(old, g->name) == 0)
			continue;
		if (old[0]) {
			if (read_origin(g->dir, old, &m->who, origin))
				memcpy(m->origin, origin, sizeof(origin));
			else
				strcpy(m->origin, "/");
			kernel_prune(g->dir, old);
			group_end(g->dir, old);
		}
		err = write_origin(g->dir, g->name, m);
	}
	return err ? say_error("group %s: %s", g->name, strerror(-err)) : 0;
}

/* ---------------------------------------------------------------- those who are in it ---- */

static int list_process(int pid, void *arg)
{
	struct group *g = arg;
	uint64_t start;
	int parent;

	if (group_find(g, pid) || process_times(pid, &start, &parent))
		return 0; /* it has an engine, and a parent that has none; or it has ended */
	if (group_add(g, pid))
		return -ENOMEM;
	g->members[g->nr - 1].kernel = g->members[g->nr - 1].joined = true;
	return 0;
}

int kernel_list(struct group *g)
{
	struct cgroups c = { 0 };
	uid_t was;
	int err;

	if (!group_has_cgroup(g->dir, g->name))
		return 0;
	was = act_as_root();
	err = cgroups_find(&c);
	if (!err)
		err = cgroup_walk(&c, g->name, list_process, g);
	if (!err)
		err = cgroup_nodes(&c, g->name, &g->host_nodes);
	act_as(was);
	if (err == -ENOENT)
		return say_error("group %s: its cgroup is gone: somebody else removed it", g->name);
	return err < 0 ? say_error("group %s: its cgroup: %s", g->name, strerror(-err)) : err;
}

int kernel_set(struct group *g, bool follow)
{
	struct cgroups c = { 0 };
	gw_nodemask nodes;
	uid_t was;
	int err;

	if (!group_has_cgroup(g->dir, g->name))
		return 0;
	was = act_as_root();
	err = cgroups_find(&c);
	if (!err)
		err = host_nodes(&c, g->list, &nodes);
	for (int i = 0; i < g->nr && !err; i++)
		if (g->members[i].kernel)
			count_before(&g->members[i], nodes);
	if (!err)
		err = cgroup_set(&c, g->name, nodes, follow);
	for (int i = 0; i < g->nr && !err; i++)
		if (g->members[i].kernel)
			count_after(&g->members[i], follow);
	act_as(was);
	return err;
}

/* ---------------------------------------------------------------- leaving ---- */

/* Its own record, or that of who forked it; a cgroup that is gone has a parent that is not. */
static void find_origin(const struct group *g, int pid, char origin[CGROUP_PATH])
{
	struct group_member who = { .pid = pid };
	int parent;

	for (int i = 0; i < 1000 && who.pid > 1; i++) {
		if (process_times(who.pid, &who.start, &parent))
			break;
		if (read_origin(g->dir, g->name, &who, origin))
			return;
		who.pid = parent;
	}
	if (!records_walk(g->dir, g->name, take_origin, origin))
		strcpy(origin, "/");
}

static int put_back(const struct cgroups *c, int pid, char origin[CGROUP_PATH])
{
	char name[256 + CGROUP_PATH];

	for (;;) {
		char *slash = strrchr(origin, '/');

		snprintf(name, sizeof(name), "%s%s", c->root, origin);
		if (access(name, F_OK) == 0 || !slash)
			return cgroup_enter(c, origin, pid);
		slash[slash == origin] = '\0';
	}
}

static void leave_one(const struct cgroups *c, struct group *g, struct member *m)
{
	char origin[CGROUP_PATH];
	int err;

	process_name(m->who.pid, "", m->command, sizeof(m->command));
	find_origin(g, m->who.pid, origin);
	err = put_back(c, m->who.pid, origin);
	m->state = !err ? MEMBER_TOLD : err == -ESRCH ? MEMBER_ENDED : MEMBER_SILENT;
}

void kernel_leave(struct group *g, bool all)
{
	struct cgroups c = { 0 };
	bool left = true;
	uid_t was;

	if (!group_has_cgroup(g->dir, g->name))
		return;
	was = act_as_root();
	if (cgroups_find(&c)) {
		act_as(was);
		return;
	}
	/* who is forked while the others are moved is found in the next sweep */
	for (int sweep = 0; sweep < SWEEPS && left; sweep++) {
		left = false;
		for (int i = 0; i < g->nr; i++) {
			if (!g->members[i].kernel || g->members[i].state != MEMBER_NEW)
				continue;
			leave_one(&c, g, &g->members[i]);
			left = true;
		}
		if (all && left)
			cgroup_walk(&c, g->name, list_process, g);
	}
	act_as(was);
	kernel_prune(g->dir, g->name);
}

static int somebody(int pid, void *arg)
{
	(void)pid;
	(void)arg;
	return 1;
}

void kernel_prune(int dir, const char *name)
{
	struct cgroups c = { 0 };
	uid_t was;

	if (!group_has_cgroup(dir, name))
		return;
	was = act_as_root();
	if (cgroups_try(&c) && cgroup_walk(&c, name, somebody, NULL) != 1) {
		cgroup_remove(&c, name);
		act_as(was);
		drop_records(dir, name);
	}
	act_as(was);
}

/* ---------------------------------------------------------------- showing ---- */

void kernel_ask(struct member *m, gw_nodemask nodes)
{
	uid_t was = act_as_root();
	int err = process_pages(m->who.pid, false, m->pages);

	act_as(was);
	m->nodes = nodes;
	process_name(m->who.pid, "", m->command, sizeof(m->command));
	m->state = !err ? MEMBER_TOLD : member_lives(m) ? MEMBER_SILENT : MEMBER_ENDED;
}

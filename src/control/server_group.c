/* SPDX-License-Identifier: MIT */
/*
 * The engine as a member of a group. The command enters and leaves for others, and tells their engines (ALLOW). By
 * itself an engine does what nobody could tell it in time:
 *
 *   fork      the child has the parent's nodes with its memory. It enters itself, and then looks what nodes the group
 *             has: who changes them writes first and then reads who is a member, so one of the two sees the other
 *   execve    the new engine finds its process entered, and begins with the group's nodes
 *   vfork, posix_spawn   the new engine finds its parent entered, or the name in its environment, and enters itself
 *   exit      the entry goes, and with the last one the group; a process that is killed leaves that to the next command
 */
#include "control/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_MS 1000
#define EXIT_MS 20
#define SAVED "GODWIT_GROUP="

/* As `here` of server.c: must be known at exit, in a signal and after a fork. Service thread; at exit any. */
static struct {
	char name[CTL_GROUP_MAX]; /* "": a member of none */
	struct group_member self; /* pid 0, or a parent's: not entered yet */
	char dir[CTL_PATH_MAX];
	char *saved; /* where the environment has the name, or NULL */
} member __attribute__((section("gw_data"))) = { .saved = NULL };

/* ---- the name in the environment ---- */

/* Programs use this memory for other things, such as a title: then it is theirs. */
static bool is_saved(const char *saved)
{
	return saved && !strncmp(saved - strlen(SAVED), SAVED, strlen(SAVED)) &&
	       memchr(saved, 0, GW_GROUP_SAVED + 1) == saved + GW_GROUP_SAVED;
}

static void name_set(const char *name)
{
	size_t len = strlen(name);

	memcpy(member.name, name, len + 1);
	if (!is_saved(member.saved))
		return;
	for (size_t i = 0; i < GW_GROUP_SAVED; i++)
		member.saved[i] = i < len ? name[i] : ' ';
}

static void name_saved(char name[CTL_GROUP_MAX])
{
	size_t len = 0;

	name[0] = '\0';
	if (!is_saved(member.saved))
		return;
	while (len < GW_GROUP_SAVED && member.saved[len] != ' ')
		len++;
	memcpy(name, member.saved, len);
	name[len] = '\0';
	if (!group_name_valid(name))
		name[0] = '\0';
}

/* ---- who we are ---- */

static int self_read(int *parent)
{
	struct group_member *self = &member.self;
	int err;

	self->pid = (int)sys0(SYS_getpid);
	err = process_times(0, &self->start, parent);
	self->since = self->start;
	return err;
}

/* Entered before, as another program; else as the parent, if that was a member when this process began; else by name. */
static bool name_find(int dir, int parent, char name[CTL_GROUP_MAX])
{
	struct group_member other = { .pid = parent };
	int none;

	if (!group_of(dir, &member.self, name))
		return true;
	if (parent && !process_times(parent, &other.start, &none) && !group_of(dir, &other, name))
		return member.self.start >= other.since;
	name_saved(name);
	return name[0];
}

/* The group's nodes, as far as we have them. 0: there is no such group, or it has none of ours. */
static gw_nodemask nodes_now(struct gw_engine *e, int dir, const char *name)
{
	int nr = gw_node_count(e);
	gw_nodemask nodes = 0;
	char list[GROUP_LIST_MAX];

	if (group_nodes(dir, name, list) || gw_nodes_parse(list, 64, &nodes))
		return 0;
	if (list[0] == '!' || !strcmp(list, "all"))
		return gw_nodes_parse(list, nr, &nodes) ? 0 : nodes;
	return nr < 64 ? nodes & ((1ULL << nr) - 1) : nodes;
}

/* ---- the beginning of a program ---- */

static int inherit(struct gw_engine *e, void *arg)
{
	char name[CTL_GROUP_MAX];
	gw_nodemask nodes = 0;
	int parent = 0, dir = groups_open(member.dir);

	(void)arg;
	if (dir < 0)
		return 0;
	name_set("");
	/* mostly there are no groups */
	if (!sys3(SYS_faccessat, dir, "groups", 0) && !self_read(&parent) && name_find(dir, parent, name))
		nodes = nodes_now(e, dir, name);
	if (nodes && !gw_nodes_inherit(e, nodes))
		name_set(name);
	sys1(SYS_close, dir);
	return 0;
}

int gw_group_inherit(struct gw_engine *e, char *saved)
{
	uint32_t uid = (uint32_t)sys0(SYS_geteuid);
	char base[CTL_PATH_MAX];
	int err = ctl_runtime_base(base, sizeof(base), getenv("XDG_RUNTIME_DIR"), uid);

	if (!err)
		err = ctl_runtime_dir(member.dir, sizeof(member.dir), base, uid, false);
	member.saved = saved;
	return err ? 0 : gw_call(e, inherit, NULL);
}

/* ---- joining ---- */

/* What the group has become since the nodes were read or inherited; without one all nodes are allowed. */
static void catch_up(struct server *s, int dir)
{
	gw_nodemask nodes = member.name[0] ? nodes_now(s->e, dir, member.name) : 0;
	bool gone = !nodes;

	if (gone) {
		name_set("");
		gw_nodes_parse("all", gw_node_count(s->e), &nodes);
	}
	if (nodes != gw_nodes_allowed(s->e) && gw_job_allow(s->e, nodes, !gone, NULL, kick, s, &s->own))
		s->own = NULL;
}

/* Who does not get the lock in time is entered without: at worst into a group that is just ending. */
static int enter(int dir)
{
	int parent, err = self_read(&parent);

	if (!err) {
		groups_lock(dir, JOIN_MS);
		err = group_enter(dir, member.name, &member.self);
		groups_unlock(dir);
	}
	return err;
}

void group_join(struct server *s, const char *dir)
{
	int at;

	memcpy(member.dir, dir, strlen(dir) + 1);
	if (!member.name[0])
		return;
	at = groups_open(dir);
	if (at < 0)
		return;
	if (enter(at))
		name_set("");
	catch_up(s, at);
	sys1(SYS_close, at);
}

void group_told(const char *name)
{
	int parent;

	name_set(name);
	if (name[0] && member.self.pid != (int)sys0(SYS_getpid))
		self_read(&parent);
}

void group_look_after(struct server *s)
{
	if (!s->own || !gw_job_progress(s->own, NULL))
		return;
	gw_job_end(s->own);
	s->own = NULL;
}

/* ---- the end ---- */

/* An entry that cannot be taken out now is seen to be a dead one's later. */
void group_exit(void)
{
	int dir;

	if (!member.name[0] || member.self.pid != (int)sys0(SYS_getpid))
		return;
	dir = groups_open(member.dir);
	if (dir < 0)
		return;
	if (!groups_lock(dir, EXIT_MS)) {
		group_leave(dir, member.name, &member.self);
		group_end(dir, member.name);
	}
	sys1(SYS_close, dir);
}

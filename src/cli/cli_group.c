/* SPDX-License-Identifier: MIT */
/*
 * godwit group: sets of processes with allowed nodes, as cpusets are.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 10	/* looks for children that were forked meanwhile */
#define ENGINE_TURNS 50	/* 20 ms each, for the engine of a program that is starting */

/* ---------------------------------------------------------------- operands ---- */

static int take_name(struct group *g, const char *name)
{
	if (!group_name_valid(name))
		return say_error("group name '%s': expected up to %d of a-z A-Z 0-9 _ - . and not - or . first",
				 name, GW_GROUP_SAVED);
	snprintf(g->name, sizeof(g->name), "%s", name);
	return 0;
}

/* Whether there are such nodes depends on the member; a list that is none is none for everybody. */
static int take_list(struct group *g, const char *list)
{
	gw_nodemask nodes;
	int err = gw_nodes_parse(list, GW_MAX_NODES, &nodes);

	if (err == -ENODEV)
		return say_error("node list '%s': a process has at most %d nodes, from 0", list, GW_MAX_NODES);
	if (err || strlen(list) >= sizeof(g->list))
		return say_error("node list '%s': expected a list as 0  0,2  0-1  !1  all", list);
	snprintf(g->list, sizeof(g->list), "%s", list);
	return 0;
}

static void take_options(const struct cli_args *args, struct group_change *change)
{
	change->follow = !args_has(args, OPT_NO_FOLLOW);
	change->progress = isatty(STDERR_FILENO) && !args_has(args, OPT_QUIET);
	change->opt = (struct gw_migrate_options){
		.size = sizeof(change->opt),
		.flags = args_has(args, OPT_BREAK_COW) ? GW_MIGRATE_BREAK_COW : 0,
		.stall_us_max = (uint32_t)args_number(args, OPT_MAX_STALL, 0),
		.rate = args_number(args, OPT_RATE, 0) * 1000000,
	};
}

/* ---------------------------------------------------------------- finding one ---- */

/* The first place that has it; where there is none, said. */
static int open_existing(struct group *g)
{
	struct place places[PLACES_MAX];
	char list[GROUP_LIST_MAX], dir[CTL_PATH_MAX];
	int nr = places_of_all(places);

	for (int i = 0; i < nr; i++) {
		int fd = -1, err = ctl_runtime_dir(dir, sizeof(dir), places[i].base, places[i].uid, false);

		if (!err)
			fd = groups_open(dir);
		if (fd >= 0)
			err = group_nodes(fd, g->name, list);
		if (fd >= 0)
			close(fd);
		if (!err && fd >= 0)
			return group_open(g, &places[i], false);
	}
	return say_error("no group '%s': see 'godwit group show'", g->name);
}

/* A program that has the engine mapped and does not answer is just starting, or is another place's. */
static bool has_engine_mapped(int pid)
{
	char path[64], *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && !found && getline(&line, &room, f) > 0)
		found = strstr(line, "/libgodwit.so") != NULL;
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Is it a member by an engine, or by the kernel? s is open to the engine. -ESRCH, or CLI_FAILED after saying why. */
static int find_engine(struct session *s, struct member *m)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	int err = -ENOENT;

	s->patience_ms = SESSION_TIMEOUT_MS;
	s->mute = false;
	for (int turn = 0; turn < ENGINE_TURNS && err == -ENOENT; turn++) {
		err = session_try(s, m->who.pid);
		if (err != -ENOENT)
			return err;
		if (!has_engine_mapped(m->who.pid)) {
			m->kernel = true;
			return 0;
		}
		nanosleep(&pause, NULL);
	}
	return say_error("PID %d has godwit's library, and no engine that answers: is it of another runtime directory?",
			 m->who.pid);
}

/* The place of those who are to be members, else the caller's own. */
static int open_for(struct group *g, bool make)
{
	struct place places[PLACES_MAX];
	struct member *first = NULL;	/* that has an engine */
	struct session s;
	int err = 0;

	for (int i = 0; i < g->nr && !err; i++) {
		struct member *m = &g->members[i];

		err = find_engine(&s, m);
		if (err == -ESRCH)
			return say_error("no process %d", m->who.pid);
		if (err || m->kernel)
			continue;
		session_close(&s);
		if (!first)
			places[0] = s.place;
		first = first ? first : m;
		if (strcmp(places[0].base, s.place.base) != 0)
			err = say_error("PID %d's socket is in %s/godwit, PID %d's in %s/godwit: not one group",
					s.pid, s.place.base, first->who.pid, places[0].base);
	}
	if (!err && !first && g->nr && !make)
		return open_existing(g); /* root's add to any user's group */
	if (!err && !first && places_of_all(places) == 0)
		return say_error("no runtime directory");
	return err ? err : group_open(g, &places[0], make);
}

/* The turn, and the group without those that were killed. */
static int begin(struct group *g, bool make)
{
	int err = group_turn(g, make);

	if (!err)
		err = group_lock(g);
	if (err)
		return err;
	groups_prune(g->dir);
	group_unlock(g);
	return 0;
}

/* ---------------------------------------------------------------- telling ---- */

/* Everybody has the nodes, or nothing is done. */
static int check_members(struct group *g)
{
	struct session s;
	int status = 0;

	for (int i = 0; i < g->nr && !status; i++) {
		struct member *m = &g->members[i];

		if (m->kernel)
			continue;
		m->state = member_open(&s, m, SESSION_TIMEOUT_MS);
		if (m->state != MEMBER_NEW)
			continue;
		status = member_nodes(m, g->list);
		session_close(&s);
	}
	return status;
}

static void tell_new(struct group *g, struct group_change *change)
{
	for (int i = 0; i < g->nr; i++) {
		struct member *m = &g->members[i];

		if (m->state != MEMBER_NEW || m->kernel)
			continue;
		member_tell(m, g, change);
		/* who has cancelled wants no other pages moved either, but the nodes are to be the same for all */
		if (m->state == MEMBER_TOLD && m->res.state == 2)
			change->follow = false;
	}
}

static bool any_new(const struct group *g)
{
	for (int i = 0; i < g->nr; i++)
		if (g->members[i].state == MEMBER_NEW && !g->members[i].kernel)
			return true;
	return false;
}

static int count(const struct group *g, enum member_state state)
{
	int nr = 0;

	for (int i = 0; i < g->nr; i++)
		nr += g->members[i].state == state;
	return nr;
}

static uint64_t pages_left(const struct group *g)
{
	uint64_t left = 0;

	for (int i = 0; i < g->nr; i++)
		left += result_pages_left(&g->members[i].res);
	return left;
}

static bool complete(const struct group *g)
{
	return !count(g, MEMBER_SILENT) && !count(g, MEMBER_NO_ENGINE) && !pages_left(g);
}

/* ---------------------------------------------------------------- what was done ---- */

static const char *state_text(enum member_state state)
{
	static const char *const texts[] = {
		[MEMBER_NEW] = "not told", [MEMBER_TOLD] = "done",	  [MEMBER_ENDED] = "ended",
		[MEMBER_NO_ENGINE] = "no engine", [MEMBER_SILENT] = "failed",
	};

	return texts[state];
}

/* The kernel measures none. */
static void json_unknown_stalls(cJSON *item)
{
	static const char *const keys[] = { "stall_us_max",	"stall_us_p99",	    "stall_us_p999",
					    "thp_stall_us_max", "thp_stall_us_p99", "thp_stall_us_p999" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		cJSON_ReplaceItemInObjectCaseSensitive(item, keys[i], cJSON_CreateNull());
}

static void json_change(const struct group *g, const char *before)
{
	cJSON *object = json_object(), *list;
	uint64_t moved = 0;
	char nodes[NODES_TEXT];

	json_add_text(object, "group", g->name);
	json_add_text(object, "nodes", g->list);
	if (before)
		json_add_text(object, "before", before);
	else
		json_add_null(object, "before");
	list = json_add_array(object, "members");
	for (int i = 0; i < g->nr; i++) {
		const struct member *m = &g->members[i];
		cJSON *item = json_append_object(list);

		json_add_u64(item, "pid", (uint64_t)m->who.pid);
		json_add_text(item, "command", m->command);
		json_add_text(item, "state", state_text(m->state));
		json_add_text(item, "via", m->kernel ? "kernel" : "engine");
		json_add_text(item, "nodes", nodes_text(m->nodes, nodes));
		result_json(item, &m->res);
		if (m->kernel)
			json_unknown_stalls(item);
		moved += m->res.pages_moved;
	}
	json_add_u64(object, "pages_moved", moved);
	json_add_u64(object, "pages_left", pages_left(g));
	json_add_bool(object, "complete", complete(g));
	json_print(object, stdout);
}

static void print_member(const struct member *m, bool moves)
{
	const struct gw_migrate_result *res = &m->res;
	char size[SIZE_TEXT], clean[64];

	printf("PID %d (%s)%s: ", m->who.pid, clean_text(m->command, clean, sizeof(clean)),
	       m->kernel ? ", by the kernel" : "");
	if (m->state != MEMBER_TOLD) {
		puts(state_text(m->state));
		return;
	}
	if (!moves) {
		puts(state_text(m->state));
		return;
	}
	if (m->kernel) {
		printf("moved %" PRIu64 " of %" PRIu64 " pages (%s) that were elsewhere in %.3f s\n", res->pages_moved,
		       res->pages_total, size_text(res->pages_moved * GW_PAGE_SIZE, size), (double)res->ns / 1e9);
		if (res->pages_failed)
			printf("  stayed     %" PRIu64 " pages: the kernel does not say why\n", res->pages_failed);
		return;
	}
	printf("moved %" PRIu64 " of %" PRIu64 " pages (%s) in %.3f s, worst stall %.1f us%s\n", res->pages_moved,
	       res->pages_total, size_text(res->pages_moved * GW_PAGE_SIZE, size), (double)res->ns / 1e9,
	       (double)(res->stall_ns_max > res->thp_stall_ns_max ? res->stall_ns_max : res->thp_stall_ns_max) / 1000,
	       res->state == 2 ? ", cancelled" : "");
	result_print_failed(res, "  stayed");
}

static void print_change(const struct group *g, const char *before, bool moves)
{
	printf("group %s: nodes %s%s%s, %d member%s\n", g->name, g->list, before ? ", before " : "",
	       before ? before : "",
	       g->nr - count(g, MEMBER_ENDED), g->nr - count(g, MEMBER_ENDED) == 1 ? "" : "s");
	for (int i = 0; i < g->nr; i++)
		print_member(&g->members[i], moves);
}

static int report(const struct cli_args *args, const struct group *g, const char *before)
{
	if (args_has(args, OPT_JSON))
		json_change(g, before);
	else if (!args_has(args, OPT_QUIET))
		print_change(g, before, !args_has(args, OPT_NO_FOLLOW));
	return complete(g) ? CLI_DONE : CLI_LEFT;
}

/* ---------------------------------------------------------------- create, add ---- */

/* Each leaves the group that it is in, which ends with its last member. */
static int enter_all(struct group *g)
{
	char old[CTL_GROUP_MAX];
	int err = 0;

	for (int i = 0; i < g->nr && !err; i++) {
		struct member *m = &g->members[i];
		struct group_member who = m->who;

		if (m->kernel)
			continue;
		if (!group_of(g->dir, &who, old)) {
			if (strcmp(old, g->name) == 0)
				continue;
			group_leave(g->dir, old, &who);
			group_end(g->dir, old);
		}
		m->who.since = ticks_now();
		err = group_enter(g->dir, g->name, &m->who);
	}
	return err ? say_error("group %s: %s", g->name, strerror(-err)) : 0;
}

static int enter(struct group *g, bool make)
{
	char list[GROUP_LIST_MAX];
	int err = group_lock(g), there;

	if (err)
		return err;
	there = group_nodes(g->dir, g->name, list);
	if (!make && there)
		err = say_error("no group '%s'", g->name);
	else if (make && (there = group_set(g->dir, g->name, g->list)) != 0)
		err = say_error("group %s: %s", g->name, strerror(-there));
	if (!err)
		err = enter_all(g);
	group_unlock(g);
	return err;
}

static int join(const struct cli_args *args, struct group *g, char **pids, bool make)
{
	struct group_change change = { 0 };
	int nr = (int)(args->operands + args->nr - pids), err = 0, pid;
	char there[GROUP_LIST_MAX];

	take_options(args, &change);
	for (int i = 0; i < nr && !err; i++)
		if (session_pid(pids[i], &pid) || group_add(g, pid))
			err = CLI_FAILED;
	if (!err)
		err = open_for(g, make);
	if (!err)
		err = begin(g, make);
	if (!err && make && !group_nodes(g->dir, g->name, there))
		err = say_error("group '%s' exists: see 'godwit group set' and 'add'", g->name);
	if (!err && !make && group_nodes(g->dir, g->name, g->list))
		err = say_error("no group '%s' of this user's processes: see 'godwit group show'", g->name);
	if (!err)
		err = check_members(g);
	if (!err && (count(g, MEMBER_SILENT) || count(g, MEMBER_NO_ENGINE) || count(g, MEMBER_ENDED)))
		err = CLI_FAILED;
	if (!err)
		err = kernel_check(g, &change);
	if (!err)
		err = kernel_join(g, change.follow);
	if (err)
		return err;
	err = enter(g, make);
	if (err) {
		kernel_undo_join(g);
		return err;
	}
	err = kernel_record(g);
	if (err)
		return CLI_LEFT;
	tell_new(g, &change);
	return report(args, g, NULL);
}

static int run_create(const struct cli_args *args)
{
	struct group g = GROUP_INIT;
	int status = CLI_FAILED;

	if (!take_name(&g, args->operands[0]) && !take_list(&g, args->operands[1]))
		status = join(args, &g, args->operands + 2, true);
	if (g.dir >= 0)
		unlinkat(g.dir, "groups", AT_REMOVEDIR); /* if it came to nothing */
	group_close(&g);
	return status;
}

static int run_add(const struct cli_args *args)
{
	struct group g = GROUP_INIT;
	int status = CLI_FAILED;

	if (!take_name(&g, args->operands[0]))
		status = join(args, &g, args->operands + 1, false);
	group_close(&g);
	return status;
}

/* ---------------------------------------------------------------- set ---- */

static int list_locked(struct group *g)
{
	int err = group_lock(g);

	if (!err)
		err = group_list(g);
	group_unlock(g);
	return err;
}

/* From here on whoever is forked has the new nodes; who was forked before is in the list now. */
static int write_nodes(struct group *g, const char *list)
{
	int err = group_lock(g);

	if (err)
		return err;
	err = group_set(g->dir, g->name, list);
	if (err)
		say_error("group %s: %s", g->name, strerror(-err));
	else
		err = group_list(g);
	group_unlock(g);
	return err ? CLI_FAILED : 0;
}

static int change_nodes(const struct cli_args *args, struct group *g, const char *list)
{
	struct group_change change = { 0 };
	char before[GROUP_LIST_MAX];

	take_options(args, &change);
	if (begin(g, false) || list_locked(g) || kernel_list(g))
		return CLI_FAILED;
	memcpy(before, g->list, sizeof(before));
	snprintf(g->list, sizeof(g->list), "%s", list);
	if (check_members(g) || kernel_check(g, &change) || kernel_set(g, change.follow))
		return CLI_FAILED;
	if (write_nodes(g, list)) {
		memcpy(g->list, before, sizeof(before));
		kernel_set(g, change.follow);
		return CLI_FAILED;
	}
	for (int i = 0; i < ROUNDS && any_new(g); i++) {
		tell_new(g, &change);
		if (list_locked(g)) /* the last one has ended meanwhile */
			break;
	}
	return report(args, g, before);
}

static int run_set(const struct cli_args *args)
{
	struct group g = GROUP_INIT;
	int status = CLI_FAILED;

	if (!take_name(&g, args->operands[0]) && !take_list(&g, args->operands[1]) && !open_existing(&g))
		status = change_nodes(args, &g, args->operands[1]);
	group_close(&g);
	return status;
}

/* ---------------------------------------------------------------- remove ---- */

static int pick_members(struct group *g, char **pids)
{
	struct group picked = { .dir = -1, .turn = -1 };
	int pid;

	for (; *pids; pids++) {
		struct member *m = session_pid(*pids, &pid) ? NULL : group_find(g, pid);

		if (!m) {
			free(picked.members);
			return say_error("PID %s is not in group '%s'", *pids, g->name);
		}
		if (group_add(&picked, pid) == 0)
			picked.members[picked.nr - 1] = *m;
	}
	free(g->members);
	g->members = picked.members;
	g->nr = picked.nr;
	g->room = picked.room;
	return 0;
}

/* Those who were told are members no more; who does not answer stays one. Returns whether the group has ended. */
static bool leave_all(struct group *g)
{
	char list[GROUP_LIST_MAX];
	bool ended = false;

	if (group_lock(g))
		return false;
	for (int i = 0; i < g->nr; i++)
		if (!g->members[i].kernel && g->members[i].state != MEMBER_SILENT && g->members[i].state != MEMBER_NEW)
			group_leave(g->dir, g->name, &g->members[i].who);
	group_end(g->dir, g->name);
	ended = group_nodes(g->dir, g->name, list) == -ENOENT;
	group_unlock(g);
	return ended;
}

static int report_leave(const struct cli_args *args, const struct group *g, bool ended)
{
	cJSON *object, *list;

	if (!args_has(args, OPT_JSON)) {
		for (int i = 0; i < g->nr && !args_has(args, OPT_QUIET); i++)
			print_member(&g->members[i], false);
		if (ended && !args_has(args, OPT_QUIET))
			printf("group %s: ended\n", g->name);
		return 0;
	}
	object = json_object();
	json_add_text(object, "group", g->name);
	json_add_bool(object, "ended", ended);
	list = json_add_array(object, "members");
	for (int i = 0; i < g->nr; i++) {
		cJSON *item = json_append_object(list);

		json_add_u64(item, "pid", (uint64_t)g->members[i].who.pid);
		json_add_text(item, "command", g->members[i].command);
		json_add_text(item, "state", state_text(g->members[i].state));
		json_add_text(item, "via", g->members[i].kernel ? "kernel" : "engine");
	}
	json_print(object, stdout);
	return 0;
}

static int remove_members(const struct cli_args *args, struct group *g)
{
	struct group_change change = { .leave = true, .opt = { .size = sizeof(change.opt) } };
	char **pids = args->operands + 1;
	bool ended = false;

	if (begin(g, false) || list_locked(g) || kernel_list(g) || (*pids && pick_members(g, pids)))
		return CLI_FAILED;
	kernel_leave(g, !*pids);
	for (int i = 0; i < ROUNDS && !ended; i++) {
		tell_new(g, &change);
		ended = leave_all(g);
		/* without pids also who was forked by one that had not been told yet */
		if (*pids || ended || list_locked(g) || !any_new(g))
			break;
	}
	report_leave(args, g, ended);
	return count(g, MEMBER_SILENT) ? CLI_LEFT : CLI_DONE;
}

static int run_remove(const struct cli_args *args)
{
	struct group g = GROUP_INIT;
	int status = CLI_FAILED;

	if (!take_name(&g, args->operands[0]) && !open_existing(&g))
		status = remove_members(args, &g);
	group_close(&g);
	return status;
}

static const struct cli_option move_options[] = {
	{ OPT_MAX_STALL, 0, "max-stall", "US", "bound of a stall of a member (microseconds)", 1, 1000000 },
	{ OPT_RATE, 0, "rate", "MB/s", "move at most that much, in 10^6 bytes a second", 1, 1000000000 },
	{ OPT_BREAK_COW, 0, "break-cow", NULL, "also copy pages that a forked child still shares", 0, 0 },
	{ OPT_QUIET, 'q', "quiet", NULL, "no progress and no summary: only the exit status", 0, 0 },
	{ .name = NULL },
};

static const struct cli_option set_options[] = {
	{ OPT_NO_FOLLOW, 0, "no-follow", NULL, "pages stay where they are; only policies are rebound", 0, 0 },
	{ OPT_MAX_STALL, 0, "max-stall", "US", "bound of a stall of a member (microseconds)", 1, 1000000 },
	{ OPT_RATE, 0, "rate", "MB/s", "move at most that much, in 10^6 bytes a second", 1, 1000000000 },
	{ OPT_BREAK_COW, 0, "break-cow", NULL, "also copy pages that a forked child still shares", 0, 0 },
	{ OPT_QUIET, 'q', "quiet", NULL, "no progress and no summary: only the exit status", 0, 0 },
	{ .name = NULL },
};

static const struct cli_option quiet_options[] = {
	{ OPT_QUIET, 'q', "quiet", NULL, "no summary: only the exit status", 0, 0 },
	{ .name = NULL },
};

static const struct cli_command create = {
	.name = "group create",
	.usage = "[OPTION...] NAME NODES [PID...]",
	.summary = "a new group of processes, with the nodes allowed to them",
	.text = "Make the group NAME, with the nodes NODES, and have each PID join it as 'group\n"
		"add' does. NODES is a list as in numactl: 0  0,2  0-1  !1  all; !1 and all\n"
		"count from the nodes of each member. A group ends with its last member; one\n"
		"without stays until it had a first one. A process without an engine joins by a\n"
		"cgroup of the kernel's; its nodes are the host's.\n"
		"Exits with 2 if pages stayed behind, and with 1 if nothing was done.",
	.options = move_options,
	.min = 2,
	.max = CLI_MANY,
	.run = run_create,
};

static const struct cli_command add = {
	.name = "group add",
	.usage = "[OPTION...] NAME PID...",
	.summary = "processes join; their pages follow",
	.text = "Have each PID join the group NAME, and leave the one that it is in. Its pages\n"
		"move to the group's nodes, keeping their relative placement, and its policies\n"
		"are rebound as a cpuset does it. What it forks or executes from then on is in\n"
		"the group too; children that it has join only if they are named.\n"
		"Exits with 2 if pages stayed behind, and with 1 if nothing was done.",
	.options = move_options,
	.min = 2,
	.max = CLI_MANY,
	.run = run_add,
};

static const struct cli_command set = {
	.name = "group set",
	.usage = "[OPTION...] NAME NODES",
	.summary = "other nodes; the pages of all members follow",
	.text = "Give the group NAME other nodes. The pages of its members move along, keeping\n"
		"their relative placement, and their policies are rebound. The same nodes again\n"
		"move what stayed behind the last time. If one member lacks a node nothing is\n"
		"done for anybody. Ctrl-C stops between two batches.\n"
		"Exits with 2 if pages stayed behind or a member did not answer, and with 1 if\n"
		"nothing was done.",
	.options = set_options,
	.min = 2,
	.max = 2,
	.run = run_set,
};

static const struct cli_command remove_ = {
	.name = "group remove",
	.usage = "[-q] [--json] NAME [PID...]",
	.summary = "members leave; without PIDs the group ends",
	.text = "Have each PID, or all members, leave the group NAME: all nodes are allowed to\n"
		"them again, and pages stay where they are. A group ends with its last member.\n"
		"Exits with 2 if a member did not answer: it stays one.",
	.options = quiet_options,
	.min = 1,
	.max = CLI_MANY,
	.run = run_remove,
};

static const struct cli_command *const words[] = { &create, &add, &set, &cli_group_show, &remove_, NULL };

const struct cli_command cli_group = {
	.name = "group",
	.usage = "create|add|set|show|remove [OPTION...] [ARG...]",
	.summary = "sets of processes with allowed nodes; pages follow",
	.text = "A group is a set of processes and the nodes that are allowed to them, as a\n"
		"cpuset is. When a process joins, or the group's nodes change, its pages follow.",
	.words = words,
};

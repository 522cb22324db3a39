/* SPDX-License-Identifier: MIT */
/*
 * godwit ps: the managed processes, found by their sockets.
 */
#define _GNU_SOURCE 1
#include "via.h"
#include "topology/topology.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A process that answers does so within a millisecond; one that is stopped must not hold up the others. */
#define ANSWER_TIMEOUT_MS 1000

struct scan {
	bool json;
	int nr;		/* lines printed */
	int *pids;	/* of them, with room for more */
	int room;
	struct ctl_client client;
	struct ctl_message msg;
};

/* ---------------------------------------------------------------- printing ---- */

static uint64_t managed_bytes(const struct ctl_hello *hello)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < hello->nr_nodes; i++)
		pages += hello->node[i].pages;
	return pages * GW_PAGE_SIZE;
}

static void print_json(const struct scan *scan, int pid, const char *comm, bool answers)
{
	const struct ctl_hello *hello = &scan->client.hello;
	cJSON *object = json_object(), *list;

	json_add_u64(object, "pid", (uint64_t)pid);
	json_add_text(object, "command", comm);
	json_add_text(object, "via", "engine");
	json_add_bool(object, "answers", answers);
	if (answers) {
		json_add_u64(object, "managed_bytes", managed_bytes(hello));
		list = json_add_array(object, "nodes");
		for (uint32_t i = 0; i < hello->nr_nodes; i++) {
			cJSON *node = json_append_object(list);

			json_add_u64(node, "node", i);
			json_add_text(node, "name", hello->node[i].opt.name);
			json_add_u64(node, "pages", hello->node[i].pages);
			json_add_u64(node, "bytes", hello->node[i].pages * GW_PAGE_SIZE);
		}
	}
	json_print(object, stdout);
}

static void print_human(struct scan *scan, int pid, const char *comm, bool answers)
{
	const struct ctl_hello *hello = &scan->client.hello;
	char size[SIZE_TEXT], clean[64];

	if (scan->nr == 0)
		printf("%s%8s %-16s %5s %9s  %s%s\n", tone_begin(TONE_HEAD), "PID", "COMMAND", "NODES",
		       "MANAGED", "BY NODE", tone_end(TONE_HEAD));
	printf("%8d %-16s ", pid, clean_text(comm, clean, sizeof(clean)));
	if (!answers) {
		printf("%5s %9s  does not answer\n", "-", "-");
		return;
	}
	printf("%5u %9s ", hello->nr_nodes, size_text(managed_bytes(hello), size));
	for (uint32_t i = 0; i < hello->nr_nodes; i++)
		printf(" %u:%s", i, size_text(hello->node[i].pages * GW_PAGE_SIZE, size));
	putchar('\n');
}

static void remember(struct scan *scan, int pid)
{
	if (scan->nr == scan->room) {
		int room = scan->room ? scan->room * 2 : 64;
		int *more = realloc(scan->pids, (size_t)room * sizeof(*more));

		if (more) {
			scan->pids = more;
			scan->room = room;
		}
	}
	if (scan->nr < scan->room)
		scan->pids[scan->nr++] = pid;
}

static bool is_managed(void *arg, int pid)
{
	const struct scan *scan = arg;

	for (int i = 0; i < scan->nr; i++)
		if (scan->pids[i] == pid)
			return true;
	return false;
}

static void print_process(struct scan *scan, int pid, bool answers)
{
	char comm[64];

	process_name(pid, answers ? scan->client.hello.comm : "", comm, sizeof(comm));
	if (scan->json)
		print_json(scan, pid, comm, answers);
	else
		print_human(scan, pid, comm, answers);
	remember(scan, pid);
}

/* ---------------------------------------------------------------- scanning ---- */

/* "1234.sock" is 1234; anything else 0. */
static int socket_pid(const char *name)
{
	char *end;
	unsigned long pid = name[0] >= '1' && name[0] <= '9' ? strtoul(name, &end, 10) : 0;

	return pid > 0 && pid <= INT32_MAX && strcmp(end, ".sock") == 0 ? (int)pid : 0;
}

static bool process_gone(int pid)
{
	unsigned int uid;

	return process_owner(pid, &uid) == -ENOENT;
}

/* Stale sockets go, but only out of a directory that is our own. */
static void visit(struct scan *scan, const struct place *place, int dir, int pid, const char *name)
{
	char path[CTL_PATH_MAX];
	int err = ctl_socket_path(path, sizeof(path), place->base, pid);

	if (err || pid == getpid())
		return;
	err = ctl_connect(&scan->client, path, pid, ANSWER_TIMEOUT_MS, &scan->msg);
	if (!err) {
		print_process(scan, pid, true);
		ctl_close(&scan->client);
	} else if (err == -ECONNREFUSED && process_gone(pid)) {
		if (place->uid == geteuid())
			unlinkat(dir, name, 0);
	} else if (err != -ECONNREFUSED && err != -ENOENT && err != -ECONNRESET && err != -ESRCH) {
		print_process(scan, pid, false);
	}
}

static int compare_pids(const struct dirent **a, const struct dirent **b)
{
	int x = socket_pid((*a)->d_name), y = socket_pid((*b)->d_name);

	return (x > y) - (x < y);
}

static int is_socket(const struct dirent *entry)
{
	return socket_pid(entry->d_name) != 0;
}

static void scan_place(struct scan *scan, const struct place *place)
{
	char name[CTL_PATH_MAX];
	struct dirent **list;
	int nr, dir;

	if (ctl_runtime_dir(name, sizeof(name), place->base, place->uid, false) != 0)
		return;
	dir = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return;
	nr = scandirat(dir, ".", &list, is_socket, compare_pids);
	for (int i = 0; i < nr; i++) {
		visit(scan, place, dir, socket_pid(list[i]->d_name), list[i]->d_name);
		free(list[i]);
	}
	if (nr >= 0)
		free(list);
	close(dir);
	if (place->uid == geteuid())
		topology_sweep(name);
}

static int run(const struct cli_args *args)
{
	struct scan scan = { .json = args_has(args, OPT_JSON) };
	struct place places[PLACES_MAX];
	int nr = places_of_all(places);

	for (int i = 0; i < nr; i++) {
		scan_place(&scan, &places[i]);
		groups_prune_place(&places[i]);
	}
	if (scan.nr == 0 && !scan.json)
		puts("no managed process: start one with 'godwit run -- CMD'");
	if (args_has(args, OPT_ALL))
		ps_unmanaged(scan.json, is_managed, &scan);
	free(scan.pids);
	return CLI_DONE;
}

static const struct cli_option options[] = {
	{ OPT_ALL, 0, "all", NULL, "also processes without an engine, by NUMA nodes of the host", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_ps = {
	.name = "ps",
	.usage = "[--all] [--json]",
	.summary = "the managed processes, or all",
	.text = "List the processes that have a godwit engine: yours, and for root everybody's.\n"
		"JSON: one line each. With --all those without an engine too: all their pages are\n"
		"counted, which takes a while where there are many.",
	.options = options,
	.run = run,
};

/* SPDX-License-Identifier: MIT */
/* Pages of any process by NUMA node and kind: godwit stat --via kernel, godwit ps --all. */
#include "via.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- counting ---- */

static int count(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr)
{
	struct node_counts *c = arg;

	(void)vma;
	for (uint32_t i = 0; i < nr; i++) {
		const struct kernel_unit *u = &units[i];

		if (u->node < 0) {
			c->swapped += u->pages;
			continue;
		}
		c->pages[u->node][u->kind] += u->pages;
		c->shared[u->node] += u->shared ? u->pages : 0;
	}
	return 0;
}

int node_counts(struct kernel_target *t, bool sharing, struct node_counts *out)
{
	memset(out, 0, sizeof(*out));
	return kernel_walk(t, KERNEL_WALK_SWAP | (sharing ? KERNEL_WALK_SHARED : 0U), count, out);
}

uint64_t node_counts_sum(const struct node_counts *c, int node)
{
	uint64_t sum = 0;

	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		sum += c->pages[node][kind];
	return sum;
}

/* ---------------------------------------------------------------- stat ---- */

static void json_add_free(cJSON *node, int n)
{
	uint64_t room = kernel_node_free(n);

	if (room == ~0ULL)
		json_add_null(node, "free_bytes");
	else
		json_add_u64(node, "free_bytes", room);
}

static void stat_json(const struct actor *a, const char *comm, const struct node_counts *c)
{
	cJSON *object = json_object(), *list;
	char text[NODES_TEXT];

	json_add_u64(object, "pid", (uint64_t)a->pid);
	json_add_text(object, "command", comm);
	json_add_text(object, "via", "kernel");
	list = json_add_array(object, "nodes");
	for (int n = 0; n < KERNEL_NODES; n++) {
		cJSON *node, *kinds;

		if (!(a->host.memory >> n & 1))
			continue;
		node = json_append_object(list);
		json_add_u64(node, "node", (uint64_t)n);
		json_add_u64(node, "pages", node_counts_sum(c, n));
		json_add_u64(node, "bytes", node_counts_sum(c, n) * GW_PAGE_SIZE);
		json_add_u64(node, "pages_shared", c->shared[n]);
		json_add_free(node, n);
		kinds = json_add_object(node, "kinds");
		for (int kind = 0; kind < KERNEL_KINDS; kind++)
			json_add_u64(kinds, kernel_kind_name(kind), c->pages[n][kind]);
	}
	json_add_u64(object, "pages_swapped", c->swapped);
	json_add_u64(object, "pinned_bytes", a->target.pinned_bytes);
	json_add_text(object, "nodes_allowed", nodes_text(a->target.allowed & a->host.online, text));
	json_add_text(object, "cpuset", a->target.cpuset);
	if (a->host.balancing < 0)
		json_add_null(object, "numa_balancing");
	else
		json_add_u64(object, "numa_balancing", (uint64_t)a->host.balancing);
	json_print(object, stdout);
}

static void stat_human(const struct actor *a, const char *comm, const struct node_counts *c)
{
	char size[SIZE_TEXT], free[SIZE_TEXT], clean[64], text[NODES_TEXT];

	printf("PID %d (%s): no engine; pages by NUMA node of the host, in units of 4 KiB\n\n", a->pid,
	       clean_text(comm, clean, sizeof(clean)));
	printf("%sNODE     SIZE     FREE        ANON         THP     HUGETLB      SHARED        FILE      ALSO OTHERS'"
	       "%s\n",
	       tone_begin(TONE_HEAD), tone_end(TONE_HEAD));
	for (int n = 0; n < KERNEL_NODES; n++) {
		uint64_t room = kernel_node_free(n);

		if (!(a->host.memory >> n & 1))
			continue;
		printf("%4d %8s %8s", n, size_text(node_counts_sum(c, n) * GW_PAGE_SIZE, size),
		       room == ~0ULL ? "-" : size_text(room, free));
		for (int kind = 0; kind < KERNEL_KINDS; kind++)
			printf(" %11" PRIu64, c->pages[n][kind]);
		printf(" %16" PRIu64 "\n", c->shared[n]);
	}
	printf("\n%14" PRIu64 "  pages swapped out\n", c->swapped);
	printf("%14" PRIu64 "  kB pinned for long (VmPin): they cannot move\n", a->target.pinned_bytes >> 10);
	printf("%14s  nodes that its cpuset allows\n", nodes_text(a->target.allowed & a->host.online, text));
	if (a->host.balancing > 0)
		printf("%14d  kernel.numa_balancing: pages follow the CPUs that use them\n", a->host.balancing);
}

int kernel_stat_run(const struct cli_args *args, struct actor *a)
{
	struct node_counts c;
	char comm[64];
	int err = node_counts(&a->target, true, &c);

	if (err)
		return kernel_error(&a->target, err);
	process_name(a->pid, "", comm, sizeof(comm));
	(args_has(args, OPT_JSON) ? stat_json : stat_human)(a, comm, &c);
	return CLI_DONE;
}

/* ---------------------------------------------------------------- ps --all ---- */

static void ps_json(int pid, const char *comm, const struct node_counts *c)
{
	cJSON *object = json_object(), *list;

	json_add_u64(object, "pid", (uint64_t)pid);
	json_add_text(object, "command", comm);
	json_add_text(object, "via", "kernel");
	json_add_bool(object, "answers", false);
	list = json_add_array(object, "nodes");
	for (int n = 0; n < KERNEL_NODES; n++) {
		uint64_t pages = node_counts_sum(c, n);
		cJSON *node;

		if (!pages)
			continue;
		node = json_append_object(list);
		json_add_u64(node, "node", (uint64_t)n);
		json_add_u64(node, "pages", pages);
		json_add_u64(node, "bytes", pages * GW_PAGE_SIZE);
	}
	json_print(object, stdout);
}

static void ps_human(int pid, const char *comm, const struct node_counts *c, bool first)
{
	char size[SIZE_TEXT], clean[64];
	uint64_t sum = 0;

	if (first)
		printf("\n%s%8s %-16s %9s  %s%s\n", tone_begin(TONE_HEAD), "PID", "NO ENGINE", "PRESENT",
		       "BY NUMA NODE OF THE HOST", tone_end(TONE_HEAD));
	for (int n = 0; n < KERNEL_NODES; n++)
		sum += node_counts_sum(c, n);
	printf("%8d %-16s %9s ", pid, clean_text(comm, clean, sizeof(clean)), size_text(sum * GW_PAGE_SIZE, size));
	for (int n = 0; n < KERNEL_NODES; n++)
		if (node_counts_sum(c, n))
			printf(" %d:%s", n, size_text(node_counts_sum(c, n) * GW_PAGE_SIZE, size));
	putchar('\n');
}

static int process_number(const struct dirent *entry)
{
	char *end;
	unsigned long pid = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? strtoul(entry->d_name, &end, 10) : 0;

	return pid > 0 && pid <= INT32_MAX && *end == '\0' ? (int)pid : 0;
}

static int is_process(const struct dirent *entry)
{
	return process_number(entry) != 0;
}

static int compare(const struct dirent **a, const struct dirent **b)
{
	int x = process_number(*a), y = process_number(*b);

	return (x > y) - (x < y);
}

/* 1: shown, 0: nothing to show, -1: not permitted. */
static int ps_one(int pid, bool json, bool first)
{
	struct kernel_target t;
	enum kernel_refusal why = kernel_open(&t, pid);
	struct node_counts c;
	char comm[64];
	int err = why == KERNEL_FINE ? node_counts(&t, false, &c) : -ESRCH;

	kernel_close(&t);
	if (why == KERNEL_FORBIDDEN || err == -EPERM || err == -EACCES)
		return -1;
	if (err)
		return 0;
	process_name(pid, "", comm, sizeof(comm));
	if (json)
		ps_json(pid, comm, &c);
	else
		ps_human(pid, comm, &c, first);
	return 1;
}

void ps_unmanaged(bool json, bool (*managed)(void *arg, int pid), void *arg)
{
	int shown = 0, forbidden = 0, nr;
	struct dirent **list;

	nr = scandir("/proc", &list, is_process, compare);
	for (int i = 0; i < nr; i++) {
		int pid = process_number(list[i]), got = 0;

		if (pid != getpid() && !managed(arg, pid))
			got = ps_one(pid, json, shown == 0);
		shown += got > 0;
		forbidden += got < 0;
		free(list[i]);
	}
	if (nr >= 0)
		free(list);
	if (forbidden)
		say_note("%d process%s may not be looked at: run godwit as root to see all", forbidden,
			 forbidden > 1 ? "es" : "");
}

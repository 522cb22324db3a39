/* SPDX-License-Identifier: MIT */
/* Which paths are ours. */
#include "topology/topology.h"

#include <string.h>

#define NODE_DIR "/sys/devices/system/node"
#define CPU_DIR "/sys/devices/system/cpu/cpu"
#define BUS_DIR "/sys/bus/node/devices"
#define CGROUP_DIR "/sys/fs/cgroup/"
#define TREE "/godwit/topology-"

static const struct {
	const char *name;
	enum topology_kind kind;
} live[] = {
	{ "meminfo", TOPOLOGY_MEMINFO },
	{ "numastat", TOPOLOGY_NUMASTAT },
	{ "vmstat", TOPOLOGY_VMSTAT },
	{ "numa_maps", TOPOLOGY_NUMA_MAPS },
	{ "status", TOPOLOGY_STATUS },
	{ "nr_hugepages", TOPOLOGY_HUGEPAGES },
	{ "free_hugepages", TOPOLOGY_HUGEPAGES },
	{ "surplus_hugepages", TOPOLOGY_HUGEPAGES },
	{ "cpuset.mems", TOPOLOGY_CPUSET },
	{ "cpuset.mems.effective", TOPOLOGY_CPUSET },
	{ "cpuset.effective_mems", TOPOLOGY_CPUSET },
};

static enum topology_kind live_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
		if (!strcmp(live[i].name, name))
			return live[i].kind;
	return TOPOLOGY_NONE;
}

/* Behind prefix, or NULL. */
static const char *after(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(path, prefix, len) ? NULL : path + len;
}

/* Digits, of a number that fits an int, up to the end or a slash: where they end, or NULL. */
static const char *number(const char *s, int *out)
{
	int v = 0, nr = 0;

	for (; *s >= '0' && *s <= '9'; s++, nr++) {
		if (nr == 9)
			return NULL;
		v = v * 10 + (*s - '0');
	}
	*out = v;
	return nr && (!*s || *s == '/') ? s : NULL;
}

/* ---- quick ---- */

static bool names_node(const char *part)
{
	int nr;

	if (part[0] == 'n' && !strncmp(part, "node", 4))
		return !part[4] || part[4] == '/' || number(part + 4, &nr);
	return part[0] == 'c' && !strncmp(part, "cpu", 3) && number(part + 3, &nr);
}

bool topology_may_relative(const char *path)
{
	const char *part = path;

	for (;;) {
		const char *end = part;

		if (names_node(part))
			return true;
		while (*end && *end != '/')
			end++;
		if (!*end)
			return live_kind(part) != TOPOLOGY_NONE;
		part = end + 1;
	}
}

/* ---- canonical ---- */

/* The directory of which ".." behind path is the parent: path itself, but for a link to a node. */
static void follow_link(char *path)
{
	char node[32];
	int nr;
	const char *at = after(path, CPU_DIR);

	at = at ? number(at, &nr) : NULL;
	if (!at)
		at = after(path, BUS_DIR);
	if (!at || strncmp(at, "/node", 5) || !number(at + 5, &nr) || strlen(at) >= sizeof(node))
		return;
	memcpy(node, at, strlen(at) + 1);
	memcpy(path, NODE_DIR, strlen(NODE_DIR));
	memcpy(path + strlen(NODE_DIR), node, strlen(node) + 1);
}

static bool add_parts(char *out, const char *path)
{
	while (*path) {
		size_t len = 0, at = strlen(out);

		while (path[len] && path[len] != '/')
			len++;
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			follow_link(out);
			for (at = strlen(out); at && out[at - 1] != '/'; at--)
				;
			out[at ? at - 1 : 0] = '\0';
		} else if (len && !(len == 1 && path[0] == '.')) {
			if (at + len + 2 > TOPOLOGY_PATH)
				return false;
			out[at] = '/';
			memcpy(out + at + 1, path, len);
			out[at + 1 + len] = '\0';
		}
		path += len;
		path += *path == '/';
	}
	return true;
}

bool topology_canonical(char *out, const char *base, const char *rel)
{
	out[0] = '\0';
	return (!base || add_parts(out, base)) && add_parts(out, rel);
}

/* ---- what it is ---- */

/* "/meminfo", "/hugepages/hugepages-2048kB/nr_hugepages": behind a node. */
static enum topology_kind node_file(const char *rest)
{
	const char *name;

	if (rest[0] != '/')
		return TOPOLOGY_TREE;
	name = strrchr(rest, '/') + 1;
	switch (live_kind(name)) {
	case TOPOLOGY_HUGEPAGES:
		return after(rest, "/hugepages/hugepages-") ? TOPOLOGY_HUGEPAGES : TOPOLOGY_TREE;
	case TOPOLOGY_MEMINFO:
	case TOPOLOGY_NUMASTAT:
	case TOPOLOGY_VMSTAT:
		return name == rest + 1 ? live_kind(name) : TOPOLOGY_TREE;
	default:
		return TOPOLOGY_TREE;
	}
}

static enum topology_kind behind_node(const char *rest, struct topology_place *out)
{
	const char *at = after(rest, "/node");

	at = at ? number(at, &out->node) : NULL;
	return at ? node_file(at) : TOPOLOGY_TREE;
}

/* "/self", "/1234": behind /proc or task. */
static const char *process(const char *at, int *out)
{
	const char *rest = after(at, "/self");

	*out = 0;
	if (rest && *rest == '/')
		return rest;
	rest = after(at, "/thread-self");
	if (rest && *rest == '/') {
		*out = -1;
		return rest;
	}
	rest = *at == '/' ? number(at + 1, out) : NULL;
	return rest && *out ? rest : NULL;
}

static enum topology_kind proc_file(const char *at, struct topology_place *out)
{
	enum topology_kind kind;
	const char *task;

	at = process(at, &out->pid);
	if (!at)
		return TOPOLOGY_NONE;
	task = after(at, "/task/");
	if (task && !(at = number(task, &out->tid)))
		return TOPOLOGY_NONE;
	kind = *at == '/' ? live_kind(at + 1) : TOPOLOGY_NONE;
	return kind == TOPOLOGY_NUMA_MAPS || kind == TOPOLOGY_STATUS ? kind : TOPOLOGY_NONE;
}

static enum topology_kind sys_file(const char *path, struct topology_place *out)
{
	const char *rest, *at;
	int cpu;

	if ((rest = after(path, NODE_DIR)) || (rest = after(path, BUS_DIR)))
		return !*rest || *rest == '/' ? behind_node(rest, out) : TOPOLOGY_NONE;
	if ((rest = after(path, CPU_DIR))) {
		rest = number(rest, &cpu);
		if (rest && !*rest)
			return TOPOLOGY_TREE;
		at = rest ? after(rest, "/node") : NULL;
		return at && number(at, &cpu) ? behind_node(rest, out) : TOPOLOGY_NONE;
	}
	if (after(path, CGROUP_DIR) && live_kind(strrchr(path, '/') + 1) == TOPOLOGY_CPUSET)
		return TOPOLOGY_CPUSET;
	return TOPOLOGY_NONE;
}

void topology_classify(const char *path, struct topology_place *out)
{
	const char *proc = after(path, "/proc");

	out->node = out->pid = out->tid = 0;
	out->kind = proc ? proc_file(proc, out) : sys_file(path, out);
}

bool topology_reverse(char *path)
{
	const char *at = strstr(path, TREE), *rest;

	rest = at ? strchr(at + strlen(TREE), '/') : NULL;
	if (!rest || !after(rest, "/sys/"))
		return false;
	memmove(path, rest, strlen(rest) + 1);
	return true;
}

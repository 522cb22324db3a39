/* SPDX-License-Identifier: MIT */
/* Which CPUs of the host belong to which node, and how far nodes are from each other. */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static bool has_cpu(const uint64_t *cpus, uint32_t cpu)
{
	return cpus[cpu / 64] >> cpu % 64 & 1;
}

static bool names_any(const struct node_spec *s)
{
	for (uint32_t w = 0; w < NODE_CPUS / 64; w++)
		if (s->cpus[w])
			return true;
	return false;
}

/* "0-3" or "2" */
bool node_parse_cpus(const char *text, size_t len, uint64_t *cpus)
{
	const char *at = text;
	uint64_t first, last;

	if (!str_u64(&at, 10, &first))
		return false;
	last = first;
	if (*at == '-') {
		at++;
		if (!str_u64(&at, 10, &last))
			return false;
	}
	if (at != text + len || last < first || last >= NODE_CPUS)
		return false;
	for (uint64_t cpu = first; cpu <= last; cpu++)
		cpus[cpu / 64] |= 1ULL << cpu % 64;
	return true;
}

uint32_t node_host_cpus(void)
{
	char buf[256];
	long fd = sys4(SYS_openat, AT_FDCWD, "/sys/devices/system/cpu/present", O_RDONLY | O_CLOEXEC, 0);
	long got = fd < 0 ? -1 : sys3(SYS_read, fd, buf, sizeof(buf) - 1);
	uint64_t last = 0;

	if (fd >= 0)
		sys1(SYS_close, fd);
	buf[got > 0 ? got : 0] = '\0';
	/* "0-3,8": in order, so the last number counts */
	for (const char *at = buf; *at; at += !(*at >= '0' && *at <= '9'))
		if (*at >= '0' && *at <= '9' && !str_u64(&at, 10, &last))
			break;
	return (uint32_t)min_u64(last + 1, NODE_CPUS);
}

/* The node that is bound to a host node, else the nearest of those that are. */
static uint8_t nearest_bound(const struct node_table *t, int host)
{
	uint8_t best = NODE_MAX;
	int least = 0;

	for (uint32_t n = 0; n < t->nr; n++) {
		int own = t->node[n].spec.host;
		int cost = own == NODE_VIRTUAL || own == host ? 0 : host_distance(host, own);

		if (own != NODE_VIRTUAL && (best == NODE_MAX || cost < least)) {
			best = (uint8_t)n;
			least = cost;
		}
	}
	return best;
}

/* Of these CPUs those that nobody owns, in even blocks to the takers. */
static void share(const uint64_t *cpus, uint8_t *owner, const uint8_t *taker, uint32_t nr_takers)
{
	uint32_t nr_free = 0, i = 0;

	for (uint32_t cpu = 0; cpu < NODE_CPUS; cpu++)
		nr_free += has_cpu(cpus, cpu) && owner[cpu] == NODE_MAX;
	for (uint32_t cpu = 0; cpu < NODE_CPUS && nr_takers; cpu++)
		if (has_cpu(cpus, cpu) && owner[cpu] == NODE_MAX) {
			owner[cpu] = taker[nr_free < nr_takers ? i : i * nr_takers / nr_free];
			i++;
		}
}

/* CPUs of a host node are those of the nodes that are bound to it, or of the nearest that is, if they name none. */
static void share_host(struct node_table *t, int host, uint8_t *owner)
{
	uint64_t cpus[NODE_CPUS / 64];
	uint8_t taker[NODE_MAX];
	uint32_t nr = 0;

	t->near[host] = nearest_bound(t, host);
	if (t->near[host] == NODE_MAX)
		return;
	for (uint32_t n = 0; n < t->nr; n++)
		if (t->node[n].spec.host == t->node[t->near[host]].spec.host && !names_any(&t->node[n].spec))
			taker[nr++] = (uint8_t)n;
	host_cpus(host, cpus);
	share(cpus, owner, taker, nr);
}

/*
 * Who names CPUs has them. Where all nodes are bound to the host theirs are its nodes' CPUs. Else CPUs that nobody
 * names go in even blocks to the nodes that name none.
 */
void node_share_cpus(struct node_table *t)
{
	uint8_t owner[NODE_CPUS], taker[NODE_MAX];
	uint64_t all[NODE_CPUS / 64] = { 0 }, hosts = host_nodes();
	uint32_t nr_takers = 0;

	memset(owner, NODE_MAX, sizeof(owner));
	for (uint32_t cpu = 0; cpu < t->nr_cpus; cpu++)
		all[cpu / 64] |= 1ULL << cpu % 64;
	for (uint32_t n = 0; n < t->nr; n++) {
		if (!names_any(&t->node[n].spec) && !node_far(t, (int)n))
			taker[nr_takers++] = (uint8_t)n;
		for (uint32_t cpu = 0; cpu < NODE_CPUS; cpu++)
			if (has_cpu(t->node[n].spec.cpus, cpu))
				owner[cpu] = (uint8_t)n;
	}
	for (int host = 0; host < NODE_MAX; host++)
		if (!(hosts >> host & 1))
			t->near[host] = NODE_MAX;
		else if (node_all_host(t))
			share_host(t, host, owner);
		else
			t->near[host] = nearest_bound(t, host);
	share(all, owner, taker, nr_takers);
	for (uint32_t cpu = 0; cpu < NODE_CPUS; cpu++)
		t->cpu_node[cpu] = owner[cpu] == NODE_MAX ? 0 : owner[cpu];
}

int node_of_cpu(const struct node_table *t, int cpu)
{
	return cpu < 0 || cpu >= (int)t->nr_cpus ? -EINVAL : t->cpu_node[cpu];
}

int node_distance(const struct node_table *t, int from, int to)
{
	if (from < 0 || to < 0 || from >= (int)t->nr || to >= (int)t->nr)
		return -ENODEV;
	if (t->distance[from][to])
		return t->distance[from][to];
	return from == to ? 10 : (int)max_u64(t->node[from].spec.distance, t->node[to].spec.distance);
}

/* The order of the kernel's zone lists: by distance, then nodes above before nodes below. */
int node_nearest(const struct node_table *t, int to, uint64_t mask)
{
	int best = -1, best_cost = 0;

	for (int n = 0; n < (int)t->nr; n++) {
		int cost = node_distance(t, to, n) + (n < to);

		if (mask >> n & 1 && (best < 0 || n == to || (best != to && cost < best_cost))) {
			best = n;
			best_cost = cost;
		}
	}
	return best;
}

/* How many nodes are bound to the same host node. */
static uint32_t sharers(const struct node_table *t, int node)
{
	uint32_t nr = 0;

	for (uint32_t n = 0; n < t->nr; n++)
		nr += !node_far(t, (int)n) && t->node[n].spec.host == t->node[node].spec.host;
	return nr;
}

uint64_t node_bytes(const struct node_table *t, int node)
{
	struct {
		long uptime;
		unsigned long loads[3], total_ram, free_ram, shared_ram, buffer_ram, total_swap, free_swap;
		unsigned short procs, pad;
		unsigned long total_high, free_high;
		unsigned int unit;
		char rest[64];
	} info;
	uint64_t bytes = 0;

	if (t->node[node].spec.bytes)
		return t->node[node].spec.bytes;
	if (t->node[node].spec.host != NODE_VIRTUAL)
		bytes = host_bytes(t->node[node].spec.host);
	if (bytes)
		return ALIGN_DOWN(bytes / sharers(t, node), 4096);
	if (sys1(SYS_sysinfo, &info) < 0)
		return 0;
	return ALIGN_DOWN(info.total_ram * info.unit / (uint64_t)__builtin_popcountll(nodes_direct(t)), 4096);
}

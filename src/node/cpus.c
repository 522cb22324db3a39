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

/* CPUs that no node names, in even blocks to the nodes that name none. */
void node_share_cpus(struct node_table *t)
{
	uint8_t owner[NODE_CPUS], taker[NODE_MAX];
	uint32_t nr_takers = 0, nr_free = 0, i = 0;

	memset(owner, NODE_MAX, sizeof(owner));
	for (uint32_t n = 0; n < t->nr; n++) {
		if (!names_any(&t->node[n].spec))
			taker[nr_takers++] = (uint8_t)n;
		for (uint32_t cpu = 0; cpu < NODE_CPUS; cpu++)
			if (has_cpu(t->node[n].spec.cpus, cpu))
				owner[cpu] = (uint8_t)n;
	}
	for (uint32_t cpu = 0; cpu < t->nr_cpus; cpu++)
		nr_free += owner[cpu] == NODE_MAX;
	for (uint32_t cpu = 0; cpu < t->nr_cpus && nr_takers; cpu++)
		if (owner[cpu] == NODE_MAX) {
			owner[cpu] = taker[nr_free < nr_takers ? i : i * nr_takers / nr_free];
			i++;
		}
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

	if (t->node[node].spec.bytes)
		return t->node[node].spec.bytes;
	if (sys1(SYS_sysinfo, &info) < 0)
		return 0;
	return ALIGN_DOWN(info.total_ram * info.unit / t->nr, 4096);
}

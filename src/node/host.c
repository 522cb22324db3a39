/* SPDX-License-Identifier: MIT */
/*
 * What the host says of its own NUMA nodes, for those that are bound to one. Read when a node is added; a host
 * without such files has one node, 0, and nothing to say of it.
 */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define NODES_DIR "/sys/devices/system/node"
#define TEXT 4096
#define MASK_BITS 1024UL	/* more than a kernel has nodes */
#define MEMS_ALLOWED 4		/* MPOL_F_MEMS_ALLOWED */
#define SAME 10

/* "/sys/devices/system/node/node1/cpulist"; a negative node: a file of them all. What was read, or -errno. */
static long read_file(int host, const char *name, char *buf)
{
	char path[96] = NODES_DIR "/";
	long fd, got;

	if (host >= 0) {
		str_cat(path, sizeof(path), "node");
		str_cat_u64(path, sizeof(path), (uint64_t)host);
		str_cat(path, sizeof(path), "/");
	}
	str_cat(path, sizeof(path), name);
	buf[0] = '\0';
	fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	got = sys3(SYS_read, fd, buf, TEXT - 1);
	sys1(SYS_close, fd);
	buf[got > 0 ? got : 0] = '\0';
	return got;
}

/* "0-3,8" */
static void read_list(int host, const char *name, uint64_t *bits)
{
	char buf[TEXT];
	const char *at = buf;

	memset(bits, 0, NODE_CPUS / 8);
	if (read_file(host, name, buf) <= 0)
		return;
	while (*at) {
		size_t len = strcspn(at, ",\n");

		if (!node_parse_cpus(at, len, bits))
			break;
		at += len + (at[len] == ',');
	}
}

/* An answer that was kept from us (a sandbox, a kernel without NUMA) forbids nothing. */
static bool allowed(int host)
{
	uint64_t nodes[MASK_BITS / 64] = { 0 };

	return sys_numa(SYS_get_mempolicy, 0, nodes, MASK_BITS + 1, 0, MEMS_ALLOWED, 0) < 0 || nodes[0] >> host & 1;
}

int host_check(int host)
{
	uint64_t memory[NODE_CPUS / 64];
	char path[64] = NODES_DIR "/node";

	if (host < 0 || host >= NODE_MAX)
		return -EINVAL;
	str_cat_u64(path, sizeof(path), (uint64_t)host);
	if (sys2(SYS_access, path, F_OK) < 0)
		return !host && sys2(SYS_access, NODES_DIR, F_OK) < 0 ? 0 : -ENODEV;
	read_list(-1, "has_memory", memory);
	if (memory[0] && !(memory[0] >> host & 1))
		return -ENXIO;
	return allowed(host) ? 0 : -EACCES;
}

uint64_t host_bytes(int host)
{
	char buf[TEXT];
	const char *at;
	uint64_t kib = 0;

	if (read_file(host, "meminfo", buf) <= 0)
		return 0;
	at = strstr(buf, "MemTotal:");
	if (!at)
		return 0;
	at += strcspn(at, "0123456789");
	return str_u64(&at, 10, &kib) ? kib << 10 : 0;
}

void host_cpus(int host, uint64_t *cpus)
{
	read_list(host, "cpulist", cpus);
}

/* The file has a number for each node that is online, in their order. */
int host_distance(int from, int to)
{
	uint64_t online[NODE_CPUS / 64], v = 0;
	char buf[TEXT];
	const char *at = buf;

	read_list(-1, "online", online);
	if (!(online[0] >> to & 1) || read_file(from, "distance", buf) <= 0)
		return from == to ? SAME : 2 * SAME;
	for (int n = 0; n <= to; n++) {
		if (!(online[0] >> n & 1))
			continue;
		at += strspn(at, " ");
		if (!str_u64(&at, 10, &v))
			break;
	}
	return (int)min_u64(max_u64(v, SAME), UINT8_MAX);
}

uint64_t host_nodes(void)
{
	uint64_t online[NODE_CPUS / 64];

	read_list(-1, "online", online);
	return online[0] ? online[0] : 1;
}

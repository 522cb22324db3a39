/* SPDX-License-Identifier: MIT */
/* The NUMA nodes of this machine, as its kernel tells. */
#include "kernel/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NODE_DIR "/sys/devices/system/node/"
#define BALANCING "/proc/sys/kernel/numa_balancing"

const char *kernel_kind_name(int kind)
{
	static const char *const names[KERNEL_KINDS] = { "anon", "thp", "hugetlb", "shared", "file" };

	return names[kind];
}

bool kernel_nodes_read(const char *text, uint64_t *nodes, bool *beyond)
{
	*nodes = 0;
	*beyond = false;
	while (*text && *text != '\n') {
		uint64_t first, last;

		if (!str_u64(&text, 10, &first))
			return false;
		last = first;
		if (*text == '-') {
			text++;
			if (!str_u64(&text, 10, &last) || last < first)
				return false;
		}
		*beyond = *beyond || last >= KERNEL_NODES;
		for (uint64_t n = first; n <= last && n < KERNEL_NODES; n++)
			*nodes |= 1ULL << n;
		if (*text == ',')
			text++;
		else if (*text && *text != '\n')
			return false;
	}
	return true;
}

/* The first line of a file, or NULL. */
static const char *first_line(const char *path, char *buf, uint32_t len)
{
	struct reader r;
	const char *line;

	if (reader_open(&r, path, buf, len))
		return NULL;
	line = reader_line(&r);
	reader_close(&r);
	return line;
}

static uint64_t node_list(const char *name, bool *beyond)
{
	char buf[1024];
	const char *line = first_line(name, buf, sizeof(buf));
	uint64_t nodes;
	bool more;

	if (!line || !kernel_nodes_read(line, &nodes, &more))
		return 0;
	*beyond = *beyond || more;
	return nodes;
}

static int balancing(void)
{
	char buf[32];
	const char *line = first_line(BALANCING, buf, sizeof(buf));
	uint64_t mode;

	return line && str_u64(&line, 10, &mode) ? (int)mode : -1;
}

void kernel_host(struct kernel_host *host)
{
	*host = (struct kernel_host){ .balancing = balancing() };
	host->online = node_list(NODE_DIR "online", &host->beyond);
	host->memory = node_list(NODE_DIR "has_memory", &host->beyond);
	host->numa = sys_numa(SYS_move_pages, 0, 0, 0, 0, 0, 0) != -ENOSYS;
	if (!host->online)
		host->online = 1;
	if (!host->memory)
		host->memory = host->online;
}

uint64_t kernel_node_free(int node)
{
	char path[80], buf[4096];
	uint64_t kb = ~0ULL;
	struct reader r;
	char *line;

	snprintf(path, sizeof(path), NODE_DIR "node%d/meminfo", node);
	if (reader_open(&r, path, buf, sizeof(buf)))
		return ~0ULL;
	while ((line = reader_line(&r))) {
		const char *at = strstr(line, "MemFree:");

		if (!at)
			continue;
		at += 8 + strspn(at + 8, " ");
		if (!str_u64(&at, 10, &kb))
			kb = ~0ULL;
		break;
	}
	reader_close(&r);
	return kb == ~0ULL ? kb : kb << 10;
}

/* SPDX-License-Identifier: MIT */
/* The files of a tree. Those that are live hold what was so when the tree was made. */
#include "topology/tree.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct maker {
	const struct picture *p;
	struct text t; /* of the next file */
	int err;       /* the first */
};

uint64_t picture_hash(const struct picture *p)
{
	const unsigned char *byte = (const void *)p;
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < sizeof(*p); i++)
		hash = (hash ^ byte[i]) * 0x100000001b3;
	return hash;
}

/* ---- entries; after an error nothing more is made ---- */

static void note(struct maker *m, long ret)
{
	if (ret < 0 && !m->err)
		m->err = (int)ret;
}

static int dir_at(struct maker *m, int dir, const char *name)
{
	long fd = -1;

	if (m->err)
		return -1;
	note(m, sys3(SYS_mkdirat, dir, name, 0755));
	if (!m->err) {
		fd = sys4(SYS_openat, dir, name, DIRECTORY, 0);
		note(m, fd);
	}
	if (!m->err)
		note(m, sys2(SYS_fchmod, fd, 0755));
	return (int)fd;
}

static void dir_end(int fd)
{
	if (fd >= 0)
		sys1(SYS_close, fd);
}

static void file_at(struct maker *m, int dir, const char *name, uint32_t mode)
{
	long fd;

	if (!m->err && m->t.full)
		m->err = -ENOSPC;
	if (!m->err) {
		fd = sys4(SYS_openat, dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		note(m, fd);
		if (fd >= 0) {
			long put = sys3(SYS_write, fd, m->t.buf, m->t.len);

			note(m, put >= 0 && put != (long)m->t.len ? -ENOSPC : put);
			note(m, sys2(SYS_fchmod, fd, mode));
			sys1(SYS_close, fd);
		}
	}
	m->t.len = 0;
}

static void text_at(struct maker *m, int dir, const char *name, const char *says, uint32_t mode)
{
	text_add(&m->t, says);
	file_at(m, dir, name, mode);
}

static void link_at(struct maker *m, int dir, const char *name, const char *target)
{
	if (!m->err)
		note(m, sys3(SYS_symlinkat, target, dir, name));
}

static const char *numbered(char *buf, size_t len, const char *before, uint64_t nr)
{
	buf[0] = '\0';
	str_cat(buf, len, before);
	str_cat_u64(buf, len, nr);
	return buf;
}

/* ---- a node ---- */

static void power_dir(struct maker *m, int dir)
{
	int power = dir_at(m, dir, "power");

	text_at(m, power, "control", "auto\n", 0644);
	text_at(m, power, "runtime_active_time", "0\n", 0444);
	text_at(m, power, "runtime_status", "unsupported\n", 0444);
	text_at(m, power, "runtime_suspended_time", "0\n", 0444);
	dir_end(power);
}

static void huge_dirs(struct maker *m, int dir)
{
	int all = dir_at(m, dir, "hugepages");

	for (uint32_t i = 0; i < m->p->nr_huge; i++) {
		int one = dir_at(m, all, m->p->huge[i]);

		text_at(m, one, "free_hugepages", "0\n", 0444);
		text_at(m, one, "nr_hugepages", "0\n", 0644);
		text_at(m, one, "surplus_hugepages", "0\n", 0444);
		dir_end(one);
	}
	dir_end(all);
}

static void failure_dir(struct maker *m, int dir)
{
	static const char *const names[] = { "delayed", "failed", "ignored", "recovered", "total" };
	int failure = dir_at(m, dir, "memory_failure");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		text_at(m, failure, names[i], "0\n", 0444);
	dir_end(failure);
}

static void cpu_files(struct maker *m, int dir, uint32_t node)
{
	uint64_t cpus[GW_MAX_CPUS / 64] = { 0 };

	for (uint32_t cpu = 0; cpu < m->p->nr_cpus; cpu++) {
		char name[24], target[40];

		if (m->p->cpu_node[cpu] != node || !(m->p->online[cpu / 64] >> cpu % 64 & 1))
			continue;
		cpus[cpu / 64] |= 1ULL << cpu % 64;
		link_at(m, dir, numbered(name, sizeof(name), "cpu", cpu),
			numbered(target, sizeof(target), "../../cpu/cpu", cpu));
	}
	text_add_list(&m->t, cpus, m->p->nr_cpus);
	text_at(m, dir, "cpulist", "\n", 0444);
	text_add_map(&m->t, cpus, m->p->nr_cpus);
	text_at(m, dir, "cpumap", "\n", 0444);
}

static void node_dir(struct maker *m, int nodes, uint32_t node)
{
	struct figures f = { .node = (int)node, .total = m->p->total[node] / GW_PAGE_SIZE };
	char name[24];
	int dir = dir_at(m, nodes, numbered(name, sizeof(name), "node", node));

	cpu_files(m, dir, node);
	for (uint32_t to = 0; to < m->p->nr_nodes; to++) {
		if (to)
			text_add_char(&m->t, ' ');
		text_add_u64(&m->t, m->p->distance[node][to], 0);
	}
	text_at(m, dir, "distance", "\n", 0444);
	text_add_meminfo(&m->t, &f);
	file_at(m, dir, "meminfo", 0444);
	text_add_numastat(&m->t, &f);
	file_at(m, dir, "numastat", 0444);
	text_add_vmstat(&m->t, &f);
	file_at(m, dir, "vmstat", 0444);
	text_at(m, dir, "uevent", "", 0644);
	link_at(m, dir, "subsystem", "../../../../bus/node");
	huge_dirs(m, dir);
	failure_dir(m, dir);
	power_dir(m, dir);
	dir_end(dir);
}

static bool has_cpu(const struct picture *p, uint32_t node)
{
	for (uint32_t cpu = 0; cpu < p->nr_cpus; cpu++)
		if (p->cpu_node[cpu] == node && p->online[cpu / 64] >> cpu % 64 & 1)
			return true;
	return false;
}

static void nodes_dir(struct maker *m, int system)
{
	static const char *const lists[] = { "has_memory", "has_normal_memory", "online", "possible" };
	uint64_t all = 0, with_cpu = 0;
	int dir = dir_at(m, system, "node");

	for (uint32_t n = 0; n < m->p->nr_nodes; n++) {
		node_dir(m, dir, n);
		all |= 1ULL << n;
		with_cpu |= has_cpu(m->p, n) ? 1ULL << n : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		text_add_list(&m->t, &all, GW_MAX_NODES);
		text_at(m, dir, lists[i], "\n", 0444);
	}
	text_add_list(&m->t, &with_cpu, GW_MAX_NODES);
	text_at(m, dir, "has_cpu", "\n", 0444);
	text_at(m, dir, "has_generic_initiator", "\n", 0444);
	text_at(m, dir, "uevent", "", 0644);
	power_dir(m, dir);
	dir_end(dir);
}

/* ---- CPUs: what the host's have, but for the link to a node ---- */

#define HOST_CPUS "/sys/devices/system/cpu/"

static bool is_node(const char *name)
{
	return !strncmp(name, "node", 4) && name[4] >= '0' && name[4] <= '9';
}

static void cpu_entries(struct maker *m, int dir, int host, const char *path)
{
	char buf[1024] __attribute__((aligned(8))), target[160];
	long got;

	while ((got = sys3(SYS_getdents64, host, buf, sizeof(buf))) > 0)
		for (long at = 0; at < got;) {
			const struct sys_dirent *d = (const void *)(buf + at);

			at += d->len;
			target[0] = '\0';
			if (d->name[0] != '.' && !is_node(d->name) && str_cat(target, sizeof(target), path) &&
			    str_cat(target, sizeof(target), "/") && str_cat(target, sizeof(target), d->name))
				link_at(m, dir, d->name, target);
		}
}

static void cpu_dir(struct maker *m, int cpus, uint32_t cpu)
{
	char path[48], name[24], link[24], target[40];
	int host, dir;

	numbered(path, sizeof(path), HOST_CPUS "cpu", cpu);
	host = (int)sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (host < 0)
		return;
	dir = dir_at(m, cpus, numbered(name, sizeof(name), "cpu", cpu));
	cpu_entries(m, dir, host, path);
	if (m->p->online[cpu / 64] >> cpu % 64 & 1)
		link_at(m, dir, numbered(link, sizeof(link), "node", m->p->cpu_node[cpu]),
			numbered(target, sizeof(target), "../../node/node", m->p->cpu_node[cpu]));
	dir_end(dir);
	sys1(SYS_close, host);
}

static void bus_dir(struct maker *m, int sys)
{
	int bus = dir_at(m, sys, "bus"), node = dir_at(m, bus, "node"), devices = dir_at(m, node, "devices");

	for (uint32_t n = 0; n < m->p->nr_nodes; n++) {
		char name[24], target[64];

		link_at(m, devices, numbered(name, sizeof(name), "node", n),
			numbered(target, sizeof(target), "../../../devices/system/node/node", n));
	}
	dir_end(devices);
	dir_end(node);
	dir_end(bus);
}

int tree_fill(int top, const struct picture *p, char *scratch)
{
	struct maker m = { .p = p, .t = { .buf = scratch, .cap = TREE_SCRATCH } };
	int sys = dir_at(&m, top, "sys"), devices = dir_at(&m, sys, "devices"), system = dir_at(&m, devices, "system");
	int cpus = dir_at(&m, system, "cpu");

	nodes_dir(&m, system);
	for (uint32_t cpu = 0; cpu < p->nr_cpus; cpu++)
		cpu_dir(&m, cpus, cpu);
	bus_dir(&m, sys);
	dir_end(cpus);
	dir_end(system);
	dir_end(devices);
	dir_end(sys);
	return m.err;
}

/* SPDX-License-Identifier: MIT */
/* A node's live files, and what its kin read of the host. */
#include "topology/live.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

bool room_take(struct gw_engine *e, struct text *t, size_t bytes)
{
	*t = (struct text){ .cap = bytes, .buf = gw_buffer_take(e, bytes) };
	return t->buf != NULL;
}

void room_give(struct gw_engine *e, struct text *t)
{
	gw_buffer_put(e, t->buf);
	t->buf = NULL;
}

long host_read(const char *path, char *buf, size_t cap)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0), got = 1;
	size_t len = 0;

	if (fd < 0)
		return fd;
	while (got > 0 && len + 1 < cap) {
		got = sys3(SYS_read, fd, buf + len, cap - 1 - len);
		len += got > 0 ? (size_t)got : 0;
	}
	buf[len] = '\0';
	sys1(SYS_close, fd);
	return got < 0 ? got : (long)len;
}

/* ---- figures ---- */

/* A number of the host's pool of huge pages; all of it is on node 0. */
static uint64_t host_huge(const char *dir, const char *name, int node)
{
	char path[128] = "/sys/kernel/mm/hugepages/", buf[32];
	const char *at = buf;
	uint64_t v;

	if (node || !str_cat(path, sizeof(path), dir) || !str_cat(path, sizeof(path), "/") ||
	    !str_cat(path, sizeof(path), name) || host_read(path, buf, sizeof(buf)) <= 0 || !str_u64(&at, 10, &v))
		return 0;
	return v;
}

static int nothing(const struct gw_area *area, void *arg)
{
	(void)area;
	(void)arg;
	return 0;
}

/*
 * Pages that came since somebody last looked are not in the books yet. Looking takes a while in a large process: a
 * tenth of the time at most goes into it.
 */
static void bring_books_up(struct gw_engine *e)
{
	static uint64_t due __attribute__((section("gw_data"))) = 0;
	uint64_t begin = clock_ns(), end;

	if (begin < __atomic_load_n(&due, __ATOMIC_RELAXED))
		return;
	gw_areas(e, nothing, NULL);
	end = clock_ns();
	__atomic_store_n(&due, end + (end - begin) * 9, __ATOMIC_RELAXED);
}

static int node_figures(struct gw_engine *e, int node, struct figures *f)
{
	struct gw_node_info info;
	int err;

	bring_books_up(e);
	err = gw_node_get(e, node, &info);
	if (err)
		return err;
	*f = (struct figures){
		.node = node,
		.total = gw_node_bytes(e, node) / GW_PAGE_SIZE,
		.used = info.pages,
		.hit = info.hit,
		.miss = info.miss,
		.foreign = info.foreign,
		.interleave_hit = info.interleave_hit,
		.local = info.local,
		.other = info.other,
	};
	return 0;
}

/* ".../hugepages/hugepages-2048kB/nr_hugepages" */
static void add_huge(const struct topology_place *place, struct text *t)
{
	const char *name = strrchr(place->path, '/') + 1, *dir = name - 1;
	char size[64];

	while (dir[-1] != '/')
		dir--;
	if ((size_t)(name - dir) > sizeof(size))
		return;
	memcpy(size, dir, (size_t)(name - dir));
	size[name - dir - 1] = '\0';
	text_add_u64(t, host_huge(size, name, place->node), 0);
	text_add_char(t, '\n');
}

int live_node(struct gw_engine *e, const struct topology_place *place, struct text *t)
{
	struct figures f;
	int err;

	if (place->kind == TOPOLOGY_HUGEPAGES) {
		add_huge(place, t);
		return 0;
	}
	err = node_figures(e, place->node, &f);
	if (err)
		return err;
	if (place->kind == TOPOLOGY_MEMINFO) {
		f.huge_total = host_huge("hugepages-2048kB", "nr_hugepages", f.node);
		f.huge_free = host_huge("hugepages-2048kB", "free_hugepages", f.node);
		f.huge_surplus = host_huge("hugepages-2048kB", "surplus_hugepages", f.node);
		text_add_meminfo(t, &f);
	} else if (place->kind == TOPOLOGY_NUMASTAT) {
		text_add_numastat(t, &f);
	} else {
		text_add_vmstat(t, &f);
	}
	return 0;
}

/* ---- cpuset.mems ---- */

/* The directory of the process's own group: /sys/fs/cgroup or /sys/fs/cgroup/cpuset, and what /proc/self/cpuset says. */
int live_cpuset(struct gw_engine *e, const struct topology_place *place, struct text *t)
{
	static const char top[] = "/sys/fs/cgroup", old[] = "/cpuset/";
	const char *at = place->path + sizeof(top) - 1, *name = strrchr(place->path, '/');
	uint64_t allowed = gw_nodes_allowed(e);
	char group[TOPOLOGY_PATH];
	size_t len;

	if (host_read("/proc/self/cpuset", group, sizeof(group)) <= 0)
		return -EXDEV;
	len = strcspn(group, "\n");
	len -= len == 1;
	if (!strncmp(at, old, sizeof(old) - 1))
		at += sizeof(old) - 2;
	if ((size_t)(name - at) != len || strncmp(at, group, len) != 0)
		return -EXDEV;
	text_add_list(t, &allowed, GW_MAX_NODES);
	text_add_char(t, '\n');
	return 0;
}

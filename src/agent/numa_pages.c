/* SPDX-License-Identifier: MIT */
/* move_pages(2) and migrate_pages(2): of this process, and of another one through its engine. */
#include "agent/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CHUNK 8192UL
#define SEEN 16384U		/* slots: a power of two, twice CHUNK */
#define FULL_PAUSE_NS 1000000ULL

/* ---- which process ---- */

static bool is_own(uint32_t tid, long pid)
{
	long self = sys0(SYS_getpid);

	return !pid || pid == self || pid == (long)tid || sys3(SYS_tgkill, self, pid, 0) >= 0;
}

/* As ptrace_may_access() has it for a look: the same user, or the right to trace. The owner of /proc/PID tells. */
static int may_access(long pid)
{
	char path[32] = "/proc/", buf[1];
	long fd, got;

	if (pid < 0 || pid > INT32_MAX)
		return -ESRCH;
	str_cat_u64(path, sizeof(path), (uint64_t)pid);
	if (sys2(SYS_access, path, F_OK) < 0)
		return -ESRCH;
	/* readable by whoever may look, and by nobody else; a kernel thread's and a zombie's is empty */
	str_cat(path, sizeof(path), "/auxv");
	fd = sys3(SYS_open, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESRCH : -EPERM;
	got = sys3(SYS_read, fd, buf, 1);
	sys1(SYS_close, fd);
	return got > 0 ? 0 : -EINVAL;
}

/* ---- move_pages ---- */

/* Of a call: arrays of at most CHUNK entries of the program's, and what came of them. */
struct chunk {
	void *page[CHUNK];
	int node[CHUNK], status[CHUNK];
	uint16_t seen[SEEN];	/* pages of the group so far: their index + 1; 0: free */
};

_Static_assert(sizeof(struct chunk) > GW_BUFFER_SECOND && sizeof(struct chunk) <= GW_BUFFER_SMALL, "a first buffer");

struct moving {
	struct gw_engine *e;
	long pid;		/* 0: own */
	bool all;		/* MPOL_MF_MOVE_ALL: what others share too */
	uint64_t nr, pages, nodes, status;	/* the program's arrays */
	struct chunk *chunk;
	long left;
};

/*
 * What the engine does not manage stays where the host has it, and counts on node 0 unless all nodes are bound to the
 * host; its own kernel knows whether it is there.
 */
static int unmanaged_status(struct gw_engine *e, void *page, int wanted)
{
	int status = -EACCES, node;
	long err = sys_numa(SYS_move_pages, 0, 1, &page, 0, &status, 0);

	if (err >= 0 && status < 0)
		return status;
	node = err >= 0 && node_all_host(&e->nodes) ? node_true(&e->nodes, 0, status) : 0;
	return wanted >= 0 && wanted != node ? -EACCES : node;
}

/* So many requests at once are the engine's limit, not the program's. */
static bool full(long err)
{
	if (err == -EAGAIN)
		sleep_ns(FULL_PAUSE_NS);
	return err == -EAGAIN;
}

static int ask_engine(struct moving *m, uint64_t first, uint64_t nr)
{
	struct chunk *c = m->chunk;
	const int *nodes = m->nodes ? c->node + first : NULL;
	void **pages = c->page + first;
	int *status = c->status + first;
	struct gw_migrate_options opt = { .size = sizeof(opt),
					  .flags = m->all ? GW_MIGRATE_BREAK_COW : GW_MIGRATE_PRIVATE };
	long err;

	do
		err = m->pid ? gw_remote_move(m->e, (int)m->pid, nr, pages, nodes, status, &opt)
			     : gw_move_pages(m->e, nr, pages, nodes, status, &opt);
	while (full(err));
	if (err < 0)
		return (int)err;
	for (uint64_t i = 0; i < nr; i++) {
		if (status[i] == -EACCES && !m->pid && (!nodes || nodes[i] || gw_query(m->e, pages[i]) < 0))
			status[i] = unmanaged_status(m->e, pages[i], nodes ? nodes[i] : -1);
		m->left += nodes && (status[i] == -EBUSY || status[i] == -ENOMEM || status[i] == -EAGAIN);
	}
	return 0;
}

/* Was the page of entry i asked for since entry first? */
static bool seen_before(struct chunk *c, uint64_t i)
{
	uint64_t page = (uint64_t)c->page[i] / GW_PAGE_SIZE;
	uint32_t slot = (uint32_t)(page * 0x9e3779b97f4a7c15ULL >> 50);

	for (; c->seen[slot]; slot = (slot + 1) % SEEN)
		if ((uint64_t)c->page[c->seen[slot] - 1] / GW_PAGE_SIZE == page)
			return true;
	c->seen[slot] = (uint16_t)(i + 1);
	return false;
}

/* In the order of the list: a page that is in it twice goes twice. */
static int ask_in_order(struct moving *m, uint64_t nr)
{
	struct chunk *c = m->chunk;
	uint64_t first = 0;
	int err = 0;

	if (!m->nodes)
		return ask_engine(m, 0, nr);
	memset(c->seen, 0, sizeof(c->seen));
	for (uint64_t i = 0; i < nr && !err; i++) {
		if (!seen_before(c, i))
			continue;
		err = ask_engine(m, first, i - first);
		memset(c->seen, 0, sizeof(c->seen));
		first = i--;
	}
	return err ? err : ask_engine(m, first, nr - first);
}

static int node_check(struct gw_engine *e, int node)
{
	if (node < 0 || node >= gw_node_count(e))
		return -ENODEV;
	return gw_nodes_allowed(e) >> node & 1 ? 0 : -EACCES;
}

/* Entries from the arrays until one is bad; *err says how. */
static uint64_t read_entries(struct moving *m, uint64_t at, uint64_t nr, int *err)
{
	struct chunk *c = m->chunk;

	*err = 0;
	if (!read_user(c->page, m->pages + at * 8, nr * 8) ||
	    (m->nodes && !read_user(c->node, m->nodes + at * 4, nr * 4))) {
		if (nr > 1)
			return 0; /* entry by entry then */
		*err = -EFAULT;
		return 0;
	}
	for (uint64_t i = 0; m->nodes && i < nr; i++) {
		*err = node_check(m->e, c->node[i]);
		if (*err)
			return i;
	}
	return nr;
}

static int move_chunk(struct moving *m, uint64_t at, uint64_t nr)
{
	int bad, err = 0;
	uint64_t good = read_entries(m, at, nr, &bad);

	if (!good && !bad && nr > 1) {
		err = move_chunk(m, at, nr / 2);
		return err ? err : move_chunk(m, at + nr / 2, nr - nr / 2);
	}
	if (good)
		err = ask_in_order(m, good);
	if (!err && good && !write_user(m->status + at * 4, m->chunk->status, good * 4))
		err = -EFAULT;
	return err ? err : bad;
}

static long move_all(struct moving *m)
{
	int err = 0;

	for (uint64_t at = 0; at < m->nr && !err; at += CHUNK)
		err = move_chunk(m, at, min_u64(CHUNK, m->nr - at));
	return err ? err : m->left;
}

long call_move_pages(struct gw_engine *e, uint32_t tid, const long a[6])
{
	struct moving m = { .e = e,
			    .pid = is_own(tid, (int)a[0]) ? 0 : (int)a[0],
			    .all = a[5] & MPOL_MF_MOVE_ALL,
			    .nr = (uint64_t)a[1],
			    .pages = (uint64_t)a[2],
			    .nodes = (uint64_t)a[3],
			    .status = (uint64_t)a[4] };
	uint32_t flags = (uint32_t)a[5];
	long ret;

	if (flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
		return -EINVAL;
	if (flags & MPOL_MF_MOVE_ALL && !may_move_all(tid))
		return -EPERM;
	ret = m.pid ? may_access(m.pid) : 0;
	if (ret)
		return ret;
	m.chunk = gw_buffer_take(e, sizeof(struct chunk));
	ret = move_all(&m);
	gw_buffer_put(e, m.chunk);
	if (ret == -ENXIO && !m.nodes) /* no engine there: its kernel knows */
		return sys_numa(SYS_move_pages, m.pid, a[1], a[2], 0, a[4], a[5]);
	return ret == -ENXIO ? -EACCES : ret;
}

int numa_query(struct gw_engine *e, uint64_t addr)
{
	int status;

	do
		status = gw_query(e, (void *)addr);
	while (full(status));
	return status == -EACCES ? unmanaged_status(e, (void *)addr, -1) : status;
}

/* ---- migrate_pages ---- */

long call_migrate_pages(struct gw_engine *e, uint32_t tid, const long a[6])
{
	struct gw_migrate_result res = { .size = sizeof(res) };
	struct nodes_given from, to;
	bool own = is_own(tid, (int)a[0]);
	int err = get_nodes(&from, (uint64_t)a[2], (uint64_t)a[1]);
	gw_nodemask allowed = gw_nodes_allowed(e);
	long left;

	if (!err)
		err = get_nodes(&to, (uint64_t)a[3], (uint64_t)a[1]);
	if (!err && !own)
		err = may_access((int)a[0]);
	if (err)
		return err;
	if ((to.beyond || to.nodes & ~allowed) && !may_move_all(tid))
		return -EPERM;
	to.nodes &= allowed;
	if (!to.nodes)
		return -EINVAL;
	from.nodes &= nodes_all(&e->nodes);
	if (!from.nodes)
		return 0;
	do
		left = own ? gw_migrate_pages(e, from.nodes, to.nodes, NULL, &res)
			   : gw_remote_migrate(e, (int)a[0], from.nodes, to.nodes, &res);
	while (full(left));
	return left == -ENXIO ? -EINVAL : left;
}

/* SPDX-License-Identifier: MIT */
/*
 * From a path to its place, and to a descriptor. The tree of this process is found or made at the first need, and
 * again when it is not there any more: after a change of user or of root, or when somebody has removed it.
 */
#include "topology/topology.h"
#include "base/base.h"
#include "control/control.h"
#include "topology/live.h"
#include "topology/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TREE_PATH (CTL_PATH_MAX + TREE_NAME)
#define TRIES 200
#define TRY_NS 1000000ULL

/*
 * The tree that this process is in. Protected by .holder, but for the two places of which the service thread reads and
 * writes while the lock's holder waits. In the object's own data, which is never managed.
 */
static struct {
	int holder; /* atomic: process that has the lock; another than this one, or 0: free */
	int pid;    /* whose tree it is; another than this: none is held */
	uint32_t uid;
	int nr_nodes; /* that it shows */
	int fd;	      /* held, service thread's */
	uint64_t dev, ino;
	char *small;	      /* the room of small files: 2 * HALF_BYTES, or NULL */
	char name[TREE_PATH]; /* as it was opened: the service thread reads it */
	char path[TREE_PATH]; /* as the kernel has it */
} here __attribute__((section("gw_data"))) = { .fd = -1 };

/* ---- the lock: with signals blocked, so that no handler waits for the thread that it interrupts ---- */

static void here_lock(uint64_t *mask)
{
	uint64_t all = ~0ULL;
	int self = (int)sys0(SYS_getpid);

	sys4(SYS_rt_sigprocmask, SIG_BLOCK, &all, mask, sizeof(all));
	for (;;) {
		int was = __atomic_load_n(&here.holder, __ATOMIC_RELAXED);

		/* what another process holds came along with a fork */
		if (was != self &&
		    __atomic_compare_exchange_n(&here.holder, &was, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		sleep_ns(20000);
	}
}

static void here_unlock(const uint64_t *mask)
{
	__atomic_store_n(&here.holder, 0, __ATOMIC_RELEASE);
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, sizeof(*mask));
}

/* ---- on the service thread ---- */

static void let_go(void)
{
	if (here.fd >= 0)
		sys1(SYS_close, here.fd);
	here.fd = -1;
}

static int hold(struct gw_engine *e, void *arg)
{
	char link[48] = "/proc/thread-self/fd/";
	struct stat st;
	int fd;
	long len;

	(void)e;
	(void)arg;
	if (here.pid == (int)sys0(SYS_getpid))
		let_go();
	here.pid = 0;
	fd = tree_hold(here.name);
	if (fd < 0)
		return fd;
	str_cat_u64(link, sizeof(link), (uint64_t)fd);
	len = sys4(SYS_readlinkat, AT_FDCWD, link, here.path, sizeof(here.path) - 1);
	if (len <= 0 || sys2(SYS_fstat, fd, &st)) {
		sys1(SYS_close, fd);
		return len < 0 ? (int)len : -ENOENT;
	}
	here.path[len] = '\0';
	here.dev = st.st_dev;
	here.ino = st.st_ino;
	here.fd = fd;
	return 0;
}

static int leave(struct gw_engine *e, void *arg)
{
	(void)e;
	(void)arg;
	let_go();
	return 0;
}

/* ---- the picture ---- */

/* "0-3,8" */
static uint32_t read_cpus(const char *path, uint64_t *bits)
{
	char buf[1024];
	const char *at = buf;
	uint64_t first, last, nr = 1;

	memset(bits, 0, GW_MAX_CPUS / 8);
	if (host_read(path, buf, sizeof(buf)) <= 0)
		return 1;
	while (str_u64(&at, 10, &first)) {
		last = first;
		if (*at == '-') {
			at++;
			if (!str_u64(&at, 10, &last))
				break;
		}
		for (; first <= last && first < GW_MAX_CPUS; first++) {
			bits[first / 64] |= 1ULL << first % 64;
			nr = first + 1;
		}
		at += *at == ',';
	}
	return (uint32_t)nr;
}

static void see_huge(struct picture *p)
{
	char buf[1024] __attribute__((aligned(8)));
	int dir = (int)sys4(SYS_openat, AT_FDCWD, "/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long got = dir < 0 ? -1 : sys3(SYS_getdents64, dir, buf, sizeof(buf));

	for (long at = 0; at < got;) {
		const struct sys_dirent *d = (const void *)(buf + at);

		at += d->len;
		if (d->name[0] != '.' && p->nr_huge < PICTURE_HUGE && strlen(d->name) < sizeof(p->huge[0]))
			str_cat(p->huge[p->nr_huge++], sizeof(p->huge[0]), d->name);
	}
	if (dir >= 0)
		sys1(SYS_close, dir);
}

static void see(struct gw_engine *e, struct picture *p)
{
	uint64_t possible[GW_MAX_CPUS / 64];

	memset(p, 0, sizeof(*p));
	p->nr_nodes = (uint32_t)gw_node_count(e);
	p->nr_cpus = read_cpus("/sys/devices/system/cpu/possible", possible);
	read_cpus("/sys/devices/system/cpu/online", p->online);
	for (uint32_t cpu = 0; cpu < p->nr_cpus; cpu++) {
		int node = gw_node_of_cpu(e, (int)cpu);

		p->cpu_node[cpu] = (uint8_t)(node > 0 ? node : 0);
	}
	for (uint32_t n = 0; n < p->nr_nodes; n++) {
		p->total[n] = gw_node_bytes(e, (int)n);
		for (uint32_t to = 0; to < p->nr_nodes; to++)
			p->distance[n][to] = (uint8_t)gw_node_distance(e, (int)n, (int)to);
	}
	see_huge(p);
}

/* ---- having a tree ---- */

/* Under another name, and then under its own at once. Somebody else's may be there by then: just as good. */
static int make(const char *name, const struct picture *p, char *scratch)
{
	char new[TREE_PATH] = "";
	int fd, err, dir;

	if (!str_cat(new, sizeof(new), name) || !str_cat(new, sizeof(new), ".") ||
	    !str_cat_u64(new, sizeof(new), (uint64_t)sys0(SYS_getpid)) || !str_cat(new, sizeof(new), ".new"))
		return -ENAMETOOLONG;
	err = (int)sys2(SYS_mkdir, new, 0755);
	if (err && err != -EEXIST)
		return err;
	fd = err ? err : tree_hold(new);
	if (fd >= 0) {
		sys2(SYS_fchmod, fd, 0755);
		err = tree_fill(fd, p, scratch);
		if (!err)
			err = (int)sys2(SYS_rename, new, name);
		sys1(SYS_close, fd);
	} else {
		err = fd;
	}
	if (err) {
		*strrchr(new, '/') = '\0';
		dir = (int)sys4(SYS_openat, AT_FDCWD, new, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		if (dir >= 0) {
			tree_remove(dir, new + strlen(new) + 1);
			sys1(SYS_close, dir);
		}
	}
	return err == -EEXIST || err == -ENOTEMPTY ? -EAGAIN : err;
}

static int have(struct gw_engine *e, const char *dir, struct text *room)
{
	struct picture *p = (void *)room->buf;
	struct text t = { .buf = here.name, .cap = sizeof(here.name) - 1 };
	int err = -EAGAIN;

	see(e, p);
	text_add(&t, dir);
	text_add(&t, "/" TREE_PREFIX);
	text_add_hex(&t, picture_hash(p), 16);
	here.name[t.len] = '\0';
	if (t.full)
		return -ENAMETOOLONG;
	for (int i = 0; i < TRIES && (err == -EAGAIN || !err); i++) {
		err = gw_call(e, hold, NULL);
		if (!err)
			return 0;
		if (err == -ENOENT)
			err = make(here.name, p, room->buf + ALIGN_UP(sizeof(*p), 64));
		else
			sleep_ns(TRY_NS);
	}
	return err ? err : -EAGAIN;
}

static int runtime_dir(char *buf, bool may_make)
{
	char base[CTL_PATH_MAX];
	uint32_t uid = (uint32_t)sys0(SYS_geteuid);
	int err = ctl_runtime_base(base, sizeof(base), getenv("XDG_RUNTIME_DIR"), uid);

	return err ? err : ctl_runtime_dir(buf, CTL_PATH_MAX, base, uid, may_make);
}

/* Is the tree that is held where it was, for this user, with all nodes? */
static bool still_there(struct gw_engine *e)
{
	struct stat st;

	return here.nr_nodes == gw_node_count(e) && here.pid == (int)sys0(SYS_getpid) &&
	       here.uid == (uint32_t)sys0(SYS_geteuid) && !sys2(SYS_lstat, here.path, &st) && st.st_dev == here.dev &&
	       st.st_ino == here.ino;
}

/* The tree's path into buf. */
static int tree_path(struct gw_engine *e, char *buf)
{
	char dir[CTL_PATH_MAX];
	struct text room;
	uint64_t mask;
	int err = 0;

	here_lock(&mask);
	if (!still_there(e)) {
		err = runtime_dir(dir, true);
		if (!err && !room_take(e, &room, ALIGN_UP(sizeof(struct picture), 64) + TREE_SCRATCH))
			err = -ENOMEM;
		if (!err) {
			err = have(e, dir, &room);
			room_give(e, &room);
		}
		if (!err) {
			here.uid = (uint32_t)sys0(SYS_geteuid);
			here.nr_nodes = gw_node_count(e);
			here.pid = (int)sys0(SYS_getpid);
		}
	}
	buf[0] = '\0';
	if (!err)
		str_cat(buf, TREE_PATH, here.path);
	here_unlock(&mask);
	return err;
}

void topology_end(struct gw_engine *e)
{
	uint64_t mask;

	here_lock(&mask);
	if (here.pid == (int)sys0(SYS_getpid)) {
		char *name = strrchr(here.path, '/');
		int dir;

		gw_call(e, leave, NULL);
		here.pid = 0;
		*name = '\0';
		dir = (int)sys4(SYS_openat, AT_FDCWD, here.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		if (dir >= 0) {
			tree_remove(dir, name + 1);
			sys1(SYS_close, dir);
		}
	}
	here_unlock(&mask);
}

/* ---- finding ---- */

/* Where a descriptor, or the process, is; a tree stands for what it shows. */
static bool base_of(int dirfd, char *buf)
{
	char link[48] = "/proc/thread-self/cwd";
	long len;

	if (dirfd != AT_FDCWD) {
		if (dirfd < 0)
			return false;
		link[0] = '\0';
		str_cat(link, sizeof(link), "/proc/thread-self/fd/");
		str_cat_u64(link, sizeof(link), (uint64_t)dirfd);
	}
	len = sys4(SYS_readlinkat, AT_FDCWD, link, buf, TOPOLOGY_PATH - 1);
	if (len <= 0 || len == TOPOLOGY_PATH - 1)
		return false;
	buf[len] = '\0';
	topology_reverse(buf);
	return buf[0] == '/' && (!buf[1] || !strncmp(buf, "/sys", 4) || !strncmp(buf, "/proc", 5));
}

int topology_find(struct gw_engine *e, int dirfd, const char *path, struct topology_place *out)
{
	char canonical[TOPOLOGY_PATH];
	int err;

	if (path[0] != '/') {
		if (!base_of(dirfd, out->path) || !topology_canonical(canonical, out->path, path))
			return 0;
	} else if (!topology_canonical(canonical, NULL, path)) {
		return 0;
	}
	topology_classify(canonical, out);
	if (out->kind == TOPOLOGY_NONE)
		return 0;
	out->path[0] = '\0';
	if (out->kind < TOPOLOGY_NUMA_MAPS) {
		err = tree_path(e, out->path);
		if (err)
			return err;
	}
	return str_cat(out->path, sizeof(out->path), canonical);
}

/* ---- at the start ---- */

/* An exec leaves the process where it was, in a tree that it does not hold any more, or that is gone by now. */
static void stay_inside(struct gw_engine *e)
{
	static const char gone[] = " (deleted)";
	struct topology_place place;
	char cwd[TOPOLOGY_PATH];
	long len = sys4(SYS_readlinkat, AT_FDCWD, "/proc/thread-self/cwd", cwd, sizeof(cwd) - 1);
	char *end;

	if (len <= 0)
		return;
	cwd[len] = '\0';
	if (!topology_reverse(cwd))
		return;
	end = strstr(cwd, gone);
	if (end)
		*end = '\0';
	if (topology_find(e, AT_FDCWD, cwd, &place) == 1 && end)
		sys1(SYS_chdir, place.path);
}

void topology_begin(struct gw_engine *e)
{
	char dir[CTL_PATH_MAX];

	stay_inside(e);
	if (!runtime_dir(dir, false))
		topology_sweep(dir);
}

/* ---- opening ---- */

static int memory_file(const struct topology_place *place, const struct text *t, int flags)
{
	const char *name = strrchr(place->path, '/') + 1;
	int fd = (int)sys2(SYS_memfd_create, name, MFD_ALLOW_SEALING | (flags & O_CLOEXEC ? MFD_CLOEXEC : 0));
	size_t at = 0;

	if (fd < 0)
		return fd;
	while (at < t->len) {
		long put = sys4(SYS_pwrite64, fd, t->buf + at, t->len - at, at);

		if (put <= 0) {
			sys1(SYS_close, fd);
			return put < 0 ? (int)put : -ENOMEM;
		}
		at += (size_t)put;
	}
	sys2(SYS_fchmod, fd, 0444);
	sys3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	return fd;
}

#define ROOM_MAPS GW_BUFFER_MOST /* for some 200000 mappings */

/* What may wait for an engine, this one or another's: in a room of its own, without the lock. */
static int live_apart(struct gw_engine *e, const struct topology_place *place, int flags)
{
	struct text room, t;
	int err;

	if (!room_take(e, &room, place->kind == TOPOLOGY_NUMA_MAPS ? ROOM_MAPS : 2 * HALF_BYTES))
		return -ENOMEM;
	t = room;
	if (place->kind == TOPOLOGY_NUMA_MAPS) {
		err = live_numa_maps(e, place, &t);
	} else {
		t.cap = HALF_BYTES;
		err = live_status(e, place, &t, t.buf + HALF_BYTES);
	}
	if (!err)
		err = t.full ? -ENOMEM : memory_file(place, &t, flags);
	room_give(e, &room);
	return err;
}

static int live_small(struct gw_engine *e, const struct topology_place *place, int flags)
{
	struct text t = { .cap = HALF_BYTES };
	uint64_t mask;
	int err;

	here_lock(&mask);
	if (!here.small)
		here.small = gw_memory(e, 2 * HALF_BYTES);
	t.buf = here.small;
	if (!t.buf)
		err = -ENOMEM;
	else if (place->kind == TOPOLOGY_STATUS)
		err = live_status(e, place, &t, t.buf + HALF_BYTES);
	else if (place->kind == TOPOLOGY_CPUSET)
		err = live_cpuset(e, place, &t);
	else
		err = live_node(e, place, &t);
	if (!err)
		err = t.full ? -ENOMEM : memory_file(place, &t, flags);
	here_unlock(&mask);
	return err;
}

static int live(struct gw_engine *e, const struct topology_place *place, int flags)
{
	if (place->kind == TOPOLOGY_NUMA_MAPS || (place->kind == TOPOLOGY_STATUS && place->pid > 0))
		return live_apart(e, place, flags);
	return live_small(e, place, flags);
}

int topology_open(struct gw_engine *e, const struct topology_place *place, int flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC, special = flags & (O_DIRECTORY | O_PATH);
	int fd = -1;

	if (place->kind >= TOPOLOGY_NUMA_MAPS)
		return writes || special ? -EXDEV : live(e, place, flags);
	if (writes || (flags & O_TMPFILE) == O_TMPFILE)
		return -EACCES;
	/* is it there, and a file? */
	fd = (int)sys4(SYS_openat, AT_FDCWD, place->path, flags & ~(O_CREAT | O_EXCL), 0);
	if (fd < 0 || place->kind == TOPOLOGY_TREE || special)
		return fd;
	sys1(SYS_close, fd);
	return live(e, place, flags);
}

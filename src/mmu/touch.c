/* SPDX-License-Identifier: MIT */
/*
 * First touches, as perf's page fault event of each thread and CPU tells them.
 *
 * One ring a CPU. Its owner is an event of the calling thread that counts nothing: a ring whose owner's
 * thread has ended would poll as hung up for ever. The events of the program's threads, one for each
 * thread and CPU, write to the ring of their CPU; threads made later inherit them.
 */
#include "mmu/touch.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#define META_BYTES 4096UL
#define RING_MOST (4UL << 20)
#define RING_LEAST (64UL << 10)
#define RINGS_MOST (64UL << 20)	/* of all CPUs together */
#define CPUS_MOST 1024U
#define THREADS_MOST (16U << 10)
#define FDS_MOST (64U << 10)
#define PASSES_MOST 4
#define BIRTH_NS 5000000ULL	/* a thread is rarely longer in the making */
#define NONE UINT64_MAX

struct ring {
	struct perf_event_mmap_page *meta;
	const uint64_t *data;
	uint64_t head, tail;	/* in bytes; of the drain under way */
	uint64_t next;		/* time of the record at tail, or NONE */
	uint64_t full_at;	/* it was full when head was there, which counted as one lost; or NONE */
	uint64_t addr, time;	/* of the page fault told last */
	uint32_t tid;
	uint32_t cpu;
	int fd;
};

struct touches {
	struct region *region;
	char *maps;		/* addresses for the rings */
	uint64_t maps_len;
	int epoll;		/* -1: closed */
	bool kernel;
	uint64_t ring_bytes, lost;
	uint32_t nr_rings, nr_threads, nr_fds;
	struct ring ring[CPUS_MOST];
	uint32_t tid[THREADS_MOST];
	int fd[FDS_MOST];
};

/* ---- events ---- */

static long event_open(struct perf_event_attr *attr, uint32_t tid, int cpu)
{
	return sys5(SYS_perf_event_open, attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

/* TID, TIME and ADDR make a record of four words; ring_peek() and the tell_ functions know their order. */
static struct perf_event_attr fault_attr(bool kernel)
{
	return (struct perf_event_attr){
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(struct perf_event_attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR,
		.sample_id_all = 1,
		.inherit = 1,
		.inherit_thread = 1,
		.exclude_kernel = !kernel,
		.mmap = 1,
		.mmap_data = 1,
		.mmap2 = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};
}

int touch_probe(void)
{
	struct perf_event_attr attr = fault_attr(true);
	long fd = event_open(&attr, 0, -1);

	if (fd >= 0)
		sys1(SYS_close, fd);
	return fd < 0 ? (int)fd : 0;
}

static long fault_open(struct touches *t, uint32_t tid, uint32_t cpu)
{
	struct perf_event_attr attr = fault_attr(t->kernel);
	long fd = event_open(&attr, tid, (int)cpu);

	if ((fd != -EACCES && fd != -EPERM) || !t->kernel)
		return fd;
	attr = fault_attr(false);
	fd = event_open(&attr, tid, (int)cpu);
	if (fd >= 0)
		t->kernel = false;
	return fd;
}

static int thread_event_add(struct touches *t, uint32_t tid, const struct ring *g)
{
	long ret, fd;

	if (t->nr_fds == FDS_MOST)
		return -EMFILE;
	fd = fault_open(t, tid, g->cpu);
	if (fd < 0)
		return (int)fd;
	t->fd[t->nr_fds++] = (int)fd;
	ret = sys3(SYS_ioctl, fd, PERF_EVENT_IOC_SET_OUTPUT, g->fd);
	return ret < 0 ? (int)ret : 0;
}

static void events_close(struct touches *t, uint32_t keep)
{
	while (t->nr_fds > keep)
		sys1(SYS_close, t->fd[--t->nr_fds]);
}

/* 1: it is seen now; 0: it has ended. */
static int thread_add(struct touches *t, uint32_t tid)
{
	uint32_t before = t->nr_fds;
	int err = 0;

	if (t->nr_threads == THREADS_MOST)
		return -EMFILE;
	for (uint32_t i = 0; i < t->nr_rings && !err; i++) {
		err = thread_event_add(t, tid, &t->ring[i]);
		if (err == -ENODEV) /* the CPU went offline */
			err = 0;
	}
	if (err)
		events_close(t, before);
	if (!err)
		t->tid[t->nr_threads++] = tid;
	return !err ? 1 : err == -ESRCH ? 0 : err;
}

/* ---- threads ---- */

static bool listed(const uint32_t *tids, uint32_t nr, uint32_t tid)
{
	for (uint32_t i = 0; i < nr; i++)
		if (tids[i] == tid)
			return true;
	return false;
}

static int add_listed(struct touches *t, const struct touch_options *opt, const char *buf, long len)
{
	int added = 0, ret = 0;

	for (long at = 0; at < len && ret >= 0;) {
		const struct sys_dirent *d = (const void *)(buf + at);
		const char *name = d->name;
		uint64_t tid;

		at += d->len;
		if (!str_u64(&name, 10, &tid) || listed(t->tid, t->nr_threads, (uint32_t)tid) ||
		    listed(opt->skip, opt->nr_skip, (uint32_t)tid) || tid == (uint64_t)sys0(SYS_gettid))
			continue;
		ret = thread_add(t, (uint32_t)tid);
		added += ret > 0;
	}
	return ret < 0 ? ret : added;
}

/* How many threads were added. */
static int threads_pass(struct touches *t, const struct touch_options *opt)
{
	char buf[2048] __attribute__((aligned(8)));
	int added = 0, ret = 0;
	long got, fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd < 0)
		return (int)fd;
	while (ret >= 0 && (got = sys3(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		ret = add_listed(t, opt, buf, got);
		added += ret;
	}
	sys1(SYS_close, fd);
	return ret < 0 ? ret : added;
}

/*
 * A thread that was made meanwhile has inherited all events of its maker, some, or none, and does not tell which. It
 * gets its own of all CPUs, and where it had one its faults come twice: told_already() knows them.
 */
static int threads_add(struct touches *t, const struct touch_options *opt)
{
	int added = 1;

	for (int i = 0; i < PASSES_MOST && added > 0; i++)
		added = threads_pass(t, opt);
	/* one that was in the making has inherited what its maker had when it began, and was not listed yet */
	if (!added && t->nr_threads > 1) {
		sleep_ns(BIRTH_NS);
		added = threads_pass(t, opt);
	}
	return added < 0 ? added : 0;
}

/* ---- rings ---- */

/* As region_take() gave them. */
static void maps_reserve(const struct touches *t)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	if (t->maps_len)
		sys_mmap(t->maps, t->maps_len, PROT_NONE, flags, -1, 0);
}

static void rings_close(struct touches *t)
{
	maps_reserve(t);
	for (uint32_t i = 0; i < t->nr_rings; i++)
		sys1(SYS_close, t->ring[i].fd);
	t->nr_rings = 0;
}

/* The owners of the rings, for all CPUs that are online. */
static int owners_open(struct touches *t, uint64_t ring_bytes)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
		.watermark = 1,
		.wakeup_watermark = (uint32_t)(ring_bytes / 4),
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};

	for (uint32_t cpu = 0; cpu < CPUS_MOST; cpu++) {
		long fd = event_open(&attr, 0, (int)cpu);

		if (fd == -ENODEV)
			continue;
		if (fd == -EINVAL && t->nr_rings)
			break; /* no such CPU, and none after it */
		if (fd < 0)
			return (int)fd;
		t->ring[t->nr_rings++] = (struct ring){ .fd = (int)fd, .cpu = cpu, .full_at = NONE };
	}
	return t->nr_rings ? 0 : -ENODEV;
}

/* Once taken, addresses are kept: the region takes nothing back. */
static int maps_take(struct touches *t, uint64_t len)
{
	char *maps;

	if (t->maps_len >= len)
		return 0;
	maps = region_take(t->region, len, META_BYTES);
	if (!maps)
		return -ENOMEM;
	t->maps = maps;
	t->maps_len = len;
	return 0;
}

static int rings_map(struct touches *t, uint64_t ring_bytes)
{
	uint64_t len = META_BYTES + ring_bytes;
	int err = maps_take(t, t->nr_rings * len);

	for (uint32_t i = 0; i < t->nr_rings && !err; i++) {
		struct ring *g = &t->ring[i];
		long ret = sys_mmap(t->maps + i * len, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, g->fd, 0);

		g->meta = (void *)ret;
		g->data = (void *)(ret + (long)META_BYTES);
		err = ret < 0 ? (int)ret : 0;
	}
	t->ring_bytes = ring_bytes;
	return err == -EPERM ? -ENOMEM : err; /* locked memory is over its limit */
}

/* All of one size: what the first ones leave of the limit would be too little for the last. */
static int rings_open(struct touches *t, uint64_t asked)
{
	uint64_t bytes = asked ? asked : RING_MOST, least = min_u64(bytes, RING_LEAST);
	int err;

	for (;; bytes /= 2) {
		err = owners_open(t, bytes);
		if (!err && !asked && bytes > least && t->nr_rings * bytes > RINGS_MOST)
			err = -ENOMEM;
		if (!err)
			err = rings_map(t, bytes);
		if (!err)
			return 0;
		rings_close(t);
		if (err != -ENOMEM || bytes / 2 < least)
			return err;
	}
}

static int watch_open(struct touches *t)
{
	long ret = sys1(SYS_epoll_create1, EPOLL_CLOEXEC);

	t->epoll = (int)ret;
	for (uint32_t i = 0; i < t->nr_rings && ret >= 0; i++) {
		struct epoll_event ev = { .events = EPOLLIN };

		ret = sys4(SYS_epoll_ctl, t->epoll, EPOLL_CTL_ADD, t->ring[i].fd, &ev);
	}
	return ret < 0 ? (int)ret : 0;
}

/* ---- open and close ---- */

static void forget(struct touches *t)
{
	t->epoll = -1;
	t->nr_rings = t->nr_threads = t->nr_fds = 0;
	t->lost = 0;
	t->kernel = true;
}

int touch_open(struct touches **out, struct region *r, const struct touch_options *opt)
{
	static const struct touch_options plain = { 0 };
	struct touches *t = *out ? *out : region_alloc(r, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	BUG_ON(*out && t->epoll >= 0);
	*out = t;
	opt = opt ? opt : &plain;
	BUG_ON(opt->ring_bytes & (opt->ring_bytes - 1) || (opt->ring_bytes && opt->ring_bytes < META_BYTES));
	t->region = r;
	forget(t);
	err = rings_open(t, opt->ring_bytes);
	if (!err)
		err = watch_open(t);
	if (!err)
		err = threads_add(t, opt);
	if (err)
		touch_close(t);
	return err;
}

void touch_close(struct touches *t)
{
	events_close(t, 0);
	if (t->epoll >= 0)
		sys1(SYS_close, t->epoll);
	rings_close(t);
	forget(t);
}

void touch_fork_child(struct touches *t)
{
	maps_reserve(t);
	forget(t);
}

void touch_state(const struct touches *t, struct touch_state *out)
{
	*out = (struct touch_state){
		.kernel = t->kernel, .cpus = t->nr_rings, .threads = t->nr_threads, .ring_bytes = t->ring_bytes
	};
}

int touch_fd(const struct touches *t)
{
	return t->epoll;
}

/* ---- records ---- */

#define SAMPLE_WORDS 4U		/* header, tid, time, addr */
#define MAPPED_BYTES 96U	/* an anonymous mapping's */
#define LOST_BYTES 40U

/* Records are whole words and so is the ring: none of them wraps. */
static uint64_t word(const struct touches *t, const struct ring *g, uint64_t nth)
{
	return g->data[(g->tail / 8 + nth) & (t->ring_bytes / 8 - 1)];
}

static uint32_t record_type(const struct touches *t, const struct ring *g)
{
	return (uint32_t)word(t, g, 0);
}

static uint64_t record_bytes(const struct touches *t, const struct ring *g)
{
	return word(t, g, 0) >> 48;
}

static void ring_peek(struct touches *t, struct ring *g)
{
	uint64_t bytes;

	g->next = NONE;
	if (g->tail == g->head)
		return;
	bytes = record_bytes(t, g);
	if (bytes < SAMPLE_WORDS * 8 || bytes % 8 || bytes > g->head - g->tail) {
		/* the program has written there */
		g->tail = g->head;
		t->lost++;
		return;
	}
	/* other types end in tid, time */
	g->next = word(t, g, record_type(t, g) == PERF_RECORD_SAMPLE ? 2 : bytes / 8 - 1);
}

/*
 * The kernel says how many were lost in front of the next record that it has room for, which may be long
 * after: a ring with no room for one is one lost already, and one less then.
 */
static void ring_look(struct touches *t, struct ring *g)
{
	g->head = __atomic_load_n(&g->meta->data_head, __ATOMIC_ACQUIRE);
	if (g->head - g->tail + MAPPED_BYTES + LOST_BYTES >= t->ring_bytes && g->full_at != g->head) {
		g->full_at = g->head;
		t->lost++;
	}
	ring_peek(t, g);
}

static void count_lost(struct touches *t, struct ring *g)
{
	t->lost += word(t, g, 2) - (g->tail == g->full_at);
}

/* Two events of a thread that was made while they were opened write one fault twice, with one time. */
static bool told_already(const struct ring *g, uint32_t tid, uint64_t addr)
{
	return g->tid == tid && g->addr == addr && g->time == g->next;
}

static bool tell_page(struct touches *t, struct ring *g, struct touch *out)
{
	uint64_t addr = word(t, g, 3);
	uint32_t tid = (uint32_t)(word(t, g, 1) >> 32);

	if (region_owns(t->region, addr, addr + 1) || told_already(g, tid, addr))
		return false;
	g->tid = tid;
	g->addr = addr;
	g->time = g->next;
	*out = (struct touch){ TOUCH_PAGE, tid, g->cpu, addr, addr, g->next };
	return true;
}

/* pid and tid, start, length, offset, device, inode, its generation, protection and flags. */
static bool tell_mapped(struct touches *t, struct ring *g, struct touch *out)
{
	uint64_t start = word(t, g, 2), end = start + word(t, g, 3), device = word(t, g, 5), inode = word(t, g, 6);
	uint32_t prot = (uint32_t)word(t, g, 8), flags = (uint32_t)(word(t, g, 8) >> 32);

	if (device || inode || !(prot & PROT_WRITE) || !(flags & MAP_PRIVATE))
		return false;
	if (start >= (uint64_t)t->region->base && end <= (uint64_t)t->region->base + t->region->reserved)
		return false;
	*out = (struct touch){ TOUCH_MAPPED, (uint32_t)(word(t, g, 1) >> 32), g->cpu, start, end, g->next };
	return true;
}

/* One record. True: there is something to tell. */
static bool ring_step(struct touches *t, struct ring *g, struct touch *out)
{
	bool tell = false;

	switch (record_type(t, g)) {
	case PERF_RECORD_SAMPLE:
		tell = tell_page(t, g, out);
		break;
	case PERF_RECORD_MMAP2:
		tell = tell_mapped(t, g, out);
		break;
	case PERF_RECORD_LOST:
		count_lost(t, g);
		break;
	default:
		break; /* threads that begin and end */
	}
	g->tail += record_bytes(t, g);
	ring_peek(t, g);
	return tell;
}

/* The ring whose next record is the earliest, and the time until which it stays that; NULL: none is that early. */
static struct ring *ring_earliest(struct touches *t, uint64_t *until)
{
	struct ring *best = NULL;
	uint64_t first = *until;

	for (uint32_t i = 0; i < t->nr_rings; i++) {
		struct ring *g = &t->ring[i];

		if (g->next > first) {
			*until = min_u64(*until, g->next);
			continue;
		}
		*until = best ? first : *until;
		first = g->next;
		best = g;
	}
	return best;
}

/*
 * Rings are looked at one after the other: a record that came to the last of them meanwhile may be younger
 * than one of the first that came after the look. It is younger than the call too, and waits for the next.
 */
uint64_t touch_drain(struct touches *t, void (*fn)(void *arg, const struct touch *touch), void *arg)
{
	uint64_t call = clock_ns(), until = call, lost;
	struct touch touch;
	struct ring *g;

	for (uint32_t i = 0; i < t->nr_rings; i++)
		ring_look(t, &t->ring[i]);
	while ((g = ring_earliest(t, &until))) {
		while (g->next <= until)
			if (ring_step(t, g, &touch))
				fn(arg, &touch);
		__atomic_store_n(&g->meta->data_tail, g->tail, __ATOMIC_RELEASE);
		until = call;
	}
	lost = t->lost;
	t->lost = 0;
	return lost;
}

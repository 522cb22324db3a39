/* SPDX-License-Identifier: MIT */
/*
 * godwit.h - live page migration in user space.
 *
 * An engine lives inside one process and moves that process's anonymous private writable memory
 * between nodes while the program runs. No virtual address changes. The idea is Linux page
 * migration (Documentation/vm/page_migration, 2006); the names that Linux has keep Linux's contract.
 *
 * Conventions
 *   - Functions return 0 (or a count, or an id, where said) or a negative errno; errno is never set.
 *   - Addresses and lengths are bytes; a page is GW_PAGE_SIZE bytes; times are nanoseconds or, where
 *     the name ends in _us, microseconds.
 *   - Structures that may grow begin with their size: set .size = sizeof(struct ...) and zero the rest.
 *   - Unless said otherwise every function may be called from any thread, and may sleep. None may be
 *     called from a signal handler.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_VERSION "0.1.0"
#define GW_PAGE_SIZE 4096UL
#define GW_HUGE_SIZE (2UL << 20)
#define GW_MAX_NODES 64
#define GW_NAME_MAX 32
#define GW_MAX_CPUS 1024

/* ---------------------------------------------------------------- environment ---- */

/* What this kernel and these rights allow. Bits of gw_check_result.missing. */
enum gw_need {
	GW_NEED_UFFD = 1 << 0,		/* no userfaultfd in the kernel, or a sandbox forbids it */
	GW_NEED_RIGHTS = 1 << 1,	/* userfaultfd exists but full mode is not permitted */
	GW_NEED_MOVE = 1 << 2,		/* no UFFDIO_MOVE: the kernel is older than 6.8 */
	GW_NEED_SCAN = 1 << 3,		/* no PAGEMAP_SCAN: the kernel is older than 6.7 */
	GW_NEED_ARCH = 1 << 4,		/* not x86-64 */
	GW_WANT_EVENT_FORK = 1 << 8,	/* works without; fork through raw clone() is then not covered */
	GW_WANT_POISON = 1 << 9,	/* works without; a lost page would stay absent (6.6 has it) */
	GW_WANT_TOUCH = 1 << 10,	/* works without; first touches by threads pinned to different nodes are then charged by guess */
};

#define GW_NEED_MASK 0xffU

struct gw_check_result {
	size_t size;
	uint32_t missing;	/* enum gw_need; (missing & GW_NEED_MASK) == 0: migration works here */
	uint32_t method;	/* how full mode was had: 1 CAP_SYS_PTRACE, 2 /dev/userfaultfd, 3 sysctl, 0 none */
	uint64_t features;	/* UFFDIO_API feature bits */
	char kernel[64];	/* release, as uname -r */
};

/*
 * Probe by behaviour. GODWIT_PROBE=no-uffd,no-rights,no-move,no-scan,no-touch in the environment makes
 * the named thing count as missing (for tests). Returns 0, also when something is missing.
 */
int gw_check(struct gw_check_result *res);

/* ---------------------------------------------------------------- engine ---- */

struct gw_engine;

enum gw_start_flags {
	GW_NO_RECYCLE = 1 << 0,	/* never reuse a vacated frame: drop it (about 1.3 us a page more) */
	GW_OWN_FORKS = 1 << 1,	/* libc is not told of the engine's part in fork(): see gw_hold() */
	/* mbind() takes MPOL_MF_LAZY (8) with MPOL_MF_MOVE or MPOL_MF_MOVE_ALL, which Linux refuses: see GW_MIGRATE_LAZY */
	GW_MBIND_LAZY = 1 << 2,
	/*
	 * Idle CPUs may sleep also while pages come back from far nodes. Without it they poll for as long as more than
	 * 5000 touches a second bring one back (PM QoS, /dev/cpu_dma_latency), where the rights are.
	 */
	GW_CPUS_SLEEP = 1 << 3,
};

struct gw_options {
	size_t size;
	uint32_t flags;		/* enum gw_start_flags */
	uint32_t stall_us_max;	/* default bound for migrations that name none; 0: 50 */
	/*
	 * Called in a forked child, before fork() returns there, when the child's own engine is up
	 * (err 0) or could not be built (-errno; the child then runs unmanaged). May be NULL. Runs
	 * with every engine lock free; must not call into the engine but for gw_post().
	 */
	void (*forked)(struct gw_engine *e, int err, void *arg);
	void *forked_arg;
	void *own;		/* a mapping of the caller's that must never move, such as this library's own data */
	size_t own_len;
	/*
	 * Where the process has no rights to full-mode userfaultfd (-EPERM of gw_start()): called on the service
	 * thread for a descriptor of this process's, opened with more rights, UFFDIO_API done with these features.
	 * Returns it or -errno, and in *have all features that the kernel named. May be NULL.
	 */
	int (*faults)(uint64_t features, uint64_t *have, void *arg);
	void *faults_arg;
};

/*
 * Start the engine of this process: one service thread, no memory touched, nothing registered.
 * One engine a process. -EBUSY: there is one; -EPERM, -ENOSYS: see gw_check(); -ENOMEM, -EMFILE.
 */
int gw_start(struct gw_engine **out, const struct gw_options *opt);

/* Finish what is under way, give everything back and end the thread. Pages stay where they are. */
int gw_stop(struct gw_engine *e);

/*
 * fork() for who has started the engine with GW_OWN_FORKS: hold before it; on the same thread release after it, or
 * abandon in the child, which then has no engine (what the parent's had in memory is given back). Between hold and
 * release no page is in flight; other calls work, so that handlers of fork() may wait for threads that make them.
 */
void gw_hold(struct gw_engine *e);
void gw_release(struct gw_engine *e);
void gw_abandon(struct gw_engine *e);

/*
 * From here on gw_self() is NULL: for who must see to it that no thread is in a call before gw_stop(), which still
 * takes the engine.
 */
void gw_retire(struct gw_engine *e);

/* The engine of this process, or NULL. */
struct gw_engine *gw_self(void);

/* ---------------------------------------------------------------- nodes ---- */

/*
 * Memory is direct: pages lie at their addresses. A far node keeps contents, compressed in the engine's own memory or
 * in a file: a page there is absent, and comes back when it is touched. The idea is that of swap entries, and of
 * migration caches (Tosatti, Schermerhorn).
 */
enum gw_node_kind { GW_NODE_RAM = 1, GW_NODE_ZRAM, GW_NODE_FILE };

enum gw_node_alg { GW_ALG_LZ4, GW_ALG_ZSTD };

struct gw_node_options {
	size_t size;
	uint32_t kind;		/* enum gw_node_kind */
	int32_t host;		/* NUMA node of the host whose frames these are; -1: virtual */
	uint64_t bytes;		/* capacity; 0: no limit */
	uint32_t distance;	/* from node 0, as in the ACPI SLIT; 0: 20 (10 for node 0) */
	uint32_t weight;	/* of weighted interleaving, to 255; 0: 1 */
	char name[GW_NAME_MAX];
	uint64_t cpus[GW_MAX_CPUS / 64];	/* CPUs of the host that are this node's; none: see gw_node_of_cpu() */
	uint32_t alg;		/* zram: enum gw_node_alg */
	uint32_t dedup;		/* zram: 1: pages of the same content are kept once */
	const char *path;	/* file: where, path_len bytes; a file, a directory for an unnamed one, a block device */
	size_t path_len;
};

/*
 * Parse "ram[,size=1G][,host=0][,name=fast][,distance=20][,cpus=0-3][,weight=1]",
 * "zram[,size=1G][,alg=lz4|zstd][,dedup=1][,name=][,distance=]" or "file,path=/x[,size=1G][,name=][,distance=]".
 * Returns 0, or -EINVAL with the offset of the offending word in *at (may be NULL). .path points into spec.
 */
int gw_node_parse(const char *spec, struct gw_node_options *out, size_t *at);

/*
 * May the frames of a node be those of this NUMA node of the host? 0; -ENODEV: there is none; -ENXIO: it has no memory;
 * -EACCES: this process may not take memory from it (Mems_allowed of /proc/self/status); -EINVAL.
 */
int gw_host_node(int host);

/*
 * Add a node; returns its id, numbered from 0. -ENOSPC: GW_MAX_NODES; -EINVAL; or what gw_host_node() says of its host.
 * The first one is memory. A far node: also what open(2) says of its path; -EPERM: forks of the process would not be
 * seen (CAP_SYS_PTRACE gives that right), and a child that nobody sees would lose the pages that are far.
 */
int gw_node_add(struct gw_engine *e, const struct gw_node_options *opt);

struct gw_node_info {
	struct gw_node_options opt;
	uint64_t pages;		/* 4 KiB pages charged to the node */
	uint64_t free_frames;	/* vacated frames kept for reuse in the node's arena (shared by virtual nodes) */
	uint64_t in, out;	/* 4 KiB pages migrated to and from it */
	/* as in /sys/devices/system/node/nodeN/numastat, 4 KiB pages since the engine's start */
	uint64_t hit, miss, foreign, interleave_hit, local, other;
	/* of a far node, else 0: what its pages take, and what became of requests */
	uint64_t data_bytes;	/* of the contents as they are kept */
	uint64_t used_bytes;	/* of memory or of the file that is taken, with holes and books */
	uint64_t same, raw, shared;	/* pages: one value all over; not compressed; with another's content */
	uint64_t refused;	/* pages for which there was no room */
	uint64_t io_errors, bad_sums;	/* pages that could not be read back */
};

int gw_node_count(struct gw_engine *e);
int gw_node_get(struct gw_engine *e, int node, struct gw_node_info *out);	/* -ENODEV */

/*
 * The node of a CPU of the host. CPUs that no node names are divided evenly, in blocks, among the nodes that name
 * none; when there are fewer CPUs than such nodes, the last of them are memory only. -EINVAL: no such CPU.
 */
int gw_node_of_cpu(struct gw_engine *e, int cpu);

/* As in nodeN/distance: 10 from a node to itself, else the larger of the two distances from node 0. -ENODEV. */
int gw_node_distance(struct gw_engine *e, int from, int to);

/* The size that programs see (MemTotal): its capacity, or an even share of the host's memory. 0: no such node. */
uint64_t gw_node_bytes(struct gw_engine *e, int node);

/* ---------------------------------------------------------------- migration ---- */

/* A set of nodes, bit n = node n. */
typedef uint64_t gw_nodemask;

/* "0", "0,2", "0-3", "!1", "all" as numactl has it, over nr_nodes nodes. -EINVAL bad syntax, -ENODEV beyond nr_nodes. */
int gw_nodes_parse(const char *list, int nr_nodes, gw_nodemask *out);

enum gw_form { GW_FORM_AUTO = 0, GW_FORM_PLAIN, GW_FORM_TRANSACTIONAL };

enum gw_migrate_flags {
	GW_MIGRATE_DRY_RUN = 1 << 0,	/* count only */
	GW_MIGRATE_VERIFY = 1 << 1,	/* checksum every batch before the copy and after it */
	GW_MIGRATE_BREAK_COW = 1 << 2,	/* also copy pages that a living forked child still shares */
	GW_MIGRATE_NO_STEER = 1 << 3,	/* keep to .batch pages whatever the stall (benchmarks) */
	GW_MIGRATE_PRIVATE = 1 << 4,	/* pages that a living child shares are not asked for: EACCES (MPOL_MF_MOVE) */
	/*
	 * Nothing is copied now: pages are unmapped, and each moves when it is next touched, to the node that it is
	 * meant for; with NEXT_TOUCH (which goes for all pages of from) to that of the CPU that touches it. CANCEL:
	 * those of from that wait for that go back to where they were. At most one of the three.
	 */
	GW_MIGRATE_LAZY = 1 << 5,
	GW_MIGRATE_NEXT_TOUCH = 1 << 6,
	GW_MIGRATE_LAZY_CANCEL = 1 << 7,
	/*
	 * A page that finds no room where it is to go (ENOMEM) is stored on the nearest far node behind its own
	 * instead, and its next touch brings it to the node wanted, if that has room by then, else to where policy has
	 * it. Not with the three before. -ENXIO: there is no far node. ENOSPC counts what none has room for either.
	 */
	GW_MIGRATE_FALLBACK_SWAP = 1 << 8,
};

struct gw_migrate_options {
	size_t size;
	uint32_t flags;		/* enum gw_migrate_flags */
	uint32_t stall_us_max;	/* bound of the window in which a batch of 4 KiB pages is absent; 0: engine's default */
	uint32_t form;		/* enum gw_form */
	uint32_t batch;		/* most pages a batch; 0: chosen (at most 512) */
	uint64_t rate;		/* bytes a second at most; 0: no limit */
};

/* Why pages are not under management. Index of gw_migrate_result.unmanaged, in 4 KiB pages. */
enum gw_unmanaged {
	GW_UNMANAGED_FILE,	/* file mappings, private or shared */
	GW_UNMANAGED_SHARED,	/* shared anonymous memory, shm, memfd */
	GW_UNMANAGED_READONLY,	/* anonymous, private, not writable */
	GW_UNMANAGED_STACK,	/* thread stacks and control blocks */
	GW_UNMANAGED_EXCLUDED,	/* gw_exclude(), or another userfaultfd's */
	GW_UNMANAGED_OTHER,	/* vdso, special mappings, hugetlb */
	GW_UNMANAGED_NR
};

#define GW_ERRNO_MAX 134

struct gw_migrate_result {
	size_t size;
	/* all in 4 KiB pages; a THP counts 512 */
	uint64_t pages_total;		/* on the nodes asked for, when the request began */
	uint64_t pages_done;		/* looked at so far */
	uint64_t pages_moved;
	uint64_t pages_failed;
	uint64_t pages_gone;		/* unmapped or discarded by the program meanwhile */
	uint64_t pages_huge;		/* of pages_moved, moved as THPs */
	uint64_t pages_lazy;		/* unmapped: they move when they are touched */
	uint64_t pages_fallback;	/* through a far node: they move when they are touched; dry run: would go so */
	uint64_t failed[GW_ERRNO_MAX];	/* by errno */
	uint64_t would_4k, would_huge, would_swapped;	/* dry run: what would move, by kind */
	uint64_t unmanaged[GW_UNMANAGED_NR];
	uint64_t ns;			/* time taken so far */
	uint64_t batches, retries, passes;
	uint64_t verify_errors;		/* checksums that differed and were mended */
	/* windows (a page absent): 4 KiB batches, and THPs by themselves */
	uint64_t stall_ns_max, stall_ns_p99, stall_ns_p999;
	uint64_t thp_stall_ns_max, thp_stall_ns_p99, thp_stall_ns_p999;
	uint32_t batch_last;		/* pages in the last batch */
	uint32_t form_last;		/* enum gw_form of it */
	int32_t state;			/* 0 running, 1 done, 2 cancelled */
	int32_t error;			/* 0, or the -errno that ended it */
};

/*
 * Move every page on a node of from to the node of to with the same rank (the i-th of from goes to
 * the i-th of to, modulo), as migrate_pages(2) does. Several passes; a page that is busy is tried
 * again. Returns the number of 4 KiB pages left behind (res says why) or -errno:
 * -EINVAL empty or unknown nodes, -ENOMEM no memory for the engine's books. A full node
 * is not an error of the call: its pages count under failed[ENOMEM], or go through a far node
 * (GW_MIGRATE_FALLBACK_SWAP).
 */
long gw_migrate_pages(struct gw_engine *e, gw_nodemask from, gw_nodemask to,
		      const struct gw_migrate_options *opt, struct gw_migrate_result *res);

/*
 * Move single pages, as move_pages(2): status[i] becomes the node of pages[i], or a negative errno:
 * -ENOENT not present, -EFAULT not mapped or the zero page, -EBUSY pinned or shared since a fork,
 * -EACCES not managed (file, shared), or asked to move and read-only or opted out, -ENODEV no such node, -ENOMEM node
 * full.
 * nodes NULL: only ask. Returns 0, the number of pages not moved, or -errno. With GW_MIGRATE_FALLBACK_SWAP the status
 * of a page that waits on a far node is that node, and it counts as not moved.
 */
long gw_move_pages(struct gw_engine *e, size_t count, void *const *pages, const int *nodes, int *status,
		   const struct gw_migrate_options *opt);

/* The node of the page at addr (also of one that stays for being pinned or opted out); errors as status of gw_move_pages(). */
int gw_query(struct gw_engine *e, const void *addr);

/*
 * Jobs: the same in the background. A job's progress may be read at any time; it is freed by
 * gw_job_end(), which cancels it first when it still runs, and waits for the batch in flight.
 * kick, if not NULL, is called on the job's thread when the job is over; it must not sleep.
 */
struct gw_job;

int gw_job_migrate(struct gw_engine *e, gw_nodemask from, gw_nodemask to, const struct gw_migrate_options *opt,
		   void (*kick)(void *arg), void *arg, struct gw_job **out);
int gw_job_move(struct gw_engine *e, size_t count, void *const *pages, const int *nodes, int *status,
		const struct gw_migrate_options *opt, void (*kick)(void *arg), void *arg, struct gw_job **out);
/* Never sleeps. 0 while running, 1 when over. */
int gw_job_progress(struct gw_job *job, struct gw_migrate_result *res);
/* Ask for an end between two batches. Never sleeps. */
void gw_job_cancel(struct gw_job *job);
void gw_job_end(struct gw_job *job);

/* ---------------------------------------------------------------- Linux's NUMA interface ---- */

/*
 * One of Linux's NUMA system calls, on this engine's nodes: set_mempolicy(2), get_mempolicy(2), mbind(2),
 * set_mempolicy_home_node(2), move_pages(2), migrate_pages(2), getcpu(2), with the kernel's number and arguments, by
 * thread tid of this process (0: the calling one). Returns what the kernel would: a value or a negative errno; memory
 * that the arguments point to and that is not there is -EFAULT. Another number: -ENOSYS. Where libgodwit.so is linked
 * or preloaded, the calls of libc and libnuma arrive here by themselves. See numa(7) and docs/numa.md.
 */
long gw_numa_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6]);
/* The same as a job, for a thread that is not to wait; *ret is what the call returned when the job is over. */
int gw_job_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6], long *ret, void (*kick)(void *arg),
		void *arg, struct gw_job **out);

/*
 * The calling thread has been made by thread maker of this process, and has its policy (Linux's clone() does it so);
 * a thread (0: the calling one) may run on other CPUs now. Where libgodwit.so is linked or preloaded this happens by
 * itself.
 */
void gw_thread_inherit(struct gw_engine *e, uint32_t maker);
void gw_thread_moved(struct gw_engine *e, uint32_t tid);

/*
 * The calling thread's policy as a text of exactly GW_POLICY_SAVED characters and a NUL, and back: for the program
 * that this process becomes by execve(). -EINVAL: it is no such text (blanks are: the default policy).
 */
#define GW_POLICY_SAVED 50
void gw_policy_save(struct gw_engine *e, char text[GW_POLICY_SAVED + 1]);
int gw_policy_load(struct gw_engine *e, const char *text);

/* The nodes that policies of this process may name (Mems_allowed of /proc/PID/status): all, or those of its group. */
gw_nodemask gw_nodes_allowed(struct gw_engine *e);

/*
 * Allow other nodes from now on, as a change of cpuset.mems does: policies are rebound (static and relative ones by
 * the mask that was given), and if follow is not 0 the pages move along, keeping their relative placement. Returns
 * the 4 KiB pages left behind, or -errno: -EINVAL no node, or an unknown one.
 */
long gw_nodes_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		    struct gw_migrate_result *res);

/* The same as a job. */
int gw_job_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		 void (*kick)(void *arg), void *arg, struct gw_job **out);

/*
 * The nodes that are allowed have been these since the process began, as with the cpuset that a program is started in:
 * nothing moves, and no policy is rebound. Before the first request. -EINVAL: no node, or an unknown one.
 */
int gw_nodes_inherit(struct gw_engine *e, gw_nodemask nodes);

/*
 * The same of another process that has an engine, by its control socket (e is this process's own): as
 * gw_migrate_pages() and gw_move_pages().
 * -ENXIO: it has none; -EPERM: it is another user's; -EINVAL: no such node there; and what the connection says.
 */
long gw_remote_migrate(struct gw_engine *e, int pid, gw_nodemask from, gw_nodemask to, struct gw_migrate_result *res);
long gw_remote_move(struct gw_engine *e, int pid, size_t count, void *const *pages, const int *nodes, int *status,
		    const struct gw_migrate_options *opt);

/* ---------------------------------------------------------------- ranges ---- */

/*
 * Pinned pages stay (-EBUSY); pins nest, and are undone with the same range. On return no page of
 * the range is in flight. Whole pages: the range is widened. -EINVAL, -ENOENT,
 * -ENOMEM (65536 ranges: then nothing moves any more).
 */
int gw_pin(struct gw_engine *e, const void *addr, size_t len);
int gw_unpin(struct gw_engine *e, const void *addr, size_t len);

/* Opt a range out of, and back into, management: -EACCES. Otherwise as pins. */
int gw_exclude(struct gw_engine *e, const void *addr, size_t len);
int gw_include(struct gw_engine *e, const void *addr, size_t len);

/*
 * The calling thread's control block and stack (stack_size bytes below it) stay while it lives: the
 * kernel writes there when a thread ends, and would not wait for a page in flight. Threads made by
 * pthread_create() and thrd_create() are covered without a call where libgodwit.so is linked or
 * preloaded; the static library sees threads that exist when a request begins.
 */
int gw_thread_exclude(struct gw_engine *e, size_t stack_size);
/* The calling thread is about to end: the robust mutexes that it holds stay too. */
void gw_thread_leave(struct gw_engine *e);

/*
 * mremap(2) as it would be without an engine: nothing is tracked and nothing in flight meanwhile. A
 * call that spans two mappings fails where one of them is tracked, and may have moved the first by
 * then. Where libgodwit.so is linked or preloaded mremap() does this by itself. Returns as the system
 * call: an address or a negative errno.
 */
long gw_mremap(struct gw_engine *e, void *addr, size_t old_len, size_t new_len, int flags, void *new_addr);

/*
 * The program has, after since, unmapped a range or mapped another thing over
 * it, or (unmapped 0) has discarded its pages: what is there next is new, and is charged to the node that its policy
 * says. The engine need not be told, but then takes a page that is there again for the one of before. Where
 * libgodwit.so is linked or preloaded munmap(), mmap() and madvise() do this by themselves. Async-signal-safe.
 */
void gw_discard(const void *addr, size_t len, int unmapped, uint64_t since);

/* For since: asked just before that system call. 0: the engine knows of nothing that could go. */
uint64_t gw_discard_time(void);
/*
 * Memory was mapped that nobody has touched yet, by a call that libgodwit.so does not see (it sees mmap(), brk() and
 * sbrk() through libc). Near the limit of a node it waits, 50 ms at most, until first touches there are seen.
 */
void gw_mapped(size_t len);

/*
 * ioctl(2) of a userfaultfd of the program's own: a range that the engine just tracks would be refused (EBUSY), and
 * is tried again with nothing tracked. Where libgodwit.so is linked or preloaded ioctl() does this by itself. Returns
 * as the system call, or a negative errno.
 */
long gw_ioctl(struct gw_engine *e, int fd, unsigned long request, void *arg);

/*
 * From now on vacated frames are dropped, not reused: for a program that hands page references to
 * the kernel without pinning them, in a way that the engine cannot see (see godwit(1), FRAMES).
 */
void gw_no_recycle(struct gw_engine *e);

/* ---------------------------------------------------------------- looking ---- */

#define GW_POLICY_TEXT 256

struct gw_area {
	uint64_t start, end;
	uint32_t prot;		/* PROT_* */
	uint32_t kind;		/* 0 managed, else 1 + enum gw_unmanaged */
	uint64_t pages[GW_MAX_NODES];	/* present 4 KiB pages by node; unmanaged pages count on node 0 */
	uint64_t huge;		/* of them, mapped as THPs */
	uint64_t swapped;
	uint64_t offset;	/* of the file */
	char name[256];		/* as in /proc/self/maps, may be empty */
	char policy[GW_POLICY_TEXT];	/* as in /proc/PID/numa_maps: "default", "bind:0-1", "interleave=static:0,2" */
};

/*
 * Every mapping of the process in address order, cut where the memory policy changes. fn runs on an engine thread: it
 * must not sleep, allocate from the program's heap or call into the engine; non-zero ends the walk and is returned.
 */
int gw_areas(struct gw_engine *e, int (*fn)(const struct gw_area *area, void *arg), void *arg);
/* The same as a job; its progress has .error only. */
int gw_job_areas(struct gw_engine *e, int (*fn)(const struct gw_area *area, void *fn_arg), void *fn_arg,
		 void (*kick)(void *arg), void *arg, struct gw_job **out);

struct gw_stats {
	size_t size;
	uint64_t managed_pages;		/* in the books */
	uint64_t metadata_bytes;	/* the engine's own memory, resident */
	uint64_t arena_bytes;		/* of it, free frames */
	uint64_t faults_waited;		/* faults on pages in flight that reached the service thread */
	uint64_t faults_filled;		/* first touches served while a range was registered */
	uint64_t faults_fetched;	/* touches of pages on far nodes, which brought them back */
	uint64_t pages_away;		/* on far nodes now */
	uint64_t pages_demoted, pages_promoted;	/* to far nodes, and back, for whatever cause */
	uint64_t pages_cached;		/* in the migration cache: unmapped, not copied */
	uint64_t rescued;		/* pages there that were in use, and came back from it */
	uint64_t lazy_moved;		/* pages that moved when they were touched */
	uint64_t pages_fallback;	/* pages that went through a far node for want of room */
	uint64_t prefetched, prefetch_hits;	/* pages brought along with another, and those that were wanted then */
	uint64_t refaults;		/* pages promoted so soon that they should have stayed */
	uint64_t reclaims;		/* runs of the reclaimer */
	uint64_t stalls_reclaim;	/* pages that a touch had to send away first: the limit was reached */
	uint64_t events_unmap, events_remove, events_remap, events_fork;
	uint64_t pages_moved[GW_MAX_NODES][GW_MAX_NODES];	/* [from][to], 4 KiB pages */
	uint64_t failed[GW_ERRNO_MAX];
	uint64_t batches, retries;
	uint64_t batches_transactional, pages_recopied;
	uint64_t copied_in;		/* pages brought back by copy since the area's attributes had changed */
	uint64_t cow_broken;		/* pages unshared after a fork */
	uint64_t frames_dropped;
	uint64_t poisoned;		/* pages that could not be brought back: SIGBUS at their address */
	uint64_t stall_ns_max, stall_ns_p99, stall_ns_p999;	/* since the start */
	uint64_t thp_stall_ns_max, thp_stall_ns_p99, thp_stall_ns_p999;
	uint64_t forks;
	uint64_t held;			/* first touches that waited for the reclaimer: the limit was reached */
	uint64_t held_let_go;		/* of them, those for which it could not make room in time */
	uint64_t held_ns, held_ns_max;	/* the time of all, and of the longest */
	uint32_t recycling;		/* 1: vacated frames are reused, 0: dropped (see godwit(1), FRAMES) */
	uint32_t stall_us_default;
};

int gw_stats(struct gw_engine *e, struct gw_stats *out);

/* ---------------------------------------------------------------- the service thread ---- */

/*
 * Run fn on the service thread and wait for it. The service thread has its own table of file
 * descriptors: what fn opens there the program can neither see nor close. fn must not use libc's
 * allocator, stdio or errno, nor sleep.
 */
int gw_call(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg);

/* The same without waiting; callable from any engine thread and from .forked. At most 8 are kept. -EAGAIN: full. */
int gw_post(struct gw_engine *e, int (*fn)(struct gw_engine *e, void *arg), void *arg);

/*
 * The program has changed its user or group: the service thread, which libc does not know, does the
 * same. For setuid() and its kin this happens by itself where libgodwit.so is linked or preloaded.
 */
void gw_credentials(struct gw_engine *e);

/*
 * The program has called mlockall(): the engine's reservation need not be locked, and does not count against the
 * program's limit. Where libgodwit.so is linked or preloaded this happens by itself.
 */
void gw_unlock(struct gw_engine *e);

/* Memory that is never managed, zeroed, never given back: for what runs on the service thread. NULL: none left. */
void *gw_memory(struct gw_engine *e, size_t len);

/*
 * The same for a while: at most GW_BUFFER_MOST bytes, content undefined; waits until there are some. NULL: more than
 * that. The larger ones are few: give them back soon. A thread that has one of more than GW_BUFFER_SECOND bytes may
 * take a second of at most so many.
 */
#define GW_BUFFER_SMALL (160UL << 10)
#define GW_BUFFER_SECOND (128UL << 10)
#define GW_BUFFER_MOST (32UL << 20)
void *gw_buffer_take(struct gw_engine *e, size_t len);
void gw_buffer_put(struct gw_engine *e, void *mem);

/* Watch a descriptor of the service thread's table (EPOLL* bits). Service thread only. -ENOSPC: 40 at most. */
int gw_watch(struct gw_engine *e, int fd, uint32_t events, void (*fn)(struct gw_engine *e, uint32_t events, void *arg),
	     void *arg);
int gw_unwatch(struct gw_engine *e, int fd);

/*
 * Call fn every ms milliseconds on the service thread (0: stop). Service thread only. One timer.
 */
int gw_tick(struct gw_engine *e, uint32_t ms, void (*fn)(struct gw_engine *e, void *arg), void *arg);

/*
 * Open the control socket RUNTIME_DIR/godwit/PID.sock (see godwit(1), FILES) so that the godwit
 * command reaches this process; closed and unlinked by gw_control_close() or gw_stop().
 */
int gw_control_open(struct gw_engine *e);
/* The same where the environment is not to be asked: runtime_dir is what XDG_RUNTIME_DIR would be, or "". */
int gw_control_open_at(struct gw_engine *e, const char *runtime_dir);
int gw_control_close(struct gw_engine *e);

/*
 * Find the group that this process is a member of (see godwit(1), GROUPS): by its process id, when it was a member
 * before execve(); else its parent's, when it is younger than that one's membership; else the one named by saved. Its
 * nodes are the ones allowed from now on, as with gw_nodes_inherit(), and gw_control_open() makes the process a member.
 * saved, or NULL: GW_GROUP_SAVED bytes behind "GODWIT_GROUP=" where the engine keeps the name, for what the program
 * executes; in memory that is not managed and stays. Returns 0, also without a group, or -errno.
 */
#define GW_GROUP_SAVED 63
int gw_group_inherit(struct gw_engine *e, char *saved);

/*
 * Unlink the control socket of this process, if any, and its entry in a group: for the last moment before _exit().
 * Async-signal-safe.
 */
void gw_control_unlink(void);

#ifdef __cplusplus
}
#endif
#endif

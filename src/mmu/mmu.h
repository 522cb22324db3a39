/* SPDX-License-Identifier: MIT */
/*
 * mmu - the only room that touches managed addresses and userfaultfd.
 *
 * One table of operations with two worlds behind it: mmu_uffd (this kernel) and mmu_sim (a simulated
 * one for deterministic tests). Managed memory is named by addr, arena slots too: both are virtual
 * addresses of this process (of the simulated process in mmu_sim).
 *
 * Every function returns 0 or -errno, never sleeps longer than a kernel call that cannot block on
 * managed memory, and allocates nothing.
 */
#ifndef GODWIT_MMU_H
#define GODWIT_MMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMU_PAGE 4096UL
#define MMU_HUGE (2UL << 20)

struct mmu;
struct region;

enum mmu_event_type {
	MMU_EV_FAULT = 1,	/* a thread touched an absent page: addr, write */
	MMU_EV_REMOVE,		/* MADV_DONTNEED, MADV_FREE: [addr, end), before the pages go */
	MMU_EV_UNMAP,		/* munmap, or mmap over it: [addr, end), after the pages went */
	MMU_EV_REMAP,		/* mremap: [addr, end) is now at to */
	MMU_EV_FORK,		/* a raw fork: child is the descriptor of the child's side */
};

struct mmu_event {
	enum mmu_event_type type;
	uint64_t addr, end, to;
	bool write;
	int child;
	uint32_t tid;		/* of who touched it; 0: unknown */
};

/* What mmu_scan() says of a run of pages that are all alike. */
enum mmu_page_bits {
	MMU_PG_PRESENT = 1 << 0,
	MMU_PG_SWAPPED = 1 << 1,
	MMU_PG_ZERO = 1 << 2,	/* the zero page: nothing to move */
	MMU_PG_HUGE = 1 << 3,	/* mapped by a PMD */
};

struct mmu_run {
	uint64_t start, end;
	uint32_t bits;
};

/* A memory policy for the host's kernel: its numbers of modes and nodes. Without nodes: none. */
struct mmu_policy {
	uint32_t mode;		/* MPOL_*, with its flags */
	uint64_t nodes;
	int home;		/* or -1 */
};

/*
 * The outcome of a move, as UFFDIO_MOVE gives it: done bytes went over in order; err says what stopped it:
 *    0        all of them
 *   -EAGAIN   done > 0: something stopped it after that much; ask again from there for the cause.
 *             done == 0: an event is unread; nothing changed, ask again when it is read
 *   -EBUSY    the next page is pinned, or shared since a fork
 *   -ENOENT   the next page of the source is a hole, or the destination is not mapped any more
 *   -EEXIST   the next page of the destination is occupied
 *   -EINVAL   the areas do not allow it (attributes differ, not registered, range crosses an area)
 *   -ENOMEM   no page table
 */
struct mmu_moved {
	uint64_t done;		/* bytes */
	int err;
};

struct mmu_ops {
	const char *name;
	void (*close)(struct mmu *m);

	/* Trap first touches and events of [addr, addr + len). -EBUSY: another userfaultfd's; -EINVAL: not of a kind that can. */
	int (*track)(struct mmu *m, uint64_t addr, uint64_t len);
	/* Undo it; wakes whoever waits. No page of the range may be out. */
	int (*untrack)(struct mmu *m, uint64_t addr, uint64_t len);

	/* Move pages, no copy: [src, src + len) to [dst, dst + len). wake: let the waiters of dst redo their faults. */
	struct mmu_moved (*move)(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len, bool wake);
	/* Install one new page at addr with this content, waking. Works where move says -EINVAL since the protection changed. */
	int (*copy_in)(struct mmu *m, uint64_t addr, uint64_t slot);
	/* The same through the descriptor of a forked child. */
	int (*copy_child)(struct mmu *m, int child, uint64_t addr, uint64_t slot);
	int (*poison_child)(struct mmu *m, int child, uint64_t addr);
	/* Its next event: 1, or 0 when there is none. */
	int (*read_child)(struct mmu *m, int child, struct mmu_event *ev);
	void (*close_child)(struct mmu *m, int child);
	/* Is the program changing mappings that are tracked, by a call whose event is unread, or was just now? */
	bool (*changing)(struct mmu *m);
	/* Is a fork of tracked memory an event? */
	bool (*sees_forks)(struct mmu *m);
	/* Answer a first touch: one page of zeroes at addr, waking. -EEXIST: somebody did. -EAGAIN: an event is unread. */
	int (*fill_zero)(struct mmu *m, uint64_t addr);
	/* The same for a touch that only reads: as the kernel does it, with the page of zeroes that all share, if there is one. */
	int (*map_zero)(struct mmu *m, uint64_t addr);
	/* From now on a touch of addr is SIGBUS. */
	int (*poison)(struct mmu *m, uint64_t addr);
	int (*wake)(struct mmu *m, uint64_t addr, uint64_t len);

	/* Arena slots, always addressable: copy, compare (true: equal), sum. */
	void (*copy)(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len);
	bool (*same)(struct mmu *m, uint64_t a, uint64_t b, uint64_t len);
	uint64_t (*sum)(struct mmu *m, uint64_t slot, uint64_t len);
	/* Read managed memory that may vanish meanwhile into a slot. Returns bytes read or -EFAULT. May wait for a fault. */
	int64_t (*peek)(struct mmu *m, uint64_t slot, uint64_t addr, uint64_t len);
	/*
	 * Make the frames of tracked slots exist; make what is at tracked addresses go, as MADV_DONTNEED
	 * would. Neither causes a fault or an event; tracking is as before when they return.
	 */
	int (*populate)(struct mmu *m, uint64_t slot, uint64_t len);
	int (*drop)(struct mmu *m, uint64_t addr, uint64_t len);
	/*
	 * Make the frames of empty tracked slots exist with the content of src, which may be managed memory: as peek
	 * then. Cheaper than to populate and to copy. -EAGAIN: an event is unread; -EEXIST, -ENOMEM, -EFAULT. An error
	 * may leave the first of them filled.
	 */
	int (*fill)(struct mmu *m, uint64_t slot, uint64_t src, uint64_t len);
	/* Is a page of the range mapped by other processes too? 1, 0, -ENOENT: one is absent, or another -errno. */
	int (*shared)(struct mmu *m, uint64_t addr, uint64_t len);
	/* As if the calling thread, which is the program's, read there: waits for what is absent. Not mapped: nothing happens. */
	void (*touch)(struct mmu *m, uint64_t addr);
	/* Give the program its own copy of pages shared since a fork (a write fault on each). */
	int (*unshare)(struct mmu *m, uint64_t addr, uint64_t len);

	/* Runs of present pages in [*pos, end), in order; *pos advances. Returns how many, 0 at the end. */
	int (*scan)(struct mmu *m, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr);
	/* The bounds of the mapping that holds addr, as they are now. -ENOENT: none; -ENOTTY: the kernel cannot say (before 6.11). */
	int (*area)(struct mmu *m, uint64_t addr, uint64_t *start, uint64_t *end);
	/* The host's NUMA node of each page from addr on (negative: unknown). */
	int (*where)(struct mmu *m, uint64_t addr, int nr, int *node);
	/*
	 * Are all frames of a range of slots, which prefer this node of the host, there, and none in swap? At a
	 * fifth of what where costs. 1; 0: not all, or -errno: it is not told.
	 */
	int (*placed)(struct mmu *m, uint64_t slot, uint64_t len, int node);

	/*
	 * A mark on the mappings of a range, which the host's kernel keeps and carries along, and loses with them: a
	 * policy, by which it then places what is touched first; without nodes one that changes nothing. NULL: no mark.
	 * marked: 1, 0, -EFAULT (nothing is mapped at addr). Where the host has no such thing everything counts as
	 * marked. mark: 0, or -ENOMEM (too many mappings), which marks nothing.
	 */
	int (*mark)(struct mmu *m, uint64_t addr, uint64_t len, const struct mmu_policy *pol);
	int (*marked)(struct mmu *m, uint64_t addr);
	/* What the calling thread touches first is placed by this policy from now on; without nodes: as the host likes. */
	int (*prefer)(struct mmu *m, const struct mmu_policy *pol);

	/* Pages of anonymous memory that the process has, the engine's own among them. */
	uint64_t (*resident)(struct mmu *m);

	/* Next event: 1, or 0 when there is none. */
	int (*read_event)(struct mmu *m, struct mmu_event *ev);
	int (*event_fd)(struct mmu *m);
};

struct mmu {
	const struct mmu_ops *ops;
};

/* ---- mmu_probe.c ---- */

enum {
	MMU_NEED_UFFD = 1 << 0,
	MMU_NEED_RIGHTS = 1 << 1,
	MMU_NEED_MOVE = 1 << 2,
	MMU_NEED_SCAN = 1 << 3,
	MMU_NEED_ARCH = 1 << 4,
	MMU_WANT_EVENT_FORK = 1 << 8,
	MMU_WANT_POISON = 1 << 9,
	MMU_WANT_TOUCH = 1 << 10,
};

struct mmu_probe {
	uint32_t missing;
	uint32_t method;	/* 1 CAP_SYS_PTRACE, 2 /dev/userfaultfd, 3 sysctl, 0 none */
	uint64_t features;
};

/* pretend: "no-move,no-rights" counts those as missing; may be NULL. */
void mmu_probe(struct mmu_probe *out, const char *pretend);

/* ---- mmu_uffd.c ---- */

/*
 * Somebody with more rights than the process: give() returns a descriptor of this process's for its faults, in full
 * mode and with these features agreed upon, in the caller's table, or -errno; *have: all that the kernel has.
 */
struct mmu_donor {
	int (*give)(uint64_t features, uint64_t *have, void *arg);
	void *arg;
};

/*
 * The real world of the calling process. Opens descriptors in the caller's table; its own state comes
 * from r; donor (or NULL) is asked where its own rights do not suffice. -EPERM, -ENOSYS, -EMFILE, -ENOMEM.
 */
int mmu_uffd_open(struct mmu **out, struct region *r, const struct mmu_donor *donor);

/* ---- mmu_sim.c ---- */

/*
 * A simulated process: nr_pages pages of address space from MMU_SIM_BASE on, all unmapped. Only
 * tests link it, so it may use libc's allocator. The program's side is played through the functions below; a touch that
 * would wait returns -EWOULDBLOCK and leaves its fault event behind (once, until woken).
 */
#ifndef MMU_SIM_BASE
#define MMU_SIM_BASE 0x500000000000UL
#endif

int mmu_sim_open(struct mmu **out, uint64_t nr_pages);
int mmu_sim_mmap(struct mmu *m, uint64_t addr, uint64_t len, bool writable);
int mmu_sim_munmap(struct mmu *m, uint64_t addr, uint64_t len);		/* events as the kernel has them; -EINPROGRESS: completes when the event is read */
int mmu_sim_discard(struct mmu *m, uint64_t addr, uint64_t len);	/* MADV_DONTNEED */
int mmu_sim_mremap(struct mmu *m, uint64_t addr, uint64_t len, uint64_t to);
int mmu_sim_mprotect(struct mmu *m, uint64_t addr, uint64_t len, bool writable);
int mmu_sim_fork(struct mmu *m);					/* pages become shared: MOVE says EBUSY until unshared */
int mmu_sim_store(struct mmu *m, uint64_t addr, uint64_t value);
int mmu_sim_load(struct mmu *m, uint64_t addr, uint64_t *value);
int mmu_sim_pin(struct mmu *m, uint64_t addr, bool pin);
/* The pinned frame, wherever it is mapped now, gets this value: a device that writes. -ENOENT: not pinned. */
int mmu_sim_dma(struct mmu *m, uint64_t addr, uint64_t value);
int mmu_sim_huge(struct mmu *m, uint64_t addr);				/* collapse 2 MiB at addr */

/*
 * Accesses answer -EACCES for SIGSEGV and -EFAULT for SIGBUS. What an unread event holds up (munmap, mmap
 * over tracked memory, discard, mremap, fork) answers -EINPROGRESS.
 */
enum mmu_sim_advice {
	MMU_SIM_HUGEPAGE,	/* first touches and populate make THPs where 2 MiB are free */
	MMU_SIM_NOHUGEPAGE,
	MMU_SIM_DONTFORK,
	MMU_SIM_LOCK,		/* mlock2(MLOCK_ONFAULT) */
	MMU_SIM_UNLOCK,
};

int mmu_sim_madvise(struct mmu *m, uint64_t addr, uint64_t len, enum mmu_sim_advice advice);
/*
 * In the kernel a thread whose event was read goes on when it is scheduled: only then are moves allowed
 * again, and a discard drops its pages some time later still. slow plays that out: each call of
 * mmu_sim_resume() lets one of the mmu_sim_resumable() threads, numbered from 0, do its next step.
 */
void mmu_sim_slow(struct mmu *m, bool slow);
int mmu_sim_resumable(struct mmu *m);
void mmu_sim_resume(struct mmu *m, int which);
/* What is called from now on is that thread's doing; is it held up by an event? Has the reader something to read? */
void mmu_sim_thread(struct mmu *m, int thread);
bool mmu_sim_held_up(struct mmu *m, int thread);
bool mmu_sim_unread(struct mmu *m);
/* As the kernel writes to a thread's memory at its end: a page that would have to be waited for is left out, -EFAULT. */
int mmu_sim_put_user(struct mmu *m, uint64_t addr, uint64_t value);
bool mmu_sim_tracked(struct mmu *m, uint64_t addr);
/* The 4096 bytes that are at addr now, whoever looks; NULL: nothing is. */
const uint8_t *mmu_sim_frame(struct mmu *m, uint64_t addr);

/* Is told when the program itself, by munmap, mmap or a discard, ends the content of a range, or mremap takes it elsewhere. */
struct mmu_sim_witness {
	void (*lost)(void *arg, uint64_t addr, uint64_t end);
	void (*moved)(void *arg, uint64_t addr, uint64_t len, uint64_t to);
	void *arg;
};

void mmu_sim_witness(struct mmu *m, const struct mmu_sim_witness *witness);
/* A touch of the page at addr waits and was not woken yet. */
bool mmu_sim_waiting(struct mmu *m, uint64_t addr);
/* Frames that exist: mapped anywhere, pinned or spliced. */
uint64_t mmu_sim_nr_frames(struct mmu *m);
/* A plain reference to the frame at addr, as vmsplice() takes: no pin, a move does not see it. Read it once, later. */
int mmu_sim_splice(struct mmu *m, uint64_t addr);
int mmu_sim_spliced(struct mmu *m, uint64_t addr, uint64_t *value);
/* What a forked child (the number in MMU_EV_FORK; the first fork is 1) reads at addr; -EWOULDBLOCK: it waits. Its end. */
int mmu_sim_child_load(struct mmu *m, int child, uint64_t addr, uint64_t *value);
int mmu_sim_child_exit(struct mmu *m, int child);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * mm - the pages of this process: adoption, books, LRU, migration, faults and events.
 *
 * Locks (see lock ranks in base.h)
 *   mm->migrate   one batch in flight, or one look at what is present; held over the window
 *   mm->lock      books, windows, the state of the batch; held for a few kernel calls or a few
 *                 hundred pages, so that the thread that reads events never waits longer. Program
 *                 threads take it only under mm->migrate: their stacks may be in flight
 *
 * The rule that makes events and migration agree: an event is read, and the books are changed for it,
 * under mm->lock; a move into or out of managed memory is made under mm->lock too. The kernel refuses
 * moves while an event is unread. So a move sees either no event, or books that know of it.
 *
 * Context: engine threads, unless said otherwise; nothing here allocates or touches managed memory
 * but through the mmu.
 */
#ifndef GODWIT_MM_H
#define GODWIT_MM_H

#include "base/base.h"
#include "far/far.h"
#include "mm/page.h"
#include "mm/place.h"
#include "mmu/mmu.h"
#include "mmu/touch.h"
#include "node/node.h"
#include "policy/policy.h"

#define BATCH_MAX 512U
#ifndef STRAYS
#define STRAYS 64U
#endif
#define ERRNO_MAX_ 134

enum migrate_mode {
	MIGRATE_ASYNC,		/* one pass, no waiting */
	MIGRATE_SYNC,		/* several passes; unshares pages that a dead child left shared */
};

enum migrate_reason { MR_SYSCALL, MR_NUMA_MISPLACED, MR_DEMOTION, MR_NR };

/* Why memory is not managed; order as enum gw_unmanaged. */
enum area_kind {
	AREA_FILE,
	AREA_SHARED,
	AREA_READONLY,
	AREA_STACK,
	AREA_EXCLUDED,
	AREA_OTHER,
	AREA_KINDS,
	AREA_MANAGED,
	AREA_OWN
};

struct area {
	uint64_t start, end;
	uint64_t offset;
	uint32_t prot;
	enum area_kind kind;
	const char *name;	/* into the reader's buffer */
};

/* One mapping as it was when last looked at. */
struct span {
	uint64_t start, end;
	uint8_t kind;		/* enum area_kind */
	uint8_t class;		/* enum arena_class */
	int16_t host;		/* where all its pages were, or HOST_UNKNOWN: see numamaps.c */
};

struct spans {
	struct span *span;
	uint32_t nr, cap;
};

/* Ranges that stay where they are: opted out, pinned, or a thread's (its tid) while it lives. */
#define EXCLUDE_OPT_OUT 0U
#define EXCLUDE_PIN ~0U

struct exclusion {
	uint64_t start, end;
	uint32_t tid;
};

#define EXCLUSIONS_MAX 65536U

struct exclusions {
	struct exclusion *range;
	uint32_t nr;
	uint64_t clean_leaf;	/* 2 MiB without any, or UINT64_MAX */
};

enum slot_state { SLOT_STAYS, SLOT_OUT, SLOT_GONE, SLOT_IN };

/*
 * Ranges that the program is about to discard. A thread in madvise() is released when its event is
 * read, and drops the pages some time later; a page that went out in between would come back with its
 * old content. So pages found there stay until the thread has surely passed, unless their first touch
 * after the event was seen (PG_FRESH). protected by mm->lock.
 */
#ifndef DISCARDS_MAX
#define DISCARDS_MAX 64U
#endif
#define DISCARD_NS 2000000000ULL

struct discard {
	uint64_t start, end;
	uint64_t until;		/* clock_ns() */
	uint32_t nr;		/* events that it stands for */
};

/*
 * The batch in flight. Slot i of both runs belongs to page i. Protected by mm->lock (state, addr,
 * page) and mm->migrate (the rest).
 */
struct batch {
	uint32_t want;			/* pages chosen */
	uint32_t nr;			/* pages in flight: 0 before the first is locked and after the last is settled */
	uint64_t unit;			/* bytes a page: 4 KiB or 2 MiB */
	uint8_t source;			/* node of the first page */
	struct page *page[BATCH_MAX];
	uint64_t addr[BATCH_MAX];	/* mremap may change it */
	uint8_t state[BATCH_MAX];	/* enum slot_state */
	int16_t err[BATCH_MAX];
	uint8_t dest[BATCH_MAX];
	uint64_t out;			/* run of empty slots that pages leave into */
	uint64_t frames;		/* run of frames that come in */
	struct half *out_half, *frame_half;
	struct arena *arena;		/* of .frames */
	bool fresh;			/* .frames are empty slots: who copies fills them */
	bool home[BATCH_MAX];		/* no frame could be had: it goes back where it was, with its err */
	int16_t host[BATCH_MAX];	/* where the kernel took its frame from; HOST_UNKNOWN: where it was to */
	uint32_t busy;			/* times that a page was refused as busy on its way in */
	bool copied;			/* some came back as a copy, from where the kernel took it */
	uint32_t starved;		/* tries to bring a page back for which there was no memory */
	uint64_t spent;			/* ns, all but making frames ready, which only the first batches need */
};

struct mm_stats {
	uint64_t faults_waited, faults_filled, faults_fetched;
	uint64_t demoted, promoted;	/* pages that left for a far node, and came from one */
	uint64_t rescued, lazy_moved;	/* pages in the cache that were touched: in use after all; moved by that */
	uint64_t prefetched, prefetch_hits;	/* pages brought along, and those of them that were wanted */
	uint64_t refaults;		/* of those promoted: so soon that they should have stayed */
	uint64_t fallen;		/* pages that went through a far node for want of room */
	uint64_t reclaims, stalls_reclaim;	/* runs of the reclaimer; pages demoted by who touched another */
	uint64_t held, held_let_go;	/* first touches that waited for the reclaimer; of them, those in vain */
	uint64_t held_ns, held_ns_max;
	uint64_t events[MMU_EV_FORK + 1];
	uint64_t moved[NODE_MAX][NODE_MAX];
	uint64_t failed[ERRNO_MAX_];
	uint64_t batches, retries, transactional, recopied, copied_in, unshared, dropped, poisoned, forks;
	uint64_t by_reason[MR_NR];	/* pages moved */
	struct hist window, window_huge;
};

/* Mappings that stay tracked: kept.c. */
#define KEPT_MAX 65536U

struct kept_range {
	uint64_t start, end;
};

struct kept {
	uint32_t nr;
	struct kept_range range[KEPT_MAX];
};

/* Who goes through memory in order, and how much is brought ahead of him. */
#define STREAMS 8U
#define AHEAD_MOST 31U

struct stream {
	uint64_t next;
	uint32_t ahead;
};

/* Touches of pages on nodes that wait for a device. Protected by lock. */
#define SLOW_MOST 256U

struct slow_fetch {
	uint64_t addr;
	uint32_t nr, tid;
	int node;
	uint32_t home[AHEAD_MOST + 1];
};

struct slow {
	uint32_t threads;	/* that run them; 0: nobody does */
	uint32_t pushed;	/* ever; a futex */
	uint32_t first, nr, busy;
	struct slow_fetch fetch[SLOW_MOST];
};

/* The migration cache: cache.c. Protected by lock; slots change hands under it. */
struct cache {
	uint64_t base;
	uint32_t slots, cursor;
	uint32_t nr, nr_stale;
	uint32_t low, high;	/* where stale ones are */
	uint64_t *used, *stale;
	uint64_t *huge;		/* a bit for each 2 MiB */
};

struct reclaim {
	uint64_t evicted;	/* pages, ever */
	uint64_t step;		/* of the stamps that say when */
	uint64_t looked;	/* arrivals when memory was last looked at by the reader */
	uint64_t come;		/* ... by the reclaimer */
	int64_t excess;		/* pages that were too many on .node then, less those that have left since */
	int node;
	uint64_t share;		/* of it that is to be in the cache; 0: there was no look yet */
	uint64_t again, look_due;	/* clock_ns() */
	bool over, full;	/* the limit is reached; the far nodes are */
	bool told;		/* of the latter */
	bool stop;		/* atomic */
};

/* First touches that wait for the reclaimer, and what is known of growth that nobody sees: throttle.c. */
#define HELD_MOST 512U

struct held {
	struct mmu_event ev;
	uint64_t since;			/* clock_ns() */
	int node;			/* whose limit it waits for */
};

struct throttle {
	/* protected by lock */
	bool serving;			/* an answer is under way: it is not held again */
	uint32_t first, nr;		/* .nr is read without it */
	struct held held[HELD_MOST];
	int64_t room[NODE_MAX];		/* pages that may come until the next reading */
	uint32_t unread;		/* first touches since */
	uint64_t open_until;		/* nothing could leave: nobody is held until then */
	uint64_t heap_end, heap_looked;	/* as far as it is known; clock_ns() */
	bool close;			/* by the last reading; read without it */
	/* the reclaimer's */
	uint64_t looked, look_ns;	/* clock_ns(); what it took */
	uint64_t used, expected;	/* pages, then; and what of it the engine knew */
	/* atomic */
	uint64_t moved;			/* clock_ns() when something left last */
	uint64_t open_ns;		/* for how long nobody was held the last time; 0: something has left since */
	bool on;			/* there is a reclaimer that makes room */
	bool guards;			/* a node is near its limit: what is mapped is tracked before it is touched */
	uint64_t boost;			/* pages that may come unseen between two looks */
	int64_t credit;			/* bytes that may be mapped until somebody has to wait for the next look */
	uint32_t kick;			/* a futex: the reclaimer's */
	uint32_t asked, answered;	/* looks; the latter a futex */
};

/* What the program did to its mappings while a fork had the books. */
#define FORK_NOTES 16384U

/* Pages that are away and whose entry in the books is not free yet: those that wait for a device, and some. */
#define STRANDED_MAX 9216U

struct stranded {
	uint64_t addr;
	uint32_t home;
	int node;
	bool busy;		/* who had it locked where it was still reads what is kept */
	bool gone;		/* during a fork: let go when that is over */
};

struct fork_note {
	uint64_t start, end;
	uint64_t to;		/* where mremap() carried it; 0: it is gone */
};

/*
 * What a forked child is given while it runs already, and changes its mappings: until such an event of its own is read
 * all is refused. Where it has carried something that goes too.
 */
#define LEGACY_CHANGES 128U
#define LEGACY_CHILDREN 4U

struct legacy {
	int child;
	uint8_t *page;		/* to read into */
	uint32_t tries;		/* left */
	uint32_t notes;		/* of a fork that is under way, from before the child began */
	uint32_t nr, nr_own;
	struct fork_note change[LEGACY_CHANGES];
	struct {
		int child;
		uint32_t nr;	/* changes before it began */
	} own[LEGACY_CHILDREN];	/* children of its own, which are given the same */
};

/* What the parent answers to a child's doorbell. */
#define HEIR_NOTES 170U

struct heir_answer {
	uint64_t told;		/* 0: the parent has brought everything instead, or is no more */
	uint64_t nr;
	struct fork_note note[HEIR_NOTES];
};

_Static_assert(sizeof(struct heir_answer) <= PAGE_SIZE_, "one page");

/* Pages that a request brings from one far node to another, or back to memory. */
struct fetch {
	struct page *page[FAR_BATCH];
	uint32_t home[FAR_BATCH], new_home[FAR_BATCH];
	int err[FAR_BATCH];
	uint8_t dest[FAR_BATCH];
	uint32_t nr;
	int source;
	bool cached, to_far;
};

/* What one request has done; read by others while it runs (each field by itself). */
struct progress {
	uint64_t total, done, moved, huge, gone, failed_pages;
	uint64_t failed[ERRNO_MAX_];
	uint64_t batches, retries, passes, verify_errors;
	uint64_t lazy;			/* unmapped: they move when they are touched */
	uint64_t fallen;		/* on a far node: for want of room, they move when they are touched */
	uint64_t would_small, would_huge, would_swapped;
	uint64_t unmanaged[AREA_KINDS];
	uint32_t batch_last, form_last;
	struct hist window, window_huge;
};

/* Batches that ask not to be disturbed while pages are out. */
struct hurry {
	uint32_t left;			/* batches to come */
	uint32_t spell;			/* batches that the last disturbance brought */
	uint32_t calm;			/* batches since the last disturbance */
	uint32_t deaf;			/* batches to come in which asking is of no use */
};

struct mm {
	struct mmu *mmu;
	struct node_table *nodes;
	struct region *region;
	struct lock migrate, lock;
	struct pgtable pt;
	struct page_list lru[NODE_MAX];
	struct spans spans;		/* protected by migrate */
	struct exclusions excluded;	/* protected by lock */
	struct span window;		/* tracked now; protected by lock; start == end: none */
	bool window_torn;		/* a part of it is not tracked any more: open it anew; protected by lock */
	struct span stray[STRAYS];	/* tracked pieces that mremap carried off; protected by lock */
	uint32_t nr_strays;
	struct discard discard[DISCARDS_MAX];
	uint32_t nr_discards;
	struct far *far[NODE_MAX];	/* the stores of far nodes; set once, before the node is there */
	uint8_t *fault_page;		/* the reader's; with the first far node */
	uint8_t *heir_page;		/* of who serves a child, beside the reader */
	uint8_t *fetch_pages;		/* FAR_BATCH of them, and one; protected by migrate */
	struct kept *kept;		/* protected by lock */
	struct fork_note *notes;	/* since the fork that is under way began; protected by lock */
	uint32_t nr_notes;
	uint32_t child_notes;		/* of them from before the latest child began */
	uint32_t pid_parent;		/* of a fork that is under way, for its child */
	struct stranded stranded[STRANDED_MAX];	/* protected by lock */
	uint32_t nr_stranded;
	struct legacy legacy;		/* of a child without an engine; protected by lock */
	struct legacy heirs;		/* of one that is to have one; by who serves it */
	int heir;			/* a forked child's faults until its engine takes over; -1: none; atomic */
	bool heir_had;			/* the fork that is under way has, or had one; protected by lock */
	uint64_t doorbell;		/* an empty page that a child touches when it does */
	bool any_left;			/* PG_LEFT was set; protected by lock */
	uint64_t leaves;		/* pages that were entered as away, ever; protected by lock */
	uint64_t look;			/* .leaves when memory was last looked at; protected by migrate */
	struct batch batch;
	struct cache cache;
	struct page_list languish;	/* pages in it; protected by lock */
	struct reclaim reclaim;
	struct throttle throttle;
	struct stream stream[STREAMS];	/* the reader's */
	uint32_t next_stream;
	struct slow slow;
	struct fetch fetch;		/* protected by migrate; its pages by lock */
	struct hurry hurry;		/* protected by migrate */
	bool recycle;			/* atomic */
	bool serves_faults;		/* atomic; the program fills holes itself: none may be filled by reading or writing it */
	bool forking;			/* protected by lock: a fork copies the books, change nothing */
	uint32_t users;			/* requests under way; atomic */
	uint32_t holds;			/* batches may not begin; atomic */
	uint32_t pid;			/* immutable but for a fork */
	uint32_t forker;		/* the thread that forks; with forking */
	uint64_t forker_signals;	/* its mask, until the fork is over */
	struct placement place;
	struct touches *touches;	/* first touches, where it matters who touches; NULL: not observed */
	bool observed;			/* ... now; protected by migrate */
	char *line;			/* buffer of /proc readers; protected by migrate */
	struct mm_stats stats;
};

#define LINE_BUFFER (64U << 10)

/* ---- a request ---- */

/* Nothing is copied before it is touched: to the node that was said, or to that of the toucher. Back: no longer so. */
enum lazy { LAZY_NOT, LAZY_TO, LAZY_TOUCHER, LAZY_BACK };

struct request {
	uint32_t mode;			/* enum migrate_mode */
	uint32_t reason;
	uint64_t bound_ns;		/* of the window of 4 KiB pages; 0: none */
	uint64_t rate;			/* bytes a second, 0: none */
	uint32_t batch;			/* most pages, 0: chosen */
	int form;			/* enum form, or -1 */
	bool verify, unshare_all, keep_batch, dry_run;
	uint32_t lazy;			/* enum lazy */
	bool fallback, falling;		/* what finds no room goes through a far node; does so now */
	uint64_t far_full;		/* far nodes that have no room for it either */
	struct page_list full;		/* pages that found none */
	bool private_only;		/* pages that others share are no failure: -EACCES */
	uint32_t *cancel;		/* atomic */
	struct progress *progress;
	struct steer steer, steer_huge;
	uint64_t started;
};

void request_begin(struct request *rq);
bool request_cancelled(const struct request *rq);

/* ---- mm.c ---- */

/* Pages may go far from now on. 0, -ENOMEM, -EPERM: a fork that is not seen would lose them. */
int mm_far_init(struct mm *mm);
int mm_init(struct mm *mm, struct mmu *mmu, struct node_table *nodes, struct region *r);
/* Close windows; no request is under way. */
void mm_exit(struct mm *mm);
/* Around fork(), on the forking thread: nothing is in flight and the books are still meanwhile. */
void mm_fork_prepare(struct mm *mm);
/* In the parent, first: from here on mm->heir says whether there is a child to be served before the books may change. */
void mm_fork_seen(struct mm *mm);
void mm_fork_parent(struct mm *mm);
/* The same for who cannot keep locks over it: no page is in flight, but the books change, and are no child's. */
void mm_hold(struct mm *mm);
void mm_release(struct mm *mm);
/* In the child: books kept, everything of the parent's mmu forgotten; mmu is the child's own. */
int mm_fork_child(struct mm *mm, struct mmu *mmu);
/* What the thread that forked has of the stores for the time of it; in the child also there, when its engine is up. */
void stores_thaw(struct mm *mm);

/* ---- vma.c: what the kernel says is mapped ---- */

/* A line of /proc/PID/maps, "start-end perms offset dev inode   name"; false: it is none. area.name points into it. */
bool area_parse(const struct mm *mm, const char *line, struct area *area);
/* Every mapping in address order through fn until it returns non-zero. migrate lock held. */
int area_walk(struct mm *mm, int (*fn)(struct mm *mm, const struct area *area, void *arg), void *arg);
/* numamaps.c: right after that, the host node of spans that have one only. migrate lock held. */
void spans_hosts(struct mm *mm);
/* A line of numa_maps: *host is the only node named, or HOST_UNKNOWN; false: it is none. */
bool numa_maps_parse(const char *line, uint64_t *start, int *host);
/* The span that holds addr, or NULL. migrate lock held. */
struct span *span_find(struct mm *mm, uint64_t addr);
/* Look again at what is mapped. 0 or -errno. migrate lock held. */
int spans_load(struct mm *mm);
/*
 * Exclusions, by program threads. On return nothing of the range is in flight. -ENOMEM: full, and from
 * now on nothing moves; -ENOENT: no such.
 */
int exclude_add(struct mm *mm, uint64_t start, uint64_t end, uint32_t tid);
int exclude_del(struct mm *mm, uint64_t start, uint64_t end, uint32_t kind);
/* In a forked child, on its only thread: the other threads are gone, this one has a new id. */
void exclude_fork_child(struct mm *mm);
/* Forget threads that are gone, find those that nobody named; an error: not all of them, so nothing may move. */
int exclude_refresh(struct mm *mm);
/* 0, -EACCES (opted out, a thread's), -EBUSY (pinned). mm->lock held. */
int excluded_at(struct mm *mm, uint64_t start, uint64_t end);

/* ---- adopt.c ---- */

/* Nothing of ours is between the mappings as they were last looked at. migrate lock held, spans loaded. */
void gaps_gone(struct mm *mm, uint64_t start, uint64_t end);
/* Look at all memory: enter what is present in the books, drop what is not. 0 or -ENOMEM. Counts unmanaged pages if asked. */
int adopt_all(struct mm *mm, uint64_t *unmanaged);
/*
 * What of [start, end) lies in a mapping that holds pages of ours: also one that is not writable at the moment, whose
 * pages keep their nodes and are on no list. migrate lock held.
 */
int adopt_part(struct mm *mm, const struct span *s, uint64_t start, uint64_t end);
/* The page left its address: off the books (on a migration's list: it goes when that is done). mm->lock held. */
void page_gone(struct mm *mm, struct page *page);
/* The same, but what a store has of it stays there. */
void page_leave(struct mm *mm, struct page *page);
/* A huge page on no list of a migration that is not whole any more becomes 512 pages on its node. mm->lock held. */
void page_split(struct mm *mm, struct page *page);
/* A page is seen at addr: enter it, charged to node (or NODE_BY_POLICY), full or not. NULL: no memory for the books. mm->lock held. */
struct page *page_enter(struct mm *mm, uint64_t addr, int node, uint16_t flags);
/* Everything present in [start, end) left its address; what is away stays away. mm->lock held. */
void range_gone(struct mm *mm, uint64_t start, uint64_t end);
/* ... and what is away is needed no longer: an event says so. mm->lock held. */
void range_lost(struct mm *mm, uint64_t start, uint64_t end);
/* How many pages of [start, end) are present, managed or not. migrate lock held. */
uint64_t count_present(struct mm *mm, uint64_t start, uint64_t end);

/* ---- away.c: pages on far nodes; mm->lock held ---- */

/* It is at its address again, on node; its content in the store is dropped. */
void page_back(struct mm *mm, struct page *page, int node);
/* One that the books do not know. NULL: no memory for them. */
struct page *page_enter_away(struct mm *mm, uint64_t addr, int node, uint32_t home);
/* In the cache from here on. */
void page_cached(struct mm *mm, struct page *page, uint32_t slot);
/* Who had it locked lets go of what belongs to no entry any more: released, unless it is stranded. */
void away_let_go(struct mm *mm, int node, uint32_t home, bool stale);
/* What a page that was away had is needed no longer; stale: it is still there. */
void away_release(struct mm *mm, int node, uint32_t home, bool stale);
bool is_cached(const struct mm *mm, const struct page *page);
/* Where its content can be read: in its slot, or fetched to buf. NULL: *err says why it cannot be had. */
const void *away_content(struct mm *mm, const struct page *page, void *buf, int *err);
/* It is at its address, in the books; where it was before is for the caller to release. */
void page_arrived(struct mm *mm, struct page *page, int node);
/* What cannot be had back: its next touch is SIGBUS. */
void away_lost(struct mm *mm, struct page *page, int err);
/*
 * To its address: the frame itself where it may stay the same, else a copy. 0, or why not. *moved: nothing is left
 * where it was.
 */
int away_arrive(struct mm *mm, const struct page *page, uint64_t addr, int node, const void *from, bool *moved);
/* Get what is first in the queue of those that wait for a device; pages: AHEAD_MOST + 1. False: there was none. mm->lock not held. */
bool slow_run(struct mm *mm, uint8_t *pages);
/* A fork begins: who waits for one of those, or of the stranded, asks again, and has a copy. mm->lock held. */
void slow_wake(struct mm *mm);
/* Content in a store, or in a slot of the cache, is that of the page at addr. */
void page_keep(struct mm *mm, uint64_t addr, int node, uint32_t home);
/* Those whose entry was taken: look whether it is free; is one of them at addr; they left; they were carried off. */
void stranded_retry(struct mm *mm);
bool stranded_in(const struct mm *mm, uint64_t start, uint64_t end);
static inline bool stranded_at(const struct mm *mm, uint64_t addr)
{
	return stranded_in(mm, addr, addr + 1);
}

void stranded_gone(struct mm *mm, uint64_t start, uint64_t end);
void stranded_follow(struct mm *mm, uint64_t start, uint64_t end, uint64_t to);
/* The page that is away and belongs to addr, also where a fork keeps the books from saying so; or NULL. */
struct page *away_at(struct mm *mm, uint64_t addr);
/* The same by the first nr notes only: as it was when a child began. */
struct page *away_as_of(struct mm *mm, uint64_t addr, uint32_t nr);
/* Is anything away from *start on? The first is then its new value. */
bool away_next(struct mm *mm, uint64_t *start, uint64_t end);
static inline bool away_in(struct mm *mm, uint64_t start, uint64_t end)
{
	return away_next(mm, &start, end);
}
/* Somebody waits for it. */
void away_fault(struct mm *mm, struct page *page, const struct mmu_event *ev);
/* The same of one that is stranded. */
void stranded_fault(struct mm *mm, uint64_t addr);
/* Get what the locked pages of f hold, and put it to the other store if they go to one. migrate lock held, mm->lock not. */
void fetch_contents(struct mm *mm, struct fetch *f);
/* Does what was put come back as it was? What does not stays where it was; returns how many. */
uint32_t fetch_verify(struct mm *mm, struct fetch *f);
/* What became of one of them: 0, or why it is not where it was to go. */
int fetch_settle(struct mm *mm, struct fetch *f, uint32_t i);
/* The entry moves along with its mapping. */
void away_follow(struct mm *mm, struct page *page, uint64_t to);
/* A child is given things: the content (a slot's, or the engine's own; NULL: there is none) that belongs to its address. */
void legacy_begin(struct mm *mm, struct legacy *l, int child, uint8_t *page);
void legacy_give(struct mm *mm, struct legacy *l, uint64_t addr, const void *content);
/* Everything that is away goes to a child that has no engine. */
void away_bequeath(struct mm *mm, struct legacy *l);
/* What a child that is to have one has touched before. True: it has taken over. */
bool heir_serve(struct mm *mm);
/* In the child, when the doorbell has been answered. -ESRCH: by nobody. */
int away_take_over(struct mm *mm);
/* While a fork has the books: discarded, carried off; and when it is over. */
void away_leave(struct mm *mm, uint64_t start, uint64_t end);
void away_carry(struct mm *mm, const struct mmu_event *ev);
void away_settle(struct mm *mm);

/* ---- kept.c: mm->lock held, but where said otherwise ---- */

/* -ENOSPC: no room in the table; -ENOMEM: no far node. */
int kept_add(struct mm *mm, uint64_t start, uint64_t end);
void kept_cut(struct mm *mm, uint64_t start, uint64_t end);
uint64_t kept_next(const struct mm *mm, uint64_t addr, uint64_t end);
uint64_t kept_end(const struct mm *mm, uint64_t addr, uint64_t end);
bool kept_overlaps(const struct mm *mm, uint64_t start, uint64_t end);
/* Track no longer where nothing is away. migrate lock held, mm->lock not. */
void kept_trim(struct mm *mm);
/* In a forked child, whose mmu is a new one. An error: pages that are away would be lost. */
int kept_track_again(struct mm *mm);
int track_soon(struct mm *mm, uint64_t start, uint64_t len);

/* ---- cache.c: mm->lock held, but where said otherwise ---- */

/* With the first use. -ENOMEM. mm->lock not held. */
int cache_ready(struct mm *mm);
/* In a forked child. */
int cache_track_again(struct mm *mm);
uint64_t cache_slot(const struct mm *mm, uint32_t slot);
/* Up to so many empty slots one after another; 0: none. */
uint32_t cache_take(struct mm *mm, uint32_t most, uint32_t *first);
/* Room for a THP. */
bool cache_take_huge(struct mm *mm, uint32_t *first);
/* The slot is a piece of a THP, which a move of it would take apart. */
bool cache_huge(const struct mm *mm, uint32_t slot);
/* Not in use any more. stale: there is a frame in it. */
void cache_give(struct mm *mm, uint32_t slot, bool stale);
/* Their frames go. migrate lock held, mm->lock not. */
#define STALE_MOST 512U
void cache_drop_stale(struct mm *mm);
/* The same, and what else is left over, if nobody is at work. all: also a few. By the reader. */
void cache_trim(struct mm *mm, bool all);

/* ---- unmap.c: mm->lock held, the mapping kept ---- */

/* Pages that follow each other leave for the cache. Returns how many have; *err: why not one. */
uint32_t cache_run(struct mm *mm, struct page **page, uint32_t nr, int *err);
/*
 * Those at the head of a list, which stay on it. 0, or why the first has not left: -E2BIG: a THP that does not go
 * whole.
 */
int unmap_head(struct mm *mm, struct page_list *list, const struct span *window);

/* ---- vmscan.c ---- */

/* Has a node a limit, and a far node behind it? */
bool reclaim_needed(const struct mm *mm);
/* workingset.c: the nodes' limits are known; stored on a far node; back from there (brought along, if not touched), from the cache. */
void workingset_init(struct mm *mm);
void workingset_eviction(struct mm *mm, struct page *page);
void workingset_refault(struct mm *mm, struct page *page, bool touched);
void workingset_activation(struct page *page);
/* Look, and reclaim as far as needed. On a thread of its own; returns milliseconds until the next look. */
uint32_t reclaim_once(struct mm *mm);
/* A little of it, by the reader while nobody asks for anything. False: there was nothing to do. */
bool reclaim_step(struct mm *mm);
/* The same where touches follow each other without a pause, and more comes than leaves. */
void reclaim_keep_up(struct mm *mm);
bool reclaim_pressed(const struct mm *mm);
/* Who has touched a page of a far node waits, and does not run: one leaves its place for it. mm->lock held. */
void reclaim_exchange(struct mm *mm);
/* At the limit who takes a page has another one leave. mm->lock held. */
void reclaim_direct(struct mm *mm);

/* Has it a limit that is kept? */
bool node_limited(const struct mm *mm, uint32_t node);
/* Pages that count against its limit now. */
uint64_t node_in_use(struct mm *mm, uint32_t node);

/* ---- throttle.c ---- */

/* From here on there is a reclaimer; no longer: nobody waits for it. mm->lock not held. */
void throttle_begin(struct mm *mm);
void throttle_end(struct mm *mm);
/* Is the first touch that an event tells of to wait? It is answered later then (fault_again). mm->lock held. */
bool throttle_hold(struct mm *mm, const struct mmu_event *ev);
/* By the reclaimer: something has left. */
void throttle_progress(struct mm *mm);
/* The reclaimer is to look. */
void throttle_kick(struct mm *mm);
/* Answer those for whom there is room by now, or who have waited long enough. mm->lock not held. */
void throttle_serve(struct mm *mm);
/* How long who serves may sleep. */
static inline int throttle_wait_ms(const struct mm *mm, int ms)
{
	return __atomic_load_n(&mm->throttle.nr, __ATOMIC_RELAXED) ||
			       __atomic_load_n(&mm->throttle.close, __ATOMIC_RELAXED) ?
		       1 :
		       ms;
}

/* A little below the limit: by what comes unseen. */
void throttle_marks(const struct mm *mm, uint32_t node, struct watermarks *w);
/*
 * By the reclaimer, as often as it likes: how much has come unseen; near a limit what is mapped is tracked. At most so
 * many ms are to pass until the next time. migrate lock not held.
 */
uint32_t throttle_look(struct mm *mm);
/* By a thread of the program that has mapped memory which nobody has touched yet: waits, not long, until it is tracked. */
void throttle_mapped(struct mm *mm, uint64_t len);

/* ---- host.c: nodes that are bound to the host's ---- */

/* As the host's kernel understands it; false: not all nodes are bound, and it is to place pages as it likes. */
bool host_policy(const struct mm *mm, const struct mempolicy *pol, struct mmu_policy *out);
/* What the calling thread touches first is placed by it, if all nodes are bound. */
void host_task(struct mm *mm, const struct mempolicy *pol);
/* ... or near a node, whatever it had. */
void host_near(struct mm *mm, int node);
/* Mark the mappings of a range, with the policy for their first touches. As mmu_ops.mark. */
int host_range(struct mm *mm, uint64_t start, uint64_t end, const struct mempolicy *pol);
/* Ranges' policies have been rebound. mm->lock held. */
void host_ranges(struct mm *mm);
/* The host nodes of pages as mmu_ops.where; HOST_UNKNOWN where the host does not say. */
int host_where(struct mm *mm, uint64_t addr, int nr, int *host);
/* The same of one page; HOST_UNKNOWN too where no node is bound. */
int host_of_page(struct mm *mm, uint64_t addr);
/* The kernel says that a page in the books is on this host node, where it may have been moved since. mm->lock held. */
void page_seen(struct mm *mm, struct page *page, int host);
/* Present pages of a range that is not managed, by node: node 0's, but where all nodes are bound those where they are. */
struct unmanaged {
	uint64_t pages[NODE_MAX];
	uint64_t huge, swapped;
};
void count_unmanaged(struct mm *mm, uint64_t start, uint64_t end, struct unmanaged *out);
/* How many slots of an arena, from at on, hold frames of its host node; nr if it is a virtual node's. */
uint32_t host_frames(struct mm *mm, const struct arena *a, uint64_t at, uint32_t nr);

/* ---- lru.c: mm->lock held ---- */

void lru_add(struct mm *mm, struct page *page);
void lru_del(struct mm *mm, struct page *page);
/* Take a page off its node's list, with a reference. -EBUSY: it is not on it. */
int isolate_lru_page(struct mm *mm, struct page *page, struct page_list *list);
void putback_lru_page(struct mm *mm, struct page *page);
void putback_lru_pages(struct mm *mm, struct page_list *list);

/* ---- migrate.c ---- */

/* Where a page shall go: a node that has been charged for it, or -errno. mm->lock held. */
typedef int new_page_t(struct mm *mm, struct page *page, void *private);

/*
 * Move the isolated pages of the list. On return the list holds those that could be tried again; all
 * others are back on an LRU, and those that failed are counted by errno. Returns the pages left.
 */
uint64_t migrate_pages(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private,
		       struct request *rq) __asm__("mm_migrate_pages"); /* the name itself is the system call's */

/* What is left of a list: tried again, then counted as failed and put back. */
void migrate_rest(struct mm *mm, struct page_list *list, new_page_t *get_new_page, void *private, struct request *rq);
/* Nothing more to do: close the window. */
void migrate_over(struct mm *mm);
/* 0, or why the page stays: -ENOENT gone, -EAGAIN about to be discarded, -EACCES opted out, -EBUSY pinned. mm->lock held. */
int may_move(struct mm *mm, const struct page *page);
/* mm->migrate, at a time when nobody has batches held off; and let others go first. */
void batch_turn(struct mm *mm);
void books_yield(struct mm *mm);
/* Both locks, as every change of the books by a job needs: a fork, which holds the first, copies them at rest. */
void books_acquire(struct mm *mm);
void books_release(struct mm *mm);
/* The same by a thread of the program, with its signals blocked until then. */
uint64_t program_acquire(struct mm *mm);
void program_release(struct mm *mm, uint64_t signals);
/* All of from to the end of to; books_acquire() inside. */
void list_splice(struct mm *mm, struct page_list *to, struct page_list *from);

/* ---- place.c: see place.h; mm->lock held ---- */

/* The nodes that policies may name. */
uint64_t place_allowed(const struct mm *mm);
/* Other nodes are allowed: all policies are rebound. */
void place_rebind(struct mm *mm, uint64_t allowed);
/* The node that all CPUs of a set are of, or -1. */
int place_home(const struct mm *mm, const uint64_t *cpus, uint32_t nr);
/*
 * The node that a page seen at addr, of nr times 4 KiB, is to be charged to; who NULL: nobody knows who touched it.
 * host: where the kernel says that it is.
 */
int place_page(struct mm *mm, uint64_t addr, uint32_t nr, const struct toucher *who, int host);
/* The same for a page that is there, and may stay: -ENOMEM when its policy's nodes are full. */
int place_again(struct mm *mm, uint64_t addr, uint32_t nr, const struct toucher *who);
struct toucher toucher_of(struct mm *mm, uint32_t tid, int cpu);
/* Is a page at addr interleaved, and so placed by its size too? */
bool place_interleaved(struct mm *mm, uint64_t addr);
/* What a thread has; never NULL. */
const struct task *task_of(const struct mm *mm, uint32_t tid);
/* -ENOMEM: TASKS_MAX threads have something of their own. */
int task_set_policy(struct mm *mm, uint32_t tid, const struct mempolicy *pol);
int task_set_home(struct mm *mm, uint32_t tid, int home);
/* A new thread has what its maker has. */
bool task_differs(const struct mm *mm, uint32_t tid, const struct task *from);
int task_inherit(struct mm *mm, uint32_t tid, const struct task *from);
void tasks_fork_child(struct mm *mm, uint32_t parent_tid);
/* The range that holds addr, or NULL; *end is brought down to where that changes. */
struct range_policy *range_at(const struct mm *mm, uint64_t addr, uint64_t *end);
/* -ENOMEM: POLICIES_MAX. A policy of MPOL_DEFAULT clears. */
int range_set(struct mm *mm, uint64_t start, uint64_t end, const struct mempolicy *pol);
void range_clear(struct mm *mm, uint64_t start, uint64_t end);
/* The range was unmapped at that time: policies from before go. */
void range_left(struct mm *mm, uint64_t start, uint64_t end, uint64_t at);
void range_move(struct mm *mm, uint64_t from, uint64_t to, uint64_t len, bool keep);
/* Forget those whose mapping has gone. */
void ranges_check(struct mm *mm, uint64_t start, uint64_t end);

/* ---- mbind.c ---- */

/* What the program has taken away since is taken off the books. mm->lock held. */
void departures_take(struct mm *mm);

#define MPOL_MF_STRICT (1U << 0)
#define MPOL_MF_MOVE (1U << 1)
#define MPOL_MF_MOVE_ALL (1U << 2)
#define MPOL_MF_LAZY (1U << 3)

struct mbind {
	uint64_t start, end;
	struct mempolicy pol;
	uint64_t nodes;		/* pages elsewhere are misplaced: the mask as given */
	uint32_t flags;		/* MPOL_MF_* */
	uint32_t tid;		/* who asks, and on which CPU */
	int cpu;
};

/* As mbind(2) after its checks of form: 0, -EFAULT (a hole), -EIO, -ENOMEM. */
int do_mbind(struct mm *mm, const struct mbind *ask, struct request *rq);
/* As set_mempolicy_home_node(2) after its checks of form: 0, -ENOENT, -EOPNOTSUPP. */
int do_home_node(struct mm *mm, uint64_t start, uint64_t end, int home);
/* Enter what was touched since the last time. */
void do_observe(struct mm *mm);
/* The same. migrate lock held, spans loaded. */
void observe(struct mm *mm);
/* The same with mm->lock held, of first touches only. */
void observe_locked(struct mm *mm);
int do_set_policy(struct mm *mm, uint32_t tid, const struct mempolicy *pol);
int do_set_home(struct mm *mm, uint32_t tid, int home);
/* As cpuset.mems; follow: pages move along. The figures are in rq->progress. */
/*
 * The program has taken away what was in a range (unmapped: and the mapping with it), or mremap() has taken it
 * elsewhere. By program threads; between two requests nothing else tells. mm_remap() does the call itself.
 */
bool mm_knows_nothing(const struct mm *mm);	/* no page, no policy of a range: there is nothing to forget */
/* Never waits, but for many that nobody has taken. True: it is time for do_observe(). */
bool mm_discard(struct mm *mm, const struct departure *d);
long mm_remap(struct mm *mm, const long call[6]);
int do_allow_nodes(struct mm *mm, uint64_t allowed, bool follow, struct request *rq);

/* ---- fallback.c ---- */

/* May a page on node that did not get where it was to go (err) go through a far node? */
bool fallback_may(const struct mm *mm, const struct request *rq, int node, int err);
/* The isolated page, whose .want says where it is to go, does so when the rest is done: true, or it stays. mm->lock held. */
bool fallback_take(struct mm *mm, struct page *page, int err, struct request *rq);
/* It is on the far node: count it, and put it back. mm->lock held. */
void page_fallen(struct mm *mm, struct page *page, struct request *rq);
/* A node did not take a page: what to make of err. */
int fallback_refused(struct request *rq, int node, int err);
/* Those that were taken go now. */
void fallback_run(struct mm *mm, struct request *rq);

/* ---- relocate.c, movepages.c ---- */

/* Every page on a node of from to its relative in to. 0 or -errno; the figures are in rq->progress. */
/* Have everything that is away at its address again. 0, or -ENOMEM: not all. */
int do_return(struct mm *mm, struct request *rq);
int do_migrate_pages(struct mm *mm, uint64_t from, uint64_t to, struct request *rq);

/* As move_pages(2): status[i] is a node or -errno. nodes NULL: only ask. */
int do_move_pages(struct mm *mm, uint64_t count, void *const *pages, const int *nodes, int *status,
		  struct request *rq);

/* ---- batch.c: one batch in flight ---- */

/* ---- frames.c: the stock of free frames. migrate lock held ---- */

struct arena *arena_for(struct mm *mm, int node, enum arena_class class, bool huge);
/* Are there nr of them, all on the arena's host node? Those that are not are dropped. */
bool frames_there(struct mm *mm, struct arena *a, struct half *h, uint32_t nr);
/* The slot above them has one now. */
void frame_add(struct half *h);
/* New ones, up to nr. -ENOMEM. */
int frames_ready(struct mm *mm, struct arena *a, struct half *h, uint32_t nr);
/* Empty slots above them. -ENOMEM. */
int slots_ready(struct mm *mm, struct arena *a, struct half *h, uint32_t nr);
void slots_drop(struct mm *mm, struct half *h, uint64_t at, uint64_t len);
/* Give some of the stock back to the host; false: there is none. */
bool stock_return(struct mm *mm);

/*
 * Move the pages in mm->batch (.nr, .unit, .page, .addr, .dest set; all of one attribute class and
 * inside the window). On return every state is SLOT_IN, SLOT_GONE or SLOT_STAYS with its err. migrate
 * lock held. Returns the window in ns.
 */
uint64_t batch_move(struct mm *mm, struct request *rq, enum form form, enum arena_class class);
/* The huge page in flight is not one any more: 512 entries that share its slots. mm->lock held. */
void batch_explode(struct mm *mm);

/* ---- window.c: what is tracked ---- */

/* Have the mapping that holds addr tracked. migrate lock held. -EBUSY: another userfaultfd's; -EAGAIN: it changed. */
int window_open(struct mm *mm, const struct span *span, uint64_t addr);
void window_close(struct mm *mm);
/* Some of it is not tracked any more: only what is in the window concerns that. mm->lock held. */
void window_tear(struct mm *mm, uint64_t start, uint64_t end);
/* From here on it stays tracked as long as pages are away there. -EAGAIN: it is not what it was at addr. mm->lock not held. */
int window_keep(struct mm *mm, uint64_t addr);
/* Track no more than the pages that are out need. mm->lock held, with a batch in flight. */
void window_narrow(struct mm *mm);
/* Undo tracking of a range whatever has become of it. */
void untrack_range(struct mm *mm, uint64_t start, uint64_t end);

/* ---- fault.c ---- */

/* The call that was to discard a range has returned. mm->lock held. */
void discard_done(struct mm *mm, uint64_t start, uint64_t end);
/* Is some of it about to be discarded? mm->lock held. */
bool discarded_at(struct mm *mm, uint64_t start, uint64_t end);
/* The books of [addr, end) go along to another address. mm->lock held. */
void books_follow(struct mm *mm, uint64_t addr, uint64_t end, uint64_t to);
/* Answer a first touch that was held. mm->lock held. */
void fault_again(struct mm *mm, const struct mmu_event *ev);
/* Read and answer what the kernel has to say. The reader thread, and a migration that is refused. */
bool mm_drain_events(struct mm *mm);
bool mm_drain_events_locked(struct mm *mm);

#endif

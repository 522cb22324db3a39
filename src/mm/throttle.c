/* SPDX-License-Identifier: MIT */
/*
 * Who takes new memory waits for the reclaimer, where a node has reached its limit (the kernel's direct reclaim and
 * throttle_direct_reclaim(), memory.high): the first touch is not answered, so its thread sleeps in userfaultfd, and
 * is let on in its turn when something has left.
 *
 *   first touch    reader        there is room      answered at once
 *                                there is none      held; the reclaimer is kicked
 *   held           reclaimer     something has left answered in its turn
 *                  and reader    nobody can make room (far nodes full, the reclaimer stops)    answered at once
 *                                a fork has the books: the forking thread may wait for it      answered after 1 ms
 *                                nothing has left for 40 ms    answered, and for a while nobody is held
 *
 * So nobody waits for ever, whoever waits for him.
 *
 * That takes that first touches are seen: that what is mapped is tracked. Near a limit (guards) the reclaimer looks for
 * new mappings, up to once a millisecond, and who maps much waits for that look (throttle_mapped). What has come all
 * the same, by calls inside libc and by the kernel's own, is measured, and so much is kept free (boost): a heap that
 * grows by brk() runs on for a millisecond, then is held in the piece that the look has found.
 */
#include "mm/mm.h"

#include <errno.h>

#define READ_EVERY 32U		/* first touches between two readings of what is used; */
#define READ_SOON 8U		/* ... where there is not that much room */
#define STUCK_NS 40000000ULL	/* nothing has left for so long: it will not help to wait */
#define LONGEST_NS 250000000ULL /* others take all that becomes free */
#define FORK_NS 1000000ULL
#define OPEN_LEAST_NS 10000000ULL /* nobody is held; twice as long each time */
#define OPEN_MOST_NS 1000000000ULL
#define MAPPED_NS 50000000ULL
#define LOOK_LEAST_NS 1000000ULL
#define LOOK_SHARE 4U /* of the time at most so much goes into looking */
#define LOOK_MOST_MS 100U
#define FASTEST 1024U /* pages a millisecond that a program may take, as policy/reclaim.c has it */
#define GUARD_PAGES (8U * FASTEST)
#define RESERVE_LEAST (64UL << 10)
#define NOISE 32U /* pages; the kernel counts in lots */
#define DECAY 32U

static bool is_on(const struct mm *mm)
{
	return __atomic_load_n(&mm->throttle.on, __ATOMIC_ACQUIRE);
}

void throttle_kick(struct mm *mm)
{
	__atomic_add_fetch(&mm->throttle.kick, 1, __ATOMIC_RELEASE);
	futex_wake(&mm->throttle.kick);
}

static uint64_t limit_of(const struct mm *mm, uint32_t node)
{
	return mm->nodes->node[node].spec.bytes / PAGE_SIZE_;
}

void throttle_marks(const struct mm *mm, uint32_t node, struct watermarks *w)
{
	uint64_t limit = limit_of(mm, node), boost = __atomic_load_n(&mm->throttle.boost, __ATOMIC_RELAXED);

	watermarks_of(limit - min_u64(boost, limit / 8), w);
}

/* ---- room ---- */

/* Where the page will be charged. */
static int node_of(struct mm *mm, const struct mmu_event *ev)
{
	struct toucher who;

	if (nodes_direct(mm->nodes) == 1)
		return 0;
	who = toucher_of(mm, ev->tid, ev->tid ? thread_cpu(ev->tid) : -1);
	return place_page(mm, ev->addr, 1, &who, HOST_UNKNOWN);
}

static void room_read(struct mm *mm)
{
	struct throttle *t = &mm->throttle;

	t->unread = 0;
	t->close = false;
	for (uint32_t n = 0; n < mm->nodes->nr; n++) {
		struct watermarks w;

		if (!node_limited(mm, n))
			continue;
		throttle_marks(mm, n, &w);
		t->room[n] = (int64_t)w.min - (int64_t)node_in_use(mm, n);
		t->close = t->close || t->room[n] < (int64_t)(w.min / 8);
	}
}

/* While a fork has the books it has the stores too, and nothing can be read: what was known counts. */
static bool room_take(struct mm *mm, int node)
{
	struct throttle *t = &mm->throttle;

	if (!node_limited(mm, (uint32_t)node))
		return true;
	if ((t->room[node] <= 0 || ++t->unread >= (t->room[node] < 8 * READ_EVERY ? READ_SOON : READ_EVERY)) &&
	    !mm->forking)
		room_read(mm);
	if (t->room[node] <= 0)
		return false;
	t->room[node]--;
	return true;
}

/* ---- those who wait ---- */

static bool is_open(const struct mm *mm, uint64_t now)
{
	return !is_on(mm) || __atomic_load_n(&mm->reclaim.stop, __ATOMIC_RELAXED) ||
	       (mm->reclaim.full && now < mm->reclaim.again) || now < mm->throttle.open_until;
}

void throttle_progress(struct mm *mm)
{
	__atomic_store_n(&mm->throttle.moved, clock_ns(), __ATOMIC_RELAXED);
	__atomic_store_n(&mm->throttle.open_ns, 0, __ATOMIC_RELAXED);
}

/* One that a signal has taken out of its fault, and that has come back, has its place already. */
static bool waits_already(const struct throttle *t, const struct mmu_event *ev)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		const struct held *h = &t->held[(t->first + i) % HELD_MOST];

		if (h->ev.addr == ev->addr && h->ev.tid == ev->tid)
			return true;
	}
	return false;
}

bool throttle_hold(struct mm *mm, const struct mmu_event *ev)
{
	struct throttle *t = &mm->throttle;
	uint64_t now;
	int node;

	if (!is_on(mm) || t->serving || region_owns(mm->region, ev->addr, ev->addr + 1))
		return false;
	node = node_of(mm, ev);
	if (!t->nr && room_take(mm, node))
		return false;
	now = clock_ns();
	if (is_open(mm, now) || !node_limited(mm, (uint32_t)node))
		return false;
	if (waits_already(t, ev))
		return true;
	if (t->nr == HELD_MOST) {
		mm->stats.held_let_go++;
		return false;
	}
	t->held[(t->first + t->nr) % HELD_MOST] = (struct held){ *ev, now, node };
	__atomic_store_n(&t->nr, t->nr + 1, __ATOMIC_RELAXED);
	mm->stats.held++;
	if (t->nr == 1)
		throttle_kick(mm);
	return true;
}

/* Nothing can leave as long as a fork has, or wants, the books. */
static bool at_rest(const struct mm *mm)
{
	return mm->forking || __atomic_load_n(&mm->holds, __ATOMIC_RELAXED);
}

/* Has its time come? */
static bool may_go(struct mm *mm, const struct held *h, uint64_t now)
{
	struct throttle *t = &mm->throttle;
	uint64_t moved = min_u64(__atomic_load_n(&t->moved, __ATOMIC_RELAXED), now);
	uint64_t waited = now - h->since, idle = now - max_u64(h->since, moved), open;

	if (is_open(mm, now) || room_take(mm, h->node))
		return true;
	if (waited < (at_rest(mm) ? FORK_NS : LONGEST_NS) && idle < STUCK_NS)
		return false;
	if (idle >= STUCK_NS) {
		open = __atomic_load_n(&t->open_ns, __ATOMIC_RELAXED);
		open = min_u64(max_u64(2 * open, OPEN_LEAST_NS), OPEN_MOST_NS);
		__atomic_store_n(&t->open_ns, open, __ATOMIC_RELAXED);
		t->open_until = now + open;
	}
	mm->stats.held_let_go++;
	return true;
}

static void held_answer(struct mm *mm, const struct held *h, uint64_t now)
{
	struct throttle *t = &mm->throttle;

	mm->stats.held_ns += now - h->since;
	mm->stats.held_ns_max = max_u64(mm->stats.held_ns_max, now - h->since);
	t->serving = true;
	fault_again(mm, &h->ev);
	t->serving = false;
}

static void held_serve(struct mm *mm)
{
	struct throttle *t = &mm->throttle;

	while (t->nr) {
		struct held h = t->held[t->first];
		uint64_t now = clock_ns();

		if (!may_go(mm, &h, now))
			break;
		t->first = (t->first + 1) % HELD_MOST;
		__atomic_store_n(&t->nr, t->nr - 1, __ATOMIC_RELAXED);
		held_answer(mm, &h, now);
	}
}

/*
 * A heap grows in small steps, by calls inside libc, and is one mapping that nobody carries off: so what has grown is
 * tracked by itself, without the look at all mappings, for which a device may have to be waited for.
 */
static void heap_look(struct mm *mm)
{
	struct throttle *t = &mm->throttle;
	uint64_t now = clock_ns(), end, from, to;

	if (!t->close || mm->forking || now - t->heap_looked < LOOK_LEAST_NS / 2)
		return;
	__atomic_store_n(&t->heap_looked, now, __ATOMIC_RELAXED);
	end = ALIGN_UP((uint64_t)sys1(SYS_brk, 0), PAGE_SIZE_);
	if (end <= t->heap_end || kept_overlaps(mm, end - PAGE_SIZE_, end) || excluded_at(mm, end - PAGE_SIZE_, end) ||
	    mm->mmu->ops->area(mm->mmu, end - PAGE_SIZE_, &from, &to) || region_owns(mm->region, from, to)) {
		t->heap_end = end;
		return;
	}
	if (!mm->mmu->ops->track(mm->mmu, from, to - from) && !kept_add(mm, from, to))
		t->heap_end = end;
}

void throttle_serve(struct mm *mm)
{
	uint64_t looked = __atomic_load_n(&mm->throttle.heap_looked, __ATOMIC_RELAXED);

	if (!throttle_wait_ms(mm, 0) ||
	    (!__atomic_load_n(&mm->throttle.nr, __ATOMIC_RELAXED) && clock_ns() - looked < LOOK_LEAST_NS / 2))
		return;
	lock_acquire(&mm->lock);
	heap_look(mm);
	held_serve(mm);
	lock_release(&mm->lock);
}

/* ---- before it is touched: by the reclaimer ---- */

/* From here on: as far from the limit as a program may take in 8 ms, but half of it at most, and an eighth at least. */
static uint64_t guard_mark(uint64_t limit)
{
	return limit - max_u64(limit / 8, min_u64(limit / 2, GUARD_PAGES));
}

/* Both ends: one that has grown beside what is tracked has a part that is not. The end of a thread's stack is excluded. */
static bool is_guarded(struct mm *mm, const struct span *s)
{
	uint64_t last = s->end - PAGE_SIZE_;
	bool guarded;

	lock_acquire(&mm->lock);
	guarded = kept_overlaps(mm, s->start, s->start + PAGE_SIZE_) && kept_overlaps(mm, last, s->end);
	guarded = guarded || excluded_at(mm, last, s->end);
	lock_release(&mm->lock);
	return guarded;
}

/* What lies behind a mapping that is in use, and is no memory yet, is what an arena or a heap grows into. */
static bool is_reserve(const struct span *s, const struct span *before)
{
	return s->kind == AREA_READONLY && before->kind == AREA_MANAGED && before->end == s->start &&
	       s->end - s->start >= RESERVE_LEAST;
}

static void guard_mappings(struct mm *mm)
{
	batch_turn(mm);
	if (!spans_load(mm))
		for (uint32_t i = 0; i < mm->spans.nr; i++) {
			const struct span *s = &mm->spans.span[i];

			if ((s->kind == AREA_MANAGED || (i && is_reserve(s, s - 1))) && s->class == ARENA_RW &&
			    !is_guarded(mm, s) && !window_open(mm, s, s->start))
				window_keep(mm, s->start);
		}
	window_close(mm);
	lock_release(&mm->migrate);
}

/* Far from every limit again: what nothing is away from is as if it had never been tracked. */
static void unguard(struct mm *mm)
{
	__atomic_store_n(&mm->throttle.close, false, __ATOMIC_RELAXED);
	if (!__atomic_exchange_n(&mm->throttle.guards, false, __ATOMIC_RELAXED))
		return;
	batch_turn(mm);
	kept_trim(mm);
	lock_release(&mm->migrate);
}

/* What has come since the last look, and the engine has neither filled nor brought back. */
static int64_t unseen_since(struct mm *mm, uint64_t used)
{
	struct throttle *t = &mm->throttle;
	uint64_t expected = mm->stats.faults_filled + mm->stats.promoted + mm->stats.prefetched + mm->cache.nr_stale -
			    mm->reclaim.evicted;
	int64_t unseen = (int64_t)(used - t->used) - (int64_t)(expected - t->expected);

	t->used = used;
	t->expected = expected;
	return unseen;
}

static void boost_note(struct mm *mm, int64_t unseen)
{
	struct throttle *t = &mm->throttle;
	uint64_t boost = t->boost;

	if (t->guards && unseen > (int64_t)max_u64(boost, NOISE))
		boost = (uint64_t)unseen;
	else
		boost -= (boost + DECAY - 1) / DECAY;
	__atomic_store_n(&t->boost, boost, __ATOMIC_RELAXED);
}

/* How near are the limits? The used pages of the first node that has one; ms: until one of them may be near. */
static uint64_t measure(struct mm *mm, bool *near, int64_t *credit, uint32_t *ms)
{
	uint64_t first = 0;

	*near = false;
	*credit = INT64_MAX;
	*ms = LOOK_MOST_MS;
	for (uint32_t n = mm->nodes->nr; n-- > 0;) {
		uint64_t limit = limit_of(mm, n), mark = guard_mark(limit);
		struct watermarks w;

		if (!node_limited(mm, n))
			continue;
		first = node_in_use(mm, n);
		throttle_marks(mm, n, &w);
		*near = *near || first >= mark;
		*credit = (int64_t)min_u64((uint64_t)*credit,
					   max_u64(w.min > first ? w.min - first : 0, w.min - w.low) / 2 * PAGE_SIZE_);
		*ms = (uint32_t)min_u64(*ms, (first < mark ? mark - first : (w.low > first ? w.low - first : 0) / 2) /
						     FASTEST);
	}
	return first;
}

uint32_t throttle_look(struct mm *mm)
{
	struct throttle *t = &mm->throttle;
	uint32_t asked = __atomic_load_n(&t->asked, __ATOMIC_ACQUIRE), ms;
	uint64_t now = clock_ns(), used;
	bool near, anybody = asked != t->answered;
	int64_t credit, unseen;

	if (!is_on(mm) || (!anybody && now - t->looked < max_u64(LOOK_LEAST_NS, t->look_ns * LOOK_SHARE)))
		return 1;
	used = measure(mm, &near, &credit, &ms);
	near = near && !__atomic_load_n(&mm->reclaim.stop, __ATOMIC_RELAXED);
	if (near) {
		lock_acquire(&mm->lock);
		if (!mm->forking)
			room_read(mm);
		lock_release(&mm->lock);
	}
	unseen = unseen_since(mm, used);
	if (near && (anybody || !t->guards || unseen > NOISE))
		guard_mappings(mm);
	boost_note(mm, unseen);
	if (near)
		__atomic_store_n(&t->guards, true, __ATOMIC_RELAXED);
	else
		unguard(mm);
	__atomic_store_n(&t->credit, credit, __ATOMIC_RELAXED);
	t->looked = clock_ns();
	t->look_ns = t->looked - now;
	__atomic_store_n(&t->answered, asked, __ATOMIC_RELEASE);
	if (anybody)
		futex_wake(&t->answered);
	return ms ? ms : 1;
}

void throttle_mapped(struct mm *mm, uint64_t len)
{
	struct throttle *t = &mm->throttle;
	uint64_t until;
	uint32_t ticket, answered;

	if (!is_on(mm) || __atomic_fetch_sub(&t->credit, (int64_t)len, __ATOMIC_RELAXED) >= (int64_t)len)
		return;
	if (__atomic_load_n(&mm->forking, __ATOMIC_RELAXED) && mm->forker == (uint32_t)sys0(SYS_gettid))
		return; /* the look waits for it */
	ticket = __atomic_add_fetch(&t->asked, 1, __ATOMIC_ACQ_REL);
	until = clock_ns() + MAPPED_NS;
	throttle_kick(mm);
	while ((int32_t)((answered = __atomic_load_n(&t->answered, __ATOMIC_ACQUIRE)) - ticket) < 0 &&
	       clock_ns() < until)
		futex_wait(&t->answered, answered, MAPPED_NS);
}

/* ---- begin and end ---- */

void throttle_begin(struct mm *mm)
{
	lock_acquire(&mm->lock);
	__atomic_store_n(&mm->throttle.on, true, __ATOMIC_RELEASE);
	lock_release(&mm->lock);
}

void throttle_end(struct mm *mm)
{
	struct throttle *t = &mm->throttle;

	__atomic_store_n(&t->on, false, __ATOMIC_RELEASE);
	lock_acquire(&mm->lock);
	held_serve(mm);
	lock_release(&mm->lock);
	unguard(mm);
	__atomic_store_n(&t->answered, __atomic_load_n(&t->asked, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	futex_wake(&t->answered);
}

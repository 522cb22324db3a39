/* SPDX-License-Identifier: MIT */
/*
 * One batch in flight: the steps of page migration, as named twins.
 *
 *   batch_prepare      frames to come in, empty slots to leave into           batch_settle
 *   batch_unmap        lock the pages, migration entries, move out            batch_remap
 *   batch_copy         contents
 *
 * Plain: unmap, copy, remap. Transactional: copy first, while the program reads and writes, then
 * unmap, compare, copy again what changed, remap: the window is shorter, the work is more. In both
 * the copy that counts is made from slots that nobody else can write: who had pinned the page made
 * the move out refuse.
 *
 * Frames come from the stock that earlier batches have left. Where that of another host node is empty, the run of
 * frames is a run of empty slots (b->fresh), and the copy makes them (mmu_ops.fill), in either form. A page for which
 * there is none goes back where it was.
 *
 * Slot i of both runs belongs to page i throughout. The runs are the top of a half's stack of frames
 * and the empty slots above its twin's; what a failed page leaves in the middle is dropped, so that the
 * stacks stay whole.
 */
#include "mm/mm.h"

#include <errno.h>
#include <sys/mman.h>

#define OUT_TRIES 2		/* while pages are out nobody waits for an event to pass */
#define PAUSE_NS 5000ULL	/* until the thread whose event was read has run on */
#define BUSY_TRIES 8U		/* a batch; then a copy */
#define STARVED_PAUSE_NS 1000000ULL
#define STARVED_TRIES 4096U	/* for want of memory, before a page is given up: seconds */
#define REFUSALS_MANY 50U	/* then the program is kept from refusing */
#define HURRY_LEAST 256U	/* batches */
#define HURRY_MOST 16384U
#define HURRY_DEAF 4096U
#define HURRY_OVER_NS 300000ULL	/* more than interrupts take: another thread's turn */

static uint64_t slot(uint64_t run, const struct batch *b, uint32_t i)
{
	return run + i * b->unit;
}

/* ---- frames: mm/frames.c ---- */

/* A run of frames that are there, or of slots for those that the copy is to make. */
static int run_ready(struct mm *mm, struct batch *b, struct arena *to, struct arena *from)
{
	struct half *h = b->frame_half;
	bool there = frames_there(mm, to, h, b->want);
	int err = 0;

	b->fresh = !there && b->unit == PAGE_SIZE_ && to->host != from->host && !to->scarce;
	if (!there)
		err = b->fresh ? slots_ready(mm, to, h, b->want) : frames_ready(mm, to, h, b->want);
	b->frames = h->base + (b->fresh ? h->full : h->full - b->want) * b->unit;
	return err;
}

static int batch_prepare(struct mm *mm, struct batch *b, enum arena_class class)
{
	bool huge = b->unit == HUGE_SIZE_;
	struct arena *to = arena_for(mm, b->dest[0], class, huge), *from = arena_for(mm, b->source, class, huge);
	int err;

	if (!to || !from)
		return -ENOMEM;
	b->arena = to;
	b->frame_half = arena_fuller(to);
	b->out_half = arena_twin(from, to == from ? b->frame_half : arena_fuller(from));
	err = run_ready(mm, b, to, from);
	if (err)
		return err;
	err = slots_ready(mm, from, b->out_half, b->want);
	if (err)
		return err;
	b->out = b->out_half->base + b->out_half->full * b->unit;
	return 0;
}

static void drop_slot(struct mm *mm, struct batch *b, struct half *h, uint64_t at)
{
	slots_drop(mm, h, at, b->unit);
	mm->stats.dropped += b->unit / PAGE_SIZE_;
}

static bool slot_is_huge(struct mm *mm, uint64_t at)
{
	struct mmu_run run;

	return mm->mmu->ops->scan(mm->mmu, &at, at + HUGE_SIZE_, &run, 1) == 1 && run.bits & MMU_PG_HUGE &&
	       run.end - run.start == HUGE_SIZE_;
}

/* Vacated slots become free frames, from the first on; what lies behind a gap is dropped. */
static void settle_out(struct mm *mm, struct batch *b)
{
	bool keep = __atomic_load_n(&mm->recycle, __ATOMIC_RELAXED) || BUG_BACK(BUG_PIPE);

	for (uint32_t i = 0; i < b->nr; i++) {
		if (b->state[i] == SLOT_STAYS)
			keep = false;
		else if (keep && (b->unit == PAGE_SIZE_ || slot_is_huge(mm, slot(b->out, b, i))))
			frame_add(b->out_half);
		else
			drop_slot(mm, b, b->out_half, slot(b->out, b, i));
	}
}

/* Frames that came in are gone from the top; those left over below the first of them stay. */
static void settle_frames(struct mm *mm, struct batch *b)
{
	uint32_t left = 0;

	while (left < b->nr && b->state[left] != SLOT_IN)
		left++;
	if (left == b->nr)
		return; /* none was used */
	b->frame_half->full -= b->nr - left;
	for (uint32_t i = left; i < b->nr; i++)
		if (b->state[i] != SLOT_IN) {
			drop_slot(mm, b, b->frame_half, slot(b->frames, b, i));
			b->frame_half->full += BUG_BACK(BUG_DOUBLE_FREE);
		}
}

/* Slots above the stack, which are to be empty again. */
static void settle_fresh(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		if (b->state[i] != SLOT_IN)
			drop_slot(mm, b, b->frame_half, slot(b->frames, b, i));
}

/*
 * A huge frame in 512 pieces can be of no further use: both slots are dropped whole. A piece that
 * has moved in leaves a hole, which does not matter.
 */
static void settle_exploded(struct mm *mm, struct batch *b)
{
	slots_drop(mm, b->out_half, b->out, HUGE_SIZE_);
	slots_drop(mm, b->frame_half, b->frames, HUGE_SIZE_);
	b->frame_half->full--;
}

static void batch_settle(struct mm *mm, struct batch *b, bool was_huge)
{
	if (was_huge && b->unit == PAGE_SIZE_) {
		settle_exploded(mm, b);
		return;
	}
	if (b->fresh)
		settle_fresh(mm, b);
	else
		settle_frames(mm, b);
	settle_out(mm, b);
}

/* ---- moving runs ---- */

/* Pages i.. that follow each other in memory and are in this state. */
static uint32_t run_length(const struct batch *b, uint32_t i, enum slot_state state)
{
	uint32_t n = 1;

	while (i + n < b->nr && b->state[i + n] == state && b->addr[i + n] == b->addr[i] + n * b->unit)
		n++;
	return n;
}

static uint32_t run_to_unmap(const struct batch *b, uint32_t i)
{
	uint32_t nr = run_length(b, i, SLOT_STAYS), n = 1;

	while (n < nr && !b->err[i + n])
		n++;
	return n;
}

/* Returns the bytes moved; *err is why not more. An error after progress is asked for again, from there. */
static uint64_t move_run(struct mm *mm, uint64_t dst, uint64_t src, uint64_t len, bool wake, int *err)
{
	uint64_t done = 0;

	*err = 0;
	while (done < len) {
		struct mmu_moved mv = mm->mmu->ops->move(mm->mmu, dst + done, src + done, len - done, wake);

		if (!mv.err || !BUG_BACK(BUG_EAGAIN))
			done += mv.done;
		if (mv.err && (!mv.done || BUG_BACK(BUG_EAGAIN))) {
			*err = mv.err;
			break;
		}
	}
	return done;
}

static void entry_clear(struct batch *b, uint32_t i)
{
	if (b->page[i])
		b->page[i]->flags &= (uint16_t) ~(PG_LOCKED | PG_MIGRATION);
}

/* ---- unmap ---- */

void batch_explode(struct mm *mm)
{
	struct batch *b = &mm->batch;
	struct page *head = b->page[0];
	uint64_t addr = b->addr[0];

	BUG_ON(b->unit != HUGE_SIZE_ || b->nr != 1);
	if (head) {
		page_gone(mm, head);
		node_uncharge(mm->nodes, b->dest[0], LEAF_PAGES);
		head->flags = 0;
		head->refs = 0;
		page_unuse(&mm->pt, head);
	}
	b->unit = PAGE_SIZE_;
	b->nr = LEAF_PAGES;
	for (uint32_t i = 0; i < LEAF_PAGES; i++) {
		b->page[i] = NULL;
		b->addr[i] = addr + i * PAGE_SIZE_;
		b->state[i] = b->state[0];
		b->err[i] = 0;
		b->dest[i] = b->dest[0];
		b->home[i] = false;
		b->host[i] = HOST_UNKNOWN;
	}
}

/* A huge page went only in part: its parts go on by themselves. */
static void unmap_huge_part(struct mm *mm, struct batch *b, uint64_t done, int err)
{
	batch_explode(mm);
	for (uint32_t i = 0; i < LEAF_PAGES; i++) {
		b->state[i] = i < done / PAGE_SIZE_ ? SLOT_OUT : SLOT_STAYS;
		b->err[i] = b->state[i] == SLOT_STAYS ? (int16_t)err : 0;
		if (b->state[i] == SLOT_STAYS)
			page_enter(mm, b->addr[i], b->source, 0);
	}
}

/*
 * What an event has told since the pages were chosen: a page may have left its address; and where the
 * window has a gap a page must not go out, for nobody would wait for it.
 */
static void batch_check(struct mm *mm, struct batch *b, uint32_t from)
{
	for (uint32_t i = from; i < b->nr; i++) {
		struct page *page = b->page[i];

		if (!(page->flags & PG_PRESENT))
			b->err[i] = -ENOENT;
		else if (mm->window_torn)
			b->err[i] = -EAGAIN;
		else
			continue;
		entry_clear(b, i);
	}
}

/* The program's mlockall() has filled slots that were empty. */
static void slots_empty(struct mm *mm, struct batch *b, uint32_t from)
{
	mm->mmu->ops->drop(mm->mmu, slot(b->out, b, from), (b->nr - from) * b->unit);
}

/* try_to_unmap(): one run; returns the entries dealt with. */
static uint32_t unmap_run(struct mm *mm, struct batch *b, uint32_t i, int *tries)
{
	uint32_t nr = run_to_unmap(b, i), n;
	uint64_t done;
	int err;

	done = move_run(mm, slot(b->out, b, i), b->addr[i], nr * b->unit, false, &err);
	if (err == -EINVAL && !done && nr > 1) /* two mappings by now: page by page */
		done = move_run(mm, slot(b->out, b, i), b->addr[i], b->unit, false, &err);
	n = (uint32_t)(done / b->unit);
	for (uint32_t k = i; k < i + n; k++)
		b->state[k] = SLOT_OUT;
	if (!err)
		return n;
	if (b->unit == HUGE_SIZE_ && done % HUGE_SIZE_) {
		unmap_huge_part(mm, b, done, err);
		return LEAF_PAGES;
	}
	if (err == -EEXIST) {
		slots_empty(mm, b, i + n);
		err = -EAGAIN;
	}
	if (err == -EAGAIN && (*tries)-- > 0) {
		/* the reader may be asleep: read what is there ourselves */
		mm_drain_events_locked(mm);
		batch_check(mm, b, i + n);
		return n;
	}
	b->err[i + n] = (int16_t)err;
	entry_clear(b, i + n);
	return n + 1;
}

/* A page that is a hole stays with -ENOENT: its slot is empty. */
static void batch_unmap(struct mm *mm, struct batch *b)
{
	int tries = OUT_TRIES;

	b->nr = b->want;
	for (uint32_t i = 0; i < b->nr; i++) {
		b->state[i] = SLOT_STAYS;
		b->err[i] = 0;
		b->home[i] = false;
		b->host[i] = HOST_UNKNOWN;
		b->page[i]->flags |= PG_LOCKED | PG_MIGRATION;
	}
	batch_check(mm, b, 0);
	for (uint32_t i = 0; i < b->nr;)
		i += b->err[i] ? 1 : unmap_run(mm, b, i, &tries);
}

/* ---- copy ---- */

static void copy_run(struct mm *mm, struct batch *b, uint32_t i, uint32_t n)
{
	int err;

	if (!b->fresh) {
		mm->mmu->ops->copy(mm->mmu, slot(b->frames, b, i), slot(b->out, b, i), n * b->unit);
		return;
	}
	err = mm->mmu->ops->fill(mm->mmu, slot(b->frames, b, i), slot(b->out, b, i), n * b->unit);
	for (uint32_t k = i; k < i + n && err; k++) {
		b->home[k] = true;
		b->err[k] = (int16_t)(err == -ENOMEM ? err : -EAGAIN);
	}
}

/* Whole runs at once: slots follow each other even where addresses do not. */
static void batch_copy(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0, n; i < b->nr; i += n) {
		n = 1;
		if (b->state[i] != SLOT_OUT)
			continue;
		while (i + n < b->nr && b->state[i + n] == SLOT_OUT)
			n++;
		copy_run(mm, b, i, n);
	}
}

/* The transaction's first half; false: the program unmapped some of it, or shares it: nothing to build on. */
static bool batch_precopy(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0, n; i < b->want; i += n) {
		uint64_t len;

		for (n = 1; i + n < b->want && b->addr[i + n] == b->addr[i] + n * b->unit;)
			n++;
		len = n * b->unit;
		/* reading through the kernel would fill what is a hole by now, and copy what a fork left shared */
		if (mm->mmu->ops->shared(mm->mmu, b->addr[i], len))
			return false;
		if (b->fresh && mm->mmu->ops->fill(mm->mmu, slot(b->frames, b, i), b->addr[i], len))
			return false;
		if (!b->fresh &&
		    mm->mmu->ops->peek(mm->mmu, slot(b->frames, b, i), b->addr[i], len) != (int64_t)len)
			return false;
	}
	return true;
}

/* False: the batch goes the plain way, and empty slots are empty again. */
static bool precopied(struct mm *mm, struct batch *b)
{
	if (__atomic_load_n(&mm->serves_faults, __ATOMIC_RELAXED))
		return false;
	if (batch_precopy(mm, b))
		return true;
	if (b->fresh)
		slots_drop(mm, b->frame_half, b->frames, b->want * b->unit);
	return false;
}

static void batch_recopy(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		for (uint64_t at = 0; b->state[i] == SLOT_OUT && at < b->unit; at += PAGE_SIZE_) {
			uint64_t dst = slot(b->frames, b, i) + at, src = slot(b->out, b, i) + at;

			if (mm->mmu->ops->same(mm->mmu, dst, src, PAGE_SIZE_))
				continue;
			mm->mmu->ops->copy(mm->mmu, dst, src, PAGE_SIZE_);
			mm->stats.recopied++;
		}
}

/* Both sums must agree; a copy that does not is made again, and a frame that cannot hold it is a broken machine. */
static void batch_verify(struct mm *mm, struct batch *b, struct progress *p)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		uint64_t dst = slot(b->frames, b, i), src = slot(b->out, b, i);
		int tries = 3;

		if (b->state[i] != SLOT_OUT || b->home[i])
			continue;
		while (mm->mmu->ops->sum(mm->mmu, src, b->unit) != mm->mmu->ops->sum(mm->mmu, dst, b->unit)) {
			p->verify_errors++;
			BUG_ON(!tries--);
			mm->mmu->ops->copy(mm->mmu, dst, src, b->unit);
		}
	}
}

/* ---- remap ---- */

static void page_lost(struct mm *mm, struct batch *b, uint32_t i)
{
	int err;

	mm->stats.poisoned++; /* before anybody can meet it */
	err = mm->mmu->ops->poison(mm->mmu, b->addr[i]);
	b->state[i] = SLOT_GONE;
	base_log("a page could not be brought back: its next touch is SIGBUS",
		 err ? " (and could not be poisoned)" : "");
}

/* Where the page comes from that goes to its address. */
static uint64_t in_slot(const struct batch *b, uint32_t i)
{
	return slot(b->home[i] ? b->out : b->frames, b, i);
}

/*
 * What stopped a page from being moved in. The mapping has gone: so has the page. It has changed its
 * attributes (mprotect, mlock): a new page with the content is right. Anything else is tried again.
 */
static void remap_refused(struct mm *mm, struct batch *b, uint32_t i, int err)
{
	if (err == -EAGAIN || (err == -EBUSY && b->busy++ < BUSY_TRIES)) {
		mm_drain_events_locked(mm);
		return;
	}
	if (BUG_BACK(BUG_WRITABLE) && err == -EINVAL &&
	    !sys3(SYS_mprotect, b->addr[i], b->unit, PROT_READ | PROT_WRITE))
		return;
	if (BUG_BACK(BUG_BOOLEAN))
		err = -ENOENT;
	if (b->unit == HUGE_SIZE_ && err != -ENOENT) {
		batch_explode(mm);
		return;
	}
	if (err == -EINVAL || err == -EBUSY || err == -ENOMEM) {
		host_near(mm, b->dest[i]);
		err = mm->mmu->ops->copy_in(mm->mmu, b->addr[i], in_slot(b, i));
		if (!err) {
			/* the frame is still where it was */
			drop_slot(mm, b, b->home[i] ? b->out_half : b->frame_half, in_slot(b, i));
			mm->stats.copied_in++;
			b->copied = true;
		}
	}
	if (!err)
		b->state[i] = SLOT_IN;
	else if (err == -EAGAIN)
		mm_drain_events_locked(mm);
	else if (err == -ENOMEM && b->starved++ < STARVED_TRIES)
		return;
	else if (err == -ENOENT || err == -EEXIST || err == -EINVAL || err == -ESRCH)
		b->state[i] = SLOT_GONE;
	else
		page_lost(mm, b, i);
}

/* ... together with those that follow. */
static uint32_t run_to_remap(const struct batch *b, uint32_t i)
{
	uint32_t nr = run_length(b, i, SLOT_OUT), n = 1;

	while (n < nr && b->home[i + n] == b->home[i])
		n++;
	return n;
}

static void remap_run(struct mm *mm, struct batch *b, uint32_t i, uint32_t nr)
{
	int err;
	uint64_t done = move_run(mm, b->addr[i], in_slot(b, i), nr * b->unit, !BUG_BACK(BUG_NO_WAKE), &err);
	uint32_t n = (uint32_t)(done / b->unit);

	for (uint32_t k = i; k < i + n; k++)
		b->state[k] = SLOT_IN;
	if (!err)
		return;
	if (b->unit == HUGE_SIZE_ && done) {
		batch_explode(mm);
		for (uint32_t k = 0; k < done / PAGE_SIZE_; k++)
			b->state[k] = SLOT_IN;
	} else if (err == -EINVAL && nr > 1 && !n) {
		/* the run crosses what are two mappings now: page by page */
		for (uint32_t k = i; k < i + nr && b->state[k] == SLOT_OUT; k++)
			remap_run(mm, b, k, 1);
	} else {
		remap_refused(mm, b, i + n, err);
	}
}

/* remove_migration_ptes(): true when nothing is out any more. */
static bool batch_remap(struct mm *mm, struct batch *b)
{
	bool all = true;

	for (uint32_t i = 0; i < b->nr; i++) {
		if (b->state[i] != SLOT_OUT)
			continue;
		remap_run(mm, b, i, run_to_remap(b, i));
		all = all && b->state[i] != SLOT_OUT;
	}
	for (uint32_t i = 0; i < b->nr && all; i++)
		all = b->state[i] != SLOT_OUT;
	return all;
}

/* Frames that were made while the pages were out: what the kernel took from elsewhere is none of this node's. */
static void fresh_look(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0, n; b->fresh && b->arena->host >= 0 && i < b->nr; i += n) {
		int host[BATCH_MAX];

		n = run_length(b, i, SLOT_IN);
		if (b->state[i] != SLOT_IN || host_where(mm, b->addr[i], (int)n, host))
			continue;
		for (uint32_t k = 0; k < n; k++)
			if (host[k] >= 0 && host[k] != b->arena->host) {
				b->host[i + k] = (int16_t)host[k];
				b->arena->scarce = true;
			}
	}
}

static void batch_finish(struct mm *mm, struct batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		entry_clear(b, i);
		if (b->home[i] && b->state[i] == SLOT_IN)
			b->state[i] = SLOT_STAYS;
		if (b->state[i] == SLOT_GONE || b->err[i])
			mm->mmu->ops->wake(mm->mmu, b->addr[i], b->unit);
		/* a page that never went out has left no frame behind */
		if (b->state[i] == SLOT_STAYS && b->err[i] == -ENOENT && b->page[i])
			page_gone(mm, b->page[i]);
	}
}

/*
 * A window far beyond the bound, and beyond what is usual for such a batch, means that another thread had the
 * CPU in the middle of it. For a while then the job asks not to be disturbed while pages are out, and for longer
 * if the last spell was too short; always would cost 4 us a batch. One that is disturbed all the same is so by what
 * no thread can ask (the host of a virtual machine): then not for a while.
 */
static void hurry_next(struct mm *mm, bool asked, uint64_t over)
{
	struct hurry *h = &mm->hurry;

	h->left -= h->left > 0;
	h->deaf -= h->deaf > 0;
	h->calm += h->calm < HURRY_MOST;
	if (over < HURRY_OVER_NS || h->deaf)
		return;
	if (asked) {
		h->left = 0;
		h->deaf = HURRY_DEAF;
		return;
	}
	if (!h->spell || h->calm >= HURRY_MOST)
		h->spell = HURRY_LEAST;
	else if (h->spell < HURRY_MOST)
		h->spell *= 2;
	h->left = h->spell;
	h->calm = 0;
}

static uint64_t over_usual(const struct request *rq, bool huge, enum form form, uint64_t window)
{
	uint64_t usual = steer_usual(huge ? &rq->steer_huge : &rq->steer, form), most = max_u64(rq->bound_ns, usual);

	return rq->bound_ns && usual && window > most ? window - most : 0;
}

uint64_t batch_move(struct mm *mm, struct request *rq, enum form form, enum arena_class class)
{
	struct batch *b = &mm->batch;
	bool huge = b->unit == HUGE_SIZE_, done, hurry;
	uint64_t began, start, window;
	uint32_t refused = 0;
	int err = batch_prepare(mm, b, class);

	b->busy = b->starved = 0;
	b->copied = false;
	if (err) {
		for (uint32_t i = 0; i < b->want; i++) {
			b->state[i] = SLOT_STAYS;
			b->err[i] = (int16_t)err;
		}
		return 0;
	}
	began = clock_ns();
	if (form == FORM_TRANSACTIONAL && !precopied(mm, b))
		form = FORM_PLAIN;
	if (form == FORM_TRANSACTIONAL && !b->fresh && BUG_BACK(BUG_DIRTY_EARLY))
		batch_precopy(mm, b);
	hurry = mm->hurry.left && thread_hurry(true);
	start = clock_ns();
	lock_acquire(&mm->lock);
	batch_unmap(mm, b);
	lock_release(&mm->lock);
	if (form == FORM_PLAIN)
		batch_copy(mm, b);
	else if (!BUG_BACK(BUG_COPY_FIRST) && !BUG_BACK(BUG_DIRTY_EARLY))
		batch_recopy(mm, b);
	if (rq->verify)
		batch_verify(mm, b, rq->progress);
	for (;;) {
		lock_acquire(&mm->lock);
		done = batch_remap(mm, b);
		lock_release(&mm->lock);
		if (done)
			break;
		if (++refused == REFUSALS_MANY) {
			lock_acquire(&mm->lock);
			window_narrow(mm);
			lock_release(&mm->lock);
		}
		sleep_ns(b->starved ? STARVED_PAUSE_NS : PAUSE_NS);
	}
	window = clock_ns() - start;
	if (hurry)
		thread_hurry(false);
	hurry_next(mm, hurry, over_usual(rq, huge, form, window));
	lock_acquire(&mm->lock);
	batch_finish(mm, b);
	lock_release(&mm->lock);
	fresh_look(mm, b);
	batch_settle(mm, b, huge);
	b->spent = clock_ns() - began;
	mm->stats.batches++;
	mm->stats.transactional += form == FORM_TRANSACTIONAL;
	return window;
}

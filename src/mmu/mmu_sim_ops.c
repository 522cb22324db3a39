/* SPDX-License-Identifier: MIT */
/*
 * mmu_sim_ops.c - the simulated userfaultfd.
 *
 * It answers as Linux 6.18 was measured to: an error that stops a move after its first page is -EAGAIN
 * and the retry tells the reason; while an event is unread nothing can be moved or installed; faults are
 * read before events; a huge page moves whole between aligned ranges when the destination has neither
 * pages nor a page table left, else it is split first.
 */
#include "mmu/mmu_sim_space.h"

#include <errno.h>
#include <string.h>

/* ---- events ---- */

static int op_read_event(struct mmu *m, struct mmu_event *ev)
{
	struct sim *s = sim_of(m);
	struct event *e = sim_event_in(s->events, EV_UNREAD);

	if (s->nr_faults) {
		*ev = (struct mmu_event){ MMU_EV_FAULT, .addr = s->fault->addr, .write = s->fault->write };
		memmove(s->fault, s->fault + 1, --s->nr_faults * sizeof(*s->fault));
		return 1;
	}
	if (!e)
		return 0;
	*ev = e->ev;
	e->stage = EV_READ;
	while (!s->slow && !sim_event_step(s, e))
		;
	return 1;
}

static int op_event_fd(struct mmu *m)
{
	(void)m;
	return -ENOSYS;
}

/* ---- track, move, install ---- */

static int op_track(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len) || !sim_some_have(s, addr, len, P_MAPPED))
		return -EINVAL;
	sim_change_attr(s, addr, len, P_TRACK, 0);
	return 0;
}

static int op_untrack(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len) || !sim_some_have(s, addr, len, P_MAPPED))
		return -EINVAL;
	sim_change_attr(s, addr, len, 0, P_TRACK);
	sim_wake(s, addr, len);
	return 0;
}

static int move_allowed(struct sim *s, uint64_t dst, uint64_t src, uint64_t len)
{
	struct page *to = sim_page_at(s, dst), *from = sim_page_at(s, src);

	if (sim_events_block(s))
		return -EAGAIN;
	if (!len || (dst | src | len) % MMU_PAGE)
		return -EINVAL;
	if (!to || !from || !(to->flags & from->flags & P_MAPPED))
		return -ENOENT;
	if (!sim_one_area(s, dst, len) || !sim_one_area(s, src, len))
		return -EINVAL;
	if (!(to->flags & P_TRACK) || !(to->flags & from->flags & P_WRITE) || (to->flags ^ from->flags) & P_LOCKED)
		return -EINVAL;
	return 0;
}

/* The kernel refuses to move what is pinned, or not the program's alone. */
static bool page_busy(const struct page *p)
{
	return p->flags & P_SHARED || (p->frame && p->frame->pins);
}

static bool huge_busy(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, ALIGN_DOWN(addr, MMU_HUGE));
	uint64_t i;

	for (i = 0; i < PMD_PAGES; i++)
		if (page_busy(&p[i]))
			return true;
	return false;
}

/* As since Linux 6.12: pieces that hold nothing but zeroes become the zero page. */
static void huge_split(struct sim *s, uint64_t addr)
{
	static const uint8_t zeroes[MMU_PAGE];
	struct page *p = sim_page_at(s, ALIGN_DOWN(addr, MMU_HUGE));
	uint64_t i;

	sim_split_pmd(sim_pmd_at(s, addr));
	for (i = 0; i < PMD_PAGES; i++) {
		if (memcmp(p[i].frame->data, zeroes, MMU_PAGE))
			continue;
		sim_frame_put(s, p[i].frame);
		p[i].frame = NULL;
		p[i].flags |= P_ZERO;
	}
}

static int move_page(struct sim *s, uint64_t dst, uint64_t src)
{
	struct page *to = sim_page_at(s, dst), *from = sim_page_at(s, src);

	sim_pmd_at(s, dst)->table = true;
	if (page_occupied(to))
		return -EEXIST;
	if (!page_occupied(from))
		return -ENOENT;
	if (from->flags & P_POISON)
		return -EFAULT;
	if (page_busy(from))
		return -EBUSY;
	sim_page_transfer(to, from);
	return 0;
}

/* One page, or one huge page. Returns the bytes that went over, or -errno. */
static int64_t move_step(struct sim *s, uint64_t dst, uint64_t src, uint64_t left)
{
	struct pmd *to = sim_pmd_at(s, dst), *from = sim_pmd_at(s, src);
	int err;

	if (to->huge)
		return -EEXIST;
	if (!from->huge && !from->table)
		return -ENOENT;
	if (from->huge) {
		if (huge_busy(s, src))
			return -EBUSY;
		if (!((dst | src) % MMU_HUGE) && left >= MMU_HUGE && !to->table) {
			sim_move_huge(s, dst, src);
			return MMU_HUGE;
		}
		huge_split(s, src);
	}
	err = move_page(s, dst, src);
	return err ? err : (int64_t)MMU_PAGE;
}

static struct mmu_moved op_move(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len, bool wake_them)
{
	struct sim *s = sim_of(m);
	struct mmu_moved res = { .err = move_allowed(s, dst, src, len) };
	int64_t step;

	while (!res.err && res.done < len) {
		step = move_step(s, dst + res.done, src + res.done, len - res.done);
		if (step < 0)
			res.err = (int)step;
		else
			res.done += (uint64_t)step;
	}
	if (res.done && res.err)
		res.err = -EAGAIN;
	if (res.done && wake_them)
		sim_wake(s, dst, res.done);
	return res;
}

/* May a page be installed at addr? */
static int install_allowed(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, addr);

	if (sim_events_block(s))
		return -EAGAIN;
	if (addr % MMU_PAGE)
		return -EINVAL;
	if (!p || !(p->flags & P_TRACK))
		return -ENOENT;
	return page_occupied(p) ? -EEXIST : 0;
}

/* The kernel lets content replace a poison marker. */
static int install_asleep(struct sim *s, uint64_t addr, const struct frame *from)
{
	int err = install_allowed(s, addr);

	if (err && !(err == -EEXIST && sim_page_at(s, addr)->flags & P_POISON))
		return err;
	sim_page_at(s, addr)->flags &= ~(uint32_t)P_POISON;
	sim_install_frame(s, addr, from);
	return 0;
}

static int install_content(struct sim *s, uint64_t addr, const struct frame *from)
{
	int err = install_asleep(s, addr, from);

	if (!err)
		sim_wake(s, addr, MMU_PAGE);
	return err;
}

static int op_copy_in(struct mmu *m, uint64_t addr, uint64_t slot)
{
	struct sim *s = sim_of(m);

	return install_content(s, addr, sim_page_at(s, slot)->frame);
}

/* Who waits there is not woken. */
static int op_fill(struct mmu *m, uint64_t slot, uint64_t src, uint64_t len)
{
	struct sim *s = sim_of(m);
	int err = 0;

	for (uint64_t at = 0; at < len && !err; at += MMU_PAGE) {
		struct page *from = sim_page_at(s, src + at);

		/* the page of zeroes is read as any other */
		err = from && (from->frame || from->flags & P_ZERO) ? 0 : -EFAULT;
		if (!err)
			err = install_asleep(s, slot + at, from->frame);
	}
	return err;
}

/* A page of its own, not the zero page. */
static int op_fill_zero(struct mmu *m, uint64_t addr)
{
	return install_content(sim_of(m), addr, NULL);
}

static int op_poison(struct mmu *m, uint64_t addr)
{
	struct sim *s = sim_of(m);
	int err = install_allowed(s, addr);

	if (err)
		return err;
	sim_page_at(s, addr)->flags |= P_POISON;
	sim_pmd_at(s, addr)->table = true;
	sim_wake(s, addr, MMU_PAGE);
	return 0;
}

static int op_wake(struct mmu *m, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	sim_wake(s, addr, len);
	return 0;
}

/* ---- arena slots ---- */

/* The longest piece that crosses no page on either side. */
static uint64_t piece(uint64_t a, uint64_t b, uint64_t left)
{
	return min_u64(left, MMU_PAGE - max_u64(a % MMU_PAGE, b % MMU_PAGE));
}

/* A touch of its own memory that does not succeed at once would hang or kill the engine. */
static const uint8_t *slot_read(struct sim *s, uint64_t slot)
{
	BUG_ON(sim_touch(s, slot, false));
	return sim_bytes_at(s, slot);
}

static uint8_t *slot_write(struct sim *s, uint64_t slot)
{
	BUG_ON(sim_touch(s, slot, true));
	return sim_page_at(s, slot)->frame->data + slot % MMU_PAGE;
}

static void op_copy(struct mmu *m, uint64_t dst, uint64_t src, uint64_t len)
{
	struct sim *s = sim_of(m);
	uint64_t at, n;

	for (at = 0; at < len; at += n) {
		n = piece(dst + at, src + at, len - at);
		memcpy(slot_write(s, dst + at), slot_read(s, src + at), n);
	}
}

static bool op_same(struct mmu *m, uint64_t a, uint64_t b, uint64_t len)
{
	struct sim *s = sim_of(m);
	uint64_t at, n;

	for (at = 0; at < len; at += n) {
		n = piece(a + at, b + at, len - at);
		if (memcmp(slot_read(s, a + at), slot_read(s, b + at), n))
			return false;
	}
	return true;
}

/* FNV-1a. */
static uint64_t op_sum(struct mmu *m, uint64_t slot, uint64_t len)
{
	struct sim *s = sim_of(m);
	uint64_t sum = 0xcbf29ce484222325UL, at, n, i;
	const uint8_t *data;

	for (at = 0; at < len; at += n) {
		n = piece(slot + at, 0, len - at);
		data = slot_read(s, slot + at);
		for (i = 0; i < n; i++)
			sum = (sum ^ data[i]) * 0x100000001b3UL;
	}
	return sum;
}

static int64_t op_peek(struct mmu *m, uint64_t slot, uint64_t addr, uint64_t len)
{
	struct sim *s = sim_of(m);
	uint64_t at, n;
	int err;

	for (at = 0; at < len; at += n) {
		err = sim_touch(s, addr + at, false);
		if (err && at)
			break;
		if (err)
			return err == -EWOULDBLOCK ? err : -EFAULT;
		n = piece(slot + at, addr + at, len - at);
		memcpy(slot_write(s, slot + at), sim_bytes_at(s, addr + at), n);
	}
	return (int64_t)at;
}

/* MADV_POPULATE_WRITE: page by page, up to the first that cannot be written. */
static int write_faults(struct sim *s, uint64_t addr, uint64_t len,
			int (*fault)(struct sim *s, uint64_t addr))
{
	uint64_t at;
	int err = 0;

	if (!sim_range_ok(s, addr, len))
		return -EINVAL;
	for (at = addr; at < addr + len && !err; at += MMU_PAGE) {
		if (!(sim_page_at(s, at)->flags & P_MAPPED))
			return -ENOMEM;
		if (!(sim_page_at(s, at)->flags & P_WRITE))
			return -EINVAL;
		err = fault(s, at);
	}
	return err;
}

/* The engine's own memory: no fault is raised. */
static int populate_page(struct sim *s, uint64_t slot)
{
	if (page_occupied(sim_page_at(s, slot)))
		return sim_touch(s, slot, true);
	sim_first_touch(s, slot, true);
	return 0;
}

static int op_populate(struct mmu *m, uint64_t slot, uint64_t len)
{
	return write_faults(sim_of(m), slot, len, populate_page);
}

static int unshare_page(struct sim *s, uint64_t addr)
{
	return sim_touch(s, addr, true);
}

static int op_unshare(struct mmu *m, uint64_t addr, uint64_t len)
{
	return write_faults(sim_of(m), addr, len, unshare_page);
}

/* The engine's own memory: no event. */
static int op_drop(struct mmu *m, uint64_t slot, uint64_t len)
{
	struct sim *s = sim_of(m);

	if (!sim_range_ok(s, slot, len) || !sim_all_have(s, slot, len, P_MAPPED))
		return -ENOMEM;
	sim_zap(s, slot, slot + len);
	return 0;
}

static uint32_t page_bits(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, addr);

	if (!p || !(p->frame || p->flags & P_ZERO))
		return 0;
	return MMU_PG_PRESENT | (p->flags & P_ZERO ? MMU_PG_ZERO : 0) |
	       (sim_pmd_at(s, addr)->huge ? MMU_PG_HUGE : 0);
}

static int op_scan(struct mmu *m, uint64_t *pos, uint64_t end, struct mmu_run *run, int nr)
{
	uint32_t bits;
	int n = 0;

	for (; *pos < end; *pos += MMU_PAGE) {
		bits = page_bits(sim_of(m), *pos);
		if (n && bits == run[n - 1].bits && *pos == run[n - 1].end) {
			run[n - 1].end += MMU_PAGE;
			continue;
		}
		if (bits && n == nr)
			break;
		if (bits)
			run[n++] = (struct mmu_run){ *pos, *pos + MMU_PAGE, bits };
	}
	return n;
}

/* Areas differ in what their pages remember. */
static int op_area(struct mmu *m, uint64_t addr, uint64_t *start, uint64_t *end)
{
	struct sim *s = sim_of(m);
	uint64_t top = MMU_SIM_BASE + s->nr_pages * MMU_PAGE;

	if (!sim_range_ok(s, addr, MMU_PAGE) || !sim_one_area(s, addr, MMU_PAGE))
		return -ENOENT;
	*end = sim_area_end(s, addr, top);
	*start = addr;
	while (*start > MMU_SIM_BASE && sim_one_area(s, *start - MMU_PAGE, 2 * MMU_PAGE))
		*start -= MMU_PAGE;
	return 0;
}

static int op_where(struct mmu *m, uint64_t addr, int nr, int *node)
{
	(void)m;
	(void)addr;
	memset(node, 0, (size_t)nr * sizeof(*node));
	return 0;
}

static int op_placed(struct mmu *m, uint64_t slot, uint64_t len, int node)
{
	(void)m;
	(void)slot;
	(void)len;
	return node == 0;
}

static int op_mark(struct mmu *m, uint64_t addr, uint64_t len, const struct mmu_policy *pol)
{
	(void)m;
	(void)addr;
	(void)len;
	(void)pol;
	return 0;
}

static int op_prefer(struct mmu *m, const struct mmu_policy *pol)
{
	(void)m;
	(void)pol;
	return 0;
}

static int op_marked(struct mmu *m, uint64_t addr)
{
	uint64_t start, end;

	return m->ops->area(m, addr, &start, &end) ? -EFAULT : 1;
}

/* ---- forked children ---- */

static bool page_shared(struct sim *s, uint64_t addr)
{
	struct page *p = sim_page_at(s, addr);

	if (!p || !p->frame || p->frame->refs == 1)
		return false;
	/* it may have another address there since mremap() */
	for (struct child *c = s->children; c; c = c->next)
		for (uint64_t i = 0; i < s->nr_pages; i++)
			if (c->page[i].frame == p->frame)
				return true;
	return false;
}

static int op_shared(struct mmu *m, uint64_t addr, uint64_t len)
{
	int shared = 0;

	for (uint64_t at = addr; at < addr + len; at += MMU_PAGE) {
		struct page *p = sim_page_at(sim_of(m), at);

		if (!p || !page_occupied(p))
			return -ENOENT;
		if (page_shared(sim_of(m), at))
			shared = 1;
	}
	return shared;
}

static struct child *child_trapped(struct sim *s, int id)
{
	struct child *c = s->children;

	while (c && c->id != id)
		c = c->next;
	return c && c->trapped ? c : NULL;
}

/* The child's descriptor knows no events of the parent. */
static int op_copy_child(struct mmu *m, int child, uint64_t addr, uint64_t slot)
{
	struct sim *s = sim_of(m);
	struct child *c = child_trapped(s, child);
	struct page *p;

	if (!c)
		return -EBADF;
	if (!sim_range_ok(s, addr, MMU_PAGE))
		return -EINVAL;
	p = &c->page[(addr - MMU_SIM_BASE) / MMU_PAGE];
	if (!(p->flags & P_TRACK))
		return -ENOENT;
	if (page_occupied(p))
		return -EEXIST;
	p->frame = sim_frame_new(s, sim_page_at(s, slot)->frame);
	return 0;
}

static void op_touch(struct mmu *m, uint64_t addr)
{
	uint64_t value;

	mmu_sim_load(m, addr, &value);
}

static uint64_t op_resident(struct mmu *m)
{
	return mmu_sim_nr_frames(m);
}

static int op_poison_child(struct mmu *m, int child, uint64_t addr)
{
	struct sim *s = sim_of(m);
	struct child *c = child_trapped(s, child);
	struct page *p;

	if (!c)
		return -EBADF;
	if (!sim_range_ok(s, addr, MMU_PAGE))
		return -EINVAL;
	p = &c->page[(addr - MMU_SIM_BASE) / MMU_PAGE];
	if (!(p->flags & P_TRACK))
		return -ENOENT;
	if (page_occupied(p))
		return -EEXIST;
	p->flags |= P_POISON;
	return 0;
}

/* A simulated child has no engine that could take over: it is filled at once. */
static int op_read_child(struct mmu *m, int child, struct mmu_event *ev)
{
	(void)m;
	(void)child;
	(void)ev;
	return 0;
}

static bool op_changing(struct mmu *m)
{
	return sim_events_block(sim_of(m));
}

static bool op_sees_forks(struct mmu *m)
{
	(void)m;
	return true;
}

static void op_close_child(struct mmu *m, int child)
{
	struct child *c = child_trapped(sim_of(m), child);

	if (c)
		c->trapped = false;
}

/* ---- the table ---- */

static void op_close(struct mmu *m)
{
	sim_close(sim_of(m));
}

const struct mmu_ops mmu_sim_ops = {
	.name = "sim",
	.close = op_close,
	.track = op_track,
	.untrack = op_untrack,
	.move = op_move,
	.copy_in = op_copy_in,
	.copy_child = op_copy_child,
	.poison_child = op_poison_child,
	.read_child = op_read_child,
	.close_child = op_close_child,
	.sees_forks = op_sees_forks,
	.changing = op_changing,
	.fill_zero = op_fill_zero,
	.map_zero = op_fill_zero, /* no page is shared here */
	.poison = op_poison,
	.wake = op_wake,
	.copy = op_copy,
	.same = op_same,
	.sum = op_sum,
	.peek = op_peek,
	.populate = op_populate,
	.drop = op_drop,
	.fill = op_fill,
	.shared = op_shared,
	.unshare = op_unshare,
	.touch = op_touch,
	.resident = op_resident,
	.scan = op_scan,
	.area = op_area,
	.where = op_where,
	.placed = op_placed,
	.mark = op_mark,
	.marked = op_marked,
	.prefer = op_prefer,
	.read_event = op_read_event,
	.event_fd = op_event_fd,
};

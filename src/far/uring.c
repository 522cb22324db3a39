/* SPDX-License-Identifier: MIT */
/* io_uring without a library, and without io_uring. */
#include "far/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/mman.h>

static char *ring_map(int fd, uint64_t len, uint64_t offset)
{
	long at = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (long)offset);

	if (at < 0)
		return NULL;
	/* two processes on one ring would take each other's answers */
	sys3(SYS_madvise, at, len, MADV_DONTFORK);
	return (char *)at;
}

static uint32_t *word_at(const struct uring *u, uint32_t offset)
{
	return (uint32_t *)(void *)(u->ring + offset);
}

static bool rings_map(struct uring *u, const struct io_uring_params *p)
{
	u->ring_len = max_u64(p->sq_off.array + p->sq_entries * sizeof(uint32_t),
			      p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe));
	u->sqes_len = p->sq_entries * sizeof(struct io_uring_sqe);
	u->ring = ring_map(u->fd, u->ring_len, IORING_OFF_SQ_RING);
	u->sqes = ring_map(u->fd, u->sqes_len, IORING_OFF_SQES);
	if (!u->ring || !u->sqes)
		return false;
	u->sq_tail = word_at(u, p->sq_off.tail);
	u->sq_mask = word_at(u, p->sq_off.ring_mask);
	u->sq_array = word_at(u, p->sq_off.array);
	u->cq_head = word_at(u, p->cq_off.head);
	u->cq_tail = word_at(u, p->cq_off.tail);
	u->cq_mask = word_at(u, p->cq_off.ring_mask);
	u->cqes = u->ring + p->cq_off.cqes;
	return true;
}

void uring_open(struct uring *u)
{
	struct io_uring_params p = { 0 };
	long fd = sys2(SYS_io_uring_setup, URING_OPS, &p);

	*u = (struct uring){ .fd = (int)fd };
	if (fd < 0 || !(p.features & IORING_FEAT_SINGLE_MMAP) || !rings_map(u, &p)) {
		uring_close(u);
		u->fd = -1;
	}
}

void uring_close(struct uring *u)
{
	if (u->ring)
		sys2(SYS_munmap, u->ring, u->ring_len);
	if (u->sqes)
		sys2(SYS_munmap, u->sqes, u->sqes_len);
	uring_forget(u, true);
}

void uring_forget(struct uring *u, bool inherited)
{
	if (u->fd >= 0 && inherited)
		sys1(SYS_close, u->fd);
	*u = (struct uring){ .fd = -1 };
}

/* ---- one after another ---- */

static bool op_more(const struct uring_op *op)
{
	return !op->err && op->done < op->len;
}

/* What a read or write has said. A file that ends where there is something to be read has lost it. */
static void op_result(struct uring_op *op, long ret)
{
	if (ret > 0)
		op->done += (uint32_t)ret;
	else if (ret == 0)
		op->err = -EIO;
	else if (ret != -EINTR && ret != -EAGAIN)
		op->err = (int)ret;
}

static void op_finish(struct uring *u, int fd, bool write, struct uring_op *op)
{
	if (op_more(op))
		__atomic_fetch_add(&u->nr_single, 1, __ATOMIC_RELAXED);
	while (op_more(op))
		op_result(op, sys4(write ? SYS_pwrite64 : SYS_pread64, fd, op->buf + op->done, op->len - op->done,
				   op->offset + op->done));
}

/* ---- at a time ---- */

static void ops_queue(struct uring *u, int fd, bool write, struct uring_op *op, uint32_t nr)
{
	struct io_uring_sqe *sqes = (struct io_uring_sqe *)(void *)u->sqes;
	uint32_t tail = *u->sq_tail;

	for (uint32_t i = 0; i < nr; i++, tail++) {
		uint32_t at = tail & *u->sq_mask;

		sqes[at] = (struct io_uring_sqe){
			.opcode = write ? IORING_OP_WRITE : IORING_OP_READ,
			.fd = fd,
			.off = op[i].offset,
			.addr = (uint64_t)op[i].buf,
			.len = op[i].len,
			.user_data = i,
		};
		u->sq_array[at] = at;
	}
	/* with the kernel's reading of it in io_uring_enter() */
	__atomic_store_n(u->sq_tail, tail, __ATOMIC_RELEASE);
}

/* Answers that are there; returns how many. What failed is tried once more by itself, and that says why. */
static uint32_t answers_take(struct uring *u, struct uring_op *op)
{
	const struct io_uring_cqe *cqes = u->cqes;
	uint32_t head = *u->cq_head, tail = __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE), nr = 0;

	for (; head != tail; head++, nr++) {
		const struct io_uring_cqe *c = &cqes[head & *u->cq_mask];

		if (c->res > 0)
			op[c->user_data].done += (uint32_t)c->res;
	}
	__atomic_store_n(u->cq_head, head, __ATOMIC_RELEASE);
	return nr;
}

/* What was submitted is waited for, whatever happens: the buffers are the caller's. False: no more of these rings. */
static bool ops_wait(struct uring *u, struct uring_op *op, uint32_t nr)
{
	uint32_t submitted = 0, answered = 0;

	while (answered < nr) {
		long ret = sys6(SYS_io_uring_enter, u->fd, (long)(nr - submitted), 1, IORING_ENTER_GETEVENTS, 0, 0);

		if (ret > 0)
			submitted += (uint32_t)ret;
		else if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY && submitted == answered)
			return false;
		answered += answers_take(u, op);
	}
	return true;
}

static bool rings_take(struct uring *u)
{
	uint32_t free = 0;

	return u->fd >= 0 &&
	       __atomic_compare_exchange_n(&u->busy, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void uring_run(struct uring *u, int fd, bool write, struct uring_op *op, uint32_t nr)
{
	BUG_ON(nr > URING_OPS);
	/* Rings that a sandbox closes later on stay taken: what stands in them is not to be submitted by anybody. */
	if (nr > 1 && rings_take(u)) {
		ops_queue(u, fd, write, op, nr);
		if (ops_wait(u, op, nr))
			__atomic_store_n(&u->busy, 0, __ATOMIC_RELEASE);
	}
	for (uint32_t i = 0; i < nr; i++)
		op_finish(u, fd, write, &op[i]);
}

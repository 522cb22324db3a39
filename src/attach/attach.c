/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * The two ways, step by step; each step's undo is named beside it.
 *
 *   attach                                        detach
 *   look, prepare (nothing is stopped)            find the image
 *   stop a thread                                 stop a thread
 *     map the image, fill it                        have it begin the image's own thread
 *     have it begin the image's own thread        let it go: the engine ends
 *   let it go: the engine starts                  wait until no thread is in the image
 *                                                 stop a thread, unmap the image, let it go
 */
#include "attach/attach.h"

#include "attach/donor.h"
#include "attach/examine.h"
#include "attach/outside.h"
#include "attach/plan.h"
#include "attach/seccomp.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENGINE_PATIENCE_NS 20000000000ULL

/* ---- the image in the process ---- */

static long call(struct tracee *t, long nr, long a, long b, long c, long d)
{
	return tracee_call(t, nr, (long[6]){ a, b, c, d, -1, 0 });
}

/* What the image's own thread needs to begin; it sees to the rest, while the program runs. */
static int image_protect(struct tracee *t, const struct plan *p, uint64_t base)
{
	long err = 0;

	for (int i = 0; i < p->image.nr_segments && err >= 0; i++) {
		const struct segment *s = &p->image.segment[i];

		if (s->prot & PROT_EXEC)
			err = call(t, SYS_mprotect, (long)(base + PAGE + s->start), (long)(s->end - s->start), s->prot,
				   0);
	}
	return err < 0 ? (int)err : 0;
}

static int image_fill(struct tracee *t, struct plan *p, const struct attach_options *opt, uint64_t base)
{
	struct attached_plate plate = { .magic = ATTACHED_MAGIC,
					.version = ATTACHED_VERSION,
					.size = sizeof(struct attached),
					.block = base + PAGE + p->image.len };
	int err = image_place(&p->image, base + PAGE);

	if (err)
		return err;
	plan_tail_fill(p, opt, base);
	err = process_write(p->pid, base + PAGE, p->image.mem, p->image.len);
	if (!err)
		err = process_write(p->pid, plate.block, p->tail, p->tail_len);
	if (!err)
		err = process_write(p->pid, base, &plate, sizeof(plate));
	return err ? err : image_protect(t, p, base);
}

#define THREAD_FLAGS                                                                                       \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | \
	 CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* Have the stopped thread begin one of the image's own, with an order. All signals are blocked in it. */
static int order_begin(struct tracee *t, const struct attached *a, uint64_t block, enum attached_order order)
{
	uint32_t word = order;
	uint64_t tid = block + offsetof(struct attached, tid);
	uint64_t tp = a->stack_top + 16 + TLS_BLOCK / 2;
	int err = process_write(t->pid, block + offsetof(struct attached, order), &word, sizeof(word));
	long ret;

	if (!err) /* the last one has used its stack */
		err = process_write(t->pid, a->stack_top, &a->entry, sizeof(a->entry));
	if (err)
		return err;
	ret = tracee_call(t, SYS_clone,
			  (long[6]){ THREAD_FLAGS, (long)a->stack_top, (long)tid, (long)tid, (long)tp, (long)block });
	return ret < 0 ? (int)ret : 0;
}

/* Wait until it is gone, and look what came of it. */
static int order_wait(const struct plan *p, uint64_t block, struct attached *a)
{
	uint64_t until = clock_ns() + ENGINE_PATIENCE_NS;
	uint32_t answered = DONOR_NONE;
	int err;

	for (;;) {
		err = memory_read(p->mem, block, a, sizeof(*a));
		if (err || !a->tid)
			return err ? err : a->error;
		donor_answer(p->pid, block, a, &answered);
		if (clock_ns() > until)
			return -ETIMEDOUT;
		usleep(500);
	}
}

static int image_unmap(struct tracee *t, uint64_t base, uint64_t len)
{
	long ret = call(t, SYS_munmap, (long)base, (long)len, 0, 0);

	return ret < 0 ? (int)ret : 0;
}

/* ---- one command at a time ---- */

#define TURN_TRIES 100

/* The turn ends with us, however that comes. Returns a descriptor to close, or -errno. */
static int turn_take(int pid, char *why)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return why_say(why, -ESRCH, "does not exist");
	for (int i = 0; i < TURN_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		usleep(50000);
	}
	close(fd);
	return why_say(why, -EBUSY, "is being attached to or detached from by another godwit: try again");
}

/* ---- what both have ---- */

static void pause_note(struct attach_result *res, uint64_t ns)
{
	res->pause_ns = ns > res->pause_ns ? ns : res->pause_ns;
}

static int count_thread(int tid, void *arg)
{
	(void)tid;
	++*(uint32_t *)arg;
	return 0;
}

/* With the thread stopped, before it makes any call. */
static int rights_examine(const struct tracee *t, char *why)
{
	const char *name = "";
	int err = seccomp_examine(t, &name);

	if (err == -EPERM)
		return why_say(why, err, "has a seccomp filter, which only root may look at: run godwit as root");
	if (err == -ENOTSUP)
		why_say(why, err, "has a seccomp filter that does not let the engine call %s()", name);
	else if (err)
		why_errno(why, err, "its seccomp filter cannot be read");
	return err;
}

static int stop(struct tracee *t, struct plan *p, char *why)
{
	int err = tracee_stop(t, p->pid, &p->gadgets, p->mem, &p->hurry);

	if (err == -EBUSY)
		return why_say(why, err,
			       "has no thread that can be stopped and make calls: all wait in the kernel (as in "
			       "vfork()), or have small stacks or other code: try again");
	if (err == -ESTALE)
		return why_say(why, err, "has become another program meanwhile: try again");
	if (err)
		return examine_ptrace(p->pid, err, why);
	err = rights_examine(t, why);
	if (err)
		tracee_release(t);
	return err;
}

/* With the thread stopped: everything until the image's own thread runs. */
static int image_begin(struct tracee *t, struct plan *p, const struct attach_options *opt, uint64_t *base)
{
	long ret = call(t, SYS_mmap, 0, (long)p->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	int err;

	if (ret < 0 && ret > -4096)
		return (int)ret;
	*base = (uint64_t)ret;
	err = image_fill(t, p, opt, *base);
	if (!err)
		err = order_begin(t, (void *)p->tail, *base + PAGE + p->image.len, ATTACHED_START);
	if (err)
		image_unmap(t, *base, p->len);
	return err;
}

/* What the engine said when it could not start. */
static int start_failed(int err, char *why)
{
	if (err == -ESRCH)
		return why_say(why, err, "has ended, or become another program, meanwhile");
	if (err == -EPERM)
		return why_say(why, err, "has no rights to full-mode userfaultfd: run 'godwit check' as its user");
	if (err == -ETIMEDOUT)
		return why_say(why, err, "has not started the engine in 20 s: is it stopped?");
	return why_errno(why, err, "its engine cannot start");
}

static int remove_image(struct plan *p, uint64_t base, uint64_t len, struct attach_result *res, char *why)
{
	struct tracee t;
	int err = outside_wait(p->pid, base, base + len);

	if (err)
		return why_say(why, err,
			       "has a thread in the engine's code: its memory stays for now: run detach again");
	err = stop(&t, p, why);
	if (err)
		return err;
	err = image_unmap(&t, base, len);
	pause_note(res, tracee_release(&t));
	return err ? why_errno(why, err, "the engine's memory cannot be given back") : 0;
}

/* ---- detach ---- */

/* -ENOENT: there is none. */
static int image_find(int pid, const struct maps *maps, uint64_t *block, struct attached *a)
{
	for (size_t i = 0; i < maps->nr; i++) {
		const struct map *m = &maps->map[i];
		struct attached_plate plate;

		if (m->file || m->writable || m->executable || !m->readable ||
		    process_read(pid, m->start, &plate, sizeof(plate)) || plate.magic != ATTACHED_MAGIC)
			continue;
		if (plate.version != ATTACHED_VERSION || plate.size != sizeof(*a))
			return -EPROTONOSUPPORT;
		*block = plate.block;
		return process_read(pid, plate.block, a, sizeof(*a));
	}
	return -ENOENT;
}

static int end_failed(int err, char *why)
{
	if (err == -ESRCH)
		return why_say(why, err, "has ended, or become another program, meanwhile");
	if (err == -EBUSY)
		return why_say(why, err,
			       "has calls under way in the engine that do not end (mremap, fork ...): try again");
	if (err == -ETIMEDOUT)
		return why_say(why, err, "has not ended the engine in 20 s: is it stopped?");
	return why_errno(why, err, "its engine cannot end");
}

static int engine_end(struct plan *p, uint64_t block, struct attached *a, struct attach_result *res, char *why)
{
	struct tracee t;
	int err = stop(&t, p, why);

	if (err)
		return err;
	err = order_begin(&t, a, block, ATTACHED_END);
	pause_note(res, tracee_release(&t));
	if (err)
		return why_errno(why, err, "cannot begin to end the engine");
	err = order_wait(p, block, a);
	return err ? end_failed(err, why) : 0;
}

static int detach_planned(struct plan *p, struct attach_result *res, char *why)
{
	struct attached a;
	uint64_t block;
	int err = image_find(p->pid, &p->maps, &block, &a);

	if (err == -ENOENT)
		return why_say(why, -EALREADY, "was not attached to");
	if (err == -EPROTONOSUPPORT)
		return why_say(why, err, "was attached to by another version: use the godwit that did");
	if (err)
		return why_errno(why, err, "the engine's memory cannot be read");
	if (a.tid && a.pid == (uint32_t)p->pid)
		return why_say(why, -EBUSY, "is just being attached to or detached from: try again");
	res->hooks = a.nr_slots;
	err = engine_end(p, block, &a, res, why);
	return err ? err : remove_image(p, a.image, a.image_len, res, why);
}

/* ---- attach ---- */

static int attach_planned(struct plan *p, const struct attach_options *opt, struct attach_result *res, char *why)
{
	struct attached a;
	struct tracee t;
	uint64_t base = 0;
	char ignored[ATTACH_WHY];
	int err = stop(&t, p, why);

	if (err)
		return err;
	err = image_begin(&t, p, opt, &base);
	pause_note(res, tracee_release(&t));
	if (err)
		return why_errno(why, err, "cannot put the engine there");
	err = order_wait(p, base + PAGE + p->image.len, &a);
	if (!err)
		return 0;
	start_failed(err, why);
	if (err != -ETIMEDOUT && err != -ESRCH && remove_image(p, base, p->len, res, ignored))
		strncat(why, " (its memory stays: run 'godwit detach')", ATTACH_WHY - strlen(why) - 1);
	return err;
}

/*
 * An image whose engine has not begun, or ended, or is the one of the process that this one was forked from, gives its
 * place to a new one.
 */
static int left_behind(struct plan *p, struct attach_result *res, char *why)
{
	struct attached a;
	uint64_t block;
	int err = image_find(p->pid, &p->maps, &block, &a);

	if (err == -ENOENT)
		return 0;
	if (!err && a.running && a.pid == (uint32_t)p->pid)
		return why_say(why, -EALREADY, "is attached to already");
	err = detach_planned(p, res, why);
	if (!err) {
		maps_free(&p->maps);
		err = maps_load(&p->maps, p->pid);
	}
	return err;
}

/* ---- the two ways ---- */

/* plan_free() also after an error. */
static int begin(struct plan *p, int pid, char *why)
{
	int err;

	*p = (struct plan){ .pid = pid, .mem = -1, .hurry.line = -1 };
	p->turn = turn_take(pid, why);
	if (p->turn < 0)
		return p->turn;
	err = examine(pid, why);
	if (err)
		return err;
	p->mem = memory_open(pid);
	if (p->mem < 0)
		return examine_ptrace(pid, p->mem, why);
	hurry_ready(&p->hurry);
	err = maps_load(&p->maps, pid);
	return err ? why_errno(why, err, "its mappings cannot be read") : 0;
}

static void finish(struct plan *p, struct attach_result *res)
{
	process_threads(p->pid, count_thread, &res->threads);
	hurry_end(&p->hurry);
	plan_free(p);
	res->total_ns = clock_ns() - res->total_ns;
}

int attach_process(int pid, const struct attach_options *opt, struct attach_result *res, char *why)
{
	struct plan p;
	int err;

	*res = (struct attach_result){ .total_ns = clock_ns() };
	err = begin(&p, pid, why);
	if (!err && strlen(opt->nodes) >= ATTACHED_NODES)
		err = why_say(why, -E2BIG, "would get too long a list of nodes");
	if (!err)
		err = plan_gadgets(&p, why);
	if (!err)
		err = left_behind(&p, res, why);
	if (!err)
		err = plan_make(&p, opt->library, why);
	if (!err)
		err = attach_planned(&p, opt, res, why);
	res->hooks = p.nr_slots;
	finish(&p, res);
	return err;
}

int detach_process(int pid, struct attach_result *res, char *why)
{
	struct plan p;
	int err;

	*res = (struct attach_result){ .total_ns = clock_ns() };
	err = begin(&p, pid, why);
	if (!err)
		err = plan_gadgets(&p, why);
	if (!err)
		err = detach_planned(&p, res, why);
	finish(&p, res);
	return err;
}

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

#include "attach/examine.h"
#include "attach/image.h"
#include "attach/outside.h"
#include "attach/tracee.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES(x) (((x) + PAGE - 1) & ~(PAGE - 1))
#define SLOTS_MOST 65536U
#define STOP_PATIENCE_MS 2000U
#define ENGINE_PATIENCE_NS 20000000000ULL
#define INSIDE_PATIENCE_MS 5000U
#define TLS_BLOCK 4096UL	/* at the top of the stack: the image's thread has a thread pointer of its own */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static int say(char *why, int err, const char *text)
{
	snprintf(why, ATTACH_WHY, "%s", text);
	return err;
}

static int say_errno(char *why, int err, const char *what)
{
	snprintf(why, ATTACH_WHY, "%s: %s", what, strerror(-err));
	return err;
}

/* ---- what is prepared ---- */

struct plan {
	int pid;
	struct maps maps;
	struct objects objects;
	struct image image;
	struct gadgets gadgets;
	struct attached_next *next;
	struct attached_slot *slot;
	uint64_t *slot_hook;		/* of each slot: which hook */
	uint32_t nr_slots;
	uint8_t *tail;			/* the block, the tables, the stack's top */
	uint64_t tail_len, len;		/* len: of the whole image */
};

static void plan_free(struct plan *p)
{
	maps_free(&p->maps);
	objects_free(&p->objects);
	image_free(&p->image);
	free(p->next);
	free(p->slot);
	free(p->slot_hook);
	free(p->tail);
}

static const struct attached_hook *hook_get(const struct plan *p, uint64_t nth)
{
	return (const struct attached_hook *)(const void *)(p->image.mem + p->image.hooks) + nth;
}

/* A hook's name, while the image is placed at 0. */
static const char *hook_name(const struct plan *p, uint64_t nth)
{
	uint64_t at = (uint64_t)hook_get(p, nth)->name;

	return at < p->image.len ? (const char *)p->image.mem + at : "";
}

static int plan_next(struct plan *p)
{
	p->next = calloc(p->image.nr_hooks, sizeof(*p->next));
	if (!p->next)
		return -ENOMEM;
	for (uint64_t i = 0; i < p->image.nr_hooks; i++) {
		snprintf(p->next[i].name, sizeof(p->next[i].name), "%s", hook_name(p, i));
		p->next[i].addr = objects_symbol(&p->objects, p->next[i].name);
	}
	return 0;
}

/* Not if another library than libc has put something before it already, nor if the object has a function of its own. */
static bool slot_is_libcs(const struct plan *p, const struct object *o, uint64_t value, uint64_t next)
{
	const struct map *m = maps_at(&p->maps, value);

	return value == next || (m && strcmp(m->name, o->name[0] ? o->name : p->maps.map[0].name) == 0);
}

static int slot_plan(struct plan *p, const struct object *o, const Elf64_Rela *r)
{
	uint32_t sym = (uint32_t)ELF64_R_SYM(r->r_info);
	const char *name = object_name(o, sym);
	struct attached_slot s = { .at = o->base + r->r_offset };
	const struct map *m = maps_at(&p->maps, s.at);
	uint64_t hook = 0;

	while (hook < p->image.nr_hooks && strcmp(p->next[hook].name, name) != 0)
		hook++;
	if (hook == p->image.nr_hooks || !p->next[hook].addr || o->sym[sym].st_shndx != SHN_UNDEF || !m ||
	    s.at % sizeof(uint64_t) || p->nr_slots == SLOTS_MOST)
		return 0;
	if (process_read(p->pid, s.at, &s.was, sizeof(s.was)))
		return -EFAULT;
	if (!slot_is_libcs(p, o, s.was, p->next[hook].addr))
		return 0;
	s.readonly = !m->writable;
	p->slot_hook[p->nr_slots] = hook;
	p->slot[p->nr_slots++] = s;
	return 0;
}

static int plan_slots(struct plan *p)
{
	int err = 0;

	p->slot = calloc(SLOTS_MOST, sizeof(*p->slot));
	p->slot_hook = calloc(SLOTS_MOST, sizeof(*p->slot_hook));
	if (!p->slot || !p->slot_hook)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->objects.nr && !err; i++) {
		const struct object *o = &p->objects.object[i];

		for (uint32_t k = 0; k < o->nr_plt && !err; k++)
			if (ELF64_R_TYPE(o->plt[k].r_info) == R_X86_64_JUMP_SLOT)
				err = slot_plan(p, o, &o->plt[k]);
	}
	return err;
}

static int plan_tail(struct plan *p)
{
	uint64_t tables = p->image.nr_hooks * sizeof(*p->next) + p->nr_slots * sizeof(*p->slot);

	p->tail_len = PAGES(sizeof(struct attached) + tables) + ATTACHED_STACK;
	p->len = PAGE + p->image.len + p->tail_len;
	p->tail = calloc(1, p->tail_len);
	return p->tail ? 0 : -ENOMEM;
}

static int plan_objects(struct plan *p, char *why)
{
	int err = -EAGAIN;

	for (int tries = 0; tries < 200 && err == -EAGAIN; tries++) {
		err = objects_load(&p->objects, p->pid);
		if (err == -EAGAIN)
			usleep(10000);
	}
	if (err == -ENOTSUP)
		return say(why, err, "is statically linked: start it with 'godwit run', or use --via kernel");
	if (err == -EAGAIN)
		return say(why, -EBUSY, "is still being loaded, or loads a library right now: try again");
	if (err == -ENOEXEC) {
		snprintf(why, ATTACH_WHY, "has an object that cannot be read: %.200s", p->objects.broken);
		return -ENOTSUP;
	}
	return err ? say_errno(why, err, "its loaded objects cannot be read") : 0;
}

static int plan_image(struct plan *p, const char *library, char *why)
{
	int err = image_load(&p->image, library);

	if (err) {
		snprintf(why, ATTACH_WHY, "cannot get %.150s: %s", library, strerror(-err));
		return err;
	}
	err = image_resolve(&p->image, &p->objects);
	if (err == -ENOENT) {
		snprintf(why, ATTACH_WHY, "its libc has no %s: it is another, or too old", p->image.missing);
		return -ENOTSUP;
	}
	if (!err)
		err = image_place(&p->image, 0);
	return err ? say_errno(why, err, library) : 0;
}

static int plan_make(struct plan *p, const char *library, char *why)
{
	int err = maps_load(&p->maps, p->pid);

	if (err)
		return say_errno(why, err, "its mappings cannot be read");
	err = plan_objects(p, why);
	if (!err)
		err = plan_image(p, library, why);
	if (err)
		return err;
	err = gadgets_find(&p->maps, p->pid, &p->gadgets);
	if (err)
		return say(why, -ENOTSUP, "its libc is none that we know: no way to make system calls in it");
	err = plan_next(p);
	if (!err)
		err = plan_slots(p);
	if (!err)
		err = plan_tail(p);
	return err ? say_errno(why, err, "cannot prepare") : 0;
}

/* ---- the image in the process ---- */

static struct attached *tail_fill(struct plan *p, const struct attach_options *opt, uint64_t base)
{
	struct attached *a = (void *)p->tail;
	uint64_t at = base + PAGE + p->image.len, tables = at + sizeof(*a), top = at + p->tail_len, sp, tp;
	uint64_t words[3];

	*a = (struct attached){
		.image = base, .image_len = p->len,
		.entry = base + PAGE + p->image.entry,
		.stall_us_max = opt->stall_us_max, .flags = opt->flags,
		.patience_ms = INSIDE_PATIENCE_MS,
		.nr_next = (uint32_t)p->image.nr_hooks, .next = tables,
		.nr_slots = p->nr_slots, .slots = tables + p->image.nr_hooks * sizeof(*p->next),
	};
	snprintf(a->runtime_dir, sizeof(a->runtime_dir), "%s", opt->runtime_dir);
	snprintf(a->nodes, sizeof(a->nodes), "%s", opt->nodes);
	for (uint32_t i = 0; i < p->nr_slots; i++)
		p->slot[i].now = (uint64_t)hook_get(p, p->slot_hook[i])->fn;
	memcpy(p->tail + sizeof(*a), p->next, p->image.nr_hooks * sizeof(*p->next));
	memcpy(p->tail + (a->slots - at), p->slot, p->nr_slots * sizeof(*p->slot));
	/* the thread pointer points to itself, and the first "ret" on the stack goes to the entry point */
	tp = top - TLS_BLOCK / 2;
	words[0] = words[2] = tp;
	words[1] = 0;
	memcpy(p->tail + (tp - at), words, sizeof(words));
	sp = top - TLS_BLOCK - 16;
	memcpy(p->tail + (sp - at), &a->entry, sizeof(a->entry));
	a->stack_top = sp;
	return a;
}

static long call(struct tracee *t, long nr, long a, long b, long c, long d)
{
	return tracee_call(t, nr, (long[6]){ a, b, c, d, -1, 0 });
}

/* So that /proc/PID/maps tells; a kernel that cannot is no worse. */
static void image_name(struct tracee *t, uint64_t base, uint64_t len, uint64_t name)
{
	tracee_call(t, SYS_prctl, (long[6]){ 0x53564d41 /* PR_SET_VMA */, 0, (long)base, (long)len, (long)name, 0 });
}

static int image_protect(struct tracee *t, const struct plan *p, uint64_t base)
{
	long err = call(t, SYS_mprotect, (long)base, PAGE, PROT_READ, 0);

	for (int i = 0; i < p->image.nr_segments && err >= 0; i++) {
		const struct segment *s = &p->image.segment[i];

		if (s->prot != (PROT_READ | PROT_WRITE))
			err = call(t, SYS_mprotect, (long)(base + PAGE + s->start), (long)(s->end - s->start), s->prot, 0);
	}
	return err < 0 ? (int)err : 0;
}

static int image_fill(struct tracee *t, struct plan *p, const struct attach_options *opt, uint64_t base)
{
	struct attached_plate plate = { .magic = ATTACHED_MAGIC, .version = ATTACHED_VERSION,
					.size = sizeof(struct attached), .block = base + PAGE + p->image.len };
	int err = image_place(&p->image, base + PAGE);

	if (err)
		return err;
	tail_fill(p, opt, base);
	err = process_write(p->pid, base + PAGE, p->image.mem, p->image.len);
	if (!err)
		err = process_write(p->pid, plate.block, p->tail, p->tail_len);
	if (!err)
		err = process_write(p->pid, base, &plate, sizeof(plate));
	if (!err)
		err = process_write(p->pid, base + sizeof(plate), "godwit", sizeof("godwit"));
	if (err)
		return err;
	image_name(t, base, p->len, base + sizeof(plate));
	return image_protect(t, p, base);
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
	ret = tracee_call(t, SYS_clone, (long[6]){ THREAD_FLAGS, (long)a->stack_top, (long)tid, (long)tid, (long)tp,
						   (long)block });
	return ret < 0 ? (int)ret : 0;
}

/* Wait until it is gone, and look what came of it. */
static int order_wait(int pid, uint64_t block, struct attached *a)
{
	uint64_t until = now_ns() + ENGINE_PATIENCE_NS;
	int err;

	for (;;) {
		err = process_read(pid, block, a, sizeof(*a));
		if (err || !a->tid)
			return err ? err : a->error;
		if (now_ns() > until)
			return -ETIMEDOUT;
		usleep(500);
	}
}

static int image_unmap(struct tracee *t, uint64_t base, uint64_t len)
{
	long ret = call(t, SYS_munmap, (long)base, (long)len, 0, 0);

	return ret < 0 ? (int)ret : 0;
}

/* ---- attach ---- */

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

static int stop(struct tracee *t, int pid, const struct gadgets *g, char *why)
{
	int err = tracee_stop(t, pid, g, STOP_PATIENCE_MS);

	if (err == -EBUSY)
		return say(why, err, "has no thread that can be stopped: all wait in the kernel (as in vfork()), or have no "
				     "room on their stacks: try again");
	return err ? examine_ptrace(pid, err, why) : 0;
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
	if (err == -EPERM)
		return say(why, err, "has no rights to full-mode userfaultfd: run 'godwit check' as its user");
	if (err == -ETIMEDOUT)
		return say(why, err, "has not started the engine in 20 s: is it stopped?");
	return say_errno(why, err, "its engine cannot start");
}

static int remove_image(struct plan *p, uint64_t base, uint64_t len, struct attach_result *res, char *why)
{
	struct tracee t;
	int err = outside_wait(p->pid, &p->gadgets, base, base + len);

	if (err)
		return say(why, err, "has a thread in the engine's code: its memory stays for now: run detach again");
	err = stop(&t, p->pid, &p->gadgets, why);
	if (err)
		return err;
	err = image_unmap(&t, base, len);
	pause_note(res, tracee_release(&t));
	return err ? say_errno(why, err, "the engine's memory cannot be given back") : 0;
}

static int attach_planned(struct plan *p, const struct attach_options *opt, struct attach_result *res, char *why)
{
	struct attached a;
	struct tracee t;
	uint64_t base = 0;
	char ignored[ATTACH_WHY];
	int err = stop(&t, p->pid, &p->gadgets, why);

	if (err)
		return err;
	err = image_begin(&t, p, opt, &base);
	pause_note(res, tracee_release(&t));
	if (err)
		return say_errno(why, err, "cannot put the engine there");
	err = order_wait(p->pid, base + PAGE + p->image.len, &a);
	if (!err)
		return 0;
	start_failed(err, why);
	if (err != -ETIMEDOUT)
		remove_image(p, base, p->len, res, ignored);
	return err;
}

int attach_process(int pid, const struct attach_options *opt, struct attach_result *res, char *why)
{
	struct plan p = { .pid = pid };
	uint64_t since = now_ns();
	int err = examine(pid, why);

	*res = (struct attach_result){ .threads = 0 };
	if (!err && strlen(opt->nodes) >= ATTACHED_NODES)
		err = say(why, -E2BIG, "would get too long a list of nodes");
	if (!err)
		err = plan_make(&p, opt->library, why);
	if (!err)
		err = attach_planned(&p, opt, res, why);
	res->hooks = p.nr_slots;
	process_threads(pid, count_thread, &res->threads);
	plan_free(&p);
	res->total_ns = now_ns() - since;
	return err;
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

bool attach_is_attached(int pid)
{
	struct attached a;
	struct maps maps;
	uint64_t block;
	bool is = false;

	if (!maps_load(&maps, pid)) {
		is = !image_find(pid, &maps, &block, &a);
		maps_free(&maps);
	}
	return is;
}

static int end_failed(int err, char *why)
{
	if (err == -EBUSY)
		return say(why, err, "has calls under way in the engine that do not end (mremap, fork ...): try again");
	if (err == -ETIMEDOUT)
		return say(why, err, "has not ended the engine in 20 s: is it stopped?");
	return say_errno(why, err, "its engine cannot end");
}

static int engine_end(struct plan *p, uint64_t block, struct attached *a, struct attach_result *res, char *why)
{
	struct tracee t;
	int err = stop(&t, p->pid, &p->gadgets, why);

	if (err)
		return err;
	err = order_begin(&t, a, block, ATTACHED_END);
	pause_note(res, tracee_release(&t));
	if (err)
		return say_errno(why, err, "cannot begin to end the engine");
	err = order_wait(p->pid, block, a);
	return err ? end_failed(err, why) : 0;
}

static int detach_planned(struct plan *p, struct attach_result *res, char *why)
{
	struct attached a;
	uint64_t block;
	int err = image_find(p->pid, &p->maps, &block, &a);

	if (err == -ENOENT)
		return say(why, -EALREADY, "was not attached to");
	if (err == -EPROTONOSUPPORT)
		return say(why, err, "was attached to by another version: use the godwit that did");
	if (err)
		return say_errno(why, err, "the engine's memory cannot be read");
	if (a.tid)
		return say(why, -EBUSY, "is just being attached to or detached from: try again");
	res->hooks = a.nr_slots;
	err = engine_end(p, block, &a, res, why);
	return err ? err : remove_image(p, a.image, a.image_len, res, why);
}

int detach_process(int pid, struct attach_result *res, char *why)
{
	struct plan p = { .pid = pid };
	uint64_t since = now_ns();
	int err;

	*res = (struct attach_result){ .threads = 0 };
	err = maps_load(&p.maps, pid);
	if (err)
		return examine(pid, why) ? err : say_errno(why, err, "its mappings cannot be read");
	err = gadgets_find(&p.maps, pid, &p.gadgets);
	err = err ? say(why, -EALREADY, "was not attached to") : detach_planned(&p, res, why);
	process_threads(pid, count_thread, &res->threads);
	plan_free(&p);
	res->total_ns = now_ns() - since;
	return err;
}

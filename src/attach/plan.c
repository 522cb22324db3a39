/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/* What is prepared while the process runs: where everything will be, and what is written there. */
#include "attach/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS_MOST 65536U
#define INSIDE_PATIENCE_MS 5000U

static bool maps_interpreted(const struct maps *maps)
{
	for (size_t i = 0; i < maps->nr; i++)
		if (strstr(maps->map[i].name, "/ld-") || strstr(maps->map[i].name, "/ld."))
			return true;
	return false;
}

void plan_free(struct plan *p)
{
	maps_free(&p->maps);
	objects_free(&p->objects);
	image_free(&p->image);
	free(p->next);
	free(p->slot);
	free(p->slot_hook);
	free(p->tail);
	if (p->mem >= 0)
		close(p->mem);
	if (p->turn >= 0)
		close(p->turn);
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

/*
 * libc's own, or, until the first call, a way to the linker in the object that the slot is of. Not if another library
 * has put something before it already.
 */
static bool slot_is_libcs(const struct plan *p, const struct attached_slot *s, uint64_t next)
{
	const struct map *to = maps_at(&p->maps, s->was), *of = maps_at(&p->maps, s->at);

	return s->was == next || (to && of && of->file && strcmp(to->name, of->name) == 0);
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
	if (!slot_is_libcs(p, &s, p->next[hook].addr))
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
		return why_say(why, err, "is statically linked: '--via kernel' moves its pages");
	if (err == -EAGAIN)
		return why_say(why, -EBUSY, "is still being loaded, or loads a library right now: try again");
	if (err == -ENOEXEC) {
		return why_say(why, -ENOTSUP, "has an object that cannot be read: %.200s", p->objects.broken);
	}
	return err ? why_errno(why, err, "its loaded objects cannot be read") : 0;
}

static int plan_image(struct plan *p, const char *library, char *why)
{
	int err = image_load(&p->image, library);

	if (err) {
		return why_say(why, err, "cannot get %.150s: %s", library, strerror(-err));
	}
	err = image_resolve(&p->image, &p->objects);
	if (err == -ENOENT) {
		return why_say(why, -ENOTSUP, "its libc has no %s: it is another, or too old", p->image.missing);
	}
	if (!err)
		err = image_place(&p->image, 0);
	return err ? why_errno(why, err, library) : 0;
}

int plan_gadgets(struct plan *p, char *why)
{
	int err = gadgets_find(&p->maps, p->pid, &p->gadgets);

	if (err != -ENOENT)
		return err ? why_errno(why, err, "its code cannot be read") : 0;
	if (maps_interpreted(&p->maps))
		return why_say(why, -ENOTSUP, "has a libc that we do not know: no way to make system calls in it");
	return why_say(why, -ENOTSUP, "is statically linked: '--via kernel' moves its pages");
}

int plan_make(struct plan *p, const char *library, char *why)
{
	int err = plan_objects(p, why);

	if (!err)
		err = plan_image(p, library, why);
	if (err)
		return err;
	err = plan_next(p);
	if (!err)
		err = plan_slots(p);
	if (!err)
		err = plan_tail(p);
	return err ? why_errno(why, err, "cannot prepare") : 0;
}

/* ---- what is written behind the library ---- */

static void range_add(struct attached *a, uint64_t start, uint64_t len, int prot)
{
	if (a->nr_ranges < ATTACHED_RANGES)
		a->range[a->nr_ranges++] = (struct attached_range){ start, len, (uint64_t)prot };
}

static void ranges_fill(struct attached *a, const struct image *im)
{
	range_add(a, a->image, PAGE, PROT_READ);
	for (int i = 0; i < im->nr_segments; i++)
		if (!(im->segment[i].prot & (PROT_EXEC | PROT_WRITE)))
			range_add(a, a->image + PAGE + im->segment[i].start, im->segment[i].end - im->segment[i].start,
				  im->segment[i].prot);
}

void plan_tail_fill(struct plan *p, const struct attach_options *opt, uint64_t base)
{
	struct attached *a = (void *)p->tail;
	uint64_t at = base + PAGE + p->image.len, tables = at + sizeof(*a), top = at + p->tail_len, sp, tp;
	uint64_t words[3];

	*a = (struct attached){
		.image = base,
		.image_len = p->len,
		.entry = base + PAGE + p->image.entry,
		.stall_us_max = opt->stall_us_max,
		.flags = opt->flags,
		.patience_ms = INSIDE_PATIENCE_MS,
		.nr_next = (uint32_t)p->image.nr_hooks,
		.next = tables,
		.nr_slots = p->nr_slots,
		.slots = tables + p->image.nr_hooks * sizeof(*p->next),
	};
	ranges_fill(a, &p->image);
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
}

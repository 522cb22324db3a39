/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * The list is the one that debuggers read: the program's own headers (auxv) lead to its dynamic section, DT_DEBUG there
 * to the linker's list, each entry of it to an object's dynamic section.
 */
#include "attach/objects.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_MOST 4096U
#define SYMBOLS_MOST (4U << 20)
#define TABLES_MOST (512UL << 20) /* all together: what a process says of itself may be anything */

/* What of a dynamic section is of use; 0: not there. */
struct dynamic {
	uint64_t debug, symtab, strtab, strsz, hash, gnu_hash, versym, jmprel, pltrelsz, pltrel;
};

static const struct {
	int64_t tag;
	size_t offset;
	bool is_address;
} tags[] = {
	{ DT_DEBUG, offsetof(struct dynamic, debug), false },
	{ DT_SYMTAB, offsetof(struct dynamic, symtab), true },
	{ DT_STRTAB, offsetof(struct dynamic, strtab), true },
	{ DT_STRSZ, offsetof(struct dynamic, strsz), false },
	{ DT_HASH, offsetof(struct dynamic, hash), true },
	{ DT_GNU_HASH, offsetof(struct dynamic, gnu_hash), true },
	{ DT_VERSYM, offsetof(struct dynamic, versym), true },
	{ DT_JMPREL, offsetof(struct dynamic, jmprel), true },
	{ DT_PLTRELSZ, offsetof(struct dynamic, pltrelsz), false },
	{ DT_PLTREL, offsetof(struct dynamic, pltrel), false },
};

/* glibc has put addresses into the section, musl and the kernel leave offsets. */
static void dynamic_take(struct dynamic *d, const Elf64_Dyn *dyn, uint64_t base)
{
	uint64_t value = dyn->d_un.d_val;

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (tags[i].tag == dyn->d_tag)
			*(uint64_t *)(void *)((char *)d + tags[i].offset) = tags[i].is_address && value && value < base
										    ? base + value
										    : value;
}

static int dynamic_read(int pid, uint64_t at, uint64_t base, struct dynamic *d)
{
	*d = (struct dynamic){ 0 };
	for (int i = 0; i < 256; i++, at += sizeof(Elf64_Dyn)) {
		Elf64_Dyn dyn;
		int err = process_read(pid, at, &dyn, sizeof(dyn));

		if (err || dyn.d_tag == DT_NULL)
			return err;
		dynamic_take(d, &dyn, base);
	}
	return -ENOEXEC;
}

/* ---- one object ---- */

static void *table_read(int pid, uint64_t at, uint64_t len, uint64_t *budget)
{
	void *table;

	if (!at || !len || len > *budget)
		return NULL;
	*budget -= len;
	table = malloc(len);
	if (table && process_read(pid, at, table, len)) {
		free(table);
		return NULL;
	}
	return table;
}

/* The number of symbols: nothing says it but the tables that find them. */
static uint32_t symbols_by_gnu_hash(int pid, uint64_t at, uint64_t *budget)
{
	uint32_t head[4], last = 0, chain, *bucket; /* buckets, first symbol, words of the filter, shift */
	uint64_t buckets, chains;

	if (process_read(pid, at, head, sizeof(head)))
		return 0;
	buckets = at + sizeof(head) + head[2] * 8UL;
	chains = buckets + head[0] * 4UL;
	bucket = table_read(pid, buckets, head[0] * 4UL, budget);
	for (uint32_t i = 0; bucket && i < head[0]; i++)
		last = bucket[i] > last ? bucket[i] : last;
	free(bucket);
	if (last < head[1])
		return head[1] < SYMBOLS_MOST ? head[1] : 0;
	do {
		if (process_read(pid, chains + (last - head[1]) * 4UL, &chain, sizeof(chain)))
			return 0;
		last++;
	} while (!(chain & 1) && last < SYMBOLS_MOST);
	return last;
}

static uint32_t symbols_count(int pid, const struct dynamic *d, uint64_t *budget)
{
	uint32_t head[2] = { 0 };

	if (d->gnu_hash)
		return symbols_by_gnu_hash(pid, d->gnu_hash, budget);
	if (d->hash && process_read(pid, d->hash, head, sizeof(head)))
		return 0;
	return head[1] < SYMBOLS_MOST ? head[1] : 0;
}

/* The slots name symbols behind those that a table finds: what the object itself wants comes first in glibc's order. */
static uint32_t symbols_named(const struct object *o)
{
	uint32_t nr = o->nr_sym;

	for (uint32_t i = 0; i < o->nr_plt; i++) {
		uint32_t sym = (uint32_t)ELF64_R_SYM(o->plt[i].r_info);

		nr = sym >= nr && sym < SYMBOLS_MOST ? sym + 1 : nr;
	}
	return nr;
}

static int object_load(int pid, uint64_t dynamic, struct object *o, uint64_t *budget)
{
	struct dynamic d;
	int err = dynamic_read(pid, dynamic, o->base, &d);

	if (err)
		return err;
	if (!d.symtab || !d.strtab)
		return 0;
	if (d.jmprel && d.pltrel == DT_RELA) {
		o->plt = table_read(pid, d.jmprel, d.pltrelsz, budget);
		o->nr_plt = o->plt ? (uint32_t)(d.pltrelsz / sizeof(Elf64_Rela)) : 0;
	}
	o->nr_sym = symbols_count(pid, &d, budget);
	o->nr_sym = symbols_named(o);
	o->str_len = d.strsz;
	o->str = table_read(pid, d.strtab, d.strsz, budget);
	o->sym = table_read(pid, d.symtab, o->nr_sym * sizeof(Elf64_Sym), budget);
	o->version = d.versym ? table_read(pid, d.versym, o->nr_sym * 2UL, budget) : NULL;
	if (o->nr_sym && (!o->str || !o->sym || o->str[o->str_len - 1]))
		return -ENOEXEC;
	return 0;
}

static void object_free(struct object *o)
{
	free(o->sym);
	free(o->str);
	free(o->version);
	free(o->plt);
}

/* ---- the list ---- */

static uint64_t auxv_get(const char *auxv, size_t len, uint64_t type)
{
	for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= len; at += sizeof(Elf64_auxv_t)) {
		Elf64_auxv_t entry;

		memcpy(&entry, auxv + at, sizeof(entry));
		if (entry.a_type == type)
			return entry.a_un.a_val;
	}
	return 0;
}

/* Where the linker's list is. */
static int debug_find(int pid, struct r_debug *debug)
{
	size_t len;
	char *auxv = process_file(pid, "auxv", &len);
	uint64_t phdr = auxv ? auxv_get(auxv, len, AT_PHDR) : 0, nr = auxv ? auxv_get(auxv, len, AT_PHNUM) : 0;
	uint64_t base = 0, dynamic = 0;
	bool interpreted = false;
	struct dynamic d;
	int err = auxv ? 0 : -errno;

	free(auxv);
	for (uint64_t i = 0; !err && i < nr && i < 256; i++) {
		Elf64_Phdr ph;

		err = process_read(pid, phdr + i * sizeof(ph), &ph, sizeof(ph));
		if (!err && ph.p_type == PT_PHDR)
			base = phdr - ph.p_vaddr;
		else if (!err && ph.p_type == PT_DYNAMIC)
			dynamic = ph.p_vaddr;
		interpreted = interpreted || (!err && ph.p_type == PT_INTERP);
	}
	if (!err && (!interpreted || !dynamic))
		err = -ENOTSUP;
	if (!err)
		err = dynamic_read(pid, base + dynamic, base, &d);
	if (!err && !d.debug)
		err = -EAGAIN; /* the linker has not come that far */
	if (!err)
		err = process_read(pid, d.debug, debug, sizeof(*debug));
	return err ? err : debug->r_state != RT_CONSISTENT || !debug->r_map ? -EAGAIN : 0;
}

static int object_add(struct objects *o, int pid, const struct link_map *map, uint64_t *budget)
{
	struct object *more = realloc(o->object, (o->nr + 1) * sizeof(*more)), *new;
	int err;

	if (!more)
		return -ENOMEM;
	o->object = more;
	new = &o->object[o->nr++];
	*new = (struct object){ .base = map->l_addr };
	err = map->l_name ? process_read_text(pid, (uint64_t)map->l_name, new->name, sizeof(new->name)) : 0;
	if (!err)
		err = object_load(pid, (uint64_t)map->l_ld, new, budget);
	if (err == -ENOEXEC)
		strcpy(o->broken, new->name);
	return err;
}

int objects_load(struct objects *o, int pid)
{
	struct r_debug debug = { .r_map = NULL };
	uint64_t budget = TABLES_MOST;
	struct link_map map;
	int err;

	*o = (struct objects){ .nr = 0 };
	err = debug_find(pid, &debug);
	for (uint64_t at = (uint64_t)debug.r_map; !err && at && o->nr < OBJECTS_MOST; at = (uint64_t)map.l_next) {
		err = process_read(pid, at, &map, sizeof(map));
		if (!err)
			err = object_add(o, pid, &map, &budget);
	}
	/* what is being unloaded at this moment cannot be read */
	if (err == -EFAULT)
		err = -EAGAIN;
	if (err)
		objects_free(o);
	return err;
}

void objects_free(struct objects *o)
{
	for (uint32_t i = 0; i < o->nr; i++)
		object_free(&o->object[i]);
	free(o->object);
	o->object = NULL;
	o->nr = 0;
}

/* ---- symbols ---- */

const char *object_name(const struct object *o, uint32_t sym)
{
	return sym < o->nr_sym && o->sym[sym].st_name < o->str_len ? o->str + o->sym[sym].st_name : "";
}

#define VERSION_HIDDEN 0x8000 /* not the one that new programs get */

static uint64_t symbol_in(const struct object *o, const char *name)
{
	for (uint32_t i = 0; i < o->nr_sym; i++) {
		const Elf64_Sym *s = &o->sym[i];
		unsigned type = ELF64_ST_TYPE(s->st_info);

		if (s->st_shndx == SHN_UNDEF || ELF64_ST_BIND(s->st_info) == STB_LOCAL || type == STT_GNU_IFUNC ||
		    type == STT_TLS || (o->version && o->version[i] & VERSION_HIDDEN))
			continue;
		if (strcmp(object_name(o, i), name) == 0)
			return o->base + s->st_value;
	}
	return 0;
}

static bool is_libc(const struct object *o)
{
	const char *file = strrchr(o->name, '/');

	return file && (strncmp(file, "/libc.so", 8) == 0 || strncmp(file, "/libc-2.", 8) == 0 ||
			strncmp(file, "/ld-", 4) == 0 || strncmp(file, "/libpthread", 11) == 0);
}

uint64_t objects_symbol(const struct objects *o, const char *name)
{
	uint64_t addr = 0;

	for (int libc = 1; libc >= 0; libc--)
		for (uint32_t i = 0; i < o->nr && !addr; i++)
			if (is_libc(&o->object[i]) == libc)
				addr = symbol_in(&o->object[i], name);
	return addr;
}

/* SPDX-License-Identifier: MIT */
/* The objects that a process has loaded, as its dynamic linker tells debuggers. */
#ifndef GODWIT_ATTACH_OBJECTS_H
#define GODWIT_ATTACH_OBJECTS_H

#include "attach/process.h"

#include <elf.h>

struct object {
	uint64_t base;
	char name[256];
	Elf64_Sym *sym;
	uint32_t nr_sym;
	char *str;
	uint64_t str_len;
	uint16_t *version; /* of each symbol, or NULL */
	Elf64_Rela *plt;   /* the slots by which it calls others */
	uint32_t nr_plt;
};

struct objects {
	struct object *object;
	uint32_t nr;
	char broken[256]; /* valid after -ENOEXEC: which object */
};

/* 0; -EAGAIN: the linker is at work; -ENOTSUP: there is none (static); -ENOEXEC: cannot be understood; -ESRCH, -EPERM. */
int objects_load(struct objects *o, int pid);
void objects_free(struct objects *o);

/* The address of a symbol as libc has it, or of the first object that has it; 0: nobody, or one chosen at run time. */
uint64_t objects_symbol(const struct objects *o, const char *name);

/* The name of a symbol of an object, "" for a number that is none. */
const char *object_name(const struct object *o, uint32_t sym);

#endif

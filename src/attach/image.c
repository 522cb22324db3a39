/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/* Segments, relocations: the part of a dynamic linker's work that a library without thread-local storage needs. */
#include "attach/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES(x) (((x) + PAGE - 1) & ~(PAGE - 1))

static int file_load(struct image *im, const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		err = -errno;
	else if (!(im->file = malloc((size_t)st.st_size + 1)))
		err = -ENOMEM;
	else if (read(fd, im->file, (size_t)st.st_size) != st.st_size)
		err = -EIO;
	else
		im->file_len = (size_t)st.st_size;
	close(fd);
	return err;
}

/* len bytes of the file at offset, or NULL. */
static const void *file_at(const struct image *im, uint64_t offset, uint64_t len)
{
	return offset <= im->file_len && len <= im->file_len - offset ? im->file + offset : NULL;
}

static void *mem_at(const struct image *im, uint64_t addr, uint64_t len)
{
	return addr <= im->len && len <= im->len - addr ? im->mem + addr : NULL;
}

static int segment_load(struct image *im, const Elf64_Phdr *ph)
{
	const void *from = file_at(im, ph->p_offset, ph->p_filesz);
	void *to = mem_at(im, ph->p_vaddr, ph->p_memsz);

	if (!from || !to || ph->p_filesz > ph->p_memsz || im->nr_segments == SEGMENTS)
		return -ENOEXEC;
	memcpy(to, from, ph->p_filesz);
	im->segment[im->nr_segments++] = (struct segment){
		.start = ph->p_vaddr & ~(PAGE - 1),
		.end = PAGES(ph->p_vaddr + ph->p_memsz),
		.prot = (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
			(ph->p_flags & PF_X ? PROT_EXEC : 0),
	};
	return 0;
}

static int segments_load(struct image *im, const Elf64_Phdr *ph, int nr)
{
	int err = 0;

	for (int i = 0; i < nr; i++) {
		if (ph[i].p_type == PT_TLS)
			return -ENOEXEC;
		if (ph[i].p_type == PT_LOAD && ph[i].p_vaddr + ph[i].p_memsz > im->len)
			im->len = PAGES(ph[i].p_vaddr + ph[i].p_memsz);
	}
	im->mem = im->len && im->len < 1UL << 30 ? calloc(1, im->len) : NULL;
	if (!im->mem)
		return -ENOEXEC;
	for (int i = 0; i < nr && !err; i++)
		if (ph[i].p_type == PT_LOAD)
			err = segment_load(im, &ph[i]);
	return err;
}

static int hooks_find(struct image *im, const Elf64_Ehdr *elf)
{
	const Elf64_Shdr *sh = file_at(im, elf->e_shoff, elf->e_shnum * sizeof(*sh));
	const char *names;

	if (!sh || elf->e_shstrndx >= elf->e_shnum)
		return -ENOEXEC;
	names = file_at(im, sh[elf->e_shstrndx].sh_offset, sh[elf->e_shstrndx].sh_size);
	for (int i = 0; names && i < elf->e_shnum; i++)
		if (sh[i].sh_name < sh[elf->e_shstrndx].sh_size &&
		    strcmp(names + sh[i].sh_name, ATTACHED_SECTION) == 0 && mem_at(im, sh[i].sh_addr, sh[i].sh_size)) {
			im->hooks = sh[i].sh_addr;
			im->nr_hooks = sh[i].sh_size / sizeof(struct attached_hook);
			return 0;
		}
	return -ENOEXEC;
}

int image_load(struct image *im, const char *file)
{
	const Elf64_Ehdr *elf;
	const Elf64_Phdr *ph;
	int err;

	*im = (struct image){ .len = 0 };
	err = file_load(im, file);
	elf = err ? NULL : file_at(im, 0, sizeof(*elf));
	if (!err && (!elf || memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0 || elf->e_machine != EM_X86_64))
		err = -ENOEXEC;
	ph = err ? NULL : file_at(im, elf->e_phoff, elf->e_phnum * sizeof(*ph));
	if (!err)
		err = ph ? segments_load(im, ph, elf->e_phnum) : -ENOEXEC;
	if (!err)
		err = hooks_find(im, elf);
	if (err) {
		image_free(im);
		return err;
	}
	im->entry = elf->e_entry;
	return 0;
}

void image_free(struct image *im)
{
	free(im->file);
	free(im->mem);
	free(im->value);
	*im = (struct image){ .len = 0 };
}

/* ---- relocations ---- */

struct tables {
	const Elf64_Rela *rela, *plt;
	uint64_t nr_rela, nr_plt;
	const Elf64_Sym *sym;
	const char *str;
	uint64_t str_len;
};

static int tables_find(const struct image *im, struct tables *t)
{
	const Elf64_Ehdr *elf = (const void *)im->file;
	const Elf64_Phdr *ph = (const void *)(im->file + elf->e_phoff);
	uint64_t value[DT_JMPREL + 1] = { 0 };
	const Elf64_Dyn *dyn = NULL;

	for (int i = 0; i < elf->e_phnum; i++)
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = mem_at(im, ph[i].p_vaddr, ph[i].p_memsz);
	for (; dyn && dyn->d_tag != DT_NULL; dyn++)
		if (dyn->d_tag > 0 && dyn->d_tag <= DT_JMPREL)
			value[dyn->d_tag] = dyn->d_un.d_val;
	*t = (struct tables){
		.rela = mem_at(im, value[DT_RELA], value[DT_RELASZ]),
		.nr_rela = value[DT_RELASZ] / sizeof(Elf64_Rela),
		.plt = mem_at(im, value[DT_JMPREL], value[DT_PLTRELSZ]),
		.nr_plt = value[DT_PLTRELSZ] / sizeof(Elf64_Rela),
		.sym = mem_at(im, value[DT_SYMTAB], sizeof(Elf64_Sym)),
		.str = mem_at(im, value[DT_STRTAB], value[DT_STRSZ]),
		.str_len = value[DT_STRSZ],
	};
	return dyn && t->rela && t->plt && t->sym && t->str ? 0 : -ENOEXEC;
}

/* What the nth relocation names, when that is another's; 0 for a weak one that nobody has. */
static int resolve(struct image *im, const struct tables *t, const Elf64_Rela *r, const struct objects *objects)
{
	const Elf64_Sym *s = &t->sym[ELF64_R_SYM(r->r_info)];
	const char *name = s->st_name < t->str_len ? t->str + s->st_name : "";
	uint64_t *value = &im->value[im->nr_values++];

	*value = ELF64_R_SYM(r->r_info) && s->st_shndx == SHN_UNDEF ? objects_symbol(objects, name) : 0;
	if (*value || !ELF64_R_SYM(r->r_info) || s->st_shndx != SHN_UNDEF || ELF64_ST_BIND(s->st_info) == STB_WEAK)
		return 0;
	strncpy(im->missing, name, sizeof(im->missing) - 1);
	return -ENOENT;
}

int image_resolve(struct image *im, const struct objects *objects)
{
	struct tables t;
	int err = tables_find(im, &t);

	if (err)
		return err;
	im->value = calloc(t.nr_rela + t.nr_plt, sizeof(*im->value));
	if (!im->value)
		return -ENOMEM;
	for (uint64_t i = 0; !err && i < t.nr_rela; i++)
		err = resolve(im, &t, &t.rela[i], objects);
	for (uint64_t i = 0; !err && i < t.nr_plt; i++)
		err = resolve(im, &t, &t.plt[i], objects);
	return err;
}

static int relocate(struct image *im, const struct tables *t, const Elf64_Rela *r, uint64_t base, uint64_t value)
{
	const Elf64_Sym *s = &t->sym[ELF64_R_SYM(r->r_info)];
	uint64_t *at = mem_at(im, r->r_offset, sizeof(*at));

	if (!at)
		return -ENOEXEC;
	if (s->st_shndx != SHN_UNDEF)
		value = base + s->st_value;
	switch (ELF64_R_TYPE(r->r_info)) {
	case R_X86_64_NONE:
		return 0;
	case R_X86_64_RELATIVE:
		*at = base + (uint64_t)r->r_addend;
		return 0;
	case R_X86_64_GLOB_DAT:
	case R_X86_64_JUMP_SLOT:
		*at = value;
		return 0;
	case R_X86_64_64:
		*at = value + (uint64_t)r->r_addend;
		return 0;
	default:
		return -ENOEXEC;
	}
}

int image_place(struct image *im, uint64_t base)
{
	struct tables t;
	int err = tables_find(im, &t);

	for (uint64_t i = 0; !err && i < t.nr_rela; i++)
		err = relocate(im, &t, &t.rela[i], base, im->value[i]);
	for (uint64_t i = 0; !err && i < t.nr_plt; i++)
		err = relocate(im, &t, &t.plt[i], base, im->value[t.nr_rela + i]);
	return err;
}

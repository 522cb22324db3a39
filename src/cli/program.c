/* SPDX-License-Identifier: MIT */
/*
 * Whether a program would load the engine, and where the engine's file is.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef LIBDIR
#define LIBDIR "/usr/local/lib"
#endif

#define ENGINE_FILE "libgodwit.so"
#define HEAD_LEN 4096
#define DEFAULT_PATH "/bin:/usr/bin"

/* ---------------------------------------------------------------- the program ---- */

/* As execvp(): the first executable of that name on PATH. Returns false if there is none. */
static bool search_path(const char *name, char *buf, size_t len)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/'))
		return (size_t)snprintf(buf, len, "%s", name) < len;
	for (const char *at = path ? path : DEFAULT_PATH, *next; at; at = next) {
		size_t dir_len = strcspn(at, ":");
		struct stat st;

		next = at[dir_len] ? at + dir_len + 1 : NULL;
		if ((size_t)snprintf(buf, len, "%.*s%s%s", (int)dir_len, at, dir_len ? "/" : "", name) >= len)
			continue;
		if (stat(buf, &st) == 0 && S_ISREG(st.st_mode) && access(buf, X_OK) == 0)
			return true;
	}
	return false;
}

/* The kernel ignores LD_PRELOAD paths for a program that gains rights. */
static bool gains_rights(const char *name)
{
	struct stat st;

	if (stat(name, &st) != 0)
		return false;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return true;
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid())
		return true;
	return getuid() != 0 && getxattr(name, "security.capability", NULL, 0) > 0;
}

static bool has_interpreter(int fd, const Elf64_Ehdr *elf)
{
	for (int i = 0; i < elf->e_phnum; i++) {
		Elf64_Phdr ph;
		off_t at = (off_t)(elf->e_phoff + (uint64_t)i * elf->e_phentsize);

		if (pread(fd, &ph, sizeof(ph), at) != (ssize_t)sizeof(ph))
			return true;
		if (ph.p_type == PT_INTERP)
			return true;
	}
	return false;
}

static enum program_kind examine_elf(const char *name, int fd, const Elf64_Ehdr *elf)
{
	if (elf->e_ident[EI_CLASS] == ELFCLASS32)
		return PROGRAM_32BIT;
	if (elf->e_machine != EM_X86_64)
		return PROGRAM_FOREIGN;
	if (!has_interpreter(fd, elf))
		return PROGRAM_STATIC;
	return gains_rights(name) ? PROGRAM_PRIVILEGED : PROGRAM_DYNAMIC;
}

/* "#! /bin/sh -e": the interpreter's path into buf. */
static bool script_interpreter(const char *head, char *buf, size_t len)
{
	size_t skip, word;

	if (strncmp(head, "#!", 2) != 0)
		return false;
	skip = 2 + strspn(head + 2, " \t");
	word = strcspn(head + skip, " \t\n");
	if (word == 0 || word >= len)
		return false;
	memcpy(buf, head + skip, word);
	buf[word] = '\0';
	return true;
}

static enum program_kind examine_file(const char *name, int depth)
{
	char head[HEAD_LEN + 1] = "", interpreter[PATH_MAX];
	enum program_kind kind = PROGRAM_DYNAMIC;
	Elf64_Ehdr elf;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t nr;

	if (fd < 0)
		return gains_rights(name) ? PROGRAM_PRIVILEGED : PROGRAM_DYNAMIC;
	nr = pread(fd, head, HEAD_LEN, 0);
	if (nr >= (ssize_t)sizeof(elf) && memcmp(head, ELFMAG, SELFMAG) == 0) {
		memcpy(&elf, head, sizeof(elf));
		kind = examine_elf(name, fd, &elf);
	} else if (nr > 0 && depth == 0 && script_interpreter(head, interpreter, sizeof(interpreter))) {
		kind = examine_file(interpreter, depth + 1);
	}
	close(fd);
	return kind;
}

enum program_kind program_examine(const char *name)
{
	char file[PATH_MAX];

	return search_path(name, file, sizeof(file)) ? examine_file(file, 0) : PROGRAM_DYNAMIC;
}

const char *program_reason(enum program_kind kind)
{
	static const char *const reasons[] = {
		[PROGRAM_DYNAMIC] = "is dynamically linked",
		[PROGRAM_STATIC] = "is statically linked",
		[PROGRAM_32BIT] = "is a 32-bit program",
		[PROGRAM_FOREIGN] = "is a program of another architecture",
		[PROGRAM_PRIVILEGED] = "gains rights when it is executed (set-uid, set-gid or capabilities)",
	};

	return reasons[kind];
}

/* ---------------------------------------------------------------- the engine's file ---- */

/* An absolute path that LD_PRELOAD can name. */
static int engine_accept(const char *name, char *buf, size_t len)
{
	char *full = realpath(name, NULL);
	size_t nr = full ? strlen(full) : 0;

	if (!full)
		return errno == ENOTDIR ? -ENOENT : -errno;
	if (nr >= len) {
		free(full);
		return -ENAMETOOLONG;
	}
	memcpy(buf, full, nr + 1);
	free(full);
	if (access(buf, R_OK) != 0)
		return -errno;
	return strpbrk(buf, ": \t\n") ? -EINVAL : 0;
}

static int engine_error(const char *name, int err)
{
	if (err == -EINVAL)
		return say_error("%s: LD_PRELOAD cannot name a path with a space or a colon: move it", name);
	return say_error("%s: %s", name, strerror(-err));
}

int program_engine(char *buf, size_t len)
{
	static const char *const dirs[] = { "", "../lib/", "../lib/x86_64-linux-gnu/", "lib/" };
	const char *named = getenv("GODWIT_LIB");
	char self[PATH_MAX], name[PATH_MAX + 64];
	ssize_t nr = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int err;

	if (named && *named) {
		err = engine_accept(named, buf, len);
		return err ? engine_error(named, err) : 0;
	}
	self[nr > 0 ? nr : 0] = '\0';
	if (strrchr(self, '/'))
		strrchr(self, '/')[1] = '\0';
	for (size_t i = 0; i <= sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (i < sizeof(dirs) / sizeof(dirs[0]))
			snprintf(name, sizeof(name), "%s%s" ENGINE_FILE, self, dirs[i]);
		else
			snprintf(name, sizeof(name), "%s/" ENGINE_FILE, LIBDIR);
		err = engine_accept(name, buf, len);
		if (err != -ENOENT)
			return err ? engine_error(name, err) : 0;
	}
	return say_error(ENGINE_FILE " is neither beside %sgodwit nor in %s: name it with GODWIT_LIB", self,
			 LIBDIR);
}

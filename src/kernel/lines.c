/* SPDX-License-Identifier: MIT */
/*
 * Lines of /proc/PID/maps and /proc/PID/numa_maps (fs/proc/task_mmu.c: show_map_vma(), show_numa_map()).
 *
 * What is read here is written by the kernel, but names in it are the program's choice.
 */
#include "kernel/kernel.h"

#include <string.h>
#include <sys/mman.h>

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* ---------------------------------------------------------------- maps ---- */

static bool take(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static bool parse_perms(const char **at, struct kernel_vma *vma)
{
	const char *p = *at;

	if (strcspn(p, " ") != 4 || p[4] != ' ')
		return false;
	vma->prot = (p[0] == 'r' ? PROT_READ : 0U) | (p[1] == 'w' ? PROT_WRITE : 0U) |
		    (p[2] == 'x' ? PROT_EXEC : 0U);
	vma->shared = p[3] == 's';
	*at += 5;
	return true;
}

static bool parse_dev(const char **at, uint32_t *dev)
{
	uint64_t major, minor;

	if (!str_u64(at, 16, &major) || !take(at, ':') || !str_u64(at, 16, &minor))
		return false;
	*dev = (uint32_t)(major << 20 | (minor & 0xfffff));
	return true;
}

/* Shared memory that has no mount anybody sees, by the names that the kernel gives it. */
static bool is_hidden_shmem(const char *name)
{
	return begins(name, "/SYSV") || begins(name, "/memfd:") || begins(name, "/dev/zero") ||
	       begins(name, "/dev/shm/") || begins(name, "/i915") || begins(name, "[anon_shmem:");
}

static void copy_name(char *to, const char *from)
{
	size_t len = strlen(from);

	if (len >= KERNEL_NAME)
		len = KERNEL_NAME - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}

bool kernel_vma_parse(const char *line, struct kernel_vma *out)
{
	const char *at = line;
	uint64_t inode;

	memset(out, 0, sizeof(*out));
	if (!str_u64(&at, 16, &out->start) || !take(&at, '-') || !str_u64(&at, 16, &out->end) || !take(&at, ' '))
		return false;
	if (!parse_perms(&at, out) || !str_u64(&at, 16, &out->offset) || !take(&at, ' '))
		return false;
	if (!parse_dev(&at, &out->dev) || !take(&at, ' ') || !str_u64(&at, 10, &inode))
		return false;
	if (out->start >= out->end || (out->start | out->end) % KERNEL_PAGE)
		return false;
	at += strspn(at, " ");
	copy_name(out->name, at);
	out->special = begins(at, "[v"); /* vdso, vvar, vvar_vclock, vsyscall */
	out->shmem = is_hidden_shmem(at);
	return true;
}

/* ---------------------------------------------------------------- numa_maps ---- */

/* A policy may have a blank in it: "prefer (many):0-1", "weighted interleave:0,1". */
static size_t policy_length(const char *at)
{
	size_t len = strcspn(at, " ");

	if ((len == 6 && begins(at, "prefer (many)")) || (len == 8 && begins(at, "weighted interleave")))
		len += 1 + strcspn(at + len + 1, " ");
	return len;
}

/* "N12=345"; false: it is not that. */
static bool parse_node(const char *word, uint64_t pages[KERNEL_NODES])
{
	uint64_t node, count;

	if (*word++ != 'N' || !str_u64(&word, 10, &node) || *word++ != '=' || !str_u64(&word, 10, &count))
		return false;
	if (node < KERNEL_NODES)
		pages[node] = count;
	return true;
}

static void parse_word(const char *word, size_t len, struct kernel_numa_line *out)
{
	const char *digits = word + sizeof("kernelpagesize_kB=") - 1;
	uint64_t kb;

	if (len == 4 && begins(word, "huge"))
		out->huge = true;
	else if (begins(word, "kernelpagesize_kB=") && str_u64(&digits, 10, &kb) && kb >= 4 && kb <= 1 << 24)
		out->unit = kb / 4;
	else
		parse_node(word, out->pages);
}

bool kernel_numa_line_parse(const char *line, struct kernel_numa_line *out)
{
	const char *at = line;
	size_t len;

	memset(out, 0, sizeof(*out));
	out->unit = 1;
	if (!str_u64(&at, 16, &out->start) || !take(&at, ' '))
		return false;
	len = policy_length(at);
	if (len == 0 || len >= sizeof(out->policy))
		return false;
	memcpy(out->policy, at, len);
	for (at += len; *at; at += len) {
		at += strspn(at, " ");
		len = strcspn(at, " ");
		/* A name has its blanks in octal: it is one word, "file=...", and never one of the others. */
		parse_word(at, len, out);
	}
	for (int i = 0; i < KERNEL_NODES; i++)
		if (__builtin_mul_overflow(out->pages[i], out->unit, &out->pages[i]))
			return false;
	return true;
}

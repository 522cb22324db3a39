/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/* Why a process cannot be attached to, as far as it can be seen without touching it. */
#include "attach/examine.h"

#include "attach/attach.h"
#include "attach/process.h"

#include <elf.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int why_say(char *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, ATTACH_WHY, format, args);
	va_end(args);
	return err;
}

int why_errno(char *why, int err, const char *what)
{
	return why_say(why, err, "%.200s: %s", what, strerror(-err));
}

static char status_state(const char *status)
{
	const char *at = strstr(status, "\nState:");

	return at ? at[8] : 0;
}

static bool same_namespace(int pid, const char *kind)
{
	char path[64], its[64], ours[64];
	ssize_t a, b;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	a = readlink(path, its, sizeof(its));
	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	b = readlink(path, ours, sizeof(ours));
	return a < 0 || b < 0 || (a == b && memcmp(its, ours, (size_t)a) == 0);
}

/* A vfork()ed child, until it executes something, runs in its parent's memory. */
static int memory_sharer(int pid, long parent)
{
	long same = parent > 1 ? syscall(SYS_kcmp, pid, parent, KCMP_VM, 0, 0) : -1;

	return same == 0;
}

static int examine_binary(int pid, char *why)
{
	char path[64];
	Elf64_Ehdr elf = { .e_machine = EM_NONE };
	FILE *file;
	size_t nr;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	file = fopen(path, "re");
	if (!file)
		return errno == EACCES || errno == EPERM ? -EPERM : 0;
	nr = fread(&elf, 1, sizeof(elf), file);
	fclose(file);
	if (nr != sizeof(elf) || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	if (elf.e_ident[EI_CLASS] == ELFCLASS32)
		return why_say(why, -ENOTSUP, "is a 32-bit program");
	if (elf.e_machine != EM_X86_64)
		return why_say(why, -ENOTSUP, "is a program of another architecture");
	return 0;
}

static int examine_state(int pid, const char *status, char *why)
{
	char state = status_state(status);
	long tgid = process_status(status, "Tgid", pid), tracer = process_status(status, "TracerPid", 0);

	if (tgid != pid)
		return why_say(why, -EINVAL, "is a thread of process %ld: attach to that", tgid);
	if (state == 'X' || (state == 'Z' && process_status(status, "Threads", 1) <= 1))
		return why_say(why, -ESRCH, "has ended already (a zombie: its parent has not waited for it)");
	if (!strstr(status, "\nVmSize:") && state != 'Z')
		return why_say(why, -ENOTSUP, "has no memory: it is a kernel thread, or just ending");
	if (tracer)
		return why_say(why, -EBUSY, "is traced by process %ld (a debugger, strace ...): end that first",
			       tracer);
	if (state == 'T')
		return why_say(why, -EBUSY,
			       "is stopped: 'kill -CONT %ld' first; '--via kernel' moves its pages all the same",
			       (long)pid);
	return 0;
}

static int examine_world(int pid, const char *status, char *why)
{
	const char *features = strstr(status, "\nx86_Thread_features:");

	if (features && memmem(features + 1, strcspn(features + 1, "\n"), "shstk", 5))
		return why_say(why, -ENOTSUP, "runs with a shadow stack (CET): start it with 'godwit run'");
	if (!same_namespace(pid, "pid"))
		return why_say(why, -ENOTSUP,
			       "is in another PID namespace (a container): run godwit inside: nsenter -t %ld -a",
			       (long)pid);
	if (memory_sharer(pid, process_status(status, "PPid", 0)))
		return why_say(why, -EBUSY, "runs in the memory of its parent, process %ld (vfork): try again",
			       process_status(status, "PPid", 0));
	return 0;
}

int examine(int pid, char *why)
{
	char *status;
	int err;

	if (pid == getpid())
		return why_say(why, -EINVAL, "is this command itself");
	status = process_file(pid, "status", NULL);
	if (!status)
		return why_say(why, -ESRCH, "does not exist");
	err = examine_state(pid, status, why);
	if (!err)
		err = examine_world(pid, status, why);
	if (!err)
		err = examine_binary(pid, why);
	if (err == -EPERM)
		err = examine_ptrace(pid, err, why);
	free(status);
	return err;
}

int examine_ptrace(int pid, int err, char *why)
{
	char *scope = process_file(pid, "../sys/kernel/yama/ptrace_scope", NULL);
	long restricted = scope ? strtol(scope, NULL, 10) : 0;

	free(scope);
	if (err == -ESRCH)
		return why_say(why, err, "has ended");
	if (err == -EPERM && restricted && geteuid() != 0)
		return why_say(why, err, "may not be stopped: kernel.yama.ptrace_scope is %ld: run godwit as root",
			       restricted);
	if (err == -EPERM)
		return why_say(why, err, "may not be stopped: it is another user's, or protected: run godwit as root");
	return why_errno(why, err, "cannot be stopped");
}

/* SPDX-License-Identifier: MIT */
/* The last words of a programmer error, and the few lines the engine says to the program's stderr. */
#include "base/base.h"

#include <fcntl.h>
#include <string.h>

/*
 * The service thread has its own descriptors and keeps none of the program's: stderr is opened anew,
 * as the program has it now.
 */
void base_log(const char *a, const char *b)
{
	char line[256] = "godwit: ";
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	str_cat(line, sizeof(line), a);
	str_cat(line, sizeof(line), b);
	str_cat(line, sizeof(line), "\n");
	sys3(SYS_write, fd, line, strlen(line));
	sys1(SYS_close, fd);
}

_Noreturn void bug(const char *file, int line, const char *what)
{
	char where[128] = "";

	str_cat(where, sizeof(where), file);
	str_cat(where, sizeof(where), ":");
	str_cat_u64(where, sizeof(where), (uint64_t)line);
	str_cat(where, sizeof(where), ": BUG: ");
	base_log(where, what);
	for (;;)
		__builtin_trap();
}

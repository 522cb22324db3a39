/* SPDX-License-Identifier: MIT */
/* Lines of a file or a pipe, as they come. */
#ifndef GODWIT_CLI_SOURCE_H
#define GODWIT_CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SOURCE_LINE_MAX (64U << 10)

struct source {
	const char *name;
	int fd;
	bool follow;		/* the end of a file is not the end: it may grow */
	bool regular;		/* a file: poll() does not wait for it to grow */
	bool ended;
	bool shortened;		/* it was cut meanwhile, and is read from its new beginning; the reader's to reset */
	bool skipping;		/* the rest of a line that was too long */
	char *buf;
	size_t room, begin, end;
};

/* "-": standard input. 0, or CLI_FAILED after saying why not. */
int source_open(struct source *s, const char *name, bool follow);
void source_close(struct source *s);
/*
 * Read what there is, without waiting for more. 1: something came; 0: nothing yet, or the end (ended); or -errno. What
 * is read before is kept.
 */
int source_fill(struct source *s);
/*
 * The next whole line, without its end, or NULL; it is valid until the next call. At the end also one without an end.
 * *cut: it is longer than SOURCE_LINE_MAX, and this is its beginning.
 */
char *source_line(struct source *s, bool *cut);
/* All that follows, waiting for its end; it has a NUL behind it, and is the caller's. NULL: no memory. *err: cut short. */
char *source_rest(struct source *s, int *err);

#endif

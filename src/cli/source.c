/* SPDX-License-Identifier: MIT */
/*
 * Lines of a file or a pipe, as they come: in a buffer that does not grow, so that a log may be of any length.
 */
#define _GNU_SOURCE 1
#include "source.h"
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM (4 * SOURCE_LINE_MAX)

int source_open(struct source *s, const char *name, bool follow)
{
	struct stat st;

	*s = (struct source){ .name = name, .fd = STDIN_FILENO, .follow = follow, .room = ROOM };
	if (strcmp(name, "-") != 0)
		s->fd = open(name, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) != 0)
		return say_error("cannot read '%s': %s", name, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return say_error("cannot read '%s': %s", name, strerror(EISDIR));
	s->regular = S_ISREG(st.st_mode);
	s->buf = malloc(s->room + 1);
	return s->buf ? 0 : say_error("out of memory");
}

void source_close(struct source *s)
{
	if (s->fd > STDIN_FILENO)
		close(s->fd);
	free(s->buf);
	s->buf = NULL;
	s->fd = -1;
}

/* A file that is shorter than what was read of it has been begun anew. */
static bool was_shortened(const struct source *s)
{
	struct stat st;
	off_t at = lseek(s->fd, 0, SEEK_CUR);

	return s->regular && at > 0 && fstat(s->fd, &st) == 0 && st.st_size < at && lseek(s->fd, 0, SEEK_SET) == 0;
}

static void make_room(struct source *s)
{
	if (s->begin == 0)
		return;
	memmove(s->buf, s->buf + s->begin, s->end - s->begin);
	s->end -= s->begin;
	s->begin = 0;
}

int source_fill(struct source *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	ssize_t got;

	if (s->ended)
		return 0;
	make_room(s);
	if (s->end == s->room || (!s->regular && poll(&p, 1, 0) == 0))
		return 0;
	do
		got = read(s->fd, s->buf + s->end, s->room - s->end);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	s->end += (size_t)got;
	if (got == 0 && s->follow && s->regular && was_shortened(s)) {
		s->shortened = true;
		s->begin = s->end = 0;
	} else if (got == 0 && !(s->follow && s->regular)) {
		s->ended = true;
	}
	return got > 0;
}

/* What of a line was too much goes; false: it has not ended yet. */
static bool skip_rest(struct source *s)
{
	char *end = memchr(s->buf + s->begin, '\n', s->end - s->begin);

	s->begin = end ? (size_t)(end + 1 - s->buf) : s->end;
	s->skipping = !end;
	return end != NULL;
}

char *source_line(struct source *s, bool *cut)
{
	char *line, *end;
	size_t len;

	if (s->skipping && !skip_rest(s))
		return NULL;
	line = s->buf + s->begin;
	end = memchr(line, '\n', s->end - s->begin);
	len = end ? (size_t)(end - line) : s->end - s->begin;
	*cut = len > SOURCE_LINE_MAX;
	if (!end && !*cut && (!s->ended || len == 0))
		return NULL;
	s->skipping = !end && *cut;
	s->begin += len + (end != NULL);
	line[*cut ? SOURCE_LINE_MAX : len] = '\0';
	return line;
}

char *source_rest(struct source *s, int *err)
{
	size_t used = s->end - s->begin, room = 2 * s->room;
	char *text = malloc(room);

	*err = 0;
	if (text)
		memcpy(text, s->buf + s->begin, used);
	while (text && !s->ended) {
		ssize_t got = read(s->fd, text + used, room - 1 - used);
		char *more;

		if (got < 0 && errno != EINTR) {
			*err = -errno;
			break;
		}
		s->ended = got == 0;
		used += got > 0 ? (size_t)got : 0;
		if (used < room - 1)
			continue;
		room *= 2;
		more = realloc(text, room);
		if (!more)
			free(text);
		text = more;
	}
	if (text)
		text[used] = '\0';
	return text;
}

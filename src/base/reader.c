/* SPDX-License-Identifier: MIT */
/* Lines of a /proc file through a caller's buffer. */
#include "base/base.h"

#include <fcntl.h>
#include <string.h>

int reader_open(struct reader *r, const char *path, char *buf, uint32_t cap)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	*r = (struct reader){ .fd = (int)fd, .buf = buf, .cap = cap };
	return fd < 0 ? (int)fd : 0;
}

static void reader_fill(struct reader *r)
{
	long got;

	memmove(r->buf, r->buf + r->pos, r->len - r->pos);
	r->len -= r->pos;
	r->pos = 0;
	got = sys3(SYS_read, r->fd, r->buf + r->len, r->cap - 1 - r->len);
	if (got <= 0)
		r->eof = true;
	else
		r->len += (uint32_t)got;
	if (got < 0) {
		r->err = (int)got;
		r->len = 0; /* half a line is none */
	}
}

/* What is left of a line that was cut is no line. */
static void rest_skip(struct reader *r)
{
	char *nl;

	while (!(nl = memchr(r->buf, '\n', r->len)) && !r->eof) {
		r->pos = r->len;
		reader_fill(r);
	}
	r->pos = nl ? (uint32_t)(nl + 1 - r->buf) : r->len;
	r->cut = false;
}

char *reader_line(struct reader *r)
{
	if (r->cut)
		rest_skip(r);
	for (;;) {
		char *line = r->buf + r->pos;
		char *nl = memchr(line, '\n', r->len - r->pos);

		if (nl) {
			*nl = '\0';
			r->pos = (uint32_t)(nl + 1 - r->buf);
			return line;
		}
		if (r->eof || r->len - r->pos == r->cap - 1) {
			if (r->pos == r->len)
				return NULL;
			r->buf[r->len] = '\0';
			r->cut = !r->eof;
			r->pos = r->len;
			return line;
		}
		reader_fill(r);
	}
}

int reader_close(struct reader *r)
{
	sys1(SYS_close, r->fd);
	return r->err;
}

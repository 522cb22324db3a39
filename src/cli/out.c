/* SPDX-License-Identifier: MIT */
/*
 * What the command says: single lines on stderr, words for numbers, colours, JSON.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- lines ---- */

/* Texts may hold what a user or another process gave: nothing of it may break or steer the line. */
static void say_line(const char *format, va_list ap)
{
	char line[4096], clean[4096];

	vsnprintf(line, sizeof(line), format, ap);
	fprintf(stderr, "godwit: %s\n", clean_text(line, clean, sizeof(clean)));
}

int say_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say_line(format, ap);
	va_end(ap);
	return CLI_FAILED;
}

void say_note(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say_line(format, ap);
	va_end(ap);
}

static bool colours_wanted(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

const char *tone_begin(enum tone tone)
{
	static const char *const codes[] = {
		[TONE_PLAIN] = "",
		[TONE_GOOD] = "\033[32m",
		[TONE_BAD] = "\033[31m",
		[TONE_HEAD] = "\033[1m",
	};

	return colours_wanted() ? codes[tone] : "";
}

const char *tone_end(enum tone tone)
{
	return tone != TONE_PLAIN && colours_wanted() ? "\033[0m" : "";
}

/* ---------------------------------------------------------------- words ---- */

const char *errno_name(int err, char buf[ERRNO_TEXT])
{
	const char *name = strerrorname_np(err < 0 ? -err : err);

	if (name)
		return name;
	snprintf(buf, ERRNO_TEXT, "errno %d", err < 0 ? -err : err);
	return buf;
}

const char *size_text(uint64_t bytes, char buf[SIZE_TEXT])
{
	static const char units[] = "BKMGTPE";
	double size = (double)bytes;
	int unit = 0;

	for (; size >= 1024 && units[unit + 1]; unit++)
		size /= 1024;
	snprintf(buf, SIZE_TEXT, unit ? "%.1f%c" : "%.0f%c", size, units[unit]);
	return buf;
}

const char *nodes_text(gw_nodemask nodes, char buf[NODES_TEXT])
{
	size_t used = 0;

	buf[0] = '\0';
	for (int first = 0; first < GW_MAX_NODES; first++) {
		int last = first;

		if (!(nodes >> first & 1))
			continue;
		while (last + 1 < GW_MAX_NODES && (nodes >> (last + 1) & 1))
			last++;
		used += (size_t)snprintf(buf + used, NODES_TEXT - used, "%s%d", used ? "," : "", first);
		if (last > first)
			used += (size_t)snprintf(buf + used, NODES_TEXT - used, "%s%d",
						 last > first + 1 ? "-" : ",", last);
		first = last;
	}
	return buf;
}

/* C0, DEL, and C1 as UTF-8 has it. */
static bool is_control(const char *at)
{
	unsigned char ch = (unsigned char)at[0], next = (unsigned char)at[1];

	return ch < 0x20 || ch == 0x7f || (ch == 0xc2 && next >= 0x80 && next < 0xa0);
}

const char *clean_text(const char *from, char *buf, size_t len)
{
	size_t i;

	for (i = 0; from[i] != '\0' && i + 1 < len; i++)
		buf[i] = is_control(from + i) ? '?' : from[i];
	buf[i] = '\0';
	return buf;
}

/* SPDX-License-Identifier: MIT */
/*
 * Pages that cannot move while a device may write them, as far as the kernel names them: buffers that are registered
 * with io_uring, in /proc/PID/fdinfo. What else is pinned (O_DIRECT under way, RDMA, vmsplice) shows only by staying.
 */
#include "kernel/kernel.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINS_MAX 65536U

struct pins {
	struct kernel_range *range;
	uint32_t nr, room;
};

bool kernel_pin_parse(const char *line, struct kernel_range *out)
{
	uint64_t index, len;

	line += strspn(line, " ");
	if (!str_u64(&line, 10, &index) || strncmp(line, ": 0x", 4) != 0)
		return false;
	line += 4;
	if (!str_u64(&line, 16, &out->start) || *line++ != '/' || !str_u64(&line, 10, &len) || *line || !len)
		return false;
	if (__builtin_add_overflow(out->start, len, &out->end) || out->end > ~0ULL - KERNEL_PAGE)
		return false;
	out->start = ALIGN_DOWN(out->start, KERNEL_PAGE);
	out->end = ALIGN_UP(out->end, KERNEL_PAGE);
	return true;
}

static void pins_add(struct pins *pins, const struct kernel_range *range)
{
	if (pins->nr == pins->room) {
		uint32_t room = pins->room ? pins->room * 2 : 64;
		struct kernel_range *more = room > PINS_MAX ? NULL : realloc(pins->range, room * sizeof(*more));

		if (!more)
			return;
		pins->range = more;
		pins->room = room;
	}
	pins->range[pins->nr++] = *range;
}

static void read_ring(struct pins *pins, const char *path)
{
	char buf[4096];
	bool buffers = false;
	struct reader r;
	char *line;

	if (reader_open(&r, path, buf, sizeof(buf)))
		return;
	while ((line = reader_line(&r))) {
		struct kernel_range range;

		if (line[0] != ' ')
			buffers = !strncmp(line, "UserBufs:", 9);
		else if (buffers && kernel_pin_parse(line, &range))
			pins_add(pins, &range);
	}
	reader_close(&r);
}

static int by_start(const void *a, const void *b)
{
	const struct kernel_range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* One range for those that touch. */
static void merge(struct pins *pins)
{
	uint32_t last = 0;

	for (uint32_t i = 1; i < pins->nr; i++) {
		if (pins->range[i].start > pins->range[last].end)
			pins->range[++last] = pins->range[i];
		else
			pins->range[last].end = max_u64(pins->range[last].end, pins->range[i].end);
	}
	pins->nr = last + 1;
}

uint32_t kernel_pins(int pid, struct kernel_range **out)
{
	struct pins pins = { 0 };
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char name[128], link[128], target[32];
		long len;

		snprintf(link, sizeof(link), "/proc/%d/fd/%.20s", pid, entry->d_name);
		len = sys3(SYS_readlink, link, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		if (strcmp(target, "anon_inode:[io_uring]") != 0)
			continue;
		snprintf(name, sizeof(name), "/proc/%d/fdinfo/%.20s", pid, entry->d_name);
		read_ring(&pins, name);
	}
	if (dir)
		closedir(dir);
	if (pins.nr) {
		qsort(pins.range, pins.nr, sizeof(*pins.range), by_start);
		merge(&pins);
	}
	*out = pins.range;
	return pins.nr;
}

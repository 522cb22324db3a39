/* SPDX-License-Identifier: MIT */
/* A mapping as a line of numa_maps: fs/proc/task_mmu.c, show_numa_map(). */
#include "topology/text.h"
#include "topology/topology.h"

#include <string.h>

#define HUGETLB_PAGES (GW_HUGE_SIZE / GW_PAGE_SIZE)

static uint64_t count_pages(const struct gw_area *area)
{
	uint64_t pages = 0;

	for (int i = 0; i < GW_MAX_NODES; i++)
		pages += area->pages[i];
	return pages;
}

static void add_octal(struct text *t, unsigned char c)
{
	const char octal[4] = { '\\', (char)('0' + (c >> 6)), (char)('0' + (c >> 3 & 7)), (char)('0' + (c & 7)) };

	text_add_bytes(t, octal, sizeof(octal));
}

/* The kernel writes blank, tab, newline and '=' of a path in octal; the newline already was, in maps. */
static void add_path(struct text *t, const char *path, bool controls)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)path[0], next = (unsigned char)path[1];

		if (controls && c == 0xc2 && next >= 0x80 && next < 0xa0) {
			add_octal(t, c);
			add_octal(t, next);
			path++;
		} else if (c == ' ' || c == '\t' || c == '\n' || c == '=' || (controls && (c < ' ' || c == 0x7f))) {
			add_octal(t, c);
		} else {
			text_add_char(t, (char)c);
		}
	}
}

static bool is_hugetlb(const struct gw_area *area)
{
	return !strncmp(area->name, "/anon_hugepage", 14);
}

static void add_name(struct text *t, const struct gw_area *area, bool controls)
{
	if (area->name[0] == '/') {
		text_add(t, " file=");
		add_path(t, area->name, controls);
	} else if (!strcmp(area->name, "[heap]")) {
		text_add(t, " heap");
	} else if (!strncmp(area->name, "[stack", 6)) {
		text_add(t, " stack");
	}
	if (is_hugetlb(area))
		text_add(t, " huge");
}

static void add_count(struct text *t, const char *name, uint64_t count)
{
	text_add(t, name);
	text_add_u64(t, count, 0);
}

/* All that is written of memory of a program's own counts as used of late: so the kernel's active= is left out. */
static void add_pages(struct text *t, const struct gw_area *area, bool more)
{
	bool anon = area->name[0] != '/' && area->kind != 1 + GW_UNMANAGED_FILE &&
		    area->kind != 1 + GW_UNMANAGED_SHARED;
	uint64_t unit = is_hugetlb(area) ? HUGETLB_PAGES : 1, pages = count_pages(area) / unit;

	if (pages && (anon || unit > 1)) {
		add_count(t, " anon=", pages);
		add_count(t, " dirty=", pages);
	} else if (pages) {
		add_count(t, " mapped=", pages);
	}
	if (area->huge && more)
		add_count(t, " thp=", area->huge);
	if (area->swapped && more)
		add_count(t, " swapped=", area->swapped);
	for (uint64_t i = 0; i < GW_MAX_NODES; i++)
		if (area->pages[i] / unit) {
			add_count(t, " N", i);
			add_count(t, "=", area->pages[i] / unit);
		}
	if (pages)
		add_count(t, " kernelpagesize_kB=", unit * GW_PAGE_SIZE / 1024);
}

/* It may come from another process: what is none of the kernel's words is not let through. */
static void add_policy(struct text *t, const char *policy)
{
	if (!*policy)
		text_add(t, "default");
	for (; *policy; policy++)
		text_add_char(t, *policy > ' ' && *policy < 0x7f ? *policy : '?');
}

size_t topology_area_line(const struct gw_area *area, bool more, char *buf)
{
	struct text t = { .buf = buf, .cap = TOPOLOGY_LINE };

	text_add_hex(&t, area->start, 8);
	text_add_char(&t, ' ');
	add_policy(&t, area->policy);
	add_name(&t, area, more);
	add_pages(&t, area, more);
	text_add_char(&t, '\n');
	return t.len;
}

/* SPDX-License-Identifier: MIT */
/*
 * godwit maps --via kernel: /proc/PID/numa_maps as it is, or, for --json and where the kernel has no such file, from
 * its parts.
 */
#include "via.h"
#include "topology/topology.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The lines of numa_maps, read beside those of maps. */
struct beside {
	struct reader reader;
	char *buf;
	bool open, have;
	struct kernel_numa_line line;
};

struct maps {
	struct kernel_target *t;
	struct beside numa;
	bool json;
	struct gw_area area;
	bool hugetlb;
};

/* ---------------------------------------------------------------- numa_maps beside maps ---- */

static int beside_open(struct beside *b, int pid)
{
	char path[64];
	int err;

	*b = (struct beside){ .buf = malloc(KERNEL_LINE) };
	if (!b->buf)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%d/numa_maps", pid);
	err = reader_open(&b->reader, path, b->buf, KERNEL_LINE);
	b->open = !err;
	return err;
}

static void beside_close(struct beside *b)
{
	if (b->open)
		reader_close(&b->reader);
	free(b->buf);
}

/* The line of the mapping that begins at start, or NULL: it is new, or the kernel has no such file. */
static const struct kernel_numa_line *beside_find(struct beside *b, uint64_t start)
{
	while (b->open && (!b->have || b->line.start < start)) {
		const char *line = reader_line(&b->reader);

		if (!line)
			return NULL;
		b->have = kernel_numa_line_parse(line, &b->line);
	}
	return b->have && b->line.start == start ? &b->line : NULL;
}

/* ---------------------------------------------------------------- one mapping ---- */

static int count(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr)
{
	struct maps *maps = arg;

	(void)vma;
	for (uint32_t i = 0; i < nr; i++) {
		const struct kernel_unit *u = &units[i];

		if (u->node < 0) {
			maps->area.swapped += u->pages;
			continue;
		}
		maps->area.pages[u->node] += u->pages;
		maps->hugetlb = maps->hugetlb || u->kind == KERNEL_HUGETLB;
		if (u->pages == KERNEL_HUGE_PAGES && u->kind != KERNEL_HUGETLB)
			maps->area.huge += u->pages;
	}
	return 0;
}

/* Also what makes an area's line in numa_maps. */
static const char *kind_of(const struct maps *maps, const struct kernel_vma *vma, uint32_t *kind)
{
	bool file = vma->name[0] == '/';

	*kind = file ? 1 + GW_UNMANAGED_FILE : 0;
	if (maps->hugetlb)
		return "hugetlb";
	if (vma->shmem && vma->shared)
		*kind = 1 + GW_UNMANAGED_SHARED;
	if (vma->special)
		return "other";
	if (vma->shmem && vma->shared)
		return "shared";
	if (file)
		return "file";
	if (!strncmp(vma->name, "[stack", 6))
		return "stack";
	return vma->prot & PROT_WRITE ? "anon" : "readonly";
}

static int visit(void *arg, struct kernel_vma *vma)
{
	struct maps *maps = arg;
	struct gw_area *area = &maps->area;
	const struct kernel_numa_line *numa = beside_find(&maps->numa, vma->start);
	const char *kind;
	int err;

	*area = (struct gw_area){ .start = vma->start, .end = vma->end, .prot = vma->prot, .offset = vma->offset };
	maps->hugetlb = numa && numa->huge;
	snprintf(area->name, sizeof(area->name), "%s", vma->name);
	snprintf(area->policy, sizeof(area->policy), "%s", numa ? numa->policy : "default");
	err = kernel_walk_vma(maps->t, vma, KERNEL_WALK_SWAP, count, maps);
	if (err)
		return err;
	if (numa) /* the kernel's own figures */
		memcpy(area->pages, numa->pages, sizeof(area->pages));
	kind = kind_of(maps, vma, &area->kind);
	if (maps->json) {
		maps_print_json(area, kind);
	} else {
		char line[TOPOLOGY_LINE];
		size_t len = topology_area_line(area, true, line);

		fwrite(line, 1, len, stdout);
	}
	return 0;
}

/* ---------------------------------------------------------------- the file itself ---- */

/* -ENOENT: this kernel has none. */
static int copy_file(int pid)
{
	char path[64], buf[16384];
	FILE *from;
	size_t got;
	int err = 0;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", pid);
	from = fopen(path, "re");
	if (!from)
		return -errno;
	while ((got = fread(buf, 1, sizeof(buf), from)) > 0)
		fwrite(buf, 1, got, stdout);
	if (ferror(from))
		err = errno ? -errno : -EIO;
	fclose(from);
	return err;
}

int kernel_maps_run(const struct cli_args *args, struct actor *a)
{
	struct maps maps = { .t = &a->target, .json = args_has(args, OPT_JSON) };
	int err = maps.json ? -ENOENT : copy_file(a->pid);

	if (err == -ENOENT) {
		err = beside_open(&maps.numa, a->pid);
		if (err == -ENOENT)
			say_note("this kernel has no /proc/PID/numa_maps (CONFIG_NUMA): policies are not known");
		if (!err || err == -ENOENT)
			err = kernel_vmas(a->pid, visit, &maps);
		beside_close(&maps.numa);
	}
	return err ? kernel_error(&a->target, err) : CLI_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * A node's meminfo, numastat and vmstat, and a process's status: the lines and columns of Linux 6.12's
 * drivers/base/node.c and fs/proc/array.c. What the engine has no figure for is 0.
 */
#include "topology/text.h"

#include <string.h>

#define PAGE_KB 4

/* ---- meminfo ---- */

static const char *const meminfo_names[] = {
	"MemTotal",	  "MemFree",	    "MemUsed",	     "SwapCached",     "Active",	"Inactive",
	"Active(anon)",	  "Inactive(anon)", "Active(file)",  "Inactive(file)", "Unevictable",	"Mlocked",
	"Dirty",	  "Writeback",	    "FilePages",     "Mapped",	       "AnonPages",	"Shmem",
	"KernelStack",	  "PageTables",	    "SecPageTables", "NFS_Unstable",   "Bounce",	"WritebackTmp",
	"KReclaimable",	  "Slab",	    "SReclaimable",  "SUnreclaim",     "AnonHugePages", "ShmemHugePages",
	"ShmemPmdMapped", "FileHugePages",  "FilePmdMapped",
};

static uint64_t meminfo_pages(const char *name, const struct figures *f)
{
	if (!strcmp(name, "MemTotal"))
		return f->total;
	if (!strcmp(name, "MemFree"))
		return f->total > f->used ? f->total - f->used : 0;
	if (!strcmp(name, "MemUsed") || !strcmp(name, "Active") || !strcmp(name, "Active(anon)") ||
	    !strcmp(name, "AnonPages"))
		return f->used;
	return 0;
}

static void add_label(struct text *t, int node, const char *name, size_t width)
{
	size_t len = strlen(name) + 1;

	text_add(t, "Node ");
	text_add_u64(t, (uint64_t)node, 0);
	text_add_char(t, ' ');
	text_add(t, name);
	text_add_char(t, ':');
	for (; len < width; len++)
		text_add_char(t, ' ');
}

static void add_huge(struct text *t, int node, const char *name, uint64_t value)
{
	add_label(t, node, name, 16);
	text_add_u64(t, value, 6);
	text_add_char(t, '\n');
}

void text_add_meminfo(struct text *t, const struct figures *f)
{
	for (size_t i = 0; i < sizeof(meminfo_names) / sizeof(meminfo_names[0]); i++) {
		add_label(t, f->node, meminfo_names[i], 16);
		text_add_u64(t, meminfo_pages(meminfo_names[i], f) * PAGE_KB, 8);
		text_add(t, " kB\n");
	}
	add_huge(t, f->node, "HugePages_Total", f->huge_total);
	add_huge(t, f->node, "HugePages_Free", f->huge_free);
	add_huge(t, f->node, "HugePages_Surp", f->huge_surplus);
}

/* ---- numastat, vmstat ---- */

static void add_pair(struct text *t, const char *name, uint64_t value)
{
	text_add(t, name);
	text_add_char(t, ' ');
	text_add_u64(t, value, 0);
	text_add_char(t, '\n');
}

void text_add_numastat(struct text *t, const struct figures *f)
{
	add_pair(t, "numa_hit", f->hit);
	add_pair(t, "numa_miss", f->miss);
	add_pair(t, "numa_foreign", f->foreign);
	add_pair(t, "interleave_hit", f->interleave_hit);
	add_pair(t, "local_node", f->local);
	add_pair(t, "other_node", f->other);
}

static const char *const vmstat_zone[] = {
	"nr_zone_inactive_file",
	"nr_zone_active_file",
	"nr_zone_unevictable",
	"nr_zone_write_pending",
	"nr_mlock",
	"nr_bounce",
	"nr_zspages",
	"nr_free_cma",
};

static const char *const vmstat_file[] = {
	"nr_inactive_file",	   "nr_active_file",	      "nr_unevictable",		  "nr_slab_reclaimable",
	"nr_slab_unreclaimable",   "nr_isolated_anon",	      "nr_isolated_file",	  "workingset_nodes",
	"workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
	"workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim",
};

static const char *const vmstat_rest[] = {
	"nr_mapped",
	"nr_file_pages",
	"nr_dirty",
	"nr_writeback",
	"nr_writeback_temp",
	"nr_shmem",
	"nr_shmem_hugepages",
	"nr_shmem_pmdmapped",
	"nr_file_hugepages",
	"nr_file_pmdmapped",
	"nr_anon_transparent_hugepages",
	"nr_vmscan_write",
	"nr_vmscan_immediate_reclaim",
	"nr_dirtied",
	"nr_written",
	"nr_throttled_written",
	"nr_kernel_misc_reclaimable",
	"nr_foll_pin_acquired",
	"nr_foll_pin_released",
	"nr_kernel_stack",
	"nr_page_table_pages",
	"nr_sec_page_table_pages",
	"nr_iommu_pages",
	"nr_swapcached",
	"pgpromote_success",
	"pgpromote_candidate",
	"pgdemote_kswapd",
	"pgdemote_direct",
	"pgdemote_khugepaged",
};

static void add_zeros(struct text *t, const char *const *names, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		add_pair(t, names[i], 0);
}

#define ADD_ZEROS(t, names) add_zeros(t, names, sizeof(names) / sizeof((names)[0]))

void text_add_vmstat(struct text *t, const struct figures *f)
{
	add_pair(t, "nr_free_pages", meminfo_pages("MemFree", f));
	add_pair(t, "nr_zone_inactive_anon", 0);
	add_pair(t, "nr_zone_active_anon", f->used);
	ADD_ZEROS(t, vmstat_zone);
	add_pair(t, "numa_hit", f->hit);
	add_pair(t, "numa_miss", f->miss);
	add_pair(t, "numa_foreign", f->foreign);
	add_pair(t, "numa_interleave", f->interleave_hit);
	add_pair(t, "numa_local", f->local);
	add_pair(t, "numa_other", f->other);
	add_pair(t, "nr_inactive_anon", 0);
	add_pair(t, "nr_active_anon", f->used);
	ADD_ZEROS(t, vmstat_file);
	add_pair(t, "nr_anon_pages", f->used);
	ADD_ZEROS(t, vmstat_rest);
}

/* ---- status ---- */

#define WIDE 1024U

/* Bits of a map as text: four a digit. */
static uint32_t map_bits(const char *map, uint32_t least)
{
	uint32_t bits = 0;

	for (; *map && *map != '\n'; map++)
		bits += *map != ',' ? 4 : 0;
	if (bits < least)
		bits = least > 32 ? 64 : 32;
	return bits < WIDE ? bits : WIDE;
}

static void add_allowed(struct text *t, const char *map, uint64_t allowed, uint32_t nr_nodes)
{
	uint64_t bits[WIDE / 64] = { allowed };

	text_add(t, "Mems_allowed:\t");
	text_add_map(t, bits, map_bits(map, nr_nodes));
	text_add(t, "\nMems_allowed_list:\t");
	text_add_list(t, bits, 64);
	text_add_char(t, '\n');
}

void text_add_status(struct text *t, const char *status, uint64_t allowed, uint32_t nr_nodes)
{
	static const char map[] = "Mems_allowed:\t", list[] = "Mems_allowed_list:\t";
	bool any = false;

	while (*status) {
		size_t len = strcspn(status, "\n");

		len += status[len] == '\n';
		if (!strncmp(status, map, sizeof(map) - 1)) {
			add_allowed(t, status + sizeof(map) - 1, allowed, nr_nodes);
			any = true;
		} else if (strncmp(status, list, sizeof(list) - 1) != 0) {
			text_add_bytes(t, status, len);
		}
		status += len;
	}
	if (!any) /* a kernel without cpusets has no such lines, and one with four nodes has */
		add_allowed(t, "", allowed, nr_nodes);
}

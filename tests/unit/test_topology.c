/* SPDX-License-Identifier: MIT */
/* The topology as files: which paths are ours, and how lists, maps and lines are written. */
#include "unit.h"

#include "topology/text.h"
#include "topology/topology.h"

#include <stdio.h>
#include <string.h>

#define SYS "/sys/devices/system/"

/* ---- paths ---- */

static enum topology_kind kind_of(const char *path, struct topology_place *place)
{
	char canonical[TOPOLOGY_PATH];

	if (!topology_may(path) || !topology_canonical(canonical, NULL, path))
		return TOPOLOGY_NONE;
	topology_classify(canonical, place);
	return place->kind;
}

static void paths_of_the_node_tree_are_ours(void **state)
{
	static const char *const tree[] = {
		SYS "node",
		SYS "node/",
		SYS "node/online",
		SYS "node/node3",
		SYS "node/node3/cpulist",
		SYS "cpu/cpu1",
		SYS "cpu/cpu1/node1",
		SYS "cpu/cpu1/node1/cpumap",
		SYS "cpu/cpu10/",
		"/sys/bus/node/devices/node0",
		SYS "node/node0/meminfo/",
		SYS "node/node0/x/numastat",
		SYS "node/meminfo",
		SYS "node/node0x/meminfo",
	};
	struct topology_place place;

	(void)state;
	for (size_t i = 0; i < sizeof(tree) / sizeof(tree[0]); i++) {
		enum topology_kind kind = kind_of(tree[i], &place);

		/* a slash at the end makes no other file */
		if (kind != TOPOLOGY_TREE && !(kind == TOPOLOGY_MEMINFO && tree[i][strlen(tree[i]) - 1] == '/'))
			fail_msg("%s is %d", tree[i], kind);
	}
}

static void live_files_know_their_node(void **state)
{
	struct topology_place place;

	(void)state;
	assert_int_equal(kind_of(SYS "node/node12/meminfo", &place), TOPOLOGY_MEMINFO);
	assert_int_equal(place.node, 12);
	assert_int_equal(kind_of(SYS "node/node3/numastat", &place), TOPOLOGY_NUMASTAT);
	assert_int_equal(kind_of(SYS "cpu/cpu0/node2/vmstat", &place), TOPOLOGY_VMSTAT);
	assert_int_equal(place.node, 2);
	assert_int_equal(kind_of(SYS "node/node1/hugepages/hugepages-2048kB/nr_hugepages", &place), TOPOLOGY_HUGEPAGES);
	assert_int_equal(place.node, 1);
	assert_int_equal(kind_of("/sys/fs/cgroup/cpuset/cpuset.mems", &place), TOPOLOGY_CPUSET);
}

static void files_of_processes_are_ours(void **state)
{
	struct topology_place place;

	(void)state;
	assert_int_equal(kind_of("/proc/self/numa_maps", &place), TOPOLOGY_NUMA_MAPS);
	assert_int_equal(place.pid, 0);
	assert_int_equal(kind_of("/proc/thread-self/status", &place), TOPOLOGY_STATUS);
	assert_int_equal(place.pid, -1);
	assert_int_equal(kind_of("/proc/1234/task/1236/status", &place), TOPOLOGY_STATUS);
	assert_int_equal(place.pid, 1234);
	assert_int_equal(place.tid, 1236);
}

static void other_paths_are_not(void **state)
{
	static const char *const others[] = {
		"",
		"/",
		"/etc/passwd",
		"/sys",
		SYS "cpu",
		SYS "cpu/online",
		SYS "cpu/cpu0/topology/core_id",
		SYS "cpu/cpu0/nodes",
		SYS "cpufreq",
		SYS "nodes",
		SYS "node1",
		"/proc/self/maps",
		"/proc/status",
		"/proc/0/status",
		"/proc/12x/status",
		"/proc/self/task/status",
		"/proc/self/task/1/2/status",
		"/proc/self/fd/status",
		"/proc/99999999999/status",
		"/system",
		"/process/self/status",
		"/syslog",
		"/sys/fs/cgroup/cpuset/cpuset.cpus",
		"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
		"/tmp/sys/devices/system/node",
	};
	struct topology_place place;

	(void)state;
	assert_false(topology_may(NULL));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (kind_of(others[i], &place) != TOPOLOGY_NONE)
			fail_msg("%s is %d", others[i], place.kind);
}

static void a_path_has_many_spellings(void **state)
{
	static const char *const same[] = {
		"//sys/devices//system/node///node1/meminfo",
		"/./sys/./devices/system/./node/node1/./meminfo",
		"/sys/devices/system/cpu/../node/node1/meminfo",
		"/sys/../sys/devices/system/node/node0/../node1/meminfo",
		SYS "cpu/cpu0/node0/../node1/meminfo",
		"/proc/../sys/devices/system/node/node1/meminfo",
		"/sys/bus/node/devices/node0/../node1/meminfo",
	};
	char out[TOPOLOGY_PATH];

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(topology_may(same[i]));
		assert_true(topology_canonical(out, NULL, same[i]));
		assert_string_equal(out, SYS "node/node1/meminfo");
	}
	assert_true(topology_canonical(out, "/sys/devices", "system/node/../cpu"));
	assert_string_equal(out, "/sys/devices/system/cpu");
	assert_true(topology_canonical(out, "/", "../../proc/self/status"));
	assert_string_equal(out, "/proc/self/status");
}

static void a_long_path_is_refused(void **state)
{
	char path[TOPOLOGY_PATH + 20], out[TOPOLOGY_PATH];

	(void)state;
	memset(path, 'x', sizeof(path));
	memcpy(path, "/sys/", 5);
	path[sizeof(path) - 1] = '\0';
	assert_false(topology_canonical(out, NULL, path));
	path[TOPOLOGY_PATH - 1] = '\0';
	assert_true(topology_canonical(out, NULL, path));
}

static void relative_names_that_cannot_matter_cost_no_look(void **state)
{
	static const char *const may[] = {
		"meminfo", "node0",	  "node",      "node0/cpulist",	    "sys/devices/system/node/online",
		"cpu0",	   "self/status", "numa_maps", "../node1/distance", "hugepages/hugepages-2048kB/nr_hugepages",
	};
	static const char *const cannot[] = {
		"",    ".",	"..",	    "a",	 "node_modules/x.js", "nodes",	      "node0x",
		"cpu", "cpuid", "status/x", "meminfo.c", "src/main.c",	      "my_numa_maps",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++)
		if (!topology_may(may[i]))
			fail_msg("%s", may[i]);
	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++)
		if (topology_may(cannot[i]))
			fail_msg("%s", cannot[i]);
}

static void a_tree_stands_for_what_it_shows(void **state)
{
	char tree[] = "/run/user/0/godwit/topology-0123456789abcdef/sys/devices/system/node/node1";
	char other[] = "/run/user/0/godwit/topology-0123456789abcdef/etc", plain[] = SYS "node";

	(void)state;
	assert_true(topology_reverse(tree));
	assert_string_equal(tree, SYS "node/node1");
	assert_false(topology_reverse(other));
	assert_false(topology_reverse(plain));
}

/* ---- lists and maps ---- */

static const char *written(void (*add)(struct text *t, const uint64_t *bits, uint32_t nr), const uint64_t *bits,
			   uint32_t nr)
{
	static char buf[512];
	struct text t = { .buf = buf, .cap = sizeof(buf) - 1 };

	add(&t, bits, nr);
	buf[t.len] = '\0';
	return buf;
}

static void lists_are_the_kernels(void **state)
{
	uint64_t bits[16] = { 0 };

	(void)state;
	assert_string_equal(written(text_add_list, bits, 64), "");
	bits[0] = 1;
	assert_string_equal(written(text_add_list, bits, 64), "0");
	bits[0] = 0x8b;
	assert_string_equal(written(text_add_list, bits, 64), "0-1,3,7");
	bits[0] = 1ULL << 63;
	bits[1] = 3;
	assert_string_equal(written(text_add_list, bits, 128), "63-65");
}

static void maps_are_the_kernels(void **state)
{
	uint64_t bits[16] = { 3 };

	(void)state;
	assert_string_equal(written(text_add_map, bits, 2), "3");
	assert_string_equal(written(text_add_map, bits, 8), "03");
	assert_string_equal(written(text_add_map, bits, 32), "00000003");
	assert_string_equal(written(text_add_map, bits, 33), "0,00000003");
	bits[0] = 0xfedcba9812345678;
	bits[1] = 0x1f;
	assert_string_equal(written(text_add_map, bits, 64), "fedcba98,12345678");
	assert_string_equal(written(text_add_map, bits, 72), "1f,fedcba98,12345678");
	assert_string_equal(written(text_add_map, bits, 69), "1f,fedcba98,12345678");
	assert_string_equal(written(text_add_map, bits, 68), "f,fedcba98,12345678");
}

static void a_full_text_stays_within_bounds(void **state)
{
	char buf[8] = "1234567";
	struct text t = { .buf = buf, .cap = 4 };

	(void)state;
	text_add(&t, "abc");
	assert_false(t.full);
	text_add(&t, "de");
	text_add(&t, "f");
	assert_true(t.full);
	assert_int_equal(t.len, 3);
	assert_string_equal(buf, "abc4567");
}

/* ---- lines ---- */

static void assert_line(const struct gw_area *area, bool more, const char *expected)
{
	char line[TOPOLOGY_LINE + 1];
	size_t len = topology_area_line(area, more, line);

	line[len] = '\0';
	assert_string_equal(line, expected);
}

static void areas_are_lines_of_numa_maps(void **state)
{
	struct gw_area area = { .start = 0x55d0a000, .end = 0x55d0f000, .policy = "default" };

	(void)state;
	assert_line(&area, false, "55d0a000 default\n");
	area.pages[0] = 3;
	area.pages[2] = 1;
	assert_line(&area, false, "55d0a000 default anon=4 dirty=4 N0=3 N2=1 kernelpagesize_kB=4\n");
	strcpy(area.policy, "interleave=static:0,2");
	strcpy(area.name, "[heap]");
	assert_line(&area, false, "55d0a000 interleave=static:0,2 heap anon=4 dirty=4 N0=3 N2=1 kernelpagesize_kB=4\n");
	strcpy(area.name, "[stack]");
	area.policy[0] = '\0';
	assert_line(&area, false, "55d0a000 default stack anon=4 dirty=4 N0=3 N2=1 kernelpagesize_kB=4\n");
	area.start = 0x1000;
	area.kind = 1 + GW_UNMANAGED_FILE;
	strcpy(area.name, "/tmp/a b=c");
	assert_line(&area, false, "00001000 default file=/tmp/a\\040b\\075c mapped=4 N0=3 N2=1 kernelpagesize_kB=4\n");
}

static void godwits_own_fields_are_asked_for(void **state)
{
	struct gw_area area = { .start = 0x7f0000000000, .huge = 512, .swapped = 2, .policy = "bind:1" };

	(void)state;
	area.pages[1] = 514;
	assert_line(&area, false, "7f0000000000 bind:1 anon=514 dirty=514 N1=514 kernelpagesize_kB=4\n");
	assert_line(&area, true,
		    "7f0000000000 bind:1 anon=514 dirty=514 thp=512 swapped=2 N1=514 kernelpagesize_kB=4\n");
}

static void pages_of_hugetlb_count_as_the_kernel_counts_them(void **state)
{
	struct gw_area area = { .start = 0x40000000,
				.name = "/anon_hugepage (deleted)",
				.kind = 1 + GW_UNMANAGED_OTHER };

	(void)state;
	area.pages[0] = 1024;
	assert_line(&area, false,
		    "40000000 default file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N0=2 "
		    "kernelpagesize_kB=2048\n");
}

static void no_policy_steers_a_terminal(void **state)
{
	struct gw_area area = { .start = 0x40000000, .policy = "bind:\033[2J" };

	(void)state;
	assert_line(&area, true, "40000000 bind:?[2J\n");
}

static void the_longest_line_fits(void **state)
{
	static struct gw_area area;
	char line[TOPOLOGY_LINE];

	(void)state;
	memset(&area, 0xff, sizeof(area));
	area.kind = 0;
	memset(area.name, ' ', sizeof(area.name));
	area.name[0] = '/';
	area.name[sizeof(area.name) - 1] = area.policy[sizeof(area.policy) - 1] = '\0';
	for (int i = 0; i < GW_MAX_NODES; i++)
		area.pages[i] = 1ULL << 57;
	assert_int_equal(line[topology_area_line(&area, true, line) - 1], '\n');
}

/* ---- files ---- */

static char text_buf[8192];

static struct text empty_text(void)
{
	return (struct text){ .buf = memset(text_buf, 0, sizeof(text_buf)), .cap = sizeof(text_buf) - 1 };
}

static void meminfo_has_the_kernels_columns(void **state)
{
	const struct figures f = { .node = 3, .total = 256000, .used = 1000, .huge_total = 5 };
	struct text t = empty_text();

	(void)state;
	text_add_meminfo(&t, &f);
	assert_non_null(strstr(text_buf, "Node 3 MemTotal:        1024000 kB\n"
					 "Node 3 MemFree:         1020000 kB\n"
					 "Node 3 MemUsed:            4000 kB\n"));
	assert_non_null(strstr(text_buf, "\nNode 3 AnonPages:          4000 kB\n"));
	assert_non_null(strstr(text_buf, "\nNode 3 Inactive(anon):        0 kB\n"));
	assert_non_null(strstr(text_buf, "\nNode 3 HugePages_Total:     5\n"));
}

static void more_used_than_there_is_leaves_nothing_free(void **state)
{
	const struct figures f = { .total = 10, .used = 20 };
	struct text t = empty_text();

	(void)state;
	text_add_meminfo(&t, &f);
	assert_non_null(strstr(text_buf, "MemFree:               0 kB"));
}

static void numastat_and_vmstat_have_the_same_counters(void **state)
{
	const struct figures f = { .hit = 1, .miss = 2, .foreign = 3, .interleave_hit = 4, .local = 5, .other = 6 };
	struct text t = empty_text();

	(void)state;
	text_add_numastat(&t, &f);
	assert_string_equal(text_buf,
			    "numa_hit 1\nnuma_miss 2\nnuma_foreign 3\ninterleave_hit 4\nlocal_node 5\nother_node 6\n");
	t = empty_text();
	text_add_vmstat(&t, &f);
	assert_non_null(
		strstr(text_buf,
		       "\nnuma_hit 1\nnuma_miss 2\nnuma_foreign 3\nnuma_interleave 4\nnuma_local 5\nnuma_other 6\n"));
}

static void status_keeps_all_but_the_nodes(void **state)
{
	struct text t = empty_text();

	(void)state;
	text_add_status(&t, "Name:\ta\nMems_allowed:\t00000000,00000001\nMems_allowed_list:\t0\nlast:\t1\n", 0xd, 4);
	assert_string_equal(text_buf,
			    "Name:\ta\nMems_allowed:\t00000000,0000000d\nMems_allowed_list:\t0,2-3\nlast:\t1\n");
	t = empty_text();
	text_add_status(&t, "Mems_allowed:\t1\nMems_allowed_list:\t0\n", 0x1f, 5);
	assert_string_equal(text_buf, "Mems_allowed:\t0000001f\nMems_allowed_list:\t0-4\n");
	t = empty_text();
	text_add_status(&t, "Name:\ta\n", 1ULL << 40 | 1, 41);
	assert_string_equal(text_buf, "Name:\ta\nMems_allowed:\t00000100,00000001\nMems_allowed_list:\t0,40\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_of_the_node_tree_are_ours),
		cmocka_unit_test(live_files_know_their_node),
		cmocka_unit_test(files_of_processes_are_ours),
		cmocka_unit_test(other_paths_are_not),
		cmocka_unit_test(a_path_has_many_spellings),
		cmocka_unit_test(a_long_path_is_refused),
		cmocka_unit_test(relative_names_that_cannot_matter_cost_no_look),
		cmocka_unit_test(a_tree_stands_for_what_it_shows),
		cmocka_unit_test(lists_are_the_kernels),
		cmocka_unit_test(maps_are_the_kernels),
		cmocka_unit_test(a_full_text_stays_within_bounds),
		cmocka_unit_test(areas_are_lines_of_numa_maps),
		cmocka_unit_test(godwits_own_fields_are_asked_for),
		cmocka_unit_test(pages_of_hugetlb_count_as_the_kernel_counts_them),
		cmocka_unit_test(no_policy_steers_a_terminal),
		cmocka_unit_test(the_longest_line_fits),
		cmocka_unit_test(meminfo_has_the_kernels_columns),
		cmocka_unit_test(more_used_than_there_is_leaves_nothing_free),
		cmocka_unit_test(numastat_and_vmstat_have_the_same_counters),
		cmocka_unit_test(status_keeps_all_but_the_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

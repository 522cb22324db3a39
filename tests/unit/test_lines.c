/* SPDX-License-Identifier: MIT */
/* Lines of /proc as kernels 6.12 and 6.18 wrote them. */
#include "unit.h"

#include "kernel/kernel.h"

#include <string.h>
#include <sys/mman.h>

static void a_mapping_is_read_with_all_its_fields(void **state)
{
	struct kernel_vma vma;

	(void)state;
	assert_true(kernel_vma_parse("7f5b79efb000-7f5b79f21000 r-xp 00026000 00:02 1234                  "
				     "/usr/lib/x86_64-linux-gnu/libc.so.6",
				     &vma));
	assert_true(vma.start == 0x7f5b79efb000 && vma.end == 0x7f5b79f21000 && vma.offset == 0x26000);
	assert_int_equal(vma.prot, PROT_READ | PROT_EXEC);
	assert_false(vma.shared || vma.special || vma.shmem);
	assert_int_equal(vma.dev, 2);
	assert_string_equal(vma.name, "/usr/lib/x86_64-linux-gnu/libc.so.6");
}

static void shared_memory_without_a_mount_is_known_by_its_name(void **state)
{
	static const char *const names[] = { "/SYSV00000000 (deleted)", "/memfd:kinds (deleted)", "/dev/zero (deleted)",
					     "/dev/shm/x" };
	struct kernel_vma vma;
	char line[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		strcpy(line, "7f5b72200000-7f5b73200000 rw-s 00000000 00:01 3                          ");
		strcat(line, names[i]);
		assert_true(kernel_vma_parse(line, &vma));
		assert_true(vma.shmem && vma.shared);
	}
	assert_true(kernel_vma_parse("7f5b72200000-7f5b73200000 rw-s 00000000 fd:01 3 /var/memfd", &vma));
	assert_false(vma.shmem);
	assert_int_equal(vma.dev, 0xfd << 20 | 1);
}

static void what_the_kernel_maps_for_its_own_sake_is_special(void **state)
{
	struct kernel_vma vma;

	(void)state;
	assert_true(kernel_vma_parse("7ffd1c5f6000-7ffd1c5f8000 r-xp 00000000 00:00 0    [vdso]", &vma));
	assert_true(vma.special);
	assert_true(kernel_vma_parse("7ffd1c500000-7ffd1c5f8000 rw-p 00000000 00:00 0    [stack]", &vma));
	assert_false(vma.special);
	assert_true(kernel_vma_parse("55592d6b0000-55592d6d1000 rw-p 00000000 00:00 0 ", &vma));
	assert_string_equal(vma.name, "");
}

static void what_is_no_mapping_is_refused(void **state)
{
	static const char *const bad[] = { "", "7f", "1000-1000 rw-p 00000000 00:00 0 ", "2000-1000 rw-p 0 00:00 0 ",
					   "1000-2001 rw-p 0 00:00 0 ", "1000-2000 rw 0 00:00 0 ",
					   "1000-2000 rw-p x 00:00 0 ", "1000-2000 rw-p 0 0000 0 ",
					   "1000-2000 rw-p 0 00:00 ",
					   "10000000000000000-20000000000000000 rw-p 0 00:00 0 " };
	struct kernel_vma vma;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(kernel_vma_parse(bad[i], &vma));
}

static void pages_are_counted_in_units_of_4_kib(void **state)
{
	struct kernel_numa_line line;

	(void)state;
	assert_true(kernel_numa_line_parse("7f5b75c00000 default anon=16384 dirty=16384 active=0 N0=1 N1=16383 "
					   "kernelpagesize_kB=4",
					   &line));
	assert_true(line.start == 0x7f5b75c00000 && line.pages[0] == 1 && line.pages[1] == 16383 && !line.huge);
	assert_true(kernel_numa_line_parse("7f5b73200000 default file=/anon_hugepage\\040(deleted) huge anon=4 dirty=4 "
					   "N1=4 kernelpagesize_kB=2048",
					   &line));
	assert_true(line.huge && line.unit == 512 && line.pages[1] == 2048);
}

static void a_policy_may_have_a_blank_in_it(void **state)
{
	struct kernel_numa_line line;

	(void)state;
	assert_true(kernel_numa_line_parse("7f0000000000 prefer (many):0-1 anon=1 N0=1 kernelpagesize_kB=4", &line));
	assert_string_equal(line.policy, "prefer (many):0-1");
	assert_true(kernel_numa_line_parse("7f0000000000 weighted interleave:0,2 N2=7 kernelpagesize_kB=4", &line));
	assert_string_equal(line.policy, "weighted interleave:0,2");
	assert_int_equal(line.pages[2], 7);
	assert_true(kernel_numa_line_parse("7f0000000000 bind=static:0-1", &line));
	assert_string_equal(line.policy, "bind=static:0-1");
	assert_false(kernel_numa_line_parse("7f0000000000", &line));
	assert_false(kernel_numa_line_parse("x default", &line));
}

/* Names are the program's choice. */
static void a_file_that_is_called_like_a_count_counts_nothing(void **state)
{
	struct kernel_numa_line line;

	(void)state;
	assert_true(kernel_numa_line_parse("7f0000000000 default file=/tmp/N0\\075999\\040huge mapped=2 N1=2 "
					   "kernelpagesize_kB=4",
					   &line));
	assert_true(line.pages[0] == 0 && line.pages[1] == 2 && !line.huge);
}

static void a_status_tells_state_namespace_nodes_and_pins(void **state)
{
	struct kernel_status status;

	(void)state;
	assert_true(kernel_status_parse("Name:\tState: Z (odd name)\nState:\tS (sleeping)\n"
					"Uid:\t1000\t1001\t1000\t1000\nNSpid:\t4711\t7\nKthread:\t0\n"
					"VmSize:\t    2484 kB\nVmPin:\t    8192 kB\n"
					"Mems_allowed:\t00000000,0000000f\nMems_allowed_list:\t0-1,3\n",
					&status));
	assert_int_equal(status.state, 'S');
	assert_int_equal(status.uid, 1001);
	assert_int_equal(status.ns_pid, 7);
	assert_true(status.memory && !status.kthread && status.allowed == 0xb && status.pinned_bytes == 8 << 20);
	assert_true(kernel_status_parse("Name:\tkthreadd\nState:\tS (sleeping)\nKthread:\t1\n", &status));
	assert_true(status.kthread && !status.memory && status.allowed == ~0ULL);
	assert_false(kernel_status_parse("", &status));
}

static void registered_buffers_are_whole_pages(void **state)
{
	struct kernel_range range;

	(void)state;
	assert_true(kernel_pin_parse("    0: 0x7efdccc00010/8388608", &range));
	assert_true(range.start == 0x7efdccc00000 && range.end == 0x7efdcd401000);
	assert_false(kernel_pin_parse("    1: <none>", &range));
	assert_false(kernel_pin_parse("    1: 0x1000/0", &range));
	assert_false(kernel_pin_parse("    1: 0xffffffffffffffff/4096", &range));
}

static void lists_of_nodes_are_read(void **state)
{
	uint64_t nodes;
	bool beyond;

	(void)state;
	assert_true(kernel_nodes_read("0-1,3\n", &nodes, &beyond) && nodes == 0xb && !beyond);
	assert_true(kernel_nodes_read("", &nodes, &beyond) && nodes == 0);
	assert_true(kernel_nodes_read("62-65", &nodes, &beyond) && nodes == 3ULL << 62 && beyond);
	assert_false(kernel_nodes_read("1-0", &nodes, &beyond));
	assert_false(kernel_nodes_read("0;1", &nodes, &beyond));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_is_read_with_all_its_fields),
		cmocka_unit_test(shared_memory_without_a_mount_is_known_by_its_name),
		cmocka_unit_test(what_the_kernel_maps_for_its_own_sake_is_special),
		cmocka_unit_test(what_is_no_mapping_is_refused),
		cmocka_unit_test(pages_are_counted_in_units_of_4_kib),
		cmocka_unit_test(a_policy_may_have_a_blank_in_it),
		cmocka_unit_test(a_file_that_is_called_like_a_count_counts_nothing),
		cmocka_unit_test(a_status_tells_state_namespace_nodes_and_pins),
		cmocka_unit_test(registered_buffers_are_whole_pages),
		cmocka_unit_test(lists_of_nodes_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mm/mm.h"

static int host_of(const char *line)
{
	uint64_t start = 0;
	int host = 4711;

	assert_true(numa_maps_parse(line, &start, &host));
	assert_int_equal(start, 0x7fb0d2600000);
	return host;
}

static void the_only_node_of_a_mapping_is_named(void **state)
{
	(void)state;
	assert_int_equal(host_of("7fb0d2600000 default anon=8192 dirty=8192 active=0 N0=8192 kernelpagesize_kB=4"), 0);
	assert_int_equal(host_of("7fb0d2600000 prefer:1 anon=8 dirty=8 active=0 N13=8 kernelpagesize_kB=4"), 13);
	assert_int_equal(host_of("7fb0d2600000 default heap anon=2 dirty=2 N1=2 kernelpagesize_kB=4"), 1);
	assert_int_equal(host_of("7fb0d2600000 default anon=2 N1=2"), 1);
}

static void of_several_nodes_none_is_named(void **state)
{
	(void)state;
	assert_int_equal(host_of("7fb0d2600000 default anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4"), HOST_UNKNOWN);
	assert_int_equal(host_of("7fb0d2600000 default anon=3 N0=1 N1=1 N2=1 kernelpagesize_kB=4"), HOST_UNKNOWN);
}

static void without_pages_none_is_named(void **state)
{
	(void)state;
	assert_int_equal(host_of("7fb0d2600000 default"), HOST_UNKNOWN);
	assert_int_equal(host_of("7fb0d2600000 default stack"), HOST_UNKNOWN);
	assert_int_equal(host_of("7fb0d2600000 default file=/N1=2 mapmax=2"), HOST_UNKNOWN);
	assert_int_equal(host_of("7fb0d2600000 prefer:1 Nx=2 N=2 N1 N99999999=1"), HOST_UNKNOWN);
}

static void other_lines_are_none(void **state)
{
	uint64_t start;
	int host;

	(void)state;
	assert_false(numa_maps_parse("", &start, &host));
	assert_false(numa_maps_parse("7fb0d2600000", &start, &host));
	assert_false(numa_maps_parse("N0=1 default", &start, &host));
	assert_false(numa_maps_parse("7fb0d2600000-7fb0d2601000 rw-p 0 0 0", &start, &host));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_node_of_a_mapping_is_named),
		cmocka_unit_test(of_several_nodes_none_is_named),
		cmocka_unit_test(without_pages_none_is_named),
		cmocka_unit_test(other_lines_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

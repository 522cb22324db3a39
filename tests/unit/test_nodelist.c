/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/policy.h"

#include <errno.h>

static void lists_are_read_as_numactl_reads_them(void **state)
{
	static const struct {
		const char *text;
		int nr;
		uint64_t mask;
	} good[] = {
		{ "0", 1, 1 },	   { "0,2", 4, 5 },	   { "0-2", 4, 7 },   { "1-2,0", 4, 7 }, { "!1", 3, 5 },
		{ "all", 3, 7 },   { "all", 64, ~0ULL },   { "!0-1", 4, 12 }, { "63", 64, 1ULL << 63 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t mask = 0;

		assert_int_equal(nodelist_parse(good[i].text, good[i].nr, &mask), 0);
		assert_int_equal(mask, good[i].mask);
	}
}

static void what_is_no_list_is_refused(void **state)
{
	static const char *const bad[] = { "",	  ",", "0,",   "0-",  "-1",    "2-1",  "x",
					   "0 1", "!", "!all", "0x1", "1-2-3", "all,0" };
	uint64_t mask;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(nodelist_parse(bad[i], 4, &mask), -EINVAL);
}

static void a_node_that_is_not_there_is_named_so(void **state)
{
	uint64_t mask;

	(void)state;
	assert_int_equal(nodelist_parse("4", 4, &mask), -ENODEV);
	assert_int_equal(nodelist_parse("0-9", 4, &mask), -ENODEV);
	assert_int_equal(nodelist_parse("99999999999999999999", 4, &mask), -ENODEV);
}

static void a_list_that_excludes_every_node_is_refused(void **state)
{
	uint64_t mask;

	(void)state;
	assert_int_equal(nodelist_parse("!0-3", 4, &mask), -EINVAL);
}

static void the_nth_node_goes_to_the_nth_modulo(void **state)
{
	(void)state;
	assert_int_equal(nodes_relative(0x7, 0xe, 0), 1);
	assert_int_equal(nodes_relative(0x7, 0xe, 1), 2);
	assert_int_equal(nodes_relative(0x7, 0xe, 2), 3);
	assert_int_equal(nodes_relative(0x3, 0x4, 1), 2);
	assert_int_equal(nodes_relative(0x1, 0xc, 0), 2);
	assert_int_equal(nodes_relative(0x15, 0x3, 4), 0);
	assert_int_equal(nodes_relative(0x3, 0x4, 5), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_read_as_numactl_reads_them),
		cmocka_unit_test(what_is_no_list_is_refused),
		cmocka_unit_test(a_node_that_is_not_there_is_named_so),
		cmocka_unit_test(a_list_that_excludes_every_node_is_refused),
		cmocka_unit_test(the_nth_node_goes_to_the_nth_modulo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

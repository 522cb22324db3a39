/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/policy.h"

#include <errno.h>
#include <string.h>

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

static void moved(uint64_t from, uint64_t to, const char *expected)
{
	int dest[64];

	nodes_relative(from, to, dest);
	for (int n = 0; n < 64; n++)
		assert_int_equal(dest[n], n < (int)strlen(expected) && expected[n] != '.' ? expected[n] - '0' : -1);
}

static void the_nth_node_goes_to_the_nth_modulo(void **state)
{
	(void)state;
	moved(0x1, 0x2, "1");
	moved(0x7, 0x38, "345");
	moved(0x3, 0x4, "22");
	moved(0x1, 0xc, "2");
	moved(0x3, 0x1c, "23");
	moved(0x3, 0, "");
}

static void sets_of_one_size_that_overlap_shift(void **state)
{
	(void)state;
	moved(0x7, 0xe, "123");
	moved(0xe, 0x7, ".012");
	moved(0x3, 0x6, "12");
}

static void the_same_set_stays_as_it_is(void **state)
{
	(void)state;
	moved(0x3, 0x3, "");
	moved(0x5, 0x5, "");
}

static void sets_of_different_sizes_leave_what_is_there_already(void **state)
{
	(void)state;
	moved(0x3, 0x2, "1");
	moved(0x3, 0x1, ".0");
	moved(0x15, 0x3, "..1.0");
	moved(0x7, 0x3, "..0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_read_as_numactl_reads_them),
		cmocka_unit_test(what_is_no_list_is_refused),
		cmocka_unit_test(a_node_that_is_not_there_is_named_so),
		cmocka_unit_test(a_list_that_excludes_every_node_is_refused),
		cmocka_unit_test(the_nth_node_goes_to_the_nth_modulo),
		cmocka_unit_test(sets_of_one_size_that_overlap_shift),
		cmocka_unit_test(the_same_set_stays_as_it_is),
		cmocka_unit_test(the_same_set_stays_as_it_is),
		cmocka_unit_test(sets_of_different_sizes_leave_what_is_there_already),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

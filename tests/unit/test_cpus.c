/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "node/node.h"

#include <errno.h>
#include <string.h>

static struct region region;
static struct node_table table;

static int setup(void **state)
{
	(void)state;
	if (region_reserve(&region, 256 << 20, 256 << 20))
		return -1;
	node_table_init(&table, &region);
	table.nr_cpus = 8;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	region_release(&region);
	return 0;
}

static void add(const char *text)
{
	struct node_spec spec;
	size_t at;

	assert_int_equal(node_parse(text, &spec, &at), 0);
	assert_true(node_add(&table, &spec) >= 0);
}

static void has_cpus(const char *nodes)
{
	for (int cpu = 0; cpu < (int)strlen(nodes); cpu++)
		assert_int_equal(node_of_cpu(&table, cpu), nodes[cpu] - '0');
}

static void cpus_are_divided_in_even_blocks(void **state)
{
	(void)state;
	add("ram");
	has_cpus("00000000");
	add("ram");
	has_cpus("00001111");
	add("ram");
	add("ram");
	has_cpus("00112233");
}

static void with_fewer_cpus_than_nodes_the_last_are_memory_only(void **state)
{
	(void)state;
	table.nr_cpus = 2;
	for (int i = 0; i < 4; i++)
		add("ram");
	has_cpus("01");
	assert_int_equal(node_of_cpu(&table, 2), -EINVAL);
	assert_int_equal(node_of_cpu(&table, -1), -EINVAL);
}

static void a_node_may_name_its_cpus(void **state)
{
	(void)state;
	add("ram,cpus=6-7,cpus=0");
	add("ram");
	add("ram");
	has_cpus("01112200");
}

static void distances_are_from_node_0(void **state)
{
	(void)state;
	add("ram");
	add("ram,distance=15");
	add("ram,distance=40");
	assert_int_equal(node_distance(&table, 1, 1), 10);
	assert_int_equal(node_distance(&table, 0, 2), 40);
	assert_int_equal(node_distance(&table, 2, 1), 40);
	assert_int_equal(node_distance(&table, 0, 3), -ENODEV);
}

static void the_nearest_of_equals_is_the_next_one_up(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		add("ram");
	assert_int_equal(node_nearest(&table, 2, 0xf), 2);
	assert_int_equal(node_nearest(&table, 2, 0xb), 3);
	assert_int_equal(node_nearest(&table, 2, 0x3), 0);
	assert_int_equal(node_nearest(&table, 1, 0xd), 2);
	assert_int_equal(node_nearest(&table, 1, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(cpus_are_divided_in_even_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(with_fewer_cpus_than_nodes_the_last_are_memory_only, setup, teardown),
		cmocka_unit_test_setup_teardown(a_node_may_name_its_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(distances_are_from_node_0, setup, teardown),
		cmocka_unit_test_setup_teardown(the_nearest_of_equals_is_the_next_one_up, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

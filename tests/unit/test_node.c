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
	node_table_init(&table, &region);
	return region_reserve(&region, 256 << 20, 256 << 20);
}

static int teardown(void **state)
{
	(void)state;
	region_release(&region);
	return 0;
}

static void a_specification_is_read(void **state)
{
	struct node_spec s;
	size_t at;

	(void)state;
	assert_int_equal(node_parse("ram", &s, &at), 0);
	assert_int_equal(s.host, NODE_VIRTUAL);
	assert_int_equal(node_parse("ram,size=2G,host=0,name=fast-1,distance=17", &s, &at), 0);
	assert_int_equal(s.bytes, 2ULL << 30);
	assert_int_equal(s.host, 0);
	assert_int_equal(s.distance, 17);
	assert_string_equal(s.name, "fast-1");
}

static void the_bad_word_of_a_specification_is_pointed_at(void **state)
{
	static const struct {
		const char *text;
		size_t at;
	} bad[] = {
		{ "", 0 },
		{ "rom", 0 },
		{ "ram,", 4 },
		{ "ram,size=", 4 },
		{ "ram,size=1X", 4 },
		{ "ram,size=100", 4 },
		{ "ram,host=-1", 4 },
		{ "ram,size=1G,host=x", 12 },
		{ "ram,host=64", 4 },
		{ "ram,distance=9", 4 },
		{ "ram,name=", 4 },
		{ "ram,name=a b", 4 },
		{ "ram,colour=red", 4 },
		{ "ram,name=a;b", 4 },
		{ "ram,name=0123456789012345678901234567890123456789", 4 },
	};
	struct node_spec s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t at = 999;

		assert_int_equal(node_parse(bad[i].text, &s, &at), -EINVAL);
		assert_int_equal(at, bad[i].at);
	}
}

static void a_full_node_refuses_and_is_left_as_it_was(void **state)
{
	struct node_spec s = { .host = NODE_VIRTUAL, .bytes = 10 * 4096 };
	int n = node_add(&table, &s);

	(void)state;
	assert_true(node_charge(&table, n, 10));
	assert_false(node_charge(&table, n, 1));
	assert_int_equal(table.node[n].pages, 10);
	node_uncharge(&table, n, 4);
	assert_false(node_charge(&table, n, 5));
	assert_true(node_charge(&table, n, 4));
	node_charge_force(&table, n, 3);
	assert_int_equal(table.node[n].pages, 13);
}

static void a_host_node_that_does_not_exist_is_refused(void **state)
{
	struct node_spec s = { .host = 63 };

	(void)state;
	assert_int_equal(node_add(&table, &s), -ENODEV);
	assert_int_equal(table.nr, 0);
}

static void there_are_at_most_64_nodes(void **state)
{
	struct node_spec s = { .host = NODE_VIRTUAL };

	(void)state;
	for (int i = 0; i < NODE_MAX; i++)
		assert_int_equal(node_add(&table, &s), i);
	assert_int_equal(node_add(&table, &s), -ENOSPC);
}

static void virtual_nodes_share_an_arena_and_host_nodes_do_not(void **state)
{
	struct node_spec any = { .host = NODE_VIRTUAL }, host = { .host = 0 };
	struct arena *a, *b;

	(void)state;
	node_add(&table, &any);
	node_add(&table, &any);
	node_add(&table, &host);
	a = node_arena(&table, 0, ARENA_RW, false);
	assert_non_null(a);
	assert_ptr_equal(node_arena(&table, 1, ARENA_RW, false), a);
	b = node_arena(&table, 2, ARENA_RW, false);
	assert_non_null(b);
	assert_ptr_not_equal(a, b);
	assert_ptr_not_equal(node_arena(&table, 0, ARENA_RW, true), a);
	assert_int_equal(arena_start(node_arena(&table, 0, ARENA_RW, true)) % (2 << 20), 0);
}

/* Host node 0 is there on every machine; others are played by hand. */
static void bind_by_hand(int node, int host)
{
	struct node_spec any = { .host = NODE_VIRTUAL };

	assert_int_equal(node_add(&table, &any), node);
	table.node[node].spec.host = host;
}

static void a_page_counts_where_the_host_says_that_it_is(void **state)
{
	(void)state;
	bind_by_hand(0, 2);
	bind_by_hand(1, 0);
	bind_by_hand(2, 0);
	memset(table.near, NODE_MAX, sizeof(table.near));
	table.near[0] = 1;
	table.near[1] = 1; /* bound to by none: the nearest */
	table.near[2] = 0;
	assert_true(node_all_host(&table));
	assert_int_equal(node_true(&table, 0, 2), 0);
	assert_int_equal(node_true(&table, 0, 0), 1);
	assert_int_equal(node_true(&table, 2, 0), 2);
	assert_int_equal(node_true(&table, 2, 2), 0);
	assert_int_equal(node_true(&table, 0, 1), 1);
	assert_int_equal(node_true(&table, 0, -2), 0);
	assert_int_equal(nodes_to_host(&table, 1), 4);
	assert_int_equal(nodes_to_host(&table, 7), 5);
}

static void a_virtual_node_agrees_with_any_place(void **state)
{
	(void)state;
	bind_by_hand(0, 1);
	bind_by_hand(1, NODE_VIRTUAL);
	memset(table.near, NODE_MAX, sizeof(table.near));
	table.near[1] = table.near[0] = 0;
	assert_false(node_all_host(&table));
	assert_int_equal(node_true(&table, 1, 1), 1);
	assert_int_equal(node_true(&table, 1, 0), 1);
	assert_int_equal(node_true(&table, 0, 1), 0);
	assert_int_equal(node_true(&table, 0, 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_specification_is_read),
		cmocka_unit_test(the_bad_word_of_a_specification_is_pointed_at),
		cmocka_unit_test_setup_teardown(a_full_node_refuses_and_is_left_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_node_that_does_not_exist_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(there_are_at_most_64_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_page_counts_where_the_host_says_that_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_virtual_node_agrees_with_any_place, setup, teardown),
		cmocka_unit_test_setup_teardown(virtual_nodes_share_an_arena_and_host_nodes_do_not, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

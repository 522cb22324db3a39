/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mm/mm.h"

#include <string.h>
#include <unistd.h>

static struct region region;
static struct node_table nodes;
static struct mm mm;

#define PAGES(n) ((uint64_t)(n) << 12)

static int setup(void **state)
{
	struct node_spec plain = { .host = NODE_VIRTUAL }, small = { .host = NODE_VIRTUAL, .bytes = PAGES(2) };

	(void)state;
	if (region_reserve(&region, 512 << 20, 512 << 20))
		return -1;
	node_table_init(&nodes, &region);
	nodes.nr_cpus = 2;
	memset(&mm, 0, sizeof(mm));
	mm.nodes = &nodes;
	mm.region = &region;
	mm.pid = (uint32_t)getpid();
	mm.place.initial = (struct task){ .home = -1, .pol.home = -1 };
	node_add(&nodes, &plain);
	node_add(&nodes, &plain);
	node_add(&nodes, &small);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	region_release(&region);
	return 0;
}

static struct mempolicy bound(uint64_t mask)
{
	return (struct mempolicy){ .mode = MPOL_BIND, .nodes = mask, .given = 7, .home = -1 };
}

static void set(uint64_t first, uint64_t last, uint64_t mask)
{
	struct mempolicy pol = mask ? bound(mask) : (struct mempolicy){ .home = -1 };

	assert_int_equal(range_set(&mm, PAGES(first), PAGES(last), &pol), 0);
}

/* A digit a page: the mask of its policy, '.': none. */
static void ranges_are(const char *pages)
{
	for (uint64_t i = 0; i < strlen(pages); i++) {
		struct range_policy *r = range_at(&mm, PAGES(i), NULL);

		assert_int_equal(r ? '0' + (char)r->pol.nodes : '.', pages[i]);
	}
}

static void a_policy_covers_its_range_and_no_more(void **state)
{
	(void)state;
	set(2, 5, 1);
	ranges_are("..111..");
	set(3, 4, 2);
	ranges_are("..121..");
	set(0, 7, 4);
	ranges_are("4444444");
	assert_int_equal(mm.place.nr_ranges, 1);
}

static void neighbours_that_are_alike_become_one(void **state)
{
	(void)state;
	set(0, 2, 1);
	set(4, 6, 1);
	set(2, 4, 1);
	ranges_are("111111.");
	assert_int_equal(mm.place.nr_ranges, 1);
	set(2, 4, 2);
	assert_int_equal(mm.place.nr_ranges, 3);
}

static void the_default_policy_clears(void **state)
{
	(void)state;
	set(0, 6, 1);
	set(2, 3, 0);
	ranges_are("11.111.");
	range_clear(&mm, PAGES(4), PAGES(9));
	ranges_are("11.1...");
}

static void mremap_takes_policies_along(void **state)
{
	(void)state;
	set(0, 2, 1);
	set(2, 4, 2);
	set(6, 8, 4);
	range_move(&mm, PAGES(1), PAGES(6), PAGES(2), false);
	ranges_are("1..2..12.");
	range_move(&mm, PAGES(3), PAGES(4), PAGES(1), false);
	ranges_are("1...2.12.");
}

static void the_end_is_where_the_policy_changes(void **state)
{
	uint64_t end = PAGES(9);

	(void)state;
	set(2, 4, 1);
	assert_null(range_at(&mm, PAGES(0), &end));
	assert_int_equal(end, PAGES(2));
	end = PAGES(9);
	assert_non_null(range_at(&mm, PAGES(3), &end));
	assert_int_equal(end, PAGES(4));
	end = PAGES(9);
	assert_null(range_at(&mm, PAGES(5), &end));
	assert_int_equal(end, PAGES(9));
}

static int placed(uint64_t page)
{
	int node = place_page(&mm, PAGES(page), 1, NULL, HOST_UNKNOWN);

	node_charge_force(&nodes, node, 1);
	return node;
}

static void a_full_node_passes_on_to_the_nearest_unless_it_is_all_there_is(void **state)
{
	(void)state;
	set(0, 8, 4);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(placed(i), 2); /* what is there cannot be refused */
	set(0, 8, 6);
	assert_int_equal(placed(4), 1);
	assert_int_equal(place_again(&mm, PAGES(5), 1, &(struct toucher){ &mm.place.initial.pol, 0 }), 1);
	set(0, 8, 4);
	assert_int_equal(place_again(&mm, PAGES(5), 1, &(struct toucher){ &mm.place.initial.pol, 0 }), -12);
}

static void threads_have_policies_of_their_own(void **state)
{
	struct mempolicy one = bound(2), two = bound(1);

	(void)state;
	for (uint32_t tid = 1; tid < 5000; tid++)
		assert_int_equal(task_set_policy(&mm, tid, tid % 2 ? &one : &two), 0);
	for (uint32_t tid = 1; tid < 5000; tid++)
		assert_int_equal(task_of(&mm, tid)->pol.nodes, tid % 2 ? 2 : 1);
	assert_int_equal(task_of(&mm, 5000)->pol.mode, MPOL_DEFAULT);
	tasks_fork_child(&mm, 7);
	assert_int_equal(task_of(&mm, 12345)->pol.nodes, 2);
	assert_int_equal(task_of(&mm, 8)->pol.nodes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_policy_covers_its_range_and_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(neighbours_that_are_alike_become_one, setup, teardown),
		cmocka_unit_test_setup_teardown(the_default_policy_clears, setup, teardown),
		cmocka_unit_test_setup_teardown(mremap_takes_policies_along, setup, teardown),
		cmocka_unit_test_setup_teardown(the_end_is_where_the_policy_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_node_passes_on_to_the_nearest_unless_it_is_all_there_is, setup,
						teardown),
		cmocka_unit_test_setup_teardown(threads_have_policies_of_their_own, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

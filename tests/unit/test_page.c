/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mm/mm.h"

#include <errno.h>
#include <string.h>

#define BASE 0x7f1200000000UL

static struct region region;
static struct node_table nodes;
static struct mm mm;

static int setup(void **state)
{
	struct node_spec s = { .host = NODE_VIRTUAL };

	(void)state;
	memset(&mm, 0, sizeof(mm));
	node_table_init(&nodes, &region);
	node_add(&nodes, &s);
	node_add(&nodes, &s);
	return region_reserve(&region, 256 << 20, 256 << 20) || mm_init(&mm, NULL, &nodes, &region);
}

static int teardown(void **state)
{
	(void)state;
	region_release(&region);
	return 0;
}

static void a_page_is_found_at_its_address_only(void **state)
{
	struct page *page;

	(void)state;
	assert_null(page_find(&mm.pt, BASE));
	page = page_enter(&mm, BASE + 5 * PAGE_SIZE_, 0, 0);
	assert_non_null(page);
	assert_ptr_equal(page_find(&mm.pt, BASE + 5 * PAGE_SIZE_), page);
	assert_false(page_find(&mm.pt, BASE)->flags & PG_PRESENT);
	assert_int_equal(page_addr(&mm.pt, page), BASE + 5 * PAGE_SIZE_);
	assert_int_equal(nodes.node[0].pages, 1);
}

static void a_huge_page_stands_for_its_whole_leaf(void **state)
{
	struct page *page = page_enter(&mm, BASE, 1, PG_HUGE);

	(void)state;
	assert_ptr_equal(page_find(&mm.pt, BASE + 300 * PAGE_SIZE_), page);
	assert_int_equal(nodes.node[1].pages, 512);
	assert_int_equal(mm.lru[1].nr, 512);
	range_gone(&mm, BASE, BASE + HUGE_SIZE_);
	assert_null(page_find(&mm.pt, BASE));
	assert_int_equal(nodes.node[1].pages, 0);
}

static void a_huge_page_that_loses_a_part_becomes_small_ones_on_its_node(void **state)
{
	(void)state;
	page_enter(&mm, BASE, 1, PG_HUGE);
	range_gone(&mm, BASE + PAGE_SIZE_, BASE + 3 * PAGE_SIZE_);
	assert_int_equal(nodes.node[1].pages, 510);
	assert_int_equal(mm.lru[1].nr, 510);
	assert_true(page_find(&mm.pt, BASE)->flags & PG_PRESENT);
	assert_false(page_find(&mm.pt, BASE + PAGE_SIZE_)->flags & PG_PRESENT);
	assert_int_equal(page_find(&mm.pt, BASE + 511 * PAGE_SIZE_)->node, 1);
}

static void the_books_of_memory_that_went_are_used_again(void **state)
{
	uint32_t leaves;

	(void)state;
	for (int i = 0; i < 100; i++)
		page_enter(&mm, BASE + (uint64_t)i * HUGE_SIZE_, 0, 0);
	leaves = mm.pt.nr_leaves;
	range_gone(&mm, BASE, BASE + 100 * HUGE_SIZE_);
	for (int i = 0; i < 100; i++)
		page_enter(&mm, BASE + 0x4000000000 + (uint64_t)i * HUGE_SIZE_, 0, 0);
	assert_int_equal(mm.pt.nr_leaves, leaves);
	assert_int_equal(mm.pt.present, 100);
}

static void an_isolated_page_is_on_no_list_of_a_node(void **state)
{
	struct page_list list = { 0 };
	struct page *a = page_enter(&mm, BASE, 0, 0), *b = page_enter(&mm, BASE + PAGE_SIZE_, 0, 0);

	(void)state;
	assert_int_equal(isolate_lru_page(&mm, a, &list), 0);
	assert_int_equal(isolate_lru_page(&mm, a, &list), -EBUSY);
	assert_int_equal(mm.lru[0].nr, 1);
	assert_int_equal(list.nr, 1);
	assert_ptr_equal(page_by_id(&mm.pt, mm.lru[0].head), b);
	putback_lru_pages(&mm, &list);
	assert_int_equal(mm.lru[0].nr, 2);
	assert_int_equal(list.nr, 0);
}

static void a_page_that_goes_while_isolated_is_freed_by_its_putback(void **state)
{
	struct page_list list = { 0 };
	struct page *page = page_enter(&mm, BASE, 0, 0);

	(void)state;
	isolate_lru_page(&mm, page, &list);
	range_gone(&mm, BASE, BASE + PAGE_SIZE_);
	assert_int_equal(nodes.node[0].pages, 0);
	assert_ptr_equal(page_find(&mm.pt, BASE), page);
	putback_lru_pages(&mm, &list);
	assert_null(page_find(&mm.pt, BASE));
	assert_int_equal(mm.lru[0].nr, 0);
}

static void a_page_goes_to_the_node_where_the_host_says_it_is(void **state)
{
	struct page *page = page_enter(&mm, BASE, 0, 0), *huge = page_enter(&mm, BASE + HUGE_SIZE_, 1, PG_HUGE);

	(void)state;
	nodes.node[0].spec.host = 4;
	nodes.node[1].spec.host = 6;
	nodes.near[4] = 0;
	nodes.near[6] = 1;
	page_seen(&mm, page, 4);
	page_seen(&mm, huge, HOST_UNKNOWN);
	assert_int_equal(nodes.node[0].pages, 1);
	assert_int_equal(nodes.node[1].pages, 512);
	page_seen(&mm, page, 6);
	page_seen(&mm, huge, 4);
	assert_int_equal(page->node, 1);
	assert_int_equal(huge->node, 0);
	assert_int_equal(nodes.node[0].pages, 512);
	assert_int_equal(nodes.node[1].pages, 1);
	assert_int_equal(mm.lru[0].nr, 512);
	assert_int_equal(mm.lru[1].nr, 1);
}

static void sixteen_bytes_are_enough_for_a_page(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct page), 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_page_is_found_at_its_address_only, setup, teardown),
		cmocka_unit_test_setup_teardown(a_huge_page_stands_for_its_whole_leaf, setup, teardown),
		cmocka_unit_test_setup_teardown(a_huge_page_that_loses_a_part_becomes_small_ones_on_its_node, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_books_of_memory_that_went_are_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(an_isolated_page_is_on_no_list_of_a_node, setup, teardown),
		cmocka_unit_test_setup_teardown(a_page_that_goes_while_isolated_is_freed_by_its_putback, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_page_goes_to_the_node_where_the_host_says_it_is, setup,
						teardown),
		cmocka_unit_test(sixteen_bytes_are_enough_for_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

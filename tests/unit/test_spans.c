/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "kernel/spans.h"

static struct kernel_unit unit(uint64_t addr, uint32_t pages, int to)
{
	return (struct kernel_unit){ .addr = addr, .pages = pages, .to = (int8_t)to };
}

static void add(struct spans *s, uint64_t addr, uint32_t pages, int to)
{
	struct kernel_unit u = unit(addr, pages, to);

	assert_int_equal(spans_add(s, &u), 0);
}

static void neighbours_that_go_to_one_node_are_one_span(void **state)
{
	struct spans s = { .sorted = true };

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		add(&s, 0x10000 + i * KERNEL_PAGE, 1, i < 600 ? 1 : 2);
	assert_int_equal(s.nr, 2);
	assert_int_equal(s.pages, 1000);
	assert_int_equal(spans_to(&s, 0x10000), 1);
	assert_int_equal(spans_to(&s, 0x10000 + 599 * KERNEL_PAGE), 1);
	assert_int_equal(spans_to(&s, 0x10000 + 600 * KERNEL_PAGE), 2);
	assert_int_equal(spans_to(&s, 0x10000 + 1000 * KERNEL_PAGE), -1);
	assert_int_equal(spans_to(&s, 0xf000), -1);
	spans_free(&s);
}

static void a_page_is_found_whatever_the_order_of_adding(void **state)
{
	struct spans s = { .sorted = true };

	(void)state;
	for (uint64_t i = 0; i < 5000; i++)
		add(&s, (i * 7919 % 5000) * 2 * KERNEL_PAGE, 1, (int)(i * 7919 % 5000 % 64));
	spans_sort(&s);
	for (uint64_t i = 0; i < 5000; i++) {
		assert_int_equal(spans_to(&s, i * 2 * KERNEL_PAGE), (int)(i % 64));
		assert_int_equal(spans_to(&s, (i * 2 + 1) * KERNEL_PAGE), -1);
	}
	spans_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_that_go_to_one_node_are_one_span),
		cmocka_unit_test(a_page_is_found_whatever_the_order_of_adding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

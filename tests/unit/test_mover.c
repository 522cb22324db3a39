/* SPDX-License-Identifier: MIT */
/* What the kernel's answer to one call of move_pages(2) means, page by page. */
#include "unit.h"

#include "kernel/kernel.h"

#include <errno.h>

#define U KERNEL_UNTOLD
#define T KERNEL_TRIED

static void judge(const int32_t *status, uint32_t nr, long ret, const int32_t *want)
{
	int32_t verdict[16];

	kernel_verdicts(status, nr, ret, verdict);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(verdict[i], want[i]);
}

static void a_call_that_succeeds_tells_of_every_page(void **state)
{
	const int32_t status[] = { 1, 1, -ENOENT, 1 };

	(void)state;
	judge(status, 4, 0, status);
}

/* The last group failed: it was tried, and nobody says which of it moved. */
static void what_is_untold_at_the_end_was_tried(void **state)
{
	const int32_t status[] = { 1, 1, -EACCES, U, U }, want[] = { 1, 1, -EACCES, T, T };
	const int32_t none[] = { U, U, U }, all[] = { T, T, T };

	(void)state;
	judge(status, 5, 1, want);
	judge(none, 3, 2, all);
	judge(none, 3, -ENOMEM, all);
}

/* A group fails when it is moved for a page that could not be queued: what comes behind that was not looked at. */
static void what_stands_behind_a_group_that_failed_was_not_tried(void **state)
{
	const int32_t status[] = { 1, -EACCES, U, U, -EACCES, U, U, U };
	const int32_t want[] = { 1, -EACCES, T, T, -EACCES, U, U, U };
	const int32_t there[] = { U, 1, U }, then[] = { T, 1, U };

	(void)state;
	judge(status, 8, 5, want);
	judge(there, 3, 2, then);
}

/* Every call tries something, or the same would be asked for ever. */
static void something_is_always_tried_or_told(void **state)
{
	int32_t status[5], verdict[5];

	(void)state;
	for (int mask = 0; mask < 32; mask++)
		for (long ret = 0; ret < 6; ret++) {
			int progress = 0;

			for (int i = 0; i < 5; i++)
				status[i] = mask >> i & 1 ? -EACCES : U;
			kernel_verdicts(status, 5, ret, verdict);
			for (int i = 0; i < 5; i++)
				progress += verdict[i] != U;
			assert_true(progress > 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_that_succeeds_tells_of_every_page),
		cmocka_unit_test(what_is_untold_at_the_end_was_tried),
		cmocka_unit_test(what_stands_behind_a_group_that_failed_was_not_tried),
		cmocka_unit_test(something_is_always_tried_or_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

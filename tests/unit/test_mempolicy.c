/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/base.h"
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

static struct mempolicy make(uint32_t mode, uint32_t flags, uint64_t given, uint64_t allowed)
{
	struct nodes_given nodes = { .nodes = given };
	struct mempolicy pol;

	assert_int_equal(mpol_new(&pol, mode, flags, &nodes), 0);
	assert_int_equal(mpol_set_nodemask(&pol, given, allowed), 0);
	return pol;
}

static void the_mode_argument_has_a_mode_and_flags_that_go_together(void **state)
{
	uint32_t mode, flags;

	(void)state;
	assert_int_equal(mpol_mode(MPOL_BIND | MPOL_F_STATIC_NODES, &mode, &flags), 0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(flags, MPOL_F_STATIC_NODES);
	assert_int_equal(mpol_mode(MPOL_MAX, &mode, &flags), -EINVAL);
	assert_int_equal(mpol_mode(MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, &mode, &flags), -EINVAL);
	assert_int_equal(mpol_mode(MPOL_INTERLEAVE | MPOL_F_NUMA_BALANCING, &mode, &flags), -EINVAL);
	assert_int_equal(mpol_mode(MPOL_BIND | MPOL_F_NUMA_BALANCING, &mode, &flags), 0);
}

static void modes_with_nodes_need_some_and_modes_without_take_none(void **state)
{
	struct nodes_given none = { 0 }, one = { .nodes = 1 }, beyond = { .beyond = true };
	struct mempolicy pol;

	(void)state;
	assert_int_equal(mpol_new(&pol, MPOL_BIND, 0, &none), -EINVAL);
	assert_int_equal(mpol_new(&pol, MPOL_DEFAULT, 0, &one), -EINVAL);
	assert_int_equal(mpol_new(&pol, MPOL_DEFAULT, 0, &beyond), -EINVAL);
	assert_int_equal(mpol_new(&pol, MPOL_LOCAL, 0, &one), -EINVAL);
	assert_int_equal(mpol_new(&pol, MPOL_PREFERRED, MPOL_F_STATIC_NODES, &none), -EINVAL);
	assert_int_equal(mpol_new(&pol, MPOL_PREFERRED, 0, &none), 0);
	assert_int_equal(pol.mode, MPOL_LOCAL);
	assert_int_equal(mpol_new(&pol, MPOL_BIND, 0, &beyond), 0);
	assert_int_equal(mpol_set_nodemask(&pol, 0, 0xf), -EINVAL);
}

static void relative_nodes_count_within_those_that_are_allowed(void **state)
{
	struct mempolicy pol = make(MPOL_BIND, MPOL_F_RELATIVE_NODES, 0x5, 0xa);

	(void)state;
	assert_int_equal(pol.nodes, 0x2); /* the first, and the third, which is the first again */
	assert_int_equal(mpol_shown_nodes(&pol), 0x5);
	mpol_rebind(&pol, 0x7);
	assert_int_equal(pol.nodes, 0x5);
}

static void other_nodes_keep_their_rank_and_static_ones_their_numbers(void **state)
{
	struct mempolicy plain = make(MPOL_INTERLEAVE, 0, 0x3, 0xf),
			 fixed = make(MPOL_BIND, MPOL_F_STATIC_NODES, 0x6, 0xf);

	(void)state;
	mpol_rebind(&plain, 0xc);
	assert_int_equal(plain.nodes, 0xc);
	mpol_rebind(&fixed, 0x3);
	assert_int_equal(fixed.nodes, 0x2);
	mpol_rebind(&fixed, 0x1); /* none of them is left */
	assert_int_equal(fixed.nodes, 0x1);
	mpol_rebind(&fixed, 0xf);
	assert_int_equal(fixed.nodes, 0x6);
}

static void interleaving_goes_round_by_index(void **state)
{
	struct mempolicy pol = make(MPOL_INTERLEAVE, 0, 0xb, 0xf);
	static const int expected[] = { 0, 1, 3, 0, 1, 3 };

	(void)state;
	for (uint64_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(mpol_choose(&pol, NULL, 2, i).near, expected[i]);
}

static void weighted_interleaving_stays_as_long_as_a_node_weighs(void **state)
{
	struct mempolicy pol = make(MPOL_WEIGHTED_INTERLEAVE, 0, 0x5, 0xf);
	static const uint8_t weight[64] = { 2, 9, 3 };
	static const int expected[] = { 0, 0, 2, 2, 2, 0, 0, 2 };

	(void)state;
	for (uint64_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(mpol_choose(&pol, weight, 1, i).near, expected[i]);
}

static void only_bind_is_strict_and_a_home_goes_before_the_cpu(void **state)
{
	struct mempolicy bind = make(MPOL_BIND, 0, 0x6, 0xf), many = make(MPOL_PREFERRED_MANY, 0, 0x6, 0xf);
	struct mpol_choice c = mpol_choose(&bind, NULL, 3, 0);

	(void)state;
	assert_true(c.strict);
	assert_int_equal(c.near, 3);
	assert_int_equal(c.nodes, 0x6);
	many.home = 2;
	c = mpol_choose(&many, NULL, 3, 0);
	assert_false(c.strict);
	assert_int_equal(c.near, 2);
}

static void a_policy_reads_as_in_numa_maps(void **state)
{
	static const struct {
		uint32_t mode, flags;
		uint64_t nodes;
		const char *text;
	} cases[] = {
		{ MPOL_DEFAULT, 0, 0, "default" },
		{ MPOL_LOCAL, 0, 0, "local" },
		{ MPOL_PREFERRED, 0, 0x4, "prefer:2" },
		{ MPOL_BIND, MPOL_F_STATIC_NODES, 0x7, "bind=static:0-2" },
		{ MPOL_INTERLEAVE, MPOL_F_RELATIVE_NODES, 0xb, "interleave=relative:0-1,3" },
		{ MPOL_PREFERRED_MANY, 0, 0x5, "prefer (many):0,2" },
		{ MPOL_WEIGHTED_INTERLEAVE, 0, 1ULL << 63, "weighted interleave:63" },
		{ MPOL_BIND, MPOL_F_STATIC_NODES | MPOL_F_NUMA_BALANCING, 0x1, "bind=static|balancing:0" },
	};
	char text[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct mempolicy pol = make(cases[i].mode, cases[i].flags, cases[i].nodes, ~0ULL);

		mpol_text(&pol, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void a_text_that_is_too_long_is_cut(void **state)
{
	struct mempolicy pol = make(MPOL_INTERLEAVE, 0, 0x5555555555555555, ~0ULL);
	char text[20];

	(void)state;
	mpol_text(&pol, text, sizeof(text));
	assert_string_equal(text, "interleave:0,2,4,6,");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mode_argument_has_a_mode_and_flags_that_go_together),
		cmocka_unit_test(modes_with_nodes_need_some_and_modes_without_take_none),
		cmocka_unit_test(relative_nodes_count_within_those_that_are_allowed),
		cmocka_unit_test(other_nodes_keep_their_rank_and_static_ones_their_numbers),
		cmocka_unit_test(interleaving_goes_round_by_index),
		cmocka_unit_test(weighted_interleaving_stays_as_long_as_a_node_weighs),
		cmocka_unit_test(only_bind_is_strict_and_a_home_goes_before_the_cpu),
		cmocka_unit_test(a_policy_reads_as_in_numa_maps),
		cmocka_unit_test(a_text_that_is_too_long_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

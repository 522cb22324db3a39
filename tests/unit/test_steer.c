/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/policy.h"

/* A machine in which a window is base + nr * page ns long, and a page costs so much in each form. */
struct machine {
	uint64_t base, page;
	uint64_t plain_cost, transactional_cost;
};

/* Returns the batch size that it settles on, and the form most used at the end. */
static uint32_t settle(struct steer *s, const struct machine *m, enum form *form)
{
	uint32_t nr = 0, used[FORMS] = { 0 };

	for (int i = 0; i < 2000; i++) {
		enum form f = steer_next(s, &nr);
		uint64_t cost = f == FORM_PLAIN ? m->plain_cost : m->transactional_cost;
		uint64_t noise = (uint64_t)(i * 7919 % 11) * m->base / 100;

		steer_learn(s, f, nr, m->base + nr * m->page + noise, m->base + nr * cost);
		used[f]++;
	}
	*form = used[FORM_TRANSACTIONAL] > used[FORM_PLAIN] ? FORM_TRANSACTIONAL : FORM_PLAIN;
	return s->form[*form].batch;
}

static void a_batch_grows_to_its_limit_when_the_bound_allows(void **state)
{
	struct machine m = { .base = 5000, .page = 300, .plain_cost = 350, .transactional_cost = 500 };
	enum form form;
	struct steer s;

	(void)state;
	steer_init(&s, 50000, 64, -1, false);
	assert_int_equal(settle(&s, &m, &form), 64);
	assert_int_equal(form, FORM_PLAIN);
}

static void the_window_stays_below_the_bound(void **state)
{
	struct machine m = { .base = 3000, .page = 300, .plain_cost = 350, .transactional_cost = 500 };
	enum form form;
	struct steer s;
	uint32_t nr;

	(void)state;
	steer_init(&s, 10000, 512, -1, false);
	nr = settle(&s, &m, &form);
	assert_in_range(m.base + nr * m.page, 6000, 10000);
}

static void the_cheaper_form_is_used(void **state)
{
	struct machine m = { .base = 3000, .page = 300, .plain_cost = 500, .transactional_cost = 350 };
	enum form form;
	struct steer s;

	(void)state;
	steer_init(&s, 50000, 64, -1, false);
	settle(&s, &m, &form);
	assert_int_equal(form, FORM_TRANSACTIONAL);
}

static void a_fixed_form_and_batch_are_kept(void **state)
{
	struct machine m = { .base = 3000, .page = 3000, .plain_cost = 100, .transactional_cost = 500 };
	enum form form;
	struct steer s;

	(void)state;
	steer_init(&s, 10000, 33, FORM_TRANSACTIONAL, true);
	assert_int_equal(settle(&s, &m, &form), 33);
	assert_int_equal(form, FORM_TRANSACTIONAL);
}

static void a_window_that_the_scheduler_made_long_changes_nothing(void **state)
{
	struct machine m = { .base = 5000, .page = 300, .plain_cost = 350, .transactional_cost = 500 };
	enum form form;
	struct steer s;
	uint32_t before;

	(void)state;
	steer_init(&s, 50000, 64, FORM_PLAIN, false);
	before = settle(&s, &m, &form);
	steer_learn(&s, FORM_PLAIN, before, 4000000, 4000000);
	assert_int_equal(s.form[FORM_PLAIN].batch, before);
}

/* As the kernel's calls begin where a page may take as long as the bound. */
static void the_usual_window_is_known_after_the_first_and_holds_nearly_all(void **state)
{
	struct machine m = { .base = 20000, .page = 300, .plain_cost = 350, .transactional_cost = 500 };
	enum form form;
	struct steer s;
	uint64_t most;

	(void)state;
	steer_init(&s, 0, 64, FORM_PLAIN, true);
	assert_int_equal(steer_usual(&s, FORM_PLAIN), 0);
	settle(&s, &m, &form);
	most = m.base + 64 * m.page + m.base / 10; /* noise is a tenth at most */
	assert_in_range(steer_usual(&s, FORM_PLAIN), most, most + m.base);
	assert_int_equal(steer_usual(&s, FORM_TRANSACTIONAL), 0);
}

static void a_first_batch_of_one_grows_to_what_the_bound_allows(void **state)
{
	struct machine m = { .base = 50000, .page = 2000, .plain_cost = 2000, .transactional_cost = 2000 };
	enum form form;
	struct steer s;
	uint32_t nr;

	(void)state;
	steer_init(&s, 1000000, 512, FORM_PLAIN, false);
	s.form[FORM_PLAIN].batch = 1;
	steer_next(&s, &nr);
	assert_int_equal(nr, 1);
	nr = settle(&s, &m, &form);
	assert_in_range(m.base + nr * m.page, 600000, 1000000);
}

/* A huge page cannot be made smaller: then the form with the shorter window is right. */
static void when_no_form_fits_the_shorter_window_wins(void **state)
{
	struct steer s;
	uint32_t nr, transactional = 0;

	(void)state;
	steer_init(&s, 10000, 1, -1, true);
	for (int i = 0; i < 1000; i++) {
		enum form f = steer_next(&s, &nr);

		assert_int_equal(nr, 1);
		steer_learn(&s, f, nr, f == FORM_PLAIN ? 100000 : 40000, f == FORM_PLAIN ? 100000 : 140000);
		transactional += f == FORM_TRANSACTIONAL;
	}
	assert_true(transactional > 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_grows_to_its_limit_when_the_bound_allows),
		cmocka_unit_test(the_window_stays_below_the_bound),
		cmocka_unit_test(the_cheaper_form_is_used),
		cmocka_unit_test(a_fixed_form_and_batch_are_kept),
		cmocka_unit_test(a_window_that_the_scheduler_made_long_changes_nothing),
		cmocka_unit_test(the_usual_window_is_known_after_the_first_and_holds_nearly_all),
		cmocka_unit_test(a_first_batch_of_one_grows_to_what_the_bound_allows),
		cmocka_unit_test(when_no_form_fits_the_shorter_window_wins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Batches are steered by what was measured: the window grows with the batch, the cost of a page
 * falls with it, and which form is cheaper depends on the page size and on the writers. What nearly
 * all windows stay below is taken to be the mean and four mean deviations (as TCP does for round
 * trips: V. Jacobson, Congestion Avoidance and Control, 1988). A window much longer than usual was the
 * scheduler's doing, not the batch's, and teaches nothing about its size.
 */
#include "policy/policy.h"

#define BATCH_FIRST 16U
#define TRIAL 4U		/* batches in a row when a form is tried */
#define WARM_UP 32U		/* batches before the first trial: until the batch has grown */
#define TRIAL_EVERY 128U	/* batches between two trials of the form that is not in use */
#define OUTLIER 6U		/* times the usual window */
#define OUTLIERS_MOST 8U	/* in a row: then this is how it is now */

void steer_init(struct steer *s, uint64_t bound_ns, uint32_t most, int fixed, bool keep)
{
	*s = (struct steer){ .bound = bound_ns, .most = most, .fixed = fixed, .keep = keep };
	for (int f = 0; f < FORMS; f++)
		s->form[f].batch = keep || most < BATCH_FIRST ? most : BATCH_FIRST;
}

static uint64_t nearly_all(const struct form_record *r)
{
	return r->window + 4 * r->deviation;
}

uint64_t steer_usual(const struct steer *s, enum form form)
{
	return s->form[form].runs ? nearly_all(&s->form[form]) : 0;
}

/* A form that can still take smaller batches will fit. */
static bool fits(const struct steer *s, const struct form_record *r)
{
	return !s->bound || (r->batch > 1 && !s->keep) || nearly_all(r) <= s->bound;
}

/* Among the forms within the bound the cheaper one; if none is, the one with the shorter window. */
static enum form better(const struct steer *s)
{
	const struct form_record *p = &s->form[FORM_PLAIN], *t = &s->form[FORM_TRANSACTIONAL];

	if (fits(s, p) && fits(s, t))
		return t->cost < p->cost ? FORM_TRANSACTIONAL : FORM_PLAIN;
	if (fits(s, p) != fits(s, t))
		return fits(s, t) ? FORM_TRANSACTIONAL : FORM_PLAIN;
	return t->window < p->window ? FORM_TRANSACTIONAL : FORM_PLAIN;
}

/* The form that is not in use has its turn with the batch of the one that is: a page costs less in a large one. */
static enum form trial(struct steer *s, bool begins)
{
	enum form used = s->turn <= WARM_UP + TRIAL ? FORM_PLAIN : better(s), other = used == FORM_PLAIN;

	if (begins && s->form[other].batch < s->form[used].batch)
		s->form[other].batch = s->form[used].batch;
	return other;
}

enum form steer_next(struct steer *s, uint32_t *nr)
{
	uint32_t turn = s->turn++;
	enum form f;

	if (s->fixed >= 0)
		f = (enum form)s->fixed;
	else if (turn < WARM_UP)
		f = FORM_PLAIN;
	else if ((turn - WARM_UP) % TRIAL_EVERY < TRIAL)
		f = trial(s, (turn - WARM_UP) % TRIAL_EVERY == 0);
	else
		f = better(s);
	*nr = s->form[f].batch;
	return f;
}

static uint64_t smooth(uint64_t old, uint64_t now, uint32_t runs)
{
	return runs ? old - old / 8 + now / 8 : now;
}

static void resize(const struct steer *s, struct form_record *r, uint32_t nr)
{
	if (s->bound && nearly_all(r) > s->bound)
		r->batch -= r->batch > 1 ? (r->batch + 15) / 16 : 0;
	else if (nr >= r->batch && (!s->bound || nearly_all(r) < s->bound - s->bound / 4))
		r->batch += (r->batch + 7) / 8;
	if (r->batch > s->most)
		r->batch = s->most;
}

void steer_learn(struct steer *s, enum form form, uint32_t nr, uint64_t window_ns, uint64_t all_ns)
{
	struct form_record *r = &s->form[form];
	uint64_t off = window_ns > r->window ? window_ns - r->window : r->window - window_ns;

	if (!nr)
		return;
	if (r->runs >= TRIAL && window_ns > OUTLIER * r->window && r->outliers++ < OUTLIERS_MOST)
		return;
	r->outliers = 0;
	r->cost = smooth(r->cost, all_ns / nr, r->runs);
	r->deviation = smooth(r->deviation, r->runs ? off : window_ns / 8, r->runs);
	r->window = smooth(r->window, window_ns, r->runs);
	r->runs++;
	if (!s->keep)
		resize(s, r, nr);
}

/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- hist.c ---- */

static void a_percentile_is_at_most_a_sixteenth_too_high(void **state)
{
	static struct hist h;

	(void)state;
	for (uint64_t ns = 1; ns <= 100000; ns++)
		hist_add(&h, ns);
	assert_in_range(hist_at(&h, 500), 50000, 50000 * 17 / 16);
	assert_in_range(hist_at(&h, 990), 99000, 99000 * 17 / 16);
	assert_int_equal(h.max, 100000);
	assert_int_equal(hist_at(&h, 1000), 100000);
}

static void a_histogram_of_nothing_says_nothing(void **state)
{
	static struct hist h;

	(void)state;
	assert_int_equal(hist_at(&h, 999), 0);
}

static void very_long_times_are_kept(void **state)
{
	static struct hist h;

	(void)state;
	hist_add(&h, 1ULL << 62);
	assert_int_equal(hist_at(&h, 500), 1ULL << 62);
}

static void merged_histograms_are_one(void **state)
{
	static struct hist a, b;

	(void)state;
	for (int i = 0; i < 99; i++)
		hist_add(&a, 1000);
	hist_add(&b, 900000);
	hist_merge(&a, &b);
	assert_int_equal(a.count, 100);
	assert_int_equal(a.max, 900000);
	assert_true(hist_at(&a, 980) < 1100);
}

/* ---- str.c ---- */

static void sizes_take_a_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t v;
	} good[] = { { "4096", 4096 }, { "64K", 65536 }, { "1G", 1ULL << 30 }, { "2m", 2 << 20 } };
	static const char *const bad[] = { "", "K", "1KK", "1.5G", "-1", "99999999999999999999", "17179869184T" };
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(str_size(good[i].text, strlen(good[i].text), &v));
		assert_int_equal(v, good[i].v);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(str_size(bad[i], strlen(bad[i]), &v));
}

static void a_text_that_does_not_fit_is_left_alone(void **state)
{
	char buf[8] = "abc";

	(void)state;
	assert_true(str_cat(buf, sizeof(buf), "defg"));
	assert_false(str_cat(buf, sizeof(buf), "h"));
	assert_string_equal(buf, "abcdefg");
	buf[0] = '\0';
	assert_true(str_cat_u64(buf, sizeof(buf), 1234567));
	assert_string_equal(buf, "1234567");
}

/* ---- reader.c ---- */

static void lines_come_whole_from_a_small_buffer(void **state)
{
	char buf[64], path[] = "/tmp/godwit-reader-XXXXXX";
	struct reader r;
	int fd = mkstemp(path), nr = 0;
	char *line;

	(void)state;
	for (int i = 0; i < 500; i++)
		dprintf(fd, "line %d\n", i);
	dprintf(fd, "last without newline");
	assert_int_equal(reader_open(&r, path, buf, sizeof(buf)), 0);
	while ((line = reader_line(&r))) {
		char want[32];

		snprintf(want, sizeof(want), nr < 500 ? "line %d" : "last without newline", nr);
		assert_string_equal(line, want);
		nr++;
	}
	assert_int_equal(nr, 501);
	assert_int_equal(reader_close(&r), 0);
	close(fd);
	remove(path);
}

static void what_cannot_be_read_is_not_empty(void **state)
{
	char buf[64];
	struct reader r;

	(void)state;
	assert_int_equal(reader_open(&r, "/tmp", buf, sizeof(buf)), 0);
	assert_null(reader_line(&r));
	assert_int_equal(reader_close(&r), -EISDIR);
}

static void the_rest_of_a_line_that_was_cut_is_no_line(void **state)
{
	char buf[64], path[] = "/tmp/godwit-reader-XXXXXX";
	struct reader r;
	int fd = mkstemp(path), nr = 0;
	char *line;

	(void)state;
	for (int len = 1; len < 300; len++)
		dprintf(fd, "good %*d\n", len, len);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(reader_open(&r, path, buf, sizeof(buf)), 0);
	while ((line = reader_line(&r))) {
		assert_memory_equal(line, "good ", 5);
		assert_in_range(strlen(line), 6, sizeof(buf) - 1);
		nr++;
	}
	assert_int_equal(nr, 299);
	reader_close(&r);
	close(fd);
	remove(path);
}

/* ---- region.c ---- */

static void a_region_owns_what_it_gives(void **state)
{
	struct region r;
	char *a, *b;

	(void)state;
	assert_int_equal(region_reserve(&r, 64 << 20, 1 << 20), 0);
	a = region_alloc(&r, 100);
	b = region_take(&r, 4 << 20, 2 << 20);
	a[99] = 1;
	assert_int_equal((uintptr_t)b % (2 << 20), 0);
	assert_true(region_owns(&r, (uint64_t)a, (uint64_t)a + 1));
	assert_true(region_owns(&r, (uint64_t)b, (uint64_t)b + (4 << 20)));
	assert_false(region_owns(&r, (uint64_t)&r, (uint64_t)&r + 1));
	assert_null(region_take(&r, 64 << 20, 4096));
	region_release(&r);
}

/* ---- lock.c, thread.c ---- */

struct counted {
	struct lock lock;
	uint64_t value;
};

static int count_up(void *arg)
{
	struct counted *c = arg;

	for (int i = 0; i < 100000; i++) {
		lock_acquire(&c->lock);
		c->value++;
		lock_release(&c->lock);
	}
	return 0;
}

static void *count_up_in_libc(void *arg)
{
	count_up(arg);
	return NULL;
}

static void a_lock_keeps_threads_apart(void **state)
{
	static struct counted c = { .lock = { .rank = RANK_MM } };
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count_up_in_libc, &c), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(c.value, 400000);
}

static void it_keeps_threads_apart_that_libc_does_not_know(void **state)
{
	static struct counted c = { .lock = { .rank = RANK_MM } };
	struct region r;
	struct thread t[4];

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* what TSan knows of a thread is in libc's block of it, and these threads have none */
#endif
	assert_int_equal(region_reserve(&r, 1 << 20, 1 << 20), 0);
	for (int i = 0; i < 4; i++) {
		t[i] = (struct thread){
			.fn = count_up, .arg = &c, .stack = region_alloc(&r, THREAD_STACK), .name = "counter"
		};
		assert_int_equal(thread_start(&t[i], i % 2), 0);
	}
	for (int i = 0; i < 4; i++)
		thread_join(&t[i]);
	assert_int_equal(c.value, 400000);
	region_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_percentile_is_at_most_a_sixteenth_too_high),
		cmocka_unit_test(a_histogram_of_nothing_says_nothing),
		cmocka_unit_test(very_long_times_are_kept),
		cmocka_unit_test(merged_histograms_are_one),
		cmocka_unit_test(sizes_take_a_unit),
		cmocka_unit_test(a_text_that_does_not_fit_is_left_alone),
		cmocka_unit_test(lines_come_whole_from_a_small_buffer),
		cmocka_unit_test(what_cannot_be_read_is_not_empty),
		cmocka_unit_test(the_rest_of_a_line_that_was_cut_is_no_line),
		cmocka_unit_test(a_region_owns_what_it_gives),
		cmocka_unit_test(a_lock_keeps_threads_apart),
		cmocka_unit_test(it_keeps_threads_apart_that_libc_does_not_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

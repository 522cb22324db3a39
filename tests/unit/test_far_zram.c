/* SPDX-License-Identifier: MIT */
/* The compressed pool: src/far/zram.c, pool.c, codec.c, sum.c. test-timeout: 300 */
#define _GNU_SOURCE
#include "unit.h"

#include "far.h"
#include "far/codec.h"
#include "far/pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void open_store(struct far_world *w, uint32_t nr, struct far_spec spec)
{
	world_init(w, nr);
	spec.kind = FAR_ZRAM;
	assert_int_equal(far_open(&w->f, &w->region, &spec), 0);
	assert_int_equal(far_kind(w->f), FAR_ZRAM);
	assert_false(far_slow(w->f));
}

/* kB of this process in memory. */
static uint64_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size = 0, pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
	fclose(f);
	return pages * 4;
}

static void steps(struct far_spec spec, uint32_t nr_steps, uint64_t kinds)
{
	struct far_world w;
	struct far_stats st;

	open_store(&w, 4000, spec);
	for (uint32_t i = 0; i < nr_steps; i++)
		assert_true(random_step(&w, kinds));
	assert_int_equal(wrong_pages(&w), 0);
	st = stats_of(&w);
	assert_int_equal(st.pages, nr_kept(&w));
	assert_int_equal(st.puts - st.drops, st.pages);
	assert_int_equal(st.bad_sums + st.io_errors, 0);
	if (spec.bytes)
		assert_in_range(st.used_bytes, 1, spec.bytes);
	drop_all(&w);
	st = stats_of(&w);
	assert_int_equal(st.pages + st.same + st.raw + st.shared + st.data_bytes, 0);
	world_end(&w);
}

static void what_is_put_comes_back_whatever_it_is(void **state)
{
	(void)state;
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		steps((struct far_spec){ .alg = (enum far_alg)alg }, STEPS, 0);
		steps((struct far_spec){ .alg = (enum far_alg)alg, .dedup = true }, STEPS, 50);
	}
}

static void a_full_store_keeps_what_it_has(void **state)
{
	struct far_world w;
	struct far_stats st;

	(void)state;
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		steps((struct far_spec){ .alg = (enum far_alg)alg, .bytes = 4UL << 20 }, STEPS, 0);
		steps((struct far_spec){ .alg = (enum far_alg)alg, .bytes = 3UL << 20, .dedup = true }, STEPS, 300);
	}
	open_store(&w, 4000, (struct far_spec){ .bytes = 4UL << 20 });
	for (uint32_t i = 0; i < w.nr; i += 16)
		put_kept(&w, &w.kept[i], 16, RAW, i);
	assert_true(w.full > 0);
	st = stats_of(&w);
	assert_in_range(st.used_bytes, (4UL << 20) - POOL_CHUNK, 4UL << 20);
	/* no more than 5 % of it is books and holes */
	assert_in_range(st.pages * FAR_PAGE, (4UL << 20) * 95 / 100, 4UL << 20);
	assert_int_equal(st.refused, w.nr - st.pages);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

static void pages_are_kept_as_what_they_are(void **state)
{
	struct far_world w;
	struct far_stats st;

	(void)state;
	open_store(&w, 64, (struct far_spec){ 0 });
	put_kept(&w, &w.kept[0], 16, SAME, 5);
	put_kept(&w, &w.kept[16], 16, ZEROES, 1);
	st = stats_of(&w);
	assert_int_equal(st.same, 32);
	assert_int_equal(st.data_bytes, 0);
	put_kept(&w, &w.kept[32], 16, RAW, 1);
	st = stats_of(&w);
	assert_int_equal(st.raw, 16);
	assert_int_equal(st.data_bytes, 16 * FAR_PAGE);
	put_kept(&w, &w.kept[48], 16, HALF, 1);
	st = stats_of(&w);
	assert_int_equal(st.raw, 16);
	assert_in_range(st.data_bytes, 16 * FAR_PAGE + 16 * 2048, 16 * FAR_PAGE + 16 * 2200);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

static void the_same_content_is_kept_once(void **state)
{
	struct far_world w;
	uint64_t bytes;

	(void)state;
	open_store(&w, 3200, (struct far_spec){ .dedup = true });
	put_kept(&w, &w.kept[0], 64, HALF, 1);
	bytes = stats_of(&w).data_bytes;
	for (uint32_t i = 64; i < w.nr; i += 64)
		put_kept(&w, &w.kept[i], 64, HALF, 1);
	assert_int_equal(stats_of(&w).data_bytes, bytes);
	assert_int_equal(stats_of(&w).shared, 3200 - 64);
	/* whichever goes, the others stay */
	for (uint32_t i = 0; i < w.nr - 64; i++) {
		drop_kept(&w, &w.kept[i]);
		assert_true(get_run_right(&w, &w.kept[w.nr - 64], 64));
	}
	assert_int_equal(stats_of(&w).shared, 0);
	assert_int_equal(stats_of(&w).data_bytes, bytes);
	drop_all(&w);
	assert_int_equal(stats_of(&w).data_bytes, 0);
	world_end(&w);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of that many pages two have one sum. */
static void content_that_has_the_same_sum_only_is_kept_apart(void **state)
{
	enum { MANY = 400000 };
	struct far_world w;
	uint64_t *sums = calloc(MANY, sizeof(*sums));
	uint32_t home[2], i = 0;
	int err;

	(void)state;
	open_store(&w, 64, (struct far_spec){ .dedup = true });
	page_fill(w.src, RAW, 5);
	for (uint64_t n = 0; n < MANY; n++) {
		memcpy(w.src + 256, &n, 8);
		sums[n] = (uint64_t)sum_of(w.src, FAR_PAGE) << 32 | n;
	}
	qsort(sums, MANY, sizeof(*sums), by_value);
	while (i + 1 < MANY && sums[i] >> 32 != sums[i + 1] >> 32)
		i++;
	assert_true(i + 1 < MANY);
	memcpy(w.src + FAR_PAGE, w.src, FAR_PAGE);
	memcpy(w.src + 256, &(uint64_t){ sums[i] & 0xffffffff }, 8);
	memcpy(w.src + FAR_PAGE + 256, &(uint64_t){ sums[i + 1] & 0xffffffff }, 8);
	assert_int_equal(far_put(w.f, w.src, 2, home, &err), 2);
	assert_int_equal(stats_of(&w).raw, 2);
	for (i = 0; i < 2; i++) {
		assert_int_equal(far_get(w.f, home[i], w.dst), 0);
		assert_memory_equal(w.dst, w.src + i * FAR_PAGE, FAR_PAGE);
	}
	free(sums);
	world_end(&w);
}

static void the_books_are_16_bytes_a_page(void **state)
{
	struct far_world w;
	struct far_stats st;

	(void)state;
	open_store(&w, 64, (struct far_spec){ 0 });
	for (uint32_t i = 0; i < 2000; i++) {
		put_kept(&w, &w.kept[0], 64, SAME, i);
		memset(w.kept, 0, 64 * sizeof(*w.kept));
	}
	st = stats_of(&w);
	assert_in_range(st.used_bytes, 1, 128000 * 12 + 300000);
	world_end(&w);
	/* and of packed pages of all sizes 5 % is holes and books */
	open_store(&w, 64, (struct far_spec){ 0 });
	for (uint32_t i = 0; i < 2000; i++) {
		put_kept(&w, &w.kept[0], 64, NEARLY, i * 64);
		memset(w.kept, 0, 64 * sizeof(*w.kept));
	}
	st = stats_of(&w);
	print_message("# %.1f %%\n", (double)(st.used_bytes - st.data_bytes) * 100 / (double)st.data_bytes);
	assert_in_range(st.used_bytes, st.data_bytes, st.data_bytes * 105 / 100);
	world_end(&w);
}

/* Three of four pages go, all over the place. */
static void thin_out(struct far_world *w)
{
	for (uint32_t i = 0; i < w->nr; i++)
		if (rnd() % 4)
			drop_kept(w, &w->kept[i]);
}

static void holes_are_closed_and_memory_is_given_back(void **state)
{
	static const enum content kinds[] = { HALF, RAW, NEARLY };
	struct far_world w;
	uint64_t full, rss;

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		open_store(&w, 32768, (struct far_spec){ 0 });
		for (uint32_t i = 0; i < w.nr; i += 64)
			put_kept(&w, &w.kept[i], 64, kinds[k], i);
		full = stats_of(&w).used_bytes;
		rss = resident();
		thin_out(&w);
		assert_in_range(stats_of(&w).used_bytes, 1, full * 2 / 5);
		assert_in_range(resident(), 1, rss - full / 1024 / 2);
		assert_true(stats_of(&w).compacted > 0);
		assert_int_equal(wrong_pages(&w), 0);
		drop_all(&w);
		assert_in_range(stats_of(&w).used_bytes, 1, 1500000);
		assert_in_range(resident(), 1, rss - full / 1024 + 2000);
		world_end(&w);
	}
}

/* What was small objects becomes room for large ones, within the limit. */
static void room_goes_from_one_size_to_another(void **state)
{
	struct far_world w;
	uint32_t before, after;

	(void)state;
	open_store(&w, 40000, (struct far_spec){ .bytes = 16UL << 20 });
	for (uint32_t i = 0; i + 64 <= w.nr && !w.full; i += 64)
		put_kept(&w, &w.kept[i], 64, NEARLY, i);
	assert_true(w.full > 0);
	thin_out(&w);
	before = nr_kept(&w);
	w.full = 0;
	for (uint32_t i = 0; i + 64 <= w.nr && !w.full; i += 64)
		if (!w.kept[i].home)
			put_kept(&w, &w.kept[i], 1, RAW, i);
	for (uint32_t i = 0; i < w.nr && !w.full; i++)
		if (!w.kept[i].home)
			put_kept(&w, &w.kept[i], 1, RAW, i);
	after = nr_kept(&w);
	assert_true(w.full > 0);
	/* half of it was free */
	assert_in_range((after - before) * FAR_PAGE, 8UL << 20, 16UL << 20);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
	/* of one size: no more than a chunk of holes is left, with some books */
	open_store(&w, 16000, (struct far_spec){ .bytes = 16UL << 20 });
	for (uint32_t i = 0; i + 64 <= w.nr && !w.full; i += 64)
		put_kept(&w, &w.kept[i], 64, HALF, i);
	assert_true(w.full > 0);
	thin_out(&w);
	for (uint32_t i = 0; i < w.nr; i++)
		if (!w.kept[i].home)
			put_kept(&w, &w.kept[i], 1, RAW, i);
	assert_in_range((16UL << 20) - stats_of(&w).data_bytes, 1, 448 << 10);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

/* Where in the store's memory this is. */
static char *find_in_store(const struct far_world *w, const char *what, size_t len)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], *found = NULL;

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		unsigned long start, end;
		char prot[8];

		if (sscanf(line, "%lx-%lx %7s", &start, &end, prot) != 3 || strncmp(prot, "rw", 2) ||
		    start < w->region.part[0].start || end > w->region.part[0].end)
			continue;
		found = memmem((char *)start, end - start, what, len);
	}
	fclose(f);
	return found;
}

static void a_changed_bit_is_found(void **state)
{
	struct far_world w;
	char pattern[32], *at;

	(void)state;
	for (int alg = 0; alg < FAR_ALGS; alg++)
		for (int kind = HALF; kind <= RAW; kind += RAW - HALF) {
			open_store(&w, 16, (struct far_spec){ .alg = (enum far_alg)alg });
			put_kept(&w, w.kept, 16, (enum content)kind, 77);
			page_fill(w.want, (enum content)kind, 77);
			memcpy(pattern, w.want + 512, sizeof(pattern));
			at = find_in_store(&w, pattern, sizeof(pattern));
			assert_non_null(at);
			at[5] ^= 16;
			assert_int_equal(far_get(w.f, w.kept[0].home, w.dst), -EBADMSG);
			at[5] ^= 16;
			assert_int_equal(far_get(w.f, w.kept[0].home, w.dst), 0);
			at[5] ^= 16;
			assert_int_equal(wrong_pages(&w), 1);
			assert_int_equal(stats_of(&w).bad_sums, 2);
			world_end(&w);
		}
}

static void sums_see_every_bit(void **state)
{
	char page[FAR_PAGE] __attribute__((aligned(64)));

	(void)state;
	page_fill(page, RAW, 3);
	for (uint32_t len = 1; len <= FAR_PAGE; len = len < 70 ? len + 1 : len * 3 / 2) {
		uint32_t sum = sum_of(page, len);

		for (uint32_t bit = 0; bit < len * 8; bit += len < 70 ? 1 : 37) {
			page[bit / 8] ^= (char)(1 << bit % 8);
			assert_int_not_equal(sum_of(page, len), sum);
			page[bit / 8] ^= (char)(1 << bit % 8);
		}
		assert_int_equal(sum_of(page, len), sum);
	}
}

static void faults_hit_the_pages_meant(void **state)
{
	struct far_world w;
	uint32_t home[16];
	int err[16], why;

	(void)state;
	open_store(&w, 64, (struct far_spec){ 0 });
	assert_int_equal(put_kept(&w, w.kept, 16, CONTENTS, 1), 16);
	for (uint32_t i = 0; i < 16; i++)
		home[i] = w.kept[i].home;
	far_inject(w.f, FAR_FAULT_READ, 3, 2);
	far_inject(w.f, FAR_FAULT_CORRUPT, 9, 1);
	far_get_many(w.f, home, 16, w.dst, err);
	for (int i = 0; i < 16; i++)
		assert_int_equal(err[i], i == 3 || i == 4 ? -EIO : i == 9 ? -EBADMSG : 0);
	assert_int_equal(stats_of(&w).io_errors, 2);
	assert_int_equal(stats_of(&w).bad_sums, 1);
	assert_int_equal(wrong_pages(&w), 0);
	far_inject(w.f, FAR_FAULT_WRITE, 5, 1);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 5);
	assert_int_equal(why, -EIO);
	far_inject(w.f, FAR_FAULT_FULL, 7, 1);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 7);
	assert_int_equal(why, -ENOSPC);
	assert_int_equal(stats_of(&w).refused, 11 + 9);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 16);
	assert_int_equal(stats_of(&w).pages, 16 + 5 + 7 + 16);
	world_end(&w);
}

/* ---- threads ---- */

struct watcher {
	struct far_world *w;
	pthread_t thread;
	uint32_t *stop, bad;
};

/* Of pages that stay, while others come and go and chunks are moved. */
static void *read_all(void *arg)
{
	struct watcher *r = arg;
	char *dst = aligned_alloc(64, 2 * FAR_PAGE);

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED))
		for (uint32_t i = 0; i < r->w->nr; i += 8) {
			const struct kept *k = &r->w->kept[i];

			page_fill(dst + FAR_PAGE, k->kind, k->seed);
			r->bad += far_get(r->w->f, k->home, dst) || memcmp(dst, dst + FAR_PAGE, FAR_PAGE);
		}
	free(dst);
	return NULL;
}

static void pages_can_be_read_while_others_move(void **state)
{
	struct far_world w;
	struct watcher r[3];
	uint32_t stop = 0;

	(void)state;
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		open_store(&w, 4096, (struct far_spec){ .alg = (enum far_alg)alg });
		__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
		for (uint32_t i = 0; i < w.nr; i += 64)
			put_kept(&w, &w.kept[i], 64, NEARLY, i);
		for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
			r[i] = (struct watcher){ .w = &w, .stop = &stop };
			assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
		}
		for (uint32_t i = 0; i < STEPS; i++) {
			uint32_t at = (uint32_t)(rnd() % w.nr);

			if (at % 8)
				rnd() % 3 ? drop_kept(&w, &w.kept[at])
					  : (void)put_kept(&w, &w.kept[at], 1, CONTENTS, i);
		}
		__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
		for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
			pthread_join(r[i].thread, NULL);
			assert_int_equal(r[i].bad, 0);
		}
		assert_true(stats_of(&w).compacted > 0);
		assert_int_equal(wrong_pages(&w), 0);
		world_end(&w);
	}
}

/* ---- fork ---- */

/* Both go on by themselves; 0: all was right. */
static int go_on(struct far_world *w, uint64_t seed)
{
	rnd_state = seed;
	if (wrong_pages(w))
		return 2;
	for (uint32_t i = 0; i < STEPS / 5; i++)
		if (!random_step(w, 0))
			return 3;
	return wrong_pages(w) ? 4 : stats_of(w).pages != nr_kept(w) ? 5 : 0;
}

/* And all that it had can be given back, also what the parent's threads had pinned. */
static int go_on_to_the_end(struct far_world *w, uint64_t seed, uint64_t most)
{
	int bad = go_on(w, seed);

	drop_all(w);
	return bad ? bad : stats_of(w).used_bytes >= most ? 6 : 0;
}

static void parent_and_child_go_on_by_themselves(void **state)
{
	struct far_world w;
	struct watcher r;
	uint64_t empty;
	uint32_t stop = 0;
	int status;
	pid_t pid;

	(void)state;
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		open_store(&w, 2048, (struct far_spec){ .alg = (enum far_alg)alg });
		__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
		/* as much as is left of it when all goes: a few chunks, books, states to pack and unpack with */
		go_on(&w, 5);
		drop_all(&w);
		empty = stats_of(&w).used_bytes;
		for (uint32_t i = 0; i < w.nr; i += 64)
			put_kept(&w, &w.kept[i], 64, NEARLY, i);
		r = (struct watcher){ .w = &w, .stop = &stop };
		assert_int_equal(pthread_create(&r.thread, NULL, read_all, &r), 0);
		for (int round = 0; round < 10; round++) {
			far_freeze(w.f);
			pid = fork();
			if (!pid) {
				int err = far_fork_child(w.f);

				far_thaw(w.f);
				_exit(err ? 1 : go_on_to_the_end(&w, 99 + (uint64_t)round, empty + POOL_CHUNK / 2));
			}
			far_thaw(w.f);
			waitpid(pid, &status, 0);
			assert_true(WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), 0);
		}
		__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
		pthread_join(r.thread, NULL);
		assert_int_equal(r.bad, 0);
		assert_int_equal(go_on(&w, 7), 0);
		world_end(&w);
	}
}

static void *put_one(void *arg)
{
	struct far_world *w = arg;

	put_kept(w, &w->kept[1], 1, HALF, 5);
	return NULL;
}

static void frozen_it_can_be_read_and_not_changed(void **state)
{
	struct far_world w;
	pthread_t thread;

	(void)state;
	open_store(&w, 64, (struct far_spec){ 0 });
	put_kept(&w, w.kept, 1, HALF, 1);
	far_freeze(w.f);
	assert_int_equal(pthread_create(&thread, NULL, put_one, &w), 0);
	sleep_ns(50000000);
	assert_int_equal(stats_of(&w).pages, 1);
	assert_int_equal(wrong_pages(&w), 0);
	far_thaw(w.f);
	pthread_join(thread, NULL);
	assert_int_equal(stats_of(&w).pages, 2);
	world_end(&w);
}

static void what_cannot_be_is_refused(void **state)
{
	struct far_world w;
	struct far_spec spec = { .kind = FAR_ZRAM, .alg = FAR_ALGS };

	(void)state;
	world_init(&w, 1);
	assert_int_equal(far_open(&w.f, &w.region, &spec), -EINVAL);
	spec = (struct far_spec){ .kind = FAR_KINDS };
	assert_int_equal(far_open(&w.f, &w.region, &spec), -EINVAL);
	assert_null(w.f);
	world_end(&w);
}

#ifndef SANITIZED
/* 0: with so many addresses a store of a size cannot be had, and one of any size is a smaller one. */
static int open_with(uint64_t addresses)
{
	struct rlimit limit = { addresses, addresses };
	struct far_spec spec = { .kind = FAR_ZRAM, .bytes = addresses };
	struct far_world w;

	world_init(&w, 64);
	if (setrlimit(RLIMIT_AS, &limit))
		return 1;
	if (far_open(&w.f, &w.region, &spec) != -ENOMEM)
		return 2;
	spec.bytes = 0;
	if (far_open(&w.f, &w.region, &spec))
		return 3;
	return put_kept(&w, w.kept, 64, HALF, 1) == 64 && !wrong_pages(&w) ? 0 : 4;
}

static void few_addresses_make_a_small_store(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (!pid)
		_exit(open_with(4UL << 30));
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}
#endif

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_comes_back_whatever_it_is),
		cmocka_unit_test(a_full_store_keeps_what_it_has),
		cmocka_unit_test(pages_are_kept_as_what_they_are),
		cmocka_unit_test(the_same_content_is_kept_once),
		cmocka_unit_test(content_that_has_the_same_sum_only_is_kept_apart),
		cmocka_unit_test(the_books_are_16_bytes_a_page),
		cmocka_unit_test(holes_are_closed_and_memory_is_given_back),
		cmocka_unit_test(room_goes_from_one_size_to_another),
		cmocka_unit_test(a_changed_bit_is_found),
		cmocka_unit_test(sums_see_every_bit),
		cmocka_unit_test(faults_hit_the_pages_meant),
		cmocka_unit_test(pages_can_be_read_while_others_move),
		cmocka_unit_test(parent_and_child_go_on_by_themselves),
		cmocka_unit_test(frozen_it_can_be_read_and_not_changed),
		cmocka_unit_test(what_cannot_be_is_refused),
#ifndef SANITIZED
		cmocka_unit_test(few_addresses_make_a_small_store),
#endif
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

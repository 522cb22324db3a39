/* SPDX-License-Identifier: MIT */
/* The pages of a process, by kind: of this one, whose memory is known. */
#define _GNU_SOURCE 1
#include "unit.h"

#include "kernel/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEN (4UL << 20)

struct seen {
	uint64_t start, end;
	uint64_t pages[KERNEL_KINDS], units[KERNEL_KINDS], shared, swapped;
	uint64_t last;
};

static int look(void *arg, const struct kernel_vma *vma, struct kernel_unit *units, uint32_t nr)
{
	struct seen *s = arg;

	assert_true(nr > 0 && nr <= KERNEL_WINDOW);
	for (uint32_t i = 0; i < nr; i++) {
		const struct kernel_unit *u = &units[i];

		assert_true(u->addr >= vma->start && u->addr + u->pages * KERNEL_PAGE <= vma->end);
		assert_true(u->addr >= s->last); /* in order, and none twice */
		s->last = u->addr + u->pages * KERNEL_PAGE;
		assert_int_equal(u->node, 0);
		if (u->addr < s->start || u->addr >= s->end)
			continue;
		s->pages[u->kind] += u->pages;
		s->units[u->kind]++;
		s->shared += u->shared;
	}
	return 0;
}

static struct seen see(void *start, size_t len)
{
	struct seen s = { .start = (uintptr_t)start, .end = (uintptr_t)start + len };
	struct kernel_target t;
	int err;

	assert_int_equal(kernel_open(&t, getpid()), KERNEL_FINE);
	err = kernel_walk(&t, KERNEL_WALK_SHARED, look, &s);
	kernel_close(&t);
	assert_int_equal(err, 0);
	return s;
}

static char *map(int flags, int fd)
{
	char *p = mmap(NULL, LEN * 2, PROT_READ | PROT_WRITE, flags, fd, 0);

	assert_true(p != MAP_FAILED);
	return (char *)(((uintptr_t)p + LEN / 2 - 1) & ~(LEN / 2 - 1));
}

static void touch(char *p, size_t len)
{
	for (size_t at = 0; at < len; at += KERNEL_PAGE)
		p[at] = 1;
}

static void each_page_of_private_memory_is_a_unit(void **state)
{
	char *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct seen s;

	(void)state;
	madvise(p, LEN, MADV_NOHUGEPAGE);
	touch(p, LEN / 4);
	touch(p + LEN / 2, KERNEL_PAGE);
	s = see(p, LEN);
	assert_int_equal(s.units[KERNEL_ANON], LEN / 4 / KERNEL_PAGE + 1);
	assert_int_equal(s.pages[KERNEL_ANON], LEN / 4 / KERNEL_PAGE + 1);
	assert_int_equal(s.shared, 0);
}

static void a_huge_page_is_one_unit(void **state)
{
	char *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct seen s;

	(void)state;
	madvise(p, LEN, MADV_HUGEPAGE);
	touch(p, LEN);
	s = see(p, LEN);
	if (!s.units[KERNEL_THP] || getenv("GODWIT_PROBE"))
		skip(); /* no THPs here, or nobody tells */
	assert_int_equal(s.units[KERNEL_THP], LEN / (2UL << 20));
	assert_int_equal(s.pages[KERNEL_THP], LEN / KERNEL_PAGE);
}

/* Read, but never written: no page of its own. */
static void the_page_of_zeroes_is_no_page(void **state)
{
	volatile char *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct seen s;
	char sum = 0;

	(void)state;
	madvise((char *)(uintptr_t)p, LEN, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < LEN; at += KERNEL_PAGE)
		sum += p[at];
	s = see((char *)(uintptr_t)p, LEN);
	assert_int_equal(s.pages[KERNEL_ANON] + (uint64_t)sum, 0);
}

static void shared_memory_and_files_are_told_apart(void **state)
{
	int fd = memfd_create("walk", 0);
	char name[] = "/var/tmp/godwit-walk.XXXXXX", *p, *q;
	int file = mkstemp(name);
	struct seen s;

	(void)state;
	assert_true(fd >= 0 && !ftruncate(fd, LEN * 2) && file >= 0 && !ftruncate(file, LEN * 2));
	unlink(name);
	p = map(MAP_SHARED, fd);
	touch(p, LEN);
	s = see(p, LEN);
	assert_int_equal(s.pages[KERNEL_SHARED], LEN / KERNEL_PAGE);
	q = map(MAP_SHARED, file);
	touch(q, LEN);
	s = see(q, LEN);
	assert_int_equal(s.pages[KERNEL_FILE] + s.pages[KERNEL_SHARED], LEN / KERNEL_PAGE);
	close(fd);
	close(file);
}

/* A private mapping of a file: what was written is the process's own. */
static void a_page_written_in_a_private_mapping_is_private(void **state)
{
	int fd = memfd_create("walk", 0);
	struct seen s;
	char *p;

	(void)state;
	assert_true(fd >= 0 && !ftruncate(fd, LEN * 2));
	p = map(MAP_PRIVATE, fd);
	touch(p, LEN / 2);
	s = see(p, LEN);
	assert_int_equal(s.pages[KERNEL_ANON], LEN / 2 / KERNEL_PAGE);
	close(fd);
}

/* On kernels before 6.7. */
__attribute__((unused)) static void old_way(void **state, void (*test)(void **state))
{
	setenv("GODWIT_PROBE", "no-scan", 1);
	test(state);
	unsetenv("GODWIT_PROBE");
}

__attribute__((unused)) static void without_pagemap_scan_the_same_pages_are_found(void **state)
{
	old_way(state, each_page_of_private_memory_is_a_unit);
	old_way(state, the_page_of_zeroes_is_no_page);
	old_way(state, shared_memory_and_files_are_told_apart);
	old_way(state, a_page_written_in_a_private_mapping_is_private);
}

static void what_has_no_memory_is_refused_with_its_reason(void **state)
{
	struct kernel_target t;

	(void)state;
	assert_int_equal(kernel_open(&t, 4194999), KERNEL_NO_PROCESS);
	kernel_close(&t);
	assert_int_equal(kernel_open(&t, getpid()), KERNEL_FINE);
	assert_true(t.allowed & 1);
	assert_int_equal(kernel_reopen(&t), 0);
	kernel_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_page_of_private_memory_is_a_unit),
		cmocka_unit_test(a_huge_page_is_one_unit),
		cmocka_unit_test(the_page_of_zeroes_is_no_page),
		cmocka_unit_test(shared_memory_and_files_are_told_apart),
		cmocka_unit_test(a_page_written_in_a_private_mapping_is_private),
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* their shadows are terabytes, read page by page */
		cmocka_unit_test(without_pagemap_scan_the_same_pages_are_found),
#endif
		cmocka_unit_test(what_has_no_memory_is_refused_with_its_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

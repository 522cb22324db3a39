/* SPDX-License-Identifier: MIT */
/* Groups in a directory of the test's own. */
#include "unit.h"

#include "control/group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct place {
	char path[64];
	int dir;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->path, sizeof(p->path), "/tmp/godwit-unit.XXXXXX");
	if (!mkdtemp(p->path))
		return -1;
	p->dir = groups_open(p->path);
	*state = p;
	return p->dir < 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	int left = rmdir(p->path); /* what a test leaves behind is a failure */

	close(p->dir);
	free(p);
	return left;
}

static void names_have_a_safe_alphabet(void **state)
{
	char longest[CTL_GROUP_MAX + 1];

	(void)state;
	assert_true(group_name_valid("a"));
	assert_true(group_name_valid("_db-1.x"));
	assert_false(group_name_valid(""));
	assert_false(group_name_valid("."));
	assert_false(group_name_valid(".."));
	assert_false(group_name_valid("-x"));
	assert_false(group_name_valid("a/b"));
	assert_false(group_name_valid("a b"));
	assert_false(group_name_valid("a\n"));
	memset(longest, 'x', sizeof(longest));
	longest[CTL_GROUP_MAX - 1] = '\0';
	assert_true(group_name_valid(longest));
	longest[CTL_GROUP_MAX - 1] = 'x';
	longest[CTL_GROUP_MAX] = '\0';
	assert_false(group_name_valid(longest));
}

static void a_group_has_the_nodes_that_it_was_given_last(void **state)
{
	int dir = ((struct place *)*state)->dir;
	char list[GROUP_LIST_MAX];

	assert_int_equal(group_nodes(dir, "g", list), -ENOENT);
	assert_int_equal(group_set(dir, "g", "0,2"), 0);
	assert_int_equal(group_set(dir, "g", "!1"), 0);
	assert_int_equal(group_nodes(dir, "g", list), 0);
	assert_string_equal(list, "!1");
	group_end(dir, "g");
	assert_int_equal(group_nodes(dir, "g", list), -ENOENT);
}

static int count_one(const struct group_member *m, void *arg)
{
	*(int *)arg += m->pid;
	return 0;
}

static void a_member_is_a_process_and_the_time_when_it_began(void **state)
{
	int dir = ((struct place *)*state)->dir, sum = 0;
	struct group_member m = { .pid = 12, .start = 1000, .since = 2000 }, other = { .pid = 12, .start = 1001 };
	char name[CTL_GROUP_MAX];

	assert_int_equal(group_enter(dir, "g", &m), -ENOENT);
	assert_int_equal(group_set(dir, "g", "0"), 0);
	assert_int_equal(group_enter(dir, "g", &m), 0);
	m.since = 3000;
	assert_int_equal(group_enter(dir, "g", &m), 0);
	assert_true(group_has(dir, "g", &m));
	assert_int_equal(m.since, 2000);
	assert_false(group_has(dir, "g", &other));
	assert_int_equal(group_of(dir, &m, name), 0);
	assert_string_equal(name, "g");
	assert_int_equal(group_of(dir, &other, name), -ENOENT);
	assert_int_equal(group_members(dir, "g", count_one, &sum), 0);
	assert_int_equal(sum, 12);
	assert_int_equal(group_leave(dir, "g", &m), 0);
	assert_int_equal(group_leave(dir, "g", &m), -ENOENT);
	group_end(dir, "g");
}

static void a_group_does_not_end_while_somebody_is_in_it(void **state)
{
	int dir = ((struct place *)*state)->dir;
	struct group_member m = { .pid = 12, .start = 1000, .since = 2000 };
	char list[GROUP_LIST_MAX];

	assert_int_equal(group_set(dir, "g", "0"), 0);
	assert_int_equal(group_enter(dir, "g", &m), 0);
	group_end(dir, "g");
	assert_int_equal(group_nodes(dir, "g", list), 0);
	group_leave(dir, "g", &m);
	group_end(dir, "g");
	assert_int_equal(group_nodes(dir, "g", list), -ENOENT);
}

static void what_is_no_member_is_not_taken_for_one(void **state)
{
	static const char *const names[] = { "groups/g/12", "groups/g/12.x", "groups/g/0.5", "groups/g/-1.5",
					     "groups/g/12.5x", "groups/g/99999999999.5" };
	int dir = ((struct place *)*state)->dir, sum = 0;

	assert_int_equal(group_set(dir, "g", "0"), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(symlinkat("7", dir, names[i]), 0);
	assert_int_equal(symlinkat("no time", dir, "groups/g/13.5"), 0);
	assert_int_equal(group_members(dir, "g", count_one, &sum), 0);
	assert_int_equal(sum, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dir, names[i], 0);
	unlinkat(dir, "groups/g/13.5", 0);
	group_end(dir, "g");
}

static void a_lock_that_is_held_is_waited_for_only_so_long(void **state)
{
	const struct place *p = *state;
	int other = groups_open(p->path);

	assert_int_equal(groups_lock(p->dir, 0), 0);
	assert_int_equal(groups_lock(other, 20), -EAGAIN);
	groups_unlock(p->dir);
	assert_int_equal(groups_lock(other, 20), 0);
	close(other);
	assert_int_equal(groups_lock(p->dir, 0), 0);
}

static void a_process_has_one_beginning_and_none_when_it_has_ended(void **state)
{
	uint64_t start, again, now = ticks_now();
	int parent = 0;
	siginfo_t info;
	pid_t pid;

	(void)state;
	assert_int_equal(process_times(0, &start, &parent), 0);
	assert_int_equal(parent, getppid());
	assert_int_equal(process_times(getpid(), &again, &parent), 0);
	assert_int_equal(start, again);
	assert_true(start <= now && now - start < 100 * 3600);
	pid = fork();
	if (!pid)
		_exit(0);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	assert_int_equal(process_times(pid, &start, &parent), -ESRCH);
	waitpid(pid, NULL, 0);
	assert_int_equal(process_times(pid, &start, &parent), -ESRCH);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_have_a_safe_alphabet),
		IN_PLACE(a_group_has_the_nodes_that_it_was_given_last),
		IN_PLACE(a_member_is_a_process_and_the_time_when_it_began),
		IN_PLACE(a_group_does_not_end_while_somebody_is_in_it),
		IN_PLACE(what_is_no_member_is_not_taken_for_one),
		IN_PLACE(a_lock_that_is_held_is_waited_for_only_so_long),
		cmocka_unit_test(a_process_has_one_beginning_and_none_when_it_has_ended),
	};

	return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}

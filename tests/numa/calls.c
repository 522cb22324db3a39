/* SPDX-License-Identifier: MIT */
/*
 * calls [GROUP...]: ask a machine with two or more NUMA nodes what its NUMA system calls do, one line a case (see
 * case.h). On the same kernel and as many nodes the output is always the same. Each group of cases has a process of
 * its own, which is made by execve(). Exit 0: all groups came to their end.
 */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "case.h"

static const struct group {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "task-sweep", cases_task_sweep },
	{ "range-sweep", cases_range_sweep },
	{ "task-policy", cases_task_policy },
	{ "range-policy", cases_range_policy },
	{ "range-move", cases_range_move },
	{ "first-touch", cases_first_touch },
	{ "query", cases_query },
	{ "home-node", cases_home_node },
	{ "move", cases_move },
	{ "migrate", cases_migrate },
	{ "cpu", cases_cpu },
	{ "huge", cases_huge },
};

static int run_here(const char *name)
{
	for (size_t i = 0; i < LIST_LEN(groups); i++)
		if (!strcmp(groups[i].name, name)) {
			machine_init();
			groups[i].run();
			return 0;
		}
	fprintf(stderr, "calls: no group %s\n", name);
	return 1;
}

static int run_apart(const char *name)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execl("/proc/self/exe", "calls", name, NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (pid > 0 && status == 0)
		return 0;
	fprintf(stderr, "calls: group %s ended with status %#x\n", name, status);
	return 1;
}

int main(int argc, char **argv)
{
	int bad = 0;

	if (argc > 1 && !strcmp(argv[1], "--after-exec"))
		return after_exec();
	if (argc == 2)
		return run_here(argv[1]);
	if (argc > 2)
		for (int i = 1; i < argc; i++)
			bad |= run_apart(argv[i]);
	else
		for (size_t i = 0; i < LIST_LEN(groups); i++)
			bad |= run_apart(groups[i].name);
	return bad;
}

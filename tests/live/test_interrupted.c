/* SPDX-License-Identifier: MIT */
/*
 * A migration that is interrupted at any moment: the command is killed or told to stop, the program ends, is killed,
 * replaces itself, is stopped for a while.
 * test-timeout: 200
 *
 * Wanted every time: where the program lives on its memory is right and can be migrated again at once; the command's
 * exit status is one of godwit(1), and what it says is true; nothing is left behind.
 *
 * In `make test` for some 12 s; GODWIT_LONG=1 in the environment: 100 times each way.
 */
#include "program.h"

#define SHORT_SECONDS 12.0
#define LONG_TIMES 100
#define SHORT_TIMES 40

static struct program program;
static bool alive;
static double quick = 0.02;	/* seconds that a migration takes at most */

/* ---- what is wanted of the command ---- */

static bool said(const struct command *c)
{
	const char *end = strchr(c->err, '\n');

	return !strncmp(c->err, "godwit: ", 8) && end && !end[1];
}

static bool finished(const struct command *c)
{
	return (exited(c->status, 0) || exited(c->status, 2)) && strstr(c->out, "\"cancelled\":false");
}

static bool cancelled(const struct command *c)
{
	return exited(c->status, 2) && strstr(c->out, "\"cancelled\":true");
}

static bool killed(const struct command *c)
{
	return finished(c) || (c->status != -1 && WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGKILL);
}

/* A signal before the request was made ends the command as any other. */
static bool stopped(const struct command *c)
{
	return finished(c) || cancelled(c) || (c->status != -1 && WIFSIGNALED(c->status) && !c->out[0]);
}

/* The program went away: before the request was heard, or in the middle of it. */
static bool deserted(const struct command *c)
{
	return finished(c) || ((exited(c->status, 1) || exited(c->status, 2)) && said(c));
}

/* ---- the ways ---- */

static void kill_command(struct command *c)
{
	kill(c->pid, SIGKILL);
}

static void stop_command(struct command *c)
{
	static const int signals[] = { SIGINT, SIGINT, SIGTERM, SIGHUP };

	kill(c->pid, signals[below(4)]);
}

static void end_program(struct command *c)
{
	(void)c;
	program_told(&program, 'q');
}

static void kill_program(struct command *c)
{
	(void)c;
	kill(program.pid, SIGKILL);
}

static void exec_program(struct command *c)
{
	(void)c;
	program_told(&program, 'e');
}

static void exec_thread(struct command *c)
{
	(void)c;
	program_told(&program, 't');
}

static void freeze_program(struct command *c)
{
	(void)c;
	for (int i = 0; i < 3; i++) {
		kill(program.pid, SIGSTOP);
		pause_ms(below(40));
		kill(program.pid, SIGCONT);
		pause_ms(below(3));
	}
}

enum after { LIVES, ENDS, DIES, BEGINS_ANEW };

static struct way {
	const char *name;
	void (*interrupt)(struct command *c);
	bool (*wanted)(const struct command *c);
	enum after after;
	unsigned int times, whole, in_time;
} ways[] = {
	{ "kill -9 of the command", kill_command, killed, LIVES, 0, 0, 0 },
	{ "SIGINT, SIGTERM, SIGHUP to the command", stop_command, stopped, LIVES, 0, 0, 0 },
	{ "the program ends", end_program, deserted, ENDS, 0, 0, 0 },
	{ "kill -9 of the program", kill_program, deserted, DIES, 0, 0, 0 },
	{ "exec in the program", exec_program, deserted, BEGINS_ANEW, 0, 0, 0 },
	{ "exec in the program's second thread", exec_thread, deserted, BEGINS_ANEW, 0, 0, 0 },
	{ "SIGSTOP and SIGCONT of the program", freeze_program, finished, LIVES, 0, 0, 0 },
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* ---- once ---- */

static void migrate_start(struct command *c, const char *to, bool slow)
{
	char pid[16];
	const char *const argv[] = { "godwit", "migrate", "--json", pid, "all", to, slow ? "--rate=100" : NULL, NULL };

	snprintf(pid, sizeof(pid), "%d", program.pid);
	command_start(c, argv);
}

static bool complain(const char *what, const struct command *c)
{
	printf("# %s; the command: status %x, %.150s%.200s\n", what, c->status, c->out, c->err);
	return false;
}

/* A killed process leaves its socket; the next listing removes it. */
static bool left_clean(void)
{
	static const char *const argv[] = { "godwit", "ps", NULL };
	struct command c;

	command_start(&c, argv);
	command_end(&c);
	return nothing_left_soon(program.pid);
}

/* It verifies its memory, and then all of it moves again. */
static bool goes_on(const struct command *interrupted)
{
	struct command c, before = { .status = -1 };

	program_told(&program, 'v');
	if (!program_says(&program, "good\n"))
		return complain("the program's memory is not right", interrupted);
	for (int node = 1; node >= 0; node--) {
		double began = seconds();

		migrate_start(&c, node ? "1" : "0", false);
		command_end(&c);
		before = node ? c : before;
		quick = seconds() - began > quick ? seconds() - began : quick * 0.95;
		if (!finished(&c) || (!node && exited(before.status, 0) && json_number(c.out, "pages_total") < 512))
			return complain("before", &before) || complain("it cannot be migrated again", &c);
	}
	return true;
}

static bool is_over(const struct command *c, bool by_kill)
{
	int status = program_end(&program);

	alive = false;
	if (by_kill ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : !exited(status, PROGRAM_WHOLE)) {
		printf("# status %x: %s\n", status, program.err);
		return complain("the program did not end as it should", c);
	}
	return left_clean() || complain("something is left behind", c);
}

static bool outcome(const struct way *w, const struct command *c)
{
	if (c->status == -1)
		return complain("the command hung", c);
	if (!w->wanted(c))
		return complain("the command did not say what was done", c);
	if (w->after == ENDS || w->after == DIES)
		return is_over(c, w->after == DIES);
	if (w->after == BEGINS_ANEW && !program_says(&program, "ready\n"))
		return complain("the new program did not start", c);
	return goes_on(c);
}

static bool program_ready(void)
{
	if (alive)
		return true;
	program_start(&program, "ram", NULL, NULL);
	alive = program_says(&program, "ready\n");
	if (!alive)
		kill(program.pid, SIGKILL);
	return alive || (is_over(&(struct command){ .status = 0 }, true) && false);
}

static void once(struct way *w)
{
	bool slow = below(2);
	struct command c;

	w->times++;
	if (!program_ready()) {
		printf("# the program did not start\n");
		return;
	}
	migrate_start(&c, "1", slow);
	usleep(below((unsigned int)(quick * 1e6) + (slow ? 80000 : 0)));
	w->interrupt(&c);
	command_end(&c);
	w->in_time += !finished(&c);
	if (outcome(w, &c)) {
		w->whole++;
		return;
	}
	printf("# %s, the %u. time\n", w->name, w->times);
	if (!alive)
		return;
	kill(program.pid, SIGKILL);
	is_over(&c, true);
}

int main(void)
{
	unsigned int most = long_wanted() ? LONG_TIMES : SHORT_TIMES;
	double until = seconds() + (long_wanted() ? 1e9 : SHORT_SECONDS);
	char text[200];

	setvbuf(stdout, NULL, _IOLBF, 0);
	programs_find();
	for (unsigned int i = 0; i < most && (!i || seconds() < until); i++)
		for (size_t k = 0; k < WAYS; k++)
			once(&ways[k]);
	if (alive)
		program_told(&program, 'q');
	tap(!alive || is_over(&(struct command){ .status = 0 }, false), "at the end the program ends as alone");
	for (size_t k = 0; k < WAYS; k++) {
		const struct way *w = &ways[k];

		snprintf(text, sizeof(text), "%s: %u times, %u of them before the migration was over, %u times well",
			 w->name, w->times, w->in_time, w->whole);
		tap(w->times && w->whole == w->times, text);
	}
	runtime_clear();
	return tap_end();
}

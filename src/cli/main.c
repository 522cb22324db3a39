/* SPDX-License-Identifier: MIT */
/*
 * The godwit command: the table of commands and the dispatch.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>

static const struct cli_command *const commands[] = {
	&cli_check, &cli_run, &cli_ps, &cli_maps, &cli_migrate, &cli_move, &cli_stat,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct cli_command *find_command(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	say_error("unknown command '%s': see 'godwit --help'", name);
	return NULL;
}

static int help_all(FILE *to)
{
	fputs("Usage: godwit COMMAND [OPTION...] [ARG...]\n\n"
	      "Move the memory of running programs between nodes while they work.\n\nCommands:\n",
	      to);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n'godwit help COMMAND' explains one; 'godwit --version' prints the version.\n"
	      "First steps: 'godwit check', then 'godwit run -- CMD', then 'godwit migrate PID 0 1'.\n",
	      to);
	return to == stdout ? CLI_DONE : CLI_FAILED;
}

static int help(const char *name)
{
	const struct cli_command *cmd;

	if (!name)
		return help_all(stdout);
	cmd = find_command(name);
	if (!cmd)
		return CLI_FAILED;
	args_help(cmd, stdout);
	return CLI_DONE;
}

static int run_command(const struct cli_command *cmd, int argc, char **argv)
{
	struct cli_args args;
	int status = args_parse(&args, cmd, argc, argv);

	if (status == CLI_DONE && args_has(&args, OPT_HELP))
		args_help(cmd, stdout);
	else if (status == CLI_DONE)
		status = cmd->run(&args);
	args_end(&args);
	return status;
}

static int dispatch(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;
	const struct cli_command *cmd;

	if (!word)
		return help_all(stderr);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
		puts("godwit " GW_VERSION);
		return CLI_DONE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
		return help(argv[2]);
	if (word[0] == '-')
		return say_error("unknown option '%s': see 'godwit --help'", word);
	cmd = find_command(word);
	return cmd ? run_command(cmd, argc - 2, argv + 2) : CLI_FAILED;
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* A full disk must not look like success. */
	if (fflush(stdout) != 0 || ferror(stdout))
		return say_error("cannot write the output: %s", strerror(errno));
	return status;
}

/* SPDX-License-Identifier: MIT */
/*
 * The godwit command: the table of commands and the dispatch.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>

static const struct cli_command *const commands[] = {
	&cli_check, &cli_run, &cli_attach, &cli_detach, &cli_ps,
	&cli_maps, &cli_migrate, &cli_move, &cli_stat, &cli_group,
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

static void help_words(const struct cli_command *cmd, FILE *to)
{
	fprintf(to, "Usage: godwit %s %s\n\n%s\n\nCommands:\n", cmd->name, cmd->usage, cmd->text);
	for (const struct cli_command *const *word = cmd->words; *word; word++)
		fprintf(to, "  %-14s %s\n", (*word)->name, (*word)->summary);
	fprintf(to, "\n'godwit help %s WORD' explains one; each takes --json and --help.\n", cmd->name);
}

/* The command that a word stands for, behind the name of one that has several. */
static const struct cli_command *find_word(const struct cli_command *cmd, const char *text)
{
	for (const struct cli_command *const *word = cmd->words; *word; word++)
		if (strcmp((*word)->name + strlen(cmd->name) + 1, text) == 0)
			return *word;
	if (text[0] == '-')
		say_error("%s: unknown option '%s': see 'godwit %s --help'", cmd->name, text, cmd->name);
	else
		say_error("%s: unknown command '%s': see 'godwit %s --help'", cmd->name, text, cmd->name);
	return NULL;
}

static int help(char **words)
{
	const struct cli_command *cmd;

	if (!words[0])
		return help_all(stdout);
	cmd = find_command(words[0]);
	if (cmd && cmd->words && words[1])
		cmd = find_word(cmd, words[1]);
	if (!cmd)
		return CLI_FAILED;
	if (cmd->words)
		help_words(cmd, stdout);
	else
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

static int run_word(const struct cli_command *cmd, int argc, char **argv)
{
	const struct cli_command *word;

	if (argc == 0) {
		help_words(cmd, stderr);
		return CLI_FAILED;
	}
	if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
		help_words(cmd, stdout);
		return CLI_DONE;
	}
	word = find_word(cmd, argv[0]);
	return word ? run_command(word, argc - 1, argv + 1) : CLI_FAILED;
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
		return help(argv + 2);
	if (word[0] == '-')
		return say_error("unknown option '%s': see 'godwit --help'", word);
	cmd = find_command(word);
	if (!cmd)
		return CLI_FAILED;
	return (cmd->words ? run_word : run_command)(cmd, argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* A full disk must not look like success. */
	if (fflush(stdout) != 0 || ferror(stdout))
		return say_error("cannot write the output: %s", strerror(errno));
	return status;
}

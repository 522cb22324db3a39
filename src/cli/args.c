/* SPDX-License-Identifier: MIT */
/*
 * Command lines: parsed by, and explained from, the tables of the commands.
 */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 26

static const struct cli_option common[] = {
	{ .id = OPT_JSON, .name = "json", .help = "print JSON with stable keys" },
	{ .id = OPT_HELP, .letter = 'h', .name = "help", .help = "print this and exit" },
	{ .name = NULL },
};

/* ---------------------------------------------------------------- lookup ---- */

static const struct cli_option *find_long(const struct cli_option *table, const char *name, size_t len)
{
	for (; table && table->name; table++)
		if (strlen(table->name) == len && strncmp(table->name, name, len) == 0)
			return table;
	return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *table, char letter)
{
	for (; table && table->name; table++)
		if (table->letter == letter)
			return table;
	return NULL;
}

const struct cli_value *args_value(const struct cli_args *args, enum cli_opt id, int nth)
{
	for (int i = 0; i < args->nr_values; i++)
		if (args->values[i].option->id == id && nth-- == 0)
			return &args->values[i];
	return NULL;
}

bool args_has(const struct cli_args *args, enum cli_opt id)
{
	return args_value(args, id, 0) != NULL;
}

uint64_t args_number(const struct cli_args *args, enum cli_opt id, uint64_t fallback)
{
	uint64_t number = fallback;

	for (int i = 0; i < args->nr_values; i++)
		if (args->values[i].option->id == id)
			number = args->values[i].number;
	return number;
}

/* ---------------------------------------------------------------- parsing ---- */

static int usage_error(const struct cli_command *cmd, const char *what, const char *word)
{
	return say_error("%s: %s '%s': see 'godwit %s --help'", cmd->name, what, word, cmd->name);
}

static int parse_number(const struct cli_command *cmd, struct cli_value *value)
{
	const struct cli_option *option = value->option;
	char *end;

	errno = 0;
	value->number = strtoull(value->text, &end, 10);
	if (value->text[0] < '0' || value->text[0] > '9' || *end != '\0' || errno ||
	    value->number < option->min || value->number > option->max)
		return say_error("%s: --%s '%s': expected a number from %ju to %ju", cmd->name, option->name,
				 value->text, (uintmax_t)option->min, (uintmax_t)option->max);
	return 0;
}

/* Take one option; text is its value if it came as --name=value. *next is the argument behind it. */
static int take_option(struct cli_args *args, const struct cli_option *option, const char *text, char ***next)
{
	struct cli_value *value = &args->values[args->nr_values++];

	value->option = option;
	if (!option->arg)
		return text ? say_error("%s: option '--%s' takes no value", args->cmd->name, option->name)
			    : 0;
	if (!text)
		text = **next ? *(*next)++ : NULL;
	if (!text)
		return say_error("%s: option '--%s' needs a value: --%s %s", args->cmd->name, option->name,
				 option->name, option->arg);
	value->text = text;
	return option->max ? parse_number(args->cmd, value) : 0;
}

static int take_long(struct cli_args *args, const char *word, char ***next)
{
	const char *name = word + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *option = find_long(args->cmd->options, name, len);

	if (!option)
		option = find_long(common, name, len);
	if (!option)
		return usage_error(args->cmd, "unknown option", word);
	return take_option(args, option, equals ? equals + 1 : NULL, next);
}

static int take_letter(struct cli_args *args, const char *word, char ***next)
{
	const struct cli_option *option = find_letter(args->cmd->options, word[1]);

	if (!option)
		option = find_letter(common, word[1]);
	if (!option || word[2] != '\0')
		return usage_error(args->cmd, "unknown option", word);
	return take_option(args, option, NULL, next);
}

/* A word that begins with '-' and is more than that is an option. */
static int take_words(struct cli_args *args, char **next)
{
	while (*next) {
		char *word = *next++;
		int err = 0;

		if (strcmp(word, "--") == 0) {
			while (*next)
				args->operands[args->nr++] = *next++;
		} else if (strncmp(word, "--", 2) == 0) {
			err = take_long(args, word, &next);
		} else if (word[0] == '-' && word[1] != '\0') {
			err = take_letter(args, word, &next);
		} else {
			args->operands[args->nr++] = word;
			while (args->cmd->max < 0 && *next)
				args->operands[args->nr++] = *next++;
		}
		if (err)
			return err;
	}
	return 0;
}

static int check_operands(const struct cli_args *args)
{
	const struct cli_command *cmd = args->cmd;

	if (args->nr < cmd->min)
		return say_error("usage: godwit %s %s", cmd->name, cmd->usage);
	if (cmd->max >= 0 && args->nr > cmd->max)
		return usage_error(cmd, "unexpected argument", args->operands[cmd->max]);
	return 0;
}

int args_parse(struct cli_args *args, const struct cli_command *cmd, int argc, char **argv)
{
	int err;

	memset(args, 0, sizeof(*args));
	args->cmd = cmd;
	args->values = calloc((size_t)argc + 1, sizeof(*args->values));
	args->operands = calloc((size_t)argc + 1, sizeof(*args->operands));
	if (!args->values || !args->operands)
		return say_error("out of memory");
	err = take_words(args, argv);
	if (err || args_has(args, OPT_HELP))
		return err;
	return check_operands(args);
}

void args_end(struct cli_args *args)
{
	free(args->values);
	free(args->operands);
}

/* ---------------------------------------------------------------- help ---- */

static void help_options(const struct cli_option *table, FILE *to)
{
	for (; table && table->name; table++) {
		char left[64];

		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", table->letter ? '-' : ' ',
			 table->letter ? table->letter : ' ', table->letter ? ", " : "  ", table->name,
			 table->arg ? " " : "", table->arg ? table->arg : "");
		fprintf(to, "  %-*s %s\n", HELP_COLUMN, left, table->help);
	}
}

void args_help(const struct cli_command *cmd, FILE *to)
{
	fprintf(to, "Usage: godwit %s %s\n\n%s\n\nOptions:\n", cmd->name, cmd->usage, cmd->text);
	help_options(cmd->options, to);
	help_options(common, to);
}

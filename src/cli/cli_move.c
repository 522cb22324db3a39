/* SPDX-License-Identifier: MIT */
/*
 * godwit move: move single pages, named by lines "ADDRESS NODE", or ask where they are.
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_FIRST (64 << 10)
#define BLANKS " \t\r\f\v"

struct line {
	const char *text;	/* the address as it was given */
	uint64_t addr;
	size_t number;		/* of the line, from 1 */
	int32_t node;
};

/* The whole request; texts point into input. */
struct list {
	char *input;
	struct line *lines;
	size_t nr;
};

/* ---------------------------------------------------------------- reading ---- */

static char *read_all(FILE *from)
{
	size_t size = INPUT_FIRST, used = 0;
	char *text = malloc(size);

	while (text) {
		char *more;

		used += fread(text + used, 1, size - 1 - used, from);
		if (used < size - 1)
			break;
		size *= 2;
		more = realloc(text, size);
		if (!more)
			free(text);
		text = more;
	}
	if (text)
		text[used] = '\0';
	return text;
}

static int read_input(const char *name, struct list *list)
{
	FILE *from = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	int err = 0;

	if (!from)
		return say_error("cannot read '%s': %s", name, strerror(errno));
	list->input = read_all(from);
	if (!list->input)
		err = say_error("out of memory");
	else if (ferror(from))
		err = say_error("cannot read '%s': %s", name, strerror(errno));
	if (from != stdin)
		fclose(from);
	return err;
}

/* The next word of *at, which moves behind it; NULL: no more. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, BLANKS);
	size_t len = strcspn(word, BLANKS);

	if (len == 0)
		return NULL;
	*at = word + len + (word[len] != '\0');
	word[len] = '\0';
	return word;
}

static bool parse_addr(const char *word, uint64_t *addr)
{
	const char *digits = word;
	char *end;

	if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
		digits += 2;
	errno = 0;
	*addr = strtoull(digits, &end, 16);
	return strspn(digits, "0123456789abcdefABCDEF") > 0 && *end == '\0' && !errno;
}

static bool parse_node(const char *word, int32_t *node)
{
	char *end;
	long number = strtol(word, &end, 10);

	*node = number > INT32_MAX ? INT32_MAX : (int32_t)number;
	return word[0] >= '0' && word[0] <= '9' && *end == '\0';
}

static int parse_line(struct list *list, size_t number, char *text, bool query)
{
	struct line *line = &list->lines[list->nr];
	char *addr, *node = NULL, *rest;

	text[strcspn(text, "#")] = '\0';
	addr = next_word(&text);
	if (!addr)
		return 0;
	if (!query)
		node = next_word(&text);
	rest = next_word(&text);
	if (!parse_addr(addr, &line->addr))
		return say_error("line %zu: '%s' is not an address in hexadecimal", number, addr);
	if (!query && !node)
		return say_error("line %zu: '%s' is not followed by a node: expected ADDRESS NODE", number,
				 addr);
	if (node && !parse_node(node, &line->node))
		return say_error("line %zu: '%s' is not a node number", number, node);
	if (rest)
		return say_error("line %zu: '%s' is too much: expected ADDRESS%s", number, rest,
				 query ? "" : " NODE");
	line->text = addr;
	line->number = number;
	list->nr++;
	return 0;
}

static int parse_input(struct list *list, bool query)
{
	size_t nr_lines = 1, number = 0;

	for (const char *at = list->input; (at = strchr(at, '\n')); at++)
		nr_lines++;
	list->lines = calloc(nr_lines, sizeof(*list->lines));
	if (!list->lines)
		return say_error("out of memory");
	for (char *at = list->input, *next; at; at = next) {
		next = strchr(at, '\n');
		if (next)
			*next++ = '\0';
		if (parse_line(list, ++number, at, query))
			return CLI_FAILED;
	}
	return 0;
}

static int check_nodes(const struct list *list, const struct session *s)
{
	uint32_t nr_nodes = s->client.hello.nr_nodes;

	for (size_t i = 0; i < list->nr; i++)
		if ((uint32_t)list->lines[i].node >= nr_nodes)
			return say_error("line %zu: node %d: PID %d has nodes 0-%u", list->lines[i].number,
					 list->lines[i].node, s->pid, nr_nodes - 1);
	return 0;
}

/* ---------------------------------------------------------------- moving ---- */

static int ask(struct session *s, const struct line *lines, uint32_t nr, bool query)
{
	struct ctl_move move = { .count = nr, .query = query, .opt = { .size = sizeof(move.opt) } };
	struct ctl_move_entry entries[CTL_MOVE_MAX];
	const struct iovec body[] = {
		{ .iov_base = &move, .iov_len = sizeof(move) },
		{ .iov_base = entries, .iov_len = nr * sizeof(entries[0]) },
	};
	int err;

	for (uint32_t i = 0; i < nr; i++)
		entries[i] = (struct ctl_move_entry){ .addr = lines[i].addr, .node = lines[i].node };
	err = ctl_send(&s->client, CTL_MOVE, body, 2);
	if (err)
		return session_error(s, err);
	do {
		if (session_expect(s, CTL_STATUS, CTL_PROGRESS))
			return CLI_FAILED;
	} while (s->msg.head.type == CTL_PROGRESS);
	return s->msg.moved.head.count == nr ? 0 : session_error(s, -EPROTO);
}

static void print_status(const struct line *line, int32_t status, bool json)
{
	const char *name;
	char buf[ERRNO_TEXT];
	cJSON *object;

	name = status < 0 ? errno_name(status, buf) : NULL;
	if (!json) {
		if (name)
			printf("%s %s\n", line->text, name);
		else
			printf("%s %d\n", line->text, status);
		return;
	}
	object = json_object();
	json_add_addr(object, "address", line->addr);
	if (name) {
		json_add_null(object, "node");
		json_add_text(object, "error", name);
	} else {
		json_add_u64(object, "node", (uint64_t)status);
		json_add_null(object, "error");
	}
	json_print(object, stdout);
}

static int move_all(struct session *s, const struct list *list, bool query, bool json)
{
	int status = CLI_DONE;

	for (size_t at = 0; at < list->nr; at += CTL_MOVE_MAX) {
		uint32_t nr = list->nr - at < CTL_MOVE_MAX ? (uint32_t)(list->nr - at) : CTL_MOVE_MAX;
		const struct line *lines = list->lines + at;
		char name[ERRNO_TEXT];

		if (ask(s, lines, nr, query))
			return at ? CLI_LEFT : CLI_FAILED;
		if (s->msg.moved.head.ret < 0) {
			say_error("PID %d: %s", s->pid, errno_name((int)s->msg.moved.head.ret, name));
			return at ? CLI_LEFT : CLI_FAILED;
		}
		for (uint32_t i = 0; i < nr; i++) {
			print_status(&lines[i], s->msg.moved.status[i], json);
			if (!query && s->msg.moved.status[i] != lines[i].node)
				status = CLI_LEFT;
		}
	}
	return status;
}

static int run(const struct cli_args *args)
{
	bool query = args_has(args, OPT_QUERY);
	struct list list = { 0 };
	struct session s;
	int status;

	s.client.fd = -1;
	status = read_input(args->nr > 1 ? args->operands[1] : "-", &list);
	if (!status)
		status = parse_input(&list, query);
	if (!status)
		status = session_open(&s, args->operands[0]);
	if (!status && !query)
		status = check_nodes(&list, &s);
	if (!status)
		status = move_all(&s, &list, query, args_has(args, OPT_JSON));
	session_close(&s);
	free(list.lines);
	free(list.input);
	return status;
}

static const struct cli_option options[] = {
	{ OPT_QUERY, 0, "query", NULL, "only ask: lines of ADDRESS; nothing moves", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_move = {
	.name = "move",
	.usage = "[--query] [--json] PID [FILE]",
	.summary = "move single pages, or ask where they are",
	.text = "Read lines \"ADDRESS NODE\" from FILE (or standard input) and move the page at\n"
		"each ADDRESS (hexadecimal) to NODE; print \"ADDRESS STATUS\", where STATUS is\n"
		"the node that the page is on now or the name of an errno. '#' begins a\n"
		"comment. Nothing moves if a line is bad.\n"
		"Exits with 0 if all pages are where they were asked to be, with 2 if not.",
	.options = options,
	.min = 1,
	.max = 2,
	.run = run,
};

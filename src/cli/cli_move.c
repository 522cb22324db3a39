/* SPDX-License-Identifier: MIT */
/*
 * godwit move: move single pages, named by lines "ADDRESS NODE", or ask where they are; or carry out a profiler's log.
 */
#define _GNU_SOURCE 1
#include "profiler.h"
#include "via.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGES_DEFAULT (1U << 20)
#define MAJORITY_DEFAULT 67
#define PERF_DATA "PERFILE2"	/* what perf record writes begins so */
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

static bool parse_number(const char *word, int32_t *node)
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
	if (node && !parse_number(node, &line->node))
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

static int check_nodes(const struct list *list, const struct actor *a)
{
	const struct session *s = &a->session;
	uint32_t nr_nodes = s->client.hello.nr_nodes;

	for (size_t i = 0; a->via == VIA_KERNEL && i < list->nr; i++)
		if (kernel_move_check(a, list->lines[i].number, list->lines[i].node))
			return CLI_FAILED;
	for (size_t i = 0; a->via == VIA_ENGINE && i < list->nr; i++)
		if ((uint32_t)list->lines[i].node >= nr_nodes)
			return say_error("line %zu: node %d: PID %d has nodes 0-%u", list->lines[i].number,
					 list->lines[i].node, s->pid, nr_nodes - 1);
	return 0;
}

/* ---------------------------------------------------------------- moving ---- */

int move_pages_of(struct session *s, const struct ctl_move_entry *entries, uint32_t nr, bool query,
		  const struct gw_migrate_options *opt)
{
	struct ctl_move move = { .count = nr, .query = query, .opt = *opt };
	const struct iovec body[] = {
		{ .iov_base = &move, .iov_len = sizeof(move) },
		{ .iov_base = (void *)(uintptr_t)entries, .iov_len = nr * sizeof(entries[0]) },
	};
	int err = ctl_send(&s->client, CTL_MOVE, body, 2);

	if (err)
		return session_error(s, err);
	do {
		if (session_expect(s, CTL_STATUS, CTL_PROGRESS))
			return CLI_FAILED;
	} while (s->msg.head.type == CTL_PROGRESS);
	return s->msg.moved.head.count == nr ? 0 : session_error(s, -EPROTO);
}

static int ask(struct session *s, const struct line *lines, uint32_t nr, bool query)
{
	struct gw_migrate_options opt = { .size = sizeof(opt) };
	struct ctl_move_entry entries[CTL_MOVE_MAX];

	for (uint32_t i = 0; i < nr; i++)
		entries[i] = (struct ctl_move_entry){ .addr = lines[i].addr, .node = lines[i].node };
	return move_pages_of(s, entries, nr, query, &opt);
}

/* The mover: status[] of nr lines, by the engine or by the kernel. 0, or CLI_FAILED after saying why. */
static int move_lines(struct actor *a, const struct line *lines, uint32_t nr, bool query, int32_t *status)
{
	struct session *s = &a->session;
	struct page_request pages[CTL_MOVE_MAX];
	char name[ERRNO_TEXT];

	if (a->via == VIA_KERNEL) {
		for (uint32_t i = 0; i < nr; i++)
			pages[i] = (struct page_request){ .addr = lines[i].addr, .node = lines[i].node };
		return kernel_move_run(a, pages, nr, query, status);
	}
	if (ask(s, lines, nr, query))
		return CLI_FAILED;
	if (s->msg.moved.head.ret < 0)
		return say_error("PID %d: %s", s->pid, errno_name((int)s->msg.moved.head.ret, name));
	memcpy(status, s->msg.moved.status, nr * sizeof(*status));
	return 0;
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

static int move_all(struct actor *a, const struct list *list, bool query, bool json)
{
	int status = CLI_DONE;

	for (size_t at = 0; at < list->nr; at += CTL_MOVE_MAX) {
		uint32_t nr = list->nr - at < CTL_MOVE_MAX ? (uint32_t)(list->nr - at) : CTL_MOVE_MAX;
		const struct line *lines = list->lines + at;
		int32_t got[CTL_MOVE_MAX];

		if (move_lines(a, lines, nr, query, got))
			return at ? CLI_LEFT : CLI_FAILED;
		for (uint32_t i = 0; i < nr; i++) {
			print_status(&lines[i], got[i], json);
			if (!query && got[i] != lines[i].node)
				status = CLI_LEFT;
		}
	}
	return status;
}

/* Each line is an order: all are read, and then carried out one after the other. */
static int run_list(const struct cli_args *args, struct source *src)
{
	bool query = args_has(args, OPT_QUERY);
	struct list list = { 0 };
	struct actor a = ACTOR_NONE;
	int status = 0, err;

	list.input = source_rest(src, &err);
	if (!list.input)
		status = say_error("out of memory");
	else if (err)
		status = say_error("cannot read '%s': %s", src->name, strerror(-err));
	if (!status)
		status = parse_input(&list, query);
	if (!status)
		status = actor_open(&a, args, args->operands[0]);
	if (!status && !query)
		status = check_nodes(&list, &a);
	if (!status)
		status = move_all(&a, &list, query, args_has(args, OPT_JSON));
	actor_close(&a);
	free(list.lines);
	free(list.input);
	return status;
}

/* ---------------------------------------------------------------- logs ---- */

static const enum cli_opt log_options[] = { OPT_FOLLOW, OPT_INTERVAL, OPT_HOT,	  OPT_COLD,  OPT_LEAST,	   OPT_MAJORITY,
					    OPT_TARGET, OPT_PAGES,    OPT_STRICT, OPT_RATE,  OPT_MAX_STALL, OPT_DRY_RUN,
					    OPT_QUIET };

/* The first option that a list of orders has no use for, or NULL. */
static const char *log_option(const struct cli_args *args)
{
	for (size_t i = 0; i < sizeof(log_options) / sizeof(log_options[0]); i++)
		if (args_has(args, log_options[i]))
			return args_value(args, log_options[i], 0)->option->name;
	return NULL;
}

/* The format of the first line that is understood; LOG_AUTO: there is none. Nothing is used up. */
static enum log_format look(struct source *src)
{
	size_t at = 0;

	for (;;) {
		char *begin = src->buf + src->begin + at, *line;
		size_t len = src->end - src->begin - at;
		char *end = memchr(begin, '\n', len);
		struct log_entry entries[LOG_ENTRIES];
		struct log_parser parser;
		struct pollfd p = { .fd = src->fd, .events = POLLIN };
		bool said;

		if (!end && !src->ended && src->end - src->begin < src->room) {
			if (source_fill(src) == 0 && !src->ended)
				poll(&p, 1, -1);
			continue;
		}
		line = strndup(begin, end ? (size_t)(end - begin) : len);
		log_begin(&parser, LOG_AUTO);
		if (line)
			log_line(&parser, line, entries);
		said = parser.format != LOG_AUTO;
		free(line);
		if (said || !end)
			return parser.format;
		at += (size_t)(end + 1 - begin);
	}
}

static int parse_node(const struct session *s, const struct cli_args *args, enum cli_opt id, int *node)
{
	uint64_t number = args_number(args, id, UINT64_MAX);

	*node = -1;
	if (number == UINT64_MAX)
		return 0;
	if (number >= s->client.hello.nr_nodes)
		return say_error("--%s %" PRIu64 ": PID %d has nodes 0-%u", args_value(args, id, 0)->option->name,
				 number, s->pid, s->client.hello.nr_nodes - 1);
	*node = (int)number;
	return 0;
}

static int log_rules(const struct session *s, const struct cli_args *args, struct profile_rules *rules)
{
	*rules = (struct profile_rules){
		.least = (uint32_t)args_number(args, OPT_LEAST, 1),
		.percent = (uint32_t)args_number(args, OPT_MAJORITY, MAJORITY_DEFAULT),
		.by_heat = args_has(args, OPT_HOT) || args_has(args, OPT_COLD),
	};
	if (rules->by_heat && args_has(args, OPT_MAJORITY))
		return say_error("move: --majority is about the nodes that use a page, --hot and --cold about how "
				 "often it is used: give one of them");
	if (parse_node(s, args, OPT_HOT, &rules->hot))
		return CLI_FAILED;
	return parse_node(s, args, OPT_COLD, &rules->cold);
}

static int run_log(const struct cli_args *args, struct source *src, enum log_format format)
{
	struct actor a = ACTOR_NONE;
	struct profiler *p = calloc(1, sizeof(*p));
	int status = p ? actor_open(&a, args, args->operands[0]) : say_error("out of memory");

	if (!status && a.via == VIA_KERNEL)
		host_hello(&a, (uint32_t)args_number(args, OPT_MAX_STALL, 0));
	if (status) {
		actor_close(&a);
		free(p);
		return status;
	}
	p->a = &a;
	p->s = &a.session;
	p->src = src;
	p->opt = (struct gw_migrate_options){
		.size = sizeof(p->opt),
		.stall_us_max = (uint32_t)args_number(args, OPT_MAX_STALL, 0),
		.rate = args_number(args, OPT_RATE, 0) * 1000000,
	};
	p->target = args_has(args, OPT_TARGET) ? (int64_t)args_number(args, OPT_TARGET, 0) : -1;
	p->most_pages = (uint32_t)args_number(args, OPT_PAGES, PAGES_DEFAULT);
	p->interval_ms = args_has(args, OPT_FOLLOW) ? (uint32_t)args_number(args, OPT_INTERVAL, 1000) : 0;
	p->dry = args_has(args, OPT_DRY_RUN);
	p->json = args_has(args, OPT_JSON);
	p->quiet = args_has(args, OPT_QUIET);
	p->strict = args_has(args, OPT_STRICT);
	p->progress = isatty(STDERR_FILENO) && !p->quiet;
	log_begin(&p->parser, format);
	status = log_rules(&a.session, args, &p->rules);
	if (!status)
		status = profiler_run(p);
	actor_close(&a);
	free(p);
	return status;
}

static int take_format(const struct cli_args *args, enum log_format *format)
{
	const struct cli_value *value = args_value(args, OPT_FORMAT, 0);
	const char *option = log_option(args);

	*format = value ? log_format_parse(value->text) : LOG_AUTO;
	if (*format == LOG_FORMATS)
		return say_error("move: --format '%s': expected auto, plain, perf, memtierd or damon", value->text);
	if (args_has(args, OPT_QUERY) && (option || value))
		return say_error("move: --query asks where pages are, --%s is about a log: give one of them",
				 option ? option : "format");
	if (args_has(args, OPT_INTERVAL) && !args_has(args, OPT_FOLLOW))
		return say_error("move: --interval is how often a log is carried out that grows: give --follow too");
	return 0;
}

static int run(const struct cli_args *args)
{
	const char *name = args->nr > 1 ? args->operands[1] : "-";
	enum log_format format;
	struct source src = { .fd = -1 };
	int status;

	if (take_format(args, &format) || source_open(&src, name, args_has(args, OPT_FOLLOW))) {
		source_close(&src);
		return CLI_FAILED;
	}
	if (!log_option(args) && !args_has(args, OPT_QUERY) && format == LOG_AUTO)
		format = look(&src);
	if (src.end - src.begin >= strlen(PERF_DATA) &&
	    memcmp(src.buf + src.begin, PERF_DATA, strlen(PERF_DATA)) == 0) {
		source_close(&src);
		return say_error("'%s' is perf's own file: give what 'perf script -i %s -F +addr' prints", name, name);
	}
	/* lines "ADDRESS NODE", good or bad, are orders, unless something is asked for that only a log has */
	if (args_has(args, OPT_QUERY) || (!log_option(args) && (format == LOG_AUTO || format == LOG_PLAIN)))
		status = run_list(args, &src);
	else
		status = run_log(args, &src, format);
	source_close(&src);
	return status;
}

static const struct cli_option options[] = {
	VIA_OPTION,
	ATTACH_OPTION,
	{ OPT_QUERY, 0, "query", NULL, "only ask: lines of ADDRESS; nothing moves", 0, 0 },
	{ OPT_FORMAT, 0, "format", "FORMAT", "auto, plain, perf, memtierd or damon", 0, 0 },
	{ OPT_FOLLOW, 0, "follow", NULL, "the log grows: carry it out as it does", 0, 0 },
	{ OPT_INTERVAL, 0, "interval", "MS", "with --follow: how often (1000)", 10, 3600000 },
	{ OPT_MAJORITY, 0, "majority", "PERCENT", "of a page's samples that a node must have (67)", 51, 100 },
	{ OPT_LEAST, 0, "min-accesses", "N", "fewer samples, or less heat, is seldom, or cold (1)", 1, UINT32_MAX },
	{ OPT_HOT, 0, "hot", "NODE", "where what is used often belongs, whoever uses it", 0, GW_MAX_NODES - 1 },
	{ OPT_COLD, 0, "cold", "NODE", "where what is used seldom belongs", 0, GW_MAX_NODES - 1 },
	{ OPT_TARGET, 0, "target", "N", "which of DAMON's targets is PID", 0, INT64_MAX },
	{ OPT_PAGES, 0, "pages", "N", "count at most so many pages at once (1048576)", 1, 1U << 28 },
	{ OPT_STRICT, 0, "strict", NULL, "end at a line that is not understood", 0, 0 },
	{ OPT_DRY_RUN, 0, "dry-run", NULL, "only say what would move", 0, 0 },
	{ OPT_MAX_STALL, 0, "max-stall", "US", "bound of a stall of the program (microseconds)", 1, 1000000 },
	{ OPT_RATE, 0, "rate", "MB/s", "move at most that much, in 10^6 bytes a second", 1, 1000000000 },
	{ OPT_QUIET, 'q', "quiet", NULL, "no progress and no summary: only the exit status", 0, 0 },
	{ .name = NULL },
};

const struct cli_command cli_move = {
	.name = "move",
	.usage = "[OPTION...] PID [FILE]",
	.summary = "move single pages, or those that a profiler's log names",
	.text = "Read lines \"ADDRESS NODE\" from FILE (or standard input) and move the page at\n"
		"each ADDRESS (hexadecimal) to NODE; print \"ADDRESS STATUS\", where STATUS is\n"
		"the node that the page is on now or the name of an errno. '#' begins a\n"
		"comment. Nothing moves if a line is bad. A process that has no engine is moved\n"
		"by the kernel, on the nodes of the host.\n\n"
		"Or FILE is a profiler's log, and pages move to where they are used: what 'perf\n"
		"script' prints of memory samples; memtierd's counters, raw dump or heatmap; or\n"
		"DAMON's events or regions. With one of the options below lines \"ADDRESS NODE\"\n"
		"are a log too: each says that NODE used the page. Lists of ranges, which know\n"
		"how hot memory is and not who uses it, need --hot, --cold or both.\n\n"
		"Exits with 0 if all pages are where they were asked to be, with 2 if not, and\n"
		"with 1 if nothing was done, as with a log of which nothing was understood.",
	.options = options,
	.min = 1,
	.max = 2,
	.run = run,
};

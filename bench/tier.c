/* SPDX-License-Identifier: MIT */
/*
 * Loads that are larger than their memory, and what measures them: bench/tier.sh runs them under no limit, under godwit
 * and under the kernel's swap. One line of key=value on stdout. Exit 0; 1: wrong bytes, usage or environment.
 */
#define _GNU_SOURCE 1
#include "tier/load.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
	const char *name, *help;
	int (*run)(const struct options *o);
};

static const struct command commands[] = {
	{ "kv", "zipfian key-value loop", run_kv },
	{ "scan", "sequential scan, repeated", run_scan },
	{ "bfs", "breadth-first search of a random power-law graph", run_bfs },
	{ "gups", "random 64-bit updates", run_gups },
	{ "fault", "the touch of a far page: --pageout, or whoever answers on stdin makes it far", run_fault },
	{ "hold", "memory that goes far as a whole, as above, and is verified", run_hold },
	{ "lz4", "a compressor on its own", run_lz4 },
	{ "fill-redis", "set keys in the redis-server at --socket", run_fill_redis },
	{ "check-redis", "verify them", run_check_redis },
	{ "watch", "run a command and sample its memory", run_watch },
};

enum kind { MIBS, REAL, COUNT, NUMBER, TEXT, FLAG };

struct setting {
	const char *name;
	enum kind kind;
	size_t at;		/* in struct options */
	double min, max;
};

#define AT(field) offsetof(struct options, field)

static const struct setting settings[] = {
	{ "--mb", MIBS, AT(bytes), 1, 1e6 },
	{ "--seconds", REAL, AT(seconds), 0.01, 1e5 },
	{ "--warm", REAL, AT(warm), 0, 1e5 },
	{ "--timeout", REAL, AT(timeout), 0.1, 1e6 },
	{ "--theta", REAL, AT(theta), 0.01, 0.999 },
	{ "--writes", COUNT, AT(writes), 0, 100 },
	{ "--random", COUNT, AT(random), 0, 100 },
	{ "--value", COUNT, AT(value), 32, 65536 },
	{ "--seed", NUMBER, AT(seed), 0, 1e15 },
	{ "--tell", TEXT, AT(tell), 0, 0 },
	{ "--socket", TEXT, AT(socket), 0, 0 },
	{ "--usage", TEXT, AT(usage), 0, 0 },
	{ "--procs", TEXT, AT(procs), 0, 0 },
	{ "--pool", TEXT, AT(pool), 0, 0 },
	{ "--pageout", FLAG, AT(pageout), 0, 0 },
};

static int usage(void)
{
	fprintf(stderr, "Usage: tier COMMAND [--mb N] [--seconds S] [--warm S] [--theta T] [--writes %%]\n"
			"       [--random %%] [--value BYTES] [--seed N] [--tell FIFO] [--socket PATH] [--pageout]\n"
			"       tier watch [--timeout S] [--tell FIFO] [--procs FILE] [--usage FILE] [--pool MM_STAT]\n"
			"       -- CMD [ARG...]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(stderr, "  %-12s %s\n", commands[i].name, commands[i].help);
	return 1;
}

/* A number from min to max, or the end. */
static double number(const struct setting *s, const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= s->min && v <= s->max)) {
		fprintf(stderr, "tier: %s '%s': expected a number from %g to %g\n", s->name, text, s->min, s->max);
		exit(1);
	}
	return v;
}

static void set(struct options *o, const struct setting *s, const char *text)
{
	char *at = (char *)o + s->at;

	switch (s->kind) {
	case MIBS:
		*(uint64_t *)at = (uint64_t)number(s, text) * MIB;
		break;
	case REAL:
		*(double *)at = number(s, text);
		break;
	case COUNT:
		*(uint32_t *)at = (uint32_t)number(s, text);
		break;
	case NUMBER:
		*(uint64_t *)at = (uint64_t)number(s, text);
		break;
	case TEXT:
		*(const char **)at = text;
		break;
	case FLAG:
		*(bool *)at = true;
		break;
	}
}

static const struct setting *setting_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (!strcmp(settings[i].name, name))
			return &settings[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct options o = { .bytes = 512 * MIB, .seconds = 8, .warm = 2, .timeout = 300, .theta = 0.99, .writes = 30,
			     .random = 50, .value = 1024, .seed = 1 };
	int i;

	for (i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const struct setting *s = setting_of(argv[i]);

		if (!s || (s->kind != FLAG && i + 1 == argc))
			return usage();
		set(&o, s, s->kind == FLAG ? NULL : argv[++i]);
	}
	o.value &= ~7U;
	o.rest = argv + (i < argc ? i + 1 : argc);
	for (size_t c = 0; argc > 1 && c < ARRAY_LEN(commands); c++)
		if (!strcmp(commands[c].name, argv[1]))
			return commands[c].run(&o);
	return usage();
}

/* SPDX-License-Identifier: MIT */
/*
 * Keys of a redis-server as redis-benchmark -r names them, with values that compress as the other loads' do
 * (redis-benchmark's own are one value for all keys): set, and read again to be verified. A pipeline of 64 over a unix
 * socket.
 */
#define _GNU_SOURCE 1
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIPELINE 64
#define KEY_LEN 16 /* "key:000000000000" */

static FILE *connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path ? path : "");
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		fprintf(stderr, "tier: cannot connect to '%s': %s\n", addr.sun_path, strerror(errno));
		exit(1);
	}
	return fdopen(fd, "r+");
}

static void value_of(const struct options *o, uint64_t key, char *value)
{
	fill_words((uint64_t *)value, o->value / 8, mix(key + o->seed), o->random);
}

static uint64_t nr_keys(const struct options *o)
{
	return o->bytes / o->value;
}

static void ask_set(const struct options *o, FILE *f, uint64_t key, char *value)
{
	value_of(o, key, value);
	fprintf(f, "*3\r\n$3\r\nSET\r\n$%d\r\nkey:%012lu\r\n$%u\r\n", KEY_LEN, (unsigned long)key, o->value);
	fwrite(value, 1, o->value, f);
	fputs("\r\n", f);
}

static void expect_ok(FILE *f, uint64_t key)
{
	char line[256];

	if (!fgets(line, sizeof(line), f) || strcmp(line, "+OK\r\n") != 0)
		wrong("redis", "no +OK for key", key);
}

static void expect_value(const struct options *o, FILE *f, uint64_t key, char *value)
{
	char line[64], *got = value + o->value;

	value_of(o, key, value);
	if (!fgets(line, sizeof(line), f) || line[0] != '$' || strtoul(line + 1, NULL, 10) != o->value ||
	    fread(got, 1, o->value + 2, f) != o->value + 2 || memcmp(got, value, o->value) != 0)
		wrong("redis", "key", key);
}

static int go_through(const struct options *o, bool sets)
{
	FILE *f = connect_to(o->socket);
	char *value = malloc(o->value * 2 + 8);
	uint64_t nr = nr_keys(o);

	if (!f || !value)
		return 1;
	for (uint64_t key = 0; key < nr; key += PIPELINE) {
		uint64_t end = key + PIPELINE < nr ? key + PIPELINE : nr;

		for (uint64_t k = key; k < end; k++) {
			if (sets)
				ask_set(o, f, k, value);
			else
				fprintf(f, "*2\r\n$3\r\nGET\r\n$%d\r\nkey:%012lu\r\n", KEY_LEN, (unsigned long)k);
		}
		fflush(f);
		for (uint64_t k = key; k < end; k++) {
			if (sets)
				expect_ok(f, k);
			else
				expect_value(o, f, k, value);
		}
	}
	free(value);
	fclose(f);
	printf("keys=%lu\n", (unsigned long)nr);
	return 0;
}

int run_fill_redis(const struct options *o)
{
	return go_through(o, true);
}

int run_check_redis(const struct options *o)
{
	return go_through(o, false);
}

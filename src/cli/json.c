/* SPDX-License-Identifier: MIT */
/*
 * JSON output: cJSON with 64-bit numbers in full and texts that are always UTF-8.
 */
#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 sequence at text, 0 if there is none. */
static int utf8_len(const unsigned char *text)
{
	unsigned int code;
	int len;

	if (text[0] < 0x80)
		return 1;
	len = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	code = text[0] & (0xffU >> (len + 1));
	for (int i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	if ((len == 3 && code < 0x800) || (len == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return code >= 0xd800 && code <= 0xdfff ? 0 : len;
}

/* A copy in which every byte that is no UTF-8 is U+FFFD; NULL: no memory. */
static char *utf8_copy(const char *text)
{
	char *copy = malloc(strlen(text) * 3 + 1), *to = copy;

	while (copy && *text) {
		int len = utf8_len((const unsigned char *)text);

		memcpy(to, len ? text : "\xef\xbf\xbd", (size_t)(len ? len : 3));
		to += len ? len : 3;
		text += len ? len : 1;
	}
	if (copy)
		*to = '\0';
	return copy;
}

static cJSON *text_item(const char *value)
{
	char *copy = utf8_copy(value);
	cJSON *item = copy ? cJSON_CreateString(copy) : NULL;

	free(copy);
	return item;
}

cJSON *json_object(void)
{
	return cJSON_CreateObject();
}

cJSON *json_add_object(cJSON *object, const char *key)
{
	return cJSON_AddObjectToObject(object, key);
}

cJSON *json_add_array(cJSON *object, const char *key)
{
	return cJSON_AddArrayToObject(object, key);
}

cJSON *json_append_object(cJSON *array)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddItemToArray(array, object);
	return object;
}

void json_append_text(cJSON *array, const char *value)
{
	cJSON_AddItemToArray(array, text_item(value));
}

void json_add_u64(cJSON *object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	cJSON_AddRawToObject(object, key, text);
}

void json_add_real(cJSON *object, const char *key, double value, int digits)
{
	char text[340];

	snprintf(text, sizeof(text), "%.*f", digits, value);
	cJSON_AddRawToObject(object, key, text);
}

void json_add_us(cJSON *object, const char *key, uint64_t ns)
{
	json_add_real(object, key, (double)ns / 1000, 3);
}

void json_add_bool(cJSON *object, const char *key, bool value)
{
	cJSON_AddBoolToObject(object, key, value);
}

void json_add_null(cJSON *object, const char *key)
{
	cJSON_AddNullToObject(object, key);
}

void json_add_text(cJSON *object, const char *key, const char *value)
{
	cJSON_AddItemToObject(object, key, text_item(value));
}

void json_add_addr(cJSON *object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	cJSON_AddStringToObject(object, key, text);
}

void json_print(cJSON *object, FILE *to)
{
	char *line = cJSON_PrintUnformatted(object);

	if (!line)
		exit(say_error("out of memory"));
	fprintf(to, "%s\n", line);
	free(line);
	cJSON_Delete(object);
}

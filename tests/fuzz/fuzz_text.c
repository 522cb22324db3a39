/* SPDX-License-Identifier: MIT */
/*
 * Names that other processes chose, on their way to a terminal and into JSON: nothing of them steers the terminal,
 * and the JSON is one line of valid JSON whatever they hold.
 */
#include "fuzz.h"

#include "cli/cli.h"

static void terminal(const char *text, size_t cap)
{
	char *buf = malloc(cap);

	must(buf);
	clean_text(text, buf, cap);
	must(strlen(buf) < cap && strlen(buf) <= strlen(text));
	for (const char *s = buf; *s; s++) {
		unsigned char ch = (unsigned char)s[0], next = (unsigned char)s[1];

		must(ch >= 0x20 && ch != 0x7f);
		must(ch != 0xc2 || next < 0x80 || next >= 0xa0);
	}
	free(buf);
}

/* What JSON was made of it: one line, and read again the same text unless that was no UTF-8. */
static void json(const char *text)
{
	char *line = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&line, &len);
	cJSON *object = json_object(), *read, *again;

	must(f && object);
	json_add_text(object, "name", text);
	json_add_text(object, "after", "end");
	json_print(object, f);
	must(!fclose(f) && len && line[len - 1] == '\n');
	must(memchr(line, '\n', len) == line + len - 1);
	for (size_t i = 0; i + 1 < len; i++)
		must((unsigned char)line[i] >= 0x20);
	read = cJSON_Parse(line);
	again = cJSON_GetObjectItem(read, "name");
	must(cJSON_IsString(again) && cJSON_IsString(cJSON_GetObjectItem(read, "after")));
	must(strstr(again->valuestring, "\xef\xbf\xbd") || !strcmp(again->valuestring, text));
	cJSON_Delete(read);
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_text(data, size);

	terminal(text, size ? 1 + data[0] % 70U : 1);
	terminal(text, size + 2);
	json(text);
	free(text);
	return 0;
}

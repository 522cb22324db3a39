/* SPDX-License-Identifier: MIT */
/* Sizes and numbers, beside a reading of the same text that is slow and obvious. */
#include "fuzz.h"

#include "base/base.h"

#include <ctype.h>

static bool obvious(const char *text, size_t len, uint64_t *out)
{
	static const char units[] = "kmgt";
	unsigned __int128 v = 0;
	size_t i;

	for (i = 0; i < len && isdigit((unsigned char)text[i]); i++) {
		v = v * 10 + (unsigned int)(text[i] - '0');
		if (v > UINT64_MAX)
			return false;
	}
	if (!i)
		return false;
	if (i < len) {
		const char *unit = strchr(units, tolower((unsigned char)text[i]));

		if (!unit || !text[i] || i + 1 != len)
			return false;
		v <<= 10 * (unit - units + 1);
	}
	*out = (uint64_t)v;
	return v <= UINT64_MAX;
}

static void one_size(const char *text, size_t len)
{
	uint64_t got = 0, want = 0;
	bool good = obvious(text, len, &want);

	must(str_size(text, len, &got) == good);
	must(!good || got == want);
}

static void one_number(const char *text, int base)
{
	const char *at = text;
	uint64_t v;
	char back[40];

	if (!str_u64(&at, base, &v)) {
		must(at == text);
		return;
	}
	must(at > text && at <= text + strlen(text));
	snprintf(back, sizeof(back), base == 10 ? "%lu" : "%lx", (unsigned long)v);
	while (*text == '0' && text + 1 < at)
		text++;
	must(strlen(back) == (size_t)(at - text) && !strncasecmp(back, text, strlen(back)));
}

static void joined(const char *text, uint64_t v)
{
	char buf[16] = "", before[16];

	for (int i = 0; i < 3; i++) {
		memcpy(before, buf, sizeof(buf));
		if (!(i % 2 ? str_cat_u64(buf, sizeof(buf), v) : str_cat(buf, sizeof(buf), text)))
			must(!strcmp(before, buf));
		must(strlen(buf) < sizeof(buf));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_text(data, size);
	struct input in = { data, size };

	one_size(text, strlen(text));
	/* as in a specification: a comma and more behind the size */
	one_size(text, strcspn(text, ","));
	one_number(text, 10);
	one_number(text, 16);
	joined(text, input_u64(&in));
	free(text);
	return 0;
}

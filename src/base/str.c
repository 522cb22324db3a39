/* SPDX-License-Identifier: MIT */
/* The little of strings that engine threads need, without libc's locale or buffers. */
#include "base/base.h"

#include <string.h>

bool str_cat(char *buf, size_t cap, const char *s)
{
	size_t at = strlen(buf), len = strlen(s);

	if (at + len + 1 > cap)
		return false;
	memcpy(buf + at, s, len + 1);
	return true;
}

bool str_cat_u64(char *buf, size_t cap, uint64_t v)
{
	char digits[24];
	size_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return str_cat(buf, cap, digits + i);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

bool str_u64(const char **s, int base, uint64_t *out)
{
	uint64_t v = 0;
	const char *p = *s;

	for (; digit(*p) < base; p++)
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, (uint64_t)digit(*p), &v))
			return false;
	if (p == *s)
		return false;
	*s = p;
	*out = v;
	return true;
}

bool str_size(const char *s, size_t len, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *end = s, *unit;
	uint64_t v;

	if (!str_u64(&end, 10, &v) || end > s + len)
		return false;
	if (end < s + len) {
		unit = memchr(units, *end & ~0x20, 4);
		if (!unit || end + 1 != s + len)
			return false;
		for (long i = unit - units; i >= 0; i--)
			if (__builtin_mul_overflow(v, 1024ULL, &v))
				return false;
	}
	*out = v;
	return true;
}

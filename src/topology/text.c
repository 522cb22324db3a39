/* SPDX-License-Identifier: MIT */
/* Text in memory of a fixed size. */
#include "topology/text.h"

#include <string.h>

void text_add_bytes(struct text *t, const char *s, size_t len)
{
	if (t->full || len > t->cap - t->len) {
		t->full = true;
		return;
	}
	memcpy(t->buf + t->len, s, len);
	t->len += len;
}

void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

void text_add_char(struct text *t, char c)
{
	text_add_bytes(t, &c, 1);
}

static void add_number(struct text *t, uint64_t v, unsigned int base, unsigned int width, char pad)
{
	char digits[24];
	size_t i = sizeof(digits);

	do {
		digits[--i] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (sizeof(digits) - i < width && i)
		digits[--i] = pad;
	text_add_bytes(t, digits + i, sizeof(digits) - i);
}

void text_add_u64(struct text *t, uint64_t v, unsigned int width)
{
	add_number(t, v, 10, width, ' ');
}

void text_add_hex(struct text *t, uint64_t v, unsigned int width)
{
	add_number(t, v, 16, width, '0');
}

static bool has_bit(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

void text_add_list(struct text *t, const uint64_t *bits, uint32_t nr_bits)
{
	bool any = false;

	for (uint32_t i = 0; i < nr_bits; i++) {
		uint32_t last = i;

		if (!has_bit(bits, i))
			continue;
		while (last + 1 < nr_bits && has_bit(bits, last + 1))
			last++;
		if (any)
			text_add_char(t, ',');
		text_add_u64(t, i, 0);
		if (last > i) {
			text_add_char(t, '-');
			text_add_u64(t, last, 0);
		}
		any = true;
		i = last;
	}
}

void text_add_map(struct text *t, const uint64_t *bits, uint32_t nr_bits)
{
	uint32_t words = (nr_bits + 31) / 32;

	for (uint32_t w = words; w-- > 0;) {
		uint32_t in_word = w == words - 1 ? nr_bits - w * 32 : 32;
		uint64_t word = bits[w / 2] >> w % 2 * 32 & 0xffffffff;

		if (in_word < 32)
			word &= (1U << in_word) - 1;
		text_add_hex(t, word, (in_word + 3) / 4);
		if (w)
			text_add_char(t, ',');
	}
}

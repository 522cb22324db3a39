/* SPDX-License-Identifier: MIT */
/*
 * The engine's own memory and string functions, under libc's names but seen by this object only.
 *
 * libc's read tuning variables in libc's own data, which is managed like everything else: a copy
 * made while that page is in flight would wait for itself. The compiler may also call these four on
 * its own account. The empty asm in the loops keeps it from turning them into calls of themselves.
 */
#include "base/base.h"

#define HIDDEN __attribute__((visibility("hidden")))

void *memcpy(void *restrict dst, const void *restrict src, size_t n) HIDDEN;
void *memmove(void *dst, const void *src, size_t n) HIDDEN;
void *memset(void *dst, int c, size_t n) HIDDEN;
int memcmp(const void *a, const void *b, size_t n) HIDDEN;
void *memchr(const void *s, int c, size_t n) HIDDEN;
size_t strlen(const char *s) HIDDEN;
int strcmp(const char *a, const char *b) HIDDEN;
int strncmp(const char *a, const char *b, size_t n) HIDDEN;
char *strchr(const char *s, int c) HIDDEN;
char *strstr(const char *s, const char *word) HIDDEN;
size_t strcspn(const char *s, const char *reject) HIDDEN;
size_t strspn(const char *s, const char *accept) HIDDEN;
char *strrchr(const char *s, int c) HIDDEN;

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	void *to = dst;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	char *to = (char *)dst + n;
	const char *from = (const char *)src + n;

	if ((uintptr_t)dst - (uintptr_t)src >= n)
		return memcpy(dst, src, n);
	while (n--) {
		*--to = *--from;
		__asm__ volatile("" ::: "memory");
	}
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *to = dst;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (; n; n--, x++, y++) {
		if (*x != *y)
			return *x - *y;
		__asm__ volatile("");
	}
	return 0;
}

void *memchr(const void *s, int c, size_t n)
{
	const char *p = s;

	for (; n; n--, p++) {
		if (*p == (char)c)
			return (void *)(uintptr_t)p;
		__asm__ volatile("");
	}
	return NULL;
}

size_t strlen(const char *s)
{
	const char *p = s;

	for (; *p; p++)
		__asm__ volatile("");
	return (size_t)(p - s);
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++) {
		if (*a != *b || !*a)
			return (unsigned char)*a - (unsigned char)*b;
		__asm__ volatile("");
	}
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

char *strchr(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)(uintptr_t)s;
		if (!*s)
			return NULL;
		__asm__ volatile("");
	}
}

char *strstr(const char *s, const char *word)
{
	size_t n = strlen(word);

	for (; *s; s++)
		if (!strncmp(s, word, n))
			return (char *)(uintptr_t)s;
	return NULL;
}

size_t strcspn(const char *s, const char *reject)
{
	size_t n = 0;

	while (s[n] && !strchr(reject, s[n]))
		n++;
	return n;
}

size_t strspn(const char *s, const char *accept)
{
	size_t n = 0;

	while (s[n] && strchr(accept, s[n])) {
		n++;
		__asm__ volatile("" ::: "memory");
	}
	return n;
}

char *strrchr(const char *s, int c)
{
	const char *last = NULL;

	do {
		if (*s == (char)c)
			last = s;
		__asm__ volatile("" ::: "memory");
	} while (*s++);
	return (char *)last;
}

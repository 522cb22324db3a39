/* SPDX-License-Identifier: MIT */
/* Copies and checksums of whole pages (len is a multiple of 4096, both ends aligned). */
#ifndef GODWIT_MMU_COPY_H
#define GODWIT_MMU_COPY_H

#include <stdbool.h>
#include <stdint.h>

/* Has this CPU 256-bit vectors? What follows takes the answer as wide. */
bool copy_wide(void);
void copy_pages(void *dst, const void *src, uint64_t len, bool wide);
bool copy_same(const void *a, const void *b, uint64_t len, bool wide);
uint64_t copy_sum(const void *buf, uint64_t len);

#endif

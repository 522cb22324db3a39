/* SPDX-License-Identifier: MIT */
/* cmocka, with what it wants included first. */
#ifndef GODWIT_TESTS_UNIT_H
#define GODWIT_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif

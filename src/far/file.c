/* SPDX-License-Identifier: MIT */
/* Pages in a file: none is opened so far. */
#include "far/store.h"

#include <errno.h>

int file_open(struct far **out, struct region *r, const struct far_spec *spec)
{
	(void)out;
	(void)r;
	(void)spec;
	return -ENOSYS;
}

/* SPDX-License-Identifier: MIT */
/* Lines of perf script, for accesslog.c. */
#ifndef GODWIT_CLI_PERFLOG_H
#define GODWIT_CLI_PERFLOG_H

#include "accesslog.h"

/* False: it is no line of perf script. May set p->in_doubt and p->in_chain. */
bool perf_line(struct log_parser *p, const char *text, struct log_entry *e);
/* Is it a frame of a call chain, or what stands behind it? */
bool perf_chain(const char *text);

#endif

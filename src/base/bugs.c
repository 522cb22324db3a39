/* SPDX-License-Identifier: MIT */
/* The bugs' names, and which of them are back. */
#include "base/bugs.h"

#include <string.h>

#ifdef GODWIT_BUGS
uint32_t bugs_back;

static const char *const names[BUGS] = {
	[BUG_COPY_FIRST] = "copy-first", [BUG_FORK_ORPHAN] = "fork-orphan", [BUG_WRITABLE] = "writable",
	[BUG_BOOLEAN] = "boolean",	 [BUG_DIRTY_EARLY] = "dirty-early", [BUG_STALE] = "stale",
	[BUG_THREAD_EXIT] = "thread-exit", [BUG_PIPE] = "pipe",		    [BUG_NO_WAKE] = "no-wake",
	[BUG_DOUBLE_FREE] = "double-free", [BUG_EAGAIN] = "eagain",	    [BUG_CHILD] = "child",
	[BUG_FAR_SCAN] = "far-scan",	 [BUG_FAR_LOCKED] = "far-locked",   [BUG_FAR_UNTRACK] = "far-untrack",
	[BUG_FAR_WAKE] = "far-wake",	 [BUG_FAR_HEIR] = "far-heir",	    [BUG_FAR_KEPT] = "far-kept",
	[BUG_FAR_FORK] = "far-fork",	 [BUG_FAR_HEIRS] = "far-heirs",    [BUG_FAR_SEEN] = "far-seen",
	[BUG_FAR_NOTES] = "far-notes",	 [BUG_FAR_LOOK] = "far-look",
};

bool bug_put_back(const char *name)
{
	for (uint32_t bug = 0; bug < BUGS; bug++)
		if (!strcmp(names[bug], name)) {
			bugs_back |= 1U << bug;
			return true;
		}
	return false;
}
#endif

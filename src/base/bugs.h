/* SPDX-License-Identifier: MIT */
/*
 * Bugs that page migration is known to have had, here or elsewhere, and that builds with GODWIT_BUGS can put
 * back one by one: what claims to find such a bug has to find these. Other builds have none of it.
 */
#ifndef GODWIT_BASE_BUGS_H
#define GODWIT_BASE_BUGS_H

#include <stdbool.h>
#include <stdint.h>

enum bug {
	BUG_COPY_FIRST,		/* the copy made before the move out counts, though the program wrote meanwhile */
	BUG_FORK_ORPHAN,	/* a child keeps the migration entries that nobody will ever resolve */
	BUG_WRITABLE,		/* what came back to memory that is read-only by now is writable */
	BUG_BOOLEAN,		/* the type of an error is lost: refused and gone are one */
	BUG_DIRTY_EARLY,	/* what the program has changed is looked up before the page is unmapped */
	BUG_STALE,		/* what MADV_DONTNEED has dropped comes back */
	BUG_THREAD_EXIT,	/* the memory that the kernel writes at a thread's end moves */
	BUG_PIPE,		/* a frame that a pipe still reads from is used again */
	BUG_NO_WAKE,		/* who waits for a page is not woken */
	BUG_DOUBLE_FREE,	/* on the error path a frame is dropped and yet counted as free */
	BUG_EAGAIN,		/* a move that says -EAGAIN after some progress is taken for a failure */
	BUG_CHILD,		/* a forked child goes on with its parent's engine */
	BUG_FAR_SCAN,		/* a look that finds nothing forgets what is away */
	BUG_FAR_LOCKED,		/* what a request has in its hands is dropped under them */
	BUG_FAR_UNTRACK,	/* a mapping is tracked no longer though pages are away there */
	BUG_FAR_WAKE,		/* who waits for a page that is away by now is not told to ask again */
	BUG_FAR_HEIR,		/* what the parent discards after a fork is lost to the child too */
	BUG_FAR_KEPT,		/* what was mapped anew in a window is said to be kept, and is not tracked */
	BUG_FAR_FORK,		/* who forks waits for a page that is read from a device, and that for the end of the fork */
	BUG_FAR_HEIRS,		/* another child of the time of a fork is taken for that of the fork */
	BUG_FAR_SEEN,		/* who has forked does not wait until that is known */
	BUG_FAR_NOTES,		/* what was discarded between a fork and another child's begin is lost to the fork's child */
	BUG_FAR_LOOK,		/* what was seen before another mapping came there is taken for its page */
	BUGS
};

#ifdef GODWIT_BUGS
extern uint32_t bugs_back;
/* False: no bug has this name. */
bool bug_put_back(const char *name);
#define BUG_BACK(bug) ((bugs_back & 1U << (bug)) != 0)
#else
#define BUG_BACK(bug) 0
#endif

#endif

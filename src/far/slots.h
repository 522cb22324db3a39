/* SPDX-License-Identifier: MIT */
/*
 * slots - which slot of the file is whose, over all processes that came of one by fork and share it.
 *
 * The table is memory that they share. It has for each slot how many members use it, and for each member a bit for
 * each slot that it uses. A slot that nobody uses is taken by whoever counts it from 0 to 1. No lock is needed, so
 * none is left behind by a member that is killed:
 *
 *     take    count 0 -> 1, then the bit
 *     leave   the bit, then the count
 *     fork    the count of each, then the child's bit: done by the parent before the child is there
 *
 * One who is killed between the two leaves a slot that nobody gets any more (until slots_recount()); never one that two
 * have.
 *
 * A member lives as long as somebody has the open file on which its byte is locked (fcntl(2), F_OFD_SETLK, at
 * SLOTS_LOCKS): the kernel ends that with the process, and no number of a process has to be trusted. Who locks the byte
 * of a dead one may clear its bits. The locked file of a child is opened before the fork, and inherited.
 *
 * Context: the calls are under the lock of the store, of which each process has its own.
 */
#ifndef GODWIT_FAR_SLOTS_H
#define GODWIT_FAR_SLOTS_H

#include "far/store.h"

#define SLOTS_MEMBERS 1024U
#define SLOTS_GROUP 256U		/* slots that are backed by the disk together: 1 MiB */
#define SLOTS_LOCKS (1LL << 62)		/* where the bytes of members are */
#define SLOTS_NONE UINT32_MAX

/* Shared, atomic. */
struct slots_shared {
	uint64_t nr_used, nr_backed;	/* the latter in groups */
	uint64_t nr_left;		/* slots that were ever left: changes when there may be room again */
	uint32_t top;			/* groups that have been used so far: the rest is not looked at */
	uint32_t nr_members;		/* highest number ever taken, and 1 */
	uint32_t dirty[SLOTS_MEMBERS];	/* has bits, or had */
};

struct slots {
	uint32_t nr, words;		/* immutable after open, as are the next four; words: of a member's bits */
	struct slots_shared *shared;
	uint16_t *users;
	uint8_t *backed;		/* by group; atomic */
	uint64_t *bits;
	uint32_t me;
	uint32_t cursor;
};

uint64_t slots_space(uint32_t nr);
/* at: of the region, becomes shared memory. */
int slots_init(struct slots *s, char *at, uint32_t nr);

/* Become a member by a lock on fd; its number, or -errno: -EUSERS, what fcntl says. */
int member_take(struct slots *s, int fd);
/* Whoever has died leaves its slots. fd: any of ours. True: there was one. */
bool members_bury(struct slots *s, int fd);
/* All that used(arg, slot) says of this member's becomes another's, too. */
void member_copy(struct slots *s, uint32_t to, bool (*used)(void *arg, uint32_t slot), void *arg);
/* All that a member has is left. */
void member_clear(struct slots *s, uint32_t who);
/* If there is no other member: what counts and is not ours was left by somebody who was killed. True: there was some. */
bool slots_recount(struct slots *s, int fd);

/*
 * Take free slots that lie one after another: most of up to want, from *first on. Returns how many; 0: none.
 * backed: only where the disk has room already.
 */
uint32_t slots_take(struct slots *s, uint32_t want, bool backed, uint32_t *first);
void slots_leave(struct slots *s, uint32_t first, uint32_t nr);
/* More of the file may be used. False: all of it is. */
bool slots_widen(struct slots *s);
/* How many slots there are to choose from so far. */
uint32_t slots_top(const struct slots *s);
/* A whole group that nobody uses, when it is free and backed. */
bool slots_take_group(struct slots *s, uint32_t group);
uint32_t slots_groups(const struct slots *s);
bool slots_is_backed(const struct slots *s, uint32_t group);
void slots_back(struct slots *s, uint32_t group, bool backed);

#endif

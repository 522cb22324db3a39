/* SPDX-License-Identifier: MIT */
/*
 * mmu_contract - what every mmu promises (src/mmu/mmu.h), as tests.
 *
 * A world is a program and the mmu over its memory. The suite plays the engine through world->mmu and the
 * program through the hooks below. What a program does may wait for the engine: touches and acts are
 * begun, and looked at later.
 */
#ifndef GODWIT_MMU_CONTRACT_H
#define GODWIT_MMU_CONTRACT_H

#include "mmu/mmu.h"

#include <stdbool.h>
#include <stdint.h>

/* What another thread does; unmap, discard, remap and fork wait until their event is read. */
enum mmu_act {
	ACT_UNMAP,	/* munmap [addr, addr + len) */
	ACT_MAP_OVER,	/* new memory at [addr, addr + len) */
	ACT_DISCARD,	/* MADV_DONTNEED */
	ACT_REMAP,	/* mremap to to */
	ACT_FORK,	/* the child lives until child_exit() */
	ACT_POPULATE,	/* not the program: mmu->ops->populate() */
	ACT_DROP,	/* not the program: mmu->ops->drop() */
};

#define MMU_WORLD_TOUCHES 4

struct mmu_world {
	const struct mmu_world_ops *ops;
	struct mmu *mmu;
};

struct mmu_world_ops {
	const char *name;

	/* A program with nothing mapped. Returns NULL when this machine does not let us, having said why. */
	struct mmu_world *(*open)(void);
	void (*close)(struct mmu_world *w);

	/* Writable memory that nothing touches on either side, aligned to 2 MiB, in small pages. */
	uint64_t (*map)(struct mmu_world *w, uint64_t len);
	int (*protect)(struct mmu_world *w, uint64_t addr, uint64_t len, bool writable);
	/* The memory is not the child's. */
	int (*dontfork)(struct mmu_world *w, uint64_t addr, uint64_t len);
	/* The 2 MiB at addr are one huge page now. */
	int (*make_huge)(struct mmu_world *w, uint64_t addr);

	/* Accesses that do not wait: 0, -EFAULT (SIGBUS), -EACCES (SIGSEGV). */
	int (*store)(struct mmu_world *w, uint64_t addr, uint64_t value);
	int (*load)(struct mmu_world *w, uint64_t addr, uint64_t *value);
	/* Another thread stores or loads at addr. id is below MMU_WORLD_TOUCHES and not in use. */
	void (*touch)(struct mmu_world *w, int id, uint64_t addr, bool write, uint64_t value);
	/* Its end within ms: 0 with the value there, -EFAULT, -EACCES, or -EWOULDBLOCK: it waits. */
	int (*touched)(struct mmu_world *w, int id, int ms, uint64_t *value);

	/* One at a time. */
	void (*begin)(struct mmu_world *w, enum mmu_act act, uint64_t addr, uint64_t len, uint64_t to);
	bool (*ended)(struct mmu_world *w);
	/* Wait for it; what it returned. */
	int (*end)(struct mmu_world *w);
	/* There is something for read_event(), or ms are over. */
	bool (*wait_event)(struct mmu_world *w, int ms);

	/* A device's pin of the page at addr. -ENOTSUP: none to be had here. unpin may take effect later. */
	int (*pin)(struct mmu_world *w, uint64_t addr);
	void (*unpin)(struct mmu_world *w, uint64_t addr);
	/* A plain reference to the page's frame, as a pipe holds it; what the frame says later. One at a time. */
	int (*splice)(struct mmu_world *w, uint64_t addr);
	int (*spliced)(struct mmu_world *w, uint64_t addr, uint64_t *value);

	/* The child loads from addr; its answer within ms or -EWOULDBLOCK. One question at a time. */
	void (*child_ask)(struct mmu_world *w, uint64_t addr);
	int (*child_answer)(struct mmu_world *w, int ms, uint64_t *value);
	void (*child_exit)(struct mmu_world *w);
};

/* Run the suite over a world; prints TAP. Returns how many tests failed. */
int mmu_contract_run(const struct mmu_world_ops *ops);

#endif

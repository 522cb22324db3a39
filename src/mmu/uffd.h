/* SPDX-License-Identifier: MIT */
/*
 * The kernel's interface, with what older headers lack: UFFDIO_MOVE (6.8) and UFFDIO_POISON (6.6).
 * Those of pagemap are in base/pagemap.h.
 */
#ifndef GODWIT_MMU_UFFD_H
#define GODWIT_MMU_UFFD_H

#include "base/pagemap.h"

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE_MODE_DONTWAKE ((__u64)1 << 0)
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

#ifndef UFFDIO_POISON
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* ---- mmu_host.c: what the host's kernel says of its nodes, and how it is told where to take pages from ---- */

struct mmu_policy;

int mmu_host_where(uint64_t addr, int nr, int *node);
/* What is in swap is not looked at. */
int mmu_host_placed(uint64_t slot, uint64_t len, int node);
bool mmu_host_swaps(void);
/* *none: it has no policies. */
int mmu_host_mark(uint64_t addr, uint64_t len, const struct mmu_policy *pol, bool *none);
int mmu_host_marked(uint64_t addr, bool none);
int mmu_host_prefer(const struct mmu_policy *pol);

/* ---- mmu_probe.c ---- */

/* A full-mode userfaultfd with events and UFFDIO_MOVE, or -errno. method as struct mmu_probe; features: those it has. */
int uffd_open(uint32_t *method, uint64_t *features);
struct mmu_donor;
/* The same from a donor. */
int uffd_donated(const struct mmu_donor *donor, uint64_t *features);

#endif

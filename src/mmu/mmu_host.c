/* SPDX-License-Identifier: MIT */
/* The host's NUMA nodes: where pages lie, and the policies by which its kernel takes them. */
#include "mmu/mmu.h"

#include "base/base.h"
#include "mmu/uffd.h"

#include <errno.h>
#include <sys/sysinfo.h>

#define HOST_PREFERRED 1
#define HOST_BIND 2
#define HOST_PREFERRED_MANY 5
#define HOST_MODE_FLAGS 0xe000U
#define HOST_NODES 1024UL
#define HOST_MEMS_ALLOWED 4
#define HOST_ADDR 2
#define HOST_STRICT 1 /* MPOL_MF_STRICT: -EIO where a page is on another node */

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

int mmu_host_where(uint64_t addr, int nr, int *node)
{
	void *pages[256];

	for (int at = 0; at < nr; at += (int)ARRAY_SIZE(pages)) {
		int n = (int)min_u64((uint64_t)(nr - at), ARRAY_SIZE(pages));
		long ret;

		for (int i = 0; i < n; i++)
			pages[i] = (void *)(addr + (uint64_t)(at + i) * MMU_PAGE);
		ret = sys_numa(SYS_move_pages, 0, n, pages, 0, node + at, 0);
		if (ret < 0)
			return (int)ret;
	}
	return 0;
}

/*
 * The policy that the slots have already, set once more: nothing changes, but the kernel looks at all of them first.
 */
int mmu_host_placed(uint64_t slot, uint64_t len, int node)
{
	uint64_t nodes[HOST_NODES / 64] = { 0 };
	long ret;

	nodes[node / 64] = 1ULL << node % 64;
	ret = sys_numa(SYS_mbind, slot, len, HOST_PREFERRED, nodes, HOST_NODES + 1, HOST_STRICT);
	return ret == -EIO ? 0 : ret < 0 ? (int)ret : 1;
}

bool mmu_host_swaps(void)
{
	struct sysinfo info;

	return sys1(SYS_sysinfo, &info) < 0 || info.totalswap;
}

static long mark_with(uint64_t addr, uint64_t len, const struct mmu_policy *pol)
{
	uint32_t mode = pol->mode & ~HOST_MODE_FLAGS;
	uint64_t nodes[HOST_NODES / 64] = { pol->nodes };
	long err = pol->nodes ? sys_numa(SYS_mbind, addr, len, pol->mode, nodes, HOST_NODES + 1, 0) : -EINVAL;

	if (!err && pol->home >= 0 && (mode == HOST_BIND || mode == HOST_PREFERRED_MANY))
		sys_numa(SYS_set_mempolicy_home_node, addr, len, pol->home, 0, 0, 0);
	if (err != -EINVAL)
		return err;
	/* no policy, or one that this kernel does not have: preferring all nodes alike is what happens without one */
	err = sys_numa(SYS_get_mempolicy, 0, nodes, HOST_NODES + 1, 0, HOST_MEMS_ALLOWED, 0);
	return err ? err : sys_numa(SYS_mbind, addr, len, HOST_PREFERRED_MANY, nodes, HOST_NODES + 1, 0);
}

int mmu_host_mark(uint64_t addr, uint64_t len, const struct mmu_policy *pol, bool *none)
{
	long err = pol ? mark_with(addr, len, pol) : sys_numa(SYS_mbind, addr, len, 0, 0, 0, 0);

	if (err == -EPERM || err == -ENOSYS)
		*none = true; /* a sandbox, or a kernel without NUMA */
	return err == -ENOMEM ? -ENOMEM : 0;
}

int mmu_host_marked(uint64_t addr, bool none)
{
	int mode = 0;
	long ret = sys_numa(SYS_get_mempolicy, &mode, 0, 0, addr, HOST_ADDR, 0);
	unsigned char there;

	if (ret == -EFAULT)
		return -EFAULT;
	if (ret >= 0)
		return mode || none;
	return sys3(SYS_mincore, ALIGN_DOWN(addr, MMU_PAGE), MMU_PAGE, &there) == -ENOMEM ? -EFAULT : 1;
}

int mmu_host_prefer(const struct mmu_policy *pol)
{
	uint64_t nodes[HOST_NODES / 64] = { pol->nodes };

	return (int)sys_numa(SYS_set_mempolicy, pol->nodes ? pol->mode : 0, pol->nodes ? nodes : NULL,
			     pol->nodes ? HOST_NODES + 1 : 0, 0, 0, 0);
}

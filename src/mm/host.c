/* SPDX-License-Identifier: MIT */
/*
 * Nodes that are bound to the host's: the host's kernel says where a page is, and where all nodes are bound it is told
 * by which policies to place what is touched first.
 *
 *   a range's policy (mbind)          a policy of its mappings, which is the mark too
 *   a thread's (set_mempolicy)        the policy of the thread, given by the thread itself
 *   a first touch answered by us      the policy of the thread that answers, for that page
 *
 * Whatever it makes of that, what the books say of a page afterwards is what the kernel says of it.
 */
#include "mm/mm.h"

#include <errno.h>

/* Flags that have done their work when the nodes were found; the other is the kernel's own business. */
#define KEPT_FLAGS MPOL_F_NUMA_BALANCING

static bool names_nodes(uint32_t mode)
{
	return mode != MPOL_DEFAULT && mode != MPOL_LOCAL;
}

/* Without a policy: the nearest of the nodes that are allowed, which is the kernel's default where these are all. */
static void default_policy(const struct mm *mm, struct mmu_policy *out)
{
	uint64_t hosts = nodes_to_host(mm->nodes, place_allowed(mm));

	if (hosts != host_nodes())
		*out = (struct mmu_policy){ .mode = MPOL_PREFERRED_MANY, .nodes = hosts, .home = -1 };
}

bool host_policy(const struct mm *mm, const struct mempolicy *pol, struct mmu_policy *out)
{
	uint32_t flags = pol->mode == MPOL_BIND || pol->mode == MPOL_PREFERRED_MANY ? pol->flags & KEPT_FLAGS : 0;
	uint64_t nodes = pol->nodes & place_allowed(mm); /* some keep nodes that are not allowed any more */

	*out = (struct mmu_policy){ .home = -1 };
	if (!node_all_host(mm->nodes))
		return false;
	if (!names_nodes(pol->mode) || !nodes) {
		default_policy(mm, out);
		return true;
	}
	*out = (struct mmu_policy){ .mode = pol->mode | flags,
				    .nodes = nodes_to_host(mm->nodes, nodes),
				    .home = pol->home < 0 ? -1 : mm->nodes->node[pol->home].spec.host };
	return true;
}

void host_task(struct mm *mm, const struct mempolicy *pol)
{
	struct mmu_policy host;

	if (host_policy(mm, pol, &host))
		mm->mmu->ops->prefer(mm->mmu, &host);
}

int host_range(struct mm *mm, uint64_t start, uint64_t end, const struct mempolicy *pol)
{
	struct mmu_policy host;

	if (pol->mode == MPOL_DEFAULT)
		return mm->mmu->ops->mark(mm->mmu, start, end - start, NULL);
	host_policy(mm, pol, &host);
	return mm->mmu->ops->mark(mm->mmu, start, end - start, &host);
}

void host_ranges(struct mm *mm)
{
	for (uint32_t i = 0; i < mm->place.nr_ranges && node_all_host(mm->nodes); i++) {
		const struct range_policy *r = &mm->place.range[i];

		if (mm->mmu->ops->marked(mm->mmu, r->start) > 0)
			host_range(mm, r->start, r->end, &r->pol);
	}
}

void host_near(struct mm *mm, int node)
{
	uint64_t nodes = nodes_to_host(mm->nodes, 1ULL << node);
	struct mmu_policy host = { .mode = MPOL_PREFERRED, .nodes = nodes, .home = -1 };

	if (host.nodes)
		mm->mmu->ops->prefer(mm->mmu, &host);
}

int host_where(struct mm *mm, uint64_t addr, int nr, int *host)
{
	int err = mm->mmu->ops->where(mm->mmu, addr, nr, host);

	if (err != -ENOSYS && err != -EPERM)
		return err;
	for (int i = 0; i < nr; i++)
		host[i] = HOST_UNKNOWN; /* a sandbox, or a kernel without NUMA */
	return 0;
}

int host_of_page(struct mm *mm, uint64_t addr)
{
	int host = HOST_UNKNOWN;

	return node_any_host(mm->nodes) && !host_where(mm, addr, 1, &host) ? host : HOST_UNKNOWN;
}

void page_seen(struct mm *mm, struct page *page, int host)
{
	int node = node_true(mm->nodes, page->node, host);
	bool listed = page->flags & PG_LRU;

	if (node == page->node)
		return;
	if (listed)
		lru_del(mm, page);
	node_uncharge(mm->nodes, page->node, page_nr(page));
	page->node = (uint8_t)node;
	node_charge_force(mm->nodes, node, page_nr(page));
	if (listed)
		lru_add(mm, page);
}

uint32_t host_frames(struct mm *mm, const struct arena *a, uint64_t at, uint32_t nr)
{
	uint64_t step = a->unit;

	if (a->host >= 0 && mm->mmu->ops->placed(mm->mmu, at, nr * step, a->host) > 0)
		return nr;
	for (uint32_t i = 0, n; i < nr && a->host >= 0; i += n) {
		int host[64];

		n = step == PAGE_SIZE_ ? (uint32_t)min_u64(nr - i, ARRAY_SIZE(host)) : 1;
		if (host_where(mm, at + i * step, (int)n, host))
			return i;
		for (uint32_t k = 0; k < n; k++)
			if (host[k] != a->host && host[k] != HOST_UNKNOWN)
				return i + k;
	}
	return nr;
}

static void count_run(struct mm *mm, const struct mmu_run *run, uint64_t *on)
{
	for (uint64_t at = run->start; at < run->end; at += LEAF_PAGES * PAGE_SIZE_) {
		uint32_t nr = (uint32_t)min_u64((run->end - at) / PAGE_SIZE_, LEAF_PAGES);
		int host[LEAF_PAGES];

		if (!node_all_host(mm->nodes) || host_where(mm, at, (int)nr, host))
			on[0] += nr;
		else
			for (uint32_t i = 0; i < nr; i++)
				on[node_true(mm->nodes, 0, host[i])]++;
	}
}

void count_unmanaged(struct mm *mm, uint64_t start, uint64_t end, struct unmanaged *out)
{
	struct mmu_run run[32];
	int n;

	while ((n = mm->mmu->ops->scan(mm->mmu, &start, end, run, (int)ARRAY_SIZE(run))) > 0)
		for (int i = 0; i < n; i++) {
			uint64_t nr = (run[i].end - run[i].start) / PAGE_SIZE_;

			if (run[i].bits & MMU_PG_ZERO)
				continue;
			count_run(mm, &run[i], out->pages);
			out->huge += run[i].bits & MMU_PG_HUGE ? nr : 0;
			out->swapped += run[i].bits & MMU_PG_SWAPPED ? nr : 0;
		}
}

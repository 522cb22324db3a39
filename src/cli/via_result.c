/* SPDX-License-Identifier: MIT */
/* What the kernel left behind, and why: by reason and kind of page, and what will bring pages back. */
#include "via.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* docs/kernel.md has the same table. */
static const struct {
	int err;
	const char *why;
} reasons[] = {
	{ EBUSY, "pinned by a device or a system call, or in use: try again when the transfer is over" },
	{ EACCES, "mapped by other processes too: --all moves them for all (CAP_SYS_NICE)" },
	{ ENOMEM, "no free memory, or no free huge page, on the node" },
	{ EAGAIN, "came, or came back, while the rest was moved: ask again" },
	{ EFBIG, "a page so large that the bound cannot be kept: --max-stall 1000000" },
	{ EFAULT, "memory that the kernel does not move, as a device's" },
	{ EIO, "written to its file just now: ask again" },
	{ EINVAL, "refused by the kernel" },
	{ ENOENT, "not present any more" },
};

static const char *reason_text(int err)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].err == err)
			return reasons[i].why;
	return "refused by the kernel";
}

/* ---------------------------------------------------------------- what takes pages back ---- */

/* True: NUMA balancing moves pages of this process, or may. */
static bool is_balanced(const struct kernel_report *k)
{
	return k->host->balancing > 0 && (k->res->balanced || k->res->returned);
}

static void print_back(const struct kernel_report *k)
{
	const struct kernel_result *res = k->res;

	if (res->returned)
		printf("%-12s %" PRIu64 " pages were found elsewhere after they had moved\n", "came back",
		       res->returned);
	if (is_balanced(k))
		printf("%-12s NUMA balancing is on (kernel.numa_balancing=%d) and has moved %" PRIu64
		       " pages of it meanwhile: pages follow the CPUs that use them; bind the threads to the nodes "
		       "(taskset), or set it to 0\n",
		       "balancing", k->host->balancing, res->balanced);
	else if (k->host->balancing > 0)
		printf("%-12s NUMA balancing is on (kernel.numa_balancing=%d): pages may follow their users' CPUs\n",
		       "balancing", k->host->balancing);
}

/* ---------------------------------------------------------------- text ---- */

static void print_reason(const struct kernel_report *k, int err, const char *title)
{
	const struct kernel_result *res = k->res;
	uint64_t sum = 0;
	char name[ERRNO_TEXT];
	const char *between = " (";

	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		sum += res->failed[kind][err];
	if (!sum)
		return;
	printf("%s%-12s%s %" PRIu64 " pages %s", tone_begin(TONE_BAD), title, tone_end(TONE_BAD), sum,
	       errno_name(err, name));
	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		if (res->failed[kind][err]) {
			printf("%s%s %" PRIu64, between, kernel_kind_name(kind), res->failed[kind][err]);
			between = ", ";
		}
	printf("): %s\n", reason_text(err));
	if (err == EBUSY && res->pinned)
		printf("%-12s %" PRIu64 " of them in buffers registered with io_uring\n", "", res->pinned);
	else if (err == EBUSY && k->target->pinned_bytes)
		printf("%-12s the process has %" PRIu64 " kB pinned for long (VmPin)\n", "",
		       k->target->pinned_bytes >> 10);
}

/* Of the windows that were printed: what of them was work. */
static void print_busy(const char *title, const struct hist *hist)
{
	if (hist->count)
		printf("%-12s max %.1f us, p99 %.1f us on a CPU\n", title, (double)hist->max / 1000,
		       (double)hist_at(hist, 990) / 1000);
}

void kernel_report_print(const struct kernel_report *k, const char *title)
{
	print_busy("of it", &k->res->calls.busy[0]);
	print_busy("of the THPs'", &k->res->calls.busy[1]);
	for (int err = 0; err < KERNEL_ERRNO_MAX; err++)
		print_reason(k, err, title);
	if (k->res->swapped)
		printf("%-12s %" PRIu64 " pages are swapped out, and on no node\n", "swapped", k->res->swapped);
	if (k->res->fresh)
		printf("%-12s %" PRIu64 " of the pages came while the rest was moved\n", "new", k->res->fresh);
	print_back(k);
}

/* ---------------------------------------------------------------- JSON ---- */

static void json_kinds(cJSON *object, const char *key, const uint64_t count[KERNEL_KINDS])
{
	cJSON *kinds = json_add_object(object, key);

	for (int kind = 0; kind < KERNEL_KINDS; kind++)
		json_add_u64(kinds, kernel_kind_name(kind), count[kind]);
}

static void json_failed(cJSON *object, const struct kernel_result *res)
{
	cJSON *kinds = json_add_object(object, "failed_kinds");
	char name[ERRNO_TEXT];

	for (int kind = 0; kind < KERNEL_KINDS; kind++) {
		cJSON *failed = NULL;

		for (int err = 0; err < KERNEL_ERRNO_MAX; err++) {
			if (!res->failed[kind][err])
				continue;
			if (!failed)
				failed = json_add_object(kinds, kernel_kind_name(kind));
			json_add_u64(failed, errno_name(err, name), res->failed[kind][err]);
		}
	}
}

static void json_hist(cJSON *object, const char *name, const struct hist *hist)
{
	char key[32];

	snprintf(key, sizeof(key), "%s_max", name);
	json_add_us(object, key, hist->max);
	snprintf(key, sizeof(key), "%s_p99", name);
	json_add_us(object, key, hist_at(hist, 990));
}

void kernel_report_json(cJSON *object, const struct kernel_report *k)
{
	const struct kernel_result *res = k->res;

	json_add_bool(object, "all", k->all);
	json_kinds(object, "moved_kinds", res->moved_kind);
	json_kinds(object, "found_kinds", res->found);
	json_failed(object, res);
	json_add_u64(object, "pages_untried", res->untried);
	json_add_u64(object, "pages_new", res->fresh);
	json_add_u64(object, "pages_returned", res->returned);
	json_add_u64(object, "pages_swapped", res->swapped);
	json_add_u64(object, "pages_registered", res->pinned);
	json_add_u64(object, "pinned_bytes", k->target->pinned_bytes);
	json_hist(object, "busy_us", &res->calls.busy[0]);
	json_hist(object, "thp_busy_us", &res->calls.busy[1]);
	json_add_us(object, "call_us_max", res->calls.call_ns_max);
	json_add_us(object, "call_us_fixed", res->calls.fixed_ns);
	if (k->host->balancing < 0)
		json_add_null(object, "numa_balancing");
	else
		json_add_u64(object, "numa_balancing", (uint64_t)k->host->balancing);
	json_add_u64(object, "pages_balanced", res->balanced);
}

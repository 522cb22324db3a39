/* SPDX-License-Identifier: MIT */
/*
 * What a migration did, as text, as JSON, and as a line on the terminal while it runs.
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Why a page stays, by errno. */
static const struct {
	int err;
	const char *why;
} reasons[] = {
	{ EBUSY, "pinned, shared since a fork (--break-cow copies), another request's, or its own userfaultfd's" },
	{ ENOMEM, "the node is full, or the machine is out of memory" },
	{ ENOSPC, "the far node is full" },
	{ EINVAL, "in an area whose attributes do not allow it, as locked or read-only memory" },
	{ EAGAIN, "the program kept changing its mappings: ask again" },
	{ EACCES, "not managed: stack, file, shared or excluded memory" },
	{ EFAULT, "not mapped any more" },
	{ ENOENT, "not present" },
	{ ENODEV, "no such node" },
	{ EPERM, "forbidden by the program's limits or rights" },
	{ EIO, "could not be brought back" },
};

static const char *const unmanaged_keys[] = {
	[GW_UNMANAGED_FILE] = "file",
	[GW_UNMANAGED_SHARED] = "shared",
	[GW_UNMANAGED_READONLY] = "readonly",
	[GW_UNMANAGED_STACK] = "stack",
	[GW_UNMANAGED_EXCLUDED] = "excluded",
	[GW_UNMANAGED_OTHER] = "other",
};

static const char *const forms[] = {
	[GW_FORM_AUTO] = "auto",
	[GW_FORM_PLAIN] = "plain",
	[GW_FORM_TRANSACTIONAL] = "transactional",
};

static const char *reason_text(int err)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].err == err)
			return reasons[i].why;
	return "refused by the kernel";
}

static const char *form_text(uint32_t form)
{
	return form < sizeof(forms) / sizeof(forms[0]) ? forms[form] : "unknown";
}

static bool is_dry(const struct migration *m)
{
	return m->opt->flags & GW_MIGRATE_DRY_RUN;
}

static double gb_per_s(const struct gw_migrate_result *res)
{
	return res->ns ? (double)res->pages_moved * GW_PAGE_SIZE / (double)res->ns : 0;
}

uint64_t result_pages_left(const struct gw_migrate_result *res)
{
	uint64_t off = res->pages_moved + res->pages_lazy + res->pages_fallback + res->pages_gone;
	uint64_t rest = res->pages_total > off ? res->pages_total - off : 0;

	/* A migration that ran to its end has looked at every page: only what it counted as failed is left. */
	if ((res->state == 1 && !res->error) || rest < res->pages_failed)
		return res->pages_failed;
	return rest;
}

/* ---------------------------------------------------------------- text ---- */

void result_print_failed(const struct gw_migrate_result *res, const char *title)
{
	char name[ERRNO_TEXT];

	for (int err = 0; err < GW_ERRNO_MAX; err++)
		if (res->failed[err])
			printf("%s%-12s%s %" PRIu64 " pages %s: %s\n", tone_begin(TONE_BAD), title,
			       tone_end(TONE_BAD), res->failed[err], errno_name(err, name), reason_text(err));
}

static void print_unmanaged(const struct gw_migrate_result *res)
{
	uint64_t sum = 0;

	for (int i = 0; i < GW_UNMANAGED_NR; i++)
		sum += res->unmanaged[i];
	if (!sum)
		return;
	printf("%-12s %" PRIu64 " pages:", "not managed", sum);
	for (int i = 0; i < GW_UNMANAGED_NR; i++)
		if (res->unmanaged[i])
			printf(" %s %" PRIu64, unmanaged_keys[i], res->unmanaged[i]);
	putchar('\n');
}

static void print_window(const char *title, uint64_t max, uint64_t p99, uint64_t p999)
{
	printf("%-12s max %.1f us, p99 %.1f us, p99.9 %.1f us\n", title, (double)max / 1000,
	       (double)p99 / 1000, (double)p999 / 1000);
}

static void print_moved(const struct migration *m, const char *from, const char *to)
{
	const struct gw_migrate_result *res = m->res;
	char size[SIZE_TEXT], name[ERRNO_TEXT];

	printf("%-12s %" PRIu64 " of %" PRIu64 " pages (%s) from %s to %s in %.3f s: %.2f GB/s\n", "moved",
	       res->pages_moved, res->pages_total, size_text(res->pages_moved * GW_PAGE_SIZE, size), from, to,
	       (double)res->ns / 1e9, gb_per_s(res));
	if (res->pages_lazy)
		printf("%-12s %" PRIu64 " pages: each moves when it is next touched\n", "unmapped", res->pages_lazy);
	if (res->pages_fallback)
		printf("%-12s through a far node: %" PRIu64 " pages; each moves when it is next touched\n", "no room",
		       res->pages_fallback);
	if (res->pages_moved > res->pages_huge)
		print_window("window", res->stall_ns_max, res->stall_ns_p99, res->stall_ns_p999);
	if (res->pages_huge)
		print_window("THP window", res->thp_stall_ns_max, res->thp_stall_ns_p99,
			     res->thp_stall_ns_p999);
	printf("%-12s %" PRIu64 ", retries %" PRIu64 ", passes %" PRIu64 ", THPs %" PRIu64
	       ", pages gone %" PRIu64 "\n",
	       "batches", res->batches, res->retries, res->passes,
	       res->pages_huge * GW_PAGE_SIZE / GW_HUGE_SIZE, res->pages_gone);
	if (m->opt->flags & GW_MIGRATE_VERIFY)
		printf("%-12s %" PRIu64 " checksums differed and were mended\n", "verified",
		       res->verify_errors);
	if (res->state == 2)
		printf("%-12s %" PRIu64 " pages were not tried\n", "cancelled",
		       result_pages_left(res) - res->pages_failed);
	if (res->error)
		printf("%-12s %s: %s\n", "ended by", errno_name(res->error, name), reason_text(-res->error));
}

static void print_would(const struct gw_migrate_result *res, const char *from, const char *to)
{
	uint64_t sum = res->would_4k + res->would_huge + res->would_swapped;
	char size[SIZE_TEXT];

	printf("%-12s %" PRIu64 " of %" PRIu64 " pages (%s) from %s to %s\n", "would move", sum,
	       res->pages_total, size_text(sum * GW_PAGE_SIZE, size), from, to);
	printf("%-12s %" PRIu64 " small, %" PRIu64 " in %" PRIu64 " THPs, %" PRIu64 " swapped\n", "of them",
	       res->would_4k, res->would_huge, res->would_huge * GW_PAGE_SIZE / GW_HUGE_SIZE,
	       res->would_swapped);
	if (res->pages_fallback)
		printf("%-12s through a far node: %" PRIu64 " pages\n", "no room", res->pages_fallback);
}

void result_print(const struct migration *m)
{
	char from[NODES_TEXT], to[NODES_TEXT];

	nodes_text(m->from, from);
	nodes_text(m->to, to);
	if (is_dry(m))
		print_would(m->res, from, to);
	else
		print_moved(m, from, to);
	if (m->kernel) {
		kernel_report_print(m->kernel, is_dry(m) ? "would stay" : "stayed");
		return;
	}
	result_print_failed(m->res, is_dry(m) ? "would stay" : "stayed");
	print_unmanaged(m->res);
}

/* ---------------------------------------------------------------- JSON ---- */

static void json_pages(cJSON *object, const struct gw_migrate_result *res)
{
	cJSON *failed, *unmanaged, *would;
	char name[ERRNO_TEXT];

	json_add_u64(object, "pages_total", res->pages_total);
	json_add_u64(object, "pages_moved", res->pages_moved);
	json_add_u64(object, "pages_failed", res->pages_failed);
	json_add_u64(object, "pages_gone", res->pages_gone);
	json_add_u64(object, "pages_lazy", res->pages_lazy);
	json_add_u64(object, "pages_fallback", res->pages_fallback);
	json_add_u64(object, "pages_huge", res->pages_huge);
	json_add_u64(object, "pages_left", result_pages_left(res));
	failed = json_add_object(object, "failed");
	for (int err = 0; err < GW_ERRNO_MAX; err++)
		if (res->failed[err])
			json_add_u64(failed, errno_name(err, name), res->failed[err]);
	unmanaged = json_add_object(object, "unmanaged");
	for (int i = 0; i < GW_UNMANAGED_NR; i++)
		json_add_u64(unmanaged, unmanaged_keys[i], res->unmanaged[i]);
	would = json_add_object(object, "would");
	json_add_u64(would, "4k", res->would_4k);
	json_add_u64(would, "huge", res->would_huge);
	json_add_u64(would, "swapped", res->would_swapped);
}

static void json_windows(cJSON *object, const struct gw_migrate_result *res)
{
	json_add_us(object, "stall_us_max", res->stall_ns_max);
	json_add_us(object, "stall_us_p99", res->stall_ns_p99);
	json_add_us(object, "stall_us_p999", res->stall_ns_p999);
	json_add_us(object, "thp_stall_us_max", res->thp_stall_ns_max);
	json_add_us(object, "thp_stall_us_p99", res->thp_stall_ns_p99);
	json_add_us(object, "thp_stall_us_p999", res->thp_stall_ns_p999);
}

void result_json(cJSON *object, const struct gw_migrate_result *res)
{
	char name[ERRNO_TEXT];

	json_pages(object, res);
	json_add_u64(object, "bytes", res->pages_moved * GW_PAGE_SIZE);
	json_add_real(object, "seconds", (double)res->ns / 1e9, 9);
	json_add_real(object, "gb_per_s", gb_per_s(res), 3);
	json_windows(object, res);
	json_add_u64(object, "batches", res->batches);
	json_add_u64(object, "retries", res->retries);
	json_add_u64(object, "passes", res->passes);
	json_add_u64(object, "batch", res->batch_last);
	json_add_text(object, "form", form_text(res->form_last));
	json_add_u64(object, "verify_errors", res->verify_errors);
	json_add_bool(object, "cancelled", res->state == 2);
	if (res->error)
		json_add_text(object, "error", errno_name(res->error, name));
	else
		json_add_null(object, "error");
}

void result_print_json(const struct migration *m)
{
	char from[NODES_TEXT], to[NODES_TEXT];
	cJSON *object = json_object();

	json_add_u64(object, "pid", (uint64_t)m->pid);
	json_add_text(object, "from", nodes_text(m->from, from));
	json_add_text(object, "to", nodes_text(m->to, to));
	result_json(object, m->res);
	json_add_bool(object, "dry_run", is_dry(m));
	json_add_text(object, "via", m->kernel ? "kernel" : "engine");
	if (m->kernel)
		kernel_report_json(object, m->kernel);
	json_print(object, stdout);
}

/* ---------------------------------------------------------------- progress ---- */

static int terminal_width(void)
{
	struct winsize ws;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 1 ? ws.ws_col - 1 : 79;
}

void result_progress(const struct gw_migrate_result *res)
{
	double total = (double)res->pages_total, done = (double)res->pages_done;
	char line[160], eta[32] = "-";
	uint64_t worst = res->stall_ns_max;

	if (worst < res->thp_stall_ns_max)
		worst = res->thp_stall_ns_max;
	if (done > total)
		done = total;
	if (done > 0)
		snprintf(eta, sizeof(eta), "%.1f s", (double)res->ns / 1e9 * (total - done) / done);
	snprintf(line, sizeof(line),
		 "%3.0f%%  %" PRIu64 " of %" PRIu64 " pages  %.2f GB/s  ETA %s  worst stall %.1f us",
		 total > 0 ? 100 * done / total : 0, res->pages_moved, res->pages_total, gb_per_s(res), eta,
		 (double)worst / 1000);
	fprintf(stderr, "\r%.*s\033[K", terminal_width(), line);
	fflush(stderr);
}

void result_progress_end(void)
{
	fputs("\r\033[K", stderr);
	fflush(stderr);
}

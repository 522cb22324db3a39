/* SPDX-License-Identifier: MIT */
/*
 * godwit stat: the counters of an engine, by cause and direction.
 */
#include "via.h"

#include <inttypes.h>
#include <stddef.h>

/* One row of either output; offset is of a uint64_t in struct gw_stats. */
struct counter {
	const char *key;
	const char *title;
	size_t offset;
};

#define COUNTER(name, text) { #name, text, offsetof(struct gw_stats, name) }

static const struct counter counters[] = {
	COUNTER(faults_waited, "faults that waited for a page in flight"),
	COUNTER(faults_filled, "first touches served by the engine"),
	COUNTER(faults_fetched, "touches that brought back a page"),
	COUNTER(pages_away, "pages on far nodes"),
	COUNTER(pages_demoted, "pages that went to far nodes"),
	COUNTER(pages_promoted, "pages that came back from them"),
	COUNTER(pages_cached, "pages unmapped, in the migration cache"),
	COUNTER(rescued, "of those touched: in use after all"),
	COUNTER(lazy_moved, "pages moved when they were touched"),
	COUNTER(pages_fallback, "pages through a far node for want of room"),
	COUNTER(prefetched, "pages brought along with another"),
	COUNTER(prefetch_hits, "of those wanted then"),
	COUNTER(refaults, "pages that came back too soon"),
	COUNTER(reclaims, "runs of the reclaimer"),
	COUNTER(stalls_reclaim, "pages sent away by who touched another"),
	COUNTER(held, "stalls on reclaim: first touches that waited for room"),
	COUNTER(held_let_go, "of those let go without"),
	COUNTER(events_unmap, "munmap events"),
	COUNTER(events_remove, "madvise events"),
	COUNTER(events_remap, "mremap events"),
	COUNTER(events_fork, "fork events"),
	COUNTER(forks, "forks"),
	COUNTER(batches, "batches"),
	COUNTER(batches_transactional, "batches, transactional"),
	COUNTER(retries, "retries"),
	COUNTER(pages_recopied, "pages copied again"),
	COUNTER(copied_in, "pages brought back by copy"),
	COUNTER(cow_broken, "pages unshared after a fork"),
	COUNTER(frames_dropped, "frames dropped"),
	COUNTER(poisoned, "pages poisoned"),
};

static const struct counter windows[] = {
	COUNTER(stall_ns_max, "stall_us_max"),
	COUNTER(stall_ns_p99, "stall_us_p99"),
	COUNTER(stall_ns_p999, "stall_us_p999"),
	COUNTER(thp_stall_ns_max, "thp_stall_us_max"),
	COUNTER(thp_stall_ns_p99, "thp_stall_us_p99"),
	COUNTER(thp_stall_ns_p999, "thp_stall_us_p999"),
	COUNTER(held_ns, "held_us"),
	COUNTER(held_ns_max, "held_us_max"),
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t counter_value(const struct gw_stats *stats, const struct counter *counter)
{
	return *(const uint64_t *)((const char *)stats + counter->offset);
}

/* ---------------------------------------------------------------- JSON ---- */

static void json_far(cJSON *node, const struct gw_node_info *info)
{
	static const char kinds[][8] = { "", [GW_NODE_RAM] = "ram", [GW_NODE_ZRAM] = "zram", [GW_NODE_FILE] = "file" };

	/* what an engine says is not believed */
	json_add_text(node, "kind", info->opt.kind <= GW_NODE_FILE ? kinds[info->opt.kind] : "");
	json_add_u64(node, "data_bytes", info->data_bytes);
	json_add_u64(node, "used_bytes", info->used_bytes);
	json_add_u64(node, "pages_same", info->same);
	json_add_u64(node, "pages_raw", info->raw);
	json_add_u64(node, "pages_shared", info->shared);
	json_add_u64(node, "refused", info->refused);
	json_add_u64(node, "io_errors", info->io_errors);
	json_add_u64(node, "bad_sums", info->bad_sums);
}

static void json_nodes(cJSON *object, const struct ctl_stat *stat)
{
	cJSON *list = json_add_array(object, "nodes");

	for (uint32_t i = 0; i < stat->nr_nodes; i++) {
		const struct gw_node_info *info = &stat->node[i];
		cJSON *node = json_append_object(list);

		json_add_u64(node, "node", i);
		json_add_text(node, "name", info->opt.name);
		if (info->opt.host < 0)
			json_add_null(node, "host");
		else
			json_add_u64(node, "host", (uint64_t)info->opt.host);
		json_add_u64(node, "capacity_bytes", info->opt.bytes);
		json_add_u64(node, "distance", info->opt.distance);
		json_add_u64(node, "pages", info->pages);
		json_add_u64(node, "free_frames", info->free_frames);
		json_add_u64(node, "pages_in", info->in);
		json_add_u64(node, "pages_out", info->out);
		json_far(node, info);
	}
}

static void json_moved(cJSON *object, const struct ctl_stat *stat)
{
	cJSON *list = json_add_array(object, "moved");

	for (uint32_t from = 0; from < stat->nr_nodes; from++) {
		for (uint32_t to = 0; to < stat->nr_nodes; to++) {
			cJSON *item;

			if (!stat->stats.pages_moved[from][to])
				continue;
			item = json_append_object(list);
			json_add_u64(item, "from", from);
			json_add_u64(item, "to", to);
			json_add_u64(item, "pages", stat->stats.pages_moved[from][to]);
		}
	}
}

static void json_failed(cJSON *object, const struct gw_stats *stats)
{
	cJSON *list = json_add_object(object, "failed");
	char name[ERRNO_TEXT];

	for (int err = 0; err < GW_ERRNO_MAX; err++)
		if (stats->failed[err])
			json_add_u64(list, errno_name(err, name), stats->failed[err]);
}

static void print_json(int pid, const char *comm, const struct ctl_stat *stat)
{
	const struct gw_stats *stats = &stat->stats;
	cJSON *object = json_object();

	json_add_u64(object, "pid", (uint64_t)pid);
	json_add_text(object, "command", comm);
	json_add_text(object, "via", "engine");
	json_nodes(object, stat);
	json_moved(object, stat);
	json_failed(object, stats);
	json_add_u64(object, "managed_pages", stats->managed_pages);
	json_add_u64(object, "metadata_bytes", stats->metadata_bytes);
	json_add_u64(object, "arena_bytes", stats->arena_bytes);
	for (size_t i = 0; i < NR(counters); i++)
		json_add_u64(object, counters[i].key, counter_value(stats, &counters[i]));
	for (size_t i = 0; i < NR(windows); i++)
		json_add_us(object, windows[i].title, counter_value(stats, &windows[i]));
	json_add_bool(object, "recycling", stats->recycling);
	json_add_u64(object, "stall_us_default", stats->stall_us_default);
	json_print(object, stdout);
}

/* ---------------------------------------------------------------- table ---- */

static void print_head(const char *text)
{
	printf("%s%s%s\n", tone_begin(TONE_HEAD), text, tone_end(TONE_HEAD));
}

/* What a far node makes of its pages. */
static void print_far(const struct gw_node_info *info)
{
	char used[SIZE_TEXT];

	if (info->opt.kind != GW_NODE_ZRAM && info->opt.kind != GW_NODE_FILE)
		return;
	printf("      %s: takes %s; pages of one value %" PRIu64 ", not compressed %" PRIu64 ", shared %" PRIu64
	       "; refused %" PRIu64 ", lost %" PRIu64 "\n",
	       info->opt.kind == GW_NODE_ZRAM ? "zram" : "file", size_text(info->used_bytes, used), info->same,
	       info->raw, info->shared, info->refused, info->io_errors + info->bad_sums);
}

static void print_nodes(const struct ctl_stat *stat)
{
	char size[SIZE_TEXT], limit[SIZE_TEXT], frames[SIZE_TEXT], name[GW_NAME_MAX];

	print_head("NODE  NAME          HOST     SIZE    LIMIT     FREE      PAGES IN     PAGES OUT");
	for (uint32_t i = 0; i < stat->nr_nodes; i++) {
		const struct gw_node_info *info = &stat->node[i];
		char host[16] = "-";

		if (info->opt.host >= 0)
			snprintf(host, sizeof(host), "%d", info->opt.host);
		printf("%4u  %-12s %5s %8s %8s %8s %13" PRIu64 " %13" PRIu64 "\n", i,
		       clean_text(info->opt.name, name, sizeof(name)), host,
		       size_text(info->pages * GW_PAGE_SIZE, size),
		       info->opt.bytes ? size_text(info->opt.bytes, limit) : "-",
		       size_text(info->free_frames * GW_PAGE_SIZE, frames), info->in, info->out);
		print_far(info);
	}
}

static void print_directions(const struct ctl_stat *stat)
{
	char name[ERRNO_TEXT];

	for (uint32_t from = 0; from < stat->nr_nodes; from++)
		for (uint32_t to = 0; to < stat->nr_nodes; to++)
			if (stat->stats.pages_moved[from][to])
				printf("%14" PRIu64 "  pages moved from %u to %u\n",
				       stat->stats.pages_moved[from][to], from, to);
	for (int err = 0; err < GW_ERRNO_MAX; err++)
		if (stat->stats.failed[err])
			printf("%14" PRIu64 "  pages not moved: %s\n", stat->stats.failed[err],
			       errno_name(err, name));
}

static void print_human(int pid, const char *comm, const struct ctl_stat *stat)
{
	const struct gw_stats *stats = &stat->stats;
	char clean[64], managed[SIZE_TEXT], metadata[SIZE_TEXT], arena[SIZE_TEXT];

	printf("PID %d (%s): %s managed, engine's own memory %s (free frames %s)\n", pid,
	       clean_text(comm, clean, sizeof(clean)),
	       size_text(stats->managed_pages * GW_PAGE_SIZE, managed),
	       size_text(stats->metadata_bytes, metadata), size_text(stats->arena_bytes, arena));
	printf("vacated frames are %s, stalls bounded to %u us unless a request says otherwise\n\n",
	       stats->recycling ? "reused" : "dropped", stats->stall_us_default);
	print_nodes(stat);
	putchar('\n');
	print_directions(stat);
	for (size_t i = 0; i < NR(counters); i++)
		printf("%14" PRIu64 "  %s\n", counter_value(stats, &counters[i]), counters[i].title);
	for (size_t i = 0; i < NR(windows); i++)
		printf("%14.3f  %s\n", (double)counter_value(stats, &windows[i]) / 1000, windows[i].title);
}

static int ask(struct session *s)
{
	int err = ctl_send(&s->client, CTL_STAT, NULL, 0);

	return err ? session_error(s, err) : session_expect(s, CTL_STAT_OK, CTL_STAT_OK);
}

static int engine_run(const struct cli_args *args, struct session *s)
{
	char comm[64];

	if (ask(s))
		return CLI_FAILED;
	process_name(s->pid, s->client.hello.comm, comm, sizeof(comm));
	if (args_has(args, OPT_JSON))
		print_json(s->pid, comm, &s->msg.stat);
	else
		print_human(s->pid, comm, &s->msg.stat);
	return CLI_DONE;
}

static int run(const struct cli_args *args)
{
	struct actor a;
	int status = actor_open(&a, args, args->operands[0]);

	if (!status)
		status = a.via == VIA_KERNEL ? kernel_stat_run(args, &a) : engine_run(args, &a.session);
	actor_close(&a);
	return status;
}

static const struct cli_option options[] = {
	VIA_OPTION,
	{ .name = NULL },
};

const struct cli_command cli_stat = {
	.name = "stat",
	.usage = "[--via WHO] [--json] PID",
	.summary = "what the engine of a process has done, by cause and direction",
	.text = "Print the counters of PID's engine since it started. Of a process that has no\n"
		"engine: its pages by kind and NUMA node, and what limits their moves.",
	.options = options,
	.min = 1,
	.max = 1,
	.run = run,
};

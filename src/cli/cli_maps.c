/* SPDX-License-Identifier: MIT */
/*
 * godwit maps: where every page of a process is, in the format of /proc/PID/numa_maps.
 */
#include "via.h"
#include "topology/topology.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* Names of area kinds: 0 is managed, then 1 + enum gw_unmanaged. */
static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = {
		"managed", "file", "shared", "readonly", "stack", "excluded", "other",
	};

	return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "other";
}

static void print_human(const struct gw_area *area)
{
	char line[TOPOLOGY_LINE];
	size_t len = topology_area_line(area, true, line);

	fwrite(line, 1, len, stdout);
}

void maps_print_json(const struct gw_area *area, const char *kind)
{
	cJSON *object = json_object(), *pages;
	char perms[4] = "---";

	perms[0] = area->prot & PROT_READ ? 'r' : '-';
	perms[1] = area->prot & PROT_WRITE ? 'w' : '-';
	perms[2] = area->prot & PROT_EXEC ? 'x' : '-';
	json_add_addr(object, "start", area->start);
	json_add_addr(object, "end", area->end);
	json_add_text(object, "perms", perms);
	json_add_text(object, "kind", kind);
	json_add_text(object, "name", area->name);
	json_add_text(object, "policy", area->policy);
	json_add_u64(object, "offset", area->offset);
	pages = json_add_object(object, "pages");
	for (int i = 0; i < GW_MAX_NODES; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%d", i);
		if (area->pages[i])
			json_add_u64(pages, key, area->pages[i]);
	}
	json_add_u64(object, "huge", area->huge);
	json_add_u64(object, "swapped", area->swapped);
	json_print(object, stdout);
}

/* Areas come in address order; one that does not is no area, and would make an endless list possible. */
static int print_areas(struct session *s, bool json)
{
	uint64_t end = 0;

	for (;;) {
		if (session_expect(s, CTL_AREA, CTL_AREAS_END))
			return CLI_FAILED;
		if (s->msg.head.type == CTL_AREAS_END)
			return CLI_DONE;
		if (s->msg.area.area.start < end)
			return session_error(s, -EPROTO);
		end = s->msg.area.area.end;
		if (json)
			maps_print_json(&s->msg.area.area, kind_name(s->msg.area.area.kind));
		else
			print_human(&s->msg.area.area);
	}
}

static int engine_run(const struct cli_args *args, struct session *s)
{
	int err = ctl_send(&s->client, CTL_AREAS, NULL, 0);

	return err ? session_error(s, err) : print_areas(s, args_has(args, OPT_JSON));
}

static int run(const struct cli_args *args)
{
	struct actor a;
	int status = actor_open(&a, args, args->operands[0]);

	if (!status)
		status = a.via == VIA_KERNEL ? kernel_maps_run(args, &a) : engine_run(args, &a.session);
	actor_close(&a);
	return status;
}

static const struct cli_option options[] = {
	VIA_OPTION,
	{ .name = NULL },
};

const struct cli_command cli_maps = {
	.name = "maps",
	.usage = "[--via WHO] [--json] PID",
	.summary = "where every page of a process is",
	.text = "Print a line for every mapping of PID as /proc/PID/numa_maps does, with the\n"
		"engine's nodes. Two fields are godwit's own: thp= (of the pages, those mapped\n"
		"as THPs) and swapped=. All counts are pages of 4 KiB. JSON: one line a\n"
		"mapping; kind says whether it is managed, or why not. A process that\n"
		"has no engine is shown as the kernel has it: /proc/PID/numa_maps itself.",
	.options = options,
	.min = 1,
	.max = 1,
	.run = run,
};

/* SPDX-License-Identifier: MIT */
/*
 * godwit maps: where every page of a process is, in the format of /proc/PID/numa_maps.
 */
#include "cli.h"
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

static void print_json(const struct gw_area *area)
{
	cJSON *object = json_object(), *pages;
	char perms[4] = "---";

	perms[0] = area->prot & PROT_READ ? 'r' : '-';
	perms[1] = area->prot & PROT_WRITE ? 'w' : '-';
	perms[2] = area->prot & PROT_EXEC ? 'x' : '-';
	json_add_addr(object, "start", area->start);
	json_add_addr(object, "end", area->end);
	json_add_text(object, "perms", perms);
	json_add_text(object, "kind", kind_name(area->kind));
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
			print_json(&s->msg.area.area);
		else
			print_human(&s->msg.area.area);
	}
}

static int run(const struct cli_args *args)
{
	struct session s;
	int err, status;

	if (session_open(&s, args->operands[0]))
		return CLI_FAILED;
	err = ctl_send(&s.client, CTL_AREAS, NULL, 0);
	status = err ? session_error(&s, err) : print_areas(&s, args_has(args, OPT_JSON));
	session_close(&s);
	return status;
}

const struct cli_command cli_maps = {
	.name = "maps",
	.usage = "[--json] PID",
	.summary = "where every page of a process is",
	.text = "Print a line for every mapping of PID as /proc/PID/numa_maps does, with the\n"
		"engine's nodes. Two fields are godwit's own: thp= (of the pages, those mapped\n"
		"as THPs) and swapped=. All counts are pages of 4 KiB. JSON: one line a\n"
		"mapping; kind says whether it is managed, or why not.",
	.min = 1,
	.max = 1,
	.run = run,
};

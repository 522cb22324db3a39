/* SPDX-License-Identifier: MIT */
/*
 * godwit group show: the groups, their members, and on which nodes the pages are.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_MS 1000	/* a member that is stopped must not hold up the others */

struct show {
	bool json;
	const char *only;	/* a name, or NULL: all */
	int nr;			/* groups shown */
	struct place place;
};

/* Managed pages only: the others have no node. */
static int count_pages(struct session *s, struct member *m)
{
	int err = ctl_send(&s->client, CTL_AREAS, NULL, 0);

	if (err)
		return session_error(s, err);
	for (;;) {
		const struct gw_area *area = &s->msg.area.area;

		if (session_expect(s, CTL_AREA, CTL_AREAS_END))
			return CLI_FAILED;
		if (s->msg.head.type == CTL_AREAS_END)
			return 0;
		for (uint32_t n = 0; n < m->nr_nodes && !area->kind; n++)
			m->pages[n] += area->pages[n];
	}
}

static void ask(struct member *m, const char *list)
{
	struct session s;

	m->state = member_open(&s, m, ANSWER_TIMEOUT_MS);
	if (m->state != MEMBER_NEW)
		return;
	s.mute = true;
	m->state = count_pages(&s, m) ? MEMBER_SILENT : MEMBER_TOLD;
	if (gw_nodes_parse(list, (int)m->nr_nodes, &m->nodes))
		m->nodes = 0;
	session_close(&s);
	if (m->state == MEMBER_SILENT && !member_lives(m))
		m->state = MEMBER_ENDED;
}

/* ---------------------------------------------------------------- printing ---- */

static void json_pages(cJSON *object, const char *name, const uint64_t *pages)
{
	cJSON *list = json_add_object(object, name);
	char key[16];

	for (int n = 0; n < GW_MAX_NODES; n++) {
		snprintf(key, sizeof(key), "%d", n);
		if (pages[n])
			json_add_u64(list, key, pages[n]);
	}
}

static void print_json(const struct group *g, const uint64_t *pages, const uint64_t *host)
{
	cJSON *object = json_object(), *list;
	char nodes[NODES_TEXT];

	json_add_text(object, "group", g->name);
	json_add_text(object, "nodes", g->list);
	list = json_add_array(object, "members");
	for (int i = 0; i < g->nr; i++) {
		const struct member *m = &g->members[i];
		cJSON *item;

		if (m->state == MEMBER_ENDED)
			continue;
		item = json_append_object(list);
		json_add_u64(item, "pid", (uint64_t)m->who.pid);
		json_add_text(item, "command", m->command);
		json_add_bool(item, "answers", m->state == MEMBER_TOLD);
		json_add_text(item, "nodes", nodes_text(m->nodes, nodes));
		json_pages(item, "pages", m->pages);
		json_add_text(item, "via", m->kernel ? "kernel" : "engine");
	}
	json_pages(object, "pages", pages);
	json_pages(object, "pages_host", host);
	json_print(object, stdout);
}

static void print_pages(const uint64_t *pages)
{
	char size[SIZE_TEXT];

	for (int n = 0; n < GW_MAX_NODES; n++)
		if (pages[n])
			printf(" %d:%s", n, size_text(pages[n] * GW_PAGE_SIZE, size));
	putchar('\n');
}

static void print_human(const struct group *g, const uint64_t *pages, const uint64_t *host)
{
	char clean[64], nodes[NODES_TEXT];

	printf("%sgroup %s: nodes %s, pages%s", tone_begin(TONE_HEAD), g->name, g->list, tone_end(TONE_HEAD));
	print_pages(pages);
	if (group_has_cgroup(g->dir, g->name)) {
		printf("%8s by the kernel, on the host's nodes %s, pages", "", nodes_text(g->host_nodes, nodes));
		print_pages(host);
	}
	for (int i = 0; i < g->nr; i++) {
		const struct member *m = &g->members[i];

		if (m->state == MEMBER_ENDED)
			continue;
		printf("%8d %-16s %s", m->who.pid, clean_text(m->command, clean, sizeof(clean)),
		       m->kernel ? " (host)" : "");
		if (m->state == MEMBER_TOLD)
			print_pages(m->pages);
		else
			puts(m->state == MEMBER_NO_ENGINE ? " has no engine" : " does not answer");
	}
}

/* ---------------------------------------------------------------- groups ---- */

static int show_group(int dir, const char *name, void *arg)
{
	struct show *show = arg;
	struct group g = { .dir = dir, .turn = -1 };
	uint64_t pages[GW_MAX_NODES] = { 0 };
	char list[GROUP_LIST_MAX];
	uint64_t host[GW_MAX_NODES] = { 0 };

	if ((show->only && strcmp(show->only, name) != 0) || group_nodes(dir, name, list) || group_lock(&g))
		return 0;
	snprintf(g.name, sizeof(g.name), "%s", name);
	if (group_list(&g) == 0) {
		group_unlock(&g);
		kernel_list(&g);
		for (int i = 0; i < g.nr; i++)
			if (g.members[i].kernel)
				kernel_ask(&g.members[i], g.host_nodes);
			else
				ask(&g.members[i], g.list);
		for (int i = 0; i < g.nr; i++)
			for (int n = 0; n < GW_MAX_NODES; n++)
				(g.members[i].kernel ? host : pages)[n] += g.members[i].pages[n];
		if (show->json)
			print_json(&g, pages, host);
		else
			print_human(&g, pages, host);
		show->nr++;
	}
	group_unlock(&g);
	free(g.members);
	return 0;
}

static void show_place(struct show *show, const struct place *place)
{
	char dir[CTL_PATH_MAX];
	int fd = -1;

	groups_prune_place(place);
	if (ctl_runtime_dir(dir, sizeof(dir), place->base, place->uid, false) == 0)
		fd = groups_open(dir);
	if (fd < 0)
		return;
	show->place = *place;
	groups_each(fd, show_group, show);
	close(fd);
}

static int run(const struct cli_args *args)
{
	struct show show = { .json = args_has(args, OPT_JSON), .only = args->operands[0] };
	struct place places[PLACES_MAX];
	int nr = places_of_all(places);

	if (show.only && !group_name_valid(show.only))
		return say_error("'%s' is not a group's name", show.only);
	for (int i = 0; i < nr; i++)
		show_place(&show, &places[i]);
	if (show.nr == 0 && show.only)
		return say_error("no group '%s': see 'godwit group show'", show.only);
	if (show.nr == 0 && !show.json)
		puts("no group: make one with 'godwit group create NAME NODES PID...'");
	return CLI_DONE;
}

const struct cli_command cli_group_show = {
	.name = "group show",
	.usage = "[--json] [NAME]",
	.summary = "nodes, members, and pages per node",
	.text = "Show the group NAME, or all groups: yours, and for root everybody's. Pages are\n"
		"those that the members' engines manage; of members without an engine, those\n"
		"that the kernel says, on nodes of the host. JSON: one line a group.",
	.max = 1,
	.run = run,
};

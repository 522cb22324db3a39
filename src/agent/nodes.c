/* SPDX-License-Identifier: MIT */
/* Nodes: what is asked for, what is told of them, and the stores of those that are far. */
#include "agent/agent.h"

#include <errno.h>
#include <string.h>

_Static_assert((int)GW_NODE_ZRAM == (int)NODE_ZRAM + GW_NODE_RAM && (int)GW_NODE_FILE == (int)NODE_FILE + GW_NODE_RAM,
	       "kinds agree");

static void spec_public(const struct node_spec *s, struct gw_node_options *out)
{
	*out = (struct gw_node_options){ .size = sizeof(*out),
					 .kind = s->kind + GW_NODE_RAM,
					 .host = s->host,
					 .bytes = s->bytes,
					 .distance = s->distance,
					 .weight = s->weight,
					 .alg = s->alg,
					 .dedup = s->dedup };
	memcpy(out->name, s->name, sizeof(out->name));
	memcpy(out->cpus, s->cpus, sizeof(out->cpus));
}

int gw_node_parse(const char *text, struct gw_node_options *out, size_t *at)
{
	struct node_spec spec;
	size_t where;
	int err = node_parse(text, &spec, at ? at : &where);

	if (err)
		return err;
	spec_public(&spec, out);
	out->path_len = strlen(spec.path);
	out->path = out->path_len ? strstr(text, ",path=") + strlen(",path=") : NULL;
	return 0;
}

int gw_host_node(int host)
{
	return host_check(host);
}

/* ---- far nodes ---- */

struct far_add {
	const struct node_spec *spec;
	int id;
};

/* On the service thread, whose descriptors the program cannot close. The store is there before the node is. */
static int far_add(struct gw_engine *e, void *arg)
{
	struct far_add *a = arg;
	struct far_spec spec = { .kind = a->spec->kind == NODE_FILE ? FAR_FILE : FAR_ZRAM,
				 .alg = a->spec->alg ? FAR_ZSTD : FAR_LZ4,
				 .dedup = a->spec->dedup,
				 .bytes = a->spec->bytes };
	struct far *far;
	uint32_t id = e->nodes.nr;
	int err = id < NODE_MAX ? mm_far_init(&e->mm) : -ENOSPC;

	if (err)
		return err;
	memcpy(spec.path, a->spec->path, sizeof(spec.path));
	err = far_open(&far, &e->region, &spec);
	if (err)
		return err;
	e->mm.far[id] = far;
	a->id = node_add(&e->nodes, a->spec);
	if (a->id >= 0) {
		err = faults_start(e);
		if (!err && far_slow(far))
			err = slow_start(e);
		return err ? err : reclaimer_start(e);
	}
	e->mm.far[id] = NULL;
	far_close(far);
	return a->id;
}

static bool options_sound(const struct gw_node_options *opt)
{
	return opt->size >= sizeof(*opt) && opt->kind >= GW_NODE_RAM && opt->kind <= GW_NODE_FILE &&
	       opt->distance <= 255 && opt->weight <= 255 && memchr(opt->name, 0, sizeof(opt->name)) &&
	       opt->alg <= GW_ALG_ZSTD && opt->path_len < NODE_PATH &&
	       (opt->kind == GW_NODE_FILE) == (opt->path && opt->path_len);
}

int gw_node_add(struct gw_engine *e, const struct gw_node_options *opt)
{
	struct node_spec spec;
	struct far_add add = { .spec = &spec };
	int err;

	if (!options_sound(opt))
		return -EINVAL;
	spec = (struct node_spec){ .kind = opt->kind - GW_NODE_RAM,
				   .host = opt->kind == GW_NODE_RAM ? opt->host : NODE_VIRTUAL,
				   .bytes = opt->bytes,
				   .distance = opt->distance,
				   .weight = opt->weight,
				   .alg = opt->alg,
				   .dedup = opt->dedup };
	memcpy(spec.name, opt->name, sizeof(spec.name));
	memcpy(spec.cpus, opt->cpus, sizeof(spec.cpus));
	if (opt->path)
		memcpy(spec.path, opt->path, opt->path_len);
	if (spec.kind == NODE_RAM)
		return node_add(&e->nodes, &spec);
	err = gw_call(e, far_add, &add);
	return err ? err : add.id;
}

static void far_info(struct far *far, struct gw_node_info *out)
{
	struct far_stats s;

	far_stats(far, &s);
	out->data_bytes = s.data_bytes;
	out->used_bytes = s.used_bytes;
	out->same = s.same;
	out->raw = s.raw;
	out->shared = s.shared;
	out->refused = s.refused;
	out->io_errors = s.io_errors;
	out->bad_sums = s.bad_sums;
}

/* ---- what there is ---- */

int gw_node_count(struct gw_engine *e)
{
	return (int)__atomic_load_n(&e->nodes.nr, __ATOMIC_ACQUIRE);
}

static uint64_t free_frames(struct gw_engine *e, int host)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < e->nodes.nr_arenas; i++)
		if (e->nodes.arena[i].host == host)
			bytes += arena_free(&e->nodes.arena[i]);
	return bytes / GW_PAGE_SIZE;
}

int gw_node_get(struct gw_engine *e, int node, struct gw_node_info *out)
{
	struct node *n;

	if (node < 0 || node >= gw_node_count(e))
		return -ENODEV;
	n = &e->nodes.node[node];
	spec_public(&n->spec, &out->opt);
	out->pages = n->pages;
	out->in = n->in;
	out->out = n->out;
	out->hit = n->hit;
	out->miss = n->miss;
	out->foreign = n->foreign;
	out->interleave_hit = n->interleave_hit;
	out->local = n->local;
	out->other = n->other;
	out->free_frames = node_far(&e->nodes, node) ? 0 : free_frames(e, n->spec.host);
	if (e->mm.far[node])
		far_info(e->mm.far[node], out);
	return 0;
}

int gw_node_of_cpu(struct gw_engine *e, int cpu)
{
	return node_of_cpu(&e->nodes, cpu);
}

int gw_node_distance(struct gw_engine *e, int from, int to)
{
	return node_distance(&e->nodes, from, to);
}

uint64_t gw_node_bytes(struct gw_engine *e, int node)
{
	return node < 0 || node >= gw_node_count(e) ? 0 : node_bytes(&e->nodes, node);
}

int gw_nodes_parse(const char *list, int nr_nodes, gw_nodemask *out)
{
	return nodelist_parse(list, nr_nodes, out);
}

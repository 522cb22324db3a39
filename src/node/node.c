/* SPDX-License-Identifier: MIT */
/* The table of nodes: specifications and charges. */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PAGE_SHIFT 12

void node_table_init(struct node_table *t, struct region *r)
{
	t->region = r;
	t->nr = 0;
	t->nr_arenas = 0;
	t->nr_cpus = node_host_cpus();
	memset(t->near, NODE_MAX, sizeof(t->near));
}

/* ---- specifications ---- */

static bool word_is(const char *w, size_t len, const char *key, const char **val, size_t *val_len)
{
	size_t n = strlen(key);

	if (len <= n || memcmp(w, key, n))
		return false;
	*val = w + n;
	*val_len = len - n;
	return true;
}

static bool whole_number(const char *s, size_t len, uint64_t most, uint64_t *out)
{
	const char *end = s;

	return str_u64(&end, 10, out) && end == s + len && *out <= most;
}

static bool plain_name(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", s[i]) || !s[i])
			return false;
	return len > 0 && len < NODE_NAME;
}

static bool take_far_word(const char *w, size_t len, struct node_spec *out)
{
	const char *val;
	size_t n;
	uint64_t v;

	if (out->kind == NODE_ZRAM && word_is(w, len, "alg=", &val, &n)) {
		out->alg = n == 4 && !memcmp(val, "zstd", 4);
		return out->alg || (n == 3 && !memcmp(val, "lz4", 3));
	}
	if (out->kind == NODE_ZRAM && word_is(w, len, "dedup=", &val, &n) && whole_number(val, n, 1, &v)) {
		out->dedup = v;
		return true;
	}
	if (out->kind == NODE_FILE && word_is(w, len, "path=", &val, &n) && n < NODE_PATH) {
		memset(out->path, 0, sizeof(out->path));
		memcpy(out->path, val, n);
		return true;
	}
	return false;
}

static bool take_word(const char *w, size_t len, struct node_spec *out)
{
	const char *val;
	size_t n;
	uint64_t v;

	if (word_is(w, len, "size=", &val, &n))
		return str_size(val, n, &out->bytes) && out->bytes >= 1UL << PAGE_SHIFT;
	if (take_far_word(w, len, out))
		return true;
	if (out->kind != NODE_RAM && !word_is(w, len, "distance=", &val, &n) && !word_is(w, len, "name=", &val, &n))
		return false;
	if (word_is(w, len, "host=", &val, &n) && whole_number(val, n, NODE_MAX - 1, &v)) {
		out->host = (int32_t)v;
		return true;
	}
	if (word_is(w, len, "distance=", &val, &n) && whole_number(val, n, 255, &v) && v >= 10) {
		out->distance = (uint32_t)v;
		return true;
	}
	if (word_is(w, len, "weight=", &val, &n) && whole_number(val, n, 255, &v) && v) {
		out->weight = (uint32_t)v;
		return true;
	}
	if (word_is(w, len, "cpus=", &val, &n))
		return node_parse_cpus(val, n, out->cpus);
	if (word_is(w, len, "name=", &val, &n) && plain_name(val, n)) {
		memset(out->name, 0, sizeof(out->name));
		memcpy(out->name, val, n);
		return true;
	}
	return false;
}

static bool take_kind(const char *w, size_t len, struct node_spec *out)
{
	static const char kinds[][5] = { [NODE_RAM] = "ram", [NODE_ZRAM] = "zram", [NODE_FILE] = "file" };

	for (out->kind = 0; out->kind < ARRAY_SIZE(kinds); out->kind++)
		if (len == strlen(kinds[out->kind]) && !memcmp(w, kinds[out->kind], len))
			return true;
	return false;
}

int node_parse(const char *text, struct node_spec *out, size_t *at)
{
	const char *w = text;
	bool first = true;

	*out = (struct node_spec){ .host = NODE_VIRTUAL };
	for (;;) {
		size_t len = strcspn(w, ",");
		bool ok = first ? take_kind(w, len, out) : take_word(w, len, out);

		ok = ok && (w[len] || out->kind != NODE_FILE || out->path[0]);

		if (!ok) {
			*at = (size_t)(w - text);
			return -EINVAL;
		}
		first = false;
		if (!w[len])
			return 0;
		w += len + 1;
	}
}

/* How far it is from the others, by the host's word where both are bound and nothing else was said. */
static void measure(struct node_table *t, uint32_t id, bool unsaid)
{
	memset(t->distance[id], 0, sizeof(t->distance[id]));
	for (uint32_t n = 0; n < id; n++)
		t->distance[n][id] = 0;
	if (t->node[id].spec.host == NODE_VIRTUAL || !unsaid)
		return;
	t->distance[id][id] = 10; /* which says that it was measured */
	for (uint32_t n = 0; n < id; n++) {
		if (!t->distance[n][n])
			continue;
		t->distance[n][id] = (uint8_t)host_distance(t->node[n].spec.host, t->node[id].spec.host);
		t->distance[id][n] = (uint8_t)host_distance(t->node[id].spec.host, t->node[n].spec.host);
	}
}

int node_add(struct node_table *t, const struct node_spec *spec)
{
	uint32_t id = t->nr;
	int err = 0;

	if (id == NODE_MAX)
		return -ENOSPC;
	if (spec->host < NODE_VIRTUAL || spec->host >= NODE_MAX)
		return -EINVAL;
	if (spec->kind != NODE_RAM && (!nodes_direct(t) || spec->host != NODE_VIRTUAL))
		return -EINVAL; /* the first one is memory: the program starts there */
	if (spec->host != NODE_VIRTUAL)
		err = host_check(spec->host);
	if (err)
		return err;
	t->node[id] = (struct node){ .spec = *spec };
	measure(t, id, !spec->distance);
	if (!t->node[id].spec.distance)
		t->node[id].spec.distance = spec->kind == NODE_ZRAM ? NODE_ZRAM_DISTANCE :
					    spec->kind == NODE_FILE ? NODE_FILE_DISTANCE :
					    id			    ? 20 :
								      10;
	__atomic_store_n(&t->nr, id + 1, __ATOMIC_RELEASE);
	node_share_cpus(t);
	return (int)id;
}

bool node_any_host(const struct node_table *t)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->node[i].spec.host != NODE_VIRTUAL)
			return true;
	return false;
}

bool node_far(const struct node_table *t, int node)
{
	return t->node[node].spec.kind != NODE_RAM;
}

bool node_same_frames(const struct node_table *t, int a, int b)
{
	return a == b ||
	       (!node_far(t, a) && !node_far(t, b) && t->node[a].spec.host == t->node[b].spec.host);
}

uint64_t nodes_direct(const struct node_table *t)
{
	uint64_t mask = 0;

	for (uint32_t i = 0; i < t->nr; i++)
		mask |= node_far(t, (int)i) ? 0 : 1ULL << i;
	return mask;
}

int node_behind(const struct node_table *t, int node)
{
	uint32_t from = node_far(t, node) ? t->node[node].spec.distance : 0, best = UINT32_MAX;
	int behind = -1;

	for (uint32_t i = 0; i < t->nr; i++) {
		uint32_t distance = t->node[i].spec.distance;

		if (!node_far(t, (int)i) || distance < from || (distance == from && (int)i <= node) || distance >= best)
			continue;
		behind = (int)i;
		best = distance;
	}
	return behind;
}

bool node_all_host(const struct node_table *t)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (!node_far(t, (int)i) && t->node[i].spec.host == NODE_VIRTUAL)
			return false;
	return t->nr > 0;
}

int node_true(const struct node_table *t, int node, int host)
{
	int near = host >= 0 && host < NODE_MAX ? t->near[host] : NODE_MAX;

	if (near == NODE_MAX || t->node[node].spec.host == NODE_VIRTUAL || t->node[node].spec.host == host)
		return node;
	for (uint32_t i = 0; i < t->nr && t->node[near].spec.host != host; i++)
		if (t->node[i].spec.host == NODE_VIRTUAL && !node_far(t, (int)i))
			return (int)i;
	return near;
}

uint64_t nodes_to_host(const struct node_table *t, uint64_t nodes)
{
	uint64_t hosts = 0;

	for (uint32_t i = 0; i < t->nr; i++)
		if (nodes >> i & 1 && t->node[i].spec.host != NODE_VIRTUAL)
			hosts |= 1ULL << t->node[i].spec.host;
	return hosts;
}

/* ---- charges: one writer at a time, readers without a lock ---- */

static void pages_set(struct node *n, uint64_t pages)
{
	__atomic_store_n(&n->pages, pages, __ATOMIC_RELAXED);
}

bool node_charge(struct node_table *t, int node, uint64_t pages)
{
	struct node *n = &t->node[node];

	/* how much of a far node a page takes is known when it is there */
	if (!node_far(t, node) && n->spec.bytes && n->pages + pages > n->spec.bytes >> PAGE_SHIFT)
		return false;
	pages_set(n, n->pages + pages);
	return true;
}

void node_charge_force(struct node_table *t, int node, uint64_t pages)
{
	pages_set(&t->node[node], t->node[node].pages + pages);
}

void node_uncharge(struct node_table *t, int node, uint64_t pages)
{
	BUG_ON(t->node[node].pages < pages);
	pages_set(&t->node[node], t->node[node].pages - pages);
}

/* SPDX-License-Identifier: MIT */
/*
 * Programs that take four times the memory that their node may have, as fast as memset() does: in one mapping, in many,
 * by brk, by malloc, in four threads, with forks in between. Another process looks at them every millisecond: what they
 * have without the pool is never beyond the limit by more than 3 %, and some. With a word as argument: ways that have
 * it in their names, each with both far nodes; without, those of one thread have a compressed pool only.
 */
#include "live.h"

#include <stdint.h>

#define LIMIT (64UL << 20)
#define FILL (256UL << 20)
#define PIECE (128UL << 10)
#define THREADS_MOST 4U

/*
 * Beside the 3 %: the kernel counts pages in lots of 64 for each processor, what has just left is dropped 64 pages at a
 * time, and the pool is looked at up to a millisecond before the rest.
 */
#define OWN (2UL << 20)

/*
 * What is taken unseen: by threads that have mapped memory while a fork has the books, which are let on after 50 ms;
 * and in heaps of threads, which are mapped and grown inside libc, between two looks.
 */
#define UNSEEN (16UL << 20)

/* What both processes see. */
static struct shared {
	atomic_ulong pool; /* bytes of the compressed pool */
	atomic_bool filled;
	atomic_uint ready;
	double seconds;
	uint64_t wrong, held, held_ns, held_ns_max, let_go, children;
} * shared;

struct way {
	const char *name;
	unsigned int threads;
	void *(*take)(size_t len);
	size_t piece;
	uint64_t most; /* beyond the limit, and 3 % of it */
	bool forks;
};

struct filler {
	const struct way *way;
	unsigned int nr;
	char **piece;
	size_t pieces;
	pthread_t thread;
};

/* ---- how a program takes memory ---- */

static void *take_mmap(size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *take_brk(size_t len)
{
	return sbrk((intptr_t)len);
}

static void *take_malloc(size_t len)
{
	return malloc(len);
}

static uint64_t page_word(const struct filler *f, size_t piece, size_t page)
{
	return (uint64_t)(f->nr + 1) << 48 | piece << 24 | page;
}

/* Every page of a piece begins with a word of its own. Malloc's are not aligned. */
static void piece_fill(const struct filler *f, size_t piece)
{
	char *mem = f->piece[piece];

	for (size_t at = 0; at + GW_PAGE_SIZE <= f->way->piece; at += GW_PAGE_SIZE) {
		uint64_t word = page_word(f, piece, at / GW_PAGE_SIZE);

		memset(mem + at, (int)(piece % 250) + 1, GW_PAGE_SIZE);
		memcpy(mem + at, &word, sizeof(word));
	}
}

static uint64_t piece_wrong(const struct filler *f, size_t piece)
{
	const char *mem = f->piece[piece];
	uint64_t wrong = 0;

	for (size_t at = 0; at + GW_PAGE_SIZE <= f->way->piece; at += GW_PAGE_SIZE) {
		uint64_t word;

		memcpy(&word, mem + at, sizeof(word));
		wrong += word != page_word(f, piece, at / GW_PAGE_SIZE);
		for (size_t i = sizeof(word); i < GW_PAGE_SIZE; i += 509)
			wrong += mem[at + i] != (char)(piece % 250 + 1);
	}
	return wrong;
}

static void *fill(void *arg)
{
	struct filler *f = arg;

	for (size_t i = 0; i < f->pieces; i++) {
		f->piece[i] = f->way->take(f->way->piece);
		if (f->piece[i] == MAP_FAILED || !f->piece[i]) {
			shared->wrong++;
			return NULL;
		}
		piece_fill(f, i);
		if (f->way->forks && !f->nr && i % (f->pieces / 4) == f->pieces / 8) {
			int status = -1;
			pid_t pid = fork();

			if (!pid)
				_exit(piece_wrong(f, i) || piece_wrong(f, 0) ? 1 : 0);
			waitpid(pid, &status, 0);
			shared->children += !status;
		}
	}
	return NULL;
}

static void *check(void *arg)
{
	struct filler *f = arg;
	uint64_t wrong = 0;

	for (size_t i = 0; i < f->pieces && f->piece[i]; i++)
		wrong += piece_wrong(f, i);
	__atomic_add_fetch(&shared->wrong, wrong, __ATOMIC_RELAXED);
	return NULL;
}

static void for_all(struct filler *f, unsigned int nr, void *(*fn)(void *arg))
{
	for (unsigned int i = 0; i < nr; i++)
		pthread_create(&f[i].thread, NULL, fn, &f[i]);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(f[i].thread, NULL);
}

/* ---- the program ---- */

static void *tell_pool(void *arg)
{
	struct timespec ms = { .tv_nsec = 500000 };

	for (;; nanosleep(&ms, NULL)) {
		struct gw_node_info info = { .opt = { .size = sizeof(info.opt) } };

		gw_node_get(arg, 1, &info);
		shared->pool = info.opt.kind == GW_NODE_ZRAM ? info.used_bytes : 0;
		shared->ready = 1;
	}
	return NULL;
}

static struct gw_engine *engine_of(bool file)
{
	struct gw_node_options ram = { .size = sizeof(ram), .kind = GW_NODE_RAM, .host = -1, .bytes = LIMIT },
			       node = { .size = sizeof(node), .kind = GW_NODE_ZRAM, .host = -1 };
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_engine *e;
	int err = gw_start(&e, &opt);

	if (file) {
		node.kind = GW_NODE_FILE;
		node.path = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
		node.path_len = strlen(node.path);
	}
	err = err ? err : gw_node_add(e, &ram);
	err = err < 0 ? err : gw_node_add(e, &node);
	if (err != 1) {
		printf("Bail out! an engine with a far node: %s\n", strerror(-err));
		exit(1);
	}
	return e;
}

static void tell_stats(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_stats(e, &st);
	printf("#   filled %lu, demoted %lu, promoted %lu; held %lu (%lu in vain), %.3f s, %.3f ms at most\n",
	       st.faults_filled, st.pages_demoted, st.pages_promoted, st.held, st.held_let_go, (double)st.held_ns / 1e9,
	       (double)st.held_ns_max / 1e6);
}

static int program(const struct way *way, bool file)
{
	struct gw_engine *e = engine_of(file);
	struct filler f[THREADS_MOST];
	pthread_t teller;
	double began;

	for (unsigned int i = 0; i < way->threads; i++) {
		f[i] = (struct filler){ .way = way, .nr = i, .pieces = FILL / way->threads / way->piece };
		f[i].piece = calloc(f[i].pieces, sizeof(char *));
	}
	pthread_create(&teller, NULL, tell_pool, e);
	while (!shared->ready)
		usleep(1000);
	began = now();
	for_all(f, way->threads, fill);
	shared->seconds = now() - began;
	shared->filled = true;
	for_all(f, way->threads, check);
	tell_stats(e);
	fflush(stdout);
	_exit(0);
}

/* ---- who looks ---- */

static uint64_t anon_of(pid_t pid)
{
	char path[64], text[4096], *at;
	ssize_t got;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	got = (ssize_t)fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[got > 0 ? got : 0] = '\0';
	at = strstr(text, "RssAnon:");
	return at ? strtoull(at + 8, NULL, 10) << 10 : 0;
}

static int watch_one(pid_t pid, uint64_t *most, uint64_t *most_after, unsigned long *samples)
{
	struct timespec ms = { .tv_nsec = 1000000 };
	int status = -1;

	for (*samples = 0; waitpid(pid, &status, WNOHANG) != pid; ++*samples) {
		uint64_t pool = shared->pool, anon = anon_of(pid), *to = shared->filled ? most_after : most;

		pool = pool > shared->pool ? pool : shared->pool;
		anon = anon > pool ? anon - pool : 0;
		*to = anon > *to ? anon : *to;
		nanosleep(&ms, NULL);
	}
	return status;
}

static void try_way(const struct way *way, bool file)
{
	uint64_t most = 0, after = 0, bound = LIMIT * 3 / 100 + way->most;
	char sentence[160];
	unsigned long samples;
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	watch(way->name, file);
	fflush(stdout);
	pid = fork();
	if (!pid)
		program(way, file);
	status = watch_one(pid, &most, &after, &samples);
	printf("# %s, %s: %ld KiB beyond the limit while filled, %ld while read, %.3f s, %lu samples\n", way->name,
	       file ? "file" : "zram", ((long)most - (long)LIMIT) / 1024, ((long)after - (long)LIMIT) / 1024,
	       shared->seconds, samples);
	snprintf(sentence, sizeof(sentence), "%s, %s: never beyond the limit", way->name, file ? "file" : "zram");
	tap(!status && most > LIMIT / 2 && most <= LIMIT + bound, sentence);
	snprintf(sentence, sizeof(sentence), "%s, %s: all of it is as it was", way->name, file ? "file" : "zram");
	tap(!status && !shared->wrong && (!way->forks || shared->children == 4), sentence);
}

static const struct way ways[] = {
	{ "one mapping", 1, take_mmap, FILL, OWN, false },
	{ "four threads, a mapping each", 4, take_mmap, FILL / 4, OWN, false },
	{ "many mappings", 1, take_mmap, PIECE, OWN, false },
	{ "many mappings, four threads", 4, take_mmap, PIECE, OWN, false },
	{ "many mappings, four threads, forks", 4, take_mmap, PIECE, UNSEEN, true },
	{ "brk", 1, take_brk, PIECE, OWN, false },
	{ "one block of malloc", 1, take_malloc, FILL, OWN, false },
	{ "small blocks of malloc", 1, take_malloc, 10000, UNSEEN, false },
};

int main(int argc, char **argv)
{
	watchdog_begin(120);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((void *)shared == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		for (int file = 0; file < 2; file++)
			if (argc < 2 ? !file || ways[i].threads > 1 : strstr(ways[i].name, argv[1]) != NULL)
				try_way(&ways[i], file);
	watchdog_end();
	return tap_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * Forks of a process that has more memory than its limit: what is far is shared with the children at that moment, and
 * each has its own from then on. Children touch and change all of it, fork again, end at once, are killed, replace
 * themselves, outlive their parent; slots are free when nobody needs them.
 */
#include "far.h"

#include <limits.h>
#include <sys/stat.h>

#define MIB_PAGES 256UL
#define LIMIT (8UL << 20)
#define PAGES (24 * MIB_PAGES)
#define CHILDREN 24
#define CHILDREN_LONG 100

static char directory[] = "/var/tmp/godwit-far-XXXXXX";

static struct gw_engine *engine_of(uint32_t kind)
{
	struct gw_node_options ram = { .size = sizeof(ram), .kind = GW_NODE_RAM, .host = -1, .bytes = LIMIT },
			       node = { .size = sizeof(node), .kind = kind, .host = -1 };
	struct gw_options opt = { .size = sizeof(opt) };
	struct gw_engine *e;
	int err = gw_start(&e, &opt);

	if (!err)
		err = gw_node_add(e, &ram);
	if (kind == GW_NODE_FILE) {
		node.path = directory;
		node.path_len = strlen(directory);
	}
	if (err >= 0)
		err = gw_node_add(e, &node);
	if (err != 1) {
		printf("Bail out! an engine with a far node: %s\n", strerror(-err));
		exit(1);
	}
	return e;
}

static struct gw_node_info far_of(struct gw_engine *e)
{
	struct gw_node_info info = { .opt = { .size = sizeof(info.opt) } };

	gw_node_get(e, 1, &info);
	return info;
}

static void await_far(struct gw_engine *e)
{
	for (int i = 0; i < 1000 && far_of(e).pages < PAGES / 2; i++)
		usleep(10000);
}

static uint64_t changed_word(uint64_t page, uint64_t salt)
{
	return content_word(page, 1) ^ salt * 0x9e3779b97f4a7c15ULL;
}

/* One word of every page. */
static void change(uint64_t *mem, uint64_t salt)
{
	for (uint64_t p = 0; p < PAGES; p++)
		mem[p * WORDS + 1] = changed_word(p, salt);
}

static bool holds(const uint64_t *mem, uint64_t salt)
{
	uint64_t wrong = 0;

	for (uint64_t p = 0; p < PAGES; p++) {
		const uint64_t *at = mem + p * WORDS;

		if (at[1] == changed_word(p, salt) && at[2] == content_word(p, 2) && at[511] == content_word(p, 511))
			continue;
		if (!wrong++)
			dprintf(2, "# %d: page %lu is wrong: %lx %lx %lx, not %lx %lx %lx\n", getpid(), p, at[1], at[2],
				at[511], changed_word(p, salt), content_word(p, 2), content_word(p, 511));
	}
	return !wrong;
}

/* What a child does, by its number. */
static void child(uint64_t *mem, uint64_t salt, int nr)
{
	pid_t pid;
	int status;

	switch (nr % 6) {
	case 0: /* ends at once */
		_exit(0);
	case 1: /* a part, in no order */
		for (uint64_t i = 0, p = (uint64_t)nr; i < 500; i++, p = (p * 48271 + 11) % PAGES)
			if (mem[p * WORDS + 1] != changed_word(p, salt))
				_exit(1);
		_exit(0);
	case 2: /* another program */
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	case 3: /* a child of its own */
		pid = fork();
		if (!pid)
			_exit(!holds(mem, salt));
		_exit(waitpid(pid, &status, 0) != pid || status || !holds(mem, salt));
	case 4: /* waits to be killed */
		for (;;)
			holds(mem, salt);
	default: /* all of it, changed */
		if (!holds(mem, salt))
			_exit(1);
		change(mem, salt + 1000 + (uint64_t)nr);
		_exit(!holds(mem, salt + 1000 + (uint64_t)nr));
	}
}

/* Children, some at a time, while the parent goes on changing its own. */
static bool swarm(uint64_t *mem, int nr)
{
	pid_t pid[CHILDREN_LONG];
	uint64_t salt = 0;
	bool ok = true;
	int status;

	for (int i = 0; i < nr; i += 6) {
		for (int k = i; k < i + 6 && k < nr; k++) {
			watch("a fork", (unsigned long)k);
			pid[k] = fork();
			if (!pid[k])
				child(mem, salt, k);
		}
		ok = ok && holds(mem, salt);
		change(mem, ++salt);
		for (int k = i; k < i + 6 && k < nr; k++) {
			watch("a child", (unsigned long)k);
			if (k % 6 == 4)
				kill(pid[k], SIGKILL);
			waitpid(pid[k], &status, 0);
			if (k % 6 == 4 ? !WIFSIGNALED(status) : status) {
				printf("# child %d of kind %d: status %x\n", k, k % 6, (unsigned int)status);
				ok = false;
			}
		}
		ok = ok && holds(mem, salt);
	}
	return ok;
}

/* Room is given back step by step, by who uses the store. */
static uint64_t settled(struct gw_engine *e)
{
	void *mem = map_memory(64 * GW_PAGE_SIZE, false);
	uint64_t used = UINT64_MAX;

	for (int i = 0; i < 300 && used >= 40 << 20; i++) {
		send_range(e, mem, 64, 1);
		send_range(e, mem, 64, 0);
		used = far_of(e).used_bytes;
	}
	return used;
}

static void swarms(uint32_t kind)
{
	struct gw_engine *e = engine_of(kind);
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, false), before, after;

	contents_fill(mem, PAGES);
	change(mem, 0);
	await_far(e);
	before = far_of(e).used_bytes;
	tap(swarm(mem, long_form() ? CHILDREN_LONG : CHILDREN),
	    "every child has its parent's memory, and its own from then on");
	await_far(e);
	usleep(500000);
	after = settled(e);
	printf("# used before %lu KiB, after %lu KiB, pages %lu\n", before >> 10, after >> 10,
	       (unsigned long)far_of(e).pages);
	tap(after < before + (64 << 20), "what children had is free again");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	after = settled(e);
	printf("# with nothing in it %lu KiB\n", after >> 10);
	tap(after <= 32 << 20, "all is, when the parent needs nothing more");
}

/* The parent goes first. */
static void orphans(uint32_t kind)
{
	struct gw_engine *e = engine_of(kind);
	uint64_t *mem = map_memory(PAGES * GW_PAGE_SIZE, false);
	int said[2], go[2], good = 0;
	char c;

	contents_fill(mem, PAGES);
	change(mem, 7);
	await_far(e);
	if (pipe(said) || pipe(go))
		exit(1);
	fflush(stdout);
	for (int k = 0; k < 2; k++) {
		pid_t pid = fork();

		if (pid)
			continue;
		pid = fork(); /* its parent ends at once */
		if (pid) {
			if (k)
				holds(mem, 7);
			_exit(0);
		}
		pid = fork();
		close(said[0]);
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		c = holds(mem, 7);
		change(mem, 8);
		c = c && holds(mem, 8);
		if (write(said[1], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	change(mem, 9);
	while (waitpid(-1, NULL, 0) > 0)
		;
	close(said[1]);
	close(go[0]);
	if (fork()) { /* whose memory it was ends here; the last one counts */
		close(go[1]);
		_exit(0);
	}
	watch("orphans", 0);
	close(go[1]);
	while (read(said[0], &c, 1) == 1)
		good += c;
	printf("%sok - %d\n", good == 4 ? "" : "not ", good);
	fflush(stdout);
	_exit(0);
}

/* What it prints comes through a pipe that is open as long as one of them lives. */
static bool with_orphans(uint32_t kind)
{
	char text[256] = "";
	size_t got = 0;
	int out[2];
	ssize_t n;
	pid_t pid;

	if (pipe(out))
		return false;
	pid = fork();
	if (!pid) {
		dup2(out[1], 1);
		close(out[0]);
		close(out[1]);
		orphans(kind);
	}
	close(out[1]);
	while ((n = read(out[0], text + got, sizeof(text) - 1 - got)) > 0)
		got += (size_t)n;
	close(out[0]);
	waitpid(pid, NULL, 0);
	if (strncmp(text, "ok", 2) != 0)
		printf("# it said: %s\n", text);
	return !strncmp(text, "ok", 2);
}

static bool in_child(void (*fn)(uint32_t kind), uint32_t kind, int *lines)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		fn(kind);
		*lines = tap_nr;
		exit(tap_failed > 0);
	}
	waitpid(pid, &status, 0);
	tap_nr = *lines;
	tap_failed += status != 0;
	return !status;
}

/* Both kinds, or the one that is named. */
int main(int argc, char **argv)
{
	static const struct {
		uint32_t kind;
		const char *name;
	} kinds[] = { { GW_NODE_ZRAM, "zram" }, { GW_NODE_FILE, "file" } };
	int *lines = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (!mkdtemp(directory)) {
		printf("Bail out! %s: %s\n", directory, strerror(errno));
		return 1;
	}
	watchdog_begin(100);
	for (int i = 0; i < 2; i++) {
		double began = now();

		if (argc > 1 && strcmp(kinds[i].name, argv[1]) != 0)
			continue;
		printf("# %s\n", kinds[i].name);
		watch(kinds[i].name, 0);
		tap(in_child(swarms, kinds[i].kind, lines), "a swarm of children");
		*lines = tap_nr;
		watch("orphans", (unsigned long)i);
		tap(with_orphans(kinds[i].kind), "children whose parent has ended have what it had");
		*lines = tap_nr;
		printf("# %.1f s\n", now() - began);
	}
	tap(!rmdir(directory), "nothing is left where the files were");
	watchdog_end();
	return tap_end();
}

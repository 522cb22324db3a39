/* SPDX-License-Identifier: MIT */
/*
 * Far nodes that fail: pages that cannot be written stay where they are, and of those that cannot be read back exactly
 * these are SIGBUS when they are touched. Everything else is right, and the program goes on. Also limits that cannot be
 * kept. Each case has a process of its own.
 */
#include "hold_far.h"
#include "far.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PAGES 600UL
#define MIB_PAGES 256UL
#define LIMIT (16UL << 20)
#define LARGE (48 * MIB_PAGES) /* of the programs that are larger than their limit */

static char directory[] = "/var/tmp/godwit-far-XXXXXX";
static int *lines; /* of TAP, of all processes */
static FILE *said; /* to standard error, by this one */

/* ---- touches that may be SIGBUS ---- */

static sigjmp_buf missed;

static void on_bus(int sig)
{
	siglongjmp(missed, sig);
}

static void catch_bus(void)
{
	struct sigaction sa = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
}

/* Can be read, and what is in it. */
static bool there(const uint64_t *page, uint64_t *word)
{
	if (sigsetjmp(missed, 0))
		return false;
	*word = *(const volatile uint64_t *)page;
	return true;
}

struct found {
	uint64_t lost, first, last; /* pages that are SIGBUS */
	uint64_t wrong;
};

/* From the last to the first, so that none is brought along with another. */
static struct found look_at(const uint64_t *mem, uint64_t pages)
{
	struct found f = { 0 };

	for (uint64_t p = pages; p-- > 0;) {
		uint64_t word;

		if (there(mem + p * WORDS, &word)) {
			f.wrong += contents_wrong(mem + p * WORDS, 0, 0) || word != content_word(p, 0);
			for (uint64_t i = 1; i < WORDS; i++)
				if (mem[p * WORDS + i] != content_word(p, i)) {
					f.wrong++;
					break;
				}
			continue;
		}
		f.last = f.lost++ ? f.last : p;
		f.first = p;
	}
	return f;
}

static bool found_is(struct found f, uint64_t lost, uint64_t first)
{
	if (!f.wrong && f.lost == lost && (!lost || (f.first == first && f.last == first + lost - 1)))
		return true;
	printf("# %lu pages are lost, %lu to %lu, and %lu wrong\n", f.lost, f.first, f.last, f.wrong);
	return false;
}

/* ---- engines ---- */

static struct gw_engine *engine_of(uint64_t limit, uint32_t kind, uint64_t bytes)
{
	struct gw_node_options ram = { .size = sizeof(ram), .kind = GW_NODE_RAM, .host = -1, .bytes = limit },
			       node = { .size = sizeof(node), .kind = kind, .host = -1, .bytes = bytes };
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

static struct gw_stats stats_of(struct gw_engine *e)
{
	struct gw_stats st = { .size = sizeof(st) };

	gw_stats(e, &st);
	return st;
}

static struct gw_node_info far_of(struct gw_engine *e)
{
	struct gw_node_info info = { .opt = { .size = sizeof(info.opt) } };

	gw_node_get(e, 1, &info);
	return info;
}

static uint64_t *filled(size_t pages)
{
	uint64_t *mem = map_memory(pages * GW_PAGE_SIZE, false);

	contents_fill(mem, pages);
	return mem;
}

/* Lines that the engine wrote to standard error since the process began. */
static int messages(void)
{
	char line[256];
	int nr = 0;

	rewind(said);
	while (fgets(line, sizeof(line), said))
		if (!nr++)
			printf("# it says: %s", line);
	return nr;
}

/* ---- what is read back, and is not ---- */

static void reads(struct gw_engine *e)
{
	uint64_t *mem = filled(PAGES);
	struct gw_migrate_result res = { .size = sizeof(res) };
	int pipes[2];

	send_range(e, mem, PAGES, 1);
	hold_far_fail(e, 1, HOLD_FAR_READ, 100, 5);
	tap(found_is(look_at(mem, PAGES), 5, PAGES - 105), "pages that cannot be read are lost, no others");
	tap(stats_of(e).poisoned == 5 && far_of(e).io_errors == 5, "and counted");
	tap(found_is(look_at(mem, PAGES), 5, PAGES - 105), "they are lost for good");
	madvise(mem, PAGES * GW_PAGE_SIZE, MADV_DONTNEED);
	contents_fill(mem, PAGES);
	send_range(e, mem, PAGES, 1);
	tap(found_is(look_at(mem, PAGES), 0, 0), "what is discarded can be used again");
	send_range(e, mem, PAGES, 1);
	hold_far_fail(e, 1, HOLD_FAR_CORRUPT, 50, 3);
	tap(found_is(look_at(mem, PAGES), 3, PAGES - 53) && far_of(e).bad_sums == 3,
	    "so are those that are not what was kept");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	mem = filled(PAGES);
	send_range(e, mem, PAGES, 1);
	hold_far_fail(e, 1, HOLD_FAR_READ, 0, 1);
	tap(!pipe(pipes) && write(pipes[1], mem + 8 * WORDS, 4096) < 0 && errno == EFAULT, "a system call says EFAULT");
	tap(found_is(look_at(mem, PAGES), 1, 8), "of that page alone");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	mem = filled(PAGES);
	send_range(e, mem, PAGES, 1);
	hold_far_fail(e, 1, HOLD_FAR_READ, 7, 4);
	migrate(e, 1, 0, NULL, &res);
	hold_far_fail(e, 1, HOLD_FAR_READ, 0, 0);
	tap(res.failed[EIO] == 4, "a request says how many it could not bring back");
	tap(look_at(mem, PAGES).lost == 4 && !look_at(mem, PAGES).wrong, "these are lost");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	mem = filled(PAGES);
	send_range(e, mem, PAGES, 1);
	hold_far_fail(e, 1, HOLD_FAR_READ, 3, 1);
	for (uint64_t p = 0, word; p < PAGES; p++)
		there(mem + p * WORDS, &word);
	tap(look_at(mem, PAGES).lost <= 1 && !look_at(mem, PAGES).wrong,
	    "no page is lost because another one is read ahead");
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

static void writes(struct gw_engine *e)
{
	static const struct {
		enum hold_far fault;
		int err;
		const char *text;
		unsigned int skip; /* pages; of a file's room runs of pages */
	} cases[] = { { HOLD_FAR_WRITE, EIO, "pages that cannot be written stay: EIO", 100 },
		      { HOLD_FAR_FULL, ENOSPC, "so do those for which there is no room: ENOSPC", 2 } };
	uint64_t *mem = filled(PAGES);

	for (size_t i = 0; i < 2; i++) {
		struct gw_migrate_result res = { .size = sizeof(res) };

		migrate(e, 1, 0, NULL, NULL);
		hold_far_fail(e, 1, cases[i].fault, cases[i].skip, UINT_MAX);
		migrate(e, 0, 1, NULL, &res);
		printf("# %lu moved, %lu not: %s\n", (unsigned long)res.pages_moved,
		       (unsigned long)res.failed[cases[i].err], strerror(cases[i].err));
		tap(res.failed[cases[i].err] > PAGES / 2 && res.pages_moved > 0, cases[i].text);
		hold_far_fail(e, 1, cases[i].fault, 0, 0);
		tap(found_is(look_at(mem, PAGES), 0, 0), "and are right, as the others are");
	}
	munmap(mem, PAGES * GW_PAGE_SIZE);
}

static void failing_zram(void)
{
	struct gw_engine *e = engine_of(0, GW_NODE_ZRAM, 0);

	reads(e);
	writes(e);
}

static void failing_file(void)
{
	struct gw_engine *e = engine_of(0, GW_NODE_FILE, 0);

	reads(e);
	writes(e);
}

/* ---- the file itself ---- */

/* What the service thread has open: it is in no directory. */
static int file_open(void)
{
	char name[PATH_MAX], link[PATH_MAX];
	struct dirent *task, *entry;
	DIR *tasks = opendir("/proc/self/task"), *fds;
	int fd = -1;

	while (fd < 0 && (task = readdir(tasks))) {
		snprintf(name, sizeof(name), "/proc/self/task/%.20s/fd", task->d_name);
		fds = opendir(name);
		while (fds && fd < 0 && (entry = readdir(fds))) {
			ssize_t n;

			snprintf(name, sizeof(name), "/proc/self/task/%.20s/fd/%.20s", task->d_name, entry->d_name);
			n = readlink(name, link, sizeof(link) - 1);
			if (n > 0 && !strncmp(link, directory, strlen(directory)))
				fd = open(name, O_RDWR | O_CLOEXEC);
		}
		if (fds)
			closedir(fds);
	}
	closedir(tasks);
	return fd;
}

/* A bit of where the content of this page is. */
static bool spoil(int fd, const uint64_t *content)
{
	uint64_t *block = map_memory(GW_PAGE_SIZE, false);
	off_t at = 0;

	while (pread(fd, block, 4096, at) == 4096 && memcmp(block, content, 4096) != 0)
		at += 4096;
	block[17] ^= 1ULL << 40;
	return !memcmp(block, content, 17 * 8) && pwrite(fd, block, 4096, at) == 4096;
}

static void spoilt_file(void)
{
	struct gw_engine *e = engine_of(0, GW_NODE_FILE, 0);
	uint64_t *mem = filled(PAGES), word;
	uint64_t content[WORDS];
	bool done = true;
	int fd;

	send_range(e, mem, PAGES, 1);
	fd = file_open();
	for (uint64_t p = 4; p < PAGES; p += 6 * 20) { /* no two of these are the same */
		for (uint64_t i = 0; i < WORDS; i++)
			content[i] = content_word(p, i);
		done = done && fd >= 0 && spoil(fd, content);
	}
	tap(done, "somebody changes a bit in five blocks of the file");
	done = true;
	for (uint64_t p = PAGES; p-- > 0;)
		done = done && there(mem + p * WORDS, &word) == (p % 120 != 4);
	tap(done && look_at(mem, PAGES).lost == 5 && !look_at(mem, PAGES).wrong, "these pages are lost, and no others");
	tap(far_of(e).bad_sums == 5 && stats_of(e).poisoned == 5, "and counted");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	mem = filled(PAGES);
	send_range(e, mem, PAGES, 1);
	tap(!ftruncate(fd, 0) && found_is(look_at(mem, PAGES), PAGES, 0), "all are, when somebody cuts the file");
	munmap(mem, PAGES * GW_PAGE_SIZE);
	mem = filled(PAGES);
	tap(found_is(look_at(mem, PAGES), 0, 0), "and the program runs on");
	tap(messages() < 30, "it is not told of each of many pages");
}

/* ---- limits ---- */

static uint64_t anon_bytes(void)
{
	char line[128];
	uint64_t kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib << 10;
}

static uint64_t used(struct gw_engine *e)
{
	uint64_t anon = anon_bytes(), pool = far_of(e).opt.kind == GW_NODE_ZRAM ? far_of(e).used_bytes : 0;

	return anon > pool ? anon - pool : 0;
}

static bool soon_within(struct gw_engine *e, uint64_t bytes)
{
	double until = now() + 20;

	while (used(e) > bytes && now() < until)
		usleep(20000);
	printf("# %lu KiB are used\n", used(e) >> 10);
	return used(e) <= bytes;
}

/* Of the reclaimer, in the time to come: percent of a CPU. */
static double reclaimer_load(double time)
{
	char name[64], line[512];
	double ticks[2] = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		DIR *dir = opendir("/proc/self/task");
		struct dirent *d;

		while ((d = readdir(dir))) {
			unsigned long user, sys;
			FILE *f;

			snprintf(name, sizeof(name), "/proc/self/task/%.20s/stat", d->d_name);
			f = fopen(name, "re");
			if (f && fgets(line, sizeof(line), f) && strstr(line, "(godwit-reclaim") &&
			    sscanf(strchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
				   &sys) == 2)
				ticks[i] = (double)(user + sys);
			if (f)
				fclose(f);
		}
		closedir(dir);
		if (!i)
			usleep((useconds_t)(time * 1e6));
	}
	return (ticks[1] - ticks[0]) * 100 / (double)sysconf(_SC_CLK_TCK) / time;
}

static void unwritable(uint32_t kind, enum hold_far fault)
{
	struct gw_engine *e = engine_of(LIMIT, kind, 0);
	uint64_t *mem;

	hold_far_fail(e, 1, fault, 5, UINT_MAX);
	mem = filled(LARGE);
	usleep(1500000);
	tap(found_is(look_at(mem, LARGE), 0, 0),
	    "a program that is larger than its limit runs on when nothing can leave");
	tap(used(e) > 2 * LIMIT && far_of(e).pages < 1000, "and takes what it needs");
	tap(messages() == 1, "it is told once");
	if (fault == HOLD_FAR_FULL)
		tap(far_of(e).refused > 0, "and what was refused is counted");
	tap(reclaimer_load(2) < 60, "the reclaimer does not try all the time");
	hold_far_fail(e, 1, fault, 0, 0);
	tap(soon_within(e, LIMIT + (2 << 20)), "what has failed for a while is tried again: the limit is kept");
	tap(found_is(look_at(mem, LARGE), 0, 0) && !stats_of(e).poisoned, "all of it is as it was");
}

static void unwritable_zram(void)
{
	unwritable(GW_NODE_ZRAM, HOLD_FAR_WRITE);
}

static void unwritable_file(void)
{
	unwritable(GW_NODE_FILE, HOLD_FAR_WRITE);
}

static void full_zram(void)
{
	unwritable(GW_NODE_ZRAM, HOLD_FAR_FULL);
}

static void full_file(void)
{
	unwritable(GW_NODE_FILE, HOLD_FAR_FULL);
}

/* Some pages are lost while it works with more than it has. */
static void lossy(uint32_t kind)
{
	struct gw_engine *e = engine_of(LIMIT, kind, 0);
	uint64_t *mem = filled(LARGE);
	struct found f;

	f = look_at(mem, LARGE);
	hold_far_fail(e, 1, HOLD_FAR_CORRUPT, 500, 3);
	for (int round = 0; round < 3; round++)
		f = look_at(mem, LARGE);
	hold_far_fail(e, 1, HOLD_FAR_CORRUPT, 0, 0);
	printf("# %lu lost, %lu wrong; poisoned %lu, bad sums %lu\n", f.lost, f.wrong,
	       (unsigned long)stats_of(e).poisoned, (unsigned long)far_of(e).bad_sums);
	tap(!f.wrong && f.lost == stats_of(e).poisoned && f.lost <= 3 && far_of(e).bad_sums == 3,
	    "pages that are lost under a limit are those that were not what was kept");
	tap((messages() > 0) == (f.lost > 0), "and that is told");
}

static void lossy_zram(void)
{
	lossy(GW_NODE_ZRAM);
}

static void lossy_file(void)
{
	lossy(GW_NODE_FILE);
}

/* More is locked than there may be, and some is not. */
static void locked(uint32_t kind)
{
	struct gw_engine *e = engine_of(LIMIT, kind, 0);
	uint64_t pages = 2 * LIMIT / GW_PAGE_SIZE, *mem = filled(pages), *cold;
	unsigned char *vec = malloc(pages);
	uint64_t resident = 0;

	if (mlock(mem, pages * GW_PAGE_SIZE)) {
		printf("# cannot lock so much: %s\n", strerror(errno));
		tap(true, "more is locked than the limit # SKIP RLIMIT_MEMLOCK");
		return;
	}
	cold = filled(LARGE);
	usleep(1500000);
	mincore(mem, pages * GW_PAGE_SIZE, vec);
	for (uint64_t p = 0; p < pages; p++)
		resident += vec[p] & 1;
	tap(resident == pages, "locked memory is memory, also beyond the limit");
	tap(soon_within(e, 2 * LIMIT + (6 << 20)), "what is not locked makes room");
	tap(reclaimer_load(2) < 60, "the reclaimer does not look for more all the time");
	tap(found_is(look_at(mem, pages), 0, 0) && found_is(look_at(cold, LARGE), 0, 0), "all is as it was");
	munlock(mem, pages * GW_PAGE_SIZE);
	tap(soon_within(e, LIMIT + (2 << 20)), "when it is unlocked the limit is kept");
	tap(found_is(look_at(mem, pages), 0, 0) && !messages(), "without a loss");
}

static void locked_zram(void)
{
	locked(GW_NODE_ZRAM);
}

static void locked_file(void)
{
	locked(GW_NODE_FILE);
}

/* ---- each in a process of its own ---- */

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "zram, faults", failing_zram },
	{ "file, faults", failing_file },
	{ "file, spoilt", spoilt_file },
	{ "zram, unwritable", unwritable_zram },
	{ "file, unwritable", unwritable_file },
	{ "zram, full", full_zram },
	{ "file, full", full_file },
	{ "zram, lossy", lossy_zram },
	{ "file, lossy", lossy_file },
	{ "zram, locked", locked_zram },
	{ "file, locked", locked_file },
};

static void run_case(size_t i)
{
	double began = now();
	int status = 0;
	pid_t pid;

	printf("# %s\n", cases[i].name);
	fflush(stdout);
	tap_nr = *lines;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		tap_failed = 0;
		catch_bus();
		said = tmpfile();
		dup2(fileno(said), 2);
		watchdog_begin(60);
		watch(cases[i].name, 0);
		cases[i].run();
		watchdog_end();
		*lines = tap_nr;
		exit(tap_failed > 0);
	}
	waitpid(pid, &status, 0);
	tap_nr = *lines;
	tap_failed += status != 0;
	if (status && !WIFEXITED(status))
		tap(false, "it has not ended by itself");
	printf("# %.1f s\n", now() - began);
}

/* Those with a word in their names: "file" unless another is given, "," for all. */
int main(int argc, char **argv)
{
	lines = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!mkdtemp(directory)) {
		printf("Bail out! %s: %s\n", directory, strerror(errno));
		return 1;
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strstr(cases[i].name, argc > 1 ? argv[1] : "file"))
			run_case(i);
	tap_nr = *lines;
	tap(!rmdir(directory), "nothing is left where the files were");
	return tap_end();
}

/* SPDX-License-Identifier: MIT */
/*
 * Hostile neighbours: who may reach the control socket of a managed process and means it ill, or is broken,
 * neither harms the process nor keeps others from being answered.
 *
 * A target process with an engine does what it is told through a pipe; what attacks it are processes of their own.
 */
/* test-timeout: 180 */
#include "live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MS 8000.0	/* that long a good client may wait, also on a machine that is busy: it gives up at 10 s */
#define NOBODY 65534
#define PLACES 16
#define PAGES (64UL << 8)	/* 64 MiB */
#define MANY_MAPPINGS 10000

/* ---- the words, as a stranger knows them ---- */

enum { HELLO = 1, STAT, AREAS, MIGRATE, MOVE, CANCEL, HELLO_OK = 64, STAT_OK, AREA, AREAS_END, PROGRESS, RESULT,
       STATUS, ERROR };

struct head {
	uint32_t magic;
	uint16_t version, type;
	uint32_t len, zero;
};

struct migrate_body {
	uint64_t from, to;
	struct gw_migrate_options opt;
};

struct move_body {
	uint32_t count, query;
	struct gw_migrate_options opt;
};

static struct head head_of(uint16_t type, uint32_t len)
{
	return (struct head){ .magic = 0x54495747, .version = 2, .type = type, .len = len };
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* ---- the target ---- */

static struct {
	pid_t pid, service;
	int to, from;
	char dir[80], name[20], path[108];
} target;

/* The target's own, at an address that attackers know. */
static uint64_t *mem;

static double target_migrates(struct gw_engine *e)
{
	struct gw_migrate_result res = { .size = sizeof(res) };
	bool good = true;
	double begin;

	migrate(e, 1, 0, NULL, &res);
	begin = now_ms();
	for (int i = 0; i < 2; i++) {
		bool all;

		migrate(e, i, 1 - i, NULL, &res);
		all = !res.error && res.pages_moved >= PAGES;
		if (!all)
			printf("# moved %lu of %lu pages, %lu stayed, EBUSY %lu, EAGAIN %lu, error %d\n",
			       (unsigned long)res.pages_moved, (unsigned long)res.pages_total,
			       (unsigned long)res.pages_failed, (unsigned long)res.failed[EBUSY],
			       (unsigned long)res.failed[EAGAIN], res.error);
		fflush(stdout);
		good &= all;
	}
	return good ? now_ms() - begin : -1;
}

/* Many mappings, the neighbours of different rights, so that they stay apart; or none of them. */
static double target_maps(bool many)
{
	static char *at;
	const size_t len = (size_t)MANY_MAPPINGS * GW_PAGE_SIZE;

	if (!many)
		return munmap(at, len);
	at = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (int i = 0; i < MANY_MAPPINGS; i += 2)
		mprotect(at + (size_t)i * GW_PAGE_SIZE, GW_PAGE_SIZE, PROT_NONE);
	return at == MAP_FAILED ? -1 : 0;
}

static _Noreturn void target_main(int in, int out)
{
	struct gw_engine *e = engine_with_nodes(2, 0);
	char order = 0;
	double said = gw_control_open(e);

	for (uint64_t i = 0; i < PAGES; i++)
		mem[i * 512] = i ^ 0x5a5a;
	do {
		if (order == 'm')
			said = target_migrates(e);
		if (order == 'a' || order == 'b')
			said = target_maps(order == 'a');
		for (uint64_t i = 0; i < PAGES; i++)
			if (mem[i * 512] != (i ^ 0x5a5a))
				said = -1000;
		if (write(out, &said, sizeof(said)) != sizeof(said))
			break;
	} while (read(in, &order, 1) == 1);
	gw_stop(e);
	_exit(0);
}

static double target_answer(void)
{
	double said = -2000;

	return read(target.from, &said, sizeof(said)) == sizeof(said) ? said : -2000;
}

static double tell(char order)
{
	return write(target.to, &order, 1) == 1 ? target_answer() : -2000;
}

/* Lines of a task's file that begin with word: the number behind it. */
static long task_number(pid_t tid, const char *file, const char *word)
{
	char path[64], line[256];
	long number = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", target.pid, tid, file);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, word, strlen(word)))
			number = strtol(line + strlen(word), NULL, 10);
	if (f)
		fclose(f);
	return number;
}

static long target_rss_kb(void)
{
	return task_number(target.pid, "status", "VmRSS:");
}

/* Entries of a directory; of the tasks those named comm, the last one's id in *last. */
static int entries(const char *path, const char *comm, pid_t *last)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	int nr = 0;

	while (d && (entry = readdir(d))) {
		char name[300], is[32] = "";
		FILE *f;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s/comm", path, entry->d_name);
		f = comm ? fopen(name, "r") : NULL;
		if (comm && (!f || !fgets(is, sizeof(is), f) || strncmp(is, comm, strlen(comm)) ||
			     is[strlen(comm)] != '\n')) {
			if (f)
				fclose(f);
			continue;
		}
		if (f)
			fclose(f);
		if (last)
			*last = (pid_t)strtol(entry->d_name, NULL, 10);
		nr++;
	}
	if (d)
		closedir(d);
	return nr;
}

static int target_fds(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", target.pid, target.service);
	return entries(path, NULL, NULL);
}

/* Descriptors become as many as at the beginning again. */
static bool fds_settle(void)
{
	static int at_first;

	if (!at_first)
		at_first = target_fds();
	for (int i = 0; i < 100 && target_fds() != at_first; i++)
		pause_ms(10);
	return target_fds() == at_first;
}

static int target_jobs(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", target.pid);
	return entries(path, "godwit-job", NULL);
}

/* Milliseconds of processor that the service thread has used. */
static double service_cpu_ms(void)
{
	char path[64];
	unsigned long user = 0, kernel = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", target.pid, target.service);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
		user = 1UL << 40;
	if (f)
		fclose(f);
	return (double)(user + kernel) * 1e3 / (double)sysconf(_SC_CLK_TCK);
}

static bool target_start(void)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int there[2], back[2];
	char tasks[64];

	mem = mmap(NULL, PAGES * GW_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!xdg || strlen(xdg) > 60 || pipe(there) || pipe(back) || mem == MAP_FAILED)
		return false;
	target.pid = fork();
	if (!target.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(there[1]);
		close(back[0]);
		target_main(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	target.to = there[1];
	target.from = back[0];
	if (target_answer() != 0)
		return false;
	snprintf(target.dir, sizeof(target.dir), "%s/godwit", xdg);
	snprintf(target.name, sizeof(target.name), "%d.sock", target.pid);
	snprintf(target.path, sizeof(target.path), "%s/%s", target.dir, target.name);
	snprintf(tasks, sizeof(tasks), "/proc/%d/task", target.pid);
	return entries(tasks, "godwit", &target.service) == 1;
}

/* ---- clients ---- */

static int dial_at(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (!connect(fd, (const void *)&sun, sizeof(sun)))
		return fd;
	close(fd);
	return -1;
}

static int dial(void)
{
	return dial_at(target.path);
}

static bool say(int fd, uint16_t type, const void *body, uint32_t len)
{
	char msg[sizeof(struct head) + (1 << 16)];
	struct head h = head_of(type, len);

	memcpy(msg, &h, sizeof(h));
	if (len)
		memcpy(msg + sizeof(h), body, len);
	return send(fd, msg, sizeof(h) + len, MSG_NOSIGNAL) == (ssize_t)(sizeof(h) + len);
}

static bool take(int fd, void *buf, size_t len)
{
	return !len || recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

/* The type of the next message; 0: the engine hung up; -1: nothing came, or nonsense. The body's begin in *first. */
static int hear(int fd, int32_t *first)
{
	static char body[1 << 16];
	struct head h;
	ssize_t nr = recv(fd, &h, sizeof(h), MSG_WAITALL);

	if (nr == 0 || (nr < 0 && errno == ECONNRESET))
		return 0;
	if (nr != sizeof(h) || h.magic != head_of(0, 0).magic || h.len > sizeof(body) || !take(fd, body, h.len))
		return -1;
	if (first)
		memcpy(first, body, sizeof(*first));
	return h.type;
}

/* One good client's whole visit; milliseconds, or -1. */
static double visit(uint16_t question, int answer)
{
	double begin = now_ms();
	int fd = dial(), heard = -1;

	if (fd < 0)
		return -1;
	if (say(fd, HELLO, NULL, 0) && hear(fd, NULL) == HELLO_OK && say(fd, question, NULL, 0))
		while ((heard = hear(fd, NULL)) == AREA)
			;
	close(fd);
	if (heard != answer)
		printf("# heard %d instead of %d after %.1f ms\n", heard, answer, now_ms() - begin);
	return heard == answer ? now_ms() - begin : -1;
}

/* The longest of several visits; above all bounds if one was not answered. */
static double visits(int nr, uint16_t question, int answer)
{
	double worst = 0;

	for (int i = 0; i < nr; i++) {
		double ms = visit(question, answer);

		if (ms < 0)
			return 1e9;
		worst = ms > worst ? ms : worst;
		pause_ms(50);
	}
	return worst;
}

static void answered(double worst, const char *sentence)
{
	printf("# a good client waited %.1f ms at most\n", worst);
	tap(worst >= 0 && worst < ANSWER_MS, sentence);
}

/* A job for as long as anybody may want: at this rate the second page has its turn after an hour. */
static bool migrate_for_ever(int fd)
{
	struct migrate_body body = { .from = 1, .to = 2, .opt = { .size = sizeof(body.opt), .batch = 1, .rate = 1 } };

	return say(fd, MIGRATE, &body, sizeof(body));
}

/* The same with two pages of one's own, which no other job has. */
static bool move_for_ever(int fd, int which)
{
	struct {
		struct move_body head;
		struct {
			uint64_t addr;
			int32_t node, zero;
		} page[2];
	} body = { .head = { .count = 2, .opt = { .size = sizeof(body.head.opt), .batch = 1, .rate = 1 } } };

	for (int i = 0; i < 2; i++) {
		body.page[i].addr = (uint64_t)(mem + ((uint64_t)which * 2 + (uint64_t)i) * 512);
		body.page[i].node = 1;
	}
	return say(fd, MOVE, &body, sizeof(body));
}

static bool jobs_end(void)
{
	for (int i = 0; i < 500 && target_jobs(); i++)
		pause_ms(10);
	return !target_jobs();
}

/* ---- attackers: processes that do one thing until they are ended ---- */

#define ATTACKERS 24

static pid_t attacker[ATTACKERS];

static void attack(int nr, void (*how)(int i))
{
	for (int i = 0; i < nr; i++) {
		attacker[i] = fork();
		if (!attacker[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (nice(10) < 0) /* it is about the socket, not about the processors */
				_exit(1);
			for (;;)
				how(i);
		}
	}
	pause_ms(300);
}

static void attack_end(void)
{
	for (int i = 0; i < ATTACKERS; i++)
		if (attacker[i] > 0) {
			kill(attacker[i], SIGKILL);
			waitpid(attacker[i], NULL, 0);
			attacker[i] = 0;
		}
}

/* ---- who may ask at all ---- */

/* What the end of a conversation as another user is: errno of connect, or 0 and what was heard. */
static int as_nobody(int *heard)
{
	int fds[2], said[2] = { -1, -1 };
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		int fd;

		/* from inside of the directory: the way to it may be closed too */
		if (chdir(target.dir) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		fd = dial_at(target.name);
		said[0] = fd < 0 ? errno : 0;
		if (fd >= 0 && say(fd, HELLO, NULL, 0))
			said[1] = hear(fd, NULL);
		else if (fd >= 0)
			said[1] = 0;
		_exit(write(fds[1], said, sizeof(said)) != sizeof(said));
	}
	close(fds[1]);
	if (read(fds[0], said, sizeof(said)) != sizeof(said))
		said[0] = -1;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	*heard = said[1];
	return said[0];
}

static void other_users(void)
{
	struct stat dir, sock;
	int heard = -1, err;

	tap(!stat(target.dir, &dir) && (dir.st_mode & 07777) == 0700 && !stat(target.path, &sock) &&
		    (sock.st_mode & 07777) == 0600,
	    "directory and socket are their user's alone");
	if (geteuid()) {
		tap(true, "another user is refused # SKIP needs root to be another user");
		return;
	}
	tap(as_nobody(&heard) == EACCES, "another user does not reach the socket");
	chmod(target.dir, 0755);
	chmod(target.path, 0666);
	err = as_nobody(&heard);
	tap(!err && heard == 0, "and where it can, for directory and socket stand open, is hung up on");
	chmod(target.path, 0600);
	chmod(target.dir, 0700);
}

static void descriptors(void)
{
	struct head h = head_of(HELLO, 0);
	struct iovec iov = { .iov_base = &h, .iov_len = sizeof(h) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} box = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &box, .msg_controllen = sizeof(box) };
	int fd = dial(), given = socket(AF_INET, SOCK_STREAM, 0), none = 0, err;

	memcpy(CMSG_DATA(&box.head), &given, sizeof(given));
	err = sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? errno : 0;
	if (setsockopt(given, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &none, sizeof(none)) && errno == ENOPROTOOPT)
		tap(true, "descriptors are not taken # SKIP needs Linux 6.16");
	else
		tap(err == EPERM, "descriptors, whose last close could take its time, are not taken");
	close(given);
	close(fd);
}

/* ---- nonsense ---- */

static void garbage(void)
{
	char noise[4096];
	int hung_up = 0, fd;

	srandom(1);
	for (int i = 0; i < 100; i++) {
		for (size_t at = 0; at < sizeof(noise); at++)
			noise[at] = (char)random();
		fd = dial();
		if (send(fd, noise, sizeof(struct head) + (size_t)random() % (sizeof(noise) - 16), MSG_NOSIGNAL) > 0)
			hung_up += hear(fd, NULL) == 0;
		close(fd);
	}
	tap(hung_up == 100, "garbage is hung up on");
}

static void wrong_heads(void)
{
	struct head wrong[4] = { head_of(STAT, 0), head_of(STAT, 0), head_of(STAT, UINT32_MAX),
				 head_of(MOVE, (1 << 16) + 1) };
	int hung_up = 0;

	wrong[0].magic++;
	wrong[1].version++;
	for (int i = 0; i < 4; i++) {
		int fd = dial();

		if (send(fd, &wrong[i], sizeof(wrong[i]), MSG_NOSIGNAL) > 0)
			hung_up += hear(fd, NULL) == 0;
		close(fd);
	}
	tap(hung_up == 4, "another magic, another version and lengths beyond the bound are hung up on");
}

/* One message with this body is answered by an error, and the connection goes on. */
static bool refused(uint16_t type, const void *body, uint32_t len)
{
	int fd = dial();
	int32_t err = 0;
	bool good = say(fd, type, body, len) && hear(fd, &err) == ERROR && err < 0 && say(fd, STAT, NULL, 0) &&
		    hear(fd, NULL) == STAT_OK;

	if (!good)
		printf("# type %u, %u bytes: errno %d\n", type, len, -err);
	close(fd);
	return good;
}

static void wrong_bodies(void)
{
	struct {
		struct move_body head;
		uint64_t entry[4];
	} move = { .head = { .opt = { .size = sizeof(move.head.opt) } } };
	struct migrate_body m = { .from = 1, .to = 2, .opt = { .size = sizeof(m.opt) } }, bad;
	static char zeroes[1 << 16];
	bool good = true;

	for (uint16_t type = 0; type < 80; type++)
		if (type != CANCEL)
			good &= refused(type, zeroes, type == HELLO || type == STAT || type == AREAS ? 1 : 17);
	good &= refused(7777, zeroes, sizeof(zeroes));
	tap(good, "unknown messages, and known ones of another length, are an error each");

	bad = m, bad.from = 1ULL << 63;
	good = refused(MIGRATE, &bad, sizeof(bad));
	bad = m, bad.to = 0;
	good &= refused(MIGRATE, &bad, sizeof(bad));
	bad = m, bad.opt.size = SIZE_MAX;
	good &= refused(MIGRATE, &bad, sizeof(bad));
	bad = m, bad.opt.size = 0;
	good &= refused(MIGRATE, &bad, sizeof(bad));
	bad = m, bad.opt.form = 77;
	good &= refused(MIGRATE, &bad, sizeof(bad));
	tap(good, "masks of nodes that are not there, and options that are none, are an error each");

	for (uint32_t count = 0; count < 9; count++) {
		static const uint32_t lies[] = { 1, 3, 4, 2047, 2048, 2049, 1U << 28, 1U << 31, UINT32_MAX };

		move.head.count = lies[count];
		good &= refused(MOVE, &move, sizeof(move));
	}
	tap(good, "a list of pages that says another length of itself is an error");
}

static void halves(void)
{
	struct head h = head_of(MOVE, 1 << 16);
	int fd[8];

	for (int i = 0; i < 8; i++) {
		fd[i] = dial();
		if (send(fd[i], &h, i % 2 ? sizeof(h) : sizeof(h) / 2, MSG_NOSIGNAL) < 0)
			printf("# half a message is refused\n");
	}
	answered(visits(5, STAT, STAT_OK), "halves of messages keep nobody waiting");
	for (int i = 0; i < 8; i++)
		close(fd[i]);
}

/* ---- too many ---- */

static void silent_crowd(int i)
{
	(void)i;
	if (dial() < 0) /* never closed */
		pause_ms(1);
}

static void come_and_go(int i)
{
	int fd = dial();

	if (fd >= 0 && i % 2)
		say(fd, HELLO, NULL, 0);
	close(fd);
}

static void ask_without_end(int i)
{
	int fd = dial();

	while (say(fd, i % 2 ? HELLO : STAT, NULL, 0) && hear(fd, NULL) > 0)
		;
	close(fd);
}

static void ask_ahead(int i)
{
	struct head many[512];
	char sink[1 << 16];
	int fd = dial();

	(void)i;
	for (int k = 0; k < 512; k++)
		many[k] = head_of(k % 3 ? CANCEL : HELLO, 0);
	while (send(fd, many, sizeof(many), MSG_NOSIGNAL) > 0)
		while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	close(fd);
}

static void list_without_end(int i)
{
	int fd = dial(), heard;

	(void)i;
	while (say(fd, AREAS, NULL, 0)) {
		while ((heard = hear(fd, NULL)) == AREA)
			;
		if (heard != AREAS_END)
			break;
	}
	close(fd);
}

static void one_byte_at_a_time(int i)
{
	struct head h = head_of(7777, 1 << 16);
	int fd = dial();

	(void)i;
	if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) > 0)
		while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
			;
	close(fd);
}

/* Beside nr attackers: a good client is answered, a migration goes on, and the thread is no glutton. */
static void beside(int nr, void (*how)(int i), const char *name, bool migrates)
{
	char sentence[160];
	double cpu, begin, share, took, worst;

	attack(nr, how);
	cpu = service_cpu_ms();
	begin = now_ms();
	worst = visits(12, STAT, STAT_OK);
	snprintf(sentence, sizeof(sentence), "a good client is answered beside %d that %s", nr, name);
	answered(worst, sentence);
	pause_ms(500);
	share = (service_cpu_ms() - cpu) / (now_ms() - begin);
	printf("# the service thread used %.0f %% of a processor, %d descriptors\n", share * 100, target_fds());
	snprintf(sentence, sizeof(sentence), "descriptors and processor time are bounded beside %d that %s", nr, name);
	tap(share < 0.6 && target_fds() < PLACES + 12, sentence);
	if (migrates) {
		took = tell('m');
		printf("# 64 MiB to and fro in %.0f ms\n", took);
		snprintf(sentence, sizeof(sentence), "and a migration goes on beside %d that %s", nr, name);
		tap(took > 0 && took < 10000, sentence);
	}
	attack_end();
}

static void crowds(void)
{
	beside(12, silent_crowd, "connect without end and are silent", false);
	beside(8, come_and_go, "come and go", true);
	beside(ATTACKERS, ask_without_end, "ask without end", true);
	beside(8, ask_ahead, "ask without waiting for answers", true);
	beside(4, one_byte_at_a_time, "send byte after byte", false);
	beside(6, list_without_end, "list without end", true);
}

/* ---- jobs ---- */

static void job_hogs(void)
{
	int fd[PLACES], begun = 0, put_down = 0, gone;
	double until;
	double took;

	tell('m');
	for (int i = 0; i < PLACES; i++) {
		fd[i] = dial();
		move_for_ever(fd[i], i);
	}
	for (until = now_ms() + 5000; now_ms() < until && begun + put_down < PLACES; pause_ms(20)) {
		for (int i = 0; i < PLACES; i++) {
			struct pollfd p = { .fd = fd[i], .events = POLLIN };
			int32_t err = 0;

			put_down += poll(&p, 1, 0) == 1 && hear(fd[i], &err) == ERROR && err == -EAGAIN;
		}
		begun = target_jobs();
	}
	printf("# %d requests without end are under way, %d were refused\n", begun, put_down);
	tap(begun >= 8 && put_down > 0 && begun + put_down == PLACES, "requests without end are bounded in number");
	answered(visits(5, STAT, STAT_OK), "a good client is answered beside them");
	for (int i = 0; i < PLACES; i++)
		close(fd[i]);
	gone = jobs_end();
	took = tell('m');
	printf("# %sall gone; 64 MiB to and fro in %.0f ms\n", gone ? "" : "not ", took);
	tap(gone && took > 0, "they end when their clients vanish, and a migration finds everything as it was");
}

static void vanish_behind_full_input(void)
{
	struct head ahead[1024];
	int fd = dial(), begun;

	for (int i = 0; i < 1024; i++)
		ahead[i] = head_of(HELLO, 0);
	tell('m'); /* everything on node 0 */
	move_for_ever(fd, 0);
	for (int i = 0; i < 100 && !target_jobs(); i++)
		pause_ms(5);
	begun = target_jobs();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 100; i++)
		if (send(fd, ahead, sizeof(ahead), MSG_NOSIGNAL) < 0)
			pause_ms(1);
	close(fd);
	tap(begun && jobs_end(), "who asked for more ahead than is read, and vanishes, has its request cancelled");
}

static void vanish(void)
{
	int lost = 0, gone;
	char some[100];

	for (int i = 0; i < 150; i++) {
		int fd = dial();

		if (i % 3 == 0)
			migrate_for_ever(fd);
		else
			say(fd, AREAS, NULL, 0);
		if (i % 3 == 2)
			lost += recv(fd, some, sizeof(some), 0) <= 0;
		close(fd);
	}
	answered(visits(3, AREAS, AREAS_END), "clients that vanish in the middle of an answer keep nobody waiting");
	gone = jobs_end();
	printf("# %d descriptors, %d without an answer\n", target_fds(), lost);
	tap(gone && fds_settle() && !lost, "and leave no job and no descriptor behind");
}

/* ---- who does not read ---- */

static void never_read(void)
{
	int fd[8];
	long before = target_rss_kb(), most, after;
	double worst;

	tell('a');
	for (int i = 0; i < 8; i++) {
		static struct head many[1024];

		fd[i] = dial();
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
		for (int k = 0; k < 1024; k++)
			many[k] = head_of(i % 2 ? STAT : AREAS, 0);
		while (send(fd[i], many, sizeof(many), MSG_NOSIGNAL) > 0)
			;
	}
	pause_ms(500);
	worst = visits(3, STAT, STAT_OK);
	most = target_rss_kb();
	answered(worst, "clients that ask and never read keep nobody waiting");
	answered(visit(AREAS, AREAS_END), "one that does not take its listing loses its turn");
	for (int i = 0; i < 8; i++)
		close(fd[i]);
	jobs_end();
	visit(STAT, STAT_OK);
	pause_ms(100);
	after = target_rss_kb();
	tell('b');
	printf("# resident: %ld KiB before, %ld with listings that nobody takes, %ld after\n", before, most, after);
	tap(most < before + (80 << 10), "their answers take no more than a listing and fixed buffers");
	tap(after < before + (8 << 10), "and the listing's memory goes back when they are gone");
}

/* The end of a job whose client reads nothing frees its place when another needs one. */
static void never_read_results(void)
{
	int fd[PLACES], served = 0;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PLACES; i++) {
			struct move_body body = { .opt = { .size = sizeof(body.opt) } };

			fd[i] = dial();
			for (int k = 0; k < 40; k++)
				say(fd[i], MOVE, &body, sizeof(body));
		}
		served += visit(STAT, STAT_OK) >= 0;
		for (int i = 0; i < PLACES; i++)
			close(fd[i]);
	}
	tap(served == 3 && jobs_end(), "clients that let results lie keep no place");
}

/* ---- no descriptors ---- */

static void few_descriptors(void)
{
	struct rlimit old, few;
	double cpu;
	int fd[4];

	prlimit(target.pid, RLIMIT_NOFILE, NULL, &old);
	few = old;
	few.rlim_cur = (rlim_t)target_fds() + 2;
	prlimit(target.pid, RLIMIT_NOFILE, &few, NULL);
	for (int i = 0; i < 4; i++)
		fd[i] = dial();
	answered(visit(STAT, STAT_OK), "where the limit leaves two descriptors, silent clients do not keep them");
	few.rlim_cur = 3;
	prlimit(target.pid, RLIMIT_NOFILE, &few, NULL);
	cpu = service_cpu_ms();
	pause_ms(1000);
	cpu = service_cpu_ms() - cpu;
	printf("# %.0f ms of processor in a second\n", cpu);
	tap(cpu < 200, "connections that there is no descriptor for do not keep the engine busy");
	prlimit(target.pid, RLIMIT_NOFILE, &old, NULL);
	answered(visit(STAT, STAT_OK), "and when there are descriptors again it answers");
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}

int main(void)
{
	long rss;

	signal(SIGPIPE, SIG_IGN);
	if (!target_start()) {
		printf("Bail out! no target\n");
		return 1;
	}
	fds_settle();
	answered(visit(STAT, STAT_OK), "the target answers");
	rss = target_rss_kb();
	answered(visit(AREAS, AREAS_END), "and lists its mappings");
	other_users();
	descriptors();
	garbage();
	wrong_heads();
	wrong_bodies();
	halves();
	never_read();
	never_read_results();
	vanish();
	vanish_behind_full_input();
	job_hogs();
	few_descriptors();
	crowds();
	answered(visits(3, AREAS, AREAS_END), "after all of it the target answers");
	printf("# resident: %ld KiB before, %ld after\n", rss, target_rss_kb());
	tap(tell('v') >= 0 && fds_settle() && target_rss_kb() < rss + (24 << 10),
	    "with its memory as it was, and no more descriptors and memory than before");
	close(target.to);
	waitpid(target.pid, NULL, 0);
	return tap_end();
}

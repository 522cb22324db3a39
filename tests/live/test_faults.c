/* SPDX-License-Identifier: MIT */
/*
 * System calls of the engine fail: each kind in turn, once or from then on, at the first, the second or a later call.
 * test-timeout: 200
 *
 * The program under the engine forks, maps, discards and verifies itself while its memory goes to and fro. Wanted every
 * time: it ends with its own exit status and right memory; no command hangs; the command's exit status is true, and
 * whatever is not done has a word that says so; nothing is left behind.
 *
 * In `make test` for some 24 s, as many as fit; GODWIT_LONG=1 in the environment: 30 rounds, SIGTERM ends them early.
 * Arguments: a kind, an errno, the first call and how many: that run alone, with what it said.
 */
#include "inject.h"

#include <linux/userfaultfd.h>
#include <linux/ioctl.h>

#define SHORT_SECONDS 24.0
#define STUCK 200		/* calls in a row that say EAGAIN or EINTR; the kernel does not say so for ever */
#define PAGES_LEAST 512	/* that the program has all the time */

#define MOVE _IOC(_IOC_READ | _IOC_WRITE, 0xAA, 5, 40)	/* older headers lack it */

#define WITH_HOST 1U		/* one node is bound to the host's */
#define NO_USERFAULTFD 2U	/* userfaultfd() says EPERM: its device is used */
#define MOVES_FAIL 4U		/* UFFDIO_MOVE says ENOMEM from its 100th call on */
#define NO_SOCKET 8U		/* socket() says EMFILE: the engine is given up */
#define ONLY_ONCE 16U		/* it cannot fail as it is called; but a call that is lost is no end */
#define MAY_LEAVE 32U		/* what fails is the removing */

#define KIND(name, nr, command, how, ...) \
	{ \
		name, { nr, command }, how, { __VA_ARGS__ }, sizeof((int[]){ __VA_ARGS__ }) / sizeof(int) \
	}

static const struct kind {
	const char *name;
	struct call call;
	unsigned int how;
	int errs[4];
	size_t nr_errs;
} kinds[] = {
	KIND("UFFDIO_API", SYS_ioctl, UFFDIO_API, 0, EPERM, EINVAL, ENOMEM),
	KIND("UFFDIO_REGISTER", SYS_ioctl, UFFDIO_REGISTER, 0, ENOMEM, EBUSY, EINVAL),
	KIND("UFFDIO_UNREGISTER", SYS_ioctl, UFFDIO_UNREGISTER, 0, ENOMEM, EINVAL),
	KIND("UFFDIO_MOVE", SYS_ioctl, MOVE, 0, ENOMEM, EAGAIN, EBUSY, EINTR),
	KIND("UFFDIO_COPY", SYS_ioctl, UFFDIO_COPY, 0, ENOMEM, EAGAIN),
	KIND("UFFDIO_COPY, when moves fail", SYS_ioctl, UFFDIO_COPY, MOVES_FAIL, EAGAIN),
	KIND("UFFDIO_REGISTER, when moves fail", SYS_ioctl, UFFDIO_REGISTER, MOVES_FAIL, ENOMEM),
	KIND("UFFDIO_UNREGISTER, when moves fail", SYS_ioctl, UFFDIO_UNREGISTER, MOVES_FAIL, ENOMEM),
	KIND("madvise, when moves fail", SYS_madvise, ANY_COMMAND, MOVES_FAIL, ENOMEM, EAGAIN),
	KIND("UFFDIO_WAKE", SYS_ioctl, UFFDIO_WAKE, ONLY_ONCE, EINVAL),
	KIND("PAGEMAP_SCAN", SYS_ioctl, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96), 0, ENOMEM, EINTR, EFAULT),
	KIND("PROCMAP_QUERY", SYS_ioctl, _IOC(_IOC_READ | _IOC_WRITE, 'f', 17, 104), 0, ENOMEM, ESRCH, ENOTTY),
	KIND("userfaultfd", SYS_userfaultfd, ANY_COMMAND, 0, EPERM, EMFILE, ENOMEM, ENOSYS),
	KIND("USERFAULTFD_IOC_NEW", SYS_ioctl, _IO(0xAA, 0), NO_USERFAULTFD, EMFILE, ENOMEM),
	KIND("mmap", SYS_mmap, ANY_COMMAND, 0, ENOMEM, EAGAIN),
	KIND("munmap", SYS_munmap, ANY_COMMAND, NO_SOCKET, ENOMEM),
	KIND("mprotect", SYS_mprotect, ANY_COMMAND, 0, ENOMEM),
	KIND("madvise", SYS_madvise, ANY_COMMAND, 0, ENOMEM, EAGAIN, EINVAL),
	KIND("mlock2", SYS_mlock2, ANY_COMMAND, 0, ENOMEM, EPERM, EAGAIN),
	KIND("munlock", SYS_munlock, ANY_COMMAND, 0, ENOMEM),
	KIND("mbind", SYS_mbind, ANY_COMMAND, WITH_HOST, ENOMEM, EPERM, ENOSYS),
	KIND("move_pages", SYS_move_pages, ANY_COMMAND, WITH_HOST, ENOMEM, EPERM),
	KIND("process_vm_readv", SYS_process_vm_readv, ANY_COMMAND, 0, ENOMEM, EPERM, ENOSYS),
	KIND("pread64", SYS_pread64, ANY_COMMAND, 0, ENOMEM, EINTR),
	KIND("clone", SYS_clone, ANY_COMMAND, 0, EAGAIN, ENOMEM, EPERM),
	KIND("openat", SYS_openat, ANY_COMMAND, 0, EMFILE, ENFILE, ENOMEM, EACCES),
	KIND("read", SYS_read, ANY_COMMAND, 0, EINTR, ENOMEM, EIO),
	KIND("getdents64", SYS_getdents64, ANY_COMMAND, 0, ENOMEM, EINTR),
	KIND("readlinkat", SYS_readlinkat, ANY_COMMAND, 0, ENOMEM, EACCES),
	KIND("close_range", SYS_close_range, ANY_COMMAND, 0, ENOMEM),
	KIND("socket", SYS_socket, ANY_COMMAND, 0, EMFILE, ENOMEM, EACCES),
	KIND("bind", SYS_bind, ANY_COMMAND, 0, EADDRINUSE, ENOSPC, EACCES),
	KIND("chmod", SYS_chmod, ANY_COMMAND, 0, EROFS, EPERM),
	KIND("listen", SYS_listen, ANY_COMMAND, 0, ENOBUFS),
	KIND("mkdir", SYS_mkdir, ANY_COMMAND, 0, ENOSPC, EROFS),
	KIND("lstat", SYS_lstat, ANY_COMMAND, 0, EACCES, ENOMEM),
	KIND("unlink", SYS_unlink, ANY_COMMAND, MAY_LEAVE, EROFS),
	KIND("accept4", SYS_accept4, ANY_COMMAND, 0, EMFILE, ENFILE, ECONNABORTED, EINTR),
	KIND("getsockopt", SYS_getsockopt, ANY_COMMAND, 0, ENOBUFS),
	KIND("sendto", SYS_sendto, ANY_COMMAND, 0, ENOBUFS, EPIPE, EINTR),
	KIND("recvfrom", SYS_recvfrom, ANY_COMMAND, 0, ECONNRESET, ENOMEM, EINTR),
	KIND("epoll_create1", SYS_epoll_create1, ANY_COMMAND, 0, EMFILE, ENOMEM),
	KIND("epoll_ctl", SYS_epoll_ctl, ANY_COMMAND, 0, ENOMEM, ENOSPC),
	KIND("epoll_pwait", SYS_epoll_pwait, ANY_COMMAND, 0, EINTR),
	KIND("signalfd4", SYS_signalfd4, ANY_COMMAND, 0, EMFILE, ENODEV),
	KIND("tgkill", SYS_tgkill, ANY_COMMAND, ONLY_ONCE, EAGAIN),
	KIND("get_robust_list", SYS_get_robust_list, ANY_COMMAND, 0, EPERM),
	KIND("sched_setscheduler", SYS_sched_setscheduler, ANY_COMMAND, 0, EPERM),
	KIND("prctl", SYS_prctl, ANY_COMMAND, 0, EPERM),
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* What runs of one kind came to. */
static struct tally {
	unsigned int runs, whole, hangs, calls, seen, most;
	unsigned int told;	/* a command or the program's stderr named a failure */
} tally[KINDS];

static bool loud;
static volatile sig_atomic_t stopped;
static double began;

/* ---- one run ---- */

struct outcome {
	unsigned int seen, hit;
	bool whole, hung, told;
	char why[512];		/* what is wrong; empty: nothing */
};

static void wrong(struct outcome *o, const char *what, const struct command *c)
{
	if (!o->why[0])
		snprintf(o->why, sizeof(o->why), "%s%s%.200s%.200s", what, c ? ": " : "", c ? c->out : "",
			 c ? c->err : "");
}

static const char *const errands[][10] = {
	{ "godwit", "migrate", "--json", NULL, "all", "1", "--via=engine", "--max-stall=10000" },
	{ "godwit", "migrate", "--json", NULL, "all", "0", "--via=engine", "--max-stall=10000", "--verify" },
	{ "godwit", "maps", "--via=engine", NULL },
	{ "godwit", "migrate", "--json", NULL, "all", "1", "--via=engine", "--max-stall=10000", "--form=plain" },
	{ "godwit", "migrate", "--json", NULL, "all", "0", "--via=engine", "--batch=512", "--form=transactional" },
};

#define ERRANDS (sizeof(errands) / sizeof(errands[0]))

static void errand_run(struct command *c, const char *const errand[10], pid_t pid)
{
	const char *argv[11] = { NULL };
	char text[16];
	bool named = false;

	snprintf(text, sizeof(text), "%d", pid);
	for (int i = 0; i < 10 && (errand[i] || !named); i++) {
		named = named || !errand[i];
		argv[i] = errand[i] ? errand[i] : text;
	}
	command_start(c, argv);
	command_end(c);
}

static bool has_reason(const struct command *c)
{
	if (!c->out[0])
		return !strncmp(c->err, "godwit: ", 8);
	return !strstr(c->out, "\"failed\":{}") || !strstr(c->out, "\"error\":null");
}

/* Is the answer one that man godwit promises, and not a lie? done: all before it were fully done. */
static void errand_judge(struct outcome *o, const struct command *c, bool migrate, bool *done)
{
	bool ended = exited(c->status, 0), left = migrate && exited(c->status, 2);

	if (c->status == -1) {
		o->hung = true;
		wrong(o, "a command hung", c);
		return;
	}
	if (!ended && !left && !exited(c->status, 1))
		wrong(o, "an exit status that is none", c);
	if (exited(c->status, 1) && strncmp(c->err, "godwit: ", 8))
		wrong(o, "exit 1 without a word", c);
	if (left && !has_reason(c))
		wrong(o, "exit 2 without a reason", c);
	if (ended && migrate && *done && json_number(c->out, "pages_total") < PAGES_LEAST)
		wrong(o, "exit 0, and pages were overlooked", c);
	if (ended && migrate && json_number(c->out, "verify_errors"))
		wrong(o, "a checksum differs", c);
	o->told = o->told || !ended;
	*done = migrate ? ended : *done;
}

/* False: there is no engine. */
static bool errands_run(struct outcome *o, const struct kind *k, const struct shots *s, pid_t pid)
{
	struct command c;
	bool done = true, migrate, managed = true;

	for (size_t i = 0; i < ERRANDS && !o->hung; i++) {
		migrate = !strcmp(errands[i][1], "migrate");
		errand_run(&c, errands[i], pid);
		done = done && !(k->how & WITH_HOST); /* pages are where the host has them */
		errand_judge(o, &c, migrate, &done);
		managed = managed && !strstr(c.err, "has no godwit engine");
		if (loud)
			printf("# %.2f s: %s %s: status %x: %.80s%s\n", seconds() - began, errands[i][1],
			       migrate ? errands[i][5] : "", c.status,
			       c.out[0] == '{' ? strstr(c.out, "pages_total") : "", c.err);
	}
	if (!o->hung && managed && s->count == 1 && exited(c.status, 1))
		errand_run(&c, errands[0], pid); /* it was this one's call */
	if (!o->hung && managed && s->count == 1 && !exited(c.status, 0) && !exited(c.status, 2))
		wrong(o, "one failed call, and migrations fail for good", &c);
	o->told = o->told && managed; /* else the program's stderr must say so */
	return managed;
}

static void ends_well(struct outcome *o, struct program *p, int status, bool may_leave)
{
	char text[64];

	o->hung = o->hung || status == -1;
	o->whole = exited(status, PROGRAM_WHOLE);
	snprintf(text, sizeof(text), "the program ended with status %x: ", status);
	if (!o->whole) {
		wrong(o, text, NULL);
		strncat(o->why, p->err, sizeof(o->why) - strlen(o->why) - 1);
	}
	if (!nothing_left_soon(p->pid) && !may_leave)
		wrong(o, "something is left behind", NULL);
	runtime_clear();
}

/* An engine that is not there has said why. */
static void is_told(struct outcome *o, const struct program *p, bool answers)
{
	bool said = strstr(p->err, "godwit: ") != NULL;

	if (!answers && !said)
		wrong(o, "there is no engine, and no word why", NULL);
	o->told = o->told || said;
}

static struct outcome run_once(const struct kind *k, const struct shots *s)
{
	struct shots both[RULES_MAX] = { *s };
	struct outcome o = { .seen = 0 };
	struct injector in;
	struct program p;
	bool answers;

	if (k->how & NO_USERFAULTFD)
		both[1] = (struct shots){ { SYS_userfaultfd, ANY_COMMAND }, EPERM, 1, FOR_EVER };
	if (k->how & NO_SOCKET)
		both[1] = (struct shots){ { SYS_socket, ANY_COMMAND }, EMFILE, 1, FOR_EVER };
	if (k->how & MOVES_FAIL)
		both[1] = (struct shots){ { SYS_ioctl, MOVE }, ENOMEM, 100, FOR_EVER };
	began = seconds();
	injector_init(&in, both, both[1].count ? 2 : 1);
	program_start(&p, k->how & WITH_HOST ? "ram,host=0" : "ram", injector_enter, &in);
	if (!injector_start(&in, p.pid)) {
		kill(p.pid, SIGKILL);
		printf("1..0 # SKIP seccomp cannot report system calls here\n");
		exit(0);
	}
	if (!program_says(&p, "ready\n"))
		wrong(&o, "the program did not start", NULL);
	answers = errands_run(&o, k, s, p.pid);
	if (o.hung)
		kill(p.pid, SIGKILL);
	ends_well(&o, &p, program_end(&p), k->how & MAY_LEAVE);
	is_told(&o, &p, answers);
	injector_end(&in);
	o.seen = in.seen[0];
	o.hit = in.hit[0];
	if (loud)
		printf("# %.2f s: the program's stderr: %s\n", seconds() - began, p.err);
	return o;
}

static void run(size_t k, const struct shots *s)
{
	struct outcome o = run_once(&kinds[k], s);
	struct tally *t = &tally[k];

	t->runs++;
	t->whole += o.whole && !o.why[0];
	t->hangs += o.hung;
	t->calls += o.hit;
	t->told += o.told;
	t->most = o.seen > t->most ? o.seen : t->most;
	if (!t->seen || (s->first == 1 && s->count == 1))
		t->seen = o.seen;
	if (o.why[0] || loud)
		printf("# %s %s %u %u: %u of %u calls failed%s%s\n", kinds[k].name, strerrorname_np(s->err), s->first,
		       s->count, o.hit, o.seen, o.why[0] ? "; " : "", o.why);
}

/* ---- which runs ---- */

/* Round by round: once at the 1st call, from a later one on, once later, from the 1st on, the 2nd; then anything. */
static struct shots shots_of(size_t k, unsigned int round)
{
	unsigned int seen = tally[k].seen ? tally[k].seen : 1;
	struct shots s = { .call = kinds[k].call, .err = kinds[k].errs[round % kinds[k].nr_errs] };
	bool once = round < 5 ? round % 2 == 0 : below(2);

	s.first = round == 0 || round == 3 ? 1 : round == 4 ? 2 : 1 + below(seen);
	s.count = once || kinds[k].how & ONLY_ONCE ? 1 : s.err == EAGAIN || s.err == EINTR ? STUCK : FOR_EVER;
	return s;
}

static size_t kind_of(const char *name)
{
	size_t k = 0;

	while (k < KINDS && strcmp(kinds[k].name, name))
		k++;
	return k;
}

/* What went wrong once. */
static void run_known(void)
{
	static const struct {
		const char *name;
		int err;
		unsigned int first, count;
	} known[] = {
		/* a forked child that could not make its socket removed the parent's */
		{ "lstat", ENOMEM, 6, 1 },
		/* an engine that could not make its socket closed what was not its own, and hung */
		{ "lstat", ENOMEM, 2, 1 },
		/* a request that could not look said that there was nothing to do */
		{ "PAGEMAP_SCAN", ENOMEM, 1, FOR_EVER },
		{ "read", EIO, 1, FOR_EVER },
		{ "getdents64", ENOMEM, 1, FOR_EVER },
		/* a page that was refused as busy again and again was tried for ever */
		{ "UFFDIO_MOVE", EBUSY, 101, FOR_EVER },
		/* what could not be untracked was dropped all the same: its event waited for the reader, that for us */
		{ "UFFDIO_UNREGISTER, when moves fail", ENOMEM, 1, FOR_EVER },
		/* a request whose wake-up was lost waited for ever */
		{ "tgkill", EAGAIN, 1, 1 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t k = kind_of(known[i].name);
		struct shots s = { kinds[k].call, known[i].err, known[i].first, known[i].count };

		run(k, &s);
	}
}

static void report(size_t k)
{
	struct tally *t = &tally[k];
	char text[200];

	if (!t->most) {
		printf("ok %d - %s # SKIP the engine makes no such call\n", ++tap_nr, kinds[k].name);
		return;
	}
	snprintf(text, sizeof(text), "%s: %u calls injected in %u runs, %u times the program whole, %u hangs, %u named",
		 kinds[k].name, t->calls, t->runs, t->whole, t->hangs, t->told);
	tap(t->whole == t->runs && t->calls, text);
}

static void on_term(int nr)
{
	stopped = nr;
}

static int run_all(void)
{
	bool lasting = long_wanted();
	unsigned int rounds = lasting ? 30 : 100, late = 0, runs = 0, whole = 0, calls = 0, hangs = 0;
	double until = seconds() + (lasting ? 1e9 : SHORT_SECONDS);

	signal(SIGTERM, on_term);
	run_known();
	for (unsigned int round = 0; round < rounds && !stopped; round++) {
		for (size_t k = 0; k < KINDS && seconds() < until && !stopped; k++) {
			struct shots s = shots_of(k, round);

			if (round || lasting || !tally[k].runs)
				run(k, &s);
		}
		if (lasting)
			printf("# round %u of %u\n", round + 1, rounds);
	}
	for (size_t k = 0; k < KINDS; k++) {
		if (!tally[k].runs) {
			late++;
			continue;
		}
		report(k);
		runs += tally[k].runs;
		whole += tally[k].whole;
		calls += tally[k].calls;
		hangs += tally[k].hangs;
	}
	if (late)
		printf("ok %d - %u more kinds # SKIP no time: the machine is busy\n", ++tap_nr, late);
	printf("# %u calls injected in %u runs, %u times the program whole, %u hangs\n", calls, runs, whole, hangs);
	return tap_end();
}

static int run_one(char **argv)
{
	size_t k = kind_of(argv[1]);
	struct shots s = { .err = 1 };

	if (k == KINDS)
		return 1;
	while (s.err < 200 && (!strerrorname_np(s.err) || strcmp(strerrorname_np(s.err), argv[2])))
		s.err++;
	s.call = kinds[k].call;
	s.first = (unsigned int)strtoul(argv[3], NULL, 10);
	s.count = (unsigned int)strtoul(argv[4], NULL, 10);
	loud = true;
	run(k, &s);
	report(k);
	return tap_end();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	programs_find();
	return argc == 5 ? run_one(argv) : run_all();
}

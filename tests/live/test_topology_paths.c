/* SPDX-License-Identifier: MIT */
/*
 * The nodes as files, seen through every call that takes a path: absolute, relative to a directory, in every spelling;
 * live files say what is so now; what is not ours stays the host's.
 */
#include "live.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define NODE "/sys/devices/system/node"
#define CPU "/sys/devices/system/cpu"
#define NODES 3
#define NOBODY 65534

int __open_2(const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
char *__realpath_chk(const char *path, char *resolved, size_t len);

static struct gw_engine *e;

/* ---- reading ---- */

static const char *read_fd(int fd)
{
	static char buf[1 << 20];
	size_t len = 0;
	ssize_t got;

	buf[0] = '\0';
	if (fd < 0)
		return buf;
	while ((got = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0)
		len += (size_t)got;
	buf[len] = '\0';
	close(fd);
	return buf;
}

static const char *says(const char *path)
{
	return read_fd(open(path, O_RDONLY | O_CLOEXEC));
}

static bool is(const char *text, const char *expected)
{
	if (!strcmp(text, expected))
		return true;
	printf("# expected '%s', got '%.200s'\n", expected, text);
	return false;
}

static long figure(const char *path, const char *name)
{
	const char *at = strstr(says(path), name);

	return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

/* What the kernel itself has there. */
static const char *host_says(const char *path)
{
	return read_fd((int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

/* ---- every call ---- */

static void opens(void)
{
	char buf[64] = "";
	FILE *f;

	tap(is(says(NODE "/online"), "0-2\n"), "open() finds the engine's nodes");
	tap(is(read_fd(open64(NODE "/node2/distance", O_RDONLY)), "20 20 10\n"), "open64()");
	tap(is(read_fd(openat(AT_FDCWD, NODE "/possible", O_RDONLY)), "0-2\n"), "openat()");
	tap(is(read_fd(openat64(-1, NODE "/has_memory", O_RDONLY)), "0-2\n"), "openat64() with no directory");
	tap(is(read_fd(__open_2(NODE "/online", O_RDONLY)), "0-2\n"), "__open_2()");
	tap(is(read_fd(__openat64_2(AT_FDCWD, NODE "/online", O_RDONLY)), "0-2\n"), "__openat64_2()");
	f = fopen(NODE "/node1/numastat", "r");
	tap(f && fgets(buf, sizeof(buf), f) && !strncmp(buf, "numa_hit ", 9), "fopen(), of a live file");
	f = f ? freopen(NODE "/online", "r", f) : NULL;
	tap(f && fgets(buf, sizeof(buf), f) && is(buf, "0-2\n"), "freopen()");
	f = f ? freopen(NODE "/node0/numastat", "r", f) : NULL;
	tap(f && fgets(buf, sizeof(buf), f) && !strncmp(buf, "numa_hit ", 9), "freopen(), of a live file");
	if (f)
		fclose(f);
}

static int is_node(const struct dirent *d)
{
	return !strncmp(d->d_name, "node", 4);
}

static void lists(void)
{
	struct dirent **list = NULL, *d;
	DIR *dir = opendir(NODE);
	glob_t found = { 0 };
	int nr = 0;

	while (dir && (d = readdir(dir)))
		nr += is_node(d);
	tap(nr == NODES, "opendir()");
	if (dir)
		closedir(dir);
	nr = scandir(NODE, &list, is_node, alphasort);
	tap(nr == NODES && !strcmp(list[2]->d_name, "node2"), "scandir()");
	for (int i = 0; i < nr; i++)
		free(list[i]);
	free(list);
	tap(!glob(NODE "/node[0-9]*/cpulist", 0, NULL, &found) && found.gl_pathc == NODES &&
		    is(found.gl_pathv[1], NODE "/node1/cpulist"),
	    "glob()");
	globfree(&found);
}

static void looks(void)
{
	struct statx stx;
	struct stat st;

	tap(!stat(NODE "/node2", &st) && S_ISDIR(st.st_mode) && stat(NODE "/node3", &st) && errno == ENOENT, "stat()");
	tap(!lstat(CPU "/cpu0/node0", &st) && S_ISLNK(st.st_mode), "lstat()");
	tap(!fstatat(AT_FDCWD, NODE "/node2/meminfo", &st, 0) && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0444,
	    "fstatat()");
	tap(!statx(AT_FDCWD, NODE "/node2/cpumap", 0, STATX_MODE, &stx) && S_ISREG(stx.stx_mode), "statx()");
	tap(!access(NODE "/node2", R_OK | X_OK) && access(NODE "/node3", F_OK) && errno == ENOENT, "access()");
	tap(!faccessat(AT_FDCWD, NODE "/node1/meminfo", R_OK, 0) && !eaccess(NODE "/node1", F_OK),
	    "faccessat(), eaccess()");
	errno = 0;
	tap(lgetxattr(NODE "/node2", "user.none", NULL, 0) < 0 && errno != ENOENT, "lgetxattr()");
}

static void names(void)
{
	char buf[4096], *path;
	ssize_t len = readlink(CPU "/cpu0/node0", buf, sizeof(buf) - 1);

	buf[len > 0 ? len : 0] = '\0';
	tap(is(buf, "../../node/node0"), "readlink()");
	tap(readlink(CPU "/cpu0/node1", buf, sizeof(buf)) < 0 && errno == ENOENT, "a CPU is on one node only");
	tap(realpath(CPU "/cpu0/node0/", buf) && is(buf, NODE "/node0"), "realpath()");
	tap(__realpath_chk(NODE "//node2/./cpulist", buf, sizeof(buf)) && is(buf, NODE "/node2/cpulist"),
	    "__realpath_chk()");
	path = canonicalize_file_name(NODE "/node0/cpu0/topology");
	tap(path && is(path, CPU "/cpu0/topology"),
	    "canonicalize_file_name(), through a node's link to a CPU of the host");
	free(path);
}

static void works_in(void)
{
	char buf[4096];
	int back = open(".", O_RDONLY | O_DIRECTORY);

	tap(!chdir(NODE "/node1") && getcwd(buf, sizeof(buf)) && is(buf, NODE "/node1"), "chdir(), getcwd()");
	tap(figure("meminfo", "Node 1 MemTotal:") > 0 && is(says("../online"), "0-2\n"), "and what is there is live");
	tap(!chdir("/") && is(says("sys/devices/system/node/online"), "0-2\n"), "relative to the root");
	tap(!chdir("/sys/devices") && is(says("system/node/online"), "0-2\n"), "relative to the host's sysfs");
	if (fchdir(back))
		exit(1);
	close(back);
}

static void spellings(void)
{
	tap(is(says("//sys//devices/./system///node/online"), "0-2\n"), "doubled slashes and dots");
	tap(is(says(CPU "/../node/node0/../online"), "0-2\n"), "the way up");
	tap(is(says(CPU "/cpu0/node0/../online"), "0-2\n"), "the way up behind a link");
	tap(is(says(CPU "/cpu0/node0/distance"), "10 20 20\n"), "the way through a link");
	tap(is(says("/sys/bus/node/devices/node1/distance"), "20 10 20\n"), "the way by the bus");
}

static void beside(void)
{
	int root = open("/", O_RDONLY | O_DIRECTORY),
	    node = openat(root, "sys/devices/system/node", O_RDONLY | O_DIRECTORY);
	int cpus = open(CPU, O_RDONLY | O_DIRECTORY), proc = open("/proc/self", O_RDONLY | O_DIRECTORY), fd;
	struct stat st;

	tap(is(read_fd(openat(node, "online", O_RDONLY)), "0-2\n"),
	    "beside a directory that was found beside the root's");
	fd = openat(node, "node2/numastat", O_RDONLY);
	tap(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE && !strncmp(read_fd(fd), "numa_hit ", 9),
	    "live files are live there, too");
	tap(!fstatat(cpus, "cpu0/node0", &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode),
	    "a CPU's node beside the CPUs");
	tap(strstr(read_fd(openat(proc, "status", O_RDONLY)), "Mems_allowed_list:\t0-2\n"),
	    "status beside a directory of /proc");
	tap(openat(node, "node3", O_RDONLY) < 0 && errno == ENOENT, "what there is not is not there");
	close(root);
	close(node);
	close(cpus);
	close(proc);
}

/* ---- as open(2) is ---- */

static void manners(void)
{
	int fd, low = dup(0);
	char buf[8];

	close(low);
	errno = 77;
	fd = open(NODE "/node0/meminfo", O_RDONLY);
	tap(fd == low && errno == 77, "a live file has the lowest descriptor, and errno is left alone");
	tap(lseek(fd, 0, SEEK_CUR) == 0 && pread(fd, buf, 4, 0) == 4 && !memcmp(buf, "Node", 4),
	    "and is read from its beginning");
	tap(write(fd, "x", 1) < 0 && ftruncate(fd, 0) < 0, "and cannot be changed");
	tap(!(fcntl(fd, F_GETFD) & FD_CLOEXEC), "and stays over an exec");
	close(fd);
	fd = open(NODE "/node0/meminfo", O_RDONLY | O_CLOEXEC);
	tap(fcntl(fd, F_GETFD) & FD_CLOEXEC, "unless that is not wanted");
	close(fd);
	tap(open(NODE "/online", O_RDWR) < 0 && errno == EACCES && open(NODE "/x", O_WRONLY | O_CREAT, 0600) < 0 &&
		    errno == EACCES && open(NODE "/node0/meminfo", O_WRONLY | O_TRUNC) < 0 && errno == EACCES &&
		    !fopen(NODE "/online", "r+"),
	    "nothing of it can be written");
	tap(open(NODE "/online", O_RDONLY | O_DIRECTORY) < 0 && errno == ENOTDIR, "a file is no directory");
	tap(open(NODE "/node0/meminfo/x", O_RDONLY) < 0 && (errno == ENOTDIR || errno == ENOENT),
	    "nor has it anything in it");
}

static void ordinary(void)
{
	char path[64] = "/tmp/godwit-meminfo-XXXXXX", same[4096];
	int fd = mkstemp(path);
	const char *volatile none = NULL;
	mode_t mask = umask(0);
	struct stat st;

	umask(mask);
	close(fd);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
	tap(fd >= 0 && !fstat(fd, &st) && (st.st_mode & 0777) == (0640 & ~mask) && write(fd, "abc", 3) == 3,
	    "a file is made with its mode");
	close(fd);
	tap(is(says(path), "abc"), "and is what was written");
	unlink(path);
	fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	tap((fd >= 0 && !fstat(fd, &st) && (st.st_mode & 0777) == 0600) || errno == EOPNOTSUPP,
	    "one without a name too");
	close(fd);
	snprintf(same, sizeof(same), "%s", host_says(CPU "/online"));
	tap(is(says(CPU "/online"), same), "other files of sysfs are the host's");
	snprintf(same, sizeof(same), "%s", host_says("/proc/version"));
	tap(is(says("/proc/version"), same), "and so are those of /proc");
	tap(open("/nonexistent/meminfo", O_RDONLY) < 0 && errno == ENOENT && open(none, O_RDONLY) < 0 &&
		    errno == EFAULT,
	    "errors are the kernel's");
	snprintf(same, sizeof(same), "%s", host_says("/proc/1/status"));
	tap(is(strstr(says("/proc/1/status"), "Mems_allowed"), strstr(same, "Mems_allowed")) ||
		    !strstr(same, "Mems_allowed"),
	    "a process without an engine has the host's status");
}

/* ---- live ---- */

static long pages_on(int node, const void *mem)
{
	char line[32], field[16];
	const char *at, *end;

	snprintf(line, sizeof(line), "\n%08lx ", (unsigned long)mem);
	snprintf(field, sizeof(field), " N%d=", node);
	at = strstr(says("/proc/self/numa_maps"), line);
	if (!at)
		return -1;
	end = strchr(at + 1, '\n');
	at = strstr(at, field);
	return at && at < end ? strtol(at + strlen(field), NULL, 10) : 0;
}

static void figures(void)
{
	const size_t pages = 2048;
	void *mem = mmap(NULL, (pages + 2) * GW_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before, after, on[2];
	const long kb = (long)pages * 4;
	double until = now() + 10;

	mem = (char *)mem + GW_PAGE_SIZE; /* a mapping by itself */
	mprotect(mem, pages * GW_PAGE_SIZE, PROT_READ | PROT_WRITE);
	madvise(mem, pages * GW_PAGE_SIZE, MADV_NOHUGEPAGE);
	before = figure(NODE "/node0/meminfo", "MemFree:");
	memset(mem, 1, pages * GW_PAGE_SIZE);
	do { /* books are brought up to date for a tenth of the time at most */
		usleep(20000);
		after = figure(NODE "/node0/meminfo", "MemFree:");
	} while (before - after < kb - 1000 && now() < until);
	tap(before - after > kb - 1000 && before - after < kb + 1000, "memory that is used is not free");
	on[0] = pages_on(0, mem);
	migrate(e, 0, 2, NULL, NULL);
	on[1] = pages_on(2, mem);
	tap(on[0] == (long)pages && on[1] == (long)pages && pages_on(0, mem) == 0, "numa_maps follows the pages");
	tap(figure(NODE "/node2/meminfo", "AnonPages:") >= (long)pages * 4, "and meminfo too");
	tap(figure(NODE "/node0/meminfo", "MemTotal:") * 1024 / 4096 == (long)(gw_node_bytes(e, 0) / 4096),
	    "a node is as large as it is");
	tap(strstr(says("/proc/self/numa_maps"), " heap") && strstr(says("/proc/thread-self/numa_maps"), " stack"),
	    "heap and stack have their names");
	migrate(e, 2, 0, NULL, NULL);
	munmap((char *)mem - GW_PAGE_SIZE, (pages + 2) * GW_PAGE_SIZE);
}

static void statuses(void)
{
	char path[64];

	tap(strstr(says("/proc/self/status"), "\nMems_allowed_list:\t0-2\n"), "/proc/self/status");
	tap(strstr(says("/proc/thread-self/status"), "\nMems_allowed_list:\t0-2\n"), "/proc/thread-self/status");
	snprintf(path, sizeof(path), "/proc/%d/status", getpid());
	tap(strstr(says(path), "\nMems_allowed_list:\t0-2\n"), "/proc/PID/status");
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", getpid());
	tap(strstr(says(path), "\nMems_allowed_list:\t0-2\n"), "/proc/self/task/TID/status");
	tap(strstr(says(path), ",00000007\n") || strstr(says(path), "\t7\n") || strstr(says(path), "\t00000007\n"),
	    "the mask is that of the list");
}

/* ---- whatever else goes on ---- */

static atomic_int good;

static void *look(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++) {
		struct stat st;
		char buf[32] = "";
		int fd = open(NODE "/online", O_RDONLY | O_CLOEXEC);

		if (read(fd, buf, sizeof(buf) - 1) == 4 && !strcmp(buf, "0-2\n") && !stat(NODE "/node2", &st))
			good++;
		close(fd);
		close(open(NODE "/node1/vmstat", O_RDONLY | O_CLOEXEC));
		close(open("/proc/self/numa_maps", O_RDONLY | O_CLOEXEC));
	}
	return NULL;
}

static void many_at_once(const char *sentence)
{
	pthread_t thread[6];

	good = 0;
	for (int i = 0; i < 6; i++)
		pthread_create(&thread[i], NULL, look, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(thread[i], NULL);
	tap(good == 120, sentence);
}

static void on_timer(int nr)
{
	int saved = errno, fd = open(NODE "/node1/numastat", O_RDONLY | O_CLOEXEC);

	(void)nr;
	good += fd >= 0;
	close(fd);
	errno = saved;
}

static void in_handlers(void)
{
	struct sigaction act = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	const struct timespec pause = { .tv_nsec = 200000 };
	struct itimerspec every = { .it_interval = pause, .it_value = pause };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	double until = now() + 0.5;
	timer_t timer;
	bool all = true;

	good = 0;
	sigaction(SIGALRM, &act, NULL);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &every, NULL);
	while (now() < until) {
		int fd = open(NODE "/node0/meminfo", O_RDONLY | O_CLOEXEC);

		all = all && fd >= 0;
		close(fd);
	}
	timer_delete(timer);
	signal(SIGALRM, SIG_DFL);
	tap(all && good > 20, "a signal's handler may open what the program is just opening");
}

static bool in_child(bool (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(!fn());
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool child_looks(void)
{
	return is(says(NODE "/online"), "0-2\n") && strstr(says("/proc/self/status"), "list:\t0-2\n") &&
	       strstr(says("/proc/self/numa_maps"), " N0=");
}

static bool closes_all(void)
{
	closefrom(3);
	return child_looks() && child_looks();
}

static char theirs[160];

/* The tree in the first user's directory is of no use to the other. */
static bool other_user(void)
{
	return !setenv("XDG_RUNTIME_DIR", theirs, 1) && !setregid(NOBODY, NOBODY) && !setreuid(NOBODY, NOBODY) &&
	       is(says(NODE "/online"), "0-2\n") && !access(NODE "/node2", R_OK);
}

static bool have_theirs(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(theirs, sizeof(theirs), "%s/gw-XXXXXX", tmp && strlen(tmp) < 60 ? tmp : "/tmp");
	return mkdtemp(theirs) && !chown(theirs, NOBODY, NOBODY);
}

static char place[] = "/tmp/godwit-root-XXXXXX";

/* Without a /sys, and with nowhere to make one. */
static bool other_root(void)
{
	return !chroot(place) && !chdir("/") && open(NODE "/online", O_RDONLY) < 0 && errno == ENOENT &&
	       open("/x", O_RDWR | O_CREAT, 0600) >= 0 && !access("/x", R_OK) && !unlink("/x");
}

int main(void)
{
	e = engine_with_nodes(NODES, 0);
	many_at_once("threads that look first at the same time all see the nodes");
	opens();
	lists();
	looks();
	names();
	works_in();
	spellings();
	beside();
	manners();
	ordinary();
	figures();
	statuses();
	in_handlers();
	tap(in_child(child_looks), "a forked child sees them");
	tap(in_child(closes_all), "also without any descriptor that it had");
	if (!geteuid()) {
		tap(have_theirs() && in_child(other_user), "and as another user");
		tap(mkdtemp(place) && in_child(other_root) && !rmdir(place),
		    "and where it can have none there is none");
	}
	many_at_once("and the parent still does");
	return tap_end();
}

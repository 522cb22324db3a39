/* SPDX-License-Identifier: MIT */
/*
 * What lies about in the runtime directory leads the engine nowhere: directories that are another's or open to
 * others, symbolic links, files and old sockets in the place of its own.
 */
#include "live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define MADE 1000

static char place[80], bait[96];

/* An engine in a child, whose XDG_RUNTIME_DIR is xdg: what gw_control_open() says, or MADE if its socket is there. */
static int opened_in(const char *xdg, void (*prepare)(const char *sock))
{
	int fds[2], said = -2000;
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		struct gw_engine *e = engine_with_nodes(1, 0);
		char sock[160];
		struct stat st;

		setenv("XDG_RUNTIME_DIR", xdg, 1);
		snprintf(sock, sizeof(sock), "%s/godwit/%d.sock", xdg, getpid());
		if (prepare)
			prepare(sock);
		said = gw_control_open(e);
		if (!said && !lstat(sock, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600)
			said = MADE;
		gw_control_close(e);
		rmdir(sock);
		if (write(fds[1], &said, sizeof(said)) != sizeof(said))
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &said, sizeof(said)) != sizeof(said))
		said = -2000;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return said;
}

static bool is_empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	int nr = 0;

	while (d && (entry = readdir(d)))
		nr += entry->d_name[0] != '.';
	if (d)
		closedir(d);
	return d && !nr;
}

/* A base that is not its user's alone is passed over: nothing is made in it. */
static void wrong_base(void)
{
	char link[96], slash[100];

	snprintf(link, sizeof(link), "%s.link", place);
	snprintf(slash, sizeof(slash), "%s/", link);
	tap(opened_in(place, NULL) == MADE, "a runtime directory of one's own is used");
	rmdir(bait);
	chmod(place, 0777);
	tap(opened_in(place, NULL) != MADE && is_empty(place), "one that others may write is not");
	chmod(place, 0770);
	tap(opened_in(place, NULL) != MADE && is_empty(place), "nor one that a group may write");
	chmod(place, 0700);
	if (!symlink(place, link)) {
		tap(opened_in(link, NULL) != MADE && is_empty(place), "nor a symbolic link to one");
		tap(opened_in(slash, NULL) != MADE && is_empty(place), "nor a symbolic link with a slash behind it");
		unlink(link);
	}
	tap(opened_in("run", NULL) != MADE, "nor what is no absolute path");
	if (geteuid())
		return;
	tap(!chown(place, NOBODY, NOBODY) && opened_in(place, NULL) != MADE && is_empty(place),
	    "nor one of another user");
	tap(!chown(place, 0, 0) && opened_in(place, NULL) == MADE, "and with its own again it works");
	rmdir(bait);
}

/* The directory for sockets that is not its user's alone is refused. */
static void wrong_directory(void)
{
	char other[96];

	snprintf(other, sizeof(other), "%s/other", place);
	mkdir(bait, 0755);
	chmod(bait, 0755);
	tap(opened_in(place, NULL) == -EACCES && is_empty(bait), "a directory that others may read is refused");
	chmod(bait, 0720);
	tap(opened_in(place, NULL) == -EACCES && is_empty(bait), "and one that a group may write");
	chmod(bait, 0700);
	if (!geteuid())
		tap(!chown(bait, NOBODY, NOBODY) && opened_in(place, NULL) == -EACCES && is_empty(bait),
		    "and one of another user");
	rmdir(bait);
	tap(!mkdir(other, 0700) && !symlink("other", bait) && opened_in(place, NULL) == -EACCES && is_empty(other),
	    "and a symbolic link");
	unlink(bait);
	rmdir(other);
	close(open(bait, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	tap(opened_in(place, NULL) == -EACCES, "and a file");
	unlink(bait);
}

static char precious[96];

static void link_to_precious(const char *sock)
{
	if (symlink(precious, sock))
		_exit(1);
}

static void link_to_nothing(const char *sock)
{
	unlink(precious);
	link_to_precious(sock);
}

static void plain_file(const char *sock)
{
	close(open(sock, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

static void plain_directory(const char *sock)
{
	mkdir(sock, 0700);
}

static void old_socket(const char *sock)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", sock);
	if (bind(fd, (const void *)&sun, sizeof(sun)))
		_exit(1);
	close(fd);
}

static void no_umask(const char *sock)
{
	(void)sock;
	umask(0);
}

static void wrong_socket(void)
{
	struct stat st;

	snprintf(precious, sizeof(precious), "%s/precious", place);
	mkdir(bait, 0700);
	close(open(precious, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	tap(opened_in(place, link_to_precious) == MADE && !stat(precious, &st) && S_ISREG(st.st_mode) &&
		    (st.st_mode & 0777) == 0644,
	    "a symbolic link in the socket's place is replaced, and what it leads to stays as it was");
	tap(opened_in(place, link_to_nothing) == MADE && lstat(precious, &st),
	    "a symbolic link to nothing is replaced, and nothing comes to be there");
	tap(opened_in(place, plain_file) == MADE, "a file in the socket's place is replaced");
	tap(opened_in(place, old_socket) == MADE, "and so is the socket of an earlier process of this pid");
	tap(opened_in(place, plain_directory) == -EADDRINUSE, "a directory there is an error");
	tap(opened_in(place, no_umask) == MADE, "without umask too the socket is its user's alone");
	tap(is_empty(bait), "none of them leaves a socket behind");
	rmdir(bait);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(place, sizeof(place), "%s/gw-XXXXXX", tmp && strlen(tmp) < 50 ? tmp : "/tmp");
	if (!mkdtemp(place)) {
		printf("Bail out! mkdtemp: %s\n", strerror(errno));
		return 1;
	}
	snprintf(bait, sizeof(bait), "%s/godwit", place);
	wrong_base();
	wrong_directory();
	wrong_socket();
	rmdir(place);
	return tap_end();
}

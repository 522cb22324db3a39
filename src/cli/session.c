/* SPDX-License-Identifier: MIT */
/*
 * From the text "1234" to a conversation with the engine of process 1234, and what to say when
 * there is none.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int session_pid(const char *text, int *pid)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno || number == 0 || number > INT_MAX)
		return say_error("'%s' is not a process id", text);
	*pid = (int)number;
	return 0;
}

static int find_process(int pid, unsigned int *uid)
{
	char name[64];
	int err = process_owner(pid, uid);

	if (err == -ENOENT)
		return -ESRCH;
	if (err)
		return say_error("PID %d is another user's: run godwit as root or as that user", pid);
	if (geteuid() != 0 && geteuid() != *uid)
		return say_error("PID %d belongs to %s: run godwit as root or as that user", pid,
				 user_name(*uid, name, sizeof(name)));
	return 0;
}

/* -ENOENT: nobody listens there. */
static int try_place(struct session *s, const struct place *place)
{
	char path[CTL_PATH_MAX];
	int err = ctl_runtime_dir(path, sizeof(path), place->base, place->uid, false);

	if (err == -EACCES) {
		say_error("%s: not a directory of mode 0700 that belongs to PID %d's user: remove it", path,
			  s->pid);
		return -EACCES;
	}
	if (!err)
		err = ctl_socket_path(path, sizeof(path), place->base, s->pid);
	if (!err)
		err = ctl_connect(&s->client, path, s->pid, s->patience_ms, &s->msg);
	if (err == -ECONNREFUSED || err == -ENOTSOCK || err == -ENAMETOOLONG)
		return -ENOENT;
	if (err == -ESRCH)
		say_error("%s: PID %d listens there, not PID %d: nothing was asked of it", path,
			  s->client.peer, s->pid);
	else if (err && err != -ENOENT)
		session_error(s, err);
	return err;
}

static int connect_somewhere(struct session *s, unsigned int uid)
{
	struct place places[PLACES_MAX];
	int nr = places_of_process(places, s->pid, uid);

	for (int i = 0; i < nr; i++) {
		int err = try_place(s, &places[i]);

		s->place = places[i];
		if (err != -ENOENT)
			return err ? CLI_FAILED : 0;
	}
	return -ENOENT;
}

int session_try(struct session *s, int pid)
{
	unsigned int uid;
	int err;

	s->pid = pid;
	s->client.fd = -1;
	s->err = 0;
	err = find_process(pid, &uid);
	if (!err)
		err = connect_somewhere(s, uid);
	if (err || s->client.hello.pid == (uint32_t)pid)
		return err;
	session_close(s);
	return say_error("PID %d's socket is answered by PID %u: ask that one", pid, s->client.hello.pid);
}

int session_open(struct session *s, const char *text)
{
	int pid, err;

	s->client.fd = -1;
	s->patience_ms = SESSION_TIMEOUT_MS;
	s->mute = false;
	if (session_pid(text, &pid))
		return CLI_FAILED;
	err = session_try(s, pid);
	if (err == -ESRCH)
		return say_error("no process %d", pid);
	if (err == -ENOENT)
		return say_error("PID %d has no godwit engine: start it with 'godwit run -- CMD', or "
				 "'godwit attach %d'",
				 pid, pid);
	return err ? CLI_FAILED : 0;
}

void session_close(struct session *s)
{
	ctl_close(&s->client);
}

/* What an error of the client means, behind "PID 1234's". */
static const struct {
	int err;
	const char *text;
} meanings[] = {
	{ -ETIMEDOUT, "engine has been silent for 10 s: the process is stopped, or stuck" },
	{ -ECONNRESET, "engine closed the connection: the process has ended, or replaced itself" },
	{ -EPROTONOSUPPORT, "engine speaks another protocol version: use the godwit that started it" },
	{ -EPROTO, "socket gave an answer that is not godwit's: nothing more was asked of it" },
	{ -EACCES, "socket is not open to you: run godwit as root or as the process's user" },
};

_Static_assert(SESSION_TIMEOUT_MS == 10000, "the text for ETIMEDOUT says so");

int session_error(struct session *s, int err)
{
	char name[ERRNO_TEXT];

	s->err = err;
	if (s->mute)
		return CLI_FAILED;
	if (err == -EREMOTEIO)
		return say_error("PID %d: %s (%s)", s->pid, s->client.error.text,
				 errno_name(s->client.error.err, name));
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].err == err)
			return say_error("PID %d's %s", s->pid, meanings[i].text);
	return say_error("PID %d's socket: %s (%s)", s->pid, strerror(-err), errno_name(err, name));
}

int session_expect(struct session *s, enum ctl_type type, enum ctl_type other)
{
	int err = ctl_read_message(&s->client, &s->msg);

	if (!err && s->msg.head.type != type && s->msg.head.type != other)
		err = -EPROTO;
	return err ? session_error(s, err) : 0;
}

/* ---------------------------------------------------------------- node lists ---- */

/* The first number in list that is no node, or -1. */
static long first_beyond(const char *list, uint32_t nr_nodes)
{
	while (*(list += strcspn(list, "0123456789")) != '\0') {
		char *end;
		unsigned long node = strtoul(list, &end, 10);

		if (node >= nr_nodes)
			return node > LONG_MAX ? LONG_MAX : (long)node;
		list = end;
	}
	return -1;
}

int session_nodes(const struct session *s, const char *list, gw_nodemask *out)
{
	uint32_t nr_nodes = s->client.hello.nr_nodes;
	int err = gw_nodes_parse(list, (int)nr_nodes, out);
	char have[NODES_TEXT];
	long node;

	if (!err && *out != 0)
		return 0;
	if (!err)
		return say_error("node list '%s': names no node", list);
	if (err != -ENODEV)
		return say_error("node list '%s': expected a list as 0  0,2  0-1  !1  all", list);
	node = first_beyond(list, nr_nodes);
	nodes_text(nr_nodes == GW_MAX_NODES ? ~0ULL : (1ULL << nr_nodes) - 1, have);
	return say_error("node %ld: PID %d has node%s %s", node, s->pid, nr_nodes > 1 ? "s" : "", have);
}

/* SPDX-License-Identifier: MIT */
/*
 * control - the socket between the godwit command and an engine. The door of its client and of the
 * paths that both ends agree on; the words are in protocol.h, and what stands in the runtime directory about groups in
 * group.h. The server's side is entered through gw_control_open() of <godwit.h>.
 */
#ifndef GODWIT_CONTROL_H
#define GODWIT_CONTROL_H

#include "group.h"
#include "protocol.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* ---------------------------------------------------------------- paths ---- */

/*
 * These three use neither libc's stdio, its allocator nor errno, and read no environment: they may
 * be called on an engine thread that has no thread-local storage. All return 0 or -ENAMETOOLONG;
 * other errors are named. CTL_PATH_MAX is enough for every buffer (and is what sun_path takes).
 */
#define CTL_PATH_MAX 108

/*
 * The directory that holds uid's runtime files: xdg (the value of XDG_RUNTIME_DIR, may be NULL) or
 * else /run/user/UID, whichever first is a directory that belongs to uid and that nobody else may
 * write; else /tmp/godwit-UID, which need not exist.
 */
int ctl_runtime_base(char *buf, size_t len, const char *xdg, unsigned int uid);
/* The same in another file tree, below root. */
int ctl_runtime_base_below(const char *root, char *buf, size_t len, const char *xdg, unsigned int uid);

/*
 * BASE/godwit, made with mode 0700 (and BASE before it) when make is true and it is not there.
 * -ENOENT: not there; -EACCES: it is a symbolic link, no directory, not uid's, or open to others;
 * when make is true also what mkdir(2) says. buf holds the path also in these cases.
 */
int ctl_runtime_dir(char *buf, size_t len, const char *base, unsigned int uid, bool make);

/* BASE/godwit/PID.sock. */
int ctl_socket_path(char *buf, size_t len, const char *base, int pid);

/* ---------------------------------------------------------------- client ---- */

/* One message as received. ctl_read_message() has checked everything that it says of itself. */
struct ctl_message {
	struct ctl_header head;
	union {
		struct ctl_hello hello;
		struct ctl_stat stat;
		struct ctl_area area;
		struct gw_migrate_result result;	/* PROGRESS, RESULT */
		struct {
			struct ctl_status head;
			int32_t status[CTL_MOVE_MAX];
		} moved;				/* STATUS */
		struct ctl_called called;
		struct ctl_error error;
		unsigned char raw[CTL_LEN_MAX];
	};
};

/* A connection to one engine. Used by one thread; nothing in it is allocated. */
struct ctl_client {
	int fd;			/* -1: not connected */
	int timeout_ms;		/* a silence longer than this is -ETIMEDOUT */
	int peer;		/* the process that listens; valid after -ESRCH */
	struct ctl_hello hello;	/* valid after ctl_connect() */
	struct ctl_error error;	/* valid after -EREMOTEIO */
};

/*
 * The errors of all client functions beside those of connect(2):
 *   -ETIMEDOUT        nothing came, or nothing was taken, for timeout_ms
 *   -ECONNRESET       the engine closed the connection
 *   -EREMOTEIO        the engine answered ERROR: see client.error
 *   -EPROTONOSUPPORT  the other end speaks another version of the protocol
 *   -EPROTO           the other end does not speak the protocol
 *   -ESRCH            ctl_connect(): another process than pid listens there; nothing was said to it
 * After any of them but -EREMOTEIO the connection is of no more use; ctl_close() is the caller's.
 */

/*
 * Connect to the socket at path, on which nobody but process pid may listen, and say HELLO. On error the
 * client is closed.
 */
int ctl_connect(struct ctl_client *c, const char *path, int pid, int timeout_ms, struct ctl_message *msg);

/*
 * The same to the engine of a process, wherever its socket is; inside managed processes only (remote.c). -ESRCH: no
 * such process; -ENXIO: it has no engine; -EPERM: it is another user's.
 */
int ctl_connect_process(struct ctl_client *c, int pid, int timeout_ms, struct ctl_message *msg);

/* Send a message whose body is the nr_parts parts one after the other (at most 2). */
int ctl_send(struct ctl_client *c, enum ctl_type type, const struct iovec *part, int nr_parts);

/* Receive the next message. Texts in it end with a NUL, counts are within their bounds. */
int ctl_read_message(struct ctl_client *c, struct ctl_message *msg);

/* Send a request and receive its first answer. */
int ctl_request(struct ctl_client *c, enum ctl_type type, const struct iovec *part, int nr_parts,
		struct ctl_message *msg);

void ctl_close(struct ctl_client *c);

#endif

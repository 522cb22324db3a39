/* SPDX-License-Identifier: MIT */
/*
 * The engine's end of the control socket, between its files: who comes and goes and the socket itself (server.c), one
 * client's reading and writing (server_client.c), what clients ask for (server_request.c).
 *
 * Everything runs on the service thread, which also reads the kernel's events: nothing sleeps, nothing allocates,
 * every client has its bounds.
 */
#ifndef GODWIT_CONTROL_SERVER_H
#define GODWIT_CONTROL_SERVER_H

#include "base/base.h"
#include "control/control.h"

#define CLIENTS 16
#define JOBS_AT_ONCE 12 /* of all clients: four places are always left for short questions */
#define TICK_MS 100
#define CROWD_TICK_MS 10 /* while somebody has been put off */
#define SHARE_NS 10000000ULL
#define SHARE_CLIENT 16U	/* readings and messages of one client in SHARE_NS */
#define SHARE_CALLER 256U	/* of one that makes system calls for who waits for each */
#define SHARE_COMERS 16U	/* new connections in SHARE_NS */
#define STAY_NS 250000000ULL	/* that long a client may stay whoever waits: most are gone after 5 ms */
#define LISTING_NS 200000000ULL /* and that long a listing is kept for one who does not take it */
#define LISTING_BYTES (64UL << 20)
#define LISTING_STEP (1UL << 20)

enum wish { WISH_NONE, WISH_MIGRATE, WISH_MOVE, WISH_AREAS, WISH_CALL };

/* How much was taken in the current SHARE_NS. */
struct share {
	uint64_t slice;
	uint32_t taken;
};

struct client {
	struct server *server;
	int fd;		 /* -1: free */
	uint32_t got;	 /* bytes of .in */
	const char *out; /* what is being written */
	uint64_t out_len, out_at;
	enum wish wish;
	struct gw_job *job;
	bool shut;    /* gone: free it when its job has ended */
	bool calls;   /* has asked for a system call */
	bool put_off; /* there is more to read: at the next tick */
	struct share share;
	uint64_t came, heard; /* when: its connection, its last message or the end of its last job */
	uint64_t ticket;      /* its turn among those who wait for a listing; 0: it does not */
	struct ctl_move move;
	long called; /* what a system call returned */
	void *page[CTL_MOVE_MAX];
	int node[CTL_MOVE_MAX], status[CTL_MOVE_MAX];
	char in[sizeof(struct ctl_header) + CTL_LEN_MAX];
	char reply[sizeof(struct ctl_header) + CTL_LEN_MAX];
};

struct server {
	struct gw_engine *e;
	int pid;
	int fd;
	bool accepting;
	int comer; /* accepted, without a place yet; -1: none */
	struct share share;
	uint32_t nr_jobs;
	uint32_t tick_ms;
	uint64_t tell_due;
	struct client *lister; /* whose areas are being listed; one at a time */
	char *listing;	       /* LISTING_BYTES of addresses, used as far as a listing needs */
	uint64_t listed, listed_at;
	uint64_t tickets;
	struct client *client; /* CLIENTS of them */
	struct gw_job *own; /* nobody's but ours: a change of the group that went by while it was joined; or NULL */
};

/* ---- server.c ---- */

/* One more of most in this SHARE_NS; false: it is used up. */
bool share_take(struct share *s, uint32_t most);
/* Look after everybody every so many ms; 0: not at all. */
void tick_set(struct server *s, uint32_t ms);
/* The tick itself. */
void server_tick(struct gw_engine *e, void *arg);
/* There is more to do for the client than its turn allows: at the next tick. */
void put_off(struct client *c);

/* ---- server_group.c ---- */

/* The socket is open: be a member of the group, in a forked child of the parent's, with the nodes that it has now. */
void group_join(struct server *s, const char *dir);
/* A command has made us a member of this group, "": of none. */
void group_told(const char *name);
/* The process ends: so does its membership. Async-signal-safe. */
void group_exit(void);
/* The job is over: end it. */
void group_look_after(struct server *s);
/* Have all jobs' ends be seen at once: the argument is the server. On any engine thread. */
void kick(void *arg);

/* ---- server_client.c ---- */

/* A new connection gets this place; closed at once when it cannot be watched. */
void client_begin(struct client *c, struct server *s, int fd);
/* Hung up; a job of its own is cancelled, and ended by the tick. */
void client_close(struct client *c);
/* Read and answer until there is nothing more to read, or the turn is not the client's, or its share is used up. */
void client_run(struct client *c);
/* Write what its socket takes now. */
void client_flush(struct client *c);
void head_fill(struct ctl_header *h, enum ctl_type type, uint32_t len);
/* An answer: fill reply_body(), at most CTL_LEN_MAX bytes, then send. */
void *reply_body(struct client *c);
void reply_send(struct client *c, enum ctl_type type, uint32_t len);
void reply_error(struct client *c, int err, const char *text);
/* The listing of areas is over, or nobody wants it any more. */
void listing_end(struct server *s);

/* ---- server_request.c ---- */

/* Answer a message, or begin a job for it. */
void ask(struct client *c, const struct ctl_header *h, const void *body);
/* Is it the client's turn to list areas? Takes a ticket if it is not. */
bool listing_turn(struct client *c);
/* What a tick does for a client: end its job, tell how far it is, go on reading. */
void look_after(struct client *c, bool tell);

#endif

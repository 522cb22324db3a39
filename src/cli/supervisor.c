/* SPDX-License-Identifier: MIT */
/*
 * The process beside a managed program that answers its NUMA calls which do not pass libc: it hands each to the engine
 * of the process that made it. A process without an engine is told ENOSYS, as by a kernel without NUMA.
 *
 *   main thread   waits for calls, and for the end of the last process below the filter, which is also its own
 *   workers       one for each call under way; started when needed
 *
 * It is nobody's child, in a session of its own, and holds nothing of the program's: no terminal, no descriptors, no
 * directory. If it dies the kernel says ENOSYS in its place.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINKS 64
#define LINKS_OF_ONE 8	/* of the 12 jobs that an engine does for all its clients */
#define WORKERS_MAX 256
#define WORKERS_IDLE 2
#define STACK_LEN (128UL << 10)
#define LOOK_MS 100	/* that often whether the caller is still there */
#define CONNECT_MS 1000
#define AGAIN_NS 2000000L
#define IDLE_MS 1000	/* that long a connection is kept */

/* Who made a call. Below a PID namespace of its own the process and its engine know each other by other numbers. */
struct caller {
	int pid;	/* here */
	int pid_there, tid_there;
};

/* A connection to an engine. */
struct link {
	int pid; /* 0: free */
	int pid_there;
	bool busy;
	struct ctl_client client;
	struct ctl_message msg;
};

/* What the kernel writes may be longer than our header knows. */
union notice {
	struct seccomp_notif req;
	char room[256];
};

union answer {
	struct seccomp_notif_resp resp;
	char room[256];
};

struct supervisor {
	int listener;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work;  /* a call waits for a worker */
	pthread_cond_t room;  /* a link, or the place of the call that waits, is free */
	bool waits;
	union notice next; /* valid while waits */
	int workers, idle;
	struct link link[LINKS];
};

static bool still_there(const struct supervisor *s, uint64_t id)
{
	return ioctl(s->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* ---------------------------------------------------------------- links ---- */

/* Under the lock: a link to pid; a free one; one that nobody uses just now; or NULL. */
static struct link *link_find(struct supervisor *s, int pid)
{
	struct link *found = NULL;
	int users = 0;

	for (int i = 0; i < LINKS; i++) {
		struct link *l = &s->link[i];

		users += l->busy && l->pid == pid;
		if (l->busy)
			continue;
		if (!found || l->pid == pid || (found->pid != pid && l->pid == 0))
			found = l;
	}
	return users < LINKS_OF_ONE ? found : NULL;
}

static void deadline_in(struct timespec *ts, long ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += ms % 1000 * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000;
	}
}

/* NULL: the caller is gone. */
static struct link *link_get(struct supervisor *s, const struct caller *who, uint64_t id)
{
	struct link *l;
	int pid = who->pid;

	pthread_mutex_lock(&s->lock);
	while (!(l = link_find(s, pid))) {
		struct timespec until;

		deadline_in(&until, LOOK_MS);
		pthread_cond_clockwait(&s->room, &s->lock, CLOCK_MONOTONIC, &until);
		if (!still_there(s, id))
			break;
	}
	if (l && l->pid != pid) {
		if (l->pid)
			ctl_close(&l->client);
		l->client.fd = -1;
		l->pid = pid;
		l->pid_there = who->pid_there;
	}
	if (l)
		l->busy = true;
	pthread_mutex_unlock(&s->lock);
	return l;
}

static void link_put(struct supervisor *s, struct link *l)
{
	pthread_mutex_lock(&s->lock);
	l->busy = false;
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
}

/* An engine has few places: none is held for nothing. */
static void links_rest(struct supervisor *s)
{
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < LINKS; i++)
		if (!s->link[i].busy && s->link[i].pid) {
			ctl_close(&s->link[i].client);
			s->link[i].pid = 0;
		}
	pthread_mutex_unlock(&s->lock);
}

/* -ENOENT: no engine there. */
static int link_try(struct link *l, const struct place *place)
{
	char path[CTL_PATH_MAX];
	int err = ctl_runtime_dir(path, sizeof(path), place->base, place->uid, false);

	if (!err)
		err = ctl_socket_path(path, sizeof(path), place->base, l->pid_there);
	if (!err)
		err = ctl_connect(&l->client, path, l->pid, CONNECT_MS, &l->msg);
	if (!err && l->client.hello.pid != (uint32_t)l->pid_there) {
		ctl_close(&l->client);
		err = -ENOENT;
	}
	return err == -ETIMEDOUT || err == -ECONNRESET || err == -EREMOTEIO || err == -EMFILE ? err : err ? -ENOENT : 0;
}

/* A process that has changed its user has its socket where it was before: maybe where ours would be. */
static int link_connect(struct link *l)
{
	struct place *places = calloc(PLACES_MAX, sizeof(*places));
	unsigned int uid = geteuid();
	int nr = 0, err = -ENOENT;

	if (!places)
		return -ENOMEM;
	if (process_owner(l->pid, &uid) == 0)
		nr = places_of_process(places, l->pid, uid);
	if (uid != geteuid() && nr <= PLACES_MAX / 2)
		nr += places_of_process(places + nr, l->pid, geteuid());
	for (int i = 0; i < nr && err == -ENOENT; i++)
		err = link_try(l, &places[i]);
	free(places);
	return err;
}

/* ---------------------------------------------------------------- one call ---- */

/* The engine's answer; -ETIMEDOUT: the caller is gone, and so should be the link, which ends the job. */
static int call_await(struct supervisor *s, struct link *l, uint64_t id)
{
	struct pollfd p = { .fd = l->client.fd, .events = POLLIN };

	for (;;) {
		int nr = poll(&p, 1, LOOK_MS);

		if (nr > 0)
			return ctl_read_message(&l->client, &l->msg);
		if (nr == 0 && !still_there(s, id))
			return -ETIMEDOUT;
	}
}

static int call_once(struct supervisor *s, struct link *l, const struct seccomp_notif *req, int tid)
{
	struct ctl_call call = { .tid = (uint32_t)tid, .nr = req->data.nr };
	struct iovec part = { .iov_base = &call, .iov_len = sizeof(call) };
	int err = l->client.fd < 0 ? link_connect(l) : 0;

	for (int i = 0; i < 6; i++)
		call.args[i] = (int64_t)req->data.args[i];
	if (!err)
		err = ctl_send(&l->client, CTL_CALL, &part, 1);
	if (!err)
		err = call_await(s, l, req->id);
	if (!err && l->msg.head.type != CTL_CALL_OK)
		err = -EPROTO;
	return err;
}

static void pause_briefly(void)
{
	const struct timespec ts = { .tv_nsec = AGAIN_NS };

	nanosleep(&ts, NULL);
}

/*
 * What the call returns, in *ret. -ENOENT: there is no engine; -ESRCH: the caller is gone. An engine that is crowded,
 * that has just replaced itself or that stands still is asked again for as long as the caller waits.
 */
static int call_ask(struct supervisor *s, struct link *l, const struct seccomp_notif *req, int tid, int64_t *ret)
{
	for (;;) {
		int err = call_once(s, l, req, tid);

		if (!err) {
			*ret = l->msg.called.ret;
			return 0;
		}
		if (err != -EREMOTEIO) {
			ctl_close(&l->client);
		} else if (l->client.error.err != -EAGAIN && l->client.error.err != -EPROTO) {
			*ret = l->client.error.err;
			return 0;
		}
		if (err == -ENOENT || err == -EPROTO || err == -EPROTONOSUPPORT ||
		    (err == -EREMOTEIO && l->client.error.err == -EPROTO))
			return -ENOENT;
		if (!still_there(s, req->id))
			return -ESRCH;
		pause_briefly();
	}
}

/* The last number of a line of /proc/PID/status, the innermost namespace's. 0: none. */
static int last_number(const char *text, const char *key)
{
	const char *line = strstr(text, key), *end = line ? strchr(line + 1, '\n') : NULL;

	while (end && end > line && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end ? atoi(end) : 0;
}

/* The process of a thread, as the kernel has it now. */
static bool caller_find(struct caller *who, int tid)
{
	char name[64], text[4096];

	snprintf(name, sizeof(name), "/proc/%d/status", tid);
	if (file_read(name, text, sizeof(text)) <= 0)
		return false;
	who->pid = last_number(text, "\nTgid:");
	who->pid_there = last_number(text, "\nNStgid:");
	who->tid_there = last_number(text, "\nNSpid:");
	return who->pid > 0;
}

static void call_serve(struct supervisor *s, const struct seccomp_notif *req)
{
	union answer answer = { .resp = { .id = req->id } };
	struct caller who;
	bool known = caller_find(&who, (int)req->pid);
	struct link *l = NULL;
	int64_t ret = 0;
	int err = -ENOENT;

	/* only now is it sure whose number that was */
	if (!still_there(s, req->id))
		return;
	if (known)
		l = link_get(s, &who, req->id);
	if (l) {
		err = call_ask(s, l, req, who.tid_there, &ret);
		link_put(s, l);
	}
	if (err == -ENOENT && req->data.nr == SYS_getcpu)
		answer.resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (err)
		answer.resp.error = -ENOSYS;
	else if (ret < 0 && ret > -4096)
		answer.resp.error = (int32_t)ret;
	else
		answer.resp.val = ret;
	ioctl(s->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

/* ---------------------------------------------------------------- threads ---- */

static void *work(void *arg)
{
	struct supervisor *s = arg;
	union notice notice;

	pthread_mutex_lock(&s->lock);
	while (s->idle <= WORKERS_IDLE) {
		if (!s->waits) {
			pthread_cond_wait(&s->work, &s->lock);
			continue;
		}
		notice = s->next;
		s->waits = false;
		s->idle--;
		pthread_cond_broadcast(&s->room);
		pthread_mutex_unlock(&s->lock);
		call_serve(s, &notice.req);
		pthread_mutex_lock(&s->lock);
		s->idle++;
	}
	s->idle--;
	s->workers--;
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static bool worker_start(struct supervisor *s)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_LEN);
	err = pthread_create(&thread, &attr, work, s);
	pthread_attr_destroy(&attr);
	s->workers += !err;
	s->idle += !err;
	return !err;
}

/* To a worker, or, if there can be none, answered here. */
static void call_assign(struct supervisor *s, const union notice *notice)
{
	bool here;

	pthread_mutex_lock(&s->lock);
	while (s->waits)
		pthread_cond_wait(&s->room, &s->lock);
	here = !s->idle && (s->workers == WORKERS_MAX || !worker_start(s)) && !s->workers;
	if (!here) {
		s->next = *notice;
		s->waits = true;
		pthread_cond_signal(&s->work);
	}
	pthread_mutex_unlock(&s->lock);
	if (here)
		call_serve(s, &notice->req);
}

/* Until nobody is left who could call. */
static void supervise(struct supervisor *s)
{
	struct pollfd p = { .fd = s->listener, .events = POLLIN };
	uint64_t served = 0;
	union notice notice;

	for (;;) {
		int nr = poll(&p, 1, served ? IDLE_MS : -1);

		if (nr > 0 && p.revents & POLLIN) {
			memset(&notice, 0, sizeof(notice));
			if (ioctl(s->listener, SECCOMP_IOCTL_NOTIF_RECV, &notice) == 0) {
				call_assign(s, &notice);
				served++;
			}
		} else if (nr > 0) {
			return;
		} else if (nr == 0) {
			links_rest(s);
			served = 0;
		}
	}
}

static bool sizes_fit(void)
{
	struct seccomp_notif_sizes sizes;

	return syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0 &&
	       sizes.seccomp_notif <= sizeof(union notice) && sizes.seccomp_notif_resp <= sizeof(union answer);
}

void supervisor_serve(int listener)
{
	struct supervisor *s = calloc(1, sizeof(*s));

	if (!s || !sizes_fit())
		return;
	s->listener = listener;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->room, NULL);
	supervise(s);
}

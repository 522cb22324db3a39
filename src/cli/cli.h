/* SPDX-License-Identifier: MIT */
/*
 * cli - the godwit command. One file and one struct cli_command a command; help, parsing and
 * dispatch read the same tables. Single-threaded, but for supervisor.c.
 */
#ifndef GODWIT_CLI_H
#define GODWIT_CLI_H

#include "control/control.h"

#include <cjson/cJSON.h>
#include <godwit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses, a contract (godwit(1), EXIT STATUS). */
enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,		/* usage or environment: nothing was done */
	CLI_LEFT = 2,		/* it ran, and pages stayed behind */
	CLI_NO_EXEC = 126,	/* run: CMD cannot be executed, as env(1) */
	CLI_NO_CMD = 127,	/* run: CMD not found */
};

/* ---------------------------------------------------------------- args.c ---- */

/* Every option of every command; one command's table holds those it takes. */
enum cli_opt {
	OPT_HELP,
	OPT_JSON,
	OPT_QUIET,
	OPT_NODES,
	OPT_NODE,
	OPT_MAX_STALL,
	OPT_NO_RECYCLE,
	OPT_MBIND_LAZY,
	OPT_CPUS_SLEEP,
	OPT_INLINE,
	OPT_RATE,
	OPT_DRY_RUN,
	OPT_VERIFY,
	OPT_BREAK_COW,
	OPT_LAZY,
	OPT_NEXT_TOUCH,
	OPT_LAZY_CANCEL,
	OPT_FALLBACK,
	OPT_BATCH,
	OPT_FORM,
	OPT_QUERY,
	OPT_NO_FOLLOW,
	OPT_FORMAT,
	OPT_FOLLOW,
	OPT_INTERVAL,
	OPT_HOT,
	OPT_COLD,
	OPT_LEAST,
	OPT_MAJORITY,
	OPT_TARGET,
	OPT_PAGES,
	OPT_STRICT,
	OPT_VIA,
	OPT_ALL,
	OPT_ATTACH,
};

struct cli_option {
	enum cli_opt id;
	char letter;		/* 0: only the long name */
	const char *name;
	const char *arg;	/* name of the value in the help; NULL: takes none */
	const char *help;
	uint64_t min, max;	/* max not 0: the value is a number in [min, max] */
};

struct cli_args;

struct cli_command {
	const char *name;
	const char *usage;	/* after the name */
	const char *summary;	/* one line, for the list of commands */
	const char *text;	/* paragraphs, for the command's own help */
	const struct cli_option *options;	/* ends with a NULL name; --json and --help are common to all */
	int min, max;		/* operands; max -1: any number, and the first one ends the options */
	int (*run)(const struct cli_args *args);
	const struct cli_command *const *words;	/* or: commands of their own, called "NAME WORD"; ends with NULL */
};

#define CLI_MANY INT32_MAX	/* operands */

struct cli_value {
	const struct cli_option *option;
	const char *text;	/* NULL for an option without value */
	uint64_t number;
};

/* A parsed command line. Strings point into argv. */
struct cli_args {
	const struct cli_command *cmd;
	struct cli_value *values;
	int nr_values;
	char **operands;	/* ends with NULL */
	int nr;
};

/* Parse what follows the command's name. Returns 0, or CLI_FAILED after saying why. */
int args_parse(struct cli_args *args, const struct cli_command *cmd, int argc, char **argv);
void args_end(struct cli_args *args);

/* The nth value of an option, from 0, or NULL. */
const struct cli_value *args_value(const struct cli_args *args, enum cli_opt id, int nth);
bool args_has(const struct cli_args *args, enum cli_opt id);
/* The last number given, or fallback. */
uint64_t args_number(const struct cli_args *args, enum cli_opt id, uint64_t fallback);
/* Help of one command, from its tables. */
void args_help(const struct cli_command *cmd, FILE *to);

/* ---------------------------------------------------------------- out.c ---- */

/* "godwit: ..." as one line on stderr. Returns CLI_FAILED. */
int say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same of something that is no error. */
void say_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "EBUSY"; numbers without a name become "errno 999". err may have either sign. */
#define ERRNO_TEXT 24
const char *errno_name(int err, char buf[ERRNO_TEXT]);

enum tone { TONE_PLAIN, TONE_GOOD, TONE_BAD, TONE_HEAD };

/* Escape sequences that begin and end a tone; empty unless stdout is a terminal that wants colours. */
const char *tone_begin(enum tone tone);
const char *tone_end(enum tone tone);

/* "512.0M". buf is returned. */
#define SIZE_TEXT 16
const char *size_text(uint64_t bytes, char buf[SIZE_TEXT]);

/* "0,2-3". buf is returned. */
#define NODES_TEXT 200
const char *nodes_text(gw_nodemask nodes, char buf[NODES_TEXT]);

/* A name from elsewhere with everything that is not printable replaced; buf is returned. */
const char *clean_text(const char *from, char *buf, size_t len);

/* JSON. 64-bit numbers are written in full; addresses are texts, "0x7f12a000". */
cJSON *json_object(void);
cJSON *json_add_object(cJSON *object, const char *key);
cJSON *json_add_array(cJSON *object, const char *key);
cJSON *json_append_object(cJSON *array);
void json_append_text(cJSON *array, const char *value);
void json_add_u64(cJSON *object, const char *key, uint64_t value);
void json_add_real(cJSON *object, const char *key, double value, int digits);
void json_add_us(cJSON *object, const char *key, uint64_t ns);
void json_add_bool(cJSON *object, const char *key, bool value);
void json_add_null(cJSON *object, const char *key);
void json_add_text(cJSON *object, const char *key, const char *value);
void json_add_addr(cJSON *object, const char *key, uint64_t value);
/* Print object as one line on to and free it. */
void json_print(cJSON *object, FILE *to);

/* ---------------------------------------------------------------- result.c ---- */

struct kernel_result;
struct kernel_target;
struct kernel_host;

/* What only the kernel's moves have to tell: via_result.c. */
struct kernel_report {
	const struct kernel_result *res;
	const struct kernel_host *host;
	const struct kernel_target *target;
	bool all;		/* --all */
};

struct migration {
	int pid;
	gw_nodemask from, to;
	const struct gw_migrate_options *opt;
	const struct gw_migrate_result *res;
	const struct kernel_report *kernel;	/* NULL: an engine did it */
};

void kernel_report_print(const struct kernel_report *k, const char *title);
void kernel_report_json(cJSON *object, const struct kernel_report *k);

void result_print(const struct migration *m);
void result_print_json(const struct migration *m);
/* The lines "stayed" alone: what and why. And what both have in JSON, without whose pages they were. */
void result_print_failed(const struct gw_migrate_result *res, const char *title);
void result_json(cJSON *object, const struct gw_migrate_result *res);
/* One line on the terminal at stderr, rewritten each time. */
void result_progress(const struct gw_migrate_result *res);
void result_progress_end(void);
/* What is left of the pages asked for. */
uint64_t result_pages_left(const struct gw_migrate_result *res);

/* ---------------------------------------------------------------- place.c ---- */

/* A directory under which sockets of a user's processes may be. */
struct place {
	unsigned int uid;
	char base[CTL_PATH_MAX];
};

#define PLACES_MAX 256

/* The places where the socket of process pid, which is uid's, may be. Returns how many, at most PLACES_MAX. */
int places_of_process(struct place *places, int pid, unsigned int uid);
/* The places of all processes that the caller may speak to: its own, and for root everybody's. */
int places_of_all(struct place *places);

/* Read a whole small file, at most len - 1 bytes; a NUL is put behind them. Returns the bytes or -errno. */
ssize_t file_read(const char *name, char *buf, size_t len);
/* The user that a process runs as. Returns 0, -ENOENT, or -EACCES: there is one that we may not see. */
int process_owner(int pid, unsigned int *uid);
/* The XDG_RUNTIME_DIR that the process was started with; false: none, or it may not be read. */
bool process_runtime_dir(int pid, char *buf, size_t len);
/* The name of a process: known, if the engine gave it, else the kernel's. buf is returned. */
const char *process_name(int pid, const char *known, char *buf, size_t len);
/* The name of a user, or the number. */
const char *user_name(unsigned int uid, char *buf, size_t len);

/* ---------------------------------------------------------------- session.c ---- */

#define SESSION_TIMEOUT_MS 10000

/* A conversation with the engine of one process. */
struct session {
	int pid;
	int patience_ms;		/* for the answer to a connection */
	bool mute;			/* session_error() only keeps err */
	int err;			/* what it said last */
	struct place place;		/* where the socket is */
	struct ctl_client client;
	struct ctl_message msg;		/* the last answer */
};

/* Connect to the engine of the process named by text. Returns 0, or CLI_FAILED after saying why. */
int session_open(struct session *s, const char *text);
/*
 * The same by number, where patience_ms and mute are the caller's. Without a word -ESRCH: there is no such process,
 * -ENOENT: it has no engine; else CLI_FAILED.
 */
int session_try(struct session *s, int pid);
void session_close(struct session *s);
/* Read a process id. 0, or CLI_FAILED after saying that it is none. */
int session_pid(const char *text, int *pid);
/* Say what a client function's error means. Returns CLI_FAILED. */
int session_error(struct session *s, int err);
/* Receive the next message, which must be of type, or of other if that is not 0. 0 or CLI_FAILED. */
int session_expect(struct session *s, enum ctl_type type, enum ctl_type other);
/* Node lists as in numactl; CLI_FAILED after saying what is wrong with them. */
int session_nodes(const struct session *s, const char *list, gw_nodemask *out);

/* ---------------------------------------------------------------- job.c ---- */

/*
 * Ask for a job, and follow it until its RESULT is in the session's message; SIGINT, SIGTERM and SIGHUP ask for an
 * early end. CLI_FAILED, or CLI_LEFT when it had begun, after saying why it broke off.
 */
int job_run(struct session *s, enum ctl_type type, const struct iovec *body, bool progress);

/* A descriptor for the signals that ask for an early end, which are blocked from here on; -errno. True: one came. */
int signals_open(void);
bool signals_taken(int fd);

/* ---------------------------------------------------------------- group.c ---- */

enum member_state {
	MEMBER_NEW,		/* not told yet */
	MEMBER_TOLD,		/* its engine has done what was asked */
	MEMBER_ENDED,		/* the process is gone */
	MEMBER_NO_ENGINE,	/* it has become a program without one */
	MEMBER_SILENT,		/* it has not, and why was said */
};

struct member {
	struct group_member who;
	enum member_state state;
	bool kernel;			/* it has no engine: a cgroup holds it */
	bool joined;			/* of these: it is in the group's */
	uint32_t nr_nodes;		/* of its own; valid after member_open(), as is command */
	gw_nodemask nodes;		/* what the group's list comes down to */
	struct gw_migrate_result res;	/* of MEMBER_TOLD */
	char command[64];
	uint64_t pages[GW_MAX_NODES];
	char origin[1024];		/* of .kernel: where it was before */
};

/* A group, or one to be; begins as GROUP_INIT. */
struct group {
	int dir, turn;			/* -1: none */
	struct place place;
	char name[CTL_GROUP_MAX];
	char list[GROUP_LIST_MAX];	/* its nodes as they were given */
	gw_nodemask host_nodes;		/* of its cgroup, after kernel_list() */
	struct member *members;		/* in the order of their pids after group_list() */
	int nr, room;
};

#define GROUP_INIT { .dir = -1, .turn = -1 }

/* What members are told. */
struct group_change {
	bool leave;		/* they are members no more */
	bool follow;
	bool progress;
	struct gw_migrate_options opt;
};

/* These return 0, or CLI_FAILED after saying why. */

/* Look at the groups of a place, as the user whose place it is. */
int group_open(struct group *g, const struct place *place, bool make);
void group_close(struct group *g);
/* Wait for the turn; .turn stays -1 when there is no group at all. */
int group_turn(struct group *g, bool make);
/* For a few changes of what is in the directory. */
int group_lock(struct group *g);
void group_unlock(struct group *g);
/* The group's list and those of its members that are not known yet. */
int group_list(struct group *g);
/* A process that may become a member. */
int group_add(struct group *g, int pid);

struct member *group_find(struct group *g, int pid);
bool member_lives(const struct member *m);
/* All groups in the order of their names, also those that end meanwhile. */
int groups_each(int dir, int (*fn)(int dir, const char *name, void *arg), void *arg);
/* Take out members that were killed, and groups that have lost their last one so. Lock held. */
void groups_prune(int dir);
/* The same of a place, if it is the caller's own and nobody holds the lock. */
void groups_prune_place(const struct place *place);

/*
 * Connect to a member's engine, waiting for that of a program that is just starting. MEMBER_NEW: done; else it was
 * said why not, unless it has ended, or patience_ms is less than SESSION_TIMEOUT_MS.
 */
enum member_state member_open(struct session *s, struct member *m, int patience_ms);
/* What a list comes down to for an open member. */
int member_nodes(struct member *m, const char *list);
/* Have the member do it; .state and .res say how that went. */
void member_tell(struct member *m, const struct group *g, const struct group_change *change);

/* ---------------------------------------------------------------- group_kernel.c ---- */

/* Members without an engine are in a cgroup of the kernel's. All do nothing where there are none. */

bool group_has_cgroup(int dir, const char *name);
/* Can it be done for all of them? */
int kernel_check(struct group *g, const struct group_change *change);
/* They are in the group's cgroup, which is made for the first; if one cannot, none is. Their .state and .res are set. */
int kernel_join(struct group *g, bool follow);
void kernel_undo_join(struct group *g);
/* What leaving needs is written down beside the group, which is there by now. */
int kernel_record(struct group *g);
/* Add those who are in the cgroup. */
int kernel_list(struct group *g);
/* Its cgroup gets the nodes of .list; the members' .state and .res say how that went. */
int kernel_set(struct group *g, bool follow);
/* Those of .members that are MEMBER_NEW go back where they came from; all: also who is forked meanwhile. */
void kernel_leave(struct group *g, bool all);
/* The cgroup goes with its last process. Lock held. */
void kernel_prune(int dir, const char *name);
/* Where its pages are, on nodes of the host. */
void kernel_ask(struct member *m, gw_nodemask nodes);

/* ---------------------------------------------------------------- need.c ---- */

/* One thing that migration needs, or wants, of the machine. */
struct need {
	uint32_t bit;		/* enum gw_need */
	const char *key;	/* in JSON */
	const char *title;
	const char *lack;	/* what is wrong when it is missing */
	const char *mend;
};

/* The nth need, or NULL. */
const struct need *need_get(int nth);
/* The first one that is missing and without which nothing works, or NULL. */
const struct need *need_missing(const struct gw_check_result *res);
/* Probe; 0, or CLI_FAILED after saying in one line what is missing and the mend. */
int need_all(void);

/* ---------------------------------------------------------------- program.c ---- */

/* Why a program would not load the engine. */
enum program_kind {
	PROGRAM_DYNAMIC,	/* it would */
	PROGRAM_STATIC,
	PROGRAM_32BIT,
	PROGRAM_FOREIGN,	/* another architecture's */
	PROGRAM_PRIVILEGED,	/* set-uid, set-gid, or with file capabilities */
};

/* Look at what execvp(name) would run; what cannot be found or read is PROGRAM_DYNAMIC: exec will say. */
enum program_kind program_examine(const char *name);
/* "is statically linked" */
const char *program_reason(enum program_kind kind);

/* The file of the engine to preload. Returns 0, or CLI_FAILED after saying where it was looked for. */
int program_engine(char *buf, size_t len);

/* ---------------------------------------------------------------- specs.c ---- */

#define SPEC_FORM                                                                    \
	"ram[,size=1G][,host=0][,name=fast][,distance=20][,cpus=0-3][,weight=1], "   \
	"zram[,size=1G][,alg=lz4|zstd][,dedup=1] or file,path=/x[,size=1G]"
#define SPECS_MAX 16384

/*
 * The nodes that --nodes or --node ask for, as "SPEC;SPEC", into SPECS_MAX bytes. Returns how many, or -1 after saying
 * what is wrong with them.
 */
int specs_collect(const struct cli_args *args, char *buf);

/* ---------------------------------------------------------------- cli_attach.c ---- */

struct attach_result;
/*
 * Attach to a process, which has no engine, with these nodes ("SPEC;SPEC"), and the engine's own bound (0: its default)
 * and flags. Returns 0, or CLI_FAILED after saying why.
 */
int attach_to(int pid, const char *nodes, uint32_t stall_us_max, uint32_t flags, struct attach_result *res);

/* ---------------------------------------------------------------- inline.c, filter.c, supervisor.c ---- */

/* What becomes of NUMA calls that do not pass libc. */
enum inline_mode {
	INLINE_AUTO,	/* they are caught if that costs no rights */
	INLINE_ALWAYS,	/* also if it does: no_new_privs */
	INLINE_NEVER,	/* they reach the kernel */
};

/*
 * From here on such calls of this process, and of all that it becomes and starts, go to the engine of the process that
 * makes them. Returns 0, or CLI_FAILED after saying why.
 */
int inline_begin(const struct cli_args *args, enum inline_mode mode);

/* May this process install a filter as it is? */
bool filter_permitted(void);
/* Give up, for ever and for all below, the rights that a program could gain. 0 or -errno. */
int filter_renounce(void);
/* Install the filter in this process. Returns its listener; -EBUSY: there is one already; or what seccomp(2) says. */
int filter_install(void);

/* Answer what the listener reports, until nobody is left below the filter. */
void supervisor_serve(int listener);

/* ---------------------------------------------------------------- commands ---- */

extern const struct cli_command cli_check, cli_run, cli_ps, cli_maps, cli_move, cli_migrate, cli_stat;
extern const struct cli_command cli_attach, cli_detach;
extern const struct cli_command cli_group, cli_group_show;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Linux's NUMA system calls on the engine's nodes: what they are given, in the order in which the kernel looks at it
 * (mm/mempolicy.c, mm/migrate.c), and what they give back. The work is done by jobs, in room mm.
 *
 * Memory of the program is read and written through the kernel, so that a bad pointer is -EFAULT and a page in flight
 * is waited for by nobody who holds a lock.
 */
#include "agent/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#define KERNEL_NODES 1024UL	/* MAX_NUMNODES of the kernels that distributions ship */
#define WORD 64UL
#define CAP_NICE 23
#define CAP_VERSION 0x20080522U

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

/* ---- the program's memory ---- */

static bool copy(uint64_t there, void *here, size_t len, long call)
{
	struct iovec far = { (void *)there, len }, near = { here, len };
	long done = sys6(call, sys0(SYS_getpid), SYS_ARG(&near), 1, SYS_ARG(&far), 1, 0);

	return done == (long)len;
}

bool read_user(void *here, uint64_t there, size_t len)
{
	return copy(there, here, len, SYS_process_vm_readv);
}

bool write_user(uint64_t there, const void *here, size_t len)
{
	return copy(there, (void *)here, len, SYS_process_vm_writev);
}

/* ---- masks ---- */

/* nr bits of a mask from its word at there on; bits beyond are not looked at. */
static int read_bits(uint64_t *out, uint64_t there, uint64_t nr)
{
	if (!read_user(out, there, (nr + WORD - 1) / WORD * 8))
		return -EFAULT;
	if (nr % WORD)
		out[nr / WORD] &= (1ULL << nr % WORD) - 1;
	return 0;
}

int get_nodes(struct nodes_given *out, uint64_t there, uint64_t nr)
{
	uint64_t bits[KERNEL_NODES / WORD] = { 0 }, word;
	int err;

	*out = (struct nodes_given){ 0 };
	nr--;
	if (!nr || !there)
		return 0;
	if (nr > GW_PAGE_SIZE * 8)
		return -EINVAL;
	while (nr > KERNEL_NODES) { /* beyond what there can be nothing may be set */
		if (!read_user(&word, there + (nr - 1) / WORD * 8, 8))
			return -EFAULT;
		if (word)
			return -EINVAL;
		nr -= min_u64(WORD, nr - KERNEL_NODES);
	}
	err = read_bits(bits, there, nr);
	out->nodes = bits[0];
	for (uint64_t i = 1; i < KERNEL_NODES / WORD; i++)
		out->beyond = out->beyond || bits[i];
	return err;
}

static int put_nodes(uint64_t there, uint64_t nr, uint64_t nodes)
{
	static const uint64_t none[GW_PAGE_SIZE / 8];
	uint64_t len = (nr - 1 + WORD - 1) / WORD * 8;

	if (len > GW_PAGE_SIZE)
		return -EINVAL;
	if (len > 8 && !write_user(there + 8, none, len - 8))
		return -EFAULT;
	return !len || write_user(there, &nodes, 8) ? 0 : -EFAULT;
}

/* ---- who asks ---- */

bool may_move_all(uint32_t tid)
{
	struct {
		uint32_t version;
		int pid;
	} head = { CAP_VERSION, (int)tid };
	struct {
		uint32_t effective, permitted, inheritable;
	} caps[2] = { { 0 } };

	return sys2(SYS_capget, &head, caps) >= 0 && caps[0].effective >> CAP_NICE & 1;
}

static int cpu_now(uint32_t tid)
{
	unsigned int cpu = 0;

	if (tid != (uint32_t)sys0(SYS_gettid))
		return thread_cpu(tid);
	return sys_numa(SYS_getcpu, &cpu, 0, 0, 0, 0, 0) < 0 ? 0 : (int)cpu;
}

/* ---- jobs ---- */

static long run(struct gw_engine *e, const struct gw_job *ask)
{
	struct gw_job *job;
	int err;

	while (!(job = job_take(e, NULL)))
		sleep_ns(1000000);
	job->run = ask->run;
	job->tid = ask->tid;
	job->mbind = ask->mbind;
	job->from = ask->from;
	job->to = ask->to;
	job->flag = ask->flag;
	job->rq.unshare_all = ask->flag; /* MPOL_MF_MOVE_ALL: a page that others share too */
	job->rq.private_only = !ask->flag;
	job->rq.lazy = ask->mbind.flags & MPOL_MF_LAZY ? LAZY_TO : LAZY_NOT;
	err = job_start(job);
	return err ? err : job_end_wait(job, NULL);
}

static int run_mbind(struct gw_job *job)
{
	job->left = do_mbind(&job->e->mm, &job->mbind, &job->rq);
	return 0;
}

static int run_home_node(struct gw_job *job)
{
	job->left = do_home_node(&job->e->mm, job->mbind.start, job->mbind.end, job->mbind.pol.home);
	return 0;
}

static struct task has_now(struct gw_job *job)
{
	struct task has;

	lock_acquire(&job->e->mm.lock);
	has = *task_of(&job->e->mm, job->tid);
	lock_release(&job->e->mm.lock);
	return has;
}

static int run_set_policy(struct gw_job *job)
{
	struct task has = has_now(job);

	has.pol = job->mbind.pol;
	touch_watch(job->e, job->tid, &has);
	job->left = do_set_policy(&job->e->mm, job->tid, &job->mbind.pol);
	return 0;
}

static int run_set_home(struct gw_job *job)
{
	struct task has = has_now(job);

	has.home = job->mbind.pol.home;
	touch_watch(job->e, job->tid, &has);
	job->left = do_set_home(&job->e->mm, job->tid, job->mbind.pol.home);
	return 0;
}

static int run_allow(struct gw_job *job)
{
	job->left = do_allow_nodes(&job->e->mm, job->to, job->flag, &job->rq);
	if (job->left)
		return (int)job->left;
	job->left = (long)job->progress.failed_pages;
	return 0;
}

/* ---- set_mempolicy, mbind, set_mempolicy_home_node ---- */

static int make_policy(struct gw_engine *e, uint32_t mode, uint32_t flags, const struct nodes_given *given,
		       struct mempolicy *pol)
{
	int err = mpol_new(pol, mode, flags, given);

	return err ? err : mpol_set_nodemask(pol, given->nodes, gw_nodes_allowed(e));
}

static long call_set_mempolicy(struct gw_engine *e, uint32_t tid, const long a[6])
{
	struct gw_job ask = { .run = run_set_policy, .tid = tid };
	struct nodes_given given;
	uint32_t mode, flags;
	int err = mpol_mode((uint32_t)a[0], &mode, &flags);

	if (!err)
		err = get_nodes(&given, (uint64_t)a[1], (uint64_t)a[2]);
	if (!err)
		err = make_policy(e, mode, flags, &given, &ask.mbind.pol);
	if (!err)
		err = (int)run(e, &ask);
	if (!err && tid == (uint32_t)sys0(SYS_gettid)) /* only a thread itself can tell the host's kernel */
		host_task(&e->mm, &ask.mbind.pol);
	return err;
}

/* Linux has the flag and refuses it: here it is for who has asked for more than Linux. It says how to move. */
static bool lazy_allowed(const struct gw_engine *e, uint32_t how)
{
	return !(how & MPOL_MF_LAZY) ||
	       (e->opt.flags & GW_MBIND_LAZY && how & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL));
}

static long call_mbind(struct gw_engine *e, uint32_t tid, const long a[6])
{
	struct gw_job ask = { .run = run_mbind, .mbind = { .start = (uint64_t)a[0], .tid = tid } };
	uint64_t len = ALIGN_UP((uint64_t)a[1], GW_PAGE_SIZE);
	struct nodes_given given;
	uint32_t mode, flags, how = (uint32_t)a[5];
	int err = mpol_mode((uint32_t)a[2], &mode, &flags);

	if (!err)
		err = get_nodes(&given, (uint64_t)a[3], (uint64_t)a[4]);
	if (err)
		return err;
	if (how & ~(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL | MPOL_MF_LAZY) || !lazy_allowed(e, how))
		return -EINVAL;
	if (how & MPOL_MF_MOVE_ALL && !may_move_all(tid))
		return -EPERM;
	if (ask.mbind.start % GW_PAGE_SIZE)
		return -EINVAL;
	ask.mbind.end = ask.mbind.start + len;
	ask.mbind.flags = mode == MPOL_DEFAULT ? how & ~MPOL_MF_STRICT : how;
	ask.mbind.nodes = given.nodes;
	if (ask.mbind.end < ask.mbind.start)
		return -EINVAL;
	if (!len)
		return 0;
	err = make_policy(e, mode, flags, &given, &ask.mbind.pol);
	ask.mbind.cpu = cpu_now(tid);
	ask.flag = how & MPOL_MF_MOVE_ALL;
	return err ? err : run(e, &ask);
}

static long call_home_node(struct gw_engine *e, uint32_t tid, const long a[6])
{
	struct gw_job ask = { .run = run_home_node, .tid = tid, .mbind.start = (uint64_t)a[0] };
	uint64_t len = ALIGN_UP((uint64_t)a[1], GW_PAGE_SIZE);

	if (ask.mbind.start % GW_PAGE_SIZE || a[3] || (uint64_t)a[2] >= (uint64_t)gw_node_count(e))
		return -EINVAL;
	ask.mbind.end = ask.mbind.start + len;
	ask.mbind.pol.home = (int8_t)a[2];
	if (ask.mbind.end < ask.mbind.start)
		return -EINVAL;
	return len ? run(e, &ask) : 0;
}

/* ---- get_mempolicy ---- */

#define F_NODE 1UL
#define F_ADDR 2UL
#define F_MEMS_ALLOWED 4UL

/* The node of the page at addr, which is touched for it. */
static int node_at(struct gw_engine *e, uint64_t addr)
{
	char byte;
	int node;

	if (!read_user(&byte, addr, 1))
		return -EFAULT;
	node = numa_query(e, addr);
	return node == -EFAULT ? 0 : node; /* the zero page */
}

/* The policy that holds at an address. */
static int range_policy(struct gw_engine *e, uint64_t addr, struct mempolicy *pol)
{
	struct mm *mm = &e->mm;
	struct range_policy *r;
	uint64_t signals;
	int err;

	*pol = (struct mempolicy){ .home = -1 };
	signals = program_acquire(mm);
	err = mm->mmu->ops->marked(mm->mmu, addr);
	ranges_check(mm, ALIGN_DOWN(addr, GW_PAGE_SIZE), ALIGN_DOWN(addr, GW_PAGE_SIZE) + GW_PAGE_SIZE);
	r = range_at(mm, addr, NULL);
	if (r)
		*pol = r->pol;
	program_release(mm, signals);
	return err < 0 ? err : 0;
}

static void task_policy(struct gw_engine *e, uint32_t tid, struct mempolicy *pol)
{
	uint64_t signals;

	signals = program_acquire(&e->mm);
	*pol = task_of(&e->mm, tid)->pol;
	program_release(&e->mm, signals);
}

static int policy_word(struct gw_engine *e, uint64_t addr, uint64_t flags, const struct mempolicy *pol)
{
	if (!(flags & F_NODE))
		return pol->mode | pol->flags;
	if (flags & F_ADDR)
		return node_at(e, addr);
	return mpol_interleaves(pol) ? __builtin_ctzll(pol->nodes) : -EINVAL;
}

static int ask_policy(struct gw_engine *e, uint32_t tid, uint64_t addr, uint64_t flags, uint64_t *nodes)
{
	struct mempolicy pol;
	int err = 0;

	if (flags & ~(F_NODE | F_ADDR | F_MEMS_ALLOWED))
		return -EINVAL;
	if (flags & F_MEMS_ALLOWED) {
		*nodes = gw_nodes_allowed(e);
		return flags & (F_NODE | F_ADDR) ? -EINVAL : 0;
	}
	if (!(flags & F_ADDR) && addr)
		return -EINVAL;
	if (flags & F_ADDR)
		err = range_policy(e, addr, &pol);
	else
		task_policy(e, tid, &pol);
	if (err)
		return err;
	*nodes = mpol_shown_nodes(&pol);
	return policy_word(e, addr, flags, &pol);
}

static long call_get_mempolicy(struct gw_engine *e, uint32_t tid, const long a[6])
{
	uint64_t nodes = 0;
	int word;

	if (a[1] && (uint64_t)a[2] < (uint64_t)gw_node_count(e))
		return -EINVAL;
	word = ask_policy(e, tid, (uint64_t)a[3], (uint64_t)a[4], &nodes);
	if (word < 0)
		return word;
	if (a[0] && !write_user((uint64_t)a[0], &word, sizeof(word)))
		return -EFAULT;
	return a[1] ? put_nodes((uint64_t)a[1], (uint64_t)a[2], nodes) : 0;
}

/* ---- getcpu ---- */

static long call_getcpu(struct gw_engine *e, uint32_t tid, const long a[6])
{
	int cpu = cpu_now(tid), node = gw_node_of_cpu(e, cpu);
	bool good = !a[0] || write_user((uint64_t)a[0], &cpu, sizeof(cpu));

	node = node < 0 ? 0 : node;
	return (!a[1] || write_user((uint64_t)a[1], &node, sizeof(node))) && good ? 0 : -EFAULT;
}

/* ---- the nodes that are allowed ---- */

gw_nodemask gw_nodes_allowed(struct gw_engine *e)
{
	return place_allowed(&e->mm);
}

int gw_job_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		 void (*kick)(void *arg), void *arg, struct gw_job **out)
{
	struct gw_job *job;

	if (!known_nodes(e, nodes))
		return -EINVAL;
	job = job_take(e, opt);
	if (!job)
		return -EAGAIN;
	job->run = run_allow;
	job->to = nodes;
	job->flag = follow;
	job->kick = kick;
	job->kick_arg = arg;
	*out = job;
	return job_start(job);
}

long gw_nodes_allow(struct gw_engine *e, gw_nodemask nodes, int follow, const struct gw_migrate_options *opt,
		    struct gw_migrate_result *res)
{
	struct gw_job *job;
	int err;

	if (res && res->size < sizeof(*res))
		return -EINVAL;
	err = gw_job_allow(e, nodes, follow, opt, NULL, NULL, &job);
	return err ? err : job_end_wait(job, res);
}

int gw_nodes_inherit(struct gw_engine *e, gw_nodemask nodes)
{
	uint64_t signals;

	if (!known_nodes(e, nodes))
		return -EINVAL;
	signals = program_acquire(&e->mm);
	e->mm.place.allowed = nodes;
	program_release(&e->mm, signals);
	return 0;
}

/* ---- threads ---- */

static int home_of(struct gw_engine *e, uint32_t tid)
{
	uint64_t cpus[GW_MAX_CPUS / 64] = { 0 };

	return sys3(SYS_sched_getaffinity, tid, sizeof(cpus), cpus) < 0 ? -1 : place_home(&e->mm, cpus, GW_MAX_CPUS);
}

void gw_thread_moved(struct gw_engine *e, uint32_t tid)
{
	struct gw_job ask = { .run = run_set_home, .tid = tid ? tid : (uint32_t)sys0(SYS_gettid) };
	uint64_t signals;
	bool same;

	if (e->nodes.nr < 2 || sys3(SYS_tgkill, e->pid, ask.tid, 0) < 0)
		return;
	ask.mbind.pol.home = (int8_t)home_of(e, ask.tid);
	signals = program_acquire(&e->mm);
	same = task_of(&e->mm, ask.tid)->home == ask.mbind.pol.home;
	program_release(&e->mm, signals);
	if (!same)
		run(e, &ask);
}

void gw_thread_inherit(struct gw_engine *e, uint32_t maker)
{
	uint32_t tid = (uint32_t)sys0(SYS_gettid);
	uint64_t signals;
	struct task has;

	if (!__atomic_load_n(&e->mm.place.nr_tasks, __ATOMIC_RELAXED))
		return;
	has = (struct task){ .home = home_of(e, tid) };
	signals = program_acquire(&e->mm);
	has.pol = task_of(&e->mm, maker)->pol;
	if (task_differs(&e->mm, tid, &has))
		task_inherit(&e->mm, tid, &has);
	program_release(&e->mm, signals);
}

/* ---- execve ---- */

static void put_hex(char **at, uint64_t v, int digits)
{
	while (digits--)
		*(*at)++ = "0123456789abcdef"[v >> digits * 4 & 15];
	*(*at)++ = ' ';
}

void gw_policy_save(struct gw_engine *e, char text[GW_POLICY_SAVED + 1])
{
	struct mempolicy pol;
	char *at = text;

	task_policy(e, (uint32_t)sys0(SYS_gettid), &pol);
	put_hex(&at, pol.mode, 2);
	put_hex(&at, pol.flags, 4);
	put_hex(&at, pol.nodes, 16);
	put_hex(&at, pol.given, 16);
	put_hex(&at, (uint8_t)pol.home, 2);
	while (at < text + GW_POLICY_SAVED)
		*at++ = ' ';
	*at = '\0';
}

int gw_policy_load(struct gw_engine *e, const char *text)
{
	struct mempolicy pol = { .home = -1 };
	uint64_t v[5] = { 0 }, signals;
	int n = 0;

	text += strspn(text, " ");
	while (n < 5 && *text && str_u64(&text, 16, &v[n])) {
		n++;
		text += strspn(text, " ");
	}
	if (*text || (n && (n < 5 || v[0] >= MPOL_MAX)))
		return -EINVAL;
	if (n)
		pol = (struct mempolicy){ .mode = (uint8_t)v[0],
					  .flags = (uint16_t)(v[1] & MPOL_MODE_FLAGS),
					  .nodes = v[2] & gw_nodes_allowed(e),
					  .given = v[3],
					  .home = (int8_t)v[4] };
	if (pol.mode != MPOL_DEFAULT && pol.mode != MPOL_LOCAL && !pol.nodes)
		return -EINVAL;
	signals = program_acquire(&e->mm);
	e->mm.place.initial = (struct task){ .home = home_of(e, e->pid), .pol = pol };
	program_release(&e->mm, signals);
	host_task(&e->mm, &pol);
	return 0;
}

/* ---- all of them ---- */

long gw_numa_call(struct gw_engine *e, uint32_t tid, long nr, const long args[6])
{
	tid = tid ? tid : (uint32_t)sys0(SYS_gettid);
	switch (nr) {
	case SYS_set_mempolicy:
		return call_set_mempolicy(e, tid, args);
	case SYS_get_mempolicy:
		return call_get_mempolicy(e, tid, args);
	case SYS_mbind:
		return call_mbind(e, tid, args);
	case SYS_set_mempolicy_home_node:
		return call_home_node(e, tid, args);
	case SYS_move_pages:
		return call_move_pages(e, tid, args);
	case SYS_migrate_pages:
		return call_migrate_pages(e, tid, args);
	case SYS_getcpu:
		return call_getcpu(e, tid, args);
	default:
		return -ENOSYS;
	}
}

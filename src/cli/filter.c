/* SPDX-License-Identifier: MIT */
/*
 * The seccomp filter that catches NUMA calls which do not pass libc. Calls of other numbers are allowed whatever their
 * arguments, so the kernel does not even run the filter for them: it keeps a bitmap of such numbers.
 *
 * docs/numa-inline.md says why a filter, and what it costs.
 */
#define _GNU_SOURCE 1
#include "cli.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPS_MAX 64
#define X32_BIT 0x40000000U
#define NR_HOME_NODE 450 /* set_mempolicy_home_node: one number on all architectures */
#define NR(list) (sizeof(list) / sizeof((list)[0]))

static const uint32_t native[] = { SYS_set_mempolicy,  SYS_get_mempolicy, SYS_mbind,  NR_HOME_NODE,
				   SYS_migrate_pages, SYS_move_pages,    SYS_getcpu };
/* Programs of these never have an engine. getcpu() is not refused: a kernel without NUMA has it. */
static const uint32_t x32[] = { X32_BIT + 237, X32_BIT + 238, X32_BIT + 239, X32_BIT + 256, X32_BIT + 533,
				X32_BIT + NR_HOME_NODE };
static const uint32_t i386[] = { 274, 275, 276, 294, 317, NR_HOME_NODE };

struct code {
	struct sock_filter op[OPS_MAX];
	unsigned short nr;
};

static void emit(struct code *c, uint16_t op, uint32_t k)
{
	c->op[c->nr++] = (struct sock_filter){ .code = op, .k = k };
}

/* Go on behind the next skip operations if what was loaded relates to k. */
static void emit_skip(struct code *c, uint16_t relation, uint32_t k, size_t skip)
{
	c->op[c->nr++] = (struct sock_filter){ .code = BPF_JMP | relation | BPF_K, .jt = (uint8_t)skip, .k = k };
}

/* Allow what is none of the numbers; go on here with what is. */
static void emit_only(struct code *c, const uint32_t *number, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		emit_skip(c, BPF_JEQ, number[i], nr - i);
	emit(c, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
}

static void emit_refusal(struct code *c, const uint32_t *number, size_t nr)
{
	emit_only(c, number, nr);
	emit(c, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
}

#define REFUSAL_OPS(list) (NR(list) + 2)

static void code_fill(struct code *c)
{
	c->nr = 0;
	emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	emit_skip(c, BPF_JEQ, AUDIT_ARCH_X86_64, 1 + REFUSAL_OPS(i386));
	emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	emit_refusal(c, i386, NR(i386));
	emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	emit_skip(c, BPF_JGE, X32_BIT, NR(native) + 5);
	emit_only(c, native, NR(native));
	emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4);
	emit_skip(c, BPF_JEQ, CTL_NUMA_REAL, 1);
	emit(c, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	emit(c, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	emit_refusal(c, x32, NR(x32));
}

static bool may_administrate(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 }, { 0 } };

	return syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1U << CAP_SYS_ADMIN;
}

bool filter_permitted(void)
{
	return may_administrate() || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

int filter_renounce(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

int filter_install(void)
{
	struct code code;
	struct sock_fprog prog = { .filter = code.op };
	long fd;

	code_fill(&code);
	prog.len = code.nr;
	/* A call that is being answered is not interrupted, but for a signal that kills. */
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
			     SECCOMP_FILTER_FLAG_SPEC_ALLOW,
		     &prog);
	return fd < 0 ? -errno : (int)fd;
}

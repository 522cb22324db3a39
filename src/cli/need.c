/* SPDX-License-Identifier: MIT */
/*
 * What migration needs of a machine, in words.
 */
#include "cli.h"

#define MEND_KERNEL "boot Linux 6.8 or newer"
#define MEND_RIGHTS                                                                                        \
	"run as root or with CAP_SYS_PTRACE, or get rights on /dev/userfaultfd (chmod, or its group), or " \
	"'sysctl vm.unprivileged_userfaultfd=1'"

#define MEND_TOUCH                                                                                       \
	"run as root or with CAP_PERFMON, or 'sysctl kernel.perf_event_paranoid=1'; in a container also a " \
	"seccomp profile that allows perf_event_open"

/* What no right can mend comes before the rights. */
static const struct need needs[] = {
	{ GW_NEED_ARCH, "arch", "x86-64", "this is not an x86-64 machine", "use one" },
	{ GW_NEED_UFFD, "uffd", "userfaultfd", "userfaultfd is not in this kernel, or a sandbox forbids it",
	  "a kernel with CONFIG_USERFAULTFD, or a container whose seccomp profile allows it" },
	{ GW_NEED_MOVE, "move", "page move", "this kernel cannot move pages (Linux 6.8 can)", MEND_KERNEL },
	{ GW_NEED_SCAN, "scan", "page scan", "this kernel cannot scan page tables (Linux 6.7 can)",
	  MEND_KERNEL },
	{ GW_NEED_RIGHTS, "rights", "full mode", "no rights to full-mode userfaultfd", MEND_RIGHTS },
	{ GW_WANT_EVENT_FORK, "event_fork", "fork events", "forks by raw clone() are not covered",
	  "a kernel and rights that give fork events (CAP_SYS_PTRACE)" },
	{ GW_WANT_POISON, "poison", "poison", "a lost page would stay absent and not raise SIGBUS",
	  "boot Linux 6.6 or newer" },
	{ GW_WANT_TOUCH, "touch", "first touches",
	  "first touches by threads pinned to different nodes are charged by guess", MEND_TOUCH },
};

#define NR_NEEDS ((int)(sizeof(needs) / sizeof(needs[0])))

const struct need *need_get(int nth)
{
	return nth < NR_NEEDS ? &needs[nth] : NULL;
}

const struct need *need_missing(const struct gw_check_result *res)
{
	for (int i = 0; i < NR_NEEDS; i++)
		if (needs[i].bit & GW_NEED_MASK & res->missing)
			return &needs[i];
	return NULL;
}

int need_all(void)
{
	struct gw_check_result res = { .size = sizeof(res) };
	const struct need *need;
	char kernel[sizeof(res.kernel)];
	int err = gw_check(&res);
	char name[ERRNO_TEXT];

	if (err)
		return say_error("cannot probe this machine: %s", errno_name(err, name));
	need = need_missing(&res);
	if (!need)
		return 0;
	return say_error("%s, this is Linux %s: %s", need->lack,
			 clean_text(res.kernel, kernel, sizeof(kernel)), need->mend);
}

/* SPDX-License-Identifier: MIT */
/* What this kernel and these rights allow, found out by trying. */
#include "mmu/mmu.h"

#include "base/base.h"
#include "mmu/touch.h"
#include "mmu/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define NEEDED                                                                                                  \
	(UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_MOVE |  \
	 UFFD_FEATURE_THREAD_ID)

static bool sysctl_allows(void)
{
	char c = '0';
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC, 0);

	if (fd >= 0) {
		sys3(SYS_read, fd, &c, 1);
		sys1(SYS_close, fd);
	}
	return c == '1';
}

/* Full mode: faults of the kernel on our pages wait too. User-mode-only would turn them into EFAULT. */
static long open_full(uint32_t *method)
{
	long dev, fd = sys1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	*method = sysctl_allows() ? 3 : 1;
	if (fd != -EPERM)
		return fd;
	dev = sys4(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (dev < 0)
		return -EPERM;
	fd = sys3(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	sys1(SYS_close, dev);
	*method = 2;
	return fd;
}

/* Features can be named only once per descriptor: one to ask, one to use. */
static long open_with(uint64_t features, uint32_t *method, struct uffdio_api *api)
{
	long ret, fd = open_full(method);

	if (fd < 0)
		return fd;
	*api = (struct uffdio_api){ .api = UFFD_API, .features = features };
	ret = sys3(SYS_ioctl, fd, UFFDIO_API, api);
	if (ret >= 0)
		return fd;
	sys1(SYS_close, fd);
	return ret;
}

int uffd_open(uint32_t *method, uint64_t *features)
{
	struct uffdio_api api;
	long fd = open_with(0, method, &api);

	*features = 0;
	if (fd < 0)
		return (int)fd;
	sys1(SYS_close, fd);
	*features = api.features;
	if ((api.features & NEEDED) != NEEDED)
		return -ENOSYS;
	/* fork events want CAP_SYS_PTRACE */
	fd = open_with(NEEDED | UFFD_FEATURE_EVENT_FORK, method, &api);
	if (fd == -EPERM) {
		*features &= ~(uint64_t)UFFD_FEATURE_EVENT_FORK;
		fd = open_with(NEEDED, method, &api);
	}
	return (int)fd;
}

int uffd_donated(const struct mmu_donor *donor, uint64_t *features)
{
	return donor->give(NEEDED | UFFD_FEATURE_EVENT_FORK, features, donor->arg);
}

static bool has_scan(void)
{
	struct pm_scan_arg arg = { .size = sizeof(arg),
				   .category_anyof_mask = PAGE_IS_PRESENT,
				   .return_mask = PAGE_IS_PRESENT };
	struct page_region region;
	long ret, fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	arg.start = ALIGN_DOWN((uint64_t)&arg, MMU_PAGE);
	arg.end = arg.start + MMU_PAGE;
	arg.vec = (uint64_t)&region;
	arg.vec_len = 1;
	ret = sys3(SYS_ioctl, fd, PAGEMAP_SCAN, &arg);
	sys1(SYS_close, fd);
	return ret >= 0;
}

static uint32_t pretended(const char *words)
{
	static const struct {
		const char *word;
		uint32_t bits;
	} known[] = {
		{ "no-uffd", MMU_NEED_UFFD },
		{ "no-rights", MMU_NEED_RIGHTS },
		{ "no-move", MMU_NEED_MOVE },
		{ "no-scan", MMU_NEED_SCAN },
		{ "no-touch", MMU_WANT_TOUCH },
	};
	uint32_t bits = 0;

	for (size_t i = 0; words && i < ARRAY_SIZE(known); i++)
		if (strstr(words, known[i].word))
			bits |= known[i].bits;
	return bits;
}

void mmu_probe(struct mmu_probe *out, const char *pretend)
{
	int fd = uffd_open(&out->method, &out->features);

	out->missing = pretended(pretend);
	if (fd == -ENOSYS && !out->features)
		out->missing |= MMU_NEED_UFFD;
	else if (fd == -ENOSYS || fd == -EINVAL)
		out->missing |= MMU_NEED_MOVE;
	else if (fd < 0)
		out->missing |= MMU_NEED_RIGHTS;
	else
		sys1(SYS_close, fd);
	if (fd < 0)
		out->method = 0;
	if (!has_scan())
		out->missing |= MMU_NEED_SCAN;
	if (fd >= 0 && !(out->features & UFFD_FEATURE_EVENT_FORK))
		out->missing |= MMU_WANT_EVENT_FORK;
	if (fd >= 0 && !(out->features & UFFD_FEATURE_POISON))
		out->missing |= MMU_WANT_POISON;
	if (touch_probe())
		out->missing |= MMU_WANT_TOUCH;
}

/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
/*
 * Who may open /dev/userfaultfd has the kernel make a descriptor of the process that asks through it, whatever that
 * process's own rights; so it is lent ours. Fork events want CAP_SYS_PTRACE of who agrees on them, so that is us, too.
 */
#include "attach/donor.h"

#include "attach/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIDFD_OF_THREAD O_EXCL /* PIDFD_THREAD, Linux 6.9 */

/* The engine's threads have a table of descriptors of their own. */
static int thread_fd(int pid, const struct attached *a)
{
	int thread = (int)syscall(SYS_pidfd_open, a->donor_tid, PIDFD_OF_THREAD), fd = -EPERM;

	if (thread < 0)
		return -errno;
	/* the process says which thread it is: it may be no other's */
	if (process_thread_state(pid, (int)a->donor_tid)) {
		fd = (int)syscall(SYS_pidfd_getfd, thread, a->donor_fd, 0);
		fd = fd < 0 ? -errno : fd;
	}
	close(thread);
	return fd;
}

static int send_fd(int socket, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = "" };
	struct iovec iov = { "", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int))
	};

	control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
					 .cmsg_level = SOL_SOCKET,
					 .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static int send_device(int pid, const struct attached *a)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), socket, err;

	if (dev < 0)
		return -errno;
	socket = thread_fd(pid, a);
	err = socket < 0 ? socket : send_fd(socket, dev);
	if (socket >= 0)
		close(socket);
	close(dev);
	return err;
}

static int agree(int pid, const struct attached *a, uint64_t *have)
{
	struct uffdio_api api = { .api = UFFD_API, .features = a->donor_features };
	int fd = thread_fd(pid, a), err;

	if (fd < 0)
		return fd;
	err = ioctl(fd, UFFDIO_API, &api) != 0 ? -errno : 0;
	*have = api.features;
	close(fd);
	return err;
}

static void tell(int pid, uint64_t block, uint32_t step)
{
	process_write(pid, block + offsetof(struct attached, donor), &step, sizeof(step));
}

void donor_answer(int pid, uint64_t block, const struct attached *a, uint32_t *answered)
{
	uint64_t have = 0;

	if (a->donor != *answered + 1 || a->donor > DONOR_OPEN)
		return;
	*answered = a->donor;
	if (a->donor == DONOR_WANTED && send_device(pid, a)) {
		tell(pid, block, DONOR_REFUSED); /* what is sent is answer enough */
	} else if (a->donor == DONOR_OPEN) {
		int err = agree(pid, a, &have);

		process_write(pid, block + offsetof(struct attached, donor_features), &have, sizeof(have));
		tell(pid, block, err ? DONOR_REFUSED : DONOR_DONE);
	}
}

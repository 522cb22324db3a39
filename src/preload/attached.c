/* SPDX-License-Identifier: MIT */
/*
 * The engine in a program that was running before it: the command put this library there (control/attached.h), and
 * the dynamic linker does not know of it.
 *
 * Calls of libc's reach us through the slots by which the program's objects call them, and each goes by a stub here
 * that counts who is inside: when the slots are libc's again and nobody is, the library can go. So nothing that may
 * block for long is taken this way, nothing leaves an address of ours behind, and a thread begins in the program's
 * function with nothing of ours below it.
 *
 * The threads that start and end the engine are the image's own, with the block's stack: they touch no state of libc.
 */
#include "control/attached.h"

#include "base/base.h"
#include "preload/preload.h"

#include <godwit.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define GW_DATA __attribute__((section("gw_data")))

static struct attached *attached GW_DATA = NULL;
/* For the stubs. */
uint32_t *attached_inside GW_DATA = NULL;
void *attached_ioctl_next GW_DATA = NULL;
void *attached_syscall_next GW_DATA = NULL;

bool preload_attached(void)
{
	return attached != NULL;
}

void *attached_next(const char *name)
{
	const struct attached_next *next = (const void *)attached->next;

	for (uint32_t i = 0; i < attached->nr_next; i++)
		if (!strcmp(next[i].name, name))
			return (void *)next[i].addr;
	return NULL;
}

/* ---- fork ---- */

/*
 * Unlike a handler of libc's that was there from the beginning this comes before all of the program's own, which may
 * wait for threads that call the engine: so it keeps no lock, and the child has no engine.
 */
pid_t attached_fork(void);
pid_t attached_fork(void)
{
	pid_t (*next)(void) = attached_next("fork");
	struct gw_engine *e = gw_self();
	pid_t pid;

	if (!e)
		return next();
	gw_hold(e);
	pid = next();
	if (pid)
		gw_release(e);
	else
		gw_abandon(e);
	return pid;
}

/* ---- stubs ---- */

#define INSIDE_IN "	mov attached_inside(%rip), %r11\n	lock incl (%r11)\n"
#define INSIDE_OUT "	mov attached_inside(%rip), %r11\n	lock decl (%r11)\n"
#define STUB_BEGIN(name) ".globl " name "\n.hidden " name "\n.type " name ", @function\n" name ":\n"
#define STUB_END(name) "	.size " name ", .-" name "\n"

/* A call whose arguments are all in registers. */
#define STUB(name, fn)                                        \
	void stub_##name(void);                               \
	__asm__(".text\n" STUB_BEGIN("stub_" #name) INSIDE_IN \
		"	sub $8, %rsp\n	call " #fn "\n	add $8, %rsp\n" INSIDE_OUT "	ret\n" STUB_END("stub_" #name))

STUB(fork, attached_fork);
STUB(pthread_create, pthread_create);
STUB(thrd_create, thrd_create);
STUB(setuid, setuid);
STUB(setgid, setgid);
STUB(seteuid, seteuid);
STUB(setegid, setegid);
STUB(setreuid, setreuid);
STUB(setregid, setregid);
STUB(setresuid, setresuid);
STUB(setresgid, setresgid);
STUB(mmap, mmap);
STUB(munmap, munmap);
STUB(madvise, madvise);
STUB(mremap, mremap);
STUB(mlockall, mlockall);
STUB(vmsplice, vmsplice);
STUB(setsockopt, setsockopt);
STUB(set_mempolicy, set_mempolicy);
STUB(get_mempolicy, get_mempolicy);
STUB(mbind, mbind);
STUB(set_mempolicy_home_node, set_mempolicy_home_node);
STUB(move_pages, move_pages);
STUB(migrate_pages, migrate_pages);
STUB(getcpu, getcpu);
STUB(sched_setaffinity, sched_setaffinity);
STUB(pthread_setaffinity_np, pthread_setaffinity_np);
STUB(thread_leave, preload_thread_leave);

/* What ends a process takes its socket along, and is libc's then: a vfork()ed child ends here, too. */
void *attached_exit_next GW_DATA = NULL;
void *attached__exit_next GW_DATA = NULL;

#define STUB_LAST(name, next)                                                                                        \
	void stub_##name(void);                                                                                      \
	__asm__(".text\n" STUB_BEGIN("stub_" #name) INSIDE_IN                                                        \
		"	push %rdi\n	call gw_control_unlink\n	pop %rdi\n" INSIDE_OUT "	jmp *" #next \
		"(%rip)\n" STUB_END("stub_" #name))

STUB_LAST(exit, attached_exit_next);
STUB_LAST(_exit, attached__exit_next);

/* Requests to a descriptor that serves faults (type 0xAA); all others are libc's, however long they take. */
void stub_ioctl(void);
__asm__(".text\n" STUB_BEGIN("stub_ioctl")
	"	mov %esi, %r11d\n"
	"	shr $8, %r11d\n"
	"	cmp $0xAA, %r11b\n"
	"	je 1f\n"
	"	jmp *attached_ioctl_next(%rip)\n"
	"1:\n" INSIDE_IN
	"	sub $8, %rsp\n"
	"	call ioctl\n"
	"	add $8, %rsp\n" INSIDE_OUT
	"	ret\n" STUB_END("stub_ioctl"));

/* Those system calls that syscall() here knows; a thread may wait in another for ever. */
#define KNOWN(nr) "	cmp $" nr ", %rdi\n	je 1f\n"
void stub_syscall(void);
/* mmap munmap mremap madvise sched_setaffinity; mbind set_ get_mempolicy migrate_ move_pages; getcpu ...home_node */
__asm__(".text\n" STUB_BEGIN("stub_syscall")
	KNOWN("9") KNOWN("11") KNOWN("25") KNOWN("28") KNOWN("203")
	KNOWN("237") KNOWN("238") KNOWN("239") KNOWN("256") KNOWN("279")
	KNOWN("309") KNOWN("450")
	"	jmp *attached_syscall_next(%rip)\n"
	"1:\n" INSIDE_IN
	"	push 8(%rsp)\n" /* the seventh argument */
	"	call syscall\n"
	"	add $8, %rsp\n" INSIDE_OUT
	"	ret\n" STUB_END("stub_syscall"));

#define HOOK(name) { #name, (void *)stub_##name }
static const struct attached_hook hooks[] __attribute__((section(ATTACHED_SECTION), used)) = {
	HOOK(fork), HOOK(exit), HOOK(_exit), { "_Exit", (void *)stub__exit }, HOOK(pthread_create), HOOK(thrd_create),
	HOOK(setuid), HOOK(setgid), HOOK(seteuid), HOOK(setegid),
	HOOK(setreuid), HOOK(setregid), HOOK(setresuid), HOOK(setresgid),
	HOOK(mmap), { "mmap64", (void *)stub_mmap }, HOOK(munmap), HOOK(madvise), HOOK(mremap), HOOK(mlockall),
	HOOK(vmsplice), HOOK(setsockopt), HOOK(ioctl), HOOK(syscall),
	HOOK(set_mempolicy), HOOK(get_mempolicy), HOOK(mbind), HOOK(set_mempolicy_home_node),
	HOOK(move_pages), HOOK(migrate_pages), HOOK(getcpu),
	HOOK(sched_setaffinity), HOOK(pthread_setaffinity_np),
};

/* ---- slots ---- */

/* What is there; false also if nothing is mapped there any more: the object has been unloaded. */
static bool slot_holds(const struct attached_slot *s, uint64_t wanted)
{
	uint64_t value = 0;
	struct iovec local = { &value, sizeof(value) }, remote = { (void *)s->at, sizeof(value) };

	return sys6(SYS_process_vm_readv, sys0(SYS_getpid), SYS_ARG(&local), 1, SYS_ARG(&remote), 1, 0) ==
		       (long)sizeof(value) &&
	       value == wanted;
}

/* Other threads call through it meanwhile. One that the dynamic linker has just filled is left to libc. */
static int slot_write(const struct attached_slot *s, bool on)
{
	uint64_t page = ALIGN_DOWN(s->at, 4096), *at = (uint64_t *)s->at, from = on ? s->was : s->now;
	long err = 0;

	if (!slot_holds(s, from))
		return 0;
	if (s->readonly)
		err = sys3(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE);
	if (err < 0)
		return (int)err;
	__atomic_compare_exchange_n(at, &from, on ? s->now : s->was, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	if (s->readonly)
		sys3(SYS_mprotect, page, 4096, PROT_READ);
	return 0;
}

static int slots_write(bool on)
{
	const struct attached_slot *slot = (const void *)attached->slots;
	int err = 0;

	for (uint32_t i = 0; i < attached->nr_slots && (!on || !err); i++) {
		int now = slot_write(&slot[i], on);

		err = err ? err : now;
	}
	return err;
}

/* ---- the rights to handle faults, from the command: see enum attached_donor ---- */

#define DONOR_PATIENCE_NS 5000000000ULL
#define DONOR_LOOK_NS 100000ULL
#define NEW_FAULTS 0xAA00 /* USERFAULTFD_IOC_NEW */

static void donor_tell(enum attached_donor step, long fd)
{
	attached->donor_fd = (int32_t)fd;
	attached->donor_tid = (uint32_t)sys0(SYS_gettid);
	__atomic_store_n(&attached->donor, step, __ATOMIC_RELEASE);
}

static int donor_wait(enum attached_donor step, long fd)
{
	uint64_t until = clock_ns() + DONOR_PATIENCE_NS;

	donor_tell(step, fd);
	while (__atomic_load_n(&attached->donor, __ATOMIC_ACQUIRE) == (uint32_t)step && clock_ns() < until)
		sleep_ns(DONOR_LOOK_NS);
	return __atomic_load_n(&attached->donor, __ATOMIC_ACQUIRE) == DONOR_DONE ? 0 : -EPERM;
}

/* The one descriptor that a message brings, or -errno. */
static long receive_fd(long socket)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = "" };
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	long got = sys3(SYS_recvmsg, socket, &msg, MSG_CMSG_CLOEXEC);
	int fd = -EPERM;

	if (got >= 0 && msg.msg_controllen >= CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return got < 0 ? got : fd;
}

static int faults_donated(uint64_t features, uint64_t *have, void *arg)
{
	struct timeval patience = { .tv_sec = (long)(DONOR_PATIENCE_NS / 1000000000ULL) };
	int pair[2];
	long dev, fd, err;

	(void)arg;
	if (sys4(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -EPERM;
	sys5(SYS_setsockopt, pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	donor_tell(DONOR_WANTED, pair[1]);
	dev = receive_fd(pair[0]);
	sys1(SYS_close, pair[0]);
	sys1(SYS_close, pair[1]);
	if (dev < 0)
		return -EPERM;
	fd = sys3(SYS_ioctl, dev, NEW_FAULTS, O_CLOEXEC | O_NONBLOCK);
	sys1(SYS_close, dev);
	if (fd < 0)
		return (int)fd;
	attached->donor_features = features;
	err = donor_wait(DONOR_OPEN, fd);
	*have = attached->donor_features;
	if (!err)
		return (int)fd;
	sys1(SYS_close, fd);
	return (int)err;
}

/* ---- start ---- */

static int engine_start(struct gw_engine **e)
{
	struct gw_options opt = { .size = sizeof(opt),
				  .flags = attached->flags | GW_OWN_FORKS,
				  .stall_us_max = attached->stall_us_max,
				  .faults = faults_donated,
				  .own = (void *)attached->image,
				  .own_len = attached->image_len };
	int err = gw_start(e, &opt);

	if (err)
		return err;
	err = preload_add_nodes(*e, attached->nodes);
	if (!err)
		err = gw_control_open_at(*e, attached->runtime_dir);
	if (err)
		gw_stop(*e);
	return err;
}

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* The rest of what a dynamic linker does, and a name in /proc/PID/maps; a kernel that has none is no worse. */
static int settle(const struct attached *a)
{
	long err = 0;

	for (uint32_t i = 0; i < a->nr_ranges && err >= 0; i++)
		err = sys3(SYS_mprotect, a->range[i].start, a->range[i].len, a->range[i].prot);
	sys5(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, a->image, a->image_len, "godwit");
	return err < 0 ? (int)err : 0;
}

/* ---- end ---- */

#define LOOK_NS 200000ULL

static bool nobody_inside(const struct attached *a)
{
	return !__atomic_load_n(&a->inside, __ATOMIC_SEQ_CST) && !preload_threads_starting();
}

static bool wait_for_nobody(const struct attached *a)
{
	uint64_t until = clock_ns() + a->patience_ms * 1000000ULL;

	while (!nobody_inside(a) && clock_ns() < until)
		sleep_ns(LOOK_NS);
	return nobody_inside(a);
}

/*
 * A thread may have jumped here before its slot was libc's again and not be counted yet; but it is before it looks for
 * the engine. So when nobody is inside, and after that nobody finds an engine, those who are counted then are the last.
 */
static int end(struct attached *a)
{
	struct gw_engine *e = gw_self();

	if (!attached || a->pid != (uint32_t)sys0(SYS_getpid)) {
		/* it never began, or began in the parent, whose threads are counted and are not here */
		if (attached)
			slots_write(false);
		a->running = 0;
		return 0;
	}
	slots_write(false);
	if (!wait_for_nobody(a)) {
		slots_write(true);
		return -EBUSY;
	}
	if (e)
		gw_retire(e);
	while (!nobody_inside(a))
		sleep_ns(LOOK_NS);
	preload_threads_end();
	if (e)
		gw_stop(e);
	a->running = 0;
	return 0;
}

static int begin(struct attached *a)
{
	struct gw_engine *e;
	int err;

	err = settle(a);
	if (err)
		return err;
	attached = a;
	attached_inside = &a->inside;
	attached_ioctl_next = attached_next("ioctl");
	attached_syscall_next = attached_next("syscall");
	attached_exit_next = attached_next("exit");
	attached__exit_next = attached_next("_exit");
	a->pid = (uint32_t)sys0(SYS_getpid);
	err = preload_threads_begin((void (*)(void *))(void *)stub_thread_leave);
	if (!err)
		err = engine_start(&e);
	if (!err) {
		err = slots_write(true);
		a->running = 1;
		if (err)
			end(a);
	} else {
		preload_threads_end();
	}
	return err;
}

/* ---- the image's own thread ---- */

int attached_main(struct attached *a);
int attached_main(struct attached *a)
{
	a->error = a->order == ATTACHED_START ? begin(a) : end(a);
	return 0;
}

/* The library's entry point: on the block's stack, which the system call that made the thread has returned to. */
__asm__(".text\n" STUB_BEGIN("attached_entry") "	xor %ebp, %ebp\n"
					       "	mov %r9, %rdi\n"
					       "	and $-16, %rsp\n"
					       "	call attached_main\n"
					       "	xor %edi, %edi\n"
					       "	mov $60, %eax\n"
					       "	syscall\n"
					       "	hlt\n" STUB_END("attached_entry"));

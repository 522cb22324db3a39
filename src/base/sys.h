/* SPDX-License-Identifier: MIT */
/* Raw system calls: below every interposer, without errno. x86-64. */
#ifndef GODWIT_BASE_SYS_H
#define GODWIT_BASE_SYS_H

#include <stdint.h>
#include <sys/syscall.h>

#if !defined(__x86_64__)
#error "godwit runs on x86-64 only so far"
#endif

#ifdef GODWIT_SIM
/* The simulator's kernel: tests/sim/kernel.c. */
long sys6(long nr, long a, long b, long c, long d, long e, long f);
#else
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#endif

#define SYS_ARG(x) ((long)(x))
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys4(nr, a, b, c, d) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys5(nr, a, b, c, d, e) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)
#define sys_mmap(addr, len, prot, flags, fd, off) \
	sys6(SYS_mmap, SYS_ARG(addr), SYS_ARG(len), SYS_ARG(prot), SYS_ARG(flags), SYS_ARG(fd), SYS_ARG(off))

/*
 * A NUMA call that is to reach the kernel itself, from under the filter of `godwit run --inline`, which sends such
 * calls to this engine else. The mark is in the upper half of the last register, where the kernel does not look: calls
 * with six arguments (mbind, move_pages) have 32-bit flags there, the others nothing.
 */
#define SYS_NUMA_REAL 0x676f6477U
#define sys_numa(nr, a, b, c, d, e, flags)                                                  \
	sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e),                \
	     (long)((uint64_t)SYS_NUMA_REAL << 32 | (uint32_t)(flags)))

/* What getdents64 fills its buffer with. */
struct sys_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

#endif

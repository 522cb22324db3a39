/* SPDX-License-Identifier: MIT */
/* What attaching knows of a process before it touches it; the process is this one. */
#include "unit.h"

#include "attach/image.h"
#include "attach/seccomp.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- filters ---- */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define RETURN(k) BPF_STMT(BPF_RET | BPF_K, k)
#define RUN(code, nr, ...) seccomp_run(code, sizeof(code) / sizeof((code)[0]), nr, (uint64_t[6]){ __VA_ARGS__ })

static void a_filter_tells_calls_apart(void **state)
{
	const struct sock_filter code[] = { LOAD(nr), IF_EQUAL(SYS_openat, 0, 1), RETURN(SECCOMP_RET_KILL_PROCESS),
					    RETURN(SECCOMP_RET_ALLOW) };

	(void)state;
	assert_int_equal(RUN(code, SYS_openat, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(RUN(code, SYS_read, 0), SECCOMP_RET_ALLOW);
}

static void a_filter_sees_architecture_and_arguments(void **state)
{
	const struct sock_filter code[] = {
		LOAD(arch),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(args[2]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_EXEC),
		IF_EQUAL(PROT_EXEC, 0, 1),
		RETURN(SECCOMP_RET_ERRNO | EACCES),
		RETURN(SECCOMP_RET_ALLOW),
	};

	(void)state;
	assert_int_equal(RUN(code, SYS_mprotect, 0, 4096, PROT_READ | PROT_EXEC), SECCOMP_RET_ERRNO | EACCES);
	assert_int_equal(RUN(code, SYS_mprotect, 0, 4096, PROT_READ), SECCOMP_RET_ALLOW);
}

static void a_filter_computes(void **state)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 6),		BPF_STMT(BPF_ST, 3),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),	BPF_STMT(BPF_LD | BPF_IMM, 7),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0), BPF_STMT(BPF_LDX | BPF_MEM, 3),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0), BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 1),
		BPF_STMT(BPF_JMP | BPF_JA, 1),		RETURN(0),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};

	(void)state;
	assert_int_equal(RUN(code, 0, 0), (6 * 7 - 6) / 2);
}

static void a_filter_without_an_end_kills(void **state)
{
	const struct sock_filter code[] = { LOAD(nr) };

	(void)state;
	assert_int_equal(RUN(code, 0, 0), SECCOMP_RET_KILL_PROCESS);
}

/* ---- objects ---- */

static void symbols_are_found_where_the_linker_has_them(void **state)
{
	/* what no sanitizer stands before */
	static const char *const names[] = { "getpid", "getppid", "sched_yield", "gnu_get_libc_version",
					     "__rseq_offset" };
	struct objects o;

	(void)state;
	assert_int_equal(objects_load(&o, getpid()), 0);
	assert_true(o.nr >= 3);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(objects_symbol(&o, names[i]), (uint64_t)dlsym(RTLD_DEFAULT, names[i]));
	assert_int_equal(objects_symbol(&o, "there_is_no_such_function"), 0);
	objects_free(&o);
}

static void a_function_chosen_at_run_time_is_not_guessed(void **state)
{
	struct objects o;

	(void)state;
	assert_int_equal(objects_load(&o, getpid()), 0);
	assert_non_null(dlsym(RTLD_DEFAULT, "rawmemchr"));
	assert_int_equal(objects_symbol(&o, "rawmemchr"), 0);
	objects_free(&o);
}

static void no_process_has_no_objects(void **state)
{
	struct objects o;

	(void)state;
	assert_true(objects_load(&o, 4194304) < 0);
}

/* ---- the image ---- */

static void what_is_no_library_is_refused(void **state)
{
	struct image im;

	(void)state;
	assert_int_equal(image_load(&im, "/etc/passwd"), -ENOEXEC);
	assert_int_equal(image_load(&im, "/nonexistent"), -ENOENT);
	assert_int_equal(image_load(&im, "/proc/self/exe"), -ENOEXEC); /* it has no hooks */
}

/* ---- the rest ---- */

static void mappings_are_found_by_address(void **state)
{
	static int here;
	struct maps maps;

	(void)state;
	assert_int_equal(maps_load(&maps, getpid()), 0);
	assert_non_null(maps_at(&maps, (uint64_t)&here));
	assert_true(maps_at(&maps, (uint64_t)&here)->writable);
	assert_null(maps_at(&maps, 4096));
	assert_null(maps_at(&maps, UINT64_MAX));
	maps_free(&maps);
	assert_true(maps_load(&maps, 4194304) < 0);
}

static void libc_has_the_instructions_that_calls_are_made_with(void **state)
{
	static const uint8_t call[] = { 0x0f, 0x05, 0xc3 };
	struct gadgets g;
	struct maps maps;

	(void)state;
	assert_int_equal(maps_load(&maps, getpid()), 0);
	assert_int_equal(gadgets_find(&maps, getpid(), &g), 0);
	assert_memory_equal((const void *)g.call, call, sizeof(call));
	assert_int_equal(*(const uint8_t *)(g.sigreturn + 3), SYS_rt_sigreturn);
	maps_free(&maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_tells_calls_apart),
		cmocka_unit_test(a_filter_sees_architecture_and_arguments),
		cmocka_unit_test(a_filter_computes),
		cmocka_unit_test(a_filter_without_an_end_kills),
		cmocka_unit_test(symbols_are_found_where_the_linker_has_them),
		cmocka_unit_test(a_function_chosen_at_run_time_is_not_guessed),
		cmocka_unit_test(no_process_has_no_objects),
		cmocka_unit_test(what_is_no_library_is_refused),
		cmocka_unit_test(mappings_are_found_by_address),
		cmocka_unit_test(libc_has_the_instructions_that_calls_are_made_with),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

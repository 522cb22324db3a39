# SPDX-License-Identifier: MIT
# godwit - GNU Make. `make help` names the targets. Everything built goes to build/.
#
#   make CC=clang          another compiler (what was built with other flags is built again)
#   make WERROR=           warnings stay warnings
#   make V=1               show the commands
#   make test T=fork       only the tests whose path has "fork" in it; test-vm too
#   make test IN_VM=1      what a host does whose kernel is too old: in a machine of its own; demo too
#   make torture TORTURE_MINUTES=10 T=redis; FAR=zram, file or both: with half their memory, and that behind it
#   make fuzz SECONDS=5    so long for each target; T=maps: only targets with "maps" in their name

VERSION := $(shell sed -n 's/^\#define GW_VERSION "\(.*\)"/\1/p' include/godwit.h)
SONAME := libgodwit.so.0

B := build
PREFIX := /usr/local
DESTDIR :=
BINDIR = $(PREFIX)/bin
LIBDIR = $(PREFIX)/lib
INCDIR = $(PREFIX)/include
MANDIR = $(PREFIX)/share/man
PCDIR = $(LIBDIR)/pkgconfig

ifeq ($(origin CC),default)
CC := gcc
endif
OBJCOPY := objcopy
CFLAGS ?= -O2 -g
WERROR := -Werror
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wundef $(WERROR)
BASE_FLAGS := -std=gnu11 $(CFLAGS) $(WARN) -Iinclude -pthread
# The map file says what the library exports; -fno-semantic-interposition lets the compiler count on it.
# The engine's threads have no libc TLS: no stack protector, no lazy TLS, and no lazy binding (-z now).
ENGINE_FLAGS := -fPIC -fno-semantic-interposition -fno-stack-protector -ftls-model=initial-exec -Isrc -D_GNU_SOURCE
SO_LDFLAGS := -shared -Wl,--version-script=src/libgodwit.map -Wl,-z,defs -Wl,-z,now -Wl,-soname,$(SONAME) -Wl,-e,attached_entry -pthread

MAKEFLAGS += --no-print-directory
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' $(1) $@)
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

# ---- sources, by room ----

ENGINE_ROOMS := base mmu node policy far mm agent topology preload
SIM_SRC := $(wildcard src/mmu/mmu_sim*.c)
# What of the policies only the command has.
CLI_POLICY := src/policy/profile.c
ENGINE_SRC := $(filter-out $(SIM_SRC) $(CLI_POLICY),$(wildcard $(ENGINE_ROOMS:%=src/%/*.c))) \
	      $(wildcard src/control/*.c)
# What of the topology the command has too.
TOPOLOGY_PURE := $(addprefix src/topology/,area.c text.c sweep.c) src/base/str.c
CONTROL_SRC := $(wildcard src/control/*.c)
# Other processes' pages are the command's business: nothing of it is in the libraries.
KERNEL_SRC := $(wildcard src/kernel/*.c)
KERNEL_NEEDS := $(addprefix src/,base/reader.c base/hist.c base/thread.c policy/steer.c policy/nodelist.c)
CLI_SRC := $(sort $(wildcard src/cli/*.c src/attach/*.c src/control/client*.c src/control/path*.c src/control/group*.c) \
	   $(TOPOLOGY_PURE) src/base/clock.c $(CLI_POLICY) $(KERNEL_SRC) $(KERNEL_NEEDS))
# LZ4 and zstd for far/codec.c, as one object.
CODECS := $(B)/obj/codecs.o
# What unit tests may reach: everything but the interposers, and the simulated world.
# Sanitizers know where an object ends when libc's functions touch it, and not when those of base/mem.c do.
INNER_SRC := $(filter-out src/preload/% $(if $(SANITIZED),src/base/mem.c),$(sort $(ENGINE_SRC) $(CONTROL_SRC) $(SIM_SRC) \
	     $(CLI_POLICY) $(KERNEL_SRC) $(wildcard src/cli/*.c src/attach/*.c)))

UNIT_SRC := $(wildcard tests/unit/test_*.c)
CONTRACT_SRC := $(wildcard tests/contract/test_*.c)
SUITE_SRC := $(filter-out $(CONTRACT_SRC),$(wildcard tests/contract/*.c))
LIVE_SRC := $(wildcard tests/live/*.c)
HOLD_SRC := $(wildcard tests/hold/*.c)
# Programs of one file each, but for two: calls is all of tests/numa that is not another program, model takes the machine.
NUMA_SRC := $(filter-out %/calls.c %/model.c,$(wildcard tests/numa/*.c))
PROG_SRC := $(wildcard tests/cli/*.c tests/progs/*.c tests/numa/calls.c tests/numa/model.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
# One that measures an inner part is linked as the tests of inner parts are.
INNER_BENCH_SRC := bench/touch.c bench/far.c bench/fault.c
# Loads of bench/tier.sh: one program that knows nothing of godwit.
TIER_SRC := bench/tier.c $(wildcard bench/tier/*.c)
BENCH_SRC := $(filter-out $(INNER_BENCH_SRC) $(TIER_SRC),$(wildcard bench/*.c))
EXAMPLE_SRC := $(wildcard examples/*.c)
MAN_SRC := $(wildcard man/*.scd)
# The simulator: rooms as they are, those under test calling in at every function; some of base is the simulator's own.
SIM_TESTED := $(wildcard src/mm/*.c src/node/*.c) src/base/lock.c
SIM_REST := $(filter-out $(CLI_POLICY),$(wildcard src/policy/*.c)) $(addprefix src/base/,bugs.c region.c hist.c str.c reader.c) $(SIM_SRC) $(wildcard tests/sim/*.c)

prog = $(addprefix $(B)/tests/,$(notdir $(basename $(1))))
INNER_TESTS := $(call prog,$(UNIT_SRC) $(CONTRACT_SRC))
LIVE_TESTS := $(call prog,$(LIVE_SRC))
TEST_PROGS := $(call prog,$(PROG_SRC))
BENCHES := $(patsubst %.c,$(B)/%,$(BENCH_SRC) $(INNER_BENCH_SRC))
EXAMPLES := $(patsubst %.c,$(B)/%,$(EXAMPLE_SRC))
SIM := $(B)/sim/sim
# Programs that are to find a bug, in a build that can put it back.
BUGS := $(B)/bugs/tests/test_fork
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(FUZZ_SRC))
MANS := $(patsubst man/%.scd,$(B)/%,$(MAN_SRC))

ifneq ($(words $(INNER_TESTS) $(LIVE_TESTS) $(TEST_PROGS)),$(words $(sort $(INNER_TESTS) $(LIVE_TESTS) $(TEST_PROGS))))
$(error two test programs have one name)
endif

LIBS := $(if $(strip $(ENGINE_SRC)),$(B)/libgodwit.so $(B)/$(SONAME) $(B)/libgodwit.a)
CLI := $(if $(wildcard src/cli/*.c),$(B)/godwit)

ALL_OBJ := $(call obj,$(sort $(ENGINE_SRC) $(CONTROL_SRC) $(CLI_SRC) $(INNER_SRC) $(UNIT_SRC) $(CONTRACT_SRC) \
	   $(SUITE_SRC) $(LIVE_SRC) $(HOLD_SRC) $(PROG_SRC) $(NUMA_SRC) $(FUZZ_SRC) tests/fuzz/replay.c $(BENCH_SRC) \
	   $(INNER_BENCH_SRC) $(TIER_SRC) $(EXAMPLE_SRC)))
sim_obj = $(patsubst %.c,$(B)/sim/%.o,$(1))
SIM_OBJ := $(call sim_obj,$(SIM_TESTED) $(SIM_REST))

# ---- what people type ----

.PHONY: all test-programs inner-programs bench-programs test test-vm sim torture sanitize fuzz bench bench-vm bench-tier demo lint man \
	install uninstall clean help FORCE

all: $(LIBS) $(CLI) $(EXAMPLES)	## build the libraries, the godwit command and the examples (the default)

test-programs: all inner-programs $(LIVE_TESTS) $(TEST_PROGS) $(BUGS)

inner-programs: $(INNER_TESTS) $(FUZZERS) $(SIM)

bench-programs: all $(BENCHES) $(B)/tests/attachee

test:	## install what is missing (as root), build, run every test
	@scripts/setup test
	@$(MAKE) $(JOBS) test-programs
	@if ! BUILD=$(B) tests/vm/run --needed; then BUILD=$(B) tests/run $(T); \
		else scripts/setup vm && BUILD=$(B) tests/vm/run --instead $(T); fi

test-vm:	## the tests that want a machine with NUMA nodes and Linux 6.12: in QEMU, emulated where there is no KVM
	@scripts/setup vm
	@$(MAKE) $(JOBS) test-programs
	@BUILD=$(B) tests/vm/run $(T)

sim:	## simulate: SEED=N one world (with BUG=NAME, FAIL=KIND:N, STEPS=N), SEEDS=N worlds; 1000 without either
	@scripts/setup build
	@$(MAKE) $(JOBS) $(SIM)
	@COMMIT=$$(git describe --always --dirty 2>/dev/null) $(SIM) $(if $(SEED),--seed $(SEED)) \
		$(if $(SEEDS),--seeds $(SEEDS),$(if $(SEED),,--seeds 1000)) $(if $(STEPS),--steps $(STEPS)) \
		$(if $(BUG),--bug $(BUG)) $(if $(FAIL),--fail $(FAIL)) $(if $(V),--trace)

torture:	## real programs under constant migration for TORTURE_MINUTES (30), and a table; FAR=zram|file|both: with half their memory
	@scripts/setup torture
	@$(MAKE) $(JOBS) test-programs
	@BUILD=$(B) TORTURE_FAR=$(FAR) tests/torture $(T)

# What can run under a sanitizer, and why the rest cannot: docs/reliability.md.
SANITIZE := $(MAKE) $(JOBS) SANITIZED=1 WERROR=
ASAN_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=thread

sanitize:	## unit, contract and simulation tests, and the fuzz targets' corpus, under ASan, UBSan and TSan
	@scripts/setup test
	@$(SANITIZE) B=build/asan CFLAGS='$(ASAN_FLAGS)' inner-programs
	@$(SANITIZE) B=build/tsan CFLAGS='$(TSAN_FLAGS)' inner-programs
	@BUILD=build/asan tests/run tests/unit tests/contract tests/check/corpus
	@build/asan/sim/sim --seeds 30
	@BUILD=build/tsan tests/run tests/unit tests/contract tests/check/corpus

SECONDS := 600
FUZZ_FLAGS := $(ASAN_FLAGS) -fsanitize=fuzzer-no-link

fuzz:	## libFuzzer under ASan and UBSan, SECONDS for each target (600)
	@scripts/setup fuzz
	@$(SANITIZE) B=build/fuzz CC=clang CFLAGS='$(FUZZ_FLAGS)' FUZZ_MAIN=-fsanitize=fuzzer fuzz-programs
	@BUILD=build/fuzz tests/fuzz/run $(SECONDS) $(T)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZERS)

bench:	## measure: a table here, the same in build/bench.csv
	@scripts/setup bench
	@$(MAKE) $(JOBS) bench-programs
	@$(B)/bench/bench
	@$(B)/bench/touch
	@$(B)/bench/far
	@$(B)/bench/fault
	@BUILD=$(B) bench/idle.sh
	@$(B)/bench/inline
	@BUILD=$(B) bench/attach.sh

# The kernel's copy of a page is not to be an instruction that emulation makes dear, its pages not zeroed twice, and no clock
# read through an emulated device.
bench-vm:	## measure on a kernel with two NUMA nodes, in QEMU: bench/vm.sh; what it leaves in $OUT goes to build/bench-vm
	@[ -x bench/vm.sh ] || { echo 'bench-vm: there is no bench/vm.sh to be run' >&2; exit 1; }
	@scripts/setup vm
	@$(MAKE) $(JOBS) bench-programs test-programs
	@BUILD=$(B) VM_SECONDS=1800 tests/vm/run --machine large --append 'init_on_alloc=0 clearcpuid=erms,fsrm,rep_good tsc=reliable clocksource=tsc' \
		--out $(B)/bench-vm -- bench/vm.sh

bench-tier:	## programs larger than their memory, beside the kernel's swap (as root): QUICK=1, SIZE=512M, JSON=1; docs/tiering-bench.md
	@scripts/setup tier >&2
	@$(MAKE) $(JOBS) all $(B)/bench/tier >&2
	@BUILD=$(B) bench/tier.sh

# An emulated machine has time for less: fewer keys, one round, and soon from GETs to INCRs.
demo:	## a real redis-server moved between two nodes while it works
	@scripts/setup demo
	@$(MAKE) $(JOBS) all
	@if ! BUILD=$(B) tests/vm/run --needed; then BUILD=$(B) demo/demo.sh; \
		else scripts/setup vm && BUILD=$(B) tests/vm/run --machine large -- env KEYS=$${KEYS:-20000} ROUNDS=$${ROUNDS:-1} REQUESTS=500 \
		demo/demo.sh; fi

lint:	## rooms, format, the other compiler, cppcheck, man page, scripts
	@scripts/setup lint
	@CC='$(CC)' MAKE='$(MAKE) $(JOBS)' scripts/lint

man: $(MANS)	## the man pages (needs scdoc)

install: all	## install to DESTDIR/PREFIX (PREFIX=/usr/local)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(INCDIR) $(DESTDIR)$(PCDIR)
	install -m 755 $(B)/godwit $(DESTDIR)$(BINDIR)/godwit
	install -m 755 $(B)/libgodwit.so $(DESTDIR)$(LIBDIR)/libgodwit.so.$(VERSION)
	ln -sf libgodwit.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libgodwit.so
	install -m 644 $(B)/libgodwit.a $(DESTDIR)$(LIBDIR)/libgodwit.a
	install -m 644 include/godwit.h $(DESTDIR)$(INCDIR)/godwit.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCDIR@|$(INCDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		godwit.pc.in >$(DESTDIR)$(PCDIR)/godwit.pc
	@if command -v scdoc >/dev/null; then $(MAKE) install-man; else echo 'no scdoc: the man pages are not installed' >&2; fi

.PHONY: install-man
install-man: $(MANS)
	$(foreach page,$(MANS),install -D -m 644 $(page) $(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page));)

uninstall:	## remove what install put there
	rm -f $(DESTDIR)$(BINDIR)/godwit $(DESTDIR)$(LIBDIR)/libgodwit.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME) \
		$(DESTDIR)$(LIBDIR)/libgodwit.so $(DESTDIR)$(LIBDIR)/libgodwit.a $(DESTDIR)$(INCDIR)/godwit.h \
		$(DESTDIR)$(PCDIR)/godwit.pc \
		$(foreach page,$(notdir $(MANS)),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(page))

clean:	## remove build/
	rm -rf $(B)

help:	## this list
	@sed -n 's/^\([a-z-]*\):[^#]*##[ ]*\(.*\)/\1\t\2/p' Makefile | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

# ---- how things are built ----

# Objects built with other flags are built again: the stamp changes when the flags do.
$(B)/flags: FORCE
	@mkdir -p $(B)
	@echo '$(CC) $(BASE_FLAGS) $(ENGINE_FLAGS) $(LDFLAGS)' | cmp -s - $@ || \
		echo '$(CC) $(BASE_FLAGS) $(ENGINE_FLAGS) $(LDFLAGS)' >$@

$(call obj,$(sort $(ENGINE_SRC) $(INNER_SRC) $(CLI_SRC))): EXTRA_FLAGS := $(ENGINE_FLAGS)
$(call obj,$(UNIT_SRC) $(CONTRACT_SRC) $(SUITE_SRC) $(INNER_BENCH_SRC)): EXTRA_FLAGS := -Isrc
# Its functions run on the engine's threads.
$(call obj,$(HOLD_SRC)): EXTRA_FLAGS := $(ENGINE_FLAGS) -Itests/live
$(call obj,$(FUZZ_SRC) tests/fuzz/replay.c): EXTRA_FLAGS := -Isrc -D_GNU_SOURCE
# The command looks for the library beside itself first, then where it was configured to be.
$(call obj,$(wildcard src/cli/*.c)): EXTRA_FLAGS := $(ENGINE_FLAGS) -DLIBDIR='"$(LIBDIR)"'
$(call obj,$(wildcard src/cli/*.c)): $(B)/lists/LIBDIR

$(B)/obj/%.o: %.c $(B)/flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE_FLAGS) $(EXTRA_FLAGS) -MMD -MP -c -o $@ $<

# A link's inputs are listed in a file, so that a source that was removed is noticed too.
$(B)/lists/%: FORCE
	@mkdir -p $(@D)
	@echo '$($*)' | cmp -s - $@ || echo '$($*)' >$@

$(CODECS): scripts/codecs $(B)/flags
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)CC='$(CC)' LD='$(LD)' AR='$(AR)' OBJCOPY='$(OBJCOPY)' scripts/codecs $@

$(B)/libgodwit.so: $(call obj,$(ENGINE_SRC)) $(CODECS) src/libgodwit.map $(B)/lists/ENGINE_SRC
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(SO_LDFLAGS) -o $@ $(call obj,$(ENGINE_SRC)) $(CODECS)

$(B)/$(SONAME): $(B)/libgodwit.so
	$(Q)ln -sf libgodwit.so $@

# One object whose only global symbols are gw_*: libnuma exports migrate_pages() too.
# What stands before libc's calls is for the shared library only.
STATIC_OBJ := $(call obj,$(filter-out src/preload/% src/topology/%,$(ENGINE_SRC)))
$(B)/libgodwit.a: $(STATIC_OBJ) $(CODECS) $(B)/lists/ENGINE_SRC
	$(call say,AR)
	@mkdir -p $(B)/obj
	$(Q)$(LD) -r -o $(B)/obj/godwit_all.o $(STATIC_OBJ) $(CODECS)
	$(Q)$(OBJCOPY) --wildcard --keep-global-symbol='gw_*' $(B)/obj/godwit_all.o $(B)/obj/godwit.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(B)/obj/godwit.o

$(B)/godwit: $(call obj,$(CLI_SRC)) $(LIBS) $(B)/lists/CLI_SRC
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $(call obj,$(CLI_SRC)) -L$(B) -lgodwit -lcjson \
		-Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib'

# Tests of inner parts link the engine's objects from an archive: one that a test replaces stays out.
$(B)/inner.a: $(call obj,$(INNER_SRC)) $(CODECS) $(B)/lists/INNER_SRC
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $(call obj,$(INNER_SRC)) $(CODECS)

$(call prog,$(CONTRACT_SRC)): $(call obj,$(SUITE_SRC))

$(LIVE_TESTS): $(call obj,$(HOLD_SRC))

# $(1) source, $(2) program
define inner_program
$(2): $(call obj,$(1)) $(B)/inner.a
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -pthread -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) -lcmocka -Wl,--as-needed -lcjson
endef

# A fuzz target goes through files by itself, or libFuzzer (FUZZ_MAIN) drives it.
FUZZ_MAIN = $(call obj,tests/fuzz/replay.c)

define fuzz_target
$(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(1)): $(call obj,$(1) tests/fuzz/replay.c) $(B)/inner.a
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -pthread -o $$@ $$< $$(FUZZ_MAIN) $(B)/inner.a -Wl,--as-needed -lcjson
endef

# $(1) source, $(2) program, $(3) way from the program to the library
define outer_program
$(2): $(call obj,$(1)) $(LIBS)
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -pthread -o $$@ $$(filter %.o,$$^) -L$(B) -lgodwit -lm -Wl,-rpath,'$$$$ORIGIN/..'
endef

# Programs for scripts to manage: they know nothing of godwit.
define plain_program
$(call prog,$(1)): $(call obj,$(1))
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -pthread -o $$@ $$^
endef

$(B)/bench/tier: $(call obj,$(TIER_SRC)) $(B)/lists/TIER_SRC
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $(call obj,$(TIER_SRC)) -llz4 -lm

$(call prog,tests/numa/calls.c): $(call obj,$(NUMA_SRC))
$(call prog,tests/numa/model.c): $(call obj,tests/numa/case.c)

$(foreach src,$(UNIT_SRC) $(CONTRACT_SRC),$(eval $(call inner_program,$(src),$(call prog,$(src)))))
$(foreach src,$(INNER_BENCH_SRC),$(eval $(call inner_program,$(src),$(B)/$(basename $(src)))))
$(foreach src,$(FUZZ_SRC),$(eval $(call fuzz_target,$(src))))
$(foreach src,$(LIVE_SRC),$(eval $(call outer_program,$(src),$(call prog,$(src)))))
$(foreach src,$(BENCH_SRC) $(EXAMPLE_SRC),$(eval $(call outer_program,$(src),$(B)/$(basename $(src)))))
$(foreach src,$(PROG_SRC),$(eval $(call plain_program,$(src))))

# ---- the simulator, and bugs put back ----

# Small tables, so that they overflow.
SIM_FLAGS := -Isrc -D_GNU_SOURCE -DGODWIT_SIM -DGODWIT_BUGS -DGODWIT_DEBUG -DLOCK_SPINS=0 \
	     -DSMALL_SLOTS=128U -DSLOTS_MOST=1024U -DSLOTS_LEAST=1024U -DSTRAYS=3U -DDISCARDS_MAX=4U
$(call sim_obj,$(SIM_TESTED)): SIM_EXTRA := -finstrument-functions

$(B)/sim/%.o: %.c $(B)/flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE_FLAGS) $(SIM_FLAGS) $(SIM_EXTRA) -MMD -MP -c -o $@ $<

$(SIM): $(SIM_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(SIM_OBJ)

$(B)/bugs/%: FORCE
	@$(MAKE) B=$(B)/bugs CFLAGS='$(CFLAGS) -DGODWIT_BUGS' $@

$(MANS): $(B)/%: man/%.scd
	@mkdir -p $(B)
	scdoc <$< >$@.new && mv $@.new $@

.DELETE_ON_ERROR:
.SECONDARY:

-include $(ALL_OBJ:.o=.d) $(SIM_OBJ:.o=.d)

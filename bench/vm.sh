#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The engine beside its machine's own page migration, in a machine with two NUMA nodes: `make bench-vm`. A table on stdout,
# the same in $OUT/bench-vm.csv (build/bench-vm.csv without OUT). With words (4K or THP; quiet, reader or writer) only that part.
#
# An emulated machine copies with the kernel's "rep movs" five times slower than with a loop, and its kernel may fill each
# new page with zeroes beforehand: boot it with
#   init_on_alloc=0 clearcpuid=erms,fsrm,rep_good
# or the comparison is unfair, to the kernel. The bare copies of both sides are printed first. And it takes an emulated HPET
# for its clock, which costs 1.6 us a look and holds up all its processors: with
#   tsc=reliable clocksource=tsc
# it is 0.07 us, as elsewhere a hundredth of a page's time; without, what an access waits is mostly the clock.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}

grep -q '1' /sys/devices/system/node/has_memory 2>/dev/null ||
	{ echo "bench/vm.sh: a machine with two NUMA nodes is needed: make bench-vm" >&2; exit 77; }
for word in init_on_alloc=0 clearcpuid=erms,fsrm,rep_good clocksource=tsc; do
	grep -q "$word" /proc/cmdline || echo "# the kernel was booted without $word: see bench/vm.sh"
done
mkdir -p "${OUT:-$build}"
exec "$build/bench/vm" "${OUT:-$build}/bench-vm.csv" "$build/godwit" "$@"

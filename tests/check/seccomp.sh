#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Before it attaches to a process with a seccomp filter the command asks the filter about every system call that the engine
# makes: src/attach/seccomp.c has them all.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What these rooms name is called; but for what stands for a call of the program's own (these go the program's way).
own='exit_group mlockall newfstatat sched_setaffinity sendmsg vmsplice'
find src/base src/mmu src/mm src/node src/far src/policy src/agent src/control src/preload src/topology -name '*.c' -o -name sys.h |
	grep -v -e mmu_sim -e files.c -e look.c -e src/topology |
	xargs grep -ohE '\bSYS_[a-z0-9_]+' | sed 's/SYS_//' | sort -u >"$work/called"
tr ' ' '\n' <<<"$own" | sort >"$work/own"
grep -oE '\b(NEED|MAY)\([a-z0-9_]+' src/attach/seccomp.c | sed 's/.*(//' | sort -u >"$work/asked"
comm -23 "$work/called" "$work/own" | comm -23 - "$work/asked" >"$work/missing"
if [ "$(wc -l <"$work/called")" -gt 40 ] && [ ! -s "$work/missing" ]; then
	echo 'ok 1 - filters are asked about every system call of the engine'
else
	sed 's/^/# not asked: /' "$work/missing"
	echo 'not ok 1 - filters are asked about every system call of the engine'
fi
echo 1..1

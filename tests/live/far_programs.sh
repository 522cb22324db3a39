#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Real programs with half the memory that they take alone, and a far node behind it: a compressed pool, a file, a small
# pool with a file behind it. Each is the test of that name, tests/live/program_*.sh, made small: what the program says and
# writes is that of a run alone, no page was lost, nothing is left. All programs, and for long: make torture FAR=both
#
# test-timeout: 300
set -u
here=$(dirname "$0") nr=0
work=$(mktemp -d "${TMPDIR:-/tmp}/godwit-far.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
export TORTURE_LEAST=8 COMPRESS_MIB=1 GCC_FUNCTIONS=12 SQLITE_ROWS=40000 PYTHON_ROUNDS=2 REDIS_KEYS=10000 MEMCACHED_KEYS=8000

while read -r far program; do
	nr=$((nr + 1))
	status=0
	TORTURE_FAR=$far "$here/program_$program.sh" >"$work/out" 2>&1 || status=$?
	sed -n 's/^# tally /# /p' "$work/out"
	if grep -q '^1\.\.0 # SKIP' "$work/out"; then
		echo "ok $nr - $program, $far # SKIP $(sed -n 's/.*# SKIP //p' "$work/out")"
	elif [ $status = 0 ] && grep -q '^1\.\.[1-9]' "$work/out" && ! grep -q '^not ok' "$work/out"; then
		echo "ok $nr - $program, $far"
	else
		sed 's/^/# /' "$work/out"
		echo "not ok $nr - $program, $far"
	fi
done <<'LIST'
zram compress
zram gcc
zram sqlite
zram memcached
file gcc
both sqlite
LIST
echo "1..$nr"

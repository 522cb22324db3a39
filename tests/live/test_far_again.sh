#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What other tests do to memory between two nodes they do again where the second is a compressed pool: the content is to
# be right all the same. Their sentences about where pages are, and that nothing stays tracked, are not true there.
#
# test-timeout: 300
set -u
cd "$(dirname "$0")/../.." || exit 1
tests=${BUILD:-build}/tests nr=0
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

again()	# sentences that may be untrue, as a pattern; program, arguments
{
	local may=$1 status
	shift
	GODWIT_FAR=1 timeout -s KILL 120 "$tests/$1" "${@:2}" >"$out" 2>&1
	status=$?
	nr=$((nr + 1))
	sed 's/^/# /' "$out" | grep -v '^# ok'
	if [ "$status" -le 1 ] && grep -q '^1\.\.[1-9]' "$out" && ! grep '^not ok' "$out" | grep -qvE "$may"; then
		echo "ok $nr - $*, with a compressed pool"
	else
		echo "not ok $nr - $*, with a compressed pool (exit $status)"
	fi
}

again 'no sentence' test_pins
echo "1..$nr"

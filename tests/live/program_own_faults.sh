#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program that serves faults of its own memory: what it registers is registered, though the engine may be moving just
# that; a hole that is to be filled by the program is not filled by a migration; what it serves stays, and is named.
#
#   OWN_FAULTS_ROUNDS=30
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
rounds=${OWN_FAULTS_ROUNDS:-$((30 * scale))}
program=$(dirname "$GODWIT")/tests/own_faults
need "$program"

# longer than a request tries a page: what is unmapped meanwhile is gone, and not busy
compare own_faults "$program" "$rounds" 120
[ -n "$far" ] || ok 'memory that it serves stays meanwhile, as EBUSY' grep -q '"EBUSY":' "$dir/moves"
ok_moves 2000
[ -z "$far" ] || end_tests

named()	# godwit says why
{
	godwit migrate "$pid" all 1 2>&1 | grep -q "EBUSY: .*own userfaultfd"
}

godwit_run 20 "$program" 1 3000 >"$dir/once" 2>&1
pid=$(pgrep -P "${started[-1]}")
ok 'godwit migrate names it' await 12 named
ok 'which does the program no harm' finish
end_tests

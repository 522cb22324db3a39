#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The simulator finds nothing in the engine as it is, finds every bug that is put back, and shows it again from the seed.
#
#   WORLDS=120   worlds of 20,000 steps      FAULT_WORLDS=240   worlds in which a call of each kind fails
#   BUG_SEEDS=300   seeds within which each bug has to be found
#
# test-timeout: 300
set -u
cd "$(dirname "$0")/../.." || exit 1
sim=${BUILD:-build}/sim/sim nr=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

result()	# status, sentence
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}

"$sim" --seeds "${WORLDS:-120}"
result $? 'worlds of threads, migrations and bad weather stay right'
"$sim" --faults --seed 50000 --seeds "${FAULT_WORLDS:-240}"
result $? 'a call of each kind that fails, once or for good, leaves every page right'

"$sim" --seed 7 --trace >"$dir/1"
"$sim" --seed 7 --trace >"$dir/2"
[ "$(wc -l <"$dir/1")" -gt 1000 ] && cmp "$dir/1" "$dir/2"
result $? 'one seed gives one run, event for event'

# What the simulator can see; the last bug is in how a child's engine is built, which a live test sees.
for bug in copy-first fork-orphan writable boolean dirty-early stale thread-exit pipe no-wake double-free eagain \
	far-scan far-locked far-untrack far-wake far-heir far-kept far-fork far-heirs far-seen; do
	"$sim" --workers 1 --seeds "${BUG_SEEDS:-300}" --bug "$bug" >"$dir/$bug"
	[ $? = 1 ] && grep -q '^# again: ' "$dir/$bug"
	result $? "$bug: found after $(sed -n 's/^# \([0-9]*\) worlds of.*/\1/p' "$dir/$bug") right worlds: $(
		sed -n 's/^# step [0-9]*, //p' "$dir/$bug" | cut -c 1-90)"
done

seed=$(sed -n 's/^# again: .*SEED=\([0-9]*\).*/\1/p' "$dir/eagain")
"$sim" --seed "$seed" --bug eagain | grep -v worlds >"$dir/again"
grep -v worlds "$dir/eagain" | cmp - "$dir/again"
result $? 'the line of the report that says how to see it again is right'

GODWIT_BUG=child timeout 60 "${BUILD:-build}/bugs/tests/test_fork" >"$dir/child" 2>&1
[ $? != 0 ] && { grep -q '^not ok' "$dir/child" || ! grep -q '^1\.\.' "$dir/child"; }
result $? "child: found by tests/live/test_fork.c: $(grep -m 1 '^not ok' "$dir/child" || echo it hangs)"
"${BUILD:-build}/bugs/tests/test_fork" >"$dir/child"
result $? 'which without the bug is content'
echo "1..$nr"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kernel's answers are still those that the engine is held against: tests/numa/calls on the machine's own nodes, without
# godwit, says line by line what tests/numa/kernel-N.txt has. (docs/numa.md shows them.)
#
# test-machine: two four
set -u

cd "$(dirname "$0")/../.." || exit 1
nodes=$(find /sys/devices/system/node -maxdepth 1 -name 'node[0-9]*' | wc -l)
record=tests/numa/kernel-$nodes.txt
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
nr=0

ok()	# text, command...
{
	local text=$1
	shift
	nr=$((nr + 1))
	if "$@"; then echo "ok $nr - $text"; else echo "not ok $nr - $text"; fi
}

same_lines()	# pattern
{
	grep -E "$1" "$record" >"$dir/recorded"
	grep -E "$1" "$dir/answers" >"$dir/answered"
	[ -s "$dir/recorded" ] && diff "$dir/recorded" "$dir/answered" >"$dir/diff" && return
	sed -n 's/^</#   recorded:/p; s/^>/#   answered:/p' "$dir/diff" | head -n 20
	return 1
}

"$BUILD/tests/calls" >"$dir/all" 2>"$dir/err"
ok "$nodes nodes: every group of cases comes to its end" [ $? = 0 ]
grep -v ' | cannot: ' "$dir/all" >"$dir/answers"
echo "# recorded on $(head -n 1 "$record"), this is $(uname -r)"
while IFS= read -r call; do
	ok "$nodes nodes: $call: $(grep -c "^$call | " "$record") answers are the recorded ones" same_lines "^$call \| "
done < <(tail -n +2 "$record" | sed 's/ | .*//' | awk '!seen[$0]++')
ok "$nodes nodes: nothing else is answered" same_lines ' \| '
echo "1..$nr"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a cpuset does to policies and pages is still what groups are held against: tests/groups/record says what
# tests/groups/kernel-4.txt has, change by change.
#
# test-machine: four
set -u

cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
nr=0

turn_of()	# number, file
{
	awk -v turn="$1" '/^allowed/ { n++ } n == turn' "$2"
}

tests/groups/record "$BUILD/tests/allowed" >"$dir/now" 2>"$dir/err"
status=$?
nr=$((nr + 1))
if [ $status = 0 ] && [ ! -s "$dir/err" ]; then
	echo "ok $nr - every change can be made"
else
	echo "not ok $nr - every change can be made"
	sed 's/^/# /' "$dir/err"
fi
turns=$(grep -c ^allowed tests/groups/kernel-4.txt)
for ((turn = 1; turn <= turns; turn++)); do
	turn_of $turn tests/groups/kernel-4.txt >"$dir/recorded"
	turn_of $turn "$dir/now" >"$dir/found"
	nr=$((nr + 1))
	if [ -s "$dir/recorded" ] && diff "$dir/recorded" "$dir/found" >"$dir/diff"; then
		echo "ok $nr - $(head -n 1 "$dir/recorded"): $(wc -l <"$dir/recorded") lines are the recorded ones"
	else
		echo "not ok $nr - $(head -n 1 "$dir/recorded"): as recorded"
		sed -n 's/^</#   recorded:/p; s/^>/#   found:   /p' "$dir/diff" | head -n 20
	fi
done
echo "1..$nr"

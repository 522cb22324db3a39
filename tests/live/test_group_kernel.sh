#!/bin/bash
# SPDX-License-Identifier: MIT
# A group does what a cpuset does: the same program, the same changes, and line by line the same policies and nodes of
# pages as the kernel gave (tests/groups/kernel-4.txt, recorded by tests/groups/record on Linux 6.12). What is not
# compared, and why: tests/groups/changes.
#
# test-timeout: 120
set -u
BUILD=$(realpath "${BUILD:-build}")
GODWIT=${GODWIT:-$BUILD/godwit}
unset LD_PRELOAD "${!GODWIT_@}"
here=$(realpath "$(dirname "$0")/../groups")
dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-group.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
# shellcheck source=../groups/changes
. "$here/changes"
nr=0

result()	# status, sentence
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}

bad=0
change() { timeout -s KILL 30 "$GODWIT" group set -q kernel "$1" || bad=$((bad + 1)); }
began() { timeout -s KILL 30 "$GODWIT" group create -q kernel 0-3 "$1" || bad=$((bad + 1)); }

# As on the machine of the recording: a CPU each on nodes 0 and 1, and two nodes without.
cpus=$(($(nproc --all) - 1))
[ $cpus -gt 0 ] || { echo '1..0 # SKIP one CPU is not enough for two nodes with CPUs'; exit 0; }
nodes=(--node "ram,cpus=0" --node "ram,cpus=1-$cpus" --node ram --node ram)
[ $cpus -gt 1 ] || nodes[3]="ram,cpus=1"

for what in ranges threads; do
	play $what "$GODWIT" run -q "${nodes[@]}" -- "$BUILD/tests/allowed"
done >"$dir/ours" 2>"$dir/err"
result $bad 'every change of the nodes is made, and no page stays behind'

turn=0
for list in "${changes_ranges[@]}" "${changes_threads[@]}"; do
	turn=$((turn + 1))
	for file in "$here/kernel-4.txt" "$dir/ours"; do
		awk -v turn=$turn '/^allowed/ { n++ } n == turn' "$file" >"$dir/$(basename "$file").part"
	done
	[ -s "$dir/kernel-4.txt.part" ] && diff "$dir/kernel-4.txt.part" "$dir/ours.part" >"$dir/diff"
	result $? "allowed $list: $(wc -l <"$dir/kernel-4.txt.part") lines are the kernel's"
	sed -n 's/^</# kernel/p; s/^>/# group /p' "$dir/diff" | head -n 20
done
echo "1..$nr"

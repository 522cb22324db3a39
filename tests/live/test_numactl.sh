#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# numactl and its kin on a program that knows nothing of nodes: the pages are where a kernel with four nodes puts them (each
# line was seen there), by move_pages() and by /proc/self/numa_maps.
#
# test-timeout: 120
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
GODWIT=${GODWIT:-$BUILD/godwit}
placed=$BUILD/tests/placed
nr=0
failed=0

ok()	# sentence, command...
{
	local text=$1
	shift
	nr=$((nr + 1))
	if "$@"; then
		echo "ok $nr - $text"
	else
		failed=$((failed + 1))
		echo "not ok $nr - $text"
	fi
}

run()	# command...: on four nodes, of which the first two have a CPU
{
	timeout -k 5 30 "$GODWIT" run -q --node ram,cpus=0 --node ram,cpus=1-1023 --node ram --node ram -- "$@" 2>&1
}

says()	# expected, command...
{
	local expected=$1 said
	shift
	said=$(run "$@")
	[ "$said" = "$expected" ] || { printf '#   expected: %s\n#   said:     %s\n' "$expected" "$said"; return 1; }
}

all='N0=16 N1=16 N2=16 N3=16'
ok 'numactl --interleave=all' says "call: $all maps: interleave:0-3 $all" numactl --interleave=all "$placed"
ok 'numactl --interleave=1,3' says 'call: N1=32 N3=32 maps: interleave:1,3 N1=32 N3=32' numactl --interleave=1,3 "$placed"
ok 'numactl --membind=2' says 'call: N2=64 maps: bind:2 N2=64' numactl --membind=2 "$placed"
ok 'numactl --preferred=3' says 'call: N3=64 maps: prefer:3 N3=64' numactl --preferred=3 "$placed"
ok 'numactl --cpunodebind=1' says 'call: N1=64 maps: default N1=64' numactl --cpunodebind=1 "$placed"
ok 'numactl --cpunodebind=1 --localalloc' says 'call: N1=64 maps: local N1=64' numactl --cpunodebind=1 --localalloc "$placed"
ok 'numactl --physcpubind=0' says 'call: N0=64 maps: default N0=64' numactl --physcpubind=0 "$placed"
ok 'a policy goes from shell to shell' says 'call: N2=64 maps: bind:2 N2=64' \
	numactl --membind=2 sh -c "sh -c '$placed; exit \$?'; exit \$?"
ok 'and from a python that starts it' says 'call: N3=64 maps: bind:3 N3=64' \
	numactl --membind=3 python3 -c "import subprocess; subprocess.run(['$placed'])"
# shellcheck disable=SC2016 # of the inner shell
ok 'migratepages from inside' says 'call: N0=64 maps: bind:0 N0=64
call: N2=64 maps: bind:0 N2=64' numactl --membind=0 sh -c '"$1" 1500 & sleep 0.7; migratepages $! 0 2; wait' sh "$placed"
# shellcheck disable=SC2016
ok 'numastat -p tells it' says '64' \
	numactl --membind=1 sh -c '"$1" 1500 >/dev/null & sleep 0.7
numastat -p $! | awk "\$1 == \"Private\" { print (\$3 >= 0.25 && \$4 == 0 && \$5 == 0) * 64 }"; wait' sh "$placed"
ok 'numactl --membind=4 is refused' grep -q 'node argument 4 is out of range' <(run numactl --membind=4 "$placed")
echo "1..$nr"
[ $failed = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The administrator's case on a machine with NUMA nodes: a process runs on the wrong node, is attached to with the machine's
# nodes, and migrated. Its kernel says where the pages are, before and after, and that nothing is left when it is detached.
#
# test-machine: two
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 2
a=${machine[0]} b=${machine[1]}

# Anonymous pages of the program on a node, by the kernel: "heap", and mappings of its own, but for stacks.
pages_on()	# node
{
	awk -v node="N$1" '/anon=/ && !/stack|file=/ {
		for (i = 3; i <= NF; i++) if (split($i, f, "=") == 2 && f[1] == node) sum += f[2]
	} END { print sum + 0 }' "/proc/$pid/numa_maps"
}

policies()
{
	awk '{ print $1, $2 }' "/proc/$pid/numa_maps"
}

mappings()
{
	cut -d ' ' -f 1-2,6- "/proc/$pid/maps"
}

start()	# words of attachee: on the first node, at work
{
	numactl --membind="$a" "$progs/attachee" "$@" >"$dir/said" 2>&1 &
	pid=$!
	for _ in {1..100}; do
		grep -q ready "$dir/said" && return
		sleep 0.1
	done
}

whole()
{
	kill -USR2 "$pid" && wait "$pid"
	local status=$?
	pid=
	[ $status = 0 ] && grep -q '^whole [1-9]' "$dir/said"
}

start wait
policies >"$dir/policies"
mappings >"$dir/before"
there=$(pages_on "$a")
ok "its pages, $there, are on node $a" [ "$there" -gt 5 ]
ok 'migrate --attach brings an engine with the nodes of the machine' "$GODWIT" migrate --attach -q "$pid" "$a" "$b"
moved=$(pages_on "$b")
note "$moved pages on node $b, $(pages_on "$a") on node $a"
ok 'the kernel has most of them on the other node: what stays is libc'"'"'s block of the thread' [ "$moved" -ge $((there - 6)) ]
ok 'detached' "$GODWIT" detach -q "$pid"
ok 'the kernel has them there still' [ "$(pages_on "$b")" -ge $((there - 6)) ]
ok 'back, by the kernel' eval '"$GODWIT" migrate --via kernel -q "$pid" "$b" "$a"; [ $? != 1 ]'
ok 'and none is left there' [ "$(pages_on "$b")" = 0 ]
mappings >"$dir/after"
ok 'its mappings are those of before' cmp "$dir/before" "$dir/after"
policies >"$dir/policies.after"
ok 'and their policies' cmp "$dir/policies" "$dir/policies.after"
ok 'and it is whole' whole

start threads 8
for turn in 1 2 3; do
	ok "at work: attached, time $turn" "$GODWIT" attach -q --node "ram,host=$a" --node "ram,host=$b" "$pid"
	"$GODWIT" migrate --json "$pid" 0 1 >"$dir/json"
	status=$?
	moved=$(grep -o '"pages_moved":[0-9]*' "$dir/json" | cut -d : -f 2)
	ok "migrated, $moved pages" [ $status != 1 ]
	ok 'detached from' "$GODWIT" detach -q "$pid"
	# by the kernel's own migration, so that the next time there is something to do
	ok 'and the kernel takes them back' eval '"$GODWIT" migrate --via kernel -q "$pid" "$b" "$a"; [ $? != 1 ]'
done
ok 'its data is whole' whole
end_tests

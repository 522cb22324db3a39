#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Where all nodes are bound to the machine's, policies are the machine's kernel's: what a program touches first is on the
# node that its policy says, physically, and the books say what the kernel says. The nodes are bound crosswise, so that a
# number that was not translated is a wrong one.
#
# test-machine: two far
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 2

# MPOL_*
preferred=1 bind=2 interleave=3 local=4 many=5
a=${machine[-1]} b=${machine[0]}

first_on()	# node, kind: dropped and touched again
{
	says ok first "$2" && all_on "$1" "$2"
}

# In equal parts, by the kernel's word.
halves()	# kind
{
	local half=$(($(pages "$1") / 2)) want
	want=$(printf 'N%d=%d\n' "$a" $half "$b" $half | sort | paste -s -d ' ')
	[ "$(kernel "$1")" = "$want" ] && return
	note "$1: $(kernel "$1"), not $want"
	return 1
}

by_thread()
{
	local k
	for k in small huge locked; do
		ok "set_mempolicy(BIND 0)" says ok policy $bind 1
		ok "bound to node 0, $k" first_on 0 $k
		ok "set_mempolicy(PREFERRED 1)" says ok policy $preferred 2
		ok "preferring node 1, $k" first_on 1 $k
		ok "set_mempolicy(PREFERRED_MANY 0)" says ok policy $many 1
		ok "preferring the nodes of a set, $k" first_on 0 $k
	done
	ok "set_mempolicy(INTERLEAVE)" says ok policy $interleave 3
	ok "dropped and touched again" says ok first small
	ok "4 KiB pages are interleaved" halves small
	ok "the books say what the kernel says" books_are_true
	says ok policy 0
}

by_range()
{
	local k
	for k in small huge locked; do
		says ok mbind $k $bind 1
		ok "mbind(BIND 0), $k" first_on 0 $k
		says ok mbind $k $preferred 2
		ok "mbind(PREFERRED 1), $k" first_on 1 $k
	done
	says ok mbind small $interleave 3
	ok "mbind(INTERLEAVE) moves nothing that is on one of its nodes" all_on 1 small
	ok "touched again" says ok first small
	ok "they are where they were" halves small
	says ok mbind small $bind 2
	ok "a range's policy holds against the thread's" says ok policy $bind 1
	ok "so it is" first_on 1 small
	says ok policy 0
	says ok mbind small $local
	ok "the books say what the kernel says" books_are_true
	for k in small huge locked; do says ok mbind $k 0; done
}

# A group allows node 0 only: a range's policy is rebound, and so is what the kernel goes by.
by_group()
{
	says ok mbind small $preferred 2
	ok "a group of node 0" "$GODWIT" group create -q one 0 "$pid"
	ok "a range that preferred node 1 is on node 0" all_on 0 small
	ok "and what is touched there now, too" first_on 0 small
	ok "the group has both nodes" "$GODWIT" group set -q one all
	ok "the group goes" "$GODWIT" group remove -q one
	says ok mbind small 0
}

# The service thread answers first touches in the window, on another CPU and with another policy than the toucher.
filled()
{
	"$GODWIT" stat --json "$pid" | grep -o '"faults_filled":[0-9]*' | cut -d : -f 2
}

in_a_window()
{
	local turn right=0
	says ok policy $preferred 2
	for turn in 1 2 3 4 5 6 7 8; do
		timeout -s KILL 100 "$GODWIT" migrate -q "$pid" $((turn % 2)) $((1 - turn % 2)) --rate 15 >/dev/null 2>&1 &
		while kill -0 $! 2>/dev/null; do say first small; done
		wait $!
		says ok first small && all_on 1 small && right=$((right + 1))
		[ "$(filled)" -lt 100 ] || break
	done
	note "$(filled) first touches were answered in $turn turns"
	ok "what is touched after a migration is on node 1" [ $right = $turn ]
	ok "first touches were answered during a migration" [ "$(filled)" -ge 100 ]
	ok "the books say what the kernel says" books_are_true
	says ok policy 0
}

ok "a program starts on nodes $a and $b" start_memory "$a" "$b"
by_thread
by_range
by_group
in_a_window
ok "no byte is wrong" says ok check
end_memory

with=(numactl -m 0)
ok "numactl -m 0 program" start_memory "$a" "$b"
ok "starts on node 0, which is host node $a" all_on 0 small huge locked
end_memory
with=(numactl -m 1)
ok "numactl -m 1 program" start_memory "$a" "$b"
ok "starts on node 1, which is host node $b" all_on 1 small huge locked
ok "the books say what the kernel says" books_are_true
end_memory
with=()

# One node of several: all that is touched comes from there, whatever the CPU.
ok "a program starts on node $a only" start_memory "$a"
ok "and has all its memory there" all_on 0 small huge locked
end_memory
end_tests

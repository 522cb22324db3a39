#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A node whose memory came later: it is refused while it has none, and is a node like any other when its memory is
# there. The last node of the machine has no CPU; its memory is plugged in (numa-vm-plug), or can be taken offline.
#
# test-machine: plug
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 1
nodes=(/sys/devices/system/node/node[0-9]*)
node=$((${#nodes[@]} - 1))

blocks()	# state
{
	local block
	for block in "/sys/devices/system/node/node$node"/memory[0-9]*; do
		echo "$1" >"$block/state" 2>/dev/null
	done
}

has_memory()
{
	need_nodes 1
	[ "${machine[-1]}" = "$node" ]
}

comes()
{
	if command -v numa-vm-plug >/dev/null; then numa-vm-plug 0 >/dev/null; else blocks online; fi
	for _ in {1..50}; do
		has_memory && return
		sleep 0.2
	done
	return 1
}

[ "$node" -gt 0 ] || { echo "1..0 # SKIP a machine with a node without memory is needed"; exit 0; }
! has_memory || blocks offline
if has_memory; then
	blocks online
	echo "1..0 # SKIP the memory of node $node cannot be taken offline"
	exit 0
fi
refused=$("$GODWIT" run --node "ram,host=$node" -- true 2>&1)
ok "a node without memory is refused" [ $? = 1 ]
ok "and the message says so" grep -q "NUMA node $node of this machine has no memory" <<<"$refused"
ok "its memory comes" comes
ok "a program starts on nodes ${machine[0]} and $node" start_memory "${machine[0]}" "$node"
migrate all 1
ok "all of it moves to the memory that has come" adds_up
ok "the kernel says that every page is there" all_on 1 small huge locked
ok "the books say what the kernel says" books_are_true
ok "a first touch there" says ok policy 2 2
ok "by policy" says ok first small
ok "is there" all_on 1 small
ok "the program's own policy is taken back" says ok policy 0
migrate 1 0
ok "all of it moves back" all_on 0 small huge locked
ok "no byte is wrong" says ok check
end_memory
end_tests

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A node whose memory comes while the machine runs: numa-vm-plug, for tests of nodes that come and go.
#
# test-machine: plug
set -u

tree=/sys/devices/system/node
before=$(cat $tree/has_memory)
numa-vm-plug 0
for _ in {1..100}; do
	[ "$(cat $tree/has_memory)" = "$before" ] || break
	sleep 0.1
done
if [ "$before" = 0 ] && [ "$(cat $tree/has_memory)" = 0-1 ]; then
	echo 'ok 1 - node 1 has memory when it has been plugged in, and had none'
else
	echo "not ok 1 - node 1 has memory when it has been plugged in, and had none: $before, $(cat $tree/has_memory)"
fi
if numactl --membind=1 cat /proc/self/numa_maps | grep -q 'stack.* N1='; then
	echo 'ok 2 - a program can be bound to it'
else
	echo 'not ok 2 - a program can be bound to it'
fi
echo 1..2

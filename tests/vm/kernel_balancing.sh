#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# test-machine-long: two
# test-timeout: 240
#
# godwit migrate --via kernel where NUMA balancing pulls pages back to the CPU that uses them: it is noticed, counted and
# said. A thread on node 0 touches what is moved to node 1, slowly enough for the kernel to see it.
# shellcheck source=kernel.bash
. "$(dirname "$0")/kernel.bash"

: >"$TMP/out"
: >"$TMP/err"
switch=/proc/sys/kernel/numa_balancing
[ -w $switch ] || { echo '1..0 # SKIP the kernel has no NUMA balancing'; exit 0; }
before=$(cat $switch)
echo 0 >$switch
# An emulated process would wait long for the first look at its memory.
debug=/sys/kernel/debug/sched/numa_balancing
[ ! -d $debug ] || { echo 50 >$debug/scan_period_min_ms; echo 100 >$debug/scan_period_max_ms; echo 10 >$debug/scan_delay_ms; }
cpu=$(sed 's/[,-].*//' /sys/devices/system/node/node0/cpulist)

start_program crowd 0 8 0 4
taskset -pc "$cpu" "$TARGET" >/dev/null
tell touch on
sleep 1
godwit migrate --json --rate 8 "$TARGET" 0 1
ok "off: it is said to be off, and nothing comes back" json \
	'd["numa_balancing"] == 0 and d["pages_returned"] == 0 and d["pages_balanced"] == 0'
ok "off: everything that can has moved" all_on 1 own
godwit migrate -q "$TARGET" 1 0
echo 1 >$switch
sleep 2
godwit migrate --json --rate 1 "$TARGET" 0 1
ok "on: pages that came back are counted" json 'd["numa_balancing"] == 1 and d["pages_returned"] > 0'
ok "on: so are those that the kernel has moved for the process" json 'd["pages_balanced"] > 0'
ok "on: what is not there at the end has a reason" adds_up
godwit migrate --rate 2 "$TARGET" 0 1
ok "on: it is said, with the mend" eval 'out_has "NUMA balancing is on (kernel.numa_balancing=1)" && out_has "taskset"'
godwit stat "$TARGET"
ok "stat says that it is on" out_has "kernel.numa_balancing"
tell touch off
ok "the memory holds what it did" holds
echo "$before" >$switch
finish

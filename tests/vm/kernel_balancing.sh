#!/bin/bash
# SPDX-License-Identifier: MIT
# test-machine: two
# test-timeout: 400
#
# NUMA balancing pulls pages back to the CPU that uses them: it is noticed, counted and said. A thread on node 0 touches
# what is moved to node 1, slowly enough for the kernel to see it.

. "$(dirname "$0")/kernel.bash"

cpu_of() { sed 's/[,-].*//' "/sys/devices/system/node/node$1/cpulist"; }

: >"$TMP/out"
: >"$TMP/err"
[ -w /proc/sys/kernel/numa_balancing ] || { echo '1..0 # SKIP the kernel has no NUMA balancing'; exit 0; }
debug=/sys/kernel/debug/sched/numa_balancing
[ ! -d $debug ] || { echo 50 >$debug/scan_period_min_ms; echo 100 >$debug/scan_period_max_ms; echo 10 >$debug/scan_delay_ms; }
start_program crowd 0 8 0 4
taskset -pc "$(cpu_of 0)" "$TARGET" >/dev/null
tell touch on
sleep 1
godwit migrate --json --rate 1 "$TARGET" 0 1
ok "with NUMA balancing off it is said to be off, and nothing comes back" json \
	'd["numa_balancing"] == 0 and d["pages_returned"] == 0 and d["pages_balanced"] == 0'
ok "everything that can has moved" all_on 1 own
godwit migrate -q "$TARGET" 1 0
echo 1 >/proc/sys/kernel/numa_balancing
sleep 2
godwit migrate --json --rate 1 "$TARGET" 0 1
ok "with it on pages that came back are counted" json 'd["numa_balancing"] == 1 and d["pages_returned"] > 0'
ok "as are those that the kernel has moved for the process" json 'd["pages_balanced"] > 0'
ok "what is not there at the end has a reason" eval 'adds_up && json "d[\"failed\"].get(\"EAGAIN\", 0) == 0 or $rc == 2"'
godwit migrate --rate 2 "$TARGET" 0 1
ok "and it is said, with the mend" eval 'out_has "NUMA balancing is on (kernel.numa_balancing=1)" && out_has "taskset"'
godwit stat "$TARGET"
ok "stat says that it is on" out_has "kernel.numa_balancing"
tell touch off
ok "the memory holds what it did" holds
finish

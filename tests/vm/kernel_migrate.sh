#!/bin/bash
# SPDX-License-Identifier: MIT
# test-machine-long: two
# test-timeout: 900
#
# godwit migrate --via kernel on a machine with two nodes: after every kind of migration the kernel itself says where the
# pages are (move_pages by another program, numa_maps), and the reasons add up to the pages that stayed.

. "$(dirname "$0")/kernel.bash"

MOST=(--max-stall 20000)	# the machine is emulated: what takes 1 us elsewhere takes 100

# what_stayed NODE: as many pages as numa_maps has there, to a page or two that the target touched just now
what_stayed()
{
	local left
	left=$(pages_on "$1")
	json "abs(d['pages_failed'] - $left) <= 2" || { echo "# numa_maps has $left pages on $1"; return 1; }
}

test_kinds()
{
	hugepages 8 0 1
	start 0 anon=16 thp=8 hugetlb=4 shm=4 sysv=2 memfd=2 tmpfs=2 file=2
	ok "the target is on node 0" all_on 0
	godwit migrate --json --dry-run "$TARGET" 0 1
	ok "--dry-run moves nothing" all_on 0
	ok "and says that the own kinds would move" json 'sum(d["moved_kinds"][k] for k in ("anon", "thp", "hugetlb", "shared")) >= 9216'
	godwit migrate --json "${MOST[@]}" "$TARGET" 0 1
	ok "every page of every kind is on node 1: the kernel says so" all_on 1
	ok "and every page is accounted for" adds_up
	ok "the exit status says whether any stayed" eval 'exits $(jget "2 if d[\"pages_failed\"] else 0")'
	ok "what stayed is what numa_maps still has on node 0" what_stayed 0
	ok "huge pages moved as such: THPs are THPs" eval 'grep -q "AnonHugePages: *8192 kB" /proc/$TARGET/smaps'
	ok "one call for a THP: not for each of its 512 pages" json 'd["batches"] < 8192'
	ok "the memory holds what it did" holds
	godwit migrate --json "${MOST[@]}" "$TARGET" 1 0
	ok "and back" all_on 0
	ok "it is told who did it" json 'd["via"] == "kernel" and d["dry_run"] is False and d["call_us_fixed"] > 0'
	godwit migrate "${MOST[@]}" "$TARGET" 0 0
	ok "from a node to itself there is nothing to do" eval 'exits 0 && out_has "0 of 0 pages"'
}

test_shared()
{
	tell fork
	CHILD=$REPLY
	godwit migrate --json "${MOST[@]}" "$TARGET" 0 1
	ok "what a child shares stays: exit 2" exits 2
	ok "EACCES is the reason, by kind" json 'd["failed_kinds"]["anon"]["EACCES"] >= 4096 and d["failed_kinds"]["thp"]["EACCES"] == 2048'
	ok "every page is accounted for" adds_up
	ok "the reasons add up to what numa_maps has on node 0" what_stayed 0
	ok "anonymous memory is where it was" all_on 0 anon thp
	ok "shared memory that the child does not map has moved" all_on 1 shm sysv memfd tmpfs
	godwit migrate --json --dry-run "$TARGET" 0 1
	ok "--dry-run foresees it" json 'd["failed_kinds"]["anon"]["EACCES"] >= 4096'
	godwit migrate --json "${MOST[@]}" --all "$TARGET" 0 1
	ok "--all moves it for both" all_on 1
	ok "and leaves nothing: exit 0" eval 'exits 0 && adds_up && what_stayed 0'
	ok "the memory holds what it did" holds
	setpriv --bounding-set -sys_nice --inh-caps -sys_nice "$GODWIT" migrate --all "$TARGET" 1 0 >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "--all without CAP_SYS_NICE is refused with the mend" refused "needs CAP_SYS_NICE"
}

test_move()
{
	local addr
	read -r _ addr _ < <(grep '^anon' "$TMP/parts")
	printf '%s\n' "$addr 0" "10 0" >"$TMP/list"
	kill "$CHILD"
	godwit move "$TARGET" "$TMP/list"
	ok "move by the kernel prints each address as given with its status" eval \
		'[ "$(cat "$TMP/out")" = "$(printf "%s 0\n10 EFAULT" "'"$addr"'")" ] && exits 2'
	echo "$addr" >"$TMP/list"
	godwit move --query --json "$TARGET" "$TMP/list"
	ok "move --query says where it is" json 'd["node"] == 0 and d["error"] is None'
	echo "$addr 5" >"$TMP/list"
	refuses "a node that is not there is named with its line" "line 1: node 5: the nodes of this host with memory are 0" \
		move "$TARGET" "$TMP/list"
}

test_looking()
{
	godwit maps "$TARGET"
	# How many others map a library changes all the time.
	ok "maps is numa_maps as it is" eval \
		'exits 0 && [ "$(sed "s/ mapmax=[0-9]*//" "$TMP/out")" = "$(sed "s/ mapmax=[0-9]*//" /proc/$TARGET/numa_maps)" ]'
	godwit maps --json "$TARGET"
	ok "maps --json has the same figures" python3 - "$TMP/out" "$TARGET" <<-'PY'
	import json, sys
	want = 0
	for line in open('/proc/%s/numa_maps' % sys.argv[2]):
	    words = dict(w.split('=') for w in line.split() if w.count('=') == 1)
	    want += sum(int(n) for k, n in words.items() if k in ('N0', 'N1')) * int(words.get('kernelpagesize_kB', 4)) // 4
	have = sum(sum(json.loads(l)['pages'].values()) for l in open(sys.argv[1]))
	sys.exit(0 if want == have else 1)
	PY
	godwit stat --json "$TARGET"
	ok "stat counts by node and kind" json \
		'sum(n["kinds"]["thp"] for n in d["nodes"]) == 2048 and sum(n["kinds"]["hugetlb"] for n in d["nodes"]) == 1024'
	ok "and as many as numa_maps" json "abs(d['nodes'][1]['pages'] - $(pages_on 1)) <= 2"
	godwit ps --all --json
	ok "ps --all shows it with its nodes" eval 'grep "\"pid\":$TARGET," "$TMP/out" | grep -q "\"node\":1"'
}

test_early_end()
{
	stop
	start 0 anon=64
	"$GODWIT" migrate --json --rate 10 "$TARGET" 0 1 >"$TMP/out" 2>"$TMP/err" &
	local pid=$!
	sleep 2
	kill -TERM $pid	# bash has SIGINT ignored for what runs in the background
	wait $pid
	rc=$?
	called="migrate, interrupted"
	ok "a signal, as Ctrl-C, ends it between two calls: exit 2" eval 'exits 2 && json "d[\"cancelled\"]"'
	ok "with a report that adds up" adds_up
	ok "and says how many were not tried" json 'd["pages_untried"] > 4096'
	ask_where
	ok "the kernel agrees about how many have moved" eval \
		'json "abs(d[\"moved_kinds\"][\"anon\"] - $(sed -n "s/^anon.* 1=\([0-9]*\).*/\1/p" "$TMP/where")) <= 32"'
	godwit migrate --json --rate 20 "$TARGET" 0 1
	ok "--rate is kept" json 'd["bytes"] / d["seconds"] < 22e6'
	ok "and the rest moves" all_on 1
}

# Where a node's pool has no free huge page the kernel makes one of ordinary memory.
test_no_pool()
{
	hugepages 0 1
	stop
	start 0 hugetlb=4 anon=4
	godwit migrate --json "${MOST[@]}" "$TARGET" 0 1
	ok "huge pages move to a node that has none in its pool" eval 'all_on 1 && adds_up'
	stop
}

# What a full node does: the small pages that find no room stay, counted, and nothing hangs.
test_full()
{
	local free balloon
	free=$(awk '/MemFree/ { print int($4 / 1024) }' /sys/devices/system/node/node1/meminfo)
	start 1 anon=$((free - 40))
	balloon=$TARGET
	exec 8>&6 9<&7
	start 0 anon=160
	godwit migrate --json "${MOST[@]}" "$TARGET" 0 1
	ok "a node that is full takes what it can: exit 2" exits 2
	ok "the rest stays as ENOMEM" json 'd["failed"].get("ENOMEM", 0) > 8192 and d["pages_moved"] > 256'
	ok "every page is accounted for" adds_up
	ok "as numa_maps has it" what_stayed 0
	ok "the memory holds what it did" holds
	stop
	kill "$balloon"
	exec 8>&- 9<&-
}

test_who()
{
	local cg=/sys/fs/cgroup/godwit
	start 0 anon=4
	mkdir -p $cg && echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control && echo 0 >$cg/cpuset.mems && echo "$TARGET" >$cg/cgroup.procs
	refuses "a node that the cpuset does not allow is refused, and the cpuset named" \
		"node 1 is not allowed to PID $TARGET: its cpuset /godwit allows 0" migrate "$TARGET" 0 1
	echo "$TARGET" >/sys/fs/cgroup/cgroup.procs
	refuses "a node that is not there is named" "node 3: this host has 0,1" migrate "$TARGET" 3 1
	refuses "a kernel thread is named so" "PID 2 is a thread of the kernel" migrate 2 0 1
	unshare -pf sleep 300 &
	STARTED+=($!)
	sleep 1
	local inside
	inside=$(pgrep -P $!)
	godwit migrate --json "${MOST[@]}" "$inside" 0 1
	ok "a process of another PID namespace is moved by its number here" eval 'adds_up && json "d[\"pages_moved\"] > 0 or d[\"pages_total\"] == 0"'
	kill "$inside"
	setpriv --reuid 65534 --clear-groups "$GODWIT" stat "$TARGET" >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "another user's process is refused with the mend" refused "belongs to root: run godwit as root or as that user"
	stop
}

: >"$TMP/out"
: >"$TMP/err"
test_kinds
test_shared
test_move
test_looking
test_early_end
test_no_pool
test_full
test_who
finish

#!/bin/bash
# SPDX-License-Identifier: MIT
# test-machine-long: large
# test-timeout: 2400
#
# A large process with 200 shared libraries, children, registered and spliced buffers, and a thread that touches its
# memory all the time: every page that stays has its reason, and nobody waits longer than what is reported.
#
# CROWD_MB says how large (1024). The machine is emulated, and what else the host does shows in every time: so the
# control is the same thread with no migration beside it.

. "$(dirname "$0")/kernel.bash"

mb=${CROWD_MB:-1024}
stall=${CROWD_STALL:-50000}

# touched SECONDS|COMMAND...: run it while the thread touches; sets TOUCHES MAX P50 P99 P999 OVER1 OVER10 OVER100
touched()
{
	tell touch on
	"$@"
	tell touch off
	read -r TOUCHES MAX P50 P99 P999 OVER1 OVER10 OVER100 <<<"$REPLY"
	echo "# $*: $TOUCHES touches, max $MAX us, p50 $P50, p99 $P99, p99.9 $P999; $OVER1 over 1 ms, $OVER10 over 10 ms, $OVER100 over 100 ms"
}

count() { awk -v part="$1" -v node="$2=" '$1 == part { for (i = 2; i <= NF; i++) if (index($i, node) == 1) print substr($i, length(node) + 1) }' "$TMP/where"; }

: >"$TMP/out"
: >"$TMP/err"
start_program crowd 0 "$mb" 64 200
touched sleep 10
control=$MAX
touched godwit migrate --json --max-stall "$stall" "$TARGET" 0 1
ok "exit 2: some cannot move" exits 2
ok "every page has one fate and every one that stayed one reason" adds_up
ok "the reasons add up to what numa_maps has on node 0" eval \
	'json "abs(d[\"pages_failed\"] - $(pages_on 0)) <= 2"'
ask_where
sed 's/^/# /' "$TMP/where"
ok "all that can move is there: the kernel says so" eval '[ "$(count own 1)" = $((mb * 256)) ] && [ "$(count thp 1)" = 16384 ]'
ok "pinned pages stay, as EBUSY, and are known as registered buffers" json \
	'd["failed"]["EBUSY"] == 2048 + 64 and d["pages_registered"] == 2048 and d["pinned_bytes"] == 8 << 20'
ok "shared ones stay as EACCES: 800 of libraries, 2048 of children" json \
	'd["failed_kinds"]["anon"]["EACCES"] >= 2048 and d["failed_kinds"]["file"]["EACCES"] >= 800'
worst=$(jget 'int(max(d["stall_us_max"], d["thp_stall_us_max"]))')
echo "# bound $stall us; calls $(jget 'd["batches"]'), stall max $worst p99 $(jget 'd["stall_us_p99"]'), on a CPU max $(jget 'd["busy_us_max"]') p99 $(jget 'd["busy_us_p99"]'), fixed $(jget 'd["call_us_fixed"]'), $(jget 'd["seconds"]') s"
ok "nobody waits longer than the longest call, as reported ($MAX us, $worst us; control $control us)" \
	[ "${MAX%.*}" -le $((worst + ${control%.*})) ]
touched godwit migrate --json --all --max-stall "$stall" "$TARGET" 0 1
ok "--all moves what is shared; only what is pinned stays" json 'd["failed"] == {"EBUSY": 2048 + 64} and d["pages_moved"] >= 2848'
ok "and adds up" eval 'exits 2 && adds_up && json "abs(d[\"pages_failed\"] - $(pages_on 0)) <= 2"'
ok "the memory holds what it did" eval 'tell check; [ "$REPLY" = good ]'
touched migratepages "$TARGET" 1 0
echo "# the kernel's own migrate_pages(2) in one call: the line above"
finish

#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Processes without an engine, from outside: what --via kernel does on a host with one node or more. Where pages really
# move is shown in machines with several nodes, tests/vm/kernel_*.sh. Speaks TAP.

BUILD=$(realpath "${BUILD:-./build}")
GODWIT=$(realpath "${GODWIT:-$BUILD/godwit}")
unset GODWIT_PROBE GODWIT_LIB GODWIT_NODES GODWIT_FLAGS GODWIT_STALL_US GODWIT_QUIET LD_PRELOAD NO_COLOR
TMP=$(mktemp -d "${TMPDIR:-/tmp}/via.XXXXXX") || exit 1
nr=0
failed=0
rc=0
STARTED=()

cleanup()
{
	{
		for pid in "${STARTED[@]}"; do
			kill -KILL "$pid"
			wait "$pid"
		done
	} 2>/dev/null
	rm -rf "$TMP"
}
trap cleanup EXIT

result()	# status, sentence
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $nr - $2"
	echo "# exit $rc"
	sed 's/^/# stdout: /' "$TMP/out" | head -n 8
	sed 's/^/# stderr: /' "$TMP/err" | head -n 8
}

ok() { local sentence=$1; shift; ("$@"); result $? "$sentence"; }

godwit()
{
	"$GODWIT" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null
	rc=$?
}

exits() { [ "$rc" = "$1" ]; }
out_has() { grep -qF -- "$1" "$TMP/out"; }
err_has() { grep -qF -- "$1" "$TMP/err"; }
refuses() { local sentence=$1 words=$2; shift 2; godwit "$@"; ok "$sentence" refused "$words"; }
refused() { exits 1 && [ ! -s "$TMP/out" ] && [ "$(wc -l <"$TMP/err")" = 1 ] && err_has "$1"; }

json()
{
	python3 - "$1" "$TMP/out" <<-'PY'
	import json, sys
	lines = [json.loads(l) for l in open(sys.argv[2], encoding='utf-8')]
	sys.exit(0 if lines and all(eval('(' + sys.argv[1] + ')', {'d': d, 'lines': lines}) for d in lines) else 1)
	PY
}

KEYS='{"pid","from","to","pages_total","pages_moved","pages_failed","failed","bytes","seconds","gb_per_s","stall_us_max",
	"stall_us_p99","batches","retries","pages_left","dry_run","cancelled","error","via"}'

test_migrate()
{
	godwit migrate "$PLAIN" 0 0
	ok "from a node to itself there is nothing to do: exit 0" eval 'exits 0 && out_has "moved        0 of 0 pages"'
	godwit migrate --json "$PLAIN" 0 0
	ok "JSON has every key that an engine's has, and who did it" json "$KEYS <= set(d) and d['via'] == 'kernel'"
	ok "and more: by kind of page" json '{"failed_kinds","moved_kinds","call_us_max","call_us_fixed","numa_balancing"} <= set(d)'
	godwit migrate -q "$PLAIN" 0 0
	ok "-q says nothing" eval 'exits 0 && [ ! -s "$TMP/out" ] && [ ! -s "$TMP/err" ]'
	godwit migrate --dry-run "$PLAIN" all 0
	ok "--dry-run ends with 0" eval 'exits 0 && out_has "would move"'
	refuses "a node that is not there is named, and those that are" "node 63: this host has 0" migrate "$PLAIN" 0 63
	refuses "FROM too" "node 62: this host has 0" migrate "$PLAIN" 62 0
	refuses "what is no list is shown" "node list '0-'" migrate "$PLAIN" 0- 0
	refuses "an empty list names no node" "names no node with memory" migrate "$PLAIN" '!0-62' 0
	refuses "what only an engine does is refused: verify" "--verify needs an engine" migrate --verify "$PLAIN" 0 0
	refuses "break-cow" "--break-cow needs an engine" migrate --break-cow "$PLAIN" 0 0
	refuses "form" "--form needs an engine" migrate --form plain "$PLAIN" 0 0
}

test_looking()
{
	godwit maps "$PLAIN"
	# How many others map a library changes all the time.
	ok "maps is /proc/PID/numa_maps as it is" eval \
		'exits 0 && [ "$(sed "s/ mapmax=[0-9]*//" "$TMP/out")" = "$(sed "s/ mapmax=[0-9]*//" "/proc/$PLAIN/numa_maps")" ]'
	godwit maps --json "$PLAIN"
	ok "maps --json has the keys of an engine's" json \
		'{"start","end","perms","kind","name","policy","offset","pages","huge","swapped"} <= set(d)'
	ok "kinds are told" json '{"file","anon","stack"} <= {l["kind"] for l in lines}'
	godwit stat --json "$PLAIN"
	ok "stat has pages by node and kind" json \
		'd["via"] == "kernel" and d["nodes"][0]["kinds"]["anon"] > 0 and d["nodes"][0]["pages"] == sum(d["nodes"][0]["kinds"].values())'
	cp "$TMP/out" "$TMP/scanned"
	GODWIT_PROBE=no-scan godwit stat --json "$PLAIN"
	ok "the same where the kernel has no PAGEMAP_SCAN" python3 -c "
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
sys.exit(a['nodes'][0]['kinds'] != b['nodes'][0]['kinds'])" "$TMP/scanned" "$TMP/out"
	godwit stat "$PLAIN"
	ok "stat as text" eval 'exits 0 && out_has "no engine" && out_has "nodes that its cpuset allows"'
	godwit ps --json
	ok "ps does not show it" eval 'exits 0 && ! out_has "\"pid\":$PLAIN,"'
	godwit ps --all --json
	ok "ps --all does, with its nodes" eval 'grep "\"pid\":$PLAIN," "$TMP/out" | grep -q "\"via\":\"kernel\".*\"node\":0"'
	godwit ps --all
	ok "also as text" eval 'grep -qE "^ *$PLAIN sleep .* 0:" "$TMP/out"'
}

test_move()
{
	local addr
	addr=$(awk '/ stack / { print $1 }' "/proc/$PLAIN/numa_maps")
	# The stack's top is used for certain.
	addr=$(printf '%x' $((0x$(sed -n 's/^[0-9a-f]*-\([0-9a-f]*\) .*\[stack\].*/\1/p' "/proc/$PLAIN/maps") - 4096)))
	printf '%s 0\n1000 0\n' "$addr" >"$TMP/list"
	godwit move "$PLAIN" "$TMP/list"
	ok "move prints each address with its status, and exits with 2" eval \
		'exits 2 && [ "$(<"$TMP/out")" = "$(printf "%s 0\n1000 EFAULT" "'"$addr"'")" ]'
	echo "$addr" >"$TMP/list"
	godwit move --query "$PLAIN" "$TMP/list"
	ok "--query says where it is" eval 'exits 0 && [ "$(<"$TMP/out")" = "'"$addr"' 0" ]'
	echo "$addr 63" >"$TMP/list"
	refuses "a node that is not there names its line" "line 1: node 63: the nodes of this host with memory are 0" \
		move "$PLAIN" "$TMP/list"
}

test_who()
{
	local zombie
	[ "$(cat /proc/2/comm 2>/dev/null)" != kthreadd ] ||
		refuses "a thread of the kernel is named so" "PID 2 is a thread of the kernel" stat 2
	python3 -c 'import os, time
pid = os.fork() or os._exit(0)
print(pid, flush=True)
time.sleep(60)' >"$TMP/zombie" &
	STARTED+=($!)
	for _ in $(seq 100); do
		read -r zombie <"$TMP/zombie" && grep -q "^State:.*Z" "/proc/$zombie/status" && break
		sleep 0.1
	done
	refuses "a zombie is named so" "PID $zombie is a zombie" stat "$zombie"
	refuses "a process that is not there is named" "no process 4194999" migrate 4194999 0 0
	if [ "$(id -u)" = 0 ] && setpriv --reuid 65534 --regid 65534 --clear-groups "$GODWIT" --version >/dev/null 2>&1; then
		setpriv --reuid 65534 --regid 65534 --clear-groups "$GODWIT" stat "$PLAIN" >"$TMP/out" 2>"$TMP/err"
		rc=$?
		ok "another user's process is refused with the mend" refused "belongs to root: run godwit as root or as that user"
	fi
}

test_engine()
{
	local pid
	"$GODWIT" check >/dev/null 2>&1 || return
	"$GODWIT" run -q -- sleep 600 &
	pid=$!
	STARTED+=("$pid")
	godwit stat --json $pid
	ok "a program that is just starting under run is its engine's" json 'd["via"] == "engine"'
	godwit stat --json --via kernel $pid
	ok "--via kernel looks past the engine" json 'd["via"] == "kernel"'
	refuses "--all is the kernel's" "--all is of --via kernel" migrate --all $pid 0 1
	godwit ps --all --json
	ok "ps --all shows a managed process once" eval '[ "$(grep -c "\"pid\":'$pid'," "$TMP/out")" = 1 ] && grep "\"pid\":'$pid'," "$TMP/out" | grep -q engine'
	kill $pid
	wait $pid 2>/dev/null
	"$GODWIT" ps >/dev/null	# takes away what a killed process leaves
}

command -v python3 >/dev/null || { echo "1..0 # SKIP python3 is not installed"; exit 0; }
: >"$TMP/out"
: >"$TMP/err"
sleep 600 &
PLAIN=$!
STARTED+=("$PLAIN")
sleep 0.3
test_migrate
test_looking
test_move
test_who
test_engine
echo "1..$nr"
[ "$failed" = 0 ]

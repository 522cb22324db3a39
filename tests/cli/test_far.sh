#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Far nodes from outside: specifications and their errors, exit codes, and what maps, stat and migrate say of them.
set -u
cd "$(dirname "$0")/../.." || exit 1
godwit=$(readlink -f "${BUILD:-build}/godwit") nr=0 pid=
export XDG_RUNTIME_DIR
XDG_RUNTIME_DIR=$(mktemp -d) || exit 1
trap '[ -n "$pid" ] && kill "$pid" 2>/dev/null; rm -rf "$XDG_RUNTIME_DIR"' EXIT

result()	# sentence; status
{
	nr=$((nr + 1))
	if [ "$2" = 0 ]; then echo "ok $nr - $1"; else echo "not ok $nr - $1"; fi
}

refused()	# specification, the word to be named
{
	local said
	said=$(timeout 20 "$godwit" run --node ram --node "$1" -- true 2>&1)
	[ $? = 1 ] && [[ $said == *"$2"* ]]
	result "--node $1 is refused, and the message has $2" $?
}

refused zram,alg=lzo alg=lzo
refused zram,size=0 size=0
refused zram,host=0 host=0
refused zram,dedup=2 dedup=2
refused file file
refused 'file,size=1G' file
refused zrum zrum
timeout 20 "$godwit" run --node zram -- true >/dev/null 2>&1
[ $? = 1 ]
result 'the first node has to be memory: exit 1' $?

start()	# nodes
{
	local i
	"$godwit" run -q "$@" -- python3 -c '
import sys, time, os
data = [os.urandom(1 << 20) for n in range(48)]
copy = [hash(d) for d in data]
print("ready", flush=True)
while sys.stdin.readline():
	print(all(hash(bytes(bytearray(d))) == h and hash(bytes(d[:1] + d[1:])) == h for d, h in zip(data, copy)), flush=True)
' <&8 >&9 &
	pid=$!
	for ((i = 0; i < 100; i++)); do
		"$godwit" stat "$pid" >/dev/null 2>&1 && break
		sleep 0.1
	done
	sleep 0.5
}

if ! command -v python3 >/dev/null; then
	echo "1..$nr"
	exit
fi
mkfifo "$XDG_RUNTIME_DIR/in" "$XDG_RUNTIME_DIR/out"
exec 8<>"$XDG_RUNTIME_DIR/in" 9<>"$XDG_RUNTIME_DIR/out"
start --node ram --node zram <&8 >&9
read -rt 20 line <&9
[ "$line" = ready ]
result 'a program runs on memory and a compressed pool' $?
"$godwit" migrate -q "$pid" 0 1
[ $? -le 2 ] && "$godwit" maps "$pid" | grep -q ' N1=[0-9]'
result 'maps shows pages on node 1' $?
away=$("$godwit" stat "$pid" --json | sed -n 's/.*"pages_away": *\([0-9]*\).*/\1/p')
[ "${away:-0}" -gt 10000 ]
result 'stat --json has pages_away' $?
echo >&8
read -rt 60 line <&9
[ "$line" = True ]
result 'the program has all its data' $?
said=$("$godwit" migrate "$pid" 1 0 --json | tail -1)
[ $? = 0 ] && [[ $said == *'"pages_failed"'* ]]
result 'what is left in the pool comes back: exit 0' $?
kill "$pid"
wait "$pid" 2>/dev/null

start --node ram --node zram,size=8M <&8 >&9
read -rt 20 line <&9
said=$("$godwit" migrate "$pid" 0 1 --json | tail -1; exit "${PIPESTATUS[0]}")
[ $? = 2 ] && [[ $said == *'"ENOSPC"'* ]]
result 'what a pool of 8 MiB does not hold stays: exit 2, ENOSPC' $?
echo >&8
read -rt 60 line <&9
[ "$line" = True ]
result 'and the program has all its data' $?
kill "$pid"
wait "$pid" 2>/dev/null

of()	# key: in $said
{
	grep -o "\"$1\":[0-9]*" <<<"$said" | head -n 1 | cut -d : -f 2
}

start --node ram --node ram,size=16M <&8 >&9
read -rt 20 line <&9
said=$("$godwit" migrate "$pid" 0 1 --fallback swap 2>&1)
[ $? = 1 ] && [[ $said == *'far node'*'--node zram'* ]]
result '--fallback swap without a far node: exit 1, and the message says what to do' $?
said=$("$godwit" migrate "$pid" 0 1 --fallback disk 2>&1)
[ $? = 1 ] && [[ $said == *"'disk'"*'swap or none'* ]]
result '--fallback disk: exit 1, and the message says what there is' $?
said=$("$godwit" migrate "$pid" 0 1 --fallback swap --lazy 2>&1)
[ $? = 1 ] && [[ $said == *--lazy* ]]
result '--fallback swap and --lazy: exit 1' $?
kill "$pid"
wait "$pid" 2>/dev/null

start --node ram --node ram,size=16M --node zram <&8 >&9
read -rt 20 line <&9
said=$("$godwit" migrate "$pid" 0 1 --fallback none --json | tail -1; exit "${PIPESTATUS[0]}")
[ $? = 2 ] && [ "$(of ENOMEM)" -gt 0 ] && [ "$(of pages_fallback)" = 0 ]
result 'what finds no room stays: exit 2, ENOMEM; --fallback none is that too' $?
"$godwit" migrate -q "$pid" 1 0
said=$("$godwit" migrate "$pid" 0 1 --fallback swap --dry-run)
[ $? = 0 ] && [[ $said == *'through a far node: '[1-9]* ]]
result 'a dry run with --fallback swap says how much would go through a far node' $?
said=$("$godwit" migrate "$pid" 0 1 --fallback swap --json | tail -1; exit "${PIPESTATUS[0]}")
[ $? = 0 ] && [ "$(of pages_fallback)" -gt 0 ] && [ "$(of pages_failed)" = 0 ]
result 'with --fallback swap it goes through a far node: exit 0, and pages_fallback' $?
fallen=$(of pages_fallback)
said=$("$godwit" stat "$pid" --json)
[ "$(of pages_fallback)" = "$fallen" ]
result 'stat --json has the same number' $?
echo >&8
read -rt 60 line <&9
[ "$line" = True ]
result 'and the program has all its data' $?
kill "$pid"
wait "$pid" 2>/dev/null
pid=
echo "1..$nr"

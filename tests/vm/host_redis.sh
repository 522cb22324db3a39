#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real program on nodes of a machine: redis-server under load is moved to and fro, and after each migration the machine's
# kernel says that all its managed pages are there, but those that stayed, with their reasons. Every value is right at the end.
#
# test-machine-long: two
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 2
for name in redis-server redis-cli; do
	command -v $name >/dev/null || { echo "1..0 # SKIP $name is not installed"; exit 0; }
done
keys=8000
host=("${machine[@]:0:2}")

ask()
{
	timeout -s KILL 60 redis-cli -s "$dir/redis" "$@"
}

answers()
{
	for _ in {1..100}; do
		[ "$(ask ping 2>/dev/null)" = PONG ] && return
		sleep 0.1
	done
	return 1
}

load()
{
	awk -v keys=$keys 'BEGIN { for (n = 0; n < keys; n++) printf "SET key:%06d %0300d\r\n", n, n * 7919 }' |
		timeout -s KILL 100 redis-cli -s "$dir/redis" --pipe >/dev/null 2>&1
}

values()
{
	awk -v keys=$keys 'BEGIN { for (n = 0; n < keys; n++) printf "GET key:%06d\n", n }' | ask >"$dir/values"
	awk -v keys=$keys 'BEGIN { for (n = 0; n < keys; n++) printf "%0300d\n", n * 7919 }' >"$dir/right"
	[ -s "$dir/right" ] && [ "$(sha256sum <"$dir/right")" = "$(sha256sum <"$dir/values")" ]
}

# Clients that go on while pages move.
busy()
{
	while [ -e "$dir/busy" ]; do
		for n in {1..50}; do echo "INCR counter"; echo "GET key:00${n}0"; done | ask >/dev/null
	done
}

# Of what the program has; the engine's own memory, with the frames that have become free, is not in the books.
left_on()	# node
{
	books | cut -d ' ' -f 1 >"$dir/own"
	"$progs/host_pages" "$pid" | sed 's/-[0-9a-f]*//' | grep -wFf "$dir/own" | grep -o "N${host[$1]}=[0-9]*" |
		cut -d = -f 2 | awk '{ s += $1 } END { print s + 0 }'
}

moved()	# from, to, how many may have been touched first meanwhile, and be there
{
	local left stack
	migrate "$1" "$2"
	adds_up || return
	left=$(left_on "$1")
	stack=$(grep -o '"stack":[0-9]*' <<<"$json" | cut -d : -f 2)
	note "$(field pages_moved) moved, $(field pages_failed) failed, the kernel finds $left on node $1, $stack in stacks"
	[ "$left" -le $(($(field pages_failed) + stack + $3)) ] # the first thread's stack is managed in part
}

"$GODWIT" run -q --node "ram,host=${host[0]}" --node "ram,host=${host[1]}" -- \
	redis-server --port 0 --unixsocket "$dir/redis" --unixsocketperm 700 --save '' --appendonly no --dir "$dir" \
	>"$dir/log" 2>&1 &
pid=$!
ok "redis-server starts" answers
ok "it is loaded" load
migrate all 0
: >"$dir/busy"
busy &
client=$!
for _ in 1 2; do
	ok "under load, to node 1: all but what has a reason" moved 0 1 150
	ok "under load, to node 0: all but what has a reason" moved 1 0 150
done
rm "$dir/busy"
wait $client
ok "quiet, to node 1" moved 0 1 0
ok "the books say what the kernel says" books_are_true
ok "every value is right" values
ask shutdown nosave >/dev/null 2>&1
wait "$pid"
pid=
end_tests

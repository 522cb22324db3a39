#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real redis on two nodes of the engine that are bound to two of the machine's: moved as a whole, and the kernel itself
# says on which node its pages are; every value is as it was. On node 1, which has a CPU, and on one that has none.
#
# test-machine: two far
set -u

nr=0 redis=''
dir=$(mktemp -d) || exit 1
clean_up()
{
	[ -z "$redis" ] || { kill "$redis" && wait "$redis"; } 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT

ok()	# text, command...
{
	local text=$1
	shift
	nr=$((nr + 1))
	if "$@"; then echo "ok $nr - $text"; else echo "not ok $nr - $text"; fi
}

ask()	# redis
{
	redis-cli -s "$dir/redis" "$@" 2>&1
}

# Pages of the heap and of other anonymous memory on a node, as the kernel has them; the engine's arenas are bound.
kernel_pages()	# node
{
	awk -v node="N$1=" '!/ (file|stack)/ && !/ bind/ {
		for (i = 1; i <= NF; i++)
			if (index($i, node) == 1)
				pages += substr($i, length(node) + 1)
	} END { print pages + 0 }' "/proc/$redis/numa_maps"
}

values_are_right()
{
	[ "$(ask eval 'local bad = 0
		for i = 1, 20000 do
			if redis.call("get", "key:" .. i) ~= string.rep(i .. "-", 60) then bad = bad + 1 end
		end
		return bad' 0)" = 0 ]
}

move()	# from, to: the engine's nodes
{
	godwit migrate --json --max-stall 5000 "$redis" "$1" "$2" >"$dir/moved"
	cat "$dir/moved" | sed 's/^/# /' | cut -c 1-200
	grep -q '"pages_failed":0,' "$dir/moved"
}

# Redis gives memory back meanwhile, and what the engine does not manage stays: so not to the page.
kernel_agrees()	# machine's node that all is to be on, the other
{
	local here there moved
	for _ in {1..60}; do	# the frames that were left go back after a while
		here=$(kernel_pages "$1")
		there=$(kernel_pages "$2")
		[ $((there * 10)) -ge "$here" ] || break
		sleep 0.1
	done
	moved=$(sed 's/.*"pages_moved":\([0-9]*\).*/\1/' "$dir/moved")
	echo "# the kernel: $here pages on node $1, $there on node $2; $moved were moved"
	[ "$moved" -gt 1000 ] && [ "$here" -gt 1000 ] && [ $((there * 10)) -lt "$here" ]
}

far=1
[ "$MACHINE" = two ] || far=2
numactl --cpunodebind=0 godwit run -q --node ram,host=0 --node "ram,host=$far" -- redis-server --port 0 --unixsocket "$dir/redis" \
	--save '' --appendonly no --dir "$dir" >"$dir/log" 2>&1 &
redis=$!
for _ in {1..300}; do
	[ "$(ask ping)" != PONG ] || break
	sleep 0.1
done
ok 'redis runs on two nodes of the machine' [ "$(ask ping)" = PONG ]
ask eval 'for i = 1, 20000 do redis.call("set", "key:" .. i, string.rep(i .. "-", 60)) end' 0 >/dev/null
ok "all of it moves to node $far" move 0 1
ok 'and the kernel says that it is there' kernel_agrees $far 0
ok 'with every value' values_are_right
ok 'it moves back' move 1 0
ok 'and the kernel says so' kernel_agrees 0 $far
ok 'with every value' values_are_right
kill "$redis"
wait "$redis"
redis=''
echo "1..$nr"

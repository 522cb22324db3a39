#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server serves redis-benchmark and saves itself while its pages, and those of the child that saves, move to and
# fro; it also writes all commands to an append-only file, and rewrites that in a child. Every value is then what its key
# says, in the live server and in plain ones that were started on the dump and on the file; and the counters, which
# redis-benchmark alone touches, sum up to the number of INCRs served.
#
#   REDIS_KEYS=100000   keys with values of 60 to 256 bytes; the long form has 1000000
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need redis-server redis-cli redis-benchmark
keys=${REDIS_KEYS:-$((100000 * scale))}
counters=20000

keys_awk='
function name(n) { return sprintf("fixed:%09d", n) }
function value(n,   text) {
	text = sprintf("%08d:%08d-", n, n * 48271 % 99999989)
	text = text text text text
	return substr(text text text text, 1, 60 + n % 197)
}
BEGIN {
	for (n = 0; task == "load" && n < keys; n++)
		printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(name(n)), name(n), length(value(n)), value(n)
	for (n = 0; task == "ask" && n < keys; n++)
		printf "%s %s", n % 500 ? "" : "\nMGET", name(n)
	for (n = 0; task == "values" && n < keys; n++)
		print value(n)
	for (n = 0; task == "counters" && n < keys; n++)
		printf "%s counter:%012d", n % 500 ? "" : "\nMGET", n
	if (task == "ask" || task == "counters")
		print ""
}'

text()	# task, number of keys
{
	awk -v task="$1" -v keys="$2" "$keys_awk"
}

ask()	# server, words
{
	timeout -s KILL 60 redis-cli -s "$dir/$1" "${@:2}"
}

info()	# server, section, key
{
	ask "$1" info "$2" | tr -d '\r' | sed -n "s/^$3:\(calls=\)\?\([^,]*\).*/\2/p"
}

answers()	# server
{
	[ "$(ask "$1" ping)" = PONG ]
}

# The delay, now and then a microsecond between two keys, lets a save last longer than a migration.
serve()	# name, appendonly, command: until it answers and has read what it has
{
	mkdir -p "$dir/$1.d"
	"${@:3}" redis-server --port 0 --unixsocket "$dir/$1" --unixsocketperm 700 --save '' --rdb-key-save-delay -20 \
		--appendonly "$2" --auto-aof-rewrite-percentage 0 --dir "$dir/$1.d" >"$dir/$1.log" 2>&1
	await $((200 * scale)) answers "$1"
}

plain()	# name, appendonly, what it is started on
{
	mkdir -p "$dir/$1.d"
	cp -r "$dir/live.d/$3" "$dir/$1.d/"
	serve "$1" "$2" start $((100 * scale)) || give_up "a plain redis-server starts on $3" "$dir/$1.log"
	ok "a plain redis-server on $3 has as many keys, $size" [ "$(ask "$1" dbsize)" = "$size" ]
	ok 'every value in it is right' all_values "$1"
	ok 'every counter in it is right' all_counters "$1" "$dir/counters.$1"
	ok 'and the one of the live server' same "$dir/counters" "$dir/counters.$1"
	ask "$1" shutdown nosave >/dev/null 2>&1
	finish
}

ended()	# what is in progress
{
	[ "$(info live persistence "$1")" = 0 ]
}

# A child writes all there is.
save()	# command, what is in progress, its last status
{
	local begin
	begin=$(wc -l <"$dir/moves")
	ask live "$1" >/dev/null && await $((600 * scale)) ended "$2" || return 1
	[ "$(info live persistence "$3")" = ok ] || return 1
	saves=$((saves + 1))
	moves_during_saves=$((moves_during_saves + $(wc -l <"$dir/moves") - begin))
}

dump()
{
	save bgsave rdb_bgsave_in_progress rdb_last_bgsave_status
}

rewrite()
{
	save bgrewriteaof aof_rewrite_in_progress aof_last_bgrewrite_status
}

all_served()
{
	[ "$(info live clients connected_clients)" = 1 ]
}

all_values()	# server
{
	text ask "$keys" | ask "$1" >"$dir/values"
	same "$dir/expected" "$dir/values"
}

all_counters()	# server, file
{
	text counters "$counters" | ask "$1" >"$2"
	[ "$(awk '{ sum += $1 } END { printf "%d\n", sum }' "$2")" = "$served" ]
}

serve live yes godwit_run 150 || give_up 'redis-server answers' "$dir/live.log"
{
	text load "$keys"
	text counters "$counters" | sed '/./!d; s/^MGET //; s/ / 0 /g; s/^/MSET /; s/$/ 0/'
} | ask live --pipe >"$dir/load.log" 2>&1
grep -q 'errors: 0,' "$dir/load.log" || give_up 'redis-server takes the keys' "$dir/load.log"
text values "$keys" >"$dir/expected"
home=$(info live server process_id)

start_moving
start $((100 * scale)) redis-benchmark -s "$dir/live" -t set,incr -r $counters -n 30000 -P 4 -d 300 -l -q >"$dir/bench.log" 2>&1
bench=${started[-1]}
saves=0 moves_during_saves=0
for _ in 1 2 3; do
	dump
	sleep 0.3
done
ok 'redis saved itself three times under constant migration, with writers' [ $saves = 3 ]
{
	kill -KILL -- "-$bench"
	finish
} 2>/dev/null
await 200 all_served
served=$(info live commandstats cmdstat_incr)
served=${served:-0}	# it may not have come to them
ok 'and once more, without writers' dump
ok 'it rewrote its append-only file' rewrite
ok 'every value in the live server is right, read under constant migration' all_values live
stop_moving
ok 'and when nothing moves any more' all_values live
ok "the counters sum up to the INCRs served, $served" all_counters live "$dir/counters"
ok 'this was one process all the time' [ "$(info live server process_id)" = "$home" ]
note "$saves saves, $moves_during_saves migrations meanwhile"
ok 'there were migrations during the saves' [ $moves_during_saves -gt $saves ]
ok 'the pages of a child that saves were moved, too' [ "$(processes_moved)" -gt 1 ]
ok_moves 100000
size=$(ask live dbsize)
ask live shutdown nosave >/dev/null 2>&1
ok 'it ends with success' finish

plain dumped no dump.rdb
plain appended yes appendonlydir
end_tests

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server serves redis-benchmark and saves itself while its pages, and those of the child that saves, move to and
# fro. Every value is then what its key says, in the live server and in a plain one that was started on the dump; and
# the counters, which redis-benchmark alone touches, sum up to the number of INCRs served.
#
#   REDIS_KEYS=100000   keys with values of 60 to 256 bytes; the long form has 1000000
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need redis-server redis-cli redis-benchmark
keys=${REDIS_KEYS:-100000}
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

serve()	# name, command before redis-server, if any: until it answers and has read its dump
{
	# The delay, now and then a microsecond between two keys, lets a save last longer than a migration.
	start 250 "${@:2}" redis-server --port 0 --unixsocket "$dir/$1" --unixsocketperm 700 --save '' \
		--rdb-key-save-delay -20 --appendonly no --dir "$dir" --dbfilename dump.rdb >"$dir/$1.log" 2>&1
	for _ in {1..200}; do
		[ "$(ask "$1" ping 2>/dev/null)" != PONG ] || return 0
		kill -0 "${started[-1]}" 2>/dev/null || break
		sleep 0.1
	done
	return 1
}

# Says how many migrations were made meanwhile.
save()
{
	local begin
	begin=$(wc -l <"$dir/moves")
	ask live bgsave >/dev/null || return 1
	for _ in {1..600}; do
		case $(info live persistence rdb_bgsave_in_progress) in
		0) break ;;
		'') return 1 ;;
		esac
		sleep 0.05
	done
	[ "$(info live persistence rdb_bgsave_in_progress)" = 0 ] || return 1
	[ "$(info live persistence rdb_last_bgsave_status)" = ok ] || return 1
	saves=$((saves + 1))
	moves_during_saves=$((moves_during_saves + $(wc -l <"$dir/moves") - begin))
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

serve live "$GODWIT" run -q --nodes 2 -- || give_up 'redis-server answers' "$dir/live.log"
{
	text load "$keys"
	text counters "$counters" | sed '/./!d; s/^MGET //; s/ / 0 /g; s/^/MSET /; s/$/ 0/'
} | ask live --pipe >"$dir/load.log" 2>&1
grep -q 'errors: 0,' "$dir/load.log" || give_up 'redis-server takes the keys' "$dir/load.log"
text values "$keys" >"$dir/expected"
home=$(info live server process_id)

start_moving
start 200 redis-benchmark -s "$dir/live" -t set,incr -r $counters -n 30000 -P 4 -d 300 -l -q >"$dir/bench.log" 2>&1
bench=${started[-1]}
saves=0 moves_during_saves=0
for _ in 1 2 3; do
	save
	sleep 0.3
done
ok 'redis saved itself three times under constant migration, with writers' [ $saves = 3 ]
{
	kill -KILL -- "-$bench"
	finish
} 2>/dev/null
for _ in {1..200}; do	# what was sent is served first
	[ "$(info live clients connected_clients)" != 1 ] || break
	sleep 0.05
done
served=$(info live commandstats cmdstat_incr)
ok 'and once more, without writers' save
ok 'every value in the live server is right, read under constant migration' all_values live
stop_moving
ok 'and when nothing moves any more' all_values live
ok "the counters sum up to the INCRs served, ${served:-none}" all_counters live "$dir/counters"
ok 'this was one process all the time' [ "$(info live server process_id)" = "$home" ]
note "$saves saves, $moves_during_saves migrations meanwhile"
ok 'there were migrations during the saves' [ $moves_during_saves -gt $saves ]
ok 'the pages of a child that saves were moved, too' [ "$(processes_moved)" -gt 1 ]
ok_moves 100000
size=$(ask live dbsize)
ask live shutdown nosave >/dev/null 2>&1
ok 'it ends with success' finish

serve plain env || give_up 'a plain redis-server starts on the dump' "$dir/plain.log"
ok "a plain redis-server on the dump has as many keys, $size" [ "$(ask plain dbsize)" = "$size" ]
ok 'every value in it is right' all_values plain
ok 'every counter in it is right' all_counters plain "$dir/counters.plain"
ok 'and the one of the live server' same "$dir/counters" "$dir/counters.plain"
ask plain shutdown nosave >/dev/null 2>&1
finish
end_tests

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server is a member of a group, serves redis-benchmark and saves itself in a child, while the nodes of the group
# change 20 times. Every value is then what its key says, and the counters, which redis-benchmark alone touches, sum up
# to the number of INCRs served.
#
# test-timeout: 200
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need redis-server redis-cli redis-benchmark
keys=$((50000 * scale))
counters=10000

ask()	# words
{
	timeout -s KILL 60 redis-cli -s "$dir/live" "$@"
}

info()	# section, key
{
	ask info "$1" | tr -d '\r' | sed -n "s/^$2:\(calls=\)\?\([^,]*\).*/\2/p"
}

answers() { [ "$(ask ping)" = PONG ]; }
all_served() { [ "$(info clients connected_clients)" = 1 ]; }
saved() { [ "$(info persistence rdb_bgsave_in_progress)" = 0 ]; }

text()	# load|ask|values
{
	awk -v task="$1" -v keys="$keys" 'BEGIN {
		for (n = 0; n < keys; n++) {
			value = sprintf("%08d:%08d", n, n * 48271 % 99999989)
			value = value value value value
			if (task == "load")
				printf "SET fixed:%d %s\n", n, value
			else if (task == "ask")
				printf "%s fixed:%d", n % 500 ? "" : "\nMGET", n
			else
				print value
		}
		if (task == "ask")
			print ""
	}'
}

all_values()
{
	text ask | ask >"$dir/values"
	same "$dir/expected" "$dir/values"
}

all_counters()
{
	local sum
	sum=$(awk -v n=$counters 'BEGIN { for (i = 0; i < n; i++) printf "%s counter:%012d", i % 500 ? "" : "\nMGET", i; print "" }' |
		ask | awk '{ sum += $1 } END { printf "%d\n", sum }')
	[ "$sum" = "$served" ]
}

start 150 "$GODWIT" run -q --nodes 4 -- redis-server --port 0 --unixsocket "$dir/live" --unixsocketperm 700 --save '' \
	--dir "$dir" >"$dir/live.log" 2>&1
await 200 answers || give_up 'redis-server answers' "$dir/live.log"
text load | ask --pipe >"$dir/load.log" 2>&1
grep -q 'errors: 0,' "$dir/load.log" || give_up 'redis-server takes the keys' "$dir/load.log"
text values >"$dir/expected"
home=$(info server process_id)

ok 'redis joins a group' godwit group create -q redis 0-1 "$home"
start 100 redis-benchmark -s "$dir/live" -t set,incr -r $counters -n 30000 -P 4 -d 300 -l -q >"$dir/bench.log" 2>&1
bench=${started[-1]}
lists=(2-3 1 0-3 '0,2' '1,3' '!0' 3 0 all 1-2)
done=0 stayed=0 saves=0
for ((i = 0; i < 20; i++)); do
	[ $((i % 5)) != 2 ] || { ask bgsave >/dev/null && saves=$((saves + 1)); }
	status=0
	godwit group set --json redis "${lists[i % 10]}" >>"$dir/changes" 2>>"$dir/errors" || status=$?
	case $status in
	0) done=$((done + 1)) ;;
	2) done=$((done + 1)) stayed=$((stayed + 1)) ;;
	esac
	sleep 0.1
done
ok 'its nodes changed 20 times while it served and saved' [ "$done" = 20 ]
note "$saves saves, pages stayed in $stayed changes; moved $(sum_of pages_moved "$dir/changes") pages (members and sums)"
note "worst window $(grep -o '"stall_us_max":[0-9]*' "$dir/changes" | cut -d : -f 2 | sort -n | tail -n 1) us"
ok 'with nobody left out' [ ! -s "$dir/errors" ]
note_file "$dir/errors"
{
	kill -KILL -- "-$bench"
	finish
} 2>/dev/null
await 200 all_served
await 200 saved
served=$(info commandstats cmdstat_incr)
ok 'every save was a good one' [ "$(info persistence rdb_last_bgsave_status)" = ok ]
ok 'every value is right' all_values
ok "the counters sum up to the INCRs served, ${served:-none}" all_counters
ok 'this was one process all the time' [ "$(info server process_id)" = "$home" ]
ok 'without a child all its pages follow' godwit group set -q redis 3
godwit group show --json redis >"$dir/shown"
other=$(sed 's/.*"pages":{\([^}]*\)}}$/\1/' "$dir/shown" | tr , '\n' | grep -v '"3"' | awk -F : '{ sum += $2 } END { print sum + 0 }')
ok "but those that threads need where they are ($other)" [ "$other" -lt 16 ]
ask shutdown nosave >/dev/null 2>&1
ok 'it ends with success' finish
ok 'and the group with it' [ ! -e "$XDG_RUNTIME_DIR/godwit/groups" ]
end_tests

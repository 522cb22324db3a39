#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real redis-server on two memory nodes: redis-benchmark works on it, in turns without and with its whole memory
# being moved to and fro; then every key is verified. Takes under a minute, leaves nothing behind.
#
# The value of a key follows from its name; the counters, which only redis-benchmark touches, have to sum up to the
# number of INCRs that redis has served.
#
#   BUILD=build   where godwit was built      KEYS=1000000  keys, some 450 bytes each
#   PAIRS=3       stretches without and with  STRETCH=4     seconds of each
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

godwit=${BUILD:-build}/godwit
keys=${KEYS:-1000000} counters=100000
pairs=${PAIRS:-3} stretch=${STRETCH:-4}

dir='' redis='' mover='' load=()
rates_without=() rates_with=()
bold='' dim='' good='' bad='' plain='' rewrite='' tick_us=1000000

die()
{
	printf '%s\n' "${bad}demo: $*$plain" >&2
	exit 1
}

# ---- beginning and end ----

end_process()	# pid of a child: told to end, made to after 5 s
{
	kill "$1" 2>/dev/null || true
	for _ in {1..50}; do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

end_load()
{
	local pid
	for pid in "${load[@]}"; do
		end_process "$pid"
	done
	load=()
}

end_moves()
{
	local pid=$mover
	rm -f "$dir/moving"
	mover=
	[ -z "$pid" ] || wait "$pid"
}

end_redis()
{
	[ -z "$redis" ] || end_process "$redis"
	redis=
}

clean_up()
{
	trap '' INT TERM HUP PIPE
	[ -n "$dir" ] || return 0
	rm -f "$dir/moving"
	end_load
	end_redis
	end_moves || true
	rm -rf "$dir"
}

set_up()
{
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
		rewrite=$'\r\e[K' tick_us=250000
		[ -n "${NO_COLOR:-}" ] || bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' plain=$'\e[0m'
	fi
	dir=$(mktemp -d /tmp/godwit-demo.XXXXXX)
	export XDG_RUNTIME_DIR=$dir	# godwit's sockets go with it
}

check_machine()
{
	local tool
	[ -x "$godwit" ] || die "there is no $godwit: build it with 'make'"
	for tool in redis-server redis-cli redis-benchmark; do
		command -v "$tool" >/dev/null || die "there is no $tool: 'scripts/setup demo' installs it"
	done
	if ! "$godwit" check >"$dir/check" 2>&1; then
		cat "$dir/check" >&2
		die 'migration does not work here'
	fi
	awk '/^MemAvailable/ { exit $2 < 1200000 }' /proc/meminfo || die 'this needs 1.2 GB of free memory'
}

ask()	# redis
{
	redis-cli -s "$dir/redis" "$@"
}

redis_failed()
{
	grep -m 3 -E 'crashed by|Accessing address|Crashed running' "$dir/redis.log" >&2 || tail -n 3 "$dir/redis.log" >&2
	die 'redis-server has ended or does not answer'
}

start_redis()
{
	"$godwit" run -q --nodes 2 -- redis-server --port 0 --unixsocket "$dir/redis" --unixsocketperm 700 \
		--save '' --appendonly no --dir "$dir" >"$dir/redis.log" 2>&1 &
	redis=$!
	for _ in {1..100}; do
		[ "$(ask ping 2>/dev/null || true)" != PONG ] || return 0
		kill -0 "$redis" 2>/dev/null || break
		sleep 0.1
	done
	redis_failed
}

# ---- keys and values ----

# shellcheck disable=SC2016	# awk's variables
keys_awk='
	function name(what, n) {
		return sprintf("%s:%012d", what, n)
	}
	function value(n,   u) {
		u = sprintf("%08d:%08d-", n, n * 48271 % 99999989)
		u = u u u
		return u u u u u u u
	}
	function set(key, text) {
		printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(text), text
	}
	function ask_for(what, count,   n) {
		for (n = 0; n < count; n++)
			printf "%s %s", n % 500 ? "" : "\nMGET", name(what, n)
		print ""
	}'

load_keys()
{
	awk -v keys="$keys" -v counters="$counters" "$keys_awk"'
	BEGIN {
		for (n = 0; n < keys; n++)
			set(name("key", n), value(n))
		for (n = 0; n < counters; n++)
			set(name("hits", n), "0")
	}' | ask --pipe >"$dir/load.log" 2>&1 || redis_failed
	grep -q 'errors: 0,' "$dir/load.log" || die "loading: $(tail -n 1 "$dir/load.log")"
}

verify()
{
	local size wrong sum served
	size=$(ask dbsize)
	wrong=$(awk -v keys="$keys" "$keys_awk"'BEGIN { ask_for("key", keys) }' | ask | awk -v keys="$keys" "$keys_awk"'
		$0 != value(NR - 1) && !wrong++ { first = name("key", NR - 1) }
		END { if (wrong || NR != keys) print NR " keys read, " wrong + 0 " of them wrong, first " first }')
	sum=$(awk -v counters="$counters" "$keys_awk"'BEGIN { ask_for("hits", counters) }' | ask |
		awk '{ sum += $1 } END { printf "%.0f\n", sum }')
	served=$(ask info commandstats | sed -n 's/^cmdstat_incr:calls=\([0-9]*\).*/\1/p')
	[ -z "$wrong" ] || die "data lost: $wrong"
	[ "$size" = $((keys + counters)) ] || die "data lost: $size keys, there were $((keys + counters))"
	[ "$sum" = "$served" ] || die "writes lost: $served INCRs were served, the counters sum up to $sum"
	echo "${good}verified$plain    $keys values and $counters counters with $served INCRs: all right"
}

# ---- work and moves ----

start_load()
{
	redis-benchmark -s "$dir/redis" -c 25 -n 2000000000 -r "$keys" get key:__rand_int__ >/dev/null 2>&1 &
	load+=($!)
	redis-benchmark -s "$dir/redis" -c 25 -n 2000000000 -r "$counters" incr hits:__rand_int__ >/dev/null 2>&1 &
	load+=($!)
	sleep 1
}

# To and fro while there is a file "moving", and at last home to node 0; a line of JSON each.
move_to_and_fro()
{
	local node=0 status
	while [ -e "$dir/moving" ] || [ "$node" = 1 ]; do
		status=0
		timeout -s KILL 20 "$godwit" migrate --json "$redis" $node $((1 - node)) >>"$dir/moves" 2>>"$dir/errors" ||
			status=$?
		[ $status = 0 ] || [ $status = 2 ] || return 1	# 2: some pages stayed, and are counted
		node=$((1 - node))
	done
}

moves_failed()
{
	kill -0 "$redis" 2>/dev/null || redis_failed
	tail -n 1 "$dir/errors" >&2
	die 'godwit migrate has failed'
}

# Lines of JSON: the sums, and the worst, of what they say.
moves_awk='
	function number(key) {
		return match($0, "\"" key "\":[0-9.]+") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 : 0
	}
	{
		pages += number("pages_moved")
		bytes += number("bytes")
		seconds += number("seconds")
		left += number("pages_left")
		if (match($0, /"failed":{[^}]+}/))
			why = " " substr($0, RSTART + 9, RLENGTH - 9)
		if (number("stall_us_p999") > p999)
			p999 = number("stall_us_p999")
		if (number("stall_us_max") > worst)
			worst = number("stall_us_max")
	}'

sample()	# sets now_us, now_count: requests served until now
{
	local info
	info=$(ask info stats 2>/dev/null) || redis_failed
	now_us=${EPOCHREALTIME/./}
	[[ $info =~ total_commands_processed:([0-9]+) ]] || redis_failed
	now_count=${BASH_REMATCH[1]}
}

columns='%-9s %12s %12s %6s %15s %10s %12s'

row()	# without|with, requests/s, number of the first line of "moves" that counts
{
	local stat speed p999 worst pages=() node
	stat=$("$godwit" stat --json "$redis" 2>>"$dir/errors") || redis_failed
	for node in 0 1; do
		[[ $stat =~ \"node\":$node,[^}]*\"pages\":([0-9]+) ]] || die "not understood: $stat"
		pages+=("${BASH_REMATCH[1]}")
	done
	read -r speed p999 worst < <(tail -n "+$3" "$dir/moves" | awk "$moves_awk"'
		END { if (seconds) printf "%.2f %.0f %.0f\n", bytes / seconds / 1e9, p999, worst; else print "- - -" }')
	# shellcheck disable=SC2059
	printf "$rewrite$([ "$1" = with ] || echo "$dim")$columns$plain" "$1" "${pages[@]}" "$speed" "$p999" "$worst" "$2"
}

measure()	# without|with: one stretch of time, a row each second
{
	local second part first_us first_count begin_us begin_count line wait_us
	local -n rates=rates_$1
	sample
	first_us=$now_us first_count=$now_count
	for ((second = 0; second < stretch; second++)); do
		begin_us=$now_us begin_count=$now_count line=$(($(wc -l <"$dir/moves") + 1))
		for ((part = tick_us; part <= 1000000; part += tick_us)); do
			wait_us=$((first_us + second * 1000000 + part - ${EPOCHREALTIME/./}))
			[ $wait_us -le 0 ] || sleep "$((wait_us / 1000000)).$(printf %06d $((wait_us % 1000000)))"
			[ -z "$mover" ] || kill -0 "$mover" 2>/dev/null || moves_failed
			sample
			row "$1" $(((now_count - begin_count) * 1000000 / (now_us - begin_us))) $line
		done
		echo "${rewrite:+ }"
	done
	rates+=($(((now_count - first_count) * 1000000 / (now_us - first_us))))
}

compare()
{
	local pair
	# shellcheck disable=SC2059
	printf "$bold$columns$plain\n" migration 'node 0 pages' 'node 1 pages' GB/s 'stall p99.9 us' 'worst us' requests/s
	for ((pair = 0; pair < pairs; pair++)); do
		measure without
		: >"$dir/moving"
		move_to_and_fro &
		mover=$!
		measure with
		end_moves || moves_failed
	done
}

median()	# numbers
{
	printf '%s\n' "$@" | sort -n | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'
}

summary()
{
	awk -v without="$(median "${rates_without[@]}")" -v with="$(median "${rates_with[@]}")" "$moves_awk"'
	END {
		printf "requests/s  %d without migration, %d with: %.2f (medians)\n", without, with, with / without
		printf "moved       %d pages in %d migrations of the whole memory, %.2f GB/s, left behind: %d%s\n",
		       pages, NR, bytes / seconds / 1e9, left, why
		printf "stalls      worst %.0f us\n", worst
	}' "$dir/moves"
}

main()
{
	set_up
	check_machine
	start_redis
	echo "redis-server $redis runs on nodes 0 and 1; loading $keys keys"
	: >"$dir/moves"
	load_keys
	start_load
	compare
	summary
	end_load
	verify
	end_redis
	[ -z "$(find "$dir" -type s)" ] || die "a socket was left behind: $(find "$dir" -type s)"
}

main

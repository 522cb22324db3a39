#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real redis-server on two memory nodes: redis-benchmark works on it, in turns without and with its whole memory
# being moved to and fro; then every key is verified. Takes under a minute and leaves nothing behind.
#
# What is verified: the value of a key follows from its name; and the counters, which redis-benchmark alone touches,
# have to sum up to the number of INCRs that redis has served.
#
#   BUILD=build   where godwit was built      KEYS=500000  values of 880 bytes, and as many counters
#   PAIRS=3       turns without and with      TURN=4       seconds of each
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

godwit=${BUILD:-build}/godwit keys=${KEYS:-500000} pairs=${PAIRS:-3} turn=${TURN:-4}
dir='' redis='' bench='' mover=''
rates_without=() rates_with=()
bold='' dim='' good='' bad='' plain='' rewrite='' parts=1

die()	# message; says why redis has ended, if it has
{
	if [ -n "$redis" ] && ! kill -0 "$redis" 2>/dev/null; then
		grep -m 3 -E 'crashed by|Accessing|Crashed running' "$dir/redis.log" >&2 || tail -n 3 "$dir/redis.log" >&2
		set -- "redis-server has ended ($*)"
	fi
	printf '%s\n' "${bad}demo: $*$plain" >&2
	exit 1
}

# ---- beginning and end ----

end_process()	# pid of a child, or nothing: told to end, made to after 5 s
{
	[ -n "$1" ] || return 0
	kill "$1" 2>/dev/null || true
	for _ in {1..50}; do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

end_moves()
{
	local pid=$mover
	rm -f "$dir/moving"
	mover=
	[ -z "$pid" ] || wait "$pid"
}

clean_up()
{
	trap '' INT TERM HUP PIPE
	[ -n "$dir" ] || return 0
	rm -f "$dir/moving"
	end_process "$bench"
	end_process "$redis"
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
		rewrite=$'\r\e[K' parts=4
		[ -n "${NO_COLOR:-}" ] || bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' plain=$'\e[0m'
	fi
	dir=$(mktemp -d /tmp/godwit-demo.XXXXXX)
	export XDG_RUNTIME_DIR=$dir	# where godwit's sockets are
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
	die 'it does not answer'
}

# ---- keys and values ----

keys_program()	# actions: awk that knows keys and values
{
	awk -v keys="$keys" '
	function name(what, n) {
		return sprintf("%s:%012d", what, n)
	}
	function value(n,   u) {
		u = sprintf("%08d:%08d-", n, n * 48271 % 99999989)
		u = u u u u u u u
		return u u u u u u u
	}
	function set(key, text) {
		printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(text), text
	}
	function get_all(what,   n) {
		for (n = 0; n < keys; n++)
			printf "%s %s", n % 500 ? "" : "\nMGET", name(what, n)
		print ""
	}'"$1"
}

load_keys()
{
	keys_program 'BEGIN { for (n = 0; n < keys; n++) { set(name("key", n), value(n)); set(name("counter", n), "0") } }' |
		ask --pipe >"$dir/load.log" 2>&1 || true
	grep -q 'errors: 0,' "$dir/load.log" || die "loading: $(tail -n 1 "$dir/load.log")"
}

verify()
{
	local size wrong sum served
	size=$(ask dbsize)
	wrong=$(keys_program 'BEGIN { get_all("key") }' | ask 2>/dev/null | keys_program '
		$0 != value(NR - 1) && !wrong++ { first = ", the first is " name("key", NR - 1) }
		END { if (wrong || NR != keys) print wrong + 0 " of " NR " values are wrong" first }') || die 'reading all keys'
	sum=$(keys_program 'BEGIN { get_all("counter") }' | ask | awk '{ sum += $1 } END { printf "%.0f\n", sum }')
	served=$(ask info commandstats | sed -n 's/^cmdstat_incr:calls=\([0-9]*\).*/\1/p')
	[ -z "$wrong" ] || die "data lost: $wrong"
	[ "$size" = $((2 * keys)) ] || die "data lost: $size keys, there were $((2 * keys))"
	[ "$sum" = "$served" ] || die "writes lost: $served INCRs were served, the counters sum up to $sum"
	echo "${good}verified$plain    $size keys: every value, and counters that sum up to the $served INCRs served"
}

# ---- moves ----

# To and fro while there is a file "moving", then home to node 0; a line of JSON each.
move_to_and_fro()
{
	local node=0 status
	while [ -e "$dir/moving" ] || [ $node = 1 ]; do
		status=0
		timeout -s KILL 20 "$godwit" migrate --json "$redis" $node $((1 - node)) >>"$dir/moves" 2>>"$dir/errors" ||
			status=$?
		[ $status = 0 ] || [ $status = 2 ] || return 1	# 2: pages stayed, and are counted
		node=$((1 - node))
	done
}

moves_program()	# actions: awk that sums up what the migrations say, and finds the worst
{
	awk '
	function number(key) {
		return match($0, "\"" key "\":[0-9.]+") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 : 0
	}
	function max(a, b) {
		return a > b ? a : b
	}
	{
		pages += number("pages_moved")
		bytes += number("bytes")
		seconds += number("seconds")
		left += number("pages_left")
		p999 = max(p999, number("stall_us_p999"))
		worst = max(worst, number("stall_us_max"))
		if (match($0, /"failed":[{][^}]+/))
			why = " (" substr($0, RSTART + 10, RLENGTH - 10) ")"
	}'"$1"
}

# ---- the table ----

columns='%-9s %12s %12s %6s %15s %9s %11s'

row()	# without|with, requests/s, the first line of "moves" that counts
{
	local stat nodes speed p999 worst
	stat=$("$godwit" stat --json "$redis" 2>&1) || die "$stat"
	[[ $stat =~ \"node\":0,[^}]*\"pages\":([0-9]+).*\"node\":1,[^}]*\"pages\":([0-9]+) ]] || die "godwit stat said $stat"
	nodes=("${BASH_REMATCH[@]:1}")
	read -r speed p999 worst < <(tail -n "+$3" "$dir/moves" | moves_program '
		END { if (seconds) printf "%.2f %.0f %.0f\n", bytes / seconds / 1e9, p999, worst; else print "- - -" }')
	# shellcheck disable=SC2059
	printf "$rewrite$([ "$1" = with ] || echo "$dim")$columns$plain" "$1" "${nodes[@]}" "$speed" "$p999" "$worst" "$2"
}

sample()	# sets now_us, and now_count: requests served until then
{
	[[ $(ask info stats 2>&1) =~ total_commands_processed:([0-9]+) ]] || die 'it does not answer'
	now_us=${EPOCHREALTIME/./} now_count=${BASH_REMATCH[1]}
}

measure()	# without|with: one turn, a row each second
{
	local part wait_us first_us first_count begin_us begin_count line
	local -n rates=rates_$1
	sample
	first_us=$now_us first_count=$now_count
	for ((part = 0; part < turn * parts; part++)); do
		if ((part % parts == 0)); then
			begin_us=$now_us begin_count=$now_count line=$(($(wc -l <"$dir/moves") + 1))
		fi
		wait_us=$((first_us + (part + 1) * 1000000 / parts - ${EPOCHREALTIME/./}))
		((wait_us <= 0)) || sleep "$(printf '%d.%06d' $((wait_us / 1000000)) $((wait_us % 1000000)))"
		[ -z "$mover" ] || kill -0 "$mover" 2>/dev/null || die "migrate: $(tail -n 1 "$dir/errors")"
		sample
		row "$1" $(((now_count - begin_count) * 1000000 / (now_us - begin_us))) "$line"
		(((part + 1) % parts != 0)) || echo
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
		end_moves || die "migrate: $(tail -n 1 "$dir/errors")"
	done
}

median()	# numbers
{
	printf '%s\n' "$@" | sort -n | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'
}

summary()
{
	printf 'requests/s  %.0f without migration, %.0f with: ' "$1" "$2"
	awk "BEGIN { printf \"%.2f of it\\n\", $2 / $1 }"
	moves_program 'END {
		printf "moved       %d pages in %d migrations, %.2f GB/s; ", pages, NR, bytes / seconds / 1e9
		printf "worst stall %.0f us; left behind: %d pages%s\n", worst, left, why
	}' <"$dir/moves"
}

main()
{
	set_up
	check_machine
	start_redis
	echo "redis-server, pid $redis, runs on nodes 0 and 1; loading $((2 * keys)) keys"
	load_keys
	"$godwit" migrate -q --dry-run "$redis" 0 1 || die 'migrate --dry-run'	# a look, so that pages are on the books
	: >"$dir/moves"
	redis-benchmark -s "$dir/redis" -t get,incr -r "$keys" -n 50000 -l -q >/dev/null 2>&1 &
	bench=$!
	sleep 1
	compare
	end_process "$bench"
	bench=
	summary "$(median "${rates_without[@]}")" "$(median "${rates_with[@]}")"
	verify
	end_process "$redis"
	redis=
	[ -z "$(find "$dir" -type s)" ] || die "a socket was left behind: $(find "$dir" -type s)"
}

main

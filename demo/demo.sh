#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real redis-server on two memory nodes: redis-benchmark works on it, in turns without migration, with its whole
# memory being moved to and fro at a bounded rate, and as fast as it can; then every key is verified. Takes under a
# minute and leaves nothing behind.
#
# What is verified: the value of a key follows from its name; and the counters, which redis-benchmark alone touches,
# have to sum up to the number of INCRs that redis has served.
#
#   BUILD=build   where godwit was built      KEYS=500000  values of 882 bytes, and as many counters
#   ROUNDS=3      rounds of three turns       TURN=3       seconds of each
#   RATE=500      bound of the second turn, MB/s
#   REQUESTS=50000   GETs of redis-benchmark, then as many INCRs, and so on
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

godwit=${BUILD:-build}/godwit keys=${KEYS:-500000} rounds=${ROUNDS:-3} turn=${TURN:-3} rate=${RATE:-500} requests=${REQUESTS:-50000}
dir='' redis='' bench='' mover=''
rates_without=() rates_bounded=() rates_full=()
bold='' dim='' good='' bad='' plain='' rewrite='' parts=1

die()	# message; says so if redis has ended
{
	if [ -n "$redis" ] && ! kill -0 "$redis" 2>/dev/null; then
		grep -m 3 -E 'crashed by|Accessing|Crashed running' "$dir/redis.log" >&2 || tail -n 3 "$dir/redis.log" >&2
		set -- "redis-server has ended ($*)"
	fi
	printf '%s\n' "${rewrite:+$'\n'}${bad}demo: $*$plain" >&2
	exit 1
}

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

clean_up()
{
	trap '' INT TERM HUP PIPE
	[ -n "$dir" ] || return 0
	rm -f "$dir/moving"
	end_process "$bench"
	end_process "$redis"
	[ -z "$mover" ] || wait "$mover" || true
	rm -rf "$dir"
}

set_up()
{
	trap clean_up EXIT
	trap 'echo >&2; exit 130' INT
	trap 'exit 143' TERM HUP PIPE
	if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
		rewrite=$'\r\e[K' parts=4
		[ -n "${NO_COLOR:-}" ] || bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' plain=$'\e[0m'
	fi
	dir=$(mktemp -d /tmp/godwit-demo.XXXXXX)
	export XDG_RUNTIME_DIR=$dir	# where godwit's sockets are
}

check_machine()
{
	[ -x "$godwit" ] || die "there is no $godwit: build it with 'make'"
	command -v redis-server redis-benchmark >/dev/null || die "there is no redis: 'scripts/setup demo' installs it"
	if ! "$godwit" check >"$dir/check" 2>&1; then
		cat "$dir/check" >&2
		die 'migration does not work here'
	fi
	awk '/^MemAvailable/ { exit $2 < 1200000 }' /proc/meminfo || die 'this needs 1.2 GB of free memory'
}

ask()	# redis
{
	redis-cli -s "$dir/redis" "$@" 2>/dev/null
}

start_redis()
{
	"$godwit" run -q --nodes 2 -- redis-server --port 0 --unixsocket "$dir/redis" --unixsocketperm 700 \
		--save '' --appendonly no --dir "$dir" >"$dir/redis.log" 2>&1 &
	redis=$!
	for _ in {1..100}; do
		[ "$(ask ping)" != PONG ] || return 0
		kill -0 "$redis" 2>/dev/null || break
		sleep 0.1
	done
	die 'it does not answer'
}

keys()	# load|values|counters|compare: see there
{
	awk -v keys="$keys" -v task="$1" -f demo/keys.awk
}

load_keys()
{
	keys load | ask --pipe >"$dir/load.log" || true
	grep -q 'errors: 0,' "$dir/load.log" || die "loading: $(tail -n 1 "$dir/load.log")"
}

verify()
{
	local size wrong sum served
	wrong=$(keys values | ask | keys compare) || die 'reading the values'
	sum=$(keys counters | ask | awk '{ sum += $1 } END { printf "%.0f\n", sum }') || die 'reading the counters'
	served=$(ask info commandstats | sed -n 's/^cmdstat_incr:calls=\([0-9]*\).*/\1/p') || die 'it does not answer'
	size=$(ask dbsize) || die 'it does not answer'
	[ -z "$wrong" ] || die "data lost: $wrong"
	[ "$size" = $((2 * keys)) ] || die "data lost: $size keys, there were $((2 * keys))"
	[ "$sum" = "$served" ] || die "writes lost: $served INCRs were served, the counters sum up to $sum"
	echo "${good}verified$plain    $size keys: every value, and counters that sum up to the $served INCRs served"
}

# To and fro while there is a file "moving", then home to node 0; a line of JSON each.
move_to_and_fro()	# options of migrate
{
	local node=0 status
	while [ -e "$dir/moving" ] || [ $node = 1 ]; do
		status=0
		timeout -s KILL 20 "$godwit" migrate --json "$@" "$redis" $node $((1 - node)) \
			>>"$dir/moves" 2>>"$dir/errors" || status=$?
		[ $status = 0 ] || [ $status = 2 ] || return 1	# 2: pages stayed, and are counted
		node=$((1 - node))
	done
}

columns='%-9s %12s %12s %6s %15s %9s %11s'

row()	# turn, requests/s, the first line of "moves" that counts
{
	local stat nodes stalls
	stat=$("$godwit" stat --json "$redis" 2>&1) || die "$stat"
	[[ $stat =~ \"node\":0,[^}]*\"pages\":([0-9]+).*\"node\":1,[^}]*\"pages\":([0-9]+) ]] || die "godwit stat said $stat"
	nodes=("${BASH_REMATCH[@]:1}")
	read -ra stalls < <(tail -n "+$3" "$dir/moves" | awk -v task=row -f demo/moves.awk)
	# shellcheck disable=SC2059
	printf "$rewrite$([ "$1" != without ] || echo "$dim")$columns$plain" "$1" "${nodes[@]}" "${stalls[@]}" "$2"
}

sample()	# sets now_us, and now_count: requests served until then
{
	[[ $(ask info stats) =~ total_commands_processed:([0-9]+) ]] || die 'it does not answer'
	now_us=${EPOCHREALTIME/./} now_count=${BASH_REMATCH[1]}
}

measure()	# without|bounded|full: one turn, a row each second
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
		(((part + 1) % parts)) || echo
	done
	rates+=($(((now_count - first_count) * 1000000 / (now_us - first_us))))
}

measure_moves()	# bounded|full, options of migrate
{
	: >"$dir/moving"
	move_to_and_fro "${@:2}" &
	mover=$!
	measure "$1"
	rm "$dir/moving"
	wait "$mover" || die "migrate: $(tail -n 1 "$dir/errors")"
	mover=
}

compare()
{
	local round
	# shellcheck disable=SC2059
	printf "$bold$columns$plain\n" migration 'node 0 pages' 'node 1 pages' GB/s 'stall p99.9 us' 'worst us' requests/s
	: >"$dir/moves"
	for ((round = 0; round < rounds; round++)); do
		measure without
		measure_moves bounded --rate "$rate"
		measure_moves full
	done
}

median()	# numbers
{
	printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}

summary()
{
	local without bounded full
	without=$(median "${rates_without[@]}") bounded=$(median "${rates_bounded[@]}") full=$(median "${rates_full[@]}")
	echo "requests/s  $without without migration; $bounded ($((bounded * 100 / without)) %) at $rate MB/s;" \
		"$full ($((full * 100 / without)) %) at full speed"
	awk -v task=summary -f demo/moves.awk "$dir/moves"
}

main()
{
	set_up
	check_machine
	start_redis
	echo "redis-server, pid $redis, runs on nodes 0 and 1; loading $((2 * keys)) keys"
	load_keys
	"$godwit" migrate -q --dry-run "$redis" 0 1 || die 'migrate --dry-run'	# a look, so that pages are on the books
	redis-benchmark -s "$dir/redis" -t get,incr -r "$keys" -n "$requests" -l -q >/dev/null 2>&1 &
	bench=$!
	sleep 1
	compare
	end_process "$bench"
	bench=
	summary
	verify
	end_process "$redis"
	redis=
	[ -z "$(find "$dir" -type s)" ] || die "a socket was left behind: $(find "$dir" -type s)"
}

main

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What it costs to be under `godwit run` while nobody asks for anything: two redis-servers, one alone and one managed,
# and redis-benchmark on each in turn. The ratio is taken inside a round; the order changes from round to round.
#
#   NODES=4   INLINE=auto   BUILD=build   where godwit was built      ROUNDS=15   REQUESTS=200000 of each round and server
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-15} requests=${REQUESTS:-200000}
bench_begin idle

redis=(redis-server --save '' --appendonly no --port 0 --logfile /dev/null)
background "${redis[@]}" --unixsocket "$dir/alone.sock"
background "$godwit" run --nodes "${NODES:-4}" --inline "${INLINE:-auto}" -- "${redis[@]}" --unixsocket "$dir/managed.sock"
for s in alone managed; do
	for _ in {1..100}; do
		[ "$(redis-cli -s "$dir/$s.sock" ping 2>/dev/null)" = PONG ] && break
		sleep 0.1
	done
	redis-cli -s "$dir/$s.sock" debug populate 200000 key 100 >/dev/null
done

rate()	# server: requests a second
{
	redis-benchmark -s "$dir/$1.sock" -n "$requests" -r 200000 -t get -P 1 --csv | awk -F'"' 'END { print $4 }'
}

status()	# pid, field
{
	awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"
}

for i in $(seq "$rounds"); do
	if ((i % 2)); then a=$(rate alone) m=$(rate managed); else m=$(rate managed) a=$(rate alone); fi
	awk -v a="$a" -v m="$m" 'BEGIN { print m / a }' >>"$dir/ratios"
done
printf '# idle under godwit run: redis-benchmark GET at %.3f of the rate alone (median of %d rounds, quartiles %s)\n' \
	"$(median <"$dir/ratios")" "$rounds" \
	"$(quartiles <"$dir/ratios")"
printf '# idle under godwit run: %d threads for %d, %d KB resident for %d\n' \
	"$(status "${started[1]}" Threads)" "$(status "${started[0]}" Threads)" \
	"$(status "${started[1]}" VmRSS)" "$(status "${started[0]}" VmRSS)"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How long a process stands still to be attached to and detached from: the time that one of its threads was stopped, the
# worst and the median of TRIES round trips, each with a migration of all pages in between.
#
#   BUILD=build   where godwit was built      TRIES=20
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

tries=${TRIES:-20} csv=$build/attach.csv
bench_begin attach

settle()	# command...: in the background, and a second to begin
{
	background "$@"
	sleep 1
}

measure()	# name, pid
{
	local turn pages
	: >"$dir/attached"
	: >"$dir/detached"
	: >"$dir/moved"
	for ((turn = 0; turn < tries; turn++)); do
		"$godwit" attach --json "$2" >>"$dir/attached"
		"$godwit" migrate --json "$2" 0 1 >>"$dir/moved" || [ $? = 2 ]
		"$godwit" detach --json "$2" >>"$dir/detached"
	done
	pages=$(json_numbers pages_moved "$dir/moved" | awk '{ sum += $1 } END { print int(sum / NR) }')
	printf '%s,%s,%s,%s,%s,%s,%s\n' "$1" "$(json_numbers threads "$dir/attached" | tail -n 1)" "$pages" \
		"$(json_numbers pause_us "$dir/attached" | median)" "$(json_numbers pause_us "$dir/attached" | tail -n 1)" \
		"$(json_numbers pause_us "$dir/detached" | median)" "$(json_numbers pause_us "$dir/detached" | tail -n 1)" | tee -a "$csv" |
		awk -F , '{ printf "# %-14s %7d %9d %12.2f %8.2f %12.2f %8.2f\n", $1, $2, $3, $4 / 1e3, $5 / 1e3, $6 / 1e3, $7 / 1e3 }'
}

echo "program,threads,pages_a_migration,attach_pause_us_median,attach_pause_us_max,detach_pause_us_median,detach_pause_us_max" >"$csv"
echo "# standing still, in ms, of $tries round trips  attach: median     max  detach: median     max"
printf '# %-14s %7s %9s\n' program threads pages

settle sleep 600
measure sleep "$pid"
end_last

settle "$build/tests/attachee" threads 64
measure '64 threads' "$pid"
end_last

settle python3 -c 'while True: sum(len(x) for x in [bytes(n) for n in range(1000)])'
measure python3 "$pid"
end_last

settle node -e 'setInterval(() => { for (let i = 0; i < 1e5; i++) "x".repeat(i % 100); }, 1)'
measure node "$pid"
end_last

cat >"$dir/Busy.java" <<'J'
public class Busy { public static void main(String[] a) { for (long n = 0;; n++) new StringBuilder().append(n).toString(); } }
J
javac -d "$dir" "$dir/Busy.java"
settle java -Xmx200m -cp "$dir" Busy
measure java "$pid"
end_last

settle redis-server --save '' --appendonly no --port 0 --unixsocket "$dir/redis"
redis=$pid
redis-cli -s "$dir/redis" debug populate 200000 key 100 >/dev/null
settle redis-benchmark -s "$dir/redis" -t get,set -r 200000 -n 1000000000 -q
measure redis-server "$redis"
end_last
end_last

user=()
mkdir "$dir/home"
if [ "$(id -u)" = 0 ]; then
	user=(setpriv --reuid=nobody --regid=nogroup --clear-groups --)
	chown nobody: "$dir/home"
fi
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
cd "$dir/home"
"${user[@]}" "$bin/initdb" -D "$dir/home/data" -U tester -A trust >"$dir/initdb"
settle "${user[@]}" env -u XDG_RUNTIME_DIR "$bin/postgres" -D "$dir/home/data" -k "$dir/home" -h '' -c fsync=off
postmaster=$(head -n 1 "$dir/home/data/postmaster.pid")
"${user[@]}" "$bin/pgbench" -h "$dir/home" -U tester -i -q postgres >"$dir/pgbench" 2>&1
settle "${user[@]}" "$bin/pgbench" -h "$dir/home" -U tester -n -T 600 -c 2 postgres
measure postmaster "$postmaster"
measure 'pg backend' "$("${user[@]}" "$bin/psql" -h "$dir/home" -U tester -d postgres -XAtqc \
	"SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' LIMIT 1")"
end_last
end_last
echo "# the same in $csv"

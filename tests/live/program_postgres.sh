#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# PostgreSQL, from initdb on, as an unprivileged user: the postmaster and its backends serve pgbench while the pages of all
# of them move to and fro. No transaction loses money: the sums of all balances, and of the history, are equal; indexes
# are sound, and a dump of a table that nobody changes is what was put in.
#
#   POSTGRES_SECONDS=4   for which pgbench runs
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need setpriv
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
need "${bin:-postgresql}/initdb" "${bin:-postgresql}/pgbench"
seconds=${POSTGRES_SECONDS:-$((4 * scale))}

# PostgreSQL refuses to be root. The user has its own copy of godwit, and a place for sockets.
if [ "$(id -u)" = 0 ]; then
	as=(setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=+sys_ptrace --ambient-caps=+sys_ptrace --)
	mkdir -m 755 "$dir/godwit"
	cp "$GODWIT" "$(dirname "$GODWIT")"/libgodwit.so* "$dir/godwit/"
	GODWIT=$dir/godwit/godwit
	export XDG_RUNTIME_DIR=$dir/sockets
	mkdir -m 700 "$XDG_RUNTIME_DIR" "$dir/home"
	chown nobody: "$XDG_RUNTIME_DIR" "$dir/home"
	chmod 711 "$dir"
	"${as[@]}" test -x "$GODWIT" || { echo "1..0 # SKIP the user nobody cannot reach $dir"; exit 0; }
fi

query()	# SQL
{
	PGOPTIONS='--client-min-messages=warning' "${as[@]}" "$bin/psql" -h "$dir/home" -U tester -d postgres -XAtqc "$1"
}

cd "$dir" || exit 1
"${as[@]}" "$bin/initdb" -D "$dir/home/data" -U tester -A trust -E UTF8 --locale=C -N >"$dir/initdb.log" 2>&1 ||
	give_up 'initdb makes a cluster' "$dir/initdb.log"
godwit_run 100 "$bin/postgres" -D "$dir/home/data" -k "$dir/home" -h '' -c fsync=off -c shared_buffers=64MB \
	-c work_mem=16MB -c autovacuum_naptime=1 -c log_min_messages=warning >"$dir/postgres.log" 2>&1
await 200 query 'SELECT 1' || give_up 'PostgreSQL answers' "$dir/postgres.log"
loaded=$(query 'CREATE TABLE still AS SELECT n, md5(n::text) AS word FROM generate_series(1, 50000) n;
	CREATE INDEX ON still (word); SELECT md5(string_agg(word, n::text ORDER BY n)) FROM still')
"$bin/pgbench" -h "$dir/home" -U tester -i -s 2 -q postgres >"$dir/pgbench.log" 2>&1 ||
	give_up 'pgbench makes its tables' "$dir/pgbench.log"

start_moving
# -C: a backend for each transaction; the other clients keep theirs
pgbench_does()	# words
{
	start $((seconds + 60)) "$bin/pgbench" -h "$dir/home" -U tester -n -T "$seconds" "$@" postgres
}
pgbench_does -C -c 1 >"$dir/pgbench.C" 2>&1
pgbench_does -c 4 -j 2 -M prepared >"$dir/pgbench.4" 2>&1
ok 'pgbench with lasting connections ends with success' finish
note_file "$dir/pgbench.4"
ok 'pgbench with a connection a transaction ends with success' finish
ok 'no transaction failed' [ "$(cat "$dir"/pgbench.[4C] | grep -c 'failed transactions: 0 ')" = 2 ]
done=$(cat "$dir"/pgbench.[4C] | awk '/actually processed:/ { sum += $NF } END { print sum + 0 }')

ok "every transaction is in the history, $done" [ "$(query 'SELECT count(*) FROM pgbench_history')" = "$done" ]
sums=$(query 'SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers
	UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT sum(delta) FROM pgbench_history' | uniq)
ok "the sums of all balances and of the history are equal, $sums" [ "$(wc -w <<<"$sums")" = 1 ]
ok 'a sort and a join of all rows find what was put in' [ "$loaded" = "$(query 'SELECT md5(string_agg(a.word, b.n::text
	ORDER BY b.n)) FROM still a JOIN still b USING (word)')" ]
stop_moving
ok 'tables and indexes are sound' "${as[@]}" "$bin/pg_amcheck" -h "$dir/home" -U tester --install-missing --heapallindexed postgres
ok 'the pages of many backends were moved' [ "$(processes_moved)" -gt 4 ]
ok_moves 500
kill -INT "${started[-1]}"	# a fast shutdown
ok 'it ends with success' finish
grep -E 'terminated|PANIC|ERROR' "$dir/postgres.log" >"$dir/crashes"
ok 'no backend has crashed' [ ! -s "$dir/crashes" ]
note_file "$dir/crashes"
end_tests

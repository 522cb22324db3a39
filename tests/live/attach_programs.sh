#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `godwit attach` to real programs under load: attached, all pages migrated to and fro, detached, again and again; their
# results are those of a run alone, and when they rest their mappings are those of before.
#
#   ATTACH_TIMES=10   round trips of each program; redis-server has five times as many
#
# test-timeout: 400
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need redis-server redis-cli redis-benchmark python3 node javac setpriv
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
need "${bin:-postgresql}/initdb" "${bin:-postgresql}/pgbench"
rounds=${ATTACH_TIMES:-$((10 * scale))}
touch "$dir/attached"

mappings()	# pid
{
	cut -d ' ' -f 1-2,6- "/proc/$1/maps"
}

# Moved to and fro; what stayed is counted, and no error.
round_trip()	# pid
{
	local to
	godwit attach --json "$1" >>"$dir/attached" 2>>"$dir/errors" || return
	for to in 1 0; do
		godwit migrate --json --verify "$1" $((1 - to)) $to >>"$dir/moves" 2>>"$dir/errors" || [ $? = 2 ] || return
	done
	godwit detach --json "$1" >>"$dir/attached" 2>>"$dir/errors"
}

round_trips()	# pid, how many
{
	local turn
	for ((turn = 0; turn < $2; turn++)); do
		round_trip "$1" || return
	done
}

# For who reads the output: it is the machine's word as much as ours.
pauses()	# name
{
	note "$1: worst pause $(grep -o '"pause_us":[0-9.]*' "$dir/attached" | cut -d : -f 2 | sort -n | tail -n 1) us in" \
	     "$(wc -l <"$dir/attached") stops, $(sum_of pages_moved "$dir/moves") pages moved"
	truncate -s 0 "$dir/attached" "$dir/moves"
}

# At rest: what is different afterwards is ours.
leaves_no_trace()	# pid
{
	mappings "$1" >"$dir/before"
	round_trip "$1" || return
	mappings "$1" >"$dir/after"
	same "$dir/before" "$dir/after" && [ "$(cat "/proc/$1/task"/*/comm | grep -c '^godwit')" = 0 ]
}

no_errors()
{
	[ ! -s "$dir/errors" ] && [ "$(sum_of verify_errors "$dir/moves")" = 0 ] && return
	note_file "$dir/errors"
	return 1
}

child()	# of the last one started
{
	pgrep -P "${started[-1]}"
}

# ---------------------------------------------------------------- sleep ----

start 60 sleep 50
await 20 child
ok 'sleep: leaves no trace, and sleeps on' leaves_no_trace "$(child)"
kill "$(child)"

# ---------------------------------------------------------------- redis-server ----

ask()	# words
{
	timeout -s KILL 60 redis-cli -s "$dir/redis" "$@"
}

mkdir "$dir/redis.d"
start 300 redis-server --port 0 --unixsocket "$dir/redis" --save '' --dir "$dir/redis.d" >"$dir/redis.log" 2>&1
await 100 ask ping || give_up 'redis-server answers' "$dir/redis.log"
pid=$(child)
{
	for ((n = 0; n < 20000; n++)); do echo "SET key:$n value-$n-$((n * 48271 % 99999989))"; done
} | ask --pipe >/dev/null
ask debug digest >"$dir/digest"
start 250 redis-benchmark -s "$dir/redis" -t incr -r 1000 -n 100000000 -q >/dev/null 2>&1
ok "redis-server: $((5 * rounds)) round trips while it serves" round_trips "$pid" $((5 * rounds))
{
	kill -KILL -- "-${started[-1]}"
	finish
} 2>/dev/null
pauses redis-server
sum=0
for value in $(ask --scan --pattern 'counter:*' | sed 's/^/GET /' | ask); do sum=$((sum + value)); done
served=$(ask info commandstats | tr -d '\r' | sed -n 's/^cmdstat_incr:calls=\([0-9]*\),.*/\1/p')
ok "redis-server: its counters sum up to the INCRs served, $served" [ "$sum" = "$served" ]
ask --scan --pattern 'counter:*' | sed 's/^/DEL /' | ask >/dev/null
ask debug digest >"$dir/digest.after"
ok 'redis-server: every other value is as it was' same "$dir/digest" "$dir/digest.after"
ok 'redis-server: at rest, leaves no trace' leaves_no_trace "$pid"
godwit attach -q "$pid"
ask bgsave >/dev/null
await 100 sh -c "redis-cli -s '$dir/redis' info persistence | grep -q rdb_bgsave_in_progress:0"
ok 'redis-server: saves itself by a fork while it is attached' [ "$(ask info persistence | grep -c 'rdb_last_bgsave_status:ok')" = 1 ]
godwit detach -q "$pid"
ask shutdown nosave >/dev/null 2>&1
ok 'redis-server: ends with success' finish

# ---------------------------------------------------------------- interpreters ----

# A loop with its data checked, that makes garbage, threads and children; it ends when there is a file "stop".
cat >"$dir/loop.py" <<'P'
import hashlib, os, random, subprocess, sys, threading
data = [random.randbytes(random.randrange(1, 65536)) for _ in range(500)]
sums = [hashlib.sha256(d).digest() for d in data]
def churn():
    x = [bytes(1000) for _ in range(1000)]
    assert len(b"".join(x)) == 1000000
print("ready", flush=True)
n = 0
while not os.path.exists(sys.argv[1]):
    i = random.randrange(len(data))
    assert hashlib.sha256(data[i]).digest() == sums[i]
    if n % 50 == 0:
        t = threading.Thread(target=churn); t.start(); t.join()
    if n % 500 == 0:
        assert subprocess.run(["echo", "child"], capture_output=True).stdout == b"child\n"
        pid = os.fork()
        if not pid:
            os._exit(hashlib.sha256(data[i]).digest() != sums[i])
        assert os.waitpid(pid, 0)[1] == 0
    n += 1
assert all(hashlib.sha256(d).digest() == s for d, s in zip(data, sums))
print("whole", n)
P
cat >"$dir/loop.js" <<'P'
const crypto = require('crypto'), fs = require('fs'), { execFileSync } = require('child_process');
const sum = (d) => crypto.createHash('sha256').update(d).digest('hex');
const data = Array.from({ length: 500 }, (_, i) => crypto.randomBytes(1 + i * 100));
const sums = data.map(sum);
console.log('ready');
let n = 0;
(function turn() {
  for (let k = 0; k < 200; k++, n++) {
    const i = n % data.length;
    if (sum(data[i]) !== sums[i]) throw new Error('wrong');
    const garbage = Array.from({ length: 100 }, (_, j) => ({ j, text: 'x'.repeat(j) }));
    if (garbage.reduce((s, g) => s + g.text.length, 0) !== 4950) throw new Error('wrong');
  }
  if (n % 2000 === 0 && execFileSync('echo', ['child']).toString() !== 'child\n') throw new Error('child');
  if (fs.existsSync(process.argv[2])) console.log('whole', n); else setImmediate(turn);
})();
P
cat >"$dir/Loop.java" <<'P'
import java.util.*; import java.util.zip.CRC32; import java.io.File;
public class Loop {
    static long sum(byte[] d) { CRC32 c = new CRC32(); c.update(d); return c.getValue(); }
    public static void main(String[] a) throws Exception {
        Random r = new Random(1); byte[][] data = new byte[500][]; long[] sums = new long[500];
        for (int i = 0; i < 500; i++) { data[i] = new byte[1 + r.nextInt(65536)]; r.nextBytes(data[i]); sums[i] = sum(data[i]); }
        System.out.println("ready");
        long n = 0;
        for (; !new File(a[0]).exists(); n++) {
            int i = r.nextInt(500);
            if (sum(data[i]) != sums[i]) throw new Error("wrong");
            List<String> garbage = new ArrayList<>();
            for (int j = 0; j < 1000; j++) garbage.add("x" + j);
            if (garbage.size() != 1000) throw new Error("wrong");
            data[i] = data[i].clone();
            if (n % 100 == 0) { Thread t = new Thread(() -> { if (sum(new byte[9]) == 1) throw new Error(); }); t.start(); t.join(); }
        }
        System.out.println("whole " + n);
    }
}
P
javac -d "$dir" "$dir/Loop.java" >"$dir/javac" 2>&1 || give_up 'javac compiles' "$dir/javac"

interpreter()	# name, command...
{
	local name=$1 pid
	start 200 "${@:2}" "$dir/stop.$name" >"$dir/$name.out" 2>&1
	await 300 grep -q ready "$dir/$name.out" || give_up "$name starts" "$dir/$name.out"
	pid=$(child)
	ok "$name: $rounds round trips while it works" round_trips "$pid" "$rounds"
	pauses "$name"
	touch "$dir/stop.$name"
	finish && grep -q '^whole [1-9]' "$dir/$name.out"
	result $? "$name: its data is whole, and it ends with success"
	note_file "$dir/$name.out"
}

interpreter python3 "$(command -v python3)" "$dir/loop.py"
interpreter node node "$dir/loop.js"
interpreter java java -Xmx200m -cp "$dir" Loop

# ---------------------------------------------------------------- PostgreSQL ----

# Another user's: it has no rights to handle its own faults, and gets them from the command.
user=()
mkdir "$dir/home"
if [ "$(id -u)" = 0 ]; then
	user=(setpriv --reuid=nobody --regid=nogroup --clear-groups --)
	chown nobody: "$dir/home"
	chmod 711 "$dir"
fi
cd "$dir/home" || exit 1

query()	# SQL
{
	"${user[@]}" "$bin/psql" -h "$dir/home" -U tester -d postgres -XAtqc "$1"
}

"${user[@]}" "$bin/initdb" -D "$dir/home/data" -U tester -A trust -E UTF8 --locale=C -N >"$dir/initdb.log" 2>&1 ||
	give_up 'initdb makes a cluster' "$dir/initdb.log"
start 250 "${user[@]}" env -u XDG_RUNTIME_DIR "$bin/postgres" -D "$dir/home/data" -k "$dir/home" -h '' -c fsync=off \
	>"$dir/postgres.log" 2>&1
await 200 query 'SELECT 1' || give_up 'PostgreSQL answers' "$dir/postgres.log"
postmaster=$(head -n 1 "$dir/home/data/postmaster.pid")
"${user[@]}" "$bin/pgbench" -h "$dir/home" -U tester -i -s 1 -q postgres >"$dir/pgbench.log" 2>&1 ||
	give_up 'pgbench makes its tables' "$dir/pgbench.log"
start 200 "${user[@]}" "$bin/pgbench" -h "$dir/home" -U tester -n -T $((15 * scale)) -c 2 postgres >"$dir/pgbench" 2>&1
sleep 1
tried=0
for backend in $(query "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'"); do
	round_trips "$backend" 3 && tried=$((tried + 1))
done
ok 'postgres: three round trips of each backend that serves' [ $tried = 2 ]
pauses backends
ok "postgres: $rounds round trips of the postmaster" round_trips "$postmaster" "$rounds"
pauses postmaster
ok 'postgres: pgbench ends with success' finish
ok 'postgres: no transaction failed' grep -q 'failed transactions: 0 ' "$dir/pgbench"
done=$(awk '/actually processed:/ { print $NF }' "$dir/pgbench")
ok "postgres: every transaction is in the history, $done" [ "$(query 'SELECT count(*) FROM pgbench_history')" = "$done" ]
ok 'postgres: new backends come from a postmaster that is attached' [ "$(godwit attach -q "$postmaster" && query 'SELECT 1+1' &&
	godwit detach -q "$postmaster")" = 2 ]
kill -INT "$postmaster"
ok 'postgres: ends with success' finish
ok 'every request was answered, and every page verified' no_errors
end_tests

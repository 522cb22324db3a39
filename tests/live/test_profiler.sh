#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A profiler's log moves pages to where they are used, once and while it grows.
#
# test-timeout: 180
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need python3
[ "$(nproc --all)" -ge 2 ] || { echo '1..0 # SKIP there is one CPU: nobody could use a page from another'; exit 0; }

# 64 pages of its own; answers a line with a line.
cat >"$dir/pages.py" <<'PY'
import ctypes, mmap, sys
c = ctypes.CDLL(None)
NR = 64
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
c.madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 15)
for i in range(NR): memory[i * 4096:i * 4096 + 8] = i.to_bytes(8, 'little')
pages = (ctypes.c_void_p * NR)(*[base + i * 4096 for i in range(NR)])
def nodes():
    status = (ctypes.c_int * NR)()
    c.move_pages(0, ctypes.c_ulong(NR), pages, None, status, 0)
    return ''.join(str(s) if s >= 0 else 'x' for s in status)
print('%x' % base, flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == 'nodes': print(nodes())
    if word == 'good': print('good' if all(memory[i * 4096:i * 4096 + 8] == i.to_bytes(8, 'little') for i in range(NR)) else 'bad')
    if word == 'quit': sys.exit(0)
    sys.stdout.flush()
PY

program()	# starts it: pid, base
{
	mkfifo "$dir/in.$1" "$dir/out.$1"
	timeout -s KILL 150 "$GODWIT" run -q --node ram,cpus=0 --node ram,cpus=1 -- python3 "$dir/pages.py" \
		<"$dir/in.$1" >"$dir/out.$1" 2>"$dir/program.err" &
	started+=($!)
	exec {to}>"$dir/in.$1" {from}<"$dir/out.$1"
	read -r -t 20 -u "$from" base || give_up 'a managed program starts' "$dir/program.err"
	pid=$(pgrep -P "${started[-1]}") || give_up 'it has a pid'
}
say() { local answer; echo "$1" >&"$to"; read -r -t 20 -u "$from" answer; echo "$answer"; }
at() { printf '%x' $((16#$base + $1 * 4096)); }
pattern()	# a function of i that prints the node of page i
{
	local i
	for ((i = 0; i < 64; i++)); do "$1" $i; done
}
alternating() { printf %d $(($1 % 2)); }
everywhere() { printf %d "$1"; }
all_on() { local i; for ((i = 0; i < 64; i++)); do printf %d "$1"; done; }
is() { local got; got=$(say nodes); [ "$got" = "$1" ] || { note "is  $got"; note "not $1"; false; }; }

# perf's lines: of a task, CPU, page, how many
sample()
{
	local i
	for ((i = 0; i < $4; i++)); do
		printf '          python %5s [%03d] %6d.%06d:          1 page-faults:     %s\n' "$1" "$2" "$3" $i "$(at "$3")"
	done
}
perf_log() { local i; for ((i = 0; i < 64; i++)); do sample "$pid/$pid" $((i % 2)) $i 3; done; }

move()	# exit status wanted, words: what it says is in $dir/told
{
	local want=$1
	shift
	timeout -s KILL 60 "$GODWIT" move "$@" >"$dir/told" 2>"$dir/err"
	status=$?
	[ $status = "$want" ] && return
	note "exit $status"
	note_file "$dir/told"
	note_file "$dir/err"
	false
}
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; e=d[-1]; sys.exit(not ($1))" "$dir/told"; }
told() { grep -qF -- "$1" "$dir/told"; }
complains() { move 1 "${@:2}" && [ ! -s "$dir/told" ] && grep -qF -- "$1" "$dir/err"; }
placed()	# as godwit maps says it of the pages' mapping
{
	"$GODWIT" maps "$pid" >"$dir/maps"
	grep -q "^$base .* $1 " "$dir/maps" && return
	grep "^$base" "$dir/maps" | sed 's/^/# /'
	false
}
counts()	# pages and nodes, as godwit move --query says it
{
	local i got
	got=$(for ((i = 0; i < 64; i++)); do at $i; echo; done | "$GODWIT" move --query "$pid" | cut -d ' ' -f 2 | sort | uniq -c | xargs)
	[ "$got" = "$1" ] || { note "$got"; false; }
}
ended() { ! kill -0 "$pid" 2>/dev/null; }
soon() { local i; for ((i = 0; i < 100; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; "$@"; }

program one

# ---------------------------------------------------------------- once ----

perf_log >"$dir/log"
ok 'the pages begin on one node' timeout 20 "$GODWIT" migrate -q "$pid" 1 0
ok 'a dry run moves nothing' move 0 --dry-run --json "$pid" "$dir/log"
ok 'and says what would move' json 'e["pages_would_move"] == 32 and e["to"] == {"1": 32} and e["pages_moved"] == 0 and e["dry_run"]'
ok 'indeed' is "$(all_on 0)"
ok "perf's samples are carried out" move 0 "$pid" "$dir/log"
ok 'each page is where its CPU is' is "$(pattern alternating)"
ok 'and that is said' told 'moved        32 (128.0K), to nodes 1:32'
ok 'by a pipe it is the same' move 0 --json "$pid" - < <(cat "$dir/log")
ok 'nothing was left to do' json 'e["format"] == "perf" and e["samples"] == 192 and e["pages_in_place"] == 64 and e["pages_moved"] == 0'
ok "the engine's maps say so too" placed 'N0=32 N1=32'

{
	perf_log | sed 's/\[00[01]\]/[001]/'
	for ((i = 0; i < 8; i++)); do sample "$pid/$pid" 0 $i 3; done	# as much used from either node
	sample 4194000/4194001 0 20 50
	echo 'what is this?'
	sample "$pid" 0 60 50						# only a thread is named: it is the program's first
	echo "          python $pid/$pid [000] 1.000000: 1 page-faults:     $(at 1000)"	# nothing is there
	echo "          python $pid/$pid [000] 1.000000: 1 page-faults:     $(at 61) main+0x1 (/x)"	# where its code is
} >"$dir/mixed"
ok 'a mixed log' move 0 --json "$pid" "$dir/mixed"
ok 'moves the pages with a majority' is "$(for ((i = 0; i < 64; i++)); do if [ $i -lt 8 ]; then alternating $i; elif [ $i = 60 ]; then printf 0; else printf 1; fi; done)"
ok 'and counts the rest, each by its cause' json 'e["pages_spread"] == 8 and e["lines_of_others"] == 50 and e["lines_bad"] == 1
	and e["pages_gone"] == 1 and e["lines_without_address"] == 1 and e["first_bad"]["line"] == 267'
ok 'the line is named' grep -q '^godwit: line 267: not a sample' "$dir/err"
ok 'a larger majority is asked for' move 0 --json --majority 95 "$pid" "$dir/mixed"
ok 'and fewer pages have it' json 'e["pages_spread"] == 9'
ok 'more samples are asked for' move 0 --json --min-accesses 7 "$pid" "$dir/mixed"
ok 'and fewer pages have them' json 'e["pages_seldom"] == 64'
ok 'pages are counted in bounded memory' move 0 --json --pages 10 "$pid" "$dir/mixed"
ok 'and those that were forgotten are' json 'e["pages_forgotten"] > 50'
ok 'with --strict the bad line is an error' complains 'line 267' --strict "$pid" "$dir/mixed"

# ---------------------------------------------------------------- what cannot be ----

echo 'nothing of this is a log' >"$dir/bad"
ok 'a log of which nothing is understood is an error' complains 'nothing was understood' --format perf "$pid" "$dir/bad"
sample 4194000/4194001 0 20 3 >"$dir/others"
ok 'one of others too' complains "no line is of PID $pid: 3 are of others" "$pid" "$dir/others"
sed 's/$/ main+0x1 (\/x)/' "$dir/log" >"$dir/code"
ok 'one without addresses of data says how to have them' complains 'perf script -F +addr' "$pid" "$dir/code"
sed 's/ \[00.\]//' "$dir/log" >"$dir/nocpu"
ok 'one without CPUs too' complains 'perf script -F +cpu' "$pid" "$dir/nocpu"
: >"$dir/empty"
ok 'an empty log is an error' complains 'there is nothing in it' --format perf "$pid" "$dir/empty"
printf 'PERFILE2\0\0' >"$dir/perf.data"
ok "perf's own file is told from what it prints" complains "perf script -i $dir/perf.data" "$pid" "$dir/perf.data"
ok 'a node that is not there is named' complains '--hot 7' --hot 7 "$pid" "$dir/log"
ok 'two rules that exclude each other are refused' complains '--majority' --hot 1 --majority 80 "$pid" "$dir/log"
ok 'a format that is none is named' complains "'json'" --format json "$pid" "$dir/log"
ok 'an interval without --follow is refused' complains '--follow' --interval 50 "$pid" "$dir/log"
sed 's/\[001\]/[999]/' "$dir/log" >"$dir/cpus"
ok 'a CPU that is not there is a bad line' move 0 --json "$pid" "$dir/cpus"
ok 'with its number' grep -q 'CPU 999' "$dir/err"

# ---------------------------------------------------------------- huge pages ----

thp=$(python3 - <<'PY'
import sys
print('yes' if '[never]' not in open('/sys/kernel/mm/transparent_hugepage/enabled').read() else 'no')
PY
)
huge_program()	# a second program, of two huge pages
{
	sed 's/^    if word == .nodes.*/    if word == "nodes": print(mapped())/' "$dir/pages.py" >"$dir/huge.py"
	python3 - "$dir/huge.py" <<'PY'
import sys
s = open(sys.argv[1]).read()
s = s.replace('4 << 20, flags', '6 << 20, flags').replace("c.madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 15)",
	"base = (base + (2 << 20) - 1) & ~((2 << 20) - 1)\nc.madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 14)\n"
	"ctypes.memset(base, 1, 4 << 20)")
s = s.replace("for i in range(NR): memory", "for i in range(0): memory").replace("mapped()", "'x'")
open(sys.argv[1], 'w').write(s)
PY
	mkfifo "$dir/in.huge" "$dir/out.huge"
	timeout -s KILL 100 "$GODWIT" run -q --node ram,cpus=0 --node ram,cpus=1 -- python3 "$dir/huge.py" \
		<"$dir/in.huge" >"$dir/out.huge" 2>"$dir/program.err" &
	started+=($!)
	exec {hto}>"$dir/in.huge" {hfrom}<"$dir/out.huge"
	read -r -t 20 -u "$hfrom" hbase && hpid=$(pgrep -P "${started[-1]}") && "$GODWIT" migrate -q "$hpid" 1 0
}
huge_log()
{
	local i
	# of the first, most samples are of CPU 1, though some of its pages are used from CPU 0 only; the other is used from both
	for ((i = 0; i < 60; i++)); do echo "x $hpid/$hpid [001] 1.000000: 1 f: $(printf %x $((16#$hbase + (i * 7 % 400) * 4096)))"; done
	for ((i = 0; i < 20; i++)); do echo "x $hpid/$hpid [000] 1.000000: 1 f: $(printf %x $((16#$hbase + (450 + i) * 4096)))"; done
	for ((i = 0; i < 60; i++)); do echo "x $hpid/$hpid [00$((i % 2))] 1.000000: 1 f: $(printf %x $((16#$hbase + (512 + i) * 4096)))"; done
}
if [ "$thp" = yes ] && huge_program && grep -A25 "^${hbase:0:6}" "/proc/$hpid/smaps" | grep -q '^AnonHugePages: *[1-9]'; then
	huge_log >"$dir/huge"
	ok 'huge pages move whole' move 0 --json "$hpid" "$dir/huge"
	ok 'by the samples of all their pages' json 'e["pages_moved"] == 512 and e["pages_spread"] == 1 and e["pages_failed"] == 0'
	read -r one two < <(printf '%s\n%x\n' "$hbase" $((16#$hbase + 4096 * 600)) | "$GODWIT" move --query "$hpid" - | cut -d ' ' -f 2 | xargs)
	ok 'each to its node' [ "$one $two" = '1 0' ]
else
	result 0 'huge pages move whole # SKIP there are no huge pages here'
fi
[ -z "${hpid:-}" ] || { exec {hto}>&- {hfrom}<&-; kill -KILL "$hpid" 2>/dev/null; }

# ---------------------------------------------------------------- heat ----

"$GODWIT" migrate -q "$pid" 1 0
damon()	# ranges of pages and their accesses
{
	local range
	for range; do
		IFS=- read -r first last accesses <<<"$range"
		printf '       kdamond.0 12345 [000] 12.479513: damon:damon_aggregated: target_id=0 nr_regions=2 %d-%d: %d 3\n' \
			$((16#$base + first * 4096)) $((16#$base + last * 4096)) "$accesses"
	done
}
damon 0-512-5 0-64-0 0-16-9 >"$dir/damon"
ok 'ranges without a node for them are refused' complains '--hot NODE' "$pid" "$dir/damon"
ok "DAMON's hot ranges move" move 0 --json --hot 1 --min-accesses 5 "$pid" "$dir/damon"
ok 'as the last line on them says' is "$(for ((i = 0; i < 64; i++)); do printf %d $((i < 16)); done)"
ok 'what is not there is counted' json 'e["format"] == "damon" and e["ranges"] == 3 and e["pages_moved"] == 16 and e["pages_gone"] >= 448'
ok 'cold ones too' move 0 --cold 1 --hot 0 --min-accesses 5 "$pid" "$dir/damon"
ok 'the other way round' is "$(for ((i = 0; i < 64; i++)); do printf %d $((i >= 16)); done)"
{ damon 0-64-9; damon 0-64-9 | sed 's/target_id=0/target_id=1/'; } >"$dir/targets"
ok 'of two targets it must be said which is meant' complains 'targets 0 and 1' --hot 1 "$pid" "$dir/targets"
ok 'and then it works' move 0 --hot 1 --target 1 "$pid" "$dir/targets"
ok 'for all' is "$(all_on 1)"
{
	echo '          timestamp       pid             addr    pages     accs   writes'
	printf '%20d %8d %16s %8d %8d %8d\n' 1700000000 "$pid" "$base" 8 3 0 1700000001 $((pid + 1)) "$base" 64 3 0
} >"$dir/raw"
ok "memtierd's raw dump" move 0 --json --hot 0 "$pid" "$dir/raw"
ok 'moves its pages' is "$(for ((i = 0; i < 64; i++)); do printf %d $((i >= 8)); done)"
ok "and not another process's" json 'e["format"] == "memtierd" and e["lines_of_others"] == 1'
printf 'a=0 r=0 w=9 AddrRanges{pid=%d ranges=%s-%s (1 B)}\n' "$pid" "$(at 8)" "$(at 12)" >"$dir/counters"
ok "memtierd's counters" move 0 --hot 0 "$pid" "$dir/counters"
ok 'move theirs' is "$(for ((i = 0; i < 64; i++)); do printf %d $((i >= 12)); done)"
printf 'heatmap:\npid: %d: 0 {%s-%s(64),0.9,17,5.000000s} (class 9)\n' "$pid" "$base" "$(at 64)" >"$dir/heatmap"
ok "memtierd's heatmap" move 0 --hot 0 --min-accesses 9 "$pid" "$dir/heatmap"
ok 'by its classes' is "$(all_on 0)"
ok "perf's samples without CPUs have heat too" move 0 --hot 1 "$pid" "$dir/nocpu"
ok 'and move' is "$(all_on 1)"

# ---------------------------------------------------------------- while it grows ----

follow()	# words
{
	rm -f "$dir/followed"
	timeout -s KILL 60 env --default-signal=INT "$GODWIT" move --follow --interval 50 --json "$@" \
		<&0 >"$dir/followed" 2>"$dir/err" &
	follower=$!
	started+=("$follower")
}
followed()	# exit status wanted, expression
{
	wait $follower
	status=$?
	unset 'started[-1]'
	cp "$dir/followed" "$dir/told"
	[ $status = "$1" ] && json "$2" && return
	note "exit $status"
	note_file "$dir/told"
	note_file "$dir/err"
	false
}
interrupt() { kill -INT "$(pgrep -P $follower)"; }

: >"$dir/growing"
follow "$pid" "$dir/growing"
sleep 0.3
sample "$pid/$pid" 0 0 3 >>"$dir/growing"
ok 'a file that grows is followed' soon is "0$(all_on 1 | cut -c 2-)"
line=$(sample "$pid/$pid" 0 1 1)
printf %s "${line:0:40}" >>"$dir/growing"
sleep 0.3
printf '%s\n' "${line:40}" >>"$dir/growing"
ok 'half a line is waited for' soon is "00$(all_on 1 | cut -c 3-)"
sample "$pid/$pid" 0 2 1 >"$dir/growing"
ok 'a file that begins anew is read from there' soon is "000$(all_on 1 | cut -c 4-)"
{
	sample "$pid/$pid" 0 0 500
	sample "$pid/$pid" 1 0 200
} >>"$dir/growing"
ok 'a page whose user changes goes along, though it was used more often by the other' soon is "100$(all_on 1 | cut -c 4-)"
interrupt
ok 'Ctrl-C is its end, with a summary' followed 0 'len(d) >= 4 and e["event"] == "end" and e["cancelled"] and e["pages_moved"] == 4 and e["lines_bad"] == 0'
ok 'and no page was asked for in vain' json 'all(b["event"] == "batch" for b in d[:-1]) and sum(b["pages_moved"] for b in d[:-1]) == 4'

mkfifo "$dir/pipe"
follow "$pid" - < <(cat "$dir/pipe")
exec {pipe}>"$dir/pipe"
perf_log >&"$pipe"
ok 'a pipe is followed' soon is "$(pattern alternating)"
for ((i = 0; i < 64; i++)); do sample "$pid/$pid" 1 $i 60; done >&"$pipe"
exec {pipe}>&-
ok 'to its end' followed 0 'e["event"] == "end" and not e["cancelled"] and e["batches"] >= 2'
ok 'with what came last' is "$(all_on 1)"

plain() { local i; for ((i = 0; i < 64; i++)); do echo "$(at $i) $((i % 2))"; done; }
follow "$pid" - < <(plain)
ok 'lines ADDRESS NODE are a log when they are followed' followed 0 'e["format"] == "plain" and e["pages_moved"] == 32'
ok 'carried out' is "$(pattern alternating)"

ok 'the rate is kept' move 0 --rate 1 --json --hot 0 "$pid" "$dir/log"
ok 'page by page' json 'e["pages_moved"] == 32 and e["seconds"] > 0.05'
ok 'no byte was changed by all this' [ "$(say good)" = good ]

# Its process ends under it.
follow "$pid" "$dir/growing"
ok 'a follower that waits' soon [ -s "$dir/followed" ]
echo quit >&"$to"
ok 'ends with the process' followed 0 'e["process_ended"]'

# A full node: pages stay, and the exit status says so.
exec {to}>&- {from}<&-
program_full()
{
	mkfifo "$dir/in.full" "$dir/out.full"
	timeout -s KILL 100 "$GODWIT" run -q --node ram,cpus=0 --node ram,cpus=1,size=64K -- python3 "$dir/pages.py" \
		<"$dir/in.full" >"$dir/out.full" 2>"$dir/program.err" &
	started+=($!)
	exec {to}>"$dir/in.full" {from}<"$dir/out.full"
	read -r -t 20 -u "$from" base && pid=$(pgrep -P "${started[-1]}")
}
ok 'a program with a small node' program_full
"$GODWIT" migrate -q "$pid" 1 0
perf_log >"$dir/log"
ok 'pages that stay are exit status 2' move 2 --json "$pid" "$dir/log"
ok 'with the cause' json 'e["failed"].get("ENOMEM", 0) >= 16 and e["pages_moved"] + e["pages_failed"] == 32'
kill -KILL "$pid"

# ---------------------------------------------------------------- a real recording ----

if command -v perf >/dev/null && perf record -q -e page-faults -d -c 1 -o "$dir/probe.data" true >/dev/null 2>&1; then
	exec {to}>&- {from}<&-
	cat >"$dir/pages.py" <<'PY'
import ctypes, mmap, os, sys, threading
c = ctypes.CDLL(None)
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
c.madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 15)
def use(cpu):
    os.sched_setaffinity(threading.get_native_id(), {cpu})
    for i in range(cpu, 64, 2): memory[i * 4096] = 1
print('%x' % base, flush=True)
for line in sys.stdin:
    for cpu in 0, 1:
        t = threading.Thread(target=use, args=(cpu,)); t.start(); t.join()
    print('touched', flush=True)
PY
	program real
	timeout -s KILL 60 env --default-signal=INT perf record -q -p "$pid" -e page-faults -d --sample-cpu -c 1 \
		-o "$dir/perf.real" >"$dir/perf.out" 2>&1 &
	recorder=$!
	started+=("$recorder")
	sleep 1
	ok 'while perf records, threads of a program touch its pages' [ "$(say touch)" = touched ]
	kill -INT "$(pgrep -P $recorder)"
	wait $recorder
	perf script -i "$dir/perf.real" -F comm,pid,tid,cpu,time,event,addr >"$dir/real" 2>/dev/null
	"$GODWIT" migrate -q "$pid" 0,1 1,1
	ok 'all of them are on one node then' counts '64 1'
	ok 'the recording is carried out' move 0 --json "$pid" "$dir/real"
	ok 'each page went to the node of the CPU that touched it' counts '32 0 32 1'
	exec {to}>&- {from}<&-
	soon ended
else
	result 0 'a real recording # SKIP perf cannot record page faults here'
fi
end_tests

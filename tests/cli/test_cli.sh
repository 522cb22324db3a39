#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The godwit command from outside: every command, every error. Speaks TAP. Run it from the root of
# the tree; GODWIT names the command (./build/godwit), BUILD the build directory (./build).
#
# Every process is started here, through track, and ended by its pid; everything is in one temporary
# directory. Fails if no test ran.

BUILD=$(realpath "${BUILD:-./build}")
GODWIT=$(realpath "${GODWIT:-$BUILD/godwit}")
unset GODWIT_PROBE GODWIT_LIB GODWIT_NODES GODWIT_FLAGS GODWIT_STALL_US GODWIT_QUIET LD_PRELOAD NO_COLOR

[ -x "$GODWIT" ] || { echo "Bail out! no command at $GODWIT"; exit 1; }
command -v python3 >/dev/null || { echo "1..0 # SKIP python3 is not installed"; exit 0; }

TMP=$(mktemp -d /tmp/godwit-cli-test.XXXXXX) || exit 1
export XDG_RUNTIME_DIR=$TMP/run
mkdir -m 0700 "$XDG_RUNTIME_DIR"
NOBODY=4194999	# no kernel gives this pid
STARTED=()
nr=0
failed=0

cleanup() {
	{
		for pid in "${STARTED[@]}"; do
			kill -KILL "$pid"
			wait "$pid"
		done
	} 2>/dev/null
	rm -rf "$TMP"
}
trap cleanup EXIT

# ---------------------------------------------------------------- TAP ----

# result STATUS SENTENCE
result() {
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $nr - $2"
	echo "# exit $rc"
	sed 's/^/# stdout: /' "$TMP/out" | head -n 12
	sed 's/^/# stderr: /' "$TMP/err" | head -n 12
}

# ok SENTENCE COMMAND...: the command, which gets a shell of its own, says whether
ok() {
	local sentence=$1
	shift
	("$@")
	result $? "$sentence"
}

skip() {
	nr=$((nr + 1))
	echo "ok $nr - $1 # SKIP $2"
}

# godwit ARG...: run it; rc, $TMP/out and $TMP/err are what it left
godwit() {
	"$GODWIT" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null
	rc=$?
}

exits() { [ "$rc" = "$1" ]; }
out_has() { grep -qF -- "$1" "$TMP/out"; }
err_has() { grep -qF -- "$1" "$TMP/err"; }
err_is() { [ "$(cat "$TMP/err")" = "$1" ]; }
one_line() { [ "$(wc -l <"$TMP/err")" = 1 ] && grep -q '^godwit: ' "$TMP/err"; }
silent() { [ ! -s "$TMP/out" ] && [ ! -s "$TMP/err" ]; }

# refuses SENTENCE WORDS ARG...: exit 1, nothing on stdout, one line on stderr that has WORDS
refuses() {
	local sentence=$1 words=$2
	shift 2
	godwit "$@"
	ok "$sentence" refused "$words"
}
refused() { exits 1 && [ ! -s "$TMP/out" ] && one_line && err_has "$1"; }

# json EXPRESSION: true of every line of stdout, each of which is d
json() {
	python3 - "$1" "$TMP/out" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[2], encoding='utf-8')]
sys.exit(0 if lines and all(eval('(' + sys.argv[1] + ')', {'d': d, 'lines': lines}) for d in lines) else 1)
PY
}
# jget EXPRESSION: print it of the first line
jget() { python3 -c "import json,sys; d=json.loads(open(sys.argv[1]).readline()); print($1)" "$TMP/out"; }

# ---------------------------------------------------------------- processes ----

track() { STARTED+=("$1"); }

# The pid's engine answers within 10 s.
await() {
	for _ in $(seq 100); do
		"$GODWIT" stat --via engine "$1" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	return 1
}

# managed NAME RUN-OPTION... -- CMD...: start it with fifos NAME.in and NAME.out; pid in $pid
managed() {
	local name=$1
	shift
	mkfifo "$TMP/$name.in" "$TMP/$name.out"
	"$GODWIT" run "$@" <"$TMP/$name.in" >"$TMP/$name.out" 2>"$TMP/$name.err" &
	pid=$!
	track $pid
}

end_process() {
	{
		kill -TERM "$1"
		wait "$1"
	} 2>/dev/null
}

# 64 MiB with a number in every page; prints the address, then answers "good" or "bad" for every line read.
cat >"$TMP/memory.py" <<'PY'
import ctypes, mmap, sys
size = int(sys.argv[1]) << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, size, 4096):
    memory[at:at + 8] = at.to_bytes(8, 'little')
if len(sys.argv) > 2:
    with open(sys.argv[2], 'wb+') as f:
        f.truncate(4096)
        named = mmap.mmap(f.fileno(), 4096)
print('%x' % ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
for line in sys.stdin:
    good = all(memory[at:at + 8] == at.to_bytes(8, 'little') for at in range(0, size, 4096))
    print('good' if good else 'bad', flush=True)
PY

# An impostor: python3 fake.py DIR WHAT [PID] listens on DIR/PID.sock, as itself unless told, and answers with WHAT.
cat >"$TMP/fake.py" <<'PY'
import os, socket, struct, sys, time
what, pid = sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else os.getpid()
path = '%s/%d.sock' % (sys.argv[1], pid)
NODE, COMM = 88, 16
def message(kind, body, magic=0x54495747, version=2, length=None):
    return struct.pack('=IHHII', magic, version, kind, len(body) if length is None else length, 0) + body
def hello(sock, nodes=2, size=None):
    sock.recv(16)
    body = struct.pack('=II', pid, nodes)
    return message(64, body.ljust(size, b'\0') if size else body)
def serve(sock):
    if what == 'garbage':
        sock.sendall(os.urandom(4096))
    elif what == 'magic':
        sock.sendall(message(64, b'', magic=1))
    elif what == 'version':
        sock.sendall(message(64, b'', version=999))
    elif what == 'length':
        sock.sendall(message(64, b'', length=0xffffffff))
    elif what == 'short':
        sock.sendall(message(64, b'', length=8) + b'12345678')
    elif what == 'unknown':
        sock.sendall(message(7777, b''))
    elif what == 'close':
        pass
    elif what == 'error':
        sock.sendall(message(71, struct.pack('=i124s', -13, b'not for you\x1b[2J')))
    elif what == 'silence':
        time.sleep(60)
    elif what == 'listen':
        print('heard' if sock.recv(1) else 'hung up', flush=True)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(8)
print('listening', flush=True)
while True:
    sock, _ = server.accept()
    try:
        serve(sock)
    except OSError:
        pass
    sock.close()
PY

# ---------------------------------------------------------------- the command itself ----

COMMANDS="check run attach detach ps maps migrate move stat group"

test_command() {
	local cmd

	godwit --version
	ok "--version prints name and version" grep -qE '^godwit [0-9]+\.[0-9]+\.[0-9]+$' "$TMP/out"
	godwit
	ok "without a command the usage goes to stderr and the exit status is 1" \
		eval 'exits 1 && [ ! -s "$TMP/out" ] && err_has "Usage: godwit COMMAND"'
	godwit --help
	ok "--help exits with 0 and lists every command" \
		eval 'exits 0 && for c in $COMMANDS; do grep -q "^  $c " "$TMP/out" || exit 1; done'
	for cmd in $COMMANDS; do
		godwit "$cmd" --help
		cp "$TMP/out" "$TMP/help"
		godwit help "$cmd"
		ok "help $cmd is what $cmd --help prints, and shows the usage and --json" \
			eval 'exits 0 && cmp -s "$TMP/help" "$TMP/out" && out_has "Usage: godwit '"$cmd"'" && out_has --json'
	done
	godwit migrate --help
	ok "the help of migrate names all its options" eval \
		'for o in max-stall rate dry-run verify break-cow batch form quiet; do out_has "--$o" || exit 1; done'
	godwit move --help
	ok "the help of move names all its options" eval \
		'for o in query format follow interval majority min-accesses hot cold target pages strict dry-run max-stall rate quiet; do
			out_has "--$o" || exit 1; done'
	for cmd in create add set show remove; do
		godwit group "$cmd" --help
		cp "$TMP/out" "$TMP/help"
		godwit help group "$cmd"
		ok "help group $cmd is what group $cmd --help prints, and shows the usage and --json" \
			eval 'exits 0 && cmp -s "$TMP/help" "$TMP/out" && out_has "Usage: godwit group '"$cmd"'" && out_has --json'
		refuses "group $cmd names an unknown option" "group $cmd: unknown option '--fly'" group "$cmd" --fly
	done
	for cmd in create add set remove; do
		refuses "group $cmd without its operands shows its usage" "usage: godwit group $cmd" group "$cmd"
	done
	refuses "group show names an argument too many" "unexpected argument 'b'" group show a b
	refuses "group set names an argument too many" "unexpected argument '1'" group set a 0 1
	refuses "group names an unknown word" "group: unknown command 'fly'" group fly
	godwit group
	ok "group alone shows its usage, and exits with 1" eval 'exits 1 && [ ! -s "$TMP/out" ] && err_has "Usage: godwit group"'
	refuses "an unknown command is named" "unknown command 'fly'" fly
	refuses "help of an unknown command names it" "unknown command 'fly'" help fly
	refuses "an unknown option before the command is named" "unknown option '--fly'" --fly
	for cmd in $COMMANDS; do
		refuses "$cmd names an unknown option" "$cmd: unknown option '--fly'" "$cmd" --fly
		refuses "$cmd names an unknown letter" "$cmd: unknown option '-Z'" "$cmd" -Z
	done
	for cmd in run maps migrate move stat; do
		refuses "$cmd without its operands shows its usage" "usage: godwit $cmd" "$cmd"
	done
	for cmd in check ps; do
		refuses "$cmd names an argument too many" "unexpected argument 'more'" "$cmd" more
	done
	refuses "maps names an argument too many" "unexpected argument '2'" maps 1 2
	refuses "stat names an argument too many" "unexpected argument '2'" stat 1 2
	refuses "move names an argument too many" "unexpected argument '3'" move 1 2 3
	refuses "migrate names an argument too many" "unexpected argument '2'" migrate 1 0 1 2
	refuses "an option without its value is named" "option '--rate' needs a value" migrate 1 0 1 --rate
	refuses "a value for an option that takes none is refused" "option '--verify' takes no value" \
		migrate --verify=yes 1 0 1
	refuses "--max-stall 0 is out of range" "--max-stall '0'" migrate --max-stall 0 1 0 1
	refuses "--batch 513 is out of range" "--batch '513'" migrate --batch=513 1 0 1
	refuses "--rate fast is no number" "--rate 'fast'" migrate --rate fast 1 0 1
	refuses "move --format bogus names the formats" "expected auto, plain, perf, memtierd or damon" move --format bogus 1
	refuses "move --query of a log is refused" "--follow is about a log" move --query --follow 1
	refuses "move --interval without --follow is refused" "give --follow too" move --interval 100 1
	refuses "a majority of half is none" "--majority '50'" move --majority 50 1
	refuses "--form bogus names the forms" "expected auto, plain or transactional" migrate --form bogus 1 0 1
	"$GODWIT" --help >/dev/full 2>"$TMP/err"
	rc=$?
	ok "a full disk is an error" eval 'exits 1 && one_line'
}

# ---------------------------------------------------------------- check ----

# lacks TEXT
lacks() { exits 1 && out_has missing && out_has "$1" && out_has "mend:"; }

# probe WORD TEXT MEND: check and run both name what GODWIT_PROBE takes away, and the mend
probe() {
	GODWIT_PROBE=$1 godwit check
	ok "check says what is missing with $1, and the mend" lacks "$2"
	GODWIT_PROBE=$1 godwit check --json
	ok "check --json says so with $1" json 'd["works"] is False and any(not n["ok"] and n["mend"] for n in d["needs"])'
	GODWIT_PROBE=$1 godwit run -- true
	ok "run says it in one line with $1" refused "$2"
	ok "and the mend: $3" err_has "$3"
}

test_check() {
	godwit check
	ok "check exits with 0 where migration works, else with 1" eval \
		'{ exits 0 && out_has "migration works here"; } || { exits 1 && out_has "migration does not work here"; }'
	ok "check shows kernel, THP mode, locked memory and NUMA nodes" eval \
		'out_has "$(uname -r)" && out_has THP && out_has RLIMIT_MEMLOCK && out_has "host NUMA nodes"'
	ok "no escape sequences go to a file" eval '! grep -q $'"'"'\033'"'"' "$TMP/out"'
	godwit check --json
	ok "check --json has its keys" json \
		'{"works","kernel","method","features","needs","thp","memlock_bytes","host_nodes"} <= set(d)'
	probe no-uffd userfaultfd CONFIG_USERFAULTFD
	probe no-rights "full-mode userfaultfd" CAP_SYS_PTRACE
	ok "and the second way" err_has "/dev/userfaultfd"
	ok "and the third way" err_has "vm.unprivileged_userfaultfd=1"
	probe no-move "cannot move pages" "6.8"
	ok "an old kernel is named by its release" err_has "$(uname -r)"
	probe no-scan "cannot scan page tables" "6.8"
	GODWIT_PROBE=no-touch godwit check
	ok "check says that first touches are not seen, and the mend" eval \
		'out_has missing && out_has "by guess" && out_has "CAP_PERFMON" && out_has "perf_event_paranoid=1"'
	GODWIT_PROBE=no-touch godwit check --json
	ok "which does not hinder migration" json \
		'd["works"] == all(n["ok"] or n["optional"] for n in d["needs"]) and
		[n["ok"] for n in d["needs"] if n["need"] == "touch"] == [False]'
}

# ---------------------------------------------------------------- run ----

# environ_of PID NAME
environ_of() { tr '\0' '\n' <"/proc/$1/environ" | sed -n "s/^$2=//p"; }

test_run_refusals() {
	refuses "run names a bad node kind" "node 'floppy'" run --node floppy -- true
	refuses "run names a bad word of a node" "cannot read 'size=x'" run --node ram,size=x -- true
	refuses "run names a host node that is not there" "no NUMA node 63" run --node ram,host=63 -- true
	refuses "run refuses --nodes 0" "--nodes '0'" run --nodes 0 -- true
	refuses "run refuses --nodes 65" "--nodes '65'" run --nodes 65 -- true
	refuses "run refuses --nodes together with --node" "exclude each other" run --nodes 2 --node ram -- true
	refuses "run refuses --inline perhaps" "--inline 'perhaps'" run --inline perhaps -- true
	GODWIT_LIB=$TMP/none.so godwit run -- true
	ok "a GODWIT_LIB that is not there is named" refused "$TMP/none.so"
	mkdir "$TMP/a:b"
	: >"$TMP/a:b/libgodwit.so"
	GODWIT_LIB=$TMP/a:b/libgodwit.so godwit run -- true
	ok "a library path that LD_PRELOAD cannot name is refused" refused "LD_PRELOAD"
	godwit run -- "$TMP/no-such-command"
	ok "a command that is not found exits with 127" eval 'exits 127 && one_line && err_has no-such-command'
	godwit run -- no-such-command-on-path
	ok "a command that is not on PATH exits with 127" eval 'exits 127 && one_line'
	: >"$TMP/plain"
	godwit run -- "$TMP/plain"
	ok "a file that is not executable exits with 126" eval 'exits 126 && one_line'
}

test_run() {
	"$GODWIT" run -- sh -c 'echo $$' >"$TMP/out" 2>"$TMP/err" &
	pid=$!
	wait $pid
	rc=$?
	ok "the program has the pid that godwit had" eval 'exits 0 && [ "$(cat "$TMP/out")" = '"$pid"' ]'
	godwit run -- sh -c 'exit 7'
	ok "the exit status is the program's" exits 7
	{ godwit run -q -- sh -c 'kill -TERM $$'; } 2>/dev/null
	ok "death by a signal is the program's" exits 143
	godwit run -- printf '%s|' --json -q 'a b' ''
	ok "arguments reach the program as they are" [ "$(cat "$TMP/out")" = "--json|-q|a b||" ]
	godwit run printf '%s' --nodes
	ok "options end with the command's name" [ "$(cat "$TMP/out")" = --nodes ]
	godwit run -q -- true
	ok "run -q says nothing" silent
	godwit run --json -- true
	ok "run --json says on stderr what became of it" eval \
		'cp "$TMP/err" "$TMP/out"; json "d[\"managed\"] and d[\"nodes\"] == 2 and d[\"reason\"] is None"'
}

test_run_nodes() {
	managed three --nodes 3 --max-stall 20 --no-recycle -- sleep 600
	exec 8>"$TMP/three.in" 9<"$TMP/three.out"
	ok "run --nodes 3 starts an engine" await $pid
	godwit stat --json $pid
	ok "with three nodes" json 'len(d["nodes"]) == 3'
	ok "with the stall bound of --max-stall" json 'd["stall_us_default"] == 20'
	ok "without recycling after --no-recycle" json 'd["recycling"] is False'
	end_process $pid
	exec 8>&- 9<&-
	godwit stat $pid
	ok "a process that has ended is no process" refused "no process $pid"

	LD_PRELOAD=libm.so.6 managed named --node ram,name=near --node ram,size=8M,name=far -- sleep 600
	exec 8>"$TMP/named.in" 9<"$TMP/named.out"
	await $pid
	godwit stat --json $pid
	ok "run --node names its nodes in the order given" json '[n["name"] for n in d["nodes"]] == ["near", "far"]'
	ok "and their capacity" json 'd["nodes"][1]["capacity_bytes"] == 8 << 20'
	ok "an LD_PRELOAD that was there stays, behind ours" eval \
		'environ_of '"$pid"' LD_PRELOAD | grep -qE "/libgodwit\.so[^:]*:libm\.so\.6$"'
	end_process $pid
	exec 8>&- 9<&-
}

test_run_unmanaged() {
	local static=$TMP/static

	printf 'int main(void) { return 3; }\n' >"$TMP/static.c"
	if cc -static -o "$static" "$TMP/static.c" 2>/dev/null; then
		godwit run -- "$static"
		ok "a static program runs unmanaged, and run says so" eval \
			'exits 3 && one_line && err_has "is statically linked: it runs unmanaged"'
		godwit run -q -- "$static"
		ok "run -q does not say so" eval 'exits 3 && silent'
		printf '#!%s\n' "$static" >"$TMP/script"
		chmod +x "$TMP/script"
		godwit run -- "$TMP/script"
		ok "a script of a static interpreter is seen too" eval 'exits 3 && err_has "statically linked"'
		godwit run --json -- "$static"
		ok "run --json gives the reason" eval \
			'cp "$TMP/err" "$TMP/out"; json "not d[\"managed\"] and \"static\" in d[\"reason\"]"'
	else
		skip "a static program runs unmanaged, and run says so" "no static C library"
	fi
	printf '\177ELF\1\1\1%057d' 0 >"$TMP/elf32"
	chmod +x "$TMP/elf32"
	godwit run -- "$TMP/elf32"
	ok "a 32-bit program is named so" err_has "32-bit program"
	if [ "$(id -u)" = 0 ] && cp "$(realpath "$(type -P true)")" "$TMP/setuid" &&
	   chown 65534 "$TMP/setuid" && chmod 4755 "$TMP/setuid"; then
		godwit run -- "$TMP/setuid"
		ok "a set-uid program is named so" eval 'exits 0 && err_has "set-uid"'
	else
		skip "a set-uid program is named so" "not root"
	fi
}

# ---------------------------------------------------------------- looking ----

# The process that most tests speak to: MEM is its pid, ADDR its 64 MiB.
start_memory() {
	managed memory -- python3 -u "$TMP/memory.py" 64 "$TMP/steers"$'\xc2\x9b2J\x1b[2J'
	MEM=$pid
	exec 6>"$TMP/memory.in" 7<"$TMP/memory.out"
	read -r -t 60 ADDR <&7
	await "$MEM"
}

memory_is_good() {
	local answer

	(echo check >&6) 2>/dev/null
	read -r -t 60 answer <&7 && [ "$answer" = good ]
}

# pages_at NODE: pages of the 64 MiB that maps --json sees on it
pages_at() {
	"$GODWIT" maps --json "$MEM" | python3 -c "
import json, sys
n = 0
for d in map(json.loads, sys.stdin):
    if int(d['start'], 16) <= int('$ADDR', 16) < int(d['end'], 16):
        n = d['pages'].get('$1', 0)
print(n)"
}

test_ps() {
	godwit ps
	ok "ps shows pid and command" eval 'exits 0 && grep -qE "^ *'"$MEM"' +python3" "$TMP/out"'
	godwit ps --json
	ok "ps --json is one object a process with its nodes" json \
		'{"pid","command","answers"} <= set(d) and (not d["answers"] or d["nodes"][0]["node"] == 0)'
	ok "and has our process" eval 'grep -q "\"pid\":'"$MEM"'," "$TMP/out"'

	python3 -c "import socket; s = socket.socket(socket.AF_UNIX); s.bind('$XDG_RUNTIME_DIR/godwit/$NOBODY.sock')"
	godwit ps
	ok "ps removes the socket of a process that is gone, silently" eval \
		'exits 0 && [ ! -e "$XDG_RUNTIME_DIR/godwit/$NOBODY.sock" ] && ! out_has "$NOBODY" && [ ! -s "$TMP/err" ]'

	kill -STOP "$MEM"
	godwit ps
	ok "a stopped process does not hold ps up" eval 'exits 0 && grep -qE "^ *'"$MEM"' .*does not answer" "$TMP/out"'
	kill -CONT "$MEM"
}

test_maps() {
	godwit maps "$MEM"
	ok "every line of maps has the form of numa_maps" eval \
		'exits 0 && ! grep -qvE "^[0-9a-f]{8,} default( file=[^ ]+| heap| stack)?( (anon|dirty|mapped|thp|swapped|N[0-9]+)=[0-9]+)*( kernelpagesize_kB=4)?$" "$TMP/out"'
	ok "maps shows files, the heap and the stack" eval \
		'grep -qE " file=.* mapped=[0-9]+ N0=" "$TMP/out" && grep -q " heap anon=" "$TMP/out" && grep -q " stack" "$TMP/out"'
	ok "a file's name does not steer the terminal" eval \
		'grep -qF "steers\\302\\2332J\\033[2J" "$TMP/out" && ! grep -qaP "\xc2\x9b|\x1b" "$TMP/out"'
	godwit maps --json "$MEM"
	ok "maps --json has its keys" json \
		'{"start","end","perms","kind","name","policy","pages","huge","swapped"} <= set(d) and int(d["start"], 16) < int(d["end"], 16)'
	ok "it says what is managed and what is not" json \
		'{"managed","file","stack"} <= {l["kind"] for l in lines}'
}

test_stat() {
	godwit stat "$MEM"
	ok "stat shows a row for each node and the counters" eval \
		'exits 0 && grep -qE "^ +0 " "$TMP/out" && grep -qE "^ +1 " "$TMP/out" && out_has "pages poisoned"'
	godwit stat --json "$MEM"
	ok "stat --json has its keys" json '{"pid","command","nodes","moved","failed","managed_pages","metadata_bytes","batches",
		"retries","stall_us_max","stall_us_p99","stall_us_p999","recycling","frames_dropped","forks"} <= set(d)'
}

# ---------------------------------------------------------------- migrate ----

KEYS='{"pid","from","to","pages_total","pages_moved","pages_failed","failed","bytes","seconds","gb_per_s",
	"stall_us_max","stall_us_p99","stall_us_p999","batches","retries","pages_huge","pages_gone","unmanaged",
	"form","batch","verify_errors","cancelled","dry_run","would"}'

test_migrate() {
	godwit migrate --dry-run --json "$MEM" 0 1
	ok "a dry run counts what would move, by kind" json \
		"$KEYS <= set(d) and d['dry_run'] and d['pages_moved'] == 0 and sum(d['would'].values()) >= 16384"
	ok "and moves nothing" [ "$(pages_at 1)" = 0 ]
	godwit migrate --dry-run "$MEM" 0 1
	ok "a dry run in words says what would move and what is not managed" eval \
		'exits 0 && out_has "would move" && out_has "not managed"'

	godwit migrate --json "$MEM" 0 1
	ok "migrate 0 1 moves everything and exits with 0" exits 0
	ok "its JSON has every key of the contract" json "$KEYS <= set(d)"
	ok "its figures fit together" json 'd["from"] == "0" and d["to"] == "1" and d["pages_failed"] == 0 and
		d["pages_moved"] >= 16384 and d["bytes"] == 4096 * d["pages_moved"] and d["gb_per_s"] > 0'
	ok "nothing goes to stderr that is no terminal" [ ! -s "$TMP/err" ]
	ok "maps shows the pages on node 1" [ "$(pages_at 1)" = 16384 ]
	ok "the program's data is as it was" memory_is_good
	godwit stat --json "$MEM"
	ok "stat counts the direction" json 'any(m["from"] == 0 and m["to"] == 1 and m["pages"] >= 16384 for m in d["moved"])'

	godwit migrate --verify --form plain --max-stall 30 --batch 16 "$MEM" 1 0
	ok "migrate says in words what it moved, how fast and how long the windows were" eval \
		'exits 0 && out_has "GB/s" && out_has "p99.9" && out_has "checksums"'
	ok "and back the pages are" [ "$(pages_at 0)" = 16384 ]
	godwit migrate -q --form=transactional "$MEM" all '!0'
	ok "migrate -q says nothing" eval 'exits 0 && silent'
	godwit migrate -q "$MEM" 1 0
	ok "the program's data is still as it was" memory_is_good
}

test_migrate_refusals() {
	local list

	for list in 0- x 0,,1 1-0 ''; do
		refuses "migrate names the bad node list '$list'" "node list '$list'" migrate "$MEM" "$list" 1
	done
	refuses "a list that names no node is refused" "node list '!all'" migrate "$MEM" 0 '!all'
	refuses "a node that is not there is named, and those that are" "node 7: PID $MEM has nodes 0" migrate "$MEM" 7 1
	refuses "also in a list" "node 9: PID $MEM has nodes 0" migrate "$MEM" 0 '0,9'
}

test_migrate_full() {
	managed full --node ram --node ram,size=8M -- python3 -u "$TMP/memory.py" 32
	local full=$pid

	exec 8>"$TMP/full.in" 9<"$TMP/full.out"
	read -r -t 60 _ <&9
	await $full
	godwit migrate --json $full 0 1
	ok "a full node: exit 2" exits 2
	ok "and ENOMEM with its count, nothing over the limit" json \
		'd["failed"]["ENOMEM"] > 0 and d["pages_moved"] <= 2048 and d["pages_moved"] + d["pages_failed"] + d["pages_gone"] >= 8192'
	godwit migrate $full 0 1
	ok "in words too, with an explanation" eval 'exits 2 && out_has ENOMEM && out_has "node is full"'
	end_process $full
	exec 8>&- 9<&-
}

# interrupted SIGNAL
interrupted() {
	timeout --preserve-status -s "$1" 0.5 "$GODWIT" migrate --json --rate 30 "$MEM" 0 1 >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "SIG$1 ends a migration early with exit 2" exits 2
	ok "and reports what was done until then" json 'd["cancelled"] and 0 < d["pages_moved"] < d["pages_total"]'
	godwit migrate -q "$MEM" 1 0
	ok "after SIG$1 the pages can go back" exits 0
}

test_migrate_signals() {
	interrupted INT
	interrupted TERM
	ok "the program's data outlived both" memory_is_good
}

test_migrate_terminal() {
	python3 - "$GODWIT" migrate --rate 200 "$MEM" 0 1 >"$TMP/out" 2>"$TMP/err" <<'PY'
import os, pty, sys
status = pty.spawn(sys.argv[1:], lambda fd: os.read(fd, 4096), lambda fd: b'')
sys.exit(os.waitstatus_to_exitcode(status))
PY
	rc=$?
	ok "on a terminal progress shows per cent, rate and ETA on one line" eval \
		'exits 0 && grep -q "%.*GB/s.*ETA.*worst stall" "$TMP/out"'
	godwit migrate -q "$MEM" 1 0
}

test_migrate_death() {
	managed dying -- python3 -u "$TMP/memory.py" 64
	local dying=$pid

	exec 8>"$TMP/dying.in" 9<"$TMP/dying.out"
	read -r -t 60 _ <&9
	await $dying
	"$GODWIT" migrate --rate 20 $dying 0 1 >"$TMP/out" 2>"$TMP/err" &
	local client=$!
	track $client
	sleep 0.5
	{
		kill -KILL $dying
		wait $dying
		wait $client
		rc=$?
	} 2>/dev/null
	ok "a program that dies during its migration is one clear line" eval \
		'{ exits 1 || exits 2; } && one_line && err_has "closed the connection"'
	exec 8>&- 9<&-
}

# ---------------------------------------------------------------- move ----

# move_lines LINES ARG...
move_lines() {
	local lines=$1
	shift
	printf "$lines" | "$GODWIT" move "$@" >"$TMP/out" 2>"$TMP/err"
	rc=$?
}

# bad_line SENTENCE WORDS LINES
bad_line() {
	move_lines "$3" "$MEM"
	ok "$1" refused "$2"
}

test_move() {
	local a=$ADDR b

	b=$(printf '0x%X' $((16#$ADDR + 4096)))
	move_lines "# two pages\n\n$a 1\n  $b\t1  # hex as one likes\n" "$MEM"
	ok "move prints each address as given, and its node" eval \
		'exits 0 && [ "$(cat "$TMP/out")" = "$(printf "%s 1\n%s 1" '"$a $b"')" ]'
	move_lines "$a\n$b\n" --query "$MEM" -
	ok "move --query says the same" eval 'exits 0 && [ "$(cat "$TMP/out")" = "$(printf "%s 1\n%s 1" '"$a $b"')" ]'
	printf '%s 0\n%s 0\n' "$a" "$b" >"$TMP/list"
	godwit move --json "$MEM" "$TMP/list"
	ok "move --json reads a file and prints an object a page" json \
		'd["node"] == 0 and d["error"] is None and d["address"].startswith("0x") and len(lines) == 2'
	move_lines "$a 1\n10 1\n" "$MEM"
	ok "a page that cannot move has its errno, and the exit status is 2" eval 'exits 2 && out_has "10 EFAULT" && out_has "$ADDR 1"'
	move_lines "10\n" --query "$MEM"
	ok "a query of it exits with 0" eval 'exits 0 && out_has "10 EFAULT"'
	move_lines "10\n" --query --json "$MEM"
	ok "in JSON its node is null" json 'd["node"] is None and d["error"] == "EFAULT"'
	python3 -c "
for i in range(5000): print('%x 1' % (0x$ADDR + 4096 * i))" >"$TMP/list"
	godwit move "$MEM" "$TMP/list"
	ok "5000 pages go in as many messages as it takes" eval 'exits 0 && [ "$(grep -c " 1$" "$TMP/out")" = 5000 ]'
	ok "and they are there" [ "$(pages_at 1)" = 5000 ]
	: >"$TMP/list"
	godwit move "$MEM" "$TMP/list"
	ok "an empty list is done at once" eval 'exits 0 && silent'
	godwit migrate -q "$MEM" 1 0

	bad_line "a bad address names its line" "line 2: 'nowhere'" "$a 1\nnowhere 1\n"
	bad_line "a line without a node names its line" "line 1: '$a' is not followed by a node" "$a\n"
	bad_line "a bad node names its line" "line 3: 'x' is not a node number" "\n\n$a x\n"
	bad_line "a word too many names its line" "line 1: '2' is too much" "$a 1 2\n"
	bad_line "a node that is not there names its line" "line 2: node 7: PID $MEM has nodes" "$a 1\n$a 7\n"
	bad_line "an address of more than 64 bits names its line" "line 1:" "11112222333344445 1\n"
	move_lines "$a\n" --query "$MEM"
	ok "nothing moves if a line is bad" out_has "$a 0"
	move_lines "$a 1\n$a 1\n$a 0\n" --dry-run --json "$MEM"
	ok "the same lines are votes when they are a log" json \
		'd["format"] == "plain" and d["pages_spread"] == 1 and d["samples"] == 3 and d["first_bad"] is None'
	move_lines "$a 1\n$a 1\nnowhere\n$a 1\n" --dry-run --json "$MEM"
	ok "a bad line of a log is named and counted" eval 'exits 0 && err_has "line 3: expected ADDRESS NODE" &&
		json "d[\"lines_bad\"] == 1 and d[\"first_bad\"][\"line\"] == 3 and d[\"pages_would_move\"] == 1"'
	move_lines "$a 1\n$a 9\n" --strict "$MEM"
	ok "with --strict it is an error, and nothing moves" eval 'refused "line 2: node 9: PID $MEM has nodes"'
	move_lines "" --follow "$MEM"
	ok "a log without a line is an error" refused "there is nothing in it"
	refuses "a list that cannot be read is named" "'$TMP/none'" move "$MEM" "$TMP/none"
	refuses "a directory is no list" "cannot read '$TMP'" move "$MEM" "$TMP"
}

# ---------------------------------------------------------------- who is there ----

# all_pid_commands SENTENCE WORDS PID
all_pid_commands() {
	local via
	read -ra via <<<"${VIA-}"
	refuses "maps: $1" "$2" maps "${via[@]}" "$3"
	refuses "stat: $1" "$2" stat "${via[@]}" "$3"
	refuses "move: $1" "$2" move "${via[@]}" "$3" /dev/null
	refuses "migrate: $1" "$2" migrate "${via[@]}" "$3" 0 1
}

test_who() {
	all_pid_commands "a pid that is not there is named" "no process $NOBODY" $NOBODY
	all_pid_commands "what is no pid is named" "'12x' is not a process id" 12x
	all_pid_commands "0 is no pid" "'0' is not a process id" 0
	sleep 600 6>&- 7<&- &
	PLAIN=$!
	track $PLAIN
	VIA='--via engine' all_pid_commands "a process without engine is named, with the mend" \
		"PID $PLAIN has no godwit engine: 'godwit attach $PLAIN'" $PLAIN
	refuses "migrate: --attach and --via kernel exclude each other" "--via kernel does without" \
		migrate --attach --via kernel $PLAIN 0 0
	refuses "attach: a node that cannot be is named" "cannot read 'rom'" attach --node rom $PLAIN
	godwit migrate --attach --json $PLAIN 0 1
	ok "migrate --attach: the process has an engine then" eval 'exits 0 && grep -q "\"via\":\"engine\"" "$TMP/out"'
	godwit detach --json $PLAIN
	ok "detach --json: not attached, and how long a thread stood still" \
		eval 'exits 0 && grep -q "\"attached\":false.*\"pause_us\":[0-9]" "$TMP/out"'
	VIA='--via bogus' all_pid_commands "who acts is engine, kernel or auto" "--via 'bogus': expected engine, kernel or auto" $PLAIN
}

test_foreign_user() {
	local other=(setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR)

	if [ "$(id -u)" != 0 ]; then
		refuses "another user's process is refused with the mend" "PID 1 belongs to root: run godwit as root" \
			migrate 1 0 1
		return
	fi
	if ! "${other[@]}" "$GODWIT" --version >/dev/null 2>&1; then
		skip "another user's process is refused with the mend" "user 65534 cannot execute $GODWIT"
		return
	fi
	"${other[@]}" "$GODWIT" migrate "$MEM" 0 1 >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "another user's process is refused with the mend" refused \
		"PID $MEM belongs to root: run godwit as root or as that user"
	"${other[@]}" "$GODWIT" ps --json >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "ps does not show another user's processes" eval 'exits 0 && ! out_has "\"pid\":'"$MEM"',"'
}

test_directory() {
	chmod 0755 "$XDG_RUNTIME_DIR/godwit"
	refuses "a socket directory that is open to others is refused" "$XDG_RUNTIME_DIR/godwit: not a directory of mode 0700" \
		stat "$MEM"
	chmod 0700 "$XDG_RUNTIME_DIR/godwit"
	mv "$XDG_RUNTIME_DIR/godwit" "$XDG_RUNTIME_DIR/real"
	ln -s real "$XDG_RUNTIME_DIR/godwit"
	refuses "a socket directory that is a symbolic link is refused" "$XDG_RUNTIME_DIR/godwit: not a directory" stat "$MEM"
	rm "$XDG_RUNTIME_DIR/godwit"
	mv "$XDG_RUNTIME_DIR/real" "$XDG_RUNTIME_DIR/godwit"
	godwit stat "$MEM"
	ok "and with its own again it works" exits 0
	env -u XDG_RUNTIME_DIR "$GODWIT" stat "$MEM" >"$TMP/out" 2>"$TMP/err"
	rc=$?
	ok "a process is found by its own XDG_RUNTIME_DIR when ours is another" exits 0
}

# start_fake WHAT [PID]: its pid in $fake
start_fake() {
	rm -f "$TMP/fake.out"
	python3 -u "$TMP/fake.py" "$XDG_RUNTIME_DIR/godwit" "$@" >"$TMP/fake.out" 2>&1 &
	fake=$!
	track $fake
	for _ in $(seq 100); do
		grep -qs listening "$TMP/fake.out" && break
		sleep 0.05
	done
}

# impostor WHAT SENTENCE WORDS
impostor() {
	local fake

	start_fake "$1"
	refuses "$2" "$3" stat $fake
	end_process $fake
	rm -f "$XDG_RUNTIME_DIR/godwit/$fake.sock"
}

# Sockets in the directory that are not what their names say.
test_stale_sockets() {
	local dir=$XDG_RUNTIME_DIR/godwit fake none="PID $PLAIN has no godwit engine"

	start_fake listen $PLAIN
	refuses "a socket on which another process listens is refused" "PID $fake listens there, not PID $PLAIN" stat $PLAIN
	godwit ps --json
	ok "ps does not show it" eval 'exits 0 && ! out_has "\"pid\":$PLAIN,"'
	ok "and nothing was said to it" eval 'grep -q listening "$TMP/fake.out" && ! grep -q heard "$TMP/fake.out"'
	end_process $fake

	refuses "a socket that nobody listens on any more, of a pid that was given anew, is no engine" "$none" stat --via engine $PLAIN
	godwit ps --json
	ok "ps neither shows it nor removes what may be about to listen" eval \
		'exits 0 && ! out_has "\"pid\":$PLAIN," && [ -S "$dir/$PLAIN.sock" ]'
	rm -f "$dir/$PLAIN.sock"

	ln -s "$MEM.sock" "$dir/$PLAIN.sock"
	refuses "a symbolic link to another engine's socket is refused" "PID $MEM listens there, not PID $PLAIN" stat $PLAIN
	godwit ps --json
	ok "ps shows that engine once" eval 'exits 0 && [ "$(grep -c "\"pid\":$MEM," "$TMP/out")" = 1 ] && ! out_has "\"pid\":$PLAIN,"'
	rm -f "$dir/$PLAIN.sock"

	echo precious >"$TMP/precious"
	ln -s "$TMP/precious" "$dir/$PLAIN.sock"
	refuses "a symbolic link to a file is no engine" "$none" stat --via engine $PLAIN
	rm -f "$dir/$PLAIN.sock"
	cp "$TMP/precious" "$dir/$PLAIN.sock"
	refuses "a plain file is no engine" "$none" stat --via engine $PLAIN
	godwit ps
	ok "ps passes over it" eval 'exits 0 && [ ! -s "$TMP/err" ] && [ -f "$dir/$PLAIN.sock" ]'
	rm -f "$dir/$PLAIN.sock"
	mkdir "$dir/$PLAIN.sock"
	refuses "a directory is no engine" "$none" stat --via engine $PLAIN
	rmdir "$dir/$PLAIN.sock"
}

test_impostors() {
	local not_ours="an answer that is not godwit's"

	impostor garbage "garbage on the socket is refused" "$not_ours"
	impostor magic "another magic number is refused" "$not_ours"
	impostor length "a length beyond all bounds is refused" "$not_ours"
	impostor short "a message that is too short is refused" "$not_ours"
	impostor unknown "an unknown message is refused" "$not_ours"
	impostor version "another version is named, with the mend" "another protocol version"
	impostor close "a server that hangs up is named" "closed the connection"
	impostor error "the engine's own words are shown, without escape sequences" "not for you?[2J (EACCES)"
	impostor silence "silence ends after 10 s" "silent for 10 s"
}

# ---------------------------------------------------------------- all ----

rc=0
: >"$TMP/out"
: >"$TMP/err"
test_command
test_check
"$GODWIT" check >/dev/null 2>&1
if [ $? = 0 ]; then
	test_run_refusals
	test_run
	test_run_nodes
	test_run_unmanaged
	start_memory
	ok "a managed process answers" await "$MEM"
	test_ps
	test_maps
	test_stat
	test_migrate
	test_migrate_refusals
	test_migrate_full
	test_migrate_signals
	test_migrate_terminal
	test_migrate_death
	test_move
	test_who
	test_foreign_user
	test_directory
	test_impostors
	test_stale_sockets
	exec 6>&-
	{ wait "$MEM"; } 2>/dev/null
	rc=$?
	ok "a process that ends leaves no socket behind" eval 'exits 0 && [ ! -e "$XDG_RUNTIME_DIR/godwit/$MEM.sock" ]'
else
	skip "run, ps, maps, migrate, move and stat" "$("$GODWIT" check | grep -m1 missing || echo 'migration does not work here')"
	test_who
fi
echo "1..$nr"
[ "$nr" -gt 0 ] && [ "$failed" = 0 ]

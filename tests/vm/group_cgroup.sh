#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Groups of processes without an engine: the kernel's cpusets (cgroup v2), and where the kernel says that pages are.
#
# test-machine-long: two four
# test-timeout: 240
set -u
export LC_ALL=C
GODWIT=$(realpath "${GODWIT:-${BUILD:-build}/godwit}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-cgroup.XXXXXX") || exit 1
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
	mkdir -m 700 "$dir/runtime"
	export XDG_RUNTIME_DIR=$dir/runtime
fi
root=/sys/fs/cgroup
nr=0 started=()
declare -A pid in out

[ -e $root/cgroup.controllers ] && [ -e /sys/devices/system/node/node1 ] && [ "$(id -u)" = 0 ] ||
	{ echo '1..0 # SKIP this needs root, a machine with NUMA nodes, and cgroup v2'; exit 0; }
nodes=$(ls -d /sys/devices/system/node/node[0-9]* | wc -l)

clean_up()
{
	trap '' INT TERM HUP
	{
		for p in "${started[@]}"; do kill -KILL "$p"; wait "$p"; done
		rmdir $root/origin/threads $root/origin $root/system.slice/x.service $root/system.slice $root/godwit/* $root/godwit
		rmdir /run/systemd/system
	} 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT

result()
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}
ok()	# sentence, command...
{
	local sentence=$1
	shift
	"$@"
	result $? "$sentence"
}
note_file() { [ ! -s "$1" ] || head -n 5 "$1" | cut -c 1-300 | sed 's/^/# /'; }

# 512 pages, page i on node i % 2; answers a line with a line.
cat >"$dir/member.py" <<'PY'
import ctypes, mmap, os, sys, time
c = ctypes.CDLL(None, use_errno=True)
NR = 512
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
c.madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 15)
for i in range(NR): memory[i * 4096:i * 4096 + 8] = i.to_bytes(8, 'little')
pages = (ctypes.c_void_p * NR)(*[base + i * 4096 for i in range(NR)])
status = (ctypes.c_int * NR)()
def call(to): return c.syscall(279, 0, ctypes.c_ulong(NR), pages, to, status, 2)
call((ctypes.c_int * NR)(*[i % 2 for i in range(NR)]))
def nodes():
    call(None)
    return ''.join(str(s) if s >= 0 else 'x' for s in status)
def allowed():
    return [l.split()[1] for l in open('/proc/self/status') if l.startswith('Mems_allowed_list')][0]
print('%x' % base, flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == 'nodes': print(nodes())
    if word == 'allowed': print(allowed())
    if word == 'good': print('good' if all(memory[i * 4096:i * 4096 + 8] == i.to_bytes(8, 'little') for i in range(NR)) else 'bad')
    if word == 'fork':
        child = os.fork()
        if not child:
            time.sleep(200)
            os._exit(0)
        print(child)
    if word == 'quit': sys.exit(0)
    sys.stdout.flush()
PY
declare -A base
member()	# name, command in front of it...: managed, if that is godwit run
{
	mkfifo "$dir/$1.in" "$dir/$1.out"
	"${@:2}" python3 "$dir/member.py" <"$dir/$1.in" >"$dir/$1.out" 2>"$dir/$1.err" &
	pid[$1]=$!
	started+=($!)
	exec {fd}>"$dir/$1.in"
	in[$1]=$fd
	exec {fd}<"$dir/$1.out"
	out[$1]=$fd
	read -r -t 60 -u "${out[$1]}" "base[$1]" || { echo "Bail out! no member"; cat "$dir/$1.err"; exit 1; }
}
say() { local answer; echo "$2" >&"${in[$1]}"; read -r -t 60 -u "${out[$1]}" answer; echo "$answer"; }
answer() { local got; got=$(say "$2" "$3"); [ "$got" = "$1" ] || { echo "# ${got:0:100}"; false; }; }
repeat() { local i; for ((i = 0; i < $2; i++)); do printf %s "$1"; done; }

group() { timeout -s KILL 60 "$GODWIT" group "$@" >"$dir/told" 2>"$dir/err"; status=$?; }
is()	# exit status, words...
{
	local want=$1
	shift
	group "$@"
	[ $status = "$want" ] && return
	echo "# exit $status"
	note_file "$dir/told"
	note_file "$dir/err"
	false
}
refuses()	# words of the error, words...
{
	local words=$1
	shift
	is 1 "$@" && [ ! -s "$dir/told" ] && grep -qF -- "$words" "$dir/err" && return
	note_file "$dir/err"
	false
}
json() { python3 -c "import json,sys; d=json.loads(open(sys.argv[1]).readline()); sys.exit(not ($1))" "$dir/told" || { note_file "$dir/told"; false; }; }
cgroup_is() { [ "$(sed -n 's/^0:://p' "/proc/$1/cgroup")" = "$2" ] || { cat "/proc/$1/cgroup" | sed 's/^/# /'; false; }; }
maps() { grep "^${base[$1]}" "/proc/${pid[$1]}/numa_maps" >"$dir/maps"; grep -qE " $2 " "$dir/maps" || { note_file "$dir/maps"; false; }; }
nothing_left() { [ ! -e $root/godwit ] && [ ! -e "$XDG_RUNTIME_DIR/godwit/groups" ] || { ls -R $root/godwit "$XDG_RUNTIME_DIR/godwit" | sed 's/^/# /'; false; }; }
soon() { local i; for ((i = 0; i < 50; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; "$@"; }

member one
member two
mkdir $root/origin
echo "${pid[one]}" >$root/origin/cgroup.procs
all=0-$((nodes - 1))

# ---------------------------------------------------------------- joining ----

ok 'pages begin on two nodes' answer "$(repeat 01 256)" one nodes
ok 'a node that the host does not have is refused' refuses 'and that has' create g 0,63 "${pid[one]}"
ok 'and nothing is changed' cgroup_is "${pid[one]}" /origin
ok 'or left' nothing_left
ok 'a thread of the kernel is refused' refuses 'a thread of the kernel' create g 1 "${pid[one]}" 2
ok 'and who was named with it is where it was' cgroup_is "${pid[one]}" /origin
ok 'with its pages' answer "$(repeat 01 256)" one nodes
ok 'nothing is left of it' nothing_left
ok 'a process without an engine joins' is 0 create --json g 1 "${pid[one]}"
ok 'by the kernel, which moved what was elsewhere' json "d['members'][0]['via'] == 'kernel' and d['members'][0]['state'] == 'done' and
	d['members'][0]['pages_moved'] >= 256 and d['pages_left'] == 0 and d['complete'] and d['members'][0]['stall_us_max'] is None"
ok "it is in the group's cgroup" cgroup_is "${pid[one]}" /godwit/g
ok 'which has the nodes' [ "$(cat $root/godwit/g/cpuset.mems)" = 1 ]
ok 'its pages have followed' answer "$(repeat 1 512)" one nodes
ok "the kernel's maps say so" maps one N1=512
ok 'others are not allowed to it' answer 1 one allowed
ok 'the other process is as it was' answer "$(repeat 01 256)" two nodes
ok 'a name is given once' refuses 'exists' create g 0
ok 'also to a process that would join' refuses 'exists' create g 0 "${pid[two]}"
ok 'which is left alone' answer "$(repeat 01 256)" two nodes
ok 'another joins' is 0 add g "${pid[two]}"
ok 'and its pages follow' answer "$(repeat 1 512)" two nodes

# ---------------------------------------------------------------- other nodes ----

ok 'the group gets other nodes' is 0 set g 0
ok 'the pages of one follow' maps one N0=512
ok 'and of the other' maps two N0=512
if [ "$nodes" -ge 4 ]; then
	is 0 set g "$all" || true
	python3 - "${pid[one]}" "${base[one]}" <<'PY'
import ctypes, sys
c = ctypes.CDLL(None)
base = int(sys.argv[2], 16)
NR = 512
c.syscall(279, int(sys.argv[1]), ctypes.c_ulong(NR), (ctypes.c_void_p * NR)(*[base + i * 4096 for i in range(NR)]),
          (ctypes.c_int * NR)(*[i % 2 for i in range(NR)]), (ctypes.c_int * NR)(), 4)
PY
	is 0 set g 0-1 || true
	ok 'with two nodes each, pages are on both' answer "$(repeat 01 256)" one nodes
	ok 'other two are set' is 0 set g 2-3
	ok 'and relative placement is kept' answer "$(repeat 23 256)" one nodes
	ok 'as the maps say' maps one 'N2=256 N3=256'
	ok 'nodes may be all but one' is 0 set g '!0'
	ok 'which the host counts' [ "$(cat $root/godwit/g/cpuset.mems)" = 1-3 ]
fi
ok 'nodes that are not there change nothing' refuses 'and that has' set g 62
ok '--no-follow cannot be' refuses '--no-follow' set --no-follow g 0
is 0 set g 1 || true

# ---------------------------------------------------------------- who is in it ----

child=$(say two fork)
started+=("$child")
ok 'what a member forks is a member' cgroup_is "$child" /godwit/g
group show --json g
ok 'and shown' json "sorted(m['pid'] for m in d['members']) == sorted([${pid[one]}, ${pid[two]}, $child]) and
	all(m['via'] == 'kernel' and m['nodes'] == '1' and m['answers'] for m in d['members'])"
ok 'with its pages on nodes of the host' json "d['pages_host']['1'] >= 1024 and d['pages'] == {}"
group show
ok 'in words too' grep -q "by the kernel, on the host's nodes 1, pages .*1:" "$dir/told"
ok 'who is in a group may move over' is 0 create h 0 "${pid[two]}"
ok 'into its cgroup' cgroup_is "${pid[two]}" /godwit/h
ok 'the child does not' cgroup_is "$child" /godwit/g
kill -KILL "$child"

# ---------------------------------------------------------------- mixed ----

if "$GODWIT" check >/dev/null 2>&1; then
	member three "$GODWIT" run -q --node ram,host=0 --node ram,host=1 --
	soon "$GODWIT" stat "${pid[three]}"
	ok 'a managed process joins them' is 0 add h "${pid[three]}"
	ok 'it stays in its own cgroup' cgroup_is "${pid[three]}" /
	ok 'a change is for both' is 0 set --json h 1
	ok 'each in its own way' json "{m['pid']: m['via'] for m in d['members']} == {${pid[two]}: 'kernel', ${pid[three]}: 'engine'}"
	ok 'the one follows' maps two N1=512
	ok 'the other follows, where the kernel sees it too' maps three N1=512
	ok 'what the engine lacks is for nobody' refuses "PID ${pid[three]} has node" set h "$((nodes - 1 > 1 ? nodes - 1 : 2))"
	ok 'indeed' [ "$(cat $root/godwit/h/cpuset.mems)" = 1 ]
	ok 'the managed one leaves' is 0 remove h "${pid[three]}"
	ok 'the group goes on' [ -e $root/godwit/h ]
	say three quit >/dev/null
fi

# ---------------------------------------------------------------- leaving ----

ok 'a member leaves' is 0 remove g "${pid[one]}"
ok 'and is where it came from' cgroup_is "${pid[one]}" /origin
ok 'all nodes are allowed to it' answer "$all" one allowed
ok 'its pages are where they were' answer "$(repeat 1 512)" one nodes
ok 'with its last member the group has ended' refuses "no group" show g
ok 'and its cgroup is gone' [ ! -e $root/godwit/g ]
child=$(say two fork)
started+=("$child")
ok 'a group ends on demand' is 0 remove --json h
ok 'for all' json "d['ended'] and {m['pid']: m['state'] for m in d['members']} == {${pid[two]}: 'done', $child: 'done'}"
ok 'who had moved over is where it came from at first' cgroup_is "${pid[two]}" /
ok 'so is its child' cgroup_is "$child" /
ok 'nothing is left' nothing_left
kill -KILL "$child"
is 0 create g 1 "${pid[one]}" || true
rm -rf "$dir/x"
echo "${pid[one]}" >$root/cgroup.procs
rmdir $root/origin
echo "${pid[one]}" >$root/godwit/g/cgroup.procs
ok 'where the old cgroup is gone' is 0 remove g
ok 'its parent takes the process' cgroup_is "${pid[one]}" /
is 0 create g 1 "${pid[two]}" || true
kill -KILL "${pid[two]}"
wait "${pid[two]}" 2>/dev/null
ok 'a group whose last member was killed' is 0 show
ok 'is gone with its cgroup' nothing_left

# ---------------------------------------------------------------- what cannot be ----

mkdir $root/origin $root/origin/threads
echo threaded >$root/origin/threads/cgroup.type
echo "${pid[one]}" >$root/origin/cgroup.procs
echo "${pid[one]}" >$root/origin/threads/cgroup.threads
ok 'a threaded cgroup is refused' refuses 'threaded' create g 1 "${pid[one]}"
ok 'and nothing is changed there' cgroup_is "${pid[one]}" /origin/threads
echo "${pid[one]}" >$root/cgroup.procs
mkdir -p /run/systemd/system $root/system.slice/x.service
echo "${pid[one]}" >$root/system.slice/x.service/cgroup.procs
ok "a unit of systemd's is left to systemd" refuses "systemctl set-property --runtime x.service AllowedMemoryNodes" create g 1 "${pid[one]}"
ok 'and nothing is changed there either' cgroup_is "${pid[one]}" /system.slice/x.service
python3 -c "import os; os.setxattr('$root/system.slice/x.service', 'trusted.delegate', b'1')"
ok 'unless it is delegated' is 0 create g 1 "${pid[one]}"
ok 'then it is put back there' eval 'is 0 remove g && cgroup_is "${pid[one]}" /system.slice/x.service'
rmdir /run/systemd/system
cat >"$dir/read-only" <<'SH'
mount -o remount,bind,ro /sys/fs/cgroup && exec "$@"
SH
timeout -s KILL 60 unshare -m sh "$dir/read-only" "$GODWIT" group create g 1 "${pid[one]}" >"$dir/told" 2>"$dir/err"
status=$?
ok 'a read-only hierarchy is an error that says so' eval '[ $status = 1 ] && [ ! -s "$dir/told" ] && grep -q "read-only" "$dir/err"'
note_file "$dir/err"
mkdir -p $root/godwit/g
ok "a cgroup that is not this group's is left alone" refuses 'is there already' create g 1 "${pid[one]}"
ok 'with what is in it' [ -d $root/godwit/g ]
rmdir $root/godwit/g $root/godwit
ok 'nothing is left after all this' nothing_left
ok 'no byte was changed' answer good one good
echo "1..$nr"

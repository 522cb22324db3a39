#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Groups from outside: members that join, fork, execute, spawn, are killed and end, while their nodes change.
#
# test-timeout: 240
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need python3
groups=$XDG_RUNTIME_DIR/godwit/groups

# Answers a line with a line. Its memory is one range of 256 pages, each with its number in it.
cat >"$dir/member.py" <<'PY'
import ctypes, mmap, os, subprocess, sys, time
c = ctypes.CDLL(None, use_errno=True)
NR = 256
memory = mmap.mmap(-1, NR * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
c.madvise(ctypes.c_void_p(base), ctypes.c_size_t(NR * 4096), 15)
for i in range(NR):
    memory[i * 4096:i * 4096 + 8] = i.to_bytes(8, 'little')
pages = (ctypes.c_void_p * NR)(*[base + i * 4096 for i in range(NR)])
def nodes():
    status = (ctypes.c_int * NR)()
    c.move_pages(0, ctypes.c_ulong(NR), pages, None, status, 0)
    return ''.join(str(s) if s >= 0 else 'x' for s in status)
def place(order):
    to = (ctypes.c_int * NR)(*[int(order[i % len(order)]) for i in range(NR)])
    status = (ctypes.c_int * NR)()
    c.move_pages(0, ctypes.c_ulong(NR), pages, to, status, 2)
def mask(bits):
    return (ctypes.c_ulong * 16)(bits)
def allowed():
    out = mask(0)
    c.get_mempolicy(None, out, ctypes.c_ulong(1024), None, 4)
    return str(out[0])
def policy(addr):
    out, mode = mask(0), ctypes.c_int()
    c.get_mempolicy(ctypes.byref(mode), out, ctypes.c_ulong(1024), ctypes.c_void_p(addr), 2 if addr else 0)
    return '%d %d' % (mode.value, out[0])
def good():
    return all(memory[i * 4096:i * 4096 + 8] == i.to_bytes(8, 'little') for i in range(NR))
SELF = [sys.executable, __file__, 'ask']
def answer(word, *args):
    if word == 'quit': sys.exit(0)
    if word == 'place': place(args[0])
    if word == 'nodes': return nodes()
    if word == 'allowed': return allowed()
    if word == 'good': return 'good' if good() else 'bad'
    if word == 'mbind': return str(c.mbind(ctypes.c_void_p(base), ctypes.c_ulong(NR * 4096), int(args[0]), mask(int(args[1])), ctypes.c_ulong(1024), 0))
    if word == 'task': return str(c.set_mempolicy(int(args[0]), mask(int(args[1])), ctypes.c_ulong(1024)))
    if word == 'policy': return policy(base)
    if word == 'taskpolicy': return policy(0)
    if word == 'fork':
        r, w = os.pipe()
        child = os.fork()
        if not child:
            os.write(w, allowed().encode())
            os.close(w)
            time.sleep(100)
            os._exit(0)
        os.close(w)
        return '%d %s' % (child, os.read(r, 100).decode())
    if word == 'subprocess': return subprocess.run(SELF, stdout=subprocess.PIPE).stdout.decode().strip()
    if word == 'copied': return subprocess.run(SELF, stdout=subprocess.PIPE, env=dict(os.environ)).stdout.decode().strip()
    if word == 'spawn':
        r, w = os.pipe()
        os.set_inheritable(w, True)
        os.waitpid(os.posix_spawn(SELF[0], SELF, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, w, 1)]), 0)
        os.close(w)
        return os.read(r, 100).decode().strip()
    if word == 'exec': os.execv(sys.executable, [sys.executable, __file__])
    if word == 'fork-often':    # every child says what is allowed to it, if it still lives in the end
        while os.path.exists(args[0]):
            r, w = os.pipe()
            child = os.fork()
            if not child:
                for _ in range(20):
                    time.sleep(0.01)
                    if not os.path.exists(args[0]):
                        os.write(w, allowed().encode())
                        break
                os._exit(0)
            os.close(w)
            last.append((child, r))
            time.sleep(0.03)
        return str(len(last))
    if word == 'wait': os.wait()
    if word == 'reap':
        out = set()
        for child, r in last:
            os.waitpid(child, 0)
            out.add(os.read(r, 100).decode())
        return ' '.join(sorted(out)).strip()
    return 'ok'
last = []
if len(sys.argv) > 1:
    print(os.getpid(), allowed())
    sys.exit(0)
print(os.getpid(), flush=True)
for line in sys.stdin:
    print(answer(*line.split()), flush=True)
PY

declare -A pid in out
# member NAME RUN-OPTION...: its pid in ${pid[NAME]}
member()
{
	local to from
	mkfifo "$dir/$1.in" "$dir/$1.out"
	exec {to}<>"$dir/$1.in" {from}<>"$dir/$1.out"
	in[$1]=$to out[$1]=$from
	timeout -s KILL 200 "${as[@]}" "$GODWIT" run -q "${@:2}" -- python3 "$dir/member.py" \
		<"$dir/$1.in" >"$dir/$1.out" &
	started+=($!)
	read -r -t 20 -u "${out[$1]}" pid["$1"]
}

# say NAME WORD...: the answer on stdout
say()
{
	local line=''
	echo "${*:2}" >&"${in[$1]}"
	read -r -t 20 -u "${out[$1]}" line
	echo "$line"
}

group()	# words: $status, $dir/told and $dir/err
{
	status=0
	timeout -s KILL 60 "${as[@]}" "$GODWIT" group "$@" >"$dir/told" 2>"$dir/err" || status=$?
}

is()	# status, words of the command...
{
	local want=$1
	shift
	group "$@"
	[ $status = "$want" ] && return
	note "group $*: exit $status, not $want"
	note_file "$dir/told"
	note_file "$dir/err"
	return 1
}

refuses()	# words of the error, words of the command...
{
	is 1 "${@:2}" && grep -qF -- "$1" "$dir/err" && [ ! -s "$dir/told" ] && return
	note_file "$dir/err"
	return 1
}

answer()	# wanted, name, words...
{
	local got
	got=$(say "${@:2}")
	[ "$got" = "$1" ] && return
	note "${*:2}: '$got', not '$1'"
	return 1
}

json()	# expression over d, the last output's first line, and lines, all of it
{
	python3 - "$1" "$dir/told" <<'PY' && return
import json, sys
lines = [json.loads(l) for l in open(sys.argv[2])]
d = lines[0] if lines else None
sys.exit(0 if eval('(' + sys.argv[1] + ')') else 1)
PY
	note "not $1"
	note_file "$dir/told"
	return 1
}

shows()	# group, its members' pids
{
	group show --json "$1"
	json "sorted(m['pid'] for m in d['members']) == sorted([$(echo "${@:2}" | tr ' ' ,)])"
}

repeat()	# word, times
{
	local i text=''
	for ((i = 0; i < $2; i++)); do text+=$1; done
	echo "$text"
}

no_groups() { [ ! -e "$groups" ] && return; find "$groups" | sed 's/^/# /'; return 1; }
soon() { local i; for ((i = 0; i < 50; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; "$@"; }

# ---------------------------------------------------------------- what is refused ----

for name in '' ../x . .. .x -x x/y 'x y' "$(repeat x 64)" $'x\n' 'ü'; do
	ok "'${name//$'\n'/\\n}' is no name of a group" refuses 'group name' create -- "$name" 0
done
for list in '' x 0- 1,,2 -1 '!all'; do
	ok "'$list' is no list of nodes" refuses 'node list' create -- g "$list"
done
ok 'a node beyond the most is named' refuses 'at most 64' create g 64
ok 'no process, no group' refuses 'no process' create g 0 4194999
ok 'a group that is not there cannot be added to' refuses "no group 'g'" set g 0
ok 'nor shown' refuses "no group 'g'" show g
ok 'nor removed' refuses "no group 'g'" remove g
ok 'of all this nothing is left' no_groups

# ---------------------------------------------------------------- one member ----

member one --nodes 4
member two --nodes 4
member small --nodes 2
ok 'a group is made without members' is 0 create g 0,1
ok 'it stays until it has one' is 0 show g
ok 'a name is given once' refuses 'exists' create g 0
say one place 0123 >/dev/null
ok 'a process joins' is 0 add g "${pid[one]}"
ok 'and is shown' shows g "${pid[one]}"
ok 'its nodes are the group'\''s' answer 3 one allowed
ok 'its pages keep their relative placement' answer "$(repeat 0101 64)" one nodes
ok 'the nodes of a group change' is 0 set --json g 2,3
ok 'in JSON' json "d['group'] == 'g' and d['nodes'] == '2,3' and d['before'] == '0,1' and d['complete'] and
	d['pages_left'] == 0 and d['pages_moved'] >= 256 and [m['pid'] for m in d['members']] == [${pid[one]}] and
	{'pid', 'command', 'state', 'nodes', 'pages_total', 'pages_moved', 'pages_failed', 'failed', 'bytes', 'seconds',
	 'gb_per_s', 'stall_us_max', 'batches', 'retries', 'cancelled', 'error'} <= set(d['members'][0])"
ok 'page by page the placement is kept' answer "$(repeat 2323 64)" one nodes
ok 'three nodes for two: none leaves one of them' is 0 set g 1-3
ok 'so that nothing moves' answer "$(repeat 2323 64)" one nodes
ok 'all but one, of the member'\''s own' is 0 set g '!3'
ok 'leaves it the others' answer 7 one allowed
ok 'all' is 0 set g all
ok 'are all' answer 15 one allowed
ok 'pages stay if told so' is 0 set --no-follow g 0
ok 'and do' answer "$(repeat 1212 64)" one nodes
ok 'the same nodes again take them along' is 0 set g 0
ok 'all of them' answer "$(repeat 0 256)" one nodes
ok 'no byte was changed by it' answer good one good
ok 'a node that the member does not have is refused' refuses "PID ${pid[one]} has nodes 0-3" set g 3,4
ok 'and nothing is changed' answer 1 one allowed
group show --json g
ok 'for the group either' json "d['nodes'] == '0' and d['members'][0]['pages'].get('0', 0) >= 256"
ok 'a process with two nodes cannot join a group on the fourth' is 0 set g 2-3
ok 'with a word about it' refuses "PID ${pid[small]} has nodes 0,1" add g "${pid[two]}" "${pid[small]}"
ok 'which nobody does then' shows g "${pid[one]}"
ok 'nor is a group made' refuses "PID ${pid[small]} has nodes" create h 3 "${pid[two]}" "${pid[small]}"
ok 'of that name' refuses "no group" show h
ok 'two join at once, and are named twice' is 0 add g "${pid[two]}" "${pid[two]}" "${pid[one]}"
ok 'and are members' shows g "${pid[one]}" "${pid[two]}"
ok 'a member of one joins another' is 0 create h 0-1 "${pid[two]}"
ok 'and is in that one' shows h "${pid[two]}"
ok 'only' shows g "${pid[one]}"
ok 'its last member takes the group along' is 0 add g "${pid[two]}"
ok 'when it leaves' refuses "no group 'h'" show h
ok 'a member leaves' is 0 remove g "${pid[two]}"
ok 'all nodes are allowed to it again' answer 15 two allowed
ok 'its pages stay' answer "$(repeat 2 256)" two nodes
ok 'who is no member cannot leave' refuses "not in group" remove g "${pid[two]}"

# ---------------------------------------------------------------- policies ----

is 0 set g 0-3 || note_file "$dir/err"
BIND=2 INTERLEAVE=3 STATIC=32768 RELATIVE=16384
rebound()	# mode, mask, nodes of the group, what is shown then
{
	say one mbind "$1" "$2" >/dev/null
	say one task "$1" "$2" >/dev/null
	is 0 set g "$3" && answer "$1 $4" one policy && answer "$1 $4" one taskpolicy && is 0 set g 0-3
}
ok 'a policy follows the nodes' rebound $BIND 3 2-3 12
ok 'an interleaved one too' rebound $INTERLEAVE 9 1-2 6
ok 'a static one keeps what it was given' rebound $((BIND | STATIC)) 3 2-3 3
ok 'a relative one too' rebound $((INTERLEAVE | RELATIVE)) 6 2-3 6
say one mbind 0 0 >/dev/null
say one task 0 0 >/dev/null

# ---------------------------------------------------------------- children ----

is 0 set g 2-3 || note_file "$dir/err"
read -r child nodes < <(say two fork)
group add g "${pid[two]}"
ok 'a process with a child joins, and pages that both have stay' [ $status = 2 ]
ok 'the child does not join' shows g "${pid[one]}" "${pid[two]}"
kill -KILL "$child"
say two wait >/dev/null
is 0 remove g "${pid[two]}" || note_file "$dir/err"
read -r child nodes < <(say one fork)
ok 'a forked child has the nodes from the beginning' [ "$nodes" = 12 ]
ok 'and is a member' soon shows g "${pid[one]}" "$child"
kill -KILL "$child"
ok 'a killed member is no member' soon shows g "${pid[one]}"
say one wait >/dev/null
for how in subprocess copied spawn; do
	read -r child nodes < <(say one $how)
	ok "a child by $how has the nodes" [ "$nodes" = 12 ]
done
ok 'and leaves when it ends' shows g "${pid[one]}"
read -r child < <(say one exec)
ok 'what a member becomes is the same process' [ "$child" = "${pid[one]}" ]
ok 'with the same nodes' answer 12 one allowed
ok 'and a member' shows g "${pid[one]}"
ok 'whose pages follow' is 0 set g 1
ok 'too' answer "$(repeat 1 256)" one nodes

# Nodes change while a member forks: every child has the last ones.
is 0 set g 0-3 || note_file "$dir/err"
touch "$dir/forking"
echo "fork-often $dir/forking" >&"${in[one]}"
changes_made=0
for ((i = 0; i < 25; i++)); do
	group set -q --break-cow g $((i % 3)),3
	[ $status = 0 ] || [ $status = 2 ] || note_file "$dir/err"
	[ $status = 1 ] || changes_made=$((changes_made + 1))
done
group set -q g 2
rm "$dir/forking"
read -r -t 60 -u "${out[one]}" nr_children
ok "the nodes changed 25 times while a member forked ${nr_children:-no} children" [ $changes_made = 25 ]
ok 'those that live in the end have the last nodes' answer 4 one reap
ok 'and are gone' soon shows g "${pid[one]}"

# ---------------------------------------------------------------- several at once ----

is 0 add g "${pid[two]}" || note_file "$dir/err"
set_often()	# nodes...
{
	local i
	for ((i = 0; i < 15; i++)); do
		timeout -s KILL 60 "$GODWIT" group set -q g "$1" || echo "$1: exit $?"
		timeout -s KILL 60 "$GODWIT" group set -q g "$2" || echo "$2: exit $?"
	done
}
set_often 0 1-2 >"$dir/first" 2>&1 &
setter=$!
set_often 3 0,2 >"$dir/second" 2>&1
wait $setter
ok 'two commands change the nodes at once' [ ! -s "$dir/first" ] && [ ! -s "$dir/second" ]
note_file "$dir/first"
note_file "$dir/second"
group show --json g
list=$(sed -n 's/.*"group":"g","nodes":"\([^"]*\)".*/\1/p' "$dir/told")
declare -A masks=([0]=1 [1-2]=6 [3]=8 [0,2]=5)
ok "all members have the same in the end, $list" answer "${masks[$list]}" one allowed
ok 'both' answer "${masks[$list]}" two allowed

# A member that is stopped: the others get the nodes, and it does when it goes on and is told again.
is 0 set g 0-1 || note_file "$dir/err"
kill -STOP "${pid[two]}"
ok 'with a stopped member the command says so' is 2 set g 2-3
ok 'who' grep -q "PID ${pid[two]}'s engine has been silent" "$dir/err"
ok 'the others have the nodes' answer 12 one allowed
ok 'it is shown as one that does not answer' is 0 show --json g
ok 'in JSON' json "{m['pid']: m['answers'] for m in d['members']} == {${pid[one]}: True, ${pid[two]}: False}"
kill -CONT "${pid[two]}"
ok 'told again it follows' is 0 set g 2-3
ok 'with its nodes' answer 12 two allowed

# Members come and go while their nodes change.
coming() { while [ -e "$dir/coming" ]; do say two subprocess >/dev/null; done; }
touch "$dir/coming"
coming &
comer=$!
bad=0
for ((i = 0; i < 30; i++)); do
	is 0 set g $((i % 4)) || bad=$((bad + 1))
	[ ! -s "$dir/err" ] || { bad=$((bad + 1)); note_file "$dir/err"; }
done
rm "$dir/coming"
wait $comer
ok 'members that come and go meanwhile are no error' [ $bad = 0 ]
ok 'no byte was changed by all this' answer good one good
ok 'in either' answer good two good

# ---------------------------------------------------------------- the end ----

ok 'the group ends on demand' is 0 remove --json g
ok 'in JSON' json "d['ended'] and {m['pid']: m['state'] for m in d['members']} == {${pid[one]}: 'done', ${pid[two]}: 'done'}"
ok 'and nothing is left of it' no_groups
ok 'all nodes are allowed again' answer 15 one allowed
ok 'a group of one' is 0 create g 1 "${pid[one]}"
say one quit >/dev/null
ok 'ends with it' soon no_groups
ok 'a group of two' is 0 create g 1 "${pid[two]}" "${pid[small]}"
kill -KILL "${pid[two]}" "${pid[small]}"
sleep 0.2
ok 'that are killed' is 0 show --json
ok 'is seen to have ended by the next command' [ ! -s "$dir/told" ]
ok 'and nothing is left of it either' no_groups

# ---------------------------------------------------------------- other users ----

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	member three --nodes 2
	chmod 711 "$dir"
	mkdir -m 700 "$dir/nobody"
	chown nobody "$dir/nobody"
	as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "XDG_RUNTIME_DIR=$dir/nobody")
	ok 'another user'\''s process cannot be made a member' refuses 'belongs to root' create g 0 "${pid[three]}"
	as=(setpriv --reuid=nobody --regid=nogroup --inh-caps=+sys_ptrace --ambient-caps=+sys_ptrace --clear-groups
	    env "XDG_RUNTIME_DIR=$dir/nobody") # it may use userfaultfd
	member theirs --nodes 2
	ok 'a user has groups of its own' is 0 create g 1 "${pid[theirs]}"
	ok 'under its own name' [ "$(stat -c %U "$dir/nobody/godwit/groups/g" 2>/dev/null)" = nobody ]
	as=(env "XDG_RUNTIME_DIR=$dir/nobody")
	ok 'root cannot have both in one' refuses 'not one group' create h 0 "${pid[three]}" "${pid[theirs]}"
	ok 'and may make groups of the user'\''s processes' is 0 create h 0 "${pid[theirs]}"
	ok 'which stay the user'\''s' [ "$(stat -c %U "$dir/nobody/godwit/groups/h" 2>/dev/null)" = nobody ]
	as=()
	say theirs quit >/dev/null
	say three quit >/dev/null
fi
end_tests

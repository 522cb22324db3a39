#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# NUMA calls that do not pass libc: they are answered as those that do, or refused as by a kernel without NUMA; and who
# answers them is not to be noticed otherwise.
#
# test-timeout: 240
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need gcc python3 setpriv unshare "$(dirname "$GODWIT")/tests/inline_calls"
top=$(realpath "$(dirname "$0")/../..")
program=$(dirname "$GODWIT")/tests/inline_calls
static=$dir/inline_static
chmod 711 "$dir"
gcc -O1 -static -pthread -o "$static" "$top/tests/progs/inline_calls.c" 2>"$dir/gcc.log" || static=
[ "$(id -u)" = 0 ] || { echo '1..0 # SKIP needs root: the filter costs rights otherwise'; exit 0; }

run()	# options -- command...: on three nodes
{
	timeout -s KILL 60 "$GODWIT" run -q --nodes 3 "$@" </dev/null
}

says()	# text, command...
{
	[ "$("${@:2}" 2>&1)" = "$1" ] && return
	note "$("${@:2}" 2>&1 | head -n 2 | paste -s) instead of $1"
	return 1
}

exits()	# status, command...
{
	"${@:2}" >"$dir/out" 2>&1
	local status=$?
	[ $status = "$1" ] && return
	note "exit $status instead of $1"
	note_file "$dir/out"
	return 1
}

# The living processes that answer such calls for this test.
supervisors()
{
	grep -lsF "$dir" /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = godwit-numa ] && echo "$pid"
	done
}

alone_again()	# within a second there is none
{
	local turn
	for ((turn = 0; turn < 20; turn++)); do
		[ -n "$(supervisors)" ] || return 0
		sleep 0.05
	done
	note "left: $(supervisors | paste -s)"
	return 1
}
export INLINE_TEST=$dir	# found in the environment

# ---------------------------------------------------------------- answers ----

host=$("$program" nodes)
ok 'answers are those of calls through libc' exits 0 run -- "$program" compare
ok 'policies may name the nodes of the engine' says 7 run -- "$program" nodes
ok 'also in what a shell starts' says 7 run -- sh -c "true; $program nodes"
ok 'also below a PID namespace' says 7 run -- unshare --pid --fork sh -c "$program nodes; true"
ok 'parent and child have policies of their own' exits 0 run -- "$program" fork
ok 'many threads at once, each with its own policy' exits 0 run -- "$program" threads 32 40
ok 'a program that uses nothing of libc' says good run -- "$program" raw 16 40
ok 'in a run below a run' says 3 run -- "$GODWIT" run -q --nodes 2 -- "$program" nodes
ok '--inline never: the kernel answers' says "$host" run --inline never -- "$program" nodes
ok '--inline always' says 7 run --inline always -- "$program" nodes

# ---------------------------------------------------------------- refusals ----

if [ -n "$static" ]; then
	ok 'a static program is refused' exits 0 run -- "$static" refused
	ok 'also below a shell that is managed' exits 0 run -- sh -c "$static refused && true"
	ok 'whose other programs are not' says 7 run -- sh -c "$static refused && $program nodes"
	ok 'with --inline never a static program is as without godwit' says "$host" \
		run --inline never -- "$static" nodes
fi

# ---------------------------------------------------------------- nothing else changes ----

fds()	# those that a command has
{
	"$@" python3 -c 'import os; print(sorted(int(n) for n in os.listdir("/proc/self/fd")))' | tr -d '[] '
}
same_fds() { [ "$(fds env)" = "$(fds "$GODWIT" run -q --)" ]; }
interrupted() { run -- sh -c 'kill -TERM $$'; [ $? = 143 ]; } 2>/dev/null
closed() { says 7 "$GODWIT" run -q --nodes 3 -- sh -c "$program nodes 2>&1" <&- 2>&-; }

ok 'wait() sees nobody, and no SIGCHLD is pending' exits 0 run -- "$program" wait
ok 'also of who adopts orphans' exits 0 timeout 60 "$program" reaper "$GODWIT" run -q -- "$program" wait
ok 'exit status is the program'\''s' exits 7 run -- sh -c 'exit 7'
ok 'so is the signal that ends it' interrupted
ok 'a program that is not there' exits 127 run -- "$dir/none"
ok 'no descriptor more' same_fds
ok 'with standard descriptors closed' closed
ok 'filters of its own hold; a listener of its own is refused as busy' exits 0 run -- "$program" filter
ok 'nobody is left of all this' alone_again

own_calls()	# of the engine: frames of a node that is bound to the machine's, and what the kernel says of them
{
	start 30 "$GODWIT" run -q --node ram,host=0 --node ram,host=0 -- \
		python3 -c 'import time; x = bytearray(8 << 20); print("ready", flush=True); time.sleep(30)' >"$dir/ready"
	await 50 grep -q ready "$dir/ready" || return
	pid=$(pgrep -P "${started[-1]}")
	godwit migrate --json "$pid" 0 1 >"$dir/out" 2>&1
	note_file "$dir/out"
	cp "/proc/$pid/numa_maps" "$dir/numa_maps" || echo prefer:0 >"$dir/numa_maps"	# a kernel without NUMA
	kill -KILL "$pid"
	finish
	grep -q prefer:0 "$dir/numa_maps" && [ "$(sum_of pages_moved "$dir/out")" -ge 2048 ]
}
ok 'calls of the engine reach the kernel' own_calls

# ---------------------------------------------------------------- who answers ----

pid='' supervisor=''
has_socket() { [ -S "$XDG_RUNTIME_DIR/godwit/$pid.sock" ]; }

start_asking()	# threads; the program's pid in $pid, its supervisor's in $supervisor
{
	start 60 "$GODWIT" run -q --nodes 3 -- "$program" for-ever "$1" >"$dir/asking" 2>&1
	await 50 pgrep -P "${started[-1]}" || return
	pid=$(pgrep -P "${started[-1]}")
	await 50 has_socket || return
	supervisor=$(supervisors)
	sleep 0.2
}

end_asking()
{
	kill -KILL "$pid"
	finish
	true
}

holds_nothing()
{
	local held
	held=$(readlink /proc/"$supervisor"/fd/* | sort -u | grep -v '^socket:' | paste -s -d ' ')
	[ "$held" = '/dev/null anon_inode:seccomp notify' ] && [ "$(readlink "/proc/$supervisor/cwd")" = / ] && return
	note "holds $held"
	return 1
}

own_session() { [ "$(ps -o sid= -p "$supervisor")" != "$(ps -o sid= -p "$pid")" ]; }
nobodys_child() { [ "$(ps -o ppid= -p "$supervisor" | tr -d ' ')" != "$pid" ]; }
named() { [ "$(tr '\0' ' ' <"/proc/$supervisor/cmdline" | sed 's/ *$//')" = 'godwit: NUMA calls' ]; }

one() { [ "$(wc -w <<<"$supervisor")" = 1 ]; }
goes_on() { kill -0 "$pid" && [ ! -s "$dir/asking" ]; }

start_asking 8
ok 'one process answers' one
ok 'it holds nothing of the program'\''s' holds_nothing
ok 'it is in a session of its own' own_session
ok 'it is nobody'\''s child' nobodys_child
ok 'its name is its own' named
kill -STOP "$pid"
sleep 0.3
ok 'others are answered while one stands still' says 7 run -- "$program" nodes
kill -CONT "$pid"
sleep 0.3
ok 'which goes on later' goes_on
note_file "$dir/asking"
end_asking
ok 'it ends when the program is killed' alone_again

killed_often()
{
	local turn
	for ((turn = 0; turn < 10; turn++)); do
		start_asking 16 || return
		end_asking
	done
	alone_again
}
ok 'also when that happens in the middle of calls, again and again' killed_often

outlives()	# the program is killed, and what it has started is answered until its end
{
	start 60 "$GODWIT" run -q --nodes 3 -- sh -c \
		"( while [ ! -e $dir/go ]; do sleep 0.05; done; $program nodes >$dir/orphan ) & exec sleep 60"
	await 50 pgrep -P "${started[-1]}" || return
	sleep 0.3
	kill -KILL "$(pgrep -P "${started[-1]}")"
	finish
	: >"$dir/go"
	for _ in {1..40}; do
		[ -s "$dir/orphan" ] && break
		sleep 0.1
	done
	says 7 cat "$dir/orphan" && alone_again
}
ok 'what a killed program leaves behind is answered until its end' outlives

without_it()	# the one who answers is killed
{
	start 60 "$GODWIT" run -q --nodes 3 -- "$program" lost >"$dir/lost"
	await 50 grep -q asking "$dir/lost" || return
	kill -KILL "$(supervisors)"
	finish
}
ok 'without it calls are refused, and the program goes on' without_it

# ---------------------------------------------------------------- without rights ----

as_nobody()	# command...: may use userfaultfd, but not install a filter
{
	mkdir -p "$dir/nobody"
	chown nobody "$dir/nobody"
	chmod 700 "$dir/nobody"
	XDG_RUNTIME_DIR=$dir/nobody timeout -s KILL 60 setpriv --reuid=nobody --regid=nogroup --clear-groups \
		--inh-caps=-all,+sys_ptrace --ambient-caps=-all,+sys_ptrace --bounding-set=-all,+sys_ptrace,+setpcap -- "$@"
}
if as_nobody "$GODWIT" run -q -- true 2>/dev/null; then
	ok 'without rights: the kernel answers' says "$host" as_nobody "$GODWIT" run -q --nodes 3 -- "$program" nodes
	ok 'unless no_new_privs is set already' says 7 \
		as_nobody setpriv --no-new-privs "$GODWIT" run -q --nodes 3 -- "$program" nodes
	ok 'with --inline always nodes are those of the engine' says 7 \
		as_nobody "$GODWIT" run -q --nodes 3 --inline always -- "$program" nodes
	ok 'which is set then' says "NoNewPrivs:	1" \
		as_nobody "$GODWIT" run -q --inline always -- grep NoNewPrivs /proc/self/status
	ok 'and not otherwise' says "NoNewPrivs:	0" as_nobody "$GODWIT" run -q -- grep NoNewPrivs /proc/self/status
	ok 'nobody is left of these either' alone_again
else
	result 0 "without rights # SKIP user nobody cannot run godwit here"
fi
rm -rf "$dir/nobody"
end_tests

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `godwit attach` to processes in all states: those that can be attached to go on as before, with their data whole and
# their mappings as they were; those that cannot stay untouched, and the reason is said.
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need gdb strace busybox setpriv unshare
attachee=$(realpath "${BUILD:-build}/tests/attachee")
via=()
[ "$("$GODWIT" migrate --help | grep -c -- --via)" = 0 ] || via=(--via engine)

be()	# words: an attachee in that state, its pid in $pid
{
	rm -f "$dir/said"
	start 100 "$attachee" "$@" >"$dir/said" 2>&1
	await 100 grep -q ready "$dir/said"
	pid=$(pgrep -P "${started[-1]}")
}

whole()	# it ends well
{
	kill -USR2 "$pid"
	finish && grep -q '^whole [1-9]' "$dir/said" && return
	note_file "$dir/said"
	return 1
}

mappings()
{
	cut -d ' ' -f 1-2,6- "/proc/$pid/maps"
}

# All that the engine brings is there; then nothing of it.
round_trip()
{
	godwit attach -q "$pid" && [ -n "$(find "$XDG_RUNTIME_DIR/godwit" -name "$pid.sock")" ] || return 1
	godwit migrate --json --verify "$pid" 0 1 >>"$dir/moves" 2>>"$dir/errors" || [ $? = 2 ] || return 1
	godwit detach -q "$pid" || return 1
	[ "$(cat "/proc/$pid/task"/*/comm 2>/dev/null | grep -c '^godwit')" = 0 ] && ! grep -q '\[anon:godwit\]' "/proc/$pid/maps"
}

times()	# how many, command...
{
	local turn
	for ((turn = 0; turn < $1; turn++)); do
		"${@:2}" || return
	done
}

# The words stand in what is said, which is one line, and the exit status is 1.
refused()	# words, command...
{
	local status=0
	"${@:2}" >"$dir/out" 2>"$dir/refusal" || status=$?
	[ $status = 1 ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/refusal")" = 1 ] && grep -qF -- "$1" "$dir/refusal" && return
	note "exit $status"
	note_file "$dir/refusal"
	return 1
}

# ---------------------------------------------------------------- states that can be ----

for state in 'threads 64' malloc handler vfork forker allow atfork; do
	# shellcheck disable=SC2086 # the state is words
	be $state
	ok "$state: attached, migrated and detached four times under load" times 4 round_trip
	ok "$state: its data is whole" whole
done

be wait
mappings >"$dir/before"
descriptors=$(find "/proc/$pid/fd" -type l | wc -l)
ok 'in a system call for ever: attached, migrated and detached twenty times' times 20 round_trip
mappings >"$dir/after"
ok 'and its mappings are those of before' same "$dir/before" "$dir/after"
ok 'and its descriptors' [ "$(find "/proc/$pid/fd" -type l | wc -l)" = "$descriptors" ]
godwit attach -q "$pid"
ok 'one that is attached to already' refused 'has an engine already' godwit attach "$pid"
godwit detach -q "$pid"
ok 'one that is not attached to' refused 'was not attached to' godwit detach "$pid"
ok 'one in use by two commands at once' [ "$(for _ in 1 2 3 4; do
	godwit attach -q "$pid" 2>/dev/null && echo attached &
done; wait)" = attached ]
ok 'and after that' godwit detach -q "$pid"
ok 'and it is whole' whole

# The first thread of the process may not be one to be stopped; the program itself is in a function that waits.
be vfork-long
ok 'in vfork() for longer than the command has patience' refused 'vfork' godwit attach "$pid"
ok 'and its data is whole' whole

# ---------------------------------------------------------------- a command that dies ----

# No thread is scheduled before others for good.
ordinary()
{
	! ps -L -o cls= -p "$pid" | grep -q FF
}

# At each of its ptrace(2) calls in turn, whatever the process is made to do just then.
die_at()	# which call
{
	{
		timeout 20 strace -o /dev/null -e trace=ptrace -e "inject=ptrace:signal=KILL:when=$1" \
			"$GODWIT" attach -q "$pid" >/dev/null
		[ $? = 137 ] || return 1
	} 2>/dev/null
	kill -0 "$pid" 2>/dev/null || return 1
	deaths=$((deaths + 1))
	await 20 ordinary || { note "call $1 left a thread with a priority"; return 1; }
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		godwit detach -q "$pid" 2>"$dir/refusal" && return
		grep -q 'was not attached to' "$dir/refusal" && return
		sleep 0.2
	done
	note_file "$dir/refusal"
	return 1
}

for state in handler 'threads 8'; do
	# shellcheck disable=SC2086
	be $state
	deaths=0
	for ((at = 1; at < 60; at++)); do
		die_at $at || break
	done
	godwit detach -q "$pid"	# the last one lived
	note "$state: the command died at each of its first $deaths calls"
	ok "$state: goes on when the command dies at any of its calls" [ $deaths -ge 14 ]
	ok "$state: can be attached to after that" round_trip
	ok "$state: its data is whole" whole
done

# ---------------------------------------------------------------- states that cannot be ----

for state in forbid refuse; do
	be $state
	ok "a seccomp filter that would $state userfaultfd()" refused 'does not let the engine call userfaultfd()' \
		godwit attach "$pid"
	ok 'and its data is whole' whole
done

be strict
ok 'seccomp strict mode' refused 'does not let the engine call mmap()' godwit attach "$pid"
kill -0 "$pid"
ok 'and it lives' [ $? = 0 ]
kill -KILL "$pid"
finish

be late
godwit attach -q "$pid"
kill -USR1 "$pid"
sleep 0.2
ok 'a filter that came after the engine' refused 'does not let the engine call clone()' godwit detach "$pid"
ok 'and its data is whole' whole

be coroutine
ok 'a thread on a stack without room' refused 'small stacks' godwit attach "$pid"
ok 'and nothing below it was written to' whole

be threads 2
kill -STOP "$pid"
ok 'a stopped process' refused "is stopped: 'kill -CONT $pid' first" godwit attach "$pid"
kill -CONT "$pid"
ok 'and when it goes on' round_trip
timeout 60 gdb -p "$pid" -batch -ex 'shell touch '"$dir"'/debugged' -ex 'shell sleep 2' >"$dir/gdb" 2>&1 &
debugger=$!
await 200 test -e "$dir/debugged"
ok 'under gdb' refused 'is traced by process' godwit attach "$pid"
wait $debugger
ok 'and when gdb has gone' round_trip
if [ "$(id -u)" = 0 ]; then
	ok "another user's" refused "is another user's" setpriv --reuid=nobody --clear-groups "$GODWIT" detach "$pid"
fi
thread=$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 -printf '%f\n' | grep -vx "$pid" | head -n 1)
ok 'a thread' refused "is a thread of process $pid" godwit attach "$thread"
ok 'and its data is whole' whole

start 20 sh -c 'sleep 0.1 & exec sleep 15'
sleep 0.5
zombie=$(pgrep -P "$(pgrep -P "${started[-1]}")")
ok 'a zombie' refused 'has ended already' godwit attach "$zombie"
ok 'a kernel thread' refused 'kernel thread' godwit attach 2
ok 'no process' refused 'no process 4194304' godwit attach 4194304
ok 'no number' refused "'one' is not a process id" godwit attach one

start 20 busybox sleep 15
sleep 0.2
ok 'a static program' refused 'is statically linked' godwit attach "$(pgrep -P "${started[-1]}")"

start 20 "$GODWIT" run -q -- sleep 15
sleep 0.5
managed=$(pgrep -P "${started[-1]}")
ok 'one that was started with its engine' refused 'has an engine already' godwit attach "$managed"
ok 'which is not detached from' refused 'was started with its engine' godwit detach "$managed"
kill "$managed"

start 20 unshare -p -f --mount-proc sleep 15
sleep 0.5
ok 'one in another PID namespace' refused 'is in another PID namespace' \
	godwit attach "$(pgrep -P "$(pgrep -P "${started[-1]}")")"

start 20 unshare -m sh -c 'mount -t tmpfs none /tmp; exec sleep 15'
sleep 0.5
pid=$(pgrep -P "${started[-1]}")
tree=$XDG_RUNTIME_DIR
export XDG_RUNTIME_DIR=
ok 'one that sees another file tree is attached to' godwit attach -q "$pid"
ok 'and migrated' godwit migrate -q "$pid" 0 1
ok 'and detached from' godwit detach -q "$pid"
export XDG_RUNTIME_DIR=$tree

# A forked child has the image of its parent, and no engine until it is attached to.
be parent
parent=$pid
godwit attach -q "$parent"
kill -USR1 "$parent"
await 50 pgrep -P "$parent"
pid=$(pgrep -P "$parent")
ok 'a child has no engine' refused 'has no godwit engine' godwit migrate "${via[@]}" "$pid" 0 1
ok 'and can be attached to while its parent is' round_trip
godwit attach -q "$pid"
ok 'and is, when its parent is detached from' godwit detach -q "$parent"
ok 'and when it is, too' godwit detach -q "$pid"
pid=$parent
ok 'both have their data whole' whole

# One that ends while it is attached to: whatever comes of it is said, and nothing is left.
ended=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
	start 20 "$attachee" exits >"$dir/said"
	sleep "0.0$((5 + RANDOM % 8))"
	godwit attach -q "$(pgrep -P "${started[-1]}")" 2>"$dir/refusal"
	finish && grep -q whole "$dir/said" && ended=$((ended + 1))
done
ok 'processes that end meanwhile end as they would' [ $ended = 10 ]
end_tests

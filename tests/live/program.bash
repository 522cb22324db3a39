# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests program_*.sh share; they source it. A real program runs under `godwit run`, a loop in the background
# moves the whole memory of every managed process to and fro, with lists of random pages between, and the program's
# result must be the one of a run alone.
#
# Everything is in $dir, which is removed at the end with every process that was started here. The loop leaves
#   $dir/moves     a line of JSON for every migration, as godwit migrate --json prints it
#   $dir/lists     a line of JSON for every list of random pages
#   $dir/errors    a line for every request that was not answered; must stay empty
#
#   TORTURE_SCALE=1   that much more work for the program; tests/torture has 4
#   TORTURE_SEED=1    of the random pages
#   TORTURE_FAR=      zram, file or both: no migrations, but a limit with far nodes behind it (far.bash)

set -u
export LC_ALL=C
unset LD_PRELOAD "${!GODWIT_@}"

GODWIT=$(realpath "${GODWIT:-${BUILD:-build}/godwit}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-program.XXXXXX") || exit 1
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
	mkdir -m 700 "$dir/runtime"
	export XDG_RUNTIME_DIR=$dir/runtime
fi
export TMPDIR=$dir
scale=${TORTURE_SCALE:-1}
as=()		# command in front of the program and of godwit: to be another user
preload=''	# what the program has in LD_PRELOAD beside the engine
nr=0 mover='' started=()
touch "$dir/moves" "$dir/lists" "$dir/errors"
# shellcheck source=far.bash
. "${BASH_SOURCE[0]%/*}/far.bash"

# Each way to move pages, in turn.
moves_options=('' '--form plain' '--form transactional' '--batch 512' '--verify' '--max-stall 20')

clean_up()
{
	local pid
	trap '' INT TERM HUP
	rm -f "$dir/moving"
	{
		for pid in "${started[@]}"; do
			kill -KILL -- "-$pid"	# timeout's group, its command in it
			kill -KILL "$pid"
			wait "$pid"
		done
		[ -z "$mover" ] || wait "$mover"
	} 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---------------------------------------------------------------- TAP ----

result()	# status, sentence
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr - $2"
	else
		echo "not ok $nr - $2"
	fi
}

ok()	# sentence, command...
{
	local sentence=$1
	shift
	"$@"
	result $? "$sentence"
}

note()	# words: for the reader of the output
{
	echo "# $*"
}

note_file()	# file: its first lines
{
	[ ! -f "$1" ] || head -n 5 "$1" | cut -c 1-300 | sed 's/^/# /'
}

end_tests()
{
	# a process that was killed leaves its socket behind, for the next ps to remove
	godwit ps >/dev/null 2>&1
	echo "1..$nr"
	exit 0
}

give_up()	# sentence, and a file that tells more
{
	result 1 "$1"
	[ $# = 1 ] || note_file "$2"
	end_tests
}

need()	# command...
{
	local name
	for name; do
		command -v "$name" >/dev/null || { echo "1..0 # SKIP $name is not installed"; exit 0; }
	done
	[ -x "$GODWIT" ] || { echo "Bail out! there is no $GODWIT"; exit 1; }
}

same()	# file, file: not empty and equal
{
	[ -s "$1" ] && cmp "$1" "$2" >"$dir/cmp" 2>&1 && return
	note_file "$dir/cmp"
	return 1
}

# ---------------------------------------------------------------- the loop ----

godwit()	# words
{
	timeout -s KILL $((20 * scale)) "${as[@]}" "$GODWIT" "$@"
}

# What a request to a process came to; 0 and 2, pages stayed behind and are counted, are answers.
answered()	# exit status, pid, words
{
	case $1 in
	0 | 2)
		refused[$2]=0
		return ;;
	137)
		echo "${*:2}: did not end" >>"$dir/errors" ;;
	*)	# It may have ended or become another program, but then it is not listed, or answers, the next time.
		refused[$2]=$((${refused[$2]:-0} + 1))
		[ "${refused[$2]}" -lt 4 ] || echo "${*:2}: exit $1: $(cat "$dir/move")" >>"$dir/errors" ;;
	esac
	return 1
}

move_all()	# pid, from, to, options
{
	local status=0
	# shellcheck disable=SC2086 # the options are words
	godwit migrate --json $4 "$1" "$2" "$3" >"$dir/move" 2>&1 || status=$?
	answered $status "$@" && cat "$dir/move" >>"$dir/moves"
}

# Pages anywhere in what may be written, in short runs, each to either node; some are not present, or named twice.
random_pages()	# pid
{
	local areas=() run step from to pages
	mapfile -t areas < <(awk '$2 == "rw-p" && $5 == 0 { sub("-", " ", $1); print $1 }' "/proc/$1/maps" 2>/dev/null)
	for ((run = 0; run < 48 && ${#areas[@]} > 0; run++)); do
		from=${areas[RANDOM % ${#areas[@]}]}
		to=$((0x${from#* }))
		from=$((0x${from% *}))
		pages=$(((to - from) / 4096))
		from=$((from + (RANDOM << 15 | RANDOM) % pages * 4096))
		for ((step = 0; step < 8 && from < to; step++, from += 4096)); do
			printf '%x %d\n' $from $((RANDOM % 2))
		done
	done
}

move_some()	# pid
{
	local status=0
	random_pages "$1" >"$dir/list"
	godwit move "$1" "$dir/list" >"$dir/move" 2>&1 || status=$?
	answered $status "$1" list && awk -v pid="$1" '
		$2 ~ /^[0-9]/ { placed++ }
		$2 ~ /^E/ { failed[$2]++ }
		END {
			for (name in failed)
				list = list (list ? "," : "") "\"" name "\":" failed[name]
			printf "{\"pid\":%d,\"pages_placed\":%d,\"failed\":{%s}}\n", pid, placed, list
		}' "$dir/move" >>"$dir/lists"
}

# Every managed process; a forked child and what it has become are found, too.
move_to_and_fro()
{
	local pids pid options turn=0
	local -A refused=()
	trap - INT TERM HUP EXIT
	RANDOM=${TORTURE_SEED:-1}
	while [ -e "$dir/moving" ]; do
		options=${moves_options[turn % ${#moves_options[@]}]}
		pids=$(godwit ps --json 2>/dev/null | sed -n 's/^{"pid":\([0-9]*\),.*/\1/p')
		for pid in $pids; do	# root is told of everybody's
			[ -S "$XDG_RUNTIME_DIR/godwit/$pid.sock" ] || continue
			move_all "$pid" 0 1 "$options"
			move_some "$pid"
		done
		for pid in $pids; do
			[ -S "$XDG_RUNTIME_DIR/godwit/$pid.sock" ] || continue
			move_all "$pid" 1 0 "$options"
		done
		[ -n "$pids" ] || { sleep 0.02; continue; }
		turn=$((turn + 1))
	done
}

start_moving()
{
	began=$SECONDS
	: >"$dir/moving"
	if [ -n "$far" ]; then
		watch_limits >/dev/null 2>>"$dir/errors" &
		mover=$!
		return
	fi
	move_to_and_fro >/dev/null 2>>"$dir/errors" &
	mover=$!
}

stop_moving()
{
	rm -f "$dir/moving"
	wait "$mover"
	mover=
}

sum_of()	# key, file
{
	grep -o "\"$1\":[0-9]*" "$2" | awk -F : '{ sum += $2 } END { printf "%d\n", sum }'
}

processes_moved()	# how many
{
	grep -o '^{"pid":[0-9]*' "$dir/moves" | sort -u | wc -l
}

# "EBUSY 12 EAGAIN 3"; of lists without addresses that have no page.
refusals()
{
	cat "$dir/moves" "$dir/lists" | grep -o '"failed":{[^}]*}' | grep -o '"E[A-Z0-9]*":[0-9]*' | tr -d '"' |
		awk -F : '$1 !~ /ENOENT|EFAULT/ { sum[$1] += $2 } END { for (name in sum) printf " %s %d", name, sum[name] }'
}

# The loop was at work: pages moved, no checksum failed, every request was answered. Begins the count anew.
ok_moves()	# least number of pages, name if it is not the file's
{
	local pages name=${2:-$(basename "$0" .sh)} refusals
	[ -z "$far" ] || { ok_far "$name"; return; }
	pages=$(sum_of pages_moved "$dir/moves")
	refusals=$(refusals)
	# tests/torture reads this line.
	note "tally ${name#program_}: $((SECONDS - began)) s, $(wc -l <"$dir/moves") migrations, $pages pages," \
	     "$(wc -l <"$dir/lists") lists, $(sum_of pages_placed "$dir/lists") pages; refused${refusals:- 0}"
	note "worst window $(grep -o '"stall_us_max":[0-9]*' "$dir/moves" | cut -d : -f 2 | sort -n | tail -n 1) us"
	ok "at least $1 pages moved meanwhile" [ "$pages" -ge "$1" ]
	ok "pages of random lists were moved" [ "$(sum_of pages_placed "$dir/lists")" -gt 0 ]
	ok "every batch that was verified has its checksum" [ "$(sum_of verify_errors "$dir/moves")" = 0 ]
	ok "every request was answered" [ ! -s "$dir/errors" ]
	note_file "$dir/errors"
	truncate -s 0 "$dir/moves" "$dir/lists" "$dir/errors"
}

# ---------------------------------------------------------------- programs ----

start()	# seconds allowed, command...: in the background, its pid in $started
{
	timeout -s KILL "$@" &
	started+=($!)
}

finish()	# wait for the last one started; its exit status
{
	local pid=${started[-1]} status=0
	wait "$pid" 2>/dev/null || status=$?
	unset 'started[-1]'
	return $status
}

# Until the command succeeds; not when the last one started has ended, or after so many tenths of a second.
await()	# tenths, command...
{
	local turn
	for ((turn = 0; turn < $1; turn++)); do
		"${@:2}" >/dev/null 2>&1 && return
		kill -0 "${started[-1]}" 2>/dev/null || break
		sleep 0.1
	done
	return 1
}

alone()	# command...
{
	start $((120 * scale)) "${as[@]}" env ${preload:+"LD_PRELOAD=$preload"} "$@"
	[ -z "$far" ] || watch_alone "${started[-1]}" "$dir/peaks" &
	finish
}

godwit_run()	# seconds allowed, command...: in the background, on two nodes
{
	local nodes=(--node ram --node ram)
	if [ "$far" = alone ]; then
		start $(($1 * scale)) "${as[@]}" env ${preload:+"LD_PRELOAD=$preload"} "${@:2}"
		watch_alone "${started[-1]}" "${TORTURE_PEAKS:-/dev/null}" &
		return
	fi
	[ -z "$far" ] || far_nodes
	start $(($1 * scale)) "${as[@]}" env ${preload:+"LD_PRELOAD=$preload"} \
		"$GODWIT" run -q "${nodes[@]}" -- "${@:2}"
}

managed()	# command...: under godwit, and constant migration
{
	local status=0
	start_moving
	godwit_run 200 "$@"
	finish || status=$?
	stop_moving
	return $status
}

in_place()	# alone|managed, command...: what it says and writes is in $dir/alone or $dir/managed
{
	local status=0
	mkdir -p "$dir/$1"
	pushd "$dir/$1" >/dev/null || return
	"$@" >out 2>err || status=$?
	popd >/dev/null || return
	return $status
}

same_places()
{
	[ -n "$(find "$dir/alone" -type f -size +0)" ] && diff -r "$dir/alone" "$dir/managed" >"$dir/cmp" 2>&1 && return
	note_file "$dir/cmp"
	return 1
}

# The same alone and under constant migration, in a directory of its own.
compare()	# the program's name, command...
{
	rm -rf "$dir/alone" "$dir/managed"
	in_place alone "${@:2}" || give_up "$1 works alone" "$dir/alone/err"
	ok "$1 ends with success under constant migration" in_place managed "${@:2}"
	ok "all that $1 says and writes is that of a run alone" same_places
}

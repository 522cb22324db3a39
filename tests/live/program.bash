# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests program_*.sh share; they source it. A real program runs under `godwit run`, a loop in the background
# moves the whole memory of every managed process to and fro, and the program's result must be the one of a run alone.
#
# Everything is in $dir, which is removed at the end with every process that was started here. The loop leaves
#   $dir/moves     a line of JSON for every migration, as godwit migrate --json prints it
#   $dir/errors    a line for every migration that could not be asked for; must stay empty

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
nr=0 mover='' started=()

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

move_one()	# pid, from, to, options
{
	local status=0
	# shellcheck disable=SC2086 # the options are words
	timeout -s KILL 20 "$GODWIT" migrate --json $4 "$1" "$2" "$3" >"$dir/move" 2>&1 || status=$?
	case $status in
	0 | 2)	# 2: pages stayed behind, and are counted
		cat "$dir/move" >>"$dir/moves"
		refused[$1]=0 ;;
	137)
		echo "$1 $2 $3 $4: did not end" >>"$dir/errors" ;;
	*)	# It may have ended or become another program, but then it is not listed, or answers, the next time.
		refused[$1]=$((${refused[$1]:-0} + 1))
		[ "${refused[$1]}" -lt 4 ] || echo "$1 $2 $3 $4: exit $status: $(cat "$dir/move")" >>"$dir/errors" ;;
	esac
}

# Every managed process; a forked child and what it has become are found, too.
move_to_and_fro()
{
	local pids pid options turn=0
	local -A refused=()
	trap - INT TERM HUP EXIT
	while [ -e "$dir/moving" ]; do
		options=${moves_options[turn % ${#moves_options[@]}]}
		pids=$(timeout -s KILL 20 "$GODWIT" ps --json 2>/dev/null | sed -n 's/^{"pid":\([0-9]*\),.*/\1/p')
		for pid in $pids; do
			move_one "$pid" 0 1 "$options"
		done
		for pid in $pids; do
			move_one "$pid" 1 0 "$options"
		done
		[ -n "$pids" ] || { sleep 0.02; continue; }
		turn=$((turn + 1))
	done
}

start_moving()
{
	: >"$dir/moves"
	: >"$dir/errors"
	: >"$dir/moving"
	move_to_and_fro >/dev/null 2>>"$dir/errors" &
	mover=$!
}

stop_moving()
{
	rm -f "$dir/moving"
	wait "$mover"
	mover=
}

sum_of()	# key
{
	grep -o "\"$1\":[0-9]*" "$dir/moves" | awk -F : '{ sum += $2 } END { printf "%d\n", sum }'
}

processes_moved()	# how many
{
	grep -o '^{"pid":[0-9]*' "$dir/moves" | sort -u | wc -l
}

# The loop was at work: pages moved, no checksum failed, every request was answered.
ok_moves()	# least number of pages
{
	local pages
	pages=$(sum_of pages_moved)
	note "$pages pages moved in $(wc -l <"$dir/moves") migrations, $(sum_of pages_failed) stayed;" \
	     "worst window $(grep -o '"stall_us_max":[0-9]*' "$dir/moves" | cut -d : -f 2 | sort -n | tail -n 1) us"
	ok "at least $1 pages moved meanwhile" [ "$pages" -ge "$1" ]
	ok "every batch that was verified has its checksum" [ "$(sum_of verify_errors)" = 0 ]
	ok "every migration was answered" [ ! -s "$dir/errors" ]
	note_file "$dir/errors"
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

alone()	# command...
{
	start 60 "$@"
	finish
}

managed()	# command...: under godwit on two nodes, and constant migration
{
	local status=0
	start_moving
	start 90 "$GODWIT" run -q --nodes 2 -- "$@"
	finish || status=$?
	stop_moving
	return $status
}

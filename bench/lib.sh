#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the benches that are scripts share. Source it first: it goes to the top of the tree, and sets $build and $godwit.
#
#   bench_begin NAME       a directory $dir of its own, where godwit's sockets are too; everything is undone at the end, on
#                          Ctrl-C and on errors: processes that background started, then at_exit's commands, last first
#   background CMD...      its pid in $pid, its output in $dir/out, its errors in $dir/err; it reads this shell's stdin
#   end_last               end what was started last
#   at_exit CMD...         to be run when the bench ends, however it ends
#   median, quartiles      of numbers on stdin
#   json_numbers KEY FILE  the numbers of a key, sorted
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

build=$(realpath "${BUILD:-build}")
# shellcheck disable=SC2034 # for those who source this
godwit=$build/godwit
dir='' pid='' started=() undo=()

at_exit()
{
	undo+=("$(printf '%q ' "$@")")
}

clean_up()
{
	local i
	trap '' INT TERM HUP
	for i in "${started[@]}"; do
		kill "$i" 2>/dev/null || true
		wait "$i" 2>/dev/null || true
	done
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		eval "${undo[i]}" || true
	done
	rm -rf "$dir"
}

bench_begin()	# name
{
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-$1.XXXXXX")
	chmod 711 "$dir"
	mkdir -m 700 "$dir/runtime"
	export XDG_RUNTIME_DIR=$dir/runtime
}

background()	# command...
{
	: >"$dir/err"
	"$@" <&0 >"$dir/out" 2>>"$dir/err" &
	pid=$!
	started+=("$pid")
}

end_last()
{
	kill "${started[-1]}" 2>/dev/null || true
	wait "${started[-1]}" 2>/dev/null || true
	unset 'started[-1]'
}

median()
{
	sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'
}

quartiles()
{
	sort -n | awk '{ v[NR] = $1 } END { printf "%.3f to %.3f", v[int((NR + 3) / 4)], v[int((3 * NR + 3) / 4)] }'
}

json_numbers()	# key, file
{
	grep -o "\"$1\":[0-9.]*" "$2" | cut -d : -f 2 | sort -n
}

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The rooms hold, and the check that says so can fail.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nr=0

verdict()	# status, text
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}

# A tree of two rooms, a policy that may include base, and one file whose lines are given.
finds()	# expected text of the violation (or "nothing"), file, lines of it
{
	local want=$1 file=$2 out
	rm -rf "$work/tree"
	mkdir -p "$work/tree/src/base" "$work/tree/src/policy" "$work/tree/src/cli" "$work/tree/bench"
	printf 'room base:\nroom policy: base\nroom cli:\npublic cli\nword malloc(: cli\nword mbind: base/own.c\n' \
		>"$work/tree/src/ROOMS"
	echo 'int x;' | tee "$work/tree/src/base/base.h" "$work/tree/src/policy/policy.h" >"$work/tree/src/cli/cli.h"
	printf '%s\n' "${@:3}" >"$work/tree/$file"
	out=$("$top/scripts/rooms" "$work/tree")
	if [ "$want" = nothing ]; then
		case $out in *' 0 violations') return 0;; esac
	else
		case $out in "$file:$want"*) return 0;; esac
	fi
	printf '# wanted "%s", got: %s\n' "$want" "$out"
	return 1
}

out=$("$top/scripts/rooms")
rc=$?
printf '%s\n' "$out" | sed 's/^/# /'
verdict $rc "no room includes, and no room says, what it may not"

finds nothing src/policy/a.c '#include "base/base.h"' '#include "policy.h"' '#include <stdio.h>'
verdict $? "what src/ROOMS allows passes"
finds '2: room base may not include policy' src/base/a.c '' '#include "policy/policy.h"'
verdict $? "an include against the order is found"
finds '1: room policy may not include <godwit.h>' src/policy/a.c '#include <godwit.h>'
verdict $? "the public header below the line is found"
finds '1: "base/none.h" does not exist' src/policy/a.c '#include "base/none.h"'
verdict $? "an include of no file is found"
finds '1: "base/base.h": only <godwit.h>' bench/a.c '#include "base/base.h"'
verdict $? "an outsider that includes a room is found"
finds '3: "malloc("' src/base/a.c '/* malloc(1)' ' * malloc(2) */ // malloc(3)' 'p = malloc (4);'
verdict $? "a word in code is found, in comments it is not"
finds nothing src/base/a.c 'slab_malloc(1); malloc_trim(2); say("malloc(3) \" malloc(4)"); c = '"'\"'; /* malloc(5) */"
verdict $? "a word inside another identifier or a string is none"
finds '2: "mbind"' src/base/a.c 'membind = 1;' 'syscall(SYS_mbind, 2);'
verdict $? "a word behind an underscore is found"
finds nothing src/base/own.c 'mbind(1);'
verdict $? "a word in the file that owns it passes"
finds '1: not in a room' src/stray.c 'int y;'
verdict $? "a file outside the rooms is found"

rm -rf "$work/tree" && mkdir -p "$work/tree/src" && echo 'room base:' >"$work/tree/src/ROOMS"
! "$top/scripts/rooms" "$work/tree" >/dev/null
verdict $? "looking at no file is a failure"
echo "1..$nr"

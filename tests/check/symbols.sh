#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The libraries show what src/libgodwit.map and godwit.h say, and nothing else.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$top/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nr=0

verdict()	# status, text
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}

# ok when a file is empty; else its lines are shown.
empty()
{
	[ ! -s "$1" ] || { sed 's/^/# /' "$1"; return 1; }
}

# The functions that godwit.h declares; the names of the map, without gw_*.
gcc -E -P -I"$top/include" "$top/include/godwit.h" 2>/dev/null | tr '\n' ' ' | grep -oE '\bgw_[a-z0-9_]+ *\(' |
	tr -d ' (' | sort -u >"$work/declared"
sed -n '/global:/,/local:/p' "$top/src/libgodwit.map" | grep -oE '^[[:space:]]*[A-Za-z_][A-Za-z0-9_]*;' |
	tr -d ' \t;' | sort -u >"$work/interposed"
nm -D --defined-only "$build/libgodwit.so" | awk '{ print $NF }' | sort -u >"$work/shared"
nm -g --defined-only "$build/libgodwit.a" | awk 'NF == 3 { print $NF }' | sort -u >"$work/static"

[ "$(wc -l <"$work/declared")" -ge 10 ] && [ -s "$work/interposed" ]
verdict $? "godwit.h declares functions and the map names interposed calls"

sort -u "$work/declared" "$work/interposed" | comm -13 - "$work/shared" >"$work/more"
empty "$work/more"
verdict $? "libgodwit.so exports nothing but the API and the interposed calls"

sort -u "$work/declared" "$work/interposed" | comm -23 - "$work/shared" >"$work/less"
empty "$work/less"
verdict $? "libgodwit.so exports all of them, without a version"

comm -13 "$work/declared" "$work/static" >"$work/more"
empty "$work/more"
verdict $? "libgodwit.a shows nothing but the API"

comm -23 "$work/declared" "$work/static" >"$work/less"
empty "$work/less"
verdict $? "libgodwit.a shows all of the API"

# A program that refers to the interposed calls as libc versions them; libc does not have those of libnuma.
sed 's/.*/extern void &(void);/' "$work/interposed" >"$work/calls.c"
{
	echo 'void (*const volatile calls[])(void) = {'
	sed 's/$/,/' "$work/interposed"
	echo '}; int main(void) { return 0; }'
} >>"$work/calls.c"
: >"$work/bound"
gcc -w -fno-builtin -o "$work/calls" "$work/calls.c" -pthread -lc "$build/libgodwit.so" &&
	LD_DEBUG=bindings LD_BIND_NOW=1 LD_PRELOAD=$build/libgodwit.so "$work/calls" 2>&1 |
	sed -n "s/.*binding file [^ ]*calls .* to [^ ]*libgodwit.so.*symbol .\([A-Za-z0-9_]*\)'.*/\1/p" | sort -u >"$work/bound"
comm -23 "$work/interposed" "$work/bound" >"$work/less"
empty "$work/less"
verdict $? "a preloaded libgodwit.so answers a program's interposed calls"

echo '#include <godwit.h>
long migrate_pages(int pid) { return pid; }
int main(void) { return gw_self() != NULL || migrate_pages(0); }' >"$work/own.c"
gcc -I"$top/include" -o "$work/own" "$work/own.c" "$build/libgodwit.a" -pthread && "$work/own"
verdict $? "a program with a migrate_pages() of its own links with libgodwit.a"
nm "$build/libgodwit.so" | grep -E ' kernel_(migrate|walk|mover_run)$' >"$work/more"
empty "$work/more" && nm "$build/godwit" | grep -q ' kernel_migrate$'
verdict $? "the kernel room is in the command, and not in libgodwit.so"
echo "1..$nr"

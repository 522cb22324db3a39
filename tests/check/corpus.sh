#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every fuzz target goes through its corpus: the seeds, and what was ever found.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$top/build}
nr=0

for source in "$top"/tests/fuzz/fuzz_*.c; do
	target=$(basename "$source" .c)
	nr=$((nr + 1))
	if said=$("$build/fuzz/$target" "$top/tests/fuzz/corpus/$target" 2>&1); then
		echo "ok $nr - $target: $said"
	else
		echo "not ok $nr - $target"
		printf '%s\n' "$said" | head -n 40 | sed 's/^/# /'
	fi
done
echo "1..$nr"

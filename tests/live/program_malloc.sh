#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Threads allocate, grow, shrink and free blocks by the allocators of libc, jemalloc and mimalloc, each of which maps,
# discards and gives back memory in its own way, while its pages move to and fro: each byte is the one that was written.
#
#   MALLOC_ROUNDS=10
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
rounds=${MALLOC_ROUNDS:-$((10 * scale))}
program=$(dirname "$GODWIT")/tests/churn
need "$program"

churn()	# name, library
{
	preload=$2
	if [ -n "$2" ] && [ ! -e "$2" ]; then
		result 0 "$1 # SKIP there is no $2"
		return
	fi
	compare "churn with $1" "$program" "$rounds"
	ok_moves 3000 "malloc_$1"
}

churn libc ''
churn jemalloc /usr/lib/x86_64-linux-gnu/libjemalloc.so.2
churn mimalloc /usr/lib/x86_64-linux-gnu/libmimalloc.so
end_tests

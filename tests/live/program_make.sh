#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make -j builds this source tree while the pages of make, its shells, the compilers and linkers move to and fro: all
# that it builds is byte by byte that of a run alone.
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need make gcc
unset MAKEFLAGS MFLAGS MAKELEVEL
top=$(realpath "$(dirname "$0")/../..")

# The directory's name is in what is built: each run builds in the same place, and takes it home.
build()
{
	make -s -C "$top" -j3 "B=$dir/build" "$what" | sort && mv "$dir/build" .
}
# its library, or all of it
what=$dir/build/libgodwit.so
[ "$scale" = 1 ] || what=all
export dir top what
export -f build
compare make bash -o pipefail -c build
ok_moves 5000
end_tests

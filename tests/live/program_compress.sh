#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# xz and zstd, each with threads, compress and restore while their pages move to and fro: what they write is byte by byte
# that of a run alone, and what comes back is what was there before.
#
#   COMPRESS_MIB=3   of text and of noise
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need xz zstd
size=$((${COMPRESS_MIB:-$((3 * scale))} << 20))

awk -v size=$size 'BEGIN {
	for (n = 1; done < size; done += length(line) + 1) {
		n = n * 48271 % 2147483647
		line = sprintf("%d the %s of %c%c%c %x", n % 1000, n % 3 ? "number" : "name", 97 + n % 26, 97 + n % 7, 97 + n % 13, n)
		print line
	}
}' >"$dir/text"
awk -v size=$((size / 8)) 'BEGIN { for (n = 1; done++ < size;) printf "%c", (n = n * 48271 % 2147483647) / 8388608 }' >>"$dir/text"

round_trip()
{
	xz -T2 -6 --block-size=1MiB <"$dir/text" >text.xz && xz -T2 -dc text.xz | cmp - "$dir/text" &&
	zstd -q -T2 -9 <"$dir/text" >text.zst && zstd -q -dc text.zst | cmp - "$dir/text"
}
export dir
export -f round_trip
compare 'a round trip' bash -ec round_trip
ok_moves 20000
end_tests

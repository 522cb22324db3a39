#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A profiler's log on real nodes: the frames come from where the samples' CPUs are, and the kernel says so.
#
# test-machine: two
# test-timeout: 120
set -u
export LC_ALL=C
GODWIT=$(realpath "${GODWIT:-${BUILD:-build}/godwit}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-profiler.XXXXXX") || exit 1
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
	mkdir -m 700 "$dir/runtime"
	export XDG_RUNTIME_DIR=$dir/runtime
fi
nr=0 pid=
clean_up() { { [ -z "$pid" ] || kill -KILL "$pid"; wait "$pid"; rm -rf "$dir"; } 2>/dev/null; }
trap clean_up EXIT
[ -e /sys/devices/system/node/node1 ] || { echo '1..0 # SKIP this machine has one node'; exit 0; }

ok()	# sentence, command...
{
	nr=$((nr + 1))
	if "${@:2}"; then echo "ok $nr - $1"; else echo "not ok $nr - $1"; fi
}
cpu_of() { cut -d , -f 1 "/sys/devices/system/node/node$1/cpulist" | cut -d - -f 1; }
maps() { grep "^$base" "/proc/$pid/numa_maps" >"$dir/maps"; grep -q " $1 " "$dir/maps" || { sed 's/^/# /' "$dir/maps"; false; }; }
move() { timeout -s KILL 60 "$GODWIT" move "$@" >"$dir/told" 2>"$dir/err" || { sed 's/^/# /' "$dir/told" "$dir/err"; false; }; }

cat >"$dir/pages.py" <<'PY'
import ctypes, mmap, sys
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
ctypes.CDLL(None).madvise(ctypes.c_void_p(base), ctypes.c_size_t(4 << 20), 15)
for i in range(64): memory[i * 4096:i * 4096 + 8] = i.to_bytes(8, 'little')
print('%x' % base, flush=True)
sys.stdin.readline()
print('good' if all(memory[i * 4096:i * 4096 + 8] == i.to_bytes(8, 'little') for i in range(64)) else 'bad', flush=True)
PY
mkfifo "$dir/in" "$dir/out"
start()	# command...: python3 at the end of it
{
	"$@" python3 "$dir/pages.py" <"$dir/in" >"$dir/out" 2>"$dir/program.err" &
	pid=$!
	exec 8>"$dir/in" 9<"$dir/out"
	read -r -t 60 -u 9 base || { echo 'Bail out! no program'; cat "$dir/program.err"; exit 1; }
}
samples()	# of the CPUs of both nodes in turn, a page each
{
	local i
	for ((i = 0; i < 64; i++)); do
		printf 'python %d/%d [%03d] 1.%06d:          1 page-faults:     %x\n' $pid $pid "$(cpu_of $((i % 2)))" $i \
			$((16#$base + i * 4096))
	done
}
heat()	# of the first 48 pages
{
	printf '#\n kdamond.0 9 [000] 1.0: damon:damon_aggregated: target_id=0 nr_regions=1 %d-%d: 7 1\n' \
		$((16#$base)) $((16#$base + 48 * 4096))
}
finish()
{
	echo >&8
	read -r -t 60 -u 9 word
	ok 'no byte was changed' [ "$word" = good ]
	wait $pid
	pid=
}

start "$GODWIT" run -q --node "ram,host=0,cpus=$(cpu_of 0)" --node "ram,host=1,cpus=$(cpu_of 1)" --
samples >"$dir/log"
"$GODWIT" migrate -q $pid 1 0
ok 'all pages are on one node' maps N0=64
ok "samples of both nodes' CPUs are carried out" move $pid "$dir/log"
ok 'and the kernel sees half of the pages on either' eval 'maps N0=32 && maps N1=32'
heat >"$dir/damon"
ok "DAMON's hot range goes to one" move --hot 1 --min-accesses 5 $pid "$dir/damon"
ok 'and the kernel sees it there' eval 'maps N0=8 && maps N1=56'
finish

start numactl --membind=0 env
samples >"$dir/log"
ok 'without an engine: all pages are on one node' maps N0=64
ok "samples of both nodes' CPUs are carried out by the kernel" move --via kernel --rate 10 $pid "$dir/log"
ok 'and it sees half of the pages on either' eval 'maps N0=32 && maps N1=32'
heat >"$dir/damon"
ok "DAMON's hot range goes to one" move --hot 1 --min-accesses 5 $pid "$dir/damon"
ok 'and the kernel sees it there' eval 'maps N0=8 && maps N1=56'
finish
echo "1..$nr"

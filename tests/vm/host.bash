# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests host_*.sh share; they source it. They run in a machine with several NUMA nodes, with engine nodes that
# are bound to them, and ask the machine's kernel where pages are: host_pages knows nothing of godwit.

set -u
export LC_ALL=C
unset LD_PRELOAD "${!GODWIT_@}"

BUILD=${BUILD:-build}
GODWIT=$(realpath "${GODWIT:-$BUILD/godwit}")
progs=$(realpath "$BUILD/tests")
dir=$(mktemp -d "${TMPDIR:-/tmp}/godwit-host.XXXXXX") || exit 1
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
	mkdir -m 700 "$dir/runtime"
	export XDG_RUNTIME_DIR=$dir/runtime
fi
nr=0
pid=
host=()		# the host node of each node

clean_up()
{
	trap '' INT TERM HUP
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

result()	# status, sentence
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; else echo "not ok $nr - $2"; fi
}

ok()	# sentence, command...
{
	local sentence=$1
	shift
	"$@"
	result $? "$sentence"
}

note()
{
	echo "# $*"
}

end_tests()
{
	echo "1..$nr"
	exit 0
}

# The nodes of this machine that have memory, in order; skips all when there are fewer than so many.
need_nodes()	# how many
{
	local list part
	machine=()
	list=$(cat /sys/devices/system/node/has_memory 2>/dev/null || echo 0)
	for part in ${list//,/ }; do
		mapfile -t -O ${#machine[@]} machine < <(seq "${part%-*}" "${part#*-}")
	done
	[ ${#machine[@]} -ge "$1" ] || { echo "1..0 # SKIP a machine with $1 NUMA nodes is needed"; exit 0; }
}

# ---------------------------------------------------------------- a program with memory ----

# host_memory under godwit, with a node for each host node named; $pid, and in range its memory.
declare -A range
with=()		# command in front of it
start_memory()	# host node...
{
	local h spec=() name='' at
	host=("$@")
	for h; do spec+=(--node "ram,host=$h"); done
	rm -f "$dir/in" "$dir/out"
	mkfifo "$dir/in" "$dir/out"
	"$GODWIT" run -q "${spec[@]}" -- "${with[@]}" "$progs/host_memory" <"$dir/in" >"$dir/out" &
	pid=$!
	exec 8>"$dir/in" 9<"$dir/out"
	while read -r -t 60 name at <&9 && [ "$name" != ready ]; do
		range[$name]=$at
	done
	[ "$name" = ready ]
}

end_memory()
{
	exec 8>&- 9<&-
	wait "$pid"
	pid=
}

answer=
say()	# words: to the program; its answer
{
	echo "$*" >&8
	read -r -t 60 answer <&9
}

says()	# what it must answer, words
{
	say "${@:2}"
	[ "$answer" = "$1" ] && return
	note "'${*:2}': '$answer' instead of '$1'"
	return 1
}

# ---------------------------------------------------------------- where it is ----

kernel()	# kind: "N0=12 N1=3" as the kernel says
{
	"$progs/host_pages" "$pid" "${range[$1]}" | cut -d ' ' -f 2-
}

pages()	# kind
{
	echo $(((0x${range[$1]#*-} - 0x${range[$1]%-*}) / 4096))
}

all_on()	# node, kind...: by the kernel's word
{
	local kind has want
	for kind in "${@:2}"; do
		has=$(kernel "$kind")
		want=N${host[$1]}=$(pages "$kind")
		[ "$has" = "$want" ] && continue
		note "$kind: the kernel says $has, not $want"
		return 1
	done
}

# Free frames of the engine that are on a node, in pages, by the kernel's word: only arenas prefer one node.
in_stock()	# node
{
	awk -v on="N${host[$1]}=" '
		$2 ~ /^prefer:/ { for (i = 3; i <= NF; i++) if (index($i, on) == 1) s += substr($i, length(on) + 1) }
		END { print s + 0 }' "/proc/$pid/numa_maps"
}

# When nothing has been migrated for a while the host has its frames back.
stock_goes()
{
	local marks=8	# each arena keeps a page of its own
	for _ in {1..60}; do
		sleep 0.1
		[ "$(in_stock 0)" -gt $marks ] || [ "$(in_stock 1)" -gt $marks ] || return 0
	done
	note "$(in_stock 0) free frames are kept on node 0, $(in_stock 1) on node 1"
	return 1
}

# The engine's figures with the host's numbers: "START N0=.. N1=.." of each mapping.
books()
{
	"$GODWIT" maps "$pid" >"$dir/maps"
	awk -v hosts="${host[*]}" '
		BEGIN { split(hosts, host, " ") }
		{
			line = $1
			sub(/^0+/, "", line)
			split("", on)
			for (i = 2; i <= NF; i++)
				if ($i ~ /^N[0-9]+=/) {
					split(substr($i, 2), part, "=")
					on[host[part[1] + 1]] += part[2]
				}
			for (n = 0; n < 64; n++)
				if (on[n])
					line = line " N" n "=" on[n]
			if (line ~ / N/)
				print line
		}' "$dir/maps" | sort
}

# KiB of the huge memory.
in_thps()
{
	awk -v from="^${range[huge]%-*}-" '$0 ~ from { at = 1 } at && $1 == "AnonHugePages:" { print $2; exit }' \
		"/proc/$pid/smaps"
}

# Every writable private anonymous mapping: the books say what the kernel says. Not those that have pages on nodes of
# the machine that the program was not given: from before the engine, and where it cannot move them.
books_are_true()
{
	local wrong bound="${host[*]}"
	books >"$dir/books"
	"$progs/host_pages" "$pid" | sed 's/-[0-9a-f]*//' | grep -v " N[^${bound// /}]" | grep ' N' | sort >"$dir/kernel"
	wrong=$(join -o 1.1 "$dir/books" "$dir/kernel" | wc -l)
	[ "$wrong" -gt 3 ] || { note "only $wrong mappings to compare"; return 1; }
	wrong=$(join -j 1 <(sed 's/ /|/2g; s/ / /' "$dir/books") <(sed 's/ /|/2g; s/ / /' "$dir/kernel") |
		awk '$2 != $3 { print "books " $2 ", kernel " $3 " at " $1 }')
	[ -z "$wrong" ] && return
	note "${wrong//$'\n'/; }"
	return 1
}

# ---------------------------------------------------------------- moving ----

json=
field()	# key: of the last migration
{
	grep -o "\"$1\":[0-9]*" <<<"$json" | head -n 1 | cut -d : -f 2
}

migrate()	# from, to, options: exit status; the result in $json
{
	json=$(timeout -s KILL 100 "$GODWIT" migrate --json "${@:3}" "$pid" "$1" "$2" 2>"$dir/err" | tail -n 1)
}

# What stayed is what the reasons add up to, and nothing is missing.
adds_up()
{
	local total moved failed gone sum
	total=$(field pages_total) moved=$(field pages_moved) failed=$(field pages_failed) gone=$(field pages_gone)
	sum=$(grep -o '"failed":{[^}]*}' <<<"$json" | grep -o ':[0-9]\+' | tr -d : | awk '{ s += $1 } END { print s + 0 }')
	[ "${moved:-0}" -gt 0 ] && [ "$sum" = "$failed" ] && [ "$total" = $((moved + failed + ${gone:-0})) ] && return
	note "total $total, moved $moved, failed $failed, gone $gone, reasons $sum: $json $(head -n 3 "$dir/err")"
	return 1
}

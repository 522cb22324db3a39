#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's NUMA calls on godwit's nodes: tests/numa/calls under `godwit run` says line by line what a kernel with so many
# nodes said (tests/numa/kernel-N.txt), or what tests/numa/differences.txt has, and docs/numa.md shows the same.
#
#   NUMA_CALLS='COMMAND'   instead of `godwit run`; gets the number of nodes (to test this test: NUMA_CALLS=cat_record)
#   NUMA_GROUPS='move cpu' only those groups of cases; the others are not asked for
#   NUMA_NODES='2'         only as many nodes
#
# test-timeout: 600
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
GODWIT=${GODWIT:-$BUILD/godwit}
calls=$BUILD/tests/calls
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir -m 700 "$dir/runtime"
export XDG_RUNTIME_DIR=$dir/runtime # some cases end processes by SIGKILL, which leave their sockets
nr=0
failed=0

cat_record()
{
	tail -n +2 "tests/numa/kernel-$1.txt"
}

answers()	# nodes
{
	if [ -n "${NUMA_CALLS-}" ]; then
		$NUMA_CALLS "$1"
	else
		# as the machines of the records: a CPU on each of the first two, however many there are here
		local nodes=(--node 'ram,cpus=0' --node 'ram,cpus=1-1023' --node ram --node ram)
		# shellcheck disable=SC2086 # words
		timeout -k 5 240 "$GODWIT" run -q "${nodes[@]:0:2*$1}" -- "$calls" ${NUMA_GROUPS-}
	fi
}

ok()	# text, command...
{
	local text=$1
	shift
	nr=$((nr + 1))
	if "$@"; then
		echo "ok $nr - $text"
	else
		failed=$((failed + 1))
		echo "not ok $nr - $text"
	fi
}

# One TAP line a recorded case, numbered from $3 + 1; the last line of the output is the number of failures, after "#".
compare()	# nodes, answers, number of lines so far
{
	awk -F ' [|] ' -v nodes="$1" -v nr="$3" -v some="${NUMA_GROUPS-}" '
	function bad(name, why) {
		printf "not ok %d - %s nodes: %s\n%s", ++nr, nodes, name, why
		failed++
	}
	FILENAME == "tests/numa/differences.txt" {
		if ($0 ~ /^#/ || $0 == "" || ($1 != "*" && $1 != nodes))
			next
		if (NF != 5)
			bad("differences.txt, line " FNR, "# not NODES | CALL | ASKED | OUTCOME | WHY\n")
		if ($1 != "*" || nodes == 4)
			here[$2 " | " $3] = 1
		other[$2 " | " $3] = $4
		reason[$2 " | " $3] = $5
		next
	}
	FILENAME != record {
		name = $1 " | " $2
		if (name in answer)
			bad(name, "# answered twice\n")
		answer[name] = $3
		next
	}
	FNR == 1 { next }
	{
		name = $1 " | " $2
		known[name] = 1
		kernel = "#   kernel: " $3 "\n"
		godwit = "#   godwit: " (name in answer ? answer[name] : "no answer") "\n"
		listed = name in other ? "#   listed: " other[name] " (" reason[name] ")\n" : ""
		if (!(name in answer)) {
			if (some == "")
				bad(name, kernel godwit)
		} else if (answer[name] ~ /^cannot: /)
			printf "ok %d - %s nodes: %s # SKIP %s\n", ++nr, nodes, name, substr(answer[name], 9)
		else if (name in other && answer[name] == $3)
			bad(name, kernel godwit listed "#   listed as a difference, and is none\n")
		else if (answer[name] != (name in other ? other[name] : $3))
			bad(name, kernel godwit listed "#   as a known difference: " nodes " | " name " | " answer[name] " | WHY\n")
		else
			printf "ok %d - %s nodes: %s\n", ++nr, nodes, name
	}
	END {
		for (name in answer)
			if (!(name in known) && answer[name] !~ /^cannot: /)
				bad(name, "#   godwit: " answer[name] "\n#   not in the record: tests/numa/record\n")
		for (name in here)
			if (!(name in known))
				bad(name, "#   listed as a difference, and not in the record\n")
		printf "# %d %d\n", nr, failed
	}' record="tests/numa/kernel-$1.txt" tests/numa/differences.txt "$2" "tests/numa/kernel-$1.txt" >"$dir/tap"
	sed '$d' "$dir/tap"
}

come_to_an_end()
{
	[ "$status" = 0 ] && return
	echo "# exit status $status"
	tail -n 20 "$dir/err" | sed 's/^/# /'
	return 1
}

for nodes in ${NUMA_NODES:-2 4}; do
	answers $nodes >"$dir/answers" 2>"$dir/err" </dev/null
	status=$?
	ok "$nodes nodes: every group of cases comes to its end" come_to_an_end
	compare $nodes "$dir/answers" $nr
	read -r _ nr bad < <(tail -n 1 "$dir/tap")
	failed=$((failed + bad))
done
ok 'the table in docs/numa.md is what the records and the differences say' scripts/numa-table --check
echo "1..$nr"
[ $failed = 0 ]

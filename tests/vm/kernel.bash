# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests of --via kernel share: a target with memory of every kind, and where the kernel says that it is.
# Needs BUILD and GODWIT. Speaks TAP.

BUILD=$(realpath "${BUILD:-build}")
GODWIT=$(realpath "${GODWIT:-$BUILD/godwit}")
TMP=$(mktemp -d "${TMPDIR:-/tmp}/kernel.XXXXXX") || exit 1
nr=0
failed=0
STARTED=()

cleanup()
{
	{
		for pid in "${STARTED[@]}"; do
			kill -KILL "$pid"
			wait "$pid"
		done
	} 2>/dev/null
	rm -rf "$TMP"
}
trap cleanup EXIT

# ok SENTENCE COMMAND...: the command says whether
ok()
{
	local sentence=$1
	shift
	nr=$((nr + 1))
	if ("$@"); then
		echo "ok $nr - $sentence"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $nr - $sentence"
	echo "# exit ${rc-}, of: ${called-}"
	sed 's/^/# stdout: /' "$TMP/out" | head -n 20
	sed 's/^/# stderr: /' "$TMP/err" | head -n 20
	[ ! -s "$TMP/where" ] || sed 's/^/# where: /' "$TMP/where"
}

finish()
{
	echo "1..$nr"
	[ "$failed" = 0 ]
	exit
}

# godwit ARG...: run it; rc, $TMP/out and $TMP/err are what it left
godwit()
{
	called="godwit $*"
	"$GODWIT" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null
	rc=$?
}

exits() { [ "$rc" = "$1" ]; }
out_has() { grep -qF -- "$1" "$TMP/out"; }
err_has() { grep -qF -- "$1" "$TMP/err"; }

# json EXPRESSION: true of the object on stdout, which is d
json()
{
	python3 - "$1" "$TMP/out" <<-'PY'
	import json, sys
	d = json.loads(open(sys.argv[2]).readline())
	sys.exit(0 if eval('(' + sys.argv[1] + ')', {'d': d}) else 1)
	PY
}

jget() { python3 -c "import json,sys; d=json.loads(open(sys.argv[1]).readline()); print($1)" "$TMP/out"; }

# refuses SENTENCE WORDS ARG...: exit 1, nothing on stdout, one line on stderr that has WORDS
refuses()
{
	local sentence=$1 words=$2
	shift 2
	godwit "$@"
	ok "$sentence" refused "$words"
}
refused() { exits 1 && [ ! -s "$TMP/out" ] && [ "$(wc -l <"$TMP/err")" = 1 ] && err_has "$1"; }

# Every page has one fate, and every one that stayed one reason.
adds_up()
{
	json 'd["pages_total"] == d["pages_moved"] + d["pages_failed"] + d["pages_gone"] + d["pages_untried"] and
		sum(d["failed"].values()) == d["pages_failed"] and
		sum(n for kind in d["failed_kinds"].values() for n in kind.values()) == d["pages_failed"] and
		sum(d["moved_kinds"].values()) == d["pages_moved"]'
}

# start_program NAME ARG...: a target in TARGET, its parts in $TMP/parts
start_program()
{
	local line
	rm -f "$TMP/in" "$TMP/answers" "$TMP/parts"
	mkfifo "$TMP/in" "$TMP/answers"
	"$BUILD/tests/$1" "${@:2}" <"$TMP/in" >"$TMP/answers" 2>"$TMP/target.err" &
	TARGET=$!
	STARTED+=("$TARGET")
	exec 6>"$TMP/in" 7<"$TMP/answers"
	: >"$TMP/parts"
	while read -r -t 120 -u 7 line && [ "$line" != ready ]; do
		echo "$line" >>"$TMP/parts"
	done
	[ "$line" = ready ] || { echo "Bail out! the target does not start: $(cat "$TMP/target.err")"; exit 1; }
}

# start NODE KIND=MB...
start() { start_program kinds "$@"; }

# tell COMMAND: what the target answers, in REPLY
tell()
{
	echo "$*" >&6
	read -r -t 120 -u 7 REPLY
}

stop()
{
	exec 6>&- 7<&-
	wait "$TARGET"
}

# The kernel's own answer for every page of the parts, in $TMP/where.
ask_where() { "$BUILD/tests/where" "$TARGET" <"$TMP/parts" >"$TMP/where"; }

# all_on NODE [KIND...]: the kernel says that all pages of these parts, or of all, are there
all_on()
{
	local node=$1
	shift
	ask_where || return
	awk -v node="$node" -v kinds=" $* " '
	kinds != "  " && !index(kinds, " " $1 " ") { next }
	{ looked++; if (NF != 2 || $2 !~ "^" node "=") bad++ }
	END { exit !looked || bad }' "$TMP/where"
}

# pages_on NODE: of the target, in units of 4 KiB, as /proc/PID/numa_maps has it
pages_on()
{
	awk -v word="N$1=" '{
		n = 0
		unit = 1
		for (i = 2; i <= NF; i++) {
			if (index($i, word) == 1)
				n = substr($i, length(word) + 1)
			if ($i ~ /^kernelpagesize_kB=/)
				unit = substr($i, 19) / 4
		}
		sum += n * unit
	}
	END { print sum + 0 }' "/proc/$TARGET/numa_maps"
}

holds() { tell check; [ "$REPLY" = good ]; }

# hugepages PAGES NODE...: of 2 MiB, there
hugepages()
{
	local pages=$1 node
	shift
	for node; do
		echo "$pages" >"/sys/devices/system/node/node$node/hugepages/hugepages-2048kB/nr_hugepages" || return
	done
}

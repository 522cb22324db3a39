# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What program.bash does instead of moving pages to and fro when TORTURE_FAR is set: the program has a limit to its
# memory, half of what it takes alone, and far nodes behind that. A loop in the background looks at every managed process.
#
#   TORTURE_FAR=zram       a compressed pool; or file; or both: a pool of an eighth of the limit, and a file behind it
#   TORTURE_PERCENT=50     of the largest anonymous memory that a process of it has alone
#   TORTURE_LEAST=16       MiB; the limit is at least that
#   TORTURE_PUSH=          not empty: everything is also sent to the first far node by request, now and then
#
# "alone" in TORTURE_FAR is the pass that finds how much that is, for programs that do not run alone otherwise.
#
#   $dir/moves     godwit stat --json of each process, again and again
#   $dir/memory    "PID KIB" each time: anonymous memory without what the pool takes

far=${TORTURE_FAR:-}
far_peak=0	# KiB
far_limit=0	# KiB

case $far in
'' | zram | file | both | alone) ;;
*) echo "Bail out! TORTURE_FAR=$far: it is zram, file or both"; exit 1 ;;
esac

if [ -n "$far" ]; then
	mkdir -m 1777 "$dir/far"
	touch "$dir/memory" "$dir/peaks"
fi

# The pid and what has come from it, in $found.
descendants()	# pid
{
	local file kids kid
	found+=("$1")
	for file in /proc/"$1"/task/*/children; do
		kids=()
		{ read -ra kids <"$file"; } 2>/dev/null
		for kid in "${kids[@]}"; do
			descendants "$kid"
		done
	done
}

anon_of()	# pid: KiB, in $anon
{
	local key value
	anon=0
	{
		while read -r key value _; do
			[ "$key" != RssAnon: ] || { anon=$value; break; }
		done <"/proc/$1/status"
	} 2>/dev/null
}

# The largest that a process started here becomes, by lines of the file, until that has ended.
watch_alone()	# pid, file
{
	local most=0 anon pid
	trap - INT TERM HUP EXIT
	while kill -0 "$1" 2>/dev/null; do
		found=()
		descendants "$1"
		for pid in "${found[@]}"; do
			anon_of "$pid"
			[ "$anon" -le "$most" ] || { most=$anon; echo "$most" >>"$2"; }
		done
		sleep 0.02
	done
}

# The limit by what has been seen.
set_limit()
{
	local least=$((${TORTURE_LEAST:-16} * 1024))
	[ ! -s "$dir/peaks" ] || far_peak=$(sort -n "$dir/peaks" | tail -n 1)
	far_limit=$((far_peak * ${TORTURE_PERCENT:-50} / 100))
	[ $far_limit -ge $least ] || far_limit=$least
	: >"$dir/peaks"	# another program has its own
}

# A pass of the whole test, of which nothing counts but how large the program has become.
measure_whole()
{
	TORTURE_FAR=alone TORTURE_PEAKS=$dir/peaks "$0" >"$dir/measured" 2>&1
	[ -s "$dir/peaks" ] || { echo 'Bail out! no process was seen in a run alone'; exit 1; }
}

far_nodes()	# words for godwit run, in $nodes
{
	[ "$far_peak" != 0 ] || [ -s "$dir/peaks" ] || measure_whole
	set_limit
	nodes=(--node "ram,size=${far_limit}K")
	case $far in
	zram) nodes+=(--node zram) ;;
	file) nodes+=(--node "file,path=$dir/far") ;;
	both) nodes+=(--node "zram,size=$((far_limit / 8))K" --node "file,path=$dir/far") ;;
	esac
}

# Memory is read on either side of the counters, and the smaller counts: what comes and goes between is not beyond a limit.
look_at()	# pid
{
	local before anon said pool
	anon_of "$1"
	before=$anon
	said=$(timeout -s KILL $((20 * scale)) "${as[@]}" "$GODWIT" stat --json "$1" 2>/dev/null) || {
		[ $? != 137 ] || echo "$1 stat: did not end" >>"$dir/errors"
		return
	}
	anon_of "$1"
	[ "$anon" -gt 0 ] || return
	[ "$before" -ge "$anon" ] || anon=$before
	[[ $said =~ \"kind\":\"zram\"[^}]*\"used_bytes\":([0-9]+) ]] && pool=$((BASH_REMATCH[1] / 1024)) || pool=0
	echo "$said" >>"$dir/moves"
	echo "$1 $((anon - pool))" >>"$dir/memory"
}

watch_limits()
{
	local pid socket turn=0
	trap - INT TERM HUP EXIT
	while [ -e "$dir/moving" ]; do
		for socket in "$XDG_RUNTIME_DIR"/godwit/*.sock; do
			pid=${socket##*/}
			pid=${pid%.sock}
			[ -d "/proc/$pid" ] || continue
			look_at "$pid"
			turn=$((turn + 1))
			[ -z "${TORTURE_PUSH:-}" ] || [ $((turn % 8)) != 0 ] ||
				godwit migrate -q "$pid" 0 1 >/dev/null 2>&1
		done
		sleep 0.03
	done
}

# The sum over the processes of the last count of each, or the largest.
counted()	# key
{
	awk -v key="\"$1\":" '{
		if (!match($0, key "[0-9]+"))
			next
		value = substr($0, RSTART + length(key), RLENGTH - length(key)) + 0
		match($0, /"pid":[0-9]+/)
		last[substr($0, RSTART, RLENGTH)] = value
	}
	END {
		for (pid in last)
			sum += last[pid]
		printf "%d\n", sum
	}' "$dir/moves"
}

# The program had what it took: pages went far and came back, none was lost.
ok_far()	# name
{
	local most over went
	most=$(sort -k 2 -n "$dir/memory" | tail -n 1 | cut -d ' ' -f 2)
	over=$((${most:-0} - far_limit))
	went=$(counted pages_demoted)
	# tests/torture reads this line.
	note "tally ${1#program_},$far: $((SECONDS - began)) s, peak $far_peak, limit $far_limit, over $over KiB," \
	     "went $went, back $(counted pages_promoted), touched $(counted faults_fetched), refaults $(counted refaults)," \
	     "direct $(counted stalls_reclaim), samples $(wc -l <"$dir/moves")"
	# what it has alone it may have all locked, or in processes that are over before anybody looks
	if [ $((far_limit * 3 / 2)) -lt "$far_peak" ] && [ "${most:-0}" -gt $((far_limit * 9 / 10)) ]; then
		ok 'pages went to far nodes' [ "$went" -gt 0 ]
	fi
	ok 'no page was lost' [ "$(counted poisoned)" = 0 ]
	ok 'every request was answered' [ ! -s "$dir/errors" ]
	note_file "$dir/errors"
	ok 'nothing is left in the directory of the file' [ -z "$(ls -A "$dir/far")" ]
	truncate -s 0 "$dir/moves" "$dir/memory" "$dir/errors"
}

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs larger than their memory, side by side: without a limit, under godwit with a compressed pool or a file behind a
# limited RAM node, and under the kernel's zram swap or a swap file with a memory cgroup. docs/tiering-bench.md says what is
# compared and how. Needs root: it makes a zram device, a swap file and a cgroup, and takes them down however it ends.
#
#   SIZE=512M  LIMITS='75 50 25' (% of the working set)   ROUNDS=3  TIME=8  WARM=2 (seconds)   TIMEOUT=300 (of one run)
#   PROGRAMS='kv scan bfs gups redis'   PEERS='godwit-zram zram godwit-file swapfile'   PARTS='programs fault out'
#   QUICK=1 a short form, less than 3 minutes   JSON=1 JSON lines instead of tables   EQUAL=0 one limit for all, see the docs
#   DISK=build  a directory on the disk that is compared      BUILD=build  where godwit was built
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=peers.sh
. bench/peers.sh

if [ -n "${QUICK:-}" ]; then
	: "${SIZE:=128M}" "${LIMITS:=50}" "${ROUNDS:=1}" "${TIME:=2}" "${WARM:=0.5}"
fi
size=${SIZE:-512M} rounds=${ROUNDS:-3} seconds=${TIME:-8} warm=${WARM:-2} timeout=${TIMEOUT:-300}
read -ra limits <<<"${LIMITS:-75 50 25}"
read -ra programs <<<"${PROGRAMS:-kv scan bfs gups redis}"
read -ra peers <<<"${PEERS:-godwit-zram zram godwit-file swapfile}"
parts=${PARTS:-programs fault out}
tier=$build/bench/tier records=$build/tier.records disk=$(realpath "${DISK:-$build}")
mb=$(numfmt --from=iec "$size")
mb=$((mb / 1048576))
declare -A working trim reason
zram_words=''

usage_error()	# message
{
	echo "bench-tier: $*" >&2
	exit 1
}

check_words()
{
	local word
	((mb >= 16)) || usage_error "SIZE=$size: 16M at least"
	for word in "${limits[@]}"; do
		[[ $word =~ ^[1-9][0-9]?$ ]] || usage_error "LIMITS: '$word': expected 1 to 99, in % of the working set"
	done
	for word in "${programs[@]}"; do
		[[ $word =~ ^(kv|scan|bfs|gups|redis)$ ]] || usage_error "PROGRAMS: '$word': expected kv, scan, bfs, gups or redis"
	done
	for word in "${peers[@]}"; do
		[[ $word =~ ^(godwit-)?(zram|file)$|^swapfile$ ]] || usage_error "PEERS: '$word': expected godwit-zram, zram, godwit-file or swapfile"
	done
	[[ $rounds =~ ^[1-9][0-9]*$ ]] || usage_error "ROUNDS=$rounds: expected a number"
}

# ---- what runs where ----

far_spec()	# peer
{
	case $1 in
	*-zram) echo zram,alg=lz4 ;;
	*-file) echo "file,path=$disk" ;;
	esac
}

# Whether godwit can do that here, or why not: asked once.
probe_godwit()
{
	local peer err
	for peer in godwit-zram godwit-file; do
		reason[$peer]=''
		err=$("$godwit" run -q --node ram,size=64M --node "$(far_spec $peer)" -- true 2>&1) ||
			reason[$peer]="${err:-godwit run has exited with an error}"
	done
}

# What the kernel swaps to while this peer runs, fresh; nothing else is swapped to.
peer_up()	# peer, bytes
{
	zram_words='' books=0
	case $1 in
	zram) zram_up "$2"; zram_words="--pool /sys/block/zram$zram_id/mm_stat" ;;
	swapfile) file_up "$2" ;;
	esac
}

peer_down()
{
	swap_down
	cgroup_limit max
}

# ---- one run of a program ----

outcome()	# status, OOM kills before: in words
{
	if (($(cgroup_ooms) > $2)); then
		echo "killed: the memory cgroup's OOM killer"
	else
		tail -n 1 "$dir/err" | grep . || echo "exit status $1"
	fi
}

watched()	# command...: under the watch, in the cgroup
{
	# shellcheck disable=SC2086 # words
	background "$tier" watch --timeout "$timeout" --tell "$dir/tell" --procs "$cgroup/cgroup.procs" \
		--usage "$cgroup/$cgroup_usage" $zram_words -- "$@"
}

run_load()	# program, prefix...
{
	local load=$1 status=0
	shift
	watched "$@" "$tier" "$load" --mb "$mb" --seconds "$seconds" --warm "$warm" --tell "$dir/tell"
	wait "$pid" || status=$?
	return $status
}

redis_phases()	# keys; prints what a load would
{
	local keys=$1 socket=$dir/redis nr
	"$tier" fill-redis --socket "$socket" --mb $((mb * 4 / 5)) >/dev/null || return
	redis-benchmark -s "$socket" -t get -r "$keys" -n 20000 -P 16 -c 50 --csv >"$dir/pilot" 2>/dev/null || return
	nr=$(awk -F'"' -v s="$seconds" 'END { n = int($4 * s); print n < 20000 ? 20000 : n }' "$dir/pilot")
	printf b 1<>"$dir/tell"
	redis-benchmark -s "$socket" -t get -r "$keys" -n "$nr" -P 16 -c 50 >"$dir/redis.out" 2>/dev/null || return
	printf e 1<>"$dir/tell"
	tr '\r' '\n' <"$dir/redis.out" | awk '
		/throughput summary/ { rate = $3 }
		/% <= / && !tail && $1 + 0 >= 99.9 { tail = $3 * 1000 }
		/requests completed/ { nr = $1 }
		last ~ /avg +min/ { p50 = $3 * 1000; p99 = $5 * 1000; max = $6 * 1000 }
		{ last = $0 }
		END { printf "ops=%d ops_per_s=%.0f p50_us=%.0f p99_us=%.0f p999_us=%.0f max_us=%.0f\n", nr, rate, p50, p99, tail, max }' >"$dir/load"
	"$tier" check-redis --socket "$socket" --mb $((mb * 4 / 5)) >/dev/null
}

run_redis()	# prefix...
{
	local status=0 failed=0 server
	rm -f "$dir/redis" "$dir/load"
	watched "$@" redis-server --save '' --appendonly no --port 0 --unixsocket "$dir/redis" --logfile /dev/null
	server=$pid
	for _ in {1..100}; do
		[ "$(redis-cli -s "$dir/redis" ping 2>/dev/null)" = PONG ] && break
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	redis_phases $((mb * 4 / 5 * 1024)) 2>>"$dir/err" || failed=$?
	redis-cli -s "$dir/redis" shutdown nosave >/dev/null 2>&1 || true
	wait "$server" || status=$?
	((failed == 0)) || return $((status ? status : failed))
	((status == 0)) || return $status
	cat "$dir/load" >>"$dir/out"
}

# A line in the records. Sums are what the cgroup is charged for, the pool, and the books of the kernel's swap.
run_cell()	# program, peer, percent, limit, round
{
	local prefix=() status=0 ooms line
	ooms=$(cgroup_ooms)
	if [ -n "${reason[$2]-}" ]; then
		printf 'program=%s peer=%s percent=%s round=%s status=not_run why=%s\n' "$1" "$2" "$3" "$5" "${reason[$2]// /\~}" >>"$records"
		return 0
	fi
	peer_up "$2" $((${working[$1]-0} * 5 / 4 + 67108864))
	case $2 in
	godwit-*) prefix=("$godwit" run -q --node "ram,size=$4" --node "$(far_spec "$2")" --) ;;
	zram | swapfile) cgroup_limit "$4" ;;
	esac
	: >"$dir/out"
	if [ "$1" = redis ]; then run_redis "${prefix[@]}" || status=$?; else run_load "$1" "${prefix[@]}" || status=$?; fi
	unset 'started[-1]'
	line="program=$1 peer=$2 percent=$3 limit=$4 round=$5"
	if ((status)); then
		printf '%s status=failed why=%s\n' "$line" "$(outcome $status "$ooms" | tr ' ' '~')" >>"$records"
	else
		printf '%s status=ok books=%s %s\n' "$line" "$books" "$(tr '\n' ' ' <"$dir/out")" >>"$records"
	fi
	peer_down
}

last()	# key: of the last record; 0 without
{
	tail -n 1 "$records" | tr ' ' '\n' | awk -F= -v k="$1" '$1 == k { v = $2 } END { print v + 0 }'
}

# ---- rounds ----

# How far the kernel's limit is to be moved so that its sum is godwit's: what leaves the RAM goes to the pool, smaller.
correction()	# godwit's sum; of the last record
{
	awk -v g="$1" -v k="$(last mem_mean)" -v b="$(last books)" -v p="$(last pool_mean)" -v s="$(last stored_mean)" 'BEGIN {
		kept = s > 0 ? 1 - p / s : 1
		d = (kept > 0.1) ? (g - k - b) / kept : 0
		printf "%d", d }'
}

# By a quarter of the limit at most.
correct()	# program,percent,peer; limit, by
{
	local all=$((${trim[$1]-0} + $3))
	((all <= $2 / 4)) || all=$(($2 / 4))
	((all >= -$2 / 4)) || all=$((-$2 / 4))
	trim[$1]=$all
}

has_peer()	# peer
{
	[[ " ${peers[*]} " = *" $1 "* ]]
}

# godwit goes first; the kernel's limit follows from what it took, found in a run that is not counted, and kept up to date.
run_pair()	# program, percent, round, godwit's peer, kernel's peer
{
	local limit=$((${working[$1]} * $2 / 100 / 4096 * 4096)) key=$1,$2,$5 sum=0 by peer
	if has_peer "$4"; then
		run_cell "$1" "$4" "$2" "$limit" "$3"
		[ "${EQUAL:-1}" = 0 ] || sum=$(last mem_mean)
	fi
	has_peer "$5" || return 0
	run_cell "$1" "$5" "$2" $((limit + ${trim[$key]-0})) "$3"
	{ [ "$sum" != 0 ] && [ "$(last mem_mean)" != 0 ]; } || return 0
	by=$(correction "$sum")
	if ((${by#-} > limit / 50)) && [ -z "${trim[$key]-}" ]; then
		correct "$key" $limit "$by"
		sed -i '$ s/status=ok/status=trial/' "$records"
		run_cell "$1" "$5" "$2" $((limit + ${trim[$key]})) "$3"
		[ "$(last mem_mean)" != 0 ] || return 0
		by=$(correction "$sum")
	fi
	correct "$key" $limit "$by"
}

on_disk()
{
	has_peer swapfile || has_peer godwit-file
}

say()	# progress, to a terminal's stderr only
{
	[ ! -t 2 ] || printf '\r\e[K%s' "$*" >&2
}

run_programs()
{
	local round program percent
	for ((round = 1; round <= rounds; round++)); do
		for program in "${programs[@]}"; do
			say "round $round of $rounds: $program"
			run_cell "$program" none 100 0 "$round"
			[ "$(last charged_max)" != 0 ] ||
				usage_error "$program cannot run without a limit: $(tail -n 1 "$records" | sed 's/.*why=//; s/~/ /g')"
			: "${working[$program]:=$(last charged_max)}"
			for percent in "${limits[@]}"; do
				say "round $round of $rounds: $program, $percent %"
				run_pair "$program" "$percent" "$round" godwit-zram zram
				run_pair "$program" "$percent" "$round" godwit-file swapfile
			done
		done
	done
	say ''
}

# ---- single pages, and whole memories ----

# The load says "ready PID"; godwit migrates its pages to the far node, or the kernel, which has swapped them out, frees what it
# has of them in its swap cache; then the load goes on.
run_far()	# command of tier (fault, hold), peer, size in MiB: its line and migrate's figures in $dir/out
{
	local prefix=() pageout=--pageout load status=0
	case $2 in
	godwit-*) prefix=("$godwit" run -q --node "ram,size=$(($3 * 2))M" --node "$(far_spec "$2")" --) pageout='' ;;
	esac
	rm -f "$dir/go"
	mkfifo "$dir/go"
	background "$tier" watch --timeout "$timeout" --procs "$cgroup/cgroup.procs" -- "${prefix[@]}" \
		"$tier" "$1" --mb "$3" $pageout <>"$dir/go"
	load=$pid
	while kill -0 "$load" 2>/dev/null && ! grep -q ready "$dir/out"; do sleep 0.1; done
	if [ -n "$pageout" ]; then
		cgroup_reclaim
	else
		"$godwit" migrate -q --json "$(awk '/ready/ { print $2 }' "$dir/out")" 0 1 >"$dir/moved" 2>>"$dir/err" || [ $? = 2 ] || status=1
	fi
	printf x 1<>"$dir/go"
	wait "$load" || status=$?
	unset 'started[-1]'
	sed -i '/ready/d' "$dir/out"
	[ -n "$pageout" ] || ((status)) ||
		sed -i "s/\$/ moved=$(json_numbers pages_moved "$dir/moved") out_s=$(json_numbers seconds "$dir/moved")/" "$dir/out"
	return $status
}

run_page()	# command of tier (fault, hold), peer, what, round, size in MiB
{
	local status=0 line="part=$1 peer=$2 what=$3 round=$4"
	has_peer "$2" || return 0
	if [ -n "${reason[$2]-}" ]; then
		echo "$line status=not_run why=${reason[$2]// /\~}" >>"$records"
		return 0
	fi
	peer_up "$2" $(($5 * 1048576 * 9 / 8 + 67108864))
	run_far "$1" "$2" "$5" || status=$?
	if ((status)); then
		echo "$line status=failed why=$(outcome $status "$(cgroup_ooms)" | tr ' ' '~')" >>"$records"
	else
		echo "$line status=ok $(cat "$dir/out")" >>"$records"
	fi
	peer_down
}

run_faults()
{
	local round cluster pages=$((mb / 2))
	for ((round = 1; round <= rounds; round++)); do
		say "round $round of $rounds: the touch of a far page"
		for cluster in 0 3; do
			echo $cluster >/proc/sys/vm/page-cluster
			run_page fault zram "page-cluster~$cluster" "$round" $pages
			run_page fault swapfile "page-cluster~$cluster" "$round" $((pages / 4 + 16))
		done
		run_page fault godwit-zram - "$round" $pages
		run_page fault godwit-file - "$round" $((pages / 4 + 16))
	done
	echo "$page_cluster" >/proc/sys/vm/page-cluster
}

fio_write()	# MiB, block size, depth: MB/s of sequential direct writes to a file that is laid out
{
	fio --name=out --filename="$disk/godwit-tier.fio" --size="$1M" --rw=write --overwrite=1 --bs="$2" --iodepth="$3" \
		--ioengine=libaio --direct=1 --output-format=terse --terse-version=3 2>"$dir/err" | awk -F';' '{ printf "%.0f\n", $48 * 1.024 / 1e3 }'
}

run_out()
{
	local round all=$((mb * 2)) bs
	for ((round = 1; round <= rounds; round++)); do
		say "round $round of $rounds: whole memories"
		printf 'part=hold peer=lz4 what=- round=%s status=ok %s\n' "$round" "$("$tier" lz4 --mb $all)" >>"$records"
		for bs in $(! on_disk || echo 4k:32 64k:8 1m:4); do
			printf 'part=hold peer=fio what=%s round=%s status=ok mb_per_s=%s\n' "${bs/:/~x~}" "$round" \
				"$(fio_write $all "${bs%:*}" "${bs#*:}")" >>"$records"
		done
		rm -f "$disk/godwit-tier.fio"
		run_page hold zram MADV_PAGEOUT "$round" $all
		run_page hold godwit-zram migrate "$round" $all
		run_page hold swapfile MADV_PAGEOUT "$round" $all
		run_page hold godwit-file migrate "$round" $all
	done
	say ''
}

# ---- all of it ----

check_words
[ -x "$tier" ] || usage_error "there is no $tier: make bench-tier builds it"
check_peers "$mb"
! on_disk || check_disk "$disk" "$mb"
bench_begin tier
peers_begin "$disk"
probe_godwit
: >"$records"
case " $parts " in *' programs '*) run_programs ;; esac
case " $parts " in *' fault '*) run_faults ;; esac
case " $parts " in *' out '*) run_out ;; esac
awk -v json="${JSON:-}" -v size="$size" -v seconds="$seconds" -v rounds="$rounds" -v kernel="$(uname -r)" \
	-v cpus="$(nproc)" -v version="$cgroup_version" -f bench/tier.awk "$records"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kernel's side of bench/tier.sh: a zram device and a swap file of its own, one swapped to at a time, and a memory cgroup,
# version 1 or 2. Sourced after lib.sh.
#
#   check_peers MIB, check_disk DIR MIB   exit with 1, naming value, cause and mend, if this machine cannot do it
#   peers_begin DISK          makes the cgroup, $cgroup, and the device; all is taken down at the end, also of a bench that was killed
#   zram_up BYTES, file_up BYTES   swap there, empty, and nowhere else; $books: bytes that the kernel's tables for it take
#   swap_down                 no swap
#   cgroup_limit BYTES|max
#   cgroup_reclaim            everything out that can be
#   cgroup_ooms               how many processes its OOM killer has ended
# shellcheck disable=SC2034,SC2154 # $cgroup_usage is for tier.sh, $dir is lib.sh's
cgroup='' cgroup_usage='' cgroup_version='' zram_id='' swap_file='' page_cluster='' books=0

peers_die()	# message
{
	echo "bench-tier: $*" >&2
	exit 1
}

# Where version 1's memory controller is mounted, else where version 2 has it.
find_cgroup()
{
	local at
	at=$(awk '$3 == "cgroup" && ("," $4 ",") ~ /,memory,/ { print $2; exit }' /proc/mounts)
	if [ -n "$at" ]; then
		cgroup_version=1 cgroup_usage=memory.usage_in_bytes
	else
		at=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
		grep -qw memory "$at/cgroup.controllers" 2>/dev/null || return 1
		cgroup_version=2 cgroup_usage=memory.current
	fi
	cgroup=$at/godwit-tier
}

check_peers()	# MiB
{
	local need=$(($1 * 4 + 256))
	[ "$(id -u)" = 0 ] || peers_die "uid $(id -u): swap devices and memory cgroups are root's; run it as root"
	find_cgroup || peers_die "no memory cgroup is mounted; mount -t cgroup2 none /sys/fs/cgroup, or boot with cgroup_enable=memory"
	[ -e /sys/class/zram-control/hot_add ] || modprobe zram num_devices=0 2>/dev/null ||
		peers_die "this kernel has no zram (/sys/class/zram-control); CONFIG_ZRAM is needed, on Debian the package linux-image-amd64"
	[ "$(wc -l </proc/swaps)" = 1 ] ||
		peers_die "this machine swaps to $(awk 'NR > 1 { print $1 }' /proc/swaps | xargs): figures would be of that; swapoff -a for the time of the bench"
	awk -v n=$((need * 1024)) '/^MemAvailable/ { exit $2 < n }' /proc/meminfo ||
		peers_die "$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo) MiB of memory are available, $need are needed: a smaller SIZE"
}

check_disk()	# directory, MiB
{
	local need=$(($2 * 4 + 256)) type
	type=$(stat -f -c %T "$1")
	case $type in
	ext2/ext3 | xfs) ;;
	*) peers_die "$1 is on $type: a swap file wants ext4 or xfs; DISK=DIR names another directory" ;;
	esac
	(($(df --output=avail -BM "$1" | tail -n 1 | tr -dc 0-9) > need)) ||
		peers_die "$1 has $(df --output=avail -h "$1" | tail -n 1 | xargs) left, $need MiB are needed; DISK=DIR names another directory"
}

# ---- swap ----

swap_down()
{
	if [ -n "$zram_id" ] && [ -e "/sys/block/zram$zram_id" ]; then
		! grep -q "^/dev/zram$zram_id " /proc/swaps || swapoff "/dev/zram$zram_id"
		echo 1 >"/sys/block/zram$zram_id/reset"
	fi
	! grep -q "^$swap_file " /proc/swaps || swapoff "$swap_file"
}

vmalloc_used()
{
	awk '/^VmallocUsed/ { print $2 * 1024 }' /proc/meminfo
}

swap_on()	# device or file
{
	mkswap "$1" >/dev/null 2>"$dir/mkswap" || peers_die "mkswap $1: $(tail -n 1 "$dir/mkswap")"
	swapon -p 100 "$1" || peers_die "cannot swap to $1"
}

zram_up()	# bytes
{
	local before
	swap_down
	before=$(vmalloc_used)
	echo lz4 >"/sys/block/zram$zram_id/comp_algorithm" ||
		peers_die "zram has no lz4 here ($(cat "/sys/block/zram$zram_id/comp_algorithm")); CONFIG_ZRAM_BACKEND_LZ4 is needed"
	echo "$1" >"/sys/block/zram$zram_id/disksize"
	swap_on "/dev/zram$zram_id"
	books=$(($(vmalloc_used) - before))
	((books > 0)) || books=0
}

file_up()	# bytes
{
	local before
	swap_down
	if [ "$(stat -c %s "$swap_file" 2>/dev/null || echo 0)" -lt "$1" ]; then
		rm -f "$swap_file"
		(umask 077 && fallocate -l "$1" "$swap_file") || peers_die "no room for $swap_file"
	fi
	before=$(vmalloc_used)
	swap_on "$swap_file"
	books=$(($(vmalloc_used) - before))
	((books > 0)) || books=0
}

# ---- cgroup ----

cgroup_limit()	# bytes, or max
{
	if [ "$cgroup_version" = 1 ]; then
		echo "${1/max/-1}" >"$cgroup/memory.limit_in_bytes"
	else
		echo "$1" >"$cgroup/memory.max"
	fi
}

cgroup_ooms()
{
	local file=$cgroup/memory.events
	[ "$cgroup_version" = 2 ] || file=$cgroup/memory.oom_control
	awk '$1 == "oom_kill" { n = $2 } END { print n + 0 }' "$file"
}

# Everything that its members have in memory and can be freed, the swap cache too.
cgroup_reclaim()
{
	if [ "$cgroup_version" = 1 ]; then
		echo 0 >"$cgroup/memory.force_empty" 2>/dev/null || true
	else
		echo "$(cat "$cgroup/memory.current")" >"$cgroup/memory.reclaim" 2>/dev/null || true
	fi
}

# ---- begin and end ----

# Members are killed by who started them; the last of them may take a moment.
cgroup_down()
{
	for _ in {1..100}; do
		[ -d "$cgroup" ] || return 0
		rmdir "$cgroup" 2>/dev/null && return 0
		sleep 0.1
	done
	echo "bench-tier: $cgroup has processes still: $(xargs <"$cgroup/cgroup.procs")" >&2
}

peers_down()
{
	[ -z "$page_cluster" ] || echo "$page_cluster" >/proc/sys/vm/page-cluster
	cgroup_down
	swap_down
	[ -z "$zram_id" ] || [ ! -e "/sys/block/zram$zram_id" ] || echo "$zram_id" >/sys/class/zram-control/hot_remove
	rm -f "$swap_file" "${swap_file%.swap}.fio"
}

# Waits for the bench to end, and takes down what it could not: it was killed. Its processes die with it.
guard()	# FIFO that the bench holds open
{
	local word=''
	trap '' INT TERM HUP
	trap - EXIT
	read -r word <"$1" || true
	[ "$word" != over ] || return 0
	peers_down
	rm -rf "$dir"
}

peers_begin()	# disk
{
	exec 9>>/run/lock/godwit-tier
	flock -n 9 || peers_die "another one is running (it holds /run/lock/godwit-tier)"
	page_cluster=$(cat /proc/sys/vm/page-cluster)
	swap_file=$1/godwit-tier.swap
	at_exit eval 'echo over >&8'
	at_exit peers_down
	[ "$cgroup_version" = 1 ] || echo +memory >"${cgroup%/*}/cgroup.subtree_control"
	mkdir -p "$cgroup"
	zram_id=$(cat /sys/class/zram-control/hot_add)
	mkfifo "$dir/alive"
	guard "$dir/alive" &
	exec 8>"$dir/alive"
}

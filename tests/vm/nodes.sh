#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The machine is the one that was asked for: nodes, CPUs, memory, distances; and memory can be had on each node.
#
# test-machine: two four far
set -u

nr=0
tree=/sys/devices/system/node

ok()	# text, command...
{
	local text=$1
	shift
	nr=$((nr + 1))
	if "$@"; then echo "ok $nr - $text"; else echo "not ok $nr - $text"; fi
}

same()	# wanted, found
{
	[ "$1" = "$2" ] && return
	echo "# wanted $1, found $2"
	return 1
}

cpus_of()	# node
{
	local all=("$tree/node$1"/cpu[0-9]*)
	[ -e "${all[0]}" ] && echo ${#all[@]} || echo 0
}

# The kernel keeps some of what the machine has, and node 0 has the files.
memory_fits()	# node, bytes
{
	local kib
	kib=$(awk '/MemTotal/ { print $4 }' "$tree/node$1/meminfo")
	echo "# node $1: $kib KiB of $(($2 / 1024))"
	[ "$kib" -le $(($2 / 1024)) ] && [ "$kib" -ge $(($2 / 1024 * 8 / 10)) ]
}

# A program bound to the node has its stack and heap there.
has_pages()	# node
{
	local on
	on=$(numactl --membind="$1" cat /proc/self/numa_maps | grep -E ' (heap|stack) ' | grep -o 'N[0-9]*=' | sort -u | tr -d '\n')
	same "N$1=" "$on"
}

distances_fit()
{
	local a b found
	for a in "${!sizes[@]}"; do
		read -ra found <"$tree/node$a/distance"
		for b in "${!sizes[@]}"; do
			same "$a to $b: ${distance[$a,$b]:-$((a == b ? 10 : 20))}" "$a to $b: ${found[b]}" || return
		done
	done
}

sizes=()
cpus=()
declare -A distance=()
read -ra words <<<"$MACHINE_OPTIONS"
for ((i = 0; i < ${#words[@]}; i += 2)); do
	case ${words[i]} in
	--node)
		sizes+=("$(numfmt --from=iec "${words[i + 1]%:*}")")
		[[ ${words[i + 1]} = *:* ]] && cpus+=("${words[i + 1]#*:}") || cpus+=(0) ;;
	--distance)
		IFS=, read -r a b far <<<"${words[i + 1]}"
		distance[$a,$b]=$far
		distance[$b,$a]=$far ;;
	esac
done

ok "$MACHINE: a 6.12 kernel or a later one" sh -c 'printf "6.12\n%s\n" "$(uname -r)" | sort -CV'
ok "$MACHINE: it has ${#sizes[@]} nodes" same "0-$((${#sizes[@]} - 1))" "$(cat $tree/has_memory)"
for i in "${!sizes[@]}"; do
	ok "$MACHINE: node $i has ${cpus[i]} CPUs" same "${cpus[i]}" "$(cpus_of "$i")"
	ok "$MACHINE: node $i has its memory" memory_fits "$i" "${sizes[i]}"
	ok "$MACHINE: a program's pages are on node $i where it is told so" has_pages "$i"
done
ok "$MACHINE: the distances are those asked for" distances_fit
ok "$MACHINE: migration works here" godwit check
echo "1..$nr"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Nodes of the machine that cannot be an engine's: an error before the program starts, with the node, the cause and the
# mend (host_hotplug.sh has one without memory). And one that is full: pages stay with ENOMEM, and the kernel kills nobody.
#
# test-machine: two
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 2

refused()	# words of the message, spec
{
	local out status=0
	out=$("$GODWIT" run --node "$2" -- touch "$dir/started" 2>&1) || status=$?
	[ $status = 1 ] && [ ! -e "$dir/started" ] && case $out in *"$1"*) return ;; esac
	note "exit $status: $out"
	return 1
}

nodes=(/sys/devices/system/node/node[0-9]*)
last=$((${#nodes[@]} - 1))
ok "a node that is not there" refused "no NUMA node $((last + 1))" "ram,host=$((last + 1))"
# A cpuset of the first node: neither runs there what is bound to another, nor is that believed.
group=/sys/fs/cgroup/godwit-$$
echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
if mkdir "$group" 2>/dev/null && echo "${machine[0]}" >"$group/cpuset.mems" 2>/dev/null; then
	in_group()
	{
		(echo $BASHPID >"$group/cgroup.procs" && "$@")
	}
	ok "a node outside of Mems_allowed" in_group refused "not in Mems_allowed" "ram,host=${machine[1]}"
	ok "and one inside of it" in_group "$GODWIT" run -q --node "ram,host=${machine[0]}" -- true
	rmdir "$group"
else
	ok "a node outside of Mems_allowed # SKIP no cpuset can be made" true
	ok "and one inside of it # SKIP no cpuset can be made" true
fi

# ---------------------------------------------------------------- a full node ----

free_on()	# host node: MiB
{
	awk '$3 == "MemFree:" { print int($4 / 1024) }' "/sys/devices/system/node/node$1/meminfo"
}

# Into memory that nothing can take away, until so many MiB are left. What the kernel keeps for itself is not there to be
# had, so it is to keep little.
fill()	# host node, MiB
{
	local part
	mkdir -p "$dir/full"
	mount -t ramfs ramfs "$dir/full"
	keeps=$(cat /proc/sys/vm/min_free_kbytes)
	echo 4096 >/proc/sys/vm/min_free_kbytes
	for part in 1 2 3 4; do
		[ "$(free_on "$1")" -gt "$2" ] || break
		numactl --membind="$1" dd if=/dev/zero of="$dir/full/$part" bs=1M count=$(($(free_on "$1") - $2)) 2>/dev/null
	done
}

empty()
{
	umount "$dir/full"
	echo "$keeps" >/proc/sys/vm/min_free_kbytes
}

kills()
{
	awk '$1 == "oom_kill" { print $2 }' /proc/vmstat
}

adds_up_full()
{
	local stayed
	stayed=$("$progs/host_pages" "$pid" "${range[@]}" | grep -o "N${host[0]}=[0-9]*" | cut -d = -f 2 |
		 awk '{ s += $1 } END { print s + 0 }')
	adds_up && [ "$stayed" -gt 0 ] && [ "$(grep -o '"ENOMEM":[0-9]*' <<<"$json" | cut -d : -f 2)" -ge "$stayed" ] && return
	note "stayed $stayed: $json"
	return 1
}

ok "a program starts" start_memory "${machine[0]}" "${machine[1]}"
migrate all 0
ok "all on node 0" all_on 0 small huge locked
ok "no frame of node 1 is kept for them" stock_goes
before=$(kills)
fill "${machine[1]}" 16
note "$(free_on "${machine[1]}") MiB are left on node ${machine[1]}"
migrate 0 1
ok "pages that find no room stay as ENOMEM, and all are counted" adds_up_full
ok "the books say what the kernel says" books_are_true
ok "nobody was killed for it" [ "$(kills)" = "$before" ]
empty
migrate 0 1
ok "with room again the rest moves" all_on 1 small huge locked
ok "no byte is wrong" says ok check
end_memory
end_tests

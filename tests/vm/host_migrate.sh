#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Engine nodes that are bound to the machine's: after every way to migrate, the machine's kernel says that every page is
# where it was to go, and the engine's books say what the kernel says.
#
# test-machine-long: two four
# test-timeout: 240
# shellcheck source=host.bash
. "$(dirname "$0")/host.bash"
need_nodes 2

kinds=(small huge locked)

# Between two nodes, whichever they are.
there_and_back()	# node, node
{
	local a=$1 b=$2
	ok "migrate $a $b: nothing is lost in the count" migrate_and_count "$a" "$b"
	ok "migrate $a $b: the kernel says that every page is there" all_on "$b" "${kinds[@]}"
	ok "migrate $a $b: the books say what the kernel says" books_are_true
	ok "migrate $b $a, transactional" migrate_and_count "$b" "$a" --form transactional
	ok "migrate $b $a: every page is there" all_on "$a" "${kinds[@]}"
}

migrate_and_count()
{
	migrate "$@"
	adds_up
}

# What a migration leaves is used by the next one that comes there; a while later it is the host's again.
the_stock()
{
	local left used
	migrate 0 1
	left=$(in_stock 0)
	migrate 1 0
	used=$(in_stock 0)
	note "$left free frames on node 0 after pages have left it, $used after they are back"
	ok "frames that pages have left are kept on their node" [ "$left" -gt 0 ]
	ok "and taken by those that come to it" [ "$used" -lt "$left" ]
	migrate 0 1
	ok "a while later a node that was emptied is empty, and nothing is kept on the other" stock_goes
	ok "every page is there" all_on 1 "${kinds[@]}"
	migrate 1 0
}

move_list()	# node: `godwit move`, every page of the small memory
{
	local at=${range[small]} page
	for ((page = 0x${at%-*}; page < 0x${at#*-}; page += 4096)); do printf '%x %d\n' $page "$1"; done >"$dir/list"
	timeout -s KILL 60 "$GODWIT" move "$pid" "$dir/list" >"$dir/moved"
}

by_the_program()
{
	local k
	for k in "${kinds[@]}"; do
		ok "move_pages() by the program, $k: the statuses name the node" says "ok N1=$(pages "$k")" move "$k" 1
		ok "move_pages(), $k: the kernel says so too" all_on 1 "$k"
		ok "mbind(MPOL_MF_MOVE) by the program, $k" says ok mbind "$k" 2 1
		ok "mbind(), $k: the kernel says that every page is there" all_on 0 "$k"
		ok "the policy is taken away again" says ok mbind "$k" 0
	done
	ok "migrate_pages() by the program" says ok migrate 1 2
	ok "migrate_pages(): the kernel says that every page is there" all_on 1 "${kinds[@]}"
	ok "the books say what the kernel says" books_are_true
}

by_a_group()
{
	ok "a group on node 0 takes its pages along" "$GODWIT" group create -q one 0 "$pid"
	ok "group: the kernel says that every page is on node 0" all_on 0 "${kinds[@]}"
	ok "the group is given node 1" "$GODWIT" group set -q one 1
	ok "group: the kernel says that every page is on node 1" all_on 1 "${kinds[@]}"
	ok "the group goes" "$GODWIT" group remove -q one
}

# Somebody outside, who knows nothing of the engine, has the kernel move the pages: those of the engine's arenas too.
by_somebody_else()
{
	ok "migratepages from outside" migratepages "$pid" "${host[1]}" "${host[0]}"
	ok "the kernel says that every page is on node 0" all_on 0 "${kinds[@]}"
	ok "the books say so too" books_are_true
	ok "then they are migrated as any other" migrate_and_count 0 1
	ok "and the kernel says that every page is there" all_on 1 "${kinds[@]}"
	migrate 1 0
	ok "free frames are carried off as well" [ "$(in_stock 1)" -gt 100 ]
	migratepages "$pid" "${host[1]}" "${host[0]}"
	ok "none of them is left" [ "$(in_stock 1)" = 0 ]
	ok "they are not taken for what they were" migrate_and_count 0 1
	ok "and the kernel says that every page is there" all_on 1 "${kinds[@]}"
}

after_a_fork()
{
	say fork
	migrate 1 0
	ok "with a child that shares them pages stay: exit and reasons add up" adds_up_busy
	ok "and the books say what the kernel says" books_are_true
	say reap
	ok "when the child has gone they move" migrate_and_count 1 0
	ok "every page is there" all_on 0 "${kinds[@]}"
}

# Some moved or none, but what stayed has its reason, and is where the kernel says it is.
adds_up_busy()
{
	local busy stayed
	busy=$(grep -o '"EBUSY":[0-9]*' <<<"$json" | cut -d : -f 2)
	stayed=$("$progs/host_pages" "$pid" "${range[@]}" | grep -o "N${host[1]}=[0-9]*" | cut -d = -f 2 |
		 awk '{ s += $1 } END { print s + 0 }')
	[ "${busy:-0}" -ge "$stayed" ] && [ "$stayed" -gt 0 ] && [ "$(field pages_failed)" = "$busy" ] && return
	note "EBUSY $busy, stayed $stayed: $json"
	return 1
}

for other in "${machine[@]:1}"; do
	note "host nodes ${machine[0]} and $other"
	ok "a program starts on nodes ${machine[0]} and $other" start_memory "${machine[0]}" "$other"
	thps=$(in_thps)
	ok "it has THPs" [ "$thps" = 16384 ]
	migrate all 0
	ok "at first everything is brought to node 0" all_on 0 "${kinds[@]}"
	there_and_back 0 1
	the_stock
	ok "godwit move takes every page of a list" move_list 1
	ok "godwit move: the kernel says that they are there" all_on 1 small
	ok "and not one more" all_on 0 huge locked
	by_the_program
	by_a_group
	by_somebody_else
	after_a_fork
	note "$(in_thps) KiB in THPs, $thps at the beginning"
	ok "THPs are THPs to the end" [ "$(in_thps)" = "$thps" ]
	ok "no byte is wrong" says ok check
	end_memory
done
end_tests

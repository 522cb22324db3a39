#!/bin/bash
# SPDX-License-Identifier: MIT
# test-machine: four
# test-timeout: 600
#
# Sets of nodes, beside the kernel's own migrate_pages(2) on a twin: page by page both end on the same node. Two of the
# machine's nodes have no CPU.

. "$(dirname "$0")/kernel.bash"

MOST=(--max-stall 20000)

# Which node each page of "anon" is on, a number a line.
nodes_of()	# pid
{
	python3 - "$1" "$TMP/parts" <<-'PY'
	import sys
	for line in open(sys.argv[2]):
	    name, start, pages = line.split()
	    for i in range(int(pages)):
	        print('%x' % (int(start, 16) + i * 4096))
	PY
}

# Four pages on each node in turn.
spread()
{
	nodes_of "$TARGET" | awk '{ print $1, int((NR - 1) / 4) % 4 }' >"$TMP/list"
	godwit move "$TARGET" "$TMP/list"
	exits 0
}

placement()
{
	nodes_of "$TARGET" >"$TMP/addresses"
	"$GODWIT" move --via kernel --query "$TARGET" "$TMP/addresses" | cut -d ' ' -f 2
}

# relative FROM TO: ours and the kernel's, from the same placement
relative()
{
	spread || return
	migratepages "$TARGET" "$1" "$2"
	placement >"$TMP/kernels"
	spread || return
	godwit migrate --json "${MOST[@]}" "$TARGET" "$1" "$2"
	placement >"$TMP/ours"
	[ -s "$TMP/ours" ] && [ "$(<"$TMP/kernels")" = "$(<"$TMP/ours")" ]
}

: >"$TMP/out"
: >"$TMP/err"
start 0 anon=2
ok "pages are moved to four nodes, two of them without CPUs, one by one" spread
for sets in '0 1' '0,1 2,3' '0-1 1-2' '0,1,2 1,2,3' '0-3 3' '0-3 2,3' '2,3 0,1' '0,2 1' '1,2,3 0,1' 'all 0'; do
	read -r from to <<<"$sets"
	ok "from $from to $to every page ends where migrate_pages(2) puts it" relative "$from" "$to"
	ok "and is accounted for" adds_up
done
ok "all is on node 0" all_on 0
for node in 2 3; do
	godwit migrate --json "${MOST[@]}" "$TARGET" all "$node"
	ok "all of it to node $node, which has no CPU" all_on "$node"
	ok "and is accounted for" adds_up
done
ok "the memory holds what it did" holds
refuses "a node that is not there is named, with those that are" "node 7: this host has 0-3" migrate "$TARGET" 0 7
finish

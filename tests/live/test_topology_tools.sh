#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# numactl, numastat, lscpu, hwloc, python, a shell and coreutils see the engine's nodes, in their usual words; and trees of
# files come and go with those who look at them.
#
# test-timeout: 200
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need numactl numastat lscpu python3 setpriv hwloc-info
node=/sys/devices/system/node
run_dir=$XDG_RUNTIME_DIR/godwit
python=$(python3 -c 'import sys; print(sys.executable)')	# python3 may be a script that looks for it

on()	# nodes, command...: what it says is in $dir/out and $dir/err
{
	timeout -s KILL 30 "${as[@]}" "$GODWIT" run --nodes "$1" -- "${@:2}" >"$dir/out" 2>"$dir/err" </dev/null
}

says()	# words: lines of the output, each as it is written
{
	local line
	for line; do
		grep -qxF -- "$line" "$dir/out" || { note "no line: $line"; note_file "$dir/out"; note_file "$dir/err"; return 1; }
	done
}

says_like()	# extended regular expressions
{
	local line
	for line; do
		grep -qxE -- "$line" "$dir/out" || { note "no line like: $line"; note_file "$dir/out"; note_file "$dir/err"; return 1; }
	done
}

counts()	# number, extended regular expression
{
	[ "$(grep -cE -- "$2" "$dir/out")" = "$1" ] || { note "not $1 lines like: $2"; note_file "$dir/out"; return 1; }
}

trees()	# how many there are
{
	find "$run_dir" -maxdepth 1 -name 'topology-*' 2>/dev/null | wc -l
}

# ---------------------------------------------------------------- tools ----

cpus=$(lscpu -p=CPU | grep -vc '^#')

on 4 numactl -H
ok 'numactl -H has four nodes' says 'available: 4 nodes (0-3)' 'node distances:' \
	'node   0   1   2   3 ' '  0:  10  20  20  20 ' '  3:  20  20  20  10 '
ok 'each with a size, and what is free of it' counts 4 '^node [0-3] free: [1-9][0-9]* MB$'
ok 'and every CPU is on one of them' [ "$(sed -n 's/^node [0-3] cpus://p' "$dir/out" | wc -w)" = "$cpus" ]

on 4 numactl -s
ok 'numactl -s may use all of them' says 'membind: 0 1 2 3 '

on 4 numastat
ok 'numastat has a column for each' says_like ' +node0 +node1 +node2 +node3' 'numa_hit( +[0-9]+){4}' 'other_node( +[0-9]+){4}'

on 4 numastat -m
ok 'numastat -m too' says_like ' +Node 0 +Node 1 +Node 2 +Node 3 +Total' 'MemTotal( +[1-9][0-9]*\.[0-9]+){5}' 'AnonPages( +[0-9.]+){5}'

on 4 lscpu
ok 'lscpu counts the nodes' says_like 'NUMA node\(s\): +4' 'NUMA node0 CPU\(s\): +0.*' 'NUMA node3 CPU\(s\):.*'

on 4 lstopo-no-graphics --of console
ok 'lstopo draws four' counts 4 'NUMANode L#[0-3]'
on 4 hwloc-info
ok 'hwloc-info counts four' says_like 'Special depth -3: +4 NUMANode \(type #13\)'

on 4 "$python" -c "
import glob, os
d = '$node'
print(sorted(x for x in os.listdir(d) if x.startswith('node')))
print(open(d + '/node2/distance').read(), end='')
print(os.path.realpath('/sys/devices/system/cpu/cpu0/node0'), os.path.isdir(d + '/node4'))
print(len(glob.glob(d + '/node*/meminfo')))
os.chdir(d)
print(os.getcwd(), open('node3/meminfo').readline().split()[:3])"
ok 'python3 lists, opens, resolves and goes there' says "['node0', 'node1', 'node2', 'node3']" '20 20 10 20' \
	"$node/node0 False" 4 "$node ['Node', '3', 'MemTotal:']"

on 4 ls "$node"
ok 'ls shows them' says node0 node3 online possible has_cpu has_memory has_normal_memory
on 4 ls -l "$node/node3" /sys/devices/system/cpu/cpu0
ok 'ls -l too, and a CPU has its node' says_like 'lrwxrwxrwx .* node0 -> ../../node/node0' '-r--r--r-- .* meminfo' 'd.* hugepages'
ok 'without a complaint' [ ! -s "$dir/err" ]
on 4 cat "$node/online" $node/node1/distance /proc/self/status
ok 'cat shows what is in them' says 0-3 '20 10 20 20' $'Mems_allowed_list:\t0-3'
# shellcheck disable=SC2016 # for the shell that is managed
on 4 bash -c 'cd /sys/devices/system/node && pwd && cat node*/distance && echo /sys/devices/system/cpu/cpu0/node* && cd node1 &&
	head -n 1 meminfo && cd .. && ls -d node*'
ok 'a shell goes there, and what it starts is there too' says $node '20 20 20 10' /sys/devices/system/cpu/cpu0/node0 node3
ok 'and live files are live' says_like 'Node 1 MemTotal: +[0-9]+ kB'
on 4 find $node -name nr_hugepages -path '*node3*'
ok 'find finds' says_like "$node/node3/hugepages/hugepages-2048kB/nr_hugepages"

printf '#include <stdio.h>\n#include <numa.h>\nint main(void) { printf("%%d %%d %%d\\n", numa_available(), numa_max_node(),
	numa_distance(0, 3)); return 0; }\n' >"$dir/numa.c"
if gcc -o "$dir/numa" "$dir/numa.c" -lnuma 2>"$dir/gcc.log"; then
	on 4 "$dir/numa"
	ok "libnuma's own discovery, before main(), finds them" says '0 3 20'
else
	echo "ok $((++nr)) - libnuma's own discovery # SKIP no libnuma-dev"
fi

# ---------------------------------------------------------------- another process ----

# One that looks, and stays.
stays()	# nodes
{
	# shellcheck disable=SC2016
	rm -f "$dir/saw$1"
	start 60 "$GODWIT" run --nodes "$1" -- "$python" -c '
import sys, time
print(open("/sys/devices/system/node/online").read(), end="", file=open(sys.argv[1], "w"))
time.sleep(50)' "$dir/saw$1"
	await 50 test -s "$dir/saw$1"
}

stays 4 || give_up 'a process is managed'
pid=$(pgrep -P "${started[-1]}")
godwit migrate -q "$pid" 0 3 >/dev/null 2>&1

on 4 numastat -p "$pid"
ok 'numastat -p has four columns for another process' says_like ' +Node 0 +Node 1 +Node 2 +Node 3 +Total' 'Private( +[0-9.]+){5}'
ok 'and its heap is where it was moved' says_like 'Heap( +[0-9.]+){3} +([1-9][0-9.]*|0\.[0-9]*[1-9][0-9]*) +[0-9.]+'
on 4 cat "/proc/$pid/numa_maps"
"$GODWIT" maps "$pid" | sed 's/ \(thp\|swapped\)=[0-9]*//g' >"$dir/maps"
ok 'its numa_maps is what godwit maps says' same "$dir/out" "$dir/maps"
ok 'and has its pages' counts 1 ' heap .* N3=[1-9]'
on 4 grep Mems_allowed_list "/proc/$pid/status"
ok 'its status has its nodes' says $'Mems_allowed_list:\t0-3'
on 4 cat "/proc/$$/status" "/proc/$$/numa_maps"
ok "a process without an engine has the host's" [ "$(grep Mems_allowed_list "$dir/out")" = "$(grep Mems_allowed_list "/proc/$$/status")" ]
cat $node/online >"$dir/out"
ok "and sees the host's" [ "$(cat "$dir/out")" != 0-3 ] || [ -d $node/node3 ]
kill -KILL "$pid"
finish

# ---------------------------------------------------------------- trees ----

on 4 cat $node/online
ok 'a tree goes with the process that looked' [ "$(trees)" = 0 ]
on 4 true
ok 'who does not look has none' [ "$(trees)" = 0 ]


stays 2
first=${started[-1]}
stays 4
ok 'two sets of nodes at once are two trees' [ "$(cat "$dir/saw2" "$dir/saw4" | tr '\n' ' ')" = '0-1 0-3 ' ]
ok 'that both stay' [ "$(trees)" = 2 ]
on 4 cat $node/online
ok 'one that is used stays when another user goes' [ "$(trees)" = 2 ]
kill -KILL "$(pgrep -P "${started[-1]}")"
finish
ok 'what was killed leaves its tree' [ "$(trees)" = 2 ]
on 2 true
ok 'until something else starts' [ "$(trees)" = 1 ]
kill -KILL "$(pgrep -P "$first")"
finish
"$GODWIT" ps >/dev/null
ok 'or godwit ps looks' [ "$(trees)" = 0 ]

# Half a tree, of one that was killed while it made it, and of one that removed it.
mkdir -p "$run_dir/topology-0123456789abcdef.1.new/sys" "$run_dir/topology-0123456789abcdef.1.old/sys/a"
on 4 cat $node/online
ok 'half a tree is never seen, and goes' eval '[ "$(trees)" = 0 ] && says 0-3'

many()	# look at the same time, and go
{
	local i pids=()
	for i in {1..12}; do
		"$GODWIT" run --nodes 3 -- cat $node/online >"$dir/many$i" 2>&1 &
		pids+=($!)
	done
	wait "${pids[@]}"
	[ "$(cat "$dir"/many* | sort | uniq -c | tr -s ' ')" = ' 12 0-2' ] && [ "$(trees)" = 0 ]
}
ok 'many that come and go at once all see their nodes' many

# ---------------------------------------------------------------- where it cannot be ----

# What has the tree's name and is none.
stays 4
tree=$(basename "$(find "$run_dir" -maxdepth 1 -name 'topology-*')")
kill -KILL "$(pgrep -P "${started[-1]}")"
finish
"$GODWIT" ps >/dev/null
: >"$run_dir/$tree"
on 4 cat $node/online
ok "without a tree there are the host's nodes" [ "$(cat "$dir/out")" = "$(cat $node/online 2>/dev/null)" ]
ok 'and one line says why' [ "$(grep -c "^godwit: cannot show the nodes as files: " "$dir/err")" = 1 ]
timeout -s KILL 30 "$GODWIT" run -q --nodes 4 -- cat $node/online >"$dir/out" 2>"$dir/err"
ok 'unless it is to be quiet' [ ! -s "$dir/err" ]
on 4 grep Mems_allowed_list /proc/self/status
ok 'what needs no tree is as it was' says $'Mems_allowed_list:\t0-3'
rm "$run_dir/$tree"

if [ "$(id -u)" = 0 ]; then
	mkdir -m 700 "$dir/theirs"
	chown 65534 "$dir/theirs"
	chmod 711 "$dir"
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+sys_ptrace --ambient-caps=+sys_ptrace --
		env "XDG_RUNTIME_DIR=$dir/theirs")
	on 4 cat $node/online /proc/self/status
	ok 'another user sees them' says 0-3 $'Mems_allowed_list:\t0-3'
	on 4 numactl -H
	ok 'and so do its tools' says 'available: 4 nodes (0-3)'
	chmod 500 "$dir/theirs" "$dir/theirs/godwit"
	on 4 cat $node/online
	ok "where its directory is read-only there are the host's, and a word" eval \
		'[ "$(cat "$dir/out")" = "$(cat $node/online 2>/dev/null)" ] && [ "$(grep -c ^godwit: "$dir/err")" = 1 ]'
	as=()
fi
end_tests

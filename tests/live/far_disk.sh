#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A file node on a disk that is really full: what does not fit stays in memory, the program runs on with its data, one
# line says so, and demotion goes on when the disk has room again. Block devices as nodes, and what is refused as one.
# Detaching brings back what is away.
#
# The disk is an ext4 image of 48 MiB on a loop device; where there is none a tmpfs of that size, which has no O_DIRECT.
#
# test-timeout: 180
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
keeper=$(realpath "${BUILD:-build}/tests/keeper")
[ "$(id -u)" = 0 ] || { echo '1..0 # SKIP needs root: to mount a disk'; exit 0; }
need mount mkfs.ext4
disk=$dir/disk device='' mounted=''
mkdir "$disk"

leave()
{
	exec 8>&- 9>&-
	[ -z "$mounted" ] || umount -l "$disk"	# goes when the program does, whose file has no name
	clean_up
	[ -z "$device" ] || losetup -d "$device"
}

# In $device, of an image without a file system, or none.
loop_begin()
{
	truncate -s 48M "$dir/image" && device=$(losetup -f --show "$dir/image" 2>/dev/null) || device=''
}

disk_begin()
{
	loop_begin
	if [ -n "$device" ] && mkfs.ext4 -q -F -m 0 "$device" && mount "$device" "$disk" 2>/dev/null; then
		note "the disk is $device, an ext4"
	elif mount -t tmpfs -o size=48m none "$disk" 2>/dev/null; then
		note 'the disk is a tmpfs: there is no loop device, or no ext4'
	else
		echo '1..0 # SKIP nothing can be mounted here: neither an image nor a tmpfs'
		exit 0
	fi
	mounted=yes
}

trap leave EXIT
disk_begin
mkfifo "$dir/in" "$dir/out"
exec 8<>"$dir/in" 9<>"$dir/out"

# ---------------------------------------------------------------- helpers ----

begin()	# command...: a keeper, in the background, its pid in $pid
{
	local line=''
	timeout -s KILL 150 "$@" <&8 >&9 2>"$dir/stderr" &
	started+=($!)
	read -rt 60 line <&9
	pid=$(pgrep -P "${started[-1]}")
	[ "$line" = ready ]
}

keep()	# mebibytes, words for godwit run
{
	begin "$GODWIT" run "${@:2}" -- "$keeper" "$1"
}

whole()	# all its bytes are right
{
	local line=''
	echo >&8
	read -rt 60 line <&9
	[ "$line" = right ] && return
	note "the program says: ${line:-nothing}"
	return 1
}

end_program()
{
	kill "$pid" 2>/dev/null
	finish || [ $? = 143 ]
}

figure()	# key: of godwit stat
{
	godwit stat --json "$pid" | grep -o "\"$1\":[0-9]*" | head -n 1 | cut -d : -f 2
}

of_file()	# key: of the file node
{
	godwit stat --json "$pid" | grep -o '"kind":"file".*' | grep -o "\"$1\":[0-9]*" | head -n 1 | cut -d : -f 2
}

at_least()	# number, command...: what it says
{
	local is
	is=$("${@:2}")
	[ "${is:-0}" -ge "$1" ]
}

free_kib()
{
	df --output=avail "$disk" | tail -n 1
}

fill_disk()	# KiB that are left
{
	dd if=/dev/zero of="$disk/filler" bs=64K count=$((($(free_kib) - $1) / 64)) conv=fsync status=none
}

refused()	# words; command...: exit 1, one line with each of the words
{
	local words=$1 word status=0
	"${@:2}" >"$dir/said" 2>&1 </dev/null || status=$?
	note_file "$dir/said"
	for word in $words; do
		grep -qF -- "$word" "$dir/said" || return 1
	done
	[ $status = 1 ] && [ "$(wc -l <"$dir/said")" = 1 ]
}

# ---------------------------------------------------------------- a full disk ----

said_so()
{
	grep -c 'the far nodes are full' "$dir/stderr"
}

# 64 MiB with room for 24 in memory, and for 8 on the disk.
fill_disk 8192
note "$(free_kib) KiB of the disk are free"
ok 'a program that needs more than its node and the disk have begins' keep 64 --node ram,size=24M --node "file,path=$disk"
ok 'demotion is refused: the disk is full' await 200 at_least 1 of_file refused
ok 'the program has all its data' whole
sleep 2.5
note "away $(figure pages_away) pages, refused $(of_file refused), the disk has $(free_kib) KiB"
ok 'what fits is on the disk' at_least $((4 << 20)) of_file data_bytes
ok 'and no more than that' [ "$(of_file data_bytes)" -le $((9 << 20)) ]
godwit migrate --json "$pid" 0 1 >"$dir/answer" 2>&1
status=$?
ok 'a request says what stays: exit 2, ENOSPC' [ "$status $(grep -c '"ENOSPC":[1-9]' "$dir/answer")" = '2 1' ]
ok 'the program has all its data' whole
ok 'one line on its standard error says that the far nodes are full' [ "$(said_so)" = 1 ]
refusals=$(of_file refused)
rm "$disk/filler"
ok 'the disk has room again: demotion goes on' await 200 at_least $((20 << 20)) of_file data_bytes
note "now $(of_file data_bytes) bytes are on the disk, refused $refusals before and $(of_file refused) now"
ok 'the program has all its data' whole
ok 'and there was one such line in all' [ "$(said_so)" = 1 ]
ok 'no page was lost' [ "$(figure poisoned) $(of_file io_errors)" = '0 0' ]
end_program
ok 'nothing is left on the disk' [ -z "$(find "$disk" -type f)" ]

# ---------------------------------------------------------------- detaching ----

away_and_detached()
{
	godwit migrate -q "$pid" 0 1
	away=$(figure pages_away)
	note "$away pages are away, and it is detached"
	[ "${away:-0}" -ge 7168 ] && godwit detach -q "$pid"
}

resident_kib()
{
	awk '$1 == "RssAnon:" { print $2 }' "/proc/$pid/status"
}

begin "$keeper" 32
ok 'a running program is attached to, with a file node' godwit attach -q --node ram --node "file,path=$disk" "$pid"
ok 'with its pages away it is detached' away_and_detached
ok 'everything is back in memory, before it is touched' at_least $((32 * 1024)) resident_kib
ok 'the program has all its data, without an engine' whole
ok 'no thread of the engine is left' [ "$(cat "/proc/$pid/task"/*/comm | grep -c '^godwit')" = 0 ]
end_program

# ---------------------------------------------------------------- block devices, and what is none ----

echo full >"$dir/full"
node_of()	# path: a run with it
{
	"$GODWIT" run --node ram --node "file,path=$1" -- true
}

on_device()
{
	keep 24 --node ram --node "file,path=$device" || return 1
	godwit migrate -q "$pid" 0 1
	away=$(figure pages_away)
	note "$away pages on $device"
	[ "${away:-0}" -ge 4096 ] && whole && end_program
}

if [ -n "$device" ] && mountpoint -q "$disk" && grep -q "^$device " /proc/mounts; then
	ok 'a mounted block device is refused, and the message says what to do' refused "$device mounted umount" node_of "$device"
	begin "$keeper" 1
	ok 'by attach too' refused "$device mounted umount" godwit attach --node ram --node "file,path=$device" "$pid"
	ok 'which leaves the program as it was' whole
	end_program
	umount "$disk" && mounted=''
	ok 'pages go to a block device that is not mounted, and come back' on_device
else
	for sentence in 'a mounted block device is refused' 'pages go to a block device'; do
		result 0 "$sentence # SKIP there is no loop device here"
	done
fi
ok 'a file with content is refused, and the message says what to do' refused "$dir/full another" node_of "$dir/full"
ok 'a directory that is not there is refused, and the message says what to do' refused "$dir/none mkdir" node_of "$dir/none/x"
ok 'the file with content is as it was' [ "$(cat "$dir/full")" = full ]
end_tests

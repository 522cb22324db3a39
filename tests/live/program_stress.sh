#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# stress-ng does to its memory what the kernel offers, and verifies what is in it, while its pages move to and fro: it has
# no more failures to tell of than alone. With TORTURE_SCALE it does more kinds of things.
#
#   STRESS_SECONDS=2   for each
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need stress-ng
seconds=${STRESS_SECONDS:-$((2 * scale))}

stress()
{
	stress-ng --temp-path . --verify --timeout "$seconds" "$@" 2>&1 | sed 's/\[[0-9]*\] //; s/ in [0-9.]*s.*//'
}
export seconds
export -f stress

# what, options, least number of pages
kinds='vm --vm 2 --vm-bytes 64m --vm-method all:50
fork --fork 2:20
mremap --mremap 1 --mremap-bytes 16m:50
madvise --madvise 1:20
mlock --mlock 1:20
userfaultfd --userfaultfd 1:0
vm-splice --vm-splice 1:100'
[ "$scale" = 1 ] || kinds+='
mmap --mmap 1 --mmap-bytes 32m:50
munmap --munmap 1:5
malloc --malloc 2 --malloc-bytes 32m:20
brk --brk 1:0
pthread --pthread 2:20
clone --clone 1:20
remap --remap 1:5
vm-addr --vm-addr 1:20
vm-rw --vm-rw 1 --vm-rw-bytes 16m:20
mprotect --mprotect 1:5
numa --numa 1:20
pagemove --pagemove 1:20
memthrash --memthrash 1:50
shm --shm 1:5
stack --stack 1:0'

while IFS=: read -r kind least; do
	read -ra words <<<"$kind"
	compare "stress-ng --${words[0]}" bash -o pipefail -c 'stress "$@"' stress "${words[@]:1}"
	ok_moves "$least" "stress_${words[0]}"
done <<<"$kinds"
end_tests

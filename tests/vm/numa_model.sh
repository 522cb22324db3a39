#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The model of Linux's NUMA calls agrees with a real kernel: tests/numa/model on the machine's own nodes, without godwit.
# Where all nodes are as far from each other; with other distances other nodes are the nearest, which the model does not know.
#
# test-machine: two four
set -u

cd "$(dirname "$0")/../.." || exit 1
nr=0
for seed in 1 $((RANDOM + 2)); do
	nr=$((nr + 1))
	if said=$("$BUILD/tests/model" "$seed" 1000 2>&1); then
		echo "ok $nr - $MACHINE, seed $seed: all is as the model has it"
	else
		echo "not ok $nr - $MACHINE, seed $seed: all is as the model has it"
		printf '%s\n' "$said" | sed 's/^/#   /'
	fi
done
echo "1..$nr"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random NUMA calls under `godwit run` beside a model of what Linux documents (tests/numa/model.c), which agrees with a real
# kernel: what each call returns, where each page is, what stands in it.
#
#   NUMA_SEEDS='1 2 3'  NUMA_OPERATIONS=1000
#
# test-timeout: 400
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
GODWIT=${GODWIT:-$BUILD/godwit}
nr=0
failed=0

for nodes in 2 4; do
	for seed in ${NUMA_SEEDS:-1 2 $((RANDOM + 3))}; do
		nr=$((nr + 1))
		if said=$(timeout -k 5 60 "$GODWIT" run -q --nodes $nodes -- "$BUILD/tests/model" "$seed" "${NUMA_OPERATIONS:-1000}" 2>&1); then
			echo "ok $nr - $nodes nodes, seed $seed: all is as the model has it"
		else
			failed=$((failed + 1))
			echo "not ok $nr - $nodes nodes, seed $seed: all is as the model has it"
			printf '%s\n' "$said" | sed 's/^/#   /'
		fi
	done
done
echo "1..$nr"
[ $failed = 0 ]

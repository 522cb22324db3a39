#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The engine's answers to Linux's NUMA calls on this kernel, as tests/live/test_numa_table.sh has them on the host: with two
# nodes all, with four those groups that an emulated machine is done with soon.
#
# test-machine: two
# test-machine-long: four
# test-timeout: 120
set -u

cd "$(dirname "$0")/../.." || exit 1
case $MACHINE in
two) exec env NUMA_NODES=2 tests/live/test_numa_table.sh ;;
*) exec env NUMA_NODES=4 NUMA_GROUPS='task-policy move query home-node cpu huge' tests/live/test_numa_table.sh ;;
esac

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A static program cannot have the engine: godwit run says so and runs it all the same, and there is nothing to migrate.
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need gcc
top=$(realpath "$(dirname "$0")/../..")

gcc -O1 -static -pthread -o "$dir/churn" "$top/tests/progs/churn.c" 2>"$dir/gcc.log" ||
	{ echo "1..0 # SKIP gcc -static: $(head -n 1 "$dir/gcc.log")"; exit 0; }
compare 'a static program' "$dir/churn" 5
ok 'nothing of it was migrated' [ ! -s "$dir/moves" ]

"$GODWIT" run -- "$dir/churn" 1 >/dev/null 2>"$dir/said"
ok 'godwit run says why' grep -q 'churn is statically linked: it runs unmanaged' "$dir/said"
note_file "$dir/said"
"$GODWIT" run --json -- "$dir/churn" 1 >/dev/null 2>"$dir/said"
ok 'also as JSON' grep -q '"managed":false,"reason":"is statically linked"' "$dir/said"

refuses()	# godwit migrate does, in one line
{
	start 10 "$dir/churn" 200 >/dev/null
	! godwit migrate "$(pgrep -P "${started[-1]}")" 0 1 >"$dir/said" 2>&1 && [ "$(wc -l <"$dir/said")" = 1 ]
}
ok 'godwit migrate refuses it in one line' refuses
note_file "$dir/said"
end_tests

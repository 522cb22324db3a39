#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The test runner counts right, and sees what goes wrong.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nr=0

closes()	# closing line, exit status, text, lines of a test
{
	local out rc
	{ echo '#!/usr/bin/env bash'; printf '%s\n' "${@:4}"; } >"$work/test.sh"
	chmod +x "$work/test.sh"
	out=$("$top/tests/run" "$work/test.sh" 2>&1)
	rc=$?
	nr=$((nr + 1))
	if [ "$(printf '%s\n' "$out" | tail -n 1)" = "$1" ] && [ $rc = "$2" ]; then
		echo "ok $nr - $3"
	else
		echo "not ok $nr - $3"
		printf '%s\n' "wanted: $1, exit $2; got exit $rc and:" "$out" | sed 's/^/# /'
	fi
}

# shellcheck disable=SC2016 # the lines are for the test's shell
{
closes '2 passed, 0 failed, 1 skipped' 0 'passed and skipped tests are counted' \
	'echo "ok 1 - a"; echo "ok 2 - b # SKIP no kernel"; echo "ok 3 - c"; echo 1..3'
closes '1 passed, 1 failed, 1 skipped' 1 'a "not ok" fails, and cmocka'"'"'s form of a skip does not' \
	'echo "ok 1 - a"; echo "not ok 2 - b"; echo "not ok 3 # SKIP c"'
closes '0 passed, 0 failed, 1 skipped' 1 'nothing passed is a failure' 'echo "ok 1 # SKIP all"'
closes '0 passed, 1 failed, 0 skipped' 1 'a program that says nothing fails' 'exit 0'
closes '1 passed, 1 failed, 0 skipped' 1 'a crash fails' 'echo "ok 1 - a"; kill -SEGV $$'
closes '1 passed, 1 failed, 0 skipped' 1 'an exit status fails' 'echo "ok 1 - a"; exit 3'
closes '1 passed, 1 failed, 0 skipped' 1 'a plan that is not kept fails' 'echo 1..2; echo "ok 1 - a"'
closes '1 passed, 1 failed, 0 skipped' 1 'a time-out fails' '# test-timeout: 1' 'echo "ok 1 - a"; sleep 60.1173'
closes '1 passed, 1 failed, 0 skipped' 1 'a child left behind fails' 'echo "ok 1 - a"; sleep 61.1173 & exit 0'
closes '1 passed, 1 failed, 0 skipped' 1 'a child that left the session fails' 'echo "ok 1 - a"; setsid sleep 62.1173 & exit 0'
closes '1 passed, 1 failed, 0 skipped' 1 'a file left in the runtime directory fails' \
	'mkdir "$XDG_RUNTIME_DIR/godwit"; : >"$XDG_RUNTIME_DIR/godwit/1.sock"; echo "ok 1 - a"'
closes '1 passed, 0 failed, 0 skipped' 0 'SIGINT is not ignored' \
	'(trap "exit 7" INT; kill -INT $BASHPID; exit 0); [ $? = 7 ] && echo "ok 1 - a"'
}

left=$(pgrep -f "^sleep 6[012]\.1173\$")
nr=$((nr + 1))
if [ -z "$left" ]; then echo "ok $nr - what was left behind has been ended"; else echo "not ok $nr - left: $left"; fi
echo "1..$nr"

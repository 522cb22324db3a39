#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Groups of processes without an engine on this host, by whatever hierarchy it has, or the error that says why not; that
# pages follow, and by which nodes, is shown in a machine with nodes (tests/vm/group_cgroup.sh).
#
# test-timeout: 60
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need sleep
as=()

group() { timeout -s KILL 30 "${as[@]}" "$GODWIT" group "$@" >"$dir/told" 2>"$dir/err"; status=$?; }
is()	# exit status, words...
{
	group "${@:2}"
	[ $status = "$1" ] && return
	note "exit $status"
	note_file "$dir/told"
	note_file "$dir/err"
	false
}
refuses()	# a pattern of the error, words...
{
	is 1 "${@:2}" && [ ! -s "$dir/told" ] && [ "$(wc -l <"$dir/err")" = 1 ] && grep -qE -- "$1" "$dir/err" && return
	note_file "$dir/err"
	false
}
where() { cat "/proc/$1/cgroup"; }
unchanged() { [ "$(where "$pid")" = "$before" ] || { where "$pid" | sed 's/^/# /'; false; }; }
nothing_left()
{
	[ ! -e "$XDG_RUNTIME_DIR/godwit/groups" ] && [ -z "$(find /sys/fs/cgroup -maxdepth 4 -path "*/godwit/$name")" ]
}

name=test-$$
sleep 50 &
pid=$!
started+=("$pid")
before=$(where $pid)

ok 'a node that the host does not have is refused' refuses 'host|cgroup|cpuset' create "$name" 63 $pid
ok 'and nothing is changed' unchanged
ok 'or left' nothing_left

if [ "$(id -u)" = 0 ]; then
	group create "$name" all $pid
else
	status=1
fi
if [ $status = 0 ]; then
	ok "a process without an engine is in the group's cgroup" grep -q "/godwit/$name\$" "/proc/$pid/cgroup"
	group show --json "$name"
	ok 'and shown as a member by the kernel' grep -q "\"pid\":$pid,.*\"via\":\"kernel\"" "$dir/told"
	ok 'its nodes are set' is 0 set "$name" all
	ok 'a node that is not there changes nothing' refuses 'processes without an engine' set "$name" 63
	ok 'it leaves' is 0 remove "$name" $pid
	ok 'and is where it was' unchanged
	ok 'with its last member the group and its cgroup end' nothing_left
	is 0 create "$name" all $pid
	kill -KILL $pid
	wait $pid 2>/dev/null
	ok 'a group whose last member was killed' is 0 show
	ok 'is gone with its cgroup' nothing_left
	sleep 50 &
	pid=$!
	started+=("$pid")
	before=$(where $pid)
	cat >"$dir/read-only" <<'SH'
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/cpuset /sys/fs/cgroup/unified; do
	mountpoint -q $hierarchy && mount -o remount,bind,ro $hierarchy
done
exec "$@"
SH
	if unshare -m sh "$dir/read-only" true 2>/dev/null; then
		as=(unshare -m sh "$dir/read-only")
		ok 'a hierarchy that is read-only, as in a container, is named' refuses 'read-only here' create "$name" all $pid
		ok 'and nothing is changed there' unchanged
		ok 'or left there' nothing_left
		as=()
	fi
else
	ok 'where it cannot be, one line says why' refuses 'cgroup|cpuset|systemctl|as root' create "$name" all $pid
	ok 'and nothing is changed there' unchanged
	ok 'or left there' nothing_left
fi

if "$GODWIT" check >/dev/null 2>&1; then
	"$GODWIT" run -q -- sleep 50 &
	managed=$!
	started+=("$managed")
	await 100 "$GODWIT" stat "$managed"
	its=$(where $managed)
	mv "$XDG_RUNTIME_DIR/godwit/$managed.sock" "$dir/hidden"
	ok 'a process whose engine does not answer is not taken for one without' refuses 'another runtime directory' create "$name" all $managed
	ok 'and stays where it is' [ "$(where $managed)" = "$its" ]
	mv "$dir/hidden" "$XDG_RUNTIME_DIR/godwit/$managed.sock"
	kill $managed
	wait $managed 2>/dev/null
fi

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 711 "$dir"
	mkdir -m 700 "$dir/nobody"
	chown nobody "$dir/nobody"
	setpriv --reuid=nobody --regid=nogroup --clear-groups sleep 50 &
	theirs=$!
	started+=("$theirs")
	sleep 0.2
	as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "XDG_RUNTIME_DIR=$dir/nobody")
	ok 'a user without rights is told what helps' refuses 'as root|systemctl|cgroup' create "$name" all $theirs
	ok 'and may not take what is not his' refuses 'belongs to root' create "$name" all $pid
	as=()
	ok 'nothing is left of that' nothing_left
	kill $theirs
fi
kill $pid
end_tests

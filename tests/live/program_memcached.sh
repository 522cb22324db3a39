#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# memcached with four threads is filled, overwritten and read by four clients while its pages move to and fro: every value
# is the one that was last set, every counter is the sum of what was added, and what was deleted is not there.
#
#   MEMCACHED_KEYS=40000   keys with values of 20 to 1200 bytes
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need memcached python3
keys=${MEMCACHED_KEYS:-$((40000 * scale))}

cat >"$dir/client.py" <<'PY'
import socket, sys, threading

keys, clients, counters = int(sys.argv[2]), 4, 50
wrong = []


def value(key, version):
    text = b'%08d:%02d:%08d-' % (key, version, key * 48271 % 99999989)
    return (text * 60)[:20 + key * 7 % 1180 + version]


def talk(lines, replies):
    """Send and read at the same time: more than the buffers hold."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(sys.argv[1])
        sender = threading.Thread(target=server.sendall, args=(b''.join(lines),))
        sender.start()
        with server.makefile('rb') as answer:
            for expected in replies:
                found = answer.read(len(expected))
                if found != expected:
                    wrong.append((expected[:60], found[:60]))
                    break
        sender.join()


def stored(key, version):
    text = value(key, version)
    return b'set k%d 0 0 %d\r\n%s\r\n' % (key, len(text), text)


def found(key, version):
    text = value(key, version)
    return b'VALUE k%d 0 %d\r\n%s\r\nEND\r\n' % (key, len(text), text)


def client(first):
    own = range(first, keys, clients)
    for version in range(3):
        talk([stored(key, version) for key in own], [b'STORED\r\n' for key in own])
        talk([b'get k%d\r\n' % key for key in own], [found(key, version) for key in own])
        adds = [b'incr c%d %d\r\n' % (number % counters, number % 7) for number in own]
        talk([add[:-2] + b' noreply\r\n' for add in adds] + [b'get none\r\n'], [b'END\r\n'])
        gone = own[version::9]
        talk([b'delete k%d\r\n' % key for key in gone], [b'DELETED\r\n' for key in gone])
        talk([b'get k%d\r\n' % key for key in gone], [b'END\r\n' for key in gone])


def total(number):
    return sum(3 * (other % 7) for other in range(keys) if other % counters == number)


talk([b'set c%d 0 0 1\r\n0\r\n' % number for number in range(counters)], [b'STORED\r\n'] * counters)
threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sums = [b'%d' % total(number) for number in range(counters)]
talk([b'get c%d\r\n' % number for number in range(counters)],
     [b'VALUE c%d 0 %d\r\n%s\r\nEND\r\n' % (number, len(text), text) for number, text in enumerate(sums)])
print(wrong)
sys.exit(bool(wrong))
PY

listens()
{
	[ -S "$dir/socket" ]
}

# -u: it does not want to be root
godwit_run 90 memcached -s "$dir/socket" -t 4 -m 1024 -u root -o slab_reassign >"$dir/server.log" 2>&1
await 200 listens || give_up 'memcached listens' "$dir/server.log"
start_moving
start $((80 * scale)) python3 "$dir/client.py" "$dir/socket" "$keys" >"$dir/client.log" 2>&1
ok 'every value, counter and deletion is right, under constant migration' finish
note_file "$dir/client.log"
stop_moving
ok_moves 10000
kill -TERM "${started[-1]}"	# timeout, which passes it on
ok 'it ends with success' finish
end_tests

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# python3 churns lists and dicts, in threads, in pools of forked and of spawned processes and in programs that it
# starts, while the pages of all of them move to and fro: the output is that of a run alone.
#
#   PYTHON_ROUNDS=4   rounds of everything, an even number
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need python3
rounds=${PYTHON_ROUNDS:-$((4 * scale))}
python=$(python3 -c 'import sys; print(sys.executable)')	# python3 may be a script that looks for it

cat >"$dir/work.py" <<'PY'
import gc, hashlib, multiprocessing, os, subprocess, sys, threading, zlib

rounds = int(sys.argv[1])


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


class Node:
    def __init__(self, number, parent):
        self.number, self.parent, self.children = number, parent, []


def churn(seed, size):
    """Grow, look up, delete, sort and link: much garbage, also in cycles."""
    table, order, root = {}, [], Node(seed, None)
    nodes = [root]
    number = seed
    for step in range(size):
        number = (number * 48271 + 11) % 2147483647
        table['key-%d' % (number % (size * 2))] = [step, str(number) * (number % 7 + 1), number / 3]
        order.append(number)
        if step % 3 == 0:
            parent = nodes[number % len(nodes)]
            parent.children.append(Node(number, parent))
            nodes.append(parent.children[-1])
        if step % 5 == 0:
            table.pop('key-%d' % (order[number % len(order)] % (size * 2)), None)
        if step % 1000 == 999:
            del order[:number % 300]
            nodes = nodes[:len(nodes) // 2 + 1]
    order.sort()
    text = ''.join(sorted(table))
    return (len(table), sum(order) % 1000003, zlib.crc32(text.encode()), digest(sorted(table.items())[:500]),
            sum(len(node.children) for node in nodes))


def in_threads(seed):
    found = {}

    def work(name):
        found[name] = churn(seed + name, 6000)

    # Some end early and others begin: thread exit, too.
    for first in range(0, 6, 3):
        threads = [threading.Thread(target=work, args=(first + name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(found.items())


def in_child(task):
    """What the parent had before the fork must be here, and may be changed without harm to it."""
    seed, index = task
    before = inherited[index::97]
    inherited[index::97] = ['%d of the child' % seed] * len(before)
    result = seed, digest(before), churn(seed, 15000), digest(inherited)
    inherited[index::97] = before
    return result


def in_programs(seed):
    said = []
    for name in range(2):
        code = 'import sys; t = {i: str(i) * 3 for i in range(200000)}; print(len(sys.stdin.read()), sum(map(len, t.values())))'
        said.append(subprocess.run([sys.executable, '-S', '-c', code], input='x' * (70000 + seed + name), text=True,
                                   stdout=subprocess.PIPE, check=True).stdout)
    said.append(subprocess.run(['sh', '-c', 'for i in 1 2 3; do echo "$i $0"; done | sort -r | tr 1-3 a-c', str(seed)],
                               text=True, stdout=subprocess.PIPE, check=True).stdout)
    return said


def forked(seed):
    """fork without exec in a program that has threads' memory; the child's exit status is the answer."""
    pid = os.fork()
    if pid == 0:
        os._exit(churn(seed, 6000)[0] % 251)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def spawned(pool, seed):
    """Children that begin with nothing but what they are sent."""
    return [digest(answer) for answer in pool.starmap(churn, [(seed + index, 8000) for index in range(4)], chunksize=1)]


inherited = ['%d' % (number * 7919) * 4 for number in range(100000)]
whole = digest(inherited)
if __name__ != '__main__':
    rounds = 0
else:
    print('begin', whole)
for number in range(rounds):
    if number % 2 == 0:	# the pool lives for two rounds; python's own fork wants no threads of its own beside it
        print(number, 'fork', forked(number))
        pool = multiprocessing.get_context('fork').Pool(3)
    print(number, 'alone', churn(number, 30000))
    print(number, 'threads', in_threads(number * 10))
    print(number, 'pool', pool.map(in_child, [(number * 100 + index, index) for index in range(6)], chunksize=1))
    print(number, 'programs', in_programs(number))
    print(number, 'garbage', gc.collect() >= 0, digest(inherited) == whole, flush=True)
    if number % 2 == 1:
        pool.close()
        pool.join()
if __name__ == '__main__':
    pool = multiprocessing.get_context('spawn').Pool(3)
    for number in range(rounds):
        print(number, 'spawned', spawned(pool, number * 100))
    pool.close()
    pool.join()  # children that are killed leave their sockets
    print('end', digest(inherited))
PY

export PYTHONHASHSEED=0
compare python3 "$python" "$dir/work.py" "$rounds"
note "$(processes_moved) processes were moved"
ok 'the pages of its children were moved, too' [ "$(processes_moved)" -gt 3 ]
ok_moves 20000
end_tests

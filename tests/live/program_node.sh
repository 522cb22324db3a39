#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# node (V8) computes and makes garbage of all kinds, in its main thread and in workers that share a buffer, while its
# pages move to and fro: code that it compiles, a heap that it moves itself, and memory outside of the heap.
#
#   NODE_ROUNDS=4
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need node
rounds=${NODE_ROUNDS:-$((4 * scale))}

cat >"$dir/work.js" <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const zlib = require('zlib');

const digest = (value) => createHash('sha256').update(value).digest('hex').slice(0, 16);

function churn(seed, size) {
	const table = new Map(), weak = new WeakMap(), lists = [];
	let number = seed + 1, text = '';
	for (let step = 0; step < size; step++) {
		number = number * 48271 % 2147483647;
		const item = { number, name: 'item ' + number, next: lists[number % (lists.length + 1)] };
		table.set('key-' + number % (size >> 1), item);
		weak.set(item, [step]);
		if (step % 3 === 0)
			lists.push([item, number / 3, String(number).repeat(number % 5)]);
		if (step % 7 === 0)
			table.delete('key-' + (number >> 3) % (size >> 1));
		if (step % 20000 === 19999)
			lists.splice(0, lists.length >> 1);
		text += String.fromCharCode(97 + number % 26);
	}
	return [table.size, lists.length, digest(text), digest([...table.keys()].sort().join()),
		digest(JSON.stringify([...table.values()].slice(0, 500).map(({ number, name }) => [number, name])))];
}

function matrix(size) {
	const a = new Float64Array(size * size).map((_, i) => i * 7 % 13), b = a.map((x) => x / 3), c = new Float64Array(a.length);
	for (let i = 0; i < size; i++)
		for (let j = 0; j < size; j++)
			for (let k = 0, sum = 0; k < size; k++, c[i * size + j] = sum)
				sum += a[i * size + k] * b[k * size + j];
	return digest(c);
}

function buffers(seed) {
	const data = Buffer.alloc(3 << 20, 'buffer ' + seed), packed = zlib.gzipSync(data), again = zlib.gunzipSync(packed);
	const compile = new Function('x', `let sum = ${seed}; for (let i = 0; i < x; i++) sum = (sum * 31 + i) | 0; return sum;`);
	return [again.equals(data), packed.length, compile(200000)];
}

async function workers(seed) {
	const shared = new SharedArrayBuffer(4096), sums = new Int32Array(shared);
	const answers = await Promise.all([0, 1, 2].map((name) => new Promise((resolve, reject) => {
		const worker = new Worker(__filename, { workerData: { seed: seed * 10 + name, shared } });
		worker.on('message', resolve);
		worker.on('error', reject);
	})));
	return [answers, sums[0]];
}

async function main(rounds) {
	for (let round = 0; round < rounds; round++) {
		console.log(round, 'churn', churn(round, 150000).join(' '));
		console.log(round, 'matrix', matrix(160 + round % 3), 'buffers', buffers(round).join(' '));
		console.log(round, 'workers', JSON.stringify(await workers(round)));
	}
}

if (isMainThread) {
	main(Number(process.argv[2]));
} else {
	const sums = new Int32Array(workerData.shared);
	for (let i = 0; i < 100000; i++)
		Atomics.add(sums, 0, i % 5);
	parentPort.postMessage(churn(workerData.seed, 40000));
}
JS

compare node node "$dir/work.js" "$rounds"
ok_moves 50000
end_tests

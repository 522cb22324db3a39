#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# java with the G1 collector makes garbage in threads and runs into null pointers, while its pages move to and fro. It
# finds null pointers and its own safepoints by SIGSEGV, and its collector moves, discards and unmaps memory itself.
#
#   JAVA_ROUNDS=6
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need java javac
rounds=${JAVA_ROUNDS:-$((6 * scale))}

cat >"$dir/Work.java" <<'JAVA'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Work {
	static class Item {
		long number;
		Item next;
		byte[] body;
	}

	/* Most of these are null: the compiler leaves the check to the memory's protection. */
	static long nulls(Item[] items, int times) {
		long caught = 0, sum = 0;
		for (int step = 0; step < times; step++) {
			try {
				sum += items[step % items.length].next.number;
			} catch (NullPointerException e) {
				caught++;
			}
		}
		return caught * 31 + sum;
	}

	static long churn(int seed, int size) {
		Map<String, Item> table = new HashMap<>();
		List<Item> list = new ArrayList<>();
		long number = seed + 1, sum = 0;
		for (int step = 0; step < size; step++) {
			number = number * 48271 % 2147483647;
			Item item = new Item();
			item.number = number;
			item.next = list.isEmpty() ? null : list.get((int)(number % list.size()));
			item.body = new byte[(int)(number % (step % 500 == 0 ? 200000 : 300))];
			Arrays.fill(item.body, (byte)step);
			table.put("key-" + number % (size / 2), item);
			if (step % 3 == 0)
				list.add(item);
			if (step % 10000 == 9999)
				list.subList(0, list.size() / 2).clear();
		}
		for (Item item : table.values()) {
			for (byte one : item.body)
				if (one != item.body[0])
					throw new IllegalStateException("body of " + item.number);
			sum += item.number + item.body.length;
		}
		return sum;
	}

	static long direct(int seed) {
		ByteBuffer buffer = ByteBuffer.allocateDirect(4 << 20);
		long sum = 0;
		while (buffer.remaining() >= 8)
			buffer.putLong(seed * 31L + buffer.position());
		buffer.flip();
		while (buffer.hasRemaining())
			sum = sum * 7 + buffer.getLong();
		return sum;
	}

	static int deep(int level) {
		try {
			return deep(level + 1);
		} catch (StackOverflowError e) {
			return 1;
		}
	}

	public static void main(String[] args) throws Exception {
		Item[] items = new Item[100];
		items[7] = new Item();
		items[9] = new Item();
		items[9].next = items[7];
		for (int round = 0; round < Integer.parseInt(args[0]); round++) {
			int seed = round * 10;
			ExecutorService pool = Executors.newFixedThreadPool(3);
			List<Callable<Long>> tasks = new ArrayList<>();
			for (int task = 0; task < 6; task++) {
				int own = seed + task;
				tasks.add(() -> own % 2 == 0 ? churn(own, 60000) : nulls(items, 400000) + direct(own));
			}
			System.out.print(round);
			for (Future<Long> answer : pool.invokeAll(tasks))
				System.out.print(" " + answer.get());
			pool.shutdown();
			System.out.println(" " + deep(0) + " " + IntStream.range(0, 300000).parallel().mapToObj(Integer::toString)
				.collect(Collectors.groupingByConcurrent(String::length, Collectors.counting())));
			System.gc();
		}
	}
}
JAVA

javac -d "$dir" "$dir/Work.java" >"$dir/javac.log" 2>&1 || give_up 'javac compiles' "$dir/javac.log"
compare java java -XX:+UseG1GC -XX:-UsePerfData -Xms64m -Xmx300m -cp "$dir" Work "$rounds"
ok_moves 50000
end_tests

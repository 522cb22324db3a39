#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# gcc -O2 compiles a large generated file while the pages of every process of it move to and fro: the object is byte
# by byte the one of a run alone. The driver starts the compiler proper and the assembler, each with its own engine.
#
#   GCC_FUNCTIONS=40   functions in the file, of about 40 ms each
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need gcc
functions=${GCC_FUNCTIONS:-$((40 * scale))}

# Loops, switches, floating point, structures, and calls of those before.
source_text()
{
	awk -v functions="$functions" 'BEGIN {
		print "typedef struct { int a[16]; double d[8]; const char *name; unsigned long hash; } item;"
		print "extern int sink(int, double, const char *);"
		for (f = 0; f < functions; f++) {
			printf "int work_%d(item *p, int n)\n{\n\tunsigned long h = %dul;\n\tdouble sum = %d.5;\n", f, f * 48271, f
			for (step = 0; step < 4 + f % 5; step++) {
				k = (f * 31 + step * 17) % 97 + 3
				printf "\tfor (int i = 0; i < n; i++) {\n"
				printf "\t\tp[i].a[%d] += p[i].a[%d] * %d ^ i;\n", k % 16, (k + 5) % 16, k
				printf "\t\tsum += p[i].d[%d] / %d.25;\n", k % 8, k
				printf "\t\th = (h << %d | h >> %d) ^ (unsigned long)p[i].a[%d];\n", k % 31 + 1, 63 - k % 31, step
				printf "\t\tswitch (h %% %d) {\n", k
				for (c = 0; c < 5; c++)
					printf "\t\tcase %d: p[i].hash ^= h * %d; p[i].name = \"item %d.%d.%d\"; break;\n", c, k + c, f, step, c
				printf "\t\tdefault: p[i].d[%d] -= sum;\n\t\t}\n\t}\n", step % 8
			}
			if (f > 2)
				printf "\tif (n > %d)\n\t\tn -= work_%d(p, n - 1) + work_%d(p + 1, n / 2);\n", f, f - 1, int(f / 2)
			printf "\treturn sink(n, sum, p->name) + (int)h;\n}\n\n"
		}
	}'
}

source_text >"$dir/large.c"
compare gcc gcc -O2 -c -o large.o "$dir/large.c"
ok 'the pages of more than one process were moved' [ "$(processes_moved)" -gt 1 ]
ok_moves 20000
end_tests

# SPDX-License-Identifier: MIT
# The keys of the demo, and their values: awk -v keys=N -v task=load|values|counters|compare -f keys.awk
#
#   load       commands for redis-cli --pipe that set all keys
#   values     commands for redis-cli that ask for all values
#   counters   the same for the counters
#   compare    standard input is what "values" gave: one line that says what is wrong with it, or nothing

function name(what, n)
{
	return sprintf("%s:%012d", what, n)
}

function value(n,   text)
{
	text = sprintf("%08d:%08d-", n, n * 48271 % 99999989)
	text = text text text text text text text
	return text text text text text text text
}

function set(key, text)
{
	printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(text), text
}

function get_all(what,   n)
{
	for (n = 0; n < keys; n++)
		printf "%s %s", n % 500 ? "" : "\nMGET", name(what, n)
	print ""
}

BEGIN {
	for (n = 0; task == "load" && n < keys; n++) {
		set(name("key", n), value(n))
		set(name("counter", n), "0")
	}
	if (task == "values")
		get_all("key")
	if (task == "counters")
		get_all("counter")
	if (task != "compare")
		exit
}

$0 != value(NR - 1) && !wrong++ {
	first = ", the first is that of " name("key", NR - 1)
}

END {
	if (task == "compare" && (wrong || NR != keys))
		print wrong + 0 " of " NR " values are wrong" first
}

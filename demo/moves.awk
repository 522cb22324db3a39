# SPDX-License-Identifier: MIT
# Sums up what migrations have done: awk -v task=row|summary -f moves.awk <lines of godwit migrate --json
#
#   row       GB/s, and the longest stalls: p99.9 and worst, in us
#   summary   a line for people

function number(key)
{
	if (!match($0, "\"" key "\":[0-9.]+"))
		return 0
	return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0
}

function max(key, least)
{
	return number(key) > least ? number(key) : least
}

{
	pages += number("pages_moved")
	left += number("pages_left")
	bytes += number("bytes")
	seconds += number("seconds")
	p999 = max("stall_us_p999", p999)
	worst = max("stall_us_max", worst)
	if (match($0, /"failed":[{][^}]+/))
		why = " (" substr($0, RSTART + 10, RLENGTH - 10) ")"
}

END {
	if (task == "summary")
		printf "moved       %d pages in %d migrations; worst stall %.0f us; left behind: %d pages%s\n",
		       pages, NR, worst, left, why
	else if (NR)
		printf "%.2f %.0f %.0f\n", seconds ? bytes / seconds / 1e9 : 0, p999, worst
	else
		print "- - -"
}

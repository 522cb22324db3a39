# Records of bench/tier.sh (lines of key=value) to tables, or to JSON lines. Medians over the rounds; a ratio is taken inside a round.

function median(list,   v, n, i, j, t) {
	n = split(list, v, " ")
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) {
			t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
		}
	return n ? v[int((n + 1) / 2)] + 0 : 0
}

function value(key) { return median(list[row, key]) }
function mib(bytes) { return bytes / 1048576 }
function words(text) { gsub(/~/, " ", text); return text }
function quoted(text) { gsub(/[\\"]/, "\\\\&", text); return "\"" text "\"" }

{
	delete f
	for (i = 1; i <= NF; i++) {
		at = index($i, "=")
		f[substr($i, 1, at - 1)] = substr($i, at + 1)
	}
	if (f["status"] == "trial")
		next
	row = f["part"] != "" ? f["part"] SUBSEP f["peer"] SUBSEP f["what"] : f["program"] SUBSEP f["peer"] SUBSEP f["percent"]
	if (!(row in seen)) {
		seen[row] = 1
		rows[++nr_rows] = row
		name[row, 1] = f["part"] != "" ? f["part"] : f["program"]
		name[row, 2] = f["peer"]
		name[row, 3] = f["part"] != "" ? f["what"] : f["percent"]
		is_part[row] = f["part"] != ""
		has_part[f["part"] != "" ? f["part"] : "program"] = 1
	}
	if (f["status"] != "ok") {
		why[row] = words(f["why"])
		nr_failed[row] += f["status"] == "failed"
		next
	}
	nr_ok[row]++
	if (f["program"] != "") {
		f["sum_mean"] = f["mem_mean"] + f["books"]
		f["sum_max"] = f["mem_max"] + f["books"]
		if (f["peer"] == "none")
			alone[f["program"], f["round"]] = f["ops_per_s"]
		f["ratio"] = alone[f["program"], f["round"]] ? f["ops_per_s"] / alone[f["program"], f["round"]] : 0
		f["cpu"] = f["cpu_s"] / f["wall_s"]
		f["kthreads"] = f["kthread_s"] / f["wall_s"]
		f["faults_per_s"] = (f["majflt"] + f["minflt"]) / f["wall_s"]
		f["cpu_us_per_op"] = f["cpu_s"] / f["wall_s"] / f["ops_per_s"] * 1e6
	}
	if (f["out_s"] > 0)
		f["mb_per_s"] = f["moved"] * 4096 / 1e6 / f["out_s"]
	for (k in f)
		if (f[k] ~ /^[0-9.]+(e[-+][0-9]+)?$/ && k != "round" && k != "percent")
			list[row, k] = list[row, k] " " f[k]
}

function peer_name(p) {
	if (p == "none") return "(a) no limit"
	if (p == "godwit-zram") return "(b) godwit, zram"
	if (p == "zram") return "(c) kernel, zram"
	if (p == "godwit-file") return "(d) godwit, file"
	if (p == "swapfile") return "(e) kernel, swap file"
	return p
}

function bad(   text) {
	text = nr_failed[row] ? sprintf("%d of %d runs failed: %s", nr_failed[row], nr_failed[row] + nr_ok[row], why[row]) : "not run: " why[row]
	return text
}

function program_row() {
	printf "| %-6s | %-21s | %4s |", name[row, 1], peer_name(name[row, 2]), name[row, 3] == 100 ? "" : name[row, 3] " %"
	if (!nr_ok[row]) {
		printf " %s |\n", bad()
		return
	}
	if (name[row, 2] == "none")
		printf "     - |"
	else
		printf " %5.0f |", mib(value("limit"))
	printf " %5.0f | %5.0f | %5.0f |", mib(value("sum_mean")), mib(value("sum_max")), mib(value("pool_mean"))
	printf " %5.0f | %9.0f | %5.3f | %8.2f | %8.1f | %8.1f |", mib(value("rss_max")), value("ops_per_s"), value("ratio"), value("p50_us"), value("p99_us"), value("p999_us")
	printf " %4.2f | %4.2f | %7.2f | %8.0f |", value("cpu"), value("kthreads"), value("cpu_us_per_op"), value("faults_per_s")
	printf "%s\n", nr_failed[row] ? " " bad() " |" : ""
}

function fault_row() {
	printf "| %-21s | %-14s |", peer_name(name[row, 2]), words(name[row, 3])
	if (!nr_ok[row])
		printf " %s |\n", bad()
	else
		printf " %8.0f | %6.3f | %6.3f | %8.0f | %7.2f | %8.1f | %8.1f | %9.0f |\n", value("touches"), value("absent") / value("touches"),
			value("cached") / value("touches"), value("majflt"), value("p50_us"), value("p99_us"), value("p999_us"), value("max_us")
}

function hold_row() {
	printf "| %-21s | %-14s |", name[row, 2] == "lz4" ? "LZ4, one thread" : name[row, 2] == "fio" ? "fio, direct write" : peer_name(name[row, 2]), words(name[row, 3])
	if (!nr_ok[row])
		printf " %s |\n", bad()
	else
		printf " %8.0f | %8s | %6s |\n", value("mb_per_s"), value("back_mb_per_s") ? sprintf("%.0f", value("back_mb_per_s")) : "-",
			value("touches") + value("pages") && list[row, "absent"] ? sprintf("%.3f", value("absent") / value("pages")) : "-"
}

function json_row(   k, part, keys, n, i) {
	printf "{\"bench\":\"tier\",\"part\":%s,\"peer\":%s", quoted(is_part[row] ? name[row, 1] : "program"), quoted(name[row, 2])
	if (is_part[row])
		printf ",\"what\":%s", quoted(words(name[row, 3]))
	else
		printf ",\"program\":%s,\"percent\":%d", quoted(name[row, 1]), name[row, 3]
	printf ",\"runs\":%d,\"runs_failed\":%d", nr_ok[row], nr_failed[row]
	if (row in why)
		printf ",\"why\":%s", quoted(why[row])
	n = split("limit sum_mean sum_max charged_mean charged_max pool_mean pool_max stored_mean books rss_mean rss_max ops ops_per_s ratio " \
		"p50_us p99_us p999_us max_us cpu_s kthread_s busy_s wall_s cpu_us_per_op majflt minflt touches absent cached pages present_p50_us " \
		"mb_per_s back_mb_per_s moved", keys, " ")
	for (i = 1; i <= n; i++) {
		k = keys[i]
		if (list[row, k] != "")
			printf ",\"%s\":%.10g", k, value(k)
	}
	print "}"
}

function head(part) {
	if (part == "program") {
		print "\nPrograms. Sum: memory charged to the cgroup, zram's pool and the kernel's tables for swap, mean and max of samples every 50 ms; MiB."
		print "Of (a): throughput in the same round. CPU: seconds a second of the program with its engine's threads, and of all kernel threads."
		print "| progr. | memory                | RAM  | limit |   sum |   max |  pool | rss^  |     ops/s | of(a) |   p50 us |      p99 |    p99.9 |  CPU | kthr |  CPU us/op | faults/s |"
		print "|--------|-----------------------|------|-------|-------|-------|-------|-------|-----------|-------|----------|----------|----------|------|------|---------|----------|"
	} else if (part == "fault") {
		print "\nOne touch of a far page, in random order, one at a time. Absent: share of the pages that were\nnot mapped before; cached: of them, what the kernel still had in memory."
		print "| memory                | form           |  touches | absent | cached |   majflt |  p50 us |      p99 |    p99.9 |       max |"
		print "|-----------------------|----------------|----------|--------|--------|----------|---------|----------|----------|-----------|"
	} else {
		print "\nA whole memory to the far node, and read back in order. MB/s (10^6)."
		print "| what                  | form           |      out |     back | absent |"
		print "|-----------------------|----------------|----------|----------|--------|"
	}
}

END {
	if (!nr_rows) {
		print "bench-tier: nothing was run" >"/dev/stderr"
		exit 1
	}
	if (!json)
		printf "Linux %s, %d processors, cgroup v%d, %s, %s s a run, %d rounds (medians)\n", kernel, cpus, version, size, seconds, rounds
	nr_parts = split("program fault hold", part, " ")
	for (p = 1; p <= nr_parts; p++) {
		if (!(part[p] in has_part))
			continue
		if (!json)
			head(part[p])
		for (r = 1; r <= nr_rows; r++) {
			row = rows[r]
			if ((is_part[row] ? name[row, 1] : "program") != part[p])
				continue
			if (json)
				json_row()
			else if (part[p] == "program")
				program_row()
			else if (part[p] == "fault")
				fault_row()
			else
				hold_row()
		}
	}
}

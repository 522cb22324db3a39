/* SPDX-License-Identifier: MIT */
/* Lines of profilers, most of them real: see tests/logs/README. */
#include "unit.h"

#include "cli/accesslog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 400

struct log {
	struct log_parser parser;
	struct log_entry entry[MOST];
	int nr;
};

static void add(struct log *log, const char *line)
{
	assert_true(log->nr + LOG_ENTRIES <= MOST);
	log->nr += log_line(&log->parser, line, log->entry + log->nr);
}

static void end(struct log *log)
{
	log->nr += log_end(&log->parser, log->entry + log->nr);
}

static void read_file(struct log *log, const char *name, enum log_format format)
{
	char path[128], line[4096];
	FILE *f;

	memset(log, 0, sizeof(*log));
	log_begin(&log->parser, format);
	snprintf(path, sizeof(path), "tests/logs/%s", name);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		add(log, line);
	}
	fclose(f);
	end(log);
}

/* One line by itself. */
static struct log_entry one(const char *line, enum log_format format)
{
	static struct log log;

	memset(&log, 0, sizeof(log));
	log_begin(&log.parser, format);
	add(&log, line);
	end(&log);
	assert_int_equal(log.nr, 1);
	return log.entry[0];
}

static int count(const struct log *log, enum log_kind kind)
{
	int nr = 0;

	for (int i = 0; i < log->nr; i++)
		nr += log->entry[i].kind == kind;
	return nr;
}

/* ---- perf ---- */

static void page_faults_of_two_threads_are_read(void **state)
{
	static struct log log;
	int on[2] = { 0 };

	(void)state;
	read_file(&log, "perf-faults.txt", LOG_AUTO);
	assert_int_equal(log.parser.format, LOG_PERF);
	assert_int_equal(log.nr, 22);
	assert_int_equal(count(&log, LOG_SAMPLE), 22);
	for (int i = 0; i < log.nr; i++) {
		const struct log_entry *e = &log.entry[i];

		assert_int_equal(e->number, i + 1);
		assert_int_equal(e->pid, -1);
		assert_int_equal(e->tid, e->cpu ? 177 : 175);
		if (e->start < 0x7f72fcc2a000 || e->start >= 0x7f72fcc3a000)
			continue;
		assert_int_equal((e->start >> 12) & 1, (0x7f72fcc2a000 >> 12 & 1) ^ (e->cpu & 1));
		on[e->cpu]++;
	}
	assert_int_equal(on[0], 8);
	assert_int_equal(on[1], 8);
}

static void with_the_pid_it_is_known(void **state)
{
	static struct log log;

	(void)state;
	read_file(&log, "perf-faults-pid.txt", LOG_AUTO);
	assert_int_equal(log.nr, 18);
	assert_int_equal(count(&log, LOG_SAMPLE), 18);
	for (int i = 0; i < log.nr; i++)
		assert_int_equal(log.entry[i].pid, 175);
	assert_int_equal(log.entry[1].start, 0x7f72fcc2b000);
}

static void above_a_call_chain_stands_the_datas_address(void **state)
{
	static struct log log;
	static const uint64_t pages[] = { 0x7fb835b36000, 0x7fb835b38000, 0x7fb835b37000, 0x7fb835b3a000 };

	(void)state;
	read_file(&log, "perf-chains.txt", LOG_AUTO);
	assert_int_equal(log.nr, 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(log.entry[i].kind, LOG_SAMPLE);
		assert_int_equal(log.entry[i].start, pages[i]);
	}
	assert_int_equal(log.entry[2].tid, 12298);
	assert_int_equal(log.entry[2].number, 9);
}

static void the_codes_address_is_not_taken_for_the_datas(void **state)
{
	static const char *const lines[] = {
		"touchp  8489 22920.398825:          1 page-faults:      7f3f6eb1ea42 _itoa_word+0x62 (/libc.so.6)",
		"  x 9 [000] 1.000000: 1 page-faults:      7f3f6eb1ea42 operator new(unsigned long)+0x1 (/libc++.so)",
		"  x 9 [000] 1.000000: 1 page-faults:      7f3f6eb1ea42 main+0x1 (/x)        3f43567f8",
		"  x 9 [000] 1.000000: 1 page-faults: ",
		"  x 9 [000] 1.000000: 1 cpu/mem-loads,ldlat=30/P:           43     55b3c122bffc noploop (/x)",
		"  x 9 [000] 1.000000: 1 page-faults:           0 [unknown] ([unknown])  7f3f6eb1ea42 main+0x1 (/x)",
		"  x 9 [000] 1.000000: 1 page-faults:  ffffffff8175336a elf_load+0x28a ([kernel.kallsyms])",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct log_entry e = one(lines[i], LOG_AUTO);

		assert_int_equal(e.kind, LOG_NO_DATA);
		assert_non_null(e.why);
	}
}

static void samples_of_a_processor_are_read(void **state)
{
	static struct log log;

	(void)state;
	read_file(&log, "perf-mem.txt", LOG_AUTO);
	assert_int_equal(log.nr, 3);
	assert_int_equal(log.entry[0].kind, LOG_SAMPLE);
	assert_int_equal(log.entry[0].start, 0x7ffdf1391b0c);
	assert_int_equal(log.entry[0].tid, 46572);
	assert_int_equal(log.entry[0].cpu, 2);
	assert_int_equal(log.entry[1].start, 0x7ffdf1391b10);
	assert_int_equal(log.entry[1].tid, 46572);
	assert_int_equal(log.entry[2].kind, LOG_NO_DATA);
}

static void any_choice_of_fields_is_read_or_refused(void **state)
{
	static const struct {
		const char *line;
		enum log_kind kind;
		int pid, tid, cpu;
	} lines[] = {
		{ " 8521/8522  [000]     7f406ecd2000", LOG_SAMPLE, 8521, 8522, 0 },
		{ "touchp  8521/8522 page-faults:     7f406ecd2000", LOG_SAMPLE, 8521, 8522, -1 },
		{ "touchp  8521 page-faults:     7f406ecd2000", LOG_SAMPLE, -1, 8521, -1 },
		{ "touchp  8521          1 page-faults:     7f406ecd2000", LOG_SAMPLE, -1, 8521, -1 },
		{ "touchp  8521 22923.013546:     7f406ecd2000", LOG_SAMPLE, -1, 8521, -1 },
		{ "touchp  8521 [001] 22923.013546789: page-faults:     7f406ecd2000    5647ed9d61ae", LOG_SAMPLE, -1,
		  8521, 1 },
		{ "touchp  8521 [001] U 22923.013546: page-faults:     7f406ecd2000", LOG_SAMPLE, -1, 8521, 1 },
		{ "kworker/0:1-ev    12 [001] 1.000000: page-faults:     7f406ecd2000", LOG_SAMPLE, -1, 12, 1 },
		{ "a [7] b 3/4 77/78 [001] 1.000000: page-faults:     7f406ecd2000", LOG_SAMPLE, 77, 78, 1 },
		{ "   7f406ecd2000 [unknown] (//anon)     5647ed9d61ae main (/x)", LOG_BAD, -1, -1, -1 },
		{ "[001] page-faults:     7f406ecd2000", LOG_BAD, -1, -1, 1 },
		{ " 8521/8522  [000]     100003     7f406ecd2000", LOG_BAD, 8521, 8522, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct log_entry e = one(lines[i].line, LOG_AUTO);

		assert_int_equal(e.kind, lines[i].kind);
		assert_int_equal(e.pid, lines[i].pid);
		assert_int_equal(e.tid, lines[i].tid);
		assert_int_equal(e.cpu, lines[i].cpu);
		if (e.kind == LOG_SAMPLE)
			assert_int_equal(e.start, 0x7f406ecd2000);
	}
}

/* ---- DAMON ---- */

static void damons_events_are_read_from_perf_and_from_a_trace(void **state)
{
	static struct log log;

	(void)state;
	read_file(&log, "damon-perf.txt", LOG_AUTO);
	assert_int_equal(log.parser.format, LOG_DAMON);
	assert_int_equal(log.nr, 40);
	assert_int_equal(count(&log, LOG_RANGE), 40);
	read_file(&log, "damon-trace.txt", LOG_AUTO);
	assert_int_equal(log.parser.format, LOG_DAMON);
	assert_int_equal(log.nr, 33);
	assert_int_equal(count(&log, LOG_RANGE), 33);
	assert_int_equal(log.entry[32].start, 94575347404800);
	assert_int_equal(log.entry[32].end, 94575395495936);
	assert_int_equal(log.entry[32].target, 0);
	assert_int_equal(log.entry[32].pid, -1);
}

static void damos_raw_form_says_the_same(void **state)
{
	static struct log events, raw;
	int at;

	(void)state;
	read_file(&events, "damon-perf.txt", LOG_AUTO);
	read_file(&raw, "damo-raw.txt", LOG_AUTO);
	assert_int_equal(raw.parser.format, LOG_DAMON);
	assert_int_equal(count(&raw, LOG_RANGE), raw.nr);
	assert_true(raw.nr > 5);
	at = events.nr - raw.nr;
	for (int i = 0; i < raw.nr; i++) {
		assert_int_equal(raw.entry[i].start, events.entry[at + i].start);
		assert_int_equal(raw.entry[i].end, events.entry[at + i].end);
		assert_int_equal(raw.entry[i].heat, events.entry[at + i].heat);
		assert_int_equal(raw.entry[i].target, 0);
	}
}

static void a_broken_event_is_named(void **state)
{
	static const char *const lines[] = {
		"kdamond.0 1 [0] 1.0: damon:damon_aggregated: target_id=0 nr_regions=11 122509119488-: 0 864",
		"kdamond.0 1 [0] 1.0: damon:damon_aggregated: target_id=0 nr_regions=11 20-10: 0 864",
		"kdamond.0 1 [0] 1.0: damon:damon_aggregated: target_id=0 nr_regions=11 10-99999999999999999999: 0 864",
		"kdamond.0 1 [0] 1.0: damon:damon_aggregated: target_id=0 nr_regions=11 10-9223372036854779904: 0 864",
		"damon_aggregated: ",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(one(lines[i], LOG_DAMON).kind, LOG_BAD);
}

/* ---- memtierd ---- */

static void memtierds_three_dumps_are_read(void **state)
{
	static const char *const names[] = { "memtierd-raw.txt", "memtierd-counters.txt", "memtierd-heatmap.txt" };
	static const uint32_t heat[3][3] = { { 1, 0, 515 }, { 1, 0, 515 }, { 1, 0, 9 } };
	static struct log log;

	(void)state;
	for (int f = 0; f < 3; f++) {
		read_file(&log, names[f], LOG_AUTO);
		assert_int_equal(log.parser.format, LOG_MEMTIERD);
		assert_int_equal(log.nr, 3);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(log.entry[i].kind, LOG_RANGE);
			assert_int_equal(log.entry[i].pid, 180);
			assert_int_equal(log.entry[i].start, 0x7fa984000000 + i * 0x200000ULL);
			assert_int_equal(log.entry[i].end, 0x7fa984200000 + i * 0x200000ULL);
			assert_int_equal(log.entry[i].heat, heat[f][i]);
		}
	}
}

static void one_counter_of_several_ranges_says_nothing_of_each(void **state)
{
	const char *line = "a=1 r=0 w=0 AddrRanges{pid=7 ranges=1000-2000 (4096 B),5000-6000 (4096 B)}";

	(void)state;
	assert_int_equal(one(line, LOG_AUTO).kind, LOG_BAD);
}

/* ---- plain, and what is nothing ---- */

static void plain_lines_are_a_log_too(void **state)
{
	struct log_entry e = one("  0x7F406ECD2abc 1  # used", LOG_AUTO);

	(void)state;
	assert_int_equal(e.kind, LOG_SAMPLE);
	assert_int_equal(e.start, 0x7f406ecd2abc);
	assert_int_equal(e.node, 1);
	assert_int_equal(one("7f406ecd2abc", LOG_AUTO).kind, LOG_BAD);
	assert_int_equal(one("7f406ecd2abc x", LOG_AUTO).kind, LOG_BAD);
	assert_int_equal(one("7f406ecd2abc 1 2", LOG_AUTO).kind, LOG_BAD);
	assert_int_equal(one("11112222333344445 1", LOG_AUTO).kind, LOG_BAD);
	assert_int_equal(one("7f406ecd2abc -1", LOG_PLAIN).kind, LOG_BAD);
}

static void the_first_line_that_is_understood_decides(void **state)
{
	struct log log = { .nr = 0 };

	(void)state;
	log_begin(&log.parser, LOG_AUTO);
	add(&log, "# captured on    : today");
	add(&log, "");
	add(&log, "nonsense");
	add(&log, "7f406ecd2000 1");
	add(&log, "touchp  8521 [001] 22923.013546: page-faults:     7f406ecd2000");
	end(&log);
	assert_int_equal(log.parser.format, LOG_PLAIN);
	assert_int_equal(log.nr, 3);
	assert_int_equal(log.entry[0].kind, LOG_BAD);
	assert_int_equal(log.entry[0].number, 3);
	assert_int_equal(log.entry[1].kind, LOG_SAMPLE);
	assert_int_equal(log.entry[2].kind, LOG_BAD);
	assert_string_equal(log.entry[2].why, "expected ADDRESS NODE");
}

static void formats_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < LOG_FORMATS; i++)
		assert_int_equal(log_format_parse(log_format_name((enum log_format)i)), i);
	assert_int_equal(log_format_parse("json"), LOG_FORMATS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_faults_of_two_threads_are_read),
		cmocka_unit_test(with_the_pid_it_is_known),
		cmocka_unit_test(above_a_call_chain_stands_the_datas_address),
		cmocka_unit_test(the_codes_address_is_not_taken_for_the_datas),
		cmocka_unit_test(samples_of_a_processor_are_read),
		cmocka_unit_test(any_choice_of_fields_is_read_or_refused),
		cmocka_unit_test(damons_events_are_read_from_perf_and_from_a_trace),
		cmocka_unit_test(damos_raw_form_says_the_same),
		cmocka_unit_test(a_broken_event_is_named),
		cmocka_unit_test(memtierds_three_dumps_are_read),
		cmocka_unit_test(one_counter_of_several_ranges_says_nothing_of_each),
		cmocka_unit_test(plain_lines_are_a_log_too),
		cmocka_unit_test(the_first_line_that_is_understood_decides),
		cmocka_unit_test(formats_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

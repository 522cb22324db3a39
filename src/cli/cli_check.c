/* SPDX-License-Identifier: MIT */
/*
 * godwit check: what of migration works on this machine, what does not, and the mend.
 */
#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* What is worth knowing of a machine beside the needs. */
struct machine {
	char thp[32];
	uint64_t memlock;	/* bytes; UINT64_MAX: no limit */
	int host_nodes;
};

/* "[always] madvise never": the word in brackets. */
static void read_thp(char *buf, size_t len)
{
	char text[128];
	const char *open, *close;

	snprintf(buf, len, "none");
	if (file_read("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) < 0)
		return;
	open = strchr(text, '[');
	close = open ? strchr(open, ']') : NULL;
	if (close)
		snprintf(buf, len, "%.*s", (int)(close - open - 1), open + 1);
}

/* "0-1,4" is three; a kernel without NUMA has one. */
static int count_host_nodes(void)
{
	char text[256], *at = text;
	int nr = 0;

	if (file_read("/sys/devices/system/node/online", text, sizeof(text)) < 0)
		return 1;
	while (*at >= '0' && *at <= '9') {
		long first = strtol(at, &at, 10);
		long last = *at == '-' ? strtol(at + 1, &at, 10) : first;

		nr += (int)(last - first + 1);
		at += *at == ',';
	}
	return nr > 0 ? nr : 1;
}

static struct machine look_around(void)
{
	struct machine m = { .memlock = UINT64_MAX, .host_nodes = count_host_nodes() };
	struct rlimit limit;

	read_thp(m.thp, sizeof(m.thp));
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		m.memlock = limit.rlim_cur;
	return m;
}

static const char *method_text(uint32_t method)
{
	static const char *const names[] = {
		"none",
		"CAP_SYS_PTRACE",
		"/dev/userfaultfd",
		"vm.unprivileged_userfaultfd",
	};

	return method < sizeof(names) / sizeof(names[0]) ? names[method] : "unknown";
}

static void print_row(const char *title, enum tone tone, const char *state, const char *rest)
{
	printf("%-16s %s%-*s%s%s\n", title, tone_begin(tone), *rest ? 9 : 0, state, tone_end(tone), rest);
}

static void print_missing(const struct need *need)
{
	print_row(need->title, TONE_BAD, "missing", need->bit & GW_NEED_MASK ? "" : "(optional)");
	printf("%-16s %s\n%-16s mend: %s\n", "", need->lack, "", need->mend);
}

static void print_human(const struct gw_check_result *res, const struct machine *m)
{
	char kernel[sizeof(res->kernel)], memlock[SIZE_TEXT], text[64];
	const struct need *need;

	print_row("kernel", TONE_PLAIN, clean_text(res->kernel, kernel, sizeof(kernel)), "");
	for (int i = 0; (need = need_get(i)); i++) {
		if (res->missing & need->bit)
			print_missing(need);
		else
			print_row(need->title, TONE_GOOD, "ok",
				  need->bit == GW_NEED_RIGHTS ? method_text(res->method) : "");
	}
	print_row("THP", TONE_PLAIN, m->thp, "");
	print_row("locked memory", TONE_PLAIN,
		  m->memlock == UINT64_MAX ? "no limit" : size_text(m->memlock, memlock), "(RLIMIT_MEMLOCK)");
	snprintf(text, sizeof(text), "%d", m->host_nodes);
	print_row("host NUMA nodes", TONE_PLAIN, text, "");
	if (need_missing(res))
		printf("%smigration does not work here%s\n", tone_begin(TONE_BAD), tone_end(TONE_BAD));
	else
		printf("%smigration works here%s\n", tone_begin(TONE_GOOD), tone_end(TONE_GOOD));
}

static void print_json(const struct gw_check_result *res, const struct machine *m)
{
	cJSON *object = json_object(), *list = NULL;
	const struct need *need;

	json_add_bool(object, "works", !need_missing(res));
	json_add_text(object, "kernel", res->kernel);
	json_add_text(object, "method", method_text(res->method));
	json_add_u64(object, "features", res->features);
	list = json_add_array(object, "needs");
	for (int i = 0; (need = need_get(i)); i++) {
		bool missing = res->missing & need->bit;
		cJSON *item = json_append_object(list);

		json_add_text(item, "need", need->key);
		json_add_bool(item, "ok", !missing);
		json_add_bool(item, "optional", !(need->bit & GW_NEED_MASK));
		if (missing) {
			json_add_text(item, "lack", need->lack);
			json_add_text(item, "mend", need->mend);
		}
	}
	json_add_text(object, "thp", m->thp);
	if (m->memlock == UINT64_MAX)
		json_add_null(object, "memlock_bytes");
	else
		json_add_u64(object, "memlock_bytes", m->memlock);
	json_add_u64(object, "host_nodes", (uint64_t)m->host_nodes);
	json_print(object, stdout);
}

static int run(const struct cli_args *args)
{
	struct gw_check_result res = { .size = sizeof(res) };
	struct machine m = look_around();
	int err = gw_check(&res);
	char name[ERRNO_TEXT];

	if (err)
		return say_error("cannot probe this machine: %s", errno_name(err, name));
	res.kernel[sizeof(res.kernel) - 1] = '\0';
	if (args_has(args, OPT_JSON))
		print_json(&res, &m);
	else
		print_human(&res, &m);
	return need_missing(&res) ? CLI_FAILED : CLI_DONE;
}

const struct cli_command cli_check = {
	.name = "check",
	.usage = "[--json]",
	.summary = "what works on this machine, what does not, and the mend",
	.text = "Probe what live migration needs: the kernel's abilities and the caller's\n"
		"rights. Exits with 0 if migration works here and with 1 if it does not.",
	.run = run,
};

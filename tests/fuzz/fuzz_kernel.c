/* SPDX-License-Identifier: MIT */
/* What the kernel room reads of /proc/PID: maps, numa_maps, status, fdinfo; any text, and lines as the kernel writes them. */
#include "fuzz.h"

#include "kernel/kernel.h"

#include <sys/mman.h>

static void any_text(const uint8_t *data, size_t size)
{
	char *text = input_text(data, size);
	struct kernel_numa_line numa;
	struct kernel_status status;
	struct kernel_range range;
	struct kernel_vma vma;
	uint64_t nodes;
	bool beyond;

	if (kernel_vma_parse(text, &vma)) {
		must(vma.start < vma.end && !(vma.start % KERNEL_PAGE) && !(vma.end % KERNEL_PAGE));
		must(strlen(vma.name) < sizeof(vma.name));
	}
	if (kernel_numa_line_parse(text, &numa)) {
		must(numa.unit >= 1 && strlen(numa.policy) > 0);
		must(strlen(numa.policy) < sizeof(numa.policy));
	}
	if (kernel_status_parse(text, &status))
		must(status.state && status.ns_pid >= 0);
	if (kernel_pin_parse(text, &range))
		must(range.start < range.end && !(range.start % KERNEL_PAGE) && !(range.end % KERNEL_PAGE));
	kernel_nodes_read(text, &nodes, &beyond);
	free(text);
}

/* The name as it is in numa_maps, where blanks and '=' are in octal. */
static void kernels_name(struct input *in, char *name, size_t len)
{
	input_bytes(in, name, len - 1);
	name[0] = '/';
	name[len - 1] = '\0';
	for (char *s = name; *s; s++)
		*s = *s == '\n' || *s == ' ' || *s == '=' || *s == '\t' ? '\\' : *s;
}

static void kernels_numa_line(struct input *in)
{
	static const char *const policies[] = { "default", "bind:0-1", "prefer (many):0,2", "weighted interleave:1",
						"interleave=static:0-3", "local" };
	const char *policy = policies[input_byte(in) % ARRAY_SIZE(policies)];
	uint64_t start = input_u64(in) >> 17 << 12, a = input_u64(in) >> 32, b = input_u64(in) >> 32;
	uint32_t node = input_byte(in) % 80;
	bool huge = input_byte(in) & 1;
	struct kernel_numa_line out;
	char line[512], name[128];

	kernels_name(in, name, sizeof(name));
	snprintf(line, sizeof(line), "%08lx %s file=%s%s anon=%lu dirty=1 N0=%lu N%u=%lu kernelpagesize_kB=%d",
		 (unsigned long)start, policy, name, huge ? " huge" : "", (unsigned long)a, (unsigned long)a, node + 1,
		 (unsigned long)b, huge ? 2048 : 4);
	must(kernel_numa_line_parse(line, &out));
	must(out.start == start && !strcmp(out.policy, policy) && out.huge == huge);
	must(out.unit == (huge ? 512U : 1U) && out.pages[0] == a * out.unit);
	must(node + 1 >= KERNEL_NODES || out.pages[node + 1] == b * out.unit);
}

static void kernels_vma_line(struct input *in)
{
	uint64_t start = input_u64(in) >> 17 << 12, end = start + ((input_u64(in) >> 40) + 1) * KERNEL_PAGE;
	uint8_t bits = input_byte(in);
	struct kernel_vma out;
	char line[512], name[300];

	kernels_name(in, name, sizeof(name));
	snprintf(line, sizeof(line), "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %u      %s", (unsigned long)start,
		 (unsigned long)end, bits & 1 ? 'r' : '-', bits & 2 ? 'w' : '-', bits & 4 ? 'x' : '-',
		 bits & 8 ? 's' : 'p', (unsigned long)bits << 12, bits, bits, bits, name);
	must(kernel_vma_parse(line, &out));
	must(out.start == start && out.end == end && out.offset == (uint64_t)bits << 12 && out.shared == !!(bits & 8));
	must(out.prot == ((bits & 1 ? PROT_READ : 0U) | (bits & 2 ? PROT_WRITE : 0U) | (bits & 4 ? PROT_EXEC : 0U)));
	must(!strncmp(out.name, name, sizeof(out.name) - 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t how = input_byte(&in);

	if (how & 1)
		kernels_numa_line(&in);
	else if (how & 2)
		kernels_vma_line(&in);
	else
		any_text(in.at, in.left);
	return 0;
}

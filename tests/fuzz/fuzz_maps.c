/* SPDX-License-Identifier: MIT */
/* /proc/PID/maps: any text through the reader and the parser; and lines as the kernel writes them are read as they are. */
#include "fuzz.h"

#include "mm/mm.h"

#include <sys/mman.h>
#include <unistd.h>

static struct region region;
static struct mm mm = { .region = &region };

static void any_text(const uint8_t *data, size_t size, uint32_t cap)
{
	char *buf = malloc(cap), *line;
	struct reader r = { .fd = memfd_create("maps", MFD_CLOEXEC), .buf = buf, .cap = cap };
	size_t nr = 0, lines = 1;

	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	must(buf && r.fd >= 0 && write(r.fd, data, size) == (ssize_t)size && !lseek(r.fd, 0, SEEK_SET));
	while ((line = reader_line(&r))) {
		struct area a;

		must(line >= buf && strlen(line) < cap && ++nr <= lines);
		if (!area_parse(&mm, line, &a))
			continue;
		must(a.start < a.end && a.kind <= AREA_OWN);
		must(a.name >= line && a.name <= line + strlen(line));
	}
	reader_close(&r);
	free(buf);
}

static enum area_kind expected(bool shared, bool writable, bool file)
{
	if (file)
		return AREA_FILE;
	return shared ? AREA_SHARED : writable ? AREA_MANAGED : AREA_READONLY;
}

static void kernels_line(struct input *in)
{
	uint64_t start = input_u64(in) >> 17 << 12, end = start + ((input_u64(in) >> 40) + 1) * 4096;
	uint64_t offset = input_u64(in) >> 1, inode;
	uint8_t bits = input_byte(in);
	bool shared = bits & 8, file = bits & 16;
	char line[512], name[200] = "";
	struct area a;

	inode = file ? (uint32_t)input_u64(in) + 1ULL : 0;
	if (file) {
		name[0] = '/';
		name[1] = 'x';
		input_bytes(in, name + 2, sizeof(name) - 3);
		for (char *s = name; *s; s++)
			*s = *s == '\n' ? '?' : *s;
	}
	snprintf(line, sizeof(line), "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu%s%s", (unsigned long)start,
		 (unsigned long)end, bits & 1 ? 'r' : '-', bits & 2 ? 'w' : '-', bits & 4 ? 'x' : '-',
		 shared ? 's' : 'p', (unsigned long)offset, bits, bits, (unsigned long)inode,
		 file ? "                  " : " ", name);
	must(area_parse(&mm, line, &a));
	must(a.start == start && a.end == end && a.offset == offset);
	must(a.prot == ((bits & 1 ? PROT_READ : 0U) | (bits & 2 ? PROT_WRITE : 0U) | (bits & 4 ? PROT_EXEC : 0U)));
	must(!strcmp(a.name, name));
	must(a.kind == expected(shared, bits & 2, file));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t how = input_byte(&in);

	if (how & 1)
		kernels_line(&in);
	else
		any_text(in.at, in.left, how & 2 ? 16U + how : LINE_BUFFER);
	return 0;
}

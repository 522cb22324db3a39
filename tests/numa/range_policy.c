/* SPDX-License-Identifier: MIT */
/* mbind(): its range and its node set, kinds of mappings, and how long a range's policy lives. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "case.h"

#define NAME "mbind"

static const struct {
	const char *name;
	int mode;
	const char *list;
} kinds[] = {
	{ "default", DEFAULT, NULL },
	{ "bind {1}", BIND, "1" },
	{ "interleave {0,1}", INTERLEAVE, "0,1" },
	{ "local", LOCAL, NULL },
	{ "preferred {1}", PREFERRED, "1" },
	{ "preferred-many {1}", PREFERRED_MANY, "1" },
	{ "bind {}", BIND, "" },
};

struct range {
	const char *name;
	ssize_t from; /* bytes from the first of 8 pages */
	size_t len;
};

/* 8 pages mapped with bind {0}, and what they have afterwards. */
static void ask_range(const struct range *r, size_t k)
{
	char asked[100];
	char *at;
	long ret;

	fresh();
	at = area(8);
	range_policy(at, 8, PREFERRED, "0", 0);
	ret = mbind(at + r->from, r->len, kinds[k].mode, kinds[k].list ? nodes(kinds[k].list) : NULL, MAXNODE, 0);
	snprintf(asked, sizeof(asked), "%s: %s", kinds[k].name, r->name);
	report(NAME, asked, "%s, then %s", outcome(ret), policies(at, 8));
}

static void ranges(void)
{
	static const struct range list[] = {
		{ "2 pages of 8", 2 * PAGE, 2 * PAGE },
		{ "1 byte", 2 * PAGE, 1 },
		{ "a page and a byte", 2 * PAGE, PAGE + 1 },
		{ "address not aligned", 2 * PAGE + 8, PAGE },
		{ "address not aligned, length 0", 2 * PAGE + 8, 0 },
		{ "length 0", 2 * PAGE, 0 },
		{ "length 2^64-1", 2 * PAGE, ~0UL },
		{ "length 2^64-4096", 2 * PAGE, ~0UL - 4095 },
		{ "length 2^63", 2 * PAGE, 1UL << 63 },
		{ "a page beyond the end", 6 * PAGE, 3 * PAGE },
		{ "a page before the beginning", -(ssize_t)PAGE, 3 * PAGE },
		{ "nothing mapped", 8 * PAGE, 2 * PAGE },
	};

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (size_t i = 0; i < LIST_LEN(list); i++)
			ask_range(&list[i], k);
}

static void holes(void)
{
	static const char *const names[] = { "a page in the middle is not mapped", "the last page is not mapped",
					     "the first page is not mapped" };
	static const size_t gone[] = { 3, 5, 2 };
	static const unsigned int how[] = { 0, STRICT, MOVE, MOVE | STRICT };
	static const char *const hows[] = { "", ", strict", ", move", ", move strict" };
	char asked[120];
	char *at;
	long ret;

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (size_t i = 0; i < 3; i++)
			for (size_t h = 0; h < 4; h++) {
				fresh();
				at = area(8);
				range_policy(at, 8, PREFERRED, "0", 0);
				touch(at, 8);
				munmap(at + gone[i] * PAGE, PAGE);
				ret = range_policy(at + 2 * PAGE, 4, kinds[k].mode, kinds[k].list, how[h]);
				snprintf(asked, sizeof(asked), "%s%s: %s", kinds[k].name, hows[h], names[i]);
				report(NAME, asked, "%s, then %s, pages %s", outcome(ret), policies(at, 8),
				       pages(at, 8));
			}
}

static void lengths(void)
{
	static const unsigned long maxnode[] = { 0, 1, 2, 3, 64, 65, 66, 1025, 1026, 32769, 32770, ~0UL };
	char asked[120];
	char *at;

	for (size_t k = 0; k < LIST_LEN(kinds); k++)
		for (size_t i = 0; i < LIST_LEN(maxnode); i++) {
			long ret;

			fresh();
			at = area(1);
			ret = mbind(at, PAGE, kinds[k].mode, kinds[k].list ? nodes(kinds[k].list) : NULL, maxnode[i],
				    0);
			snprintf(asked, sizeof(asked), "%s, maxnode %ld", kinds[k].name, (long)maxnode[i]);
			report(NAME, asked, "%s, then %s", outcome(ret), policy(at));
		}
}

static void pointers(void)
{
	static const struct {
		const char *name;
		int mode;
		unsigned long maxnode;
	} list[] = {
		{ "default, mask at 8", DEFAULT, 65 },
		{ "bind, mask at 8", BIND, 65 },
		{ "local, mask at 8", LOCAL, 65 },
		{ "bind, mask at 8, maxnode 1", BIND, 1 },
		{ "mode 8, mask at 8", 8, 65 },
		{ "bind|static|relative, mask at 8", BIND | STATIC | RELATIVE, 65 },
		{ "bind, mask at 8, maxnode 2^64-1", BIND, ~0UL },
	};

	for (size_t i = 0; i < LIST_LEN(list); i++) {
		fresh();
		report(NAME, list[i].name, "%s",
		       outcome(mbind(area(1), PAGE, list[i].mode, BAD_POINTER, list[i].maxnode, 0)));
	}
	fresh();
	report(NAME, "bind {1}: a range in the kernel", "%s", outcome(range_policy(KERNEL_POINTER, 1, BIND, "1", 0)));
	report(NAME, "bind {1}: the range at 0", "%s", outcome(range_policy(NULL, 1, BIND, "1", 0)));
	report(NAME, "default: the range at 0", "%s", outcome(range_policy(NULL, 1, DEFAULT, NULL, 0)));
}

static void move_flags(void)
{
	char asked[100];
	char *at;
	long ret;

	for (size_t k = 0; k < 3; k++)
		for (unsigned int flags = 0; flags < 64; flags = flags < 16 ? flags + 1 : flags * 2) {
			fresh();
			at = area(4);
			lay_out(at, "0101");
			ret = range_policy(at, 4, kinds[k].mode, kinds[k].list, flags);
			snprintf(asked, sizeof(asked), "%s, flags%s%s%s%s%s: pages 0101", kinds[k].name,
				 flags & STRICT ? " strict" : "", flags & MOVE ? " move" : "",
				 flags & MOVE_ALL ? " move-all" : "", flags & LAZY ? " lazy" : "",
				 flags > 15 ? format(" %#x", flags)
				 : flags    ? ""
					    : " 0");
			report(NAME, asked, "%s, then %s, pages %s%s", outcome(ret), policies(at, 4), pages(at, 4),
			       kept(at, 4));
		}
}

/* ---- mappings of other kinds ---- */

static int memory_file(const char *name, size_t nr_pages)
{
	int fd = memfd_create(name, 0);

	return fd >= 0 && ftruncate(fd, (off_t)(nr_pages * PAGE)) == 0 ? fd : -1;
}

static char *mapped(int fd, size_t nr_pages, int prot, int flags)
{
	char *at = hole();

	return mmap(at, nr_pages * PAGE, prot, flags | MAP_FIXED, fd, 0);
}

static void mappings(void)
{
	char *at, *other;
	long ret;
	int fd;

	fresh();
	at = area(4);
	mprotect(at, 4 * PAGE, PROT_READ);
	ret = range_policy(at, 4, BIND, "1", 0);
	report(NAME, "bind {1}: read-only memory", "%s, then %s", outcome(ret), policy(at));
	fresh();
	at = area(4);
	mprotect(at, 4 * PAGE, PROT_NONE);
	ret = range_policy(at, 4, BIND, "1", 0);
	report(NAME, "bind {1}: memory without access", "%s, then %s", outcome(ret), policy(at));

	fresh();
	at = mapped(-1, 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	ret = range_policy(at, 4, BIND, "1", 0);
	touch(at, 4);
	report(NAME, "bind {1}: shared anonymous memory", "%s, then %s, pages %s", outcome(ret), policy(at),
	       pages(at, 4));
	fresh();
	fd = memory_file("both", 4);
	at = mapped(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
	other = mapped(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
	ret = range_policy(at, 4, BIND, "1", 0);
	touch(other, 4);
	report(NAME, "bind {1}: shared memory, touched through another mapping", "%s, then %s and %s, pages %s",
	       outcome(ret), policy(at), policy(other), pages(at, 4));
	close(fd);
	fresh();
	fd = memory_file("private", 4);
	at = mapped(fd, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	ret = range_policy(at, 4, BIND, "1", 0);
	touch(at, 4);
	report(NAME, "bind {1}: a private mapping of a file, written to", "%s, then %s, pages %s", outcome(ret),
	       policy(at), pages(at, 4));
	close(fd);
	fresh();
	fd = open("/proc/self/exe", O_RDONLY);
	at = mapped(fd, 2, PROT_READ, MAP_PRIVATE);
	ret = range_policy(at, 2, BIND, "1", 0);
	report(NAME, "bind {1}: a read-only mapping of this program", "%s, then %s", outcome(ret), policy(at));
	close(fd);
	fresh();
	at = area(4);
	other = area(4);
	munmap(other, 4 * PAGE);
	at = mmap(at, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_LOCKED, -1, 0);
	ret = range_policy(at, 4, BIND, "1", MOVE);
	report(NAME, "bind {1}, move: locked memory", "%s, then %s, pages %s", outcome(ret), policy(at), pages(at, 4));
}

/* ---- one range over several mappings, and mappings that a range cuts ---- */

static void cuts(void)
{
	char *at;
	long ret;

	fresh();
	at = area(8);
	mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ);
	ret = range_policy(at + PAGE, 5, BIND, "1", 0);
	report(NAME, "bind {1}: 5 pages over three mappings", "%s, then %s", outcome(ret), policies(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 4, PREFERRED, "0", 0);
	range_policy(at + 4 * PAGE, 4, BIND, "0", 0);
	ret = range_policy(at + 2 * PAGE, 4, INTERLEAVE, "0,1", 0);
	touch(at, 8);
	report(NAME, "interleave {0,1}: over two halves with other policies", "%s, then %s, pages %s", outcome(ret),
	       policies(at, 8), pages(at, 8));
	fresh();
	at = area(8);
	ret = range_policy(at + 3 * PAGE, 1, BIND, "1", 0);
	touch(at, 8);
	report(NAME, "bind {1}: one page in the middle of 8", "%s, then %s, pages %s", outcome(ret), policies(at, 8),
	       pages(at, 8));
	ret = range_policy(at + 3 * PAGE, 1, DEFAULT, NULL, 0);
	report(NAME, "default: that page in the middle", "%s, then %s, pages %s", outcome(ret), policies(at, 8),
	       pages(at, 8));
	fresh();
	at = area(8);
	range_policy(at, 8, BIND, "1", 0);
	ret = range_policy(at + 2 * PAGE, 2, DEFAULT, NULL, 0);
	touch(at, 8);
	report(NAME, "default: 2 pages of 8 with bind {1}", "%s, then %s, pages %s", outcome(ret), policies(at, 8),
	       pages(at, 8));
	fresh();
	at = area(8);
	for (size_t i = 0; i < 8; i++)
		range_policy(at + i * PAGE, 1, i % 2 ? BIND : PREFERRED, i % 4 < 2 ? "0" : "1", 0);
	touch(at, 8);
	report(NAME, "bind and preferred, {0} and {1}: page by page", "%s, pages %s", policies(at, 8), pages(at, 8));
	fresh();
	at = area(8);
	task_policy(BIND, "1");
	range_policy(at, 2, LOCAL, NULL, 0);
	range_policy(at + 2 * PAGE, 2, PREFERRED, NULL, 0);
	range_policy(at + 4 * PAGE, 2, DEFAULT, NULL, 0);
	touch(at, 8);
	report(NAME, "local, preferred {}, default and none, the task has bind {1}", "%s, pages %s", policies(at, 8),
	       pages(at, 8));
}

/* ---- how long a policy lives ---- */

static void child_changes(void *at)
{
	range_policy(at, 4, PREFERRED, "0", 0);
}

static void child_touches(void *at)
{
	touch(at, 4);
	report(NAME, "bind {1}: a forked child's range", "%s, pages %s", policy(at), pages(at, 4));
}

static char *bound(size_t nr_pages)
{
	char *at;

	fresh();
	at = area(nr_pages);
	range_policy(at, nr_pages, BIND, "1", 0);
	return at;
}

static void lives(void)
{
	char *at, *other;

	at = bound(4);
	munmap(at + PAGE, 2 * PAGE);
	mmap(at + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	touch(at, 4);
	report(NAME, "bind {1}: after munmap() and mmap() of the pages between", "%s, pages %s", policies(at, 4),
	       pages(at, 4));
	at = bound(4);
	mmap(at + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	touch(at, 4);
	report(NAME, "bind {1}: after a mmap() over the pages between", "%s, pages %s", policies(at, 4), pages(at, 4));
	at = bound(4);
	mprotect(at + PAGE, PAGE, PROT_READ);
	mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE);
	touch(at, 4);
	report(NAME, "bind {1}: after mprotect() of a page", "%s, pages %s", policies(at, 4), pages(at, 4));
	at = bound(4);
	touch(at, 4);
	madvise(at, 2 * PAGE, MADV_DONTNEED);
	touch(at, 4);
	report(NAME, "bind {1}: after MADV_DONTNEED and a touch", "%s, pages %s", policies(at, 4), pages(at, 4));
	at = bound(4);
	touch(at, 2);
	other = hole();
	at = mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other);
	touch(at + 2 * PAGE, 2);
	report(NAME, "bind {1}: after mremap() to another address", "%s, pages %s", policies(at, 4), pages(at, 4));
	at = bound(4);
	touch(at, 2);
	at = mremap(at, 4 * PAGE, 8 * PAGE, 0);
	touch(at, 8);
	report(NAME, "bind {1}: grown by mremap() in place", "%s, pages %s", policies(at, 8), pages(at, 8));
	at = bound(8);
	at = mremap(at, 8 * PAGE, 2 * PAGE, 0);
	report(NAME, "bind {1}: shrunk by mremap()", "%s", policies(at, 3));
	at = bound(4);
	other = area(4);
	mremap(at + PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + PAGE);
	touch(other, 4);
	report(NAME, "bind {1}: 2 pages moved by mremap() into memory without a policy", "%s, pages %s",
	       policies(other, 4), pages(other, 4));
	at = bound(4);
	in_child(child_touches, at);
	in_child(child_changes, at);
	touch(at, 4);
	report(NAME, "bind {1}: after a forked child has changed its own", "%s, pages %s", policy(at), pages(at, 4));
	at = bound(4);
	in_thread(child_changes, at);
	touch(at, 4);
	report(NAME, "bind {1}: after a thread has set preferred {0}", "%s, pages %s", policy(at), pages(at, 4));
	at = bound(4);
	other = at + 4 * PAGE;
	mmap(other, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	touch(at, 8);
	report(NAME, "bind {1}: a new mapping right behind it", "%s, pages %s", policies(at, 8), pages(at, 8));
}

void cases_range_policy(void)
{
	ranges();
	holes();
	lengths();
	pointers();
	move_flags();
	mappings();
	cuts();
	lives();
}

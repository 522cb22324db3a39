/* SPDX-License-Identifier: MIT */
/* Pages in a file: src/far/file.c, slots.c, uring.c, backing.c. */
#define _GNU_SOURCE
#include "unit.h"

#include "far.h"
#include "far/slots.h"
#include "far/uring.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FS_OWN 65536UL		/* of a file's blocks at most are the filesystem's own */

static char home_dir[64];	/* of this test; gone at its end */

static int try_open(struct far_world *w, const char *path, uint64_t bytes)
{
	struct far_spec spec = { .kind = FAR_FILE, .bytes = bytes };

	snprintf(spec.path, sizeof(spec.path), "%s", path);
	return far_open(&w->f, &w->region, &spec);
}

static void open_store(struct far_world *w, uint32_t nr, const char *path, uint64_t bytes)
{
	world_init(w, nr);
	assert_int_equal(try_open(w, path, bytes), 0);
	assert_int_equal(far_kind(w->f), FAR_FILE);
	assert_true(far_slow(w->f));
}

/* What the store's file has on the disk, by its descriptor: the one without a name. */
static int store_fd(void)
{
	struct stat st;

	for (int fd = 3; fd < 1024; fd++)
		if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_nlink == 0)
			return fd;
	return -1;
}

static uint64_t disk_bytes(void)
{
	struct stat st;

	assert_int_equal(fstat(store_fd(), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static uint32_t nr_open(void)
{
	uint32_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void what_is_put_comes_back_whatever_it_is(void **state)
{
	struct far_world w;
	struct far_stats st;
	uint32_t fds = nr_open();

	(void)state;
	open_store(&w, 4000, home_dir, 0);
	for (uint32_t i = 0; i < STEPS / 2; i++)
		assert_true(random_step(&w, 0));
	assert_int_equal(wrong_pages(&w), 0);
	st = stats_of(&w);
	assert_int_equal(st.pages, nr_kept(&w));
	assert_int_equal(st.puts - st.drops, st.pages);
	assert_int_equal(st.refused + st.bad_sums + st.io_errors, 0);
	print_message("# %s\n", st.buffered ? "buffered" : "O_DIRECT");
	drop_all(&w);
	assert_int_equal(stats_of(&w).pages, 0);
	world_end(&w);
	assert_int_equal(nr_open(), fds);
}

static void memory_that_is_not_aligned_is_as_good(void **state)
{
	struct far_world w;
	char *src = aligned_alloc(FAR_PAGE, 4 * FAR_PAGE), *dst = src + 2 * FAR_PAGE;
	uint32_t home;
	int err;

	(void)state;
	open_store(&w, 64, home_dir, 0);
	page_fill(w.src, RAW, 1);
	memcpy(src + 64, w.src, FAR_PAGE);
	assert_int_equal(far_put(w.f, src + 64, 1, &home, &err), 1);
	assert_int_equal(far_get(w.f, home, dst + 64), 0);
	assert_memory_equal(dst + 64, w.src, FAR_PAGE);
	world_end(&w);
	free(src);
}

static void pages_of_one_batch_are_neighbours(void **state)
{
	struct far_world w;

	(void)state;
	open_store(&w, 4096, home_dir, 0);
	for (uint32_t i = 0; i < w.nr; i += 64) {
		put_kept(&w, &w.kept[i], 64, RAW, i);
		for (uint32_t j = 1; j < 64; j++)
			assert_int_equal(w.kept[i + j].home, w.kept[i].home + j);
	}
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

static void a_batch_goes_where_there_is_a_run(void **state)
{
	struct far_world w;

	(void)state;
	open_store(&w, 4096, home_dir, 4096 * FAR_PAGE);
	for (uint32_t i = 0; i < w.nr; i += 64)
		put_kept(&w, &w.kept[i], 64, RAW, i);
	for (uint32_t i = 0; i < 2048; i += 7)
		drop_kept(&w, &w.kept[i]);
	for (uint32_t i = 3000; i < 3064; i++)
		drop_kept(&w, &w.kept[i]);
	put_kept(&w, &w.kept[3000], 64, RAW, 1);
	for (uint32_t j = 1; j < 64; j++)
		assert_int_equal(w.kept[3000 + j].home, w.kept[3000].home + j);
	/* and where there is none it is spread, as one */
	assert_int_equal(put_kept(&w, &w.kept[0], 1, RAW, 1) + put_kept(&w, &w.kept[7], 1, RAW, 1), 2);
	for (uint32_t i = 0; i < 64; i++)
		drop_kept(&w, &w.kept[2048 + 2 * i]);
	assert_int_equal(put_kept(&w, &w.kept[2048], 64, RAW, 9), 64);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

static void the_file_grows_and_shrinks(void **state)
{
	struct far_world w;
	uint64_t full;

	(void)state;
	open_store(&w, 16384, home_dir, 0);
	assert_int_equal(disk_bytes(), 0);
	for (uint32_t i = 0; i < w.nr; i += 64)
		put_kept(&w, &w.kept[i], 64, SPARSE, i);
	full = disk_bytes();
	assert_in_range(full, 64UL << 20, 96UL << 20);
	assert_in_range(stats_of(&w).used_bytes, full - FS_OWN, full);
	for (uint32_t i = 1024; i < w.nr; i++)
		drop_kept(&w, &w.kept[i]);
	assert_in_range(disk_bytes(), 4UL << 20, 24UL << 20);
	assert_in_range(stats_of(&w).used_bytes, disk_bytes() - FS_OWN, disk_bytes());
	assert_int_equal(wrong_pages(&w), 0);
	/* and what is free is used again before the file grows */
	for (uint32_t round = 0; round < 40; round++)
		for (uint32_t i = 1024; i < 3072; i += 64)
			put_kept(&w, &w.kept[i], 64, SPARSE, i);
	assert_in_range(disk_bytes(), 4UL << 20, 48UL << 20);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

/* Somebody was killed between the count and the bit. */
static void slots_that_nobody_has_are_found_again(void **state)
{
	struct far_world w;
	struct slots s, other;
	uint32_t first;
	int fd[2];

	(void)state;
	world_init(&w, 1);
	for (int i = 0; i < 2; i++) {
		fd[i] = open(home_dir, O_TMPFILE | O_RDWR, 0600);
		assert_true(fd[i] >= 0);
	}
	snprintf(w.src, 64, "/proc/self/fd/%d", fd[0]);
	close(fd[1]);
	fd[1] = open(w.src, O_RDWR);
	assert_int_equal(slots_init(&s, region_part(&w.region, slots_space(1000)), 1000), 0);
	s.me = (uint32_t)member_take(&s, fd[0]);
	assert_true(slots_widen(&s));
	assert_int_equal(slots_take(&s, 20, false, &first), 20);
	s.users[500] = 1;
	s.shared->nr_used++;
	/* not while there is another, who may be just about to set the bit */
	other = s;
	other.me = (uint32_t)member_take(&other, fd[1]);
	assert_int_not_equal(other.me, s.me);
	assert_false(slots_recount(&s, fd[0]));
	assert_int_equal(s.users[500], 1);
	close(fd[1]);
	assert_true(slots_recount(&s, fd[0]));
	assert_int_equal(s.users[500], 0);
	assert_int_equal(s.shared->nr_used, 20);
	assert_int_equal(s.users[first], 1);
	assert_false(slots_recount(&s, fd[0]));
	close(fd[0]);
	world_end(&w);
}

static void a_limit_is_kept(void **state)
{
	struct far_world w;

	(void)state;
	open_store(&w, 1000, home_dir, 512 * FAR_PAGE);
	for (uint32_t i = 0; i < STEPS; i++)
		assert_true(random_step(&w, 0));
	assert_true(w.full > 0);
	assert_int_equal(wrong_pages(&w), 0);
	drop_all(&w);
	for (uint32_t i = 0; i < 512; i += 64)
		assert_int_equal(put_kept(&w, &w.kept[i], 64, RAW, i), 64);
	assert_int_equal(put_kept(&w, &w.kept[512], 64, RAW, 1), 0);
	assert_in_range(disk_bytes(), 512 * FAR_PAGE, 512 * FAR_PAGE + FS_OWN);
	world_end(&w);
}

/* ---- the place ---- */

static void make_file(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void a_file_goes_by_its_name_and_content_stays(void **state)
{
	struct far_world w;
	struct stat st;
	char path[128], link[160];

	(void)state;
	world_init(&w, 64);
	snprintf(path, sizeof(path), "%s/store", home_dir);
	assert_int_equal(try_open(&w, path, 0), 0);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(put_kept(&w, w.kept, 64, RAW, 1), 64);
	assert_int_equal(wrong_pages(&w), 0);
	far_close(w.f);
	make_file(path, "");
	assert_int_equal(try_open(&w, path, 0), 0);
	assert_int_equal(stat(path, &st), -1);
	far_close(w.f);
	make_file(path, "somebody's");
	assert_int_equal(try_open(&w, path, 0), -EEXIST);
	assert_null(w.f);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 10);
	snprintf(link, sizeof(link), "%s.link", path);
	assert_int_equal(symlink("/nowhere/at/all", link), 0);
	assert_int_equal(try_open(&w, link, 0), -ELOOP);
	unlink(link);
	unlink(path);
	assert_int_equal(try_open(&w, "/nowhere/at/all", 0), -ENOENT);
	assert_int_equal(try_open(&w, "/dev/null", 0), -EINVAL);
	assert_int_equal(try_open(&w, "/proc", 0), -EISDIR);
	world_end(&w);
}

/* A device of our own, or -1: /dev/zramN. */
static int device_make(char *path, size_t len)
{
	FILE *f = fopen("/sys/class/zram-control/hot_add", "r");
	char size[64];
	int nr = -1;

	if (!f || fscanf(f, "%d", &nr) != 1)
		nr = -1;
	if (f)
		fclose(f);
	if (nr < 0)
		return -1;
	snprintf(path, len, "/dev/zram%d", nr);
	snprintf(size, sizeof(size), "/sys/block/zram%d/disksize", nr);
	f = fopen(size, "w");
	if (f)
		fprintf(f, "16M");
	if (!f || fclose(f) || access(path, R_OK | W_OK))
		return -1;
	return nr;
}

static void a_device_is_taken_for_us_alone(void **state)
{
	struct far_world w, other;
	char path[64];
	int nr = device_make(path, sizeof(path));
	FILE *f;

	(void)state;
	if (nr < 0) {
		print_message("# no block device can be made here (zram-control)\n");
		skip();
	}
	open_store(&w, 5000, path, 0);
	world_init(&other, 1);
	assert_int_equal(try_open(&other, path, 0), -EBUSY);
	world_end(&other);
	for (uint32_t i = 0; i < 4096; i += 64)
		assert_int_equal(put_kept(&w, &w.kept[i], 64, RAW, i), 64);
	assert_int_equal(put_kept(&w, &w.kept[4096], 1, RAW, 1), 0);
	assert_int_equal(w.full, 1);
	assert_int_equal(wrong_pages(&w), 0);
	assert_int_equal(stats_of(&w).used_bytes, 16UL << 20);
	for (uint32_t i = 0; i < 5000; i++)
		assert_true(random_step(&w, 0));
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
	f = fopen("/sys/class/zram-control/hot_remove", "w");
	assert_non_null(f);
	fprintf(f, "%d", nr);
	assert_int_equal(fclose(f), 0);
}

static void a_full_disk_refuses_and_loses_nothing(void **state)
{
	struct far_world w;
	char dir[96], hog[128];
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/small", home_dir);
	mkdir(dir, 0700);
	if (mount("none", dir, "tmpfs", 0, "size=8M")) {
		print_message("# no tmpfs can be mounted here\n");
		skip();
	}
	open_store(&w, 4000, dir, 64UL << 20);
	snprintf(hog, sizeof(hog), "%s/hog", dir);
	fd = open(hog, O_CREAT | O_RDWR, 0600);
	assert_int_equal(posix_fallocate(fd, 0, 3UL << 20), 0);
	for (uint32_t i = 0; i < 3000; i++)
		assert_true(random_step(&w, 0));
	for (uint32_t i = 0; i + 16 <= w.nr; i += 16)
		put_kept(&w, &w.kept[i], 16, RAW, i);
	assert_true(w.full > 0);
	assert_in_range(nr_kept(&w), 1024, 1280);
	assert_int_equal(wrong_pages(&w), 0);
	/* when there is room again it is found, within a second */
	assert_int_equal(ftruncate(fd, 0), 0);
	sleep_ns(1100000000);
	w.full = 0;
	for (uint32_t i = 0; i + 16 <= w.nr; i += 16)
		if (!w.kept[i].home)
			put_kept(&w, &w.kept[i], 16, RAW, i);
	assert_in_range(nr_kept(&w), 1792, 2048);
	assert_int_equal(wrong_pages(&w), 0);
	close(fd);
	world_end(&w);
	assert_int_equal(umount(dir), 0);
}

/* ---- faults ---- */

static void a_changed_byte_is_found(void **state)
{
	struct far_world w;
	int fd, err[16];
	uint32_t home[16];
	char byte;

	(void)state;
	open_store(&w, 16, home_dir, 0);
	put_kept(&w, w.kept, 16, RAW, 1);
	for (uint32_t i = 0; i < 16; i++)
		home[i] = w.kept[i].home;
	fd = open("/dev/null", O_RDWR);
	snprintf(w.src, 64, "/proc/self/fd/%d", store_fd());
	close(fd);
	fd = open(w.src, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, (home[5] - 1) * 4096L + 999), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (home[5] - 1) * 4096L + 999), 1);
	fsync(fd);
	far_get_many(w.f, home, 16, w.dst, err);
	for (int i = 0; i < 16; i++)
		assert_int_equal(err[i], i == 5 ? -EBADMSG : 0);
	assert_int_equal(stats_of(&w).bad_sums, 1);
	/* and the end of the file, gone */
	assert_int_equal(ftruncate(fd, (home[12] - 1) * 4096L + 100), 0);
	far_get_many(w.f, home, 16, w.dst, err);
	for (int i = 0; i < 16; i++)
		assert_int_equal(err[i], i == 5 ? -EBADMSG : i >= 12 ? -EIO : 0);
	close(fd);
	world_end(&w);
}

static void faults_hit_the_pages_meant(void **state)
{
	struct far_world w;
	uint32_t home[16];
	int err[16], why;

	(void)state;
	open_store(&w, 64, home_dir, 0);
	assert_int_equal(put_kept(&w, w.kept, 16, CONTENTS, 1), 16);
	for (uint32_t i = 0; i < 16; i++)
		home[i] = w.kept[i].home;
	far_inject(w.f, FAR_FAULT_READ, 3, 2);
	far_inject(w.f, FAR_FAULT_CORRUPT, 9, 1);
	far_get_many(w.f, home, 16, w.dst, err);
	for (int i = 0; i < 16; i++)
		assert_int_equal(err[i], i == 3 || i == 4 ? -EIO : i == 9 ? -EBADMSG : 0);
	assert_int_equal(wrong_pages(&w), 0);
	far_inject(w.f, FAR_FAULT_WRITE, 5, 1);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 5);
	assert_int_equal(why, -EIO);
	assert_int_equal(stats_of(&w).pages, 21);
	far_inject(w.f, FAR_FAULT_FULL, 0, 1);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 0);
	assert_int_equal(why, -ENOSPC);
	assert_int_equal(far_put(w.f, w.src, 16, home, &why), 16);
	world_end(&w);
}

/* Without rings it is slower and the same. */
static void rings_are_used_where_they_can_be(void **state)
{
	struct uring u;
	struct uring_op op[FAR_BATCH];
	char *mem = aligned_alloc(FAR_PAGE, FAR_BATCH * FAR_PAGE);
	char path[128];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/rings", home_dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	unlink(path);
	for (int rings = 0; rings < 2; rings++) {
		uring_open(&u);
		if (u.fd < 0 && rings)
			print_message("# io_uring is refused here\n");
		if (!rings)
			uring_close(&u);
		for (int write = 1; write >= 0; write--) {
			for (uint32_t i = 0; i < FAR_BATCH; i++) {
				op[i] = (struct uring_op){ .buf = mem + i * FAR_PAGE, .len = FAR_PAGE,
							   .offset = (FAR_BATCH - i) * 2 * FAR_PAGE };
				if (write)
					page_fill(op[i].buf, HALF, i);
				else
					memset(op[i].buf, 1, FAR_PAGE);
			}
			uring_run(&u, fd, write, op, FAR_BATCH);
			for (uint32_t i = 0; i < FAR_BATCH; i++)
				assert_int_equal(op[i].done, FAR_PAGE);
		}
		for (uint32_t i = 0; i < FAR_BATCH; i++) {
			char want[FAR_PAGE];

			page_fill(want, HALF, i);
			assert_memory_equal(mem + i * FAR_PAGE, want, FAR_PAGE);
		}
		assert_int_equal(u.nr_single, u.fd < 0 ? 2 * FAR_BATCH : 0);
		/* beyond the end, and a descriptor that is none: each says so */
		op[7].offset = 1UL << 40;
		for (uint32_t i = 0; i < FAR_BATCH; i++)
			op[i].done = 0;
		uring_run(&u, fd, false, op, FAR_BATCH);
		for (uint32_t i = 0; i < FAR_BATCH; i++) {
			assert_int_equal(op[i].err, i == 7 ? -EIO : 0);
			op[i].done = 0;
			op[i].err = 0;
		}
		uring_run(&u, 900, true, op, FAR_BATCH);
		for (uint32_t i = 0; i < FAR_BATCH; i++)
			assert_int_equal(op[i].err, -EBADF);
		uring_close(&u);
	}
	close(fd);
	free(mem);
}

/* ---- threads ---- */

struct watcher {
	struct far_world *w;
	pthread_t thread;
	uint32_t *stop, bad, seen;
};

static void *read_all(void *arg)
{
	struct watcher *r = arg;
	char *dst = aligned_alloc(FAR_PAGE, 2 * FAR_PAGE);

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED))
		for (uint32_t i = 0; i < r->w->nr; i += 8) {
			const struct kept *k = &r->w->kept[i];

			page_fill(dst + FAR_PAGE, k->kind, k->seed);
			r->bad += far_get(r->w->f, k->home, dst) || memcmp(dst, dst + FAR_PAGE, FAR_PAGE);
			r->seen++;
		}
	free(dst);
	return NULL;
}

static void pages_can_be_read_while_others_come_and_go(void **state)
{
	struct far_world w;
	struct watcher r[3];
	uint32_t stop = 0;

	(void)state;
	open_store(&w, 2048, home_dir, 0);
	for (uint32_t i = 0; i < w.nr; i += 64)
		put_kept(&w, &w.kept[i], 64, NEARLY, i);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct watcher){ .w = &w, .stop = &stop };
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
	}
	for (uint32_t i = 0; i < STEPS / 10; i++) {
		uint32_t at = (uint32_t)(rnd() % w.nr);

		if (at % 8)
			rnd() % 3 ? drop_kept(&w, &w.kept[at]) : (void)put_kept(&w, &w.kept[at], 1, CONTENTS, i);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].bad, 0);
		assert_true(r[i].seen > 0);
	}
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

/* ---- a page that is dropped while it is read: into memory that is not there yet, so the read waits ---- */

struct slow_get {
	struct far_world *w;
	pthread_t thread;
	char *dst;
	uint32_t home;
	int uffd, err;
};

static void *get_slowly(void *arg)
{
	struct slow_get *g = arg;

	g->err = far_get(g->w->f, g->home, g->dst);
	return NULL;
}

/* False: this machine does not let us. */
static bool slow_get_start(struct slow_get *g)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffd_msg msg;

	g->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (g->uffd < 0)
		return false;
	g->dst = mmap(NULL, FAR_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uint64_t)g->dst;
	reg.range.len = FAR_PAGE;
	assert_int_equal(ioctl(g->uffd, UFFDIO_API, &api) | ioctl(g->uffd, UFFDIO_REGISTER, &reg), 0);
	assert_int_equal(pthread_create(&g->thread, NULL, get_slowly, g), 0);
	assert_int_equal(read(g->uffd, &msg, sizeof(msg)), sizeof(msg));
	return true;
}

static void slow_get_end(struct slow_get *g)
{
	struct uffdio_zeropage zp = { .range = { (uint64_t)g->dst, FAR_PAGE } };

	assert_int_equal(ioctl(g->uffd, UFFDIO_ZEROPAGE, &zp), 0);
	pthread_join(g->thread, NULL);
	close(g->uffd);
}

static void a_page_that_is_dropped_while_it_is_read_is_read(void **state)
{
	struct far_world w;
	struct slow_get g;

	(void)state;
	for (int frozen = 0; frozen < 2; frozen++) {
		open_store(&w, 65, home_dir, 64 * FAR_PAGE);
		assert_int_equal(put_kept(&w, w.kept, 64, RAW, 1), 64);
		g = (struct slow_get){ .w = &w, .home = w.kept[9].home };
		if (!slow_get_start(&g)) {
			print_message("# no userfaultfd here\n");
			skip();
		}
		drop_kept(&w, &w.kept[9]);
		assert_int_equal(put_kept(&w, &w.kept[64], 1, RAW, 2), 0);
		if (frozen)
			far_freeze(w.f);
		slow_get_end(&g);
		if (frozen)
			far_thaw(w.f);
		assert_int_equal(g.err, 0);
		page_fill(w.want, RAW, 1 + 9);
		assert_memory_equal(g.dst, w.want, FAR_PAGE);
		munmap(g.dst, FAR_PAGE);
		assert_int_equal(put_kept(&w, &w.kept[64], 1, RAW, 2), 1);
		assert_int_equal(wrong_pages(&w), 0);
		world_end(&w);
	}
}

/* ---- fork ---- */

/* 0: all was right. */
static int go_on(struct far_world *w, uint64_t seed, uint32_t nr)
{
	rnd_state = seed;
	if (wrong_pages(w))
		return 2;
	for (uint32_t i = 0; i < nr; i++)
		if (!random_step(w, 0))
			return 3;
	return wrong_pages(w) ? 4 : stats_of(w).pages != nr_kept(w) ? 5 : 0;
}

static pid_t fork_store(struct far_world *w, int *err)
{
	pid_t pid;

	far_freeze(w->f);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails nothing goes on */
	*err = pid ? 0 : far_fork_child(w->f);
	far_thaw(w->f);
	return pid;
}

static int status_of(pid_t pid)
{
	int status;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static void members_go_on_by_themselves(void **state)
{
	struct far_world w;
	pid_t pid[4];
	uint32_t fds;
	int err;

	(void)state;
	open_store(&w, 1000, home_dir, 4000 * FAR_PAGE);
	for (uint32_t i = 0; i + 50 <= w.nr; i += 50)
		put_kept(&w, &w.kept[i], 50, CONTENTS, i);
	fds = nr_open();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++) {
			pid[i] = fork_store(&w, &err);
			if (!pid[i])
				_exit(err ? 1 : nr_open() != fds ? 6 : go_on(&w, 99 + (uint64_t)(round * 4 + i), 1500));
		}
		assert_int_equal(nr_open(), fds);
		assert_int_equal(go_on(&w, 7, 1500), 0);
		for (int i = 0; i < 4; i++)
			assert_int_equal(status_of(pid[i]), 0);
	}
	drop_all(&w);
	sleep_ns(1100000000);
	/* all that they had is free again: the file is full with ours only */
	w.full = 0;
	for (uint32_t i = 0; i < 4000; i += 50) {
		assert_int_equal(put_kept(&w, w.kept, 50, RAW, i), 50);
		memset(w.kept, 0, 50 * sizeof(*w.kept));
	}
	world_end(&w);
}

static void a_killed_child_leaves_its_slots(void **state)
{
	struct far_world w;
	pid_t pid;
	int err;

	(void)state;
	open_store(&w, 512, home_dir, 512 * FAR_PAGE);
	for (uint32_t i = 0; i < 384; i += 64)
		assert_int_equal(put_kept(&w, &w.kept[i], 64, RAW, i), 64);
	pid = fork_store(&w, &err);
	while (!pid) {
		BUG_ON(err || wrong_pages(&w));
		sleep_ns(10000000);
	}
	/* what the child has is not ours to use, though we drop it */
	for (uint32_t i = 0; i < 384; i++)
		drop_kept(&w, &w.kept[i]);
	sleep_ns(1100000000);
	for (uint32_t i = 0; i < 448; i += 64)
		put_kept(&w, &w.kept[i], 64, RAW, i);
	assert_int_equal(nr_kept(&w), 128);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(status_of(pid), 100 + SIGKILL);
	assert_int_equal(wrong_pages(&w), 0);
	drop_all(&w);
	sleep_ns(1100000000);
	for (uint32_t i = 0; i < 512; i += 64)
		assert_int_equal(put_kept(&w, &w.kept[i], 64, RAW, i), 64);
	assert_int_equal(wrong_pages(&w), 0);
	world_end(&w);
}

/* In a process between: the parent of the store's child, which ends before it. */
static int parent_dies(void)
{
	struct far_world w;
	int err, fds[2];
	uint32_t nr = 0;
	char said = 1;
	pid_t pid;

	BUG_ON(pipe(fds));
	pid = fork();
	if (pid) {
		alarm(30);
		close(fds[1]);
		BUG_ON(read(fds[0], &said, 1) < 0);
		return said;
	}
	/* this one is killed; its child tells */
	close(fds[0]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_store(&w, 512, home_dir, 1024 * FAR_PAGE);
	for (uint32_t i = 0; i < 448; i += 64)
		put_kept(&w, &w.kept[i], 64, RAW, i);
	pid = fork_store(&w, &err);
	if (pid) {
		for (;;)
			random_step(&w, 0);
	}
	prctl(PR_SET_PDEATHSIG, 0);
	sleep_ns(100000000);
	said = err ? 1 : (char)go_on(&w, 5, 500);
	kill(getppid(), SIGKILL);
	sleep_ns(1200000000);
	said = said ? said : (char)go_on(&w, 6, 500);
	/* and it has all of the file for itself */
	drop_all(&w);
	for (uint32_t i = 0; !said && i < 1024; i += 64) {
		nr += put_kept(&w, w.kept, 64, RAW, i);
		memset(w.kept, 0, 64 * sizeof(*w.kept));
	}
	said = said ? said : nr < 1024 ? 8 : 0;
	BUG_ON(write(fds[1], &said, 1) != 1);
	_exit(0);
}

static void a_child_lives_on_when_its_parent_is_killed(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (!pid)
		_exit(parent_dies());
	assert_int_equal(status_of(pid), 0);
}

static void freezing_alone_takes_nothing(void **state)
{
	struct far_world w;
	uint32_t fds;

	(void)state;
	open_store(&w, 64, home_dir, 64 * FAR_PAGE);
	put_kept(&w, w.kept, 32, RAW, 1);
	fds = nr_open();
	for (int i = 0; i < 2000; i++) {
		far_freeze(w.f);
		far_thaw(w.f);
	}
	assert_int_equal(nr_open(), fds);
	drop_all(&w);
	sleep_ns(1100000000);
	assert_int_equal(put_kept(&w, w.kept, 64, RAW, 1), 64);
	world_end(&w);
}

/* ---- as the engine has it: the store is on a thread with descriptors of its own ---- */

struct service {
	struct far_world *w;
	struct thread thread;
	bool child;
	uint32_t done, stop;
	int err;
};

static int serve(void *arg)
{
	struct service *s = arg;
	struct far_spec spec = { .kind = FAR_FILE };

	sys3(SYS_close_range, 0, ~0U, 0);
	memcpy(spec.path, home_dir, sizeof(home_dir));
	s->err = s->child ? far_fork_child(s->w->f) : far_open(&s->w->f, &s->w->region, &spec);
	if (!s->err && !s->child) {
		for (uint32_t i = 0; i < 256; i += 64)
			put_kept(s->w, &s->w->kept[i], 64, RAW, i);
	} else if (!s->err) {
		s->err = wrong_pages(s->w) ? 1000 : go_on(s->w, 3, 300);
	}
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
	futex_wake(&s->done);
	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE))
		futex_wait(&s->stop, 0, 0);
	return 0;
}

static int service_begin(struct service *s)
{
	s->thread = (struct thread){
		.fn = serve, .arg = s, .name = "service", .stack = region_alloc(&s->w->region, THREAD_STACK)
	};
	BUG_ON(thread_start(&s->thread, true));
	while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE))
		futex_wait(&s->done, 0, 0);
	return s->err;
}

static void service_end(struct service *s)
{
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
	futex_wake(&s->stop);
	thread_join(&s->thread);
}

static void a_child_inherits_through_the_programs_descriptors(void **state)
{
	struct far_world w;
	struct service s = { .w = &w }, c = { .w = &w, .child = true };
	uint32_t fds = nr_open();
	pid_t pid;

	(void)state;
	world_init(&w, 256);
	assert_int_equal(service_begin(&s), 0);
	assert_int_equal(nr_open(), fds);
	far_freeze(w.f);
	pid = fork();
	if (!pid) {
		int err = service_begin(&c);

		far_thaw(w.f);
		err = err ? 1 : nr_open() != fds ? 2 : 0;
		service_end(&c);
		_exit(err);
	}
	far_thaw(w.f);
	assert_int_equal(nr_open(), fds);
	assert_int_equal(status_of(pid), 0);
	service_end(&s);
	w.f = NULL; /* its descriptors went with the thread */
	world_end(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_comes_back_whatever_it_is),
		cmocka_unit_test(memory_that_is_not_aligned_is_as_good),
		cmocka_unit_test(pages_of_one_batch_are_neighbours),
		cmocka_unit_test(a_batch_goes_where_there_is_a_run),
		cmocka_unit_test(slots_that_nobody_has_are_found_again),
		cmocka_unit_test(the_file_grows_and_shrinks),
		cmocka_unit_test(a_limit_is_kept),
		cmocka_unit_test(a_file_goes_by_its_name_and_content_stays),
		cmocka_unit_test(a_device_is_taken_for_us_alone),
		cmocka_unit_test(a_full_disk_refuses_and_loses_nothing),
		cmocka_unit_test(a_changed_byte_is_found),
		cmocka_unit_test(faults_hit_the_pages_meant),
		cmocka_unit_test(rings_are_used_where_they_can_be),
		cmocka_unit_test(pages_can_be_read_while_others_come_and_go),
		cmocka_unit_test(a_page_that_is_dropped_while_it_is_read_is_read),
		cmocka_unit_test(members_go_on_by_themselves),
		cmocka_unit_test(a_killed_child_leaves_its_slots),
		cmocka_unit_test(a_child_lives_on_when_its_parent_is_killed),
		cmocka_unit_test(freezing_alone_takes_nothing),
#ifndef SANITIZED
		cmocka_unit_test(a_child_inherits_through_the_programs_descriptors),
#endif
	};
	int bad;

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	snprintf(home_dir, sizeof(home_dir), "%s/far.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp");
	if (!mkdtemp(home_dir)) {
		printf("1..0 # SKIP no directory can be made: %s\n", home_dir);
		return 0;
	}
	bad = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(home_dir + strlen(home_dir), 8, "/small");
	rmdir(home_dir);
	*strrchr(home_dir, '/') = '\0';
	rmdir(home_dir);
	return bad;
}

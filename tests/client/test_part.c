/* client/part: what survives an interruption, and what must not be believed afterwards. */
#include "client/part.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define URL "http://hub/a"
#define TAG "\"tag-1\""

static int set_up(void **state)
{
	char path[] = "/tmp/bn-part-XXXXXX";
	static int dirfd;

	if (mkdtemp(path) == NULL) {
		return -1;
	}
	dirfd = open(path, O_RDONLY | O_DIRECTORY);
	*state = &dirfd;
	return dirfd < 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = { "f", "f.part", "f.part.json", "f.part.json.new" };
	char link[64], path[4096];
	ssize_t n;
	const int dirfd = *(int *)*state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		unlinkat(dirfd, names[i], 0);
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, path, sizeof(path) - 1);
	close(dirfd);
	if (n <= 0) {
		return -1;
	}
	path[n] = '\0';
	return rmdir(path);
}

static bool exists(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Leaves a part of "0123456789" of 20 bytes. */
static void leave_ten(int dirfd, const char *etag)
{
	struct bn_part p;

	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 20, NULL), BN_OK);
	assert_int_equal(bn_part_restart(&p, etag, 20, NULL), BN_OK);
	assert_int_equal(bn_part_append(&p, "01234", 5, NULL), BN_OK);
	assert_int_equal(bn_part_append(&p, "56789", 5, NULL), BN_OK);
	bn_part_close(&p);
}

static void part_goes_on_and_finishes(void **state)
{
	const int dirfd = *(int *)*state;
	char bytes[32];
	struct bn_part p;
	int fd;

	leave_ten(dirfd, TAG);
	assert_int_equal(bn_part_peek(dirfd, "f", URL, 20), 10);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, BN_PART_SIZE_UNKNOWN, NULL), BN_OK);
	assert_int_equal(p.at, 10);
	assert_int_equal(p.size, 20);
	assert_string_equal(p.etag, TAG);
	assert_int_equal(bn_part_append(&p, "abcdefghij", 10, NULL), BN_OK);
	assert_false(exists(dirfd, "f"));
	assert_int_equal(bn_part_finish(&p, NULL), BN_OK);
	fd = openat(dirfd, "f", O_RDONLY);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 20);
	assert_memory_equal(bytes, "0123456789abcdefghij", 20);
	close(fd);
	assert_false(exists(dirfd, "f.part"));
	assert_false(exists(dirfd, "f.part.json"));
	bn_part_close(&p);
}

static void part_of_something_else_starts_over(void **state)
{
	const int dirfd = *(int *)*state;
	struct bn_part p;

	leave_ten(dirfd, TAG);
	assert_int_equal(bn_part_peek(dirfd, "f", URL "b", 20), 0);
	assert_int_equal(bn_part_peek(dirfd, "f", URL, 21), 0);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 21, NULL), BN_OK);
	assert_int_equal(p.at, 0);
	assert_int_equal(p.size, 21);
	assert_string_equal(p.etag, "");
	bn_part_close(&p);
}

static void part_without_a_strong_tag_starts_over(void **state)
{
	static const char *const tags[] = { "", "W/\"x\"", "x", "\"", "\"a\r\nX: y\"", "\"\x7f\"" };
	const int dirfd = *(int *)*state;

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		leave_ten(dirfd, tags[i]);
		assert_true(exists(dirfd, "f.part"));
		assert_int_equal(bn_part_peek(dirfd, "f", URL, 20), 0);
	}
}

static void part_longer_than_the_file_starts_over(void **state)
{
	const int dirfd = *(int *)*state;
	struct bn_part p;
	int fd;

	leave_ten(dirfd, TAG);
	fd = openat(dirfd, "f.part", O_WRONLY);
	assert_int_equal(ftruncate(fd, 21), 0);
	close(fd);
	assert_int_equal(bn_part_peek(dirfd, "f", URL, 20), 0);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 20, NULL), BN_OK);
	assert_int_equal(p.at, 0);
	bn_part_close(&p);
}

static void part_refuses_more_bytes_than_the_file_has(void **state)
{
	const int dirfd = *(int *)*state;
	struct bn_part p;
	struct bn_error err;

	leave_ten(dirfd, TAG);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 20, NULL), BN_OK);
	assert_int_equal(bn_part_append(&p, "abcdefghijk", 11, &err), BN_E_FORMAT);
	assert_int_equal(p.at, 10);
	bn_part_discard(&p);
	assert_false(exists(dirfd, "f.part"));
	assert_false(exists(dirfd, "f.part.json"));
}

static void part_does_not_write_through_links(void **state)
{
	const int dirfd = *(int *)*state;
	struct bn_part p;
	struct bn_error err;

	assert_int_equal(symlinkat("f", dirfd, "f.part"), 0);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 20, &err), BN_E_IO);
	assert_int_equal(bn_part_peek(dirfd, "f", URL, 20), 0);
	assert_false(exists(dirfd, "f"));
	unlinkat(dirfd, "f.part", 0);
	assert_int_equal(mkfifoat(dirfd, "f.part", 0600), 0);
	assert_int_equal(bn_part_open(&p, dirfd, "f", URL, 20, &err), BN_E_IO);
}

static void part_refuses_names_with_folders(void **state)
{
	char longer[BN_PART_NAME_MAX + 2];
	struct bn_part p;
	struct bn_error err;

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(bn_part_open(&p, *(int *)*state, longer, URL, 1, &err), BN_E_INVALID);
	assert_int_equal(bn_part_open(&p, *(int *)*state, "a/b", URL, 1, &err), BN_E_INVALID);
}

int main(void)
{
#define IN_A_FOLDER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_A_FOLDER(part_goes_on_and_finishes),
		IN_A_FOLDER(part_of_something_else_starts_over),
		IN_A_FOLDER(part_without_a_strong_tag_starts_over),
		IN_A_FOLDER(part_longer_than_the_file_starts_over),
		IN_A_FOLDER(part_refuses_more_bytes_than_the_file_has),
		IN_A_FOLDER(part_does_not_write_through_links),
		IN_A_FOLDER(part_refuses_names_with_folders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

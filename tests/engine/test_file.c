#include "engine/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A folder for each test; its path and that of "file" in it. */
struct place {
	char dir[64], file[96];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/bn-test-file-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->file, sizeof(p->file), "%s/file", p->dir);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unlink(p->file);
	rmdir(p->dir);
	free(p);
	return 0;
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	fclose(f);
}

/* Opening must fail, with this status and these words; where it waited, the test's time limit would
 * end it. */
static void refuses(const char *path, bool nofollow, enum bn_status status, const char *words)
{
	struct bn_error err;
	struct bn_file f;

	assert_int_equal(bn_file_open(&f, AT_FDCWD, path, nofollow, &err), status);
	assert_int_equal(err.status, status);
	assert_non_null(strstr(err.text, words));
}

static void file_refuses_what_is_no_regular_file_without_waiting(void **state)
{
	struct place *p = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	refuses(p->dir, false, BN_E_FORMAT, "is a directory");
	refuses("/dev/zero", false, BN_E_FORMAT, "is a character device");
	refuses("/dev/null", false, BN_E_FORMAT, "is a character device");

	assert_int_equal(mkfifo(p->file, 0600), 0);
	refuses(p->file, false, BN_E_FORMAT, "is a FIFO");
	unlink(p->file);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", p->file);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	refuses(p->file, false, BN_E_FORMAT, "is a socket");
	close(fd);
}

static void file_tells_why_it_cannot_be_opened(void **state)
{
	struct place *p = *state;

	refuses(p->file, false, BN_E_IO, "No such file");
	refuses("", false, BN_E_IO, "No such file");
	put(p->file, "x");
	if (geteuid() != 0) {
		chmod(p->file, 0);
		refuses(p->file, false, BN_E_IO, "Permission denied");
	}
}

static void file_follows_links_only_where_allowed(void **state)
{
	struct place *p = *state;
	struct bn_file f;

	assert_int_equal(symlink("/dev/null", p->file), 0);
	refuses(p->file, true, BN_E_FORMAT, "is a symbolic link");
	refuses(p->file, false, BN_E_FORMAT, "is a character device");
	unlink(p->file);
	assert_int_equal(symlink("/proc/self/exe", p->file), 0);
	assert_int_equal(bn_file_open(&f, AT_FDCWD, p->file, false, NULL), BN_OK);
	bn_file_close(&f);
}

static void file_reads_ranges_and_refuses_those_past_the_end(void **state)
{
	struct place *p = *state;
	struct bn_error err;
	struct bn_file f;
	char got[16] = { 0 };
	int dir = open(p->dir, O_RDONLY | O_DIRECTORY);

	put(p->file, "0123456789");
	assert_int_equal(bn_file_open(&f, dir, "file", true, &err), BN_OK);
	close(dir);
	assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(f.size, 10);
	assert_int_equal(bn_file_read(&f, 3, got, 4, &err), BN_OK);
	assert_string_equal(got, "3456");
	assert_int_equal(bn_file_read(&f, 10, got, 0, &err), BN_OK);
	assert_int_equal(bn_file_read(&f, 7, got, 4, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "need 4 bytes at offset 7, the file has 10"));
	assert_int_equal(bn_file_read(&f, 11, got, 0, &err), BN_E_FORMAT);
	assert_int_equal(bn_file_read(&f, UINT64_MAX, got, 2, &err), BN_E_FORMAT);
	assert_int_equal(bn_file_read(&f, 2, got, SIZE_MAX, &err), BN_E_FORMAT);
	bn_file_close(&f);
	bn_file_close(&f);
	bn_file_close(NULL);
}

static void file_truncated_while_read_is_an_ordinary_error(void **state)
{
	struct place *p = *state;
	struct bn_error err;
	struct bn_file f;
	char got[16];

	put(p->file, "0123456789");
	assert_int_equal(bn_file_open(&f, AT_FDCWD, p->file, false, &err), BN_OK);
	assert_int_equal(bn_file_unchanged(&f, &err), BN_OK);
	assert_int_equal(truncate(p->file, 4), 0);
	assert_int_equal(bn_file_read(&f, 0, got, 4, &err), BN_OK);
	assert_int_equal(bn_file_read(&f, 2, got, 6, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "was cut to 4 bytes while it was read, it had 10"));
	assert_int_equal(bn_file_unchanged(&f, &err), BN_E_FORMAT);
	bn_file_close(&f);
}

static void file_overwritten_while_read_is_noticed(void **state)
{
	struct place *p = *state;
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 1, 0 } };
	struct bn_error err;
	struct bn_file f;

	put(p->file, "0123456789");
	/* An old time stamp, so that the write below changes it whatever the clock's grain. */
	assert_int_equal(utimensat(AT_FDCWD, p->file, times, 0), 0);
	assert_int_equal(bn_file_open(&f, AT_FDCWD, p->file, false, &err), BN_OK);
	assert_int_equal(bn_file_unchanged(&f, &err), BN_OK);
	put(p->file, "9876543210");
	assert_int_equal(bn_file_unchanged(&f, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "written to while it was read"));
	bn_file_close(&f);
}

static void file_deleted_or_replaced_while_read_does_not_matter(void **state)
{
	struct place *p = *state;
	struct bn_error err;
	struct bn_file f;
	char got[11] = { 0 }, other[128];

	put(p->file, "0123456789");
	assert_int_equal(bn_file_open(&f, AT_FDCWD, p->file, false, &err), BN_OK);
	snprintf(other, sizeof(other), "%s/other", p->dir);
	put(other, "new");
	assert_int_equal(rename(other, p->file), 0);
	assert_int_equal(bn_file_read(&f, 0, got, 10, &err), BN_OK);
	assert_string_equal(got, "0123456789");
	assert_int_equal(bn_file_unchanged(&f, &err), BN_OK);
	bn_file_close(&f);
}

static void file_adopts_a_descriptor_or_leaves_it_alone(void **state)
{
	struct place *p = *state;
	struct bn_error err;
	struct bn_file f;
	char got[2];
	int fd;

	put(p->file, "0123456789");
	fd = open(p->file, O_RDONLY);
	assert_int_equal(bn_file_adopt(&f, fd, &err), BN_OK);
	assert_int_equal(bn_file_read(&f, 0, got, 2, &err), BN_OK);
	bn_file_close(&f);
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	fd = open(p->dir, O_RDONLY);
	assert_int_equal(bn_file_adopt(&f, fd, &err), BN_E_FORMAT);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	assert_int_equal(bn_file_adopt(&f, fd, &err), BN_E_IO);

	/* Open for writing only: the system's refusal to read is passed on. */
	fd = open(p->file, O_WRONLY);
	assert_int_equal(bn_file_adopt(&f, fd, &err), BN_OK);
	assert_int_equal(bn_file_read(&f, 0, got, 2, &err), BN_E_IO);
	assert_non_null(strstr(err.text, "Bad file descriptor"));
	bn_file_close(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(file_refuses_what_is_no_regular_file_without_waiting),
		TEST(file_tells_why_it_cannot_be_opened),
		TEST(file_follows_links_only_where_allowed),
		TEST(file_reads_ranges_and_refuses_those_past_the_end),
		TEST(file_truncated_while_read_is_an_ordinary_error),
		TEST(file_overwritten_while_read_is_noticed),
		TEST(file_deleted_or_replaced_while_read_does_not_matter),
		TEST(file_adopts_a_descriptor_or_leaves_it_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

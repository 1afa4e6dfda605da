/* client/store: where models go, one puller per folder, no way through links. */
#include "client/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void root_follows_the_user(void **state)
{
	char path[BN_STORE_PATH_BYTES];
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_store_root(path, true, "/x", "/home/a", NULL), BN_OK);
	assert_string_equal(path, "/var/lib/bnd/models");
	assert_int_equal(bn_store_root(path, false, "/x", "/home/a", NULL), BN_OK);
	assert_string_equal(path, "/x/bnd/models");
	assert_int_equal(bn_store_root(path, false, "", "/home/a", NULL), BN_OK);
	assert_string_equal(path, "/home/a/.local/share/bnd/models");
	assert_int_equal(bn_store_root(path, false, "relative", NULL, &err), BN_E_INVALID);
	assert_non_null(strstr(err.text, "--to"));
}

/* Removes what the tests below make, and nothing else. */
static void remove_all(const char *top)
{
	static const char *const files[] = { "a/b/.bnctl-pull.lock", "a/link" };
	static const char *const folders[] = { "a/b/sub/deep", "a/b/sub", "a/b", "a", "" };
	char path[256];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, files[i]);
		unlink(path);
	}
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, folders[i]);
		rmdir(path);
	}
	assert_int_not_equal(access(top, F_OK), 0);
}

static void folder_is_made_and_locked_for_one(void **state)
{
	char top[] = "/tmp/bn-store-XXXXXX", path[128];
	struct bn_store s, other, none = { 0 };
	struct bn_error err;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/a//b/", top);
	assert_int_equal(bn_store_open(&s, path, NULL), BN_OK);
	assert_true(strlen(s.path) > 4 && strcmp(s.path + strlen(s.path) - 4, "/a/b") == 0);
	assert_int_equal(bn_store_open(&other, path, &err), BN_E_OVERLOADED);
	assert_non_null(strstr(err.text, "another bnctl"));
	bn_store_close(&other);
	assert_int_equal(bn_store_folder(&fd, s.dirfd, "sub/deep", NULL), BN_OK);
	close(fd);
	assert_int_equal(bn_store_folder(&fd, s.dirfd, "", NULL), BN_OK);
	close(fd);
	assert_int_equal(faccessat(s.dirfd, "sub/deep", F_OK, 0), 0);
	bn_store_close(&s);
	assert_int_equal(bn_store_open(&other, path, NULL), BN_OK);
	bn_store_close(&other);
	bn_store_close(&none);
	remove_all(top);
}

static void folder_is_not_made_through_links(void **state)
{
	char top[] = "/tmp/bn-store-XXXXXX", path[128];
	struct bn_store s;
	struct bn_error err;
	int dirfd, fd;

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/a", top);
	assert_int_equal(mkdir(path, 0700), 0);
	dirfd = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(symlinkat("/tmp", dirfd, "link"), 0);
	assert_int_equal(bn_store_folder(&fd, dirfd, "link", &err), BN_E_IO);
	assert_int_equal(bn_store_folder(&fd, dirfd, "link/x", &err), BN_E_IO);
	close(dirfd);
	assert_int_equal(bn_store_open(&s, "/proc/self/no/such", &err), BN_E_IO);
	assert_int_equal(bn_store_open(&s, "", &err), BN_E_INVALID);
	remove_all(top);
}

static void room_is_what_the_disk_says(void **state)
{
	const int dirfd = open("/tmp", O_RDONLY | O_DIRECTORY);
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_store_room(dirfd, 0, NULL), BN_OK);
	assert_int_equal(bn_store_room(dirfd, UINT64_MAX / 2, &err), BN_E_IO);
	assert_non_null(strstr(err.text, "MiB are free"));
	close(dirfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(root_follows_the_user),
		cmocka_unit_test(folder_is_made_and_locked_for_one),
		cmocka_unit_test(folder_is_not_made_through_links),
		cmocka_unit_test(room_is_what_the_disk_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

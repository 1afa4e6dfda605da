/* client/digest: digests against published values, and what is not one. */
#include "client/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* An open file with this content. */
static int file_of(const void *bytes, size_t n)
{
	FILE *f = tmpfile();
	int fd;

	assert_non_null(f);
	fd = dup(fileno(f));
	assert_true(fd >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(pwrite(fd, bytes, n, 0), (ssize_t)n);
	return fd;
}

static void digests_equal_published_values(void **state)
{
	static const struct {
		const char *content;
		enum bn_digest_kind kind;
		const char *hex;
	} cases[] = {
		/* FIPS 180-2; `git hash-object`. */
		{ "abc", BN_DIGEST_SHA256,
		  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "", BN_DIGEST_SHA256,
		  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "", BN_DIGEST_GIT_BLOB, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" },
		{ "hello\n", BN_DIGEST_GIT_BLOB, "ce013625030ba8dba906f756967f9e9ca394464a" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const int fd = file_of(cases[i].content, strlen(cases[i].content));
		struct bn_digest d, want;

		assert_int_equal(bn_digest_file(&d, cases[i].kind, fd, NULL, NULL, NULL), BN_OK);
		assert_string_equal(d.hex, cases[i].hex);
		assert_true(bn_digest_parse(&want, cases[i].hex));
		assert_true(bn_digest_equal(&d, &want));
		close(fd);
	}
}

static bool count(void *who, uint64_t done)
{
	uint64_t *last = who;

	assert_true(done > *last);
	*last = done;
	return done < 2000000;
}

static void digest_reports_progress_and_can_be_stopped(void **state)
{
	const size_t n = 5000000;
	char *bytes = calloc(1, n);
	struct bn_digest d = { .kind = BN_DIGEST_NONE };
	struct bn_error err;
	uint64_t last = 0;
	int fd;

	(void)state;
	assert_non_null(bytes);
	fd = file_of(bytes, n);
	assert_int_equal(bn_digest_file(&d, BN_DIGEST_SHA256, fd, count, &last, &err),
			 BN_E_CANCELLED);
	assert_true(last >= 2000000 && last < n);
	assert_int_equal(d.kind, BN_DIGEST_NONE);
	close(fd);
	assert_int_equal(bn_digest_file(&d, BN_DIGEST_SHA256, fd, NULL, NULL, &err), BN_E_IO);
	free(bytes);
}

static void what_is_no_digest_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"abc",
		"e69de29bb2d1d6434b8b29ae775ad8c2e48c539", /* 39 digits */
		"e69de29bb2d1d6434b8b29ae775ad8c2e48c539x",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
	};
	struct bn_digest d = { .kind = BN_DIGEST_SHA256, .hex = "kept" }, upper;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_false(bn_digest_parse(&d, wrong[i]));
		assert_string_equal(d.hex, "kept");
	}
	assert_true(bn_digest_parse(&upper, "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391"));
	assert_string_equal(upper.hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
	assert_false(bn_digest_equal(&d, &upper));
	d = (struct bn_digest){ .kind = BN_DIGEST_NONE };
	assert_false(bn_digest_equal(&d, &d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_equal_published_values),
		cmocka_unit_test(digest_reports_progress_and_can_be_stopped),
		cmocka_unit_test(what_is_no_digest_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

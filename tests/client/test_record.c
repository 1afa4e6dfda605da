/* client/record: what is remembered of a pull, and the lines for bnd.yaml. */
#include "client/record.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void record_is_read_as_it_was_written(void **state)
{
	char folder[] = "/tmp/bn-record-XXXXXX";
	struct bn_record r = { .repo = "a/b",
			       .commit = "0123",
			       .source = "x \"y\".gguf",
			       .converted = true,
			       .kernel = "tl2",
			       .size = UINT64_C(5000000000) };
	struct bn_record back;
	int dirfd;

	(void)state;
	assert_true(bn_digest_parse(&r.digest, SHA256));
	assert_non_null(mkdtemp(folder));
	dirfd = open(folder, O_RDONLY | O_DIRECTORY);
	assert_false(bn_record_read(&back, dirfd, "f"));
	assert_int_equal(bn_record_write(&r, dirfd, "f", NULL), BN_OK);
	assert_true(bn_record_read(&back, dirfd, "f"));
	assert_true(bn_record_same(&r, &back));
	assert_true(bn_digest_equal(&r.digest, &back.digest));
	assert_true(back.size == r.size);
	strcpy(back.embedding, "q8_0");
	assert_false(bn_record_same(&r, &back));
	unlinkat(dirfd, "f.pull.json", 0);
	close(dirfd);
	assert_int_equal(rmdir(folder), 0);
}

static void damaged_records_are_not_believed(void **state)
{
#define RECORD(converted, hex)                                                             \
	"{\"repo\": \"a\", \"commit\": \"b\", \"source\": \"\", \"converted\": " converted \
	", \"kernel\": \"\", \"embedding\": \"\", \"size\": 1, \"sha256\": \"" hex "\"}"
	static const char *const wrong[] = {
		"", "{", "[]", "{}", "null", RECORD("1", SHA256), RECORD("true", "abc"),
	};
	char folder[] = "/tmp/bn-record-XXXXXX";
	struct bn_record r = { .repo = "kept" };
	int dirfd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	dirfd = open(folder, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const int fd = openat(dirfd, "f.pull.json", O_WRONLY | O_CREAT | O_TRUNC, 0600);

		assert_int_equal(write(fd, wrong[i], strlen(wrong[i])), (ssize_t)strlen(wrong[i]));
		close(fd);
		assert_false(bn_record_read(&r, dirfd, "f"));
		assert_string_equal(r.repo, "kept");
	}
	unlinkat(dirfd, "f.pull.json", 0);
	close(dirfd);
	assert_int_equal(rmdir(folder), 0);
}

static void models_get_names_that_bnd_takes(void **state)
{
	static const struct {
		const char *repo, *name;
	} cases[] = {
		{ "microsoft/bitnet-b1.58-2B-4T-gguf", "bitnet-b1.58-2b-4t" },
		{ "1bitLLM/bitnet_b1_58-large", "bitnet_b1_58-large" },
		{ "a/B+C", "b-c" },
		{ "a/-gguf", "-gguf" },
	};
	char name[BN_RECORD_NAME_MAX + 1], longer[100] = "a/";

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bn_record_model_name(name, cases[i].repo);
		assert_string_equal(name, cases[i].name);
	}
	memset(longer + 2, 'X', sizeof(longer) - 3);
	bn_record_model_name(name, longer);
	assert_int_equal(strlen(name), BN_RECORD_NAME_MAX);
}

/* The lines as text, owned by the caller. */
static char *lines(const char *path)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	assert_non_null(to);
	bn_record_print_yaml(to, "m", path);
	fclose(to);
	return text;
}

static void paths_are_quoted_where_yaml_needs_it(void **state)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{ "/a/b-1.0_x+y.gguf", "/a/b-1.0_x+y.gguf" },
		{ "/a b", "\"/a b\"" },
		{ "/a: #\"\\\n", "\"/a: #\\\"\\\\\\x0a\"" },
		{ "/\xc3\xa4", "\"/\xc3\xa4\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = lines(cases[i].path);
		char want[128];

		snprintf(want, sizeof(want), "models:\n- name: m\n  path: %s\n", cases[i].text);
		assert_string_equal(text, want);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_is_read_as_it_was_written),
		cmocka_unit_test(damaged_records_are_not_believed),
		cmocka_unit_test(models_get_names_that_bnd_takes),
		cmocka_unit_test(paths_are_quoted_where_yaml_needs_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

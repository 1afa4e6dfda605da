/* client/hub_name: names that users type, paths that hubs list, and their addresses. */
#include "client/hub_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void names_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *revision, *file;
		const char *repo, *is_revision, *is_file;
	} cases[] = {
		{ "a/b", NULL, NULL, "a/b", "main", "" },
		{ "a/b.c-d_e@v1.0", NULL, NULL, "a/b.c-d_e", "v1.0", "" },
		{ "a/b:x/y.gguf", NULL, NULL, "a/b", "main", "x/y.gguf" },
		{ "a/b@refs/pr/1:y@z.gguf", NULL, NULL, "a/b", "refs/pr/1", "y@z.gguf" },
		{ "a/b", "dev", "y.gguf", "a/b", "dev", "y.gguf" },
	};
	struct bn_hub_name name;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(bn_hub_name_parse(&name, cases[i].text, cases[i].revision,
						   cases[i].file, NULL),
				 BN_OK);
		assert_string_equal(name.repo, cases[i].repo);
		assert_string_equal(name.revision, cases[i].is_revision);
		assert_string_equal(name.file, cases[i].is_file);
	}
}

static void wrong_names_are_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"a",
		"/",
		"a/",
		"/b",
		"a/b/c",
		"a b/c",
		"../b",
		"a/..",
		"a/b..c",
		"-a/b",
		"a/.b",
		"a/b@",
		"a/b@-x",
		"a/b@/x",
		"a/b@x..y",
		"a/b@x y",
		"a/b:",
		"a/b:/x",
		"a/b:../x",
		"a/b:x//y",
		"a/b:x/.",
		"https://huggingface.co/a/b",
		"a/b%2f",
		"a/b?x",
		"\xc3\xa4/b",
	};
	char longer[300];
	struct bn_hub_name name = { .repo = "kept" };
	struct bn_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(bn_hub_name_parse(&name, wrong[i], NULL, NULL, &err),
				 BN_E_INVALID);
		assert_string_equal(name.repo, "kept");
	}
	memset(longer, 'x', sizeof(longer));
	longer[1] = '/';
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(bn_hub_name_parse(&name, longer, NULL, NULL, &err), BN_E_INVALID);
	assert_int_equal(bn_hub_name_parse(&name, "a/b@x", "x", NULL, &err), BN_E_INVALID);
	assert_int_equal(bn_hub_name_parse(&name, "a/b:x", NULL, "x", &err), BN_E_INVALID);
	assert_int_equal(bn_hub_name_parse(&name, "a/b", longer, NULL, &err), BN_E_INVALID);
}

static void paths_that_leave_their_folder_are_unsafe(void **state)
{
	static const char *const unsafe[] = { "",       "/x",     "x/",    "..",    "../x",
					      "x/../y", "x/..",   ".",     "x/./y", "x//y",
					      "x\ny",   "\x1b[m", "x\x7f", "a\\b",  "\xc2\x9bm" };
	static const char *const safe[] = { "x",  "x/y.gguf", "..x", "x..",
					    ".x", "-x",       "a b", "\xc3\xa4\xc2\xa0" };
	char longer[BN_HUB_PATH_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(unsafe) / sizeof(unsafe[0]); i++) {
		assert_false(bn_hub_path_is_safe(unsafe[i]));
	}
	for (size_t i = 0; i < sizeof(safe) / sizeof(safe[0]); i++) {
		assert_true(bn_hub_path_is_safe(safe[i]));
	}
	memset(longer, 'x', sizeof(longer));
	longer[BN_HUB_PATH_MAX + 1] = '\0';
	assert_false(bn_hub_path_is_safe(longer));
	longer[BN_HUB_PATH_MAX] = '\0';
	assert_true(bn_hub_path_is_safe(longer));
}

static void addresses_are_encoded_and_fit(void **state)
{
	struct bn_hub_name name = { .repo = "a/b", .revision = "refs/pr/1+x" };
	char url[BN_HUB_URL_BYTES], path[BN_HUB_PATH_MAX + 1];

	(void)state;
	bn_hub_url_about(url, &name);
	assert_string_equal(url, "/api/models/a/b/revision/refs%2Fpr%2F1%2Bx?blobs=true");
	bn_hub_url_file(url, "a/b", COMMIT, "x y/?\xc3\xa4.gguf");
	assert_string_equal(url, "/a/b/resolve/" COMMIT "/x%20y/%3F%C3%A4.gguf");
	memset(path, '%', sizeof(path));
	path[BN_HUB_PATH_MAX] = '\0';
	memset(name.repo, 'x', sizeof(name.repo) - 1);
	bn_hub_url_file(url, name.repo, SHA256, path);
	assert_true(strlen(url) > BN_HUB_PATH_MAX * 3 && strlen(url) < sizeof(url));
	memset(name.revision, '/', sizeof(name.revision) - 1);
	bn_hub_url_about(url, &name);
	assert_true(strlen(url) > BN_HUB_REVISION_MAX * 3 && strlen(url) < sizeof(url));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_taken_apart),
		cmocka_unit_test(wrong_names_are_refused),
		cmocka_unit_test(paths_that_leave_their_folder_are_unsafe),
		cmocka_unit_test(addresses_are_encoded_and_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

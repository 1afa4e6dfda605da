/* JSON behind limits: what is refused, at which cost, and typed reading. */
#include "engine/json.h"

#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum bn_status parse(const char *text, struct bn_error *err)
{
	json_t *root = NULL;
	const enum bn_status status =
		bn_json_parse(&root, text, strlen(text), BN_JSON_MAX_DEPTH, err);

	json_decref(root);
	return status;
}

static void json_refuses_what_is_not_sound(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{ "", "not valid JSON" },
		{ "[1]", "not an object" },
		{ "7", "not" },
		{ "{\"a\": 1", "line 1" },
		{ "{\"a\": 1, \"a\": 2}", "duplicate" },
		{ "{\"a\": 1} x", "end of file expected" },
		{ "{\"a\": 99999999999999999999}", "too big integer" },
		{ "{\"a\": 1e999}", "real number overflow" },
		{ "{\"a\": NaN}", "not valid JSON" },
		{ "{\"a\": \"\xff\"}", "unable to decode" },
		{ "{\"a\\u0000b\": 1}", "not valid JSON" },
		{ "{\"a\": 'x'}", "not valid JSON" },
		{ "{\"a\": \"x", "not valid JSON" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bn_error err = { 0 };

		hf_expect(parse(bad[i].text, &err), &err, BN_E_FORMAT, bad[i].words);
	}
}

static void json_refuses_depth_before_it_costs_anything(void **state)
{
	struct bn_error err = { 0 };
	char text[400];
	size_t n = (size_t)snprintf(text, sizeof(text), "{\"a\": ");

	(void)state;
	memset(text + n, '[', 31);
	memset(text + n + 31, ']', 31);
	strcpy(text + n + 62, "}");
	hf_expect(parse(text, &err), &err, BN_OK, "");
	memset(text + n, '[', 32);
	memset(text + n + 32, ']', 32);
	strcpy(text + n + 64, "}");
	hf_expect(parse(text, &err), &err, BN_E_FORMAT, "deeper than 32");
	/* Brackets in strings are no depth. */
	strcpy(text, "{\"a\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\"}");
	hf_expect(parse(text, &err), &err, BN_OK, "");
}

static void json_refuses_bombs_before_it_builds_them(void **state)
{
	enum { N = 8 * 1024 * 1024 };
	static const char *const pieces[] = { "[],", "{},", "\"\",", "1,  " };
	const size_t before = hf_peak_mib();
	char *text = malloc(N + 64);
	json_t *root = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		const size_t piece = strlen(pieces[i]);
		struct bn_error err = { 0 };
		size_t n = (size_t)sprintf(text, "{\"a\": [");

		while (n < N) {
			memcpy(text + n, pieces[i], piece);
			n += piece;
		}
		n += (size_t)sprintf(text + n, "0]}");
		hf_expect(bn_json_parse(&root, text, n, 32, &err), &err, BN_E_TOO_LARGE,
			  "too many small values");
	}
	free(text);
	assert_true(hf_peak_mib() - before < 24);
}

static void json_reads_values_by_type_and_range(void **state)
{
	static const char text[] = "{\"n\": 7, \"neg\": -1, \"x\": 1.5, \"s\": \"t\", \"b\": true,"
				   " \"nil\": null, \"big\": 4294967296}";
	struct bn_error err = { 0 };
	const char *s = NULL;
	json_t *root = NULL;
	uint32_t n = 0;
	double x = 0;
	bool b = false;

	(void)state;
	assert_int_equal(bn_json_parse(&root, text, strlen(text), 32, &err), BN_OK);
	assert_int_equal(bn_json_u32(root, "n", 1, 7, &n, &err), BN_OK);
	assert_int_equal(n, 7);
	hf_expect(bn_json_u32(root, "n", 1, 6, &n, &err), &err, BN_E_FORMAT, "between 1 and 6");
	hf_expect(bn_json_u32(root, "neg", 0, 6, &n, &err), &err, BN_E_FORMAT, "'neg' is -1");
	hf_expect(bn_json_u32(root, "big", 0, UINT32_MAX, &n, &err), &err, BN_E_FORMAT,
		  "4294967296");
	hf_expect(bn_json_u32(root, "x", 0, 6, &n, &err), &err, BN_E_FORMAT, "an integer");
	hf_expect(bn_json_u32(root, "none", 0, 6, &n, &err), &err, BN_E_FORMAT, "absent");
	assert_int_equal(n, 7);
	assert_int_equal(bn_json_real(root, "n", 0, 8, &x, &err), BN_OK);
	assert_true(x == 7.0);
	hf_expect(bn_json_real(root, "x", 2, 3, &x, &err), &err, BN_E_FORMAT, "1.5");
	hf_expect(bn_json_real(root, "s", 2, 3, &x, &err), &err, BN_E_FORMAT, "a string");
	assert_int_equal(bn_json_bool(root, "b", &b, &err), BN_OK);
	assert_true(b);
	hf_expect(bn_json_bool(root, "n", &b, &err), &err, BN_E_FORMAT, "true or false");
	assert_int_equal(bn_json_string(root, "s", &s, &err), BN_OK);
	assert_string_equal(s, "t");
	hf_expect(bn_json_string(root, "b", &s, &err), &err, BN_E_FORMAT, "a string");
	assert_null(bn_json_get(root, "nil"));
	assert_null(bn_json_get(NULL, "n"));
	assert_non_null(bn_json_get(root, "n"));
	json_decref(root);
}

static void json_loads_files_and_names_them(void **state)
{
	struct bn_error err = { 0 };
	struct hf_folder hf;
	json_t *root = NULL;
	int fd;

	(void)state;
	hf_init(&hf);
	hf_write(&hf);
	fd = open(hf.path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(bn_json_load(&root, fd, "config.json", &err), BN_OK);
	json_decref(root);
	hf_expect(bn_json_load(&root, fd, "nothing.json", &err), &err, BN_E_IO, "nothing.json");
	hf_write_file(&hf, "bad.json", "{\"a\":", 5);
	hf_expect(bn_json_load(&root, fd, "bad.json", &err), &err, BN_E_FORMAT,
		  "bad.json: not valid");
	hf_expect(bn_json_load(&root, fd, ".", &err), &err, BN_E_FORMAT, "directory");
	close(fd);
	/* Too large by its size alone: a sparse file. */
	{
		char path[200];

		snprintf(path, sizeof(path), "%s/bad.json", hf.path);
		assert_int_equal(truncate(path, (off_t)BN_JSON_MAX_BYTES + 1), 0);
		fd = open(hf.path, O_RDONLY | O_DIRECTORY);
		hf_expect(bn_json_load(&root, fd, "bad.json", &err), &err, BN_E_TOO_LARGE,
			  "at most");
		close(fd);
	}
	hf_finish(&hf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_refuses_what_is_not_sound),
		cmocka_unit_test(json_refuses_depth_before_it_costs_anything),
		cmocka_unit_test(json_refuses_bombs_before_it_builds_them),
		cmocka_unit_test(json_reads_values_by_type_and_range),
		cmocka_unit_test(json_loads_files_and_names_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "daemon/setting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const colours[] = { "red", "green", "blue", NULL };

/* A member of each type, and a row for each member. */
struct all {
	bool has_num;
	const char *text, *name;
	struct bn_config_strings texts, names;
	bool flag;
	uint64_t count, size, budget, duration, mode;
	int64_t whole, keep;
	double num;
	struct bn_config_cores cores;
	uint32_t word, words;
};

#define ROW(member, TYPE)                                                               \
	.path = #member, .type = BN_SETTING_##TYPE, .at = offsetof(struct all, member), \
	.has = SIZE_MAX
static const struct bn_setting rows[] = {
	{ ROW(text, TEXT), .fallback = "" },
	{ ROW(name, NAME) },
	{ ROW(texts, TEXTS), .fallback = "[]" },
	{ ROW(names, NAMES), .fallback = "[]" },
	{ ROW(flag, BOOL), .fallback = "true" },
	{ ROW(count, COUNT), .fallback = "5", .min = 1, .max = 100 },
	{ ROW(whole, INT), .fallback = "-3", .min = -10, .max = 10 },
	{ .path = "num",
	  .type = BN_SETTING_NUM,
	  .at = offsetof(struct all, num),
	  .has = offsetof(struct all, has_num),
	  .num_min = -1,
	  .num_max = 2.5 },
	{ ROW(size, SIZE), .fallback = "2KiB", .min = 1024, .max = INT64_C(1) << 30 },
	{ ROW(budget, BUDGET), .fallback = "auto", .min = 1 << 20, .max = INT64_C(1) << 40 },
	{ ROW(duration, DURATION), .fallback = "10s", .min = 100, .max = 3600000 },
	{ ROW(keep, KEEP), .fallback = "5m", .min = 0, .max = 3600000 },
	{ ROW(mode, MODE), .fallback = "0660" },
	{ ROW(cores, CORES), .fallback = "auto", .min = 1, .max = 4 },
	{ ROW(word, WORD), .fallback = "green", .words = colours },
	{ ROW(words, WORDS), .fallback = "all", .words = colours },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static struct bn_yaml_report report;
static struct bn_yaml *tree; /* of the last reading: texts lie in it */

static int drop_tree(void **state)
{
	(void)state;
	bn_yaml_free(tree);
	tree = NULL;
	return 0;
}

/* Reads "path: value" into *all; the tree stays until the next call. */
static enum bn_status read_one(struct all *all, const char *path, const char *value)
{
	char text[512];
	const struct bn_setting *row = rows;

	while (strcmp(row->path, path) != 0) {
		row++;
		assert_true(row < rows + ROWS);
	}
	memset(&report, 0, sizeof(report));
	snprintf(text, sizeof(text), "%s: %s", path, value);
	bn_yaml_free(tree);
	assert_int_equal(bn_yaml_read(&tree, text, strlen(text), &report, NULL), BN_OK);
	assert_int_equal(report.n, 0);
	return bn_setting_read(row, all, bn_yaml_root(tree)->first, path, tree, &report);
}

static void refuses(const char *path, const char *value, const char *complaint)
{
	struct all all, before;

	memset(&all, 0x55, sizeof(all));
	before = all;
	assert_int_equal(read_one(&all, path, value), BN_E_CONFIG);
	assert_int_equal(report.n, 1);
	if (strcmp(report.at[0].text, complaint) != 0) {
		fail_msg("'%s', wanted '%s'", report.at[0].text, complaint);
	}
	assert_true(report.at[0].line == 1 && report.at[0].column > strlen(path));
	assert_memory_equal(&all, &before, sizeof(all));
}

static void setting_reads_every_type(void **state)
{
	struct all a = { 0 };

	(void)state;
	assert_int_equal(read_one(&a, "text", "'a b'"), BN_OK);
	assert_string_equal(a.text, "a b");
	assert_int_equal(read_one(&a, "name", "bit.net-2b_x"), BN_OK);
	assert_string_equal(a.name, "bit.net-2b_x");
	assert_int_equal(read_one(&a, "texts", "[x, 'y z']"), BN_OK);
	assert_int_equal(a.texts.n, 2);
	assert_string_equal(a.texts.at[1], "y z");
	assert_int_equal(read_one(&a, "names", "one"), BN_OK);
	assert_int_equal(a.names.n, 1);
	assert_string_equal(a.names.at[0], "one");
	assert_int_equal(read_one(&a, "flag", "true"), BN_OK);
	assert_true(a.flag);
	assert_int_equal(read_one(&a, "count", "100"), BN_OK);
	assert_int_equal(a.count, 100);
	assert_int_equal(read_one(&a, "whole", "-10"), BN_OK);
	assert_int_equal(a.whole, -10);
	assert_int_equal(read_one(&a, "num", "2.5"), BN_OK);
	assert_true(a.num == 2.5 && a.has_num);
	assert_int_equal(read_one(&a, "size", "1.5KiB"), BN_OK);
	assert_int_equal(a.size, 1536);
	assert_int_equal(read_one(&a, "budget", "6GiB"), BN_OK);
	assert_int_equal(a.budget, UINT64_C(6) << 30);
	assert_int_equal(read_one(&a, "budget", "auto"), BN_OK);
	assert_int_equal(a.budget, 0);
	assert_int_equal(read_one(&a, "duration", "1m30s"), BN_OK);
	assert_int_equal(a.duration, 90000);
	assert_int_equal(read_one(&a, "keep", "-1"), BN_OK);
	assert_int_equal(a.keep, -1);
	assert_int_equal(read_one(&a, "mode", "0640"), BN_OK); /* octal without quotes, too */
	assert_int_equal(a.mode, 0640);
	assert_int_equal(read_one(&a, "cores", "3"), BN_OK);
	assert_int_equal(a.cores.count, 3);
	assert_int_equal(read_one(&a, "cores", "[0, 6, 2]"), BN_OK);
	assert_int_equal(a.cores.count, 0);
	assert_int_equal(a.cores.list.n, 3);
	assert_int_equal(a.cores.list.at[1], 6);
	assert_int_equal(read_one(&a, "word", "blue"), BN_OK);
	assert_int_equal(a.word, 2);
	assert_int_equal(read_one(&a, "words", "[red, blue]"), BN_OK);
	assert_int_equal(a.words, 5);
	assert_int_equal(read_one(&a, "words", "green"), BN_OK);
	assert_int_equal(a.words, 2);
	assert_int_equal(read_one(&a, "words", "[all]"), BN_OK);
	assert_int_equal(a.words, 7);
}

static void setting_complains_with_what_it_wants_and_what_it_found(void **state)
{
	(void)state;
	refuses("text", "[a]", "text: expected a text of at most 4095 bytes, found a list");
	refuses("name", "BitNet", "name: expected 1 to 64 of a-z 0-9 . _ -, found 'BitNet'");
	refuses("name", "''", "name: expected 1 to 64 of a-z 0-9 . _ -, found ''");
	refuses("texts", "{a: b}", "texts: expected a list of texts, found a map");
	refuses("texts", "[a, [b]]", "texts: expected a list of texts, found a list");
	refuses("names", "[ok, 'not ok']",
		"names: expected a list of names, each 1 to 64 of a-z 0-9 . _ -, found 'not ok'");
	refuses("flag", "yes", "flag: expected true or false, found 'yes'");
	refuses("count", "many", "count: expected a whole number from 1 to 100, found 'many'");
	refuses("count", "0", "count: expected a whole number from 1 to 100, found '0'");
	refuses("count", "101", "count: expected a whole number from 1 to 100, found '101'");
	refuses("count", "5.0", "count: expected a whole number from 1 to 100, found '5.0'");
	refuses("whole", "11", "whole: expected a whole number from -10 to 10, found '11'");
	refuses("num", ".inf", "num: expected a number from -1 to 2.5, found '.inf'");
	refuses("num", "nan", "num: expected a number from -1 to 2.5, found 'nan'");
	refuses("num", "0x1p1", "num: expected a number from -1 to 2.5, found '0x1p1'");
	refuses("num", "2.6", "num: expected a number from -1 to 2.5, found '2.6'");
	refuses("size", "6GB/s", "size: expected a size from 1KiB to 1GiB, found '6GB/s'");
	refuses("size", "2GiB", "size: expected a size from 1KiB to 1GiB, found '2GiB'");
	refuses("budget", "all", "budget: expected auto, or a size from 1MiB to 1TiB, found 'all'");
	refuses("duration", "10", "duration: expected a time from 100ms to 1h, found '10'");
	refuses("duration", "-1", "duration: expected a time from 100ms to 1h, found '-1'");
	refuses("keep", "2h", "keep: expected -1 for ever, or a time from 0 to 1h, found '2h'");
	refuses("mode", "0999",
		"mode: expected permission bits in octal, \"0600\" to \"0777\", found '0999'");
	refuses("mode", "04777",
		"mode: expected permission bits in octal, \"0600\" to \"0777\", found '04777'");
	refuses("cores", "5",
		"cores: expected auto, a number from 1 to 4, or a list of core numbers, found '5'");
	refuses("cores", "[]",
		"cores: expected auto, a number from 1 to 4, or a list of core numbers, found a "
		"list");
	refuses("cores", "[1, 1]", "cores: core 1 stands twice");
	refuses("word", "pink", "word: expected red, green or blue, found 'pink'");
	refuses("words", "[red, pink]",
		"words: expected a list of red, green or blue, or all, found 'pink'");
	refuses("words", "[]",
		"words: expected a list of red, green or blue, or all, found a list");
}

static void setting_shortens_what_it_found(void **state)
{
	char value[200];

	(void)state;
	memset(value, 'x', sizeof(value));
	value[199] = '\0';
	value[64] = '\0';
	{
		char wanted[300];

		snprintf(wanted, sizeof(wanted),
			 "count: expected a whole number from 1 to 100, found '%s'...", value);
		value[64] = 'x';
		refuses("count", value, wanted);
	}
}

static void setting_lists_have_an_end(void **state)
{
	char value[2048] = "[";
	struct all a;

	(void)state;
	for (int i = 0; i < BN_SETTING_LIST_MAX; i++) {
		strcat(value, i == 0 ? "a" : ",a");
	}
	memset(&report, 0, sizeof(report));
	for (int extra = 0; extra < 2; extra++) {
		char text[2100];

		snprintf(text, sizeof(text), "texts: %s%s]", value, extra > 0 ? ",a" : "");
		bn_yaml_free(tree);
		assert_int_equal(bn_yaml_read(&tree, text, strlen(text), &report, NULL), BN_OK);
		assert_int_equal(bn_setting_read(&rows[2], &a, bn_yaml_root(tree)->first, "texts",
						 tree, &report),
				 extra > 0 ? BN_E_CONFIG : BN_OK);
	}
}

/* Printing the defaults and reading them gives the same members, for every type. */
static void setting_prints_what_it_reads(void **state)
{
	static const struct {
		const char *path, *value;
	} samples[] = {
		{ "text", "\"a\\\\b\\\"c\\x01d\xc3\xa9\"" },
		{ "name", "a-b" },
		{ "texts", "[a, \"b, c\"]" },
		{ "names", "[]" },
		{ "flag", "false" },
		{ "count", "99" },
		{ "whole", "-7" },
		{ "num", "0.1" },
		{ "num", "1e-300" },
		{ "size", "1000000" },
		{ "budget", "auto" },
		{ "budget", "7GiB" },
		{ "duration", "1500ms" },
		{ "keep", "-1" },
		{ "keep", "0" },
		{ "mode", "0600" },
		{ "cores", "auto" },
		{ "cores", "4" },
		{ "cores", "[3, 1]" },
		{ "word", "red" },
		{ "words", "[red, green]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct all a = { 0 }, b = { 0 };
		char first[256], second[256];
		const struct bn_setting *row = rows;
		FILE *out;

		while (strcmp(row->path, samples[i].path) != 0) {
			row++;
		}
		assert_int_equal(read_one(&a, row->path, samples[i].value), BN_OK);
		out = fmemopen(first, sizeof(first), "w");
		bn_setting_print(out, row, &a);
		fclose(out);
		assert_int_equal(read_one(&b, row->path, first), BN_OK);
		out = fmemopen(second, sizeof(second), "w");
		bn_setting_print(out, row, &b);
		fclose(out);
		assert_string_equal(first, second);
	}
}

static void setting_defaults_are_values_like_any_other(void **state)
{
	struct all a = { 0 };

	(void)state;
	assert_int_equal(bn_yaml_read(&tree, "", 0, &report, NULL), BN_OK);
	for (size_t i = 0; i < ROWS; i++) {
		bn_setting_default(&rows[i], &a, tree);
	}
	assert_string_equal(a.text, "");
	assert_null(a.name);
	assert_int_equal(a.texts.n, 0);
	assert_true(a.flag);
	assert_int_equal(a.count, 5);
	assert_int_equal(a.whole, -3);
	assert_false(a.has_num);
	assert_int_equal(a.size, 2048);
	assert_int_equal(a.budget, 0);
	assert_int_equal(a.duration, 10000);
	assert_int_equal(a.keep, 300000);
	assert_int_equal(a.mode, 0660);
	assert_int_equal(a.cores.count, 0);
	assert_int_equal(a.word, 1);
	assert_int_equal(a.words, 7);
	assert_false(bn_setting_is_set(&rows[1], &a));
	assert_false(bn_setting_is_set(&rows[7], &a));
	assert_true(bn_setting_is_set(&rows[5], &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(setting_reads_every_type, drop_tree),
		cmocka_unit_test_teardown(setting_complains_with_what_it_wants_and_what_it_found,
					  drop_tree),
		cmocka_unit_test_teardown(setting_shortens_what_it_found, drop_tree),
		cmocka_unit_test_teardown(setting_lists_have_an_end, drop_tree),
		cmocka_unit_test_teardown(setting_prints_what_it_reads, drop_tree),
		cmocka_unit_test_teardown(setting_defaults_are_values_like_any_other, drop_tree),
	};

	return cmocka_run_group_tests_name("daemon/setting", tests, NULL, NULL);
}

#include "daemon/yaml.h"

#include "tests/spent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct bn_yaml_report report;

static struct bn_yaml *read_bytes(const void *bytes, size_t n)
{
	struct bn_yaml *tree;

	memset(&report, 0, sizeof(report));
	assert_int_equal(bn_yaml_read(&tree, bytes, n, &report, NULL), BN_OK);
	return tree;
}

static struct bn_yaml *read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

/* The one complaint about a text, as "line:column: sentence". */
static void refuses(const char *text, const char *expected)
{
	char got[BN_YAML_COMPLAINT_BYTES + 32];

	bn_yaml_free(read_text(text));
	assert_true(report.n >= 1);
	snprintf(got, sizeof(got), "%u:%u: %s", report.at[0].line, report.at[0].column,
		 report.at[0].text);
	if (strncmp(got, expected, strlen(expected)) != 0) {
		fail_msg("'%s' for\n%s\nwanted '%s'", got, text, expected);
	}
}

static void yaml_tree_knows_kinds_and_places(void **state)
{
	struct bn_yaml *tree = read_text("# note\na: 1\nb:\n  - x\n  - {c: 'q', d: }\n");
	const struct bn_yaml_node *root = bn_yaml_root(tree);
	const struct bn_yaml_node *list, *map;

	(void)state;
	assert_int_equal(report.n, 0);
	assert_int_equal(root->kind, BN_YAML_MAP);
	assert_int_equal(root->n, 2);
	assert_string_equal(root->first->key, "a");
	assert_string_equal(root->first->text, "1");
	assert_true(root->first->plain);
	assert_int_equal(root->first->line, 2);
	assert_int_equal(root->first->column, 4);
	assert_int_equal(root->first->key_column, 1);
	list = root->first->next;
	assert_string_equal(list->key, "b");
	assert_int_equal(list->kind, BN_YAML_LIST);
	assert_int_equal(list->n, 2);
	assert_string_equal(list->first->text, "x");
	assert_null(list->first->key);
	map = list->first->next;
	assert_string_equal(map->first->key, "c");
	assert_string_equal(map->first->text, "q");
	assert_false(map->first->plain);
	assert_int_equal(map->first->line, 5);
	assert_true(bn_yaml_is_null(map->first->next));
	assert_false(bn_yaml_is_null(map->first));
	assert_null(map->next);
	bn_yaml_free(tree);
	bn_yaml_free(NULL);
}

static void yaml_nothing_has_no_root(void **state)
{
	struct bn_yaml *tree = read_bytes(NULL, 0);

	(void)state;
	assert_null(bn_yaml_root(tree));
	bn_yaml_free(tree);
	tree = read_text("# only\n\n# comments\n");
	assert_null(bn_yaml_root(tree));
	assert_int_equal(report.n, 0);
	bn_yaml_free(tree);
}

static void yaml_null_is_a_plain_word(void **state)
{
	static const struct {
		const char *text;
		bool null;
	} cases[] = { { "a: ~", true },       { "a: null", true },  { "a: Null", true },
		      { "a: 'null'", false }, { "a: \"\"", false }, { "a:", true },
		      { "a: nul", false },    { "a: []", false } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_yaml *tree = read_text(cases[i].text);

		assert_int_equal(bn_yaml_is_null(bn_yaml_root(tree)->first), cases[i].null);
		bn_yaml_free(tree);
	}
}

static void yaml_refuses_what_makes_it_dangerous(void **state)
{
	(void)state;
	refuses("a: &x 1\n", "1:4: anchors (&x) are not supported");
	refuses("a: 1\nb: *x\n", "2:4: aliases (*x) are not supported");
	refuses("a: !!str 1\n", "1:4: tags (tag:yaml.org,2002:str) are not supported");
	refuses("a: !x {}\n", "1:4: tags (!x) are not supported");
	refuses("a: {<<: {b: 1}}\n", "1:5: merge keys (<<) are not supported");
	refuses("a: 1\nb: 2\na: 3\n", "3:1: a: stands twice, first in line 1");
	refuses("? [a]\n: 1\n", "1:3: a key must be a word, not a list");
	refuses("{a: 1}: 1\n", "1:1: a key must be a word, not a map");
	refuses("a: 1\n---\nb: 2\n", "2:1: a second document begins here");
	refuses("a: \"x\\0y\"\n", "1:4: a text must not contain \\0");
}

static void yaml_names_the_place_of_broken_syntax(void **state)
{
	(void)state;
	refuses("a: 1\n b: 2\n", "2:3: YAML syntax: mapping values are not allowed");
	refuses("a: [1, 2\n", "2:1: YAML syntax:");
	refuses("a:\n\t- 1\n", "2:1: YAML syntax: found character that cannot start any token");
	refuses("a: 'x\n", "2:1: YAML syntax: found unexpected end of stream");
	refuses("a: @x\n", "1:4: YAML syntax:");
	bn_yaml_free(read_bytes("a: \xff\xfe\n", 6));
	assert_int_equal(report.n, 1);
	assert_non_null(strstr(report.at[0].text, "not plain UTF-8"));
	bn_yaml_free(read_bytes("a: \x01\n", 5));
	assert_int_equal(report.n, 1);
	bn_yaml_free(read_bytes("\xff\xfe"
				"a\0:\0 \0"
				"1\0",
				10));
	assert_int_equal(report.n, 1); /* UTF-16 */
}

static void yaml_collects_complaints_and_goes_on(void **state)
{
	struct bn_yaml *tree = read_text("a: &x 1\nb: *x\nc: !t 2\nd: 1\nd: 2\n");

	(void)state;
	assert_int_equal(report.n, 4);
	assert_int_equal(bn_yaml_root(tree)->n, 5);
	bn_yaml_free(tree);
}

static void yaml_complaints_are_bounded_and_clean(void **state)
{
	static char text[200 * 8 + 1];
	char *at = text;

	(void)state;
	for (int i = 0; i < 200; i++) {
		at += sprintf(at, "- &a%d\n", i % 10);
	}
	bn_yaml_free(read_text(text));
	assert_int_equal(report.n, BN_YAML_COMPLAINTS_MAX);
	assert_int_equal(report.dropped, 150);
	bn_yaml_complain(&report, 1, 1, "dropped");
	assert_int_equal(report.dropped, 151);
	memset(&report, 0, sizeof(report));
	bn_yaml_complain(&report, 1, 1, "x\n\x1b[2J\xff%0300d", 1);
	assert_int_equal(strlen(report.at[0].text), BN_YAML_COMPLAINT_BYTES - 1);
	assert_memory_equal(report.at[0].text, "x??[2J?0", 8);
}

static void yaml_sorts_complaints_by_place(void **state)
{
	(void)state;
	memset(&report, 0, sizeof(report));
	bn_yaml_complain(&report, 5, 1, "d");
	bn_yaml_complain(&report, 2, 9, "b");
	bn_yaml_complain(&report, 2, 9, "c");
	bn_yaml_complain(&report, 0, 0, "a");
	bn_yaml_sort(&report);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(report.at[i].text[0], 'a' + (int)i);
	}
}

static void yaml_depth_is_limited(void **state)
{
	char text[64];

	(void)state;
	memset(text, '[', BN_YAML_DEPTH_MAX);
	memset(text + BN_YAML_DEPTH_MAX, ']', BN_YAML_DEPTH_MAX);
	text[2 * BN_YAML_DEPTH_MAX] = '\0';
	bn_yaml_free(read_text(text));
	assert_int_equal(report.n, 0);
	memset(text, '[', BN_YAML_DEPTH_MAX + 1);
	text[BN_YAML_DEPTH_MAX + 1] = '\0';
	refuses(text, "1:17: more than 16 levels of nesting");
}

static void yaml_size_is_limited(void **state)
{
	char *text = malloc(BN_YAML_BYTES_MAX + 1);

	(void)state;
	memset(text, ' ', BN_YAML_BYTES_MAX + 1);
	memcpy(text, "a: 1\n#", 6);
	bn_yaml_free(read_bytes(text, BN_YAML_BYTES_MAX));
	assert_int_equal(report.n, 0);
	bn_yaml_free(read_bytes(text, BN_YAML_BYTES_MAX + 1));
	assert_int_equal(report.n, 1);
	assert_non_null(strstr(report.at[0].text, "at most 1048576"));
	free(text);
}

/* The classics: nine levels of aliases, deep brackets, a million keys. Each ends soon, politely. */
static void yaml_bombs_fizzle(void **state)
{
	char *text = malloc(BN_YAML_BYTES_MAX + 64);
	char *at;
	double start = spent();

	(void)state;
	at = text + sprintf(text, "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
	for (int i = 1; i <= 9; i++) {
		at += sprintf(at, "a%d: &a%d [", i, i);
		for (int k = 0; k < 9; k++) {
			at += sprintf(at, "*a%d,", i - 1);
		}
		at += sprintf(at, "]\n");
	}
	bn_yaml_free(read_text(text));
	assert_int_equal(report.n, BN_YAML_COMPLAINTS_MAX);
	assert_true(spent() - start < 5); /* expanded, it would be 387 million words */

	memset(text, '[', BN_YAML_BYTES_MAX);
	bn_yaml_free(read_bytes(text, BN_YAML_BYTES_MAX));
	assert_true(report.n >= 1);
	memset(text, '{', BN_YAML_BYTES_MAX);
	bn_yaml_free(read_bytes(text, BN_YAML_BYTES_MAX));
	assert_true(report.n >= 1);

	at = text;
	for (int i = 0; at - text < BN_YAML_BYTES_MAX - 64; i++) {
		at += sprintf(at, "k%d:\n", i);
	}
	bn_yaml_free(read_text(text));
	assert_int_equal(report.n, 1);
	assert_non_null(strstr(report.at[0].text, "more than 512 keys"));

	for (at = text; at - text < BN_YAML_BYTES_MAX - 64;) {
		at += sprintf(at, "- 1\n");
	}
	bn_yaml_free(read_text(text));
	assert_int_equal(report.n, 1);
	assert_non_null(strstr(report.at[0].text, "more than 65536 values"));
	assert_true(spent() - start < 5);
	free(text);
}

static void yaml_memory_is_zeroed_and_aligned(void **state)
{
	struct bn_yaml *tree = read_text("a: 1");

	(void)state;
	for (size_t n = 0; n < 40000; n += 777) {
		unsigned char *p = bn_yaml_alloc(tree, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(p[i], 0);
		}
		memset(p, 0xff, n);
	}
	assert_null(bn_yaml_alloc(tree, SIZE_MAX));
	bn_yaml_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(yaml_tree_knows_kinds_and_places),
		cmocka_unit_test(yaml_nothing_has_no_root),
		cmocka_unit_test(yaml_null_is_a_plain_word),
		cmocka_unit_test(yaml_refuses_what_makes_it_dangerous),
		cmocka_unit_test(yaml_names_the_place_of_broken_syntax),
		cmocka_unit_test(yaml_collects_complaints_and_goes_on),
		cmocka_unit_test(yaml_complaints_are_bounded_and_clean),
		cmocka_unit_test(yaml_sorts_complaints_by_place),
		cmocka_unit_test(yaml_depth_is_limited),
		cmocka_unit_test(yaml_size_is_limited),
		cmocka_unit_test(yaml_bombs_fizzle),
		cmocka_unit_test(yaml_memory_is_zeroed_and_aligned),
	};

	return cmocka_run_group_tests_name("daemon/yaml", tests, NULL, NULL);
}

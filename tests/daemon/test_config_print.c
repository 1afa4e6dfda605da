#include "daemon/config_print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char everything[] =
	"socket: {path: /tmp/x.sock, group: users, mode: '0600'}\n"
	"memory: {budget: 6GiB, headroom: 512MiB}\n"
	"workers: {cores: [0, 1], step_target_ms: 50, max_batch: 8, prefill_chunk: 64, "
	"mask_features: [avx2]}\n"
	"kernels: [i2s.scalar]\n"
	"models:\n"
	"  - {name: a, path: /m/a.gguf, aliases: [x, y], context: 512, weight: 2, keep_alive: -1, "
	"pin: true, preload: true, kernels: [i2s.k1, i2s.k2], template: chatml, max_tokens: 5, defaults: "
	"{temperature: 0.1, top_k: 1, top_p: 0.2, min_p: 0.3, typical_p: 0.4, repeat_penalty: 1.5, "
	"repeat_last_n: -1, presence_penalty: -0.5, frequency_penalty: 0.7}}\n"
	"  - {name: b, path: \"/m/b \\\"q\\\".gguf\"}\n"
	"limits: {clients: 3, stall_timeout: 1500ms}\n"
	"defaults: {keep_alive: 0, top_k: 17}\n"
	"access: [{user: root, may: all}, {group: '7', may: [status, load]}]\n"
	"log: {level: debug}\n"
	"shutdown: {drain_timeout: 5s}\n";

static struct bn_config *parse(const char *text)
{
	struct bn_yaml_report report;
	struct bn_error err;
	struct bn_config *c;

	if (bn_config_parse(&c, "bnd.yaml", text, strlen(text), &report, &err) != BN_OK) {
		fail_msg("%s in\n%s", err.text, text);
	}
	return c;
}

/* What print writes; to be freed. */
static char *printed(const struct bn_config *c)
{
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	bn_config_print(out, c);
	fclose(out);
	return text;
}

static void print_parses_to_the_same(void **state)
{
	static const char *const samples[] = { "", everything };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bn_config *first = parse(samples[i]);
		char *text = printed(first);
		struct bn_config *second = parse(text);
		char *again = printed(second);
		struct bn_config_diff diff;

		assert_string_equal(text, again);
		assert_int_equal(bn_config_compare(&diff, first, second, NULL), BN_OK);
		assert_int_equal(diff.n, 0);
		bn_config_diff_free(&diff);
		bn_config_free(first);
		bn_config_free(second);
		free(text);
		free(again);
	}
}

static void print_shows_values_as_people_write_them(void **state)
{
	struct bn_config *c = parse(everything);
	char *text = printed(c);

	(void)state;
	assert_non_null(strstr(text, "memory:\n  budget: 6GiB\n  headroom: 512MiB\n"));
	assert_non_null(strstr(text, "  mode: \"0600\"\n"));
	assert_non_null(strstr(text, "  stall_timeout: 1500ms\n"));
	assert_non_null(strstr(text, "models:\n  - name: \"a\"\n    path: \"/m/a.gguf\"\n"));
	assert_non_null(strstr(text, "    defaults:\n      temperature: 0.1\n      top_k: 1\n"));
	assert_non_null(strstr(text, "  - name: \"b\"\n    path: \"/m/b \\\"q\\\".gguf\"\n"));
	assert_non_null(strstr(text,
			       "access:\n  - user: \"root\"\n    may: [status, generate, load, "
			       "admin]\n  - group: \"7\"\n    may: [status, load]\n"));
	bn_config_free(c);
	free(text);
}

static void report_is_one_line_for_each_complaint(void **state)
{
	struct bn_yaml_report report = { 0 };
	char text[512];
	FILE *out = fmemopen(text, sizeof(text), "w");

	(void)state;
	bn_yaml_complain(&report, 3, 7, "x: wrong");
	bn_yaml_complain(&report, 0, 0, "y: wrong");
	report.dropped = 2;
	bn_config_print_report(out, "f.yaml", &report);
	fclose(out);
	assert_string_equal(text, "f.yaml:3:7: x: wrong\nf.yaml: y: wrong\nf.yaml: and 2 more\n");
}

static void table_has_a_line_for_each_setting(void **state)
{
	char *text;
	size_t n, rows, lines = 0;
	FILE *out = open_memstream(&text, &n);

	(void)state;
	bn_config_print_table(out);
	fclose(out);
	bn_config_table(&rows);
	for (char *at = text; *at != '\0'; at++) {
		lines += *at == '\n';
	}
	assert_int_equal(lines, rows);
	assert_non_null(strstr(text, "memory.budget\tauto\tnow\tauto, or a size from 64MiB to "
				     "1024TiB\tAll memory"));
	assert_non_null(strstr(text, "models[].name\trequired\t"));
	free(text);
}

static void compare_says_what_changes_and_when(void **state)
{
	struct bn_config *a = parse("models:\n  - {name: m, path: /m, weight: 1}\n"
				    "  - {name: gone, path: /g}\n");
	struct bn_config *b = parse("models:\n  - {name: new, path: /n}\n"
				    "  - {name: m, path: /other, weight: 3}\n"
				    "memory: {budget: 2GiB}\nworkers: {max_batch: 4}\n"
				    "access: [{user: root, may: all}]\nlog: {level: debug}\n");
	static const struct {
		enum bn_config_when when;
		const char *text;
	} wanted[] = {
		{ BN_CONFIG_NOW, "memory.budget: auto -> 2GiB" },
		{ BN_CONFIG_RESTART, "workers.max_batch: 32 -> 4" },
		{ BN_CONFIG_NOW, "log.level: info -> debug" },
		{ BN_CONFIG_NOW, "models: gained \"new\"" },
		{ BN_CONFIG_NEXT_LOAD, "models[m].path: \"/m\" -> \"/other\"" },
		{ BN_CONFIG_NOW, "models[m].weight: 1 -> 3" },
		{ BN_CONFIG_NOW, "models: lost \"gone\"" },
		{ BN_CONFIG_NOW, "access: 0 -> 1 entries, for connections made from now on" },
	};
	struct bn_config_diff diff;

	(void)state;
	assert_int_equal(bn_config_compare(&diff, a, b, NULL), BN_OK);
	assert_int_equal(diff.n, sizeof(wanted) / sizeof(wanted[0]));
	for (uint32_t i = 0; i < diff.n; i++) {
		assert_string_equal(diff.at[i].text, wanted[i].text);
		assert_int_equal(diff.at[i].when, wanted[i].when);
	}
	assert_string_equal(bn_config_when_word(BN_CONFIG_RESTART), "at the next start");
	bn_config_diff_free(&diff);
	bn_config_free(a);
	bn_config_free(b);
}

static void compare_sees_inherited_values(void **state)
{
	struct bn_config *a = parse("models: [{name: m, path: /m}]\n");
	struct bn_config *b = parse("models: [{name: m, path: /m}]\ndefaults: {top_k: 3}\n");
	struct bn_config_diff diff;

	(void)state;
	assert_int_equal(bn_config_compare(&diff, a, b, NULL), BN_OK);
	assert_int_equal(diff.n, 2);
	assert_string_equal(diff.at[0].text, "defaults.top_k: (not set) -> 3");
	assert_string_equal(diff.at[1].text, "models[m].defaults.top_k: (not set) -> 3");
	bn_config_diff_free(&diff);
	bn_config_free(a);
	bn_config_free(b);
}

static void compare_cuts_long_values(void **state)
{
	char text[4096] = "kernels: [";
	struct bn_config *a = parse(""), *b;
	struct bn_config_diff diff;

	(void)state;
	for (int i = 0; i < 200; i++) {
		strcat(text, "tl2,");
	}
	strcat(text, "tl1]\n");
	b = parse(text);
	assert_int_equal(bn_config_compare(&diff, a, b, NULL), BN_OK);
	assert_int_equal(diff.n, 1);
	assert_true(strlen(diff.at[0].text) < sizeof(diff.at[0].text));
	bn_config_diff_free(&diff);
	bn_config_free(a);
	bn_config_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(print_parses_to_the_same),
		cmocka_unit_test(print_shows_values_as_people_write_them),
		cmocka_unit_test(report_is_one_line_for_each_complaint),
		cmocka_unit_test(table_has_a_line_for_each_setting),
		cmocka_unit_test(compare_says_what_changes_and_when),
		cmocka_unit_test(compare_sees_inherited_values),
		cmocka_unit_test(compare_cuts_long_values),
	};

	return cmocka_run_group_tests_name("daemon/config_print", tests, NULL, NULL);
}

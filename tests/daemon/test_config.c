#include "daemon/config.h"

#include "daemon/config_print.h"
#include "daemon/log.h"
#include "engine/advice.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct bn_yaml_report report;
static struct bn_error error;

static struct bn_config *parse(const char *text)
{
	struct bn_config *c;

	if (bn_config_parse(&c, "dir/bnd.yaml", text, strlen(text), &report, &error) != BN_OK) {
		fail_msg("%s", error.text);
	}
	return c;
}

/* Expects exactly these complaints, "line:column: text" each, NULL at the end. */
static void refuses(const char *text, ...)
{
	struct bn_config *c = (struct bn_config *)&report;
	char got[BN_YAML_COMPLAINT_BYTES + 32];
	const char *expected;
	uint32_t i = 0;
	va_list args;

	assert_int_equal(bn_config_parse(&c, "bnd.yaml", text, strlen(text), &report, &error),
			 BN_E_CONFIG);
	assert_ptr_equal(c, &report); /* untouched */
	va_start(args, text);
	for (expected = va_arg(args, const char *); expected != NULL;
	     expected = va_arg(args, const char *)) {
		assert_true(i < report.n);
		snprintf(got, sizeof(got), "%u:%u: %s", report.at[i].line, report.at[i].column,
			 report.at[i].text);
		assert_string_equal(got, expected);
		i++;
	}
	va_end(args);
	assert_int_equal(report.n, i);
}

static void config_without_a_file_is_all_defaults(void **state)
{
	struct bn_config *c = parse("");

	(void)state;
	assert_string_equal(c->file, "dir/bnd.yaml");
	assert_string_equal(c->socket.path, "");
	assert_int_equal(c->socket.mode, 0660);
	assert_int_equal(c->memory.budget, 0);
	assert_int_equal(c->memory.headroom, 1 << 30);
	assert_int_equal(c->workers.cores.count, 0);
	assert_int_equal(c->workers.step_target_ms, 80);
	assert_int_equal(c->workers.max_batch, 32);
	/* What bnctl counts on where no daemon can be asked. */
	assert_int_equal(c->workers.max_batch, BN_ADVICE_BATCH);
	assert_int_equal(c->workers.prefill_chunk, BN_ADVICE_CHUNK);
	assert_int_equal(c->memory.headroom, BN_ADVICE_HEADROOM);
	assert_int_equal(c->kernels.n, 0);
	assert_int_equal(c->n_models, 0);
	assert_int_equal(c->limits.clients, 1024);
	assert_int_equal(c->limits.output_soft, 256 << 10);
	assert_int_equal(c->limits.output_hard, 1 << 20);
	assert_int_equal(c->limits.stall_timeout_ms, 10000);
	assert_int_equal(c->limits.stall_rate, 1024);
	assert_int_equal(c->defaults.keep_alive_ms, 600000);
	assert_int_equal(c->defaults.max_tokens, 1024);
	assert_false(c->defaults.sampling.has_temperature);
	assert_int_equal(c->n_access, 0);
	assert_int_equal(c->log.level, BN_CONFIG_LOG_INFO);
	assert_int_equal(c->shutdown.drain_timeout_ms, 30000);
	bn_config_free(c);
	bn_config_free(NULL);
}

static void config_levels_are_those_of_the_log(void **state)
{
	static const struct {
		const char *word;
		enum bn_log_level level;
	} words[] = { { "error", BN_LOG_ERROR },
		      { "warn", BN_LOG_WARN },
		      { "info", BN_LOG_INFO },
		      { "debug", BN_LOG_DEBUG } };

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct bn_config *c;
		char text[64];

		snprintf(text, sizeof(text), "log: {level: %s}\n", words[i].word);
		c = parse(text);
		assert_int_equal(c->log.level, words[i].level);
		bn_config_free(c);
	}
}

static void config_reads_models_and_fills_in_what_they_leave_out(void **state)
{
	struct bn_config *c =
		parse("models:\n"
		      "  - name: one\n"
		      "    path: /m/one.gguf\n"
		      "    aliases: [uno, eins]\n"
		      "    keep_alive: -1\n"
		      "    pin: true\n"
		      "    defaults: {temperature: 0, top_k: 5}\n"
		      "    kernels: [i2s.scalar]\n"
		      "  - {name: two, path: sub/two.gguf, weight: 3}\n"
		      "kernels: [i2s.vnni, i2s.avx2]\n"
		      "defaults: {keep_alive: 1h, max_tokens: 77, top_k: 9, min_p: 0.5}\n");
	const struct bn_config_model *one = &c->models[0], *two = &c->models[1];

	(void)state;
	assert_int_equal(c->n_models, 2);
	assert_string_equal(one->name, "one");
	assert_string_equal(one->path, "/m/one.gguf");
	assert_int_equal(one->keep_alive_ms, BN_CONFIG_KEEP_FOREVER);
	assert_true(one->pin);
	assert_int_equal(one->kernels.n, 1);
	assert_true(one->sampling.has_temperature && one->sampling.temperature == 0);
	assert_int_equal(one->sampling.top_k, 5);
	assert_true(one->sampling.has_min_p && one->sampling.min_p == 0.5);
	assert_false(one->sampling.has_top_p);
	assert_int_equal(one->max_tokens, 77);
	assert_int_equal(one->line, 2);
	assert_string_equal(two->path, "dir/sub/two.gguf"); /* beside the file */
	assert_int_equal(two->weight, 3);
	assert_int_equal(two->keep_alive_ms, 3600000);
	assert_int_equal(two->kernels.n, 2);
	assert_string_equal(two->kernels.at[1], "i2s.avx2");
	assert_int_equal(two->sampling.top_k, 9);
	assert_false(two->sampling.has_temperature);
	assert_string_equal(two->template, "auto");
	assert_ptr_equal(bn_config_model(c, "two"), two);
	assert_ptr_equal(bn_config_model(c, "eins"), one);
	assert_null(bn_config_model(c, "three"));
	bn_config_free(c);
}

static void config_reads_who_may_do_what(void **state)
{
	struct bn_config *c = parse("access:\n"
				    "  - {group: bnd, may: [generate, status]}\n"
				    "  - {user: root, may: all}\n"
				    "  - {user: '1000', may: [load]}\n");

	(void)state;
	assert_int_equal(c->n_access, 3);
	assert_string_equal(c->access[0].group, "bnd");
	assert_null(c->access[0].user);
	assert_int_equal(c->access[0].may, BN_MAY_GENERATE | BN_MAY_STATUS);
	assert_int_equal(c->access[1].may, BN_MAY_ALL);
	assert_int_equal(c->access[2].may, BN_MAY_LOAD);
	assert_int_equal(c->access[2].line, 4);
	bn_config_free(c);
}

static void config_empty_sections_keep_their_defaults(void **state)
{
	struct bn_config *c =
		parse("socket:\nmodels:\naccess: ~\nlimits:\n  clients:\nkernels: []\n"
		      "workers: {cores: null}\n");

	(void)state;
	assert_int_equal(c->limits.clients, 1024);
	assert_int_equal(c->n_models, 0);
	bn_config_free(c);
}

static void config_unknown_keys_suggest_the_nearest(void **state)
{
	(void)state;
	refuses("memory: {bugdet: 6GiB}\n",
		"1:10: memory.bugdet: there is no such setting; did you mean 'budget'?", NULL);
	refuses("model:\n  - name: x\n",
		"1:1: model: there is no such setting; did you mean 'models'?", NULL);
	refuses("models:\n  - {name: x, path: y, defaults: {temprature: 1}}\n",
		"2:35: models[0].defaults.temprature: there is no such setting; did you mean "
		"'temperature'?",
		NULL);
	refuses("xyzzy: 1\n", "1:1: xyzzy: there is no such setting", NULL);
	refuses("socket.path: /x\n",
		"1:1: socket.path: write 'socket:' and below it, further in, 'path:'", NULL);
	refuses("socket: {path.: /x}\n",
		"1:10: socket.path.: there is no such setting; did you mean 'path'?", NULL);
}

static void config_collects_everything_wrong_sorted_by_place(void **state)
{
	(void)state;
	refuses("limits:\n"
		"  clients: many\n"
		"  message: 1GiB\n"
		"models:\n"
		"  - name: Bad Name\n"
		"    path: /x\n"
		"    wieght: 2\n"
		"  - just text\n"
		"  - {path: /y}\n"
		"log: {level: loud}\n",
		"2:12: limits.clients: expected a whole number from 1 to 65536, found 'many'",
		"3:12: limits.message: expected a size from 4KiB to 16MiB, found '1GiB'",
		"5:11: models[0].name: expected 1 to 64 of a-z 0-9 . _ -, found 'Bad Name'",
		"7:5: models[0].wieght: there is no such setting; did you mean 'weight'?",
		"8:5: models[1]: expected a map of settings",
		"9:5: models[2].name: is missing. What clients call it.",
		"10:14: log.level: expected error, warn, info or debug, found 'loud'", NULL);
	assert_string_equal(error.text, "bnd.yaml:2:12: limits.clients: expected a whole number "
					"from 1 to 65536, found 'many'");
	assert_string_equal(error.data[0].key, "complaints");
	assert_int_equal(error.data[0].number, 7);
}

static void config_shapes_that_do_not_fit_are_named(void **state)
{
	(void)state;
	refuses("- a\n- b\n", "1:1: expected sections such as 'models:', found a list", NULL);
	refuses("hello\n", "1:1: expected sections such as 'models:', found a text", NULL);
	refuses("socket: /run/x\n", "1:9: socket: expected a map of settings", NULL);
	refuses("models: {name: x}\n",
		"1:9: models: expected a list of at most 256 entries, each beginning with '- '",
		NULL);
	refuses("models: x\n",
		"1:9: models: expected a list of at most 256 entries, each beginning with '- '",
		NULL);
	refuses("socket: {path: [a]}\n",
		"1:16: socket.path: expected a text of at most 4095 bytes, found a list", NULL);
}

static void config_names_of_models_are_unique(void **state)
{
	(void)state;
	refuses("models:\n"
		"  - {name: a, path: x}\n"
		"  - {name: a, path: y}\n"
		"  - {name: b, path: z, aliases: [c, a]}\n"
		"  - {name: d, path: z, aliases: [d]}\n",
		"3:5: models[1].name: 'a' is already the name of the model in line 2",
		"4:5: models[2].aliases: 'a' is already the name of the model in line 2",
		"5:5: models[3].aliases: 'd' is already the name of the model in line 5", NULL);
}

static void config_paths_of_models_must_be_paths(void **state)
{
	(void)state;
	refuses("models:\n  - {name: a, path: ~/m.gguf}\n  - {name: b, path: ''}\n"
		"  - {name: c, path: }\n",
		"2:5: models[0].path: ~ is not expanded, write the whole path",
		"3:5: models[1].path: is empty",
		"4:5: models[2].path: is missing. The GGUF file; a relative path starts at the "
		"folder "
		"of this file.",
		NULL);
}

static void config_rules_name_one_user_or_one_group(void **state)
{
	(void)state;
	refuses("access:\n  - {may: all}\n  - {user: a, group: b, may: all}\n  - {user: a}\n",
		"2:5: access[0]: names nobody: give either 'user' or 'group'",
		"3:5: access[1]: names both a user and a group: give either 'user' or 'group'",
		"4:5: access[2].may: is missing. What they may do.", NULL);
}

static void config_limits_must_agree(void **state)
{
	(void)state;
	refuses("limits: {output_soft: 2MiB}\n",
		"0:0: limits.output_hard: must not be less than limits.output_soft", NULL);
}

static void config_kernels_are_those_there_are(void **state)
{
	(void)state;
	bn_config_free(parse("kernels: [auto, i2_s, tl2, i2s.vnni, tl1.neon]\n"));
	refuses("kernels: [tl2, q4]\n"
		"models:\n"
		"- name: a\n"
		"  path: /a\n"
		"  kernels: i3_s\n"
		"- name: b\n"
		"  path: /b\n",
		"0:0: kernels: there is no kernel 'q4'; take i2_s, tl1, tl2 or auto, or a whole "
		"name such as i2s.avx2",
		"3:3: models[0].kernels: there is no kernel 'i3_s'; take i2_s, tl1, tl2 or auto, "
		"or a whole name such as i2s.avx2",
		NULL);
}

static void config_yaml_mistakes_come_with_their_place(void **state)
{
	(void)state;
	refuses("memory: {budget: &b 1GiB, headroom: *b}\n",
		"1:18: anchors (&b) are not supported: write the value where it is used",
		"1:37: aliases (*b) are not supported: write the value out", NULL);
	refuses("log: {level: info}\nlog: {level: warn}\n",
		"2:1: log: stands twice, first in line 1", NULL);
	refuses("a: [\n", "1:1: a: there is no such setting",
		"2:1: YAML syntax: did not find expected node content while parsing a flow node",
		NULL);
}

static void config_more_than_fifty_mistakes_are_counted(void **state)
{
	char text[4096] = "";
	struct bn_config *c;

	(void)state;
	for (int i = 0; i < 60; i++) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "zzz%d: 1\n", i);
	}
	assert_int_equal(bn_config_parse(&c, "x", text, strlen(text), &report, &error),
			 BN_E_CONFIG);
	assert_int_equal(report.n, 50);
	assert_int_equal(report.dropped, 10);
	assert_int_equal(error.data[0].number, 60);
}

/* --- files --------------------------------------------------------------------------------- */

static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/bn-test-config-XXXXXX");
	return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static const char *file_with(const char *text, mode_t mode)
{
	static char path[96];
	FILE *out;

	snprintf(path, sizeof(path), "%s/bnd.yaml", folder);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static void config_file_is_read_and_models_lie_beside_it(void **state)
{
	struct bn_config *c;
	char expected[128];

	(void)state;
	assert_int_equal(bn_config_load(&c, file_with("models: [{name: a, path: a.gguf}]", 0644),
					&report, &error),
			 BN_OK);
	snprintf(expected, sizeof(expected), "%s/a.gguf", folder);
	assert_string_equal(c->models[0].path, expected);
	bn_config_free(c);
	/* From another folder, by a relative name: the same place. */
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(bn_config_load(&c, "bnd.yaml", &report, &error), BN_OK);
	assert_string_equal(c->models[0].path, expected);
	bn_config_free(c);
	assert_int_equal(chdir("/"), 0);
}

static void config_file_that_strangers_may_write_is_refused(void **state)
{
	struct bn_config *c;

	(void)state;
	assert_int_equal(bn_config_load(&c, file_with("", 0646), &report, &error), BN_E_CONFIG);
	assert_non_null(strstr(error.text, "others may write to it (mode 0646)"));
	assert_int_equal(bn_config_load(&c, file_with("", 0664), &report, &error), BN_OK);
	bn_config_free(c);
	if (geteuid() == 0) { /* a group that is not ours */
		const char *path = file_with("", 0664);

		assert_int_equal(chown(path, 0, 12345), 0);
		assert_int_equal(bn_config_load(&c, path, &report, &error), BN_E_CONFIG);
	}
}

static void config_things_that_are_no_file_are_refused_at_once(void **state)
{
	struct bn_config *c;
	char path[96];

	(void)state;
	assert_int_equal(bn_config_load(&c, "/nowhere/bnd.yaml", &report, &error), BN_E_IO);
	assert_string_equal(error.text, "/nowhere/bnd.yaml: No such file or directory");
	assert_int_equal(bn_config_load(&c, folder, &report, &error), BN_E_IO);
	assert_non_null(strstr(error.text, "is not a regular file"));
	snprintf(path, sizeof(path), "%s/fifo", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(bn_config_load(&c, path, &report, &error), BN_E_IO);
	assert_int_equal(bn_config_load(&c, "/dev/zero", &report, &error), BN_E_IO);
}

static void config_file_too_large_is_refused(void **state)
{
	struct bn_config *c;
	const char *path = file_with("", 0600);

	(void)state;
	assert_int_equal(truncate(path, 1 << 30), 0);
	assert_int_equal(bn_config_load(&c, path, &report, &error), BN_E_CONFIG);
	assert_non_null(strstr(error.text, "at most 1048576 are read"));
}

/* --- the manual ---------------------------------------------------------------------------- */

/* etc/bnd.yaml; with `examples`, settings commented out by a # at their place are taken in. */
static char *manual(bool examples)
{
	const char *source = getenv("BN_SOURCE_DIR");
	char path[512], line[512];
	char *text = calloc(1, 65536);
	FILE *in;

	if (source == NULL) {
		print_message("BN_SOURCE_DIR is not set\n");
		exit(77);
	}
	snprintf(path, sizeof(path), "%s/etc/bnd.yaml", source);
	in = fopen(path, "r");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in) != NULL) {
		char *hash = line + strspn(line, " ");
		/* "#word:", "#- word:" and what is indented below such a line, "#  word:". */
		size_t indent = *hash == '#' ? strspn(hash + 1, " -") : 0;
		size_t word =
			*hash == '#' ? strspn(hash + 1 + indent, "abcdefghijklmnopqrstuvwxyz_") : 0;
		bool setting = word > 0 && hash[1 + indent + word] == ':' && indent % 2 == 0;

		if (examples && setting) {
			memmove(hash, hash + 1, strlen(hash));
		}
		strcat(text, line);
	}
	fclose(in);
	return text;
}

static void manual_as_it_is_changes_nothing(void **state)
{
	char *text = manual(false);
	struct bn_config *shipped = parse(text), *defaults = parse("");
	struct bn_config_diff diff;

	(void)state;
	assert_int_equal(bn_config_compare(&diff, defaults, shipped, &error), BN_OK);
	for (uint32_t i = 0; i < diff.n; i++) {
		print_message("%s\n", diff.at[i].text);
	}
	assert_int_equal(diff.n, 0);
	bn_config_diff_free(&diff);
	bn_config_free(shipped);
	bn_config_free(defaults);
	free(text);
}

/* The node at a path of the table, the first entry of a list standing for `[]`. */
static const struct bn_yaml_node *node_at(const struct bn_yaml_node *root, const char *path)
{
	char copy[128];
	char *rest = NULL;
	const struct bn_yaml_node *at = root;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *word = strtok_r(copy, ".", &rest); word != NULL && at != NULL;
	     word = strtok_r(NULL, ".", &rest)) {
		char *list = strstr(word, "[]");

		if (list != NULL) {
			*list = '\0';
		}
		at = at->kind == BN_YAML_MAP ? at->first : NULL;
		while (at != NULL && strcmp(at->key, word) != 0) {
			at = at->next;
		}
		if (at != NULL && list != NULL) {
			at = at->first;
		}
	}
	return at;
}

static void manual_has_every_setting_and_its_examples_are_valid(void **state)
{
	char *text = manual(true);
	struct bn_config *c = parse(text);
	const struct bn_yaml_node *root = bn_yaml_root(c->tree);
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	(void)state;
	assert_true(rows > 50);
	for (size_t i = 0; i < rows; i++) {
		const struct bn_yaml_node *node = node_at(root, table[i].path);

		if (node == NULL && strcmp(table[i].path, "access[].user") == 0) {
			node = node_at(root, "access[]")->next; /* an entry has one of the two */
			node = node_at(node, "user");
		}
		if (node == NULL) {
			fail_msg("etc/bnd.yaml lacks %s", table[i].path);
		}
		/* What is shown for a setting without a default is said to be the last resort. */
		if (strstr(table[i].path, "defaults.") != NULL && table[i].fallback == NULL) {
			const char *resort = strstr(table[i].missing, "else ");

			resort = resort != NULL ? resort + 5 : table[i].missing;
			if (strncmp(table[i].path, "models", 6) != 0) {
				assert_string_equal(node->text, resort);
			}
		}
	}
	assert_int_equal(c->n_models, 1);
	assert_int_equal(c->n_access, 2);
	bn_config_free(c);
	free(text);
}

static void table_is_complete_and_its_sentences_are(void **state)
{
	size_t rows;
	const struct bn_setting *table = bn_config_table(&rows);

	(void)state;
	for (size_t i = 0; i < rows; i++) {
		assert_non_null(table[i].doc);
		assert_int_equal(table[i].doc[strlen(table[i].doc) - 1], '.');
		/* There is a default, or a sentence about its absence, or it must be given. */
		assert_true(table[i].fallback != NULL || table[i].missing != NULL || table[i].must);
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(table[i].path, table[k].path);
		}
	}
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_without_a_file_is_all_defaults),
		cmocka_unit_test(config_levels_are_those_of_the_log),
		cmocka_unit_test(config_reads_models_and_fills_in_what_they_leave_out),
		cmocka_unit_test(config_reads_who_may_do_what),
		cmocka_unit_test(config_empty_sections_keep_their_defaults),
		cmocka_unit_test(config_unknown_keys_suggest_the_nearest),
		cmocka_unit_test(config_collects_everything_wrong_sorted_by_place),
		cmocka_unit_test(config_shapes_that_do_not_fit_are_named),
		cmocka_unit_test(config_names_of_models_are_unique),
		cmocka_unit_test(config_paths_of_models_must_be_paths),
		cmocka_unit_test(config_rules_name_one_user_or_one_group),
		cmocka_unit_test(config_limits_must_agree),
		cmocka_unit_test(config_kernels_are_those_there_are),
		cmocka_unit_test(config_yaml_mistakes_come_with_their_place),
		cmocka_unit_test(config_more_than_fifty_mistakes_are_counted),
		FILE_TEST(config_file_is_read_and_models_lie_beside_it),
		FILE_TEST(config_file_that_strangers_may_write_is_refused),
		FILE_TEST(config_things_that_are_no_file_are_refused_at_once),
		FILE_TEST(config_file_too_large_is_refused),
		cmocka_unit_test(manual_as_it_is_changes_nothing),
		cmocka_unit_test(manual_has_every_setting_and_its_examples_are_valid),
		cmocka_unit_test(table_is_complete_and_its_sentences_are),
	};

	return cmocka_run_group_tests_name("daemon/config", tests, NULL, NULL);
}

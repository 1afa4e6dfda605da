/* Merges in both spellings, and scores that merge in their order. */
#include "engine/hfmerges.h"

#include "tests/engine/hf_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum bn_status parse(const char *merges, struct bn_hfmerges *m, struct bn_error *err)
{
	char text[512];
	json_t *root;
	enum bn_status status;

	snprintf(text, sizeof(text), "{\"merges\": %s}", merges);
	root = json_loads(text, 0, NULL);
	assert_non_null(root);
	status = bn_hfmerges_read(m, root, err);
	json_decref(root);
	return status;
}

static void hfmerges_reads_strings_and_pairs_alike(void **state)
{
	static const char *const texts[] = {
		"[\"a b\", \"ab c\", \"\\u0120 ab\"]",
		"[[\"a\", \"b\"], [\"ab\", \"c\"], [\"\\u0120\", \"ab\"]]",
		"[\"a b\", [\"ab\", \"c\"], \"\\u0120 ab\"]"
	};
	static const char *const wanted[] = { "a b", "ab c", "\xC4\xA0 ab" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct bn_hfmerges m = { 0 };
		struct bn_error err = { 0 };

		hf_expect(parse(texts[i], &m, &err), &err, BN_OK, "");
		assert_int_equal(m.n, 3);
		for (size_t k = 0; k < 3; k++) {
			assert_int_equal(m.list[k].n, strlen(wanted[k]));
			assert_memory_equal(m.list[k].p, wanted[k], m.list[k].n);
		}
		bn_hfmerges_finish(&m);
	}
}

static void hfmerges_refuses_what_is_no_merge_with_its_index(void **state)
{
	static const char *const bad[] = { "\"ab\"",     "\" b\"",        "\"a \"",
					   "\"a b c\"",  "[\"a\"]",       "[\"a\", \"b\", \"c\"]",
					   "[\"a\", 7]", "[\"\", \"b\"]", "[\"a b\", \"c\"]",
					   "7",          "null",          "{}" };
	struct bn_hfmerges m = { 0 };
	struct bn_error err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[128];

		snprintf(text, sizeof(text), "[\"a b\", %s]", bad[i]);
		hf_expect(parse(text, &m, &err), &err, BN_E_FORMAT, "merges[1]");
	}
	hf_expect(parse("{}", &m, &err), &err, BN_E_FORMAT, "no array");
	hf_expect(parse("[]", &m, &err), &err, BN_OK, "");
	assert_int_equal(m.n, 0);
	bn_hfmerges_finish(&m);
}

static void hfmerges_scores_are_ranks_and_the_rest_comes_last(void **state)
{
	json_t *vocab =
		json_loads("{\"a\": 0, \"b\": 1, \"ab\": 2, \"ba\": 3, \"abb\": 4}", 0, NULL);
	struct bn_hfmerges m = { 0 };
	struct bn_error err = { 0 };
	float scores[5];

	(void)state;
	hf_expect(parse("[\"b a\", \"a b\", \"ab b\", \"a bb\"]", &m, &err), &err, BN_OK, "");
	/* Two merges make "abb": the first counts. */
	hf_expect(bn_hfmerges_scores(&m, vocab, scores, 5, &err), &err, BN_OK, "");
	assert_true(scores[3] == 0.0f && scores[2] == -1.0f && scores[4] == -2.0f);
	assert_true(scores[0] == -5.0f && scores[1] == -5.0f);
	bn_hfmerges_finish(&m);
	hf_expect(parse("[\"b a\", \"b b\"]", &m, &err), &err, BN_OK, "");
	hf_expect(bn_hfmerges_scores(&m, vocab, scores, 5, &err), &err, BN_E_FORMAT,
		  "merges[1], 'b b', makes no token");
	bn_hfmerges_finish(&m);
	json_decref(vocab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hfmerges_reads_strings_and_pairs_alike),
		cmocka_unit_test(hfmerges_refuses_what_is_no_merge_with_its_index),
		cmocka_unit_test(hfmerges_scores_are_ranks_and_the_rest_comes_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

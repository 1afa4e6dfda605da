#include "proto/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void error_keeps_sentence_and_facts(void **state)
{
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_fail(&err, BN_E_MEMORY, "need %d bytes", 12), BN_E_MEMORY);
	bn_error_number(&err, "need_bytes", 12);
	bn_error_string(&err, "held_by", "bitnet-2b");
	assert_int_equal(err.status, BN_E_MEMORY);
	assert_string_equal(err.text, "need 12 bytes");
	assert_int_equal(err.n_data, 2);
	assert_string_equal(err.data[0].key, "need_bytes");
	assert_int_equal(err.data[0].number, 12);
	assert_string_equal(err.data[1].text, "bitnet-2b");
	assert_int_equal(bn_wrap(&err, "model '%s'", "a"), BN_E_MEMORY);
	assert_string_equal(err.text, "model 'a': need 12 bytes");
	assert_int_equal(err.n_data, 2);
	bn_fail(&err, BN_E_IO, "other");
	assert_int_equal(err.n_data, 0);
}

static void error_cleans_foreign_bytes(void **state)
{
	struct bn_error err;

	(void)state;
	bn_fail(&err, BN_E_FORMAT, "key '%s'", "a\nb\x1b[31m\xff\xc3");
	assert_string_equal(err.text, "key 'a?b?[31m?"
				      "?'");
	bn_fail(&err, BN_E_FORMAT, "key '%s'", "gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80");
	assert_string_equal(err.text, "key 'gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80'");
	bn_fail(&err, BN_E_FORMAT, "%s", "\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80");
	assert_string_equal(err.text, "?????????");
	bn_fail(&err, BN_E_FORMAT, "%s", "C1: \xc2\x9b and \xc2\x80, not \xc2\xa0");
	assert_string_equal(err.text, "C1: ?? and ??, not \xc2\xa0");
}

static void error_cuts_long_sentences_at_a_character(void **state)
{
	char longer[BN_ERROR_TEXT_BYTES * 2];
	struct bn_error err;

	(void)state;
	for (size_t start = 0; start < 4; start++) {
		size_t n;

		memset(longer, 'x', start);
		for (size_t i = start; i + 2 < sizeof(longer); i += 2) {
			memcpy(longer + i, "\xc3\xbc", 3);
		}
		bn_fail(&err, BN_E_IO, "%s", longer);
		n = strlen(err.text);
		assert_true(n < BN_ERROR_TEXT_BYTES && n > BN_ERROR_TEXT_BYTES - 8);
		assert_string_equal(err.text + n - 3, "...");
		assert_null(strchr(err.text, '?'));
		bn_wrap(&err, "%s", "clause");
		assert_memory_equal(err.text, "clause: ", 8);
		assert_true(strlen(err.text) < BN_ERROR_TEXT_BYTES);
	}
}

static void error_accepts_null_and_overflow(void **state)
{
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_fail(NULL, BN_E_IO, "x"), BN_E_IO);
	assert_int_equal(bn_wrap(NULL, "x"), BN_E_INTERNAL);
	bn_error_number(NULL, "k", 1);
	bn_error_string(NULL, "k", "v");
	bn_fail(&err, BN_E_IO, "x");
	for (int i = 0; i < 2 * BN_ERROR_DATA_MAX; i++) {
		bn_error_number(&err, "k", i);
	}
	assert_int_equal(err.n_data, BN_ERROR_DATA_MAX);
}

static void error_words_are_unique_and_complete(void **state)
{
	(void)state;
	for (enum bn_status a = 0; a < BN_STATUS_COUNT; a++) {
		assert_true(strlen(bn_status_word(a)) > 1);
		assert_true(strlen(bn_status_sentence(a)) > 1);
		for (enum bn_status b = 0; b < a; b++) {
			assert_string_not_equal(bn_status_word(a), bn_status_word(b));
		}
	}
	assert_string_equal(bn_status_word((enum bn_status)9999), "internal");
	assert_int_equal(bn_status_code(BN_E_NOT_FOUND), 404);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_keeps_sentence_and_facts),
		cmocka_unit_test(error_cleans_foreign_bytes),
		cmocka_unit_test(error_cuts_long_sentences_at_a_character),
		cmocka_unit_test(error_accepts_null_and_overflow),
		cmocka_unit_test(error_words_are_unique_and_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

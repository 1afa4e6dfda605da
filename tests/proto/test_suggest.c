#include "proto/suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *nearest(const char *wanted)
{
	static const char *const known[] = {
		"temperature", "top_k",  "top_p",       "min_p",       "max_tokens", "seed",
		"stop",        "stream", "models.list", "models.load", "prompt",     "logit_bias",
	};
	struct bn_suggest s;

	bn_suggest_init(&s, bn_text_of(wanted));
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		bn_suggest_offer(&s, known[i]);
	}
	return bn_suggest_best(&s);
}

static void suggest_finds_what_fingers_meant(void **state)
{
	(void)state;
	assert_string_equal(nearest("temprature"), "temperature");
	assert_string_equal(nearest("temperatrue"), "temperature");
	assert_string_equal(nearest("temp"), "temperature");
	assert_string_equal(nearest("top-p"), "top_p");
	assert_string_equal(nearest("topk"), "top_k");
	assert_string_equal(nearest("maxTokens"), "max_tokens");
	assert_string_equal(nearest("sede"), "seed");
	assert_string_equal(nearest("promt"), "prompt");
	assert_string_equal(nearest("model.list"), "models.list");
}

static void suggest_says_nothing_rather_than_nonsense(void **state)
{
	char endless[300];

	(void)state;
	memset(endless, 'a', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	assert_null(nearest("json_schema"));
	assert_null(nearest("x"));
	assert_null(nearest(""));
	assert_null(nearest(endless));
}

static void suggest_prefers_the_nearer_word(void **state)
{
	struct bn_suggest s;

	(void)state;
	bn_suggest_init(&s, bn_text_of("min_q"));
	bn_suggest_offer(&s, "min_xy");
	bn_suggest_offer(&s, "min_p");
	bn_suggest_offer(&s, "mix_q_");
	assert_string_equal(bn_suggest_best(&s), "min_p");
	assert_int_equal(s.distance, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suggest_finds_what_fingers_meant),
		cmocka_unit_test(suggest_says_nothing_rather_than_nonsense),
		cmocka_unit_test(suggest_prefers_the_nearer_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

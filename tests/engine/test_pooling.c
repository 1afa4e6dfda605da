#include "engine/pooling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void names_are_those_of_models_show(void **state)
{
	(void)state;
	assert_null(bn_pooling_name(BN_POOL_NONE));
	assert_string_equal(bn_pooling_name(BN_POOL_MEAN), "mean");
	assert_string_equal(bn_pooling_name(BN_POOL_FIRST), "first");
	assert_string_equal(bn_pooling_name(BN_POOL_LAST), "last");
}

static void each_pooling_wants_its_positions(void **state)
{
	(void)state;
	for (uint32_t n = 1; n < 5; n++) {
		for (uint32_t i = 0; i < n; i++) {
			assert_true(bn_pooling_wants(BN_POOL_MEAN, i, n));
			assert_true(bn_pooling_wants(BN_POOL_FIRST, i, n) == (i == 0));
			assert_true(bn_pooling_wants(BN_POOL_LAST, i, n) == (i + 1 == n));
		}
	}
}

static void a_sum_becomes_a_direction_of_length_one(void **state)
{
	const float a[3] = { 1.0f, -2.0f, 0.5f }, b[3] = { 2.0f, -2.0f, -0.5f };
	double sum[3] = { 0.0 };
	float v[3];

	(void)state;
	bn_pooling_add(sum, a, 3);
	bn_pooling_add(sum, b, 3);
	assert_true(bn_pooling_finish(v, sum, 3));
	assert_true(v[0] == 0.6f && v[1] == -0.8f && v[2] == 0.0f);
}

static void what_has_no_direction_is_refused(void **state)
{
	static const double none[][2] = {
		{ 0.0, 0.0 }, { NAN, 1.0 }, { INFINITY, 1.0 }, { 1.0, -INFINITY }, { 1e200, 1e200 },
	};
	float v[2];

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		assert_false(bn_pooling_finish(v, none[i], 2));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_those_of_models_show),
		cmocka_unit_test(each_pooling_wants_its_positions),
		cmocka_unit_test(a_sum_becomes_a_direction_of_length_one),
		cmocka_unit_test(what_has_no_direction_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

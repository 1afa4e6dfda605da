#include "kernels/vec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void position_zero_turns_nothing(void **state)
{
	float c[64], s[64];

	(void)state;
	bn_rope_angles(c, s, 0, 128, 500000.0);
	for (int i = 0; i < 64; i++) {
		assert_true(c[i] == 1.0f && s[i] == 0.0f);
	}
}

static void angles_are_position_times_a_falling_frequency(void **state)
{
	float c[64], s[64];

	(void)state;
	bn_rope_angles(c, s, 4095, 128, 500000.0);
	assert_true(fabs(c[0] - cos(4095.0)) < 1e-7);
	assert_true(fabs(s[0] - sin(4095.0)) < 1e-7);
	/* The middle frequency is 1 / sqrt(base). */
	assert_true(fabs(c[32] - cos(4095.0 / sqrt(500000.0))) < 1e-6);
	assert_true(fabs(s[32] - sin(4095.0 / sqrt(500000.0))) < 1e-6);
	for (int i = 0; i < 64; i++) {
		assert_true(fabs((double)c[i] * c[i] + (double)s[i] * s[i] - 1.0) < 1e-6);
	}
}

static void the_last_position_of_a_long_context_is_still_exact(void **state)
{
	float c[1], s[1];

	(void)state;
	bn_rope_angles(c, s, 1000003, 2, 10000.0);
	assert_true(fabs(c[0] - cos(1000003.0)) < 1e-7);
	assert_true(fabs(s[0] - sin(1000003.0)) < 1e-7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(position_zero_turns_nothing),
		cmocka_unit_test(angles_are_position_times_a_falling_frequency),
		cmocka_unit_test(the_last_position_of_a_long_context_is_still_exact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

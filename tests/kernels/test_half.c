#include "kernels/half.h"
#include "tests/kernels/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The value of a finite binary16, by the definition of the format. */
static double value(uint16_t h)
{
	const int exponent = (h >> 10) & 31;
	const int mantissa = h & 1023;
	const double x =
		exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
	return h & 0x8000 ? -x : x;
}

static bool is_nan(uint16_t h)
{
	return (h & 0x7fff) > 0x7c00;
}

static void every_half_has_its_value_and_comes_back(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 65536; i++) {
		const uint16_t h = (uint16_t)i;
		const float x = bn_half_to_float(h);
		if (is_nan(h)) {
			assert_true(isnan(x));
			assert_int_equal(bn_float_to_half(x), h | 0x200);
		} else if ((h & 0x7fff) == 0x7c00) {
			assert_true(isinf(x) && (signbit(x) != 0) == (h >> 15));
			assert_int_equal(bn_float_to_half(x), h);
		} else {
			assert_true((double)x == value(h));
			assert_int_equal(signbit(x) != 0, h >> 15);
			assert_int_equal(bn_float_to_half(x), h);
		}
	}
}

/* Between any two neighbours: the middle goes to the even one, a hair beside it to the nearer. */
static void rounding_to_half_is_to_nearest_ties_to_even(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 0x7c00; i++) {
		const uint16_t low = (uint16_t)i;
		const uint16_t high = (uint16_t)(i + 1);
		/* Above the largest finite half the "neighbour" is 65536. */
		const double top = high == 0x7c00 ? 65536.0 : value(high);
		const float middle = (float)((value(low) + top) / 2);
		for (int sign = 0; sign < 2; sign++) {
			const float s = sign ? -1.0f : 1.0f;
			const uint16_t bit = (uint16_t)(sign << 15);
			assert_int_equal(bn_float_to_half(s * middle), (i % 2 ? high : low) | bit);
			assert_int_equal(bn_float_to_half(s * nextafterf(middle, 0.0f)), low | bit);
			assert_int_equal(bn_float_to_half(s * nextafterf(middle, 1e9f)),
					 high | bit);
		}
	}
	assert_int_equal(bn_float_to_half(0x1p-149f), 0);
	assert_int_equal(bn_float_to_half(3.4e38f), 0x7c00);
}

static void every_bf16_comes_back_and_rounds_to_even(void **state)
{
	struct rig rig;

	(void)state;
	for (uint32_t i = 0; i < 65536; i++) {
		const uint16_t b = (uint16_t)i;
		const float x = bn_bf16_to_float(b);
		const uint16_t back = bn_float_to_bf16(x);
		assert_int_equal(back, (b & 0x7fff) > 0x7f80 ? (b | 0x40) : b);
		if ((b & 0x7f80) == 0x7f80) {
			continue;
		}
		const uint32_t bits = (uint32_t)b << 16;
		const uint16_t next = (uint16_t)(b + 1);
		assert_int_equal(bn_float_to_bf16(bn_bits_float(bits | 0x7fff)), b);
		assert_int_equal(bn_float_to_bf16(bn_bits_float(bits | 0x8000)), b % 2 ? next : b);
		assert_int_equal(bn_float_to_bf16(bn_bits_float(bits | 0x8001)), next);
	}
	rig_init(&rig, 1);
	for (int i = 0; i < 10000; i++) {
		const float x = rig_float(&rig, 100.0f);
		assert_true(fabsf(bn_bf16_to_float(bn_float_to_bf16(x)) - x) <= fabsf(x) / 256);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_half_has_its_value_and_comes_back),
		cmocka_unit_test(rounding_to_half_is_to_nearest_ties_to_even),
		cmocka_unit_test(every_bf16_comes_back_and_rounds_to_even),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Encoded rows, decoded by the kernels, are near what went in. */
#include "engine/quantize.h"

#include "kernels/dense.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLS = 1024 };

static double noise(uint64_t *x)
{
	double sum = -6.0; /* of twelve uniform ones: nearly normal */

	for (int i = 0; i < 12; i++) {
		*x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		sum += (double)(*x >> 11) / 9007199254740992.0;
	}
	return sum;
}

/* Root mean square of the error, relative to that of the row. */
static double error_of(enum bn_ggml_type type, enum bn_dense_type dense, const float *x)
{
	static unsigned char row[COLS * 4];
	static float back[COLS];
	double error = 0.0, size = 0.0;

	assert_int_equal(bn_quantize_row_bytes(type, COLS), bn_dense_row_bytes(dense, COLS));
	assert_true(bn_quantize_row(type, row, x, COLS));
	bn_dense_choose(dense, 0)->decode(back, row, COLS);
	for (int i = 0; i < COLS; i++) {
		error += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
		size += (double)x[i] * (double)x[i];
	}
	return sqrt(error / size);
}

static void quantize_keeps_rows_within_the_error_of_each_format(void **state)
{
	static float x[COLS];

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		const double scale = pow(10.0, (double)(seed % 7) - 4.0);
		uint64_t r = seed;

		for (int i = 0; i < COLS; i++) {
			x[i] = (float)(scale * noise(&r));
		}
		assert_true(error_of(BN_GGML_F32, BN_DENSE_F32, x) == 0.0);
		if (scale >= 1e-2) {
			assert_true(error_of(BN_GGML_F16, BN_DENSE_F16, x) < 3e-4);
		}
		/* Normal weights: 8 bits leave about 0.5 %, 6 bits about 2 %. */
		assert_true(error_of(BN_GGML_Q8_0, BN_DENSE_Q8_0, x) <
			    (scale < 1e-3 ? 0.03 : 0.008));
		assert_true(error_of(BN_GGML_Q6_K, BN_DENSE_Q6_K, x) <
			    (scale < 1e-3 ? 0.1 : 0.025));
	}
}

static void quantize_is_exact_where_the_format_is(void **state)
{
	static float x[COLS];

	(void)state;
	for (int i = 0; i < COLS; i++) {
		x[i] = (float)(i % 255 - 127) * 0.5f;
	}
	x[0] = 63.5f; /* every block of 32 shall have the scale 0.5 */
	for (int i = 0; i < COLS; i += 32) {
		x[i] = 63.5f;
	}
	assert_true(error_of(BN_GGML_Q8_0, BN_DENSE_Q8_0, x) == 0.0);
	for (int i = 0; i < COLS; i++) {
		x[i] = (float)(i % 64 - 32) * 0.25f;
		x[i] = i % 16 == 0 ? -8.0f : x[i];
	}
	assert_true(error_of(BN_GGML_Q6_K, BN_DENSE_Q6_K, x) < 1e-3);
	memset(x, 0, sizeof(x));
	x[COLS - 1] = 1.0f;
	assert_true(error_of(BN_GGML_Q8_0, BN_DENSE_Q8_0, x) < 1e-3);
	assert_true(error_of(BN_GGML_Q6_K, BN_DENSE_Q6_K, x) < 0.02);
}

static void quantize_refuses_what_a_format_cannot_hold(void **state)
{
	static unsigned char row[COLS * 4];
	static const enum bn_ggml_type types[] = { BN_GGML_F32, BN_GGML_F16, BN_GGML_Q8_0,
						   BN_GGML_Q6_K };
	static float x[COLS];

	(void)state;
	for (int t = 0; t < 4; t++) {
		const float bad[] = { NAN, INFINITY, -INFINITY };

		for (int i = 0; i < 3; i++) {
			x[700] = bad[i];
			assert_false(bn_quantize_row(types[t], row, x, COLS));
		}
		x[700] = 3e38f;
		assert_int_equal(bn_quantize_row(types[t], row, x, COLS), t == 0);
		x[700] = 0.0f;
		assert_true(bn_quantize_row(types[t], row, x, COLS));
	}
	x[1] = 65520.0f;
	assert_false(bn_quantize_row(BN_GGML_F16, row, x, COLS));
}

static void quantize_says_which_widths_fit(void **state)
{
	(void)state;
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_Q6_K, 3200), 0);
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_Q6_K, 2560), 2100);
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_Q8_0, 3200), 3400);
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_Q8_0, 100), 0);
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_F16, 3), 6);
	assert_int_equal(bn_quantize_row_bytes(BN_GGML_I2_S, 128), 0);
}

static void quantize_type_is_the_smallest_that_a_row_can_have(void **state)
{
	(void)state;
	assert_int_equal(bn_quantize_type(BN_GGML_Q6_K, 512), BN_GGML_Q6_K);
	assert_int_equal(bn_quantize_type(BN_GGML_Q6_K, 320), BN_GGML_Q8_0);
	assert_int_equal(bn_quantize_type(BN_GGML_Q6_K, 100), BN_GGML_F16);
	assert_int_equal(bn_quantize_type(BN_GGML_Q8_0, 512), BN_GGML_Q8_0);
	assert_int_equal(bn_quantize_type(BN_GGML_Q8_0, 100), BN_GGML_F16);
	assert_int_equal(bn_quantize_type(BN_GGML_F32, 512), BN_GGML_F16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantize_keeps_rows_within_the_error_of_each_format),
		cmocka_unit_test(quantize_is_exact_where_the_format_is),
		cmocka_unit_test(quantize_refuses_what_a_format_cannot_hold),
		cmocka_unit_test(quantize_says_which_widths_fit),
		cmocka_unit_test(quantize_type_is_the_smallest_that_a_row_can_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

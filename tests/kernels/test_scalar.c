/* The oracle itself, on numbers small enough to check by hand. That it equals the definition on
 * random shapes is test_i2s.c's business. */
#include "kernels/tables.h"
#include "kernels/trits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_product_done_by_hand_comes_out(void **state)
{
	/* Rows (+1 -1 0 +1 0) and (0 0 -1 -1 +1), activations (1 2 3 4 5) and (-128 127 0 1 -1). */
	const uint8_t codes[4] = { 2 | 0 << 2 | 1 << 4 | 2 << 6, 1 | 1 << 2 | 1 << 4 | 1 << 6,
				   1 | 1 << 2 | 0 << 4 | 0 << 6, 2 | 1 << 2 | 1 << 4 | 1 << 6 };
	const struct bn_trits trits = { codes, 2, 2, 5 };
	_Alignas(64) int8_t q[128] = { 1, 2, 3, 4, 5 };
	_Alignas(64) uint8_t packed[64];
	const float scale[2] = { 0.5f, 2.0f };
	const int32_t sum[2] = { 15, -1 };
	const struct bn_acts acts = { q, scale, sum, 2, 5, 64 };
	float out[4];
	const struct bn_mul m = {
		.packed = packed,
		.acts = &acts,
		.out = out,
		.out_stride = 2,
		.rows = 2,
		.cols = 5,
		.scale = 3.0f,
	};

	(void)state;
	q[64] = -128;
	q[65] = 127;
	q[67] = 1;
	q[68] = -1;
	bn_kernel_i2s_scalar.pack(packed, &trits, 0, 2);
	bn_kernel_i2s_scalar.mul(&m, 0, 2);
	assert_true(out[0] == 3.0f * 1.5f);    /* 1 - 2 + 4      */
	assert_true(out[1] == -2.0f * 1.5f);   /* -3 - 4 + 5     */
	assert_true(out[2] == -254.0f * 6.0f); /* -128 - 127 + 1 */
	assert_true(out[3] == -2.0f * 6.0f);   /* -1 - 1         */
}

static void the_oracle_takes_wider_rows_than_the_fast_kernels(void **state)
{
	(void)state;
	assert_true(bn_kernel_i2s_scalar.fits(1, (UINT32_C(1) << 23) - 1));
	assert_false(bn_kernel_i2s_scalar.fits(1, UINT32_C(1) << 23));
	assert_int_equal(bn_kernel_i2s_scalar.needs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_product_done_by_hand_comes_out),
		cmocka_unit_test(the_oracle_takes_wider_rows_than_the_fast_kernels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

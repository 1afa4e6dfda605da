/* Packed bytes, floats that are ternary already, latent floats, and the permutation of heads. */
#include "engine/ternary.h"

#include "kernels/trits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int code_at(const uint8_t *codes, uint32_t cols, uint32_t r, uint32_t c)
{
	const struct bn_trits t = { codes, bn_trits_stride(cols), r + 1, cols };

	return bn_trit(&t, r, c);
}

static void ternary_unpacks_quarters_of_rows_not_neighbours(void **state)
{
	enum { OUT = 8, IN = 7 };
	uint8_t packed[OUT / 4 * IN] = { 0 }, codes[OUT * 2];
	uint32_t bad;

	(void)state;
	for (uint32_t r = 0; r < OUT; r++) {
		for (uint32_t c = 0; c < IN; c++) {
			packed[r % 2 * IN + c] |= (uint8_t)(((r * 5 + c * 3) % 3) << (2 * (r / 2)));
		}
	}
	assert_true(bn_ternary_unpack(codes, packed, OUT, IN, &bad));
	for (uint32_t r = 0; r < OUT; r++) {
		for (uint32_t c = 0; c < IN; c++) {
			assert_int_equal(code_at(codes, IN, r, c), (int)((r * 5 + c * 3) % 3) - 1);
		}
		assert_int_equal(codes[r * 2 + 1] >> 6, 1); /* the unused place */
	}
}

static void ternary_names_the_row_of_a_code_three_wherever_it_is(void **state)
{
	enum { OUT = 8, IN = 7 };

	(void)state;
	for (uint32_t r = 0; r < OUT; r++) {
		for (uint32_t c = 0; c < IN; c++) {
			uint8_t packed[OUT / 4 * IN] = { 0 }, codes[OUT * 2];
			uint32_t bad = 99;

			packed[r % 2 * IN + c] = (uint8_t)(3 << (2 * (r / 2)));
			assert_false(bn_ternary_unpack(codes, packed, OUT, IN, &bad));
			assert_int_equal(bad, r);
		}
	}
}

static void ternary_scales_exact_weights_by_their_size_not_their_mean(void **state)
{
	const float w[] = { 0.25f, 0.0f, -0.25f, 0.0f, 0.0f, 0.0f, 0.25f, -0.0f };
	struct bn_ternary_survey s = { 0 };
	float factor, scale;
	uint8_t codes[2];

	(void)state;
	bn_ternary_look(&s, w, 4);
	bn_ternary_look(&s, w + 4, 4);
	assert_true(bn_ternary_is_exact(&s));
	bn_ternary_scale(&s, &factor, &scale);
	assert_true(scale == 0.25f && factor == 4.0f);
	bn_ternary_round(codes, w, 8, factor);
	for (uint32_t c = 0; c < 8; c++) {
		assert_true((float)code_at(codes, 8, 0, c) * scale == w[c]);
	}
}

static void ternary_rounds_latent_weights_by_their_mean_half_to_even(void **state)
{
	/* mean |w| = 1: the factor is 1 and ties are visible. */
	const float w[] = { 0.5f, 1.5f, -0.5f, -1.5f, 0.51f, -0.51f, 1.98f, 1.0f };
	const int wanted[] = { 0, 1, 0, -1, 1, -1, 1, 1 };
	struct bn_ternary_survey s = { 0 };
	float factor, scale;
	uint8_t codes[2];

	(void)state;
	bn_ternary_look(&s, w, 8);
	assert_false(bn_ternary_is_exact(&s));
	bn_ternary_scale(&s, &factor, &scale);
	assert_true(fabsf(factor - 1.0f) < 1e-6f && fabsf(scale - 1.0f) < 1e-6f);
	bn_ternary_round(codes, w, 8, 1.0f);
	for (uint32_t c = 0; c < 8; c++) {
		assert_int_equal(code_at(codes, 8, 0, c), wanted[c]);
	}
}

static void ternary_survives_tiny_zero_and_broken_weights(void **state)
{
	const float tiny[] = { 1e-34f, -3e-34f, 0.0f, 2e-34f }, zero[4] = { 0 };
	const float broken[] = { NAN, INFINITY, -INFINITY, 1.0f };
	struct bn_ternary_survey s = { 0 };
	float factor, scale;

	(void)state;
	bn_ternary_look(&s, tiny, 4);
	bn_ternary_scale(&s, &factor, &scale);
	assert_true(fabsf(factor - 1e5f) < 1.0f && fabsf(scale - 1e-5f) < 1e-9f);
	memset(&s, 0, sizeof(s));
	bn_ternary_look(&s, zero, 4);
	assert_false(bn_ternary_is_exact(&s));
	bn_ternary_scale(&s, &factor, &scale);
	assert_true(isfinite(factor) && scale > 0.0f);
	memset(&s, 0, sizeof(s));
	bn_ternary_look(&s, broken, 4);
	assert_int_equal(s.n_broken, 3);
}

static void ternary_permutation_turns_halves_into_neighbours(void **state)
{
	(void)state;
	/* Head 2 of dimension 8: rows 16.. become 16, 20, 17, 21, 18, 22, 19, 23. */
	const uint32_t wanted[] = { 16, 20, 17, 21, 18, 22, 19, 23 };

	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(bn_ternary_permuted(16 + i, 8), wanted[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ternary_unpacks_quarters_of_rows_not_neighbours),
		cmocka_unit_test(ternary_names_the_row_of_a_code_three_wherever_it_is),
		cmocka_unit_test(ternary_scales_exact_weights_by_their_size_not_their_mean),
		cmocka_unit_test(ternary_rounds_latent_weights_by_their_mean_half_to_even),
		cmocka_unit_test(ternary_survives_tiny_zero_and_broken_weights),
		cmocka_unit_test(ternary_permutation_turns_halves_into_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Types with a scale for each group: one scale is found, two are refused, so are codes that nobody
 * writes. */
#include "engine/groups.h"

#include "kernels/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3, COLS = 512, CODES = ROWS * COLS / 4 };

struct kind {
	bn_groups_decode *decode;
	bn_groups_encode *encode;
	size_t bytes; /* of the matrix                                  */
	size_t scale; /* where the last group's lies                    */
	bool single;  /* as float                                       */
	size_t code;  /* a byte of codes in the last group              */
};

static const struct kind kinds[] = {
	{ bn_groups_decode_tq1_0, bn_groups_encode_tq1_0, ROWS * 2 * 54, 5 * 54 + 52, false,
	  5 * 54 + 40 },
	{ bn_groups_decode_tq2_0, bn_groups_encode_tq2_0, ROWS * 2 * 66, 5 * 66 + 64, false,
	  5 * 66 + 40 },
	{ bn_groups_decode_iq1_bn, bn_groups_encode_iq1_bn, ROWS *(2 + 8 * 13), 2 * (2 + 8 * 13),
	  false, 2 * (2 + 8 * 13) + 2 + 5 },
	{ bn_groups_decode_iq2_bn, bn_groups_encode_iq2_bn, ROWS *(4 + 8 * 16), 2 * (4 + 8 * 16),
	  true, 2 * (4 + 8 * 16) + 4 + 5 },
};

#define EACH_KIND(k) (const struct kind *k = kinds; k < kinds + 4; k++)

static void fill(uint8_t *codes, uint32_t seed)
{
	memset(codes, 0, CODES);
	for (size_t i = 0; i < (size_t)CODES * 4; i++) {
		seed = seed * 1664525u + 1013904223u;
		codes[i / 4] |= (uint8_t)((seed >> 16) % 3 << (2 * (i % 4)));
	}
}

static void set_scale(const struct kind *k, uint8_t *data, float scale)
{
	const uint16_t half = bn_float_to_half(scale);

	memcpy(data + k->scale, k->single ? (const void *)&scale : &half, k->single ? 4 : 2);
}

/* A matrix in the type, in a block of exactly its size. */
static uint8_t *make(const struct kind *k, const uint8_t *codes, float scale)
{
	const struct bn_trits trits = { codes, COLS / 4, ROWS, COLS };
	uint8_t *data = malloc(k->bytes);

	memset(data, 0xee, k->bytes);
	k->encode(data, &trits, scale);
	return data;
}

static void one_scale_and_all_trits_come_back(void **state)
{
	(void)state;
	for
		EACH_KIND(k)
		{
			for (uint32_t seed = 1; seed < 20; seed++) {
				uint8_t codes[CODES], back[CODES];
				struct bn_scale scale = { 0 };
				uint8_t *data;

				fill(codes, seed);
				data = make(k, codes, 0.375f);
				/* in two pieces */
				assert_int_equal(k->decode(&scale, back, data, 1, COLS),
						 BN_TRITS_GOOD);
				assert_int_equal(k->decode(&scale, back + COLS / 4,
							   data + k->bytes / ROWS, 2, COLS),
						 BN_TRITS_GOOD);
				assert_memory_equal(codes, back, CODES);
				assert_true(scale.value == 0.375f);
				free(data);
			}
		}
}

static void scales_apart_by_more_than_rounding_are_refused(void **state)
{
	static const struct {
		float scale;
		enum bn_trits_verdict verdict;
	} cases[] = {
		{ 0.375f, BN_TRITS_GOOD },
		{ 0.375f + 0x1p-12f, BN_TRITS_GOOD }, /* one place of f16 */
		{ 0.375f - 0x1p-12f, BN_TRITS_GOOD },
		{ 0.375f + 0x1p-10f, BN_TRITS_TWO_SCALES },
		{ 0.375f - 0x1p-10f, BN_TRITS_TWO_SCALES },
		{ 0.75f, BN_TRITS_TWO_SCALES },
		{ -0.375f, BN_TRITS_NO_SCALE },
		{ INFINITY, BN_TRITS_NO_SCALE },
		{ NAN, BN_TRITS_NO_SCALE },
	};

	(void)state;
	for
		EACH_KIND(k)
		{
			for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
				uint8_t codes[CODES], back[CODES];
				struct bn_scale scale = { 0 };
				uint8_t *data;

				fill(codes, 7);
				data = make(k, codes, 0.375f);
				set_scale(k, data, cases[i].scale);
				assert_int_equal(k->decode(&scale, back, data, ROWS, COLS),
						 cases[i].verdict);
				assert_true(scale.value == 0.375f);
				if (cases[i].verdict == BN_TRITS_TWO_SCALES) {
					assert_true(scale.other == cases[i].scale);
				}
				/* of zeros any scale is right */
				memset(codes + CODES - COLS / 4, 0x55, COLS / 4);
				free(data);
				data = make(k, codes, 0.375f);
				set_scale(k, data, cases[i].scale);
				memset(&scale, 0, sizeof(scale));
				assert_int_equal(k->decode(&scale, back, data, ROWS, COLS),
						 BN_TRITS_GOOD);
				assert_memory_equal(codes, back, CODES);
				free(data);
			}
		}
}

static void a_group_with_the_scale_zero_is_zeros(void **state)
{
	(void)state;
	for
		EACH_KIND(k)
		{
			/* 256 weights, or a row */
			const size_t group = k < kinds + 2 ? 64 : COLS / 4;
			uint8_t codes[CODES], back[CODES];
			struct bn_scale scale = { 0 };
			uint8_t *data;

			fill(codes, 7);
			data = make(k, codes, 0.375f);
			set_scale(k, data, 0.0f);
			memset(codes + CODES - group, 0x55, group);
			assert_int_equal(k->decode(&scale, back, data, ROWS, COLS), BN_TRITS_GOOD);
			assert_memory_equal(codes, back, CODES);
			free(data);
			/* all of them: no scale is found */
			memset(codes, 0x55, CODES);
			memset(&scale, 0, sizeof(scale));
			data = make(k, codes, 0.375f);
			assert_int_equal(k->decode(&scale, back, data, ROWS, COLS), BN_TRITS_GOOD);
			assert_true(scale.value == 0.0f);
			free(data);
		}
}

/* Of five trits in a byte 243 values occur; of two bits each, those without a 3. */
static void bytes_that_nobody_writes_are_refused(void **state)
{
	static const unsigned never_of[4] = { 13, 256 - 81, 13, 256 - 81 };

	(void)state;
	for
		EACH_KIND(k)
		{
			unsigned never = 0;

			for (unsigned byte = 0; byte < 256; byte++) {
				uint8_t codes[CODES], back[CODES];
				struct bn_scale scale = { 0 };
				uint8_t *data;

				fill(codes, 7);
				data = make(k, codes, 0.375f);
				data[k->code] = (uint8_t)byte;
				never += k->decode(&scale, back, data, ROWS, COLS) == BN_TRITS_NOT;
				free(data);
			}
			assert_int_equal(never, never_of[k - kinds]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_scale_and_all_trits_come_back),
		cmocka_unit_test(scales_apart_by_more_than_rounding_are_refused),
		cmocka_unit_test(a_group_with_the_scale_zero_is_zeros),
		cmocka_unit_test(bytes_that_nobody_writes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

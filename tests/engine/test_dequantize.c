/* 4-bit rows give the floats that ggml's own functions give, bit for bit. */
#include "engine/dequantize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { COLS = 1024, ROW_BYTES = 576 }; /* of all three: 4.5 bits a weight */

static uint64_t hash(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < n; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	}
	return h;
}

/* Hashes of what llama.cpp's dequantize_row_* make of the same bytes: made by running them. */
static void rows_are_what_their_first_readers_read(void **state)
{
	static const struct {
		enum bn_ggml_type type;
		size_t block;
		uint64_t hash;
	} cases[] = {
		{ BN_GGML_Q4_0, 18, UINT64_C(0x43d37e0bbc14b460) },
		{ BN_GGML_Q4_K, 144, UINT64_C(0x98f5fd2971f8037d) },
		{ BN_GGML_IQ4_NL, 18, UINT64_C(0x726da3871d3ac4da) },
	};

	(void)state;
	for (size_t k = 0; k < 3; k++) {
		uint8_t *row = malloc(ROW_BYTES);
		float *out = malloc(COLS * sizeof(*out));
		uint32_t x = 1;

		for (size_t i = 0; i < ROW_BYTES; i++) {
			x = x * 1664525u + 1013904223u;
			row[i] = (uint8_t)(x >> 16);
		}
		/* scales that are small and finite */
		for (size_t i = 0; i < ROW_BYTES; i += cases[k].block) {
			row[i + 1] &= 0x3f;
			row[i + 3] &= cases[k].type == BN_GGML_Q4_K ? 0x3f : 0xff;
		}
		bn_dequantize_find(cases[k].type)(out, row, COLS);
		if (hash(out, COLS * sizeof(*out)) != cases[k].hash) {
			fail_msg("%s", bn_ggml_name(cases[k].type));
		}
		free(row);
		free(out);
	}
}

static void other_formats_are_not_here(void **state)
{
	(void)state;
	assert_null(bn_dequantize_find(BN_GGML_F16));
	assert_null(bn_dequantize_find(BN_GGML_Q6_K));
	assert_null(bn_dequantize_find(BN_GGML_I2_S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_what_their_first_readers_read),
		cmocka_unit_test(other_formats_are_not_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

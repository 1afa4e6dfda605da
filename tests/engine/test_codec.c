/* The table of ternary types: the bytes that their first writers make of the same trits, pieces and
 * wholes, sentences. */
#include "engine/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Row-major trits from a generator that a script outside can repeat. */
static uint8_t *make_codes(uint32_t rows, uint32_t cols)
{
	const size_t stride = bn_trits_stride(cols);
	uint8_t *codes = calloc(rows, stride);
	uint32_t x = 1;

	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t c = 0; c < cols; c++) {
			x = x * 1664525u + 1013904223u;
			codes[r * stride + c / 4] |= (uint8_t)((x >> 16) % 3 << (2 * (c % 4)));
		}
	}
	return codes;
}

/* FNV-1a. */
static uint64_t hash(const uint8_t *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	}
	return h;
}

static uint64_t nbytes_of(enum bn_ggml_type type, uint32_t rows, uint32_t cols)
{
	const uint64_t dims[2] = { cols, rows };
	uint64_t n = 0;

	assert_int_equal(bn_ggml_nbytes(type, 2, dims, &n), BN_GGML_FITS);
	return n;
}

/*
 * Hashes of what bitnet.cpp's converter (I2_S, TL1, TL2), llama.cpp (TQ) and ik_llama.cpp (IQ_BN)
 * write for these trits times 0.375: made by running their packing functions. TL data is followed
 * by the line with the scale that bitnet.cpp's GGUF writer puts there.
 */
static const struct {
	enum bn_ggml_type type;
	uint32_t rows, cols;
	struct bn_tiles tiles;
	uint64_t hash;
} vectors[] = {
	{ BN_GGML_I2_S, 96, 320, { 0, 0, 0 }, UINT64_C(0xf53d3dbba453306a) },
	{ BN_GGML_TL1, 320, 640, { 160, 64, 32 }, UINT64_C(0x54222049f722fe50) },
	{ BN_GGML_TL1, 128, 256, { 128, 128, 64 }, UINT64_C(0x40abb79616bba02e) },
	{ BN_GGML_TL2, 64, 256, { 32, 96, 32 }, UINT64_C(0xbb34782fa82f41fc) },
	{ BN_GGML_TL2, 96, 480, { 96, 192, 32 }, UINT64_C(0x9c67236c46e205e2) },
	{ BN_GGML_TL2, 320, 384, { 160, 96, 32 }, UINT64_C(0xedab9d84fe73496f) },
	{ BN_GGML_TQ1_0, 3, 256, { 0, 0, 0 }, UINT64_C(0x290f8cf356cf2546) },
	{ BN_GGML_TQ1_0, 7, 768, { 0, 0, 0 }, UINT64_C(0xbe7dc1882065d0d2) },
	{ BN_GGML_TQ2_0, 3, 256, { 0, 0, 0 }, UINT64_C(0xa4da948407f1900d) },
	{ BN_GGML_TQ2_0, 7, 768, { 0, 0, 0 }, UINT64_C(0x46975b238b1d4e24) },
	{ BN_GGML_IQ1_BN, 3, 256, { 0, 0, 0 }, UINT64_C(0xfa9a7eefe72189e3) },
	{ BN_GGML_IQ1_BN, 7, 768, { 0, 0, 0 }, UINT64_C(0x261832d81deccfca) },
	{ BN_GGML_IQ2_BN, 3, 256, { 0, 0, 0 }, UINT64_C(0x07f12f02b9a7437f) },
	{ BN_GGML_IQ2_BN, 7, 768, { 0, 0, 0 }, UINT64_C(0x11eb11c2862ac280) },
};

static void every_type_is_written_as_its_first_writer_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const uint32_t rows = vectors[i].rows, cols = vectors[i].cols;
		const struct bn_codec *c = bn_codec_find(vectors[i].type);
		const uint64_t n = nbytes_of(vectors[i].type, rows, cols);
		uint8_t *codes = make_codes(rows, cols), *data = malloc(n);
		uint8_t *back = malloc(rows * bn_trits_stride(cols));
		const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };
		struct bn_scale scale = { 0 };

		assert_true(bn_codec_fits(c, rows, cols, &vectors[i].tiles));
		bn_codec_encode(c, data, &trits, 0.375f, &vectors[i].tiles);
		if (hash(data, n) != vectors[i].hash) {
			fail_msg("%s of %u x %u", bn_ggml_name(c->type), rows, cols);
		}
		assert_int_equal(
			bn_codec_decode(c, &scale, back, data, rows, cols, &vectors[i].tiles),
			BN_TRITS_GOOD);
		assert_memory_equal(codes, back, rows * bn_trits_stride(cols));
		if (c->tailed) {
			memcpy(&scale.value, data + n - BN_CODEC_TAIL, 4);
		}
		assert_true(scale.value == 0.375f);
		free(codes);
		free(back);
		free(data);
	}
}

/* Ragged shapes: rows that are no multiple of the piece, columns that straddle blocks. */
static void pieces_make_the_whole(void **state)
{
	static const uint32_t shapes[][2] = {
		{ 1, 256 }, { 127, 256 }, { 300, 768 }, { 384, 320 }
	};
	const struct bn_tiles none = { 0, 0, 0 };

	(void)state;
	for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
		const struct bn_codec *c = bn_codec_at(i);

		for (size_t k = 0; k < 4 && !c->whole; k++) {
			const uint32_t rows = shapes[k][0], cols = shapes[k][1];
			const uint32_t piece = bn_codec_rows(c, rows);
			const size_t stride = bn_trits_stride(cols);
			struct bn_scale scale = { 0 };
			uint8_t *codes, *data, *back;
			size_t at = 0;

			if (!bn_codec_fits(c, rows, cols, &none)) {
				assert_int_equal(cols, 320); /* of blocks of 256 */
				continue;
			}
			codes = make_codes(rows, cols);
			data = malloc(nbytes_of(c->type, rows, cols));
			back = malloc(rows * stride);

			const struct bn_trits trits = { codes, stride, rows, cols };

			bn_codec_encode(c, data, &trits, 0.5f, &none);
			for (uint32_t row = 0; row < rows; row += piece) {
				const uint32_t n = rows - row < piece ? rows - row : piece;

				assert_int_equal(bn_codec_decode(c, &scale, back + row * stride,
								 data + at, n, cols, &none),
						 BN_TRITS_GOOD);
				at += bn_codec_bytes(c, n, cols);
			}
			at += c->tailed ? BN_CODEC_TAIL : 0;
			assert_int_equal(at, nbytes_of(c->type, rows, cols));
			assert_memory_equal(codes, back, rows * stride);
			free(codes);
			free(data);
			free(back);
		}
	}
}

static void only_ternary_types_have_a_row(void **state)
{
	(void)state;
	assert_null(bn_codec_find(BN_GGML_F16));
	assert_null(bn_codec_find(BN_GGML_MXFP4));
	assert_null(bn_codec_find(BN_GGML_IQ2_BN_R4));
	for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
		const struct bn_codec *c = bn_codec_at(i);

		assert_ptr_equal(bn_codec_find(c->type), c);
		assert_true(c->whole == (c->fits != NULL));
		assert_int_equal(bn_codec_rows(c, 1000), c->whole ? 1000 : BN_CODEC_ROWS);
		assert_int_equal(bn_codec_rows(c, 3), 3);
	}
}

static void what_is_wrong_is_said(void **state)
{
	const struct bn_tiles tiles = { 256, 96, 32 };
	const struct bn_scale scale = { 0.5f, 0.25f }, bad = { 0.5f, -1.0f };
	const struct bn_codec *tl2 = bn_codec_find(BN_GGML_TL2);
	const struct bn_codec *tq2 = bn_codec_find(BN_GGML_TQ2_0);
	struct bn_error err;

	(void)state;
	assert_int_equal(bn_codec_refuse(tl2, BN_TRITS_NOT, &scale, &tiles, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "tl2 in tiles of 256 x 96, strips of 32"));
	assert_non_null(strstr(err.text, "--tl-params"));
	assert_int_equal(bn_codec_refuse(tq2, BN_TRITS_NOT, &scale, &tiles, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "not tq2_0"));
	assert_int_equal(bn_codec_refuse(tq2, BN_TRITS_TWO_SCALES, &scale, &tiles, &err),
			 BN_E_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "(0.5 and 0.25)"));
	assert_int_equal(bn_codec_refuse(tq2, BN_TRITS_NO_SCALE, &bad, &tiles, &err), BN_E_FORMAT);
	assert_non_null(strstr(err.text, "its scale is -1"));
	assert_int_equal(bn_codec_check_scale(0.0f, NULL), BN_E_FORMAT);
	assert_int_equal(bn_codec_check_scale(NAN, NULL), BN_E_FORMAT);
	assert_int_equal(bn_codec_check_scale(1e-30f, NULL), BN_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_is_written_as_its_first_writer_does),
		cmocka_unit_test(pieces_make_the_whole),
		cmocka_unit_test(only_ternary_types_have_a_row),
		cmocka_unit_test(what_is_wrong_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

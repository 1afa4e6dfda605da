#include "engine/ggml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t bytes(uint32_t type, uint64_t cols, uint64_t rows)
{
	uint64_t dims[2] = { cols, rows }, n = 0;

	assert_int_equal(bn_ggml_nbytes(type, 2, dims, &n), BN_GGML_FITS);
	return n;
}

static enum bn_ggml_verdict verdict(uint32_t type, uint32_t n_dims, uint64_t a, uint64_t b,
				    uint64_t c, uint64_t d)
{
	uint64_t dims[4] = { a, b, c, d }, n = 12345;
	enum bn_ggml_verdict v = bn_ggml_nbytes(type, n_dims, dims, &n);

	assert_true(v == BN_GGML_FITS || n == 12345);
	return v;
}

static void ggml_knows_the_sizes_of_blocks(void **state)
{
	(void)state;
	assert_int_equal(bytes(BN_GGML_F32, 3, 5), 60);
	assert_int_equal(bytes(BN_GGML_F16, 3, 5), 30);
	assert_int_equal(bytes(BN_GGML_BF16, 3, 5), 30);
	assert_int_equal(bytes(BN_GGML_I64, 3, 5), 120);
	assert_int_equal(bytes(BN_GGML_Q4_0, 64, 2), 4 * 18);
	assert_int_equal(bytes(BN_GGML_Q8_0, 64, 2), 4 * 34);
	assert_int_equal(bytes(BN_GGML_Q6_K, 512, 3), 6 * 210);
	assert_int_equal(bytes(BN_GGML_TQ1_0, 256, 2), 2 * 54);
	assert_int_equal(bytes(BN_GGML_TQ2_0, 256, 2), 2 * 66);
	assert_int_equal(bytes(BN_GGML_I2_S, 128, 3), 96 + 32);
	assert_int_equal(bytes(BN_GGML_TL1, 128, 3), 96 + 32);
	assert_int_equal(bytes(BN_GGML_IQ1_BN, 128, 3), 3 * (2 + 26));
	assert_int_equal(bytes(BN_GGML_IQ2_BN, 128, 3), 3 * (4 + 32));
	assert_int_equal(bytes(BN_GGML_MXFP4, 64, 3), 6 * 17);
}

static void ggml_divides_rows_or_the_whole_tensor_into_blocks(void **state)
{
	(void)state;
	/* 96 columns are no multiple of 128, but 4 rows of them are: I2_S is flat. */
	assert_int_equal(bytes(BN_GGML_I2_S, 96, 4), 96 + 32);
	assert_int_equal(verdict(BN_GGML_I2_S, 2, 96, 3, 1, 1), BN_GGML_RAGGED);
	assert_int_equal(verdict(BN_GGML_Q8_0, 2, 16, 2, 1, 1), BN_GGML_RAGGED);
	assert_int_equal(verdict(BN_GGML_Q6_K, 1, 3200, 1, 1, 1), BN_GGML_RAGGED);
	assert_int_equal(verdict(BN_GGML_TL2, 2, 255, 8, 1, 1), BN_GGML_RAGGED);
}

static void ggml_refuses_empty_unknown_and_overflowing_tensors(void **state)
{
	const uint64_t big = UINT64_C(1) << 32;

	(void)state;
	assert_int_equal(verdict(BN_GGML_F32, 0, 1, 1, 1, 1), BN_GGML_EMPTY);
	assert_int_equal(verdict(BN_GGML_F32, 5, 1, 1, 1, 1), BN_GGML_EMPTY);
	assert_int_equal(verdict(BN_GGML_F32, 4, 1, 1, 0, 1), BN_GGML_EMPTY);
	assert_int_equal(verdict(4, 1, 1, 1, 1, 1), BN_GGML_UNKNOWN);
	assert_int_equal(verdict(37, 1, 1, 1, 1, 1), BN_GGML_UNKNOWN);
	assert_int_equal(verdict(UINT32_MAX, 1, 1, 1, 1, 1), BN_GGML_UNKNOWN);
	/* The product wraps to zero. */
	assert_int_equal(verdict(BN_GGML_I8, 2, big, big, 1, 1), BN_GGML_OVERFLOWS);
	assert_int_equal(verdict(BN_GGML_I8, 4, big, 1, big, big), BN_GGML_OVERFLOWS);
	assert_int_equal(verdict(BN_GGML_I8, 1, UINT64_MAX, 1, 1, 1), BN_GGML_OVERFLOWS);
	assert_int_equal(verdict(BN_GGML_I8, 1, INT64_MAX, 1, 1, 1), BN_GGML_FITS);
	/* The elements fit, the bytes do not. */
	assert_int_equal(verdict(BN_GGML_F32, 2, big, big / 8, 1, 1), BN_GGML_OVERFLOWS);
	assert_int_equal(verdict(BN_GGML_F32, 2, big, big / 16, 1, 1), BN_GGML_FITS);
	assert_int_equal(verdict(BN_GGML_I2_S, 2, big, big / 4, 1, 1), BN_GGML_FITS);
	assert_int_equal(verdict(BN_GGML_TL2, 2, big, big / 4, 1, 1), BN_GGML_FITS);
	assert_null(bn_ggml_name(37));
	assert_string_equal(bn_ggml_name(36), "i2_s");
	assert_int_equal(bn_ggml_block(36), 128);
	assert_int_equal(bn_ggml_block(37), 0);
}

/* The published models; the bytes are those their real files have. */
struct known {
	uint64_t layers, dim, ffn, heads, kv_heads, vocab;
	bool tied, sub_norms;
	uint64_t data_bytes;
};

static uint64_t model_bytes(const struct known *k, uint32_t type)
{
	uint64_t kv = k->dim / k->heads * k->kv_heads;
	uint64_t norms = 2 * k->dim + (k->sub_norms ? k->dim + k->ffn : 0);
	uint64_t layer = bytes(type, k->dim, k->dim) * 2 + bytes(type, k->dim, kv) * 2 +
			 bytes(type, k->dim, k->ffn) * 2 + bytes(type, k->ffn, k->dim) +
			 bytes(BN_GGML_F32, norms, 1);

	return k->layers * layer + bytes(BN_GGML_F32, k->dim, 1) +
	       bytes(BN_GGML_F16, k->dim, k->vocab) * (k->tied ? 1 : 2);
}

static void ggml_agrees_with_the_files_of_published_models(void **state)
{
	static const struct known models[] = {
		{ 30, 2560, 6912, 20, 5, 128256, true, true, 1179449920 },
		{ 24, 1536, 4096, 16, 16, 32002, true, true, 269026560 },
		{ 26, 3200, 8640, 32, 32, 32002, true, true, 1012104384 },
		{ 32, 4096, 14336, 32, 8, 128256, false, false, 3847248896 },
		{ 18, 2048, 8192, 8, 4, 131072, false, false, 1357164480 },
		{ 22, 3072, 9216, 12, 4, 131072, false, false, 2216723264 },
		{ 28, 3072, 23040, 12, 4, 131072, false, false, 3273836672 },
		{ 40, 3072, 23040, 12, 4, 131072, false, false, 3986641664 },
		{ 24, 2048, 9216, 16, 2, 32768, false, false, 665203968 },
		{ 32, 2048, 13312, 16, 2, 32768, false, false, 998784000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		assert_int_equal(model_bytes(&models[i], BN_GGML_I2_S), models[i].data_bytes);
	}
	/* As TL2 two of them are reported with 846.01 and 3405.69 MiB. */
	assert_int_equal(model_bytes(&models[2], BN_GGML_TL2) * 100 / 1048576, 84601);
	assert_int_equal((model_bytes(&models[3], BN_GGML_TL2) * 100 + 524288) / 1048576, 340569);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ggml_knows_the_sizes_of_blocks),
		cmocka_unit_test(ggml_divides_rows_or_the_whole_tensor_into_blocks),
		cmocka_unit_test(ggml_refuses_empty_unknown_and_overflowing_tensors),
		cmocka_unit_test(ggml_agrees_with_the_files_of_published_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Dense rows in plain C: what each stored type decodes to, and the product by vec.h's
 * sixteen-partials rule on the decoded values. The vector files are compared with this one.
 *
 *   f32          itself
 *   f16, bf16    exact
 *   q8_0         scale * q, exact in float
 *   q6_k         (scale * sub-scale) * code, one rounding, at the outer product
 */
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/order.h"
#include "kernels/tables.h"

#include <math.h>
#include <string.h>

enum {
	STRIP = 256, /* columns decoded at a time: a multiple of every block and of sixteen */
};

typedef void decode_fn(float *out, const void *row, uint32_t cols);

static void decode_f32(float *out, const void *row, uint32_t cols)
{
	memcpy(out, row, (size_t)cols * sizeof(float));
}

static void decode_f16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;

	for (uint32_t c = 0; c < cols; c++) {
		out[c] = bn_half_to_float(bn_load_u16(p + (size_t)c * 2));
	}
}

static void decode_bf16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;

	for (uint32_t c = 0; c < cols; c++) {
		out[c] = bn_bf16_to_float(bn_load_u16(p + (size_t)c * 2));
	}
}

static void decode_q8_0(float *out, const void *row, uint32_t cols)
{
	const struct bn_q8_0 *block = row;

	for (uint32_t c = 0; c < cols; c += BN_Q8_0_WEIGHTS, block++) {
		const float scale = bn_half_to_float(bn_load_u16(block->scale));
		for (uint32_t i = 0; i < BN_Q8_0_WEIGHTS; i++) {
			out[c + i] = scale * (float)block->q[i];
		}
	}
}

static void decode_q6_k(float *out, const void *row, uint32_t cols)
{
	const struct bn_q6_k *block = row;

	for (uint32_t c = 0; c < cols; c += BN_Q6_K_WEIGHTS, block++) {
		const float scale = bn_half_to_float(bn_load_u16(block->scale));
		for (uint32_t i = 0; i < BN_Q6_K_WEIGHTS; i++) {
			const uint32_t h = i / 128, k = i % 128 / 32, l = i % 32;
			const unsigned low = block->low[h][32 * (k % 2) + l] >> (k < 2 ? 0 : 4);
			const unsigned high = block->high[h][l] >> (2 * k);
			const int code = (int)((low & 15u) | (high & 3u) << 4) - 32;
			const float s = scale * (float)block->sub[h][2 * k + l / 16];
			out[c + i] = s * (float)code;
		}
	}
}

/* Rows of `type`, decoded strip by strip, times all tokens. */
static void mul_rows(enum bn_dense_type type, decode_fn *decode, float *out, size_t out_stride,
		     const void *rows, uint32_t cols, const float *x, size_t x_stride, uint32_t n,
		     uint32_t row0, uint32_t row1)
{
	const size_t row_bytes = bn_dense_row_bytes(type, cols);
	const size_t strip_bytes = bn_dense_row_bytes(type, STRIP);

	for (uint32_t r = row0; r < row1; r++) {
		const uint8_t *row = (const uint8_t *)rows + r * row_bytes;
		for (uint32_t t = 0; t < n; t++) {
			const float *xt = x + t * x_stride;
			float part[16] = { 0 };
			for (uint32_t c0 = 0; c0 < cols; c0 += STRIP) {
				const uint32_t count = cols - c0 < STRIP ? cols - c0 : STRIP;
				float w[STRIP];
				decode(w, row + c0 / STRIP * strip_bytes, count);
				for (uint32_t c = 0; c < count; c++) {
					part[c % 16] = fmaf(w[c], xt[c0 + c], part[c % 16]);
				}
			}
			out[t * out_stride + r] = bn_fold16(part);
		}
	}
}

#define DENSE_MUL(word, WORD)                                                                      \
	static void mul_##word(float *out, size_t out_stride, const void *rows, uint32_t cols,     \
			       const float *x, size_t x_stride, uint32_t n, uint32_t row0,         \
			       uint32_t row1)                                                      \
	{                                                                                          \
		mul_rows(BN_DENSE_##WORD, decode_##word, out, out_stride, rows, cols, x, x_stride, \
			 n, row0, row1);                                                           \
	}

DENSE_MUL(f32, F32)
DENSE_MUL(f16, F16)
DENSE_MUL(bf16, BF16)
DENSE_MUL(q8_0, Q8_0)
DENSE_MUL(q6_k, Q6_K)

const struct bn_dense bn_dense_scalar[BN_DENSE_TYPE_COUNT] = {
	{ "f32.scalar", BN_DENSE_F32, 0, decode_f32, mul_f32 },
	{ "f16.scalar", BN_DENSE_F16, 0, decode_f16, mul_f16 },
	{ "bf16.scalar", BN_DENSE_BF16, 0, decode_bf16, mul_bf16 },
	{ "q8_0.scalar", BN_DENSE_Q8_0, 0, decode_q8_0, mul_q8_0 },
	{ "q6_k.scalar", BN_DENSE_Q6_K, 0, decode_q6_k, mul_q6_k },
};

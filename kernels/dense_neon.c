/*
 * Dense rows with NEON: as dense_avx2.c, strips of rows are decoded to floats in L1 and multiplied
 * with all tokens of a block; the sixteen partial sums are four registers of four.
 */
#include "kernels/cpu.h"
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/order.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

enum {
	LANES = 4,
	STEP = 16,
	PARTS = STEP / LANES,
	STRIP = 256, /* columns: a multiple of every block         */
	ROWS = 2,    /* rows of a tile                             */
	TOKENS = 2,  /* tokens of a tile                           */
	BLOCK = 32,  /* tokens per decoding: 4 KiB of partial sums */
};

typedef void decode_fn(float *out, const void *row, uint32_t cols);

BN_INLINE void decode_f32(float *out, const void *row, uint32_t cols)
{
	memcpy(out, row, (size_t)cols * sizeof(float));
}

BN_INLINE void decode_f16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;
	uint32_t c = 0;

	for (; c + LANES <= cols; c += LANES) {
		const uint8x8_t h = vld1_u8(p + (size_t)c * 2);
		vst1q_f32(out + c, vcvt_f32_f16(vreinterpret_f16_u8(h)));
	}
	for (; c < cols; c++) {
		out[c] = bn_half_to_float(bn_load_u16(p + (size_t)c * 2));
	}
}

BN_INLINE void decode_bf16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;
	uint32_t c = 0;

	for (; c + LANES <= cols; c += LANES) {
		const uint16x4_t h = vreinterpret_u16_u8(vld1_u8(p + (size_t)c * 2));
		vst1q_f32(out + c, vreinterpretq_f32_u32(vshll_n_u16(h, 16)));
	}
	for (; c < cols; c++) {
		out[c] = bn_bf16_to_float(bn_load_u16(p + (size_t)c * 2));
	}
}

/* Sixteen int8 times scale, to out. */
BN_INLINE void store16(float *out, int8x16_t q, float scale)
{
	const int16x8_t a = vmovl_s8(vget_low_s8(q));
	const int16x8_t b = vmovl_high_s8(q);

	vst1q_f32(out, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), scale));
	vst1q_f32(out + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(a)), scale));
	vst1q_f32(out + 8, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), scale));
	vst1q_f32(out + 12, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(b)), scale));
}

BN_INLINE void decode_q8_0(float *out, const void *row, uint32_t cols)
{
	const struct bn_q8_0 *block = row;

	for (uint32_t c = 0; c < cols; c += BN_Q8_0_WEIGHTS, block++) {
		const float scale = bn_half_to_float(bn_load_u16(block->scale));
		store16(out + c, vld1q_s8(block->q), scale);
		store16(out + c + 16, vld1q_s8(block->q + 16), scale);
	}
}

BN_INLINE void decode_q6_k(float *out, const void *row, uint32_t cols)
{
	const struct bn_q6_k *block = row;
	const uint8x16_t nibble = vdupq_n_u8(0x0f);
	const uint8x16_t two = vdupq_n_u8(0x30);

	for (uint32_t c = 0; c < cols; c += BN_Q6_K_WEIGHTS, block++) {
		const float d = bn_half_to_float(bn_load_u16(block->scale));
		for (unsigned i = 0; i < 4; i++) {
			/* Sixteen of the thirty-two places of a half: four quarters at once. */
			const unsigned h = i / 2, l = i % 2 * 16;
			const uint8x16_t a = vld1q_u8(block->low[h] + l);
			const uint8x16_t b = vld1q_u8(block->low[h] + 32 + l);
			const uint8x16_t high = vld1q_u8(block->high[h] + l);
			const uint8x16_t codes[4] = {
				vorrq_u8(vandq_u8(a, nibble), vandq_u8(vshlq_n_u8(high, 4), two)),
				vorrq_u8(vandq_u8(b, nibble), vandq_u8(vshlq_n_u8(high, 2), two)),
				vorrq_u8(vshrq_n_u8(a, 4), vandq_u8(high, two)),
				vorrq_u8(vshrq_n_u8(b, 4), vandq_u8(vshrq_n_u8(high, 2), two)),
			};
			BN_UNROLL
			for (unsigned k = 0; k < 4; k++) {
				const int8x16_t q =
					vsubq_s8(vreinterpretq_s8_u8(codes[k]), vdupq_n_s8(32));
				store16(out + c + (size_t)h * 128 + (size_t)k * 32 + l, q,
					d * (float)block->sub[h][2 * k + l / 16]);
			}
		}
	}
}

/* part[t][r] += w[r] * x[t] over `cols` columns of a strip, T tokens. */
BN_INLINE void tile(float part[][ROWS][STEP], const float (*w)[STRIP], const float *x,
		    size_t x_stride, uint32_t cols, const unsigned T)
{
	float32x4_t sum[TOKENS * ROWS * PARTS];
	uint32_t c = 0;

	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS * PARTS; i++) {
		sum[i] = vld1q_f32(part[i / PARTS / ROWS][i / PARTS % ROWS] + i % PARTS * LANES);
	}
	for (; c + STEP <= cols; c += STEP) {
		BN_UNROLL
		for (unsigned j = 0; j < PARTS; j++) {
			float32x4_t wr[ROWS];
			BN_UNROLL
			for (unsigned r = 0; r < ROWS; r++) {
				wr[r] = vld1q_f32(w[r] + c + j * LANES);
			}
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				const float32x4_t xt = vld1q_f32(x + t * x_stride + c + j * LANES);
				BN_UNROLL
				for (unsigned r = 0; r < ROWS; r++) {
					const unsigned i = (t * ROWS + r) * PARTS + j;
					sum[i] = vfmaq_f32(sum[i], wr[r], xt);
				}
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		float *p = part[i / ROWS][i % ROWS];
		const float *xt = x + i / ROWS * x_stride;
		BN_UNROLL
		for (unsigned j = 0; j < PARTS; j++) {
			vst1q_f32(p + j * LANES, sum[i * PARTS + j]);
		}
		for (uint32_t e = c; e < cols; e++) {
			p[e % STEP] = fmaf(w[i % ROWS][e], xt[e], p[e % STEP]);
		}
	}
}

static void tiles(float part[][ROWS][STEP], const float (*w)[STRIP], const float *x,
		  size_t x_stride, uint32_t cols, uint32_t n)
{
	uint32_t t = 0;

	for (; t + TOKENS <= n; t += TOKENS) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, TOKENS);
	}
	for (; t < n; t++) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, 1);
	}
}

/* One tile of rows (count <= ROWS, the last stands in for missing ones), at most BLOCK tokens. */
BN_INLINE void rows_block(decode_fn *decode, float *out, size_t out_stride, const uint8_t *rows,
			  size_t row_bytes, size_t strip_bytes, uint32_t count, uint32_t cols,
			  const float *x, size_t x_stride, uint32_t n)
{
	_Alignas(16) float w[ROWS][STRIP];
	_Alignas(16) float part[BLOCK][ROWS][STEP];

	memset(part, 0, n * sizeof(part[0]));
	for (uint32_t c = 0; c < cols; c += STRIP) {
		const uint32_t some = cols - c < STRIP ? cols - c : STRIP;
		for (unsigned r = 0; r < ROWS; r++) {
			const uint32_t at = r < count ? r : count - 1;
			decode(w[r], rows + at * row_bytes + c / STRIP * strip_bytes, some);
		}
		tiles(part, (const float(*)[STRIP])w, x + c, x_stride, some, n);
	}
	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t r = 0; r < count; r++) {
			out[t * out_stride + r] = bn_fold16(part[t][r]);
		}
	}
}

BN_INLINE void mul_rows(enum bn_dense_type type, decode_fn *decode, float *out, size_t out_stride,
			const void *rows, uint32_t cols, const float *x, size_t x_stride,
			uint32_t n, uint32_t row0, uint32_t row1)
{
	const size_t row_bytes = bn_dense_row_bytes(type, cols);
	const size_t strip_bytes = bn_dense_row_bytes(type, STRIP);

	for (uint32_t r = row0; r < row1; r += ROWS) {
		const uint32_t count = row1 - r < ROWS ? row1 - r : ROWS;
		const uint8_t *first_row = (const uint8_t *)rows + r * row_bytes;
		for (uint32_t t = 0; t < n; t += BLOCK) {
			rows_block(decode, out + t * out_stride + r, out_stride, first_row,
				   row_bytes, strip_bytes, count, cols, x + t * x_stride, x_stride,
				   n - t < BLOCK ? n - t : BLOCK);
		}
	}
}

#define DENSE(word, WORD)                                                                          \
	static void row_##word(float *out, const void *row, uint32_t cols)                         \
	{                                                                                          \
		decode_##word(out, row, cols);                                                     \
	}                                                                                          \
	static void mul_##word(float *out, size_t out_stride, const void *rows, uint32_t cols,     \
			       const float *x, size_t x_stride, uint32_t n, uint32_t row0,         \
			       uint32_t row1)                                                      \
	{                                                                                          \
		mul_rows(BN_DENSE_##WORD, decode_##word, out, out_stride, rows, cols, x, x_stride, \
			 n, row0, row1);                                                           \
	}

DENSE(f32, F32)
DENSE(f16, F16)
DENSE(bf16, BF16)
DENSE(q8_0, Q8_0)
DENSE(q6_k, Q6_K)

const struct bn_dense bn_dense_neon[BN_DENSE_TYPE_COUNT] = {
	{ "f32.neon", BN_DENSE_F32, BN_CPU_NEON, row_f32, mul_f32 },
	{ "f16.neon", BN_DENSE_F16, BN_CPU_NEON, row_f16, mul_f16 },
	{ "bf16.neon", BN_DENSE_BF16, BN_CPU_NEON, row_bf16, mul_bf16 },
	{ "q8_0.neon", BN_DENSE_Q8_0, BN_CPU_NEON, row_q8_0, mul_q8_0 },
	{ "q6_k.neon", BN_DENSE_Q6_K, BN_CPU_NEON, row_q6_k, mul_q6_k },
};

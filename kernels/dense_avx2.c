/*
 * Dense rows with AVX2, FMA and F16C: as dense_avx512.c, strips of rows are decoded to floats in
 * L1 and multiplied with all tokens of a block; the sixteen partial sums are two registers of
 * eight. Columns past the last whole sixteen are done one by one on the same partial sums.
 */
#include "kernels/cpu.h"
#include "kernels/dense_block.h"
#include "kernels/order.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
	LANES = 8,
	STEP = 16,
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
		const __m128i h = _mm_loadu_si128((const __m128i *)(p + (size_t)c * 2));
		_mm256_storeu_ps(out + c, _mm256_cvtph_ps(h));
	}
	for (; c < cols; c++) {
		out[c] = _cvtsh_ss(bn_load_u16(p + (size_t)c * 2));
	}
}

BN_INLINE void decode_bf16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;
	uint32_t c = 0;

	for (; c + LANES <= cols; c += LANES) {
		const __m128i h = _mm_loadu_si128((const __m128i *)(p + (size_t)c * 2));
		const __m256i w = _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
		_mm256_storeu_ps(out + c, _mm256_castsi256_ps(w));
	}
	for (; c < cols; c++) {
		out[c] = bn_bf16_to_float(bn_load_u16(p + (size_t)c * 2));
	}
}

/* Eight int8 (the lower half of q) times scale, to out. */
BN_INLINE void store8(float *out, __m128i q, float scale)
{
	const __m256 w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));

	_mm256_storeu_ps(out, _mm256_mul_ps(_mm256_set1_ps(scale), w));
}

BN_INLINE void decode_q8_0(float *out, const void *row, uint32_t cols)
{
	const struct bn_q8_0 *block = row;

	for (uint32_t c = 0; c < cols; c += BN_Q8_0_WEIGHTS, block++) {
		const float scale = _cvtsh_ss(bn_load_u16(block->scale));
		BN_UNROLL
		for (unsigned i = 0; i < BN_Q8_0_WEIGHTS; i += LANES) {
			store8(out + c + i, _mm_loadl_epi64((const __m128i *)(block->q + i)),
			       scale);
		}
	}
}

/* 32 codes, sixteen to a scale, to floats. */
BN_INLINE void store_q6(float *out, __m256i codes, float scale0, float scale1)
{
	const __m256i q = _mm256_sub_epi8(codes, _mm256_set1_epi8(32));
	const __m128i a = _mm256_castsi256_si128(q);
	const __m128i b = _mm256_extracti128_si256(q, 1);

	store8(out, a, scale0);
	store8(out + 8, _mm_srli_si128(a, 8), scale0);
	store8(out + 16, b, scale1);
	store8(out + 24, _mm_srli_si128(b, 8), scale1);
}

BN_INLINE void decode_q6_k(float *out, const void *row, uint32_t cols)
{
	const struct bn_q6_k *block = row;
	const __m256i nibble = _mm256_set1_epi8(0x0f);
	const __m256i two = _mm256_set1_epi8(0x30);

	for (uint32_t c = 0; c < cols; c += BN_Q6_K_WEIGHTS, block++) {
		const float d = _cvtsh_ss(bn_load_u16(block->scale));
		for (unsigned h = 0; h < 2; h++) {
			const int8_t *sub = block->sub[h];
			const __m256i a = _mm256_loadu_si256((const __m256i *)block->low[h]);
			const __m256i b =
				_mm256_loadu_si256((const __m256i *)(block->low[h] + 32));
			const __m256i high =
				_mm256_loadu_si256((const __m256i *)block->high[h]);
			const __m256i low4[4] = {
				_mm256_and_si256(a, nibble),
				_mm256_and_si256(b, nibble),
				_mm256_and_si256(_mm256_srli_epi16(a, 4), nibble),
				_mm256_and_si256(_mm256_srli_epi16(b, 4), nibble),
			};
			const __m256i high4[4] = {
				_mm256_and_si256(_mm256_slli_epi16(high, 4), two),
				_mm256_and_si256(_mm256_slli_epi16(high, 2), two),
				_mm256_and_si256(high, two),
				_mm256_and_si256(_mm256_srli_epi16(high, 2), two),
			};
			BN_UNROLL
			for (unsigned k = 0; k < 4; k++) {
				store_q6(out + c + (size_t)h * 128 + (size_t)k * 32,
					 _mm256_or_si256(low4[k], high4[k]),
					 d * (float)sub[2 * k], d * (float)sub[2 * k + 1]);
			}
		}
	}
}

/* part[t][r] += w[r] * x[t] over `cols` columns of a strip, T tokens. */
BN_INLINE void tile(float part[][ROWS][STEP], const float (*w)[STRIP], const float *x,
		    size_t x_stride, uint32_t cols, const unsigned T)
{
	__m256 lo[TOKENS * ROWS];
	__m256 hi[TOKENS * ROWS];
	uint32_t c = 0;

	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		lo[i] = _mm256_load_ps(part[i / ROWS][i % ROWS]);
		hi[i] = _mm256_load_ps(part[i / ROWS][i % ROWS] + LANES);
	}
	for (; c + STEP <= cols; c += STEP) {
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			const __m256 xa = _mm256_loadu_ps(x + t * x_stride + c);
			const __m256 xb = _mm256_loadu_ps(x + t * x_stride + c + LANES);
			BN_UNROLL
			for (unsigned r = 0; r < ROWS; r++) {
				const unsigned i = t * ROWS + r;
				const __m256 wa = _mm256_load_ps(w[r] + c);
				const __m256 wb = _mm256_load_ps(w[r] + c + LANES);
				lo[i] = _mm256_fmadd_ps(wa, xa, lo[i]);
				hi[i] = _mm256_fmadd_ps(wb, xb, hi[i]);
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		float *p = part[i / ROWS][i % ROWS];
		const float *xt = x + i / ROWS * x_stride;
		_mm256_store_ps(p, lo[i]);
		_mm256_store_ps(p + LANES, hi[i]);
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
	_Alignas(32) float w[ROWS][STRIP];
	_Alignas(32) float part[BLOCK][ROWS][STEP];

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

const struct bn_dense bn_dense_avx2[BN_DENSE_TYPE_COUNT] = {
	{ "f32.avx2", BN_DENSE_F32, BN_CPU_AVX2, row_f32, mul_f32 },
	{ "f16.avx2", BN_DENSE_F16, BN_CPU_AVX2, row_f16, mul_f16 },
	{ "bf16.avx2", BN_DENSE_BF16, BN_CPU_AVX2, row_bf16, mul_bf16 },
	{ "q8_0.avx2", BN_DENSE_Q8_0, BN_CPU_AVX2, row_q8_0, mul_q8_0 },
	{ "q6_k.avx2", BN_DENSE_Q6_K, BN_CPU_AVX2, row_q6_k, mul_q6_k },
};

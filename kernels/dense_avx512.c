/*
 * Dense rows with AVX-512. Strips of four rows are decoded to floats in L1, then multiplied with
 * all tokens of a block while they are there; the sixteen partial sums of a (row, token) are one
 * register, kept in memory between strips. So each type needs a decoder and nothing else, and
 * several tokens cost one decoding.
 */
#include "kernels/cpu.h"
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>

enum {
	LANES = 16,
	STRIP = 256, /* columns: a multiple of every block                      */
	ROWS = 4,    /* rows of a tile                                          */
	TOKENS = 4,  /* tokens of a tile                                        */
	BLOCK = 32,  /* tokens per decoding: their partial sums are 8 KiB of L1 */
};

typedef void decode_fn(float *out, const void *row, uint32_t cols);

BN_INLINE __mmask16 first(uint32_t n)
{
	return n >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

BN_INLINE void decode_f32(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;

	for (uint32_t c = 0; c < cols; c += LANES) {
		const __mmask16 m = first(cols - c);
		_mm512_mask_storeu_ps(out + c, m, _mm512_maskz_loadu_ps(m, p + (size_t)c * 4));
	}
}

BN_INLINE void decode_f16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;
	uint32_t c = 0;

	for (; c + LANES <= cols; c += LANES) {
		const __m256i h = _mm256_loadu_si256((const __m256i *)(p + (size_t)c * 2));
		_mm512_storeu_ps(out + c, _mm512_cvtph_ps(h));
	}
	if (c < cols) {
		const __mmask16 m = first(cols - c);
		const __m256i h = _mm256_maskz_loadu_epi16(m, p + (size_t)c * 2);
		_mm512_mask_storeu_ps(out + c, m, _mm512_cvtph_ps(h));
	}
}

BN_INLINE void decode_bf16(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;

	for (uint32_t c = 0; c < cols; c += LANES) {
		const __mmask16 m = first(cols - c);
		const __m256i h = _mm256_maskz_loadu_epi16(m, p + (size_t)c * 2);
		const __m512i w = _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
		_mm512_mask_storeu_ps(out + c, m, _mm512_castsi512_ps(w));
	}
}

BN_INLINE __m512 int8_ps(__m128i q)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

BN_INLINE void decode_q8_0(float *out, const void *row, uint32_t cols)
{
	const struct bn_q8_0 *block = row;

	for (uint32_t c = 0; c < cols; c += BN_Q8_0_WEIGHTS, block++) {
		const __m512 scale = _mm512_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));
		const __m128i a = _mm_loadu_si128((const __m128i *)block->q);
		const __m128i b = _mm_loadu_si128((const __m128i *)(block->q + 16));
		_mm512_storeu_ps(out + c, _mm512_mul_ps(scale, int8_ps(a)));
		_mm512_storeu_ps(out + c + 16, _mm512_mul_ps(scale, int8_ps(b)));
	}
}

/* 64 codes, sixteen to a scale, to floats. */
BN_INLINE void store_q6(float *out, __m512i codes, const float *scale)
{
	const __m512i q = _mm512_sub_epi8(codes, _mm512_set1_epi8(32));

	_mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(scale[0]),
					    int8_ps(_mm512_castsi512_si128(q))));
	_mm512_storeu_ps(out + 16, _mm512_mul_ps(_mm512_set1_ps(scale[1]),
						 int8_ps(_mm512_extracti32x4_epi32(q, 1))));
	_mm512_storeu_ps(out + 32, _mm512_mul_ps(_mm512_set1_ps(scale[2]),
						 int8_ps(_mm512_extracti32x4_epi32(q, 2))));
	_mm512_storeu_ps(out + 48, _mm512_mul_ps(_mm512_set1_ps(scale[3]),
						 int8_ps(_mm512_extracti32x4_epi32(q, 3))));
}

BN_INLINE void decode_q6_k(float *out, const void *row, uint32_t cols)
{
	const struct bn_q6_k *block = row;
	const __m512i nibble = _mm512_set1_epi8(0x0f);
	const __m512i two = _mm512_set1_epi8(0x30);
	/* Bits 2k and 2k + 1 of `high` to bits 4 and 5, k = 0 and 2 in the lower half of the
	 * register, 1 and 3 in the upper. */
	const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
	const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);

	for (uint32_t c = 0; c < cols; c += BN_Q6_K_WEIGHTS, block++) {
		const __m512 d = _mm512_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));
		const __m128i sub = _mm_loadu_si128((const __m128i *)block->sub[0]);
		_Alignas(64) float scale[16];
		_mm512_store_ps(scale, _mm512_mul_ps(d, int8_ps(sub)));
		BN_UNROLL
		for (unsigned h = 0; h < 2; h++) {
			const __m512i low = _mm512_loadu_si512(block->low[h]);
			const __m512i high = _mm512_broadcast_i64x4(
				_mm256_loadu_si256((const __m256i *)block->high[h]));
			const __m512i h01 = _mm512_and_si512(_mm512_sllv_epi16(high, left), two);
			const __m512i h23 = _mm512_and_si512(_mm512_srlv_epi16(high, right), two);
			const __m512i l01 = _mm512_and_si512(low, nibble);
			const __m512i l23 = _mm512_and_si512(_mm512_srli_epi16(low, 4), nibble);
			float *half = out + c + (size_t)h * 128;
			store_q6(half, _mm512_or_si512(l01, h01), scale + (size_t)h * 8);
			store_q6(half + 64, _mm512_or_si512(l23, h23), scale + (size_t)h * 8 + 4);
		}
	}
}

/* vec.h's fold of four registers of partial sums (vec_avx512.c explains the shuffles). */
BN_INLINE __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d)
{
	const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44),
					_mm512_shuffle_f32x4(a, b, 0xee));
	const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44),
					_mm512_shuffle_f32x4(c, d, 0xee));
	__m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
				 _mm512_shuffle_f32x4(ab, cd, 0xdd));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

	return _mm512_castps512_ps128(_mm512_permutexvar_ps(pick, x));
}

/* part[t][r] += w[r] * x[t] over `cols` columns of a strip, T tokens. */
BN_INLINE void tile(float part[][ROWS][LANES], const float (*w)[STRIP], const float *x,
		    size_t x_stride, uint32_t cols, const unsigned T)
{
	__m512 sum[TOKENS * ROWS];
	uint32_t c = 0;

	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		sum[i] = _mm512_load_ps(part[i / ROWS][i % ROWS]);
	}
	for (; c + LANES <= cols; c += LANES) {
		__m512 wr[ROWS];
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			wr[r] = _mm512_load_ps(w[r] + c);
		}
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			const __m512 xt = _mm512_loadu_ps(x + t * x_stride + c);
			BN_UNROLL
			for (unsigned r = 0; r < ROWS; r++) {
				sum[t * ROWS + r] = _mm512_fmadd_ps(wr[r], xt, sum[t * ROWS + r]);
			}
		}
	}
	if (c < cols) {
		const __mmask16 m = first(cols - c);
		BN_UNROLL
		for (unsigned i = 0; i < T * ROWS; i++) {
			const __m512 xt = _mm512_maskz_loadu_ps(m, x + i / ROWS * x_stride + c);
			const __m512 wr = _mm512_maskz_load_ps(m, w[i % ROWS] + c);
			sum[i] = _mm512_mask3_fmadd_ps(wr, xt, sum[i], m);
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		_mm512_store_ps(part[i / ROWS][i % ROWS], sum[i]);
	}
}

static void tiles(float part[][ROWS][LANES], const float (*w)[STRIP], const float *x,
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
	_Alignas(64) float w[ROWS][STRIP];
	_Alignas(64) float part[BLOCK][ROWS][LANES];

	for (uint32_t t = 0; t < n; t++) {
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			_mm512_store_ps(part[t][r], _mm512_setzero_ps());
		}
	}
	for (uint32_t c = 0; c < cols; c += STRIP) {
		const uint32_t some = cols - c < STRIP ? cols - c : STRIP;
		for (unsigned r = 0; r < ROWS; r++) {
			const uint32_t at = r < count ? r : count - 1;
			decode(w[r], rows + at * row_bytes + c / STRIP * strip_bytes, some);
		}
		tiles(part, (const float(*)[STRIP])w, x + c, x_stride, some, n);
	}
	for (uint32_t t = 0; t < n; t++) {
		const __m128 y =
			fold4(_mm512_load_ps(part[t][0]), _mm512_load_ps(part[t][1]),
			      _mm512_load_ps(part[t][2]), _mm512_load_ps(part[t][3]));
		if (count == ROWS) {
			_mm_storeu_ps(out + t * out_stride, y);
			continue;
		}
		/* Not a masked store: gcc 12 makes it a masked vextractf32x4, which faults on the
		 * bytes it does not write. */
		float some[ROWS];
		_mm_storeu_ps(some, y);
		for (uint32_t r = 0; r < count; r++) {
			out[t * out_stride + r] = some[r];
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

#define NEEDS (BN_CPU_AVX2 | BN_CPU_AVX512)

const struct bn_dense bn_dense_avx512[BN_DENSE_TYPE_COUNT] = {
	{ "f32.avx512", BN_DENSE_F32, NEEDS, row_f32, mul_f32 },
	{ "f16.avx512", BN_DENSE_F16, NEEDS, row_f16, mul_f16 },
	{ "bf16.avx512", BN_DENSE_BF16, NEEDS, row_bf16, mul_bf16 },
	{ "q8_0.avx512", BN_DENSE_Q8_0, NEEDS, row_q8_0, mul_q8_0 },
	{ "q6_k.avx512", BN_DENSE_Q6_K, NEEDS, row_q6_k, mul_q6_k },
};

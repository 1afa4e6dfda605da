/*
 * Dense rows with AVX2, FMA and F16C: as dense_avx512.c. `load` turns the next unit of columns
 * into registers of eight floats; the sixteen partial sums of a (row, token) are two registers,
 * and because they never meet before the end, tiles work on one half of them at a time: four rows
 * by three tokens are twelve sums, three activations and a weight, sixteen registers in all.
 * Columns past the last whole sixteen are done one by one on the same partial sums.
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
	STRIP = 256,                    /* columns: a multiple of every unit               */
	ROWS = 4,                       /* rows of a tile                                  */
	TOKENS = 3,                     /* tokens of a tile                                */
	BLOCK = 24,                     /* tokens per decoding: their sums are 6 KiB of L1 */
	UNIT_REGISTERS = STRIP / LANES, /* registers of the longest unit                   */
	UNIT_DIRECT = 32,               /* longest unit used straight from registers       */
};

/* A stored type: columns and bytes of a unit, its floats, and one single float (plain types
 * only: rows of blocks have whole blocks). */
struct format {
	enum bn_dense_type type;
	unsigned unit;
	unsigned bytes;
	void (*load)(__m256 *w, const uint8_t *p);
	float (*load_one)(const uint8_t *p);
};

BN_INLINE __m128i load128(const void *p)
{
	return _mm_loadu_si128((const __m128i *)p);
}

BN_INLINE __m256i load256(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

BN_INLINE void load_f32(__m256 *w, const uint8_t *p)
{
	w[0] = _mm256_castsi256_ps(load256(p));
	w[1] = _mm256_castsi256_ps(load256(p + 32));
}

BN_INLINE float one_f32(const uint8_t *p)
{
	float x;

	memcpy(&x, p, sizeof(x));
	return x;
}

BN_INLINE void load_f16(__m256 *w, const uint8_t *p)
{
	w[0] = _mm256_cvtph_ps(load128(p));
	w[1] = _mm256_cvtph_ps(load128(p + 16));
}

BN_INLINE float one_f16(const uint8_t *p)
{
	return bn_half_to_float(bn_load_u16(p));
}

BN_INLINE __m256 bf16_ps(__m128i h)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

BN_INLINE void load_bf16(__m256 *w, const uint8_t *p)
{
	w[0] = bf16_ps(load128(p));
	w[1] = bf16_ps(load128(p + 16));
}

BN_INLINE float one_bf16(const uint8_t *p)
{
	return bn_bf16_to_float(bn_load_u16(p));
}

/* Block types end with a whole block. */
BN_INLINE float one_never(const uint8_t *p)
{
	(void)p;
	return 0.0f;
}

/* Eight int8 (the lower half of q) times scale. */
BN_INLINE __m256 int8_ps(__m128i q, __m256 scale)
{
	return _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)));
}

BN_INLINE void load_q8_0(__m256 *w, const uint8_t *p)
{
	const struct bn_q8_0 *block = (const struct bn_q8_0 *)p;
	const __m256 scale = _mm256_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));

	BN_UNROLL
	for (unsigned i = 0; i < BN_Q8_0_WEIGHTS / LANES; i++) {
		w[i] = int8_ps(_mm_loadl_epi64((const __m128i *)(block->q + LANES * i)), scale);
	}
}

/* 32 codes, sixteen to a scale, to floats. */
BN_INLINE void codes_q6_k(__m256 *w, __m256i codes, const float *scale)
{
	const __m256 scale0 = _mm256_broadcast_ss(scale);
	const __m256 scale1 = _mm256_broadcast_ss(scale + 1);
	const __m256i q = _mm256_sub_epi8(codes, _mm256_set1_epi8(32));
	const __m128i a = _mm256_castsi256_si128(q);
	const __m128i b = _mm256_extracti128_si256(q, 1);

	w[0] = int8_ps(a, scale0);
	w[1] = int8_ps(_mm_srli_si128(a, 8), scale0);
	w[2] = int8_ps(b, scale1);
	w[3] = int8_ps(_mm_srli_si128(b, 8), scale1);
}

BN_INLINE void load_q6_k(__m256 *w, const uint8_t *p)
{
	const struct bn_q6_k *block = (const struct bn_q6_k *)p;
	const __m256i nibble = _mm256_set1_epi8(0x0f);
	const __m256i two = _mm256_set1_epi8(0x30);
	const __m256 d = _mm256_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));
	const __m128i sub = load128(block->sub[0]);
	_Alignas(32) float scale[16];

	/* By way of memory, from where each is broadcast by its load; gcc must not see through. */
	_mm256_store_ps(scale, int8_ps(sub, d));
	_mm256_store_ps(scale + 8, int8_ps(_mm_srli_si128(sub, 8), d));
	__asm__ volatile("" : "+m"(scale));
	BN_UNROLL
	for (unsigned h = 0; h < 2; h++) {
		const __m256i a = load256(block->low[h]);
		const __m256i b = load256(block->low[h] + 32);
		const __m256i high = load256(block->high[h]);
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
			codes_q6_k(w + 16 * h + 4 * k, _mm256_or_si256(low4[k], high4[k]),
				   scale + 8 * h + 2 * k);
		}
	}
}

BN_INLINE void prefetch(const uint8_t *p, unsigned bytes)
{
	BN_UNROLL
	for (unsigned i = 0; i < bytes; i += 64) {
		_mm_prefetch((const char *)p + i, _MM_HINT_T0);
	}
}

/* Floats of `cols` columns from p; each cache line is also fetched `ahead` bytes further on. */
BN_INLINE void decode(const struct format f, float *out, const uint8_t *p, uint32_t cols,
		      size_t ahead)
{
	uint32_t c = 0;

	for (; c + f.unit <= cols; c += f.unit, p += f.bytes) {
		__m256 w[UNIT_REGISTERS];
		prefetch(p + ahead, f.bytes);
		f.load(w, p);
		BN_UNROLL
		for (unsigned i = 0; i < f.unit / LANES; i++) {
			_mm256_storeu_ps(out + c + i * LANES, w[i]);
		}
	}
	for (; c < cols; c++, p += f.bytes / f.unit) {
		out[c] = f.load_one(p);
	}
}

/* Four rows (the last stands in for missing ones) times one token, straight from registers. */
BN_INLINE void rows_direct(const struct format f, float *out, const uint8_t *rows, size_t row_bytes,
			   uint32_t count, uint32_t cols, const float *x)
{
	const uint8_t *p[ROWS];
	__m256 sum[ROWS][2];
	uint32_t c = 0;

	BN_UNROLL
	for (unsigned r = 0; r < ROWS; r++) {
		p[r] = rows + (r < count ? r : count - 1) * row_bytes;
		sum[r][0] = _mm256_setzero_ps();
		sum[r][1] = _mm256_setzero_ps();
	}
	for (; c + f.unit <= cols; c += f.unit) {
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			__m256 w[UNIT_DIRECT / LANES];
			prefetch(p[r] + ROWS * row_bytes, f.bytes);
			f.load(w, p[r]);
			p[r] += f.bytes;
			BN_UNROLL
			for (unsigned i = 0; i < f.unit / LANES; i++) {
				const __m256 xi = _mm256_loadu_ps(x + c + i * LANES);
				sum[r][i % 2] = _mm256_fmadd_ps(w[i], xi, sum[r][i % 2]);
			}
		}
	}
	for (unsigned r = 0; r < count; r++) {
		float part[STEP];
		_mm256_storeu_ps(part, sum[r][0]);
		_mm256_storeu_ps(part + LANES, sum[r][1]);
		for (uint32_t e = c; e < cols; e++) {
			const float w = f.load_one(p[r] + (e - c) * (f.bytes / f.unit));
			part[e % STEP] = fmaf(w, x[e], part[e % STEP]);
		}
		out[r] = bn_fold16(part);
	}
}

/* One half of the partial sums: part[t][r] += w[r] * x[t] over the columns that go there. */
BN_INLINE void tile_half(float part[][ROWS][STEP], const float (*w)[STRIP], const float *x,
			 size_t x_stride, uint32_t cols, const unsigned T, const unsigned half)
{
	__m256 sum[TOKENS * ROWS];

	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		sum[i] = _mm256_load_ps(part[i / ROWS][i % ROWS] + half);
	}
	for (uint32_t c = 0; c + STEP <= cols; c += STEP) {
		__m256 xt[TOKENS];
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			xt[t] = _mm256_loadu_ps(x + t * x_stride + c + half);
		}
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			const __m256 wr = _mm256_load_ps(w[r] + c + half);
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				sum[t * ROWS + r] = _mm256_fmadd_ps(wr, xt[t], sum[t * ROWS + r]);
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < T * ROWS; i++) {
		_mm256_store_ps(part[i / ROWS][i % ROWS] + half, sum[i]);
	}
}

BN_INLINE void tile(float part[][ROWS][STEP], const float (*w)[STRIP], const float *x,
		    size_t x_stride, uint32_t cols, const unsigned T)
{
	tile_half(part, w, x, x_stride, cols, T, 0);
	tile_half(part, w, x, x_stride, cols, T, LANES);
	for (unsigned i = 0; i < T * ROWS; i++) {
		float *p = part[i / ROWS][i % ROWS];
		const float *xt = x + i / ROWS * x_stride;
		for (uint32_t e = cols / STEP * STEP; e < cols; e++) {
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
	if (n - t == 2) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, 2);
	} else if (n - t == 1) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, 1);
	}
}

/* One tile of rows (count <= ROWS, the last stands in for missing ones), at most BLOCK tokens. */
BN_INLINE void rows_block(const struct format f, float *out, size_t out_stride, const uint8_t *rows,
			  size_t row_bytes, uint32_t count, uint32_t cols, const float *x,
			  size_t x_stride, uint32_t n)
{
	_Alignas(32) float w[ROWS][STRIP];
	_Alignas(32) float part[BLOCK][ROWS][STEP];

	memset(part, 0, n * sizeof(part[0]));
	for (uint32_t c = 0; c < cols; c += STRIP) {
		const uint32_t some = cols - c < STRIP ? cols - c : STRIP;
		for (unsigned r = 0; r < ROWS; r++) {
			const uint32_t at = r < count ? r : count - 1;
			decode(f, w[r], rows + at * row_bytes + c / f.unit * f.bytes, some,
			       ROWS * row_bytes);
		}
		tiles(part, (const float(*)[STRIP])w, x + c, x_stride, some, n);
	}
	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t r = 0; r < count; r++) {
			out[t * out_stride + r] = bn_fold16(part[t][r]);
		}
	}
}

BN_INLINE void mul_rows(const struct format f, float *out, size_t out_stride, const void *rows,
			uint32_t cols, const float *x, size_t x_stride, uint32_t n, uint32_t row0,
			uint32_t row1)
{
	const size_t row_bytes = bn_dense_row_bytes(f.type, cols);

	for (uint32_t r = row0; r < row1; r += ROWS) {
		const uint32_t count = row1 - r < ROWS ? row1 - r : ROWS;
		const uint8_t *p = (const uint8_t *)rows + r * row_bytes;
		if (n == 1 && f.unit <= UNIT_DIRECT) {
			rows_direct(f, out + r, p, row_bytes, count, cols, x);
			continue;
		}
		for (uint32_t t = 0; t < n; t += BLOCK) {
			rows_block(f, out + t * out_stride + r, out_stride, p, row_bytes, count,
				   cols, x + t * x_stride, x_stride, n - t < BLOCK ? n - t : BLOCK);
		}
	}
}

#define DENSE(word, WORD, unit, bytes, one)                                                       \
	static const struct format format_##word = { BN_DENSE_##WORD, unit, bytes, load_##word,   \
						     one };                                       \
	static void decode_##word(float *out, const void *row, uint32_t cols)                     \
	{                                                                                         \
		decode(format_##word, out, row, cols, 0);                                         \
	}                                                                                         \
	static void mul_##word(float *out, size_t out_stride, const void *rows, uint32_t cols,    \
			       const float *x, size_t x_stride, uint32_t n, uint32_t row0,        \
			       uint32_t row1)                                                     \
	{                                                                                         \
		mul_rows(format_##word, out, out_stride, rows, cols, x, x_stride, n, row0, row1); \
	}

DENSE(f32, F32, 16, 64, one_f32)
DENSE(f16, F16, 16, 32, one_f16)
DENSE(bf16, BF16, 16, 32, one_bf16)
DENSE(q8_0, Q8_0, BN_Q8_0_WEIGHTS, sizeof(struct bn_q8_0), one_never)
DENSE(q6_k, Q6_K, BN_Q6_K_WEIGHTS, sizeof(struct bn_q6_k), one_never)

const struct bn_dense bn_dense_avx2[BN_DENSE_TYPE_COUNT] = {
	{ "f32.avx2", BN_DENSE_F32, BN_CPU_AVX2, decode_f32, mul_f32 },
	{ "f16.avx2", BN_DENSE_F16, BN_CPU_AVX2, decode_f16, mul_f16 },
	{ "bf16.avx2", BN_DENSE_BF16, BN_CPU_AVX2, decode_bf16, mul_bf16 },
	{ "q8_0.avx2", BN_DENSE_Q8_0, BN_CPU_AVX2, decode_q8_0, mul_q8_0 },
	{ "q6_k.avx2", BN_DENSE_Q6_K, BN_CPU_AVX2, decode_q6_k, mul_q6_k },
};

/*
 * Dense rows with AVX-512. Each type is one function, `load`, that turns the next unit of columns
 * (sixteen, or a whole block) into registers of floats; the rest is common.
 *
 *   1 or 2 tokens  memory is the wall: four rows at a time, decoded into registers and used there.
 *   more           strips of four rows are decoded to floats in L1, then multiplied with tiles of
 *                  four tokens while they are there: one decoding for up to 32 tokens. The sixteen
 *                  partial sums of a (row, token) are one register, kept in memory between strips.
 *
 * The rows of the next four are prefetched by hand, because four short streams are more than the
 * hardware follows. On one core of a Zen 5 VM (bench_kernels --dense --cpu-time --threads 1, one
 * token) that moved f16 from 19 to 28 GB/s, q8_0 from 9 to 30 and q6_k from 4 to 18.
 */
#include "kernels/cpu.h"
#include "kernels/dense_block.h"
#include "kernels/half.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>

enum {
	LANES = 16,
	STRIP = 256,                    /* columns: a multiple of every unit                   */
	ROWS = 4,                       /* rows of a tile                                      */
	TOKENS = 4,                     /* tokens of a tile                                    */
	BLOCK = 32,                     /* tokens per decoding: their sums are 8 KiB of L1     */
	UNIT_REGISTERS = STRIP / LANES, /* registers of the longest unit                     */
};

/* A stored type: columns and bytes of a unit, its floats, and those of the last `cols` columns
 * when they are less than sixteen (plain types only: rows of blocks have whole blocks). */
struct format {
	enum bn_dense_type type;
	unsigned unit;
	unsigned bytes;
	void (*load)(__m512 *w, const uint8_t *p);
	__m512 (*load_some)(const uint8_t *p, __mmask16 m);
};

BN_INLINE __mmask16 first(uint32_t n)
{
	return (__mmask16)(n >= LANES ? 0xffffu : (1u << n) - 1);
}

BN_INLINE void load_f32(__m512 *w, const uint8_t *p)
{
	w[0] = _mm512_loadu_ps(p);
}

BN_INLINE __m512 some_f32(const uint8_t *p, __mmask16 m)
{
	return _mm512_maskz_loadu_ps(m, p);
}

BN_INLINE void load_f16(__m512 *w, const uint8_t *p)
{
	w[0] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

BN_INLINE __m512 some_f16(const uint8_t *p, __mmask16 m)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

BN_INLINE __m512 bf16_ps(__m256i h)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

BN_INLINE void load_bf16(__m512 *w, const uint8_t *p)
{
	w[0] = bf16_ps(_mm256_loadu_si256((const __m256i *)p));
}

BN_INLINE __m512 some_bf16(const uint8_t *p, __mmask16 m)
{
	return bf16_ps(_mm256_maskz_loadu_epi16(m, p));
}

/* Block types end with a whole block. */
BN_INLINE __m512 some_never(const uint8_t *p, __mmask16 m)
{
	(void)p;
	(void)m;
	return _mm512_setzero_ps();
}

BN_INLINE __m512 int8_ps(__m128i q)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

BN_INLINE void load_q8_0(__m512 *w, const uint8_t *p)
{
	const struct bn_q8_0 *block = (const struct bn_q8_0 *)p;
	const __m512 scale = _mm512_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));
	const __m128i a = _mm_loadu_si128((const __m128i *)block->q);
	const __m128i b = _mm_loadu_si128((const __m128i *)(block->q + 16));

	w[0] = _mm512_mul_ps(scale, int8_ps(a));
	w[1] = _mm512_mul_ps(scale, int8_ps(b));
}

/* 64 codes, sixteen to a scale, to floats. */
BN_INLINE void codes_q6_k(__m512 *w, __m512i codes, const float *scale)
{
	const __m512i q = _mm512_sub_epi8(codes, _mm512_set1_epi8(32));

	w[0] = _mm512_mul_ps(_mm512_set1_ps(scale[0]), int8_ps(_mm512_castsi512_si128(q)));
	w[1] = _mm512_mul_ps(_mm512_set1_ps(scale[1]), int8_ps(_mm512_extracti32x4_epi32(q, 1)));
	w[2] = _mm512_mul_ps(_mm512_set1_ps(scale[2]), int8_ps(_mm512_extracti32x4_epi32(q, 2)));
	w[3] = _mm512_mul_ps(_mm512_set1_ps(scale[3]), int8_ps(_mm512_extracti32x4_epi32(q, 3)));
}

BN_INLINE void load_q6_k(__m512 *w, const uint8_t *p)
{
	const struct bn_q6_k *block = (const struct bn_q6_k *)p;
	const __m512i nibble = _mm512_set1_epi8(0x0f);
	const __m512i two = _mm512_set1_epi8(0x30);
	/* Bits 2k and 2k + 1 of `high` to bits 4 and 5, k = 0 and 2 in the lower half of the
	 * register, 1 and 3 in the upper. */
	const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
	const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
	const __m512 d = _mm512_set1_ps(_cvtsh_ss(bn_load_u16(block->scale)));
	const __m128i sub = _mm_loadu_si128((const __m128i *)block->sub[0]);
	_Alignas(64) float scale[16];

	/* By way of memory: sixteen operands broadcast by the multiplication that uses them. gcc 12
	 * must not see through it, it would permute a register instead. */
	_mm512_store_ps(scale, _mm512_mul_ps(d, int8_ps(sub)));
	__asm__ volatile("" : "+m"(scale));
	BN_UNROLL
	for (unsigned h = 0; h < 2; h++) {
		const __m512i low = _mm512_loadu_si512(block->low[h]);
		const __m512i high =
			_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)block->high[h]));
		const __m512i h01 = _mm512_and_si512(_mm512_sllv_epi16(high, left), two);
		const __m512i h23 = _mm512_and_si512(_mm512_srlv_epi16(high, right), two);
		const __m512i l01 = _mm512_and_si512(low, nibble);
		const __m512i l23 = _mm512_and_si512(_mm512_srli_epi16(low, 4), nibble);
		codes_q6_k(w + 8 * h, _mm512_or_si512(l01, h01), scale + 8 * h);
		codes_q6_k(w + 8 * h + 4, _mm512_or_si512(l23, h23), scale + 8 * h + 4);
	}
}

/* Floats of `cols` columns from p; each cache line is also fetched `ahead` bytes further on. */
BN_INLINE void decode(const struct format f, float *out, const uint8_t *p, uint32_t cols,
		      size_t ahead)
{
	uint32_t c = 0;

	for (; c + f.unit <= cols; c += f.unit, p += f.bytes) {
		__m512 w[UNIT_REGISTERS];
		BN_UNROLL
		for (unsigned i = 0; i < f.bytes; i += 64) {
			_mm_prefetch((const char *)p + ahead + i, _MM_HINT_T0);
		}
		f.load(w, p);
		BN_UNROLL
		for (unsigned i = 0; i < f.unit / LANES; i++) {
			_mm512_storeu_ps(out + c + i * LANES, w[i]);
		}
	}
	if (c < cols) {
		const __mmask16 m = first(cols - c);
		_mm512_mask_storeu_ps(out + c, m, f.load_some(p, m));
	}
}

/* vec.h's fold of four registers of partial sums (vec_avx512.c explains the shuffles). */
BN_INLINE __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d)
{
	const __m512 ab =
		_mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	const __m512 cd =
		_mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
	__m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
				 _mm512_shuffle_f32x4(ab, cd, 0xdd));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

	return _mm512_castps512_ps128(_mm512_permutexvar_ps(pick, x));
}

/* Four sums to four neighbouring floats, or the first `count` of them. */
BN_INLINE void store_rows(float *out, __m128 y, uint32_t count)
{
	if (count == ROWS) {
		_mm_storeu_ps(out, y);
		return;
	}
	/* Not a masked store: gcc 12 makes it a masked vextractf32x4, which faults on the bytes
	 * it does not write. */
	float some[ROWS];
	_mm_storeu_ps(some, y);
	for (uint32_t r = 0; r < count; r++) {
		out[r] = some[r];
	}
}

/* Rows r of the four from `rows` at rows[r], T tokens, nothing leaves the registers. */
BN_INLINE void rows_direct(const struct format f, float *out, size_t out_stride,
			   const uint8_t *rows, size_t row_bytes, uint32_t count, uint32_t cols,
			   const float *x, size_t x_stride, const unsigned T)
{
	const uint8_t *p[ROWS];
	__m512 sum[ROWS * 2];
	uint32_t c = 0;

	BN_UNROLL
	for (unsigned r = 0; r < ROWS; r++) {
		p[r] = rows + (r < count ? r : count - 1) * row_bytes;
	}
	BN_UNROLL
	for (unsigned i = 0; i < ROWS * T; i++) {
		sum[i] = _mm512_setzero_ps();
	}
	for (; c + f.unit <= cols; c += f.unit) {
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			__m512 w[UNIT_REGISTERS];
			BN_UNROLL
			for (unsigned i = 0; i < f.bytes; i += 64) {
				_mm_prefetch((const char *)p[r] + ROWS * row_bytes + i,
					     _MM_HINT_T0);
			}
			f.load(w, p[r]);
			p[r] += f.bytes;
			BN_UNROLL
			for (unsigned i = 0; i < f.unit / LANES; i++) {
				BN_UNROLL
				for (unsigned t = 0; t < T; t++) {
					const __m512 xt =
						_mm512_loadu_ps(x + t * x_stride + c + i * LANES);
					sum[t * ROWS + r] =
						_mm512_fmadd_ps(w[i], xt, sum[t * ROWS + r]);
				}
			}
			/* One row after the other: four at once do not fit the registers. */
			if (f.unit > LANES) {
				BN_UNROLL
				for (unsigned t = 0; t < T; t++) {
					__asm__ volatile("" : "+v"(sum[t * ROWS + r]));
				}
			}
		}
	}
	if (c < cols) {
		const __mmask16 m = first(cols - c);
		BN_UNROLL
		for (unsigned r = 0; r < ROWS; r++) {
			const __m512 w = f.load_some(p[r], m);
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				const __m512 xt = _mm512_maskz_loadu_ps(m, x + t * x_stride + c);
				sum[t * ROWS + r] =
					_mm512_mask3_fmadd_ps(w, xt, sum[t * ROWS + r], m);
			}
		}
	}
	BN_UNROLL
	for (unsigned t = 0; t < T; t++) {
		const __m512 *s = sum + t * ROWS;
		store_rows(out + t * out_stride, fold4(s[0], s[1], s[2], s[3]), count);
	}
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
	if (t + 2 <= n) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, 2);
		t += 2;
	}
	if (t < n) {
		tile(part + t, w, x + t * x_stride, x_stride, cols, 1);
	}
}

/* One tile of rows (count <= ROWS, the last stands in for missing ones), at most BLOCK tokens. */
BN_INLINE void rows_block(const struct format f, float *out, size_t out_stride, const uint8_t *rows,
			  size_t row_bytes, uint32_t count, uint32_t cols, const float *x,
			  size_t x_stride, uint32_t n)
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
			decode(f, w[r], rows + at * row_bytes + c / f.unit * f.bytes, some,
			       ROWS * row_bytes);
		}
		tiles(part, (const float(*)[STRIP])w, x + c, x_stride, some, n);
	}
	for (uint32_t t = 0; t < n; t++) {
		store_rows(out + t * out_stride,
			   fold4(_mm512_load_ps(part[t][0]), _mm512_load_ps(part[t][1]),
				 _mm512_load_ps(part[t][2]), _mm512_load_ps(part[t][3])),
			   count);
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
		if (n == 1) {
			rows_direct(f, out + r, out_stride, p, row_bytes, count, cols, x, x_stride,
				    1);
		} else if (n == 2) {
			rows_direct(f, out + r, out_stride, p, row_bytes, count, cols, x, x_stride,
				    2);
		} else {
			for (uint32_t t = 0; t < n; t += BLOCK) {
				rows_block(f, out + t * out_stride + r, out_stride, p, row_bytes,
					   count, cols, x + t * x_stride, x_stride,
					   n - t < BLOCK ? n - t : BLOCK);
			}
		}
	}
}

#define DENSE(word, WORD, unit, bytes, some)                                                      \
	static const struct format format_##word = { BN_DENSE_##WORD, unit, bytes, load_##word,   \
						     some };                                      \
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

DENSE(f32, F32, 16, 64, some_f32)
DENSE(f16, F16, 16, 32, some_f16)
DENSE(bf16, BF16, 16, 32, some_bf16)
DENSE(q8_0, Q8_0, BN_Q8_0_WEIGHTS, sizeof(struct bn_q8_0), some_never)
DENSE(q6_k, Q6_K, BN_Q6_K_WEIGHTS, sizeof(struct bn_q6_k), some_never)

#define NEEDS (BN_CPU_AVX2 | BN_CPU_AVX512)

const struct bn_dense bn_dense_avx512[BN_DENSE_TYPE_COUNT] = {
	{ "f32.avx512", BN_DENSE_F32, NEEDS, decode_f32, mul_f32 },
	{ "f16.avx512", BN_DENSE_F16, NEEDS, decode_f16, mul_f16 },
	{ "bf16.avx512", BN_DENSE_BF16, NEEDS, decode_bf16, mul_bf16 },
	{ "q8_0.avx512", BN_DENSE_Q8_0, NEEDS, decode_q8_0, mul_q8_0 },
	{ "q6_k.avx512", BN_DENSE_Q6_K, NEEDS, decode_q6_k, mul_q6_k },
};

/*
 * TL2 with AVX-512 VBMI: vpermb looks up two triples at once for 32 rows.
 *
 * A line of indices holds triples k in its lower and k + 8 in its upper half, and so does a row of
 * the tables: with bit 4 of the index set in the upper half, one vpermb serves both from 32 bytes.
 * Tables and widths are those of tl2_avx2.c, where they are counted out, and why a tile of tokens
 * is worked as it is; each half has its own int16 sums, so FLUSH blocks make half as many moves.
 *
 * It is behind i2s.vnni where multiplying is the limit (220 against 450 GMAC/s), and before it
 * where memory is: one token, 2560x6912, one Zen 5 core: 167 against 153 GMAC/s, at 35 and 38 GB/s.
 */
#include "kernels/cpu.h"
#include "kernels/tables.h"
#include "kernels/tl2.h"
#include "kernels/unroll.h"

#include <immintrin.h>

enum {
	TILE_TOKENS = 4,
	FLUSH = 128, /* blocks between two moves to int32; a tile's tables of as many stay in L2 */
	SLAB_GROUPS = 8, /* groups of rows that share those tables */
	AHEAD = 10240,   /* bytes prefetched ahead of the block */
	QUADS = 4,       /* registers of int32 sums per group and token */
};

/* ---- sums ------------------------------------------------------------------- */

/* Sums of eight rows, to out. */
BN_INLINE void finish8(const struct bn_mul *m, __m256i sum, uint32_t row, uint32_t t)
{
	const uint32_t left = row < m->rows ? m->rows - row : 0;
	const __mmask8 mask = (__mmask8)(left >= 8 ? 0xffu : (1u << left) - 1);
	const __m256 scale = _mm256_set1_ps(m->scale * m->acts->scale[t]);
	float *out = m->out + t * m->out_stride + row;
	__m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);

	if (m->accumulate) {
		y = _mm256_add_ps(_mm256_maskz_loadu_ps(mask, out), y);
	}
	_mm256_mask_storeu_ps(out, mask, y);
}

BN_INLINE __m256i add_halves(__m512i x)
{
	return _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
}

/* Sums of 32 rows, in each half of a register those of its triples: even rows in total[0] (of rows
 * 0..7 and 16..23) and [1] (8..15, 24..31), odd rows in [2] and [3] likewise. */
BN_INLINE void finish(const struct bn_mul *m, const __m512i *total, uint32_t row, uint32_t t)
{
	BN_UNROLL
	for (unsigned i = 0; i < 2; i++) {
		const __m256i even = add_halves(total[i]), odd = add_halves(total[2 + i]);
		const __m256i a = _mm256_unpacklo_epi32(even, odd);
		const __m256i b = _mm256_unpackhi_epi32(even, odd);

		finish8(m, _mm256_permute2x128_si256(a, b, 0x20), row + 8 * i, t);
		finish8(m, _mm256_permute2x128_si256(a, b, 0x31), row + 8 * i + 16, t);
	}
}

/* Bytes to int16: adds the even ones to sum[0], the odd ones to sum[1]. */
BN_INLINE void widen(__m512i *sum, __m512i bytes)
{
	const __m512i even = _mm512_set1_epi16(1); /* one times the even byte, none the odd */

	sum[0] = _mm512_add_epi16(sum[0], _mm512_maddubs_epi16(even, bytes));
	sum[1] = _mm512_add_epi16(sum[1], _mm512_srai_epi16(bytes, 8));
}

/* int16 halves to int32: low + 31 * high. */
BN_INLINE void flush(__m512i *total, const __m512i *low, const __m512i *high)
{
	const __m512i factors = _mm512_set1_epi32(BN_TL2_BASE << 16 | 1);

	BN_UNROLL
	for (unsigned i = 0; i < 2; i++) {
		const __m512i a = _mm512_unpacklo_epi16(low[i], high[i]);
		const __m512i b = _mm512_unpackhi_epi16(low[i], high[i]);

		total[2 * i] = _mm512_add_epi32(total[2 * i], _mm512_madd_epi16(a, factors));
		total[2 * i + 1] =
			_mm512_add_epi32(total[2 * i + 1], _mm512_madd_epi16(b, factors));
	}
}

/* Adds the entries `index` of two triples, signs turned where `minus` says, to the byte sums. */
BN_INLINE void look_up(__m512i *low, __m512i *high, const uint8_t *table, __m512i index,
		       __mmask64 minus)
{
	const __m512i zero = _mm512_setzero_si512();
	const __m512i t0 = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)table));
	const __m512i t1 = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)(table + 32)));
	const __m512i l = _mm512_permutexvar_epi8(index, t0);
	const __m512i h = _mm512_permutexvar_epi8(index, t1);

	*low = _mm512_add_epi8(*low, _mm512_mask_sub_epi8(l, minus, zero, l));
	*high = _mm512_add_epi8(*high, _mm512_mask_sub_epi8(h, minus, zero, h));
}

/* ---- the product --------------------------------------------------------------------------- */

/* Blocks [b0, b1), at most FLUSH, of a group and tokens [t0, t0 + T): adds to total [T, QUADS]. */
BN_INLINE void segment(const struct bn_mul *m, const uint8_t *group, uint32_t t0, uint32_t b0,
		       uint32_t b1, __m512i *total, const unsigned T)
{
	const uint8_t *block = group + (size_t)b0 * BN_TL2_BLOCK;
	const size_t stride = (size_t)bn_tl2_blocks(m->cols) * BN_TL2_TABLE;
	const uint8_t *table = (const uint8_t *)m->prep + t0 * stride + (size_t)b0 * BN_TL2_TABLE;
	const __m512i nibble = _mm512_set1_epi8(0x0f);
	const __m512i upper = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi8(16), 1);
	__m512i low16[2 * TILE_TOKENS], high16[2 * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < 2 * T; i++) {
		low16[i] = _mm512_setzero_si512();
		high16[i] = _mm512_setzero_si512();
	}
	for (uint32_t b = b0; b < b1; b++) {
		__m512i low[TILE_TOKENS], high[TILE_TOKENS];
		__m512i s = _mm512_loadu_si512(block + BN_TL2_SIGNS);

		BN_UNROLL
		for (unsigned i = 0; i < BN_TL2_BLOCK; i += 64) {
			_mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
		}
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			low[t] = _mm512_setzero_si512();
			high[t] = _mm512_setzero_si512();
		}
		BN_UNROLL
		for (unsigned k = 0; k < 8; k++) {
			const __m512i x = _mm512_loadu_si512(block + (size_t)64 * (k / 2));
			/* (x & nibble) | upper */
			const __m512i index = _mm512_ternarylogic_epi64(
				k % 2 == 0 ? x : _mm512_srli_epi16(x, 4), nibble, upper, 0xea);
			const __mmask64 minus = _mm512_movepi8_mask(s);

			s = _mm512_add_epi8(s, s);
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				look_up(&low[t], &high[t], table + t * stride + (size_t)64 * k,
					index, minus);
			}
		}
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			widen(&low16[2 * t], low[t]);
			widen(&high16[2 * t], high[t]);
		}
		block += BN_TL2_BLOCK;
		table += BN_TL2_TABLE;
	}
	BN_UNROLL
	for (unsigned t = 0; t < T; t++) {
		flush(&total[QUADS * t], &low16[2 * t], &high16[2 * t]);
	}
}

/* One out-of-line body per count of tokens keeps each within its thirty-two registers. */
#define SEGMENT(T)                                                                        \
	static void segment##T(const struct bn_mul *m, const uint8_t *group, uint32_t t0, \
			       uint32_t b0, uint32_t b1, __m512i *total)                  \
	{                                                                                 \
		segment(m, group, t0, b0, b1, total, T);                                  \
	}

SEGMENT(1)
SEGMENT(2)
SEGMENT(3)
SEGMENT(4)

/* Rows [row, row + groups * 32), tokens [t0, t0 + n) of one tile. */
static void tile(const struct bn_mul *m, uint32_t row, uint32_t groups, uint32_t t0, uint32_t n)
{
	static void (*const segments[])(const struct bn_mul *, const uint8_t *, uint32_t, uint32_t,
					uint32_t,
					__m512i *) = { segment1, segment2, segment3, segment4 };
	const uint32_t blocks = bn_tl2_blocks(m->cols);
	const size_t group_bytes = (size_t)blocks * BN_TL2_BLOCK;
	const uint8_t *first = (const uint8_t *)m->packed + row / BN_TL2_ROWS * group_bytes;
	__m512i total[SLAB_GROUPS][QUADS * TILE_TOKENS];

	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t i = 0; i < QUADS * n; i++) {
			total[g][i] = _mm512_setzero_si512();
		}
	}
	for (uint32_t b = 0; b < blocks; b += FLUSH) {
		const uint32_t end = blocks - b < FLUSH ? blocks : b + FLUSH;

		for (uint32_t g = 0; g < groups; g++) {
			segments[n - 1](m, first + g * group_bytes, t0, b, end, total[g]);
		}
	}
	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t t = 0; t < n; t++) {
			finish(m, &total[g][QUADS * t], row + g * BN_TL2_ROWS, t0 + t);
		}
	}
}

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	const uint32_t n = m->acts->n;
	/* With one tile of tokens, every weight is read once: in the order it lies. */
	const uint32_t most = n <= TILE_TOKENS ? 1 : SLAB_GROUPS;

	for (uint32_t row = row0; row < row1; row += most * BN_TL2_ROWS) {
		const uint32_t left = (row1 - row + BN_TL2_ROWS - 1) / BN_TL2_ROWS;
		const uint32_t groups = left < most ? left : most;

		for (uint32_t t = 0; t < n; t += TILE_TOKENS) {
			tile(m, row, groups, t, n - t < TILE_TOKENS ? n - t : TILE_TOKENS);
		}
	}
}

/* A processor that runs this one runs that one. */
static void prep(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to)
{
	bn_kernel_tl2_avx2.prep(dst, acts, from, to);
}

const struct bn_kernel bn_kernel_tl2_avx512 = {
	.name = "tl2.avx512",
	.layout = BN_LAYOUT_TL2,
	.needs = BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_VBMI,
	.row_step = BN_TL2_ROWS,
	.exact = true,
	.fits = bn_tl2_fits,
	.packed_bytes = bn_tl2_packed_bytes,
	.pack = bn_tl2_pack,
	.prep_cols = BN_TL2_COLS,
	.prep_bytes = bn_tl2_prep_bytes,
	.prep = prep,
	.mul = mul,
};

/*
 * TL2 with AVX2: vpshufb looks up one triple for 32 rows, vpsignb turns the signs.
 *
 * A sum of three activations is at most 384 in magnitude and does not fit a byte, so the tables
 * hold two: the entry x is 31 * high + low with |low| <= 15 and |high| <= 12. Unlike the two bytes
 * of an int16, both halves are small enough that eight of either fit a byte (120 and 96), so the
 * halves need no interleaving before they are added: two look-ups, two signs, two additions for 96
 * multiplications, and every eighth triple a move to int16. There one move adds at most 120; 256
 * moves fit (30,720), which is FLUSH blocks, then vpmaddwd with (1, 31) makes int32 of both halves
 * at once. So nothing overflows for any input, and the int32 sum is that of the definition.
 *
 * Tables of a block, 512 bytes: low of triple k, low of k + 8, high of k, high of k + 8 for each
 * k = 0..7, sixteen entries each (the last two are zero). They are made for sixteen triples at
 * once, entry by entry, and a transposition of bytes leaves them where they belong.
 *
 * The tables of a token are wider than its share of weights: 74 KB for 6912 columns. So tokens go
 * in tiles of four, whose tables of FLUSH blocks stay in L2 while SLAB_GROUPS groups of rows,
 * themselves small enough for L2, pass before them. With no more than one tile there is nothing to
 * keep, and the weights are read in one stream; prefetching it far ahead is worth a quarter (98 to
 * 120 GMAC/s with 4 and 10 KiB for one token from memory, 2560x6912, on one Zen 5 core).
 */
#include "kernels/cpu.h"
#include "kernels/tables.h"
#include "kernels/tl2.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <string.h>

enum {
	TILE_TOKENS = 4,
	FLUSH = 128, /* blocks between two moves to int32; a tile's tables of as many stay in L2 */
	AHEAD = 10240,   /* bytes prefetched ahead of the block */
	SLAB_GROUPS = 8, /* groups of rows that share those tables */
	QUADS = 4,       /* registers of int16 or int32 sums per token         */
};

BN_INLINE __m256i load(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* ---- tables -------------------------------------------------------------------------------- */

/* The halves of sixteen sums: low of 0..7, high of 0..7, low of 8..15, high of 8..15. The product
 * with 2^15 / 31, rounded, is x / 31, rounded: x / 31 is never nearer than 1/62 to a half, and
 * the factor is off by 3e-5 of 384 / 31. */
BN_INLINE __m256i halves(__m256i x)
{
	const __m256i high = _mm256_mulhrs_epi16(x, _mm256_set1_epi16(1057));
	const __m256i times = _mm256_sub_epi16(_mm256_slli_epi16(high, 5), high);

	return _mm256_packs_epi16(_mm256_sub_epi16(x, times), high);
}

/* One stage of a perfect shuffle; four of them transpose 16 x 16 bytes in each half. */
BN_INLINE void shuffle(__m256i *to, const __m256i *from)
{
	BN_UNROLL
	for (unsigned i = 0; i < 8; i++) {
		to[2 * i] = _mm256_unpacklo_epi8(from[i], from[i + 8]);
		to[2 * i + 1] = _mm256_unpackhi_epi8(from[i], from[i + 8]);
	}
}

/* The tables of one block of 48 activations. */
static void tables(uint8_t *dst, const int8_t *q)
{
	const __m256i a = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q));
	const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + 16)));
	const __m256i c = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + 32)));
	const __m256i a_less_b = _mm256_sub_epi16(a, b);
	const __m256i a_and_b = _mm256_add_epi16(a, b);
	__m256i x[16], y[16];

	x[0] = _mm256_setzero_si256();
	x[1] = halves(c);
	x[2] = halves(_mm256_sub_epi16(b, c));
	x[3] = halves(b);
	x[4] = halves(_mm256_add_epi16(b, c));
	x[5] = halves(_mm256_sub_epi16(a_less_b, c));
	x[6] = halves(a_less_b);
	x[7] = halves(_mm256_add_epi16(a_less_b, c));
	x[8] = halves(_mm256_sub_epi16(a, c));
	x[9] = halves(a);
	x[10] = halves(_mm256_add_epi16(a, c));
	x[11] = halves(_mm256_sub_epi16(a_and_b, c));
	x[12] = halves(a_and_b);
	x[13] = halves(_mm256_add_epi16(a_and_b, c));
	x[14] = _mm256_setzero_si256();
	x[15] = _mm256_setzero_si256();
	shuffle(y, x);
	shuffle(x, y);
	shuffle(y, x);
	shuffle(x, y);
	BN_UNROLL
	for (unsigned k = 0; k < 8; k++) {
		_mm256_storeu_si256((__m256i *)(dst + (size_t)64 * k), x[k]);
		_mm256_storeu_si256((__m256i *)(dst + (size_t)64 * k + 32), x[k + 8]);
	}
}

static void prep(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to)
{
	const uint32_t blocks = bn_tl2_blocks(acts->cols);
	uint32_t b = from % blocks;
	const int8_t *q = acts->q + (size_t)(from / blocks) * acts->stride;

	for (uint32_t i = from; i < to; i++) {
		const uint32_t left = acts->stride - b * BN_TL2_COLS;
		uint8_t *table = (uint8_t *)dst + (size_t)i * BN_TL2_TABLE;

		if (left >= BN_TL2_COLS) {
			tables(table, q + (size_t)b * BN_TL2_COLS);
		} else {
			int8_t last[BN_TL2_COLS] = { 0 };

			memcpy(last, q + (size_t)b * BN_TL2_COLS, left);
			tables(table, last);
		}
		if (++b == blocks) {
			b = 0;
			q += acts->stride;
		}
	}
}

/* ---- the product --------------------------------------------------------------------------- */

/* Sums of eight rows and one token, to out. */
BN_INLINE void finish8(const struct bn_mul *m, __m256i sum, uint32_t row, uint32_t t)
{
	const __m256 scale = _mm256_set1_ps(m->scale * m->acts->scale[t]);
	float *out = m->out + t * m->out_stride + row;
	__m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);

	if (row + 8 <= m->rows) {
		if (m->accumulate) {
			y = _mm256_add_ps(_mm256_loadu_ps(out), y);
		}
		_mm256_storeu_ps(out, y);
		return;
	}
	if (row >= m->rows) {
		return;
	}
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(m->rows - row)), lane);
	if (m->accumulate) {
		y = _mm256_add_ps(_mm256_maskload_ps(out, mask), y);
	}
	_mm256_maskstore_ps(out, mask, y);
}

/* Sums of 32 rows: even rows in total[0] (of rows 0..7 and 16..23) and [1] (8..15, 24..31), odd
 * rows in [2] and [3] likewise. */
BN_INLINE void finish(const struct bn_mul *m, const __m256i *total, uint32_t row, uint32_t t)
{
	BN_UNROLL
	for (unsigned i = 0; i < 2; i++) {
		const __m256i a = _mm256_unpacklo_epi32(total[i], total[2 + i]);
		const __m256i b = _mm256_unpackhi_epi32(total[i], total[2 + i]);

		finish8(m, _mm256_permute2x128_si256(a, b, 0x20), row + 8 * i, t);
		finish8(m, _mm256_permute2x128_si256(a, b, 0x31), row + 8 * i + 16, t);
	}
}

/* Bytes to int16: adds the even ones to sum[0], the odd ones to sum[1]. */
BN_INLINE void widen(__m256i *sum, __m256i bytes)
{
	const __m256i even = _mm256_set1_epi16(1); /* one times the even byte, none the odd */

	sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(even, bytes));
	sum[1] = _mm256_add_epi16(sum[1], _mm256_srai_epi16(bytes, 8));
}

/* int16 halves to int32: low + 31 * high. */
BN_INLINE void flush(__m256i *total, const __m256i *low, const __m256i *high)
{
	const __m256i factors = _mm256_set1_epi32(BN_TL2_BASE << 16 | 1);

	BN_UNROLL
	for (unsigned i = 0; i < 2; i++) {
		const __m256i a = _mm256_unpacklo_epi16(low[i], high[i]);
		const __m256i b = _mm256_unpackhi_epi16(low[i], high[i]);

		total[2 * i] = _mm256_add_epi32(total[2 * i], _mm256_madd_epi16(a, factors));
		total[2 * i + 1] =
			_mm256_add_epi32(total[2 * i + 1], _mm256_madd_epi16(b, factors));
	}
}

/* The entries `index` of one triple, signs turned: to the byte sums, or the first of them. */
BN_INLINE void look_up(__m256i *low, __m256i *high, const uint8_t *table, __m256i index,
		       __m256i sign, bool first)
{
	const __m256i t0 = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
	const __m256i t1 =
		_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 32)));
	const __m256i l = _mm256_sign_epi8(_mm256_shuffle_epi8(t0, index), sign);
	const __m256i h = _mm256_sign_epi8(_mm256_shuffle_epi8(t1, index), sign);

	*low = first ? l : _mm256_add_epi8(*low, l);
	*high = first ? h : _mm256_add_epi8(*high, h);
	/* Says that both sums are used here, in registers: gcc 12 otherwise gathers all look-ups
	 * of a block first and spills half of them. 145 instead of 113 GMAC/s for four tokens on
	 * one Zen 5 core (bench_kernels --kernel tl2.avx2 --cpu-time --threads 1). */
	__asm__ volatile("" : "+x"(*low), "+x"(*high));
}

/* What vpsignb wants, -1 or 1, for one of the four triples whose signs are the bits of `nibbles`,
 * the first in bit 3: looked up too. */
BN_INLINE __m256i sign_of(__m256i nibbles, unsigned k)
{
	const unsigned bit = 3 - k;
#define SIGN(v) (char)((v) >> bit & 1 ? -1 : 1)
	const __m256i signs = _mm256_broadcastsi128_si256(_mm_setr_epi8(
		SIGN(0), SIGN(1), SIGN(2), SIGN(3), SIGN(4), SIGN(5), SIGN(6), SIGN(7), SIGN(8),
		SIGN(9), SIGN(10), SIGN(11), SIGN(12), SIGN(13), SIGN(14), SIGN(15)));
#undef SIGN

	return _mm256_shuffle_epi8(signs, nibbles);
}

/* Blocks [b0, b1), at most FLUSH, of a group and tokens [t0, t0 + T): adds to total [T, QUADS]. */
BN_INLINE void segment(const struct bn_mul *m, const uint8_t *group, uint32_t t0, uint32_t b0,
		       uint32_t b1, __m256i *total, const unsigned T)
{
	const uint8_t *block = group + (size_t)b0 * BN_TL2_BLOCK;
	const size_t stride = (size_t)bn_tl2_blocks(m->cols) * BN_TL2_TABLE;
	const uint8_t *table = (const uint8_t *)m->prep + t0 * stride + (size_t)b0 * BN_TL2_TABLE;
	const __m256i nibble = _mm256_set1_epi8(0x0f);
	__m256i low16[2 * TILE_TOKENS], high16[2 * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < 2 * T; i++) {
		low16[i] = _mm256_setzero_si256();
		high16[i] = _mm256_setzero_si256();
	}
	for (uint32_t b = b0; b < b1; b++) {
		BN_UNROLL
		for (unsigned i = 0; i < BN_TL2_BLOCK; i += 64) {
			_mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
		}
		BN_UNROLL
		for (unsigned h = 0; h < 2; h++) {
			__m256i low[TILE_TOKENS], high[TILE_TOKENS];
			const __m256i y = load(block + BN_TL2_SIGNS + (size_t)32 * h);
			const __m256i s[2] = { _mm256_and_si256(_mm256_srli_epi16(y, 4), nibble),
					       _mm256_and_si256(y, nibble) };
			BN_UNROLL
			for (unsigned j = 0; j < 4; j++) {
				const __m256i x = load(block + (size_t)64 * j + (size_t)32 * h);
				const __m256i i0 = _mm256_and_si256(x, nibble);
				const __m256i i1 =
					_mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
				const __m256i s0 = sign_of(s[j / 2], j % 2 * 2);
				const __m256i s1 = sign_of(s[j / 2], j % 2 * 2 + 1);
				BN_UNROLL
				for (unsigned t = 0; t < T; t++) {
					const uint8_t *at = table + t * stride + (size_t)128 * j +
							    (size_t)16 * h;
					look_up(&low[t], &high[t], at, i0, s0, j == 0);
					look_up(&low[t], &high[t], at + 64, i1, s1, false);
				}
			}
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				widen(&low16[2 * t], low[t]);
				widen(&high16[2 * t], high[t]);
			}
		}
		block += BN_TL2_BLOCK;
		table += BN_TL2_TABLE;
	}
	BN_UNROLL
	for (unsigned t = 0; t < T; t++) {
		flush(&total[QUADS * t], &low16[2 * t], &high16[2 * t]);
	}
}

/* One out-of-line body per count of tokens keeps each within its sixteen registers. */
#define SEGMENT(T)                                                                        \
	static void segment##T(const struct bn_mul *m, const uint8_t *group, uint32_t t0, \
			       uint32_t b0, uint32_t b1, __m256i *total)                  \
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
					__m256i *) = { segment1, segment2, segment3, segment4 };
	const uint32_t blocks = bn_tl2_blocks(m->cols);
	const size_t group_bytes = (size_t)blocks * BN_TL2_BLOCK;
	const uint8_t *first = (const uint8_t *)m->packed + row / BN_TL2_ROWS * group_bytes;
	__m256i total[SLAB_GROUPS][QUADS * TILE_TOKENS];

	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t i = 0; i < QUADS * n; i++) {
			total[g][i] = _mm256_setzero_si256();
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

const struct bn_kernel bn_kernel_tl2_avx2 = {
	.name = "tl2.avx2",
	.layout = BN_LAYOUT_TL2,
	.needs = BN_CPU_AVX2,
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

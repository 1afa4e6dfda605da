/*
 * TL1 with NEON: tbl looks up one pair for 16 rows.
 *
 * A sum of two activations is at most 256 in magnitude and does not fit a byte, so the tables hold
 * two: the entry x is 31 * high + low with |low| <= 15 and |high| <= 8. Unlike the two bytes of an
 * int16, both halves are small enough that eight of either fit a byte (120 and 64), so the halves
 * need no interleaving before they are added: two look-ups and two additions for 32
 * multiplications, and at the end of every block (eight pairs) a move to int16. There one move adds
 * at most 120; FLUSH moves fit (30,720), then both halves go to int32. So nothing overflows for any
 * input, and the int32 sum is that of the definition.
 *
 * Tables of a block, 256 bytes: the low halves of a pair, then its high ones, sixteen entries each
 * (the last seven are zero), for each of the eight pairs. They are made for eight pairs at once,
 * entry by entry, and transposed.
 */
#include "kernels/cpu.h"
#include "kernels/tables.h"
#include "kernels/tl1.h"
#include "kernels/unroll.h"

#include <arm_neon.h>
#include <string.h>

enum {
	TILE_TOKENS = 2,
	FLUSH = 256, /* blocks between two moves to int32; a tile's tables of as many stay in L2 */
	SLAB_GROUPS = 8, /* groups of rows that share those tables */
	AHEAD = 4096,    /* bytes prefetched ahead of the block */
	HALVES = 4,      /* registers of int16 sums of one half, per token     */
	QUADS = 8,       /* registers of int32 sums, per token                 */
};

/* ---- tables -------------------------------------------------------------------------------- */

/* Eight entries as bytes. */
struct halves {
	int8x8_t low, high;
};

/* The product with 2^15 / 31, rounded, is x / 31, rounded: x / 31 is never nearer than 1/62 to a
 * half, and the factor is off by 3e-5 of 256 / 31. */
BN_INLINE struct halves split(int16x8_t x)
{
	const int16x8_t high = vqrdmulhq_n_s16(x, 1057);

	return (struct halves){ vmovn_s16(vmlsq_n_s16(x, high, BN_TL1_BASE)), vmovn_s16(high) };
}

/* One stage of a perfect shuffle. */
BN_INLINE void shuffle(int8x16_t *to, const int8x16_t *from)
{
	BN_UNROLL
	for (unsigned i = 0; i < 4; i++) {
		to[2 * i] = vzip1q_s8(from[i], from[i + 4]);
		to[2 * i + 1] = vzip2q_s8(from[i], from[i + 4]);
	}
}

/* Entries 5..8, [4][8 pairs], to sixteen entries of each pair, 32 bytes apart. Entry 4 is zero and
 * entry 4 - i is entry 4 + i with the sign turned. */
BN_INLINE void store(uint8_t *dst, const int8x8_t *e)
{
	const int8x8_t zero = vdup_n_s8(0);
	int8x16_t x[8], y[8];

	/* Rows i and i + 8 side by side: the first stage of four. */
	x[0] = vcombine_s8(vzip1_s8(vneg_s8(e[3]), e[3]), vzip2_s8(vneg_s8(e[3]), e[3]));
	BN_UNROLL
	for (unsigned i = 1; i < 8; i++) {
		const int8x8_t row = i < 4 ? vneg_s8(e[3 - i]) : i == 4 ? zero : e[i - 5];

		x[i] = vcombine_s8(vzip1_s8(row, zero), vzip2_s8(row, zero));
	}
	shuffle(y, x);
	shuffle(x, y);
	shuffle(y, x);
	BN_UNROLL
	for (unsigned k = 0; k < 8; k++) {
		vst1q_s8((int8_t *)dst + (size_t)32 * k, y[k]);
	}
}

/* The tables of one block of 16 activations. */
static void tables(uint8_t *dst, const int8_t *q)
{
	const int8x16_t both = vld1q_s8(q);
	const int16x8_t a = vmovl_s8(vget_low_s8(both));
	const int16x8_t b = vmovl_high_s8(both);
	const struct halves e[4] = { split(b), split(vsubq_s16(a, b)), split(a),
				     split(vaddq_s16(a, b)) };
	const int8x8_t low[4] = { e[0].low, e[1].low, e[2].low, e[3].low };
	const int8x8_t high[4] = { e[0].high, e[1].high, e[2].high, e[3].high };

	store(dst, low);
	store(dst + 16, high);
}

/* A block ends within `stride`: that is a multiple of 64. */
static void prep(void *dst, const struct bn_acts *acts, uint32_t from, uint32_t to)
{
	const uint32_t blocks = bn_tl1_blocks(acts->cols);
	const int8_t *q = acts->q + (size_t)(from / blocks) * acts->stride;
	uint32_t b = from % blocks;

	for (uint32_t i = from; i < to; i++) {
		tables((uint8_t *)dst + (size_t)i * BN_TL1_TABLE, q + (size_t)b * BN_TL1_COLS);
		if (++b == blocks) {
			b = 0;
			q += acts->stride;
		}
	}
}

/* ---- the product --------------------------------------------------------------------------- */

/* Sums of four rows and one token, to out. */
BN_INLINE void finish(const struct bn_mul *m, int32x4_t sum, uint32_t row, uint32_t t)
{
	float *out = m->out + t * m->out_stride + row;
	const float32x4_t y =
		vmulq_f32(vcvtq_f32_s32(sum), vdupq_n_f32(m->scale * m->acts->scale[t]));

	if (row + 4 <= m->rows) {
		vst1q_f32(out, m->accumulate ? vaddq_f32(vld1q_f32(out), y) : y);
		return;
	}
	float lane[4];
	vst1q_f32(lane, y);
	for (uint32_t r = 0; row + r < m->rows; r++) {
		out[r] = m->accumulate ? out[r] + lane[r] : lane[r];
	}
}

/* The byte sums of one half of a block, to int16. */
BN_INLINE void widen(int16x8_t *sum, const int8x16_t *bytes)
{
	BN_UNROLL
	for (unsigned i = 0; i < 2; i++) {
		sum[2 * i] = vaddw_s8(sum[2 * i], vget_low_s8(bytes[i]));
		sum[2 * i + 1] = vaddw_high_s8(sum[2 * i + 1], bytes[i]);
	}
}

/* Blocks [b0, b1), at most FLUSH, of a group and tokens [t0, t0 + T): adds to total [T, QUADS],
 * whose i-th is rows 4i..4i + 3. */
BN_INLINE void segment(const struct bn_mul *m, const uint8_t *group, uint32_t t0, uint32_t b0,
		       uint32_t b1, int32x4_t *total, const unsigned T)
{
	const uint8_t *block = group + (size_t)b0 * BN_TL1_BLOCK;
	const size_t stride = (size_t)bn_tl1_blocks(m->cols) * BN_TL1_TABLE;
	const int8_t *table = (const int8_t *)m->prep + t0 * stride + (size_t)b0 * BN_TL1_TABLE;
	const uint8x16_t nibble = vdupq_n_u8(0x0f);
	int16x8_t low16[HALVES * TILE_TOKENS], high16[HALVES * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < HALVES * T; i++) {
		low16[i] = vdupq_n_s16(0);
		high16[i] = vdupq_n_s16(0);
	}
	for (uint32_t b = b0; b < b1; b++) {
		int8x16_t low[2 * TILE_TOKENS], high[2 * TILE_TOKENS];

		__builtin_prefetch(block + AHEAD);
		__builtin_prefetch(block + AHEAD + 64);
		BN_UNROLL
		for (unsigned i = 0; i < 2 * T; i++) {
			low[i] = vdupq_n_s8(0);
			high[i] = vdupq_n_s8(0);
		}
		BN_UNROLL
		for (unsigned k = 0; k < BN_TL1_PAIRS; k++) {
			uint8x16_t index[2];
			BN_UNROLL
			for (unsigned i = 0; i < 2; i++) {
				const uint8x16_t x =
					vld1q_u8(block + (size_t)32 * (k / 2) + (size_t)16 * i);
				index[i] = k % 2 == 0 ? vandq_u8(x, nibble) : vshrq_n_u8(x, 4);
			}
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				const int8_t *at = table + t * stride + (size_t)32 * k;
				const int8x16_t l = vld1q_s8(at);
				const int8x16_t h = vld1q_s8(at + 16);
				BN_UNROLL
				for (unsigned i = 0; i < 2; i++) {
					low[2 * t + i] =
						vaddq_s8(low[2 * t + i], vqtbl1q_s8(l, index[i]));
					high[2 * t + i] =
						vaddq_s8(high[2 * t + i], vqtbl1q_s8(h, index[i]));
				}
			}
		}
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			widen(&low16[HALVES * t], &low[2 * t]);
			widen(&high16[HALVES * t], &high[2 * t]);
		}
		block += BN_TL1_BLOCK;
		table += BN_TL1_TABLE;
	}
	BN_UNROLL
	for (unsigned i = 0; i < HALVES * T; i++) {
		const int16x4_t high = vget_low_s16(high16[i]);

		total[2 * i] = vaddw_s16(total[2 * i], vget_low_s16(low16[i]));
		total[2 * i] = vmlal_n_s16(total[2 * i], high, BN_TL1_BASE);
		total[2 * i + 1] = vaddw_high_s16(total[2 * i + 1], low16[i]);
		total[2 * i + 1] = vmlal_high_n_s16(total[2 * i + 1], high16[i], BN_TL1_BASE);
	}
}

static void segment1(const struct bn_mul *m, const uint8_t *group, uint32_t t0, uint32_t b0,
		     uint32_t b1, int32x4_t *total)
{
	segment(m, group, t0, b0, b1, total, 1);
}

static void segment2(const struct bn_mul *m, const uint8_t *group, uint32_t t0, uint32_t b0,
		     uint32_t b1, int32x4_t *total)
{
	segment(m, group, t0, b0, b1, total, 2);
}

/* Rows [row, row + groups * 32), tokens [t0, t0 + n) of one tile. */
static void tile(const struct bn_mul *m, uint32_t row, uint32_t groups, uint32_t t0, uint32_t n)
{
	const uint32_t blocks = bn_tl1_blocks(m->cols);
	const size_t group_bytes = (size_t)blocks * BN_TL1_BLOCK;
	const uint8_t *first = (const uint8_t *)m->packed + row / BN_TL1_ROWS * group_bytes;
	int32x4_t total[SLAB_GROUPS][QUADS * TILE_TOKENS];

	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t i = 0; i < QUADS * n; i++) {
			total[g][i] = vdupq_n_s32(0);
		}
	}
	for (uint32_t b = 0; b < blocks; b += FLUSH) {
		const uint32_t end = blocks - b < FLUSH ? blocks : b + FLUSH;

		for (uint32_t g = 0; g < groups; g++) {
			(n == 1 ? segment1 : segment2)(m, first + g * group_bytes, t0, b, end,
						       total[g]);
		}
	}
	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t i = 0; i < QUADS * n; i++) {
			const uint32_t r = row + g * BN_TL1_ROWS + i % QUADS * 4;

			if (r < m->rows) {
				finish(m, total[g][i], r, t0 + i / QUADS);
			}
		}
	}
}

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	const uint32_t n = m->acts->n;
	/* With one tile of tokens, every weight is read once: in the order it lies. */
	const uint32_t most = n <= TILE_TOKENS ? 1 : SLAB_GROUPS;

	for (uint32_t row = row0; row < row1; row += most * BN_TL1_ROWS) {
		const uint32_t left = (row1 - row + BN_TL1_ROWS - 1) / BN_TL1_ROWS;
		const uint32_t groups = left < most ? left : most;

		for (uint32_t t = 0; t < n; t += TILE_TOKENS) {
			tile(m, row, groups, t, n - t < TILE_TOKENS ? 1 : TILE_TOKENS);
		}
	}
}

const struct bn_kernel bn_kernel_tl1_neon = {
	.name = "tl1.neon",
	.layout = BN_LAYOUT_TL1,
	.needs = BN_CPU_NEON,
	.row_step = BN_TL1_ROWS,
	.exact = true,
	.fits = bn_tl1_fits,
	.packed_bytes = bn_tl1_packed_bytes,
	.pack = bn_tl1_pack,
	.prep_cols = BN_TL1_COLS,
	.prep_bytes = bn_tl1_prep_bytes,
	.prep = prep,
	.mul = mul,
};

/*
 * I2S16 with plain NEON (ARMv8.0): a quarter of a line is one register, four rows by sixteen
 * columns.
 *
 * smlal adds products of bytes to int16, four words to a row. A product is at most 2 * 128 = 256
 * in magnitude, so 128 of them fit, even all negative (-32,768): every 32 lines of four fields
 * each they are added in pairs, twice, to one int32 per row.
 */
#include "kernels/cpu.h"
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <arm_neon.h>
#include <string.h>

enum {
	TILE_TOKENS = 2,
	QUADS = 4,                /* registers of a line                                     */
	FLUSH = 32,               /* lines between two moves to int32                        */
	AHEAD = 4096,             /* bytes prefetched ahead of the line                      */
	PANEL_BYTES = 192 * 1024, /* of activations: they stay in a small L2 while rows pass */
};

/* Four activations, repeated for all four rows. */
BN_INLINE int8x16_t four(const int8_t *q)
{
	int32_t w;

	memcpy(&w, q, sizeof(w));
	return vreinterpretq_s8_s32(vdupq_n_s32(w));
}

/* Sums of four rows and one token, to out. */
BN_INLINE void finish(const struct bn_mul *m, int32x4_t sum, uint32_t row, uint32_t t)
{
	const struct bn_acts *acts = m->acts;
	float *out = m->out + t * m->out_stride + row;

	sum = vsubq_s32(sum, vdupq_n_s32(acts->sum[t]));
	float32x4_t y = vmulq_f32(vcvtq_f32_s32(sum), vdupq_n_f32(m->scale * acts->scale[t]));
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

/* One group of sixteen rows from `row`, tokens [t0, t0 + T). */
BN_INLINE void tile(const struct bn_mul *m, uint32_t row, uint32_t t0, const unsigned T)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const uint8_t *line =
		(const uint8_t *)m->packed + row / BN_I2S_ROWS * ((size_t)blocks * BN_I2S_LINE);
	const size_t stride = m->acts->stride;
	const int8_t *q = m->acts->q + t0 * stride;
	const uint8x16_t codes = vdupq_n_u8(3);
	int32x4_t total[QUADS * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < QUADS * T; i++) {
		total[i] = vdupq_n_s32(0);
	}
	for (uint32_t b = 0; b < blocks;) {
		const uint32_t end = blocks - b < FLUSH ? blocks : b + FLUSH;
		int16x8_t lo[QUADS * TILE_TOKENS];
		int16x8_t hi[QUADS * TILE_TOKENS];
		BN_UNROLL
		for (unsigned i = 0; i < QUADS * T; i++) {
			lo[i] = vdupq_n_s16(0);
			hi[i] = vdupq_n_s16(0);
		}
		for (; b < end; b++) {
			uint8x16_t x[QUADS];
			__builtin_prefetch(line + AHEAD);
			BN_UNROLL
			for (unsigned j = 0; j < QUADS; j++) {
				x[j] = vld1q_u8(line + (size_t)j * 16);
			}
			BN_UNROLL
			for (unsigned g = 0; g < 4; g++) {
				int8x16_t w[QUADS];
				BN_UNROLL
				for (unsigned j = 0; j < QUADS; j++) {
					w[j] = vreinterpretq_s8_u8(vandq_u8(x[j], codes));
					x[j] = vshrq_n_u8(x[j], 2);
				}
				BN_UNROLL
				for (unsigned t = 0; t < T; t++) {
					const int8x16_t a = four(q + t * stride + 4 * g);
					BN_UNROLL
					for (unsigned j = 0; j < QUADS; j++) {
						const unsigned i = t * QUADS + j;
						lo[i] = vmlal_s8(lo[i], vget_low_s8(w[j]),
								 vget_low_s8(a));
						hi[i] = vmlal_high_s8(hi[i], w[j], a);
					}
				}
			}
			line += BN_I2S_LINE;
			q += BN_I2S_COLS;
		}
		BN_UNROLL
		for (unsigned i = 0; i < QUADS * T; i++) {
			const int32x4_t s = vpaddq_s32(vpaddlq_s16(lo[i]), vpaddlq_s16(hi[i]));
			total[i] = vaddq_s32(total[i], s);
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < QUADS * T; i++) {
		const uint32_t r = row + i % QUADS * 4;
		if (r < m->rows) {
			finish(m, total[i], r, t0 + i / QUADS);
		}
	}
}

static void tile1(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 1);
}

static void tile2(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 2);
}

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	const uint32_t n = m->acts->n;

	uint32_t panel = PANEL_BYTES / m->acts->stride / TILE_TOKENS * TILE_TOKENS;
	panel = panel < TILE_TOKENS ? TILE_TOKENS : panel;
	for (uint32_t p0 = 0; p0 < n; p0 += panel) {
		const uint32_t p1 = n - p0 < panel ? n : p0 + panel;
		for (uint32_t row = row0; row < row1; row += BN_I2S_ROWS) {
			uint32_t t = p0;
			for (; t + TILE_TOKENS <= p1; t += TILE_TOKENS) {
				tile2(m, row, t);
			}
			if (t < p1) {
				tile1(m, row, t);
			}
		}
	}
}

const struct bn_kernel bn_kernel_i2s_neon = {
	.name = "i2s.neon",
	.layout = BN_LAYOUT_I2S16,
	.needs = BN_CPU_NEON,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = bn_i2s_fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

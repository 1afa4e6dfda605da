/*
 * I2S16 with the dot product instructions of ARMv8.2: sdot multiplies four rows by four columns,
 * and takes its four activations from a lane of a register that holds all sixteen of a block.
 * Sums are int32 from the start. Four tokens at a time: sixteen sums in thirty-two registers.
 */
#include "kernels/cpu.h"
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <arm_neon.h>

enum {
	TILE_TOKENS = 4,
	QUADS = 4,                /* registers of a line                                     */
	AHEAD = 4096,             /* bytes prefetched ahead of the line                      */
	PANEL_BYTES = 192 * 1024, /* of activations: they stay in a small L2 while rows pass */
};

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

/* The codes of one field, as signed bytes. */
BN_INLINE int8x16_t field(uint8x16_t x)
{
	return vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(3)));
}

/* One group of sixteen rows from `row`, tokens [t0, t0 + T). */
BN_INLINE void tile(const struct bn_mul *m, uint32_t row, uint32_t t0, const unsigned T)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const uint8_t *line =
		(const uint8_t *)m->packed + row / BN_I2S_ROWS * ((size_t)blocks * BN_I2S_LINE);
	const size_t stride = m->acts->stride;
	const int8_t *q = m->acts->q + t0 * stride;
	int32x4_t sum[QUADS * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < QUADS * T; i++) {
		sum[i] = vdupq_n_s32(0);
	}
	for (uint32_t b = 0; b < blocks; b++) {
		int8x16_t a[TILE_TOKENS];
		__builtin_prefetch(line + AHEAD);
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			a[t] = vld1q_s8(q + t * stride);
		}
		BN_UNROLL
		for (unsigned j = 0; j < QUADS; j++) {
			const uint8x16_t x = vld1q_u8(line + (size_t)j * 16);
			const int8x16_t w0 = field(x);
			const int8x16_t w1 = field(vshrq_n_u8(x, 2));
			const int8x16_t w2 = field(vshrq_n_u8(x, 4));
			const int8x16_t w3 = vreinterpretq_s8_u8(vshrq_n_u8(x, 6));
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				int32x4_t s = sum[t * QUADS + j];
				s = vdotq_laneq_s32(s, w0, a[t], 0);
				s = vdotq_laneq_s32(s, w1, a[t], 1);
				s = vdotq_laneq_s32(s, w2, a[t], 2);
				s = vdotq_laneq_s32(s, w3, a[t], 3);
				sum[t * QUADS + j] = s;
			}
		}
		line += BN_I2S_LINE;
		q += BN_I2S_COLS;
	}
	BN_UNROLL
	for (unsigned i = 0; i < QUADS * T; i++) {
		const uint32_t r = row + i % QUADS * 4;
		if (r < m->rows) {
			finish(m, sum[i], r, t0 + i / QUADS);
		}
	}
}

static void tile1(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 1);
}

static void tile4(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, TILE_TOKENS);
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
				tile4(m, row, t);
			}
			for (; t < p1; t++) {
				tile1(m, row, t);
			}
		}
	}
}

const struct bn_kernel bn_kernel_i2s_dotprod = {
	.name = "i2s.dotprod",
	.layout = BN_LAYOUT_I2S16,
	.needs = BN_CPU_NEON | BN_CPU_DOTPROD,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = bn_i2s_fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

/*
 * The oracle: what each layout means, in plain loops. Every other kernel of the layout is tested
 * against this one with memcmp, and it is what runs where no vector kernel does.
 *
 * It is written to be read, with one concession: the codes of a block are decoded once for all
 * tokens, because on a processor without vector kernels somebody still has to wait for it.
 */
#include "kernels/i2s.h"
#include "kernels/tables.h"

enum { TOKENS = 16 };

/* The codes of one row (word r of a line) in column order. */
static void decode(uint8_t code[BN_I2S_COLS], const uint8_t *word)
{
	for (unsigned g = 0; g < 4; g++) {
		for (unsigned i = 0; i < 4; i++) {
			code[4 * g + i] = (word[i] >> (2 * g)) & 3u;
		}
	}
}

/* Sums of code * q of one row for tokens [t0, t0 + n). */
static void row_sums(int32_t sum[TOKENS], const uint8_t *row, const struct bn_acts *acts,
		     uint32_t t0, uint32_t n)
{
	const uint32_t blocks = bn_i2s_blocks(acts->cols);

	for (uint32_t t = 0; t < n; t++) {
		sum[t] = 0;
	}
	for (uint32_t b = 0; b < blocks; b++) {
		uint8_t code[BN_I2S_COLS];
		decode(code, row + (size_t)b * BN_I2S_LINE);
		for (uint32_t t = 0; t < n; t++) {
			const int8_t *q =
				acts->q + (size_t)(t0 + t) * acts->stride + (size_t)b * BN_I2S_COLS;
			int32_t s = 0;
			for (unsigned c = 0; c < BN_I2S_COLS; c++) {
				s += code[c] * q[c];
			}
			sum[t] += s;
		}
	}
}

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	const struct bn_acts *acts = m->acts;
	const size_t group_bytes = (size_t)bn_i2s_blocks(m->cols) * BN_I2S_LINE;

	for (uint32_t r = row0; r < row1; r++) {
		const uint8_t *row = (const uint8_t *)m->packed + r / BN_I2S_ROWS * group_bytes +
				     (size_t)(r % BN_I2S_ROWS) * 4;
		for (uint32_t t0 = 0; t0 < acts->n; t0 += TOKENS) {
			const uint32_t n = acts->n - t0 < TOKENS ? acts->n - t0 : TOKENS;
			int32_t sum[TOKENS];
			row_sums(sum, row, acts, t0, n);
			for (uint32_t t = 0; t < n; t++) {
				/* Codes are weights plus one: take sum(q) off again. */
				const float y = bn_epilogue(sum[t] - acts->sum[t0 + t], m->scale,
							    acts->scale[t0 + t]);
				float *out = m->out + (t0 + t) * m->out_stride + r;
				*out = m->accumulate ? *out + y : y;
			}
		}
	}
}

static bool fits(uint32_t rows, uint32_t cols)
{
	return rows > 0 && rows <= UINT32_MAX - BN_I2S_ROWS && cols > 0 &&
	       cols <= BN_KERNEL_COLS_MAX;
}

const struct bn_kernel bn_kernel_i2s_scalar = {
	.name = "i2s.scalar",
	.layout = BN_LAYOUT_I2S16,
	.needs = 0,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

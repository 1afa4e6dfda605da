/*
 * The oracle: what each layout means, in plain loops. Every other kernel of the layout is tested
 * against this one with memcmp, and it is what runs where no vector kernel does.
 *
 * It is written to be read, with one concession: the weights of a block are decoded once for all
 * tokens, because on a processor without vector kernels somebody still has to wait for it. No
 * tables are looked up here, whatever the layout's name says.
 */
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/tl1.h"
#include "kernels/tl2.h"
#include "kernels/unroll.h"

enum {
	TOKENS = 16,
	WIDTH_MAX = 48, /* columns of the widest block */
};

/* What a layout is to the product. */
struct shape {
	uint32_t rows;  /* of a group                */
	uint32_t width; /* columns of a block        */
	size_t bytes;   /* of a block of a group     */
	/* The weights, -1..1, of row r of a group in one block, in column order. */
	void (*decode)(int8_t *w, const uint8_t *block, uint32_t r);
};

static void decode_i2s(int8_t *w, const uint8_t *line, uint32_t r)
{
	for (unsigned g = 0; g < 4; g++) {
		for (unsigned i = 0; i < 4; i++) {
			w[4 * g + i] = (int8_t)(((line[4 * r + i] >> (2 * g)) & 3) - 1);
		}
	}
}

static void decode_tl1(int8_t *w, const uint8_t *block, uint32_t r)
{
	for (unsigned k = 0; k < BN_TL1_PAIRS; k++) {
		const int index = (block[32 * (k / 2) + r] >> (k % 2 * 4)) & 15;

		w[k] = (int8_t)(index / 3 - 1);
		w[8 + k] = (int8_t)(index % 3 - 1);
	}
}

static void decode_tl2(int8_t *w, const uint8_t *block, uint32_t r)
{
	for (unsigned k = 0; k < BN_TL2_TRIPLES; k++) {
		const unsigned h = k / 8, j = k % 8 / 2;
		const int index = (block[64 * j + 32 * h + r] >> (k % 2 * 4)) & 15;
		const int sign = (block[BN_TL2_SIGNS + 32 * h + r] >> (7 - k % 8)) & 1;
		const int v = (sign ? -index : index) + 13;

		w[k] = (int8_t)(v / 9 - 1);
		w[16 + k] = (int8_t)(v / 3 % 3 - 1);
		w[32 + k] = (int8_t)(v % 3 - 1);
	}
}

/* Sums of w * q of one row for tokens [t0, t0 + n). */
BN_INLINE void row_sums(int32_t sum[TOKENS], const uint8_t *group, uint32_t r,
			const struct bn_acts *acts, uint32_t t0, uint32_t n, const struct shape s)
{
	for (uint32_t t = 0; t < n; t++) {
		sum[t] = 0;
	}
	for (uint32_t c0 = 0; c0 < acts->cols; c0 += s.width) {
		const uint32_t left = acts->cols - c0;
		int8_t w[WIDTH_MAX];

		s.decode(w, group, r);
		group += s.bytes;
		for (uint32_t t = 0; t < n; t++) {
			const int8_t *q = acts->q + (size_t)(t0 + t) * acts->stride + c0;

			if (left >= s.width) {
				for (uint32_t c = 0; c < s.width; c++) {
					sum[t] += w[c] * q[c];
				}
			} else {
				for (uint32_t c = 0; c < left; c++) {
					sum[t] += w[c] * q[c];
				}
			}
		}
	}
}

/* Inlined into each layout's product, where all of `s` is known. */
BN_INLINE void product(const struct bn_mul *m, uint32_t row0, uint32_t row1, const struct shape s)
{
	const struct bn_acts *acts = m->acts;
	const size_t group_bytes = (m->cols + s.width - 1) / s.width * s.bytes;

	for (uint32_t r = row0; r < row1; r++) {
		const uint8_t *group = (const uint8_t *)m->packed + r / s.rows * group_bytes;

		for (uint32_t t0 = 0; t0 < acts->n; t0 += TOKENS) {
			const uint32_t n = acts->n - t0 < TOKENS ? acts->n - t0 : TOKENS;
			int32_t sum[TOKENS];

			row_sums(sum, group, r % s.rows, acts, t0, n, s);
			for (uint32_t t = 0; t < n; t++) {
				const float y = bn_epilogue(sum[t], m->scale, acts->scale[t0 + t]);
				float *out = m->out + (t0 + t) * m->out_stride + r;

				*out = m->accumulate ? *out + y : y;
			}
		}
	}
}

static void mul_i2s(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	product(m, row0, row1, (struct shape){ BN_I2S_ROWS, BN_I2S_COLS, BN_I2S_LINE, decode_i2s });
}

static void mul_tl1(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	product(m, row0, row1,
		(struct shape){ BN_TL1_ROWS, BN_TL1_COLS, BN_TL1_BLOCK, decode_tl1 });
}

static void mul_tl2(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	product(m, row0, row1,
		(struct shape){ BN_TL2_ROWS, BN_TL2_COLS, BN_TL2_BLOCK, decode_tl2 });
}

/* Wider than the fast kernels of I2S16 go. */
static bool fits_i2s(uint32_t rows, uint32_t cols)
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
	.fits = fits_i2s,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul_i2s,
};

const struct bn_kernel bn_kernel_tl1_scalar = {
	.name = "tl1.scalar",
	.layout = BN_LAYOUT_TL1,
	.needs = 0,
	.row_step = BN_TL1_ROWS,
	.exact = true,
	.fits = bn_tl1_fits,
	.packed_bytes = bn_tl1_packed_bytes,
	.pack = bn_tl1_pack,
	.mul = mul_tl1,
};

const struct bn_kernel bn_kernel_tl2_scalar = {
	.name = "tl2.scalar",
	.layout = BN_LAYOUT_TL2,
	.needs = 0,
	.row_step = BN_TL2_ROWS,
	.exact = true,
	.fits = bn_tl2_fits,
	.packed_bytes = bn_tl2_packed_bytes,
	.pack = bn_tl2_pack,
	.mul = mul_tl2,
};

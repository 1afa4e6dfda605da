/*
 * A word of a canonical row is four bytes of four columns each: byte j, field k is column 4j + k.
 * A word of a line wants byte i, field g to be column 4g + i. That is a 4 x 4 transpose of 2-bit
 * fields, and a transpose is two exchanges of bit fields in a register. So packing runs at a few
 * operations per sixteen weights, in plain C, on every processor.
 */
#include "kernels/i2s.h"

#include "kernels/trits.h"

#include <string.h>

static uint32_t transpose(uint32_t x)
{
	uint32_t t = (x ^ (x >> 6)) & UINT32_C(0x00cc00cc);

	x ^= t ^ (t << 6);
	t = (x ^ (x >> 12)) & UINT32_C(0x0000f0f0);
	return x ^ t ^ (t << 12);
}

static void store_word(uint8_t *p, uint32_t w)
{
	p[0] = (uint8_t)w;
	p[1] = (uint8_t)(w >> 8);
	p[2] = (uint8_t)(w >> 16);
	p[3] = (uint8_t)(w >> 24);
}

static uint32_t load_word(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* One row into its word of each line of the group. */
static void pack_row(uint8_t *dst, const uint8_t *codes, uint32_t cols)
{
	const uint32_t whole = cols / BN_I2S_COLS;

	for (uint32_t b = 0; b < whole; b++) {
		store_word(dst + (size_t)b * BN_I2S_LINE,
			   transpose(load_word(codes + (size_t)b * 4)));
	}

	const uint32_t rest = cols % BN_I2S_COLS;
	if (rest == 0) {
		return;
	}
	/* Columns that do not exist are code 1, whatever the last canonical byte holds there. */
	uint8_t last[4] = { 0x55, 0x55, 0x55, 0x55 };
	memcpy(last, codes + (size_t)whole * 4, (rest + 3) / 4);
	const uint32_t keep = (UINT32_C(1) << (2 * rest)) - 1;
	const uint32_t w = (load_word(last) & keep) | (UINT32_C(0x55555555) & ~keep);
	store_word(dst + (size_t)whole * BN_I2S_LINE, transpose(w));
}

bool bn_i2s_fits(uint32_t rows, uint32_t cols)
{
	return rows > 0 && rows <= UINT32_MAX - BN_I2S_ROWS && cols > 0 && cols <= BN_I2S_COLS_MAX;
}

size_t bn_i2s_packed_bytes(uint32_t rows, uint32_t cols)
{
	const size_t groups = ((size_t)rows + BN_I2S_ROWS - 1) / BN_I2S_ROWS;

	return groups * bn_i2s_blocks(cols) * BN_I2S_LINE;
}

void bn_i2s_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1)
{
	const uint32_t blocks = bn_i2s_blocks(src->cols);
	const size_t group_bytes = (size_t)blocks * BN_I2S_LINE;

	for (uint32_t first = row0; first < row1; first += BN_I2S_ROWS) {
		uint8_t *group = (uint8_t *)dst + first / BN_I2S_ROWS * group_bytes;
		for (uint32_t r = 0; r < BN_I2S_ROWS; r++) {
			if (first + r < src->rows) {
				pack_row(group + (size_t)r * 4,
					 src->codes + (size_t)(first + r) * src->stride, src->cols);
				continue;
			}
			for (uint32_t b = 0; b < blocks; b++) {
				store_word(group + (size_t)b * BN_I2S_LINE + (size_t)r * 4,
					   UINT32_C(0x55555555));
			}
		}
	}
}

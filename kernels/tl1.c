/*
 * The index of a pair is 3 * code + code, so eight pairs, one to a nibble of a 32-bit word, are
 * three times one word plus another.
 */
#include "kernels/tl1.h"

#include "kernels/trits.h"

#include <string.h>

/* Eight fields of two bits to eight nibbles. */
static uint32_t spread(uint32_t x)
{
	x = (x | x << 8) & UINT32_C(0x00ff00ff);
	x = (x | x << 4) & UINT32_C(0x0f0f0f0f);
	return (x | x << 2) & UINT32_C(0x33333333);
}

/* Sixteen codes of row r into its bytes of a block. */
static void pack_block(uint8_t *block, uint32_t r, uint32_t codes)
{
	const uint32_t index = 3 * spread(codes & 0xffff) + spread(codes >> 16);

	for (unsigned j = 0; j < 4; j++) {
		block[32 * j + r] = (uint8_t)(index >> (8 * j));
	}
}

static uint32_t load_word(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void pack_row(uint8_t *group, uint32_t r, const uint8_t *codes, uint32_t cols)
{
	const uint32_t whole = cols / BN_TL1_COLS, rest = cols % BN_TL1_COLS;

	for (uint32_t b = 0; b < whole; b++) {
		pack_block(group + (size_t)b * BN_TL1_BLOCK, r, load_word(codes + (size_t)b * 4));
	}
	if (rest == 0) {
		return;
	}
	/* Columns that do not exist are code 1, whatever the last canonical byte holds there. */
	uint8_t last[4] = { 0x55, 0x55, 0x55, 0x55 };
	memcpy(last, codes + (size_t)whole * 4, (rest + 3) / 4);
	const uint32_t keep = (UINT32_C(1) << (2 * rest)) - 1;
	pack_block(group + (size_t)whole * BN_TL1_BLOCK, r,
		   (load_word(last) & keep) | (UINT32_C(0x55555555) & ~keep));
}

bool bn_tl1_fits(uint32_t rows, uint32_t cols)
{
	return rows > 0 && rows <= INT32_MAX && cols > 0 && cols <= BN_KERNEL_COLS_MAX;
}

size_t bn_tl1_packed_bytes(uint32_t rows, uint32_t cols)
{
	const size_t groups = ((size_t)rows + BN_TL1_ROWS - 1) / BN_TL1_ROWS;

	return groups * bn_tl1_blocks(cols) * BN_TL1_BLOCK;
}

size_t bn_tl1_prep_bytes(uint32_t cols, uint32_t n)
{
	return (size_t)n * bn_tl1_blocks(cols) * BN_TL1_TABLE;
}

void bn_tl1_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1)
{
	const uint32_t blocks = bn_tl1_blocks(src->cols);
	const size_t group_bytes = (size_t)blocks * BN_TL1_BLOCK;

	for (uint32_t first = row0; first < row1; first += BN_TL1_ROWS) {
		uint8_t *group = (uint8_t *)dst + first / BN_TL1_ROWS * group_bytes;

		for (uint32_t r = 0; r < BN_TL1_ROWS; r++) {
			if (first + r < src->rows) {
				pack_row(group, r, src->codes + (size_t)(first + r) * src->stride,
					 src->cols);
				continue;
			}
			for (uint32_t b = 0; b < blocks; b++) {
				pack_block(group + (size_t)b * BN_TL1_BLOCK, r,
					   UINT32_C(0x55555555));
			}
		}
	}
}

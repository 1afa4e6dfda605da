/*
 * Eight triples at a time, one to a byte of a 64-bit word: their values, magnitudes and signs are a
 * few operations on the whole word. So packing costs about two operations a weight, in plain C, on
 * every processor.
 */
#include "kernels/tl2.h"

#include "kernels/trits.h"

#include <string.h>

#define BYTES(x) (UINT64_C(0x0101010101010101) * (x))

/* Eight fields of two bits to eight bytes. */
static uint64_t spread(uint32_t fields)
{
	uint64_t x = fields;

	x = (x | x << 24) & UINT64_C(0x000000ff000000ff);
	x = (x | x << 12) & UINT64_C(0x000f000f000f000f);
	return (x | x << 6) & BYTES(3);
}

/* Sixteen codes of one third of a block. */
static uint32_t load_third(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Eight triples of row r, `third` their codes in the low halves, into half h of a block. */
static void pack_half(uint8_t *block, uint32_t h, uint32_t r, const uint32_t third[3])
{
	/* v + 13, 0..26, in each byte; plus 115, so that bit 7 says v >= 0. */
	const uint64_t u = 9 * spread(third[0] & 0xffff) + 3 * spread(third[1] & 0xffff) +
			   spread(third[2] & 0xffff) + BYTES(115);
	const uint64_t negative = (~u >> 7) & BYTES(1);
	const uint64_t index = ((u ^ negative * 0x7f) & BYTES(0x7f)) + negative;
	const uint64_t pairs = index | index >> 4;

	for (unsigned j = 0; j < 4; j++) {
		block[64 * j + 32 * h + r] = (uint8_t)(pairs >> (16 * j));
	}
	/* The product puts bit 8k at 63 - k and nothing else into the top byte. */
	block[BN_TL2_SIGNS + 32 * h + r] =
		(uint8_t)((negative * UINT64_C(0x8040201008040201)) >> 56);
}

static void pack_block(uint8_t *block, uint32_t r, const uint8_t *codes)
{
	const uint32_t low[3] = { load_third(codes), load_third(codes + 4), load_third(codes + 8) };
	const uint32_t high[3] = { low[0] >> 16, low[1] >> 16, low[2] >> 16 };

	pack_half(block, 0, r, low);
	pack_half(block, 1, r, high);
}

static void pack_row(uint8_t *group, uint32_t r, const uint8_t *codes, uint32_t cols)
{
	const uint32_t whole = cols / BN_TL2_COLS, rest = cols % BN_TL2_COLS;
	uint8_t last[BN_TL2_COLS / 4];

	for (uint32_t b = 0; b < whole; b++) {
		pack_block(group + (size_t)b * BN_TL2_BLOCK, r, codes + (size_t)b * sizeof(last));
	}
	if (rest == 0) {
		return;
	}
	/* Columns that do not exist are code 1, whatever the last canonical byte holds there. */
	memset(last, 0x55, sizeof(last));
	memcpy(last, codes + (size_t)whole * sizeof(last), (rest + 3) / 4);
	if (rest % 4 != 0) {
		const unsigned keep = (1u << (2 * (rest % 4))) - 1;
		uint8_t *end = &last[rest / 4];

		*end = (uint8_t)((*end & keep) | (0x55 & ~keep));
	}
	pack_block(group + (size_t)whole * BN_TL2_BLOCK, r, last);
}

static void pack_missing_row(uint8_t *group, uint32_t r, uint32_t blocks)
{
	for (uint32_t b = 0; b < blocks; b++) {
		for (uint32_t i = r; i < BN_TL2_BLOCK; i += BN_TL2_ROWS) {
			group[(size_t)b * BN_TL2_BLOCK + i] = 0;
		}
	}
}

bool bn_tl2_fits(uint32_t rows, uint32_t cols)
{
	return rows > 0 && rows <= INT32_MAX && cols > 0 && cols <= BN_KERNEL_COLS_MAX;
}

size_t bn_tl2_packed_bytes(uint32_t rows, uint32_t cols)
{
	const size_t groups = ((size_t)rows + BN_TL2_ROWS - 1) / BN_TL2_ROWS;

	return groups * bn_tl2_blocks(cols) * BN_TL2_BLOCK;
}

size_t bn_tl2_prep_bytes(uint32_t cols, uint32_t n)
{
	return (size_t)n * bn_tl2_blocks(cols) * BN_TL2_TABLE;
}

void bn_tl2_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1)
{
	const uint32_t blocks = bn_tl2_blocks(src->cols);
	const size_t group_bytes = (size_t)blocks * BN_TL2_BLOCK;

	for (uint32_t first = row0; first < row1; first += BN_TL2_ROWS) {
		uint8_t *group = (uint8_t *)dst + first / BN_TL2_ROWS * group_bytes;

		for (uint32_t r = 0; r < BN_TL2_ROWS; r++) {
			if (first + r < src->rows) {
				pack_row(group, r, src->codes + (size_t)(first + r) * src->stride,
					 src->cols);
			} else {
				pack_missing_row(group, r, blocks);
			}
		}
	}
}

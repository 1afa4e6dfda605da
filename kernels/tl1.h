/*
 * BN_LAYOUT_TL1: two weights in four bits, and the look-up tables its fast kernels read instead of
 * activations: sizes, order, packing.
 *
 * It multiplies nothing (scalar.c and tl1_<isa>.c do), and knows nothing of the files called TL1,
 * which hold the same codes in another order.
 *
 * Source of the code: bitnet.cpp, arXiv 2502.11880, section 3.1: the index 3 w0 + w1 + 4, 0..8, of
 * two trits looks up one of the nine sums of two activations. The order in memory is ours.
 *
 * Rows go in groups of 32, columns in blocks of 16; a group's blocks follow each other. Pair k of a
 * block, k = 0..7, is columns k and 8 + k of it. A block of a group is 128 bytes: byte 32j + r,
 * j = 0..3, r = 0..31, holds the indices of row r for pairs 2j (bits 3..0) and 2j + 1 (bits 7..4).
 * Missing rows and columns are zero weights, index 4 where both are.
 */
#ifndef BN_KERNELS_TL1_H
#define BN_KERNELS_TL1_H

#include "kernels/kernel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_TL1_ROWS = 32,
	BN_TL1_COLS = 16,
	BN_TL1_PAIRS = 8,
	BN_TL1_BLOCK = 128,
	BN_TL1_TABLE = 256, /* bytes of the tables of one token for a block, 8 x 32 */
	BN_TL1_BASE = 31,   /* a table entry is BASE * high + low, |low| <= 15      */
};

/* bn_kernel.fits, .packed_bytes and .pack of every kernel of this layout. */
bool bn_tl1_fits(uint32_t rows, uint32_t cols);
size_t bn_tl1_packed_bytes(uint32_t rows, uint32_t cols);
void bn_tl1_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1);

/* bn_kernel.prep_bytes of those that look up. */
size_t bn_tl1_prep_bytes(uint32_t cols, uint32_t n);

/* Blocks in a group of rows. */
static inline uint32_t bn_tl1_blocks(uint32_t cols)
{
	return (cols + BN_TL1_COLS - 1) / BN_TL1_COLS;
}

#endif

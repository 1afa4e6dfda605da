/*
 * BN_LAYOUT_TL2: three weights in five bits, and the look-up tables its fast kernels read instead
 * of activations: sizes, order, packing.
 *
 * It multiplies nothing (scalar.c and tl2_<isa>.c do), and knows nothing of the files called TL2,
 * which hold the same codes in another order.
 *
 * Source of the code: bitnet.cpp, arXiv 2502.11880, section 3.1: of the 27 values of three trits,
 * v = 9 w0 + 3 w1 + w2, thirteen are others with the sign turned; an index |v| of four bits looks
 * up a sum of three activations, a fifth bit turns its sign. The order in memory is ours.
 *
 * Rows go in groups of 32, columns in blocks of 48; a group's blocks follow each other. Triple k of
 * a block, k = 0..15, is columns k, 16 + k and 32 + k of it: the three activations of sixteen
 * triples are then three plain loads.
 *
 * A block of a group is five lines of 64 bytes. Byte 64j + 32h + r of the first four, j = 0..3,
 * h = 0..1, r = 0..31, holds the indices of row r for triples 8h + 2j (bits 3..0) and 8h + 2j + 1
 * (bits 7..4); byte 256 + 32h + r holds the signs of row r for triples 8h..8h + 7, first triple in
 * bit 7, 1 for a negative v. Missing rows and columns are zero weights: index 0, sign 0.
 */
#ifndef BN_KERNELS_TL2_H
#define BN_KERNELS_TL2_H

#include "kernels/kernel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_TL2_ROWS = 32,
	BN_TL2_COLS = 48,
	BN_TL2_TRIPLES = 16,
	BN_TL2_BLOCK = 320,
	BN_TL2_SIGNS = 256, /* offset of the signs in a block                        */
	BN_TL2_TABLE = 512, /* bytes of the tables of one token for a block, 16 x 32 */
	BN_TL2_BASE = 31,   /* a table entry is BASE * high + low, |low| <= 15       */
};

/* bn_kernel.fits, .packed_bytes and .pack of every kernel of this layout. */
bool bn_tl2_fits(uint32_t rows, uint32_t cols);
size_t bn_tl2_packed_bytes(uint32_t rows, uint32_t cols);
void bn_tl2_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1);

/* bn_kernel.prep_bytes of those that look up. */
size_t bn_tl2_prep_bytes(uint32_t cols, uint32_t n);

/* Blocks in a group of rows. */
static inline uint32_t bn_tl2_blocks(uint32_t cols)
{
	return (cols + BN_TL2_COLS - 1) / BN_TL2_COLS;
}

#endif

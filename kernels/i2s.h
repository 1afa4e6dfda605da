/*
 * BN_LAYOUT_I2S16, the part all its kernels share: size, order and packing of the lines.
 *
 * It multiplies nothing (scalar.c and i2s_<isa>.c do).
 *
 * Rows go in groups of 16, columns in blocks of 16; a group's blocks lie one after the other, a
 * block of a group is one line of 64 bytes. Little-endian 32-bit word r of a line belongs to row r
 * of the group; in it, field g (bits 2g and 2g+1) of byte i is the code of column 4g + i of the
 * block. Masking a whole line with 0x03 << 2g therefore gives, in each word, the four codes of
 * four neighbouring columns, to be multiplied with four neighbouring activations: the shape that
 * vpdpbusd and sdot want, with no sum across words and no rearranged activations.
 * Missing rows and columns are code 1; columns up to `stride` of the activations are zero, so any
 * code would do.
 */
#ifndef BN_KERNELS_I2S_H
#define BN_KERNELS_I2S_H

#include "kernels/kernel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_I2S_ROWS = 16,
	BN_I2S_COLS = 16,
	BN_I2S_LINE = 64,
};

/* Longest row whose sums fit int32 even when field 3 is accumulated unshifted (weight 2 * 64,
 * activation -128, a quarter of the columns): 2^19 - 16. */
#define BN_I2S_COLS_MAX ((UINT32_C(1) << 19) - BN_I2S_COLS)

/* bn_kernel.fits, .packed_bytes and .pack of every kernel of this layout. */
bool bn_i2s_fits(uint32_t rows, uint32_t cols);
size_t bn_i2s_packed_bytes(uint32_t rows, uint32_t cols);
void bn_i2s_pack(void *dst, const struct bn_trits *src, uint32_t row0, uint32_t row1);

/* Lines in a group of rows. */
static inline uint32_t bn_i2s_blocks(uint32_t cols)
{
	return (cols + BN_I2S_COLS - 1) / BN_I2S_COLS;
}

#endif

/*
 * The canonical ternary matrix: what every kernel's `pack` reads, whatever the file format was.
 *
 * It owns nothing; the codes belong to the caller. It does not know GGUF tensors or files.
 */
#ifndef BN_KERNELS_TRITS_H
#define BN_KERNELS_TRITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Codes 0, 1, 2 stand for -1, 0, +1, four to a byte, column c of row r in bits 2*(c%4).. of byte
 * r*stride + c/4. Rows start on a byte, so any cols works; the unused bits of a row's last byte
 * are code 1 (zero weight).
 */
struct bn_trits {
	const uint8_t *codes; /* [rows, stride] */
	size_t stride;        /* bytes per row, >= (cols + 3) / 4 */
	uint32_t rows;
	uint32_t cols;
};

static inline int bn_trit(const struct bn_trits *t, uint32_t row, uint32_t col)
{
	return (int)(((unsigned)t->codes[row * t->stride + col / 4] >> (2 * (col % 4))) & 3u) - 1;
}

static inline size_t bn_trits_stride(uint32_t cols)
{
	return ((size_t)cols + 3) / 4;
}

/*
 * Decodes elements [first, first + count) of a flattened I2_S tensor (128-element blocks of 32
 * bytes: bits 7-6 of byte p are element p, 5-4 are 32+p, 3-2 are 64+p, 1-0 are 96+p) into
 * canonical rows. `blocks` is the start of the tensor's data; first and count are whole rows:
 * first = row0 * cols, count = rows * cols. Rows may straddle blocks (cols % 128 != 0 is fine).
 * dst is [rows, bn_trits_stride(cols)]. The block that holds the last element is read whole.
 * Returns false when a code 3 is met among the elements asked for: damaged or not I2_S; dst is
 * then filled, but worthless.
 */
bool bn_trits_from_i2s(uint8_t *dst, const uint8_t *blocks, uint64_t first, uint32_t rows,
		       uint32_t cols);

/* The inverse, for writers and tests: whole tensors only; rows * cols a multiple of 128.
 * dst has rows * cols / 4 bytes. */
void bn_trits_to_i2s(uint8_t *dst, const struct bn_trits *src);

#endif

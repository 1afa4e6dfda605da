/*
 * The byte orders of bitnet.cpp's look-up-table files: TL1 (two weights in a nibble) and TL2 (three
 * weights in a nibble and a sign bit), to canonical trits and back.
 *
 * It does not know which tiles a file was written with (engine/tiles.h), nor scales. Pure; any
 * thread.
 *
 * A file holds the matrix in tiles of BM rows and BK columns, in strips of bm rows, column groups
 * innermost, as the product loops meet them (arXiv 2410.16144, section 3; the converter's
 * process_tl1, preprocess_weights_tl2). Nothing in it says what BM, BK and bm were.
 */
#ifndef BN_ENGINE_TL_H
#define BN_ENGINE_TL_H

#include "kernels/trits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a matrix was cut: BM rows, BK columns, strips of bm rows. All zero: no such format. */
struct bn_tiles {
	uint32_t bm_rows; /* BM */
	uint32_t bk_cols; /* BK */
	uint32_t strip;   /* bm */
};

/*
 * Can a matrix [rows, cols] be cut so? TL1: strips of 32 or 64 rows; BM, BK divide rows and cols;
 * BK a multiple of 256 / strip. TL2: strips of 32; BM divides rows; BK a multiple of 24; what is
 * left of the columns a multiple of 32 and no more than 256; cols at least 256.
 */
bool bn_tl_pairs_fit(uint32_t rows, uint32_t cols, const struct bn_tiles *t);
bool bn_tl_triples_fit(uint32_t rows, uint32_t cols, const struct bn_tiles *t);

/*
 * TL1: data [rows * cols / 4] to codes [rows, bn_trits_stride(cols)], of a matrix that fits. False
 * when an index is no pair of trits; codes are then unspecified. (Other tiles permute whole bytes,
 * so they are never noticed here.)
 */
bool bn_tl_pairs_decode(uint8_t *codes, const uint8_t *data, uint32_t rows, uint32_t cols,
			const struct bn_tiles *t);

/* The inverse, for a matrix that fits. */
void bn_tl_pairs_encode(uint8_t *data, const struct bn_trits *src, const struct bn_tiles *t);

/*
 * TL2: data [bn_tl_triples_bytes(rows, cols)]. False when an index is no triple of trits, or zero
 * has a sign. (Other tiles permute whole blocks of 32 rows and 24 columns, signs with them: they
 * are noticed only where they leave another remainder of columns.)
 */
bool bn_tl_triples_decode(uint8_t *codes, const uint8_t *data, uint32_t rows, uint32_t cols,
			  const struct bn_tiles *t);
void bn_tl_triples_encode(uint8_t *data, const struct bn_trits *src, const struct bn_tiles *t);

/* Bytes before the padding: what the tiles fill. */
size_t bn_tl_triples_bytes(uint32_t rows, uint32_t cols, const struct bn_tiles *t);

#endif

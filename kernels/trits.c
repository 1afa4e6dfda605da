/*
 * The I2_S file layout read as one flat stream of canonical bytes. A block of 128 elements is 32
 * canonical bytes; when cols is a multiple of four, so are all row starts, and the canonical rows
 * are that stream cut into pieces. Other widths go element by element, they occur in no model.
 */
#include "kernels/trits.h"

#include <endian.h>
#include <string.h>

enum {
	BLOCK = 128,
	BLOCK_BYTES = 32,
};

static uint64_t load_word(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return le64toh(w);
}

/* One block, file order to canonical order. Returns the bits of codes that are 3, zero if none. */
static uint64_t block_to_canonical(uint8_t out[BLOCK_BYTES], const uint8_t *block)
{
	uint64_t bad = 0;

	for (unsigned j = 0; j < BLOCK_BYTES / 8; j++) {
		const uint64_t w = load_word(block + (size_t)j * 8);
		bad |= w & (w >> 1) & UINT64_C(0x5555555555555555);
		for (unsigned k = 0; k < 4; k++) {
			/* Eight neighbouring elements of quarter k, one in each byte; bring each
			 * four together in the lowest of theirs. */
			uint64_t f = (w >> (6 - 2 * k)) & UINT64_C(0x0303030303030303);
			f |= f >> 6;
			f |= f >> 12;
			out[k * 8 + 2 * j] = (uint8_t)f;
			out[k * 8 + 2 * j + 1] = (uint8_t)(f >> 32);
		}
	}
	return bad;
}

/* The canonical stream from element `first` (a multiple of 4), `bytes` bytes of it. */
static bool stream(uint8_t *dst, const uint8_t *blocks, uint64_t first, uint64_t bytes)
{
	uint64_t skip = first % BLOCK / 4;
	const uint8_t *block = blocks + first / BLOCK * BLOCK_BYTES;
	uint64_t bad = 0;

	while (bytes > 0) {
		if (skip == 0 && bytes >= BLOCK_BYTES) {
			bad |= block_to_canonical(dst, block);
			dst += BLOCK_BYTES;
			bytes -= BLOCK_BYTES;
		} else {
			uint8_t whole[BLOCK_BYTES];
			const uint64_t left = BLOCK_BYTES - skip;
			const size_t n = (size_t)(bytes < left ? bytes : left);
			(void)block_to_canonical(whole, block);
			memcpy(dst, whole + skip, n);
			for (size_t i = 0; i < n; i++) {
				bad |= dst[i] & (dst[i] >> 1) & 0x55u;
			}
			dst += n;
			bytes -= n;
			skip = 0;
		}
		block += BLOCK_BYTES;
	}
	return bad == 0;
}

static unsigned element(const uint8_t *blocks, uint64_t i)
{
	const unsigned p = (unsigned)(i % BLOCK);

	return ((unsigned)blocks[i / BLOCK * BLOCK_BYTES + p % 32] >> (6 - 2 * (p / 32))) & 3u;
}

bool bn_trits_from_i2s(uint8_t *dst, const uint8_t *blocks, uint64_t first, uint32_t rows,
		       uint32_t cols)
{
	const size_t stride = bn_trits_stride(cols);
	bool good = true;

	if (cols % 4 == 0) {
		return stream(dst, blocks, first, (uint64_t)rows * stride);
	}
	for (uint32_t r = 0; r < rows; r++) {
		uint8_t *row = dst + r * stride;
		memset(row, 0x55, stride);
		for (uint32_t c = 0; c < cols; c++) {
			const unsigned code = element(blocks, first + (uint64_t)r * cols + c);
			good &= code != 3;
			/* 0x55 holds code 1 everywhere; exchange it for this one. */
			row[c / 4] ^= (uint8_t)((code ^ 1u) << (2 * (c % 4)));
		}
	}
	return good;
}

void bn_trits_to_i2s(uint8_t *dst, const struct bn_trits *src)
{
	uint64_t i = 0;

	memset(dst, 0, (size_t)((uint64_t)src->rows * src->cols / 4));
	for (uint32_t r = 0; r < src->rows; r++) {
		for (uint32_t c = 0; c < src->cols; c++, i++) {
			const unsigned p = (unsigned)(i % BLOCK);
			const unsigned code = (unsigned)(bn_trit(src, r, c) + 1);
			dst[i / BLOCK * BLOCK_BYTES + p % 32] |=
				(uint8_t)(code << (6 - 2 * (p / 32)));
		}
	}
}

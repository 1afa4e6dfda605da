/* Facts of ggml's block formats: scales are f16, products are rounded to float one by one. */
#include "engine/dequantize.h"

#include "kernels/half.h"

#include <stddef.h>

enum { SMALL = 32, SMALL_BYTES = 18, SUPER = 256, SUPER_BYTES = 144 };

static float half_at(const uint8_t *p)
{
	return bn_half_to_float((uint16_t)(p[0] | (unsigned)p[1] << 8));
}

/* Sixteen bytes: low nibbles are the first half of a block, high nibbles the second. */
static void small_blocks(float *out, const uint8_t *row, uint32_t cols, const int8_t value[16])
{
	for (uint32_t c = 0; c < cols; c += SMALL, row += SMALL_BYTES) {
		const float scale = half_at(row);

		for (unsigned i = 0; i < SMALL / 2; i++) {
			out[c + i] = scale * (float)value[row[2 + i] & 15];
			out[c + SMALL / 2 + i] = scale * (float)value[row[2 + i] >> 4];
		}
	}
}

static void row_q4_0(float *out, const void *row, uint32_t cols)
{
	static const int8_t value[16] = { -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7 };

	small_blocks(out, row, cols, value);
}

static void row_iq4_nl(float *out, const void *row, uint32_t cols)
{
	static const int8_t value[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
					  1,    13,   25,  38,  53,  69,  89,  113 };

	small_blocks(out, row, cols, value);
}

/* Scale and minimum of the eight 32s, six bits each: the first four lie whole in bytes 0-3 and 4-7,
 * whose upper bits complete the nibbles of bytes 8-11, which are the other four. */
static void unpack_scales(unsigned scale[8], unsigned least[8], const uint8_t *p)
{
	for (unsigned i = 0; i < 4; i++) {
		scale[i] = p[i] & 63u;
		least[i] = p[4 + i] & 63u;
		scale[4 + i] = (p[8 + i] & 15u) | (unsigned)(p[i] >> 6) << 4;
		least[4 + i] = (unsigned)(p[8 + i] >> 4) | (unsigned)(p[4 + i] >> 6) << 4;
	}
}

static void row_q4_k(float *out, const void *row, uint32_t cols)
{
	const uint8_t *p = row;

	for (uint32_t c = 0; c < cols; c += SUPER, p += SUPER_BYTES) {
		const float d = half_at(p), m = half_at(p + 2);
		unsigned scale[8], least[8];

		unpack_scales(scale, least, p + 4);
		for (unsigned i = 0; i < SUPER; i++) {
			const unsigned sub = i / 32, byte = p[16 + sub / 2 * 32 + i % 32];
			const unsigned code = sub % 2 == 0 ? byte & 15 : byte >> 4;

			out[c + i] = d * (float)scale[sub] * (float)code - m * (float)least[sub];
		}
	}
}

bn_dequantize_row *bn_dequantize_find(enum bn_ggml_type type)
{
	switch (type) {
	case BN_GGML_Q4_0:
		return row_q4_0;
	case BN_GGML_IQ4_NL:
		return row_iq4_nl;
	case BN_GGML_Q4_K:
		return row_q4_k;
	default:
		return NULL;
	}
}

#include "tests/tiny_fill.h"

#include "kernels/half.h"

#include <endian.h>
#include <string.h>

uint64_t tiny_fill_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t draw(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return tiny_fill_mix(*state);
}

/* About normal, mean 0, deviation 1: a sum of four uniform numbers, from -3.46 to 3.46. */
static float draw_normal(uint64_t *state)
{
	uint64_t r = draw(state);
	uint32_t sum = (uint32_t)(r & 0xffff) + (uint32_t)(r >> 16 & 0xffff) +
		       (uint32_t)(r >> 32 & 0xffff) + (uint32_t)(r >> 48);

	return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

static void fill_random(unsigned char *p, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = htole64(draw(state));

		memcpy(p + i, &r, n - i < 8 ? n - i : 8);
	}
}

void tiny_fill_trits(unsigned char *p, size_t n, uint64_t *state)
{
	const uint64_t low_bits = UINT64_C(0x5555555555555555);

	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = draw(state);

		r = htole64(r & ~((r & r >> 1 & low_bits) << 1));
		memcpy(p + i, &r, n - i < 8 ? n - i : 8);
	}
}

void tiny_fill_float(unsigned char *p, float value)
{
	uint32_t bits = bn_float_bits(value);

	for (size_t i = 0; i < 4; i++) {
		p[i] = (unsigned char)(bits >> (8 * i));
	}
}

static void put_half(unsigned char *p, float value)
{
	uint16_t half = bn_float_to_half(value);

	p[0] = (unsigned char)half;
	p[1] = (unsigned char)(half >> 8);
}

void tiny_fill_f32(unsigned char *p, size_t n, uint64_t *state, float mean, float spread)
{
	for (size_t i = 0; i + 4 <= n; i += 4) {
		tiny_fill_float(p + i, mean + spread * draw_normal(state));
	}
}

void tiny_fill_table(uint16_t table[TINY_FILL_TABLE], uint64_t *state, float mean, float spread)
{
	for (size_t i = 0; i < TINY_FILL_TABLE; i++) {
		table[i] = bn_float_to_half(mean + spread * draw_normal(state));
	}
}

void tiny_fill_f16(unsigned char *p, size_t n, uint64_t *state, const uint16_t *table)
{
	for (size_t i = 0; i + 2 <= n;) {
		uint64_t r = draw(state);

		for (int k = 0; k < 5 && i + 2 <= n; k++, i += 2, r >>= 12) {
			uint16_t half = table[r % TINY_FILL_TABLE];

			p[i] = (unsigned char)half;
			p[i + 1] = (unsigned char)(half >> 8);
		}
	}
}

/* The deviation is 74 for q8_0 and 18.5 * 32 for q6_k with scales about 32. */
void tiny_fill_blocks(unsigned char *p, size_t n, uint64_t *state, enum bn_ggml_type type,
		      float spread)
{
	const size_t block = type == BN_GGML_Q8_0 ? 34 : 210;

	fill_random(p, n, state);
	for (size_t i = 0; i + block <= n; i += block) {
		if (type == BN_GGML_Q8_0) {
			put_half(p + i, spread / 74.0f);
			for (size_t k = 2; k < block; k++) {
				if (p[i + k] == 0x80) { /* quantizers never give -128 */
					p[i + k] = 0x81;
				}
			}
		} else {
			for (size_t k = 192; k < 208; k++) {
				p[i + k] = (unsigned char)(24 + p[i + k] % 16);
			}
			put_half(p + i + 208, spread / (18.5f * 32.0f));
		}
	}
}

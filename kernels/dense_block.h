/*
 * The GGML block formats of dense rows as structs of bytes, so that a row may start anywhere.
 *
 * Facts of the format (ggml's block_q8_0, block_q6_K); the arithmetic on them is in dense_<isa>.c.
 */
#ifndef BN_KERNELS_DENSE_BLOCK_H
#define BN_KERNELS_DENSE_BLOCK_H

#include <assert.h>
#include <stdint.h>

enum {
	BN_Q8_0_WEIGHTS = 32,
	BN_Q6_K_WEIGHTS = 256,
};

/* Weight i = scale * q[i]: 11 bits times 8, exact in float. */
struct bn_q8_0 {
	uint8_t scale[2]; /* binary16, little-endian */
	int8_t q[32];
};

/*
 * Two halves of 128 weights. Weight i = 32k + l of a half (k 0..3): the low four bits of its code
 * are the low (k < 2) or high nibble of low[half][32 * (k % 2) + l], the next two are bits 2k and
 * 2k + 1 of high[half][l]. The weight is (scale * sub[half][2k + l / 16]) * (code - 32): the
 * product in brackets is exact, the other one rounded to float once.
 */
struct bn_q6_k {
	uint8_t low[2][64];
	uint8_t high[2][32];
	int8_t sub[2][8];
	uint8_t scale[2]; /* binary16, little-endian */
};

static_assert(sizeof(struct bn_q8_0) == 34, "a block of the file format");
static_assert(sizeof(struct bn_q6_k) == 210, "a block of the file format");

static inline uint16_t bn_load_u16(const uint8_t p[2])
{
	return (uint16_t)(p[0] | (uint16_t)(p[1] << 8));
}

#endif

/*
 * Half precision floats: IEEE 754 binary16 and bfloat16 to and from float, in plain C.
 *
 * It uses no conversion instruction of the processor (vec and dense files do, and must agree with
 * these bits: tests compare all 65,536 patterns). To half rounds to nearest, ties to even; NaN
 * stays NaN, made quiet, upper payload bits kept, as x86 and arm64 hardware does.
 */
#ifndef BN_KERNELS_HALF_H
#define BN_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t bn_float_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static inline float bn_bits_float(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* binary16 -> float. Exact, except that a signalling NaN becomes quiet. */
static inline float bn_half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t exponent = (h >> 10) & 31u;
	uint32_t mantissa = h & 0x3ffu;

	if (exponent == 31) {
		return bn_bits_float(sign | 0x7f800000u | mantissa << 13 |
				     (mantissa != 0 ? 0x400000u : 0));
	}
	if (exponent == 0) {
		/* Zero or denormal: mantissa * 2^-24, a product of two exact floats. */
		float x = (float)mantissa * 0x1p-24f;
		return bn_bits_float(sign | bn_float_bits(x));
	}
	return bn_bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* float -> binary16, to nearest even; too large becomes infinity. */
static inline uint16_t bn_float_to_half(float x)
{
	uint32_t u = bn_float_bits(x);
	uint32_t sign = (u >> 16) & 0x8000u;
	uint32_t a = u & 0x7fffffffu;

	if (a > 0x7f800000u) {
		return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
	}
	if (a >= 0x477ff000u) { /* 65520 and up round to infinity */
		return (uint16_t)(sign | 0x7c00u);
	}
	if (a < 0x38800000u) { /* below 2^-14: adding 0.5 lets the float unit round at 2^-24 */
		return (uint16_t)(sign | (bn_float_bits(bn_bits_float(a) + 0.5f) - 0x3f000000u));
	}
	a += 0xfffu + ((a >> 13) & 1u);
	return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

static inline float bn_bf16_to_float(uint16_t b)
{
	return bn_bits_float((uint32_t)b << 16);
}

static inline uint16_t bn_float_to_bf16(float x)
{
	uint32_t u = bn_float_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u) {
		return (uint16_t)(u >> 16 | 0x40u);
	}
	return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif

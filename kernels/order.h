/*
 * The order of float operations, written once: how sixteen partial sums become one, and the steps
 * of exp. Every vec and dense file follows these, which is why their bits agree.
 *
 * It holds no loops over data and no intrinsics; the vector files repeat the steps in their own
 * instructions, with the constants from here.
 */
#ifndef BN_KERNELS_ORDER_H
#define BN_KERNELS_ORDER_H

#include "kernels/half.h"

#include <math.h>
#include <stdint.h>

/* Folds sixteen partial sums 8 apart, then 4, 2, 1. p is destroyed. */
static inline float bn_fold16(float p[16])
{
	for (int half = 8; half > 0; half /= 2) {
		for (int j = 0; j < half; j++) {
			p[j] += p[j + half];
		}
	}
	return p[0];
}

/* Quantization: magnitudes below this count as this (as the reference code does), and the float
 * bits that divide finite from not, and that say "not a number" the same way on every processor. */
#define BN_ABSMAX_FLOOR  1e-5f
#define BN_INFINITY_BITS 0x7f800000u
#define BN_NAN_BITS      0x7fc00000u

/*
 * exp(x) = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2 (Cody and Waite's reduction in two
 * pieces; the first fmaf is exact for every n that occurs). e^r = 1 + r + r^2 q(r), q the degree 4
 * interpolation of (e^r - 1 - r) / r^2 at Chebyshev nodes: its own error is 1.1e-8, rounding adds
 * at most 1.0e-7 relative. Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in
 * the low mantissa bits.
 */
#define BN_EXP_LOW    -105.0f /* 0 below      */
#define BN_EXP_HIGH   89.0f   /* inf above    */
#define BN_EXP_LOG2E  0x1.715476p+0f
#define BN_EXP_LN2_HI 0x1.62e43p-1f
#define BN_EXP_LN2_LO -0x1.05c61p-29f
#define BN_EXP_ROUND  0x1.8p+23f
#define BN_EXP_Q0     0x1p-1f
#define BN_EXP_Q1     0x1.5554dcp-3f
#define BN_EXP_Q2     0x1.55551ap-5f
#define BN_EXP_Q3     0x1.120ba2p-7f
#define BN_EXP_Q4     0x1.6d113cp-10f

/* exp(x) for every float: -inf gives 0, +inf gives inf, NaN stays NaN, denormal results are
 * rounded once. Relative error below 1.3e-7 where the result is a normal number. */
static inline float bn_expf(float x)
{
	float c = x < BN_EXP_LOW ? BN_EXP_LOW : x;
	c = c > BN_EXP_HIGH ? BN_EXP_HIGH : c;

	float t = fmaf(c, BN_EXP_LOG2E, BN_EXP_ROUND);
	float n = t - BN_EXP_ROUND;
	float r = fmaf(n, -BN_EXP_LN2_HI, c);
	r = fmaf(n, -BN_EXP_LN2_LO, r);

	float q = fmaf(r, BN_EXP_Q4, BN_EXP_Q3);
	q = fmaf(r, q, BN_EXP_Q2);
	q = fmaf(r, q, BN_EXP_Q1);
	q = fmaf(r, q, BN_EXP_Q0);
	float p = fmaf(r, fmaf(r, q, 1.0f), 1.0f);

	/* 2^n in two factors: n may lie outside the exponents of a normal float. */
	uint32_t k = bn_float_bits(t) - bn_float_bits(BN_EXP_ROUND) + 256u;
	uint32_t a = k >> 1;
	uint32_t b = k - a;

	return p * bn_bits_float((a - 1u) << 23) * bn_bits_float((b - 1u) << 23);
}

/* gate / (1 + exp(-gate)) */
static inline float bn_silu(float gate)
{
	return gate / (1.0f + bn_expf(-gate));
}

/*
 * GELU in its tanh form (Hendrycks and Gimpel, arXiv 1606.08415, section 2), for which
 * 0.5 g (1 + tanh(u)) = g / (1 + exp(-2u)), u = sqrt(2 / pi) (g + 0.044715 g^3): silu with another
 * exponent. Both constants are of 2u.
 */
#define BN_GELU_C1 0x1.988454p+0f /* 2 sqrt(2 / pi)            */
#define BN_GELU_C3 0x1.2444f2p-4f /* 2 sqrt(2 / pi) * 0.044715 */

static inline float bn_gelu(float gate)
{
	const float u = gate * fmaf(gate * gate, BN_GELU_C3, BN_GELU_C1);

	return gate / (1.0f + bn_expf(-u));
}

/* max(gate, 0)^2, NaN kept. */
static inline float bn_relu2(float gate)
{
	float r = gate < 0.0f ? 0.0f : gate;

	return r * r;
}

#endif

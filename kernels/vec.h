/*
 * The float side of a transformer step: norms, quantization of activations, rotary positions,
 * gated activations, attention. One `struct bn_vec` per instruction set, chosen once.
 *
 * Same bits everywhere. Every function here is *defined* by an order of operations, and all
 * instruction sets follow it, so a result depends on no processor, batch, chunk or lane:
 *
 *   sums     sixteen partial sums, element i goes to partial i % 16 in increasing i, each step one
 *            fmaf(); partials are folded 8 apart, 4, 2, 1: p[j] += p[j + 8], ... (bn_fold16)
 *   maxima   order-free
 *   exp      bn_expf, a polynomial of fmaf steps, the same in every file (never libm's)
 *   sqrt, /  correctly rounded by IEEE 754, so free to use; never rsqrt or rcp estimates
 *
 * fmaf is the fused operation on purpose: it is one instruction on every machine that matters,
 * and exact in libm on those that do not. Which NaN comes out where one must is not promised.
 *
 * Arrays need no padding and no alignment beyond their element's unless said: no function reads
 * or writes past the elements it is given. n = 0 is allowed nowhere.
 *
 * It allocates nothing and knows no model; engine/forward.c decides what is called when.
 */
#ifndef BN_KERNELS_VEC_H
#define BN_KERNELS_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bn_activation {
	BN_ACT_SILU,
	BN_ACT_RELU2,
	BN_ACT_GELU, /* the tanh form */
};

enum bn_rope_style {
	BN_ROPE_NEOX, /* pairs (i, i + rot/2) */
	BN_ROPE_NORM, /* pairs (2i, 2i + 1)   */
};

/* Attention works in blocks of this many *absolute* positions: block b covers [b*128, b*128+128).
 * The order of every float sum follows from it, so chunks, batches and lanes cannot show. */
#define BN_ATTEND_BLOCK 128u
#define BN_HEAD_DIM_MAX 256u
#define BN_GROUP_MAX    16u /* query heads that share a KV head */

/* Running softmax state of one query head (FlashAttention's online form). */
struct bn_attend_state {
	float max; /* -INFINITY at the start */
	float sum; /* of exp(score - max)    */
};

struct bn_vec {
	const char *name; /* "avx512" */
	uint64_t needs;   /* BN_CPU_* bits */

	/* out[i] = (x[i] * f) * gain[i] with f = 1 / sqrt(sum / n + eps), sum of x[i]^2 in the
	 * order above; gain NULL means ones. In place allowed. */
	void (*rmsnorm)(float *out, const float *x, const float *gain, uint32_t n, float eps);

	/* Per-token absmax quantization (BitNet b1.58 2B4T report, section 2):
	 * s = 127 / max(max|x|, 1e-5); q[i] = round_half_even(x[i] * s); *scale = 1 / s.
	 * q is 64-byte aligned, stride a multiple of 64, and bytes from n up to stride become zero.
	 * Returns the sum of q. Inputs that are not finite give *scale = NaN, q all zero and the
	 * sum 0, so the fault shows in the logits and nowhere else. */
	int32_t (*quantize)(int8_t *q, float *scale, const float *x, uint32_t n, uint32_t stride);

	/* rmsnorm then quantize without writing the floats to memory; bits of the two calls. */
	int32_t (*norm_quantize)(int8_t *q, float *scale, const float *x, const float *gain,
				 uint32_t n, uint32_t stride, float eps);

	/* Rotates `heads` heads of head_dim floats each in place; the first `rot` (even) of each
	 * head turn, cos and sin are [rot/2] for this token's position. A pair (a, b) becomes
	 * (fmaf(-b, sin, a * cos), fmaf(a, sin, b * cos)). */
	void (*rope)(float *x, const float *cos, const float *sin, uint32_t heads,
		     uint32_t head_dim, uint32_t rot, enum bn_rope_style style);

	/* out[i] = act(gate[i]) * up[i]; silu is g / (1 + bn_expf(-g)), relu2 is max(g, 0)^2,
	 * gelu is g / (1 + bn_expf(-g * fmaf(g * g, BN_GELU_C3, BN_GELU_C1))); all keep NaN. out
	 * may be gate or up. */
	void (*gate)(float *out, const float *gate, const float *up, uint32_t n,
		     enum bn_activation act);

	/* dst[i] = (f16) src[i], round to nearest even: how k and v enter the cache. */
	void (*to_half)(uint16_t *dst, const float *src, uint32_t n);

	/*
	 * One block of attention for `group` query heads that share one KV head.
	 * q   [group, head_dim] f32, already multiplied by 1/sqrt(head_dim)
	 * k,v [count, head_dim] f16, the block's positions, count in 1..BN_ATTEND_BLOCK
	 * state [group], acc [group, head_dim]: updated: acc and sum are rescaled by
	 * exp(old max - new max) when the block raises the maximum, then the block is added in
	 * position order (acc[d] = fmaf(weight, v[p][d], acc[d]); sum as in the order above).
	 * The block's score sums follow the sixteen-partials rule over head_dim; the sum of its
	 * weights follows it over positions. k and v are prefetched past their end, which harms
	 * nobody and helps when the next block follows in memory. A score that is NaN turns its
	 * head's result to NaN. group is 1..BN_GROUP_MAX, head_dim 1..BN_HEAD_DIM_MAX.
	 */
	void (*attend)(struct bn_attend_state *state, float *acc, const float *q, const uint16_t *k,
		       const uint16_t *v, uint32_t count, uint32_t group, uint32_t head_dim);

	/* out[d] = acc[d] / sum: the end of attention for one head. */
	void (*attend_finish)(float *out, const float *acc, const struct bn_attend_state *state,
			      uint32_t head_dim);
};

/* Every set compiled into this binary, best first, scalar last. */
size_t bn_vecs(const struct bn_vec *const **list);

/* The best for these features; never NULL. */
const struct bn_vec *bn_vec_choose(uint64_t cpu);

/* cos and sin [rot/2] of a position: angle_i = position * base^(-2i/rot), computed in double. */
void bn_rope_angles(float *cos_out, float *sin_out, uint32_t position, uint32_t rot, double base);

#endif

/*
 * The float side in plain C: the definition the vector files are compared with, bit for bit.
 * Loops follow vec.h's order of operations literally; nothing here is clever.
 */
#include "kernels/gate.h"
#include "kernels/half.h"
#include "kernels/order.h"
#include "kernels/tables.h"

#include <math.h>
#include <string.h>

/* 1 / sqrt(mean(x^2) + eps) */
static float norm_factor(const float *x, uint32_t n, float eps)
{
	float part[16] = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		part[i % 16] = fmaf(x[i], x[i], part[i % 16]);
	}
	return 1.0f / sqrtf(bn_fold16(part) / (float)n + eps);
}

static float normed(const float *x, const float *gain, uint32_t i, float factor)
{
	const float y = x[i] * factor;

	return gain != NULL ? y * gain[i] : y;
}

static void rmsnorm(float *out, const float *x, const float *gain, uint32_t n, float eps)
{
	const float factor = norm_factor(x, n, eps);

	for (uint32_t i = 0; i < n; i++) {
		out[i] = normed(x, gain, i, factor);
	}
}

/* The larger of two magnitudes, as float bits without sign: these compare like the floats, and
 * infinity and NaN come out on top. */
static uint32_t larger(uint32_t bits, float x)
{
	const uint32_t a = bn_float_bits(x) & 0x7fffffffu;

	return a > bits ? a : bits;
}

/* The factor of the quantization, *scale its inverse; 0 when the input is not finite. */
static float quantize_factor(float *scale, uint32_t max_bits)
{
	if (max_bits >= BN_INFINITY_BITS) {
		*scale = bn_bits_float(BN_NAN_BITS);
		return 0.0f;
	}
	float max = bn_bits_float(max_bits);
	max = max < BN_ABSMAX_FLOOR ? BN_ABSMAX_FLOOR : max;
	const float s = 127.0f / max;
	*scale = 1.0f / s;
	return s;
}

static int8_t quantized(float x, float s)
{
	/* To nearest, ties to even, as BN_EXP_ROUND does it; |x * s| is at most 127 and a bit. */
	const float t = x * s + BN_EXP_ROUND;

	return (int8_t)(int32_t)(bn_float_bits(t) - bn_float_bits(BN_EXP_ROUND));
}

static int32_t quantize(int8_t *q, float *scale, const float *x, uint32_t n, uint32_t stride)
{
	uint32_t max = 0;
	int32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		max = larger(max, x[i]);
	}
	memset(q, 0, stride);
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		return 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		q[i] = quantized(x[i], s);
		sum += q[i];
	}
	return sum;
}

static int32_t norm_quantize(int8_t *q, float *scale, const float *x, const float *gain, uint32_t n,
			     uint32_t stride, float eps)
{
	const float factor = norm_factor(x, n, eps);
	uint32_t max = 0;
	int32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		max = larger(max, normed(x, gain, i, factor));
	}
	memset(q, 0, stride);
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		return 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		q[i] = quantized(normed(x, gain, i, factor), s);
		sum += q[i];
	}
	return sum;
}

static void rope(float *x, const float *cos, const float *sin, uint32_t heads, uint32_t head_dim,
		 uint32_t rot, enum bn_rope_style style)
{
	const uint32_t half = rot / 2;
	const uint32_t step = style == BN_ROPE_NEOX ? 1 : 2;
	const uint32_t apart = style == BN_ROPE_NEOX ? half : 1;

	for (uint32_t h = 0; h < heads; h++, x += head_dim) {
		for (uint32_t i = 0; i < half; i++) {
			float *a = x + (size_t)i * step;
			float *b = a + apart;
			const float x0 = *a, x1 = *b;
			*a = fmaf(-x1, sin[i], x0 * cos[i]);
			*b = fmaf(x0, sin[i], x1 * cos[i]);
		}
	}
}

static void gate(float *out, const float *g, const float *up, uint32_t n, enum bn_activation act)
{
	for (uint32_t i = 0; i < n; i++) {
		out[i] = bn_gate(g[i], act) * up[i];
	}
}

static void to_half(uint16_t *dst, const float *src, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		dst[i] = bn_float_to_half(src[i]);
	}
}

static float score(const float *q, const uint16_t *k, uint32_t head_dim)
{
	float part[16] = { 0 };

	for (uint32_t d = 0; d < head_dim; d++) {
		part[d % 16] = fmaf(q[d], bn_half_to_float(k[d]), part[d % 16]);
	}
	return bn_fold16(part);
}

static void attend_head(struct bn_attend_state *state, float *acc, const float *q,
			const uint16_t *k, const uint16_t *v, uint32_t count, uint32_t head_dim)
{
	float weight[BN_ATTEND_BLOCK];
	float part[16] = { 0 };
	float max = state->max;

	for (uint32_t p = 0; p < count; p++) {
		weight[p] = score(q, k + (size_t)p * head_dim, head_dim);
		max = weight[p] > max ? weight[p] : max;
	}
	if (max > state->max) {
		const float factor = bn_expf(state->max - max);
		state->max = max + 0.0f; /* never -0, which of two zeros won must not show */
		state->sum *= factor;
		for (uint32_t d = 0; d < head_dim; d++) {
			acc[d] *= factor;
		}
	}
	for (uint32_t p = 0; p < count; p++) {
		weight[p] = bn_expf(weight[p] - max);
		part[p % 16] += weight[p];
	}
	state->sum += bn_fold16(part);
	for (uint32_t p = 0; p < count; p++) {
		for (uint32_t d = 0; d < head_dim; d++) {
			const float x = bn_half_to_float(v[(size_t)p * head_dim + d]);
			acc[d] = fmaf(weight[p], x, acc[d]);
		}
	}
}

static void attend(struct bn_attend_state *state, float *acc, const float *q, const uint16_t *k,
		   const uint16_t *v, uint32_t count, uint32_t group, uint32_t head_dim)
{
	for (uint32_t h = 0; h < group; h++) {
		attend_head(&state[h], acc + (size_t)h * head_dim, q + (size_t)h * head_dim, k, v,
			    count, head_dim);
	}
}

static void attend_finish(float *out, const float *acc, const struct bn_attend_state *state,
			  uint32_t head_dim)
{
	for (uint32_t d = 0; d < head_dim; d++) {
		out[d] = acc[d] / state->sum;
	}
}

const struct bn_vec bn_vec_scalar = {
	.name = "scalar",
	.needs = 0,
	.rmsnorm = rmsnorm,
	.quantize = quantize,
	.norm_quantize = norm_quantize,
	.rope = rope,
	.gate = gate,
	.to_half = to_half,
	.attend = attend,
	.attend_finish = attend_finish,
};

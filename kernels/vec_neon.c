/*
 * The float side with NEON: the sixteen partial sums of vec.h are four registers of four. Elements
 * past the last whole sixteen (or four, where there are no sums) are done one by one with the
 * scalar steps of order.h.
 */
#include "kernels/cpu.h"
#include "kernels/gate.h"
#include "kernels/half.h"
#include "kernels/order.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

enum {
	LANES = 4,
	STEP = 16,
	PARTS = STEP / LANES,
	HEADS = 2,     /* query heads worked on together    */
	POSITIONS = 2, /* positions of k worked on together */
};

/* bn_expf. */
BN_INLINE float32x4_t exp_ps(float32x4_t x)
{
	const float32x4_t low = vdupq_n_f32(BN_EXP_LOW);
	const float32x4_t high = vdupq_n_f32(BN_EXP_HIGH);
	const float32x4_t magic = vdupq_n_f32(BN_EXP_ROUND);
	const float32x4_t one = vdupq_n_f32(1.0f);

	/* Comparisons, not fmax and fmin: NaN stays. */
	x = vbslq_f32(vcltq_f32(x, low), low, x);
	x = vbslq_f32(vcgtq_f32(x, high), high, x);

	const float32x4_t t = vfmaq_f32(magic, x, vdupq_n_f32(BN_EXP_LOG2E));
	const float32x4_t n = vsubq_f32(t, magic);
	float32x4_t r = vfmaq_f32(x, n, vdupq_n_f32(-BN_EXP_LN2_HI));
	r = vfmaq_f32(r, n, vdupq_n_f32(-BN_EXP_LN2_LO));

	float32x4_t p = vfmaq_f32(vdupq_n_f32(BN_EXP_Q3), r, vdupq_n_f32(BN_EXP_Q4));
	p = vfmaq_f32(vdupq_n_f32(BN_EXP_Q2), r, p);
	p = vfmaq_f32(vdupq_n_f32(BN_EXP_Q1), r, p);
	p = vfmaq_f32(vdupq_n_f32(BN_EXP_Q0), r, p);
	p = vfmaq_f32(one, r, p);
	p = vfmaq_f32(one, r, p);

	uint32x4_t k = vsubq_u32(vreinterpretq_u32_f32(t), vreinterpretq_u32_f32(magic));
	k = vaddq_u32(k, vdupq_n_u32(256));
	const uint32x4_t a = vshrq_n_u32(k, 1);
	const uint32x4_t b = vsubq_u32(k, a);
	const uint32x4_t fa = vshlq_n_u32(vsubq_u32(a, vdupq_n_u32(1)), 23);
	const uint32x4_t fb = vshlq_n_u32(vsubq_u32(b, vdupq_n_u32(1)), 23);
	return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_u32(fa)), vreinterpretq_f32_u32(fb));
}

static float norm_factor(const float *x, uint32_t n, float eps)
{
	float part[STEP];
	float32x4_t sum[PARTS];
	uint32_t i = 0;

	BN_UNROLL
	for (unsigned j = 0; j < PARTS; j++) {
		sum[j] = vdupq_n_f32(0.0f);
	}
	for (; i + STEP <= n; i += STEP) {
		BN_UNROLL
		for (unsigned j = 0; j < PARTS; j++) {
			const float32x4_t v = vld1q_f32(x + i + j * LANES);
			sum[j] = vfmaq_f32(sum[j], v, v);
		}
	}
	BN_UNROLL
	for (unsigned j = 0; j < PARTS; j++) {
		vst1q_f32(part + j * LANES, sum[j]);
	}
	for (; i < n; i++) {
		part[i % STEP] = fmaf(x[i], x[i], part[i % STEP]);
	}
	return 1.0f / sqrtf(bn_fold16(part) / (float)n + eps);
}

BN_INLINE float32x4_t normed4(const float *x, const float *gain, uint32_t i, float factor)
{
	const float32x4_t y = vmulq_f32(vld1q_f32(x + i), vdupq_n_f32(factor));

	return gain != NULL ? vmulq_f32(y, vld1q_f32(gain + i)) : y;
}

BN_INLINE float normed(const float *x, const float *gain, uint32_t i, float factor)
{
	const float y = x[i] * factor;

	return gain != NULL ? y * gain[i] : y;
}

static void rmsnorm(float *out, const float *x, const float *gain, uint32_t n, float eps)
{
	const float factor = norm_factor(x, n, eps);
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		vst1q_f32(out + i, normed4(x, gain, i, factor));
	}
	for (; i < n; i++) {
		out[i] = normed(x, gain, i, factor);
	}
}

/* Float bits without sign compare like the floats, infinity and NaN on top. */
BN_INLINE uint32x4_t larger4(uint32x4_t max, float32x4_t x)
{
	return vmaxq_u32(max, vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffffu)));
}

BN_INLINE uint32_t larger(uint32_t max, float x)
{
	const uint32_t bits = bn_float_bits(x) & 0x7fffffffu;

	return bits > max ? bits : max;
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

/* Stores four quantized values and returns them as int32. */
BN_INLINE int32x4_t store_quantized(int8_t *q, float32x4_t x, float s)
{
	const int32x4_t v = vcvtnq_s32_f32(vmulq_f32(x, vdupq_n_f32(s)));
	const int16x4_t h = vqmovn_s32(v);
	const int8x8_t w = vqmovn_s16(vcombine_s16(h, h));

	const int32_t four = vget_lane_s32(vreinterpret_s32_s8(w), 0);

	memcpy(q, &four, sizeof(four));
	return v;
}

BN_INLINE int32_t store_quantized1(int8_t *q, float x, float s)
{
	*q = (int8_t)vcvtns_s32_f32(x * s);
	return *q;
}

static int32_t quantize(int8_t *q, float *scale, const float *x, uint32_t n, uint32_t stride)
{
	uint32x4_t max4 = vdupq_n_u32(0);
	int32x4_t sum4 = vdupq_n_s32(0);
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		max4 = larger4(max4, vld1q_f32(x + i));
	}
	uint32_t max = vmaxvq_u32(max4);
	for (; i < n; i++) {
		max = larger(max, x[i]);
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (i = 0; i + LANES <= n; i += LANES) {
		sum4 = vaddq_s32(sum4, store_quantized(q + i, vld1q_f32(x + i), s));
	}
	int32_t sum = vaddvq_s32(sum4);
	for (; i < n; i++) {
		sum += store_quantized1(q + i, x[i], s);
	}
	memset(q + n, 0, stride - n);
	return sum;
}

static int32_t norm_quantize(int8_t *q, float *scale, const float *x, const float *gain, uint32_t n,
			     uint32_t stride, float eps)
{
	const float factor = norm_factor(x, n, eps);
	uint32x4_t max4 = vdupq_n_u32(0);
	int32x4_t sum4 = vdupq_n_s32(0);
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		max4 = larger4(max4, normed4(x, gain, i, factor));
	}
	uint32_t max = vmaxvq_u32(max4);
	for (; i < n; i++) {
		max = larger(max, normed(x, gain, i, factor));
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (i = 0; i + LANES <= n; i += LANES) {
		sum4 = vaddq_s32(sum4, store_quantized(q + i, normed4(x, gain, i, factor), s));
	}
	int32_t sum = vaddvq_s32(sum4);
	for (; i < n; i++) {
		sum += store_quantized1(q + i, normed(x, gain, i, factor), s);
	}
	memset(q + n, 0, stride - n);
	return sum;
}

static void rope_neox(float *x, const float *cos, const float *sin, uint32_t half)
{
	uint32_t i = 0;

	for (; i + LANES <= half; i += LANES) {
		const float32x4_t c = vld1q_f32(cos + i);
		const float32x4_t s = vld1q_f32(sin + i);
		const float32x4_t x0 = vld1q_f32(x + i);
		const float32x4_t x1 = vld1q_f32(x + half + i);
		vst1q_f32(x + i, vfmsq_f32(vmulq_f32(x0, c), x1, s));
		vst1q_f32(x + half + i, vfmaq_f32(vmulq_f32(x1, c), x0, s));
	}
	for (; i < half; i++) {
		const float x0 = x[i], x1 = x[half + i];
		x[i] = fmaf(-x1, sin[i], x0 * cos[i]);
		x[half + i] = fmaf(x0, sin[i], x1 * cos[i]);
	}
}

static void rope_norm(float *x, const float *cos, const float *sin, uint32_t half)
{
	uint32_t i = 0;

	for (; i + LANES <= half; i += LANES) {
		const float32x4_t c = vld1q_f32(cos + i);
		const float32x4_t s = vld1q_f32(sin + i);
		const float32x4x2_t v = vld2q_f32(x + 2 * i);
		const float32x4x2_t y = { { vfmsq_f32(vmulq_f32(v.val[0], c), v.val[1], s),
					    vfmaq_f32(vmulq_f32(v.val[1], c), v.val[0], s) } };
		vst2q_f32(x + 2 * i, y);
	}
	for (; i < half; i++) {
		const float x0 = x[2 * i], x1 = x[2 * i + 1];
		x[2 * i] = fmaf(-x1, sin[i], x0 * cos[i]);
		x[2 * i + 1] = fmaf(x0, sin[i], x1 * cos[i]);
	}
}

static void rope(float *x, const float *cos, const float *sin, uint32_t heads, uint32_t head_dim,
		 uint32_t rot, enum bn_rope_style style)
{
	for (uint32_t h = 0; h < heads; h++, x += head_dim) {
		if (style == BN_ROPE_NEOX) {
			rope_neox(x, cos, sin, rot / 2);
		} else {
			rope_norm(x, cos, sin, rot / 2);
		}
	}
}

/* What bn_gelu gives to exp, before the sign. */
static float32x4_t gelu_ps(float32x4_t x)
{
	const float32x4_t c1 = vdupq_n_f32(BN_GELU_C1), c3 = vdupq_n_f32(BN_GELU_C3);

	return vmulq_f32(x, vfmaq_f32(c1, vmulq_f32(x, x), c3));
}

static void gate(float *out, const float *g, const float *up, uint32_t n, enum bn_activation act)
{
	const float32x4_t zero = vdupq_n_f32(0.0f);
	const float32x4_t one = vdupq_n_f32(1.0f);
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		const float32x4_t x = vld1q_f32(g + i);
		float32x4_t y;
		if (act != BN_ACT_RELU2) {
			const float32x4_t u = act == BN_ACT_GELU ? gelu_ps(x) : x;
			y = vdivq_f32(x, vaddq_f32(one, exp_ps(vnegq_f32(u))));
		} else {
			y = vbslq_f32(vcltq_f32(x, zero), zero, x);
			y = vmulq_f32(y, y);
		}
		vst1q_f32(out + i, vmulq_f32(y, vld1q_f32(up + i)));
	}
	for (; i < n; i++) {
		out[i] = bn_gate(g[i], act) * up[i];
	}
}

static void to_half(uint16_t *dst, const float *src, uint32_t n)
{
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		vst1_u16(dst + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(src + i))));
	}
	for (; i < n; i++) {
		dst[i] = bn_float_to_half(src[i]);
	}
}

/* ---- attention ---------------------------------------------------------------------------- */

BN_INLINE float32x4_t load_half(const uint16_t *p)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

/* Scores of H heads for POSITIONS positions from p; the last position stands in for those past
 * the end (score has room for them and nobody reads them). score [H, BN_ATTEND_BLOCK]. */
BN_INLINE void score_tile(float *score, const float *q, const uint16_t *k, uint32_t p,
			  uint32_t count, uint32_t head_dim, const unsigned H)
{
	const uint16_t *row[POSITIONS];
	float32x4_t sum[HEADS * POSITIONS * PARTS];

	BN_UNROLL
	for (unsigned j = 0; j < POSITIONS; j++) {
		const uint32_t at = p + j < count ? p + j : count - 1;
		row[j] = k + (size_t)at * head_dim;
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * POSITIONS * PARTS; i++) {
		sum[i] = vdupq_n_f32(0.0f);
	}
	uint32_t d = 0;
	for (; d + STEP <= head_dim; d += STEP) {
		BN_UNROLL
		for (unsigned c = 0; c < PARTS; c++) {
			BN_UNROLL
			for (unsigned j = 0; j < POSITIONS; j++) {
				const float32x4_t kv = load_half(row[j] + d + c * LANES);
				BN_UNROLL
				for (unsigned h = 0; h < H; h++) {
					const float *x = q + h * head_dim + d + c * LANES;
					const unsigned i = (h * POSITIONS + j) * PARTS + c;
					sum[i] = vfmaq_f32(sum[i], vld1q_f32(x), kv);
				}
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * POSITIONS; i++) {
		const unsigned h = i / POSITIONS, j = i % POSITIONS;
		float part[STEP];
		BN_UNROLL
		for (unsigned c = 0; c < PARTS; c++) {
			vst1q_f32(part + c * LANES, sum[i * PARTS + c]);
		}
		for (uint32_t e = d; e < head_dim; e++) {
			const float kv = bn_half_to_float(row[j][e]);
			part[e % STEP] = fmaf(q[h * head_dim + e], kv, part[e % STEP]);
		}
		score[h * BN_ATTEND_BLOCK + p + j] = bn_fold16(part);
	}
}

/* Scores of one head become weights; state and acc are rescaled when the maximum rises. */
static void softmax(struct bn_attend_state *state, float *acc, float *score, uint32_t count,
		    uint32_t head_dim)
{
	float part[STEP];
	float32x4_t sum[PARTS];
	float max = state->max;
	uint32_t p = 0;

	for (p = 0; p < count; p++) {
		max = score[p] > max ? score[p] : max;
	}
	if (max > state->max) {
		const float factor = bn_expf(state->max - max);
		state->max = max + 0.0f; /* never -0, which of two zeros won must not show */
		state->sum *= factor;
		for (uint32_t d = 0; d < head_dim; d++) {
			acc[d] *= factor;
		}
	}
	BN_UNROLL
	for (unsigned c = 0; c < PARTS; c++) {
		sum[c] = vdupq_n_f32(0.0f);
	}
	for (p = 0; p + STEP <= count; p += STEP) {
		BN_UNROLL
		for (unsigned c = 0; c < PARTS; c++) {
			float *s = score + p + c * LANES;
			const float32x4_t w = exp_ps(vsubq_f32(vld1q_f32(s), vdupq_n_f32(max)));
			vst1q_f32(s, w);
			sum[c] = vaddq_f32(sum[c], w);
		}
	}
	BN_UNROLL
	for (unsigned c = 0; c < PARTS; c++) {
		vst1q_f32(part + c * LANES, sum[c]);
	}
	for (; p < count; p++) {
		score[p] = bn_expf(score[p] - max);
		part[p % STEP] += score[p];
	}
	state->sum += bn_fold16(part);
}

/* acc += weight * v for H heads and C registers of columns from d. */
BN_INLINE void value_tile(float *acc, const float *weight, const uint16_t *v, uint32_t count,
			  uint32_t head_dim, uint32_t d, const unsigned H, const unsigned C)
{
	float32x4_t a[16];

	BN_UNROLL
	for (unsigned i = 0; i < H * C; i++) {
		a[i] = vld1q_f32(acc + i / C * head_dim + d + i % C * LANES);
	}
	for (uint32_t p = 0; p < count; p++) {
		const uint16_t *row = v + (size_t)p * head_dim + d;
		BN_UNROLL
		for (unsigned c = 0; c < C; c++) {
			const float32x4_t x = load_half(row + c * LANES);
			BN_UNROLL
			for (unsigned h = 0; h < H; h++) {
				a[h * C + c] = vfmaq_n_f32(a[h * C + c], x,
							   weight[h * BN_ATTEND_BLOCK + p]);
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * C; i++) {
		vst1q_f32(acc + i / C * head_dim + d + i % C * LANES, a[i]);
	}
}

/* The whole block for H heads. */
BN_INLINE void attend_heads(struct bn_attend_state *state, float *acc, const float *q,
			    const uint16_t *k, const uint16_t *v, uint32_t count, uint32_t head_dim,
			    const unsigned H)
{
	_Alignas(16) float score[HEADS * BN_ATTEND_BLOCK];
	const unsigned wide = 16 / H;
	uint32_t d = 0;

	for (uint32_t p = 0; p < count; p += POSITIONS) {
		score_tile(score, q, k, p, count, head_dim, H);
	}
	for (unsigned h = 0; h < H; h++) {
		softmax(&state[h], acc + h * head_dim, score + h * BN_ATTEND_BLOCK, count,
			head_dim);
	}
	for (; d + wide * LANES <= head_dim; d += wide * LANES) {
		value_tile(acc, score, v, count, head_dim, d, H, wide);
	}
	for (; d + LANES <= head_dim; d += LANES) {
		value_tile(acc, score, v, count, head_dim, d, H, 1);
	}
	for (unsigned h = 0; d < head_dim && h < H; h++) {
		for (uint32_t p = 0; p < count; p++) {
			for (uint32_t e = d; e < head_dim; e++) {
				float *a = acc + h * head_dim + e;
				const float x = bn_half_to_float(v[(size_t)p * head_dim + e]);
				*a = fmaf(score[h * BN_ATTEND_BLOCK + p], x, *a);
			}
		}
	}
}

static void attend(struct bn_attend_state *state, float *acc, const float *q, const uint16_t *k,
		   const uint16_t *v, uint32_t count, uint32_t group, uint32_t head_dim)
{
	for (; group >= HEADS; group -= HEADS) {
		attend_heads(state, acc, q, k, v, count, head_dim, HEADS);
		state += HEADS;
		acc += (size_t)HEADS * head_dim;
		q += (size_t)HEADS * head_dim;
	}
	if (group > 0) {
		attend_heads(state, acc, q, k, v, count, head_dim, 1);
	}
}

static void attend_finish(float *out, const float *acc, const struct bn_attend_state *state,
			  uint32_t head_dim)
{
	const float32x4_t sum = vdupq_n_f32(state->sum);
	uint32_t d = 0;

	for (; d + LANES <= head_dim; d += LANES) {
		vst1q_f32(out + d, vdivq_f32(vld1q_f32(acc + d), sum));
	}
	for (; d < head_dim; d++) {
		out[d] = acc[d] / state->sum;
	}
}

const struct bn_vec bn_vec_neon = {
	.name = "neon",
	.needs = BN_CPU_NEON,
	.rmsnorm = rmsnorm,
	.quantize = quantize,
	.norm_quantize = norm_quantize,
	.rope = rope,
	.gate = gate,
	.to_half = to_half,
	.attend = attend,
	.attend_finish = attend_finish,
};

/*
 * The float side with AVX2, FMA and F16C: the sixteen partial sums of vec.h are two registers of
 * eight. Elements past the last whole sixteen are done one by one, on the same partial sums, with
 * the scalar steps of order.h (which here compile to the same instructions).
 */
#include "kernels/cpu.h"
#include "kernels/gate.h"
#include "kernels/order.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
	LANES = 8,
	STEP = 16,
	HEADS = 2,     /* query heads worked on together    */
	POSITIONS = 2, /* positions of k worked on together */
	AHEAD = 8192,  /* bytes of k and v prefetched ahead */
};

/* bn_expf. */
BN_INLINE __m256 exp_ps(__m256 x)
{
	/* max and min return their second operand when one is NaN. */
	x = _mm256_max_ps(_mm256_set1_ps(BN_EXP_LOW), x);
	x = _mm256_min_ps(_mm256_set1_ps(BN_EXP_HIGH), x);

	const __m256 magic = _mm256_set1_ps(BN_EXP_ROUND);
	const __m256 one = _mm256_set1_ps(1.0f);
	const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(BN_EXP_LOG2E), magic);
	const __m256 n = _mm256_sub_ps(t, magic);
	__m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-BN_EXP_LN2_HI), x);
	r = _mm256_fmadd_ps(n, _mm256_set1_ps(-BN_EXP_LN2_LO), r);

	__m256 p = _mm256_set1_ps(BN_EXP_Q4);
	p = _mm256_fmadd_ps(r, p, _mm256_set1_ps(BN_EXP_Q3));
	p = _mm256_fmadd_ps(r, p, _mm256_set1_ps(BN_EXP_Q2));
	p = _mm256_fmadd_ps(r, p, _mm256_set1_ps(BN_EXP_Q1));
	p = _mm256_fmadd_ps(r, p, _mm256_set1_ps(BN_EXP_Q0));
	p = _mm256_fmadd_ps(r, p, one);
	p = _mm256_fmadd_ps(r, p, one);

	const __m256i bias = _mm256_set1_epi32(256);
	const __m256i one_i = _mm256_set1_epi32(1);
	__m256i k = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_castps_si256(magic));
	k = _mm256_add_epi32(k, bias);
	const __m256i a = _mm256_srli_epi32(k, 1);
	const __m256i b = _mm256_sub_epi32(k, a);
	const __m256i fa = _mm256_slli_epi32(_mm256_sub_epi32(a, one_i), 23);
	const __m256i fb = _mm256_slli_epi32(_mm256_sub_epi32(b, one_i), 23);
	p = _mm256_mul_ps(p, _mm256_castsi256_ps(fa));
	return _mm256_mul_ps(p, _mm256_castsi256_ps(fb));
}

static float norm_factor(const float *x, uint32_t n, float eps)
{
	_Alignas(32) float part[STEP];
	__m256 lo = _mm256_setzero_ps();
	__m256 hi = _mm256_setzero_ps();
	uint32_t i = 0;

	for (; i + STEP <= n; i += STEP) {
		const __m256 a = _mm256_loadu_ps(x + i);
		const __m256 b = _mm256_loadu_ps(x + i + LANES);
		lo = _mm256_fmadd_ps(a, a, lo);
		hi = _mm256_fmadd_ps(b, b, hi);
	}
	_mm256_store_ps(part, lo);
	_mm256_store_ps(part + LANES, hi);
	for (; i < n; i++) {
		part[i % STEP] = fmaf(x[i], x[i], part[i % STEP]);
	}
	return 1.0f / sqrtf(bn_fold16(part) / (float)n + eps);
}

BN_INLINE __m256 normed8(const float *x, const float *gain, uint32_t i, __m256 factor)
{
	const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i), factor);

	return gain != NULL ? _mm256_mul_ps(y, _mm256_loadu_ps(gain + i)) : y;
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
		_mm256_storeu_ps(out + i, normed8(x, gain, i, _mm256_set1_ps(factor)));
	}
	for (; i < n; i++) {
		out[i] = normed(x, gain, i, factor);
	}
}

/* Float bits without sign compare like the floats, infinity and NaN on top. */
BN_INLINE __m256i larger8(__m256i max, __m256 x)
{
	const __m256i bits = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX));

	return _mm256_max_epu32(max, bits);
}

BN_INLINE uint32_t larger(uint32_t max, float x)
{
	const uint32_t bits = bn_float_bits(x) & 0x7fffffffu;

	return bits > max ? bits : max;
}

static uint32_t reduce_max(__m256i max)
{
	_Alignas(32) uint32_t lane[LANES];
	uint32_t m = 0;

	_mm256_store_si256((__m256i *)lane, max);
	for (unsigned i = 0; i < LANES; i++) {
		m = lane[i] > m ? lane[i] : m;
	}
	return m;
}

static int32_t reduce_add(__m256i sum)
{
	_Alignas(32) int32_t lane[LANES];
	int32_t s = 0;

	_mm256_store_si256((__m256i *)lane, sum);
	for (unsigned i = 0; i < LANES; i++) {
		s += lane[i];
	}
	return s;
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

/* Stores eight quantized values and returns them as int32. */
BN_INLINE __m256i store_quantized(int8_t *q, __m256 x, __m256 s)
{
	const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(x, s));
	const __m128i w =
		_mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	_mm_storel_epi64((__m128i *)q, _mm_packs_epi16(w, w));
	return v;
}

BN_INLINE int32_t store_quantized1(int8_t *q, float x, float s)
{
	*q = (int8_t)_mm_cvtss_si32(_mm_set_ss(x * s));
	return *q;
}

static int32_t quantize(int8_t *q, float *scale, const float *x, uint32_t n, uint32_t stride)
{
	__m256i max8 = _mm256_setzero_si256();
	__m256i sum8 = _mm256_setzero_si256();
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		max8 = larger8(max8, _mm256_loadu_ps(x + i));
	}
	uint32_t max = reduce_max(max8);
	for (; i < n; i++) {
		max = larger(max, x[i]);
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (i = 0; i + LANES <= n; i += LANES) {
		const __m256 v = _mm256_loadu_ps(x + i);
		sum8 = _mm256_add_epi32(sum8, store_quantized(q + i, v, _mm256_set1_ps(s)));
	}
	int32_t sum = reduce_add(sum8);
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
	const __m256 factor8 = _mm256_set1_ps(factor);
	__m256i max8 = _mm256_setzero_si256();
	__m256i sum8 = _mm256_setzero_si256();
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		max8 = larger8(max8, normed8(x, gain, i, factor8));
	}
	uint32_t max = reduce_max(max8);
	for (; i < n; i++) {
		max = larger(max, normed(x, gain, i, factor));
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (i = 0; i + LANES <= n; i += LANES) {
		const __m256 v = normed8(x, gain, i, factor8);
		sum8 = _mm256_add_epi32(sum8, store_quantized(q + i, v, _mm256_set1_ps(s)));
	}
	int32_t sum = reduce_add(sum8);
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
		const __m256 c = _mm256_loadu_ps(cos + i);
		const __m256 s = _mm256_loadu_ps(sin + i);
		const __m256 x0 = _mm256_loadu_ps(x + i);
		const __m256 x1 = _mm256_loadu_ps(x + half + i);
		_mm256_storeu_ps(x + i, _mm256_fnmadd_ps(x1, s, _mm256_mul_ps(x0, c)));
		_mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(x0, s, _mm256_mul_ps(x1, c)));
	}
	for (; i < half; i++) {
		const float x0 = x[i], x1 = x[half + i];
		x[i] = fmaf(-x1, sin[i], x0 * cos[i]);
		x[half + i] = fmaf(x0, sin[i], x1 * cos[i]);
	}
}

static void rope_norm(float *x, const float *cos, const float *sin, uint32_t half)
{
	const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
	const __m256 flip = _mm256_castsi256_ps(_mm256_set1_epi64x(INT64_C(0x80000000)));
	uint32_t i = 0;

	for (; i + LANES / 2 <= half; i += LANES / 2) {
		const __m256 c = _mm256_permutevar8x32_ps(
			_mm256_castps128_ps256(_mm_loadu_ps(cos + i)), twice);
		const __m256 s = _mm256_permutevar8x32_ps(
			_mm256_castps128_ps256(_mm_loadu_ps(sin + i)), twice);
		const __m256 v = _mm256_loadu_ps(x + 2 * i);
		const __m256 swapped = _mm256_permute_ps(v, 0xb1);
		/* Even lanes x0 c - x1 s, odd lanes x1 c + x0 s. */
		const __m256 turn = _mm256_xor_ps(s, flip);
		_mm256_storeu_ps(x + 2 * i, _mm256_fmadd_ps(swapped, turn, _mm256_mul_ps(v, c)));
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
static __m256 gelu_ps(__m256 x)
{
	const __m256 c1 = _mm256_set1_ps(BN_GELU_C1), c3 = _mm256_set1_ps(BN_GELU_C3);

	return _mm256_mul_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), c3, c1));
}

static void gate(float *out, const float *g, const float *up, uint32_t n, enum bn_activation act)
{
	const __m256 zero = _mm256_setzero_ps();
	const __m256 one = _mm256_set1_ps(1.0f);
	const __m256 sign = _mm256_set1_ps(-0.0f);
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		const __m256 x = _mm256_loadu_ps(g + i);
		__m256 y;
		if (act != BN_ACT_RELU2) {
			const __m256 u = act == BN_ACT_GELU ? gelu_ps(x) : x;
			const __m256 e = exp_ps(_mm256_xor_ps(u, sign));
			y = _mm256_div_ps(x, _mm256_add_ps(one, e));
		} else {
			y = _mm256_max_ps(zero, x); /* NaN is the second operand: kept */
			y = _mm256_mul_ps(y, y);
		}
		_mm256_storeu_ps(out + i, _mm256_mul_ps(y, _mm256_loadu_ps(up + i)));
	}
	for (; i < n; i++) {
		out[i] = bn_gate(g[i], act) * up[i];
	}
}

static void to_half(uint16_t *dst, const float *src, uint32_t n)
{
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(src + i),
						  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
		_mm_storeu_si128((__m128i *)(dst + i), h);
	}
	for (; i < n; i++) {
		dst[i] = bn_float_to_half(src[i]);
	}
}

/* ---- attention ---------------------------------------------------------------------------- */

BN_INLINE void prefetch(const uint16_t *p)
{
	_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
}

BN_INLINE __m256 load_half(const uint16_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Scores of H heads for P positions from p; the last position stands in for those past the end
 * (score has room for them and nobody reads them). score [H, BN_ATTEND_BLOCK]. */
BN_INLINE void score_tile(float *score, const float *q, const uint16_t *k, uint32_t p,
			  uint32_t count, uint32_t head_dim, const unsigned H)
{
	const uint16_t *row[POSITIONS];
	__m256 lo[HEADS * POSITIONS];
	__m256 hi[HEADS * POSITIONS];

	BN_UNROLL
	for (unsigned j = 0; j < POSITIONS; j++) {
		const uint32_t at = p + j < count ? p + j : count - 1;
		row[j] = k + (size_t)at * head_dim;
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * POSITIONS; i++) {
		lo[i] = _mm256_setzero_ps();
		hi[i] = _mm256_setzero_ps();
	}
	uint32_t d = 0;
	for (; d + STEP <= head_dim; d += STEP) {
		BN_UNROLL
		for (unsigned j = 0; j < POSITIONS; j++) {
			prefetch(row[j] + d);
			const __m256 ka = load_half(row[j] + d);
			const __m256 kb = load_half(row[j] + d + LANES);
			BN_UNROLL
			for (unsigned h = 0; h < H; h++) {
				const float *x = q + h * head_dim + d;
				const unsigned i = h * POSITIONS + j;
				lo[i] = _mm256_fmadd_ps(_mm256_loadu_ps(x), ka, lo[i]);
				hi[i] = _mm256_fmadd_ps(_mm256_loadu_ps(x + LANES), kb, hi[i]);
			}
		}
	}
	BN_UNROLL
	for (unsigned h = 0; h < H; h++) {
		BN_UNROLL
		for (unsigned j = 0; j < POSITIONS; j++) {
			const unsigned i = h * POSITIONS + j;
			_Alignas(32) float part[STEP];
			float *s = score + h * BN_ATTEND_BLOCK + p + j;
			if (d == head_dim) {
				/* bn_fold16 without leaving the registers: 8 apart, 4, 2, 1. */
				const __m256 x8 = _mm256_add_ps(lo[i], hi[i]);
				__m128 x = _mm_add_ps(_mm256_castps256_ps128(x8),
						      _mm256_extractf128_ps(x8, 1));
				x = _mm_add_ps(x, _mm_movehl_ps(x, x));
				x = _mm_add_ss(x, _mm_movehdup_ps(x));
				*s = _mm_cvtss_f32(x);
				continue;
			}
			_mm256_store_ps(part, lo[i]);
			_mm256_store_ps(part + LANES, hi[i]);
			for (uint32_t e = d; e < head_dim; e++) {
				const float kv = _cvtsh_ss(row[j][e]);
				part[e % STEP] = fmaf(q[h * head_dim + e], kv, part[e % STEP]);
			}
			*s = bn_fold16(part);
		}
	}
}

/* Scores of one head become weights; state and acc are rescaled when the maximum rises. */
static void softmax(struct bn_attend_state *state, float *acc, float *score, uint32_t count,
		    uint32_t head_dim)
{
	_Alignas(32) float part[STEP] = { 0 };
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
	__m256 lo = _mm256_setzero_ps();
	__m256 hi = _mm256_setzero_ps();
	for (p = 0; p + STEP <= count; p += STEP) {
		const __m256 top = _mm256_set1_ps(max);
		const __m256 a = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(score + p), top));
		const __m256 b = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(score + p + LANES), top));
		_mm256_storeu_ps(score + p, a);
		_mm256_storeu_ps(score + p + LANES, b);
		lo = _mm256_add_ps(lo, a);
		hi = _mm256_add_ps(hi, b);
	}
	_mm256_store_ps(part, lo);
	_mm256_store_ps(part + LANES, hi);
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
	__m256 a[8];

	BN_UNROLL
	for (unsigned i = 0; i < H * C; i++) {
		a[i] = _mm256_loadu_ps(acc + i / C * head_dim + d + i % C * LANES);
	}
	for (uint32_t p = 0; p < count; p++) {
		const uint16_t *row = v + (size_t)p * head_dim + d;
		BN_UNROLL
		for (unsigned c = 0; c < C; c++) {
			prefetch(row + c * LANES);
			const __m256 x = load_half(row + c * LANES);
			BN_UNROLL
			for (unsigned h = 0; h < H; h++) {
				const float w = weight[h * BN_ATTEND_BLOCK + p];
				a[h * C + c] = _mm256_fmadd_ps(_mm256_set1_ps(w), x, a[h * C + c]);
			}
		}
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * C; i++) {
		_mm256_storeu_ps(acc + i / C * head_dim + d + i % C * LANES, a[i]);
	}
}

/* The whole block for H heads. */
BN_INLINE void attend_heads(struct bn_attend_state *state, float *acc, const float *q,
			    const uint16_t *k, const uint16_t *v, uint32_t count, uint32_t head_dim,
			    const unsigned H)
{
	_Alignas(32) float score[HEADS * BN_ATTEND_BLOCK];
	const unsigned wide = 8 / H;
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
				const float x = _cvtsh_ss(v[(size_t)p * head_dim + e]);
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
	const __m256 sum = _mm256_set1_ps(state->sum);
	uint32_t d = 0;

	for (; d + LANES <= head_dim; d += LANES) {
		_mm256_storeu_ps(out + d, _mm256_div_ps(_mm256_loadu_ps(acc + d), sum));
	}
	for (; d < head_dim; d++) {
		out[d] = acc[d] / state->sum;
	}
}

const struct bn_vec bn_vec_avx2 = {
	.name = "avx2",
	.needs = BN_CPU_AVX2,
	.rmsnorm = rmsnorm,
	.quantize = quantize,
	.norm_quantize = norm_quantize,
	.rope = rope,
	.gate = gate,
	.to_half = to_half,
	.attend = attend,
	.attend_finish = attend_finish,
};

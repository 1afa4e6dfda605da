/*
 * The float side with AVX-512: the sixteen partial sums of vec.h are the sixteen lanes of one
 * register, and ends that are no multiple of sixteen are masked, so no lane is touched that has
 * no element.
 *
 * Attention keeps one register of partial sums for each (head, position) and folds four of them
 * at a time by transposing; heads that share a KV head share the conversions of k and v.
 */
#include "kernels/cpu.h"
#include "kernels/order.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
	LANES = 16,
	HEADS = 4,     /* query heads worked on together        */
	POSITIONS = 4, /* positions of k worked on together     */
	AHEAD = 8192,  /* bytes of k and v prefetched ahead     */
};

BN_INLINE __mmask16 first(uint32_t n)
{
	return (__mmask16)(n >= LANES ? 0xffffu : (1u << n) - 1);
}

/* Sums a + b, c + d folded 8 apart, then 4: four registers to four quarters of one, which are
 * folded 2 and 1 apart in place. Lane order of the result: a, b, c, d. */
BN_INLINE __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d)
{
	const __m512 ab =
		_mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	const __m512 cd =
		_mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
	__m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
				 _mm512_shuffle_f32x4(ab, cd, 0xdd));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
	x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
	const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

	return _mm512_castps512_ps128(_mm512_permutexvar_ps(pick, x));
}

BN_INLINE float fold(__m512 x)
{
	return _mm_cvtss_f32(fold4(x, x, x, x));
}

/* bn_expf; vscalefps is its last two multiplications in one. */
BN_INLINE __m512 exp_ps(__m512 x)
{
	/* max and min return their second operand when one is NaN. */
	x = _mm512_max_ps(_mm512_set1_ps(BN_EXP_LOW), x);
	x = _mm512_min_ps(_mm512_set1_ps(BN_EXP_HIGH), x);

	const __m512 magic = _mm512_set1_ps(BN_EXP_ROUND);
	const __m512 one = _mm512_set1_ps(1.0f);
	const __m512 n =
		_mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(BN_EXP_LOG2E), magic), magic);
	__m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-BN_EXP_LN2_HI), x);
	r = _mm512_fmadd_ps(n, _mm512_set1_ps(-BN_EXP_LN2_LO), r);

	__m512 p = _mm512_set1_ps(BN_EXP_Q4);
	p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(BN_EXP_Q3));
	p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(BN_EXP_Q2));
	p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(BN_EXP_Q1));
	p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(BN_EXP_Q0));
	p = _mm512_fmadd_ps(r, p, one);
	p = _mm512_fmadd_ps(r, p, one);
	return _mm512_scalef_ps(p, n);
}

static float norm_factor(const float *x, uint32_t n, float eps)
{
	__m512 part = _mm512_setzero_ps();

	for (uint32_t i = 0; i < n; i += LANES) {
		const __mmask16 m = first(n - i);
		const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
		part = _mm512_mask3_fmadd_ps(v, v, part, m);
	}
	return 1.0f / sqrtf(fold(part) / (float)n + eps);
}

/* x * factor * gain of the lanes in m, zero in the others. */
BN_INLINE __m512 normed(const float *x, const float *gain, uint32_t i, __m512 factor, __mmask16 m)
{
	const __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), factor);

	return gain != NULL ? _mm512_mul_ps(y, _mm512_maskz_loadu_ps(m, gain + i)) : y;
}

static void rmsnorm(float *out, const float *x, const float *gain, uint32_t n, float eps)
{
	const __m512 factor = _mm512_set1_ps(norm_factor(x, n, eps));

	for (uint32_t i = 0; i < n; i += LANES) {
		const __mmask16 m = first(n - i);
		_mm512_mask_storeu_ps(out + i, m, normed(x, gain, i, factor, m));
	}
}

/* Float bits without sign compare like the floats, infinity and NaN on top. */
BN_INLINE __m512i larger(__m512i max, __m512 x)
{
	const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));

	return _mm512_max_epu32(max, bits);
}

/* The factor of the quantization, *scale its inverse; 0 when the input is not finite. */
static float quantize_factor(float *scale, __m512i max_bits)
{
	const uint32_t bits = _mm512_reduce_max_epu32(max_bits);

	if (bits >= BN_INFINITY_BITS) {
		*scale = bn_bits_float(BN_NAN_BITS);
		return 0.0f;
	}
	float max = bn_bits_float(bits);
	max = max < BN_ABSMAX_FLOOR ? BN_ABSMAX_FLOOR : max;
	const float s = 127.0f / max;
	*scale = 1.0f / s;
	return s;
}

/* Stores sixteen quantized values (q has room up to its stride) and returns them as int32. */
BN_INLINE __m512i store_quantized(int8_t *q, __m512 x, __m512 s)
{
	const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(x, s));

	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(v));
	return v;
}

static void zero_tail(int8_t *q, uint32_t n, uint32_t stride)
{
	const uint32_t done = (n + LANES - 1) / LANES * LANES;

	if (done < stride) {
		memset(q + done, 0, stride - done);
	}
}

static int32_t quantize(int8_t *q, float *scale, const float *x, uint32_t n, uint32_t stride)
{
	__m512i max = _mm512_setzero_si512();
	__m512i sum = _mm512_setzero_si512();

	for (uint32_t i = 0; i < n; i += LANES) {
		max = larger(max, _mm512_maskz_loadu_ps(first(n - i), x + i));
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (uint32_t i = 0; i < n; i += LANES) {
		const __m512 v = _mm512_maskz_loadu_ps(first(n - i), x + i);
		sum = _mm512_add_epi32(sum, store_quantized(q + i, v, _mm512_set1_ps(s)));
	}
	zero_tail(q, n, stride);
	return _mm512_reduce_add_epi32(sum);
}

static int32_t norm_quantize(int8_t *q, float *scale, const float *x, const float *gain, uint32_t n,
			     uint32_t stride, float eps)
{
	const __m512 factor = _mm512_set1_ps(norm_factor(x, n, eps));
	__m512i max = _mm512_setzero_si512();
	__m512i sum = _mm512_setzero_si512();

	for (uint32_t i = 0; i < n; i += LANES) {
		/* A factor that is not finite turns the zeros of a mask into NaN: mask again. */
		const __mmask16 m = first(n - i);
		max = larger(max, _mm512_maskz_mov_ps(m, normed(x, gain, i, factor, m)));
	}
	const float s = quantize_factor(scale, max);
	if (s == 0.0f) {
		memset(q, 0, stride);
		return 0;
	}
	for (uint32_t i = 0; i < n; i += LANES) {
		const __m512 v = normed(x, gain, i, factor, first(n - i));
		sum = _mm512_add_epi32(sum, store_quantized(q + i, v, _mm512_set1_ps(s)));
	}
	zero_tail(q, n, stride);
	return _mm512_reduce_add_epi32(sum);
}

static void rope_neox(float *x, const float *cos, const float *sin, uint32_t half)
{
	for (uint32_t i = 0; i < half; i += LANES) {
		const __mmask16 m = first(half - i);
		const __m512 c = _mm512_maskz_loadu_ps(m, cos + i);
		const __m512 s = _mm512_maskz_loadu_ps(m, sin + i);
		const __m512 x0 = _mm512_maskz_loadu_ps(m, x + i);
		const __m512 x1 = _mm512_maskz_loadu_ps(m, x + half + i);
		_mm512_mask_storeu_ps(x + i, m, _mm512_fnmadd_ps(x1, s, _mm512_mul_ps(x0, c)));
		_mm512_mask_storeu_ps(x + half + i, m,
				      _mm512_fmadd_ps(x0, s, _mm512_mul_ps(x1, c)));
	}
}

static void rope_norm(float *x, const float *cos, const float *sin, uint32_t half)
{
	const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	const __m512 flip = _mm512_castsi512_ps(_mm512_set1_epi64(INT64_C(0x80000000)));

	for (uint32_t i = 0; i < half; i += LANES / 2) {
		const uint32_t pairs = half - i < LANES / 2 ? half - i : LANES / 2;
		const __mmask16 m = first(2 * pairs);
		const __mmask16 mh = first(pairs);
		const __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mh, cos + i));
		const __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mh, sin + i));
		const __m512 v = _mm512_maskz_loadu_ps(m, x + 2 * i);
		const __m512 swapped = _mm512_permute_ps(v, 0xb1);
		/* Even lanes x0 c - x1 s, odd lanes x1 c + x0 s. */
		const __m512 turn = _mm512_xor_ps(s, flip);
		_mm512_mask_storeu_ps(x + 2 * i, m,
				      _mm512_fmadd_ps(swapped, turn, _mm512_mul_ps(v, c)));
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
static __m512 gelu_ps(__m512 x)
{
	const __m512 c1 = _mm512_set1_ps(BN_GELU_C1), c3 = _mm512_set1_ps(BN_GELU_C3);

	return _mm512_mul_ps(x, _mm512_fmadd_ps(_mm512_mul_ps(x, x), c3, c1));
}

static void gate(float *out, const float *g, const float *up, uint32_t n, enum bn_activation act)
{
	const __m512 zero = _mm512_setzero_ps();
	const __m512 one = _mm512_set1_ps(1.0f);
	const __m512 sign = _mm512_set1_ps(-0.0f);

	for (uint32_t i = 0; i < n; i += LANES) {
		const __mmask16 m = first(n - i);
		const __m512 x = _mm512_maskz_loadu_ps(m, g + i);
		__m512 y;
		if (act != BN_ACT_RELU2) {
			const __m512 u = act == BN_ACT_GELU ? gelu_ps(x) : x;
			const __m512 e = exp_ps(_mm512_xor_ps(u, sign));
			y = _mm512_div_ps(x, _mm512_add_ps(one, e));
		} else {
			y = _mm512_max_ps(zero, x); /* NaN is the second operand: kept */
			y = _mm512_mul_ps(y, y);
		}
		y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(m, up + i));
		_mm512_mask_storeu_ps(out + i, m, y);
	}
}

static void to_half(uint16_t *dst, const float *src, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += LANES) {
		const __mmask16 m = first(n - i);
		const __m256i h = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, src + i),
						  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
		_mm256_mask_storeu_epi16(dst + i, m, h);
	}
}

/* ---- attention ---------------------------------------------------------------------------- */

BN_INLINE void prefetch(const uint16_t *p)
{
	_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
}

BN_INLINE __m512 load_half(const uint16_t *p, __mmask16 m)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

/* Scores of H heads for POSITIONS positions from p (the last position stands in for those past
 * the end: score has room for them and nobody reads them). score [H, BN_ATTEND_BLOCK]. */
BN_INLINE void score_tile(float *score, const float *q, const uint16_t *k, uint32_t p,
			  uint32_t count, uint32_t head_dim, const unsigned H)
{
	const uint16_t *row[POSITIONS];
	__m512 part[HEADS * POSITIONS];

	BN_UNROLL
	for (unsigned j = 0; j < POSITIONS; j++) {
		const uint32_t at = p + j < count ? p + j : count - 1;
		row[j] = k + (size_t)at * head_dim;
	}
	BN_UNROLL
	for (unsigned i = 0; i < H * POSITIONS; i++) {
		part[i] = _mm512_setzero_ps();
	}
	uint32_t d = 0;
	for (; d + LANES <= head_dim; d += LANES) {
		__m512 kv[POSITIONS];
		BN_UNROLL
		for (unsigned j = 0; j < POSITIONS; j++) {
			prefetch(row[j] + d);
			kv[j] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row[j] + d)));
		}
		BN_UNROLL
		for (unsigned h = 0; h < H; h++) {
			const __m512 x = _mm512_loadu_ps(q + h * head_dim + d);
			BN_UNROLL
			for (unsigned j = 0; j < POSITIONS; j++) {
				const unsigned i = h * POSITIONS + j;
				part[i] = _mm512_fmadd_ps(x, kv[j], part[i]);
			}
		}
	}
	if (d < head_dim) {
		const __mmask16 m = first(head_dim - d);
		BN_UNROLL
		for (unsigned j = 0; j < POSITIONS; j++) {
			const __m512 kv = load_half(row[j] + d, m);
			BN_UNROLL
			for (unsigned h = 0; h < H; h++) {
				const unsigned i = h * POSITIONS + j;
				const __m512 x = _mm512_maskz_loadu_ps(m, q + h * head_dim + d);
				part[i] = _mm512_mask3_fmadd_ps(x, kv, part[i], m);
			}
		}
	}
	BN_UNROLL
	for (unsigned h = 0; h < H; h++) {
		const __m512 *s = part + h * POSITIONS;
		_mm_storeu_ps(score + h * BN_ATTEND_BLOCK + p, fold4(s[0], s[1], s[2], s[3]));
	}
}

/* Scores of one head become weights; state and acc are rescaled when the maximum rises. */
static void softmax(struct bn_attend_state *state, float *acc, float *score, uint32_t count,
		    uint32_t head_dim)
{
	__m512 top = _mm512_set1_ps(state->max);
	__m512 part = _mm512_setzero_ps();

	for (uint32_t p = 0; p < count; p += LANES) {
		/* Second operand wins over NaN: a score that is none does not become the max. */
		const __mmask16 m = first(count - p);
		top = _mm512_mask_max_ps(top, m, _mm512_maskz_loadu_ps(m, score + p), top);
	}
	const float max = _mm512_reduce_max_ps(top);
	if (max > state->max) {
		const __m512 diff = _mm512_set1_ps(state->max - max);
		const __m512 factor = exp_ps(diff);
		state->max = max + 0.0f; /* never -0, which of two zeros won must not show */
		state->sum *= _mm512_cvtss_f32(factor);
		for (uint32_t d = 0; d < head_dim; d += LANES) {
			const __mmask16 m = first(head_dim - d);
			const __m512 a = _mm512_maskz_loadu_ps(m, acc + d);
			_mm512_mask_storeu_ps(acc + d, m, _mm512_mul_ps(a, factor));
		}
	}
	for (uint32_t p = 0; p < count; p += LANES) {
		const __mmask16 m = first(count - p);
		const __m512 s = _mm512_maskz_loadu_ps(m, score + p);
		const __m512 w = exp_ps(_mm512_sub_ps(s, _mm512_set1_ps(max)));
		_mm512_mask_storeu_ps(score + p, m, w);
		part = _mm512_mask_add_ps(part, m, part, w);
	}
	state->sum += fold(part);
}

/* acc += weight * v for H heads and C registers of columns from d; m masks the last one. */
BN_INLINE void value_tile(float *acc, const float *weight, const uint16_t *v, uint32_t count,
			  uint32_t head_dim, uint32_t d, __mmask16 m, const unsigned H,
			  const unsigned C)
{
	__m512 a[16];

	BN_UNROLL
	for (unsigned h = 0; h < H; h++) {
		BN_UNROLL
		for (unsigned c = 0; c < C; c++) {
			const __mmask16 mc = c + 1 == C ? m : (__mmask16)0xffff;
			a[h * C + c] =
				_mm512_maskz_loadu_ps(mc, acc + h * head_dim + d + c * LANES);
		}
	}
	for (uint32_t p = 0; p < count; p++) {
		const uint16_t *row = v + (size_t)p * head_dim + d;
		__m512 x[8];
		BN_UNROLL
		for (unsigned c = 0; c < C; c++) {
			prefetch(row + c * LANES);
			x[c] = load_half(row + c * LANES, c + 1 == C ? m : (__mmask16)0xffff);
		}
		BN_UNROLL
		for (unsigned h = 0; h < H; h++) {
			const __m512 w = _mm512_set1_ps(weight[h * BN_ATTEND_BLOCK + p]);
			BN_UNROLL
			for (unsigned c = 0; c < C; c++) {
				a[h * C + c] = _mm512_fmadd_ps(w, x[c], a[h * C + c]);
			}
		}
	}
	BN_UNROLL
	for (unsigned h = 0; h < H; h++) {
		BN_UNROLL
		for (unsigned c = 0; c < C; c++) {
			const __mmask16 mc = c + 1 == C ? m : (__mmask16)0xffff;
			_mm512_mask_storeu_ps(acc + h * head_dim + d + c * LANES, mc, a[h * C + c]);
		}
	}
}

/* The whole block for H heads. */
BN_INLINE void attend_heads(struct bn_attend_state *state, float *acc, const float *q,
			    const uint16_t *k, const uint16_t *v, uint32_t count, uint32_t head_dim,
			    const unsigned H)
{
	_Alignas(64) float score[HEADS * BN_ATTEND_BLOCK];
	const unsigned wide = H <= 2 ? 8 : 4;
	const __mmask16 all = (__mmask16)0xffff;
	uint32_t d = 0;

	for (uint32_t p = 0; p < count; p += POSITIONS) {
		score_tile(score, q, k, p, count, head_dim, H);
	}
	for (unsigned h = 0; h < H; h++) {
		softmax(&state[h], acc + h * head_dim, score + h * BN_ATTEND_BLOCK, count,
			head_dim);
	}
	for (; d + wide * LANES <= head_dim; d += wide * LANES) {
		value_tile(acc, score, v, count, head_dim, d, all, H, wide);
	}
	for (; d + 2 * LANES <= head_dim; d += 2 * LANES) {
		value_tile(acc, score, v, count, head_dim, d, all, H, 2);
	}
	for (; d < head_dim; d += LANES) {
		value_tile(acc, score, v, count, head_dim, d, first(head_dim - d), H, 1);
	}
}

static void attend(struct bn_attend_state *state, float *acc, const float *q, const uint16_t *k,
		   const uint16_t *v, uint32_t count, uint32_t group, uint32_t head_dim)
{
	while (group > 0) {
		const uint32_t heads = group < HEADS ? group : HEADS;
		switch (heads) {
		case 1:
			attend_heads(state, acc, q, k, v, count, head_dim, 1);
			break;
		case 2:
			attend_heads(state, acc, q, k, v, count, head_dim, 2);
			break;
		case 3:
			attend_heads(state, acc, q, k, v, count, head_dim, 3);
			break;
		default:
			attend_heads(state, acc, q, k, v, count, head_dim, HEADS);
			break;
		}
		state += heads;
		acc += (size_t)heads * head_dim;
		q += (size_t)heads * head_dim;
		group -= heads;
	}
}

static void attend_finish(float *out, const float *acc, const struct bn_attend_state *state,
			  uint32_t head_dim)
{
	const __m512 sum = _mm512_set1_ps(state->sum);

	for (uint32_t d = 0; d < head_dim; d += LANES) {
		const __mmask16 m = first(head_dim - d);
		const __m512 a = _mm512_maskz_loadu_ps(m, acc + d);
		_mm512_mask_storeu_ps(out + d, m, _mm512_div_ps(a, sum));
	}
}

const struct bn_vec bn_vec_avx512 = {
	.name = "avx512",
	.needs = BN_CPU_AVX2 | BN_CPU_AVX512,
	.rmsnorm = rmsnorm,
	.quantize = quantize,
	.norm_quantize = norm_quantize,
	.rope = rope,
	.gate = gate,
	.to_half = to_half,
	.attend = attend,
	.attend_finish = attend_finish,
};

#include "engine/quantize.h"

#include "kernels/dense_block.h"
#include "kernels/half.h"

#include <math.h>
#include <string.h>

#define HALF_MAX 65504.0f

enum { SUB_WEIGHTS = 16, SUBS = BN_Q6_K_WEIGHTS / SUB_WEIGHTS, TRIES = 9 };

size_t bn_quantize_row_bytes(enum bn_ggml_type type, uint32_t cols)
{
	switch (type) {
	case BN_GGML_F32:
		return (size_t)cols * 4;
	case BN_GGML_F16:
		return (size_t)cols * 2;
	case BN_GGML_Q8_0:
		return cols % BN_Q8_0_WEIGHTS == 0
			       ? (size_t)cols / BN_Q8_0_WEIGHTS * sizeof(struct bn_q8_0)
			       : 0;
	case BN_GGML_Q6_K:
		return cols % BN_Q6_K_WEIGHTS == 0
			       ? (size_t)cols / BN_Q6_K_WEIGHTS * sizeof(struct bn_q6_k)
			       : 0;
	default:
		return 0;
	}
}

enum bn_ggml_type bn_quantize_type(enum bn_ggml_type wanted, uint32_t cols)
{
	if (wanted == BN_GGML_Q6_K && bn_quantize_row_bytes(wanted, cols) == 0) {
		wanted = BN_GGML_Q8_0;
	}
	if (wanted == BN_GGML_Q8_0 && bn_quantize_row_bytes(wanted, cols) == 0) {
		wanted = BN_GGML_F16;
	}
	return wanted == BN_GGML_Q6_K || wanted == BN_GGML_Q8_0 ? wanted : BN_GGML_F16;
}

static void store_half(uint8_t dst[2], float x)
{
	const uint16_t h = bn_float_to_half(x);

	dst[0] = (uint8_t)h;
	dst[1] = (uint8_t)(h >> 8);
}

static int clamp(float x, int min, int max)
{
	const float r = rintf(x);

	return r <= (float)min ? min : r >= (float)max ? max : (int)r;
}

static bool f16_row(uint8_t *dst, const float *x, uint32_t cols)
{
	for (uint32_t i = 0; i < cols; i++) {
		if (fabsf(x[i]) > HALF_MAX) {
			return false;
		}
		store_half(dst + 2 * (size_t)i, x[i]);
	}
	return true;
}

static bool q8_0_block(struct bn_q8_0 *dst, const float *x)
{
	float max = 0.0f, scale, inverse;

	for (int i = 0; i < BN_Q8_0_WEIGHTS; i++) {
		max = fmaxf(max, fabsf(x[i]));
	}
	if (max / 127.0f > HALF_MAX) {
		return false;
	}
	store_half(dst->scale, max / 127.0f);
	/* Codes for the scale as stored, which of small weights has few bits left. */
	scale = bn_half_to_float(bn_load_u16(dst->scale));
	inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
	for (int i = 0; i < BN_Q8_0_WEIGHTS; i++) {
		dst->q[i] = (int8_t)clamp(x[i] * inverse, -127, 127);
	}
	return true;
}

/* The best scale for 16 weights in codes -32..31: near max / -32, which gives the largest weight
 * the code that has no opposite, the others around it trade it against the rest. */
static float sub_scale(const float *x)
{
	float extreme = 0.0f, best = 0.0f;
	double least = INFINITY;

	for (int i = 0; i < SUB_WEIGHTS; i++) {
		extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
	}
	if (fabsf(extreme) < 1e-15f) {
		return 0.0f;
	}
	for (int k = -TRIES; k <= TRIES; k++) {
		const float inverse = -(32.0f + 0.1f * (float)k) / extreme;
		double xq = 0.0, qq = 0.0, error = 0.0, scale;

		for (int i = 0; i < SUB_WEIGHTS; i++) {
			const double q = clamp(x[i] * inverse, -32, 31);
			const double weight = (double)x[i] * (double)x[i];

			xq += weight * (double)x[i] * q;
			qq += weight * q * q;
		}
		scale = qq > 0.0 ? xq / qq : 0.0;
		for (int i = 0; i < SUB_WEIGHTS; i++) {
			const double q = clamp(x[i] * inverse, -32, 31);
			const double off = (double)x[i] - scale * q;

			error += (double)x[i] * (double)x[i] * off * off;
		}
		if (error < least) {
			least = error;
			best = (float)scale;
		}
	}
	return best;
}

static bool q6_k_block(struct bn_q6_k *dst, const float *x)
{
	float scales[SUBS], extreme = 0.0f, scale;

	memset(dst, 0, sizeof(*dst));
	for (int s = 0; s < SUBS; s++) {
		scales[s] = sub_scale(x + s * SUB_WEIGHTS);
		extreme = fabsf(scales[s]) > fabsf(extreme) ? scales[s] : extreme;
	}
	if (fabsf(extreme) > HALF_MAX) {
		return false;
	}
	store_half(dst->scale, extreme / -128.0f);
	scale = bn_half_to_float(bn_load_u16(dst->scale));
	for (int i = 0; i < BN_Q6_K_WEIGHTS; i++) {
		const int half = i / 128, k = i % 128 / 32, l = i % 32, sub = 2 * k + l / 16;
		float step;
		unsigned code;

		dst->sub[half][sub] =
			(int8_t)(scale != 0.0f ? clamp(scales[i / SUB_WEIGHTS] / scale, -128, 127)
					       : 0);
		step = scale * (float)dst->sub[half][sub];
		code = step != 0.0f ? (unsigned)(clamp(x[i] / step, -32, 31) + 32) : 32;
		dst->low[half][32 * (k % 2) + l] |= (uint8_t)((code & 15) << (k < 2 ? 0 : 4));
		dst->high[half][l] |= (uint8_t)(code >> 4 << (2 * k));
	}
	return true;
}

bool bn_quantize_row(enum bn_ggml_type type, void *dst, const float *x, uint32_t cols)
{
	bool ok = true;

	for (uint32_t i = 0; i < cols; i++) {
		ok &= isfinite(x[i]) != 0;
	}
	if (!ok) {
		return false;
	}
	if (type == BN_GGML_F32) {
		memcpy(dst, x, (size_t)cols * sizeof(*x));
	} else if (type == BN_GGML_F16) {
		ok = f16_row(dst, x, cols);
	} else if (type == BN_GGML_Q8_0) {
		for (uint32_t i = 0; i < cols / BN_Q8_0_WEIGHTS && ok; i++) {
			ok = q8_0_block((struct bn_q8_0 *)dst + i, x + (size_t)i * BN_Q8_0_WEIGHTS);
		}
	} else {
		for (uint32_t i = 0; i < cols / BN_Q6_K_WEIGHTS && ok; i++) {
			ok = q6_k_block((struct bn_q6_k *)dst + i, x + (size_t)i * BN_Q6_K_WEIGHTS);
		}
	}
	return ok;
}

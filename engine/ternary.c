#include "engine/ternary.h"

#include "kernels/trits.h"

#include <math.h>
#include <string.h>

/* Unused places of a row's last byte hold code 1, zero. */
enum { ALL_ZERO_WEIGHTS = 0x55 };

static void set_code(uint8_t *row, uint32_t col, unsigned code)
{
	const unsigned shift = 2 * (col % 4);

	row[col / 4] = (uint8_t)((row[col / 4] & ~(3u << shift)) | code << shift);
}

/* Two bits of each byte; whole bytes first, for a ten-billion-weight model is that many turns. */
static bool unpack_row(uint8_t *row, const uint8_t *from, uint32_t cols, unsigned shift)
{
	unsigned wrong = 0;
	uint32_t c = 0;

	for (; c + 4 <= cols; c += 4) {
		const unsigned four = (from[c] >> shift & 3u) | (from[c + 1] >> shift & 3u) << 2 |
				      (from[c + 2] >> shift & 3u) << 4 |
				      (from[c + 3] >> shift & 3u) << 6;

		wrong |= four & four >> 1 & 0x55;
		row[c / 4] = (uint8_t)four;
	}
	if (c < cols) {
		row[c / 4] = ALL_ZERO_WEIGHTS;
	}
	for (; c < cols; c++) {
		const unsigned code = from[c] >> shift & 3u;

		wrong |= code == 3;
		set_code(row, c, code);
	}
	return wrong == 0;
}

bool bn_ternary_unpack(uint8_t *dst, const uint8_t *packed, uint32_t out, uint32_t in,
		       uint32_t *bad)
{
	const size_t stride = bn_trits_stride(in);
	const uint32_t quarter = out / 4;

	for (uint32_t i = 0; i < 4; i++) {
		for (uint32_t r = 0; r < quarter; r++) {
			uint8_t *row = dst + ((size_t)i * quarter + r) * stride;

			if (!unpack_row(row, packed + (size_t)r * in, in, 2 * i)) {
				*bad = i * quarter + r;
				return false;
			}
		}
	}
	return true;
}

void bn_ternary_look(struct bn_ternary_survey *s, const float *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const float a = fabsf(w[i]);

		if (!isfinite(a)) {
			s->n_broken++;
			continue;
		}
		if (a > 0.0f) {
			s->max = a > s->max ? a : s->max;
			s->min = s->n_nonzero == 0 || a < s->min ? a : s->min;
			s->n_nonzero++;
			s->sum += (double)a;
		}
	}
	s->n += n;
}

bool bn_ternary_is_exact(const struct bn_ternary_survey *s)
{
	return s->n_broken == 0 && s->n_nonzero > 0 && s->max == s->min;
}

void bn_ternary_scale(const struct bn_ternary_survey *s, float *factor, float *scale)
{
	float mean;

	if (bn_ternary_is_exact(s)) {
		*factor = 1.0f / s->max;
		*scale = s->max;
		return;
	}
	mean = (float)(s->sum / (double)s->n);
	*factor = 1.0f / fmaxf(mean, 1e-5f);
	*scale = 1.0f / *factor;
}

void bn_ternary_round(uint8_t *dst, const float *w, uint32_t cols, float factor)
{
	memset(dst, ALL_ZERO_WEIGHTS, bn_trits_stride(cols));
	for (uint32_t c = 0; c < cols; c++) {
		const float t = rintf(w[c] * factor);

		set_code(dst, c, t >= 1.0f ? 2 : t <= -1.0f ? 0 : 1);
	}
}

uint32_t bn_ternary_permuted(uint32_t row, uint32_t head_dim)
{
	const uint32_t head = row / head_dim, place = row % head_dim;

	return head * head_dim + place % 2 * (head_dim / 2) + place / 2;
}

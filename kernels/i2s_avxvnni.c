/*
 * I2S16 with AVX-VNNI, for processors that have vpdpbusd but no AVX-512: half a line is one
 * register, eight rows by sixteen columns, and sums are int32 from the start.
 *
 * One token is memory's problem: fields are masked where they stand, field g is 4^g times too
 * large, so each has its own sums, divided at the end (exactly: they are multiples of 4^g). Two to
 * four tokens keep eight sums in registers.
 */
#include "kernels/cpu.h"
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <string.h>

enum {
	TILE_TOKENS = 4,
	AHEAD = 4096,             /* bytes prefetched ahead of the line                   */
	PANEL_BYTES = 192 * 1024, /* of activations: they stay in a small L2 while rows pass */
};

/* Four activations, repeated for all eight rows. */
BN_INLINE __m256i four(const int8_t *q)
{
	int32_t w;

	memcpy(&w, q, sizeof(w));
	return _mm256_set1_epi32(w);
}

BN_INLINE __m256i load(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* Says that both sums are used here, in registers: see i2s_avx2.c. */
BN_INLINE void keep(__m256i *a, __m256i *b)
{
	__asm__ volatile("" : "+x"(*a), "+x"(*b));
}

/* Sums of eight rows and one token, to out. */
BN_INLINE void finish(const struct bn_mul *m, __m256i sum, uint32_t row, uint32_t t)
{
	const struct bn_acts *acts = m->acts;
	const __m256 scale = _mm256_set1_ps(m->scale * acts->scale[t]);
	float *out = m->out + t * m->out_stride + row;

	sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(acts->sum[t]));
	__m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
	if (row + 8 <= m->rows) {
		if (m->accumulate) {
			y = _mm256_add_ps(_mm256_loadu_ps(out), y);
		}
		_mm256_storeu_ps(out, y);
		return;
	}
	if (row >= m->rows) {
		return;
	}
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	const __m256i left = _mm256_set1_epi32((int)(m->rows - row));
	const __m256i mask = _mm256_cmpgt_epi32(left, lane);
	if (m->accumulate) {
		y = _mm256_add_ps(_mm256_maskload_ps(out, mask), y);
	}
	_mm256_maskstore_ps(out, mask, y);
}

/* The line further on, which the processor's own prefetching may not reach in time. */
BN_INLINE void prefetch(const uint8_t *line)
{
	_mm_prefetch((const char *)line + AHEAD, _MM_HINT_T0);
}

/* One group of sixteen rows from `row`, tokens [t0, t0 + T). S sets of sums for the fields to
 * take turns in: with few tokens, chains of one set would wait for each other. */
BN_INLINE void tile(const struct bn_mul *m, uint32_t row, uint32_t t0, const unsigned T,
		    const unsigned S)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const uint8_t *line =
		(const uint8_t *)m->packed + row / BN_I2S_ROWS * ((size_t)blocks * BN_I2S_LINE);
	const size_t stride = m->acts->stride;
	const int8_t *q = m->acts->q + t0 * stride;
	const __m256i codes = _mm256_set1_epi8(0x03);
	__m256i sum[2 * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < 2 * T * S; i++) {
		sum[i] = _mm256_setzero_si256();
	}
	for (uint32_t b = 0; b < blocks; b++) {
		prefetch(line);
		const __m256i x0 = load(line);
		const __m256i x1 = load(line + 32);
		BN_UNROLL
		for (unsigned g = 0; g < 4; g++) {
			const int shift = (int)(2 * g);
			const __m256i w0 = _mm256_and_si256(_mm256_srli_epi32(x0, shift), codes);
			const __m256i w1 = _mm256_and_si256(_mm256_srli_epi32(x1, shift), codes);
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				const __m256i a = four(q + t * stride + 4 * g);
				__m256i *s = &sum[2 * (t * S + g % S)];
				s[0] = _mm256_dpbusd_avx_epi32(s[0], w0, a);
				s[1] = _mm256_dpbusd_avx_epi32(s[1], w1, a);
				keep(&s[0], &s[1]);
			}
		}
		line += BN_I2S_LINE;
		q += BN_I2S_COLS;
	}
	BN_UNROLL
	for (unsigned t = 0; t < T; t++) {
		__m256i *s = &sum[2 * t * S];
		if (S == 2) {
			s[0] = _mm256_add_epi32(s[0], s[2]);
			s[1] = _mm256_add_epi32(s[1], s[3]);
		}
		finish(m, s[0], row, t0 + t);
		finish(m, s[1], row + 8, t0 + t);
	}
}

/* The sums of four fields, each divided by what its place multiplied it with. */
BN_INLINE __m256i total(const __m256i field[4])
{
	const __m256i a = _mm256_add_epi32(field[0], _mm256_srai_epi32(field[1], 2));
	const __m256i b =
		_mm256_add_epi32(_mm256_srai_epi32(field[2], 4), _mm256_srai_epi32(field[3], 6));

	return _mm256_add_epi32(a, b);
}

/* One group, one token: no shifts. */
static void tile1(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const uint8_t *line =
		(const uint8_t *)m->packed + row / BN_I2S_ROWS * ((size_t)blocks * BN_I2S_LINE);
	const int8_t *q = m->acts->q + (size_t)t0 * m->acts->stride;
	const __m256i mask[4] = { _mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c),
				  _mm256_set1_epi8(0x30), _mm256_set1_epi8((char)0xc0) };
	__m256i upper[4], lower[4];

	BN_UNROLL
	for (unsigned g = 0; g < 4; g++) {
		upper[g] = _mm256_setzero_si256();
		lower[g] = _mm256_setzero_si256();
	}
	for (uint32_t b = 0; b < blocks; b++) {
		prefetch(line);
		const __m256i x0 = load(line);
		const __m256i x1 = load(line + 32);
		BN_UNROLL
		for (unsigned g = 0; g < 4; g++) {
			const __m256i a = four(q + 4 * g);
			upper[g] =
				_mm256_dpbusd_avx_epi32(upper[g], _mm256_and_si256(x0, mask[g]), a);
			lower[g] =
				_mm256_dpbusd_avx_epi32(lower[g], _mm256_and_si256(x1, mask[g]), a);
		}
		line += BN_I2S_LINE;
		q += BN_I2S_COLS;
	}
	finish(m, total(upper), row, t0);
	finish(m, total(lower), row + 8, t0);
}

/* One out-of-line body per count of tokens keeps each within its sixteen registers. */
static void tile2(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 2, 2);
}

static void tile3(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 3, 1);
}

static void tile4(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 4, 1);
}

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	static void (*const tiles[])(const struct bn_mul *, uint32_t, uint32_t) = { tile1, tile2,
										    tile3, tile4 };
	const uint32_t n = m->acts->n;

	uint32_t panel = PANEL_BYTES / m->acts->stride / TILE_TOKENS * TILE_TOKENS;
	panel = panel < TILE_TOKENS ? TILE_TOKENS : panel;
	for (uint32_t p0 = 0; p0 < n; p0 += panel) {
		const uint32_t p1 = n - p0 < panel ? n : p0 + panel;
		for (uint32_t row = row0; row < row1; row += BN_I2S_ROWS) {
			for (uint32_t t = p0; t < p1; t += TILE_TOKENS) {
				const uint32_t left = p1 - t;
				tiles[left < TILE_TOKENS ? left - 1 : TILE_TOKENS - 1](m, row, t);
			}
		}
	}
}

const struct bn_kernel bn_kernel_i2s_avxvnni = {
	.name = "i2s.avxvnni",
	.layout = BN_LAYOUT_I2S16,
	.needs = BN_CPU_AVX2 | BN_CPU_AVXVNNI,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = bn_i2s_fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

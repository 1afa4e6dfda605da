/*
 * I2S16 with AVX2: half a line is one register, eight rows by sixteen columns.
 *
 * vpmaddubsw adds pairs of products into int16 words, two words to a row. One such sum is at most
 * 2 * 2 * 128 = 512 in magnitude, so 64 of them fit, even all negative (-32,768): every sixteen
 * lines of four fields each, vpmaddwd with ones moves them on to int32, one word to a row, and
 * that is the whole reduction. An interval of 32 blocks, as first published with this format,
 * overflows on bad input.
 */
#include "kernels/cpu.h"
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <string.h>

enum {
	TILE_TOKENS = 4,
	FLUSH = 16,               /* lines between two moves to int32                      */
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

/* Says that both sums are used here, in registers: gcc 12 otherwise gathers all products of a
 * line first and spills half of them. 159 instead of 113 GMAC/s for four tokens on one Zen 5 core
 * (bench_kernels --kernel i2s.avx2 --shape 256x2560 --megabytes 1 --cpu-time --threads 1). */
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

/* One group of sixteen rows from `row`, tokens [t0, t0 + T). */
BN_INLINE void tile(const struct bn_mul *m, uint32_t row, uint32_t t0, const unsigned T)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const uint8_t *line =
		(const uint8_t *)m->packed + row / BN_I2S_ROWS * ((size_t)blocks * BN_I2S_LINE);
	const size_t stride = m->acts->stride;
	const int8_t *q = m->acts->q + t0 * stride;
	const __m256i codes = _mm256_set1_epi8(0x03);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i total[2 * TILE_TOKENS];

	BN_UNROLL
	for (unsigned i = 0; i < 2 * T; i++) {
		total[i] = _mm256_setzero_si256();
	}
	for (uint32_t b = 0; b < blocks;) {
		const uint32_t end = blocks - b < FLUSH ? blocks : b + FLUSH;
		__m256i sum[2 * TILE_TOKENS];
		BN_UNROLL
		for (unsigned i = 0; i < 2 * T; i++) {
			sum[i] = _mm256_setzero_si256();
		}
		for (; b < end; b++) {
			_mm_prefetch((const char *)line + AHEAD, _MM_HINT_T0);
			const __m256i x0 = load(line);
			const __m256i x1 = load(line + 32);
			BN_UNROLL
			for (unsigned g = 0; g < 4; g++) {
				const int shift = (int)(2 * g);
				const __m256i w0 =
					_mm256_and_si256(_mm256_srli_epi16(x0, shift), codes);
				const __m256i w1 =
					_mm256_and_si256(_mm256_srli_epi16(x1, shift), codes);
				BN_UNROLL
				for (unsigned t = 0; t < T; t++) {
					const __m256i a = four(q + t * stride + 4 * g);
					sum[2 * t] = _mm256_add_epi16(sum[2 * t],
								      _mm256_maddubs_epi16(w0, a));
					sum[2 * t + 1] = _mm256_add_epi16(
						sum[2 * t + 1], _mm256_maddubs_epi16(w1, a));
					keep(&sum[2 * t], &sum[2 * t + 1]);
				}
			}
			line += BN_I2S_LINE;
			q += BN_I2S_COLS;
		}
		BN_UNROLL
		for (unsigned i = 0; i < 2 * T; i++) {
			total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(sum[i], ones));
		}
	}
	BN_UNROLL
	for (unsigned t = 0; t < T; t++) {
		finish(m, total[2 * t], row, t0 + t);
		finish(m, total[2 * t + 1], row + 8, t0 + t);
	}
}

/* One out-of-line body per count of tokens keeps each within its sixteen registers. */
static void tile1(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 1);
}

static void tile2(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 2);
}

static void tile3(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 3);
}

static void tile4(const struct bn_mul *m, uint32_t row, uint32_t t0)
{
	tile(m, row, t0, 4);
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

const struct bn_kernel bn_kernel_i2s_avx2 = {
	.name = "i2s.avx2",
	.layout = BN_LAYOUT_I2S16,
	.needs = BN_CPU_AVX2,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = bn_i2s_fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

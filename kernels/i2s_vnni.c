/*
 * I2S16 with AVX-512 VNNI: one line is one register, one vpdpbusd multiplies 16 rows by 4 columns.
 *
 * The work is cut into tiles of R groups of rows by T tokens whose sums stay in registers. The
 * three shapes of the problem want different tiles:
 *
 *   1 token      memory is the wall. Fields are masked where they stand, 0x03 << 2g, without
 *                shifting; field g is then 4^g times too large, so each field has its own sums,
 *                divided at the end (exactly: they are multiples of 4^g).
 *   2..7 tokens  one tile holds all tokens; two sets of sums shorten the dependency chains.
 *   8 and more   2 groups x 8 tokens: sixteen sums, enough to fill two multipliers of latency four
 *                or five, two weights and eight activations loaded for sixteen multiplications.
 *                Tokens go in panels that stay in L2 while the rows pass.
 *
 * Prefetching by hand matters: two groups are two streams, and processors that keep up with one
 * lose the second. On one core of a Zen 5 VM (bench_kernels --cpu-time --threads 1, 2560x6912) it
 * moved 1, 2 and 4 tokens from 117, 103 and 168 to 142, 269 and 400 GMAC/s, of 458 possible.
 */
#include "kernels/cpu.h"
#include "kernels/i2s.h"
#include "kernels/tables.h"
#include "kernels/unroll.h"

#include <immintrin.h>
#include <string.h>

enum {
	TILE_TOKENS = 8,          /* largest tile                                 */
	AHEAD_STREAM = 8192,      /* bytes prefetched ahead of one token's lines  */
	AHEAD_TILE = 4096,        /* and of a tile's, in each of its groups       */
	PANEL_BYTES = 384 * 1024, /* of activations: under half of a 1 MiB L2     */
};

/* Four activations, repeated for all sixteen rows. */
BN_INLINE __m512i four(const int8_t *q)
{
	int32_t w;

	memcpy(&w, q, sizeof(w));
	return _mm512_set1_epi32(w);
}

BN_INLINE void prefetch(const uint8_t *line)
{
	_mm_prefetch((const char *)line, _MM_HINT_T0);
}

/* Sums of one group and one token, to out. */
BN_INLINE void finish(const struct bn_mul *m, __m512i sum, uint32_t row, uint32_t t)
{
	const struct bn_acts *acts = m->acts;
	const uint32_t left = m->rows - row;
	const __mmask16 mask = (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1);
	const __m512 scale = _mm512_set1_ps(m->scale * acts->scale[t]);
	float *out = m->out + t * m->out_stride + row;

	sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(acts->sum[t]));
	__m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
	if (m->accumulate) {
		y = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), y);
	}
	_mm512_mask_storeu_ps(out, mask, y);
}

/* R groups from `row`, tokens [t0, t0 + T). S sets of sums: 4 one per field, no shifts; 2 fields
 * {0, 2} and {1, 3}; 1 all together. */
BN_INLINE void tile(const struct bn_mul *m, uint32_t row, uint32_t t0, const unsigned R,
		    const unsigned T, const unsigned S)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const size_t group_bytes = (size_t)blocks * BN_I2S_LINE;
	const uint8_t *line = (const uint8_t *)m->packed + row / BN_I2S_ROWS * group_bytes;
	const size_t stride = m->acts->stride;
	const int8_t *q = m->acts->q + t0 * stride;
	const __m512i m0 = _mm512_set1_epi8(0x03);
	const __m512i m1 = _mm512_set1_epi8(0x0c);
	const __m512i m2 = _mm512_set1_epi8(0x30);
	const __m512i m3 = _mm512_set1_epi8((char)0xc0);
	const size_t wrap = (R - 1) * group_bytes;
	__m512i sum[32];

	BN_UNROLL
	for (unsigned i = 0; i < R * T * S; i++) {
		sum[i] = _mm512_setzero_si512();
	}
	for (uint32_t b = 0; b < blocks; b++) {
		__m512i w[4 * 4];
		/* Past the end of these groups come the R after the next R - 1. */
		const size_t ahead =
			AHEAD_TILE + (b + AHEAD_TILE / BN_I2S_LINE < blocks ? 0 : wrap);
		BN_UNROLL
		for (unsigned r = 0; r < R; r++) {
			const __m512i x = _mm512_loadu_si512(line + r * group_bytes);
			prefetch(line + r * group_bytes + ahead);
			if (S == 4) {
				w[4 * r + 0] = _mm512_and_si512(x, m0);
				w[4 * r + 1] = _mm512_and_si512(x, m1);
				w[4 * r + 2] = _mm512_and_si512(x, m2);
				w[4 * r + 3] = _mm512_and_si512(x, m3);
			} else if (S == 2) {
				const __m512i y = _mm512_srli_epi32(x, 4);
				w[4 * r + 0] = _mm512_and_si512(x, m0);
				w[4 * r + 1] = _mm512_and_si512(x, m1);
				w[4 * r + 2] = _mm512_and_si512(y, m0);
				w[4 * r + 3] = _mm512_and_si512(y, m1);
			} else {
				w[4 * r + 0] = _mm512_and_si512(x, m0);
				w[4 * r + 1] = _mm512_and_si512(_mm512_srli_epi32(x, 2), m0);
				w[4 * r + 2] = _mm512_and_si512(_mm512_srli_epi32(x, 4), m0);
				w[4 * r + 3] = _mm512_and_si512(_mm512_srli_epi32(x, 6), m0);
			}
		}
		BN_UNROLL
		for (unsigned g = 0; g < 4; g++) {
			BN_UNROLL
			for (unsigned t = 0; t < T; t++) {
				const __m512i a = four(q + t * stride + 4 * g);
				BN_UNROLL
				for (unsigned r = 0; r < R; r++) {
					const unsigned i = (r * T + t) * S + g % S;
					sum[i] = _mm512_dpbusd_epi32(sum[i], w[4 * r + g], a);
				}
			}
		}
		line += BN_I2S_LINE;
		q += BN_I2S_COLS;
	}
	BN_UNROLL
	for (unsigned r = 0; r < R; r++) {
		BN_UNROLL
		for (unsigned t = 0; t < T; t++) {
			const __m512i *s = sum + (r * T + t) * S;
			__m512i total = s[0];
			BN_UNROLL
			for (unsigned k = 1; k < S; k++) {
				total = _mm512_add_epi32(total, _mm512_srai_epi32(s[k], 2 * k));
			}
			finish(m, total, row + r * BN_I2S_ROWS, t0 + t);
		}
	}
}

/* One token, one group: two lines in flight, a set of sums for each field of each. */
static void stream(const struct bn_mul *m, uint32_t row, uint32_t t)
{
	const uint32_t blocks = bn_i2s_blocks(m->cols);
	const size_t group_bytes = (size_t)blocks * BN_I2S_LINE;
	const uint8_t *line = (const uint8_t *)m->packed + row / BN_I2S_ROWS * group_bytes;
	const int8_t *q = m->acts->q + (size_t)t * m->acts->stride;
	const __m512i mask[4] = { _mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c),
				  _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0) };
	__m512i sum[8];
	uint32_t b = 0;

	BN_UNROLL
	for (unsigned i = 0; i < 8; i++) {
		sum[i] = _mm512_setzero_si512();
	}
	for (; b + 2 <= blocks; b += 2) {
		const __m512i x = _mm512_loadu_si512(line);
		const __m512i y = _mm512_loadu_si512(line + BN_I2S_LINE);
		prefetch(line + AHEAD_STREAM);
		prefetch(line + AHEAD_STREAM + BN_I2S_LINE);
		BN_UNROLL
		for (unsigned g = 0; g < 4; g++) {
			sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_and_si512(x, mask[g]),
						     four(q + 4 * g));
			sum[4 + g] = _mm512_dpbusd_epi32(sum[4 + g], _mm512_and_si512(y, mask[g]),
							 four(q + BN_I2S_COLS + 4 * g));
		}
		line += 2 * BN_I2S_LINE;
		q += 2 * BN_I2S_COLS;
	}
	if (b < blocks) {
		const __m512i x = _mm512_loadu_si512(line);
		BN_UNROLL
		for (unsigned g = 0; g < 4; g++) {
			sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_and_si512(x, mask[g]),
						     four(q + 4 * g));
		}
	}
	__m512i total = _mm512_add_epi32(sum[0], sum[4]);
	BN_UNROLL
	for (unsigned g = 1; g < 4; g++) {
		const __m512i s = _mm512_add_epi32(sum[g], sum[4 + g]);
		total = _mm512_add_epi32(total, _mm512_srai_epi32(s, 2 * g));
	}
	finish(m, total, row, t);
}

#define TILES(name, R)                                                                  \
	static void name(const struct bn_mul *m, uint32_t row, uint32_t t0, uint32_t n) \
	{                                                                               \
		switch (n) {                                                            \
		case 1:                                                                 \
			tile(m, row, t0, R, 1, 4);                                      \
			break;                                                          \
		case 2:                                                                 \
			tile(m, row, t0, R, 2, 2);                                      \
			break;                                                          \
		case 3:                                                                 \
			tile(m, row, t0, R, 3, 2);                                      \
			break;                                                          \
		case 4:                                                                 \
			tile(m, row, t0, R, 4, 2);                                      \
			break;                                                          \
		case 5:                                                                 \
			tile(m, row, t0, R, 5, 1);                                      \
			break;                                                          \
		case 6:                                                                 \
			tile(m, row, t0, R, 6, 1);                                      \
			break;                                                          \
		case 7:                                                                 \
			tile(m, row, t0, R, 7, 1);                                      \
			break;                                                          \
		default:                                                                \
			tile(m, row, t0, R, TILE_TOKENS, 1);                            \
			break;                                                          \
		}                                                                       \
	}

TILES(tile_one, 1)
TILES(tile_two, 2)

static void mul(const struct bn_mul *m, uint32_t row0, uint32_t row1)
{
	const struct bn_acts *acts = m->acts;

	if (acts->n == 1) {
		for (uint32_t row = row0; row < row1; row += BN_I2S_ROWS) {
			stream(m, row, 0);
		}
		return;
	}

	uint32_t panel = PANEL_BYTES / acts->stride / TILE_TOKENS * TILE_TOKENS;
	panel = panel < TILE_TOKENS ? TILE_TOKENS : panel;
	for (uint32_t p0 = 0; p0 < acts->n; p0 += panel) {
		const uint32_t p1 = acts->n - p0 < panel ? acts->n : p0 + panel;
		uint32_t row = row0;
		while (row < row1) {
			const bool two = row1 - row > BN_I2S_ROWS;
			for (uint32_t t = p0; t < p1; t += TILE_TOKENS) {
				if (two) {
					tile_two(m, row, t, p1 - t);
				} else {
					tile_one(m, row, t, p1 - t);
				}
			}
			row += two ? 2 * BN_I2S_ROWS : BN_I2S_ROWS;
		}
	}
}

const struct bn_kernel bn_kernel_i2s_vnni = {
	.name = "i2s.vnni",
	.layout = BN_LAYOUT_I2S16,
	.needs = BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_VNNI,
	.row_step = BN_I2S_ROWS,
	.exact = true,
	.fits = bn_i2s_fits,
	.packed_bytes = bn_i2s_packed_bytes,
	.pack = bn_i2s_pack,
	.mul = mul,
};

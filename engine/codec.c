#include "engine/codec.h"

#include "proto/assert.h"

#include <math.h>
#include <string.h>

/* ---- types with one scale ------------------------------------------------------------------- */

static enum bn_trits_verdict decode_i2s(struct bn_scale *scale, uint8_t *codes, const uint8_t *data,
					uint32_t n, uint32_t cols, const struct bn_tiles *tiles)
{
	(void)scale;
	(void)tiles;
	return bn_trits_from_i2s(codes, data, 0, n, cols) ? BN_TRITS_GOOD : BN_TRITS_NOT;
}

static void encode_i2s(uint8_t *data, const struct bn_trits *src, float scale,
		       const struct bn_tiles *tiles)
{
	(void)scale;
	(void)tiles;
	bn_trits_to_i2s(data, src);
}

static enum bn_trits_verdict decode_tl1(struct bn_scale *scale, uint8_t *codes, const uint8_t *data,
					uint32_t n, uint32_t cols, const struct bn_tiles *tiles)
{
	(void)scale;
	return bn_tl_pairs_decode(codes, data, n, cols, tiles) ? BN_TRITS_GOOD : BN_TRITS_NOT;
}

static void encode_tl1(uint8_t *data, const struct bn_trits *src, float scale,
		       const struct bn_tiles *tiles)
{
	(void)scale;
	bn_tl_pairs_encode(data, src, tiles);
}

static enum bn_trits_verdict decode_tl2(struct bn_scale *scale, uint8_t *codes, const uint8_t *data,
					uint32_t n, uint32_t cols, const struct bn_tiles *tiles)
{
	(void)scale;
	return bn_tl_triples_decode(codes, data, n, cols, tiles) ? BN_TRITS_GOOD : BN_TRITS_NOT;
}

static void encode_tl2(uint8_t *data, const struct bn_trits *src, float scale,
		       const struct bn_tiles *tiles)
{
	(void)scale;
	bn_tl_triples_encode(data, src, tiles);
}

/* ---- types with a scale for each group ------------------------------------------------------ */

/* The same without tiles, which these types have not. */
#define GROUPS(type)                                                                               \
	static enum bn_trits_verdict decode_##type(struct bn_scale *scale, uint8_t *codes,         \
						   const uint8_t *data, uint32_t n, uint32_t cols, \
						   const struct bn_tiles *tiles)                   \
	{                                                                                          \
		(void)tiles;                                                                       \
		return bn_groups_decode_##type(scale, codes, data, n, cols);                       \
	}                                                                                          \
	static void encode_##type(uint8_t *data, const struct bn_trits *src, float scale,          \
				  const struct bn_tiles *tiles)                                    \
	{                                                                                          \
		(void)tiles;                                                                       \
		bn_groups_encode_##type(data, src, scale);                                         \
	}

GROUPS(tq1_0)
GROUPS(tq2_0)
GROUPS(iq1_bn)
GROUPS(iq2_bn)
#undef GROUPS

/* ---- the table ------------------------------------------------------------------------------ */

/* clang-format off */
static const struct bn_codec codecs[] = {
	/* type         file_type whole  tailed fits               decode         encode */
	{ BN_GGML_I2_S,    40,    false, true,  NULL,              decode_i2s,    encode_i2s },
	{ BN_GGML_TL1,     38,    true,  true,  bn_tl_pairs_fit,   decode_tl1,    encode_tl1 },
	{ BN_GGML_TL2,     39,    true,  true,  bn_tl_triples_fit, decode_tl2,    encode_tl2 },
	{ BN_GGML_TQ1_0,   36,    false, false, NULL,              decode_tq1_0,  encode_tq1_0 },
	{ BN_GGML_TQ2_0,   37,    false, false, NULL,              decode_tq2_0,  encode_tq2_0 },
	{ BN_GGML_IQ1_BN, 136,    false, false, NULL,              decode_iq1_bn, encode_iq1_bn },
	{ BN_GGML_IQ2_BN, 137,    false, false, NULL,              decode_iq2_bn, encode_iq2_bn },
};
/* clang-format on */

const struct bn_codec *bn_codec_at(size_t i)
{
	return i < sizeof(codecs) / sizeof(codecs[0]) ? &codecs[i] : NULL;
}

const struct bn_codec *bn_codec_find(enum bn_ggml_type type)
{
	for (size_t i = 0; bn_codec_at(i) != NULL; i++) {
		if (codecs[i].type == type) {
			return &codecs[i];
		}
	}
	return NULL;
}

static bool measure(const struct bn_codec *c, uint32_t rows, uint32_t cols, uint64_t *nbytes)
{
	const uint64_t dims[2] = { cols, rows };

	return bn_ggml_nbytes(c->type, 2, dims, nbytes) == BN_GGML_FITS;
}

bool bn_codec_fits(const struct bn_codec *c, uint32_t rows, uint32_t cols,
		   const struct bn_tiles *tiles)
{
	uint64_t nbytes;

	return measure(c, rows, cols, &nbytes) && (c->fits == NULL || c->fits(rows, cols, tiles));
}

uint32_t bn_codec_rows(const struct bn_codec *c, uint32_t rows)
{
	return c->whole || rows < BN_CODEC_ROWS ? rows : BN_CODEC_ROWS;
}

size_t bn_codec_bytes(const struct bn_codec *c, uint32_t n, uint32_t cols)
{
	uint64_t nbytes = 0;
	const bool fits = measure(c, n, cols, &nbytes);

	bn_assert(fits);
	return (size_t)nbytes - (c->tailed ? BN_CODEC_TAIL : 0);
}

enum bn_trits_verdict bn_codec_decode(const struct bn_codec *c, struct bn_scale *scale,
				      uint8_t *codes, const uint8_t *data, uint32_t n,
				      uint32_t cols, const struct bn_tiles *tiles)
{
	return c->decode(scale, codes, data, n, cols, tiles);
}

enum bn_status bn_codec_check_scale(float scale, struct bn_error *err)
{
	return isfinite(scale) && scale > 0.0f
		       ? BN_OK
		       : bn_fail(err, BN_E_FORMAT,
				 "its scale is %g; it must be a finite number above zero",
				 (double)scale);
}

enum bn_status bn_codec_refuse(const struct bn_codec *c, enum bn_trits_verdict verdict,
			       const struct bn_scale *scale, const struct bn_tiles *tiles,
			       struct bn_error *err)
{
	const char *name = bn_ggml_name(c->type);

	switch (verdict) {
	case BN_TRITS_NO_SCALE:
		return bn_codec_check_scale(scale->other, err);
	case BN_TRITS_TWO_SCALES:
		return bn_fail(err, BN_E_NOT_SUPPORTED,
			       "its %s groups have different scales (%g and %g): bnd runs models "
			       "with one scale for a matrix, as BitNet b1.58 is trained; convert "
			       "the original checkpoint",
			       name, (double)scale->value, (double)scale->other);
	default:
		break;
	}
	if (c->fits != NULL) {
		return bn_fail(
			err, BN_E_FORMAT,
			"it holds an index that is no trits, read as %s in tiles of %u x %u, "
			"strips of %u: damaged, or cut in another way; convert the i2_s "
			"file or the original checkpoint, or give bn-convert --tl-params",
			name, tiles->bm_rows, tiles->bk_cols, tiles->strip);
	}
	return bn_fail(err, BN_E_FORMAT,
		       "it holds a code that is no trit: the file is damaged, or not %s", name);
}

void bn_codec_encode(const struct bn_codec *c, uint8_t *data, const struct bn_trits *src,
		     float scale, const struct bn_tiles *tiles)
{
	const size_t bytes = bn_codec_bytes(c, src->rows, src->cols);

	bn_assert(bn_codec_fits(c, src->rows, src->cols, tiles));
	if (c->fits != NULL) {
		memset(data, 0, bytes); /* tiles may leave padding */
	}
	c->encode(data, src, scale, tiles);
	if (c->tailed) {
		memset(data + bytes, 0, BN_CODEC_TAIL);
		memcpy(data + bytes, &scale, sizeof(scale));
	}
}

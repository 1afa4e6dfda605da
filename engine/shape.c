#include "engine/shape.h"

enum {
	I2S_TRAILER = 32, /* the scale and its padding, behind n / 4 bytes of codes */
	F16_BYTES = 2,
	F32_BYTES = 4,
};

void bn_shape_projection(const struct bn_shape *s, enum bn_projection p, uint32_t *rows,
			 uint32_t *cols)
{
	const uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
	const uint32_t out[BN_PROJ_COUNT] = { q, kv, kv, s->dim, s->ffn, s->ffn, s->dim };
	const uint32_t in[BN_PROJ_COUNT] = { s->dim, s->dim, s->dim, q, s->dim, s->dim, s->ffn };

	*rows = out[p];
	*cols = in[p];
}

bool bn_shape_part(const struct bn_shape *s, uint32_t i, struct bn_shape_part *out)
{
	const uint32_t heads = s->heads * s->head_dim;
	/* Of each layer: as wide as the residual; before wo and before down; of heads. */
	const uint32_t wide = 2U + (s->input_norms ? 5 : 0) + (s->post_norms ? 2 : 0);
	const uint32_t inner = s->sub_norms || s->input_norms ? s->layers : 0;
	const uint32_t of_heads = s->head_norms ? 2 * s->layers : 0;
	const struct bn_shape_part rest[] = {
		{ BN_SHAPE_TABLE, BN_PROJ_COUNT, s->vocab, s->dim, s->tied ? 1 : 2 },
		{ BN_SHAPE_NORM, BN_PROJ_COUNT, 1, s->dim, wide * s->layers + 1 },
		{ BN_SHAPE_NORM, BN_PROJ_COUNT, 1, heads, inner },
		{ BN_SHAPE_NORM, BN_PROJ_COUNT, 1, s->ffn, inner },
		{ BN_SHAPE_NORM, BN_PROJ_COUNT, 1, s->head_dim, of_heads },
	};

	if (i < BN_PROJ_COUNT) {
		*out = (struct bn_shape_part){ .kind = BN_SHAPE_MATRIX,
					       .projection = (enum bn_projection)i,
					       .count = s->layers };
		bn_shape_projection(s, out->projection, &out->rows, &out->cols);
		return true;
	}
	i -= BN_PROJ_COUNT;
	if (i >= sizeof(rest) / sizeof(rest[0])) {
		return false;
	}
	*out = rest[i];
	return true;
}

struct bn_shape_file bn_shape_file(const struct bn_shape *s)
{
	struct bn_shape_file f = { 0 };
	struct bn_shape_part part;

	for (uint32_t i = 0; bn_shape_part(s, i, &part); i++) {
		const uint64_t n = (uint64_t)part.rows * part.cols;

		f.parameters += n * part.count;
		switch (part.kind) {
		case BN_SHAPE_NORM:
			f.norms += part.count;
			f.bytes += n * F32_BYTES * part.count;
			break;
		case BN_SHAPE_TABLE:
			f.tables += part.count;
			f.bytes += n * F16_BYTES * part.count;
			break;
		case BN_SHAPE_MATRIX:
			f.matrices += part.count;
			f.ternary += n * part.count;
			f.bytes += (n / 4 + I2S_TRAILER) * part.count;
			break;
		}
	}
	return f;
}

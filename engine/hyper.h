/*
 * The hyper-parameters of a model: read from a GGUF directory, completed by the rules of its
 * architecture, each checked for its range and against the others.
 *
 * It does not look at tensors other than the embedding's height (engine/weights.h does) and keeps
 * nothing of the directory.
 *
 * Everything wrong is an error that names the key, the value and what would be right:
 * BN_E_FORMAT for a file that contradicts itself, BN_E_NOT_SUPPORTED for one that is sound but is
 * not what bnd runs (another architecture, mixture of experts, rope scaling, an encoder).
 */
#ifndef BN_ENGINE_HYPER_H
#define BN_ENGINE_HYPER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/family.h"
#include "engine/gguf.h"
#include "engine/pooling.h"
#include "engine/shape.h"
#include "kernels/vec.h"
#include "proto/error.h"

enum {
	BN_HYPER_MAX_LAYERS = 512,
	BN_HYPER_MAX_HEADS = 1024,
	BN_HYPER_MAX_DIM = 65536, /* dim, heads * head_dim */
	BN_HYPER_MAX_FFN = 262144,
	BN_HYPER_MAX_VOCAB = 2 * 1024 * 1024,
	BN_HYPER_MAX_CONTEXT = 1024 * 1024,
};

/* Plain value. */
struct bn_hyper {
	const struct bn_architecture *arch;
	uint32_t layers;
	uint32_t dim;      /* width of the residual stream             */
	uint32_t ffn;      /* width inside the feed-forward            */
	uint32_t heads;    /* query heads                              */
	uint32_t kv_heads; /* divides heads                            */
	uint32_t head_dim; /* <= BN_HEAD_DIM_MAX, even                 */
	uint32_t rot;      /* first dimensions of each head that turn  */
	uint32_t vocab;    /* rows of the embedding                    */
	uint32_t context;  /* positions it was trained for             */
	float eps;
	double rope_base;
	enum bn_rope_style rope;
	enum bn_activation activation;
	float embed_scale;       /* of the token's row; 1: as it is                       */
	enum bn_pooling pooling; /* NONE: it generates                                    */
	/* Gemma 3's sliding windows: every period-th layer sees all of the past, the others the
	 * last `window` positions, themselves included, and turn by another base. */
	uint32_t window; /* 0: every layer sees all */
	uint32_t window_period;
	double window_rope_base;
};

/* Whether a layer sees the window only. */
static inline bool bn_hyper_is_local(const struct bn_hyper *h, uint32_t layer)
{
	return h->window > 0 && (layer + 1) % h->window_period != 0;
}

/* Fills *out from the directory. See the errors above; *out is untouched on failure. Helper. */
BN_MUST_USE enum bn_status bn_hyper_read(struct bn_hyper *out, const struct bn_gguf *gguf,
					 struct bn_error *err);

/* Its dimensions; `tied` and the norms, which the tensors tell, are false. Any thread. */
struct bn_shape bn_hyper_shape(const struct bn_hyper *h);

#endif

/*
 * A Hugging Face folder of a ternary model: what it says it is, checked against what its tensors
 * are, with the conventions its weights follow.
 *
 * It does not read weights (engine/convert.h does) and writes nothing. Only bn-convert uses it.
 *
 * What would run as fluent nonsense is refused here, with a sentence: other graphs (biases,
 * experts, rope scaling, sliding windows), models that are not ternary, scales in groups, and
 * scales whose direction contradicts the configuration (design paper "models", 2.2).
 */
#ifndef BN_ENGINE_CHECKPOINT_H
#define BN_ENGINE_CHECKPOINT_H

#include "engine/family.h"
#include "engine/guide.h"
#include "engine/hfvocab.h"
#include "engine/pooling.h"
#include "engine/safetensors.h"
#include "engine/weights.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	BN_CHECKPOINT_TEXT_BYTES = 128,
	BN_CHECKPOINT_EOS_MAX = 8,
	BN_CHECKPOINT_NAME_BYTES = 160, /* room for a tensor's name */
	BN_CHECKPOINT_NORMS_MAX = 16,   /* norms of one layer       */
	BN_CHECKPOINT_NOTICE_BYTES = 200,
};

/* How the projections are stored. */
enum bn_checkpoint_form {
	BN_FORM_PACKED, /* uint8, four to a byte, with a weight_scale                      */
	BN_FORM_FLOAT,  /* latent or dequantized floats; which of the two, reading tells   */
};

/* What the user knows better than the folder. Zeroed: nothing. */
struct bn_checkpoint_options {
	bool assume_latent; /* float weights are latent ternary ones although nothing says so */
};

/* A norm of a layer: its name there (below the layer) and in GGUF, its length, whether its gains
 * are stored less one, and in front of which projection a step meets it (BN_PROJ_COUNT: last). */
struct bn_checkpoint_norm {
	const char *source, *target; /* static */
	uint32_t n;
	bool less_one;
	enum bn_projection before;
};

/* Plain value; undo with bn_checkpoint_finish. */
struct bn_checkpoint {
	int dirfd;
	struct bn_safetensors *tensors;
	struct bn_hfvocab vocab;

	const struct bn_architecture *arch; /* of the GGUF file: names, rope style          */
	enum bn_activation activation;
	uint32_t layers, dim, ffn, heads, kv_heads, head_dim, n_vocab, context;
	double eps, rope_base;
	uint32_t window, window_period; /* as in struct bn_hyper */
	double window_rope_base;
	enum bn_pooling pooling; /* of a model of vectors; else NONE                   */
	char notice[BN_CHECKPOINT_NOTICE_BYTES]; /* for whoever converts; empty: none   */
	const char *prefix;                      /* of all names but the head's; static */
	bool tied;
	bool sub_norms;
	const char *attn_sub_norm, *ffn_sub_norm; /* names below a layer; static           */

	enum bn_checkpoint_form form;
	bool divide; /* packed: the weight is trit / weight_scale, else trit * weight_scale   */
	bool may_ternarize; /* floats that are not exactly ternary are latent ones               */
	float scale_median; /* of the weight_scales; 0 for floats                                */

	bn_token eos[BN_CHECKPOINT_EOS_MAX]; /* all that end a generation, the main one first */
	uint32_t n_eos;
	const struct bn_guide_model *known; /* published model of these dimensions, or NULL   */
	char name[BN_CHECKPOINT_TEXT_BYTES];
	char licence[BN_CHECKPOINT_TEXT_BYTES]; /* of README.md; empty when it says none        */
	char source[BN_CHECKPOINT_TEXT_BYTES];  /* "organisation/name"; empty when unknown      */
};

/*
 * Opens a folder and checks everything but the weights themselves. `options` NULL means none.
 * Errors: BN_E_IO, BN_E_FORMAT (damaged, or it contradicts itself), BN_E_NOT_SUPPORTED (sound, but
 * not what bnd runs), BN_E_TOO_LARGE, BN_E_MEMORY. Tools.
 */
BN_MUST_USE enum bn_status bn_checkpoint_open(struct bn_checkpoint *out, const char *path,
					      const struct bn_checkpoint_options *options,
					      struct bn_error *err);

/* A zeroed one is fine. */
void bn_checkpoint_finish(struct bn_checkpoint *c);

/* "model.layers.3.self_attn.q_proj.weight", or the same without "model.", as bare backbones have
 * it; valid as long as the buffer. */
const char *bn_checkpoint_projection(const struct bn_checkpoint *c,
				     char name[BN_CHECKPOINT_NAME_BYTES], uint32_t layer,
				     enum bn_projection p, const char *tail);

/* Its dimensions, for arithmetic of its projections: of the norms there are the sub-norms alone. */
struct bn_shape bn_checkpoint_dimensions(const struct bn_checkpoint *c);

/* "model." of a tensor outside the layers: "embed_tokens.weight", "norm.weight"; likewise. */
const char *bn_checkpoint_name(const struct bn_checkpoint *c, char name[BN_CHECKPOINT_NAME_BYTES],
			       const char *tail);

/* The norms of every layer; returns how many. */
size_t bn_checkpoint_norms(const struct bn_checkpoint *c,
			   struct bn_checkpoint_norm norms[BN_CHECKPOINT_NORMS_MAX]);

/* Rows (out) and columns (in) of a projection. */
void bn_checkpoint_shape(const struct bn_checkpoint *c, enum bn_projection p, uint32_t *rows,
			 uint32_t *cols);

/* The one value of the weight_scale of a projection, finite and > 0. */
BN_MUST_USE enum bn_status bn_checkpoint_scale(const struct bn_checkpoint *c, uint32_t layer,
					       enum bn_projection p, float *out,
					       struct bn_error *err);

#endif
